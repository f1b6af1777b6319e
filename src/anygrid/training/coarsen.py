"""Every s-th point of a grid: cheap early training on the same functions at a lower resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Box, Grid

__all__ = ["coarse_grid", "coarsen"]


@lru_cache(maxsize=32)
def coarse_grid(grid: Grid, stride: int) -> Grid:
    """Grid of every ``stride``-th point.

    Raises
    ------
    UsageError
        When those points are no coarser grid of the same kind: the stride must divide ``n`` on a periodic axis and ``n - 1``
        on a bounded one, whose points are vertices (cell centres do not nest).
    """
    if stride == 1:
        return grid
    if not isinstance(grid, Box):
        raise UsageError("resolutions", "data on a Box", type(grid).__name__, "train at full resolution")
    for axis in grid.axes:
        cells = axis.size if axis.periodic else axis.size - 1
        if axis.placement != "vertices" or cells % stride or cells // stride < 2:
            raise UsageError("resolutions", f"axes whose points nest by {stride}", f"{axis.name!r} with {axis.size} {axis.placement}")
    return grid.at(tuple(axis.size // stride if axis.periodic else (axis.size - 1) // stride + 1 for axis in grid.axes))


def coarsen(fields: Sequence[Tensor], grid: Grid, stride: int) -> tuple[list[Tensor], Grid]:
    """Fields, whose last dimensions are the space of ``grid``, at every ``stride``-th point, and their grid."""
    coarse = coarse_grid(grid, stride)
    every: Any = (Ellipsis, *(slice(None, None, stride),) * len(grid.shape))
    return [f[every].contiguous() for f in fields], coarse
