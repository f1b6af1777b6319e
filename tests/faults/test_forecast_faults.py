"""A forecast on disk that is stopped anywhere continues to the same bytes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import anygrid.io.working
from anygrid.errors import FileError
from anygrid.fields import Variable
from anygrid.forecast import ForecastError, forecast

U = Variable("u", "m")
LORENZ = {"inputs": (U,), "outputs": (U,), "dt": 0.01}


def chaos(a, grid):
    """Lorenz (1996) by Euler: the smallest difference in a restart grows to order one."""
    advection = (torch.roll(a, -1, -1) - torch.roll(a, 2, -1)) * torch.roll(a, 1, -1)
    return a + 0.005 * (advection - a + 8)


def data():
    values = np.random.default_rng(1).standard_normal((3, 40)).astype("f4")
    x = ("x", np.arange(40) / 40, {"periodic": 1})
    return xr.Dataset({"u": (("sample", "x"), values, {"units": "m"})}, {"x": x, "time": 0.0})


def tree(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


class Killed(BaseException):
    """Stands for kill -9 inside one process."""


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("moment", ["before", "torn", "after"])
def test_stopped_at_many_writes(tmp_path, monkeypatch, moment, every):
    def make(path):
        return forecast(chaos, data(), 400, **LORENZ, every=every, out=path)

    make(tmp_path / "whole.zarr")
    wanted = tree(tmp_path / "whole.zarr")
    real, left = anygrid.io.working.write_atomically, [0]

    def write(target, contents, staging):
        left[0] -= 1
        if left[0] > 0:
            return real(target, contents, staging)
        if moment == "torn":
            (staging / "half").write_bytes(contents[: len(contents) // 2])
        elif moment == "after":
            real(target, contents, staging)
        raise Killed

    monkeypatch.setattr(anygrid.io.working, "write_atomically", write)
    path, stops = tmp_path / "cut.zarr", 0
    for ordinal in (1, 2, 3, 2, 4):
        left[0] = ordinal
        try:
            make(path)
        except Killed:
            stops += 1
            assert not path.exists()
    left[0] = 10**9
    make(path)
    assert tree(path) == wanted
    assert stops >= 4
    assert {p.name for p in tmp_path.iterdir()} == {"whole.zarr", "cut.zarr"}


def test_a_continued_run_does_not_repeat_what_is_there(tmp_path, monkeypatch):
    calls = [0]

    def counted(a, grid):
        calls[0] += 1
        if calls[0] == 300:
            raise Killed
        return chaos(a, grid)

    with pytest.raises(Killed):
        forecast(counted, data(), 400, **LORENZ, out=tmp_path / "f.zarr")
    forecast(counted, data(), 400, **LORENZ, out=tmp_path / "f.zarr")
    assert calls[0] < 300 + 400 - 240  # one step to recognise the map, and at most a chunk of 50 leads again
    moved = data().assign(u=data()["u"] + 1)
    moved["u"].attrs["units"] = "m"
    with pytest.raises(FileError, match=r"another request: .*initial"):
        forecast(counted, moved, 400, **LORENZ, out=tmp_path / "f.zarr")


_SCRIPT = """
import sys, time
from test_forecast_faults import LORENZ, chaos, data
from anygrid.forecast import forecast
def slow(a, grid):
    time.sleep(0.002)
    return chaos(a, grid)
forecast(slow, data(), 400, **LORENZ, out=sys.argv[1], progress=lambda done, steps, seconds: print(done, flush=True))
"""


def test_kill_9_continues_to_the_same_bytes(tmp_path):
    whole = forecast(chaos, data(), 400, **LORENZ, out=tmp_path / "whole.zarr")
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "cut.zarr")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 170:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut.zarr").exists()
    forecast(chaos, data(), 400, **LORENZ, out=tmp_path / "cut.zarr")
    assert tree(tmp_path / "cut.zarr") == tree(tmp_path / "whole.zarr")
    assert float(np.abs(whole["u"]).max()) > 5  # it has left the initial state far behind


def test_full_disk_is_said_and_the_forecast_continues(tmp_path, monkeypatch):
    forecast(chaos, data(), 400, **LORENZ, out=tmp_path / "whole.zarr")
    real, left = anygrid.io.working.write_atomically, [5]

    def write(target, contents, staging):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(target, contents, staging)

    monkeypatch.setattr(anygrid.io.working, "write_atomically", write)
    with pytest.raises(FileError, match=r"full disk(.|\n)*run the same command again"):
        forecast(chaos, data(), 400, **LORENZ, out=tmp_path / "f.zarr")
    monkeypatch.undo()
    forecast(chaos, data(), 400, **LORENZ, out=tmp_path / "f.zarr")
    assert tree(tmp_path / "f.zarr") == tree(tmp_path / "whole.zarr")


def test_a_forecast_that_stopped_says_so_again(tmp_path):
    calls = [0]

    def dies(a, grid):
        calls[0] += 1
        return chaos(a, grid) * (float("nan") if calls[0] == 120 else 1)

    for _ in range(2):
        with pytest.raises(ForecastError, match="at step 120") as error:
            forecast(dies, data(), 400, **LORENZ, out=tmp_path / "f.zarr")
        assert error.value.done.sizes["time"] == 119
        calls[0] = 0
