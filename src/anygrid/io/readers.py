"""``read``: a file, folder or glob of any known format as one lazy data set. The kind is told by content, not by suffix."""

from __future__ import annotations

import glob
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import xarray as xr

from anygrid.errors import AnygridError, FileError, did_you_mean
from anygrid.io.addresses import is_address, read_address
from anygrid.io.combine import combine
from anygrid.io.readers_arrays import read_mat5, read_npy, read_npz, read_pt
from anygrid.io.readers_hdf5 import read_hdf5
from anygrid.io.readers_xarray import read_grib, read_netcdf3, read_zarr

__all__ = ["read"]

_READERS: dict[str, Callable[[Path], xr.Dataset]] = {
    "NetCDF 3": read_netcdf3,
    "HDF5": read_hdf5,
    "GRIB": read_grib,
    "MATLAB v5": read_mat5,
    "NumPy .npy": read_npy,
    "NumPy .npz": read_npz,
    "PyTorch .pt": read_pt,
    "Zarr": read_zarr,
}
_LOCAL = "file://"
_KNOWN = "NetCDF, Zarr, HDF5, GRIB, MATLAB, .npz, .npy and .pt files can be read"


def read(path: str | Path | Sequence[str | Path]) -> xr.Dataset:
    """Open data as one :class:`xarray.Dataset`, lazily where the format allows.

    Parameters
    ----------
    path
        A file, a Zarr store, a folder of files, a glob such as ``"data/*.nc"``, the address of a Zarr store such as
        ``"gs://bucket/store.zarr"`` (:func:`~anygrid.io.addresses.read_address`), or several of these. Several are joined along
        time if their times differ, along samples otherwise, and merged where they hold different variables.

    Returns
    -------
    Dataset
        With named dimensions. Formats without names (MATLAB, .npz, .npy, .pt) get ``sample``, ``time``, ``x``, ``y``, ``z`` where
        shapes and names leave no doubt, ``dim_0``, ``dim_1``... where they do.

    Raises
    ------
    FileError
        For a path that is missing or empty, a glob without matches, a folder without data, a truncated file, a file of
        an unknown kind, files that do not fit together, content that only running code could load, and an address that cannot be
        read.
    """
    parts = [path] if isinstance(path, str | Path) else path
    found = [piece for part in parts for piece in _expand(part)]
    if not found:
        raise FileError("read", "at least one path", "none", "name a file, a folder or a glob")
    if len(found) == 1:
        return _open(found[0])
    return combine([_open(piece) for piece in found], found)


def _expand(path: str | Path) -> Sequence[str | Path]:
    """Files and Zarr stores a path stands for, in natural order (2 before 10); an address stands for itself."""
    text = str(path)
    if is_address(text) and not text.startswith(_LOCAL):
        return [text]
    text = text.removeprefix(_LOCAL)
    # Unlike Path.expanduser it leaves a user who does not exist as text.
    direct = Path(os.path.expanduser(text))  # noqa: PTH111
    if not text.strip() or "\0" in text:
        raise FileError("read", "a path", repr(text), "name a file, a folder or a glob")
    try:
        exists = direct.exists()
    except OSError as error:
        raise FileError("read", "a path", error.strerror or "one the system refuses") from error
    if not exists and any(c in text for c in "*?["):
        found = [Path(p) for p in glob.glob(str(direct), recursive=True)]  # noqa: PTH207 - absolute patterns need glob.glob
        if not found:
            raise FileError(text, "files that match", "none", f"check the pattern and the folder (here is {Path.cwd()})")
        return sorted(found, key=_natural)
    if not exists:
        raise FileError(text, "a file or folder", "nothing of that name", _nearby(direct))
    if direct.is_dir() and not _is_zarr(direct):
        pieces = [
            p for p in direct.iterdir() if not p.name.startswith((".", "_")) and (_is_zarr(p) if p.is_dir() else _kind(p) is not None)
        ]
        if not pieces:
            raise FileError(text, "a folder with data files", "none that can be read", _KNOWN)
        return sorted(pieces, key=_natural)
    return [direct]


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(t)) if t.isdigit() else (1, t) for t in re.split(r"(\d+)", str(path)) if t]


def _nearby(path: Path) -> str:
    if is_address(str(path).replace(":/", "://", 1)):
        return "give an address as text: Path turns its // into /"
    parent = path.parent if path.parent.is_dir() else None
    return did_you_mean(path.name, (p.name for p in parent.iterdir())) if parent else f"there is no folder {str(path.parent)!r} either"


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zmetadata", ".zarray"))


def _kind(path: Path) -> str | None:
    """Format by the first bytes of the file."""
    if _is_zarr(path):
        return "Zarr"
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise FileError(str(path), "a readable file", error.strerror or "an error", "check its permissions") from error
    # HDF5 may begin after a user block of 512 bytes or more (MATLAB v7.3 keeps its own header there).
    if any(head[k : k + 8] == b"\x89HDF\r\n\x1a\n" for k in (0, 512, 1024, 2048)):
        return "HDF5"
    for start, kind in ((b"CDF", "NetCDF 3"), (b"GRIB", "GRIB"), (b"\x93NUMPY", "NumPy .npy"), (b"MATLAB 5.0", "MATLAB v5")):
        if head.startswith(start):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    # Before PyTorch 1.6 a .pt file was a bare pickle, protocol 2; it is only ever opened with weights_only.
    if head.startswith(b"\x80\x02") and path.suffix.lower() in (".pt", ".pth"):
        return "PyTorch .pt"
    return "GRIB" if b"GRIB" in head[:1024] and path.suffix.lower().startswith(".gr") else None


def _kind_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return {".npz": "NumPy .npz", ".pt": "PyTorch .pt", ".pth": "PyTorch .pt"}.get(path.suffix.lower(), "Zarr")
    if any(n.endswith(("zarr.json", ".zgroup", ".zarray")) for n in names):
        return "Zarr"
    if any(n.endswith("data.pkl") for n in names):
        return "PyTorch .pt"
    return "NumPy .npz" if names and all(n.endswith(".npy") for n in names) else None


def _open(path: str | Path) -> xr.Dataset:
    if isinstance(path, str):
        return read_address(path)
    where = str(path)
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(where, "data", "an empty file", "the download or the run that wrote it may have failed; write it again")
    kind = _kind(path)
    if kind is None:
        packed = path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".tar", ".zip", ".7z")
        hint = "unpack it first" if packed else _KNOWN
        raise FileError(where, "a known kind of data file", "another kind", hint)
    try:
        ds = _READERS[kind](path)
    except AnygridError:
        raise
    except Exception as error:
        # Parsers of foreign formats raise nearly anything on damaged bytes; all of it means the same to the user.
        raise FileError(
            where, f"a whole {kind} file", _reason(error), "the file may be truncated or damaged; copy or write it again"
        ) from error
    if not ds.data_vars:
        raise FileError(where, "at least one variable", f"a {kind} file without any", "choose a file that holds fields")
    ds.encoding["source"] = where
    return ds


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0][:160].rstrip(".") if lines else "no details"
    return f"{type(error).__name__} ({text})"
