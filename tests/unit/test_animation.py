"""`anygrid animate`: frames, scales, orders of grids, what is refused, and the bytes of the files."""

import io
import itertools
import os

import numpy as np
import pytest
import xarray as xr
from cli_support import call
from PIL import Image
from verification_support import statistics, weather

from anygrid.errors import AnygridError
from anygrid.report.animation import animate
from anygrid.report.film import animated_png, gif
from anygrid.report.scenes import find_scenes, read_scene

GAP = (206, 212, 218)


@pytest.fixture(scope="module")
def case():
    return weather(starts=4, members=4)


def single(values, lat=None, lon=None, units="K"):
    """A forecast of one start with a lead of a day for each of ``values (lead, lat, lon)``."""
    values = np.asarray(values, dtype=np.float32)
    lat = np.linspace(-82.5, 82.5, values.shape[1]) if lat is None else lat
    lon = np.arange(values.shape[2]) * 360 / values.shape[2] if lon is None else lon
    coords = {
        "init_time": np.array(["2001-03-01"], dtype="datetime64[ns]"),
        "lead_time": ("lead_time", np.arange(1.0, len(values) + 1), {"units": "days"}),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    return xr.Dataset({"t2m": (("init_time", "lead_time", "lat", "lon"), values[None], {"units": units})}, coords)


def bump(times=(1.0, 2.0)):
    """A warm spot at 45 N, 90 E that grows."""
    lat, lon = np.meshgrid(np.linspace(-82.5, 82.5, 12), np.arange(24) * 15.0, indexing="ij")
    return 280 + 5 * np.array(times)[:, None, None] * np.exp(-(((lat - 45) / 15) ** 2) - ((lon - 90) / 20) ** 2)


def frames(data):
    """Pictures ``(frame, height, width, 3)`` and how many ms each is shown."""
    film = Image.open(io.BytesIO(data))
    pictures, durations = [], []
    for k in range(film.n_frames):
        film.seek(k)
        pictures.append(np.asarray(film.convert("RGB")))
        durations.append(film.info["duration"])
    return np.stack(pictures), durations


def test_an_ensemble_with_its_truth_has_four_maps_a_frame(case):
    steps = []
    found = animate(*case, variable="z500", speed=4, progress=lambda done, total: steps.append((done, total)))
    pictures, durations = frames(found.data)
    assert (found.frames, durations) == (3, [250, 250, 250])
    assert pictures.shape[2] <= 1200
    assert all((a != b).mean() > 0.05 for a, b in itertools.pairwise(pictures))
    assert steps == [(k, 6) for k in range(1, 7)]
    assert found.notes == ("the start 2001-03-01 00:00, one of 4; --start takes another",)
    assert len(found.data) < 600_000


def test_which_maps_are_drawn(case):
    ds, truth = case

    def panels(data, truth=None, member=None):
        return [(p.title, p.role) for p in find_scenes(data, truth, "t2m", None, member, 1, ("f", "t")).panels]

    mean, spread = ("mean of 4 members", "value"), ("spread of 4 members", "spread")
    beside = [("truth", "value"), ("mean of 4 members minus truth", "difference")]
    for data in (ds, statistics(ds)):
        assert panels(data) == [mean, spread]
        assert panels(data, truth) == [mean, *beside, spread]
        assert panels(data, truth, "mean") == [mean, *beside]
        assert panels(data, None, "spread") == [spread]
    assert panels(ds, truth, 2) == [("member 2", "value"), ("truth", "value"), ("member 2 minus truth", "difference")]
    assert panels(ds.isel(member=0, drop=True)) == [("forecast", "value")]
    assert panels(truth) == [("data", "value")]


def test_the_fields_are_those_of_the_files(case):
    ds, truth = case
    chosen = find_scenes(ds, truth, "t2m", "2001-03-03", None, 2, ("f", "t"))
    assert chosen.frames == ((2, 0), (2, 2))
    mean, right, apart, spread = read_scene(chosen, 1)
    members = ds.t2m.isel(init_time=2, lead_time=2).values.astype(float)
    assert np.allclose(mean, members.mean(0), atol=1e-9)
    assert np.allclose(spread, members.std(0, ddof=1), atol=1e-9)
    assert np.allclose(right, truth.t2m.sel(time="2001-03-08").values, atol=1e-9)
    assert np.allclose(apart, mean - right)
    kept = find_scenes(statistics(ds), truth, "t2m", 2, None, 2, ("f", "t"))
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(read_scene(kept, 1), (mean, right, apart, spread), strict=True))
    one = find_scenes(ds, None, "t2m", "last", 3, 1, ("f", "t"))
    assert np.allclose(read_scene(one, 0)[0], ds.t2m.isel(init_time=3, lead_time=0, member=3))


def test_one_scale_for_all_frames():
    pictures, _ = frames(animate(single(bump((1.0, 2.0)))).data)
    changed = (pictures[0] != pictures[1]).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    height, width = changed.shape
    # The spot takes other colours; the colour bar below the map stays what it was.
    assert not changed[int(0.85 * height) :].any()
    assert changed[int(0.2 * height) : int(0.8 * height)].sum() > 500
    assert rows.size < 0.8 * height
    assert columns.size < 0.6 * width


def test_the_order_of_latitudes_does_not_matter(case):
    ds, truth = case
    turned = ds.isel(lat=slice(None, None, -1))
    one = animate(ds, truth.isel(lat=slice(None, None, -1)), variable="t2m", every=2)
    assert one.data == animate(turned, truth, variable="t2m", every=2).data


def test_longitudes_from_minus_180():
    def brightest(ds):
        # Blue is least where viridis is yellow; the map, not the bar below it.
        picture = frames(animate(ds).data)[0][0].astype(int)
        part = picture[int(0.2 * len(picture)) : int(0.8 * len(picture))]
        spot = (part[..., 0] > 200) & (part[..., 2] < 100)
        return float(np.flatnonzero(spot.any(0)).mean()) / picture.shape[1]

    ds = single(bump((1.0,)))
    shifted = ds.assign_coords(lon=("lon", (ds.lon.values + 180) % 360 - 180, ds.lon.attrs)).sortby("lon")
    assert brightest(ds) == pytest.approx(0.08 + 0.86 * 0.25, abs=0.05)
    assert brightest(shifted) == pytest.approx(0.08 + 0.86 * 0.75, abs=0.05)


def test_missing_values_are_gaps():
    values = bump()
    whole, _ = frames(animate(single(values)).data)
    values[:, :6, :12] = np.nan
    holed, _ = frames(animate(single(values)).data)
    count = [(p == GAP).all(3).sum() / p[..., 0].size for p in (whole, holed)]
    assert count[0] == 0
    assert count[1] > 0.1
    with pytest.raises(AnygridError, match="all are missing"):
        animate(single(np.full((2, 12, 24), np.nan)))


def test_data_without_leads_have_a_frame_for_each_time(case):
    _, truth = case
    found = animate(truth.isel(time=slice(None, None, -1)).assign(orography=truth.t2m[0] * 0), every=4)
    assert found.frames == 3
    assert found.notes == ("t2m, one of 3 variables; --variable takes another",)


def test_a_truth_that_lacks_some_times_leaves_its_map_grey(case):
    ds, truth = case
    found = animate(ds, truth.sel(time=slice(None, "2001-03-03")), variable="t2m", start="first")
    assert "2 of 3 frames have no truth: it stays grey there" in found.notes
    pictures, _ = frames(found.data)
    assert [bool((p == GAP).all(2).mean() > 0.2) for p in pictures] == [False, True, True]


def box():
    return xr.Dataset({"u": (("time", "y", "x"), np.zeros((2, 4, 5)))}, {"time": [0.0, 1.0], "y": np.arange(4.0), "x": np.arange(5.0)})


def stations():
    places = {"lat": ("station", [1.0, 2.0, 4.0]), "lon": ("station", [5.0, 7.0, 6.0])}
    return xr.Dataset({"t2m": (("time", "station"), np.zeros((2, 3)))}, {"time": [0.0, 1.0], **places})


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (None, {"variable": "z50"}, "did you mean 'z500'"),
        (None, {"start": "2002-01-01"}, "they run from 2001-03-01 00:00 to 2001-03-04 00:00"),
        (None, {"start": "2001-03"}, "4 that begin with '2001-03'"),
        (None, {"start": 9}, "by date or number"),
        (None, {"member": 7}, "one of 4 members, got 7"),
        (None, {"member": "spread"}, "no truth beside it"),
        (None, {"speed": 0.0}, "frames a second"),
        (None, {"every": 0}, "1 or more"),
        (
            lambda ds, truth: (ds, truth.isel(time=slice(0, 1)).assign_coords(time=truth.time[:1] - np.timedelta64(900, "D"))),
            {},
            "valid times",
        ),
        (lambda ds, truth: (ds, truth.assign(t2m=truth.t2m - 273.15)), {"variable": "t2m"}, "forecast and truth in one unit"),
        (lambda ds, truth: (ds, truth.isel(lat=slice(0, 5))), {}, "the points of the forecast along 'lat'"),
        (lambda ds, truth: (ds.isel(member=0, drop=True), None), {"member": "mean"}, "got a single forecast"),
        (lambda ds, truth: (statistics(ds), None), {"variable": "t2m", "member": 1}, "a forecast that holds members"),
        (lambda ds, truth: (box(), None), {}, "got a box of y, x"),
        (lambda ds, truth: (stations(), None), {}, "got scattered points"),
        (lambda ds, truth: (truth, None), {"start": "first"}, "a forecast with starts"),
    ],
)
def test_what_is_refused(case, change, options, said):
    with pytest.raises(AnygridError, match=said.replace("(", r"\(")):
        animate(*(case if change is None else change(*case)), **options)


def test_files_hold_every_frame_exactly():
    colours = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)
    pictures = [colours[np.random.default_rng(k).integers(0, 256, (40, 61))] for k in range(3)]
    for data in (gif(iter(pictures), colours, 0.3), animated_png(iter(pictures), 0.3)):
        back, durations = frames(data)
        assert durations == [300] * 3
        assert (back == np.stack(pictures)).all()


def test_the_command(case, tmp_path, capsys):
    ds, truth = (d[["t2m"]] for d in case)
    ds.isel(member=0, drop=True).to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    truth.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    film = tmp_path / "film.gif"
    words = ("animate", tmp_path / "f.nc", "--truth", tmp_path / "t.nc", "--bounds", "lat=20:80,lon=-60:40", "--init", "1", "-o", film)
    code, out, err = call(capsys, *words)
    assert (code, out) == (0, f"{film}\n")
    assert "3 frames" in err
    assert frames(film.read_bytes())[1] == [500] * 3
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "add --overwrite" in err


def test_a_file_is_written_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    single(bump()).to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    words = ("animate", tmp_path / "f.nc", "-o", tmp_path / "film.png")

    def stop(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", stop)
        assert call(capsys, *words)[0] == 130
    assert [p.name for p in tmp_path.iterdir()] == ["f.nc"]
    assert call(capsys, *words)[0] == 0
    assert len(frames((tmp_path / "film.png").read_bytes())[0]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "film.mp4"), "expected a file name that ends in .gif, .png or .apng, got 'film.mp4'"),
        (("--member", "maen", "-o", "film.gif"), "did you mean 'mean'?"),
        (("--variable", "t2n", "-o", "film.gif"), "did you mean 't2m'?"),
        (("--bounds", "lat=1", "-o", "film.gif"), "AXIS=FROM:TO"),
        (("--bounds", "lon=10:11", "-o", "film.gif"), "two or more points inside, got 0 of lon"),
        (("--bounds", "depth=1:2", "-o", "film.gif"), "an axis of the data"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    single(bump()).to_netcdf("f.nc", engine="h5netcdf")
    code, out, err = call(capsys, "animate", "f.nc", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["f.nc"]
