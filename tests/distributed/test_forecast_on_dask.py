"""Ensembles and single forecasts on a Dask cluster are those of one process, byte for byte, whatever is lost on the way."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from cli_support import call
from cluster_support import Site
from ensemble_support import CIRCLE, STATE, Turn, U, kick, tree, wave

from anygrid.cli.ensembles import kept
from anygrid.errors import ClusterError, DataError, UsageError
from anygrid.fields import Variable
from anygrid.forecast import Keep, Perturbation, ensemble
from anygrid.io.cluster import connect
from anygrid.operators import FNO
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate

KEEP = Keep(minimum=True, quantiles=(0.1, 0.9), above=(("u", 0.3),), members=range(0, 300, 150))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"), 2)
    yield made
    made.close()


def run(out, *, map_=Turn(), members=300, initial=None, steps=4, **options):
    settings = {"perturbation": Perturbation((0.2,), 0.1), "keep": KEEP, "domain": CIRCLE} | options
    return ensemble(map_, wave() if initial is None else initial, steps, members, **STATE, out=out, **settings)


def surrogate():
    """Untrained, of a size that takes no time."""
    torch.manual_seed(0)
    plain = Moments(2, (0.0,), (2.0,), (-9.0,), (9.0,))
    operator = FNO(1, 1, [True], [5], width=4, depth=1, head=8)
    return Surrogate(operator, (U,), (U,), Statistics(plain, plain, plain), CIRCLE, "1 s", increment=True)


@pytest.mark.parametrize("kind", [*(pytest.param(k, marks=pytest.mark.slow) for k in ("solver", "surrogate")), "random map"])
def test_bytes_are_those_of_this_process(tmp_path, site, kind):
    map_ = {"solver": Turn(), "surrogate": surrogate(), "random map": kick}[kind]
    go = functools.partial(run, map_=map_, stochastic=kind == "random map", initial=wave(sample=2))
    told = []
    with connect(site.address) as cluster:
        go(tmp_path / "there.zarr", cluster=cluster, progress=lambda done, *_: told.append(done))
    go(tmp_path / "here.zarr", workers=0)
    assert tree(tmp_path / "there.zarr") == tree(tmp_path / "here.zarr")
    assert told[-1] == 600
    assert told == sorted(told)


def test_single_forecasts_from_many_starts(tmp_path, site):
    options = {"members": None, "perturbation": None, "keep": Keep(), "start": "each", "initial": wave(sample=20, time=8), "dt": 1.0}
    with connect(site.address) as cluster:
        there = run(tmp_path / "there.zarr", cluster=cluster, **options)
    assert there["u"].dims == ("sample", "init_time", "lead_time", "x")
    run(tmp_path / "here.zarr", workers=0, **options)
    assert tree(tmp_path / "there.zarr") == tree(tmp_path / "here.zarr")


def test_a_lost_worker_loses_nothing(tmp_path, site):
    slow = Turn(pause=0.02)
    site.add()
    lost = []

    def kill(done, total, seconds):
        if done and not lost:
            lost.append(done)
            site.kill(-1)

    with connect(site.address) as cluster:
        cluster.client.wait_for_workers(3, timeout=60)
        run(tmp_path / "there.zarr", map_=slow, members=1500, steps=5, cluster=cluster, progress=kill)
    assert 0 < lost[0] < 1500
    run(tmp_path / "here.zarr", members=1500, steps=5, workers=0)
    assert tree(tmp_path / "there.zarr") == tree(tmp_path / "here.zarr")


def test_errors_arrive_as_they_are_and_the_work_goes_on_elsewhere(tmp_path, site, monkeypatch):
    with connect(site.address) as cluster:
        with pytest.raises(DataError, match="not finite of member"):
            run(tmp_path / "bad.zarr", map_=Turn(blow_up=1.2), cluster=cluster)
        with pytest.raises(UsageError, match="a cluster has its own"):
            run(tmp_path / "both.zarr", cluster=cluster, workers=2)
        monkeypatch.setattr(type(cluster.client), "run", lambda self, *_: {"tcp://elsewhere:1": False})
        with pytest.raises(ClusterError, match=r"none of it at tcp://elsewhere:1(.|\n)*mount"):
            run(tmp_path / "e.zarr", cluster=cluster)
    run(tmp_path / "e.zarr", workers=0)  # what was begun goes on here


def test_at_the_command_line(tmp_path, site, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    surrogate().save("s.anygrid")
    wave(sample=2).to_netcdf("init.nc", engine="h5netcdf")
    base = ["forecast", "s.anygrid", "init.nc", "--steps", "3", "--members", "70", "--perturb", "0.1", "--keep-members", "0:2"]
    base += ["--keep", "mean, std,max,quantiles(0.1, 0.9),above(u=0.5)"]
    code, out, err = call(capsys, *base, "--scheduler", site.address, "-o", "there.zarr")
    assert (code, out) == (0, "there.zarr\n"), err
    assert call(capsys, *base, "--workers", "0", "-o", "here.zarr")[0] == 0
    assert tree(Path("there.zarr")) == tree(Path("here.zarr"))
    found = xr.open_zarr("here.zarr")
    assert set(found.data_vars) == {"u", "u_mean", "u_std", "u_max", "u_quantile", "u_above"}
    assert found["u"].sizes["member"] == 2
    assert float(found["u_std"][0, 0].mean()) == pytest.approx(0.1, rel=0.5)  # of the surrogate's deviation, which is 1
    assert "correlation length 0.1, standard deviation u 0.1" in found.attrs["ensemble_perturbation"]
    assert call(capsys, *base, "--workers", "0", "-o", "here.nc")[0] == 0
    np.testing.assert_array_equal(xr.open_dataset("here.nc", engine="h5netcdf")["u_quantile"], found["u_quantile"])
    plain = ["forecast", "s.anygrid", "init.nc", "--steps", "3"]
    assert call(capsys, *plain, "--scheduler", site.address, "-o", "one.zarr")[0] == 0
    assert call(capsys, *plain, "-o", "plain.zarr")[0] == 0
    xr.testing.assert_equal(xr.open_zarr("one.zarr"), xr.open_zarr("plain.zarr"))


def test_bad_words_are_answered(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    surrogate().save("s.anygrid")
    wave().to_netcdf("init.nc", engine="h5netcdf")
    base = ["forecast", "s.anygrid", "init.nc", "--steps", "2", "-o", "e.zarr"]
    many = [*base, "--workers", "0", "--members", "3", "--perturb", "0.1"]
    for words, said in (
        ([*base, "--members", "0", "--perturb", "0.1"], "a number from 1 to"),
        ([*many, "--keep", "maen"], "did you mean 'mean'"),
        ([*many, "--keep", "quantiles(1.5)"], "probabilities from 0 to 1"),
        ([*many, "--keep", "quantiles(x)"], "a number, got 'x'"),
        ([*many, "--keep", "quantiles()"], "quantiles(0.1,0.9)"),
        ([*many, "--keep", "mean(2)"], "got 'mean(2)'"),
        ([*many, "--keep", "above(v=1)"], "choose from: u"),
        ([*many, "--keep", "above(1)"], "NAME>VALUE"),
        ([*many, "--keep", ","], "at least one statistic"),
        ([*many, "--keep-members", "5:2"], "a range of members"),
        ([*many, "--keep-members", "0:9"], "members from 0 to 2"),
        ([*many, "--length", "0"], "a length above 0"),
        ([*many, "--truth", "init.nc"], "scores of members among --keep"),
        ([*many, "--check", "0.9"], "--check"),
        ([*base, "--members", "3"], "members that differ"),
        ([*base, "--perturb", "0.1"], "a number of members"),
        ([*base, "--length", "1", "--members", "3"], "add --perturb"),
        ([*base, "--keep-members", "0:2"], "an ensemble, got one forecast"),
        ([*base, "--members", "3", "--member-dim", "nubmer"], "a dimension of the initial data"),
        ([*base, "--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "leave --workers out"),
        ([*base, "--scheduler", "nowhere"], "an address with a port"),
        ([*base[:-1], "e.nc", "--scheduler", "tcp://127.0.0.1:9"], "write -o NAME.zarr"),
    ):
        code, out, err = call(capsys, *words)
        assert (code, out) == (2, ""), (words, err)
        assert said in err, (words, err)
        assert "Traceback" not in err
    assert call(capsys, *many)[0] == 0
    code, _, err = call(capsys, *many, "--seed", "1")
    assert code == 2
    assert "seed 1 asked, 0 there" in err


def test_words_of_what_is_kept():
    found = kept("std,quantiles(0.1, 0.9),above(t@level=500=273.15),above( u=-1e3)", "7", [Variable("t@level=500", "K"), Variable("u")])
    assert found == Keep(mean=False, quantiles=(0.1, 0.9), above=(("t@level=500", 273.15), ("u", -1000.0)), members=range(7, 8))
