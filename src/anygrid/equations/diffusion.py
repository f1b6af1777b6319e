"""The equation ``-div(a*grad(u)) = f`` with values on all sides, recognised and handed to the finite volumes made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from anygrid.equations.boundary import Boundary
from anygrid.equations.discrete import Bound, Discrete
from anygrid.equations.newton import detached
from anygrid.equations.system import System
from anygrid.equations.tape import record
from anygrid.grid import Box
from anygrid.numerics.finite_volume import refine_diffusion, solve_diffusion

__all__ = ["Diffusion", "find_diffusion"]


@dataclass(frozen=True)
class Diffusion:
    """``constraint = factor * (-div(coefficient grad u) - f)`` with a number as factor."""

    system: System
    coefficient: sp.Expr
    factor: float

    def __call__(
        self, discrete: Discrete, bound: Bound, known: Mapping[str, Tensor], tolerance: float, start: Tensor | None
    ) -> tuple[Tensor, float, int]:
        """Solution ``(1, 1, *space)`` of one sample, differentiable in ``bound``; its relative residual; the iterations from ``start``."""
        box, tape = discrete.box, record([self.coefficient], self.system.coordinates)
        a = tape([known[leaf.name] for leaf in tape.leaves], _none)[0].detach().to(bound.values)
        a = a.expand(1, *box.shape).contiguous()
        fixed = detached(bound)
        with torch.no_grad():
            zero = torch.zeros((1, *discrete.fixed.shape), dtype=torch.float64, device=a.device)
            f = -discrete.residual(zero, fixed)[:, 0] / self.factor
            edges, guess = fixed.values.expand(zero.shape)[:, 0], None if start is None else start[:, 0]
            solved, reached, (count,) = refine_diffusion(a, f, box, guess, boundary=edges, tolerance=tolerance)
            u = solved[:, None]
        residual = discrete.residual(u, bound)
        if residual.requires_grad:
            u = _Corrected.apply(residual, u, a, discrete, fixed, self.factor, tolerance)
        return u, float(reached), count


class _Corrected(torch.autograd.Function):
    """The solution, as ``u - J^-1 R`` with a residual of zero."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, residual: Tensor, u: Tensor, a: Tensor, discrete: Discrete, bound: Bound, factor: float, tolerance: float
    ) -> Tensor:
        ctx.save_for_backward(u, a)
        ctx.rest = discrete, bound, factor, tolerance  # type: ignore[attr-defined]
        return u.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        u, a = ctx.saved_tensors  # type: ignore[attr-defined]
        discrete, bound, factor, tolerance = ctx.rest  # type: ignore[attr-defined]
        (gradient,) = gradients
        # J is -1 on the boundary, and symmetric inside because all cells there have one volume.
        inside = torch.where(discrete.fixed.to(u.device), 0.0, gradient)
        adjoint = solve_diffusion(a, inside[:, 0], discrete.box, tolerance=tolerance)[:, None] / factor
        entries = discrete.jacobian(u, bound)
        rows, cols = (torch.from_numpy(k).to(u.device) for k in (discrete.pattern.rows, discrete.pattern.cols))
        carried = torch.zeros_like(adjoint).reshape(-1).index_add_(0, cols, entries[0] * adjoint.reshape(-1)[rows]).reshape(u.shape)
        adjoint = torch.where(discrete.fixed.to(u.device), carried - gradient, adjoint)
        return -adjoint, None, None, None, None, None, None


def find_diffusion(system: System, boundary: Boundary, box: Box) -> Diffusion | None:
    """The diffusion equation that the system is, if its coefficient is a constant or one field (times constants)."""
    if len(system.state) != 1:
        return None
    u = system.function(system.state[0])
    for axis in box.axes:
        sides = boundary.both(system.state[0], axis.name)
        if axis.periodic or any(condition is None or condition.kind != "value" for condition in sides):
            return None
    found: dict[sp.Symbol, sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(system.constraints[0])):
        if not term.has(u):
            continue
        part = _second_derivative(term, u)
        if part is None or part[0] in found:
            return None
        found[part[0]] = part[1]
    if set(found) != set(system.coordinates) or len(set(found.values())) != 1:
        return None
    factor, coefficient = (-next(iter(found.values()))).as_coeff_Mul()
    fields = coefficient.atoms(sp.core.function.AppliedUndef)
    plain = not coefficient.atoms(sp.Derivative) and not (coefficient.free_symbols - {sp.Symbol(p, real=True) for p in system.parameters})
    if fields:
        rest = coefficient / next(iter(fields))
        plain = len(fields) == 1 and not rest.has(*fields) and not rest.free_symbols & set(system.coordinates)
    if not plain or not (factor.is_real and factor != 0):
        return None
    return Diffusion(system, coefficient, float(factor))


def _second_derivative(term: sp.Expr, u: sp.Expr) -> tuple[sp.Symbol, sp.Expr] | None:
    """Axis and coefficient ``c a`` of a term ``c d/dx (a du/dx)``."""
    constant, outer = term.as_independent(u, as_Add=False)
    if constant.atoms(sp.core.function.AppliedUndef) or not isinstance(outer, sp.Derivative) or len(outer.variable_count) != 1:
        return None
    axis, count = outer.variable_count[0]
    if outer.expr == u:
        return (axis, constant) if count == 2 else None
    coefficient, inner = outer.expr.as_independent(u, as_Add=False)
    return (axis, constant * coefficient) if count == 1 and inner == sp.Derivative(u, axis) else None


def _none(value: Tensor, orders: tuple[int, ...]) -> Tensor:
    raise AssertionError("the coefficient holds no derivatives")
