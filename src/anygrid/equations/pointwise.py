r"""The residual of a system at arbitrary points, by automatic differentiation of a function.

.. math:: r_j(x) = G_j(u(x), x) \quad\text{(steady)}, \qquad r_i(x, t) = \partial_t u_i - F_i(u, \psi, x) \quad\text{(evolution)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sympy as sp
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.system import System
from anygrid.equations.tape import Orders, record
from anygrid.errors import DataError, did_you_mean

__all__ = ["pointwise_residual"]


def pointwise_residual(
    system: System,
    function: Callable[[Tensor], Tensor],
    points: Float[Tensor, "points coordinate"],
    known: Mapping[str, Tensor | Callable[[Tensor], Tensor]],
) -> Float[Tensor, "points equation"]:
    """Residual of every equation at scattered points, exact to rounding; each distinct derivative is computed once, of any order.

    Parameters
    ----------
    function
        From points ``(n, d)`` to values ``(n, unknowns)``: ``system.state``, then ``system.auxiliary``. Row ``i`` of the result depends on
        row ``i`` of the points alone (no batch normalisation), and it must be differentiable as often as the equation asks: a network
        with ReLU has second derivatives of 0.
    points
        Coordinates in the order of ``system.axes``, followed by the time for an evolution.
    known
        Parameters ``()`` or ``(n,)``; fields ``(n,)``, or functions from points to ``(n,)`` where the equation differentiates them.

    Returns
    -------
    Tensor
        Rates, in the order of ``system.state``, then constraints. Differentiable with respect to what ``function`` is made of, and to
        ``points`` if they require it.

    Raises
    ------
    DataError
        For values that are missing or of another shape, or a differentiated field that is no function.
    """
    width = len(system.axes) + (not system.steady)
    if points.ndim != 2 or points.shape[1] != width:
        columns = ", ".join([*system.axes, *(() if system.steady else ("t",))])
        raise DataError("pointwise_residual", f"points with the columns {columns}", f"shape {tuple(points.shape)}")
    with torch.enable_grad():  # derivatives in space are wanted whether or not the caller trains
        at = points if points.requires_grad else points.detach().requires_grad_(True)
        names = (*system.state, *system.auxiliary)
        u = function(at)
        if tuple(u.shape) != (len(at), len(names)):
            raise DataError("pointwise_residual", f"values of shape {(len(at), len(names))} for {', '.join(names)}", str(tuple(u.shape)))
        values = dict(zip(names, u.unbind(1), strict=True)) | dict(zip(system.axes, at.unbind(1), strict=False))
        for name in (*system.parameters, *system.fields):
            values[name] = _known(system, name, known, at)
        slopes = _Slopes(at, len(system.axes))
        tape = record((*system.rates, *system.constraints), system.coordinates)
        leaves = [slopes(values[leaf.name], leaf.orders) for leaf in tape.leaves]
        parts = [part.to(at).expand(len(at)) for part in tape(leaves, slopes)]
        count = len(system.rates)
        rates = [slopes.time(values[name]) - part for name, part in zip(system.state, parts[:count], strict=False)]
        return torch.stack([*rates, *parts[count:]], 1)


class _Slopes:
    """Derivatives of values at points; a gradient gives those along all axes at once and is kept."""

    def __init__(self, at: Tensor, axes: int) -> None:
        self.at, self.axes = at, axes
        self.kept: dict[int, tuple[Tensor, tuple[Tensor, ...]]] = {}  # with the value, whose id could else be given to another

    def __call__(self, value: Tensor, orders: Orders) -> Tensor:
        for axis, order in enumerate(orders):
            for _ in range(order):
                value = self.partial(value)[axis]
        return value

    def time(self, value: Tensor) -> Tensor:
        """Derivative along the last column."""
        return self.partial(value)[self.axes]

    def partial(self, value: Tensor) -> tuple[Tensor, ...]:
        """Derivatives along all columns; the same tensors at every call, so that their own derivatives are found again."""
        if id(value) not in self.kept:
            slope = torch.zeros_like(self.at)
            if value.requires_grad:
                total = value.expand(len(self.at)).sum()
                slope = torch.autograd.grad(total, self.at, create_graph=True, allow_unused=True, materialize_grads=True)[0]
            self.kept[id(value)] = value, slope.unbind(1)
        return self.kept[id(value)][1]


def _known(system: System, name: str, known: Mapping[str, Tensor | Callable[[Tensor], Tensor]], at: Tensor) -> Tensor:
    if name not in known:
        raise DataError("pointwise_residual", f"a value of {name!r} in known", "none", did_you_mean(name, known))
    given = known[name]
    if not isinstance(given, Tensor):
        given = given(at)
    elif name in system.fields and _differentiated(system, name):
        hint = f"give {name} as a function from points (n, {len(system.axes)}) to values (n,)"
        raise DataError("pointwise_residual", f"{name!r} as a function, since the equation differentiates it", "values at the points", hint)
    value = given.to(at)
    if tuple(value.shape) not in ((), (len(at),)) or (name in system.fields and value.ndim != 1):
        raise DataError("pointwise_residual", f"{name!r} of shape ({len(at)},)", str(tuple(value.shape)))
    return value


def _differentiated(system: System, name: str) -> bool:
    field = system.function(name)
    return any(e.has(field) for whole in (*system.rates, *system.constraints) for e in whole.atoms(sp.Derivative))
