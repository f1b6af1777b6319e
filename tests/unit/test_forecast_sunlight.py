"""Sunlight is an input that forecasts compute: recognised from the initial data, right at every valid time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import Variable
from anygrid.forecast import ensemble, forecast
from anygrid.forecast.sunlight import Sunlight, recognise
from anygrid.grid import Sphere

STATE, SUN = Variable("u", "W m-2"), Variable("tisr", "J m-2")
START = np.datetime64("2017-06-20T06:00", "ns")


def series(light: Sunlight, count: int, hours: int = 6) -> xr.Dataset:
    """``count`` times of that sunlight, north to south as ERA5 has it, with a state of zeros."""
    lat, lon = np.linspace(82.5, -82.5, 12), np.arange(0, 360, 15.0)
    times = START + np.arange(count) * np.timedelta64(hours, "h")
    grid = Sphere.equiangular(12, 24)
    values = light.at(times, grid).numpy()[:, ::-1]
    places = {"latitude": ("latitude", lat, {"units": "degrees_north"}), "longitude": ("longitude", lon, {"units": "degrees_east"})}
    coords = {"time": times, **places}
    dims = ("time", "latitude", "longitude")
    return xr.Dataset({"u": (dims, np.zeros(values.shape), {"units": "W m-2"}), "tisr": (dims, values, {"units": "J m-2"})}, coords)


def copy_of_the_sun(a: torch.Tensor, grid: object, /) -> torch.Tensor:
    return a[:, 1:]


@pytest.mark.parametrize("light", [Sunlight(24, 1368.0), Sunlight(0, 1361.0), Sunlight(1, 1361.0 * 3600), Sunlight(6, 1361.0)])
def test_a_forecast_computes_the_sunlight_of_its_valid_times(light: Sunlight) -> None:
    truth = series(light, 9)
    found = forecast(copy_of_the_sun, truth.isel(time=slice(0, 1)), 8, inputs=(STATE, SUN), outputs=(STATE,), dt="6h")
    # The state after a step is the sunlight at its beginning.
    np.testing.assert_allclose(found.u.values, truth.tisr.values[:-1], rtol=1e-5, atol=1e-5 * light.scale)
    assert found.attrs["computed_inputs"].startswith("tisr: ")
    assert "held_inputs" not in found.attrs


def test_every_start_and_every_member_has_its_own_times() -> None:
    truth = series(Sunlight(6, 1361.0), 6)
    found = forecast(copy_of_the_sun, truth.isel(time=slice(0, 3)), 3, inputs=(STATE, SUN), outputs=(STATE,), dt="6h", start="each")
    for k in range(3):
        np.testing.assert_allclose(found.u.isel(init_time=k).values, truth.tisr.values[k : k + 3], rtol=1e-5, atol=0.01)
    members = truth.isel(time=slice(0, 1)).expand_dims(member=3)
    found = forecast(copy_of_the_sun, members, 4, inputs=(STATE, SUN), outputs=(STATE,), dt="6h")
    for k in range(3):
        np.testing.assert_allclose(found.u.isel(member=k).values, truth.tisr.values[:4], rtol=1e-5, atol=0.01)


def test_what_the_data_give_is_taken() -> None:
    truth = series(Sunlight(6, 1361.0), 5)
    given = truth[["tisr"]] * 0 + 7
    given["tisr"].attrs = truth["tisr"].attrs
    found = forecast(copy_of_the_sun, truth.isel(time=slice(0, 1)), 4, inputs=(STATE, SUN), outputs=(STATE,), dt="6h", forcings=given)
    assert (found.u == 7).all()
    assert "computed_inputs" not in found.attrs


def test_what_is_not_the_sun_is_refused_where_it_varies_and_held_where_it_is_one_time() -> None:
    truth = series(Sunlight(6, 1361.0), 5)
    truth["tisr"] = (truth["tisr"] * (1 + 0.2 * np.sin(np.deg2rad(truth.longitude)))).assign_attrs(units="J m-2")
    with pytest.raises(DataError, match="tisr"):
        forecast(copy_of_the_sun, truth, 4, inputs=(STATE, SUN), outputs=(STATE,), dt="6h")
    held = forecast(copy_of_the_sun, truth.isel(time=slice(0, 1)), 4, inputs=(STATE, SUN), outputs=(STATE,), dt="6h")
    np.testing.assert_allclose(held.u.values, np.broadcast_to(truth.tisr.values[:1], held.u.shape), rtol=1e-6)
    assert held.attrs["held_inputs"] == "tisr"


def test_the_mean_of_the_day_is_told_from_that_of_the_moment() -> None:
    grid, times = Sphere.equiangular(12, 24), np.array([START])
    for light in (Sunlight(24, 1368.0), Sunlight(0, 1361.0), Sunlight(1, 1361.0), Sunlight(6, 1361.0)):
        found = recognise(light.at(times, grid), times, grid)
        assert found is not None
        assert found.hours == light.hours
        assert abs(found.scale / light.scale - 1) < 1e-6
    assert recognise(torch.ones(1, *grid.shape), times, grid) is None


def test_blocks_of_an_ensemble_have_the_sunlight_of_their_own_starts() -> None:
    truth = series(Sunlight(6, 1361.0), 8)
    found = ensemble(
        copy_of_the_sun,
        truth.isel(time=slice(0, 5)).expand_dims(number=70),  # more than one block of members
        3,
        inputs=(STATE, SUN),
        outputs=(STATE,),
        member_dim="number",
        dt="6h",
        start="each",
        workers=0,
    )
    for k in range(5):
        np.testing.assert_allclose(found.u_mean.isel(init_time=k).values, truth.tisr.values[k : k + 3], rtol=1e-4, atol=0.05)
