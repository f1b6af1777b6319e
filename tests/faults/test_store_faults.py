"""A generation that is stopped anywhere continues to the same bytes."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from tiny_problems import Beam, Drift

import anygrid.io.blocks
import anygrid.io.working
from anygrid.errors import AnygridError, FileError
from anygrid.io.store import generate


def tree(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


class Killed(BaseException):
    """Stands for kill -9 inside one process."""


@pytest.mark.parametrize("problem", [Beam(), Drift()], ids=["steady", "evolution"])
@pytest.mark.parametrize("moment", ["before", "torn", "after"])
def test_stopped_at_every_single_write(tmp_path, monkeypatch, problem, moment):
    def make(path):
        return generate(problem, 20, 9, path, workers=0, label_check=2)

    wanted = tree(make(tmp_path / "whole.zarr"))
    real = anygrid.io.blocks.write_atomically
    left = [0]

    def write(target, data, staging):
        left[0] -= 1
        if left[0] > 0:
            return real(target, data, staging)
        if moment == "torn":
            (staging / "half").write_bytes(data[: len(data) // 2])
        elif moment == "after":
            real(target, data, staging)
        raise Killed

    for module in (anygrid.io.blocks, anygrid.io.working):
        monkeypatch.setattr(module, "write_atomically", write)
    path, stops = tmp_path / "cut.zarr", 0
    for ordinal in (1, 2, 3, 5, 8, 13):  # the n-th write after each resumption
        left[0] = ordinal
        try:
            make(path)
        except Killed:
            stops += 1
            assert not path.exists()
        else:
            break
    left[0] = 10**9
    assert tree(make(path)) == wanted
    assert stops >= 5
    assert {p.name for p in tmp_path.iterdir()} == {"whole.zarr", "cut.zarr"}


@pytest.mark.parametrize("number", range(4))
def test_stopped_between_the_last_chunk_and_the_name(tmp_path, monkeypatch, number):
    wanted = tree(generate(Beam(), 4, 9, tmp_path / "whole.zarr", workers=0))
    path = generate(Beam(), 4, 9, tmp_path / "cut.zarr", workers=0, seed=9)
    calls = [0]

    def stop_at(real):
        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] == number:
                raise Killed
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(Path, "rename", stop_at(Path.rename))  # skeleton, the old store, the new store
    try:
        generate(Beam(), 4, 9, path, workers=0, overwrite=True)
    except Killed:
        assert number > 0
    monkeypatch.undo()
    # Without overwrite: after any stop either the old store is still there, or nothing, or the new one.
    if path.exists() and xr.open_zarr(path).attrs["seed"] == 9:
        with pytest.raises(FileError, match="another request"):
            generate(Beam(), 4, 9, path, workers=0)
        generate(Beam(), 4, 9, path, workers=0, overwrite=True)
    assert tree(generate(Beam(), 4, 9, path, workers=0)) == wanted
    assert not (tmp_path / "cut.zarr.partial").exists()


def _children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (OSError, ProcessLookupError):
            continue
    return found


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, ProcessLookupError):
        return False


_SCRIPT = """
import sys
from tiny_problems import Beam
from anygrid.io.store import generate
generate(Beam(pause=0.05), 64, 9, sys.argv[1], workers=2, progress=lambda done, total, seconds: print(done, flush=True))
"""


def _stop_real_process(path, count, number):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= count:
                break
        workers = _children(process.pid)
        time.sleep(random.Random(count).random() * 0.05)
        process.send_signal(number)
        _, errors = process.communicate()
    return process.returncode, workers, errors


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_kill_9_of_a_parallel_run_leaves_no_orphans_and_resumes_to_the_same_bytes(tmp_path):
    wanted = tree(generate(Beam(pause=0.05), 64, 9, tmp_path / "whole.zarr", workers=0))
    path = tmp_path / "cut.zarr"
    code, workers, _ = _stop_real_process(path, 10, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert len(workers) == 2
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "orphaned workers"
        time.sleep(0.02)
    assert not path.exists()
    with pytest.raises(FileError, match=r"the request it was begun with, got another one: .*seed 1 asked, 0 there"):
        generate(Beam(pause=0.05), 64, 9, path, workers=0, seed=1)
    done = []
    generate(Beam(pause=0.05), 64, 9, path, workers=0, progress=lambda count, total, seconds: done.append(count))
    assert done[0] >= 10  # what was finished is not done again
    assert tree(path) == wanted
    assert not (tmp_path / "cut.zarr.partial").exists()


_SLEEPER = """
import sys
from tiny_problems import Sleeper
from anygrid.io.store import generate
generate(Sleeper(marker=sys.argv[2]), 2, 9, sys.argv[1], workers=1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_worker_in_the_middle_of_a_long_solve_dies_with_its_parent(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    marker = tmp_path / "begun"
    with subprocess.Popen([sys.executable, "-c", _SLEEPER, str(tmp_path / "b.zarr"), str(marker)], env=environment) as process:
        while not marker.exists() and process.poll() is None:
            time.sleep(0.02)
        (worker,) = _children(process.pid)
        process.kill()
    deadline = time.monotonic() + 10
    while _alive(worker):
        assert time.monotonic() < deadline, "orphaned worker"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_again_and_again(tmp_path, number):
    wanted = tree(generate(Beam(pause=0.05), 64, 9, tmp_path / "whole.zarr", workers=0))
    path = tmp_path / "cut.zarr"
    for count in (3, 17, 33, 50):
        code, workers, errors = _stop_real_process(path, count, number)
        assert code in (-number, 1, 130)
        time.sleep(1)
        assert not any(_alive(pid) for pid in workers), errors
    assert tree(generate(Beam(pause=0.05), 64, 9, path, workers=2)) == wanted


def test_full_disk_is_said_and_nothing_is_lost(tmp_path, monkeypatch):
    wanted = tree(generate(Beam(), 20, 9, tmp_path / "whole.zarr", workers=0))
    real, left = anygrid.io.blocks.write_atomically, [9]

    def write(target, data, staging):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(target, data, staging)

    monkeypatch.setattr(anygrid.io.blocks, "write_atomically", write)
    path = tmp_path / "full.zarr"
    with pytest.raises(FileError, match=r"room on the disk, got a full disk; \d+ of 24 solves are kept") as error:
        generate(Beam(), 20, 9, path, workers=0)
    assert "run the same command again" in error.value.hint
    monkeypatch.undo()
    done = []
    generate(Beam(), 20, 9, path, workers=0, progress=lambda count, total, seconds: done.append(count))
    assert done[0] > 0
    assert tree(path) == wanted


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    class Full(type(tmp_path)):
        def __truediv__(self, name):
            return Path("/dev/full")

    with pytest.raises(OSError, match="No space"):
        anygrid.io.blocks.write_atomically(target, b"x" * 10_000, Full(tmp_path))
    assert target.read_bytes() == b"old"


def test_two_runs_into_one_folder_are_refused(tmp_path):
    path = tmp_path / "b.zarr"
    seen = []

    def second(done, total, seconds):
        if not seen:
            seen.append(True)
            with pytest.raises(FileError, match="another process"):
                generate(Beam(), 4, 9, path, workers=0)

    generate(Beam(), 4, 9, path, workers=0, progress=second)
    assert seen


def test_a_worker_that_dies_is_reported(tmp_path):
    pids = []

    def kill_workers(done, total, seconds):
        if done >= 5 and not pids:
            pids.extend(_children(os.getpid()))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(AnygridError, match=r"its end by signal 9(.|\n)*fewer workers"):
        generate(Beam(pause=0.02), 64, 9, tmp_path / "b.zarr", workers=1, progress=kill_workers)
    assert pids
