"""Valid times: a start and a number of time steps, on clocks, calendars and plain numbers."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import DataError, UsageError

__all__ = ["Step", "month_number", "valid_times"]

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "week": 604800}
_WORDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "week"),
    **dict.fromkeys(("mo", "mon", "month", "months"), "month"),
    **dict.fromkeys(("y", "yr", "year", "years", "a"), "year"),
    **dict.fromkeys(("step", "steps"), "step"),
}


@dataclass(frozen=True)
class Step:
    """Time step of a map: an amount and its unit (s, min, h, d, week, month, year, step, or the unit of a numeric time axis)."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, dt: str | float | None) -> Step:
        """From text such as ``"1month"``, ``"6h"``, ``"0.5 s"``; from a number in units of the time coordinate; None counts steps.

        Raises
        ------
        UsageError
            For text that is no duration, and amounts that are not positive.
        """
        if dt is None:
            return cls(1.0, "step")
        if not isinstance(dt, str):
            dt = repr(float(dt))
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)?\s*(1|[A-Za-z°µ%].*?)?\s*", dt)
        if found is None or not (found[1] or found[2]) or float(found[1] or 1) <= 0:
            raise UsageError("dt", "a positive duration", repr(dt), 'for example "1month", "6h", or 0.5 (in units of the time coordinate)')
        word = found[2] or ""
        return cls(float(found[1] or 1), _WORDS.get(word.lower(), "" if word == "1" else word))

    @property
    def seconds(self) -> float | None:
        """Length where it is fixed: not of months, years, and units of a numeric axis."""
        return self.amount * _SECONDS[self.unit] if self.unit in _SECONDS else None

    def lead(self, count: int) -> float:
        """Lead time after ``count`` steps, in :attr:`unit`."""
        return float(f"{self.amount * count:.12g}")  # 3 * 0.1 is 0.3

    def units(self, time_units: str) -> str:
        """Unit of the lead times. Not spelt as a word where xarray would turn the numbers into time differences."""
        if self.unit == "step":
            return "1"
        return self.unit or time_units or "1"


def valid_times(start: Any, step: Step, counts: Sequence[int], known: Iterable[Any] = (), units: str = "") -> NDArray[Any] | None:
    """Times ``start + k dt`` for each k in ``counts``; None where ``dt`` counts steps and cannot be a time.

    Months and years are calendar ones. Where the ``known`` times (those of the data, of forcings, of a truth) hold exactly one in
    the month that is wanted, it is taken, so that labels follow the data's own convention. Otherwise a start in the middle of
    its month gives the middles of months, the last day of one the last days, and any other day the same day (or the last).

    Parameters
    ----------
    start
        ``numpy.datetime64``, a cftime date, or a number.
    units
        Units of a numeric time coordinate.

    Raises
    ------
    DataError
        For a step that a numeric time axis cannot hold (months), or in other units than the axis.
    """
    if step.unit == "step":
        return None
    if not isinstance(start, int | float | np.number):  # datetime64 or a cftime date of any calendar
        if step.unit in ("month", "year"):
            return _months(start, step, counts, known)
        if step.unit not in _SECONDS:
            got = f"{step.amount:g} {step.unit}".strip()
            raise DataError("dt", "a duration with a unit, because time is a date", got, 'for example "6h" or "1month"')
        seconds = [step.amount * _SECONDS[step.unit] * k for k in counts]
        if isinstance(start, np.datetime64):
            return np.array([start + np.timedelta64(round(s * 1e9), "ns") for s in seconds], dtype="datetime64[ns]")
        return np.array([start + datetime.timedelta(seconds=s) for s in seconds], dtype=object)
    factor = 1.0
    if step.unit:
        axis = _WORDS.get(units.strip().lower(), units.strip())
        if axis == step.unit or (axis in ("", "1") and step.unit not in _SECONDS):
            factor = 1.0
        elif axis in _SECONDS and step.unit in _SECONDS:
            factor = _SECONDS[step.unit] / _SECONDS[axis]
        else:
            raise DataError("dt", f"a step in units of the time coordinate ({units or 'none stated'})", f"{step.amount:g} {step.unit}")
    return np.array([float(f"{float(start) + step.amount * factor * k:.12g}") for k in counts])


def month_number(time: Any) -> int:
    """Months since year 0."""
    year, month = _year_month(time)
    return 12 * year + month - 1


def _months(start: Any, step: Step, counts: Sequence[int], known: Iterable[Any]) -> NDArray[Any]:
    jump = step.amount * (12 if step.unit == "year" else 1)
    if jump != round(jump):
        raise UsageError("dt", "a whole number of months", f"{step.amount:g} {step.unit}")
    labels: dict[int, list[Any]] = {}
    for time in known:
        labels.setdefault(month_number(time), []).append(time)
    found = []
    for k in counts:
        wanted = month_number(start) + round(jump) * k
        there = labels.get(wanted, [])
        found.append(there[0] if len(there) == 1 else _in_month(start, wanted))
    if isinstance(start, np.datetime64):
        return np.array(found, dtype="datetime64[ns]")
    return np.array(found, dtype=object)


def _year_month(time: Any) -> tuple[int, int]:
    if isinstance(time, np.datetime64):
        number = int(time.astype("datetime64[M]").astype(np.int64))
        return 1970 + number // 12, number % 12 + 1
    return int(time.year), int(time.month)


def _in_month(start: Any, wanted: int) -> Any:
    """The time of month ``wanted`` that stands in it as ``start`` stands in its own month."""
    if isinstance(start, np.datetime64):
        here = start.astype("datetime64[M]")
        since = start.astype("datetime64[ns]") - here.astype("datetime64[ns]")
        length = (here + 1).astype("datetime64[ns]") - here.astype("datetime64[ns]")
        there = here + (wanted - month_number(start))
        begin, room = there.astype("datetime64[ns]"), (there + 1).astype("datetime64[ns]") - there.astype("datetime64[ns]")
        day = np.timedelta64(1, "D").astype("timedelta64[ns]")
    else:
        here, length = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0), datetime.timedelta(days=start.daysinmonth)
        since = start - here
        begin = here.replace(year=wanted // 12, month=wanted % 12 + 1)
        room, day = datetime.timedelta(days=begin.daysinmonth), datetime.timedelta(days=1)
    if since * 2 == length:
        return begin + room / 2
    if since >= length - day:
        return begin + room - (length - since)
    # A day the month does not have becomes its last, at the same hour.
    return begin + (since if since < room else room - day + since % day)
