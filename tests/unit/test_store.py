import filecmp
import json
import math
import os

import numpy as np
import pytest
import torch
import xarray as xr
from tiny_problems import Beam, Drift

from anygrid.errors import DataError, FileError, UsageError
from anygrid.fields import find_grid, find_layout
from anygrid.io.plan import block_size, nested
from anygrid.io.store import generate
from anygrid.numerics.seeds import sample_generator
from anygrid.problems.darcy import Darcy


def tree(path):
    """Bytes of every file below a folder."""
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def test_steady_store_holds_samples_solutions_units_and_coordinates(tmp_path):
    problem = Beam()
    path = generate(problem, 7, 17, tmp_path / "beam.zarr", seed=5, workers=0)
    assert [p.name for p in tmp_path.iterdir()] == ["beam.zarr"]
    ds = xr.open_zarr(path)
    assert set(ds.data_vars) == {"load", "deflection"}
    assert ds["load"].dims == ("sample", "x")
    assert ds["deflection"].attrs == {"units": "m", "long_name": "deflection", "standard_name": "height"}
    grid = problem.grid(17)
    layout = find_layout(ds, ["load", "deflection"])
    assert (layout.samples, layout.time, layout.space) == (("sample",), None, ("x",))
    assert find_grid(ds, ["load", "deflection"], layout)[0] == grid
    for i in (0, 6):
        a = problem.sample(1, grid, sample_generator(5, i))
        np.testing.assert_array_equal(ds["load"][i], a[0, 0].to(torch.float32))
        np.testing.assert_allclose(ds["deflection"][i], problem.solve(a, grid)[0, 0], rtol=1e-6, atol=1e-7)


def test_evolution_store_keeps_the_state_once_with_its_start_and_the_held_input_without_time(tmp_path):
    ds = xr.open_zarr(generate(Drift(), 3, 32, tmp_path / "drift.zarr", workers=0, steps=8))
    assert ds["u"].dims == ("sample", "time", "x")
    assert ds["speed"].dims == ("sample", "x")
    np.testing.assert_allclose(ds["time"], 0.125 * np.arange(9))
    # Eight steps of an eighth go once round, so frame 8 is frame 0; frame 4 is half way: the opposite sign.
    np.testing.assert_allclose(ds["u"][:, 8], ds["u"][:, 0], atol=1e-6)
    np.testing.assert_allclose(ds["u"][:, 4], -ds["u"][:, 0], atol=1e-6)
    assert float(np.abs(ds["u"][:, 0]).max()) > 0.9
    layout = find_layout(ds, ["u"])
    assert (layout.samples, layout.time, layout.space) == (("sample",), "time", ("x",))
    assert find_grid(ds, ["u"], layout)[0] == Drift().grid(32)


def test_long_trajectories_are_chunked_in_time_and_come_out_the_same(tmp_path, monkeypatch):
    whole = xr.open_zarr(generate(Drift(), 3, 16, tmp_path / "whole.zarr", workers=0, steps=10)).load()
    monkeypatch.setattr("anygrid.io.plan._CHUNK_BYTES", 4 * 16 * 4)  # four frames
    split = xr.open_zarr(generate(Drift(), 3, 16, tmp_path / "split.zarr", workers=0, steps=10))
    assert split["u"].chunks[1] == (4, 4, 3)
    xr.testing.assert_equal(split[["u", "speed"]].load(), whole[["u", "speed"]])
    assert split.attrs["label_error"] == whole.attrs["label_error"]


def test_label_error_is_that_of_second_order_differences(tmp_path):
    # For one sine the scheme has a closed form: u_h = a / (2/h sin(pi h/2))^2, so the error against h/2 is known.
    n = 17
    ds = xr.open_zarr(generate(Beam(modes=1), 3, n, tmp_path / "one.zarr", workers=0))
    symbol = [(2 / h * math.sin(math.pi * h / 2)) ** -2 for h in (1 / (n - 1), 1 / (2 * n - 2))]
    assert ds.attrs["label_error"] == pytest.approx(symbol[0] / symbol[1] - 1, rel=1e-4)
    assert ds.attrs["label_error_max"] == pytest.approx(symbol[0] / symbol[1] - 1, rel=1e-4)
    assert "samples 0 to 2" in ds.attrs["label_error_how"]
    assert "33" in ds.attrs["label_error_how"]
    unstated = xr.open_zarr(generate(Beam(), 3, n, tmp_path / "two.zarr", workers=0, label_check=0))
    assert "label_error" not in unstated.attrs
    assert "not measured" in unstated.attrs["label_error_how"]


def test_store_resolution_keeps_every_kth_point(tmp_path):
    fine = xr.open_zarr(generate(Beam(), 4, 33, tmp_path / "fine.zarr", workers=0))
    kept = xr.open_zarr(generate(Beam(), 4, 33, tmp_path / "kept.zarr", workers=0, store_resolution=9))
    for name in ("load", "deflection"):
        np.testing.assert_array_equal(kept[name], fine[name][:, ::4])
    np.testing.assert_allclose(kept["x"], np.linspace(0, 1, 9))
    with pytest.raises(UsageError, match="choose from: 17, 9, 5"):
        generate(Beam(), 4, 33, tmp_path / "none.zarr", workers=0, store_resolution=10)


@pytest.mark.parametrize(("few", "many", "stride"), [(85, 421, 5), (64, 128, 2)])
def test_published_strides_nest(few, many, stride):
    problem = Beam() if few % 2 else Drift()
    (index,) = nested(problem.grid(few), problem.grid(many))
    np.testing.assert_array_equal(index, np.arange(0, many, stride))
    assert nested(problem.grid(many), problem.grid(few)) is None


def test_bytes_do_not_depend_on_workers_and_progress_counts_up(tmp_path):
    here = generate(Beam(), 40, 17, tmp_path / "here.zarr", workers=0)
    seen = []
    there = generate(
        Beam(), 40, 17, tmp_path / "there.zarr", workers=2, progress=lambda done, total, seconds: seen.append((done, total, seconds))
    )
    assert tree(here) == tree(there)
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)
    assert seen[0][0] == 0
    assert seen[-1][:2] == (44, 44)
    assert not filecmp.cmp(there / "load" / "0.0", there / "load" / "1.0", shallow=False)


def test_first_samples_do_not_depend_on_how_many_are_drawn(tmp_path):
    few = xr.open_zarr(generate(Beam(), 3, 17, tmp_path / "few.zarr", workers=0))
    many = xr.open_zarr(generate(Beam(), 40, 17, tmp_path / "many.zarr", workers=0))
    np.testing.assert_array_equal(few["load"], many["load"][:3])


def test_provenance_says_what_and_how(tmp_path):
    attrs = xr.open_zarr(generate(Beam(modes=2), 3, 9, tmp_path / "b.zarr", workers=0, seed=11)).attrs
    assert attrs["problem"] == "tiny_problems.Beam"
    assert json.loads(attrs["parameters"])["modes"] == 2
    assert attrs["seed"] == 11
    assert "manual_seed" in attrs["seed_rule"]
    assert "torch" in json.loads(attrs["software"])
    for name in ("Beam(modes=2", "3, (9,), path", "seed=11"):
        assert name in attrs["command"]


def test_same_request_returns_at_once_another_is_refused_and_overwrite_replaces(tmp_path):
    path = generate(Beam(), 4, 9, tmp_path / "b.zarr", workers=0)
    before = {f: f.stat().st_mtime_ns for f in path.rglob("*")}
    generate(Beam(), 4, 9, path, workers=2)
    assert before == {f: f.stat().st_mtime_ns for f in path.rglob("*")}
    with pytest.raises(FileError, match=r"seed 1 asked, 0 there(.|\n)*hint"):
        generate(Beam(), 4, 9, path, workers=0, seed=1)
    with pytest.raises(FileError, match="modes 2 asked, 3 there"):
        generate(Beam(modes=2), 4, 9, path, workers=0)
    generate(Beam(), 4, 9, path, workers=0, seed=1, overwrite=True)
    assert xr.open_zarr(path).attrs["seed"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["b.zarr"]


def test_nothing_foreign_is_overwritten(tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter").write_text("one")
    with pytest.raises(FileError, match="something else"):
        generate(Beam(), 4, 9, precious, workers=0, overwrite=True)
    foreign = tmp_path / "foreign.zarr"
    xr.Dataset({"v": ("x", [1.0])}).to_zarr(foreign, zarr_format=2)
    with pytest.raises(FileError, match="did not write"):
        generate(Beam(), 4, 9, foreign, workers=0, overwrite=True)
    assert (precious / "chapter").read_text() == "one"


def test_problem_of_the_running_script_is_solved_here(tmp_path):
    class Local(Beam):
        """Cannot be imported by another process."""

    path = generate(Local(), 4, 9, tmp_path / "b.zarr", workers=2)
    assert float(np.abs(xr.open_zarr(path)["deflection"]).max()) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n: expected a number of 1"),
        ({"seed": -1}, "seed"),
        ({"label_check": -1}, "label_check"),
        ({"workers": -2}, "workers"),
        ({"steps": 3}, "steady"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        generate(Beam(), arguments.pop("n", 4), 9, tmp_path / "b.zarr", **arguments)
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_solution_that_is_not_finite_names_the_sample(tmp_path):
    with pytest.raises(DataError, match=r"sample 3: expected a finite solution") as error:
        generate(Beam(blow_up=4), 64, 9, tmp_path / "b.zarr", workers=0, label_check=0)  # blocks of four
    assert "sample_generator(0, 3)" in str(error.value)


def test_blocks_are_bounded_in_memory_and_leave_work_for_every_process():
    assert block_size(1000, 100) == 32
    assert block_size(1000, 421 * 421 * 4) == 5
    assert block_size(16, 100) == 1
    assert block_size(5, 1 << 30) == 1


def test_darcy_store_solves_darcy_on_nested_grids(tmp_path):
    problem = Darcy()
    ds = xr.open_zarr(generate(problem, 3, 33, tmp_path / "darcy.zarr", workers=0, store_resolution=17))
    a, u = (torch.from_numpy(ds[v.name].values)[:, None] for v in (*problem.inputs, *problem.outputs))
    assert set(np.unique(a)) == {3.0, 12.0}
    same = problem.sample(1, problem.grid(17), sample_generator(0, 2))
    np.testing.assert_array_equal(a[2], same[0])  # the function of seed 0, sample 2, whatever the grid
    coarse = problem.solve(a.double(), problem.grid(17))
    error = float((coarse - u).norm() / u.norm())
    assert 1e-3 < error < 0.1
    assert 1e-3 < ds.attrs["label_error"] < error
    assert ds.attrs["resolution"] == [33, 33]
