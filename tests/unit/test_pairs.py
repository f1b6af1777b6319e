"""Training pairs: which row follows which, memory and disk alike, splits, statistics, refusals."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from anygrid.errors import DataError, UsageError
from anygrid.fields import grid_coordinates
from anygrid.grid import Box, Periodic
from anygrid.io import Pairs, read

GRID = Box.uniform({"x": Periodic(0, 1)}, 8)


def numbered(samples, times, **coords):
    """Values that say where they come from: 1000 sample + time, plus x / 64."""
    base = 1000.0 * np.arange(samples)[:, None] + np.arange(times)
    values = base[..., None] + np.arange(8) / 64
    ds = xr.Dataset({"u": (("sample", "time", "x"), values.astype(np.float32))}, grid_coordinates(GRID))
    ds["v"] = (ds.u + 0.5).astype(np.float32)
    ds["k"] = ("sample", np.arange(samples) * 10.0)
    return ds.assign_coords(coords)


@pytest.fixture(params=["memory", "lazy", "disk", "chunks"])
def opened(request, tmp_path):
    """Opener of pairs from memory, and streamed from an array, a Zarr store and one with tiny chunks."""

    def open_pairs(ds, *args, **options):
        if request.param == "memory":
            return Pairs(ds, *args, **options)
        if request.param == "lazy":
            return Pairs(ds, *args, memory_limit=1, **options)
        chunks = {"sample": 2, "time": 3} if request.param == "chunks" else {}
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        ds.chunk({d: c for d, c in chunks.items() if d in ds.dims}).to_zarr(path, consolidated=False, zarr_format=3)
        return Pairs(read(path), *args, memory_limit=1, **options)

    return open_pairs


def first(x):
    return x[..., 0].round().long().tolist()


def test_rows_follow_one_another_inside_a_trajectory(opened):
    p = opened(numbered(3, 5), ("u",), ("u", "v"), lead=2)
    assert (len(p), p.count(1), p.count(2), p.count(3)) == (9, 9, 3, 0)
    a, u = p.batch(np.array([0, 2, 3, 8]))
    assert a.shape == (4, 1, 1, 8)
    assert u.shape == (4, 1, 2, 8)
    assert first(a[:, 0, 0]) == [0, 2, 1000, 2002]
    assert first(u[:, 0, 0]) == [2, 4, 1002, 2004]
    np.testing.assert_allclose(u[:, 0, 1], u[:, 0, 0] + 0.5)
    a, u = p.batch(np.array([1, 0]), steps=2)
    assert first(a[:, :, 0]) == [[1000, 1002], [0, 2]]
    assert first(u[:, :, 0]) == [[1002, 1004], [2, 4]]
    assert (p.lead_steps, p.dt, p.evolution) == (2, "2 step", True)


def test_steady_data_pair_within_a_row(opened):
    p = opened(numbered(3, 4), ("u", "k"), ("v",))
    assert len(p) == 12
    a, u = p.batch(np.array([0, 5, 11]))
    assert first(a[:, 0, 0]) == [0, 1001, 2003]
    assert first(a[:, 0, 1]) == [0, 10, 20]
    np.testing.assert_allclose(u[:, 0, 0], a[:, 0, 0] + 0.5)
    assert (p.lead_steps, p.dt, p.evolution) == (0, None, False)
    with pytest.raises(UsageError, match="1 for steady data"):
        p.count(2)


def test_no_pair_crosses_a_gap(opened):
    times = pd.date_range("2000", periods=10, freq="1D").delete([4])
    p = opened(numbered(2, 9, time=times), ("u",), ("u",), lead="1d")
    a, u = p.batch(np.arange(len(p)))
    assert len(p) == 2 * 7
    assert 3 not in first(a[:, 0, 0])
    np.testing.assert_array_equal(u - a, torch.ones_like(a))
    assert p.count(4) == 2 * 1
    assert p.count(3) == 2 * (1 + 2)
    assert any("1 gaps" in n for n in p.notes)


def test_splits_keep_order_and_never_share(opened):
    p = opened(numbered(5, 4), ("u",), ("u",), lead=1)
    left, right = p.split(0.4)
    assert (len(left), len(right)) == (9, 6)
    assert set(first(left.batch(np.arange(9))[0][:, 0, 0])) == {1000 * s + t for s in range(3) for t in range(3)}
    assert set(first(right.batch(np.arange(6))[0][:, 0, 0])) == {1000 * s + t for s in (3, 4) for t in range(3)}
    assert [len(s) for s in p.split(1)] == [12, 3]
    assert len(left.split(1)[1]) == 3


def test_one_trajectory_is_split_in_time(opened):
    left, right = opened(numbered(1, 20), ("u",), ("u",), lead=2).split(5)
    assert first(left.batch(np.arange(len(left)))[1][:, 0, 0]) == list(range(2, 15))
    assert first(right.batch(np.arange(len(right)))[0][:, 0, 0]) == [15, 16, 17]
    with pytest.raises(UsageError, match="a pair on both sides"):
        right.split(3)


def test_ensemble_members_are_split_in_time():
    ds = numbered(4, 10).rename(sample="member")
    left, right = Pairs(ds, ("u",), ("u",), lead=1).split(0.3)
    assert (len(left), len(right)) == (4 * 6, 4 * 2)


def test_bad_row_numbers():
    p = Pairs(numbered(2, 5), ("u",), ("u",), lead=1)
    for index in ([8], [-1]):
        with pytest.raises(IndexError):
            p.batch(np.array(index))


def test_statistics_are_those_of_the_pairs(opened):
    p = opened(numbered(3, 6), ("u", "k"), ("v", "u"), lead=1)
    s = p.statistics()
    a, u = (x[:, 0].double().numpy() for x in p.batch(np.arange(len(p))))
    for moments, x in ((s.inputs, a), (s.outputs, u), (s.increments, np.stack([u[:, 0], u[:, 1] - a[:, 0]], 1))):
        np.testing.assert_allclose(moments.mean, x.mean((0, 2)), rtol=1e-12)
        np.testing.assert_allclose(moments.std, np.where(x.std((0, 2)) < 1e-9, 1, x.std((0, 2))), rtol=1e-9)
        assert moments.count == x.shape[0] * x.shape[2]


def test_constant_increment_scales_by_one():
    assert Pairs(numbered(2, 6), ("u",), ("u",), lead=1).statistics().increments.std == (1.0,)


def test_order_is_a_permutation_of_the_generator_alone(opened):
    p = opened(numbered(6, 9), ("u",), ("u",), lead=1)
    one, two, other = (p.order(np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(np.sort(one), np.arange(len(p)))
    assert (one != other).any()
    assert (one != np.arange(len(p))).any()


def test_an_epoch_from_disk_reads_each_block_about_once(tmp_path, monkeypatch):
    ds = numbered(12, 9).chunk({"sample": 1})
    ds.to_zarr(tmp_path / "s.zarr", consolidated=False, zarr_format=3)
    monkeypatch.setattr("anygrid.io.source._SMALL", 1)
    p = Pairs(read(tmp_path / "s.zarr"), ("u",), ("u",), lead=1, memory_limit=1)
    p._in.limit = p._out.limit = 6 * 9 * 8 * 4
    reads = []
    plain = p._in._read
    monkeypatch.setattr(p._in, "_read", lambda extent: reads.append(extent) or plain(extent))
    order = p.order(np.random.default_rng(0))
    for part in np.array_split(order, 24):
        p.batch(part)
    assert len(reads) <= 14
    assert len({tuple(order[k : k + 4] // 8) for k in range(0, 24, 4)}) > 1


def test_memory_and_disk_agree(tmp_path):
    rng = np.random.default_rng(0)
    ds = xr.Dataset({"u": (("sample", "time", "x"), rng.standard_normal((7, 11, 8)))}, grid_coordinates(GRID))
    ds.chunk(sample=2, time=4).to_zarr(tmp_path / "s.zarr", consolidated=False, zarr_format=2)
    memory, disk = (Pairs(read(tmp_path / "s.zarr"), ("u",), ("u",), lead=1, memory_limit=m) for m in (None, 1))
    assert any("in memory" in n for n in memory.notes)
    assert any("streamed" in n for n in disk.notes)
    index = rng.permutation(memory.count(3))
    for x, y in zip(memory.batch(index, 3), disk.batch(index, 3), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)
    assert memory.statistics() == disk.statistics()


def test_missing_values_in_memory_are_counted_over_all_blocks(tmp_path):
    ds = numbered(4, 6)
    ds.u[1, 2, 3] = np.nan
    ds.u[3, 5, 0] = np.nan
    ds.chunk(sample=1).to_zarr(tmp_path / "s.zarr", consolidated=False, zarr_format=3)
    with pytest.raises(DataError, match=r"2 of 192.*sample=1, time=2, x=0.375"):
        Pairs(read(tmp_path / "s.zarr"), ("u",), ("u",), lead=1)
    streamed = Pairs(read(tmp_path / "s.zarr"), ("u",), ("u",), lead=1, memory_limit=1)
    with pytest.raises(DataError, match="sample=1, time=2"):
        streamed.batch(np.arange(len(streamed)))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d.isel(sample=0, time=0), {}, "a sample or time dimension"),
        (lambda d: d.isel(time=0, sample=[0]), {}, "two or more samples"),
        (lambda d: d.isel(time=0), {"lead": 1}, "with a time dimension"),
        (lambda d: d.isel(time=[0, 1], sample=[0]), {"lead": 1}, "two or more pair of states"),
        (lambda d: d, {"lead": 9}, "shorter than the data"),
        (lambda d: d, {"inputs": ("uu",)}, "did you mean 'u'"),
        (lambda d: d, {"inputs": ("k",), "lead": 1}, r"u@time=VALUE"),
        (lambda d: d.assign(a=d.u.isel(time=0)), {"inputs": ("a",)}, r"u@time=VALUE"),
        (lambda d: d, {"outputs": ("k",)}, "'time'"),
    ],
)
def test_refusals(change, options, message):
    options = {"inputs": ("u",), "outputs": ("u",), **options}
    inputs, outputs = options.pop("inputs"), options.pop("outputs")
    with pytest.raises(DataError, match=message):
        Pairs(change(numbered(3, 5)), inputs, outputs, **options)


def test_names_must_be_lists():
    for inputs in ("u", ()):
        with pytest.raises(UsageError, match="a list of variable names"):
            Pairs(numbered(2, 3), inputs, ("u",))


def test_scattered_points(opened):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 30)).astype(np.float32)
    ds = xr.Dataset({"q": (("sample", "station"), values)})
    ds = ds.assign_coords(lat=("station", rng.uniform(40, 50, 30)), lon=("station", rng.uniform(0, 10, 30)))
    p = opened(ds, ("q",), ("q",))
    assert (p.grid.names, p.grid.dims, len(p)) == (("lat", "lon"), ("station",), 6)
    np.testing.assert_array_equal(p.batch(np.array([4, 1]))[0][:, 0, 0], values[[4, 1]])


def test_outputs_that_are_inputs_are_kept_once():
    ds = numbered(3, 5)
    pairs = Pairs(ds, ("k", "v", "u"), ("u", "v"), lead=1)
    assert pairs.notes[-1].startswith(f"{4 * 15 * 3 * 8 / 2**20:.3g} MiB")
    assert pairs._in.values.data_ptr() == pairs._out.values.data_ptr()
    a, u = pairs.batch(np.arange(len(pairs)))
    torch.testing.assert_close(u[:, 0, [1, 0]], a[:, 0, 1:] + 1)
    apart = Pairs(ds, ("k", "u"), ("v",))
    torch.testing.assert_close(apart.batch(np.arange(len(apart)))[1][:, 0, 0], apart.batch(np.arange(len(apart)))[0][:, 0, 1] + 0.5)
