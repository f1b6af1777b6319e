"""Maps and initial states for the tests of ensembles, in a module of their own so that worker processes can import them."""

import time
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from anygrid.fields import Variable
from anygrid.grid import Box, Periodic

U = Variable("u", "m", "height")
STATE = {"inputs": (U,), "outputs": (U,)}
CIRCLE = Box.uniform({"x": Periodic(0, 1)}, 16)


@dataclass(frozen=True)
class Turn:
    """One point to the right and a little nonlinearity, point by point: no rounding depends on the batch."""

    pause: float = 0.0
    blow_up: float = float("inf")

    def __call__(self, a, grid, /):
        time.sleep(self.pause)
        u = torch.roll(a[:, :1], 1, -1)
        u = u + 0.125 * u * u
        return torch.where(u > self.blow_up, torch.nan, u)


def kick(a, grid, /, *, members, generator):
    """A random map: the state turned, and one normal number for each row added to all of it."""
    noise = torch.randn(members, len(a), 1, 1, generator=generator)
    return torch.roll(a, 1, -1)[None] + 0.1 * noise


def wave(**leading):
    """A wave on the circle; with leading dimensions, one of another phase for each of their entries."""
    x = np.arange(16) / 16
    shape = tuple(leading.values())
    phase = np.arange(int(np.prod(shape))).reshape(*shape, 1) / 7
    coords = {"x": x} | {d: np.arange(n, dtype=float) for d, n in leading.items()}
    return xr.Dataset({"u": ((*leading, "x"), np.sin(2 * np.pi * (x + phase)).astype("f4"), {"units": "m"})}, coords)


def tree(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
