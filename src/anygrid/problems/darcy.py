"""Steady flow through a porous medium of two permeabilities (the published Darcy benchmark)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.solution import Scheme, Solution
from anygrid.errors import GridError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Grid
from anygrid.numerics.finite_volume import FaceMean, apply_diffusion, check_vertices, refine_diffusion, solve_diffusion
from anygrid.numerics.linear_solvers import check_method
from anygrid.numerics.random_fields import cosine_field
from anygrid.numerics.sine_series import difference_symbol, multiply_sines
from anygrid.problems.base import Card, Problem, Wall, check_tolerance

__all__ = ["Darcy"]

_CHEBYSHEV = 3  # iterations of the estimated error


@dataclass(frozen=True)
class Darcy(Problem):
    """``-div(a grad u) = forcing`` on the unit square, ``u = 0`` on its boundary; the map takes ``a`` to ``u``.

    The published problem has no units and neither have these variables: ``a`` is a permeability over viscosity and ``u`` a pressure,
    both scaled. Sampler: ``a = high`` where a Gaussian field is ``>= 0`` and ``low`` elsewhere; the field has mean zero and covariance
    ``tau^(2 alpha - 2) (-Laplacian + tau^2)^(-alpha)`` with zero normal derivative and without its constant mode.

    Where this differs from the published data, for the same Gaussian fields at 421 x 421: the published code draws ``a`` at cell
    centres, carries it to the vertices by a cubic spline (which over- and undershoots, on the boundary down to negative values),
    solves there, and carries ``u`` back to cell centres. Its arrays, read as vertices, are half a cell off: 0.5 % in relative L2.
    Here both live on the vertices, where the published solution differs by 0.05 %, well below its own discretisation error.

    Error of the solution against 1681 x 1681 (mean relative L2 of six samples): 0.9 % at 85, 0.3 % at 211, 0.13 % at 421 with the
    arithmetic mean; 0.45 %, 0.17 % and 0.07 % with the harmonic mean.

    Parameters
    ----------
    tau, alpha
        Inverse length scale and smoothness of the Gaussian field.
    high, low
        The two permeabilities.
    forcing
        Constant right side.
    modes
        Largest wave number of the Gaussian field along each axis; 420 is that of the published data (421 points).
    mean
        Average of ``a`` on the faces between vertices: ``arithmetic`` as published, or ``harmonic``.
    solver, tolerance
        Linear solver and the relative residual at which an iterative one stops (see :mod:`anygrid.numerics.linear_solvers`).
    """

    tau: float = 3.0
    alpha: float = 2.0
    high: float = 12.0
    low: float = 3.0
    forcing: float = 1.0
    modes: int = 420
    mean: FaceMean = "arithmetic"
    solver: str = "auto"
    tolerance: float = 1e-8

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("permeability", "1", "permeability over viscosity, scaled"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("pressure", "1", "pressure, scaled"),)
    card: ClassVar[Card] = Card(
        title="Darcy flow through a two-phase medium",
        equation="-div(a grad u) = 1 on [0,1]^2",
        boundary="u = 0",
        sampler="a = 12 where a Gaussian field is >= 0, else 3; covariance 9 (-Laplacian + 9)^-2, zero normal derivative, 421^2 modes",
        solver="finite volumes on vertices (5 points), arithmetic face mean; sine-preconditioned CG, CHOLMOD, multigrid or LU",
        order="2 for smooth a, about 1 for the discontinuous a of this sampler",
        cost="CPU ms on one thread (AMD EPYC) at 85, 211, 421 points a side: sine-preconditioned CG 7, 31, 118; CHOLMOD 10, 87, 541; "
        "multigrid 27, 129, 662; LU 18, 188, 1425; drawing one coefficient 7, 12, 28",
        source="Li et al., Fourier Neural Operator (2021), A.3.2, and its data_generation/darcy code",
    )

    def __post_init__(self) -> None:
        check_method(self.solver, "Darcy solver")
        for name in ("tau", "alpha", "high", "low", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"Darcy {name}", "a positive number", str(value))
        if self.mean not in ("arithmetic", "harmonic"):
            raise UsageError("Darcy mean", "'arithmetic' or 'harmonic'", repr(self.mean))
        if self.modes < 1 or not math.isfinite(self.forcing):
            raise UsageError("Darcy", "modes >= 1 and a finite forcing", f"modes={self.modes}, forcing={self.forcing}")

    @property
    def walls(self) -> tuple[Wall, ...]:
        """Zero on all sides."""
        return tuple(Wall("pressure", axis, side) for axis in ("x", "y") for side in ("lower", "upper"))

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Vertices of the unit square, both ends included (421 and 85 are the published sizes: every fifth vertex of one is the other)."""
        return Box.uniform({"x": Bounded(), "y": Bounded()}, resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch inputs *space"]:
        """Draw ``n`` two-valued coefficients (float64); the same functions on every grid."""
        field = cosine_field(
            n, grid, scale=self.tau ** (self.alpha - 1), shift=self.tau**2, power=self.alpha, modes=self.modes, generator=generator
        )
        return torch.where(field >= 0, self.high, self.low).to(torch.float64)[:, None]

    def solve(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Float[Tensor, "batch outputs *space"]:
        """Pressure for each coefficient, in the dtype of ``a`` (arithmetic is float64)."""
        box = _check(a, grid, "Darcy.solve")
        return solve_diffusion(a[:, 0], float(self.forcing), box, mean=self.mean, method=self.solver, tolerance=self.tolerance)[:, None]

    def refine(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid, tolerance: float
    ) -> Solution:
        """As :meth:`solve` to the relative residual ``tolerance``, the iterations begun at ``u``.

        Conjugate gradients gain a factor of ``(sqrt(c) + 1) / (sqrt(c) - 1)`` an iteration, ``c = high / low`` (3 for the published
        coefficients), so that a guess of relative error ``e`` in the energy norm saves about ``log(1 / e) / log 3`` of them. Measured:
        a surrogate of 0.9 % error in L2 saves 2 of 19 at 1e-8, since slopes are known to it less well than
        values. The solvers ``cholmod`` and ``superlu`` are direct and save nothing. ``error`` is the relative residual, computed afresh.
        """
        check_tolerance(tolerance)
        box = _check(a, grid, "Darcy.refine")
        found, error, counts = refine_diffusion(
            a[:, 0], float(self.forcing), box, u[:, 0], mean=self.mean, method=self.solver, tolerance=tolerance
        )
        scheme = Scheme(self.card.solver, "symmetric and positive definite", self.card.order)
        return Solution(found[:, None], error, max(counts, default=0), scheme, counts)

    def residual(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """``-div(a grad u) - forcing`` at interior vertices and ``u`` on the boundary. Differentiable."""
        box = _check(a, grid, "Darcy.residual")
        r = apply_diffusion(a[:, 0], u[:, 0], box, mean=self.mean)
        r[:, 1:-1, 1:-1] -= self.forcing
        return r[:, None]

    def correction(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        r"""Estimate of ``truth - u``, right to 7 % in the energy norm for the published coefficients.

        Three steps of Chebyshev's iteration with the constant coefficient :math:`c = \sqrt{\text{low high}}`, whose inverse is a sine
        series and with which the equation's eigenvalues lie between ``low / c`` and ``high / c``. Source: Saad, Iterative Methods for
        Sparse Linear Systems (2003), algorithm 12.1.
        """
        box = _check(a, grid, "Darcy.correction")
        edges = torch.nn.functional.pad(torch.zeros_like(u[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=1.0)
        inverse = (1 / difference_symbol(box, u.device)).to(u)
        # The residual of a prediction loses digits to its differences, the iteration does not.
        r = -self.residual(a.double(), (u * (1 - edges)).double(), box).to(u.dtype) * (1 - edges)
        a = a.to(u)
        theta, delta = 0.5 * (self.high + self.low), 0.5 * (self.high - self.low)
        rho = delta / theta
        step = multiply_sines(r, inverse) / theta
        total = step
        for _ in range(_CHEBYSHEV - 1 if delta else 0):
            r = r - apply_diffusion(a[:, 0], step[:, 0], box, mean=self.mean)[:, None] * (1 - edges)
            following = 1 / (2 * theta / delta - rho)
            step = following * rho * step + 2 * following / delta * multiply_sines(r, inverse)
            rho = following
            total = total + step
        return total - edges * u


def _check(a: Tensor, grid: Grid, where: str) -> Box:
    box = check_vertices(grid, where)
    if box.ndim != 2 or a.shape[1] != 1:
        raise GridError(where, "one channel on two axes", f"{a.shape[1]} channels on {box.ndim} axes", "use the problem's grid(resolution)")
    return box
