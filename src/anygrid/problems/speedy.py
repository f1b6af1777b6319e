"""The weather of a numerical model of the whole atmosphere: SPEEDY's physics on a spectral core, run by `jcm` in its own process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.fields import Variable
from anygrid.grid import Grid, Sphere
from anygrid.problems.base import Card, Problem
from anygrid.problems.speedy_fields import VARIABLES, variable

__all__ = ["GRID", "Speedy"]

GRID = Sphere.gauss(48, 96)
"""The grid of the model at T30."""


@dataclass(frozen=True)
class Speedy(Problem):
    dt: float = 21600.0
    start: str = "2000-01-01"
    variables: tuple[str, ...] = VARIABLES

    inputs: ClassVar[tuple[Variable, ...]] = ()
    outputs: ClassVar[tuple[Variable, ...]] = inputs
    card: ClassVar[Card] = Card(
        title="Weather of SPEEDY: the whole atmosphere at T30 in eight levels",
        equation="the primitive equations, with SPEEDY's convection, clouds, radiation, surface fluxes and vertical diffusion",
        boundary="orography, land and sea mask, climatological sea surface temperature, sea ice, snow and soil of the day",
        sampler="spun up from air at rest",
        solver="jcm 3.0.0: dinosaur's spectral core, semi-implicit, 30 minutes a step, float32",
        order="spectral in space, about 2 in time",
        cost="see docs/weather-model.md",
        source="Molteni 2003; jcm (https://github.com/climate-analytics-lab/jax-gcm), Apache-2.0",
    )

    @property
    def unit(self) -> int:
        """Seconds of one compiled call: the greatest common divisor of ``dt`` and six hours."""
        return math.gcd(round(self.dt), 21600)

    @property
    def time_unit(self) -> str:
        return "s"

    def grid(self, resolution: int | tuple[int, ...]) -> Sphere:
        return GRID

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def solve(self, a: Tensor, grid: Grid) -> Tensor:
        raise NotImplementedError

    def residual(self, a: Tensor, u: Tensor, grid: Grid) -> Tensor:
        raise NotImplementedError
