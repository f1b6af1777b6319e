"""A surrogate as a folder for any static web host: it runs in the reader's browser, and asks nothing of any other host.

The folder holds the page as it lies in this package (``page/``; none of its files depends on the surrogate), ``model.onnx``,
``surrogate.json`` (:mod:`anygrid.export.page_facts`), ``samples.bin`` (float32, little-endian, ``(sample, input, *space)``) and
onnxruntime-web. Names and units reach the page as JSON alone and are shown as text.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from importlib.resources import files
from pathlib import Path

import numpy as np

from anygrid.errors import FileError, UsageError
from anygrid.export.browser_runtime import RELEASE, Release
from anygrid.export.onnx_graph import onnx_bytes
from anygrid.export.page_facts import FORMAT, Array, page_facts
from anygrid.surrogate import Surrogate

__all__ = ["check_place", "write_page"]

_STATIC = (
    "index.html",
    "style.css",
    "icon.svg",
    "where.js",
    "app.js",
    "shared.js",
    "shown.js",
    "fields.js",
    "draw.js",
    "worker.js",
    "ort/LICENSE.txt",
)
_FACTS = "surrogate.json"


def check_place(folder: Path, overwrite: bool) -> None:
    """Refuse to write over anything but an empty folder or, with ``overwrite``, a page of ours, before any work is done.

    Raises
    ------
    FileError
        When the place is taken, or cannot be written.
    UsageError
        For the folder one is in.
    """
    where = f"-o {folder}"
    if folder.resolve() == Path.cwd():
        raise UsageError(where, "another folder than the one you are in", "that one", "for example -o page/")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileError(where, "a folder", "a link" if folder.is_symlink() else "a file", "choose another name")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise FileError(where, "a new or an empty folder", "one that holds something", "choose another name, or add --overwrite")
        _check_ours(folder, where)
    parent = folder.resolve().parent
    if not parent.is_dir():
        raise FileError(str(parent), "a folder to write into", "nothing of that name", f"create it first: mkdir -p {parent}")
    if not os.access(parent, os.W_OK):
        raise FileError(str(parent), "a folder that can be written", "no permission", "choose another folder")


def _check_ours(folder: Path, where: str) -> None:
    try:
        said = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise FileError(where, "a page of anygrid to overwrite", "a folder of other things", "choose another name")
    known = {*_STATIC, "ort", _FACTS, "model.onnx", "samples.bin", *(f"ort/{name}" for name in RELEASE.files)}
    others = sorted(name for p in folder.rglob("*") if (name := p.relative_to(folder).as_posix()) not in known)
    if others:
        got = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise FileError(where, "a page of anygrid and nothing else", got, "move these out of the folder, or choose another name")


def write_page(
    surrogate: Surrogate,
    folder: str | Path,
    runtime: dict[str, bytes],
    *,
    title: str = "",
    samples: Array | None = None,
    source: str = "",
    overwrite: bool = False,
    release: Release = RELEASE,
) -> float:
    """Write the page of ``surrogate``; the folder appears complete or not at all. Returns the difference that the check of ONNX found.

    Parameters
    ----------
    runtime
        Contents of onnxruntime-web's files: see :func:`anygrid.export.browser_runtime.runtime_files`.
    title
        Heading; by default the name of the folder.
    samples, source
        Inputs ``(sample, input, *space)`` on an even grid of any resolution that the page offers beside random ones, and where they
        are from.

    Raises
    ------
    UsageError
        For a surrogate that has no graph, is too large for a page or has four space dimensions.
    FileError
        When the place is taken or cannot be written, or onnxruntime computes something else than the surrogate.
    """
    folder = Path(folder)
    check_place(folder, overwrite)
    place = folder.resolve()
    said = page_facts(surrogate, title or place.name, samples, source)
    model, difference = onnx_bytes(surrogate, str(folder))
    contents = {name: _static(name) for name in _STATIC} | {f"ort/{name}": text for name, text in runtime.items()}
    contents["model.onnx"] = model
    if samples is not None:
        contents["samples.bin"] = np.ascontiguousarray(samples, dtype="<f4").tobytes()
    said["runtime"] = f"{release.package} {release.version}"
    said["sizes"] = {name: len(text) for name, text in sorted(contents.items())}
    contents[_FACTS] = json.dumps(said, indent=1, allow_nan=False).encode("ascii")
    _put(place, contents)
    return difference


def _static(name: str) -> bytes:
    return files("anygrid.export").joinpath("page", *name.split("/")).read_bytes()


def _put(place: Path, contents: dict[str, bytes]) -> None:
    """Write all files aside, then give the folder its name."""
    mark = uuid.uuid4().hex[:8]
    aside, old = place.with_name(f".{place.name}.{mark}.partial"), place.with_name(f".{place.name}.{mark}.old")
    try:
        for name, text in contents.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        if place.exists():
            place.rename(old)
        try:
            aside.rename(place)
        except BaseException:  # Ctrl-C too: the page that was there comes back
            if old.exists():
                old.rename(place)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        size = sum(map(len, contents.values()))
        hint = "free some space, or choose another folder"
        raise FileError(str(place), f"a folder with room for {size} bytes", error.strerror or str(error), hint) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
