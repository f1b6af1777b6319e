"""Errors slab by slab: those of the evaluation in memory, resumed after a kill, and what is refused."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from test_large import CASES, TORUS, WALLED, _surrogate

from anygrid.errors import DataError, FileError, GridError, UsageError
from anygrid.evaluate import evaluate, large_errors
from anygrid.evaluate.large_errors import evaluate_large
from anygrid.fields import Variable, to_dataset
from anygrid.grid import Sphere
from anygrid.io.pairs import Pairs
from anygrid.operators import FNO, UNet

SMALL = "70KB"  # slabs of a few rows
READ = {"steady": 1 + 2, "increment": 2 + 2, "walls": 2 + 2, "means": 3 + 2, "torus": 3 + 2, "fno": 3 + 2}
VARIABLES = (Variable("u", "K"), Variable("k"), Variable("q", "W"))


def _data(grid, folder, times=6, name="in.zarr", seed=1):
    u = torch.randn(times, 3, *grid.shape, generator=torch.Generator().manual_seed(seed))
    ds = to_dataset(u, VARIABLES, grid, {"time": 0.5 * np.arange(times)})
    ds.chunk({grid.dims[0]: 4}).to_zarr(folder / name, zarr_format=2)
    return xr.open_zarr(folder / name)


def _in_memory(surrogate, ds, training=None, **options):
    def pairs(data):
        periodic = {d: i.periodic for d, i in zip(surrogate.grid.dims, surrogate.grid.domain, strict=True)}
        return Pairs(data, ["u", "k"], ["u", "q"], lead=surrogate.dt, periodic=periodic)

    return evaluate({"surrogate": surrogate}, pairs(ds), training=None if training is None else pairs(training), timing=False, **options)


def _same(found, expected, without=()):
    scores = {s.name: s for s in expected.scores if s.name != "nearest training sample"}
    assert [s.name for s in found.scores] == list(scores)
    for score in found.scores:
        wanted = scores[score.name]
        for key in wanted.errors.keys() - set(without):
            np.testing.assert_allclose(score.errors[key].mean, wanted.errors[key].mean, rtol=1e-6)
        for name, errors in score.variables.items():
            for key in errors.keys() - set(without):
                close = {"rtol": 1e-6, "atol": 1e-6 if key == "bias" else 0}
                np.testing.assert_allclose(errors[key].mean, wanted.variables[name][key].mean, **close)
                np.testing.assert_allclose(errors[key].low, wanted.variables[name][key].low, **close)
    assert found.headline == expected.headline


@pytest.mark.parametrize("case", CASES)
def test_errors_are_those_of_the_evaluation_in_memory(case, tmp_path):
    trained, options = CASES[case]
    surrogate = _surrogate(trained, **options)
    ds = _data(trained.at((22, 15)), tmp_path)
    calls = []
    found = evaluate_large(surrogate, ds, n=4, memory=SMALL, progress=lambda *call: calls.append(call))
    _same(found, _in_memory(surrogate, ds, n=4), without=("relative_h1",) if trained == TORUS else ())
    assert calls[-1][0] == calls[-1][1] > 10
    assert all(later[0] > before[0] for before, later in itertools.pairwise(calls))
    # Of two variables of 4 bytes: inputs for what is gathered, for increments and for an FNO's last layer, the truth and its mean.
    assert found.settings["bytes_read"] == READ[case] * 4 * 2 * 4 * 22 * 15
    assert found.settings["slab_rows"] < 22


def test_training_data_give_the_baseline_and_outputs_not_among_the_inputs_no_persistence(tmp_path):
    surrogate = _surrogate(WALLED)
    grid = WALLED.at((19, 15))
    ds, training = _data(grid, tmp_path), _data(grid, tmp_path, 9, "train.zarr", 2)
    found = evaluate_large(surrogate, ds, training=training, memory=SMALL)
    _same(found, _in_memory(surrogate, ds, training))
    assert [s.name for s in found.scores] == ["surrogate", "mean of training"]
    with pytest.raises(GridError, match="the grid of the test data, 19x15"):
        evaluate_large(surrogate, ds, training=_data(WALLED, tmp_path, 3, "other.zarr"))


def test_an_evolution_skips_gaps_and_has_persistence(tmp_path):
    surrogate = _surrogate(WALLED, dt="0.5")
    surrogate.outputs = surrogate.inputs
    ds = _data(WALLED.at((21, 9)), tmp_path, 8).isel(time=[0, 1, 2, 4, 5, 6, 7])
    found = evaluate_large(surrogate, ds, memory=SMALL)
    assert found.settings["n"] == 5
    persistence = next(s for s in found.scores if s.name == "persistence")
    before, after = (ds["k"].isel(time=t).values.astype(float) for t in ([0, 1, 3, 4, 5], [1, 2, 4, 5, 6]))
    np.testing.assert_allclose(persistence.variables["k"]["largest"].mean, np.abs(after - before).max((1, 2)).mean(), rtol=1e-6)


def test_one_field_without_a_sample_dimension_and_descending(tmp_path):
    surrogate = _surrogate(WALLED)
    ds = _data(WALLED.at((21, 9)), tmp_path, 2)
    both = _in_memory(surrogate, ds, n=1)
    one = evaluate_large(surrogate, ds.isel(time=0, x=slice(None, None, -1), drop=True), memory=SMALL)
    assert [s.name for s in one.scores] == ["surrogate"]
    for key, value in both.scores[0].errors.items():
        np.testing.assert_allclose(one.scores[0].errors[key].mean, value.mean, rtol=1e-6)
    assert any("its own mean" in note for note in one.notes)


def test_a_sphere(tmp_path):
    grid = Sphere.equiangular(12, 16)
    surrogate = _surrogate(grid)
    u = torch.randn(3, 3, *grid.shape, generator=torch.Generator().manual_seed(1))
    ds = to_dataset(u, VARIABLES, grid, {"time": np.arange(3.0)})
    found = evaluate_large(surrogate, ds, memory=SMALL)
    expected = evaluate({"surrogate": surrogate}, Pairs(ds, ["u", "k"], ["u", "q"]), timing=False)
    _same(found, expected)


KILLED = """
import sys, time, xarray as xr
from pathlib import Path
from test_large_errors import _surrogate, WALLED, evaluate_large, large_errors, SMALL
folder = Path(sys.argv[1])
large_errors._EVERY = 0.0
def progress(done, n):
    print(done, flush=True)
    if done == 34:
        time.sleep(60)
evaluate_large(_surrogate(WALLED), xr.open_zarr(folder / "in.zarr"), memory=SMALL, keep=folder / "notes", progress=progress)
"""


def test_killed_and_called_again_it_compares_only_the_rest(tmp_path, monkeypatch):
    ds, surrogate, notes = _data(WALLED.at((41, 30)), tmp_path, 2), _surrogate(WALLED), tmp_path / "notes"
    whole = evaluate_large(surrogate, ds, memory=SMALL)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=here)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "34":
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    compared, original = [], large_errors._Run._compare
    monkeypatch.setattr(large_errors._Run, "_compare", lambda run, start, stop: (compared.append(start), original(run, start, stop))[1])
    gathers, gather = [], large_errors.streamed
    monkeypatch.setattr(large_errors, "streamed", lambda *a: (gathers.append(a[-1] is None), gather(*a))[1])
    again = evaluate_large(surrogate, ds, memory=SMALL, keep=notes)
    assert compared[0] > 0
    assert not any(gathers)
    assert again.scores == whole.scores
    assert again.settings["bytes_read"] >= whole.settings["bytes_read"]
    assert not notes.exists()
    compared.clear()
    notes.write_bytes(b"not ours")
    with pytest.raises(FileError, match="notes of an evaluation"):
        evaluate_large(surrogate, ds, memory=SMALL, keep=notes)


def test_refusals(tmp_path, monkeypatch):
    surrogate, ds = _surrogate(WALLED), _data(WALLED.at((21, 20)), tmp_path)
    with pytest.raises(UsageError, match=r"room for one row along 'x' and 6 samples.*\n.*give at least"):
        evaluate_large(surrogate, ds, memory=100)
    with pytest.raises(DataError, match="q"):
        evaluate_large(surrogate, ds.drop_vars("q"))
    with pytest.raises(DataError, match="truth of 'q' along time, x, y, got dimensions time, x"):
        evaluate_large(surrogate, ds.assign(q=ds.q.isel(y=0, drop=True)))
    with pytest.raises(DataError, match="along time, x, y, got dimensions x, y"):
        evaluate_large(surrogate, ds.assign(q=ds.q.isel(time=0, drop=True)))
    with pytest.raises(DataError):
        evaluate_large(surrogate, ds.assign(q=ds.q.isel(x=slice(0, 9)).rename(x="x2")))
    with pytest.raises(DataError, match="finite values"):
        evaluate_large(surrogate, ds.assign(q=ds.q.where(ds.q < 2)), memory=SMALL)
    with pytest.raises(DataError, match="a time dimension"):
        evaluate_large(_surrogate(WALLED, dt="0.5"), ds.isel(time=0, drop=True))
    with pytest.raises(DataError, match="a multiple of the spacing"):
        evaluate_large(_surrogate(WALLED, dt="0.5"), ds.isel(time=[0, 2, 4]).assign_coords(time=[0.0, 0.7, 1.4]))
    with pytest.raises(UsageError, match="a LatentFNO or an FNO, got UNet"):
        evaluate_large(_surrogate(WALLED, build=UNet), ds)
    with pytest.raises(UsageError, match="at least one test sample"):
        evaluate_large(surrogate, ds, n=0)
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(large_errors, "_EVERY", 0.0)
    with pytest.raises(FileError, match="a folder with room"):
        evaluate_large(surrogate, ds, memory=SMALL, keep=blocked / "notes")
    assert evaluate_large(_surrogate(WALLED, build=FNO), ds, n=1, memory="1GB").settings["slab_rows"] >= 20
