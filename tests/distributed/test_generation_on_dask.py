"""Data sets made on a Dask cluster are those made here, byte for byte, whatever is lost on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_support import call
from cluster_support import Site
from tiny_problems import Beam, Drift

import anygrid.io.cluster
from anygrid.errors import ClusterError, DataError, UsageError
from anygrid.io.cluster import connect
from anygrid.io.store import generate


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"), 2)
    yield made
    made.close()


def tree(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("problem", [Beam(), Drift()], ids=["steady", "evolution"])
def test_bytes_are_those_of_this_process(tmp_path, site, problem):
    told = []
    with connect(site.address) as cluster:
        generate(problem, 70, 9, tmp_path / "there.zarr", cluster=cluster, label_check=2, progress=lambda done, *_: told.append(done))
    assert tree(tmp_path / "there.zarr") == tree(generate(problem, 70, 9, tmp_path / "here.zarr", workers=0, label_check=2))
    assert told[-1] == 72
    assert told == sorted(told)


def test_errors_of_a_solve_arrive_as_they_are(tmp_path, site):
    with connect(site.address) as cluster, pytest.raises(DataError, match="Beam, sample 0"):
        generate(Beam(blow_up=1), 1, 9, tmp_path / "bad.zarr", cluster=cluster, label_check=0)


def test_a_lost_worker_loses_nothing(tmp_path, site):
    wanted = tree(generate(Beam(pause=0.02), 512, 9, tmp_path / "here.zarr", workers=0, label_check=0))
    site.add()
    lost = []

    def kill(done, total, seconds):
        if done and not lost:
            lost.append(done)
            site.kill(-1)

    with connect(site.address) as cluster:
        cluster.client.wait_for_workers(3, timeout=20)
        generate(Beam(pause=0.02), 512, 9, tmp_path / "there.zarr", cluster=cluster, label_check=0, progress=kill)
    assert 0 < lost[0] < 512
    assert tree(tmp_path / "there.zarr") == wanted


_SCRIPT = """
import sys
from tiny_problems import Beam
from anygrid.io.cluster import connect
from anygrid.io.store import generate
with connect(sys.argv[2]) as cluster:
    generate(Beam(pause=0.1), 256, 9, sys.argv[1], cluster=cluster, label_check=0, progress=lambda done, *_: print(done, flush=True))
"""


def test_a_killed_client_resumes_with_or_without_the_cluster(tmp_path, site):
    path = tmp_path / "there.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(path), site.address], env=site.environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line):
                break
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    time.sleep(0.5)  # a task that had begun may still write: the same bytes
    generate(Beam(pause=0.1), 256, 9, path, workers=0, label_check=0)
    assert tree(path) == tree(generate(Beam(pause=0.1), 256, 9, tmp_path / "here.zarr", workers=0, label_check=0))


def test_what_is_missing_is_said(tmp_path, site, monkeypatch):
    begin = time.monotonic()
    with pytest.raises(ClusterError, match="a scheduler that answers"), connect("tcp://127.0.0.1:9", wait=1):
        pass
    assert time.monotonic() - begin < 10
    with pytest.raises(UsageError, match="an address with a port"), connect("cluster"):
        pass
    here = os.getpid()
    monkeypatch.setattr(anygrid.io.cluster, "_versions", lambda: {"anygrid": "0.0.1" if os.getpid() == here else "0.0.2"})
    with pytest.raises(ClusterError, match=r"workers with anygrid 0\.0\.1, got anygrid 0\.0\.2 at tcp"), connect(site.address):
        pass


def test_a_folder_the_workers_do_not_see(tmp_path, site, monkeypatch):
    with connect(site.address) as cluster:
        monkeypatch.setattr(type(cluster.client), "run", lambda self, *_: {"tcp://elsewhere:1": False})
        with pytest.raises(ClusterError, match=r"none of it at tcp://elsewhere:1(.|\n)*mount"):
            generate(Beam(), 4, 9, tmp_path / "unseen.zarr", cluster=cluster)
    generate(Beam(), 4, 9, tmp_path / "unseen.zarr", workers=0)  # what was begun goes on elsewhere


def test_a_scheduler_without_workers(tmp_path):
    lonely = Site(tmp_path, 0)
    try:
        with pytest.raises(ClusterError, match="a worker, got none within 1 s"), connect(lonely.address, wait=1):
            pass
    finally:
        lonely.close()


def test_a_lost_scheduler_is_an_error_and_the_store_goes_on(tmp_path):
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site", 1)

    def lose(done, total, seconds):
        if done:
            site.scheduler.send_signal(signal.SIGKILL)

    try:
        with connect(site.address) as cluster, pytest.raises(ClusterError, match="loss of the connection"):
            generate(Beam(pause=0.05), 512, 9, tmp_path / "there.zarr", cluster=cluster, label_check=0, progress=lose)
    finally:
        site.close()
    generate(Beam(pause=0.05), 512, 9, tmp_path / "there.zarr", workers=0, label_check=0)


def test_at_the_command_line(tmp_path, site, capsys):
    out = str(tmp_path / "b.zarr")
    base = ["generate", "burgers", "-n", "3", "--resolution", "32", "--label-check", "1", "-o", out]
    assert call(capsys, *base, "--scheduler", site.address, "--workers", "2")[0] == 2
    code, _, said = call(capsys, *base, "--scheduler", "nowhere")
    assert code == 2
    assert "expected an address with a port" in said
    assert call(capsys, *base, "--scheduler", site.address)[0] == 0
    assert call(capsys, *base[:-1], tmp_path / "c.zarr", "--workers", "0")[0] == 0
    assert tree(Path(out)) == tree(tmp_path / "c.zarr")


def test_without_distributed_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"anygrid\[cluster\]"), connect("tcp://127.0.0.1:8786"):
        pass
