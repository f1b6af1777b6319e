r"""Smooth filters of small reach on the sphere: radial splines times harmonics of the direction.

.. math::

    \phi_{k n}(d, \alpha) = \frac{1}{N_{kn}} \Big(\frac{\sin d}{\sin c}\Big)^n
        \big[\beta(d / h - k) + \beta(d / h + k)\big] \begin{cases} \cos n\alpha \\ \sin n\alpha \end{cases}, \qquad h = \frac{c}{K + 1}

with great-circle distance :math:`d` and azimuth :math:`\alpha` (from north to east), the cubic B-spline :math:`\beta` (once for ``k = 0``),
``k = 0 .. K - 1`` and ``n = 0 .. A``. A filter vanishes with two derivatives at the cutoff :math:`c`, and is smooth at its centre: so the
error of a quadrature that integrates it falls with a high power of the spacing, where a filter with a kink allows the second. :math:`N`
makes the radial factor integrate to 1 over the sphere; filters of ``n = 0`` are averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from anygrid.errors import UsageError

__all__ = ["CapFilters"]


@dataclass(frozen=True)
class CapFilters:
    """A family of filters, the same functions on every grid.

    Parameters
    ----------
    cutoff
        Reach in degrees of arc, at most 90.
    radial
        Functions of distance, ``K``.
    angular
        Highest harmonic of direction, ``A``. Filters without direction (0) commute with every rotation of the sphere; compass directions
        have no limit at the poles, so that the others commute with rotations about the axis only.

    Raises
    ------
    UsageError
        For a cutoff outside 0 to 90 degrees, no radial function, or a negative harmonic.
    """

    cutoff: float
    radial: int
    angular: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.cutoff <= 90 or self.radial < 1 or self.angular < 0:
            found = f"{self.cutoff:g} degrees, {self.radial} and {self.angular}"
            raise UsageError("CapFilters", "a cutoff of up to 90 degrees, radial >= 1 and angular >= 0", found)

    @property
    def harmonics(self) -> tuple[tuple[int, int, bool], ...]:
        """Radial number, harmonic of direction, and whether it is the sine (odd in longitude) for each filter."""
        return tuple((k, n, odd) for k in range(self.radial) for n in range(self.angular + 1) for odd in ((False, True) if n else (False,)))

    @property
    def size(self) -> int:
        """Number of filters."""
        return self.radial * (1 + 2 * self.angular)

    def profile(self, k: int, n: int, distance: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        """Radial factor of a filter but for ``(sin d)^n``, at distances in radians, of which it integrates to 1 with that."""
        return self._splines(k, distance) / _integral(self, k, n)

    def values(
        self, north: Float[np.ndarray, "*points"], east: Float[np.ndarray, "*points"], cosine: Float[np.ndarray, "*points"]
    ) -> Float[np.ndarray, "size *points"]:
        """All filters at points given by ``sin(d) cos(azimuth)``, ``sin(d) sin(azimuth)`` and ``cos(d)``."""
        distance, turn = np.arctan2(np.hypot(north, east), cosine), north + 1j * east
        found = []
        for k, n, odd in self.harmonics:
            power = turn**n
            found.append(self.profile(k, n, distance) * (power.imag if odd else power.real))
        return np.stack(found)

    def _splines(self, k: int, distance: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        t = distance * (self.radial + 1) / math.radians(self.cutoff)
        return _spline(t - k) + (_spline(t + k) if k else 0.0)


@lru_cache(maxsize=256)
def _integral(filters: CapFilters, k: int, n: int) -> float:
    """Of the splines times ``(sin d)^n`` over the sphere, by 16 Gauss-Legendre points between each two knots."""
    x, w = np.polynomial.legendre.leggauss(16)
    h = math.radians(filters.cutoff) / (filters.radial + 1)
    distance = h * (np.arange(filters.radial + 1)[:, None] + 0.5 * (x + 1))
    return float(math.pi * h * ((filters._splines(k, distance) * np.sin(distance) ** (n + 1)) @ w).sum())


def _spline(t: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
    """Cubic B-spline of unit spacing."""
    t = np.abs(t)
    return np.where(t < 1, (4 - 6 * t**2 + 3 * t**3) / 6, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
