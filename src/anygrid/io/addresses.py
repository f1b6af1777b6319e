"""Data read by address: Zarr stores behind ``gs://``, ``s3://``, ``https://`` and what else fsspec knows."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import xarray as xr

from anygrid.errors import AnygridError, FileError, did_you_mean
from anygrid.io.readers_xarray import open_store

__all__ = ["is_address", "read_address"]

T = TypeVar("T")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
_ADDRESS = re.compile(rf"(?:{_SCHEME}::)*{_SCHEME}://")
_FILE = re.compile(r"\.(?:nc4?|cdf|netcdf|h5|hdf5?|gri?b2?|mat|np[yz]|pth?|zip|tar|gz)$", re.IGNORECASE)
_EXTRA = ("gcsfs", "s3fs", "aiohttp")
_PATIENCE = 60.0  # seconds for the first answer: gcsfs alone tries six times within 32 s, aiohttp waits 5 minutes for a silent server


@dataclass(frozen=True)
class _Found:
    """What tells a store: where its metadata are."""

    zarr_format: Literal[2, 3]
    consolidated: bool


def is_address(text: str) -> bool:
    """Whether a text is an address, ``gs://bucket/store.zarr`` or ``simplecache::gs://bucket/store.zarr``, and not a path."""
    return _ADDRESS.match(text) is not None


def read_address(address: str) -> xr.Dataset:
    """Open the Zarr store at an address, read-only and lazily; only metadata and coordinates are fetched.

    Access to ``gs`` and ``s3`` is anonymous, unless fsspec is configured for them (its files and environment variables).

    Parameters
    ----------
    address
        Of a store of format 2 or 3, consolidated or not. Schemes may be chained as fsspec chains them.

    Returns
    -------
    Dataset
        As :func:`anygrid.io.read` gives it for a store on disk.

    Raises
    ------
    FileError
        For a scheme that is unknown or whose package is not installed, a pattern, a server that does not answer within a minute,
        no permission, nothing there, a file that is no Zarr store, and a store that is damaged.
    """
    address = re.sub(r"(?<![:/])/+$", "", address.strip())
    schemes = _schemes(address)
    for scheme in schemes:
        _check_scheme(scheme, address)
    options = _options(schemes)
    try:
        return _read(address, options)
    except AnygridError:
        raise
    except Exception as error:
        # Network libraries, codecs and parsers raise nearly anything.
        raise _explained(error, address) from error


def _read(address: str, options: dict[str, dict[str, Any]]) -> xr.Dataset:
    import fsspec

    files, root = fsspec.core.url_to_fs(address, **options)
    found = _in_time(lambda: _look(files, root, address))
    if found is None:
        raise _nothing(files, root, address)
    store = _store(files, root, address, options)
    ds = open_store(store, address, consolidated=found.consolidated, zarr_format=found.zarr_format)
    if not ds.data_vars:
        hint = "name a store that holds fields"
        if not found.consolidated:
            hint = "the server may list no folders: ask for consolidated metadata (zarr.consolidate_metadata), or download the store"
        raise FileError(address, "at least one variable", "a Zarr store without any", hint)
    ds.encoding["source"] = address
    for variable in ds.variables.values():
        variable.encoding["source"] = address  # what fails later, chunk by chunk, is named by it
    return ds


def _store(files: Any, root: str, address: str, options: dict[str, dict[str, Any]]) -> Any:
    from zarr.storage import FsspecStore

    if "::" not in address:
        return FsspecStore.from_url(address, storage_options=options, read_only=True)
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    # A cache passes for as asynchronous as what lies behind it, but the two would wait in different loops.
    return FsspecStore(AsyncFileSystemWrapper(files, asynchronous=True), path=root, read_only=True)


def _schemes(address: str) -> list[str]:
    if any(c in address for c in "*?[") or "\0" in address:
        raise FileError(address, "the address of one store", "a pattern", "name each store; several addresses are combined")
    head = _ADDRESS.match(address)
    assert head is not None, "asked only for addresses"
    chain = head[0].removesuffix("://").split("::")
    # What follows the first path, as in zip://inner::https://..., is a chain too.
    return chain + [part.partition("://")[0] for part in address[head.end() :].split("::")[1:]]


def _check_scheme(scheme: str, address: str) -> None:
    import fsspec

    if scheme == "reference":
        # Its files are templates that are carried out, and may name any file of this machine.
        raise FileError(address, "an address of data", "references, which tell this machine what to open", "name the store itself")
    known = fsspec.available_protocols()
    if scheme not in known and scheme not in fsspec.registry:
        raise FileError(address, "a scheme that fsspec knows", repr(f"{scheme}://"), did_you_mean(scheme, known))
    if scheme in ("gs", "gcs"):
        # Else gcsfs asks over gRPC first what kind of bucket it is, for a minute and more where only https passes.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        missing = str(getattr(error.__cause__, "name", None) or "").partition(".")[0]
        hint = f'pip install {missing}, or all at once: pip install "anygrid[remote]"' if missing in _EXTRA else str(error)
        raise FileError(address, f"a package for {scheme}://", f"none ({missing or 'not installed'})", hint) from error
    # Without a handler of its own, a library's log of a failure (gcsfs: a traceback) goes to stderr; logging that was set up keeps it.
    logging.getLogger(kind.__module__.partition(".")[0]).addHandler(logging.NullHandler())


def _options(schemes: list[str]) -> dict[str, dict[str, Any]]:
    """Anonymous access where the user configured nothing: an option given here would win over fsspec's configuration."""
    from fsspec.config import conf

    out: dict[str, dict[str, Any]] = {}
    for names, option in ((("gs", "gcs"), {"token": "anon"}), (("s3", "s3a"), {"anon": True})):
        if not any(conf.get(name) for name in names):
            out |= {name: dict(option) for name in names if name in schemes}
    return out


def _in_time(ask: Callable[[], T]) -> T:
    """The answer, or ``TimeoutError``; whoever waits on is a daemon and does not keep the process."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer.result(timeout=_PATIENCE)


def _look(files: Any, root: str, address: str) -> _Found | None:
    """Ask for metadata, those of published stores first; ``None`` where there are none."""
    refused: Exception | None = None
    for name in (".zmetadata", "zarr.json", ".zgroup", ".zarray"):
        try:
            text = files.cat_file(f"{root}/{name}")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
        except Exception as error:
            if not _forbidden(error):
                raise
            # A bucket that may not be listed answers so for what is not there, too.
            refused = error
            continue
        content = _json(text, f"{address}/{name}")
        if name == ".zarray" or content.get("node_type") == "array":
            raise FileError(address, "a Zarr group", "a single array", "give the address of the group above it")
        consolidated = name == ".zmetadata" or content.get("consolidated_metadata") is not None
        return _Found(3 if name == "zarr.json" else 2, consolidated)
    if refused is not None:
        raise refused
    return None


def _json(text: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        got = "a web page" if text.lstrip()[:1] == b"<" else "other text"
        raise FileError(where, "metadata in JSON", got, "give the address of the store itself; it may be damaged")
    return content


def _nothing(files: Any, root: str, address: str) -> FileError:
    """Why there is no store: a single file, a folder of stores, or a name that is nearly right."""
    name, inside, beside = address.rpartition("/")[2], _names(files, root), _names(files, root.rpartition("/")[0])
    # What fsspec lists of a file is the file; a web server lists it beside others.
    if _FILE.search(name) or inside == [name] or (name in beside and not inside):
        return FileError(address, "a Zarr store", "a single file", "download it first: only Zarr stores are read by address")
    if inside:
        return FileError(address, "a Zarr store", "a folder without its metadata", did_you_mean("", inside))
    hint = did_you_mean(name, beside) if beside else "check the address; it must be that of the store itself"
    return FileError(address, "a Zarr store", "nothing of that name", hint)


def _names(files: Any, folder: str) -> list[str]:
    """What a folder holds, where the server says so."""
    try:
        entries = _in_time(lambda: files.ls(folder, detail=False))
    except Exception:
        return []  # only the hint becomes poorer
    names = [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]
    return [name for name in names if name and not set("?=#") & set(name)]


def _forbidden(error: BaseException) -> bool:
    """Whether a server refuses: libraries say it by type (s3fs), by a status (aiohttp, gcsfs) or in words (gcsfs)."""
    status = getattr(error, "status", getattr(error, "code", None))
    return isinstance(error, PermissionError) or str(status) in ("401", "403") or str(error).startswith("Forbidden")


def _explained(error: Exception, address: str) -> FileError:
    scheme = _schemes(address)[-1].upper()
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__} ({lines[0][:160].rstrip('.')})" if lines else type(error).__name__
    if _forbidden(error):
        hint = f"where it needs an account, configure fsspec: FSSPEC_{scheme}, see docs/interchange.md; else check the address"
        return FileError(address, "a store that may be read", f"no permission: {reason}", hint)
    if isinstance(error, TimeoutError):
        return FileError(address, "an answer", f"none within {_PATIENCE:g} s", "check the network and the address")
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    # zarr's own errors are of the kind FileNotFoundError: parts of a store that is there are not.
    remote = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    if remote or modules & {"aiohttp", "botocore", "gcsfs", "google", "requests", "fsspec"}:
        return FileError(address, "an answer", reason, "check the network and the address")
    return FileError(address, "a whole Zarr store", reason, "it may be damaged or half uploaded; choose another, or write it again")
