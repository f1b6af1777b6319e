"""A data set of forecasts, or of truth, understood: which dimension is what, and fields out of it in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, did_you_mean
from anygrid.fields import find_grid, find_layout
from anygrid.fields.layout import dimension_roles
from anygrid.fields.names import Quantity, quantity_of
from anygrid.fields.variables import read_values
from anygrid.grid import Grid

__all__ = ["STATISTICS", "Channel", "Product", "channels_of", "geometry", "understand"]

STATISTICS = ("mean", "std", "quantile", "above", "min", "max", "quantile_error", "crps", "rank")
_LEADS = ("lead_time", "prediction_timedelta", "lead", "step", "forecast_period", "leadtime")
_MEMBERS = ("member", "members", "number", "realization", "realisation", "ensemble", "ens", "ensemble_member")
_HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0, "day": 24.0, "week": 168.0}


@dataclass(frozen=True, eq=False)
class Channel:
    """One field of a data set: a variable, or one level of it. ``arrays`` holds it by statistic; a field itself is under ``""``."""

    label: str
    quantity: Quantity
    units: str
    arrays: dict[str, xr.DataArray]

    @property
    def field(self) -> xr.DataArray:
        """The array that shows its dimensions best: the field itself, else its mean, else any statistic."""
        return next(self.arrays[k] for k in ("", *STATISTICS) if k in self.arrays)


@dataclass(frozen=True, eq=False)
class Product:
    """Forecasts of several channels from several starts.

    Attributes
    ----------
    case_dims, lead_dim, member_dim
        Dimensions by role; cases are numbered over all of ``case_dims``, the last running fastest.
    leads
        Length of each lead in ``lead_units``; one of 0 where there is no lead.
    valid, starts
        Valid time of each case and lead, and start of each case (None where the file does not tell).
    members
        How many members the file says there were, or holds; 1 for a single forecast.
    """

    channels: tuple[Channel, ...]
    grid: Grid
    case_dims: tuple[str, ...]
    lead_dim: str | None
    member_dim: str | None
    leads: NDArray[np.float64]
    lead_units: str
    valid: NDArray[Any]
    starts: NDArray[Any] | None
    members: int

    @property
    def cases(self) -> int:
        """Number of starts."""
        return int(self.valid.shape[0])

    def read(self, array: xr.DataArray, cases: slice, leads: slice, extra: str | None = None) -> NDArray[np.float64]:
        """Values ``(extra, case, lead, *space)`` in ascending coordinates; ``extra`` is a dimension such as the members."""
        sizes = [array.sizes.get(d, 1) for d in self.case_dims]
        front = () if extra is None else (extra,)
        parts = []
        for flat in range(*cases.indices(self.cases)):
            at = dict(zip(self.case_dims, (int(i) for i in np.unravel_index(flat, sizes)), strict=True)) if self.case_dims else {}
            part = array.isel(at)
            part = part.isel({self.lead_dim: leads}) if self.lead_dim is not None else part.expand_dims("lead_", axis=0)
            parts.append(read_values(part.transpose(*front, self.lead_dim or "lead_", *self.grid.dims)).astype(np.float64))
        values = np.stack(parts, axis=len(front))
        return ascending_space(values, array, self.grid)


def ascending_space(values: NDArray[np.float64], array: xr.DataArray, grid: Grid) -> NDArray[np.float64]:
    """Values turned round along the trailing dimensions whose coordinates descend."""
    for k, dim in enumerate(grid.dims):
        c = array.coords.get(dim)
        if c is not None and c.ndim == 1 and c.size > 1 and c.values[0] > c.values[-1]:
            values = np.flip(values, values.ndim - len(grid.dims) + k)
    return values


def channels_of(ds: xr.Dataset, where: str) -> tuple[Channel, ...]:
    """Channels of a data set: statistics gathered by variable, levels taken apart.

    Raises
    ------
    DataError
        When there is none.
    """
    gathered: dict[str, dict[str, xr.DataArray]] = {}
    for raw, array in ds.data_vars.items():
        name = str(raw)
        base, statistic = _split(name, ds)
        if array.dtype.kind in "fiu" and array.ndim > 0:
            gathered.setdefault(base, {})[statistic] = array
    roles = dimension_roles(ds)
    found: list[Channel] = []
    for name, arrays in gathered.items():
        first = next(iter(arrays.values()))
        level = next((str(d) for d in first.dims if roles.get(str(d)) == "level"), None)
        units = str(next((arrays[k] for k in ("", "mean", "std", "quantile") if k in arrays), first).attrs.get("units", ""))
        if level is None:
            found.append(Channel(name, quantity_of(name, first), units, arrays))
            continue
        for k in range(first.sizes[level]):
            value = float(first[level].values[k]) if level in first.coords else float(k)
            pressure = value / 100 if str(first[level].attrs.get("units", "")).lower() == "pa" or level.lower().endswith("inpa") else value
            at = {s: a.isel({level: k}, drop=True) for s, a in arrays.items()}
            label = f"{name}@{level}={value:g}" if first.sizes[level] > 1 else name
            found.append(Channel(label, quantity_of(name, first, pressure), units, at))
    if not found:
        raise DataError(where, "at least one field of numbers", "none", "choose a file that holds fields")
    return tuple(found)


def _split(name: str, ds: xr.Dataset) -> tuple[str, str]:
    """Base name and statistic of a variable of an ensemble store; a variable that merely ends in ``_mean`` stays itself."""
    for statistic in sorted(STATISTICS, key=len, reverse=True):
        base = name.removesuffix(f"_{statistic}")
        if base != name:
            told = "ensemble_members" in ds.attrs or str(ds[name].attrs.get("cell_methods", "")).startswith("realization:")
            if told or ds[name].dims[0] in ("quantile", f"{base}_threshold"):
                return base, statistic
    return name, ""


def understand(ds: xr.Dataset, where: str, names: Sequence[str] = ()) -> Product:
    """Find out what the dimensions of a forecast are.

    Raises
    ------
    DataError
        For names that are not there, dimensions of unknown role, leads of unknown length, and forecasts without valid times.
    GridError
        For coordinates that form no grid.
    """
    channels = choose(channels_of(ds, where), names)
    channels = tuple(c for c in channels if _spatial(c.field))
    if not channels:
        raise DataError(where, "fields on a grid", "none", "choose a file that holds fields")
    grid = geometry(channels[0].field, where)
    lead_dim = _lead_dim(ds, channels[0].field)
    extra = {"quantile", *(f"{c.label}_threshold" for c in channels)}
    member_dims = [str(d) for d in channels[0].field.dims if _is_member(ds, str(d)) and d not in grid.dims]
    if len(member_dims) > 1:
        hint = f"take one entry of one: --select {member_dims[1]}=0"
        raise DataError(where, "one dimension of members", ", ".join(member_dims), hint)
    member = member_dims[0] if member_dims else None
    dims = [str(d) for c in channels for d in c.field.dims]
    case_dims = tuple(d for d in dict.fromkeys(dims) if d not in (*grid.dims, lead_dim, member) and d not in extra)
    for c in channels:
        missing = [d for d in case_dims if d not in c.field.dims]
        if missing or set(grid.dims) - {str(d) for d in c.field.dims}:
            raise DataError(where, f"{c.label} on the dimensions of {channels[0].label}", ", ".join(map(str, c.field.dims)), "--variables")
    leads, units = _lead_values(ds, lead_dim, where)
    sizes = tuple(channels[0].field.sizes[d] for d in case_dims)
    valid, starts = _times(ds, case_dims, sizes, lead_dim, leads, units, where)
    held = channels[0].field.sizes[member] if member else 1
    return Product(channels, grid, case_dims, lead_dim, member, leads, units, valid, starts, int(ds.attrs.get("ensemble_members", held)))


def choose(channels: tuple[Channel, ...], names: Sequence[str], where: str = "--variables") -> tuple[Channel, ...]:
    """The named channels; a name without its level takes all levels. ``where`` is the option that gave the names."""
    if not names:
        return channels
    out: list[Channel] = []
    for name in names:
        wanted = quantity_of(name, xr.DataArray(0.0))
        same = [c for c in channels if name in (c.label, c.label.partition("@")[0])]
        same = same or [c for c in channels if c.quantity == wanted or (wanted.level is None and c.quantity.name == wanted.name)]
        if not same:
            raise DataError(where, "variables of the forecast", repr(name), did_you_mean(name, [c.label for c in channels]))
        out += [c for c in same if c not in out]
    return tuple(out)


def geometry(array: xr.DataArray, where: str) -> Grid:
    """Grid on which a field lies."""
    frame = array.to_dataset(name="field").isel({d: 0 for d in array.dims if not _maybe_space(array, str(d))}, drop=True)
    layout = find_layout(frame, ["field"])
    if layout.leading:
        frame = frame.isel(dict.fromkeys(layout.leading, 0), drop=True)
    try:
        return find_grid(frame, ["field"], layout)[0]
    except DataError:
        # One field may not tell whether an axis of a box is periodic; only the weights of its ends depend on it.
        return find_grid(frame, ["field"], layout, periodic=dict.fromkeys(layout.space, False))[0]


def _maybe_space(array: xr.DataArray, dim: str) -> bool:
    return dimension_roles(array.to_dataset(name="field")).get(dim) == "space"


def _spatial(array: xr.DataArray) -> bool:
    return any(_maybe_space(array, str(d)) for d in array.dims)


def _is_member(ds: xr.Dataset, dim: str) -> bool:
    return dim in _MEMBERS or (dim in ds.coords and ds[dim].attrs.get("standard_name") == "realization")


def _lead_dim(ds: xr.Dataset, array: xr.DataArray) -> str | None:
    for name in _LEADS:
        if name in array.dims:
            return name
        if name in ds.coords and ds[name].ndim == 1 and ds[name].dims[0] in array.dims:
            return str(ds[name].dims[0])
    for dim in map(str, array.dims):
        if dim in ds.coords and (ds[dim].dtype.kind == "m" or ds[dim].attrs.get("standard_name") == "forecast_period"):
            return dim
    return None


def _lead_values(ds: xr.Dataset, dim: str | None, where: str) -> tuple[NDArray[np.float64], str]:
    """Leads and their unit; durations come in hours, or in days where all are whole days."""
    if dim is None:
        return np.zeros(1), "hours"
    named = next((n for n in (*_LEADS, dim) if n in ds.coords and ds[n].dims == (dim,)), None)
    if named is None:
        return np.arange(1.0, ds.sizes[dim] + 1), "steps"
    values, units = ds[named].values, str(ds[named].attrs.get("units", "steps")).strip().lower()
    if values.dtype.kind == "m":
        hours = values / np.timedelta64(1, "h")
    else:
        scale = next((h for word, h in _HOURS.items() if units.rstrip("s") in (word, word[0], {"hour": "hr"}.get(word, word))), None)
        if scale is None:
            return np.asarray(values, dtype=np.float64), units
        hours = np.asarray(values, dtype=np.float64) * scale
    whole = hours.size > 0 and np.allclose(hours % 24, 0) and hours.max() >= 24
    return (hours / 24, "days") if whole else (np.asarray(hours, dtype=np.float64), "hours")


def _times(
    ds: xr.Dataset,
    case_dims: tuple[str, ...],
    sizes: tuple[int, ...],
    lead_dim: str | None,
    leads: NDArray[np.float64],
    units: str,
    where: str,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Valid time of each case and lead, and the start of each case."""
    full = xr.DataArray(np.zeros((*sizes, len(leads))), dims=(*case_dims, lead_dim or "lead_"))

    def spread(c: xr.DataArray) -> NDArray[Any]:
        bare = c.drop_vars([n for n in c.coords])
        index = xr.DataArray(np.arange(bare.size).reshape(bare.shape), dims=bare.dims).broadcast_like(full).transpose(*full.dims).values
        return np.asarray(bare.values).ravel()[index].reshape(-1, len(leads))

    start = next((ds[n] for n in ("forecast_reference_time", "init_time") if n in ds.coords and set(ds[n].dims) <= set(case_dims)), None)
    time = next((ds[d] for d in case_dims if d in ds.coords and _dated(ds[d])), None)
    if start is None and lead_dim is not None and time is not None:
        start = time
    starts = None if start is None else spread(start)[:, 0]
    valid = ds.coords.get("valid_time")
    if valid is not None and set(valid.dims) <= set(full.dims):
        return spread(valid), starts
    if lead_dim is not None and lead_dim not in _LEADS and lead_dim in ds.coords and ds[lead_dim].dtype.kind != "m":
        return spread(ds[lead_dim]), starts
    if lead_dim is None and time is not None:
        return spread(time), None
    if lead_dim is None and "time" in ds.coords and ds["time"].ndim == 0:
        return spread(ds["time"]), None
    hours = {"hours": 1.0, "days": 24.0}.get(units)
    if starts is not None and hours is not None and np.asarray(starts).dtype.kind == "M":
        ahead = np.round(leads * hours * 3600).astype("timedelta64[s]")
        return starts.astype("datetime64[s]")[:, None] + ahead[None, :], starts
    if starts is not None and np.asarray(starts).dtype.kind in "fiu":
        return starts[:, None].astype(np.float64) + leads[None, :], starts
    hint = "it needs a coordinate valid_time, or times of the starts (time, init_time) and leads with units"
    raise DataError(where, "valid times", f"coordinates {', '.join(map(str, ds.coords)) or 'none'}", hint)


def _dated(c: xr.DataArray) -> bool:
    return c.dtype.kind in "Mfiu" or (c.dtype == object and c.size > 0 and hasattr(c.values.flat[0], "month"))
