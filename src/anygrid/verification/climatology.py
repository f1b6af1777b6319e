"""Climatology by day of year and hour, from past data that the verified period is no part of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import DataError
from anygrid.verification.known import Known, time_keys

__all__ = ["Climatology", "find_climatology"]

_WINDOW = 15  # days to either side
_STATES = 300  # of which a mean is made: more are thinned out evenly
_MOST = 60  # states that serve as a climatological ensemble


@dataclass(frozen=True, eq=False)
class Climatology:
    """States of the past that stand for a time of the year.

    Attributes
    ----------
    known
        Past data, on the grid and in the units of the forecast.
    day, hour
        Day of the year (1 to 366) and hour of each past state; None where the times are no dates or do not cover a year.
    said
        What it is, in words.
    """

    known: Known
    day: NDArray[np.float64] | None
    hour: NDArray[np.float64] | None
    said: str

    def rows(self, time: Any) -> NDArray[np.int64]:
        """States within 15 days of the time of the year, at its hour where the data have it."""
        if self.day is None or self.hour is None:
            return _thin(np.arange(len(self.known.times)), _STATES)
        day, hour = (part[0] for part in _calendar(np.array([time])))
        apart = np.abs(self.day - day)
        near = np.minimum(apart, 366 - apart) <= _WINDOW
        same = near & (self.hour == hour)
        return _thin(np.flatnonzero(same if same.any() else near), _STATES)

    def states(self, label: str, time: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean field, and up to 60 states evenly taken ``(member, *space)``, for a valid time."""
        rows = self.rows(time)
        fields = self.known.at(label, rows)
        return fields.mean(0), fields[_thin(np.arange(len(rows)), _MOST)]


def find_climatology(known: Known, verified: NDArray[Any]) -> Climatology:
    """Climatology out of past data.

    Raises
    ------
    DataError
        When the data hold verified times: a climatology that knows the answer flatters or blames unduly.
    """
    common = set(known.keys) & set(time_keys(np.ravel(verified), known.monthly))
    if common:
        hint = "choose past data that do not: --climatology-select time=1979:2010"
        got = f"{len(common)} of the verified times, such as {min(map(str, common))}"
        raise DataError("--climatology", "data without the verified period", got, hint)
    times = known.times
    if times.dtype.kind in "fiu":
        return Climatology(known, None, None, f"the mean of {len(times)} states")
    day, hour = _calendar(times)
    if len(np.unique(day // 31)) < 11:
        return Climatology(known, None, None, f"the mean of {len(times)} states, which do not cover a year")
    years = np.unique([int(key[:4]) for key in time_keys(times, False)])
    return Climatology(known, day, hour, f"states within {_WINDOW} days of the day of the year, {years[0]} to {years[-1]}")


def _calendar(times: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Day of the year and hour."""
    if times.dtype.kind == "M":
        days = times.astype("datetime64[D]")
        day = (days - times.astype("datetime64[Y]")).astype("timedelta64[D]").astype(float) + 1
        return day, (times - days) / np.timedelta64(1, "h")
    return np.array([float(t.dayofyr) for t in times]), np.array([t.hour + t.minute / 60 for t in times])


def _thin(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
