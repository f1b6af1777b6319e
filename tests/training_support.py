"""A small operator and small data that the tests of training and of the surrogate share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate
from anygrid.operators.fno import FNO


class Pointwise(nn.Module):
    """A perceptron at every point, with dropout so that random numbers matter."""

    def __init__(self, inputs: int, outputs: int, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "width": width, "dropout": dropout}
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, a: Tensor, grid: Grid, query: Grid | None = None) -> Tensor:
        hidden = self.dropout(torch.nn.functional.gelu(self.first(a.movedim(1, -1))))
        u = self.second(hidden).movedim(-1, 1)
        return u if query is None or query == grid else interpolate(u, grid, query)


def small_fno(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    return FNO(inputs, outputs, [interval.periodic for interval in grid.domain], [16] * grid.ndim, width=16, depth=2, head=32)


def pointwise(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    return Pointwise(inputs, outputs)


def heat(samples: int = 64, points: int = 32, times: int = 2, seed: int = 0, viscosity: float = 0.02) -> xr.Dataset:
    """Exact solutions of the heat equation on the unit circle: wave k decays by exp(-viscosity k^2) in one time step.

    One seed is the same functions at every resolution.
    """
    rng = np.random.default_rng(seed)
    x, k, t = np.arange(points) / points, np.arange(1, 7), np.arange(times)
    c = rng.normal(size=(samples, 2, 6)) / k
    decay = np.exp(-viscosity * k**2 * t[:, None])
    waves = np.stack([np.cos(2 * np.pi * k[:, None] * x), np.sin(2 * np.pi * k[:, None] * x)])
    u = np.einsum("npk,tk,pkx->ntx", c, decay, waves).astype(np.float32)
    attrs = {"units": "K", "long_name": "temperature"}
    coords = {"sample": np.arange(samples), "time": ("time", t * 60.0, {"units": "s"}), "x": ("x", x, {"units": "m", "periodic": 1})}
    return xr.Dataset({"u": (("sample", "time", "x"), u, attrs)}, coords)


def affine(samples: int = 40, points: int = 16, seed: int = 0) -> xr.Dataset:
    """Steady data ``q = 3 p + 10`` with a constant channel ``c`` beside ``p``; p in Pa, q in K."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, points)
    p = np.einsum("nk,kx->nx", rng.normal(size=(samples, 4)), np.stack([np.ones_like(x), x, np.sin(3 * x), np.cos(5 * x)]))
    fields = {
        "p": (("sample", "x"), p.astype(np.float32), {"units": "Pa"}),
        "c": (("sample", "x"), np.full_like(p, 0.1, dtype=np.float32), {"units": "1"}),
        "q": (("sample", "x"), (3 * p + 10).astype(np.float32), {"units": "K"}),
    }
    return xr.Dataset(fields, {"x": ("x", x, {"units": "m", "periodic": 0})})
