"""HDF5 by what is inside: NetCDF 4, The Well, PDEBench, MATLAB v7.3, or bare arrays. Fields stay on disk until used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from dask.array import from_array, stack

from anygrid.errors import FileError, did_you_mean
from anygrid.io.naming import name_dimensions
from anygrid.io.readers_xarray import open_netcdf

__all__ = ["read_hdf5"]

_CHUNK = 2**24  # bytes read at a time where the file has no chunks of its own


def read_hdf5(path: Path) -> xr.Dataset:
    """Open an HDF5 file of any of the known layouts.

    Raises
    ------
    FileError
        For groups without arrays, and a NetCDF file whose variables lie in several groups.
    """
    file = h5py.File(path, "r")
    names = set(file)
    if "t0_fields" in names or {"dimensions", "boundary_conditions"} <= names:
        return _the_well(file, path)
    if file.userblock_size and _starts_with(path, b"MATLAB"):
        return name_dimensions(_matlab_arrays(file), str(path))
    if "_NCProperties" in file.attrs or _has_scales(file):
        file.close()
        return _netcdf4(path)
    if names and all(isinstance(file[n], h5py.Group) and "data" in file[n] for n in names):
        return _pdebench_groups(file, path)
    if "tensor" in names or any(n.endswith("-coordinate") for n in names) or {"velocity", "t"} <= names:
        return _pdebench(file, path)
    return name_dimensions(_bare_arrays(file), str(path))


def _starts_with(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _lazy(data: h5py.Dataset) -> Any:
    """Dask view of an HDF5 dataset, in its own chunks or in rows of about 16 MiB."""
    if data.ndim == 0:
        return data[()]
    row = max(1, int(np.prod(data.shape[1:])) * data.dtype.itemsize)
    rows = max(1, _CHUNK // row)
    if data.chunks:
        # Many published files are chunked in small blocks; whole multiples of them cost fewer tasks.
        rows = max(1, rows // data.chunks[0]) * data.chunks[0]
    return from_array(data, chunks=(min(rows, max(1, data.shape[0])), *data.shape[1:]), name=False)


def _has_scales(file: h5py.File) -> bool:
    return any(
        isinstance(d, h5py.Dataset) and ("DIMENSION_LIST" in d.attrs or d.attrs.get("CLASS") == b"DIMENSION_SCALE") for d in file.values()
    )


def _netcdf4(path: Path) -> xr.Dataset:
    ds = open_netcdf(path, "h5netcdf")
    if ds.data_vars:
        return ds
    with h5py.File(path, "r") as file:
        groups = [n for n, g in file.items() if isinstance(g, h5py.Group)]
    ds.close()
    if len(groups) == 1:
        return open_netcdf(path, "h5netcdf", groups[0])
    if groups:
        hint = f"open one in Python: xarray.open_dataset({str(path)!r}, group={groups[0]!r})"
        raise FileError(str(path), "variables in the root group", f"groups {', '.join(groups[:8])}", hint)
    return ds


def _matlab_arrays(file: h5py.File) -> dict[str, Any]:
    """Arrays of a MATLAB v7.3 file with MATLAB's order of axes: it stores columns first, so HDF5 sees them reversed."""
    numeric = {n: d for n, d in file.items() if isinstance(d, h5py.Dataset) and d.dtype.kind in "fiub" and "MATLAB_empty" not in d.attrs}
    return {n: _lazy(d).T for n, d in numeric.items() if d.ndim > 0}


def _bare_arrays(file: h5py.File) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiubc" and item.ndim > 0:
            found[name.replace("/", "_")] = _lazy(item)

    file.visititems(visit)
    return found


# The Well: https://github.com/PolymathicAI/the_well, docs/data_format.md


def _the_well(file: h5py.File, path: Path) -> xr.Dataset:
    """The Well: fields of tensor order 0 to 2 in ``t0_fields`` ... ``t2_fields``, each (trajectory, time, *space, *components)."""
    dims = [_text(d) for d in file["dimensions"].attrs["spatial_dims"]]
    fields: dict[str, Any] = {}
    for order in range(3):
        group = file.get(f"t{order}_fields")
        for name, data in group.items() if group is not None else ():
            own = _well_dims(data, dims, path)
            array = _lazy(data)
            parts = data.shape[len(own) :]
            for index in np.ndindex(*parts):
                fields[_component(name, index, parts, dims)] = (own, array[(..., *index)] if parts else array)
    scalars = file.get("scalars")
    for name, data in scalars.items() if scalars is not None else ():
        own = _well_dims(data, [], path)
        values = np.asarray(data[()]).squeeze() if not own else data[()]
        if np.ndim(values) == len(own):
            fields[name] = (own, values)
    coords: dict[str, Any] = {
        d: (d, file["dimensions"][d][()], {"periodic": int(_well_periodic(file, d))}) for d in dims if file["dimensions"][d].ndim == 1
    }
    for d in set(dims) - set(coords):
        raise FileError(
            str(path),
            f"coordinate {d!r} along one dimension",
            f"{file['dimensions'][d].ndim} dimensions",
            "grids that move are not supported",
        )
    time = file["dimensions"].get("time")
    if time is not None and any("time" in own for own, _ in fields.values()):
        values = time[()]
        same = values.ndim == 1 or bool((values == values[:1]).all())
        if same:
            coords["time"] = ("time", values if values.ndim == 1 else values[0], {"axis": "T"})
    return xr.Dataset(fields, coords, {"title": _text(file.attrs.get("dataset_name", path.stem))})


def _well_dims(data: h5py.Dataset, dims: list[str], path: Path) -> tuple[str, ...]:
    varies = [bool(v) for v in np.atleast_1d(data.attrs.get("dim_varying", [True] * len(dims)))]
    lead = [name for name, key in (("sample", "sample_varying"), ("time", "time_varying")) if bool(data.attrs.get(key, True))]
    own = (*lead, *(d for d, v in zip(dims, varies, strict=False) if v))
    if not dims:
        return tuple(lead) if data.ndim == len(lead) else ()
    if data.ndim < len(own):
        raise FileError(
            str(path),
            f"dimensions {', '.join(own)} of {data.name}",
            f"{data.ndim} dimensions",
            "the file does not follow The Well's layout",
        )
    return own


def _component(name: str, index: tuple[int, ...], parts: tuple[int, ...], dims: list[str]) -> str:
    if not index:
        return name
    labels = [dims[i] if n == len(dims) else str(i) for i, n in zip(index, parts, strict=True)]
    return f"{name}_{''.join(labels) if all(len(x) == 1 for x in labels) else '_'.join(labels)}"


def _well_periodic(file: h5py.File, dim: str) -> bool:
    for group in file.get("boundary_conditions", {}).values():
        if (
            dim in [_text(d) for d in np.atleast_1d(group.attrs.get("associated_dims", []))]
            and _text(group.attrs.get("bc_type", "")).lower() == "periodic"
        ):
            return True
    return False


# PDEBench: https://github.com/pdebench/PDEBench, pdebench/models/fno/utils.py and data_download/visualize_pdes.py


def _pdebench(file: h5py.File, path: Path) -> xr.Dataset:
    """PDEBench in one block: ``tensor``, or ``density``, ``pressure``, ``Vx``..., each (sample, time, *space)."""
    axes = {d: file[f"{d}-coordinate"][()] for d in "xyz" if f"{d}-coordinate" in file}
    time = next((file[n][()] for n in ("t-coordinate", "t") if n in file), None)
    data = {
        n: d
        for n, d in file.items()
        if isinstance(d, h5py.Dataset) and d.dtype.kind in "fiu" and not n.endswith("-coordinate") and n != "t"
    }
    space = len(axes) or max((d.ndim for d in data.values()), default=0) - 3
    sizes: dict[str, int] = {d: len(x) for d, x in axes.items()}
    fields: dict[str, Any] = {}
    # Largest first: they fix the sizes of sample and time, by which the smaller ones are told apart.
    for name, d in sorted(data.items(), key=lambda item: -item[1].ndim):
        if d.ndim == 1 or not 1 <= space <= 3:
            fields[name] = (("sample",) if d.ndim == 1 else tuple(f"{name}_dim_{k}" for k in range(d.ndim)), _lazy(d))
            continue
        own = _pdebench_dims(d.shape, tuple("xyz"[:space]), sizes)
        if own is None:
            raise FileError(
                str(path), f"{name} as (sample, time, {', '.join('xyz'[:space])})", f"shape {d.shape}", did_you_mean(name, file)
            )
        array = _lazy(d)
        if d.ndim > len(own):
            for c in range(d.shape[-1]):
                label = "xyz"[c] if d.shape[-1] == space else str(c)
                fields[name if d.shape[-1] == 1 else f"{name}_{label}"] = (own, array[..., c])
        elif "time" in own and d.shape[1] == 1:
            fields[name] = (tuple(x for x in own if x != "time"), array[:, 0])  # a steady solution kept as one time
        else:
            fields[name] = (own, array)
    return _with_axes(fields, axes, time)


def _pdebench_dims(shape: tuple[int, ...], space: tuple[str, ...], sizes: dict[str, int]) -> tuple[str, ...] | None:
    """Dimensions of an array, which may lack time and may end in components."""
    for own in (("sample", "time", *space), ("sample", *space)):
        fits = all(sizes.get(d, n) == n for d, n in zip(own, shape, strict=False))
        if len(own) <= len(shape) <= len(own) + 1 and fits and (len(shape) == len(own) or shape[-1] <= 6):
            for d, n in zip(own, shape, strict=False):
                sizes.setdefault(d, n)
            return own
    return None


def _pdebench_groups(file: h5py.File, path: Path) -> xr.Dataset:
    """PDEBench in one group a sample: ``0000/data`` (time, *space, component) beside ``0000/grid/x``, ``y``, ``t``."""
    groups = [file[n] for n in sorted(file)]
    shapes = {g["data"].shape for g in groups}
    if len(shapes) != 1 or len(next(iter(shapes))) < 3:
        hint = "split the file by shape, or save it as NetCDF"
        raise FileError(str(path), "samples (time, x, ..., component) of one shape", f"shapes {sorted(shapes)[:3]}", hint)
    parts, space = next(iter(shapes))[-1], len(next(iter(shapes))) - 2
    whole = stack([from_array(g["data"], chunks=-1, name=False) for g in groups])
    own = ("sample", "time", *"xyz"[:space])
    fields = {("data" if parts == 1 else f"data_{c}"): (own, whole[..., c]) for c in range(parts)}
    grid = groups[0].get("grid", {})
    return _with_axes(fields, {d: grid[d][()] for d in "xyz"[:space] if d in grid}, grid["t"][()] if "t" in grid else None)


def _with_axes(fields: dict[str, Any], axes: dict[str, Any], time: Any) -> xr.Dataset:
    ds = xr.Dataset(fields)
    coords: dict[str, Any] = {d: (d, x) for d, x in axes.items() if d in ds.dims and ds.sizes[d] == len(x)}
    if time is not None and "time" in ds.dims:
        time = time[0] if time.ndim == 2 else time
        # Finite-volume files list the ends of the time steps, one more than there are states.
        if len(time) >= ds.sizes["time"]:
            coords["time"] = ("time", time[: ds.sizes["time"]], {"axis": "T"})
    return ds.assign_coords(coords)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
