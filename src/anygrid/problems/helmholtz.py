"""Waves of one frequency, and Poisson's equation, on the unit square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import DataError, GridError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Grid
from anygrid.numerics.finite_volume import check_vertices
from anygrid.numerics.random_fields import sine_field
from anygrid.numerics.sine_series import multiply_sines
from anygrid.problems.base import Card, Problem, Wall

__all__ = ["Helmholtz", "nearest_resonance"]

# Distance of k^2 to an eigenvalue at which k is refused: 0.1 % of the eigenvalue, and no more than 0.25, 2 % of the mean distance 4 pi
# between eigenvalues, so that large wave numbers keep room between resonances.
_RELATIVE, _ABSOLUTE = 1e-3, 0.25


@dataclass(frozen=True)
class Helmholtz(Problem):
    """``-Laplacian u - k^2 u = f`` on the unit square, ``u = 0`` on its boundary; the map takes ``f`` to ``u``.

    ``k = 0`` is Poisson's equation. Everything is scaled by the side of the square, so no variable has a unit. The solver expands
    ``f`` in the sine functions that its interior vertices carry (type-1 discrete sine transform), divides by ``pi^2 |j|^2 - k^2`` and
    sums up: exact to rounding for every ``f`` made of sine modes below the number of intervals, such as this sampler's on grids of
    ``modes + 2`` points or more; spectrally convergent for smooth ``f`` whose even derivatives vanish on the boundary; second order
    for smooth ``f`` that does not vanish there.

    Sampler: Gaussian, zero on the boundary, covariance ``scale^2 (-Laplacian + tau^2)^(-alpha)`` on the sine modes up to ``modes``.

    Parameters
    ----------
    wavenumber
        ``k >= 0``, radians per side. 12 puts about two wavelengths along a side.
    tau, alpha, scale
        Inverse length scale, smoothness and amplitude of the source; the defaults give a standard deviation of about 1 in the interior.
    modes
        Largest sine mode of the sampler along each axis.

    Raises
    ------
    UsageError
        If ``k^2`` lies within 0.1 % (at most 0.25) of an eigenvalue ``pi^2 (m^2 + n^2)``: the equation has no bounded solution at one.
    """

    wavenumber: float = 12.0
    tau: float = 5.0
    alpha: float = 2.0
    scale: float = 20.0
    modes: int = 48

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("source", "1", "source strength, scaled"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("amplitude", "1", "wave amplitude, scaled"),)
    card: ClassVar[Card] = Card(
        title="Helmholtz equation (Poisson for k = 0) with a random source",
        equation="-Laplacian u - k^2 u = f on [0,1]^2, k = 12",
        boundary="u = 0",
        sampler="f Gaussian, zero on the boundary: sine modes 1..48 along each axis, covariance 400 (-Laplacian + 25)^-2",
        solver="sine series by the type-1 discrete sine transform of the interior vertices, O(N^2 log N) on N x N points",
        order="exact to rounding on grids of 50 or more points; spectral for smooth f odd about the boundary; 2 for other smooth f",
        cost="CPU ms on one thread (AMD EPYC) at 85, 211, 421 points a side: solve 0.8, 3, 18; drawing one source 0.5, 2, 3",
        source="separation of variables; Trefethen, Spectral Methods in MATLAB (2000), ch. 8, for the transform",
    )

    def __post_init__(self) -> None:
        for name in ("tau", "alpha", "scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"Helmholtz {name}", "a positive number", str(value))
        k = self.wavenumber
        if not (math.isfinite(k) and k >= 0):
            raise UsageError("Helmholtz wavenumber", "a finite number >= 0", str(k))
        if _resonant(k):
            m, n = nearest_resonance(k)
            step = _ABSOLUTE / k
            safe = next(trial for i in range(1, 1000) if not _resonant(trial := round(k + i * step, 4)))
            raise UsageError(
                "Helmholtz wavenumber",
                "k^2 away from the eigenvalues pi^2 (m^2 + n^2) of the square",
                f"k={k:.6g}, too near the resonance m={m}, n={n} at k={math.pi * math.hypot(m, n):.6g}",
                f"there is no bounded solution at a resonance; take k={safe:.8g}, for example",
            )

    @property
    def walls(self) -> tuple[Wall, ...]:
        """Zero on all sides."""
        return tuple(Wall("amplitude", axis, side) for axis in ("x", "y") for side in ("lower", "upper"))

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Vertices of the unit square, both ends included."""
        return Box.uniform({"x": Bounded(), "y": Bounded()}, resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch inputs *space"]:
        """Draw ``n`` sources (float64); the same functions on every grid."""
        f = sine_field(n, grid, scale=self.scale, shift=self.tau**2, power=self.alpha, modes=self.modes, generator=generator)
        return f[:, None]

    def solve(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Float[Tensor, "batch outputs *space"]:
        """Amplitude for each source ``a = f``, in the dtype of ``a`` (arithmetic is float64). Differentiable.

        Raises
        ------
        GridError
            If the grid is not even vertices of the unit square.
        DataError
            If the source is not finite.
        """
        symbol = self._symbol(grid, "Helmholtz.solve", a)
        if not bool(torch.isfinite(a).all()):
            raise DataError("Helmholtz.solve", "a finite source", f"{int((~torch.isfinite(a)).sum())} values that are not")
        return multiply_sines(a.double(), 1.0 / symbol).to(a.dtype)

    def residual(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """``-Laplacian u - k^2 u - f`` through the sine series of ``u`` at interior vertices, ``u`` on the boundary. Differentiable."""
        symbol = self._symbol(grid, "Helmholtz.residual", u).to(u.dtype)
        inner = (..., slice(1, -1), slice(1, -1))
        r = u.clone()
        r[inner] = multiply_sines(u, symbol)[inner] - a[inner]
        return r

    def correction(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """The error itself: the equation is linear with constant coefficients, and its inverse is the solver."""
        inverse = 1.0 / self._symbol(grid, "Helmholtz.correction", u)
        r = self.residual(a.double(), u.double(), grid)
        edges = torch.nn.functional.pad(torch.zeros_like(r[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=1.0)
        return -(multiply_sines(r, inverse) + edges * r).to(u.dtype)

    def _symbol(self, grid: Grid, where: str, values: Tensor) -> Tensor:
        box = check_vertices(grid, where)
        unit = box.ndim == 2 and all(i.lower == 0 and i.upper == 1 for i in box.domain)
        if not unit or not all(axis.uniform for axis in box.axes):
            extent = " x ".join(f"[{i.lower:g}, {i.upper:g}]" for i in box.domain)
            raise GridError(
                where, "even vertices of the unit square", f"{box.shape} points on {extent}", "use the problem's grid(resolution)"
            )
        if tuple(values.shape[2:]) != box.shape or values.shape[1] != 1:
            raise GridError(where, f"a field (batch, 1, {', '.join(map(str, box.shape))})", str(tuple(values.shape)))
        j = [torch.arange(1, n - 1, dtype=torch.float64, device=values.device) for n in box.shape]
        return math.pi**2 * (j[0][:, None] ** 2 + j[1] ** 2) - self.wavenumber**2


def nearest_resonance(wavenumber: float) -> tuple[int, int]:
    """Mode ``(m, n)``, ``m <= n``, whose eigenvalue ``pi^2 (m^2 + n^2)`` on the unit square is nearest to ``wavenumber^2``."""
    target = (wavenumber / math.pi) ** 2
    m = np.arange(1, max(2, math.ceil(wavenumber / math.pi) + 2))
    # For each m the best n is next to sqrt(target - m^2).
    n = np.maximum(1, np.rint(np.sqrt(np.maximum(target - m**2, 0.0)))[:, None] + np.array([-1, 0, 1])).astype(np.int64)
    row, column = np.unravel_index(np.argmin(np.abs(m[:, None] ** 2 + n**2 - target)), n.shape)
    first, second = int(m[row]), int(n[row, column])
    return min(first, second), max(first, second)


def _resonant(wavenumber: float) -> bool:
    m, n = nearest_resonance(wavenumber)
    eigenvalue = math.pi**2 * (m * m + n * n)
    return abs(wavenumber**2 - eigenvalue) < min(_RELATIVE * eigenvalue, _ABSOLUTE)
