"""Roll a map out from an initial data set."""

from __future__ import annotations

import hashlib
import time as clock
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError, UsageError
from anygrid.fields import Variable
from anygrid.forecast.advance import Roller, largest
from anygrid.forecast.archive import Archive, insert_lead
from anygrid.forecast.calendar import Step
from anygrid.forecast.forcing import Forcings, find_forcings, held_in
from anygrid.forecast.leads import lead_coordinates
from anygrid.forecast.start import Start, StartAt, find_start
from anygrid.forecast.view import View
from anygrid.grid import Grid
from anygrid.io.working import WorkingFolder, disk_error
from anygrid.maps import Map

__all__ = ["ForecastError", "digest", "forecast", "forecast_attributes"]

Progress = Callable[[int, int, float], None]


class ForecastError(DataError):
    """The state is no longer finite. ``done`` holds the forecast up to there (None when nothing was done)."""

    done: xr.Dataset | None = None


def forecast(
    map_: Map,
    initial: xr.Dataset,
    steps: int,
    *,
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    dt: str | float | None = None,
    domain: Grid | None = None,
    start: StartAt = "last",
    every: int = 1,
    forcings: xr.Dataset | None = None,
    known_times: xr.DataArray | None = None,
    view: View | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    r"""Apply an evolution map again and again: :math:`u_{k+1} = M(u_k, f_k)`, from the state of ``initial``.

    Samples and members of the initial data are kept. With a known start and ``dt`` the leads lie along the data's own time
    dimension, at valid times, so that they compare with a truth directly; otherwise along ``lead_time``. With
    ``start="each"`` every time of the initial data starts a forecast, and the result has dimensions ``init_time``
    and ``lead_time`` with a two-dimensional coordinate ``valid_time``. The initial state is not repeated.

    Inputs that are not outputs are held where they are constant, and taken from ``forcings`` at the time at which a step
    begins where they are there. Sunlight at the top of the atmosphere is computed (:mod:`anygrid.forecast.sunlight`) where the
    start has dates, the data lie on a sphere, and its values there are the sun's. The state is float32 between steps, so that
    a forecast continued from disk is that of an undisturbed run bit for bit, as long as the map itself repeats.

    Parameters
    ----------
    map_
        Any map that advances the state by ``dt``: a surrogate or a solver.
    steps
        Number of applications.
    inputs, outputs
        Variables of the map; outputs must be among the inputs.
    dt
        Time step: ``"1month"``, ``"6h"``, or a number in units of the time coordinate; None counts steps. Months are
        calendar months, labelled as the data label them (first, middle or last day).
    domain
        Any grid of the domain of the map, which the coordinates of the data are read on.
    start
        Which times of the initial data to start from: ``last``, ``first`` or ``each``.
    every
        Keep every so many steps.
    known_times
        Times, such as those of a truth, whose labels are to be used where they fall into the month that is forecast.
    view
        What of the kept states is written, on which grid; by default the states. The state itself stays on the grid of the
        initial data. A forecast that was killed is then computed again from its start, and written from where it ended.
    out
        Zarr store to write, lead by lead, instead of holding the forecast in memory. Killed at any moment, the same call
        continues it.
    overwrite
        Replace another forecast at ``out`` when the new one is whole.
    progress
        Called with steps done, steps in all, and seconds since the call.

    Raises
    ------
    ForecastError
        When a value is not finite or 1e8 times the largest initial one; what was done is in ``done`` and in ``out``.
    UsageError, DataError, GridError
        For inputs that cannot be used.
    FileError
        For an ``out`` that holds something else, and a full disk.
    """
    if steps < 1 or every < 1 or every > steps:
        raise UsageError("forecast", "steps of 1 or more, and every from 1 to steps", f"steps {steps}, every {every}")
    began = clock.monotonic()
    step = Step.parse(dt)
    held = held_in(forcings, inputs, outputs)
    begin = find_start(initial, inputs, outputs, held, domain, start)
    forced = find_forcings(forcings, begin, inputs, held, step, steps)
    roller = _roller(map_, begin, forced, inputs, outputs)
    first = roller.step(roller.initial(), 0)
    counts = range(every, steps + 1, every)
    lead, coordinates = lead_coordinates(begin, step, counts, () if known_times is None else tuple(known_times.values))
    order, seen = begin.order(), [] if view is None else view.channels(outputs)
    frame = begin.frame(torch.zeros(first.shape), outputs) if view is None else view.frame(begin)
    shape = next(iter(frame.data_vars.values())).shape
    frame.attrs = forecast_attributes(begin, forced, step, tuple(inputs), steps)
    template = insert_lead(begin.named(frame), lead, len(begin.leading), coordinates)
    folder = None
    if out is not None:
        request = {"kind": "forecast", "steps": steps, "every": every, "dt": f"{step.amount:g} {step.unit}", "start": start}
        request |= {"outputs": [v.name for v in outputs], "initial": digest(roller.initial()), "first step": digest(first)}
        if view is not None:
            request |= {"outputs": [v.name for v in view.outputs], "view": _print_of(view, first[:, seen], begin.grid)}
        folder = WorkingFolder(Path(out), request, overwrite=overwrite)
        if folder.finished():
            return _refuse_stopped(xr.open_zarr(out))
    try:
        with folder.alone() if folder is not None else nullcontext():
            keeper = Archive(folder, template, len(begin.leading)) if folder is not None else _Memory(template, lead, len(begin.leading))
            whole = keeper.open()
            again = whole > 0 and view is None
            state = _resumed(keeper, order, first) if again else first
            reason, done = "", 0
            for done, u in _states(roller, state, whole * every if again else 1, steps):
                reason = roller.trouble(u)
                if reason:
                    break
                if done % every == 0 and done > whole * every:
                    keeper.append(view.values(u[:, seen], begin.grid, shape) if view else [c.numpy().ravel()[order] for c in u.unbind(1)])
                if progress:
                    progress(done, steps, clock.monotonic() - began)
            return _finish(keeper, folder, reason, done, every)
    except OSError as error:
        raise disk_error(error, Path(str(out)), "the leads before it") from error


def _roller(map_: Map, begin: Start, forced: Forcings, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Roller:
    """The map with the inputs of a start."""
    names = [v.name for v in inputs]
    channels = [names.index(v.name) for v in outputs]
    a = begin.inputs(inputs)
    return Roller(map_, begin.grid, a, channels, forced.into, largest(a[:, channels]))


class _Memory:
    """The forecast as a list of leads; the counterpart of :class:`Archive` without a disk."""

    def __init__(self, template: xr.Dataset, lead: str, lead_axis: int) -> None:
        self.template, self.lead, self.axis = template, lead, lead_axis
        self.names = tuple(str(n) for n in template.data_vars)
        self.frames: list[list[NDArray[np.float32]]] = []

    def open(self) -> int:
        """Nothing is there yet."""
        return 0

    def last(self) -> list[NDArray[np.float32]]:
        """There is no earlier run."""
        return []

    def append(self, frame: list[NDArray[np.float32]]) -> None:
        """Add a lead."""
        self.frames.append(frame)

    def result(self) -> xr.Dataset | None:
        """The leads so far."""
        if not self.frames:
            return None
        short = self.template.isel({self.lead: slice(0, len(self.frames))})
        values = {n: np.stack([f[k] for f in self.frames], axis=self.axis) for k, n in enumerate(self.names)}
        return short.assign({n: (short[n].dims, v, short[n].attrs) for n, v in values.items()})


def _states(roller: Roller, state: Tensor, done: int, steps: int) -> Iterator[tuple[int, Tensor]]:
    yield done, state
    for number in range(done, steps):
        state = roller.step(state, number)
        yield number + 1, state


def _resumed(keeper: Archive | _Memory, order: NDArray[np.int64], like: Tensor) -> Tensor:
    """State of the last lead on disk."""
    state = np.empty(like.shape, dtype=np.float32)
    for k, values in enumerate(keeper.last()):
        channel = np.empty(order.size, dtype=np.float32)
        channel[order.ravel()] = values.ravel()
        state[:, k] = channel.reshape(state[:, k].shape)
    return torch.from_numpy(state)


def _finish(keeper: Archive | _Memory, folder: WorkingFolder | None, reason: str, done: int, every: int) -> xr.Dataset:
    stopped = {"forecast_stopped": f"at step {done}: {reason}"} if reason else {}
    if isinstance(keeper, _Memory):
        result = keeper.result()
        if not reason and result is not None:
            return result
        raise _stopped(stopped["forecast_stopped"], None if result is None else result.assign_attrs(stopped))
    assert folder is not None
    if reason and keeper.written + len(keeper.kept) == 0:
        raise _stopped(stopped["forecast_stopped"], None)
    if reason:
        keeper.cut(stopped)
    folder.give_name()
    return _refuse_stopped(xr.open_zarr(folder.path))


def _refuse_stopped(ds: xr.Dataset) -> xr.Dataset:
    if "forecast_stopped" in ds.attrs:
        raise _stopped(str(ds.attrs["forecast_stopped"]), ds)
    return ds


def _stopped(text: str, done: xr.Dataset | None) -> ForecastError:
    hint = "forecast fewer steps, check that the initial state is like the training data, or train with longer roll-outs"
    error = ForecastError("forecast", "finite values", text, hint)
    error.done = done
    return error


def forecast_attributes(begin: Start, forced: Forcings, step: Step, inputs: tuple[Variable, ...], steps: int) -> dict[str, Any]:
    """Attributes that say how a forecast was made."""
    given = {v.name for v in forced.variables}
    attrs: dict[str, Any] = {"Conventions": "CF-1.11", "title": f"forecast of {', '.join(sorted(begin.state_names))}"}
    computed = {inputs[channel].name: light for channel, light in forced.computed}
    held = [v.name for v in inputs if v.name not in begin.state_names | given | set(computed)]
    if computed:
        attrs["computed_inputs"] = "; ".join(f"{name}: {light}" for name, light in computed.items())
    attrs |= {"forecast_steps": steps, "dt": f"{step.amount:g} {step.unit or begin.time_attrs.get('units', '')}".strip()}
    return attrs | ({"held_inputs": ", ".join(held)} if held else {}) | ({"forcings": ", ".join(sorted(given))} if given else {})


def _print_of(view: View, state: Tensor, grid: Grid) -> str:
    """A fingerprint of what a view makes of a state."""
    shape = (len(state), *view.grid.shape)
    return digest(torch.from_numpy(np.stack(view.values(state, grid, shape))))


def digest(u: Tensor) -> str:
    """A short fingerprint of the values of a tensor."""
    return hashlib.sha256(u.contiguous().numpy().tobytes() + str(tuple(u.shape)).encode()).hexdigest()[:16]
