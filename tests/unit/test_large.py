"""Predictions slab by slab: the values of predict, resumed after a kill, and what is refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from anygrid.errors import DataError, FileError, GridError, UsageError
from anygrid.evaluate.large import parse_memory, stream
from anygrid.fields import Variable, to_dataset
from anygrid.grid import Bounded, Box, Periodic, Points
from anygrid.operators import FNO, LatentFNO, UNet
from anygrid.problems.base import Wall
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate

WALLED = Box.uniform({"x": Bounded(0, 2), "y": Bounded(0, 1)}, 17)
TORUS = Box.uniform({"x": Periodic(0, 2), "y": Periodic(0, 1)}, 16)
SMALL = "60KB"  # slabs of a few rows


def _moments(*means):
    n = len(means)
    return Moments(10, means, tuple(10 * (1.5 + k) for k in range(n)), (-9.0,) * n, (9.0,) * n)


def _surrogate(grid, *, build=LatentFNO, imposed=Imposed(), dt=None):
    torch.manual_seed(0)
    periodic = [i.periodic for i in grid.domain]
    sizes = {"shape": grid.shape, "stride": 2} if build is LatentFNO else {}
    extra = {"modes": [5, 5], "width": 6, "depth": 2} if build is not UNet else {"width": 4, "levels": 1}
    operator = build(2, 2, periodic, **sizes, **extra)
    inputs, outputs = (Variable("u", "K"), Variable("k")), (Variable("u", "K", "heat"), Variable("q", "W"))
    given = Statistics(_moments(1.0, 2.0), _moments(1.0, 3.0), _moments(0.1, 3.0))
    return Surrogate(operator, inputs, outputs, given, grid, dt, dt is not None, imposed=imposed)


def _data(grid, folder, samples=2):
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(samples, 2, *grid.shape, generator=generator)
    ds = to_dataset(a, (Variable("u", "K"), Variable("k")), grid, {"sample": np.arange(3, 3 + samples)})
    ds.to_zarr(folder / "in.zarr", zarr_format=2)
    return xr.open_zarr(folder / "in.zarr")


CASES = {
    "steady": (WALLED, {}),
    "increment": (WALLED, {"dt": "0.5"}),
    "walls": (WALLED, {"dt": "0.5", "imposed": Imposed((Wall("u", "x", "lower", 0.3), Wall("q", "y", "upper", 1.0)))}),
    "means": (WALLED, {"dt": "0.5", "imposed": Imposed((Wall("u", "x", "lower", 0.3),), ("u",))}),
    "torus": (TORUS, {"dt": "0.5", "imposed": Imposed(conserved=("u",))}),
    "fno": (WALLED, {"build": FNO, "dt": "0.5"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", [False, True])
def test_a_streamed_prediction_is_that_of_predict(case, other, tmp_path):
    trained, options = CASES[case]
    surrogate = _surrogate(trained, **options)
    grid = trained.at((41, 30))
    query = None
    if other:
        query = grid.at((41, 24)) if case == "torus" else grid.at((52, 24))
    ds = _data(grid, tmp_path)
    expected = surrogate.predict(ds, query)
    calls = []
    path = stream(surrogate, ds, tmp_path / "out.zarr", query, memory=SMALL, progress=lambda done, n: calls.append((done, n)))
    found = xr.open_zarr(path)
    assert len(calls) > 4
    assert calls[-1][0] == calls[-1][1] == len(calls)
    for name in expected:
        scale = float(np.sqrt((expected[name] ** 2).mean()))
        assert np.abs(found[name] - expected[name]).max() < 5e-6 * scale
        assert found[name].dims == expected[name].dims
        assert found[name].attrs == expected[name].attrs
    for name in expected.coords:
        xr.testing.assert_identical(found[name].load(), expected[name])
    assert {k: v for k, v in found.attrs.items() if k != "request"} == expected.attrs
    assert not (tmp_path / "out.zarr.partial").exists()


def test_descending_data_give_the_same_in_ascending_order(tmp_path):
    surrogate = _surrogate(WALLED)
    ds = _data(WALLED.at((21, 20)), tmp_path)
    first = xr.open_zarr(stream(surrogate, ds, tmp_path / "a", memory=SMALL)).load()
    second = xr.open_zarr(stream(surrogate, ds.isel(x=slice(None, None, -1)), tmp_path / "b", memory=SMALL)).load()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


KILLED = """
import sys, time, torch, xarray as xr
from test_large import _surrogate, WALLED, stream, SMALL
from pathlib import Path
folder = Path(sys.argv[1])
def progress(done, n):
    print(done, flush=True)
    if done == 3:
        time.sleep(60)
stream(_surrogate(WALLED), xr.open_zarr(folder / "in.zarr"), folder / "out.zarr", memory=SMALL, progress=progress)
"""


def test_killed_and_called_again_it_computes_only_the_rest(tmp_path, monkeypatch):
    ds = _data(WALLED.at((41, 30)), tmp_path)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=here)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "3":
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    store = tmp_path / "out.zarr.partial" / "store"
    assert not (tmp_path / "out.zarr").exists()
    before = {f: f.stat().st_mtime_ns for f in (store / "u").glob("[0-9]*")}
    assert len(before) == 3
    time.sleep(0.02)
    surrogate = _surrogate(WALLED)
    import anygrid.surrogate.slabs as slabs

    emitted, original = [], slabs.emit
    monkeypatch.setattr(slabs, "emit", lambda *a: (emitted.append(a[-2]), original(*a))[1])
    calls = []
    stream(surrogate, ds, tmp_path / "out.zarr", memory=SMALL, progress=lambda done, n: calls.append(n))
    assert len(emitted) == len(calls) - 3
    for file, when in before.items():
        assert (tmp_path / "out.zarr" / "u" / file.name).stat().st_mtime_ns == when
    expected = surrogate.predict(ds)
    np.testing.assert_allclose(xr.open_zarr(tmp_path / "out.zarr")["q"], expected["q"], atol=5e-5)
    stream(surrogate, ds, tmp_path / "out.zarr", memory=SMALL)  # finished: nothing to do
    assert len(emitted) == len(calls) - 3


def test_refusals(tmp_path):
    ds = _data(WALLED.at((21, 20)), tmp_path)
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="a LatentFNO or an FNO, got UNet"):
        stream(_surrogate(WALLED, build=UNet), ds, out)
    with pytest.raises(UsageError, match="without an imposed waves"):
        stream(_surrogate(TORUS, imposed=Imposed(waves=3)), _data(TORUS, _folder(tmp_path / "t")), tmp_path / "t" / "out")
    with pytest.raises(UsageError, match="room for one row along 'x'"):
        stream(_surrogate(WALLED), ds, out, memory=100)
    with pytest.raises(UsageError, match="such as 2GB"):
        stream(_surrogate(WALLED), ds, out, memory="lots")
    points = Points(np.random.default_rng(0).random((5, 2)), ("x", "y"), WALLED.domain)
    with pytest.raises(GridError):
        stream(_surrogate(WALLED), ds, out, points)
    with pytest.raises(GridError, match="same points along the periodic axis"):
        stream(_surrogate(TORUS, dt="1"), xr.open_zarr(tmp_path / "t" / "in.zarr"), tmp_path / "t2", TORUS.at(24))
    with pytest.raises(DataError, match="finite values"):
        stream(_surrogate(WALLED), ds.assign(u=ds.u.where(ds.u < 2)), tmp_path / "nan")
    stream(_surrogate(WALLED), ds, tmp_path / "done")
    with pytest.raises(FileError, match="another request"):
        stream(_surrogate(WALLED, dt="1"), ds, tmp_path / "done")


def _folder(path):
    path.mkdir()
    return path


def test_memory_in_words():
    assert [parse_memory(m) for m in (7, "7", "2GB", "500 mb", "1.5GiB")] == [7, 7, 2 * 10**9, 5 * 10**8, 3 * 2**29]


_MILLION = """
import sys
import numpy as np, torch
from anygrid.grid import Bounded, Box, Points
from anygrid.numerics.interpolation import interpolate
from pathlib import Path

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

box = Box.uniform({"x": Bounded(0, 1), "y": Bounded(0, 1)}, 128)
x = np.random.default_rng(0).random((300_000, 2))
u = torch.from_numpy(np.sin(3 * box.points()[..., 0].numpy()) * box.points()[..., 1].numpy() ** 2)[None, None].float()
interpolate(u, box, Points(x[:1000], ("x", "y"), box.domain), smooth=True)  # whatever torch loads on its first call
before = peak()
v = interpolate(u, box, Points(x, ("x", "y"), box.domain), smooth=True)
print(peak() - before, float(np.abs(v[0, 0].numpy() - np.sin(3 * x[:, 0]) * x[:, 1] ** 2).max()))
"""


def test_many_scattered_points_take_little_memory() -> None:
    said = subprocess.run([sys.executable, "-c", _MILLION], check=True, capture_output=True, text=True).stdout.split()
    assert int(said[0]) < 400_000  # kB; all points at once take 620,000, parts of them 250,000
    assert float(said[1]) < 1e-6
