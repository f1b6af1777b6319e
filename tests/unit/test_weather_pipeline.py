"""`anygrid run weather`, by a stand-in for the model: every stage, what is kept, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cli_support import call
from weather_support import StandIn, without_process

from anygrid import weather_pipeline
from anygrid.errors import UsageError
from anygrid.io import weather_ensemble
from anygrid.operators import default_operator
from anygrid.problems.speedy_engine import SpeedyState
from anygrid.weather_pipeline import STATE, WeatherRecipe, WeatherWatcher, joined, run_weather

SMALL = WeatherRecipe(budget=10.0, spin_up=1, days=2, starts=2, members=3, reference_members=2, noise=1)
PLAN = {"days": 24, "training": 1.0, "second_per_day": 1.0}


def watcher(said: list[str]) -> WeatherWatcher:
    return WeatherWatcher(lambda *_: None, lambda progress: None, said.append)


def shaken(state: SpeedyState, amplitude: float, seed: int) -> SpeedyState:
    noise = amplitude * np.random.default_rng(seed).standard_normal((8, 3, 4))
    return SpeedyState(state.time, {"vorticity": (state.arrays["vorticity"] + noise).astype(np.float32)})


def small(inputs: int, outputs: int, grid):
    return default_operator(inputs, outputs, grid, width=4, depth=1, modes=5)


def test_the_whole_job_and_that_nothing_is_made_twice(tmp_path: Path, monkeypatch) -> None:
    without_process(monkeypatch)
    monkeypatch.setattr(weather_pipeline, "Engine", StandIn)
    monkeypatch.setattr(weather_ensemble, "perturbed", shaken)
    monkeypatch.setattr(weather_pipeline, "_JUDGED", ("z500", "t2m"))  # each takes seconds of drawing
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    said: list[str] = []
    found = run_weather(SMALL, tmp_path, watcher(said), operator=small, command="anygrid run weather")
    assert {v.name for v in found.variables} == {"z500", "t2m"}
    assert found.cases == 2
    assert all(c.score for v in found.variables for c in v.comparisons)
    page = (tmp_path / "report.html").read_text()
    assert all(words in page for words in ("What it cost", "Against the reference", "At a station", "Calibration", "day costs"))
    forecast, test = xr.open_zarr(tmp_path / "forecast.zarr"), xr.open_zarr(tmp_path / "run_2.zarr")
    assert forecast.sizes["member"] == 3
    assert set(STATE) <= set(forecast.data_vars)
    # What is verified lies behind what was trained on, with a gap of a forecast between.
    trained = next(text for text in said if text.startswith("two runs"))
    assert "training on all of the first and 16 days of the second, test on its last 6" in trained
    assert forecast.init_time.values.min() >= test.time.values[0] + np.timedelta64(18, "D")
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in ("surrogate.anygrid", "run_1.zarr", "forecast.zarr")}
    monkeypatch.setattr(weather_pipeline, "fit", None)
    again = run_weather(SMALL, tmp_path, watcher(said), operator=small)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times
    assert again.variables[0].curve("rmse").value == found.variables[0].curve("rmse").value


def test_a_budget_too_small_is_refused_before_anything_runs(tmp_path: Path, monkeypatch) -> None:
    without_process(monkeypatch)
    monkeypatch.setattr(weather_pipeline, "Engine", StandIn)
    monkeypatch.setattr(weather_pipeline, "_second_per_day", lambda engine: 1.0)
    with pytest.raises(UsageError, match="give it 9m or more"):
        run_weather(WeatherRecipe(budget=60.0), tmp_path, watcher([]))
    assert not list(tmp_path.iterdir())


def test_options_of_other_jobs_are_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, talk = call(capsys, "run", "weather", "--samples", "3")
    assert (code, said) == (2, "")
    assert "--samples" in talk
    assert "your-own-weather-model" in talk
    code, said, talk = call(capsys, "run", "weather", "--workers", "3")
    assert (code, said) == (2, "")
    assert "leave --workers out" in talk
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, said, talk = call(capsys, "run", "weather")
    assert (code, said) == (2, "")
    assert "run under torchrun" in talk
    assert not list(tmp_path.iterdir())


def test_ensembles_of_several_starts_are_joined_by_lead() -> None:
    def one(day: str, value: float) -> xr.Dataset:
        lead = np.arange(3) * np.timedelta64(1, "D").astype("timedelta64[ns]")
        time = np.datetime64(day, "ns") + lead
        return xr.Dataset({"u": (("member", "time"), value + np.arange(6.0).reshape(2, 3))}, {"time": time, "lead_time": ("time", lead)})

    found = joined([one("2001-01-01", 0.0), one("2001-01-05", 10.0)])
    assert dict(found.sizes) == {"init_time": 2, "member": 2, "lead_time": 2}
    np.testing.assert_array_equal(found.u.sel(init_time="2001-01-05").values.ravel(), [11, 12, 14, 15])
    assert math.isclose(float(found.lead_time[0] / np.timedelta64(1, "D")), 1.0)
