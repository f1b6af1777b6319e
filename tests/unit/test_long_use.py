"""Memory does not grow with use: the short version of benchmarks/speed/long_use.py."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from ensemble_support import CIRCLE, STATE, U

from anygrid.forecast import forecast
from anygrid.operators import FNO
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate

pytestmark = pytest.mark.slow


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def surrogate():
    torch.manual_seed(0)
    plain = Moments(2, (0.0,), (2.0,), (-9.0,), (9.0,))
    return Surrogate(FNO(1, 1, [True], [5], width=4, depth=1, head=8), (U,), (U,), Statistics(plain, plain, plain), CIRCLE, "1 s").eval()


def state(points, rows):
    x = np.arange(points) / points
    values = np.sin(2 * np.pi * (x + np.arange(rows)[:, None] / 7))
    return xr.Dataset({"u": (("sample", "x"), values.astype("f4"), {"units": "m"})}, {"x": x})


def test_predictions_at_changing_resolutions():
    model = surrogate()
    found = []
    for k in range(900):
        model.predict(state((64, 96, 128)[k % 3], 1 + k % 5))
        if k in (299, 599, 899):
            found.append(resident())
    # A state that were kept by mistake would be 256 bytes at least, and its data set some kilobytes.
    assert found[2] - found[1] < 300 * 2000, found


def test_a_long_forecast_to_disk(tmp_path):
    found = {}

    def watch(done, *_):
        if done in (1000, 2000, 3000):
            found[done] = resident()

    forecast(surrogate(), state(16, 1), 3000, **STATE, domain=CIRCLE, out=tmp_path / "f.zarr", progress=watch)
    assert found[3000] - found[2000] < 1000 * 500, found
