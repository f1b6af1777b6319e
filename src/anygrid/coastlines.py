"""Outlines of land for maps: Natural Earth 1:110m land, public domain.

The file was made of npm's world-atlas 2.0.2 (ISC) by benchmarks/make_coastlines.py.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

__all__ = ["coastlines", "draw_coastlines"]

_COLOUR = "#343a40"


@lru_cache(maxsize=1)
def _lines() -> tuple[NDArray[np.float64], ...]:
    with resources.files("anygrid").joinpath("land_110m.npz").open("rb") as file, np.load(file, allow_pickle=False) as held:
        points = np.stack([held["lon"], held["lat"]], 1) / 100.0
        ends = np.cumsum(held["length"])[:-1]
    return tuple(np.split(points, ends))


def coastlines(west: float) -> NDArray[np.float64]:
    """Longitude and latitude of all lines ``(point, 2)``, longitudes from ``west`` to ``west + 360``; a row of nan between two lines."""
    pieces = []
    gap = np.full((1, 2), np.nan)
    for line in _lines():
        moved = np.stack([west + (line[:, 0] - west) % 360, line[:, 1]], 1)
        # Where a line leaves the map on one side it comes back on the other.
        cuts = np.flatnonzero(np.abs(np.diff(moved[:, 0])) > 180) + 1
        for part in np.split(moved, cuts):
            pieces += [part, gap]
    return np.concatenate(pieces)


def draw_coastlines(axes: Axes, west: float) -> None:
    """Draw them within the limits that the axes have, with no more detail than a panel of some 500 dots can show."""
    limits = axes.get_xlim(), axes.get_ylim()
    lines = coastlines(west)
    (left, right), (low, high) = limits
    margin = 0.05 * (right - left)
    seen = (lines[:, 0] > left - margin) & (lines[:, 0] < right + margin) & (lines[:, 1] > low - margin) & (lines[:, 1] < high + margin)
    lines = _thin(np.where(seen[:, None], lines, np.nan), (right - left) / 500)
    axes.plot(lines[:, 0], lines[:, 1], color=_COLOUR, lw=0.55, alpha=0.75, zorder=5)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _thin(lines: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """Lines without the points that are nearer than that to the last one kept; ends of lines stay."""
    gaps = np.isnan(lines[:, 0])
    kept, last = [], None
    for k, point in enumerate(lines):
        if gaps[k]:
            if last is not None:
                kept.append(point)
            last = None
        elif last is None or k + 1 == len(lines) or gaps[k + 1] or np.abs(point - last).max() >= apart:
            kept.append(point)
            last = point
    return np.array(kept) if kept else np.full((1, 2), np.nan)
