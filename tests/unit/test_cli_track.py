"""`anygrid track`: what it writes, draws and says, and how it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_support import call
from storm_support import along, gaps, moving

from anygrid.grid import Sphere

HOURS = np.arange(0, 36, 6.0)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "weather"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two members of a storm like Katrina, and best tracks."""
    path = tmp_path_factory.mktemp("track")
    grid = Sphere.equiangular(60, 120)
    lat, lon = along(25, -85, 300, 6, HOURS)
    member = [moving(grid, [(lat + k, lon)], HOURS) for k in (0, 2)]
    ds = member[0].expand_dims(number=[0, 1]).copy(deep=True)
    ds.msl[1] = member[1].msl
    ds.to_netcdf(path / "ens.nc", engine="h5netcdf")
    rows = ["name,year,month,day,hour,lat,long,status,category,wind,pressure"]
    for h, a, o in zip(HOURS, lat, lon, strict=True):
        rows.append(f"Katrina,2005,8,{25 + int(h) // 24},{int(h) % 24},{a:.1f},{o:.1f},hurricane,1,100,950")
    (path / "best.csv").write_text("\n".join(rows) + "\n")
    return path, lat, lon


def test_table_map_strikes_and_errors(folder, capsys):
    path, lat, lon = folder
    strike = ["--strike", f"{lat[2]},{lon[2]},100", "--strike=-30,20,500"]
    words = ["track", path / "ens.nc", "--out", path / "t.csv", "--map", path / "t.png", "--best", path / "best.csv", *strike]
    code, out, err = call(capsys, *words)
    assert (code, out) == (0, f"{path / 't.csv'}\n{path / 't.png'}\n")
    assert "2 tracks in 2 members" in err
    assert "probability 0.50" in err
    assert "probability 0.00" in err
    assert "1 of 1 observed storms found" in err
    assert (path / "t.png").read_bytes()[:4] == b"\x89PNG"
    table = pd.read_csv(path / "t.csv")
    assert list(table.columns) == ["start", "member", "track", "time", "lead", "lat", "lon", "pressure"]
    assert gaps(table[table["member"] == 0], lat, lon, HOURS).max() < 20
    assert call(capsys, *words)[0] == 2
    words = [w for w in words if w not in ("--map", path / "t.png")]
    code, out, _ = call(capsys, *words, "--json", "--overwrite")
    facts = json.loads(out)
    assert code == 0
    assert (facts["tracks"], facts["members"], facts["matched_tracks"]) == (2, 2, 2)
    assert [s["probability"] for s in facts["strike"]] == [0.5, 0.0]
    first = facts["errors_by_lead"][0]
    assert first["pairs"] == 2
    assert first["distance"] == pytest.approx((222 + 0) / 2, abs=8)
    assert len(facts["mean_track"]) == len(HOURS)
    assert not list(path.glob(".*tmp*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--var", "mls"], "did you mean 'msl'"),
        (["--out", "t.txt"], "ends in .csv"),
        (["--map", "t.gif"], ".png, .pdf or .svg"),
        (["--strike", "30,-90"], "LAT,LON,R"),
        (["--strike", "130,-90,100"], "the latitude comes first"),
        (["--vorticity", "u850"], "wind to the east and to the north"),
        (["--vorticity", "u850,v850"], "variable 'u850'"),
        (["--warm-core", "a,b,c"], "one temperature, or two heights"),
        (["--warm-core", "msl"], "units 'Pa'"),
        (["--best", "none.csv"], "a file of best tracks"),
        (["--speed", "0"], "a speed above 0"),
        (["--lifetime", "nan"], "0 or more"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_hint(folder, capsys, words, told):
    path = folder[0]
    given = [] if "--out" in words else ["--out", path / "no.csv"]
    code, out, err = call(capsys, "track", path / "ens.nc", *given, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err
    assert not (path / "no.csv").exists()


def test_broken_files(folder, capsys, tmp_path):
    path = folder[0]
    whole = (path / "ens.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.nc").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "cut.csv").write_text("name,year,month,day,hour,lat,long,status,category,wind,pressure\nKatrina,2005,8\n")
    for words in (["cut.nc"], ["noise.nc"], ["none.nc"], [path / "ens.nc", "--best", tmp_path / "cut.csv"]):
        file = tmp_path / words[0]
        code, out, err = call(capsys, "track", file, *words[1:], "--out", tmp_path / "t.csv")
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert not (tmp_path / "t.csv").exists()


def test_no_storm_is_an_empty_table_and_no_picture(folder, capsys, tmp_path):
    path = folder[0]
    code, out, err = call(capsys, "track", path / "ens.nc", "--out", tmp_path / "t.csv", "--rise", "1e6", "--strike", "0,0,9", "--json")
    assert code == 0
    assert json.loads(out)["strike"][0]["probability"] == 0
    assert pd.read_csv(tmp_path / "t.csv").empty
    code, _, err = call(capsys, "track", path / "ens.nc", "--out", tmp_path / "u.csv", "--rise", "1e6", "--map", tmp_path / "u.png")
    assert code == 2
    assert "at least one track" in err


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/weather")
def test_real_era5_members(capsys, tmp_path):
    pytest.importorskip("cfgrib")
    words = ["--select", "number=0:1", "--var", "z850", "--json"]
    code, out, _ = call(capsys, "track", REAL / "era5-levels-members.grib", "--out", tmp_path / "t.csv", *words)
    assert code == 0
    assert json.loads(out)["members"] == 2
    table = pd.read_csv(tmp_path / "t.csv")
    # The members are analyses that differ little: each storm south of 50 S with four fixes is in both, within 2 degrees.
    long = table[table["lat"] < -50].groupby(["member", "track"]).filter(lambda t: len(t) == 4)
    by_member = [long[long["member"] == m].groupby("track")[["lat", "lon"]].first() for m in (0, 1)]
    assert len(by_member[0]) >= 4
    for lat, lon in by_member[0].to_numpy():
        assert np.hypot(by_member[1]["lat"] - lat, (by_member[1]["lon"] - lon) / 2).min() < 2
