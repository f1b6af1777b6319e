"""What a store of the weather model holds, by a stand-in for the model."""

import numpy as np
import pytest
import xarray as xr
from weather_support import StandIn, without_process

from anygrid.fields import find_grid, find_layout
from anygrid.io import weather_store
from anygrid.io.weather_ensemble import run_ensemble
from anygrid.io.weather_store import generate_weather, restart_from, restart_times
from anygrid.numerics.insolation import daily_insolation
from anygrid.problems.speedy import GRID, Speedy, perturbed
from anygrid.problems.speedy_fields import SOLAR, diagnose

PROBLEM = Speedy(variables=("z500", "t850", "u850", "q700", "t2m", "msl", "sp", "toa_radiation", "sst"), spin_up=1, start="2000-02-27")
STANDARD = {"z500": "geopotential", "t850": "air_temperature", "u850": "eastward_wind", "msl": "air_pressure_at_mean_sea_level"}


@pytest.fixture
def store(tmp_path, monkeypatch):
    without_process(monkeypatch)
    return generate_weather(PROBLEM, 5, tmp_path / "a.zarr", chunk_days=2, restart_days=2)


def test_dates_units_names_and_grid(store):
    ds = xr.open_zarr(store)
    assert ds.time.dtype == np.dtype("datetime64[ns]")
    expected = np.datetime64("2000-02-27") + np.arange(20) * np.timedelta64(6, "h")  # through a leap day
    np.testing.assert_array_equal(ds.time.values, expected)
    assert {name: ds[name].attrs["standard_name"] for name in STANDARD} == STANDARD
    assert [ds[name].attrs["units"] for name in ("z500", "t2m", "q700", "sp", "orography")] == ["m2 s-2", "K", "kg kg-1", "Pa", "m"]
    assert (ds.lat.attrs["units"], ds.lon.attrs["units"]) == ("degrees_north", "degrees_east")
    assert find_grid(ds, ["z500"], find_layout(ds, ["z500"]))[0] == GRID
    assert "1 days before 2000-02-27" in ds.attrs["spin_up"]
    assert all(np.isfinite(ds[name].values).all() for name in ds.data_vars)


def test_frames_are_those_of_the_model_at_their_times(store):
    ds, engine = xr.open_zarr(store), StandIn()
    state = engine.rest(np.datetime64("2000-02-26", "s"), 0)
    _, state = engine.advance(state, 4)
    for k in range(20):
        expected = diagnose(["z500", "sp"], engine.fields(state), engine.constants()).numpy()
        np.testing.assert_allclose(ds["z500"].values[k], expected[0], rtol=1e-6)
        np.testing.assert_allclose(ds["sp"].values[k], expected[1], rtol=1e-6)
        _, state = engine.advance(state, 1)


def test_boundary_data_are_those_of_the_valid_time(store):
    ds = xr.open_zarr(store)
    light = daily_insolation(ds.time.values, GRID.points()[..., 0], SOLAR).numpy()
    np.testing.assert_allclose(ds.toa_radiation.values, light, rtol=1e-5, atol=1e-3)
    assert light[0].std() > 50
    base = StandIn().constants()["sst"][0, 24, 0]
    days = (ds.sst.values[::4, 24, 0] - base) * 365
    np.testing.assert_allclose(days, [57, 58, 58, 59, 60], atol=0.02)  # 29 February has the sea of the 28th


def test_states_come_back_as_they_were_and_the_run_goes_on_from_them(store):
    np.testing.assert_array_equal(restart_times(store), np.array(["2000-02-27", "2000-02-29", "2000-03-02"], dtype="datetime64[ns]"))
    engine, ds = StandIn(), xr.open_zarr(store)
    state = engine.rest(np.datetime64("2000-02-26", "s"), 0)
    _, state = engine.advance(state, 12)
    found = restart_from(store, "2000-02-29")
    assert found.time == np.datetime64("2000-02-29")
    np.testing.assert_array_equal(found.arrays["vorticity"], state.arrays["vorticity"])
    fields, _ = engine.advance(found, 11)
    again = diagnose(["msl"], {n: v[[0, 1, 2, 4, 10]] for n, v in fields.items()}, engine.constants())[:, 0].numpy()
    np.testing.assert_allclose(again, ds.msl.values[[9, 10, 11, 13, 19]], rtol=1e-6)


def test_a_finished_run_is_not_run_again(store, monkeypatch):
    monkeypatch.setattr(weather_store, "Engine", None)
    assert generate_weather(PROBLEM, 5, store, chunk_days=2, restart_days=2) == store


def test_ensemble_has_its_control_and_members_that_only_their_number_decides(monkeypatch):
    without_process(monkeypatch)
    engine = StandIn()
    state = engine.advance(engine.rest(np.datetime64("2001-07-01", "s"), 3), 2)[1]
    state.arrays.update({"temperature_variation": np.ones((8, 3, 4), np.float32)})
    few = run_ensemble(PROBLEM, state, 2, 1, amplitude=0.1, seed=5, control=True)
    more = run_ensemble(PROBLEM, state, 3, 1, amplitude=0.1, seed=5)
    assert few.z500.dims == ("member", "time", "lat", "lon")
    assert few.sizes["time"] == 5
    np.testing.assert_array_equal(few.lead_time.values, np.arange(5) * np.timedelta64(6, "h"))
    np.testing.assert_array_equal(few.time.values, np.datetime64("2001-07-01T12") + np.arange(5) * np.timedelta64(6, "h"))
    np.testing.assert_array_equal(few.sp.values[1], more.sp.values[1])
    assert float(abs(more.sp[0] - more.sp[2]).max()) > 1
    np.testing.assert_allclose(few.sp.values[0, 0], engine.fields(state)["ps"])
    np.testing.assert_allclose(few.sp.values[0, 1:], engine.advance(state, 4)[0]["ps"])
    assert "sst" not in few


def test_perturbation_is_relative_and_spares_the_mean():
    state = StandIn().rest(np.datetime64("2001-01-01", "s"))
    big = np.random.default_rng(0).standard_normal((8, 63, 33)).astype(np.float32)
    state.arrays.update({"vorticity": big, "temperature_variation": 100 * big, "log_surface_pressure": big[:1]})
    other = perturbed(state, 0.02, 7)
    for name, size in (("vorticity", 1), ("temperature_variation", 1)):
        ratio = other.arrays[name] / state.arrays[name] - 1
        assert size * ratio.std() == pytest.approx(0.02, rel=0.02)
        assert abs(ratio.mean()) < 1e-3
        assert not ratio[..., 0, 0].any()
    np.testing.assert_array_equal(other.arrays["log_surface_pressure"], big[:1])
    assert not np.array_equal(perturbed(state, 0.02, 8).arrays["vorticity"], other.arrays["vorticity"])
