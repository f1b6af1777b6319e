r"""Strike probability: the part of the members in which a storm passes within a radius, in a window of time.

.. math:: P(x) = \frac1M \sum_m \big[\min_{t_0 \le t \le t_1} d(x, c_m(t)) \le R\big]

Between two fixes a storm moves on their great circle, so that a fast one does not jump over a place. ECMWF shows this with 120 km and
up to 10 days for tropical cyclones (van der Grijn 2002, ECMWF Tech. Memo. 386).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from anygrid.errors import UsageError
from anygrid.fields import grid_coordinates
from anygrid.grid import Sphere
from anygrid.numerics.great_circle import EARTH_RADIUS, distance_to_arc, to_vector
from anygrid.storms.tracks import Tracks

__all__ = ["strike_map", "strike_probability"]

Place = tuple[float, float]


def strike_probability(
    tracks: Tracks, lat: ArrayLike, lon: ArrayLike, radius_km: float = 120.0, window: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Probability at places; members without a storm count.

    Parameters
    ----------
    lat, lon
        Degrees, any shape.
    window
        First and last lead in hours, both included: the fixes in it and the way between them; by default all. Of several starts the mean
        over them is given.

    Raises
    ------
    UsageError
        For a radius that is not above 0, places outside the globe, and a window that is empty or turned round.
    """
    lat, lon = np.broadcast_arrays(np.asarray(lat, np.float64), np.asarray(lon, np.float64))
    shape, lat, lon = lat.shape, lat.ravel(), lon.ravel()
    if not radius_km > 0 or not (np.abs(lat) <= 90).all() or not np.isfinite(lon).all():
        raise UsageError(
            "strike probability", "a radius above 0 km, and latitudes from -90 to 90", f"{radius_km:g} km, latitude {lat[0]:g}"
        )
    low, high = (0.0, tracks.hours) if window is None else window
    if not low <= high:
        raise UsageError("strike probability", "a window of leads in hours, the first before the last", f"{low:g} to {high:g}")
    count = np.zeros(lat.shape)
    for _, part in tracks.table.groupby(["start", "member"], dropna=False):
        hit = np.zeros(lat.shape, dtype=bool)
        for first, last in _arcs(part, low, high):
            # Only places near the arc are looked at: a storm touches a small part of a map.
            near = ~hit & (_least(lat, lon, first, last) <= radius_km)
            hit[near] = distance_to_arc(lat[near], lon[near], first, last) <= radius_km * 1000
        count += hit
    return (count / (tracks.starts * len(tracks.members))).reshape(shape)


def strike_map(tracks: Tracks, grid: Sphere, radius_km: float = 120.0, window: tuple[float, float] | None = None) -> xr.DataArray:
    """The same on a grid, as a field with coordinates."""
    points = grid.points().numpy()
    values = strike_probability(tracks, points[..., 0], points[..., 1], radius_km, window)
    note = f"probability that a storm passes within {radius_km:g} km"
    return xr.DataArray(values, grid_coordinates(grid), grid.dims, "strike_probability", {"units": "1", "long_name": note})


def _arcs(run: pd.DataFrame, low: float, high: float) -> Iterator[tuple[Place, Place]]:
    """Pieces of tracks between fixes of the window, and fixes that stand alone in it."""
    for _, track in run[(run["lead"] >= low) & (run["lead"] <= high)].sort_values("lead").groupby("track"):
        places = list(zip(track["lat"].astype(float), track["lon"].astype(float), strict=True))
        yield from pairwise(places) if len(places) > 1 else [(places[0], places[0])]


def _least(lat: NDArray[np.float64], lon: NDArray[np.float64], first: Place, last: Place) -> NDArray[np.float64]:
    """Lower bound of the distance from an arc, km: straight through the earth to its middle, less half its length."""
    p, q = to_vector(*first), to_vector(*last)
    half = float(np.arctan2(np.linalg.norm(np.cross(p, q)), p @ q)) / 2
    middle = (p + q) / max(float(np.linalg.norm(p + q)), 1e-12)
    return EARTH_RADIUS / 1000 * (np.linalg.norm(to_vector(lat, lon) - middle, axis=-1) - half)
