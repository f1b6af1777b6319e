"""One table of names: what a user writes finds what a file holds, and units and longitudes follow."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from interchange_support import CMIP, WB2, as_cmip, renamed, weather

from anygrid.errors import DataError
from anygrid.fields import ConvertedWarning, Variable, adopt, find_grid, find_layout, select
from anygrid.fields.longitudes import longitude_turn, unwrapped
from anygrid.fields.names import TABLE, Quantity, find_name, other_name, quantity_of, table_entry
from anygrid.grid import Sphere
from anygrid.surrogate import Seen


def test_names_in_the_table_are_used_once():
    names = [n for entry in TABLE for n in (entry.short, *entry.others)]
    assert len(names) == len(set(names))
    assert all(n == n.lower() for n in names)


@pytest.mark.parametrize(
    ("naming", "level", "found"),
    [
        ({}, "level", "z@level=500"),
        (WB2, "level", "geopotential@level=500"),
        (WB2, "isobaricInhPa", "geopotential@isobaricInhPa=500"),
        (CMIP, "plev", "zg@plev=500"),
    ],
)
def test_z500_is_found_whatever_the_file_calls_it(naming, level, found):
    ds = renamed(weather(2), naming).rename(level=level)
    for written in ("z500", "Z500", "geopotential@level=500", "z@isobaricInhPa=500", "geopotential_500"):
        assert written in (find_name(ds, written), written)
        picked = select(ds, [written])[written]
        np.testing.assert_array_equal(picked, weather(2).z.sel(level=500))
    assert other_name(ds, "z500") == found


def test_pressure_levels_in_pascal_and_single_levels():
    ds = weather(2)
    pascal = ds.assign_coords(level=ds.level * 100)
    assert other_name(pascal, "t850") == "t@level=85000"
    assert other_name(ds.sel(level=850), "t850") == "t"
    assert other_name(ds.sel(level=850), "t500") is None
    # What a GRIB reader puts among the attributes.
    single = ds.sel(level=850, drop=True)
    single["t"].attrs["isobaricInhPa"] = "850.0"
    assert other_name(single, "t850") == "t"


def test_model_levels_are_no_pressures():
    ds = weather(2).isel(level=[0, 0, 1, 1, 2]).assign_coords(level=[1, 2, 3, 4, 5])
    assert other_name(ds, "t3") is None
    assert other_name(weather(2).assign_coords(level=("level", [0.1, 0.5, 0.9], {"units": "1"})), "t500") is None


def test_geopotential_comes_before_height_and_height_serves():
    ds = weather(2)
    ds["gh"] = (ds.z / 9.80665).assign_attrs(units="m")
    assert other_name(ds, "z500") == "z@level=500"
    assert other_name(ds, "gh500") == "gh@level=500"
    assert other_name(ds.drop_vars("z"), "z500") == "gh@level=500"
    assert quantity_of("z500", ds.gh) == Quantity("gh", 500)


def test_letters_that_mean_something_else_are_left_alone():
    ds = xr.Dataset({"t": ("x", np.arange(3.0), {"units": "s"})})
    assert other_name(ds, "temperature") is None
    assert other_name(xr.Dataset({"t": ("x", np.arange(3.0), {"units": "degC"})}), "temperature") == "t"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("z700", "300, 500, 850 hPa: for example z850"), ("tt500", "did you mean 't500'"), ("t2mm", "did you mean 't2m'"), ("mls", "'msl'")],
)
def test_what_is_not_there_is_answered_with_the_nearest(name, hint):
    with pytest.raises(DataError, match=hint):
        select(weather(2), [name])


def test_standard_names_tell_odd_names():
    ds = weather(2).rename(msl="var151")
    assert other_name(ds, "mslp") == "var151"
    assert table_entry("2M_Temperature").short == "t2m"


KNOWN = (Variable("z500", "m2 s-2"), Variable("t850", "K"), Variable("t2m", "K"), Variable("msl", "Pa"), Variable("orography", "m"))


def test_units_are_converted_and_said():
    right = select(weather(2), [v.name for v in KNOWN])
    with pytest.warns(ConvertedWarning, match=r"z500.*times 9\.80665 .*t850.*plus 273\.15.*msl.*times 100") as said:
        got = adopt(as_cmip(weather(2)), KNOWN, "predict")
    assert len(said) == 1
    got = got.sortby("lat")
    got = got.assign_coords(lon=got.lon % 360).sortby("lon")
    for v in KNOWN:
        np.testing.assert_allclose(got[v.name].values, right[v.name].values, rtol=3e-7, atol=1e-4)
        assert got[v.name].dtype == np.float32
    assert [got[v.name].attrs["units"] for v in KNOWN] == ["m2 s-2", "K", "K", "Pa", "m"]


def test_height_of_the_ground_out_of_its_geopotential():
    ds = weather(2)
    ds["geopotential_at_surface"] = (ds.orography * 9.80665).assign_attrs(units="m**2 s**-2", standard_name="surface_geopotential")
    with pytest.warns(ConvertedWarning, match="orography"):
        got = adopt(ds.drop_vars("orography"), KNOWN[-1:], "predict")
    np.testing.assert_allclose(got.orography, ds.orography, rtol=1e-6)


def test_nothing_is_said_where_nothing_is_converted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = adopt(weather(2), KNOWN, "predict")
    np.testing.assert_array_equal(ds.z500, weather(2).z.sel(level=500))
    with pytest.raises(DataError, match="units 'K', got 'Pa'"):
        adopt(weather(2).assign(t2m=weather(2).msl), KNOWN, "predict")
    with pytest.raises(DataError, match="no units"):
        adopt(weather(2).assign(t2m=weather(2).t2m.drop_attrs()), KNOWN, "predict")


def test_longitudes_are_turned_and_turned_back():
    ds = weather(1)
    grid = Sphere.equiangular(12, 24)
    assert longitude_turn(ds, grid).order is None
    west = as_cmip(ds)
    turn = longitude_turn(west, grid)
    there = turn.to(west)
    np.testing.assert_array_equal(there.lon, ds.longitude)
    np.testing.assert_allclose(there.tas.values[0, ::-1] + 273.15, ds.t2m.values[0], rtol=1e-6)
    xr.testing.assert_identical(turn.back(there), west)


def test_a_window_across_the_seam_fits_one_that_ascends():
    lon = ("longitude", [345.0, 350.0, 355.0, 0.0, 5.0, 10.0], {"units": "degrees_east"})
    lat = ("latitude", [40.0, 45.0, 50.0], {"units": "degrees_north"})
    ds = xr.Dataset({"t2m": (("latitude", "longitude"), np.arange(18.0).reshape(3, 6))}, {"latitude": lat, "longitude": lon})
    flat = unwrapped(ds)
    assert flat.longitude.values.tolist() == [-15, -10, -5, 0, 5, 10]
    grid, _ = find_grid(flat, ["t2m"], find_layout(flat, ["t2m"]))
    turn = longitude_turn(ds, grid)
    np.testing.assert_array_equal(turn.to(ds).longitude, flat.longitude)
    xr.testing.assert_identical(turn.back(turn.to(ds)), ds)
    xr.testing.assert_identical(unwrapped(weather(1)), weather(1))


def test_a_grid_without_its_poles_reaches_them():
    """ERA5 at 720 rows, and one that lacks both poles: what is left out belongs to the last rows."""
    for lat in (np.arange(90, -90, -15.0), np.arange(-75, 76, 15.0), np.arange(-90, 91, 15.0)):
        coords = {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", np.arange(0, 360, 30.0), {"units": "degrees_east"})}
        ds = xr.Dataset({"t2m": (("lat", "lon"), np.ones((lat.size, 12)))}, coords)
        grid, _ = find_grid(ds, ["t2m"], find_layout(ds, ["t2m"]))
        assert (grid.lat.interval.lower, grid.lat.interval.upper) == (-90, 90)
        assert float(grid.weights().sum()) == pytest.approx(4 * np.pi, rel=1e-3)
    ds = ds.isel(lat=slice(3, 9))
    assert find_grid(ds, ["t2m"], find_layout(ds, ["t2m"]))[0].lat.interval.lower == -45


def test_what_was_seen_of_some_channels():
    grid = Sphere.equiangular(8, 16)
    a = torch.randn(40, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    flat = {"lower": [-9.0] * 3, "upper": [9.0] * 3, "centre": [0.0] * 3, "spread": [1.0] * 3}
    seen = Seen.of([(a, grid)], **flat)
    two = seen.only([2, 0])
    assert two.outside(a[:, [2, 0]], grid, ("c", "a")) == [[]] * 40
    b = a[:1].clone()
    b[:, 2] += 3
    (reason,) = two.outside(b[:, [2, 0]], grid, ("c", "a"))[0]
    assert "alone c" in reason
    assert " a " not in reason.partition("alone")[2]
