"""Points of a latitude-longitude grid as nodes of one mesh on the sphere: neighbours, poles, edges, and what lies within a radius.

The date line and the poles are then no special case for what works on nodes. A row at a pole is one node. Where a global grid stops
short of a pole, a node with the mean of the last row stands there: paths cross it, but it is no centre itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from anygrid.grid import Sphere
from anygrid.numerics.great_circle import to_vector

__all__ = ["Mesh", "mesh_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Nodes with their neighbours.

    Parameters
    ----------
    lat, lon
        Degrees of each node.
    neighbours
        Table ``(node, 8)``, -1 where there is none. A pole has its neighbours in ``rings``.
    rings
        Neighbours of each pole node.
    edge
        Nodes with a neighbour outside the data.
    made
        Poles whose values are made of the row beside them.
    tree
        Of the unit vectors, for what lies within a radius.
    steps
        Largest spacing of latitudes and of longitudes, degrees.
    """

    lat: Floats
    lon: Floats
    neighbours: Ints
    rings: dict[int, Ints]
    edge: NDArray[np.bool_]
    made: NDArray[np.bool_]
    tree: cKDTree
    steps: tuple[float, float]
    rows: slice
    poles: tuple[bool, bool]

    def values(self, field: Floats) -> Floats:
        """Values at the nodes of a field ``(lat, lon)``, latitudes ascending."""
        inner = field[self.rows].ravel()
        ends = [field[0].mean()] if self.poles[0] else []
        return np.concatenate([inner, ends + ([field[-1].mean()] if self.poles[1] else [])])

    def spacing(self, lat: float) -> float:
        """Distance between points next to each other at a latitude, degrees of great circle: the larger of the two."""
        return max(self.steps[0], self.steps[1] * float(np.cos(np.deg2rad(lat))))

    def within(self, lat: float, lon: float, degrees: float) -> Ints:
        """Nodes at most so far away, in ascending order."""
        chord = 2 * np.sin(np.deg2rad(min(degrees, 180.0)) / 2)
        return np.array(sorted(self.tree.query_ball_point(to_vector(lat, lon), chord * (1 + 1e-12))), dtype=np.int64)

    def around(self, nodes: Ints) -> Ints:
        """Neighbours of some nodes, each once."""
        table = self.neighbours[nodes].ravel()
        rings = [ring for pole, ring in self.rings.items() if pole in nodes]
        found = np.unique(np.concatenate([table, *rings]))
        return found[found >= 0]

    def least(self, values: Floats) -> Ints:
        """Nodes below all their neighbours; of equal ones the first. Not on edges, nor where a pole's value is made."""
        padded = np.append(values, np.inf)
        near = padded[self.neighbours]
        mine = values[:, None]
        order = np.arange(values.size)[:, None]
        lower = (mine < near) | ((mine == near) & (order < self.neighbours)) | (self.neighbours < 0)
        found = lower.all(1) & ~self.edge & ~self.made & np.isfinite(values)
        for pole, ring in self.rings.items():
            found[pole] &= bool((values[pole] < values[ring]).all())
        return np.flatnonzero(found)

    def beside_missing(self, values: Floats) -> NDArray[np.bool_]:
        """Nodes with a missing value or a neighbour that has one: the data end there."""
        missing = np.isnan(values)
        if not missing.any():
            return missing
        out = missing | np.append(missing, False)[self.neighbours].any(1)
        for pole, ring in self.rings.items():
            out[pole] |= missing[ring].any()
        return out


@lru_cache(maxsize=4)
def mesh_of(grid: Sphere) -> Mesh:
    """Mesh of a grid, global or a window."""
    lat, lon = grid.lat.coordinates(), grid.lon.coordinates()
    round_ = grid.lon.periodic
    step = float(np.diff(lat).max()) if lat.size > 1 else 180.0
    south_gap, north_gap = float(lat[0]) + 90, 90 - float(lat[-1])
    at_pole = (round_ and south_gap < 1e-6, round_ and north_gap < 1e-6)
    poles = (round_ and south_gap < 1.01 * step, round_ and north_gap < 1.01 * step)
    rows = slice(int(at_pole[0]), lat.size - int(at_pole[1]))
    inner = lat[rows]
    n, m = inner.size, lon.size
    south = n * m if poles[0] else -1
    north = n * m + int(poles[0]) if poles[1] else -1
    index = np.full((n + 2, m), -1, dtype=np.int64)
    index[1:-1] = np.arange(n * m).reshape(n, m)
    index[0], index[-1] = south, north
    west, east = (np.roll(index, 1, 1), np.roll(index, -1, 1)) if round_ else (_shifted(index, 1), _shifted(index, -1))
    columns = [a[1 + k : n + 1 + k] for k in (-1, 0, 1) for a in (west, index, east) if not (k == 0 and a is index)]
    table = np.stack([c.ravel() for c in columns], 1)
    edge = (table < 0).any(1)
    rings = {p: index[r].copy() for p, r in ((south, 1), (north, n)) if p >= 0}
    extra = len(rings)
    lats = np.concatenate([np.repeat(inner, m), [-90.0] * poles[0], [90.0] * poles[1]])
    lons = np.concatenate([np.tile(lon, n), np.zeros(extra)])
    made = np.concatenate([np.zeros(n * m, bool), [not at_pole[k] for k in (0, 1) if poles[k]]]).astype(bool)
    return Mesh(
        lat=lats,
        lon=lons,
        neighbours=np.concatenate([table, np.full((extra, 8), -1)]),
        rings=rings,
        edge=np.concatenate([edge, np.zeros(extra, bool)]),
        made=made,
        tree=cKDTree(to_vector(lats, lons)),
        steps=(step, float(np.diff(lon).max())),
        rows=rows,
        poles=poles,
    )


def _shifted(index: Ints, by: int) -> Ints:
    out = np.full_like(index, -1)
    if by > 0:
        out[:, by:] = index[:, :-by]
    else:
        out[:, :by] = index[:, -by:]
    return out
