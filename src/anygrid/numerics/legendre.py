r"""Associated Legendre functions, their derivatives along the sphere, and exact quadrature in latitude.

.. math:: Y_l^m(\varphi, \lambda) = \bar P_l^m(\sin\varphi)\, e^{i m \lambda}, \qquad \int_{S^2} |Y_l^m|^2\, d\Omega = 1

with the Condon-Shortley phase. Everything is float64 and made once for each grid.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from anygrid.errors import GridError, UsageError
from anygrid.grid import Sphere

__all__ = [
    "Kind",
    "Latitudes",
    "has_quadrature",
    "latitude_family",
    "latitude_nodes",
    "latitude_quadrature",
    "legendre_functions",
    "legendre_table",
]

Latitudes = Literal["gauss", "cells", "poles"]
Kind = Literal["value", "zonal", "meridional"]

_LARGE = 1e100  # entries of the recursion are scaled back beyond this
_STEP = 300  # powers of two


def latitude_family(grid: Sphere) -> Latitudes:
    """``gauss``, ``cells`` (centres of equal bands) or ``poles`` (even, both poles included): the latitudes with an exact quadrature.

    Raises
    ------
    GridError
        For windows, uneven latitudes, and longitudes that do not go once round in even steps.
    """
    where = "spherical harmonics"
    lon, lat = grid.lon, grid.lat
    hint = "interpolate to Sphere.gauss(nlat, nlon), Sphere.equiangular(nlat, nlon) or even latitudes with both poles"
    if not lon.periodic or not math.isclose(lon.interval.length, 360.0, rel_tol=1e-6):
        extent = f"{lon.interval.lower:g} to {lon.interval.upper:g} degrees"
        raise GridError(where, "longitudes that go once round", f"a window from {extent}", "use a global grid")
    if lon.placement == "nodes":
        raise GridError(where, "evenly spaced longitudes", f"{lon.size} uneven ones", hint)
    if not math.isclose(lat.interval.lower, -90.0, abs_tol=1e-6) or not math.isclose(lat.interval.upper, 90.0, abs_tol=1e-6):
        extent = f"{lat.interval.lower:g} to {lat.interval.upper:g} degrees"
        raise GridError(where, "latitudes from pole to pole", f"a window from {extent}", "use a global grid")
    if grid.gaussian:
        return "gauss"
    if lat.placement == "nodes":
        raise GridError(where, "Gaussian latitudes, or even ones", f"{lat.size} uneven latitudes", hint)
    return "cells" if lat.placement == "cells" else "poles"


def latitude_quadrature(grid: Sphere) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Sines of the latitudes, ascending, and weights with :math:`\sum_k w_k f(\mu_k) = \int_{-1}^1 f\, d\mu` (they sum to 2).

    Exact for polynomials of degree below ``2 n`` on Gauss-Legendre latitudes and up to ``n - 1`` on the others (``n`` where that is odd):
    Fejer's first rule at cell centres, the Clenshaw-Curtis rule with both poles. :meth:`Sphere.weights` gives the areas of bands instead,
    which are positive and add up on windows too, but integrate smooth functions to second order only.

    Raises
    ------
    GridError
        For other latitudes.
    """
    family, n = latitude_family(grid), grid.lat.size
    if family == "gauss":
        # The roots themselves: files round Gaussian latitudes to three decimals.
        sines, weights = np.polynomial.legendre.leggauss(n)
        return sines, weights
    if family == "cells":
        colatitude = np.pi * (np.arange(n) + 0.5) / n
        j = np.arange(1, n // 2 + 1)
        weights = 2 / n * (1 - 2 * (np.cos(2 * np.outer(colatitude, j)) / (4 * j**2 - 1)).sum(1))
    else:
        colatitude = np.pi * np.arange(n) / (n - 1)
        j = np.arange(0, (n - 1) // 2 + 1)
        share = np.where((j == 0) | (2 * j == n - 1), 0.5, 1.0)
        weights = -4 / (n - 1) * (np.cos(2 * np.outer(colatitude, j)) * share / (4 * j**2 - 1)).sum(1)
        weights[[0, -1]] /= 2
    return np.cos(colatitude[::-1]), weights


def has_quadrature(grid: Sphere) -> bool:
    """Whether fields on this grid can be analysed: global, with one of the three kinds of latitude."""
    try:
        latitude_family(grid)
    except GridError:
        return False
    return True


def latitude_nodes(grid: Sphere, *, north: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine of all latitudes, or of those from the equator (included when ``nlat`` is odd) ``north``.

    Of any grid: a quadrature is only needed for analysis.
    """
    if has_quadrature(grid):
        mu = latitude_quadrature(grid)[0]
        if grid.lat.size % 2:
            mu[grid.lat.size // 2] = 0.0  # odd functions vanish there exactly
        mu = mu[grid.lat.size // 2 if north else 0 :]
        return mu, np.sqrt((1 - mu) * (1 + mu))
    latitude = np.deg2rad(grid.lat.coordinates())
    return np.sin(latitude), np.cos(latitude)


def legendre_functions(
    sine: Float[np.ndarray, " points"], cosine: Float[np.ndarray, " points"], degree: int, first: int, stop: int
) -> Float[np.ndarray, "order degree points"]:
    r"""Orthonormal :math:`\bar P_l^m` for ``first <= m < stop`` and ``l <= degree``; zero where ``l < m``.

    .. math::

        \bar P_m^m = -\sqrt{\tfrac{2m+1}{2m}}\,\cos\varphi\,\bar P_{m-1}^{m-1}, \quad
        \bar P_l^m = a_l^m \big(\mu \bar P_{l-1}^m - \bar P_{l-2}^m / a_{l-1}^m\big), \quad a_l^m = \sqrt{\tfrac{4l^2-1}{l^2-m^2}}

    The recursion in degree is the stable one (Holmes and Featherstone 2002, J. Geodesy 76, eq. 11-13). Towards the poles
    :math:`\cos^m\varphi` leaves the range of float64, so mantissa and exponent are kept apart until the end.
    """
    n, orders = len(sine), np.arange(first, stop)
    out = np.zeros((stop - first, degree + 1, n))
    start, power = _sectoral(cosine, first, stop)
    current, before = np.zeros((stop - first, n)), np.zeros((stop - first, n))
    exponent = power.copy()
    for degree_now in range(first, degree + 1):
        going = min(degree_now - first, stop - first)  # orders below the degree
        if going:
            m = orders[:going, None].astype(np.float64)
            ratio = np.sqrt((4.0 * degree_now**2 - 1) / (degree_now**2 - m**2))
            last = np.sqrt(np.maximum((degree_now - 1.0) ** 2 - m**2, 0) / (4.0 * (degree_now - 1.0) ** 2 - 1))
            new = ratio * (sine * current[:going] - last * before[:going])
            before[:going] = current[:going]
            current[:going] = new
        if degree_now < stop:
            current[degree_now - first] = start[degree_now - first]
        if degree_now % 8 == 0:
            large = np.abs(current) > _LARGE
            if large.any():
                current[large] = np.ldexp(current[large], -_STEP)
                before[large] = np.ldexp(before[large], -_STEP)
                exponent[large] += _STEP
        out[:, degree_now] = np.ldexp(current, exponent)
    return out


def _sectoral(cosine: NDArray[np.float64], first: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Mantissa and exponent of ``P_m^m`` for ``first <= m < stop``."""
    mantissa, exponent = np.frexp(np.full(len(cosine), math.sqrt(0.25 / math.pi)))
    mantissas, exponents = np.empty((stop - first, len(cosine))), np.empty((stop - first, len(cosine)), dtype=np.int32)
    for m in range(stop):
        if m:
            mantissa, shift = np.frexp(-math.sqrt((2 * m + 1) / (2 * m)) * cosine * mantissa)
            exponent = exponent + shift
        if m >= first:
            mantissas[m - first], exponents[m - first] = mantissa, exponent
    return mantissas, exponents


def legendre_table(
    kind: Kind, sine: Float[np.ndarray, " points"], cosine: Float[np.ndarray, " points"], degree: int, first: int, stop: int
) -> Float[np.ndarray, "order degree points"]:
    r"""``value``: :math:`\bar P_l^m`; ``zonal``: :math:`m \bar P_l^m / \cos\varphi`; ``meridional``: :math:`d \bar P_l^m / d\varphi`.

    The last two without a division, so that poles are ordinary points, from the orders beside ``m``:

    .. math::

        \frac{m \bar P_l^m}{\cos\varphi} &= -\tfrac12 \sqrt{\tfrac{2l+1}{2l-1}} \Big(\sqrt{(l-m)(l-m-1)}\,\bar P_{l-1}^{m+1}
            + \sqrt{(l+m)(l+m-1)}\,\bar P_{l-1}^{m-1}\Big) \\
        \frac{d\bar P_l^m}{d\varphi} &= \tfrac12 \Big(\sqrt{(l+m)(l-m+1)}\,\bar P_l^{m-1} - \sqrt{(l-m)(l+m+1)}\,\bar P_l^{m+1}\Big)

    (ladder operators of angular momentum; Varshalovich et al. 1988, chapter 5).

    Raises
    ------
    UsageError
        For a negative degree, or orders outside ``0..degree``.
    """
    if not 0 <= first < stop <= degree + 1:
        raise UsageError("legendre_table", f"orders from 0 to {degree}", f"{first} to {stop - 1}")
    if kind == "value":
        return legendre_functions(sine, cosine, degree, first, stop)
    beside = legendre_functions(sine, cosine, degree, max(first - 1, 0), stop + 1)
    if first == 0:
        beside = np.concatenate([-beside[1:2], beside])  # P_l^{-1} = -P_l^1
    lower, upper = beside[:-2], beside[2:]
    order = np.arange(first, stop, dtype=np.float64)[:, None, None]
    at = np.arange(degree + 1, dtype=np.float64)[None, :, None]
    inside = at >= order
    if kind == "meridional":
        down, up = (at + order) * (at - order + 1), (at - order) * (at + order + 1)
        return 0.5 * (_root(down, inside) * lower - _root(up, inside) * upper)
    down, up = (at + order) * (at + order - 1), (at - order) * (at - order - 1)
    lower, upper = (np.pad(part, ((0, 0), (1, 0), (0, 0)))[:, :-1] for part in (lower, upper))
    scale = np.sqrt((2 * at + 1) / np.maximum(2 * at - 1, 1))
    return -0.5 * scale * (_root(up, inside) * upper + _root(down, inside) * lower)


def _root(x: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.sqrt(np.where(inside, np.maximum(x, 0), 0))
