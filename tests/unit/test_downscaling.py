"""Coarse fields of the sphere to fine fields of a region: interpolation as the start, the file, times, and what is learned."""

import numpy as np
import pytest
import torch
import xarray as xr
from cli_support import call

from anygrid.errors import DataError, FileError, GridError, UsageError
from anygrid.fields import Variable, grid_coordinates
from anygrid.forecast import View, forecast, on_grid
from anygrid.grid import Axis, Sphere
from anygrid.operators import FNO, UNet
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Downscaling, Surrogate
from anygrid.surrogate.downscaling import onto
from anygrid.training import fit_downscaling

GLOBE = Sphere.gauss(24, 48)
LAT, LON = np.arange(30, 71, 4.0), np.arange(-60, 41, 5.0)
WINDOW = Sphere(Axis.from_coordinates("lat", LAT), Axis.from_coordinates("lon", LON))
T2M = Variable("t2m", "K")
TIMES = np.datetime64("2000-01-01", "ns") + np.arange(12) * np.timedelta64(6, "h")
AMPLITUDES = np.random.default_rng(0).standard_normal((12, 3))


def smooth(lat, lon, amplitudes=AMPLITUDES):
    """Harmonics of degree 3 at most."""
    y, x = np.meshgrid(np.deg2rad(lat), np.deg2rad(lon), indexing="ij")
    a, b, c = amplitudes.T[:, :, None, None]
    return 280 + 5 * (a * np.cos(y) * np.cos(x) + b * np.sin(2 * y) + c * np.cos(y) ** 2 * np.sin(2 * x))


def hill():
    return np.exp(-((LAT[:, None] - 50) ** 2 / 50 + LON**2 / 200))


def coarse_data():
    lat, lon = (axis.coordinates() for axis in GLOBE.axes)
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), smooth(lat, lon).astype("f4"), {"units": "K"})}, {**grid_coordinates(GLOBE), "time": TIMES}
    )


def fine_data(times=TIMES):
    """The smooth field, colder on a hill, by more the warmer it is."""
    cold = hill() * (5 + 0.5 * (smooth(LAT, LON) - 280))
    return xr.Dataset(
        {
            "t2m": (("time", "lat", "lon"), (smooth(LAT, LON) - cold).astype("f4"), {"units": "K"}),
            "orography": (("lat", "lon"), hill().astype("f4")),
        },
        {
            "time": times,
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
        },
    )


def untrained(std=0.0, mean=None):
    """A downscaling with a mean departure whose correction is ``std`` times what a network with random weights says."""
    torch.manual_seed(0)
    one = Moments.of(np.random.default_rng(0).standard_normal((4, 2, 3, 3)))
    out = Moments(4, (0.0,), (4 * std**2,), (-std,), (std,))
    network = FNO(2, 1, [False, False], [3, 3], width=4, depth=1)
    inputs = [Variable("coarse_t2m", "K"), Variable("orography")]
    correction = Surrogate(network, inputs, [Variable("added_t2m", "K")], Statistics(one, out, None), WINDOW, None, False)
    departure = np.zeros(WINDOW.shape) if mean is None else mean
    return Downscaling(correction, (T2M,), (T2M,), torch.from_numpy(hill())[None], torch.from_numpy(departure)[None])


def pattern():
    """A departure that is the same at all times."""
    return -5 * hill() + 0.3 * np.sin(np.deg2rad(7 * LON))


def test_without_a_correction_it_is_interpolation_that_knows_smooth_fields():
    out = untrained().predict(coarse_data())
    np.testing.assert_allclose(out["t2m"], smooth(LAT, LON), atol=2e-2)  # cubic in latitude, exact in longitude
    assert out["t2m"].attrs["units"] == "K"
    np.testing.assert_array_equal(out["lon"], LON)
    np.testing.assert_array_equal(out["time"], TIMES)


def test_the_correction_is_added_and_sees_the_static_field():
    flat, random = untrained(), untrained(1.0)
    a = torch.from_numpy(coarse_data()["t2m"].values)[:2, None]
    base = flat(a, GLOBE)
    expected = base + random.correction(torch.cat([base, torch.from_numpy(hill()).float().expand(2, 1, -1, -1)], 1), WINDOW)
    torch.testing.assert_close(random(a, GLOBE), expected, rtol=0, atol=0)
    assert float((expected - base).detach().abs().max()) > 0.01
    random.static.zero_()
    assert not torch.equal(random(a, GLOBE), expected)


def test_without_a_network_a_constant_departure_is_reproduced_exactly():
    a = torch.from_numpy(coarse_data()["t2m"].values)[:2, None]
    expected = onto(a, GLOBE, WINDOW) + torch.from_numpy(pattern()).float()
    torch.testing.assert_close(untrained(mean=pattern())(a, GLOBE), expected, rtol=0, atol=0)
    with pytest.raises(DataError, match="mean departure"):
        untrained(mean=pattern()[:-1])


@pytest.mark.parametrize(
    "build", [None, lambda i, o, g: FNO(i, o, [False, False], [3, 3], width=4), lambda i, o, g: UNet(i, o, [False, False])]
)
def test_training_begins_with_interpolation_and_the_mean_of_the_training_times(build):
    """Amplitudes of the pattern that grow in time: held-out times must not enter its mean. A step of rate 0 shows the beginning."""
    a = torch.from_numpy(coarse_data()["t2m"].values)[:, None]
    interpolated = onto(a, GLOBE, WINDOW)[:, 0].numpy()
    grown = np.arange(12)[:, None, None] * pattern()
    fine = fine_data().assign(t2m=(("time", "lat", "lon"), (interpolated + grown).astype("f4"), {"units": "K"}))
    named = {"static": ["orography"], "validation": 0.25, "steps": 1, "learning_rate": 1e-30, "operator": build}
    made = fit_downscaling(fine, coarse_data(), ["t2m"], ["t2m"], **named)
    mean = np.arange(9).mean() * pattern()
    np.testing.assert_allclose(made.mean[0], mean, atol=1e-4)
    found = made.predict(coarse_data())["t2m"].values
    np.testing.assert_allclose(found, interpolated + mean, atol=2e-4)
    assert made.correction.record["validation_error"] == pytest.approx(1, abs=1e-3)  # all of what is left of the mean


def test_an_output_without_a_coarse_field_begins_with_its_own_mean():
    fine = fine_data().assign(cloud=(("time", "lat", "lon"), (pattern() * np.arange(1, 13)[:, None, None]).astype("f4")))
    made = fit_downscaling(fine, coarse_data(), ["t2m"], ["cloud"], validation=0, steps=1, learning_rate=1e-30)
    np.testing.assert_allclose(made.predict(coarse_data())["cloud"].values[3], 6.5 * pattern(), atol=1e-4)


def test_elsewhere_in_the_region_the_departure_is_interpolated_to_fourth_order():
    """A smooth departure on the region's points, and on them refined: its own values there; outside of the region it is refused."""
    wave = lambda lat, lon: np.sin(np.deg2rad(4 * lat))[:, None] * np.cos(np.deg2rad(3 * lon))  # noqa: E731
    a = torch.from_numpy(coarse_data()["t2m"].values)[:2, None]
    lat, lon = np.arange(40, 61, 3.0), np.arange(-40, 21, 3.0)
    query = Sphere(Axis.from_coordinates("lat", lat), Axis.from_coordinates("lon", lon))
    made = untrained(mean=wave(LAT, LON))
    errors = made(a, GLOBE, query) - onto(a, GLOBE, query) - torch.from_numpy(wave(lat, lon))
    assert float(errors.detach().abs().max()) < 5e-4  # rounding of 280 K; linear interpolation: 1e-2
    torch.testing.assert_close(made(a, GLOBE, made.grid), made(a, GLOBE), rtol=0, atol=0)
    beyond = Sphere(Axis.from_coordinates("lat", lat), Axis.from_coordinates("lon", lon + 60))
    with pytest.raises(GridError):
        made(a, GLOBE, beyond)


def test_the_file_holds_everything_and_is_told_from_others(tmp_path):
    made = untrained(1.0, pattern())
    made.save(tmp_path / "w.anygrid")
    again = Downscaling.load(tmp_path / "w.anygrid")
    xr.testing.assert_identical(again.predict(coarse_data()), made.predict(coarse_data()))
    torch.testing.assert_close(again.mean[0], torch.from_numpy(pattern()).float(), rtol=0, atol=0)
    with pytest.raises(FileError, match="anygrid surrogate"):
        Surrogate.load(tmp_path / "w.anygrid")
    made.correction.save(tmp_path / "plain.anygrid")
    with pytest.raises(FileError, match="anygrid downscaling"):
        Downscaling.load(tmp_path / "plain.anygrid")
    damaged = bytearray((tmp_path / "w.anygrid").read_bytes())
    damaged[-100] ^= 1
    (tmp_path / "w.anygrid").write_bytes(damaged)
    with pytest.raises(FileError, match="checksum"):
        Downscaling.load(tmp_path / "w.anygrid")


def test_what_fine_data_add_is_learned_at_times_in_common(tmp_path):
    fine = fine_data().isel(time=slice(2, None))  # the first two coarse times have none
    small = lambda i, o, g: FNO(i, o, [False, False], [5, 5], width=8, depth=1)  # noqa: E731
    made = fit_downscaling(fine, coarse_data(), ["t2m"], ["t2m"], static=["orography"], steps=120, operator=small, batch=8)
    plain = float(np.sqrt(np.mean((smooth(LAT, LON)[-1] - fine["t2m"].values[-1]) ** 2)))
    found = made.predict(coarse_data().isel(time=[-1]))["t2m"].values[0]
    left = float(np.sqrt(np.mean((found - fine["t2m"].values[-1]) ** 2))) / plain
    assert left < 0.3  # the last time was held out
    assert made.provenance["times"] == 10
    with pytest.raises(DataError, match="times in common"):
        fit_downscaling(fine_data(TIMES + np.timedelta64(1, "h")), coarse_data(), ["t2m"], ["t2m"], steps=1)


def test_forecasts_by_start_and_lead_are_paired_by_valid_time(monkeypatch):
    seen = {}

    def spy(data, inputs, outputs, **rest):
        seen.update(data=data, inputs=inputs, outputs=outputs)
        raise KeyboardInterrupt

    monkeypatch.setattr("anygrid.training.downscaling.fit", spy)
    ahead = forecast(lambda a, g: a + 1, coarse_data(), 2, inputs=(T2M,), outputs=(T2M,), dt="6h", domain=GLOBE, start="each")
    with pytest.raises(KeyboardInterrupt):
        fit_downscaling(fine_data(), ahead, ["t2m"], ["t2m"], static=["orography"])
    data = seen["data"]
    assert seen["inputs"] == ["coarse_t2m", "orography"]
    assert data.sizes["time"] == 11 + 10  # two leads; their last starts are valid after the fine data
    # A lead of 1 is the start plus 1, valid 6 h later; of 2 the one before that plus 2.
    at = data.isel(time=data["time"].values == TIMES[5])
    bases = np.sort(at["coarse_t2m"].values[:, 3, 4])
    starts = smooth(LAT, LON)[[4, 3], 3, 4] + [1, 2]
    np.testing.assert_allclose(bases, np.sort(starts), atol=2e-2)
    total = at["coarse_t2m"].values + at["added_t2m"].values
    mean = fine_data()["t2m"].values[5] - total  # taken off both, and of the first 19 rows the same
    np.testing.assert_allclose(mean[0], mean[1], atol=1e-3)
    np.testing.assert_allclose(data["added_t2m"].values[:19].mean(0), 0, atol=1e-4)


def step(a, grid):
    return 0.9 * a + 28


def run(view=None, out=None, **given):
    return forecast(step, coarse_data(), 4, inputs=(T2M,), outputs=(T2M,), dt="6h", domain=GLOBE, view=view, out=out, **given)


def test_a_view_leaves_the_forecast_alone_and_writes_what_it_makes_of_it():
    whole = run(every=2)
    region = run(every=2, view=View((T2M,), (T2M,), WINDOW, untrained(1.0)))
    xr.testing.assert_allclose(region, untrained(1.0).predict(whole), atol=1e-4)
    assert region["t2m"].dims == ("time", "lat", "lon")
    assert str(region["time"].values[-1])[:13] == "2000-01-04T18"
    shown = run(every=2, view=on_grid((T2M,), WINDOW))
    np.testing.assert_allclose(shown["t2m"], untrained().predict(whole)["t2m"], atol=1e-4)


def test_a_viewed_forecast_that_was_stopped_goes_on_to_the_same_values(tmp_path):
    view = on_grid((T2M,), WINDOW)
    calls = []

    def stop(done, steps, seconds):
        calls.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(view, tmp_path / "v.zarr", progress=stop)
    again = run(view, tmp_path / "v.zarr")
    np.testing.assert_array_equal(again["t2m"].values, run(view)["t2m"].values)
    assert calls == [1, 2, 3]
    with pytest.raises((UsageError, FileError)):
        run(None, tmp_path / "v.zarr")


def test_a_view_of_what_is_not_forecast_is_refused():
    with pytest.raises(UsageError, match="a forecast of 'msl'"):
        run(on_grid((Variable("msl", "Pa"),), WINDOW))
    with pytest.raises(UsageError, match="'t2m' in degC"):
        run(on_grid((Variable("t2m", "degC"),), WINDOW))


def test_a_region_outside_the_coarse_fields_is_refused():
    part = coarse_data().isel(lat=slice(0, 12))
    with pytest.raises(GridError, match="lat between"):
        untrained().predict(part)


def test_the_commands_from_fine_data_to_a_regional_forecast(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    coarse_data().to_netcdf("coarse.nc", engine="h5netcdf")
    fine_data().to_netcdf("fine.nc", engine="h5netcdf")
    named = ("--inputs", "t2m", "--outputs", "t2m")
    small = ("--operator", "fno", "--width", "4")
    code, _, said = call(
        capsys, "downscale", "fine.nc", "--coarse", "coarse.nc", *named, "--static", "orography", *small, "--steps", 3, "-o", "r.anygrid"
    )
    assert (code, "left at the held-out times" in said) == (0, True)
    code, _, said = call(
        capsys,
        "fit",
        "coarse.nc",
        *named,
        "--lead",
        "6h",
        *small,
        "--modes",
        3,
        "--depth",
        1,
        "--steps",
        2,
        "--validation",
        0.3,
        "-o",
        "w.anygrid",
    )
    assert code == 0, said
    assert call(capsys, "predict", "r.anygrid", "coarse.nc", "-o", "p.nc")[0] == 0
    assert xr.open_dataset("p.nc", engine="h5netcdf").sizes == {"time": 12, "lat": 11, "lon": 21}
    assert call(capsys, "forecast", "w.anygrid", "coarse.nc", "--steps", 2, "--downscale", "r.anygrid", "-o", "f.zarr")[0] == 0
    assert xr.open_zarr("f.zarr")["t2m"].shape == (2, 11, 21)
    bounds = ("--resolution", "45x90", "--bounds", "lat=30:60,lon=-20:20")
    assert call(capsys, "forecast", "w.anygrid", "coarse.nc", "--steps", 2, *bounds, "-o", "b.nc")[0] == 0
    found = xr.open_dataset("b.nc", engine="h5netcdf")
    np.testing.assert_allclose(found["lon"], np.arange(-20, 21, 4.0), atol=1e-6)
    assert 30 <= found["lat"].min() <= found["lat"].max() <= 60
    code, _, said = call(capsys, "forecast", "w.anygrid", "coarse.nc", "--steps", 2, "--downscale", "r.anygrid", *bounds, "-o", "c.nc")
    assert (code, "a region alone" in said) == (2, True)
    code, said, _ = call(capsys, "info", "r.anygrid")
    assert (code, "coarse inputs" in said) == (0, True)
    # A surrogate evaluated on a part of the sphere: the values of the whole at these points.
    assert call(capsys, "predict", "w.anygrid", "coarse.nc", "-o", "whole.nc", "--resolution", "45x90")[0] == 0
    assert call(capsys, "predict", "w.anygrid", "coarse.nc", "-o", "part.nc", *bounds)[0] == 0
    whole, part = (xr.open_dataset(name, engine="h5netcdf")["t2m"] for name in ("whole.nc", "part.nc"))
    np.testing.assert_allclose(part, whole.sel(lat=part.lat, lon=part.lon % 360, method="nearest"), rtol=1e-5)
