"""Lead times on calendars, hours and numbers; gaps."""

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.io.leads import find_lead


def axis(values, **attrs):
    return xr.DataArray(values, dims="time", name="time", attrs=attrs)


MONTHS = axis(pd.date_range("1979-01-16", periods=36, freq=pd.DateOffset(months=1)))
HOURS = axis(pd.date_range("2020-02-27", periods=40, freq="6h"))


@pytest.mark.parametrize(
    ("time", "lead", "steps", "dt"),
    [
        (MONTHS, "1month", 1, "1month"),
        (MONTHS, "3 months", 3, "3month"),
        (MONTHS, "1y", 12, "1year"),
        (MONTHS, 2, 2, "2month"),
        (MONTHS, "2steps", 2, "2month"),
        (HOURS, "6h", 1, "6h"),
        (HOURS, "1d", 4, "1d"),
        (HOURS, "720 min", 2, "12h"),
        (HOURS, 3, 3, "18h"),
        (axis(np.arange(10) * 0.1), "0.5", 5, "0.5"),
        (axis(np.arange(10) * 0.1, units="s"), "0.5s", 5, "0.5s"),
        (axis(np.arange(10) * 0.5, units="hours since 2000-01-01"), "1h", 2, "1h"),
        (axis(np.arange(10) * 0.5, units="hours"), "1.5", 3, "90min"),
        (axis(np.arange(10.0).astype(np.float32) * np.float32(0.01)), "0.02", 2, "0.02"),
        (axis(pd.timedelta_range("0h", periods=5, freq="1h")), "2h", 2, "2h"),
        (axis([cftime.DatetimeNoLeap(2000 + k // 12, 1 + k % 12, 15) for k in range(30)]), "1month", 1, "1month"),
        (axis([cftime.Datetime360Day(2000, 2, 28) + k * pd.Timedelta("1D").to_pytimedelta() for k in range(9)]), "2d", 2, "2d"),
        (axis(pd.date_range("1900", periods=20, freq="YS")), "1year", 1, "1year"),
        (None, 2, 2, "2 step"),
        (None, "2", 2, "2 step"),
    ],
)
def test_leads(time, lead, steps, dt):
    found = find_lead(lead, time, 20 if time is None else time.size)
    assert (found.steps, found.dt) == (steps, dt)
    assert not any(found.gaps)


@pytest.mark.parametrize(
    ("time", "lead", "message"),
    [
        (HOURS, "1h", "the times are 6h apart"),
        (HOURS, "1month", "the times are 6h apart"),
        (MONTHS, "30d", "the times are 1month apart"),
        (MONTHS, "1", "give --lead 1month"),
        (MONTHS, "40months", "shorter than the data"),
        (axis(np.arange(10) * 0.1), "0.25", "0.1 apart"),
        (axis(np.arange(10) * 0.1), "1h", "0.1 apart"),
        (None, "1h", "no coordinate"),
        (axis([0.0, 1.0, 1.0, 2.0]), "1", "1.0 followed by 1.0"),
        (axis([0.0, 1.0, np.nan, 2.0]), "1", "followed by nan"),
        (axis([0.0, 1.0, 3.0, 7.0, 15.0, 31.0]), "1", "usual spacing"),
        (axis(["a", "b"]), "1", "dates or numbers"),
        (axis([0.0]), "1", "two or more times"),
    ],
)
def test_leads_that_do_not_exist(time, lead, message):
    with pytest.raises(DataError, match=message):
        find_lead(lead, time, 20 if time is None else time.size)


@pytest.mark.parametrize("lead", ["", "x", "1parsec", "-1h", "0h", "0", 0, -3, "1e400", "h h"])
def test_text_that_is_no_duration(lead):
    with pytest.raises(UsageError):
        find_lead(lead, HOURS, 40)


def test_gaps_are_found():
    hours = HOURS.isel(time=[*range(10), *range(14, 40)])
    found = find_lead("6h", hours, hours.size)
    assert [k for k, gap in enumerate(found.gaps) if gap] == [9]
    months = MONTHS.isel(time=[k for k in range(36) if k != 20])
    assert [k for k, gap in enumerate(find_lead(1, months, 35).gaps) if gap] == [19]


def test_errors_are_ours():
    for bad in ("nan", "1e", "..", "1 1"):
        with pytest.raises(AnygridError):
            find_lead(bad, HOURS, 40)
