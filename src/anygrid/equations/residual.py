r"""The residual of a system on a grid, or at any points, from the same expressions that its solver runs on.

.. math:: r_j = G_j(u, x) \quad\text{(steady: left minus right side)}, \qquad r_i = \partial_t u_i - F_i(u, \psi, x) \quad\text{(evolution)}

Everything is differentiable with respect to the states, the known values and, at points, whatever the function is made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import sympy as sp
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.calculus import ALONG, directional, product_rule
from anygrid.equations.symbol import Multiplier, spectral_form
from anygrid.equations.system import System
from anygrid.equations.tape import Orders, Tape, record
from anygrid.errors import DataError, GridError, UsageError, did_you_mean
from anygrid.grid import Axis, Box, Grid
from anygrid.numerics.differentiation import differentiate, stencils
from anygrid.numerics.pseudospectral import derivative, from_spectrum, to_spectrum

__all__ = ["Method", "residual"]

Method = Literal["spectral"] | int  # an int: finite differences of that even order
_DEFAULT_ORDER = 4
_GROWTH = 0.5  # over a step; faster growing waves are treated as part of N


def residual(
    system: System,
    grid: Grid,
    state: Float[Tensor, "batch state *space"],
    known: Mapping[str, Tensor],
    *,
    rate: Float[Tensor, "batch state *space"] | None = None,
    following: Float[Tensor, "batch state *space"] | None = None,
    dt: float | None = None,
    methods: Mapping[str, Method] | None = None,
) -> Float[Tensor, "batch equation *space"]:
    r"""Residual of every equation at every point of a box.

    A steady system needs nothing more. For an evolution give either ``rate``, the time derivative of ``state``, or ``following``, the state
    ``dt`` later; then the residual is the defect over the step, in units of the rates,

    .. math:: r = \frac{u - e^{L h} a}{h} - \int_0^1 e^{L h (1 - \theta)} H(\theta) \, d\theta, \qquad F(w) = L w + N(w),

    where :math:`H` is the cubic Hermite interpolant in time of :math:`N`, from :math:`N` and its rate :math:`N'(w) F(w)` at the two ends:
    on a true solution it is of order 4 in ``h``, :math:`h^4 N^{(4)} / 720` for slow ``L``. Where all axes are spectral, ``L`` is the part
    of each rate that is linear, with constant coefficients, in its own unknown, so that stiff diffusion costs no accuracy; growth by more
    than ``exp(1/2)`` over ``h`` is left to ``N``. Elsewhere
    ``L = 0`` (the trapezoid rule with end corrections) and ``h`` must resolve every rate
    of the grid that the solution excites.

    Space is spectral along even periodic axes and of order 4 along others, one-sided at the ends of bounded ones. Products are taken at
    the points: on a grid too coarse for the solution the residual shows their aliasing, which a dealiased solver does not.

    Parameters
    ----------
    state
        Unknowns in the order of ``system.state``, ``(batch, state, *space)``.
    known
        Parameters ``()`` or ``(batch,)``, fields ``(*space)`` or ``(batch, *space)``. Auxiliary unknowns may be among them, as fields,
        where ``following`` is not used; otherwise they are solved for, mode by mode, which needs spectral axes and linear constraints. What
        a constraint leaves free, such as the mean of a stream function, is 0.
    methods
        For an axis by name ``"spectral"``, or the even order of its finite differences.

    Returns
    -------
    Tensor
        One equation for each rate, in the order of ``system.state``, then, for a steady system or auxiliary unknowns that are given, one
        for each constraint. The dtype is that of ``state``.

    Raises
    ------
    GridError
        For a grid that is no Box over the system's axes, or an axis that has no spectral derivative.
    DataError
        For values that are missing or of another shape.
    UsageError
        For a method that does not exist, or a call that does not say how to form the rate.
    """
    box = _box(system, grid, state)
    place = _Place(system, box, state, known, methods or {})
    if system.steady:
        return place.constraints(state)
    if following is not None and dt is not None and rate is None:
        return _defect(place, state, following, dt)
    if rate is None or following is not None:
        hint = "give following= (the state dt later) with dt=, or rate= (the time derivative of the state)"
        raise UsageError("residual", "one way to form the time derivative", "none" if following is None else "following without dt", hint)
    rates = rate - place.rates(state)
    return torch.cat([rates, place.constraints(state)], 1) if place.given else rates


class _Place:
    """A system on one grid with its known values: rates and constraints as functions of the state alone."""

    def __init__(self, system: System, box: Box, state: Tensor, known: Mapping[str, Tensor], methods: Mapping[str, Method]) -> None:
        self.system, self.box, self.methods = system, box, _methods(box, methods)
        self.batch, self.like = len(state), state
        self.spectral = all(method == "spectral" for method in self.methods)
        # One-sided differences of one-sided differences lose an order: where an axis ends, only unknowns and fields are differentiated.
        self.ends = tuple(x for x, axis in zip(system.coordinates, box.axes, strict=True) if not axis.periodic)
        self.given = bool(system.auxiliary) and all(name in known for name in system.auxiliary)
        self.values = {name: self._known(name, known) for name in (*system.parameters, *system.fields)}
        self.values |= {name: self._known(name, known) for name in system.auxiliary if self.given}
        ndim = box.ndim
        for k, axis in enumerate(box.axes):
            x = torch.from_numpy(axis.coordinates()).to(state)
            self.values[axis.name] = x.reshape([1, *(-1 if j == k else 1 for j in range(ndim))])

    def _known(self, name: str, known: Mapping[str, Tensor]) -> Tensor:
        if name not in known:
            raise DataError("residual", f"a value of {name!r} in known", "none", did_you_mean(name, known))
        value = known[name].to(self.like)
        space = self.box.shape
        shapes = [(), (self.batch,)] if name in self.system.parameters else [space, (self.batch, *space), (1, *space)]
        if tuple(value.shape) not in [*shapes, shapes[0] and (1,)]:
            raise DataError("residual", f"{name!r} of shape {' or '.join(map(str, shapes[:2]))}", str(tuple(value.shape)))
        if name in self.system.parameters:
            return value.reshape(-1, *[1] * len(space))
        return value if value.ndim > len(space) else value[None]

    def rates(self, state: Tensor) -> Tensor:
        """``F(state)``, shape of ``state``."""
        return self._run(self.system.rates, {**self._unknowns(state), **self._auxiliary(state)})

    def constraints(self, state: Tensor) -> Tensor:
        """``G(state)``, ``(batch, constraint, *space)``, auxiliary unknowns as given."""
        return self._run(self.system.constraints, self._unknowns(state))

    def slopes(self, state: Tensor, direction: Tensor) -> Tensor:
        """``F'(state)`` times ``direction``, auxiliary unknowns following."""
        system = self.system
        along = {f"{name}{ALONG}": part for name, part in self._unknowns(direction).items()}
        known = {**self._unknowns(state), **self._auxiliary(state), **along}
        homogeneous = directional(system, system.constraints)
        known |= {f"{name}{ALONG}": part for name, part in self._auxiliary(direction, homogeneous, ALONG).items()}
        return self._run(directional(system, system.rates), known)

    def _unknowns(self, state: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.system.state, state.unbind(1), strict=True))

    def _run(self, expressions: tuple[sp.Expr, ...], unknowns: Mapping[str, Tensor]) -> Tensor:
        tape = _tape(expressions, self.system.coordinates, self.ends)
        values = {**self.values, **unknowns}
        leaves = [self.differentiate(values[leaf.name], leaf.orders) for leaf in tape.leaves]
        # Constants take dtype and device from the first leaf; an expression without any still needs them.
        results = tape(leaves, self.differentiate) if leaves else [r.to(self.like) for r in tape([], self.differentiate)]
        return torch.stack([result.expand(self.batch, *self.box.shape) for result in results], 1)

    def differentiate(self, value: Tensor, orders: Orders) -> Tensor:
        """Derivative of ``(batch or 1, *space)``, or of what broadcasts to it."""
        if any(orders):
            value = value.expand(value.shape[0] if value.ndim > self.box.ndim else 1, *self.box.shape)
        for k, order in enumerate(orders):
            if order:
                value = self._along(value, k, order)
        return value

    def _along(self, value: Tensor, k: int, order: int) -> Tensor:
        method = self.methods[k]
        if not isinstance(method, int):
            return differentiate(value[:, None], self.box, k, order)[:, 0]
        axis = self.box.axes[k]
        places, weights = _stencil(axis, order, method, value.dtype, value.device)
        shape = [-1 if j == k else 1 for j in range(self.box.ndim)]
        terms = (weights[:, j].reshape(shape) * value.index_select(k + 1, places[:, j]) for j in range(places.shape[1]))
        return sum(terms, torch.zeros((), dtype=value.dtype, device=value.device))

    def _auxiliary(self, state: Tensor, constraints: tuple[sp.Expr, ...] | None = None, suffix: str = "") -> dict[str, Tensor]:
        """Auxiliary unknowns from linear constraints ``M psi + G(state, 0) = 0``, by the pseudo-inverse of each mode's ``M``."""
        names = self.system.auxiliary
        if not names or self.given:
            return {}
        if not self.spectral:
            hint = "use even periodic axes with spectral derivatives, or put them into known= and give rate="
            raise GridError("residual", f"a grid on which {', '.join(names)} can be solved for", "an axis of another kind", hint)
        zero = torch.zeros(1, *self.box.shape, dtype=state.dtype, device=state.device)
        unknowns = {**self._unknowns(state), **dict.fromkeys(names, zero)}
        values = {f"{name}{suffix}": value for name, value in unknowns.items()}
        rest = to_spectrum(self._run(self.system.constraints if constraints is None else constraints, values), self.box.ndim)
        rows = spectral_form(self.system).constraint
        entries = [[self.multiplier(row.get(name, ())) for name in names] for row in rows]
        matrix = torch.stack([torch.stack(torch.broadcast_tensors(*row), -1) for row in _broadcast(entries)], -2)
        solved = -(_inverse(matrix).to(rest.dtype) @ rest.movedim(1, -1)[..., None])[..., 0].movedim(-1, 1)
        return dict(zip(names, from_spectrum(solved, self.box.shape).unbind(1), strict=True))

    def multiplier(self, parts: Multiplier) -> Tensor:
        """Fourier multiplier of a linear operator with constant coefficients, ``(batch or 1, *modes)`` or broadcastable (complex128)."""
        total = torch.zeros((1,) * (1 + self.box.ndim), dtype=torch.complex128, device=self.like.device)
        for orders, factor in parts:
            tape = _tape((factor,), self.system.coordinates)
            product = tape([self.values[leaf.name].double() for leaf in tape.leaves], self.differentiate)[0].to(total)
            for k, order in enumerate(orders):
                product = product * derivative(self.box, k, order).to(total) if order else product
            total = total + product
        return total


def _defect(place: _Place, start: Tensor, end: Tensor, h: float) -> Tensor:
    if end.shape != start.shape or not (h > 0 and math.isfinite(h)):
        raise DataError("residual", f"a following state of shape {tuple(start.shape)} and dt above 0", f"{tuple(end.shape)} and {h}")
    if place.given:
        hint = "leave them out, so that they are solved for at both ends, or give rate="
        raise UsageError("residual", "auxiliary unknowns that follow from the state", "values at one time", hint)
    ends = []
    for w in (start, end):
        rates = place.rates(w)
        ends.append((w, rates, place.slopes(w, rates)))
    if not place.spectral:
        (a, fa, ga), (u, fu, gu) = ends
        return (u - a) / h - 0.5 * (fa + fu) - (h / 12) * (ga - gu)
    ndim = place.box.ndim
    (a, fa, ga), (u, fu, gu) = (tuple(to_spectrum(x, ndim) for x in triple) for triple in ends)
    linear = spectral_form(place.system).linear
    own = [place.multiplier(row.get(name, ())) for row, name in zip(linear, place.system.state, strict=True)]
    symbol = torch.stack(torch.broadcast_tensors(*own), 1)
    # Growth is slow in time or soon stopped by the products: exact, it would only amplify the error of their interpolant.
    symbol = torch.where(symbol.real * h > _GROWTH, symbol - symbol.real, symbol)
    full, one, two, three, four = (each.to(a.dtype) for each in _phi(symbol * h))
    symbol = symbol.to(a.dtype)
    total = (u - full * a) / h
    total = total - (one - 6 * three + 12 * four) * (fa - symbol * a) - h * (two - 4 * three + 6 * four) * (ga - symbol * fa)
    total = total - (6 * three - 12 * four) * (fu - symbol * u) - h * (6 * four - 2 * three) * (gu - symbol * fu)
    return from_spectrum(total, place.box.shape)


def _phi(z: Tensor) -> tuple[Tensor, ...]:
    r""":math:`\varphi_0 \dots \varphi_4`, where :math:`\varphi_0 = e^z, \varphi_{k+1} = (\varphi_k - 1/k!) / z`.

    Near 0, where that recursion cancels, from the series of the last one downwards.
    """
    near = z.abs() < 1
    small, large = torch.where(near, z, 0), torch.where(near, 1, z)
    last = torch.zeros_like(z)
    for j in range(16, -1, -1):
        last = last * small + 1 / math.factorial(j + 4)
    series, up = [last], [torch.exp(z)]
    for k in (3, 2, 1):
        series.append(1 / math.factorial(k) + small * series[-1])
    for k in range(4):
        up.append((up[-1] - 1 / math.factorial(k)) / large)
    return up[0], *(torch.where(near, s, b) for s, b in zip(reversed(series), up[1:], strict=True))


def _broadcast(entries: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    flat = torch.broadcast_tensors(*[entry for row in entries for entry in row])
    width = len(entries[0])
    return [list(flat[k : k + width]) for k in range(0, len(flat), width)]


def _inverse(matrix: Tensor) -> Tensor:
    if matrix.shape[-1] > 1:
        return torch.linalg.pinv(matrix)
    return torch.where(matrix == 0, 0, 1 / torch.where(matrix == 0, 1, matrix))


@lru_cache(maxsize=64)
def _tape(expressions: tuple[sp.Expr, ...], axes: tuple[sp.Symbol, ...], ends: tuple[sp.Symbol, ...] = ()) -> Tape:
    return record([product_rule(e, ends) for e in expressions] if ends else expressions, axes)


@lru_cache(maxsize=64)
def _stencil(axis: Axis, derivative: int, order: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    index, weights = stencils(axis, derivative, order)
    return torch.from_numpy(index).to(device), torch.from_numpy(weights).to(device, dtype)


def _box(system: System, grid: Grid, state: Tensor) -> Box:
    if not isinstance(grid, Box) or grid.dims != system.axes:
        got = f"axes {', '.join(grid.dims)}" if isinstance(grid, Box) else type(grid).__name__
        raise GridError("residual", f"a Box with the axes {', '.join(system.axes)}", got, "use pointwise_residual for scattered points")
    if tuple(state.shape[1:]) != (len(system.state), *grid.shape):
        raise DataError(
            "residual", f"a state of shape (batch, {len(system.state)}, {', '.join(map(str, grid.shape))})", str(tuple(state.shape))
        )
    return grid


def _methods(box: Box, methods: Mapping[str, Method]) -> tuple[Method, ...]:
    for name in methods:
        if name not in box.dims:
            raise UsageError("residual", "methods of the grid's axes", repr(name), did_you_mean(name, box.dims))
    chosen = []
    for axis in box.axes:
        even = axis.periodic and axis.uniform
        method = methods.get(axis.name, "spectral" if even else _DEFAULT_ORDER)
        if isinstance(method, int):
            if method < 2 or method % 2:
                raise UsageError("residual", f"an even order of 2 or more along {axis.name!r}", f"{method}")
        elif not even:
            got = f"{'an uneven' if axis.periodic else 'a bounded'} axis {axis.name!r}"
            raise GridError("residual", "even periodic points for spectral derivatives", got, "give an even order instead, such as 4")
        chosen.append(method)
    return tuple(chosen)
