"""Inputs that the map does not predict: held where they are constant; else of a data set at the valid time, or computed (sunlight).

The truth is found in the same way: outputs of a data set at the valid time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from anygrid.errors import DataError, GridError
from anygrid.fields import Layout, Variable, adopt, find_grid, find_layout, select, to_tensor
from anygrid.fields.names import has_field
from anygrid.forecast.calendar import Step, month_number, valid_times
from anygrid.forecast.start import Start
from anygrid.forecast.sunlight import Sunlight, is_sunlight, recognise
from anygrid.grid import Grid

__all__ = ["Forcings", "find_forcings", "find_truth", "held_in"]


@dataclass(frozen=True, eq=False)
class Forcings:
    """The inputs that are not outputs, at every step.

    Parameters
    ----------
    channels
        Place of each variable among the inputs, for those in ``data``.
    rows
        ``(start, step)`` index into the time axis of ``data``.
    computed
        Sunlight, by its place among the inputs.
    times
        ``(start, step)`` times at which steps begin, where something is computed.
    """

    variables: tuple[Variable, ...]
    channels: tuple[int, ...]
    data: xr.Dataset | None
    layout: Layout | None
    rows: np.ndarray | None
    start: Start
    computed: tuple[tuple[int, Sunlight], ...] = ()
    times: np.ndarray | None = None

    def into(self, a: Tensor, step: int, rows: slice = slice(None)) -> None:
        """Overwrite the forced channels of the inputs ``a`` with their values at the beginning of ``step``.

        ``a`` holds the states of ``rows``, all of them once or several times over (members).
        """
        for channel, sunlight in self.computed:
            assert self.times is not None
            samples = math.prod(self.start.data.sizes[d] for d in self.start.layout.samples)
            # Only of the starts among these rows: a year of starts would be gigabytes of moments.
            starts, place = np.unique(np.tile(np.arange(len(self.times)), samples)[rows], return_inverse=True)
            full = sunlight.at(self.times[starts, step], self.start.found).to(a)[torch.from_numpy(place)]
            a[:, channel] = full.repeat(len(a) // len(full), *(1,) * (full.ndim - 1))
        if self.data is None or self.layout is None:
            return
        data, time = self.data, self.layout.time
        if time is not None and self.rows is not None:
            data = data.isel({time: self.rows[:, step]})
        values = to_tensor(data, self.variables, self.layout, self.start.found)
        dims = (*self.start.layout.samples, "start")
        sizes = [self.start.data.sizes[d] for d in dims[:-1]] + [self.start.starts]
        own = [data.sizes.get(d, 1) for d in dims[:-1]] + [self.start.starts if time is not None else 1]
        full = values.reshape(*own, *values.shape[1:]).expand(*sizes, *values.shape[1:]).reshape(-1, *values.shape[1:])[rows]
        a[:, list(self.channels)] = full.repeat(len(a) // len(full), *(1,) * (full.ndim - 1))


def held_in(forcings: xr.Dataset | None, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[str]:
    """Names of the inputs, other than the state, that the data set of forcings holds."""
    state = {v.name for v in outputs}
    known = {} if forcings is None else {v.name: has_field(forcings, v.name) for v in inputs}
    return [v.name for v in inputs if v.name not in state and known.get(v.name)]


def find_forcings(
    forcings: xr.Dataset | None, start: Start, inputs: Sequence[Variable], names: Sequence[str], step: Step, steps: int
) -> Forcings:
    """Match the forcings with the valid times of every step; sunlight that is not among them is computed where it can be.

    Raises
    ------
    DataError
        For an input that varies in time and is in no data set of forcings, times that are not there, unknown start times.
    GridError
        For forcings on another grid than the initial state.
    """
    computed = _sunlight(start, step, [v for v in inputs if v.name not in names], [v.name for v in inputs])
    times = _begins(start, step, steps) if computed else None
    known = {inputs[channel].name for channel, _ in computed}
    loose = [n for n in start.varying if n not in names and n not in known]
    if loose:
        hint = "give their future values in the forcings, or a single time of the initial data to hold them as they are then"
        raise DataError(
            "forecast: " + ", ".join(loose), "inputs that are constant or in the forcings", "values that change with time", hint
        )
    if forcings is None or not names:
        return Forcings((), (), None, None, None, start, computed, times)
    variables = tuple(v for v in inputs if v.name in names)
    data, layout, rows = _matched(forcings, "forcings", variables, start, step, steps)
    order = [v.name for v in inputs]
    return Forcings(variables, tuple(order.index(v.name) for v in variables), data, layout, rows, start, computed, times)


def find_truth(truth: xr.Dataset, start: Start, outputs: Sequence[Variable], step: Step, steps: int) -> Forcings:
    """The outputs that a data set of truth holds, at the beginnings of steps 0 to ``steps``, which is the end of the last.

    Raises
    ------
    DataError, GridError
        For a truth without these variables, at other times or on another grid.
    """
    variables = tuple(v for v in outputs if has_field(truth, v.name))
    if not variables:
        raise DataError("truth", f"one of the variables {', '.join(v.name for v in outputs)}", ", ".join(map(str, truth.data_vars)))
    data, layout, rows = _matched(truth, "truth", variables, start, step, steps + 1)
    if rows is None:
        raise DataError("truth", "fields at the valid times of the forecast", "fields of one time", "give data with a time dimension")
    names = [v.name for v in outputs]
    return Forcings(variables, tuple(names.index(v.name) for v in variables), data, layout, rows, start)


def _matched(
    given: xr.Dataset, where: str, variables: Sequence[Variable], start: Start, step: Step, steps: int
) -> tuple[xr.Dataset, Layout, np.ndarray | None]:
    """These variables on the grid of the start, and the rows valid at the beginning of every step; none where they are constant."""
    names = [v.name for v in variables]
    data = start.turned(select(adopt(given, variables, where), names))
    layout = find_layout(data, names, space=start.layout.space if set(start.layout.space) <= set(data.dims) else None)
    _same_places(find_grid(data, names, layout, periodic=_periodic(start))[0], start.found, where)
    extra = [d for d in layout.samples if d in data.dims and data.sizes[d] != start.data.sizes.get(d)]
    if extra:
        raise DataError(where, "the samples of the initial data, or none", f"{extra[0]} with {data.sizes[extra[0]]} entries")
    rows = None
    if layout.time is not None and layout.time in data.dims:
        if data.sizes[layout.time] > 1:
            rows = _rows(data, where, layout.time, start, step, steps)
        else:
            data = data.isel({layout.time: 0}, drop=True)
    return data, Layout(layout.samples, layout.time if rows is not None else None, layout.space), rows


def _sunlight(start: Start, step: Step, inputs: Sequence[Variable], order: Sequence[str]) -> tuple[tuple[int, Sunlight], ...]:
    """Those of ``inputs`` that are sunlight as it can be computed, by their place in ``order``."""
    if start.times is None or not isinstance(start.times[0], np.datetime64) or step.unit == "step":
        return ()
    found = []
    for variable in (v for v in inputs if v.name not in start.state_names and is_sunlight(v)):
        values = start.tensor([variable])[:, 0].reshape(-1, start.starts, *start.found.shape)[0]
        light = recognise(values, np.asarray(start.times), start.found)
        if light is not None:
            found.append((order.index(variable.name), light))
    return tuple(found)


def _begins(start: Start, step: Step, steps: int) -> np.ndarray | None:
    """Times at which steps begin, ``(start, step)``."""
    assert start.times is not None
    units = str(start.time_attrs.get("units", ""))
    return np.stack([np.asarray(valid_times(begin, step, range(steps), start.axis, units)) for begin in start.times])


def _periodic(start: Start) -> dict[str, bool]:
    return dict(zip(start.found.dims, (i.periodic for i in start.found.domain), strict=False)) if start.found.shape else {}


def _same_places(grid: Grid, wanted: Grid, where: str) -> None:
    if grid.shape == wanted.shape:
        spacing = min(i.length for i in wanted.domain) / max(wanted.shape)
        if bool((grid.points() - wanted.points()).abs().max() <= 0.01 * spacing):
            return
    raise GridError(where, "the grid of the initial state", "another grid", "interpolate them to it first, for example with ds.interp")


def _rows(data: xr.Dataset, where: str, time: str, start: Start, step: Step, steps: int) -> np.ndarray:
    """Index of the fields valid at the beginning of every step."""
    if start.times is None or time not in data.coords:
        raise DataError(where, f"times on the initial data and on the {where}", "none", "give both a time coordinate")
    axis = np.asarray(data[time].values)
    numeric = axis.dtype.kind in "fiu"
    monthly = step.unit in ("month", "year") and not numeric

    def key(value: Any) -> Any:
        if monthly:
            return month_number(value)
        return round(float(value), 9) if numeric else value.astype("datetime64[ns]") if isinstance(value, np.datetime64) else value

    places = {key(v): k for k, v in enumerate(axis)}
    rows = np.empty((len(start.times), steps), dtype=np.int64)
    for s, begin in enumerate(start.times):
        times = valid_times(begin, step, range(steps), start.axis, str(start.time_attrs.get("units", "")))
        if times is None:
            raise DataError(where, "a dt with a unit", "one that counts steps", 'for example "6h" or "1month"')
        for k, wanted in enumerate(times):
            if key(wanted) not in places:
                hint = f"they run from {axis[0]} to {axis[-1]}; give the {where} of all {steps} times"
                raise DataError(where, f"values at {wanted}", "none there", hint)
            rows[s, k] = places[key(wanted)]
    return rows
