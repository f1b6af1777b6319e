r"""From the residual of a system to an estimate of the error: the equation linearised about one reference for all samples.

.. math:: \delta = -J_0^{-1} r(u) \approx u^* - u, \qquad J_0 = \partial r / \partial u \text{ at the reference}

The size of a residual says little about the error that leaves it: a Laplacian multiplies errors of wave number ``k`` by ``k**2``. With
the inverse of a reference operator each scale counts about as much as it weighs in the solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from anygrid.equations import hyperbolic, periodic
from anygrid.equations.boundary import Boundary
from anygrid.equations.discrete import Bound, Discrete, discretised, paired, wide_known
from anygrid.equations.newton import Newton
from anygrid.equations.nodes import has_coefficient_in_flux
from anygrid.equations.reflection import Reflection, find_reflection
from anygrid.equations.residual import residual
from anygrid.equations.symbol import spectral_form
from anygrid.equations.system import System
from anygrid.errors import UsageError
from anygrid.grid import Box

__all__ = ["steady_correction", "step_correction"]

Known = Mapping[str, Tensor]
_WHERE = "correction"
_STEPS = 3
_DISTANCE = 1e-4  # of the state, for a central difference in float64: rounding and curvature are then both near 1e-8


def steady_correction(system: System, grid: Box, boundary: Boundary, reference: Known) -> Callable[[Tensor, Known], Tensor]:
    """Estimate of ``solution - u`` for a steady system, as a function of ``u`` and the known values.

    Three steps of minimal residuals (Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 5.3), preconditioned by the
    matrix of :func:`~anygrid.equations.steady.steady_residual` at the solution for the ``reference`` values, factorised once.

    Parameters
    ----------
    reference
        Parameters ``(1,)`` and fields ``(1, *space)``.
    """
    discrete = discretised(system, paired(system, system.constraints, system.state), system.state, grid, boundary, 2)
    newton = Newton(discrete, 1e-8, _WHERE)
    bound = discrete.bind(wide_known(system, reference, grid))
    with torch.no_grad():
        start = newton(None, bound)[0]
        step = newton.linearised(start, bound)

    def correction(u: Tensor, known: Known) -> Tensor:
        here = discrete.bind(wide_known(system, known, grid))
        return _minimal_residual(lambda v: step(discrete.residual(v, here)), u)

    return correction


def step_correction(
    system: System, grid: Box, boundary: Boundary, dt: float, state: Tensor, reference: Known
) -> Callable[[Tensor, Tensor, Known], Tensor]:
    r"""Estimate of ``solution - end`` for a step ``dt``, as a function of the state at the start, of ``end`` and of the known values.

    For linear equations with constant coefficients on periodic boxes the error itself, by the exact solution. Otherwise ``-dt`` times
    the defect of the step (:func:`~anygrid.equations.residual.residual`), of order 4 in ``dt``, on periodic boxes and on those that
    reflection makes periodic, with the linear part exact. On other bounded boxes the defect is that of the solver's own differences, and
    stiff parts are undone by the matrix of the method at the reference,

    .. math:: \delta = -\Big(1 - \frac{z}{2} + \frac{z^2}{12}\Big)^{-1} d, \qquad z = \Delta t \, \partial F / \partial u .

    Parameters
    ----------
    state, reference
        State ``(1, state, *space)`` and known values, parameters ``(1,)`` and fields ``(1, *space)``, to linearise about.

    Raises
    ------
    UsageError
        For conservation laws, whose solutions jump, so that no difference over a step measures their error; and for auxiliary
        unknowns on bounded boxes.
    """
    everywhere = all(axis.periodic for axis in grid.axes)
    if everywhere and not spectral_form(system).bodies:
        return lambda a, u, known: periodic.advance(system, grid, a, known, dt).u - u
    if hyperbolic.find_fluxes(system) is not None:
        hint = "train on data; or add a little diffusion to the equation, such as nu*lap(u)"
        raise UsageError(_WHERE, "an equation with smooth solutions", "a conservation law, whose solutions jump", hint)
    if everywhere:
        return lambda a, u, known: -dt * residual(system, grid, a, known, following=u, dt=dt)
    reflection = find_reflection(system, boundary, grid)
    if reflection is not None:
        return _reflected(system, reflection, dt)
    if system.auxiliary:
        names = ", ".join(system.auxiliary)
        hint = "make all axes periodic, or train on data"
        raise UsageError(_WHERE, "an evolution without auxiliary unknowns on a bounded domain", f"{names}", hint)
    return _Differences(system, grid, boundary, dt, state, reference)


def _minimal_residual(step: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """What brings ``u`` to a zero of ``step``, a preconditioned residual, by a few steps along it, each of the best length."""
    at = u.double()
    rest = step(at)
    for _ in range(_STEPS - 1):
        change = rest - step(at + rest)
        with torch.no_grad():
            overlap, square = ((change * other).flatten(1).sum(1) for other in (rest, change))
            length = torch.where(square > 0, overlap / square.clamp(min=1e-300), 1.0).reshape(-1, *[1] * (at.ndim - 1))
        at, rest = at + length * rest, rest - length * change
    return (at + rest - u.double()).to(u.dtype)


def _reflected(system: System, reflection: Reflection, dt: float) -> Callable[[Tensor, Tensor, Known], Tensor]:
    ones = torch.ones(1, len(system.state), *reflection.box.shape, dtype=torch.float64)
    inside = reflection.restricted(ones)

    def correction(a: Tensor, u: Tensor, known: Known) -> Tensor:
        start, end = reflection.continued(a), reflection.continued(u)
        defect = residual(system, reflection.doubled, start, known, following=end, dt=dt)
        # What is odd vanishes at the ends, whatever the equation says there.
        return torch.where(inside.to(u) > 0, -dt * reflection.restricted(defect), -u)

    return correction


class _Differences:
    """Defect of the trapezoid rule with end corrections in the solver's own differences, and its inverse at a reference."""

    def __init__(self, system: System, grid: Box, boundary: Boundary, dt: float, state: Tensor, reference: Known) -> None:
        order = 2 if has_coefficient_in_flux(system.rates, system.fields) else 4
        self.system, self.grid, self.dt = system, grid, dt
        self.discrete: Discrete = discretised(system, system.rates, system.state, grid, boundary, order)
        bound = self.discrete.bind(wide_known(system, reference, grid))
        with torch.no_grad():
            entries = self.discrete.jacobian(state.double(), bound)
        matrix = self.discrete.pattern.matrix(entries[0].cpu().numpy())
        free = (~self.discrete.fixed.reshape(-1)).numpy().astype(float)
        self.inverse = _Inverse(dt * sp.diags_array(free) @ matrix)

    def __call__(self, a: Tensor, u: Tensor, known: Known) -> Tensor:
        bound = self.discrete.bind(wide_known(self.system, known, self.grid), u.device)
        start, h = torch.where(self.discrete.fixed.to(a.device), bound.values, a.double()), self.dt
        rate = self._rate(start, bound)
        known_part = start + 0.5 * h * rate + h * h / 12 * self._slope(start, rate, bound)

        def step(end: Tensor) -> Tensor:
            rate = self._rate(end, bound)
            defect = end - 0.5 * h * rate + h * h / 12 * self._slope(end, rate, bound) - known_part
            defect = torch.where(self.discrete.fixed.to(u.device), end - bound.values, defect)
            return -_Apply.apply(defect.flatten(1), self.inverse).reshape(defect.shape)

        return _minimal_residual(step, u)

    def _rate(self, w: Tensor, bound: Bound) -> Tensor:
        return torch.where(self.discrete.fixed.to(w.device), 0.0, self.discrete.residual(w, bound))

    def _slope(self, w: Tensor, rate: Tensor, bound: Bound) -> Tensor:
        """Rate of change of the rates along the solution."""
        size, speed = (x.detach().flatten(1).norm(dim=1) for x in (w, rate))
        distance = torch.where((size > 0) & (speed > 0), _DISTANCE * size / speed.clamp(min=1e-30), _DISTANCE)
        distance = distance.reshape(-1, *[1] * (w.ndim - 1))
        return (self._rate(w + distance * rate, bound) - self._rate(w - distance * rate, bound)) / (2 * distance)


class _Inverse:
    r"""Inverse of :math:`1 - z/2 + z^2/12` for a real matrix ``z``, by one complex factorisation.

    The polynomial is :math:`(z - p)(z - \bar p) / 12` with :math:`p = 3 + i \sqrt 3`, so its inverse is
    :math:`12 \, \mathrm{Im}\,(z - p)^{-1} / \sqrt 3`.
    """

    def __init__(self, z: sp.sparray) -> None:
        shift = complex(3, math.sqrt(3)) * sp.eye_array(z.shape[0], dtype=np.complex128)
        self._lu = spla.splu(sp.csc_matrix(z - shift))

    def apply(self, b: Tensor, *, transposed: bool) -> Tensor:
        """Solutions for right sides ``(batch, size)``."""
        right = b.detach().cpu().double().numpy().T.astype(np.complex128)
        found = self._lu.solve(right, "T" if transposed else "N").imag.T * (12 / math.sqrt(3))
        return torch.from_numpy(np.ascontiguousarray(found)).to(b)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, b: Tensor, inverse: _Inverse) -> Tensor:
        ctx.inverse = inverse  # type: ignore[attr-defined]
        return inverse.apply(b, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        inverse: _Inverse = ctx.inverse  # type: ignore[attr-defined]
        return inverse.apply(gradients[0], transposed=True), None
