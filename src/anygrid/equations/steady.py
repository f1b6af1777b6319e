"""Steady equations on boxes: finite differences in flux form, sparse factorisation, Newton's method, adjoint derivatives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.boundary import Boundary
from anygrid.equations.diffusion import find_diffusion
from anygrid.equations.discrete import discretised, paired, wide_known
from anygrid.equations.newton import Newton, one_sample
from anygrid.equations.solution import Scheme, Solution
from anygrid.equations.system import System
from anygrid.errors import UsageError
from anygrid.grid import Box

__all__ = ["solve_steady", "steady_residual"]


def solve_steady(
    system: System,
    grid: Box,
    known: Mapping[str, Tensor],
    boundary: Boundary,
    *,
    tolerance: float = 1e-8,
    start: Float[Tensor, "batch unknown *space"] | None = None,
) -> Solution:
    r"""Solve ``constraints(u) = 0`` on a box, each sample by itself.

    Derivatives of expressions, such as :math:`\partial_x (a \, \partial_x u)`, are balances of fluxes at the faces between vertices, with
    the arithmetic mean of known fields there: it is the choice of the published Darcy data, needs no positive field as the harmonic
    one does, and is of second order as well. All other derivatives are centred differences. A side with a normal
    derivative closes the half cell at its vertices, which keeps the scheme conservative. Order 2 for smooth data, about 1 where
    a coefficient jumps. Arithmetic is float64; the result has the dtype of ``known``.

    An equation ``-div(a*grad(u)) = f`` with values on all sides goes to :func:`~anygrid.numerics.finite_volume.solve_diffusion` (the
    same matrix; sine-preconditioned iterations, Cholesky or multigrid). All others are factorised (SuperLU, minimum degree of
    ``A + A^T``). Nonlinear ones are solved by Newton's method with step halving from zero, then from one; of several solutions it
    returns the one it meets.

    Where the equation determines an unknown only up to a constant (no values on any side), the mean of the solution is zero. The
    data must then balance; an imbalance up to the size of the discretisation error is spread evenly, a larger one refused.

    Parameters
    ----------
    known
        Parameters and fields. The solution is differentiable (once) with respect to them by the implicit function theorem: one
        solve with the transposed matrix.
    tolerance
        Relative size of the last Newton correction, or relative residual of an iterative linear solve.
    start
        Guess of the solution of each sample, which saves iterations and changes neither the equations nor the tolerance: Newton's method
        starts there (and from zero and one where it fails from there), and so do the iterations of ``-div(a*grad(u)) = f``. A linear
        equation of another form is factorised and gains nothing. Samples that are not finite are left out.

    Returns
    -------
    Solution
        ``error`` is the relative size of the last correction, or the relative residual of the linear solve; ``iterations`` are those of
        each sample, 1 for a linear equation solved directly.

    Raises
    ------
    UsageError
        For derivatives above the second along a bounded axis, an evolution, or missing values of ``known``.
    GridError
        For uneven axes or too few points.
    AnygridError
        When the system is singular, its data do not balance, or Newton's method does not converge.
    """
    if not system.steady:
        raise UsageError("solve_steady", "an equation without rates", f"rates of {', '.join(system.state)}", "use advance")
    if not tolerance > 0:
        raise UsageError("solve_steady", "tolerance > 0", str(tolerance))
    dtype = next((value.dtype for value in known.values() if value.is_floating_point()), torch.get_default_dtype())
    wide = wide_known(system, known, grid)
    discrete = discretised(system, paired(system, system.constraints, system.state), system.state, grid, boundary, 2)
    bound = discrete.bind(wide)
    diffusion = find_diffusion(system, boundary, grid)
    newton = Newton(discrete, tolerance)
    results, errors, counts = [], [], []
    for k in range(max([len(value) for value in wide.values()], default=1)):
        sample = one_sample(bound, k)
        guess = None if start is None or not bool(torch.isfinite(start[k]).all()) else start[k : k + 1].detach().double()
        if diffusion is None:
            u, error, count = newton(guess, sample)
        else:
            mine = {name: value[k : k + 1] if len(value) > 1 else value for name, value in wide.items()}
            u, error, count = diffusion(discrete, sample, mine, tolerance, guess)
        results.append(u)
        errors.append(error)
        counts.append(count)
    u = torch.cat(results).to(dtype)
    scheme = _scheme(diffusion is not None, discrete.linear)
    return Solution(u, torch.tensor(errors, dtype=dtype, device=u.device), max(counts, default=0), scheme, tuple(counts))


def steady_residual(
    system: System, grid: Box, u: Float[Tensor, "batch unknown *space"], known: Mapping[str, Tensor], boundary: Boundary
) -> Float[Tensor, "batch unknown *space"]:
    """Left minus right side of the discrete equations that :func:`solve_steady` solves, differentiable in ``u`` and ``known``.

    At points with a prescribed value it is the difference from that value. Jumps of a coefficient are inside fluxes, where the
    pointwise residual of :mod:`anygrid.equations.residual` would see infinite slopes.
    """
    discrete = discretised(system, paired(system, system.constraints, system.state), system.state, grid, boundary, 2)
    return discrete.residual(u.double(), discrete.bind(wide_known(system, known, grid))).to(u.dtype)


def _scheme(diffusion: bool, linear: bool) -> Scheme:
    order = "2 in space (1 where a coefficient jumps)"
    if diffusion:
        reason = "the equation is -div(a*grad(u)) = f with values on all sides: symmetric and positive definite"
        return Scheme("finite volumes with an arithmetic face mean; preconditioned iterations, Cholesky or multigrid", reason, order)
    if linear:
        return Scheme("finite differences in flux form, sparse LU", "the equation is linear", order)
    return Scheme("finite differences in flux form, Newton with step halving and sparse LU", "the equation is nonlinear", order)
