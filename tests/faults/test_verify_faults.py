"""What does not fit is named, with the fix, and never a traceback."""

import numpy as np
import pytest
import xarray as xr
from cli_support import call
from verification_support import past, weather

from anygrid.cli.verifying import read_event
from anygrid.errors import DataError, GridError, UsageError
from anygrid.verification import Event, verify


@pytest.fixture(scope="module")
def case():
    return weather(starts=4, members=3)


def relabelled(truth, change, units):
    return truth.assign(t2m=change(truth.t2m).assign_attrs(units=units) if units else change(truth.t2m).drop_attrs())


def test_kelvin_and_celsius_without_units_are_told_apart(case):
    ds, truth = case
    with pytest.raises(DataError, match="one is in K, the other in degC"):
        verify(ds, relabelled(truth, lambda t: t - 273.15, ""), variables=["t2m"])


def test_a_mislabelled_geopotential_is_found(case):
    ds, truth = case
    wrong = truth.assign(z500=(truth.z500 / 9.80665).assign_attrs(units="m2 s-2"))
    with pytest.raises(DataError, match="geopotential height"):
        verify(ds, wrong, variables=["z500"])


def test_pascal_and_hectopascal_without_units(case):
    ds, truth = case
    pressure = {"msl": ds.t2m * 0 + 101325.0 + ds.t2m}, {"msl": (truth.t2m * 0 + 1013.25 + truth.t2m / 100).drop_attrs()}
    with pytest.raises(DataError, match="Pa, the other in hPa"):
        verify(xr.Dataset(pressure[0]), xr.Dataset(pressure[1]))


def test_other_quantities_under_one_name_are_refused(case):
    ds, truth = case
    with pytest.raises(DataError, match="different quantities"):
        verify(ds, relabelled(truth, lambda t: t, "m s-1"), variables=["t2m"])


def test_no_common_time_variable_or_grid(case):
    ds, truth = case
    with pytest.raises(DataError, match="truth at valid times 2001-03"):
        verify(ds, truth.assign_coords(time=truth.time + np.timedelta64(3650, "D")))
    with pytest.raises(DataError, match="did you mean"):
        verify(ds, truth.rename(t2m="t2mm", z500="z5000"))
    with pytest.raises(GridError, match="points of the forecast along"):
        verify(ds, truth.interp(lon=np.arange(5.0, 340.0, 20.0)))


def test_a_climatology_that_knows_the_answer_is_refused(case):
    ds, truth = case
    with pytest.raises(DataError, match="without the verified period"):
        verify(ds, truth, climatology=truth)
    assert verify(ds, truth, climatology=past(), draws=5).climatology.startswith("states within 15 days")


def test_members_in_the_truth_are_asked_about(case):
    ds, truth = case
    with pytest.raises(DataError, match="--truth-select number=0"):
        verify(ds, xr.concat([truth, truth], "number"))


def test_a_station_off_the_grid_and_an_unknown_event(case):
    ds, truth = case
    europe = ds.sel(lat=slice(30, 70))
    with pytest.raises(UsageError, match="--station"):
        verify(europe, truth, station=(-40.0, 5.0), draws=5)
    with pytest.raises(DataError, match="did you mean 't2m'"):
        verify(ds, truth, events=[Event("t2n", True, 1.0)], draws=5)


def test_a_calibration_that_cannot_be(case):
    ds, truth = case
    with pytest.raises(UsageError, match="2 starts or more that end before it"):
        verify(ds, truth, calibrate_until="2001-03-02", draws=5)
    with pytest.raises(UsageError, match="a date"):
        verify(ds, truth, calibrate_until="soon", draws=5)
    long, right = weather(starts=12, members=3)
    with pytest.raises(DataError, match="members, or mean and std"):
        verify(long.isel(member=0, drop=True), right, calibrate_until="2001-03-09", draws=5)


@pytest.mark.parametrize("text", ["t2m", "t2m>", ">3", "t2m>warm", "t2m>300K"])
def test_bad_events_are_refused(text):
    with pytest.raises(UsageError, match="--event"):
        read_event(text)


def test_good_events():
    assert read_event("t2m > 3e2") == Event("t2m", True, 300.0)
    assert read_event("t@level=850<-5.5") == Event("t@level=850", False, -5.5)


def test_bad_files_end_in_a_line_and_a_hint(tmp_path, case, capsys):
    ds, truth = case
    ds.to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    truth.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    (tmp_path / "empty.nc").touch()
    whole = (tmp_path / "t.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    xr.Dataset({"a": ("n", [1.0, 2.0])}).to_netcdf(tmp_path / "noplace.nc", engine="h5netcdf")
    for forecast, right, word in (
        ("f.nc", "empty.nc", "empty file"),
        ("f.nc", "cut.nc", "truncated"),
        ("nothing.nc", "t.nc", "nothing of that name"),
        ("noplace.nc", "t.nc", "expected"),
        ("t.nc", "noplace.nc", "expected"),
    ):
        code, out, err = call(capsys, "verify", tmp_path / forecast, tmp_path / right)
        assert (code, out) == (2, "")
        assert word in err
        assert "hint: " in err
        assert "Traceback" not in err
    code, _, err = call(capsys, "verify", tmp_path / "f.nc", tmp_path / "t.nc", "--station", "north")
    assert code == 2
    assert "LAT,LON" in err
    code, _, err = call(capsys, "verify", tmp_path / "f.nc", tmp_path / "t.nc", "--block", "40")
    assert code == 2
    assert "--block" in err
