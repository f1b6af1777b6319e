"""Real ERA5 files: read, regrid, spectra, one forecast step, and back to NetCDF that plain xarray opens; and slips of units on the way."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from interchange_support import WEATHER, needs_weather, weather

from anygrid.errors import DataError
from anygrid.io import read
from anygrid.operators import SphericalFNO
from anygrid.surrogate.magnitudes import UnstatedUnitsWarning, known_inputs
from anygrid.training import fit

EXAMPLE = Path(__file__).parents[2] / "examples" / "real_era5.py"


@needs_weather
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_example_carries_names_and_units_through(tmp_path, monkeypatch, capsys):
    out = tmp_path / "step.nc"
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(WEATHER), str(out)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    assert "up to degree 30 it changes" in said
    ds, source = xr.load_dataset(out), xr.load_dataset(WEATHER / "era5_tl31.nc")
    assert ds.attrs["Conventions"].startswith("CF-")
    for name, long in (("z500", "geopotential"), ("t850", "temperature")):
        assert ds[name].attrs["units"] == source[long].attrs["units"]
        assert ds[name].attrs["standard_name"] == source[long].attrs["standard_name"]
        right = source[long].sel(level=int(name[1:])).transpose(*ds[name].dims)
        # Twelve hours of a model that learned next to nothing: still the weather of the file, not another field.
        assert np.corrcoef(ds[name].values.ravel(), right.values.ravel())[0, 1] > 0.95
    assert {k: ds.latitude.attrs[k] for k in ("units", "standard_name", "axis")} == {
        "units": "degrees_north",
        "standard_name": "latitude",
        "axis": "Y",
    }
    assert ds.longitude.attrs["axis"] == "X"
    np.testing.assert_array_equal(ds.latitude, source.latitude)
    assert ds.time.values == source.time.values


@needs_weather
def test_names_of_the_real_files():
    from anygrid.fields.names import other_name

    state = read(WEATHER / "era5_tl31.nc")
    found = [other_name(state, n) for n in ("z500", "t850", "u850", "v850", "q700", "sst", "siconc")]
    assert found[:2] == ["geopotential@level=500", "temperature@level=850"]
    assert found[4:] == ["specific_humidity@level=700", "sea_surface_temperature", "sea_ice_cover"]
    assert other_name(state, "t2m") is None
    assert other_name(read(WEATHER / "era5_europe" / "ERA5_2020-01-01_pl_u.nc"), "u850") == "u@level=850"


@pytest.fixture(scope="module")
def surrogate():
    def build(i, o, grid):
        return SphericalFNO(i, o, 4, width=4, depth=1)

    names = ["z500", "t2m", "msl"]
    return fit(weather(12), names, names, lead="6h", steps=2, operator=build, optimizer="adamw", unroll=1, validation=0)


@pytest.mark.parametrize(
    ("name", "change", "units", "said"),
    [
        ("z", lambda z: z / 9.80665, "", "no units and a mean of .*geopotential height"),
        ("z", lambda z: z / 9.80665, "m2 s-2", "units 'm.*s.*-2' and a mean of .*geopotential height"),
        ("t2m", lambda t: t - 273.15, "", "one is in K, the other in degC"),
        ("msl", lambda p: p / 100, "", "one is in Pa, the other in hPa"),
        ("msl", lambda p: p / 100, "Pa", "units 'Pa' and a mean of .*one is in Pa, the other in hPa"),
    ],
)
def test_slips_of_units_are_named(surrogate, name, change, units, said):
    ds = weather(2)
    with pytest.raises(DataError, match=said) as caught:
        surrogate.predict(ds.assign({name: change(ds[name]).assign_attrs(units=units)}))
    assert len(str(caught.value).splitlines()) == 2


def test_missing_units_pass_where_the_values_are_those_of_the_training(surrogate):
    ds = weather(2)
    bare = ds.assign(t2m=ds.t2m.drop_attrs())
    with pytest.warns(UnstatedUnitsWarning, match="t2m as K"):
        got = known_inputs(surrogate, bare, "predict")
    np.testing.assert_array_equal(got.t2m, ds.t2m)
    with pytest.raises(DataError, match="units 'K', got no units"):
        surrogate.predict(ds.assign(t2m=ds.t2m.drop_attrs() * 3))
