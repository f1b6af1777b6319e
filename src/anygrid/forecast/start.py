"""Where a forecast starts: the state and inputs of an initial data set, its times, and the grid the map is called on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError, UsageError
from anygrid.fields import Layout, Variable, adopt, find_grid, find_layout, restore, select, to_dataset, to_tensor
from anygrid.fields.longitudes import UNTURNED, Turn, longitude_turn
from anygrid.fields.variables import coordinate
from anygrid.grid import Box, Grid
from anygrid.surrogate.geometry import snap

__all__ = ["Start", "StartAt", "find_start"]

StartAt = Literal["last", "first", "each"]


@dataclass(frozen=True, eq=False)
class Start:
    """One or more initial states.

    Parameters
    ----------
    data
        The variables found in the initial data, at the chosen times only (the time dimension is kept).
    layout, found, grid
        Roles of the dimensions; the grid as read from the coordinates; the same on the domain of the map.
    varying
        Inputs that differ between the times of the initial data, so that they cannot be held.
    times
        One for each start; None where the data do not tell.
    axis
        All times of the initial data: they show the convention of its labels.
    each
        Whether there is an ``init_time`` dimension.
    turn
        How the longitudes of ``data``, those of the map, go back to those of the file.
    """

    data: xr.Dataset
    layout: Layout
    found: Grid
    grid: Grid
    varying: tuple[str, ...]
    times: tuple[Any, ...] | None
    axis: tuple[Any, ...]
    time_name: str
    time_attrs: dict[str, Any]
    state_names: frozenset[str]
    each: bool
    turn: Turn = UNTURNED

    @property
    def starts(self) -> int:
        """Number of starting times."""
        return self.data.sizes[self.layout.time] if self.layout.time else 1

    @property
    def leading(self) -> tuple[str, ...]:
        """Dimensions before the lead in the forecast, named as in ``data``: samples, and time where there are several starts."""
        return self.layout.leading if self.each else self.layout.samples

    def tensor(self, variables: Sequence[Variable]) -> Float32[Tensor, "rows channel *space"]:
        """Values at the start, one row for each sample and starting time."""
        return to_tensor(self.data, variables, self.layout, self.found)

    def inputs(self, inputs: Sequence[Variable]) -> Float32[Tensor, "rows channel *space"]:
        """All inputs at the start; 0 where the forcings hold one."""
        names = [v.name for v in inputs]
        here = [v for v in inputs if v.name in self.data.data_vars]
        rows = self.tensor(here)
        a = torch.zeros(rows.shape[0], len(names), *self.found.shape)
        a[:, [names.index(v.name) for v in here]] = rows
        return a

    def turned(self, ds: xr.Dataset) -> xr.Dataset:
        """Other data with the longitudes of ``data``."""
        return longitude_turn(ds, self.grid).to(ds)

    def frame(self, u: Tensor, outputs: Sequence[Variable]) -> xr.Dataset:
        """Data set of one lead, in the orientation and with the coordinates of the initial data."""
        leading: dict[str, Any] = {d: coordinate(self.data, d) for d in self.leading}
        sizes = [self.data.sizes[d] for d in leading]
        out = restore(to_dataset(u.reshape(*sizes, *u.shape[1:]), outputs, self.found, leading), self.data)
        full = [v.dims for v in self.data.data_vars.values() if set(self.layout.space) <= set(v.dims)]
        space = [d for d in full[0] if d in self.layout.space] if full else self.layout.space
        out = out.transpose(*leading, *space)
        others = {n: c for n, c in self.data.coords.items() if n not in out.coords and n != self.time_name}
        return self.turn.back(out.assign_coords({n: c for n, c in others.items() if set(c.dims) <= set(out.dims)}))

    def named(self, frame: xr.Dataset) -> xr.Dataset:
        """The frame with the dimension of several starts called ``init_time``."""
        if not self.each or self.layout.time is None:
            return frame
        return frame.drop_vars(self.layout.time, errors="ignore").rename_dims({self.layout.time: "init_time"})

    def order(self) -> NDArray[np.int64]:
        """Where each value of a frame stands in the rows of one channel: the frame is ``u[:, k].flatten()[order]``."""
        shape = (self.data.sizes[d] for d in self.leading)
        rows = math.prod(shape)
        index = torch.arange(rows * self.found.size).reshape(rows, 1, *self.found.shape)
        return np.asarray(self.frame(index, (Variable("index"),))["index"].values)


def find_start(
    initial: xr.Dataset, inputs: Sequence[Variable], outputs: Sequence[Variable], elsewhere: Sequence[str], domain: Grid | None, at: StartAt
) -> Start:
    """Read the initial state; ``elsewhere`` names inputs that the forcings hold.

    Raises
    ------
    DataError, GridError
        For missing variables, other units, NaN, dimensions of unknown role, and another domain than the map's.
    UsageError
        For outputs that are not inputs, which cannot be fed back.
    """
    names = [v.name for v in inputs]
    missing = [v.name for v in outputs if v.name not in names]
    if missing:
        hint = "a map that is not an evolution has no next step; use predict"
        raise UsageError("forecast", f"outputs that are inputs too ({', '.join(names)})", ", ".join(missing), hint)
    needed = [v for v in inputs if v.name not in elsewhere]
    initial = adopt(initial, needed, "forecast")
    data = select(initial, [v.name for v in needed])
    data = data.assign_coords({n: c for n, c in initial.coords.items() if n not in data.coords and set(c.dims) <= set(data.dims)})
    turn = longitude_turn(data, domain)
    data = turn.to(data)
    named = [v.name for v in needed]
    dims = domain.dims if isinstance(domain, Box) and set(domain.dims) <= set(data.dims) else None
    layout = find_layout(data, named, space=dims)
    periodic = None
    if domain is not None and dims is not None:
        periodic = dict(zip(dims, (interval.periodic for interval in domain.domain), strict=True))
    found, _ = find_grid(data, named, layout, periodic=periodic)
    grid = found if domain is None else snap(found, domain, "forecast: grid of the initial data")
    time = layout.time if layout.time in data.dims else None
    layout = Layout(tuple(d for d in layout.samples if d in data.dims), time, layout.space)
    varying: tuple[str, ...] = ()
    name, axis = _clock(data, time)
    attrs = dict(data[name].attrs) if name in data.coords else {}
    times: tuple[Any, ...] | None = axis or None
    if time:
        if data.sizes[time] == 0:
            raise DataError("initial data", "at least one time", "none")
        if at != "each":
            varying = tuple(n for n in named if n not in {v.name for v in outputs} and _varies(data[n], time))
        kept = {"last": slice(-1, None), "first": slice(0, 1), "each": slice(None)}[at]
        data = data.isel({time: kept})
        times = axis[kept] or None
    return Start(
        data,
        layout,
        found,
        grid,
        varying,
        times,
        axis,
        name,
        attrs,
        frozenset(v.name for v in outputs),
        each=bool(time) and at == "each",
        turn=turn,
    )


def _varies(array: xr.DataArray, time: str) -> bool:
    return time in array.dims and bool((array != array.isel({time: 0})).any())


def _clock(data: xr.Dataset, time: str | None) -> tuple[str, tuple[Any, ...]]:
    """Name and values of the time coordinate: that of the time dimension, else a scalar one."""
    if time is not None:
        values = np.asarray(data[time].values) if time in data.coords else np.array([])
        return time, tuple(_plain(v) for v in values)
    for name, c in data.coords.items():
        date = c.dtype.kind == "M" or c.dtype == object
        if c.ndim == 0 and (date or c.attrs.get("standard_name") == "time" or c.attrs.get("axis") == "T" or str(name) in ("time", "t")):
            return str(name), (_plain(c.values[()]),)
    return "time", ()


def _plain(value: Any) -> Any:
    return value.astype("datetime64[ns]") if isinstance(value, np.datetime64) else value
