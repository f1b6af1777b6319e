r"""Values that are missing: refused, or where they always are (the sea's temperature on land) continued from the points around.

.. math:: \sum_{y \sim x} (u_y - u_x) = 0 \quad \text{at every missing point } x,

over the neighbours :math:`y` of :math:`x` along the axes of the array: the discrete Laplace equation, natural at the ends of bounded axes.
The solution exists and is unique as soon as one value is known, and lies between the least and the largest known value (maximum
principle). It is a function of indices, not of distances: what stands there is a convention, which only has to be smooth and repeatable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import SuperLU, splu

from anygrid.errors import DataError
from anygrid.fields.layout import Layout
from anygrid.fields.variables import Variable, read_values
from anygrid.grid import Grid, Points

__all__ = ["filled", "harmonic_fill", "refuse_missing", "with_masks"]


def harmonic_fill(values: NDArray[Any], periodic: Sequence[bool]) -> NDArray[np.float64]:
    """Copy of ``values`` (row, *space) with the points that are NaN in every row filled, row by row.

    Raises
    ------
    DataError
        Where a point is NaN in some rows only, and where no point has a value.
    """
    out = values.astype(np.float64)
    flat = out.reshape(len(out), -1)
    missing = np.isnan(flat[0])
    if not missing.any() and not np.isnan(flat).any():
        return out
    uneven = int((np.isnan(flat) != missing).any(1).sum())
    if uneven or missing.all():
        got = "none anywhere" if missing.all() else f"other places in {uneven} of {len(flat)} fields"
        raise DataError(
            "missing values",
            "the same places at all times, and values elsewhere",
            got,
            "fill them before, for example with ds.interpolate_na(...)",
        )
    solver, to_known = _laplace(missing.tobytes(), values.shape[1:], tuple(periodic))
    flat[:, missing] = solver.solve(to_known @ flat[:, ~missing].T).T
    return out


def with_masks(ds: xr.Dataset, variables: Sequence[Variable], layout: Layout) -> tuple[Variable, ...]:
    """The variables, those ``masked`` that miss values at some places, and at the same in the first and the last of the fields."""
    found = []
    for v in variables:
        leading = [d for d in ds[v.name].dims if d not in layout.space]
        ends = [read_values(ds[v.name].isel(dict.fromkeys(leading, k))) for k in (0, -1)] if ds[v.name].dtype.kind == "f" else []
        first, *last = [np.isnan(x) for x in ends] or [np.zeros(1, dtype=bool)]
        masked = bool(first.any() and not first.all() and all((first == other).all() for other in last))
        found.append(replace(v, masked=masked))
    return tuple(found)


def filled(name: str, values: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Values of a masked variable on the grid, filled by :func:`harmonic_fill`; scattered points have no neighbours and stay.

    Raises
    ------
    DataError
        As :func:`harmonic_fill`.
    """
    if isinstance(grid, Points):
        return values
    try:
        rows = values.reshape(-1, *grid.shape)
        return harmonic_fill(rows, [interval.periodic for interval in grid.domain]).reshape(values.shape)
    except DataError as error:
        raise DataError(f"variable {name!r}", error.expected, error.got, error.hint) from error


def refuse_missing(name: str, values: NDArray[Any], coords: Mapping[str, xr.DataArray | None]) -> None:
    """Raise a DataError that counts and locates values that float32 cannot hold: NaN, infinite, or beyond 3e38."""
    if values.dtype.kind != "f":
        return
    # One cheap reduction settles the usual case: a sum is finite unless a value is not (or huge, which is looked at closer).
    with np.errstate(all="ignore"):
        if values.size == 0 or (np.isfinite(values.sum(dtype=np.float64)) and np.abs(values).max() < 3.4e38):
            return
        bad = ~(np.abs(values) < 3.4e38)
    if not bad.any():
        return
    first = np.unravel_index(int(bad.argmax()), bad.shape)
    place = ", ".join(f"{d}={_show(coords[d], int(i))}" for d, i in zip(coords, first, strict=True))
    nans = int(np.isnan(values).sum())
    kinds = f"{int(bad.sum())} of {bad.size} that are not ({nans} NaN), the first at {place}"
    hint = f"fill or drop them first, for example ds[{name!r}].fillna(0) or ds.dropna(...)"
    if bad.ndim > 1 and bad.shape[0] > 1 and (bad == bad[:1]).all():
        hint = f"the same places are always missing (land?): fill them with ds[{name!r}].fillna(0) and add the mask as an input"
    raise DataError(f"variable {name!r}", "finite values", kinds, hint)


@lru_cache(maxsize=8)
def _laplace(mask: bytes, shape: tuple[int, ...], periodic: tuple[bool, ...]) -> tuple[SuperLU, csc_array]:
    """Factors of the Laplacian at the missing points, and the matrix of their known neighbours."""
    missing = np.frombuffer(mask, dtype=bool)
    number = np.arange(missing.size).reshape(shape)
    pairs = []
    for k, wraps in enumerate(periodic):
        here, there = number, np.roll(number, -1, axis=k)
        keep = slice(None) if wraps and shape[k] > 2 else slice(-1)
        at = (*(slice(None),) * k, keep)
        pairs.append(np.stack([here[at].ravel(), there[at].ravel()]))
    edges = np.concatenate(pairs, axis=1)
    both = np.concatenate([edges, edges[::-1]], axis=1)
    a, b = both[:, missing[both[0]]]
    row = np.cumsum(missing) - 1
    count, known = int(missing.sum()), np.cumsum(~missing) - 1
    inside = missing[b]
    degree = np.bincount(row[a], minlength=count).astype(np.float64)
    laplacian = coo_array((-np.ones(int(inside.sum())), (row[a[inside]], row[b[inside]])), shape=(count, count)).tocsc()
    laplacian.setdiag(degree)
    beside = coo_array((np.ones(int((~inside).sum())), (row[a[~inside]], known[b[~inside]])), shape=(count, missing.size - count))
    return splu(csc_array(laplacian)), csc_array(beside)


def _show(coordinate: xr.DataArray | None, index: int) -> str:
    if coordinate is None or coordinate.ndim != 1:
        return f"index {index}"
    value = coordinate.values[index]
    return str(value)[:19] if coordinate.dtype.kind == "M" else f"{value:g}" if coordinate.dtype.kind in "fiu" else str(value)
