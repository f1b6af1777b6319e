"""Bad input at the command line: exit code 2, what is wrong, how to mend it, no traceback, and nothing lost."""

import json
import struct

import numpy as np
import pytest
import xarray as xr
from cli_support import FIT, SMALL, call, wave_file


def refused(capsys, *words, says="", hint=""):
    code, out, err = call(capsys, *words)
    assert code == 2, err
    assert out == ""
    assert "error: " in err
    assert "hint: " in err
    assert "Traceback" not in err
    assert says in err
    assert hint in err
    return err


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with good data, a good surrogate, and many kinds of broken files."""
    folder = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ds = wave_file(folder / "good.nc")
        whole = (folder / "good.nc").read_bytes()
        (folder / "cut.nc").write_bytes(whole[: len(whole) // 2])
        (folder / "empty.nc").write_bytes(b"")
        (folder / "text.nc").write_text("not a data file at all, although its name says so\n")
        (folder / "none").mkdir()
        hole = ds.copy(deep=True)
        hole["thetao_con"][3, 2, 1] = np.nan
        hole.to_netcdf("hole.nc", engine="h5netcdf")
        kelvin = ds.copy(deep=True)
        kelvin["thetao_con"].attrs["units"] = "m s-1"
        kelvin.to_netcdf("speed.nc", engine="h5netcdf")
        ds.isel(month=slice(0, 1)).to_netcdf("one.nc", engine="h5netcdf")
        ds.isel(nav_lon=slice(0, 5)).to_netcdf("window.nc", engine="h5netcdf")
        ds.drop_vars(["nav_lat", "nav_lon"]).rename(nav_lat="x", nav_lon="y").isel(x=0).to_netcdf("line.nc", engine="h5netcdf")
        uneven = ds.rename(nav_lat="y", nav_lon="x").assign_coords(y=np.arange(9.0), x=np.arange(16.0) ** 1.5)
        for c in ("x", "y"):
            uneven[c].attrs.clear()
        uneven.to_netcdf("uneven.nc", engine="h5netcdf")
        from anygrid.cli import main

        with pytest.raises(SystemExit):
            main(["fit", "good.nc", *FIT, *SMALL, "--steps", "2", "-o", "s.anygrid"])
        assert (folder / "s.anygrid").exists()
        raw = (folder / "s.anygrid").read_bytes()
        (folder / "cut.anygrid").write_bytes(raw[: len(raw) // 2])
        size = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + size])
        header["__metadata__"]["version"] = "99"
        newer = json.dumps(header).encode()
        (folder / "newer.anygrid").write_bytes(struct.pack("<Q", len(newer)) + newer + raw[8 + size :])
        (folder / "st.csv").write_text("nav_lat,nav_lon\n10,20\nnorth,30\n")
        (folder / "st2.csv").write_text("latitude,phi\n10,20\n")
    return folder


FIT_FAULTS = [
    (("missing.nc", *FIT), "nothing of that name", ""),
    (("*.zip", *FIT), "files that match", ""),
    (("none", *FIT), "a folder with data files", ""),
    (("cut.nc", *FIT), "cut.nc", "truncated"),
    (("empty.nc", *FIT), "empty file", ""),
    (("text.nc", *FIT), "another kind", ""),
    (("good.nc", "--inputs", "thetao_co", "--outputs", "thetao_con"), "thetao_co", "did you mean 'thetao_con'?"),
    (("good.nc", "--inputs", "nav_lat", "--outputs", "thetao_con"), "a coordinate", ""),
    (("hole.nc", *FIT), "month", ""),
    (("one.nc", *FIT), "two or more", ""),
    (("one.nc", *FIT[:4]), "two or more", ""),
    (("good.nc", *FIT, "--budget", "0"), "duration above 0", "90s"),
    (("good.nc", *FIT, "--budget", "soon"), "duration", "90s"),
    (("good.nc", *FIT, "--steps", "0"), "above 0", ""),
    (("good.nc", *FIT, "--steps", "5", "--epochs", "1"), "one of budget, steps and epochs", ""),
    (("good.nc", *FIT[:4], "--lead", "1week"), "multiple of the spacing", "1month"),
    (("good.nc", *FIT[:4], "--lead", "soon"), "duration", ""),
    (("good.nc", *FIT, "--operator", "fnoo"), "fnoo", "did you mean 'fno'?"),
    (("good.nc", *FIT, "--operator", "fno", "--modes", "40"), "functions", "--modes"),
    (("good.nc", *FIT, "--modes", "40"), "functions", "--modes"),
    (("good.nc", *FIT, "--select", "mnth=1999"), "mnth", "did you mean 'month'?"),
    (("good.nc", *FIT, "--select", "month=2090:2091"), "none", ""),
    (("good.nc", *FIT, "--periodic", "z"), "z", ""),
    (("good.nc", *FIT, "--periodic", "x", "--bounded", "x"), "both", ""),
    (("uneven.nc", *FIT, "--periodic", "x", "--bounded", "y"), "even spacing", ""),
    (("good.nc", *FIT, "--batch", "0"), "batch", ""),
    (("good.nc", *FIT, "--batch", "many"), "--batch", "--help"),
    (("good.nc", *FIT, "--learning-rate", "-1"), "learning_rate", ""),
    (("good.nc", *FIT, "--validation", "1.5"), "validation", ""),
    (("good.nc", *FIT, "--validation", "nowhere.nc"), "nowhere.nc", ""),
    (("good.nc", *FIT, "--device", "tpu"), "tpu", ""),
    (("good.nc", *FIT, "--precision", "float16"), "float16", ""),
    (("good.nc", *FIT, "--coarse-first", "half"), "FRACTION:STRIDE", ""),
    (("good.nc", *FIT, "--augment", "flp:x"), "flp", "did you mean 'flip'?"),
    (("good.nc", *FIT, "-o", "nowhere/s.anygrid"), "nowhere", "mkdir"),
    (("good.nc", "--inputs", "thetao_con"), "--outputs", "--help"),
    (("good.nc", *FIT, "--bugdet", "5m"), "--bugdet", "did you mean '--budget'?"),
]


@pytest.mark.parametrize(("words", "says", "hint"), FIT_FAULTS, ids=lambda v: " ".join(v[:1] + v[-2:]) if isinstance(v, tuple) else "")
def test_fit_refuses(place, tmp_path, capsys, monkeypatch, words, says, hint):
    monkeypatch.chdir(place)
    output = () if "-o" in words else ("-o", tmp_path / "x.anygrid")
    refused(capsys, "fit", *words, *output, "--run", tmp_path / "run", says=says, hint=hint)
    assert not (tmp_path / "x.anygrid").exists()


USE_FAULTS = [
    (("predict", "missing.anygrid", "good.nc", "-o", "o.nc"), "missing.anygrid", ""),
    (("predict", "cut.anygrid", "good.nc", "-o", "o.nc"), "cut.anygrid", ""),
    (("predict", "newer.anygrid", "good.nc", "-o", "o.nc"), "99", "anygrid"),
    (("predict", "good.nc", "good.nc", "-o", "o.nc"), "good.nc", ""),
    (("predict", "s.anygrid", "speed.nc", "-o", "o.nc"), "m s-1", ""),
    (("predict", "s.anygrid", "hole.nc", "-o", "o.nc"), "thetao_con", ""),
    (("predict", "s.anygrid", "window.nc", "-o", "o.nc"), "nav_lon", ""),
    (("predict", "s.anygrid", "line.nc", "-o", "o.nc"), "", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.txt"), ".nc or .zarr", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "good.nc"), "a free path", "--overwrite"),
    (("predict", "s.anygrid", "good.nc", "-o", "no/o.nc"), "no", "mkdir"),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--resolution", "1x2x3"), "2 numbers", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--resolution", "0x3"), "0x3", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--resolution", "9x16", "--like", "good.nc"), "one of", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--like", "line.nc"), "nav_lat", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--points", "st.csv"), "line 3", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--points", "st2.csv"), "nav_lat", ""),
    (("predict", "s.anygrid", "good.nc", "-o", "o.nc", "--points", "good.nc"), "CSV", ""),
    (("evaluate", "s.anygrid", "good.nc", "--resolutions", "9x"), "9x", ""),
    (("evaluate", "s.anygrid", "darcyy"), "darcyy", ""),
    (("evaluate", "s.anygrid", "good.nc", "-n", "0"), "at least one", ""),
    (("evaluate", "s.anygrid", "speed.nc"), "m s-1", ""),
    (("forecast", "s.anygrid", "good.nc", "--steps", "0", "-o", "f.nc"), "steps", ""),
    (("forecast", "s.anygrid", "good.nc", "--steps", "2", "-o", "f.nc", "--start", "lst"), "lst", "did you mean 'last'?"),
    (("forecast", "s.anygrid", "good.nc", "--steps", "2", "-o", "f.txt"), ".nc or .zarr", ""),
    (("info", "nothing.nc"), "nothing.nc", ""),
    (("info", "cut.anygrid"), "cut.anygrid", ""),
    (("problems", "navier"), "navier", ""),
    (("generate", "darcyy", "-n", "2", "--resolution", "9", "-o", "d.zarr"), "darcyy", "did you mean 'darcy'?"),
    (("generate", "darcy", "-n", "0", "--resolution", "9", "-o", "d.zarr"), "1 or more", ""),
    (("generate", "darcy", "-n", "2", "--resolution", "9", "-o", "d.nc"), ".zarr", "d.zarr"),
    (("generate", "darcy", "-n", "2", "--resolution", "1", "-o", "d.zarr"), "at least 2", ""),
    (("generate", "darcy", "-n", "2", "--resolution", "9", "--store-resolution", "4", "-o", "d.zarr"), "among those", "choose from"),
    (("generate", "darcy", "-n", "2", "--resolution", "9", "--set", "tauu=3", "-o", "d.zarr"), "tauu", "did you mean 'tau'?"),
    (("generate", "darcy", "-n", "2", "--resolution", "9", "--set", "tau=-3", "-o", "d.zarr"), "positive", ""),
    (("generate", "darcy", "-n", "2", "--resolution", "9", "--steps", "4", "-o", "d.zarr"), "steady", ""),
    (("report", "none"), "metrics.json", ""),
    (("report", "nowhere"), "metrics.json", ""),
    (("run", "darcyy"), "darcyy", "did you mean 'darcy'?"),
    (("run", "darcy", "--budget", "0"), "duration above 0", ""),
    (("run", "darcy", "--budget", "9s", "--steps", "3"), "one of", ""),
    (("run", "darcy", "--trajectory", "3"), "steady", ""),
    (("run", "darcy", "-n", "-4"), "above 0", ""),
    (("run", "none"), "run.toml", ""),
    (("run", "no.toml"), "no.toml", ""),
    (("run", "no.toml", "--budget", "3m"), "beside a run.toml", ""),
    (("run", "darcy", "--out", "none/../good.nc"), "", ""),
    (("runn", "darcy"), "runn", "did you mean 'run'?"),
]


@pytest.mark.parametrize(("words", "says", "hint"), USE_FAULTS, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_other_commands_refuse(place, capsys, monkeypatch, words, says, hint):
    monkeypatch.chdir(place)
    before = {p.name: p.stat().st_mtime_ns for p in place.iterdir() if p.is_file()}
    refused(capsys, *words, says=says, hint=hint)
    assert {p.name: p.stat().st_mtime_ns for p in place.iterdir() if p.is_file()} == before


def test_a_full_disk_keeps_what_was_there(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (place / "kept.nc").write_bytes(b"precious")

    def full(*words, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    refused(capsys, "predict", "s.anygrid", "good.nc", "-o", "kept.nc", "--overwrite", says="full disk", hint="free some space")
    assert (place / "kept.nc").read_bytes() == b"precious"
    assert not list(place.glob(".kept*"))


def test_a_folder_that_is_no_run_is_left_alone(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(capsys, "fit", "good.nc", *FIT, "--run", tmp_path, "--overwrite", says="something else", hint="choose another folder")
    refused(capsys, "run", "darcy", "--out", tmp_path, "--overwrite", says="something else")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
