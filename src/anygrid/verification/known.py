"""What is known: the truth, or past data for a climatology, brought to the names, units, grid and times of a forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, GridError, did_you_mean
from anygrid.fields.conversions import Conversion, conversion
from anygrid.fields.layout import is_latitude, is_longitude
from anygrid.fields.variables import read_values
from anygrid.forecast.calendar import month_number
from anygrid.grid import Axis, Box, Grid, Sphere
from anygrid.verification.product import Channel, Product, channels_of

__all__ = ["Known", "Source", "know", "stamp", "time_keys"]

_NEAR = 0.02  # of a spacing: files round coordinates


@dataclass(frozen=True, eq=False)
class Source:
    """One channel: its array, how to bring it into the forecast's units, and where the forecast's points stand in it."""

    array: xr.DataArray
    convert: Conversion
    space: tuple[str, ...]
    places: tuple[NDArray[np.int64], ...]
    time: str | None


@dataclass(frozen=True, eq=False)
class Known:
    """Fields at known times. ``times`` are those of the file, in its order; ``notes`` say what was converted or picked."""

    sources: dict[str, Source]
    times: NDArray[Any]
    keys: dict[Any, int]
    monthly: bool
    notes: tuple[str, ...]

    def rows(self, times: NDArray[Any]) -> NDArray[np.int64]:
        """Place of each time among those of the file; -1 where there is none."""
        flat = [self.keys.get(k, -1) for k in time_keys(np.ravel(times), self.monthly)]
        return np.array(flat, dtype=np.int64).reshape(np.shape(times))

    def at(self, label: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Fields ``(*rows, *space)`` in the forecast's units and order of points; nan where the row is -1."""
        source = self.sources[label]
        wanted, where = np.unique(rows[rows >= 0], return_inverse=True)
        shape = tuple(len(p) for p in source.places)
        out = np.full((rows.size, *shape), np.nan)
        if wanted.size:
            array = source.array if source.time is None else source.array.isel({source.time: wanted})
            order = (*(() if source.time is None else (source.time,)), *source.space)
            values = read_values(array.transpose(*order)).astype(np.float64).reshape(len(wanted), *(array.sizes[d] for d in source.space))
            for k, places in enumerate(source.places):
                values = np.take(values, places, axis=k + 1)
            out[rows.ravel() >= 0] = source.convert(values)[where.ravel()]
        return out.reshape(*rows.shape, *shape)


def time_keys(values: NDArray[Any], monthly: bool) -> list[Any]:
    """Comparable keys: dates to the second whatever their calendar or type, months for monthly forecasts, else rounded numbers."""
    if values.dtype.kind in "fiu":
        return [round(float(v), 9) for v in values]
    if monthly:
        return [month_number(v) for v in values]
    if values.dtype.kind == "M":
        return [str(v) for v in values.astype("datetime64[s]")]
    return [f"{v.year:04d}-{v.month:02d}-{v.day:02d}T{v.hour:02d}:{v.minute:02d}:{v.second:02d}" for v in values]


def stamp(key: Any) -> str:
    """A key for people: ``2001-03-01 06:00``."""
    return str(key)[:16].replace("T", " ") if isinstance(key, str) else f"{key:g}"


def know(ds: xr.Dataset, product: Product, where: str) -> Known:
    """Match the channels of a forecast with those of another data set.

    Raises
    ------
    DataError
        When no channel is there, for other quantities under the same name, and for dimensions beside time and space.
    GridError
        When a point of the forecast is none of the data's.
    """
    offered = channels_of(ds, where)
    sources: dict[str, Source] = {}
    notes: list[str] = []
    times: NDArray[Any] | None = None
    for channel in product.channels:
        match = _match(channel, offered)
        if match is None:
            names = [c.label for c in offered]
            notes.append(f"{channel.label} is not verified: {where} has no such variable ({did_you_mean(channel.label, names)})")
            continue
        convert = conversion(channel.label, match.quantity, match.units, channel.quantity, channel.units)
        array = match.arrays[""]
        space, places = _places(array, product.grid, where)
        array, time = _clocked(array, space, where)
        own = np.asarray(array[time].values) if time is not None else np.array([array["time"].values]) if "time" in array.coords else None
        if own is None:
            raise DataError(where, "times", f"none of {match.label}", "give data with a time coordinate")
        if times is not None and (own.shape != times.shape or (own != times).any()):
            raise DataError(where, "variables at the same times", f"{match.label} at others", "choose with --variables")
        times = own
        sources[channel.label] = Source(array, convert, space, places, time)
        if match.label != channel.label:
            notes.append(f"{channel.label} is compared with {match.label}")
        if convert.said:
            notes.append(convert.said)
    if times is None:
        wanted, names = ", ".join(c.label for c in product.channels[:8]), [c.label for c in offered]
        raise DataError(where, f"some of {wanted}", ", ".join(names[:8]), did_you_mean(product.channels[0].label, names))
    monthly = product.lead_units.rstrip("s") in ("month", "year")
    keys: dict[Any, int] = {}
    for k, key in enumerate(time_keys(times, monthly)):
        keys.setdefault(key, k)
    return Known(sources, times, keys, monthly, tuple(notes))


def _match(channel: Channel, offered: Sequence[Channel]) -> Channel | None:
    """The same name, else the same quantity on the same level, else its kin by a known factor."""
    whole = [c for c in offered if "" in c.arrays]
    tests: tuple[Callable[[Channel], bool], ...] = (
        lambda c: c.label == channel.label and bool(c.quantity.kin & channel.quantity.kin),
        lambda c: c.quantity == channel.quantity,
        lambda c: bool(c.quantity.kin & channel.quantity.kin),
    )
    return next((c for test in tests for c in whole if test(c)), None)


def _clocked(array: xr.DataArray, space: tuple[str, ...], where: str) -> tuple[xr.DataArray, str | None]:
    """The array with nothing but time before space."""
    rest = [str(d) for d in array.dims if d not in space]
    array = array.squeeze([d for d in rest if array.sizes[d] == 1 and d not in array.coords], drop=True)
    rest = [str(d) for d in array.dims if d not in space]
    dated = [d for d in rest if d in array.coords and (array[d].dtype.kind == "M" or array[d].dtype == object or d in ("time", "t"))]
    spare = [d for d in rest if d not in dated[:1]]
    array = array.squeeze([d for d in spare if array.sizes[d] == 1], drop=True)
    spare = [d for d in spare if d in array.dims]
    if spare:
        hint = f"take one entry of it: --truth-select {spare[0]}=0 (or --climatology-select)"
        raise DataError(where, "time and space only", f"{array.name} with {spare[0]} of {array.sizes[spare[0]]} entries", hint)
    return array, dated[0] if dated else None


def _places(array: xr.DataArray, grid: Grid, where: str) -> tuple[tuple[str, ...], tuple[NDArray[np.int64], ...]]:
    """Dimensions of space, and for each the places of the forecast's points."""
    if not isinstance(grid, Box | Sphere):
        raise GridError("verify", "a forecast on a grid", "scattered points", "interpolate it to a grid first")
    dims, places = [], []
    for axis in grid.axes:
        kind = None if isinstance(grid, Box) else is_latitude if axis is grid.lat else is_longitude
        found = [str(d) for d in array.dims if (d == axis.name if kind is None else kind(str(d), array.coords.get(d)))]
        if not found:
            raise GridError(f"{where}: {array.name}", f"a dimension {axis.name!r}", ", ".join(map(str, array.dims)), "give it on that grid")
        dims.append(found[0])
        values = array[found[0]].values if found[0] in array.coords else axis.coordinates()
        places.append(_nearest(axis, np.asarray(values, dtype=np.float64), 360.0 if kind is is_longitude else None, where))
    return tuple(dims), tuple(places)


def _nearest(axis: Axis, values: NDArray[np.float64], period: float | None, where: str) -> NDArray[np.int64]:
    """Index of the value at each point of the axis, in any order, and modulo the period."""
    x = axis.coordinates()
    apart = values[None, :] - x[:, None]
    if period is not None:
        apart = (apart + period / 2) % period - period / 2
    index = np.abs(apart).argmin(1)
    off = np.abs(apart[np.arange(x.size), index])
    spacing = float(np.abs(np.diff(x)).min()) if x.size > 1 else 1.0
    if off.max() > _NEAR * spacing:
        at = int(off.argmax())
        got = f"none at {x[at]:.6g} ({values.size} points from {values.min():.6g} to {values.max():.6g})"
        wanted = f"the points of the forecast along {axis.name!r} ({x.size} from {x[0]:.6g} to {x[-1]:.6g})"
        raise GridError(where, wanted, got, "bring one to the grid of the other, for example with ds.interp or `anygrid predict --like`")
    return index.astype(np.int64)
