"""Lead times: "1month", "6h", "0.5" or a number of steps, turned into indices of a time axis, and where that axis has gaps."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, UsageError

__all__ = ["Lead", "find_lead", "season_clock"]

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "week": 604800.0}
_MONTHS = {"month": 1, "year": 12}
_UNITS = {
    **{w: "s" for w in ("s", "sec", "second", "seconds")},
    **{w: "min" for w in ("min", "minute", "minutes")},
    **{w: "h" for w in ("h", "hr", "hour", "hours")},
    **{w: "d" for w in ("d", "day", "days")},
    **{w: "week" for w in ("w", "week", "weeks")},
    **{w: "month" for w in ("mon", "month", "months", "mo")},
    **{w: "year" for w in ("y", "yr", "year", "years", "a")},
    **{w: "step" for w in ("step", "steps")},
}
_YEARS = {"360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0, "julian": 365.25}  # days
_YEAR = 365.2425  # days of all other calendars
_TOLERANCE = 0.01  # a spacing may differ from the usual one by this fraction before it counts as a gap


@dataclass(frozen=True)
class Lead:
    """Lead time of an evolution.

    Parameters
    ----------
    steps
        Lead in indices of the time axis.
    dt
        The same as text with its unit ("1month", "6h", "0.5 s"); "N step" where time has no coordinate.
    gaps
        For each pair of neighbouring times, whether something is missing between them.
    """

    steps: int
    dt: str
    gaps: tuple[bool, ...]


def find_lead(lead: int | str, time: xr.DataArray | None, size: int, where: str = "--lead") -> Lead:
    """Turn a lead into indices of a time axis with ``size`` entries.

    Months and years count calendar months, so that 16 January to 15 February is one month. A bare number is in the units of
    a numeric time coordinate; an ``int`` is a number of indices, as is ``"2steps"``.

    Raises
    ------
    UsageError
        For text that is no duration, or a lead that is not positive.
    DataError
        For a lead that is no multiple of the spacing of the data (the hint lists it), times that repeat or descend, and
        times without a usual spacing.
    """
    amount, unit = _parse(lead, where)
    if size < 2:
        raise DataError("time", "two or more times for a lead", str(size), "give more times, or leave out the lead for steady data")
    if time is None:
        if unit != "step" and not (unit == "" and float(amount).is_integer()):
            raise DataError(
                where, "a number of steps, because time has no coordinate", repr(lead), "give --lead 1, or add a time coordinate"
            )
        return _whole(amount, "1 step", where, f"{int(amount)} step", (False,) * (size - 1))
    spacing = _spacing(time)
    if unit == "step":
        return _whole(amount, spacing.text(1), where, spacing.text(int(amount)), spacing.gaps)
    if unit == "" and spacing.unit not in _SECONDS and spacing.unit not in _MONTHS:
        wanted = amount
    elif unit == "" and spacing.numeric:
        wanted = amount * _SECONDS[spacing.numeric]
    elif unit == "":
        raise DataError(
            where, "a number with a unit", repr(lead), f"the times are {spacing.text(1)} apart: give --lead {spacing.text(1)}, or 1step"
        )
    elif unit in _MONTHS and spacing.unit == "month":
        wanted = amount * _MONTHS[unit]
    elif unit in _SECONDS and spacing.unit in _SECONDS:
        wanted = amount * _SECONDS[unit]
    else:
        raise DataError(where, "a multiple of the spacing of the times", repr(lead), f"the times are {spacing.text(1)} apart")
    ratio = wanted / spacing.value
    if abs(ratio - round(ratio)) > _TOLERANCE * max(1.0, ratio) or round(ratio) < 1:
        raise DataError(where, "a multiple of the spacing of the times", repr(lead), f"the times are {spacing.text(1)} apart")
    steps = round(ratio)
    return _whole(float(steps), spacing.text(1), where, spacing.text(steps), spacing.gaps)


def _whole(amount: float, one: str, where: str, dt: str, gaps: tuple[bool, ...]) -> Lead:
    if amount < 1 or not float(amount).is_integer():
        raise UsageError(where, "a whole number of steps, at least 1", f"{amount:g}", f"one step is {one}")
    if amount > len(gaps):
        raise DataError(where, f"a lead shorter than the data ({len(gaps)} steps of {one})", dt, "give a shorter lead or more times")
    return Lead(int(amount), dt, gaps)


def _parse(lead: int | str, where: str) -> tuple[float, str]:
    if isinstance(lead, int):
        return float(lead), "step"
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)?\s*([A-Za-z]*)\s*", lead)
    if not found or not (found[1] or found[2]) or (found[2] and found[2].lower() not in _UNITS):
        raise UsageError(
            where, "a duration", repr(lead), 'for example "1month", "6h", "1d", "0.5" (in units of the time coordinate) or "2steps"'
        )
    amount = float(found[1]) if found[1] else 1.0
    if not (math.isfinite(amount) and amount > 0):
        raise UsageError(where, "a positive duration", repr(lead))
    return amount, _UNITS[found[2].lower()] if found[2] else ""


@dataclass(frozen=True)
class _Spacing:
    value: float  # in months, seconds, or units of the coordinate
    unit: str  # "month", "s", or the coordinate's own unit text
    numeric: str  # unit of a numeric coordinate when it is a known one
    gaps: tuple[bool, ...]

    def text(self, steps: int) -> str:
        """Length of so many steps, in the largest unit that divides it."""
        value = self.value * steps
        if self.unit == "month":
            return f"{value / 12:g}year" if value % 12 == 0 else f"{value:g}month"
        if self.unit == "s":
            name, size = next(((n, s) for n, s in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)) if value % s == 0), ("s", 1.0))
            return f"{value / size:.10g}{name}"
        return f"{value:.10g} {self.unit}".strip()


def _spacing(time: xr.DataArray) -> _Spacing:
    values = np.asarray(time.values)
    if values.dtype.kind == "M" or values.dtype == object:
        seconds, months = _calendar(values)
        steps = np.diff(seconds)
        _ascending(steps, values)
        usual = float(np.median(steps))
        if usual > 27 * 86400:
            counts = np.diff(months)
            typical = float(np.median(counts))
            return _Spacing(typical, "month", "", _gaps(counts, typical, values))
        return _Spacing(usual, "s", "", _gaps(steps, usual, values))
    if values.dtype.kind == "m":
        steps = np.diff(values) / np.timedelta64(1, "s")
        numeric, unit, factor = "", "s", 1.0
    elif values.dtype.kind in "fiu":
        text = str(time.attrs.get("units", "")).split(" since ")[0].strip()
        known = _UNITS.get(text.lower(), "")
        numeric = known if known in _SECONDS else ""
        text = "" if text == "1" else text  # dimensionless time: a lead of 0.5, not of "0.5 1"
        factor = _SECONDS.get(numeric, 1.0)
        # The shortest decimal that gives a float32 is what its author wrote: 0.02, not 0.0199999996.
        exact = np.array([float(str(v)) for v in values]) if values.dtype == np.float32 else values.astype(np.float64)
        steps, unit = np.diff(exact) * factor, "s" if numeric else text
    else:
        raise DataError("time", "dates or numbers", f"values of type {values.dtype}", "give the data a numeric or date time coordinate")
    _ascending(steps, values)
    usual = float(np.median(steps))
    return _Spacing(usual, unit, numeric, _gaps(steps, usual, values))


def _calendar(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Seconds since the first date, and calendar months; dates of any calendar."""
    if values.dtype.kind == "M":
        seconds = (values - values[0]) / np.timedelta64(1, "s")
        return seconds.astype(np.float64), values.astype("datetime64[M]").astype(np.int64)
    seconds = np.array([(v - values[0]).total_seconds() for v in values], dtype=np.float64)
    return seconds, np.array([v.year * 12 + v.month for v in values], dtype=np.int64)


def season_clock(time: xr.DataArray) -> tuple[NDArray[np.float64], float] | None:
    """Seconds of dates since the first, and of a year of their calendar; None where times are no dates."""
    values = np.asarray(time.values)
    if values.dtype.kind != "M" and values.dtype != object:
        return None
    calendar = "" if values.dtype.kind == "M" else str(values[0].calendar)
    return _calendar(values)[0], 86400.0 * _YEARS.get(calendar, _YEAR)


def _ascending(steps: NDArray[Any], values: NDArray[Any]) -> None:
    bad = ~(steps > 0)
    if bad.any():
        at = int(bad.argmax())
        raise DataError(
            "time", "times that ascend", f"{values[at]} followed by {values[at + 1]}", "sort with ds.sortby('time') and drop repeated times"
        )


def _gaps(steps: NDArray[Any], usual: float, values: NDArray[Any]) -> tuple[bool, ...]:
    gaps = np.abs(steps - usual) > _TOLERANCE * usual
    if gaps.sum() > max(1, len(steps) // 2):
        raise DataError(
            "time",
            "times with a usual spacing",
            f"spacings from {steps.min():g} to {steps.max():g} (from {values[0]} on)",
            "resample the data to even times",
        )
    return tuple(bool(g) for g in gaps)
