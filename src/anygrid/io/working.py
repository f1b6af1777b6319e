"""The folder in which a Zarr store is made piece by piece, so that it can be interrupted anywhere and continued.

While it is made, a store for PATH lives in ``PATH.partial``; it gets its name when it is whole, so that an unfinished store
is never taken for a finished one::

    PATH.partial/request.json   what is being made; only the same request continues it
    PATH.partial/store/         the Zarr store, chunks added one by one (written aside, then renamed)
    PATH.partial/staging/       files being written
    PATH.partial/lock           held while a process works here
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xarray as xr

from anygrid.errors import FileError
from anygrid.io.blocks import COMPRESSOR, FILTER, write_atomically

__all__ = ["WorkingFolder", "disk_error"]

Chunks = Mapping[str, tuple[int, ...]]
_FULL = (errno.ENOSPC, errno.EDQUOT)


class WorkingFolder:
    """Working folder of the store at ``path``, for one request (JSON-able; it decides the bytes of the store).

    Parameters
    ----------
    overwrite
        Whether a finished store of another request, or an unfinished one, may be replaced.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path, self.overwrite = path, overwrite
        self.request: dict[str, Any] = json.loads(json.dumps(request, default=repr))
        self.partial = path.with_name(path.name + ".partial")
        self.store, self.staging = self.partial / "store", self.partial / "staging"

    def finished(self) -> bool:
        """Whether ``path`` already holds what is asked for.

        Raises
        ------
        FileError
            When it holds anything else that is not to be replaced; what anygrid did not write is never replaced.
        """
        if not self.path.exists():
            return False
        found = None
        if (self.path / ".zattrs").is_file():
            with suppress(ValueError, KeyError, TypeError):
                found = json.loads(json.loads((self.path / ".zattrs").read_text())["request"])
        if found is None:
            what = "a Zarr store that anygrid did not write" if (self.path / ".zgroup").exists() else "something else"
            raise FileError(str(self.path), "a free path", what, "choose another path; overwrite replaces only what anygrid wrote")
        if self.overwrite:
            return False
        if found != self.request:
            got = f"the result of another request: {_changes(found, self.request)}"
            raise FileError(str(self.path), "a free path", got, "choose another path, or overwrite it")
        if self.partial.exists() and not self.store.exists():
            # Killed between giving the store its name and cleaning up.
            with suppress(FileError), self.alone():
                shutil.rmtree(self.partial, ignore_errors=True)
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder and hold its lock, which the system releases when the process ends, however it ends."""
        self.partial.mkdir(parents=True, exist_ok=True)
        with (self.partial / "lock").open("w") as lock:
            if os.name == "posix":
                import fcntl  # not on Windows, where two runs into one folder are the user's own affair

                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    got = "one that another process is filling"
                    raise FileError(str(self.partial), "a folder nobody else writes to", got, "wait for it to end") from error
            yield

    def begin(self) -> bool:
        """Write the request down, or check that it is the one noted there; whether the store is there already.

        Raises
        ------
        FileError
            When the folder was begun with another request.
        """
        note = self.partial / "request.json"
        if note.exists():
            found = json.loads(note.read_text())
            if found != self.request and not self.overwrite:
                hint = f"repeat the first request, remove {self.partial}, or overwrite it"
                raise FileError(str(self.partial), "the request it was begun with", f"another one: {_changes(found, self.request)}", hint)
            if found != self.request:
                for entry in self.partial.iterdir():
                    if entry.is_dir():
                        shutil.rmtree(entry, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()
        self.write(note, json.dumps(self.request, indent=1).encode())
        return self.store.exists()

    def create(self, skeleton: xr.Dataset, chunks: Chunks, inside: Mapping[str, tuple[xr.Dataset, Chunks]] | None = None) -> None:
        """Write the store without the values of the (dask-backed, float32) variables named in ``chunks``.

        Zarr format 2, whose specification has consolidated metadata and which every Zarr reader knows. Each of ``inside`` becomes a store
        of its own in a folder of that name.
        """
        aside = self.staging / "store"
        _write_skeleton(skeleton.assign_attrs(request=json.dumps(self.request)), chunks, aside)
        for name, (other, its_chunks) in (inside or {}).items():
            _write_skeleton(other, its_chunks, aside / name)
        aside.rename(self.store)

    def write(self, target: Path, data: bytes) -> None:
        """Write a file of the folder whole or not at all."""
        write_atomically(target, data, self.staging)

    def add_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes to the store, in both places where Zarr keeps them."""
        own = json.loads((self.store / ".zattrs").read_text()) | dict(attributes)
        consolidated = json.loads((self.store / ".zmetadata").read_text())
        consolidated["metadata"][".zattrs"] = own
        self.write(self.store / ".zattrs", json.dumps(own, indent=1).encode())
        self.write(self.store / ".zmetadata", json.dumps(consolidated, indent=1).encode())

    def give_name(self) -> None:
        """Move the finished store to its path; one that is replaced goes only now."""
        if self.path.exists():
            self.path.rename(self.partial / "replaced")
        self.store.rename(self.path)
        shutil.rmtree(self.partial, ignore_errors=True)


def _write_skeleton(skeleton: xr.Dataset, chunks: Chunks, path: Path) -> None:
    encoding: dict[str, dict[str, Any]] = {
        str(name): {"compressors": None, "_FillValue": None} for name in skeleton.variables if name not in chunks
    }
    encoding |= {name: {"chunks": c, "compressors": COMPRESSOR, "filters": [FILTER], "_FillValue": None} for name, c in chunks.items()}
    skeleton.to_zarr(path, mode="w", compute=False, consolidated=True, zarr_format=2, encoding=encoding)


def disk_error(error: OSError, path: Path, kept: str) -> FileError:
    """What to tell a user whose disk is full or refuses to be written."""
    if error.errno in _FULL:
        hint = "free some space and run the same command again: it continues where it stopped"
        return FileError(str(path), "room on the disk", f"a full disk; {kept} are kept", hint)
    return FileError(str(path), "a place that can be written", f"{type(error).__name__}: {error.strerror or error}", "choose another path")


def _changes(found: dict[str, Any], request: dict[str, Any]) -> str:
    """Where two requests differ: ``seed 1 asked, 0 there``."""

    def flat(tree: dict[str, Any]) -> dict[str, Any]:
        return {k: v for key, value in tree.items() for k, v in (value.items() if isinstance(value, dict) else [(key, value)])}

    here, there = flat(request), flat(found)
    return "; ".join(f"{k} {here.get(k)} asked, {there.get(k)} there" for k in here | there if here.get(k) != there.get(k))
