"""One long run of the weather model as a Zarr store: fields on levels of pressure, and whole states to start again from.

The run goes on from file to file: a chunk of days is written, then the state at its end, so that a run killed at any moment continues with
the last chunk and the bytes are those of a run undisturbed. The states stand in a store of their own inside the first, ``restarts``.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import FileError, UsageError
from anygrid.fields import grid_coordinates
from anygrid.io.blocks import encode_chunk
from anygrid.io.working import WorkingFolder, disk_error
from anygrid.problems.engine_messages import Arrays, receive, send
from anygrid.problems.speedy import GRID, Speedy
from anygrid.problems.speedy_engine import Engine, SpeedyState, jcm_version
from anygrid.problems.speedy_fields import FORCINGS, STATIC, diagnose, forcing, variable

__all__ = ["generate_weather", "restart_from", "restart_times"]

DAY = np.timedelta64(86400, "s")
_NEXT, _RESTARTS, _TIME = "states/next", "restarts", "restart"
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class _Run:
    """A request in numbers: frames a day, days of the run and of a chunk, and the names of what is written."""

    problem: Speedy
    names: tuple[str, ...]
    days: int
    chunk: int
    seed: int
    restart_days: int

    @property
    def start(self) -> np.datetime64:
        return np.datetime64(self.problem.start, "s")

    @property
    def spin_up(self) -> int:
        return self.problem.spin_up

    @property
    def frames(self) -> int:
        return round(86400 / self.problem.dt)

    @property
    def moving(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in STATIC)

    @property
    def restarts(self) -> int:
        return self.days // self.restart_days + 1

    def times(self, first: int, count: int) -> NDArray[Any]:
        """Times of ``count`` frames, the first at the beginning of day ``first``."""
        return self.start + first * DAY + np.arange(count) * np.timedelta64(round(self.problem.dt), "s")


def generate_weather(
    problem: Speedy,
    days: int,
    path: str | Path,
    *,
    seed: int = 0,
    chunk_days: int = 30,
    restart_days: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Run the weather model and write its fields every ``problem.dt`` to a Zarr store that ``xarray.open_zarr`` reads.

    The run starts ``problem.spin_up`` days before ``problem.start`` with air at rest and a little noise; that time is thrown away.
    Frames are written from ``problem.start`` on, each at its time (``datetime64``), ``days`` days of them. The same call continues a run
    that was killed; the bytes are then those of an undisturbed run. Called again on a finished store it returns at once.

    ``path/restarts`` is a store of states, one every ``restart_days`` days and one for the end: see :func:`restart_from`.

    Parameters
    ----------
    problem
        Its ``variables`` are written: short names as ``z500``, ``t850`` (any pressure from 30 to 1000 hPa), ``t2m``, ``msl``, ``sp``, and
        the boundary data ``toa_radiation``, ``sst``, ``siconc``; ``orography`` and ``land_sea_mask`` are always there.
    seed
        Decides the noise, and so the weather.
    chunk_days
        Days in one chunk of the store; a killed run loses at most these.
    progress
        Called with days done, days in all (spin-up included), and seconds since the call.

    Raises
    ------
    UsageError
        For numbers out of range and variables that are none; when `jcm` is not installed.
    FileError
        When something else is at ``path``, an unfinished run there was begun with another request, or the disk is full.
    DataError
        When the model's fields stop being finite.
    """
    path = Path(path).absolute()
    run = _checked(_Run(problem, tuple(dict.fromkeys((*problem.variables, *STATIC))), days, chunk_days, seed, restart_days))
    folder = WorkingFolder(path, _request(run), overwrite=overwrite)
    if folder.finished():
        return path
    done, started = 0, time.monotonic()
    try:
        with folder.alone(), Engine(problem.unit) as engine:
            constants = engine.constants()
            fresh = not folder.begin()
            (folder.partial / _NEXT).parent.mkdir(exist_ok=True)
            state = engine.rest(run.start - run.spin_up * DAY, seed) if fresh or not (folder.partial / _NEXT).exists() else _read(folder)
            if fresh:
                folder.create(*_skeleton(run, constants, folder.request), {_RESTARTS: _restart_skeleton(run, state)})
            while True:
                done = int((state.time - run.start) / DAY) + run.spin_up
                if progress:
                    progress(done, run.days + run.spin_up, time.monotonic() - started)
                if done >= run.days + run.spin_up:
                    break
                state = _spin(run, engine, state) if done < run.spin_up else _write_chunk(run, engine, state, constants, folder)
                _keep(folder, state)
            _write_restart(run, folder, state)
            folder.give_name()
    except OSError as error:
        raise disk_error(error, path, f"{done} of {run.days + run.spin_up} days") from error
    return path


def restart_times(path: str | Path) -> NDArray[Any]:
    """Times of the states that a store of :func:`generate_weather` holds.

    Raises
    ------
    FileError
        When there are none.
    """
    return np.asarray(_restarts(path)[_TIME].values)


def restart_from(path: str | Path, at: np.datetime64 | str) -> SpeedyState:
    """State of a store of :func:`generate_weather` at a time; the model goes on from it bit for bit.

    Raises
    ------
    FileError
        When the store holds no states.
    UsageError
        For a time that is not among them; the hint names the nearest.
    """
    ds = _restarts(path)
    times = np.asarray(ds[_TIME].values)
    wanted = np.datetime64(at).astype("datetime64[ns]")
    if wanted not in times:
        near = times[np.abs(times - wanted).argmin()].astype("datetime64[m]")
        raise UsageError(f"restart_from({str(path)!r})", "a time of a stored state", str(at), f"the nearest is {near}")
    one = ds.sel({_TIME: wanted})
    return SpeedyState(wanted.astype("datetime64[s]"), {str(name): np.asarray(one[name].values) for name in one.data_vars})


def _restarts(path: str | Path) -> xr.Dataset:
    place = Path(path) / _RESTARTS
    if not (place / ".zgroup").exists():
        raise FileError(str(path), "a store of `anygrid generate weather` with states", "none there", "only finished runs can be read")
    return xr.open_zarr(place, chunks=None)


def _checked(run: _Run) -> _Run:
    least = {"days": (run.days, 1), "chunk_days": (run.chunk, 1), "restart_days": (run.restart_days, 1), "seed": (run.seed, 0)}
    for name, (value, low) in least.items():
        if value < low:
            raise UsageError(f"generate weather: {name}", f"a number of {low} or more", str(value))
    if 86400 % run.problem.dt:
        raise UsageError("generate weather: dt", "a whole number of frames a day", f"{run.problem.dt:g} s", "for example 21600 s")
    return run


def _request(run: _Run) -> dict[str, Any]:
    return {
        "problem": "speedy",
        "variables": list(run.names),
        "start": run.problem.start,
        "dt": run.problem.dt,
        "days": run.days,
        "seed": run.seed,
        "spin_up_days": run.spin_up,
        "chunk_days": run.chunk,
        "restart_days": run.restart_days,
        "software": {name: importlib.metadata.version(name) for name in ("anygrid", "jax", "numpy")} | {"jcm": jcm_version()},
    }


def _spin(run: _Run, engine: Engine, state: SpeedyState) -> SpeedyState:
    left = int((run.start - state.time) / DAY)
    return engine.advance(state, min(left, run.chunk) * 86400 // engine.unit, "last")[1]


def _write_chunk(run: _Run, engine: Engine, state: SpeedyState, constants: Arrays, folder: WorkingFolder) -> SpeedyState:
    """Days of one chunk, from its first state to the first of the next."""
    first = int((state.time - run.start) / DAY)
    each = round(run.problem.dt) // engine.unit
    frames: list[Arrays] = []
    for _ in range(min(run.chunk, run.days - first)):
        _write_restart(run, folder, state)
        # The first frame of a day is always made from the state itself, so that no frame depends on where the run was cut.
        frames.append({name: values[None] for name, values in engine.fields(state).items()})
        found, state = engine.advance(state, 86400 // engine.unit)
        frames.append({name: values[each - 1 : -1 : each] for name, values in found.items()})
    fields = {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
    times = run.times(first, len(fields["ps"]))
    own = [name for name in run.moving if name not in FORCINGS]
    made = dict(zip(own, diagnose(own, fields, constants).unbind(-3), strict=True))
    made |= {name: forcing(name, times, GRID, constants) for name in run.moving if name in FORCINGS}
    for name, values in made.items():
        target = folder.store / name / f"{first // run.chunk}.0.0"
        folder.write(target, encode_chunk(values.numpy(), (run.chunk * run.frames, *GRID.shape)))
    return state


def _write_restart(run: _Run, folder: WorkingFolder, state: SpeedyState) -> None:
    day = int((state.time - run.start) / DAY)
    if day % run.restart_days:
        return
    for name, values in state.arrays.items():
        key = ".".join(map(str, (day // run.restart_days, *(0 for _ in values.shape))))
        folder.write(folder.store / _RESTARTS / name / key, encode_chunk(values[None], (1, *values.shape)))


def _keep(folder: WorkingFolder, state: SpeedyState) -> None:
    buffer = io.BytesIO()
    send(buffer, {"time": str(state.time)}, state.arrays)
    folder.write(folder.partial / _NEXT, buffer.getvalue())


def _read(folder: WorkingFolder) -> SpeedyState:
    with (folder.partial / _NEXT).open("rb") as file:
        words, arrays = receive(file)
    return SpeedyState(np.datetime64(words["time"], "s"), arrays)


def _skeleton(run: _Run, constants: Arrays, request: dict[str, Any]) -> tuple[xr.Dataset, dict[str, tuple[int, ...]]]:
    """The data set without its moving fields, and the chunks of these."""
    count = run.days * run.frames
    chunk = (run.chunk * run.frames, *GRID.shape)
    data: dict[str, Any] = {}
    for name in run.names:
        v = variable(name)
        attrs = {"units": v.units, "long_name": v.long_name, "standard_name": v.standard_name}
        if name in STATIC:
            data[name] = (GRID.dims, constants[name], attrs)
        else:
            values = dask.array.zeros((count, *GRID.shape), chunks=chunk, dtype=np.float32)
            data[name] = (("time", *GRID.dims), values, attrs)
    coordinates: dict[str, Any] = dict(grid_coordinates(GRID))
    coordinates["time"] = (
        "time",
        run.times(0, count).astype("datetime64[ns]"),
        {"long_name": "time", "standard_name": "time", "axis": "T"},
    )
    card = run.problem.card
    attributes = {
        "Conventions": "CF-1.11",
        "title": card.title,
        **{f"problem_{name}": getattr(card, name) for name in ("equation", "boundary", "solver", "order", "cost", "source")},
        "dt": run.problem.dt,
        "seed": run.seed,
        "spin_up": f"{run.spin_up} days before {run.problem.start} from air at rest, discarded",
        "software": json.dumps(request["software"]),
    }
    return xr.Dataset(data, coordinates, attributes), {name: chunk for name in run.moving}


def _restart_skeleton(run: _Run, state: SpeedyState) -> tuple[xr.Dataset, dict[str, tuple[int, ...]]]:
    times = (run.start + np.arange(run.restarts) * run.restart_days * DAY).astype("datetime64[ns]")
    data = {
        name: (
            (_TIME, *(f"{name}_{k}" for k in range(a.ndim))),
            dask.array.zeros((run.restarts, *a.shape), chunks=(1, *a.shape), dtype=np.float32),
        )
        for name, a in state.arrays.items()
    }
    title = "States of the weather model (jcm), to start again from"
    ds = xr.Dataset(data, {_TIME: (_TIME, times, {"standard_name": "time"})}, {"title": title})
    return ds, {name: (1, *a.shape) for name, a in state.arrays.items()}
