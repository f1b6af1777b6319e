"""The weather model when things go wrong: no jcm, a process that dies, a run that is killed."""

import filecmp
import io
import os
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from weather_support import JCM, StandIn, without_process

from anygrid.errors import AnygridError, FileError, UsageError
from anygrid.io import weather_store
from anygrid.io.working import WorkingFolder
from anygrid.problems import speedy_engine
from anygrid.problems.engine_messages import receive, send
from anygrid.problems.speedy import Speedy
from anygrid.problems.speedy_engine import Engine

PROBLEM = Speedy(variables=("z500", "t2m", "toa_radiation", "sst"), spin_up=2, start="2000-02-27")
RUN = """
import os, signal
from anygrid.io import weather_store
from anygrid.problems.speedy import Speedy
from weather_support import StandIn
class Killed(StandIn):
    left = 6
    def advance(self, *rest):
        Killed.left -= 1
        if Killed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().advance(*rest)
weather_store.Engine, weather_store.jcm_version = Killed, lambda: "stand-in"
problem = Speedy(variables=("z500", "t2m", "toa_radiation", "sst"), spin_up=2, start="2000-02-27")
weather_store.generate_weather(problem, 7, {path!r}, chunk_days=2, restart_days=3)
"""


def test_without_jcm_the_error_says_what_to_install(monkeypatch, tmp_path):
    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(speedy_engine, "version", none)
    for attempt in (Engine, lambda: weather_store.generate_weather(PROBLEM, 1, tmp_path / "a.zarr")):
        with pytest.raises(UsageError, match=r"jcm.*\n.*pip install 'anygrid\[weather\]'"):
            attempt()


@JCM
def test_a_dead_engine_says_so_with_what_it_printed():
    with Engine() as engine:
        engine._said.write(b"a last word\n")
        engine._said.flush()
        engine._process.kill()
        with pytest.raises(AnygridError, match=r"its end \(code -9\); it printed: a last word"):
            engine.rest(np.datetime64("2000-01-01", "s"))
        assert not engine.alive


def test_messages_keep_every_kind_of_array_and_a_cut_one_is_an_end():
    arrays = {"scalar": np.float32(3.5), "flags": np.array([True, False]), "field": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    stream = io.BytesIO()
    send(stream, {"ask": "x", "time": 12}, {name: np.asarray(a) for name, a in arrays.items()})
    whole = stream.getvalue()
    words, found = receive(io.BytesIO(whole))
    assert words == {"ask": "x", "time": 12}
    for name, values in arrays.items():
        assert found[name].dtype == np.asarray(values).dtype
        assert found[name].shape == np.shape(values)
        np.testing.assert_array_equal(found[name], values)
    for cut in (0, 5, len(whole) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:cut]))
    with pytest.raises(EOFError, match="a message of"):
        receive(io.BytesIO(b"\xff" * 64))


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, monkeypatch):
    without_process(monkeypatch)
    whole = weather_store.generate_weather(PROBLEM, 7, tmp_path / "whole.zarr", chunk_days=2, restart_days=3)
    path = tmp_path / "killed.zarr"
    search = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(weather_store.__file__).parents[2])])
    ended = subprocess.run([sys.executable, "-c", RUN.format(path=str(path))], env=os.environ | {"PYTHONPATH": search}, check=False)
    assert ended.returncode == -signal.SIGKILL
    _check_continued(whole, path, done=6)


@pytest.mark.parametrize(("calls", "done"), [(0, 0), (3, 4), (8, 9)])
def test_a_run_stopped_anywhere_continues_to_the_same_bytes(tmp_path, monkeypatch, calls, done):
    without_process(monkeypatch)
    whole = weather_store.generate_weather(PROBLEM, 7, tmp_path / "whole.zarr", chunk_days=2, restart_days=3)
    path, left = tmp_path / "stopped.zarr", iter(range(calls))

    class Stops(StandIn):
        def advance(self, *rest):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return super().advance(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(weather_store, "Engine", Stops)
        patch.setattr(WorkingFolder, "give_name", lambda self: next(iter(())))
        with pytest.raises((KeyboardInterrupt, StopIteration)):
            weather_store.generate_weather(PROBLEM, 7, path, chunk_days=2, restart_days=3)
    assert not path.exists()
    _check_continued(whole, path, done)


def test_another_request_is_refused_and_bad_numbers_are_named(tmp_path, monkeypatch):
    without_process(monkeypatch)
    path = tmp_path / "a.zarr"
    weather_store.generate_weather(PROBLEM, 1, path)
    with pytest.raises(FileError, match="seed 1 asked, 0 there"):
        weather_store.generate_weather(PROBLEM, 1, path, seed=1)
    for wrong, message in (({"days": 0}, "days"), ({"days": 1, "restart_days": 0}, "restart_days"), ({"days": 1, "seed": -1}, "seed")):
        with pytest.raises(UsageError, match=message):
            weather_store.generate_weather(PROBLEM, path=tmp_path / "b.zarr", **wrong)
    with pytest.raises(UsageError, match=r"2000-02-27T06.*\n.*nearest is 2000-02-27T00:00"):
        weather_store.restart_from(path, "2000-02-27T06")
    with pytest.raises(FileError, match="none there"):
        weather_store.restart_from(tmp_path, "2000-02-27")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 3600.0}, "multiple of 5400 s"),
        ({"dt": float("nan")}, "multiple of 5400 s"),
        ({"start": "last year"}, "a date, got 'last year'"),
        ({"start": "2000-01-01T06"}, "a date without a time"),
        ({"spin_up": -1}, "0 days or more"),
        ({"variables": ("z5000",)}, "30 to 1000 hPa"),
        ({"variables": ("t2",)}, "30 to 1000 hPa"),
        ({"variables": ("mls",)}, "did you mean 'msl'"),
        ({"variables": ("sst",)}, "one of the model's own fields"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UsageError, match=message):
        Speedy(**settings)


def _check_continued(whole: Path, path: Path, done: int) -> None:
    """The run goes on from ``done`` days, spin-up included, and ends as the ``whole`` one."""
    days = []
    weather_store.generate_weather(PROBLEM, 7, path, chunk_days=2, restart_days=3, progress=lambda now, total, _: days.append((now, total)))
    assert days[0] == (done, 9)
    assert days[-1] == (9, 9)
    _same_tree(whole, path)


def _same_tree(one: Path, other: Path) -> None:
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    assert len(files) > 20
    assert not [f for f in files if not filecmp.cmp(one / f, other / f, shallow=False)]
