"""Longitudes of another convention (-180 to 180, 0 to 360, a window across the seam), turned to that of a grid and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.fields.layout import is_longitude
from anygrid.fields.variables import coordinate
from anygrid.grid import Grid, Sphere

__all__ = ["UNTURNED", "Turn", "longitude_turn", "unwrapped"]

_SLACK = 1e-3  # degrees: files round their coordinates


@dataclass(frozen=True, eq=False)
class Turn:
    """How a longitude is reordered: place ``order[k]`` of the file stands at ``k``; nothing where ``dim`` is empty."""

    dim: str = ""
    order: NDArray[np.int64] | None = None
    values: NDArray[np.float64] | None = None
    original: xr.DataArray | None = None

    def to(self, ds: xr.Dataset) -> xr.Dataset:
        """The data in the convention of the grid."""
        if self.order is None or self.values is None or self.dim not in ds.dims:
            return ds
        attrs = {k: v for k, v in ds[self.dim].attrs.items() if not str(k).startswith("anygrid_")}
        return ds.isel({self.dim: self.order}).assign_coords({self.dim: (self.dim, self.values, attrs)})

    def back(self, ds: xr.Dataset) -> xr.Dataset:
        """Data on those points in the convention of the file."""
        if self.order is None or self.original is None or ds.sizes.get(self.dim) != self.order.size:
            return ds
        return ds.isel({self.dim: np.argsort(self.order)}).assign_coords({self.dim: self.original})


UNTURNED = Turn()
"""Longitudes that stay as they are."""


def longitude_turn(ds: xr.Dataset, grid: Grid | None) -> Turn:
    r"""What brings the longitudes of ``ds`` into the interval of ``grid``, by multiples of 360 degrees.

    .. math:: \lambda' = \lambda_0 + (\lambda - \lambda_0) \bmod 360

    with :math:`\lambda_0` where the grid begins, or for a window half a turn west of its middle. Nothing where they lie there already.
    """
    if not isinstance(grid, Sphere):
        return UNTURNED
    found = next((d for d in map(str, ds.dims) if is_longitude(d, coordinate(ds, d))), None)
    if found is None or ds[found].ndim != 1 or ds[found].dtype.kind not in "fiu":
        return UNTURNED
    x, ends = _decimal(ds[found]), grid.lon.interval
    low = ends.lower if ends.periodic else 0.5 * (ends.lower + ends.upper) - 180
    moved = low - _SLACK + (x - low + _SLACK) % 360
    order = np.argsort(moved, kind="stable")
    if np.abs(moved - x).max() <= _SLACK or np.diff(moved[order]).min(initial=1.0) <= 0:
        return UNTURNED
    # The remainder costs the last digits; a file's 2.8125 shall stay that.
    return Turn(found, order, np.round(moved[order], 9), ds[found])


def unwrapped(ds: xr.Dataset) -> xr.Dataset:
    """Data whose longitudes cross their seam (350, 355, 0, 5) with longitudes that ascend (-10, -5, 0, 5); others as they are."""
    for dim in map(str, ds.dims):
        c = coordinate(ds, dim)
        if c is None or not is_longitude(dim, c) or c.ndim != 1 or c.dtype.kind not in "fiu" or c.size < 3:
            continue
        x = _decimal(c)
        if (np.abs(np.diff(x)) > 180).sum() != 1:
            continue
        flat = np.unwrap(x, period=360)
        if (np.diff(flat) > 0).all() and flat[-1] - flat[0] < 360:
            flat = flat - 360 if flat[-1] > 180 else flat
            ds = ds.assign_coords({dim: (dim, np.round(flat, 9), c.attrs)})
    return ds


def _decimal(c: xr.DataArray) -> NDArray[np.float64]:
    """The shortest decimals that give a float32: what its author wrote."""
    return np.array([float(str(v)) for v in c.values]) if c.dtype == np.float32 else c.values.astype(np.float64)
