"""Files the command line writes: whole or not at all, and never over another without ``--overwrite``."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anygrid.errors import AnygridError, FileError, UsageError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_new", "check_writable", "data_suffix", "disk_errors", "refuse_address", "write_dataset"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:(?:/|$)")  # as a Path leaves it
_NETCDF, _ZARR = (".nc", ".nc4", ".netcdf", ".cdf"), (".zarr",)


def data_suffix(path: Path) -> str:
    """``netcdf`` or ``zarr``.

    Raises
    ------
    UsageError
        For another suffix.
    """
    if path.suffix.lower() in _NETCDF:
        return "netcdf"
    if path.suffix.lower() in _ZARR:
        return "zarr"
    raise UsageError(f"-o {path}", "a file name that ends in .nc or .zarr", repr(path.name), "for example -o out.nc")


def refuse_address(path: Path) -> None:
    """Refuse to write to ``gs://...``: what is written appears whole under its name, and an object store cannot rename.

    Raises
    ------
    FileError
        For a path that was an address, unless a folder has such a name.
    """
    if _ADDRESS.match(str(path)) and not Path(path.parts[0]).exists():
        address = str(path).replace(":/", "://", 1)
        raise FileError(address, "a path on this machine", "an address", "addresses are only read from: write here, then copy it there")


def check_new(path: Path, overwrite: bool) -> None:
    """Refuse to write over something, and folders that are not there, before any work is done.

    Raises
    ------
    FileError
        When ``path`` is an address, exists and may not be overwritten, or its folder cannot be written.
    """
    refuse_address(path)
    if path.exists() and not overwrite:
        raise FileError(str(path), "a free path", "something that is there already", "choose another name, or add --overwrite")
    if path.exists() and path.is_dir() != (path.suffix.lower() in _ZARR):
        kind = "a folder" if path.is_dir() else "a file"
        raise FileError(str(path), "a path to overwrite of the same kind", kind, "choose another name")
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """Make sure of a folder that can be written; it is not made here.

    Raises
    ------
    FileError
        When it is missing, an address, no folder, or may not be written.
    """
    refuse_address(folder)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing of that name"
        raise FileError(str(folder), "a folder to write into", what, f"create it first: mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise FileError(str(folder), "a folder that can be written", "no permission", "choose another folder")


def write_dataset(ds: xr.Dataset, path: Path, overwrite: bool) -> None:
    """Write a data set as NetCDF or Zarr; the name appears only when everything is on disk.

    Raises
    ------
    FileError
        When something is there already, or the disk is full.
    """
    kind = data_suffix(path)
    check_new(path, overwrite)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with disk_errors(path):
            if kind == "netcdf":
                ds.to_netcdf(aside, engine="h5netcdf")
            else:
                ds.to_zarr(aside, mode="w", consolidated=True, zarr_format=2)
            if path.is_dir():
                old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
                path.rename(old)
                aside.rename(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                aside.replace(path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about disks and permissions into an error with a hint."""
    try:
        yield
    except AnygridError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FileError(str(path), "room on the disk", "a full disk", "free some space and run the same command again") from error
        raise FileError(str(path), "a place that can be written", error.strerror or str(error), "choose another path") from error
