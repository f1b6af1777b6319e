"""A surrogate as a prognostic model: the contract of earth2studio's protocol, and the numbers of predict."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import xarray as xr
from interchange_support import as_cmip, weather

from anygrid.errors import DataError, GridError, UsageError
from anygrid.export.prognostic import Prognostic, lexicon_name
from anygrid.operators import SphericalFNO
from anygrid.training import fit


def _fitted(ds, names, outputs, lead="6h"):
    def build(i, o, grid):
        return SphericalFNO(i, o, 4, width=4, depth=1)

    return fit(ds, names, outputs, lead=lead, steps=3, operator=build, optimizer="adamw", unroll=1, validation=0)


@pytest.fixture(scope="module")
def data():
    return weather(12)


@pytest.fixture(scope="module")
def surrogate(data):
    names = ["z500", "t850", "t2m", "msl"]
    return _fitted(data, [*names, "orography"], names)


@pytest.fixture(scope="module")
def model(surrogate):
    return Prognostic(surrogate)


def _state(model, data, time=3):
    """A state as their data sources give it: SI units, north first."""
    fields = {
        "z500": data.z.sel(level=500, drop=True),
        "t850": data.t.sel(level=850, drop=True),
        "t2m": data.t2m,
        "msl": data.msl,
        "orography": data.orography,
    }
    rows = [(f.isel(time=time) if "time" in f.dims else f).isel(latitude=slice(None, None, -1)).values for f in fields.values()]
    coords = model.input_coords()
    coords["batch"], coords["time"] = np.array([0]), data.time.values[time : time + 1]
    return torch.from_numpy(np.stack(rows))[None, None, None], coords


def test_coordinates_in_and_out(model, data):
    coords = model.input_coords()
    assert list(coords) == ["batch", "time", "lead_time", "variable", "lat", "lon"]
    assert coords["batch"].size == coords["time"].size == 0
    assert coords["variable"].tolist() == ["z500", "t850", "t2m", "msl", "orography"]
    np.testing.assert_allclose(coords["lat"], data.latitude.values[::-1])
    np.testing.assert_allclose(coords["lon"], data.longitude.values)
    _, given = _state(model, data)
    after = model.output_coords(given)
    assert isinstance(after, OrderedDict)
    assert after["lead_time"] - given["lead_time"] == np.timedelta64(6, "h")
    assert given["lead_time"] == np.timedelta64(0, "h")  # what was given is left alone
    for name in ("batch", "time", "variable", "lat", "lon"):
        np.testing.assert_array_equal(after[name], given[name])


def test_one_step_is_that_of_predict(model, surrogate, data):
    x, coords = _state(model, data)
    y, after = model(x, coords)
    assert y.shape == x.shape
    right = surrogate.predict(data).isel(time=3, latitude=slice(None, None, -1))
    for k, name in enumerate(["z500", "t850", "t2m", "msl"]):
        np.testing.assert_allclose(y[0, 0, 0, k], right[name].values, rtol=1e-6)
    assert torch.equal(y[0, 0, 0, 4], x[0, 0, 0, 4])
    assert after["lead_time"] == np.timedelta64(6, "h")


def test_the_iterator_begins_with_the_input_and_goes_on(model, data):
    x, coords = _state(model, data)
    steps = model.create_iterator(x, coords)
    first, at = next(steps)
    assert torch.equal(first, x)
    assert at["lead_time"] == np.timedelta64(0, "h")
    y, c = model(x, coords)
    for _ in range(3):
        got, at = next(steps)
        assert torch.equal(got, y)
        assert at["lead_time"] == c["lead_time"]
        y, c = model(y, c)
    assert at["lead_time"] == np.timedelta64(18, "h")


def test_batches_and_times_are_rows(model, data):
    states = [_state(model, data, k) for k in (1, 2, 5, 7)]
    x = torch.cat([s for s, _ in states]).reshape(2, 2, 1, 5, 12, 24)
    coords = states[0][1].copy()
    coords["batch"], coords["time"] = np.arange(2), data.time.values[:2]
    y, _ = model(x, coords)
    for k, (s, c) in enumerate(states):
        torch.testing.assert_close(y[k // 2, k % 2], model(s, c)[0][0, 0], rtol=1e-6, atol=0)


def test_units_and_longitudes_of_the_vocabulary(data):
    """Trained on heights in m, degC and hPa, from -180 on: the pipeline hands m2 s-2, K and Pa, from 0 on."""
    names = ["z500", "t850", "t2m", "msl"]
    model = Prognostic(_fitted(as_cmip(data), [*names, "orography"], names))
    assert model.input_coords()["variable"].tolist() == [*names, "orography"]
    np.testing.assert_allclose(model.input_coords()["lon"], data.longitude.values)
    x, coords = _state(model, data)
    with pytest.warns(UserWarning, match="were brought|was brought"):
        right = model.surrogate.predict(data).isel(time=3, latitude=slice(None, None, -1))
    y, _ = model(x, coords)
    np.testing.assert_allclose(y[0, 0, 0, 0], right.z500.values * 9.80665, rtol=1e-6)
    np.testing.assert_allclose(y[0, 0, 0, 1], right.t850.values + 273.15, rtol=1e-6)
    np.testing.assert_allclose(y[0, 0, 0, 3], right.msl.values * 100, rtol=1e-6)


def test_names_of_the_vocabulary():
    given = ["u10", "10m_v_component_of_wind", "2m_temperature", "geopotential@level=500", "gh850", "land_sea_mask", "tau"]
    assert [lexicon_name(n) for n in given] == ["u10m", "v10m", "t2m", "z500", "z850", "lsm", "tau"]


def test_what_does_not_fit_is_refused(model, surrogate, data):
    x, coords = _state(model, data)
    for name, values, kind, said in (
        ("lat", coords["lat"][::-1], GridError, "12 from 82.5 to -82.5, got 12 from -82.5"),
        ("lon", coords["lon"][:-1], GridError, "24 from 0 to 345, got 23"),
        ("variable", np.array(["z500", "t850", "t2", "msl", "orography"]), DataError, "did you mean 't2m'"),
        ("lead_time", np.array([0, 6], "timedelta64[h]"), DataError, "one input lead, got 2"),
    ):
        with pytest.raises(kind, match=said):
            model(x, OrderedDict({**coords, name: values}))
    with pytest.raises(DataError, match="a tensor of shape"):
        model(x[..., :-1, :, :], coords)
    with pytest.raises(DataError, match="dimensions batch, time"):
        model.output_coords(OrderedDict(reversed(coords.items())))
    with pytest.raises(UsageError, match="a lead of hours or days"):
        Prognostic(
            _fitted(data[["t2m"]].assign_coords(time=xr.date_range("2001-01-01", periods=12, freq="MS")), ["t2m"], ["t2m"], "1month")
        )
