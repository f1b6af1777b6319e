"""`anygrid generate weather`, by a stand-in for the model."""

import pytest
import xarray as xr
from cli_support import call
from weather_support import without_process

from anygrid.io import weather_store


def test_calendar_years_or_days_and_the_variables_asked_for(tmp_path, monkeypatch, capsys):
    without_process(monkeypatch)
    out = tmp_path / "a.zarr"
    words = ["--days", "2", "--spin-up", "1", "--start", "2001-05-01", "--variables", "z500, t2m", "--every", "12", "--out", str(out)]
    code, said, talk = call(capsys, "generate", "weather", *words)
    assert (code, said.strip()) == (0, str(out))
    assert "day 3/3" in talk
    ds = xr.open_zarr(out)
    assert set(ds.data_vars) == {"z500", "t2m", "orography", "land_sea_mask"}
    assert [str(t)[:13] for t in ds.time.values] == ["2001-05-01T00", "2001-05-01T12", "2001-05-02T00", "2001-05-02T12"]


@pytest.mark.parametrize(("start", "years", "days"), [("2000-01-01", 1, 366), ("2001-03-01", 4, 1461), ("2000-02-29", 1, 366)])
def test_years_are_those_of_the_calendar(tmp_path, monkeypatch, capsys, start, years, days):
    asked = []
    monkeypatch.setattr(weather_store, "generate_weather", lambda problem, days, path, **rest: asked.append((problem.start, days)))
    call(capsys, "generate", "weather", "--years", years, "--start", start, "--out", tmp_path / "a.zarr")
    assert asked == [(start, days)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "a.zarr"], "--years or --days, got neither"),
        (["--out", "a.zarr", "--years", "1", "--days", "3"], "--years or --days, got both"),
        (["--out", "a.nc", "--years", "1"], "a name that ends in .zarr"),
        (["--out", "a.zarr", "--years", "0"], "1 or more"),
        (["--out", "a.zarr", "--days", "0"], "number of 1 or more"),
        (["--out", "a.zarr", "--days", "1", "--every", "5"], "a divisor of 24"),
        (["--out", "a.zarr", "--days", "1", "--every", "1"], "multiple of 5400 s"),
        (["--out", "a.zarr", "--days", "1", "--variables", "z500,tm2"], "did you mean 't2m'"),
        (["--out", "a.zarr", "--years", "1", "--start", "someday"], "a date, got 'someday'"),
        (["--out", "nowhere/a.zarr", "--days", "1"], "a folder to write into"),
        (["--year", "1"], "No such option"),
    ],
)
def test_what_cannot_be_is_said_without_a_traceback(tmp_path, monkeypatch, capsys, words, message):
    without_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    code, said, talk = call(capsys, "generate", "weather", *words)
    assert code == 2
    assert message.lower() in talk.lower()
    assert "Traceback" not in talk
    assert said == ""
    assert not list(tmp_path.iterdir())
