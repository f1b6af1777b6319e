"""Formats that xarray reads by itself: NetCDF, Zarr, GRIB."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from anygrid.errors import FileError
from anygrid.io.naming import name_dimensions

__all__ = ["open_netcdf", "open_store", "read_grib", "read_netcdf3", "read_zarr"]


def read_netcdf3(path: Path) -> xr.Dataset:
    """NetCDF classic and 64-bit offset files through SciPy; the rarer 64-bit data format needs the netCDF4 package."""
    with path.open("rb") as file:
        version = file.read(4)[3:]
    if version == b"\x05":
        if importlib.util.find_spec("netCDF4") is None:
            raise FileError(
                str(path), "NetCDF 3 or 4", "the 64-bit data format (CDF-5)", "convert it with nccopy -k nc4, or pip install netCDF4"
            )
        return open_netcdf(path, "netcdf4")
    return open_netcdf(path, "scipy")


def open_netcdf(path: Path, engine: str, group: str | None = None) -> xr.Dataset:
    """Open a NetCDF file lazily; times of a calendar that cannot be decoded stay numbers with their units."""
    options: dict[str, Any] = {"engine": engine, "decode_timedelta": False, "group": group}
    if engine == "scipy":
        options.pop("group")
    try:
        return xr.open_dataset(path, **options)
    except (ImportError, ValueError) as error:
        if "time" not in str(error).lower():
            raise
        return xr.open_dataset(path, decode_times=False, **options)


def read_zarr(path: Path) -> xr.Dataset:
    """Zarr of format 2 or 3, a folder or a zip file. Arrays without dimension names get names by :func:`name_dimensions`."""
    import zarr

    if path.is_dir():
        store: Any = str(path)
        if (path / ".zarray").is_file():
            raise FileError(str(path), "a Zarr group", "a single array", "open the folder above it")
    else:
        _whole_zip(path)
        store = zarr.storage.ZipStore(path, mode="r")
    return open_store(store, str(path), consolidated=_consolidated(path))


def open_store(store: Any, where: str, *, consolidated: bool, zarr_format: Literal[2, 3] | None = None) -> xr.Dataset:
    """Open a Zarr store lazily, on disk or anywhere else; a format that is known saves requests for the other's metadata."""
    import zarr

    group = zarr.open_group(store, mode="r", zarr_format=zarr_format, use_consolidated=consolidated)
    arrays = {name: array for name, array in group.arrays() if array.ndim > 0}
    named = all(
        array.metadata.dimension_names if array.metadata.zarr_format == 3 else "_ARRAY_DIMENSIONS" in array.attrs
        for array in arrays.values()
    )
    if named:
        options: dict[str, Any] = {"chunks": None, "consolidated": consolidated, "zarr_format": zarr_format, "decode_timedelta": False}
        try:
            return xr.open_zarr(store, **options)
        except (ImportError, ValueError) as error:
            if "time" not in str(error).lower():
                raise
            return xr.open_zarr(store, decode_times=False, **options)
    from dask.array import from_array

    return name_dimensions({name: from_array(array, chunks=array.chunks) for name, array in arrays.items()}, where)


def _whole_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:  # raises BadZipFile for a truncated one
        archive.namelist()


def _consolidated(path: Path) -> bool:
    """Whether the store keeps its metadata in one place; asking for it where it is not costs a warning."""
    if path.is_dir():
        if (path / ".zmetadata").is_file():
            return True
        text = (path / "zarr.json").read_text() if (path / "zarr.json").is_file() else "{}"
    else:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if ".zmetadata" in names:
                return True
            text = archive.read("zarr.json").decode() if "zarr.json" in names else "{}"
    return json.loads(text).get("consolidated_metadata") is not None


def read_grib(path: Path) -> xr.Dataset:
    """GRIB 1 and 2 through cfgrib (an extra). Messages on several kinds of level become one data set with all variables.

    Nothing is written beside the file: cfgrib's index stays in memory.
    """
    if importlib.util.find_spec("cfgrib") is None:
        raise FileError(str(path), "the GRIB reader", "an installation without it", 'pip install "anygrid[grib]"')
    _whole_grib(path)
    import cfgrib

    parts = cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": "", "errors": "raise"}, decode_timedelta=False)
    out: dict[str, xr.DataArray] = {}
    for part in parts:
        level = next((str(v.attrs.get("GRIB_typeOfLevel", "")) for v in part.data_vars.values()), "")
        # A scalar coordinate such as heightAboveGround=2 differs from one variable to the next; as an attribute it does no harm.
        scalars = [str(n) for n, c in part.coords.items() if c.ndim == 0]
        for name, array in part.data_vars.items():
            label = str(name) if str(name) not in out else f"{name}_{level}"
            clean = array.drop_vars(scalars).assign_attrs({n: str(part[n].values) for n in scalars if n != "valid_time"})
            clash = [d for d in clean.dims if any(d in o.dims and not _same_index(o, clean, str(d)) for o in out.values())]
            out[label] = clean.rename({d: f"{d}_{label}" for d in clash})
    return xr.Dataset(out, attrs=parts[0].attrs if parts else {})


def _same_index(a: xr.DataArray, b: xr.DataArray, dim: str) -> bool:
    if dim not in a.coords or dim not in b.coords:
        return a.sizes[dim] == b.sizes[dim]
    return bool(a[dim].equals(b[dim]))


def _whole_grib(path: Path) -> None:
    """Walk from message to message, because the library skips a cut one and goes on with what is left.

    A message begins with ``GRIB``, carries its length (edition 1: 3 bytes at 4; edition 2: 8 bytes at 8) and ends with ``7777``
    (WMO Manual on Codes 306, FM 92, section 0).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096).find(b"GRIB")
        while 0 <= start < size:
            file.seek(start)
            head = file.read(4096)
            padding = len(head) - len(head.lstrip(b"\0 \r\n"))  # archives pad messages to whole records
            if padding:
                start += padding
                continue
            if head[:4] != b"GRIB":
                raise FileError(str(path), f"a GRIB message at byte {start}", "other bytes", "the file may be damaged; copy it again")
            length = int.from_bytes(head[8:16], "big") if head[7:8] == b"\x02" else int.from_bytes(head[4:7], "big")
            if length & 0x800000 and head[7:8] == b"\x01":
                return  # ECMWF's extension for messages beyond 8 MiB counts in units of 120; the library knows it
            file.seek(max(start, start + length - 4))
            if length < 20 or start + length > size or file.read(4) != b"7777":
                got = f"a message at byte {start} that ends early" if start + length > size else f"a damaged message at byte {start}"
                raise FileError(str(path), "whole GRIB messages", got, "the file may be truncated; copy it again")
            start += length
