import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anygrid.errors import DataError, UsageError
from anygrid.forecast.calendar import Step, valid_times


def date(text):
    return np.datetime64(text, "ns")


def months(start, counts, known=()):
    return [str(t)[:16] for t in valid_times(date(start), Step.parse("1month"), counts, [date(k) for k in known])]


def test_first_of_month_stays_the_first():
    assert months("1979-11-01", [1, 2, 3, 14]) == ["1979-12-01T00:00", "1980-01-01T00:00", "1980-02-01T00:00", "1981-01-01T00:00"]


def test_middle_and_end_of_month_are_kept_as_such():
    assert months("1979-01-16T12:00", [1, 2]) == ["1979-02-15T00:00", "1979-03-16T12:00"]
    assert months("1980-01-31", [1, 2, 3]) == ["1980-02-29T00:00", "1980-03-31T00:00", "1980-04-30T00:00"]
    assert months("1981-02-28T18:00", [1]) == ["1981-03-31T18:00"]


def test_other_days_are_kept_or_the_last_the_month_has():
    assert months("1981-01-29T06:00", [1, 2]) == ["1981-02-28T06:00", "1981-03-29T06:00"]


def test_labels_of_the_data_win_where_they_have_the_month():
    known = ["1979-02-14", "1979-03-15", "1979-03-20"]
    assert months("1979-01-15", [1, 2], known) == ["1979-02-14T00:00", "1979-03-15T00:00"]  # March is there twice: no label of its own


@given(st.integers(0, 400), st.integers(0, 12 * 60), st.integers(0, 47))
def test_months_add_up(month, count, half_days):
    start = np.datetime64("1950-01", "M") + month
    moment = start.astype("datetime64[ns]") + np.timedelta64(half_days * 12, "h")
    (there,) = valid_times(moment, Step.parse("1month"), [count])
    assert there.astype("datetime64[M]") == start + count


def test_fixed_durations_count_seconds():
    step = Step.parse("6h")
    np.testing.assert_array_equal(valid_times(date("2020-02-28T18:00"), step, [1, 2]), [date("2020-02-29"), date("2020-02-29T06:00")])
    assert step.lead(3) == 18
    assert step.units("") == "h"
    assert valid_times(date("2020-01-01"), Step.parse("1week"), [1])[0] == date("2020-01-08")
    assert valid_times(date("2020-02-29"), Step.parse("1year"), [1])[0] == date("2021-02-28")


def test_other_calendars():
    start = cftime.Datetime360Day(2000, 2, 30)
    assert list(valid_times(start, Step.parse("1month"), [1, 11])) == [
        cftime.Datetime360Day(2000, 3, 30),
        cftime.Datetime360Day(2001, 1, 30),
    ]
    assert valid_times(cftime.DatetimeNoLeap(2000, 2, 28), Step.parse("1d"), [1])[0] == cftime.DatetimeNoLeap(2000, 3, 1)
    assert valid_times(cftime.DatetimeNoLeap(2000, 1, 16, 12), Step.parse("1month"), [1])[0] == cftime.DatetimeNoLeap(2000, 2, 15)


@pytest.mark.parametrize(
    ("dt", "units", "times"),
    [(0.1, "", [2.1, 2.3]), ("0.1", "1", [2.1, 2.3]), ("0.1 1", "1", [2.1, 2.3]), ("6h", "days", [2.25, 2.75]), ("30min", "h", [2.5, 3.5])],
)
def test_numbers(dt, units, times):
    np.testing.assert_array_equal(valid_times(2.0, Step.parse(dt), [1, 3], units=units), times)


def test_steps_have_no_times():
    assert valid_times(date("2020-01-01"), Step.parse(None), [1]) is None
    assert valid_times(1.0, Step.parse("1 step"), [1]) is None


@pytest.mark.parametrize("dt", ["", "-1h", "0", "1.2.3h"])
def test_no_duration_is_refused(dt):
    with pytest.raises(UsageError, match="dt: expected a positive duration"):
        Step.parse(dt)


@pytest.mark.parametrize("dt", ["h6", "6 parsecs"])
def test_unknown_units_are_refused_for_dates(dt):
    with pytest.raises(DataError, match="a duration with a unit"):
        valid_times(date("2020-01-01"), Step.parse(dt), [1])


def test_months_do_not_fit_a_numeric_axis_nor_numbers_a_date():
    with pytest.raises(DataError, match="units of the time coordinate"):
        valid_times(1.0, Step.parse("1month"), [1], units="s")
    with pytest.raises(DataError, match="time is a date"):
        valid_times(date("2020-01-01"), Step.parse(0.5), [1])
    with pytest.raises(UsageError, match="whole number of months"):
        valid_times(date("2020-01-01"), Step.parse("0.5month"), [1])
