r"""Basis functions along one coordinate, and the real matrices that integrate against them and sum them up.

On an interval :math:`[l, l + L]` with :math:`s = (x - l) / L`, a family of ``count`` functions is one of

- ``fourier``: :math:`1, \cos 2\pi k s', \sin 2\pi k s'` with :math:`s' = s / (1 + p)`; on a bounded axis the padding
  :math:`p > 0` is the fraction of the interval by which the period is longer than the domain (a Fourier extension);
- ``cosine``: :math:`1, \sqrt2 \cos \pi k s`; ``sine``: :math:`\sqrt2 \sin \pi k s`;
- ``legendre``: :math:`\sqrt{2k+1}\, P_k(2s - 1)`.

Analysis is :math:`\hat u_k = \sum_j w_j \phi_k(x_j) u_j / \ell` with the quadrature weights :math:`w_j` of the grid and
:math:`\ell = L(1+p)`; synthesis is :math:`u(x) = \sum_k \hat u_k \phi_k(x)`. Spectrally accurate for ``fourier`` on
periodic, ``cosine``/``sine`` on evenly spaced bounded axes; second order otherwise (the order of the weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Interval

__all__ = ["Basis", "Family", "analysis_matrix", "evaluate", "synthesis_matrix"]

Family = Literal["fourier", "cosine", "sine", "legendre"]


@dataclass(frozen=True)
class Basis:
    """Family of ``count`` functions along one axis.

    For ``fourier``, ``count`` is the number of complex exponentials kept: wave numbers ``-(count // 2) .. (count - 1) // 2``,
    symmetric when ``count`` is odd (the convention of neuraloperator's ``n_modes``).
    """

    family: Family
    count: int
    padding: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise UsageError("Basis", f"a family of {get_args(Family)}", repr(self.family))
        if self.count < 1:
            raise UsageError("Basis", "at least one mode", str(self.count), "raise modes")
        if self.padding < 0 or (self.padding > 0 and self.family != "fourier"):
            raise UsageError("Basis", "padding >= 0, and 0 unless the family is 'fourier'", f"{self.padding} with {self.family!r}")

    @property
    def highest(self) -> int:
        """Highest wave number of the family."""
        return self.count // 2 if self.family == "fourier" else self.count - 1 + (self.family == "sine")

    @property
    def functions(self) -> int:
        """Number of real functions: ``2 * highest + 1`` for ``fourier`` (all cosines, then all sines), else ``count``."""
        return 2 * self.highest + 1 if self.family == "fourier" else self.count


def _angles(wave: NDArray[np.int64], axis: Axis | None, s: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """``2 pi k s / period`` as (points, k); from the integer ``k*j mod n`` where the points are an even periodic lattice."""
    if axis is not None and axis.placement == "vertices" and axis.periodic and period == 1.0:
        n = axis.size
        return 2 * np.pi * (np.outer(np.arange(n, dtype=np.int64), wave) % n) / n
    if axis is not None and axis.placement == "vertices" and not axis.periodic and period == 2.0:
        # Cosine and sine families: angle pi k j / (n - 1), an even lattice of 2 (n - 1) points.
        n = 2 * (axis.size - 1)
        return 2 * np.pi * (np.outer(np.arange(axis.size, dtype=np.int64), wave) % n) / n
    return 2 * np.pi * np.outer(s, wave) / period


def evaluate(basis: Basis, interval: Interval, x: NDArray[np.float64], axis: Axis | None = None) -> NDArray[np.float64]:
    """Values of the basis functions at ``x``: shape ``(points, functions)``, float64.

    ``axis`` may name the axis that ``x`` are the coordinates of; its angles are then exact for any wave number.
    """
    s = (x - interval.lower) / interval.length
    wave = np.arange(0, basis.highest + 1)
    if basis.family == "fourier":
        angle = _angles(wave, axis, s, 1.0 + basis.padding)
        return np.concatenate([np.cos(angle), np.sin(angle[:, 1:])], axis=1)
    if basis.family == "legendre":
        values = np.polynomial.legendre.legvander(2 * s - 1, basis.count - 1)
        return np.asarray(values * np.sqrt(2 * wave + 1), dtype=np.float64)
    angle = _angles(wave, axis, s, 2.0)
    if basis.family == "sine":
        return np.sqrt(2) * np.sin(angle[:, 1:])
    return np.cos(angle) * np.where(wave == 0, 1.0, np.sqrt(2)).astype(np.float64)


def check_resolved(basis: Basis, axis: Axis) -> None:
    """Refuse more functions than the axis has points to tell apart."""
    most = axis.size // 2 if basis.family == "fourier" else axis.size - 1
    if basis.family == "fourier" and basis.padding:
        most = int((1 + basis.padding) * axis.size) // 2
    if basis.highest > most:
        raise GridError(
            f"axis {axis.name!r} with {axis.size} points",
            f"{basis.family} modes up to wave number {most}",
            f"{basis.count} modes, up to wave number {basis.highest}",
            "use a finer grid or fewer modes",
        )


def analysis_matrix(basis: Basis, axis: Axis) -> NDArray[np.float64]:
    """Matrix ``(functions, size)`` that integrates samples on ``axis`` against the basis.

    For ``fourier`` the rows are ``cos`` and ``sin`` with the weights of ``1/n sum u exp(-i k x)`` (before its sign).

    Raises
    ------
    GridError
        When the axis has too few points for the highest wave number.
    """
    check_resolved(basis, axis)
    length = axis.interval.length * (1 + basis.padding)
    # Sphere and Box alike: the axis' own measure. The layer's inner product need not be the loss's.
    return (evaluate(basis, axis.interval, axis.coordinates(), axis) * (axis.weights() / length)[:, None]).T.copy()


def synthesis_matrix(basis: Basis, interval: Interval, x: NDArray[np.float64], axis: Axis | None = None) -> NDArray[np.float64]:
    """Matrix ``(points, functions)`` that sums the basis up at ``x``."""
    return evaluate(basis, interval, x, axis)
