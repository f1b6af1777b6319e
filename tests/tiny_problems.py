"""Problems that solve in a millisecond and have closed forms, in a module of their own so that worker processes can import them."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic
from anygrid.problems.base import Card, Problem

_CARD = Card("tiny", "-u'' = a", "u = 0", "sines", "second-order differences", "2", "1 ms", "this file")


@dataclass(frozen=True)
class Beam(Problem):
    """``-u'' = a`` on (0, 1) by second-order differences: sin(k pi x) is answered with (2 / (h sin-symbol))^2 of itself."""

    card: ClassVar[Card] = _CARD
    modes: int = 3
    pause: float = 0.0
    blow_up: int = -1

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("load", "N m-1", "load"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("deflection", "m", "deflection", "height"),)

    def grid(self, resolution):
        n = resolution if isinstance(resolution, int) else resolution[0]
        return Box.uniform({"x": Bounded(0, 1)}, n)

    def sample(self, n, grid, generator):
        c = torch.randn(n, self.modes, generator=generator, dtype=torch.float64)
        x = grid.points()[:, 0]
        return (c @ torch.stack([torch.sin(math.pi * (k + 1) * x) for k in range(self.modes)]))[:, None]

    def solve(self, a, grid):
        time.sleep(self.pause)
        n = grid.shape[0]
        h = 1 / (n - 1)
        main = torch.full((n - 2,), 2.0, dtype=torch.float64)
        side = torch.full((n - 3,), -1.0, dtype=torch.float64)
        u = torch.zeros_like(a)
        matrix = torch.diag(main) + torch.diag(side, 1) + torch.diag(side, -1)
        u[:, 0, 1:-1] = torch.linalg.solve(matrix, h**2 * a[:, 0, 1:-1].T).T
        if self.blow_up == len(a):
            u[-1, 0, 2] = math.nan
        return u

    def residual(self, a, u, grid):
        return u * 0


@dataclass(frozen=True)
class Drift(Problem):
    """``u_t + c u_x = 0`` on the unit circle, exactly, with the speed c as an input that is held."""

    card: ClassVar[Card] = _CARD
    dt: float = 0.125
    steps: int = 5

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("speed", "m s-1", "speed"), Variable("u", "1", "tracer"))
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("u", "1", "tracer"),)

    def grid(self, resolution):
        n = resolution if isinstance(resolution, int) else resolution[0]
        return Box.uniform({"x": Periodic(0, 1)}, n)

    def sample(self, n, grid, generator):
        phase = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        x = grid.points()[:, 0]
        return torch.stack((torch.ones_like(x).expand(n, -1), torch.sin(2 * math.pi * (x + phase))), 1)

    def solve(self, a, grid):
        k = torch.fft.rfftfreq(grid.shape[0], 1 / grid.shape[0], dtype=torch.float64)
        shift = torch.exp(-2j * math.pi * k * self.dt * a[:, 0, :1])
        return torch.fft.irfft(torch.fft.rfft(a[:, 1]) * shift, grid.shape[0])[:, None]

    def residual(self, a, u, grid):
        return u * 0


@dataclass(frozen=True)
class Sleeper(Beam):
    """A beam whose solve says that it has begun, and then takes two minutes."""

    marker: str = ""

    def solve(self, a, grid):
        Path(self.marker).touch()
        time.sleep(120)
        return super().solve(a, grid)
