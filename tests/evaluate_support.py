"""A steady and an evolving problem with closed forms, cheap enough to evaluate inside a test."""

import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from anygrid.errors import DataError
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic
from anygrid.problems.base import Card, Problem

CARD = Card("Test <problem> & co", "-u'' = a", "u = 0", "sines", "second-order differences", "2", "1 ms", "this file")


@dataclass(frozen=True)
class Rod(Problem):
    """``-u'' = a`` on (0, 1), u = 0 at the ends: sin(k pi x) is answered with (h / 2 sin(k pi h / 2))^2 of itself."""

    card: ClassVar[Card] = CARD
    tolerance: float = 1e-8
    inputs: ClassVar[tuple[Variable, ...]] = (Variable("load", "N m-1"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("deflection", "m"),)

    def grid(self, resolution):
        n = resolution if isinstance(resolution, int) else resolution[0]
        return Box.uniform({"x": Bounded()}, n)

    def sample(self, n, grid, generator):
        amplitude = 0.5 + torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return (amplitude * torch.sin(2 * math.pi * grid.points()[:, 0]))[:, None]

    def solve(self, a, grid):
        h = 1 / (grid.shape[0] - 1)
        symbol = (2 * math.sin(math.pi * h) / h) ** 2  # of the second difference on sin(2 pi x)
        return a / symbol * (1 + self.tolerance)

    def residual(self, a, u, grid):
        return u * 0


def rod_error(n: int) -> float:
    """Relative error of the second difference on n points for sin(2 pi x)."""
    h = 1 / (n - 1)
    return (2 * math.pi) ** 2 / (2 * math.sin(math.pi * h) / h) ** 2 - 1


@dataclass(frozen=True)
class Decay(Problem):
    """``u_t = -u`` with relative accuracy ``1 / points``; the state at each point is its own."""

    card: ClassVar[Card] = CARD
    dt: float = 0.5
    steps: int = 4
    inputs: ClassVar[tuple[Variable, ...]] = (Variable("u"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("u"),)

    def grid(self, resolution):
        n = resolution if isinstance(resolution, int) else resolution[0]
        return Box.uniform({"x": Periodic()}, n)

    def sample(self, n, grid, generator):
        phase = 2 * math.pi * torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return torch.sin(2 * math.pi * grid.points()[:, 0] + phase)[:, None]

    def solve(self, a, grid):
        return a * math.exp(-self.dt) * (1 + 1 / grid.shape[0])

    def residual(self, a, u, grid):
        return u * 0


@dataclass(frozen=True)
class Deadly(Rod):
    """A rod whose solve takes the first worker that tries with it."""

    marker: str = ""

    def solve(self, a, grid):
        if os.getpid() != int(Path(self.marker).read_text()) and not Path(f"{self.marker}-done").exists():
            Path(f"{self.marker}-done").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().solve(a, grid)


def halve(a, grid):
    """Not quite the solution of anything."""
    return a / 40


def refuse(a, grid):
    """As a surrogate refuses a grid."""
    raise DataError("refuse", "another grid", "this one")
