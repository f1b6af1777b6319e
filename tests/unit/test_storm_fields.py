"""Names, levels, units, times and starts as files have them."""

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from storm_support import along, moving

from anygrid.errors import DataError, GridError, UsageError
from anygrid.fields.conversions import GRAVITY
from anygrid.fields.names import find_name, quantity_of
from anygrid.grid import Sphere
from anygrid.storms import Criteria, Sources, track
from anygrid.storms.quantities import kind_and_scale, sea_level_pressure, standard_height

HOURS = np.arange(0, 36, 6.0)
GRID = Sphere.equiangular(36, 72)
PATH = along(45, 0, 80, 12, HOURS)


@pytest.fixture(scope="module")
def ds():
    return moving(GRID, [PATH], HOURS)


def levels(units="m2 s-2", factor=GRAVITY, coordinate="hPa"):
    z = np.stack([np.full((2, 3), standard_height(p) * factor) for p in (850, 500)])
    scale = 100 if coordinate == "Pa" else 1
    attrs = {"units": coordinate, "standard_name": "air_pressure"}
    return xr.Dataset({"zg": (("plev", "lat", "lon"), z, {"units": units})}, {"plev": ("plev", np.array([850, 500.0]) * scale, attrs)})


@pytest.mark.parametrize("unit", ["hPa", "Pa"])
def test_short_names_with_levels_find_what_a_file_calls_otherwise(unit):
    data = levels(coordinate=unit)
    name = find_name(data, "z850")
    assert name == f"zg@plev={850 if unit == 'hPa' else 85000}"
    assert quantity_of(name).level == 850
    with pytest.raises(DataError, match="a level of 'zg', got 700 hPa"):
        find_name(data, "z700")
    with pytest.raises(DataError, match="did you mean 'zg'"):
        find_name(data, "zgg")


def test_standard_names_serve(ds):
    odd = ds.rename(msl="var151")
    odd.var151.attrs["standard_name"] = "air_pressure_at_mean_sea_level"
    assert find_name(odd, "msl") == "var151"
    with pytest.raises(DataError, match="variable 'u850'"):
        find_name(odd, "u850")


def array(values, units):
    return xr.DataArray(np.array(values, dtype=float), attrs={} if units is None else {"units": units})


@pytest.mark.parametrize(
    ("middle", "units", "level", "kind", "scale"),
    [
        (101300, "Pa", None, "pressure", 1),
        (1013, "hPa", None, "pressure", 100),
        (1013, "millibars", None, "pressure", 100),
        (1013, None, None, "pressure", 100),
        (101300, None, None, "pressure", 1),
        (14200, "m**2 s**-2", 850, "height", 1 / GRAVITY),
        (1450, "m", 850, "height", 1),
        (1450, None, 850, "height", 1),
        (14200, None, 850, "height", 1 / GRAVITY),
        (145, "dam", 850, "height", 10),
    ],
)
def test_units_are_told(middle, units, level, kind, scale):
    assert kind_and_scale(array([middle], units), "x", level, ("pressure", "height", "vorticity")) == (kind, pytest.approx(scale))


@pytest.mark.parametrize(
    ("middle", "units", "level", "told"),
    [
        (1013, "Pa", None, "a pressure of about 100000 Pa"),
        (14200, "m", 850, "a height of about 1457 m at 850 hPa"),
        (1450, "m2 s-2", 850, "a height of about 1457 m"),
        (280, "K", None, "pressure or height or vorticity, got units 'K'"),
        (5, "furlongs of rain", None, "units that can be read"),
        (5, None, None, "none, and values that do not tell"),
        (np.nan, "Pa", None, "only missing ones"),
    ],
)
def test_units_that_contradict_the_values_are_refused(middle, units, level, told):
    with pytest.raises(DataError, match=told):
        kind_and_scale(array([middle], units), "x", level, ("pressure", "height", "vorticity"))


def test_standard_atmosphere():
    # ISO 2533: 5574 m at 500 hPa, 1457 m at 850 hPa, 16180 m at 100 hPa.
    assert [round(standard_height(p)) for p in (850, 500, 100)] == pytest.approx([1457, 5574, 16180], abs=2)
    z = array([0.0, 1457.3], "m")
    found = sea_level_pressure(array([101325.0, 85000.0], "Pa"), z)
    np.testing.assert_allclose(found, 101325, rtol=1e-4)


def test_surface_pressure_over_mountains_is_reduced(ds):
    height = 2000 * np.exp(-((ds.lat - 45) ** 2 + ((ds.lon - 20) / 1.5) ** 2) / 50)
    surface = ds.msl * (1 - 0.0065 * height / 288.15) ** (9.80665 / (287.05 * 0.0065))
    # transposes as the product of the dimensions came out
    mountains = xr.Dataset({"sp": surface.transpose("time", "lat", "lon").assign_attrs(units="Pa"), "orog": height.assign_attrs(units="m")})
    fixed = track(mountains, Sources("sp", ground="orog"), Criteria(lifetime_hours=12)).table
    plain = track(ds, Sources("msl"), Criteria(lifetime_hours=12)).table
    np.testing.assert_allclose(fixed[["lat", "lon"]], plain[["lat", "lon"]], atol=1e-6)
    np.testing.assert_allclose(fixed["pressure"], plain["pressure"], rtol=1e-6)


def test_starts_and_leads_make_runs_of_their_own(ds):
    lead = ds.rename(time="prediction_timedelta").assign_coords(prediction_timedelta=pd.to_timedelta(HOURS, unit="h"))
    starts = pd.to_datetime(["2005-08-25", "2005-08-26"])
    both = xr.concat([lead, lead], pd.Index(starts, name="time"))
    found = track(both, Sources("msl"), Criteria(lifetime_hours=12))
    assert found.starts == 2
    assert list(found.table["start"].unique()) == list(starts)
    second = found.table[found.table["start"] == starts[1]]
    assert list(second["lead"]) == list(HOURS)
    assert second["time"].iloc[-1] == starts[1] + pd.Timedelta(hours=30)


def test_calendars_without_leap_days_and_numbers_of_hours(ds):
    noleap = [
        cftime.DatetimeNoLeap(2001, 2, 28, 6 * int(k)) if k < 4 else cftime.DatetimeNoLeap(2001, 3, 1, 6 * int(k - 4)) for k in range(6)
    ]
    found = track(ds.assign_coords(time=noleap), Sources("msl"), Criteria(lifetime_hours=12)).table
    assert list(found["lead"]) == list(HOURS)
    assert str(found["time"].iloc[-1]) == "2001-03-01 06:00:00"
    hours = ds.rename(time="lead_time").assign_coords(lead_time=("lead_time", HOURS, {"units": "hours"}))
    assert list(track(hours, Sources("msl"), Criteria(lifetime_hours=12)).table["lead"]) == list(HOURS)
    with pytest.raises(DataError, match="units of time"):
        track(hours.assign_coords(lead_time=np.arange(6)), Sources("msl"))


def test_one_state_has_centres_and_no_lifetime(ds):
    found = track(ds.isel(time=2), Sources("msl")).table
    assert len(found) == 1
    assert found["lead"].tolist() == [0]


def test_what_cannot_be_tracked_says_why(ds):
    with pytest.raises(DataError, match="ascends, each time once"):
        track(ds.isel(time=[0, 2, 1]), Sources("msl"))
    with pytest.raises(UsageError, match="near enough to follow"):
        track(ds.assign_coords(time=pd.date_range("2000-01-01", periods=6, freq="10D")), Sources("msl"))
    with pytest.raises(UsageError, match="a pressure, a height or a wind"):
        Sources()
    with pytest.raises(UsageError, match="0 or more, got -1"):
        Criteria(pressure_rise=-1)
    flat = xr.Dataset({"msl": (("time", "y", "x"), ds.msl.values, {"units": "Pa"})}, {"time": ds.time, "y": range(36), "x": range(72)})
    flat = flat.assign_coords(y=np.arange(36.0) ** 1.1, x=np.arange(72.0) ** 1.1)
    with pytest.raises(GridError, match="latitudes and longitudes"):
        track(flat, Sources("msl"))
