"""The command line does what it says: fit, predict, evaluate, forecast, info, problems, generate, run."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from cli_support import FIT, SMALL, call, wave_file

from anygrid.surrogate import read_surrogate


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a wave file and a surrogate of it, made by the command line."""
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        wave_file(folder / "odd.nc")
        from anygrid.cli import main

        with pytest.raises(SystemExit) as leave:
            main(["fit", "odd.nc", *FIT, *SMALL, "--select", "month=1999-01:2000-06", "--steps", "40", "-o", "w.anygrid"])
        assert leave.value.code == 0
    return folder


def test_help_shows_a_newcomer_the_way(capsys):
    code, out, _ = call(capsys)
    assert code == 0
    for word in ("fit", "predict", "evaluate", "forecast", "info", "problems", "generate", "report", "run"):
        assert f"\n  {word} " in out
    assert "anygrid fit sst.nc --inputs ssta --outputs ssta" in out
    assert max(len(line) for line in out.splitlines()) <= 80


@pytest.mark.parametrize("command", ["fit", "predict", "evaluate", "forecast", "info", "problems", "generate", "report", "run"])
def test_every_command_has_help(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"anygrid {command}" in out


def test_version(capsys):
    code, out, _ = call(capsys, "--version")
    assert (code, out) == (0, "anygrid 0.1.0\n")


def test_fit_says_what_it_inferred_and_keeps_the_request(fitted, capsys):
    run = (fitted / "runs" / "w" / "run.toml").read_text()
    assert "month=1999-01:2000-06" in run
    log = (fitted / "runs" / "w" / "log.txt").read_text()
    assert "periodic because it goes once round the globe" in log
    code, out, _ = call(capsys, "info", fitted / "w.anygrid", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["lead"] == "1month"
    assert facts["training"]["steps"] == 40
    # 18 selected months make 17 pairs, of which a tenth is held out: the selection arrived.
    assert any("held out" in line and line.startswith("15 samples") for line in facts["inferred"])


def test_fit_confines_when_told_to(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    code, _, err = call(capsys, "fit", "odd.nc", *FIT, *SMALL, "--steps", "1", "--confine", "-o", "c.anygrid")
    assert code == 0, err
    assert read_surrogate(fitted / "c.anygrid").imposed.radius > 0
    assert read_surrogate(fitted / "w.anygrid").imposed.radius is None


def test_fit_again_with_the_same_words_is_refused_then_continued(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    words = ("fit", "odd.nc", *FIT, *SMALL, "--select", "month=1999-01:2000-06", "--steps", "40")
    code, _, err = call(capsys, *words, "-o", "w.anygrid")
    assert code == 2
    assert "--overwrite" in err
    before = (fitted / "w.anygrid").read_bytes()
    code, _, err = call(capsys, *words, "--run", "runs/w", "-o", "same.anygrid")
    assert code == 0
    assert "continuing" in err
    same, first = read_surrogate(fitted / "same.anygrid").operator.state_dict(), read_surrogate(fitted / "w.anygrid").operator.state_dict()
    assert all(torch.equal(same[k], first[k]) for k in first)
    assert (fitted / "w.anygrid").read_bytes() == before
    code, _, err = call(capsys, *words[:-1], "41", "--run", "runs/w", "-o", "other.anygrid")
    assert code == 2
    assert "steps = 40 there, 41 now" in err
    assert not (fitted / "other.anygrid").exists()


def test_run_toml_repeats_a_fit_bit_for_bit(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    code, _, _ = call(capsys, "run", "runs/w/run.toml", "--out", "again")
    assert code == 0
    again, first = read_surrogate("again/surrogate.anygrid").operator.state_dict(), read_surrogate("w.anygrid").operator.state_dict()
    assert all(torch.equal(again[k], first[k]) for k in first)


def test_predict_is_that_of_the_surrogate(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    code, out, _ = call(capsys, "predict", "w.anygrid", "odd.nc", "--select", "month=2000-07:2000-09", "-o", "p.nc", "--overwrite")
    assert (code, out) == (0, "p.nc\n")
    got = xr.open_dataset("p.nc", engine="h5netcdf")
    want = read_surrogate("w.anygrid").predict(xr.open_dataset("odd.nc", engine="h5netcdf").sel(month=slice("2000-07", "2000-09")))
    assert got["thetao_con"].attrs["units"] == "degC"
    np.testing.assert_array_equal(got["nav_lat"], np.linspace(80, -80, 9))
    np.testing.assert_allclose(got["thetao_con"], want["thetao_con"], atol=1e-6)


def test_predict_in_slabs_gives_the_same_store(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    code, out, _ = call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "slabs.zarr", "--memory", "100KB")
    assert (code, out.strip()) == (0, "slabs.zarr")
    want = read_surrogate("w.anygrid").predict(xr.open_dataset("odd.nc", engine="h5netcdf"))
    found = xr.open_zarr("slabs.zarr").load()
    for name in want:
        np.testing.assert_allclose(found[name].reindex_like(want).transpose(*want[name].dims), want[name], rtol=1e-4, atol=1e-4)
    for options, word in ((("-o", "slabs.nc", "--memory", "1GB"), "NAME.zarr"), (("-o", "s.zarr", "--memory", "some"), "2GB")):
        code, _, error = call(capsys, "predict", "w.anygrid", "odd.nc", *options)
        assert code == 2
        assert word in error


def test_predict_at_stations_resolutions_and_other_grids(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "own.zarr", "--overwrite")
    own = xr.open_zarr("own.zarr")["thetao_con"]
    # Stations on grid points, one named with a western longitude: the values are those of the grid.
    (fitted / "st.csv").write_text("name,Latitude,lon\nA,40,45\nB,-20,-90\n".replace("Latitude", "nav_lat").replace("lon\n", "nav_lon\n"))
    code, _, _ = call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "st.nc", "--points", "st.csv", "--overwrite")
    assert code == 0
    at = xr.open_dataset("st.nc", engine="h5netcdf")
    assert list(at["name"].values) == ["A", "B"]
    np.testing.assert_allclose(at["thetao_con"].isel(point=0), own.sel(nav_lat=40, nav_lon=45), atol=1e-4)
    np.testing.assert_allclose(at["thetao_con"].isel(point=1), own.sel(nav_lat=-20, nav_lon=270), atol=1e-4)
    code, _, _ = call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "fine.nc", "--resolution", "18x32", "--overwrite")
    assert code == 0
    fine = xr.open_dataset("fine.nc", engine="h5netcdf")["thetao_con"]
    assert fine.sizes == {"month": 24, "nav_lat": 18, "nav_lon": 32}
    code, _, _ = call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "like.nc", "--like", "fine.nc", "--overwrite")
    assert code == 0
    np.testing.assert_allclose(xr.open_dataset("like.nc", engine="h5netcdf")["thetao_con"], fine, atol=1e-6)


def test_evaluate_and_its_report(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    words = ("odd.nc", "--select", "month=2000-07:2000-12", "--train", "odd.nc", "--train-select", "month=1999-01:2000-06")
    code, out, err = call(capsys, "evaluate", "w.anygrid", *words, "--timing", "0", "--steps", "2", "--report", "rep", "--json")
    assert code == 0, err
    found = json.loads(out)
    scores = {s["name"]: s["errors"]["relative_l2"]["mean"] for s in found["scores"]}
    # A quarter turn: persistence is sqrt(2) of sin plus twice the second wave off; worse than 1.
    assert scores["persistence"] > 1.2
    assert scores["nearest training sample"] < 1e-5
    assert scores["surrogate"] < scores["persistence"]
    page = (fitted / "rep" / "report.html").read_text()
    assert "anygrid evaluate" in page or "To repeat it" in page
    (fitted / "rep" / "report.html").unlink()
    code, _, _ = call(capsys, "report", "rep")
    assert code == 0
    assert (fitted / "rep" / "report.html").exists()


def test_forecast_is_scored_against_persistence_and_climatology(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    words = (
        "w.anygrid",
        "odd.nc",
        "--select",
        "month=2000-06",
        "--steps",
        "4",
        "-o",
        "f.zarr",
        "--truth",
        "odd.nc",
        "--json",
        "--overwrite",
    )
    code, out, err = call(capsys, "forecast", *words)
    assert code == 0, err
    rows = json.loads(out)
    assert [row["lead"] for row in rows] == [1, 2, 3, 4]
    ds = xr.open_dataset("odd.nc", engine="h5netcdf")["thetao_con"]
    made = xr.open_zarr("f.zarr")["thetao_con"]
    assert list(made["month"].values) == list(ds["month"].values[18:22])
    weights = np.cos(np.deg2rad(ds["nav_lat"]))
    off = ds.isel(month=18) - ds.isel(month=17)
    rough = float(np.sqrt((off**2 * weights).sum() / (weights.sum() * ds.sizes["nav_lon"])))
    assert rows[0]["persistence rmse"] == pytest.approx(rough, rel=0.03)  # band areas against cosines
    assert rows[3]["persistence rmse"] == pytest.approx(0, abs=1e-5)  # a whole turn
    assert rows[0]["skill over persistence"] == pytest.approx(1 - (rows[0]["rmse"] / rows[0]["persistence rmse"]) ** 2)


def test_forecast_from_every_start_leaves_out_what_has_no_truth(fitted, capsys, monkeypatch):
    monkeypatch.chdir(fitted)
    words = ("w.anygrid", "odd.nc", "--start", "each", "--steps", "2", "-o", "each.nc", "--truth", "odd.nc", "--json", "--overwrite")
    code, out, err = call(capsys, "forecast", *words)
    assert code == 0, err
    assert [row["starts"] for row in json.loads(out)] == [23, 22]


def test_info_says_how_a_file_is_understood(fitted, capsys):
    code, out, _ = call(capsys, "info", fitted / "odd.nc")
    assert code == 0
    assert "thetao_con" in out
    assert "space: nav_lat, nav_lon" in out
    assert "[degC]" in out


def test_problems(capsys):
    code, out, _ = call(capsys, "problems")
    assert code == 0
    assert "darcy\n" in out
    code, out, _ = call(capsys, "problems", "navier_stokes", "--json")
    assert code == 0
    assert json.loads(out)["parameters"]["viscosity"] == 1e-3


def test_generate_is_that_of_the_library(tmp_path, capsys):
    from anygrid.io.store import generate
    from anygrid.problems.helmholtz import Helmholtz

    words = ("--resolution", "17", "--store-resolution", "9", "--seed", "3", "--workers", "0", "--label-check", "0")
    code, out, _ = call(capsys, "generate", "helmholtz", "-n", "3", *words, "--set", "wavenumber=2", "-o", tmp_path / "h.zarr")
    assert (code, out) == (0, f"{tmp_path / 'h.zarr'}\n")
    generate(Helmholtz(wavenumber=2.0), 3, 17, tmp_path / "l.zarr", seed=3, workers=0, store_resolution=9, label_check=0)
    mine, theirs = xr.open_zarr(tmp_path / "h.zarr"), xr.open_zarr(tmp_path / "l.zarr")
    xr.testing.assert_identical(mine.drop_attrs(), theirs.drop_attrs())


def test_ctrl_c_ends_with_130_and_a_sentence(fitted, capsys, monkeypatch):
    from anygrid.cli import using

    monkeypatch.chdir(fitted)

    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(using, "opened", interrupted)
    code, _, err = call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "never.nc")
    assert code == 130
    assert "continues it" in err


def test_a_bug_is_one_line_unless_asked(fitted, capsys, monkeypatch):
    from anygrid.cli import using

    monkeypatch.chdir(fitted)

    def broken(*words):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(using, "opened", broken)
    code, _, err = call(capsys, "predict", "w.anygrid", "odd.nc", "-o", "never.nc")
    assert code == 1
    assert err == "error: ZeroDivisionError: of ours\nhint: this is a bug in anygrid; add --debug to the command to see where\n"
    with pytest.raises(ZeroDivisionError):
        call(capsys, "--debug", "predict", "w.anygrid", "odd.nc", "-o", "never.nc")


def test_noise_makes_the_members_of_an_ensemble(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wave_file(tmp_path / "waves.nc")
    code, _, err = call(capsys, "fit", "waves.nc", *FIT, *SMALL, "--steps", "3", "--noise", "2", "-o", "s.anygrid")
    assert code == 0, err
    assert "2 channels of noise" in err
    words = ("--steps", "2", "--keep", "mean,std", "--keep-members", "0:3", "--workers", "0")
    code, _, err = call(capsys, "forecast", "s.anygrid", "waves.nc", *words, "--members", "3", "--seed", "1", "-o", "e.zarr")
    assert code == 0, err
    members = xr.open_zarr("e.zarr").thetao_con.values
    assert np.isfinite(members).all()
    assert np.abs(members[0] - members[1]).max() > 1e-3  # no perturbation was asked for: the noise alone tells them apart


def test_a_training_goes_on_from_a_surrogate_without_its_high_waves(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wave_file(tmp_path / "waves.nc")
    code, _, err = call(capsys, "fit", "waves.nc", *FIT, *SMALL, "--steps", "3", "-o", "s.anygrid")
    assert code == 0, err
    code, _, err = call(capsys, "fit", "waves.nc", *FIT, "--parent", "s.anygrid", "--waves", "3", "--steps", "2", "-o", "t.anygrid")
    assert code == 0, err
    assert "no waves above number 3" in err
    one, two = (read_surrogate(name) for name in ("s.anygrid", "t.anygrid"))
    assert two.operator.arguments == one.operator.arguments
    assert two.imposed.waves == 3
    code, _, err = call(capsys, "fit", "waves.nc", *FIT, *SMALL, "--parent", "s.anygrid", "--steps", "2", "-o", "u.anygrid")
    assert code == 2
    assert "a parent has its own operator" in err
    code, _, err = call(capsys, "fit", "waves.nc", *FIT, "--waves", "3", "--confine", "--steps", "2", "-o", "u.anygrid")
    assert code == 2
    assert "neither --physics nor --confine" in err
    code, _, err = call(capsys, "fit", "waves.nc", *FIT, "--parent", "none.anygrid", "--steps", "2", "-o", "u.anygrid")
    assert code == 2
    assert "none.anygrid" in err
