"""Predictions for fields that do not fit into memory: from a lazily opened data set to a Zarr store, slab by slab."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import torch
import xarray as xr
from torch import Tensor

from anygrid.errors import GridError, UsageError
from anygrid.fields import grid_coordinates, restore, to_tensor
from anygrid.fields.coordinates import ascending
from anygrid.fields.variables import coordinate
from anygrid.grid import Box, Grid, Sphere
from anygrid.io.blocks import encode_chunk
from anygrid.io.working import WorkingFolder, disk_error
from anygrid.operators.streaming import Slabs, bytes_per_row, slab
from anygrid.surrogate.geometry import grid_to_json, snap
from anygrid.surrogate.model import Surrogate
from anygrid.surrogate.predict import Opened, open_inputs
from anygrid.surrogate.slabs import streamed

__all__ = ["identity", "parse_memory", "stream", "upwards"]

_CHUNK = 1 << 24  # bytes of a chunk of the output at most: what one kill loses, and what a reader reads at once
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def stream(
    surrogate: Surrogate,
    ds: xr.Dataset,
    out: str | Path,
    grid: Grid | None = None,
    *,
    memory: int | str = "1GB",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """As :func:`anygrid.surrogate.predict.predict`, without ever holding a whole field: the outputs go to a Zarr store.

    The values are those of ``predict`` to rounding. The output lies on ``(*sample and time, *space)`` with ascending coordinates, in
    chunks of some rows of the first space axis. The store is made as ``OUT.partial`` and gets its name when it is whole; interrupted
    at any moment, also by ``kill -9``, the same call continues and computes no finished slab again (what was gathered from the
    inputs of a sample is kept too: inputs that were changed meanwhile at the same place go unnoticed). Whether inputs resemble
    the training data is not examined: those statistics need whole fields.

    Parameters
    ----------
    ds
        Inputs, opened lazily (``xarray.open_zarr``, ``anygrid.read``); every slab is read ``1 + passes`` times at most.
    out
        Where the store goes.
    grid
        Where to evaluate the output, a grid with axes.
    memory
        Bytes, or text such as ``"500MB"``, for the slabs at work; the interpreter and the surrogate come on top (about 0.5 GB).
    overwrite
        Replace a finished or unfinished store that anygrid wrote.
    progress
        Called with slabs done and slabs in all.

    Raises
    ------
    DataError, GridError
        As ``predict``; and for what cannot be streamed (:func:`anygrid.surrogate.slabs.streamed`), scattered points among it.
    UsageError
        For an operator other than LatentFNO and FNO, an imposed ball or highest wave, and memory too small for one row.
    FileError
        When something else is at ``out``, or another process is at work there, or the disk is full.
    """
    path = Path(out)
    given = open_inputs(surrogate, ds, "stream")
    target = given.grid if grid is None else snap(grid, surrogate.grid, "stream: output grid")
    if not isinstance(given.grid, Box | Sphere) or not isinstance(target, Box | Sphere):
        hint = "interpolate to a grid with axes, or use predict, which holds all points in memory"
        raise GridError("stream", "grids with axes", "scattered points", hint)
    task = _task(given, target, parse_memory(memory))
    folder = WorkingFolder(path, _request(surrogate, task), overwrite=overwrite)
    if folder.finished():
        return path
    done = 0
    training = surrogate.training
    surrogate.eval()
    try:
        with folder.alone(), torch.inference_mode():
            if not folder.begin():
                folder.create(_skeleton(task, folder.request), {v.name: task.chunk for v in surrogate.outputs})
            for place in product(*(range(task.data.sizes[d]) for d in given.leading)):
                for _ in _sample(task, folder, place):
                    done += 1
                    if progress:
                        progress(done, task.slabs)
            folder.give_name()
    except OSError as error:
        raise disk_error(error, path, f"{done} of {task.slabs} slabs") from error
    finally:
        surrogate.train(training)
    return path


def parse_memory(memory: int | str) -> int:
    """Bytes in a number or in text such as ``2GB``, ``500 MB``, ``1.5GiB``.

    Raises
    ------
    UsageError
        For anything else, and for zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B|)\s*", str(memory).upper())
    if found is None or found[2] not in _UNITS | {"B": 1} or float(found[1]) <= 0:
        raise UsageError("memory", "a number of bytes above 0, such as 2GB or 500MB", repr(memory), "write memory='2GB'")
    return int(float(found[1]) * (_UNITS | {"B": 1})[found[2]])


@dataclass(frozen=True, eq=False)
class _Task:
    given: Opened
    data: xr.Dataset  # ascending along all space axes
    target: Box | Sphere
    read_rows: int
    rows: int

    @property
    def chunk(self) -> tuple[int, ...]:
        return (*(1 for _ in self.given.leading), min(self.rows, self.target.shape[0]), *self.target.shape[1:])

    @property
    def parts(self) -> int:
        """Slabs of one sample."""
        return -(-self.target.shape[0] // self.rows)

    @property
    def slabs(self) -> int:
        return self.parts * int(np.prod([self.data.sizes[d] for d in self.given.leading]))


def _task(given: Opened, target: Box | Sphere, memory: int) -> _Task:
    source = given.grid
    assert isinstance(source, Box | Sphere)
    row = bytes_per_row(given.surrogate.operator, source, target, 4)
    if row > memory:
        hint = f"give at least {-(-row // 10**6)}MB, or put the shorter axes after the first"
        raise UsageError("memory", f"room for one row along {source.dims[0]!r}, {row:,} bytes", f"{memory:,}", hint)
    most = memory // row
    written = 4 * target.size // target.shape[0]
    return _Task(
        given, upwards(given.data, source), target, min(most, source.shape[0]), max(1, min(most, _CHUNK // written, target.shape[0]))
    )


def _sample(task: _Task, folder: WorkingFolder, place: tuple[int, ...]) -> Any:
    """Compute and write the slabs of one sample; yields once for each, those found finished included."""
    surrogate, n = task.given.surrogate, task.target.shape[0]
    keys = {p: ".".join(map(str, (*place, p, *(0 for _ in task.target.shape[1:])))) for p in range(task.parts)}
    finished = [p for p, key in keys.items() if all((folder.store / v.name / key).exists() for v in surrogate.outputs)]
    yield from finished
    if len(finished) == task.parts:
        return
    note = folder.partial / f"gathered-{'-'.join(map(str, place))}"
    known = None
    if note.exists():
        known = tuple(t.to(surrogate.in_mean.device) for t in torch.load(io.BytesIO(note.read_bytes()), weights_only=True))
    result = streamed(surrogate, _field(task, place), task.target, known)
    if known is None:
        held = io.BytesIO()
        torch.save([t.cpu() for t in result.gathered], held)
        folder.write(note, held.getvalue())
    for p in sorted(keys.keys() - set(finished)):
        u = result.rows(p * task.rows, min((p + 1) * task.rows, n)).float().cpu().numpy()
        for k, v in enumerate(surrogate.outputs):
            folder.write(folder.store / v.name / keys[p], encode_chunk(u[:, k].reshape(*(1 for _ in place), *u.shape[2:]), task.chunk))
        yield p


def _field(task: _Task, place: tuple[int, ...]) -> Slabs:
    """The inputs of one sample, read as they are asked for."""
    given, grid = task.given, task.given.grid
    assert isinstance(grid, Box | Sphere)
    one = task.data.isel({d: slice(k, k + 1) for d, k in zip(given.leading, place, strict=True)})
    device = given.surrogate.in_mean.device

    def read(start: int, stop: int) -> Tensor:
        part = one.isel({grid.dims[0]: slice(start, stop)})
        return to_tensor(part, given.surrogate.inputs, given.layout, slab(grid, start, stop)).to(device)

    return Slabs(grid, read, task.read_rows)


def _skeleton(task: _Task, request: dict[str, Any]) -> xr.Dataset:
    """The outputs without their values: names, units and coordinates as ``predict`` gives them."""
    given, target = task.given, task.target
    shape = (*(task.data.sizes[d] for d in given.leading), *target.shape)
    dims = (*given.leading, *target.dims)
    coords: dict[str, Any] = {name: c for name, c in given.leading.items() if c is not None}
    coords |= grid_coordinates(target)
    fields = {}
    for v in given.surrogate.outputs:
        attrs = {key: text for key, text in (("units", v.units), ("long_name", v.long_name), ("standard_name", v.standard_name)) if text}
        fields[v.name] = xr.Variable(dims, dask.array.zeros(shape, chunks=task.chunk, dtype=np.float32), attrs)
    attributes = {"Conventions": "CF-1.11", "source": f"anygrid surrogate ({type(given.surrogate.operator).__name__})"}
    attributes["request"] = json.dumps(request)
    if given.surrogate.dt is not None:
        attributes["lead_time"] = given.surrogate.dt
    out = xr.Dataset(fields, coords, attributes)
    out = restore(out, task.data) if target == given.grid else out
    for c in out.coords.values():
        c.encoding.clear()  # chunks and filters of the file the coordinate came from
    return out


def _request(surrogate: Surrogate, task: _Task) -> dict[str, Any]:
    """What decides the bytes of the store, as far as it can be told without reading the fields."""
    return {"kind": "prediction", **identity(surrogate, task.data, task.target), "rows": [task.read_rows, task.rows]}


def identity(surrogate: Surrogate, ds: xr.Dataset, target: Grid) -> dict[str, str]:
    """Hashes of a surrogate, of a data set as far as it is known without its fields, and of a grid."""
    weights = hashlib.sha256(json.dumps([repr(surrogate.statistics), repr(surrogate.imposed), surrogate.increment]).encode())
    for name, value in surrogate.state_dict().items():
        weights.update(name.encode() + np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    data = hashlib.sha256()
    for key, c in (*ds.coords.items(), *ds.data_vars.items()):
        data.update(f"{key} {c.dims} {c.shape} {c.dtype} {c.encoding.get('source', '')}".encode())
        data.update(np.ascontiguousarray(c.values).astype(str).tobytes() if key in ds.coords and c.ndim < 2 else b"")
    grid = hashlib.sha256(json.dumps(grid_to_json(target)).encode())
    return {"surrogate": weights.hexdigest()[:16], "inputs": data.hexdigest()[:16], "grid": grid.hexdigest()[:16]}


def upwards(data: xr.Dataset, grid: Box | Sphere) -> xr.Dataset:
    """The data with ascending coordinates along all space axes."""
    turned = {d: slice(None, None, -1) for d in grid.dims if ascending(coordinate(data, d), d, data.sizes[d])[1]}
    return data.isel(turned)
