"""Runs in a data set: starts, members and times, and one state of one of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, GridError
from anygrid.fields import find_grid, find_layout, select
from anygrid.fields.layout import dimension_roles
from anygrid.fields.variables import read_values
from anygrid.grid import Sphere

__all__ = ["Run", "Runs", "find_runs"]

_STARTS = ("init_time", "forecast_reference_time", "initial_time", "reference_time")
_HOUR = np.timedelta64(1, "h") / np.timedelta64(1, "ns")


@dataclass(frozen=True)
class Run:
    """One member from one start. ``valid`` are dates, or nothing where the data have none; ``hours`` counts from the start."""

    start: Any
    member: int
    picks: dict[str, int]
    hours: NDArray[np.float64]
    valid: NDArray[Any] | None


@dataclass(frozen=True)
class Runs:
    """All runs of a data set, on one grid."""

    data: xr.Dataset
    grid: Sphere
    runs: tuple[Run, ...]
    time: str | None

    def fields(self, run: Run) -> Iterator[dict[str, NDArray[np.float64]]]:
        """At each time the fields ``(lat, lon)`` by name, latitudes and longitudes ascending."""
        lat, lon = self.grid.dims
        part = self.data.isel(run.picks)
        for dim in (lat, lon):
            if part[dim].size > 1 and part[dim].values[0] > part[dim].values[-1]:
                part = part.isel({dim: slice(None, None, -1)})
        for k in range(run.hours.size):
            state = part if self.time is None else part.isel({self.time: k})
            yield {str(n): np.asarray(read_values(a.transpose(lat, lon)), dtype=np.float64) for n, a in state.data_vars.items()}


def find_runs(ds: xr.Dataset, names: list[str]) -> Runs:
    """Sort the dimensions of the named variables into starts, members, times and the grid.

    Raises
    ------
    GridError
        For variables that do not lie on latitudes and longitudes.
    DataError
        For times that neither have dates nor state hours.
    """
    data = select(ds, names)
    roles = {d: r for d, r in dimension_roles(data).items() if any(d in a.dims for a in data.data_vars.values())}
    times = [d for d, r in roles.items() if r == "time"]
    time, start = _times(data, times)
    samples = [d for d, r in roles.items() if r == "samples"] + ([start] if start else [])
    layout = find_layout(data, names, samples=samples or None, time=time)
    grid, _ = find_grid(data, names, layout)
    if not isinstance(grid, Sphere):
        got = ", ".join(layout.space)
        raise GridError("storms", "fields on latitudes and longitudes", got, "interpolate the data to such a grid first")
    # A level of one entry carries no information.
    keep = {*layout.space, *samples, *([time] if time else [])}
    data = data.isel({d: 0 for d in data.dims if d not in keep})
    members = [d for d in samples if d != start]
    if len(members) > 1:
        hint = f"choose one entry with --select {members[1]}=..."
        raise DataError("storms", "one dimension that counts members", f"{members[0]} and {members[1]}", hint)
    return Runs(data, grid, tuple(_runs(data, start, members[0] if members else None, time)), time)


def _times(data: xr.Dataset, times: list[str]) -> tuple[str | None, str | None]:
    """The dimension along which a run goes on, and that of starts."""
    if len(times) < 2:
        return (times[0], None) if times and times[0] not in _STARTS else (None, times[0] if times else None)
    if len(times) > 2:
        raise DataError("storms", "at most a start and a lead time", ", ".join(times), f"choose with --select {times[2]}=...")
    starts = [d for d in times if d in _STARTS or (d in data.coords and data[d].dtype.kind == "M")]
    leads = [d for d in times if d not in starts]
    if len(leads) != 1:
        raise DataError("storms", "one start and one lead time", f"{times[0]} and {times[1]}", f"choose with --select {times[1]}=...")
    return leads[0], starts[0]


def _runs(data: xr.Dataset, start: str | None, member: str | None, time: str | None) -> Iterator[Run]:
    for i in range(data.sizes[start] if start else 1):
        begin = data[start].values[i] if start and start in data.coords else None
        hours, valid = _hours(data, time, begin)
        for m in range(data.sizes[member] if member else 1):
            picks = ({start: i} if start else {}) | ({member: m} if member else {})
            label = int(data[member].values[m]) if member and member in data.coords and data[member].dtype.kind in "iu" else m
            yield Run(begin if begin is not None else (valid[0] if valid is not None else None), label, picks, hours, valid)


def _hours(data: xr.Dataset, time: str | None, begin: Any) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    if time is None:
        one = begin if begin is not None else next((data[n].values for n in ("valid_time", "time") if _dated(data, n)), None)
        return np.zeros(1), None if one is None else np.array([one]).reshape(1)
    named = next((n for n in ("valid_time", time) if n in data.coords and data[n].dims == (time,)), None)
    if named is None:
        raise DataError("storms", "times with dates or hours", f"{time!r} without coordinates", f"ds = ds.assign_coords({time}=...)")
    values = data[named].values
    if values.dtype.kind == "M":
        hours = (values - values[0]).astype("timedelta64[ns]").astype(np.float64) / _HOUR
        return _ascending(hours, time), values
    if values.dtype == object:  # calendars without leap days, by cftime
        return _ascending(np.array([(v - values[0]).total_seconds() / 3600 for v in values]), time), values
    if values.dtype.kind == "m":
        lead = values.astype("timedelta64[ns]").astype(np.float64) / _HOUR
    else:
        lead = values.astype(np.float64) * _hours_of(str(data[named].attrs.get("units", "")), time)
    origin = begin if begin is not None else next((data[n].values for n in (*_STARTS, "time") if _dated(data, n)), None)
    steps = (lead * 3600e9).round().astype("timedelta64[ns]")
    return _ascending(lead, time), None if origin is None else np.asarray(origin).astype("datetime64[ns]") + steps


def _dated(data: xr.Dataset, name: str) -> bool:
    return name in data.coords and data[name].ndim == 0 and data[name].dtype.kind == "M"


def _hours_of(units: str, time: str) -> float:
    known = {"h": 1.0, "hr": 1.0, "hour": 1.0, "hours": 1.0, "d": 24.0, "day": 24.0, "days": 24.0, "s": 1 / 3600, "seconds": 1 / 3600}
    word = units.strip().lower().split(" since ")[0]
    if word not in known:
        hint = f"state it: ds[{time!r}].attrs['units'] = 'hours'"
        raise DataError("storms", "times with dates, or numbers with units of time", f"{time!r} with units {units!r}", hint)
    return known[word]


def _ascending(hours: NDArray[np.float64], time: str) -> NDArray[np.float64]:
    if (np.diff(hours) <= 0).any():
        raise DataError("storms", f"{time!r} that ascends, each time once", "times that repeat or go back", f"ds = ds.sortby({time!r})")
    return hours
