r"""Cyclonic vorticity of a wind on a global grid or a window.

.. math:: \zeta = \frac{1}{a\cos\varphi} \Big( \frac{\partial v}{\partial\lambda} - \frac{\partial (u \cos\varphi)}{\partial\varphi} \Big),
          \qquad \zeta_c = \operatorname{sign}(\varphi)\, \zeta

By spherical harmonics where the grid has an exact quadrature, else by differences of second order.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from anygrid.errors import GridError
from anygrid.grid import Sphere
from anygrid.numerics.great_circle import EARTH_RADIUS
from anygrid.numerics.legendre import latitude_family
from anygrid.numerics.sphere_calculus import scale_degrees, vorticity_divergence
from anygrid.numerics.spherical_harmonics import exact_degree, synthesise

__all__ = ["by_differences", "cyclonic", "relative_vorticity", "spectral"]

Field = Float[NDArray[np.float64], "lat lon"]


def spectral(grid: Sphere) -> bool:
    """Whether the grid has an exact quadrature for spherical harmonics."""
    try:
        latitude_family(grid)
    except GridError:
        return False
    return True


def relative_vorticity(u: Field, v: Field, grid: Sphere, degrees: tuple[int, int] | None = None) -> Field:
    """Vorticity in s-1 of a wind in m s-1.

    Parameters
    ----------
    degrees
        Lowest and highest total wavenumber kept, where spherical harmonics serve. On windows, uneven latitudes and data with missing
        values there are none, and the vorticity of the grid itself is returned.
    """
    if not spectral(grid) or not (np.isfinite(u).all() and np.isfinite(v).all()):
        return by_differences(u, v, grid)
    most = exact_degree(grid)
    low, high = (0, most) if degrees is None else (degrees[0], min(degrees[1], most))
    east, north = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))[None, None] for x in (u, v))
    vorticity, _ = vorticity_divergence(east, north, grid, high, EARTH_RADIUS)
    kept = (torch.arange(high + 1) >= low).double()
    return synthesise(scale_degrees(vorticity, kept), grid)[0, 0].numpy()


def by_differences(u: Field, v: Field, grid: Sphere) -> Field:
    """Vorticity by centred differences of second order, one-sided at the edges of a window; missing values spread to their neighbours.

    At a pole it is the circulation around the row beside it over the area of that cap (Stokes).
    """
    lat, lon = np.deg2rad(grid.lat.coordinates()), np.deg2rad(grid.lon.coordinates())
    cosine = np.cos(lat)[:, None]
    u, v = np.asarray(u, np.float64), np.asarray(v, np.float64)
    if grid.lon.periodic:
        wide = np.concatenate([lon[-1:] - 2 * np.pi, lon, lon[:1] + 2 * np.pi])
        along = np.gradient(np.concatenate([v[:, -1:], v, v[:, :1]], 1), wide, axis=1)[:, 1:-1]
    else:
        along = np.gradient(v, lon, axis=1, edge_order=2 if lon.size > 2 else 1)
    across = np.gradient(u * cosine, lat, axis=0, edge_order=2 if lat.size > 2 else 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = (along - across) / (EARTH_RADIUS * cosine)
    for row, beside, sign in ((0, 1, -1), (-1, -2, 1)):
        if abs(cosine[row, 0]) < 1e-6:
            # cosine * a * 2 pi * mean(u) over 2 pi a^2 (1 - |sin|), eastwards round the north pole being counter-clockwise
            cap = EARTH_RADIUS * (1 - abs(np.sin(lat[beside])))
            out[row] = sign * u[beside].mean() * cosine[beside, 0] / cap if grid.lon.periodic else np.nan
    return out


def cyclonic(vorticity: Field, grid: Sphere) -> Field:
    """Vorticity that is positive where the turning is cyclonic: to the left in the north, to the right in the south."""
    return vorticity * np.where(grid.lat.coordinates() < 0, -1.0, 1.0)[:, None]
