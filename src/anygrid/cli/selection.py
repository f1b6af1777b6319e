"""A part of a data set by the words of ``--select``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from anygrid.errors import DataError, UsageError, did_you_mean
from anygrid.fields.layout import is_longitude

__all__ = ["select_slices"]


def select_slices(ds: xr.Dataset, words: Sequence[str]) -> xr.Dataset:
    """The part of the data that ``DIM=FROM:TO`` words leave: by coordinate, both ends included; by index without coordinates.

    ``DIM=VALUE`` takes what has that label (``time=1990`` a whole year). Either end may be left out.

    Raises
    ------
    UsageError
        For a word of another form.
    DataError
        For a dimension that is not there, values the coordinate cannot have, and a part without entries.
    """
    for word in words:
        dim, equals, text = word.partition("=")
        dim = dim.strip()
        if not equals or not text.strip():
            raise UsageError(f"--select {word}", "DIM=FROM:TO", repr(word), "for example --select time=1979:2005 or --select lat=30:60")
        if dim not in ds.dims:
            raise DataError(f"--select {word}", "a dimension of the data", repr(dim), did_you_mean(dim, map(str, ds.dims)))
        before = ds.sizes[dim]
        ds = _slice(ds, dim, text.strip(), word)
        if ds.sizes.get(dim, 1) == 0:
            raise DataError(
                f"--select {word}", f"some of the {before} entries of {dim!r}", "none of them", "`anygrid info FILE` shows their range"
            )
    return ds


def _slice(ds: xr.Dataset, dim: str, text: str, word: str) -> xr.Dataset:
    lower, colon, upper = _ends(text)
    where = f"--select {word}"
    if dim in ds.coords and ds.indexes.get(dim) is not None and not np.issubdtype(ds[dim].dtype, np.number):
        try:
            order = ds.indexes[dim].is_monotonic_increasing
            chosen = ds.sortby(dim) if not order and isinstance(ds.indexes[dim], pd.DatetimeIndex) else ds
            return chosen.sel({dim: slice(lower or None, upper or None) if colon else slice(text, text)})
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(where, f"values of {dim!r}", repr(text), f"it runs from {ds[dim].values[0]} to {ds[dim].values[-1]}") from error
    try:
        low, high = (float(lower) if lower else -np.inf), (float(upper) if upper else np.inf)
        high = high if colon else low
    except ValueError as error:
        raise DataError(where, f"numbers, as {dim!r} has", repr(text), "for example 30:60") from error
    values = np.asarray(ds[dim].values, dtype=np.float64) if dim in ds.coords else np.arange(ds.sizes[dim], dtype=np.float64)
    if dim in ds.coords and is_longitude(dim, ds[dim]) and np.isfinite([low, high]).all() and low <= high < low + 360:
        return _window(ds, dim, low, high)
    slack = 1e-9 * max(1.0, float(np.abs(values).max()))
    return ds.isel({dim: np.flatnonzero((values >= low - slack) & (values <= high + slack))})


def _window(ds: xr.Dataset, dim: str, low: float, high: float) -> xr.Dataset:
    """Longitudes from ``low`` east to ``high``, whatever the convention of the file; across its seam they are counted on from ``low``."""
    values = np.asarray(ds[dim].values, dtype=np.float64)
    east = low - 1e-6 + (values - low + 1e-6) % 360
    inside = np.flatnonzero(east <= high + 1e-6)
    if inside.size == 0 or np.abs(east[inside] - values[inside]).max() < 1e-6:
        return ds.isel({dim: inside})
    inside = inside[np.argsort(east[inside], kind="stable")]
    return ds.isel({dim: inside}).assign_coords({dim: (dim, np.round(east[inside], 9), ds[dim].attrs)})


def _ends(text: str) -> tuple[str, str, str]:
    """Split at the colon between two ends; the colons of a clock time (12:30) are not that colon."""
    if text.count(":") == 1 and "T" not in text.upper():
        lower, colon, upper = text.partition(":")
        return lower.strip(), colon, upper.strip()
    if ".." in text:
        lower, _, upper = text.partition("..")
        return lower.strip(), ":", upper.strip()
    if text.count(":") > 1 or "T" in text.upper():
        # An odd number of colons has one in the middle: 1979-01-01T00:00:1979-02-01T00:00
        parts = text.split(":")
        if len(parts) % 2 == 0:
            middle = len(parts) // 2
            return ":".join(parts[:middle]).strip(), ":", ":".join(parts[middle:]).strip()
    return text, "", text
