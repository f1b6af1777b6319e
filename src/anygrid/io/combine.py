"""Several files as one data set: joined along time or samples, merged where they hold different variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import xarray as xr

from anygrid.errors import FileError
from anygrid.fields.layout import dimension_roles

__all__ = ["combine", "lazy"]

_CHUNK = 2**22  # values a chunk: 16 MiB of float32


def combine(pieces: Sequence[xr.Dataset], paths: Sequence[Path | str]) -> xr.Dataset:
    """Join data sets without reading them.

    Pieces with the same variables are joined along time when their times differ (sorted by them), along their sample
    dimension, or along a new ``sample``, when they do not. Groups with different variables are then merged.

    Raises
    ------
    FileError
        For times that overlap, and for pieces whose grids or coordinates differ.
    """
    groups: dict[frozenset[str], list[tuple[xr.Dataset, Path | str]]] = {}
    for ds, path in zip(pieces, paths, strict=True):
        groups.setdefault(frozenset(map(str, ds.data_vars)), []).append((lazy(ds), path))
    joined = [(_join(group), group[0][1]) for group in groups.values()]
    out, first = joined[0]
    for ds, path in joined[1:]:
        out = _drop_clashes(out, ds)
        try:
            out = xr.merge([out, _drop_clashes(ds, out)], join="exact", compat="equals", combine_attrs="drop_conflicts")
        except (ValueError, xr.MergeError) as error:
            raise FileError(
                str(path), f"the coordinates of {_name(first)}", _difference(out, ds), "read them one at a time, or bring them to one grid"
            ) from error
    return out


def lazy(ds: xr.Dataset) -> xr.Dataset:
    """The data set in chunks along its leading dimensions, unless it already has chunks; small coordinates are kept whole."""
    if any(v.chunks is not None for v in ds.variables.values()):
        return ds
    fields = {}
    for name, array in ds.data_vars.items():
        inner, chunks = 1, {}
        for dim in reversed(array.dims):
            size = array.sizes[dim]
            chunks[dim] = max(1, min(size, _CHUNK // max(1, inner)))
            inner *= size
        fields[name] = array.chunk(chunks) if math.prod(array.shape) else array
    return ds.assign(fields)


def _name(path: Path | str) -> str:
    """Last part of a path, or of an address."""
    return PurePosixPath(path).name if isinstance(path, str) else path.name


def _join(group: list[tuple[xr.Dataset, Path | str]]) -> xr.Dataset:
    if len(group) == 1:
        return group[0][0]
    first = group[0][0]
    roles = dimension_roles(first)
    time = next((d for d, r in roles.items() if r == "time"), None)
    scalar = next((str(n) for n, c in first.coords.items() if c.ndim == 0 and c.dtype.kind == "M" and n != "valid_time"), None)
    key = time if time is not None and time in first.coords else scalar if time is None else None
    if key is not None and all(key in ds.coords and ds[key].size for ds, _ in group):
        starts = [np.ravel(ds[key].values)[0] for ds, _ in group]
        if len(set(starts)) > 1:
            return _along_time(sorted(group, key=lambda g: np.ravel(g[0][key].values)[0]), key)
    samples = next((d for d, r in roles.items() if r == "samples"), "sample")
    return _concat(group, samples)


def _along_time(group: list[tuple[xr.Dataset, Path | str]], time: str) -> xr.Dataset:
    for (a, path_a), (b, path_b) in pairwise(group):
        end, start = np.ravel(a[time].values)[-1], np.ravel(b[time].values)[0]
        if not end < start:
            hint = "name only pieces that follow one another, or drop the overlap"
            raise FileError(str(path_b), f"times after the end of {_name(path_a)} ({end})", f"a start at {start}", hint)
    return _concat(group, time)


def _concat(group: list[tuple[xr.Dataset, Path | str]], dim: str) -> xr.Dataset:
    first, path = group[0]
    # Without an index per piece, the samples of two files are numbered anew rather than twice from zero.
    parts = [ds.drop_vars(dim) if dim in ds.dims and dim in ds.coords and _numbered(ds[dim]) else ds for ds, _ in group]
    along = {n for n in first.data_vars if dim in first[n].dims} or set(first.data_vars)
    try:
        return xr.concat(
            parts, dim, data_vars=list(along), coords="minimal", compat="override", join="exact", combine_attrs="drop_conflicts"
        )
    except ValueError as error:
        other = next((p for ds, p in group if _difference(first, ds, dim) != "other coordinates"), group[-1][1])
        odd = next(ds for ds, p in group if p == other)
        raise FileError(
            str(other),
            f"the coordinates of {_name(path)}",
            _difference(first, odd, dim),
            "bring the files to one grid, or read them one at a time",
        ) from error


def _numbered(c: xr.DataArray) -> bool:
    return c.dtype.kind in "iu" and bool((np.diff(c.values) == 1).all())


def _difference(a: xr.Dataset, b: xr.Dataset, but: str = "") -> str:
    for dim in a.dims:
        if dim == but or dim not in b.dims:
            continue
        if a.sizes[dim] != b.sizes[dim]:
            return f"{b.sizes[dim]} points along {dim} instead of {a.sizes[dim]}"
        if dim in a.coords and dim in b.coords and not a[dim].equals(b[dim]):
            return f"other values of {dim}"
    return "other coordinates"


def _drop_clashes(ds: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Without scalar coordinates that the other data set has with another value (the level a variable stands for)."""
    clash = [n for n, c in ds.coords.items() if c.ndim == 0 and n in other.coords and not c.equals(other[n])]
    return ds.drop_vars(clash)
