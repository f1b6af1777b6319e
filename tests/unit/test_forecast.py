import numpy as np
import pytest
import torch
import xarray as xr
from tiny_problems import Drift

from anygrid.errors import DataError, FileError, GridError, UsageError
from anygrid.fields import Variable
from anygrid.forecast import ForecastError, archive, forecast, truth_for
from anygrid.grid import Box, Periodic, Sphere
from anygrid.io.store import generate

U = Variable("u", "m", "height")
STATE = {"inputs": (U,), "outputs": (U,)}


def turn(a, grid):
    """One point to the right along the last axis: exact, so that every frame is known."""
    return torch.roll(a, 1, -1)


def sphere_data(times, members=0, descending=True):
    rng = np.random.default_rng(0)
    lat = np.linspace(84, -84, 8) if descending else np.linspace(-84, 84, 8)
    shape, dims = (len(times), 8, 12), ("time", "lat", "lon")
    if members:
        shape, dims = (members, *shape), ("number", *dims)
    coords = {
        "time": np.asarray(times),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", np.arange(12) * 30.0, {"units": "degrees_east"}),
        "height": 2.0,
    }
    return xr.Dataset({"u": (dims, rng.standard_normal(shape).astype("f4"), {"units": "m"})}, coords)


MONTHS = np.arange("2006-01", "2006-07", dtype="datetime64[M]").astype("datetime64[ns]")


def test_leads_of_a_dated_start_are_valid_times_of_the_data(tmp_path):
    ds = sphere_data(MONTHS)
    fc = forecast(turn, ds, 4, **STATE, dt="1month")
    assert fc["u"].dims == ("time", "lat", "lon")
    assert [str(t)[:10] for t in fc["time"].values] == ["2006-07-01", "2006-08-01", "2006-09-01", "2006-10-01"]
    np.testing.assert_array_equal(fc["lead_time"], [1, 2, 3, 4])
    assert fc["lead_time"].attrs["units"] == "month"
    assert fc["forecast_reference_time"].values == MONTHS[-1]
    assert fc["u"].attrs == {"units": "m", "long_name": "height"}
    assert float(fc["height"]) == 2
    xr.testing.assert_equal(fc["lat"].variable, ds["lat"].variable)  # descending, as in the data
    for k in range(4):
        np.testing.assert_array_equal(fc["u"][k], np.roll(ds["u"].values[-1], k + 1, axis=-1))


def test_every_start_gives_a_forecast_that_meets_its_truth():
    ds = sphere_data(MONTHS, members=2)
    fc = forecast(turn, ds, 3, **STATE, dt="1month", start="each")
    assert fc["u"].dims == ("number", "init_time", "lead_time", "lat", "lon")
    assert fc["valid_time"].dims == ("init_time", "lead_time")
    np.testing.assert_array_equal(fc["init_time"], MONTHS)
    assert str(fc["valid_time"].values[1, 2])[:7] == "2006-05"
    np.testing.assert_array_equal(fc["u"][1, 2, 2], np.roll(ds["u"].values[1, 2], 3, axis=-1))
    truth = truth_for(fc, ds)
    assert truth["u"].dims == fc["u"].dims
    np.testing.assert_array_equal(truth["u"][1, 1, 2], ds["u"][1, 4])
    assert bool(np.isnan(truth["u"][:, 4, 1]).all())
    assert int(np.isnan(truth["u"]).sum()) == 2 * 96 * (1 + 2 + 3)
    assert float(np.abs(fc - truth)["u"].isel(init_time=0).max()) > 0


def test_first_start_of_a_generated_trajectory_is_reproduced_by_its_solver(tmp_path):
    problem = Drift()
    ds = xr.open_zarr(generate(problem, 3, 32, tmp_path / "d.zarr", workers=0, steps=6))
    fc = forecast(
        problem.solve, ds, 6, inputs=problem.inputs, outputs=problem.outputs, dt=problem.dt, start="first", domain=problem.grid(8)
    )
    assert fc["u"].dims == ("sample", "time", "x")
    np.testing.assert_allclose(fc["time"], ds["time"][1:])
    np.testing.assert_allclose(fc["u"], ds["u"][:, 1:], atol=3e-6)
    assert fc.attrs["held_inputs"] == "speed"
    truth = truth_for(fc, ds)
    np.testing.assert_array_equal(truth["u"], ds["u"].isel(time=slice(1, None)))


def test_without_times_leads_are_counted():
    ds = xr.Dataset({"u": (("sample", "x"), np.arange(16, dtype="f4").reshape(2, 8), {"units": "m"})}, {"x": np.arange(8) / 8})
    domain = Box.uniform({"x": Periodic()}, 8)
    fc = forecast(turn, ds, 6, **STATE, domain=domain, every=3)
    assert fc["u"].dims == ("sample", "lead_time", "x")
    np.testing.assert_array_equal(fc["lead_time"], [3, 6])
    np.testing.assert_array_equal(fc["u"][:, 1], np.roll(ds["u"], 6, axis=-1))
    one = forecast(turn, ds.isel(sample=0), 2, **STATE, domain=domain, dt=0.5)
    assert one["u"].dims == ("lead_time", "x")
    np.testing.assert_array_equal(one["lead_time"], [0.5, 1.0])


def test_scalar_time_is_a_known_start():
    fc = forecast(turn, sphere_data(MONTHS).isel(time=2), 1, **STATE, dt="6h")
    assert fc["u"].dims == ("time", "lat", "lon")
    assert str(fc["time"].values[0])[:13] == "2006-03-01T06"


def add_forcing(a, grid):
    """U + f, with the second input f."""
    return a[:, :1] + a[:, 1:]


FORCED = {"inputs": (U, Variable("f", "m")), "outputs": (U,), "dt": "1month"}


def test_forcings_enter_at_the_beginning_of_their_step():
    ds = sphere_data(MONTHS)
    later = np.arange("2006-05", "2006-12", dtype="datetime64[M]").astype("datetime64[ns]")
    values = np.broadcast_to(np.arange(5, 12, dtype="f4")[:, None, None], (7, 8, 12))
    f = xr.Dataset({"f": (("time", "lat", "lon"), values, {"units": "m"})}, {**ds.coords, "time": later})
    fc = forecast(add_forcing, ds, 3, **FORCED, forcings=f)
    for k, total in enumerate((6, 6 + 7, 6 + 7 + 8)):  # June, July, August
        np.testing.assert_allclose(fc["u"][k], ds["u"][-1] + total, rtol=1e-6)
    assert fc.attrs["forcings"] == "f"
    many = forecast(add_forcing, sphere_data(MONTHS, members=2).isel(time=slice(4, 6)), 2, **FORCED, forcings=f, start="each")
    np.testing.assert_allclose(many["u"][1, 0, 1], sphere_data(MONTHS, members=2)["u"][1, 4] + 5 + 6, rtol=1e-6)
    np.testing.assert_allclose(many["u"][1, 1, 1], sphere_data(MONTHS, members=2)["u"][1, 5] + 6 + 7, rtol=1e-6)
    with pytest.raises(DataError, match=r"values at 2006-12(.|\n)*run from 2006-05"):
        forecast(add_forcing, ds, 7, **FORCED, forcings=f)
    with pytest.raises(GridError, match="forcings"):
        forecast(add_forcing, ds, 1, **FORCED, forcings=f.isel(lat=slice(1, None)))


def test_constant_inputs_are_held_and_changing_ones_refused():
    ds = sphere_data(MONTHS)
    mask = ds.assign(f=(("lat", "lon"), np.full((8, 12), 2, "f4"), {"units": "m"}))
    fc = forecast(add_forcing, mask, 3, **FORCED)
    np.testing.assert_allclose(fc["u"][2], ds["u"][-1] + 6, rtol=1e-6)
    assert fc.attrs["held_inputs"] == "f"
    moving = ds.assign(f=ds["u"] * 2)
    with pytest.raises(DataError, match=r"f: expected inputs that are constant(.|\n)*forcings"):
        forecast(add_forcing, moving, 3, **FORCED)
    with pytest.raises(DataError, match="'f'"):
        forecast(add_forcing, ds, 3, **FORCED)


def test_units_and_outputs_that_cannot_be_fed_back_are_refused():
    ds = sphere_data(MONTHS)
    ds["u"].attrs["units"] = "s"
    with pytest.raises(DataError, match="units 'm', got 's'"):
        forecast(turn, ds, 1, **STATE)
    with pytest.raises(UsageError, match="outputs that are inputs too"):
        forecast(turn, ds, 1, inputs=(U,), outputs=(Variable("v"),))
    with pytest.raises(UsageError, match="every from 1"):
        forecast(turn, ds, 2, **STATE, every=3)
    flat = xr.Dataset({"u": (("x", "y"), np.zeros((4, 4), "f4"), {"units": "m"})})
    flat = flat.assign_coords({d: (d, np.arange(4.0), {"periodic": 0}) for d in "xy"})
    with pytest.raises(GridError, match="a Sphere grid"):
        forecast(turn, flat, 1, **STATE, domain=Sphere.equiangular(8, 12))


def test_a_disk_forecast_is_the_one_in_memory(tmp_path):
    ds = sphere_data(MONTHS, members=3)
    arguments = {**STATE, "dt": "1month", "start": "each"}
    memory = forecast(turn, ds, 20, **arguments)
    seen = []
    disk = forecast(turn, ds, 20, **arguments, out=tmp_path / "f.zarr", progress=lambda *p: seen.append(p[:2]))
    xr.testing.assert_identical(disk.load().drop_attrs(deep=False), memory.drop_attrs(deep=False))
    assert seen == [(k, 20) for k in range(1, 21)]
    assert disk["u"].encoding["chunks"] == (3, 6, 2, 8, 12)
    with pytest.raises(FileError, match="steps 19 asked, 20 there"):
        forecast(turn, ds, 19, **arguments, out=tmp_path / "f.zarr")
    with pytest.raises(FileError, match="first step"):
        forecast(lambda a, grid: -turn(a, grid), ds, 20, **arguments, out=tmp_path / "f.zarr")
    other = forecast(lambda a, grid: -turn(a, grid), ds, 20, **arguments, out=tmp_path / "f.zarr", overwrite=True)
    np.testing.assert_array_equal(other["u"].isel(lead_time=0), -memory["u"].isel(lead_time=0))


def test_large_frames_are_split_along_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LARGE", 2000)
    monkeypatch.setattr(archive, "_SMALL", 500)
    ds = sphere_data(MONTHS, members=7)
    disk = forecast(turn, ds, 3, **STATE, dt="6h", out=tmp_path / "f.zarr")
    assert disk["u"].encoding["chunks"][0] == 5
    xr.testing.assert_equal(disk.load(), forecast(turn, ds, 3, **STATE, dt="6h"))


class Explosive:
    """Becomes nan (or huge) at the given step."""

    def __init__(self, at, value):
        self.at, self.value, self.calls = at, value, 0

    def __call__(self, a, grid):
        self.calls += 1
        u = turn(a, grid)
        return u * self.value if self.calls == self.at else u


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "not finite"), (1e12, "exploded")])
@pytest.mark.parametrize("to_disk", [False, True])
def test_a_blow_up_stops_with_the_step_and_keeps_what_was_done(tmp_path, value, what, to_disk):
    ds = sphere_data(MONTHS)
    out = tmp_path / "f.zarr" if to_disk else None
    with pytest.raises(ForecastError, match=rf"at step 30: values that .*{what}(.|\n)*hint") as error:
        forecast(Explosive(30, value), ds, 100, **STATE, dt="6h", out=out)
    done = error.value.done
    assert done is not None
    assert done.sizes["time"] == 29
    np.testing.assert_array_equal(done["u"][28], np.roll(ds["u"].values[-1], 29, axis=-1))
    assert "step 30" in done.attrs["forecast_stopped"]
    if to_disk:
        xr.testing.assert_equal(xr.open_zarr(out).load(), done.load())
        assert [p.name for p in tmp_path.iterdir()] == ["f.zarr"]


def test_a_blow_up_at_once_keeps_nothing(tmp_path):
    with pytest.raises(ForecastError, match="at step 1") as error:
        forecast(Explosive(1, float("nan")), sphere_data(MONTHS, members=3), 5, **STATE, out=tmp_path / "f.zarr")
    assert error.value.done is None
    assert not (tmp_path / "f.zarr").exists()
