"""What every problem states: its variables, its grids, its sampler, its solver, its residual and its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.fields import Variable
from anygrid.grid import Grid

__all__ = ["Card", "Problem"]


@dataclass(frozen=True)
class Card:
    """Facts about a problem that a user reads before using it (``anygrid problems NAME``)."""

    title: str
    equation: str
    boundary: str
    sampler: str
    solver: str
    order: str
    cost: str
    source: str


class Problem(ABC):
    """A parametrised equation with its own solver. Concrete problems are final frozen dataclasses of physical parameters.

    ``solve`` is a :class:`~anygrid.maps.Map`. A steady problem maps its coefficients to the solution; an evolution maps a
    state to the state ``dt`` later, and ``dt`` is then a field of the dataclass (``None`` marks a steady problem).
    """

    card: ClassVar[Card]
    inputs: ClassVar[tuple[Variable, ...]]
    outputs: ClassVar[tuple[Variable, ...]]
    dt: float | None = None
    steps: int = 1  # output steps of one published trajectory; 1 for a steady problem or a single map

    @abstractmethod
    def grid(self, resolution: int | tuple[int, ...]) -> Grid:
        """Grid of the problem's domain with ``resolution`` points along each axis."""

    @abstractmethod
    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch inputs *space"]:
        """Draw ``n`` input functions; the state of ``generator`` alone decides them, never the grid."""

    @abstractmethod
    def solve(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Float[Tensor, "batch outputs *space"]:
        """Solve the equation for each input function."""

    @abstractmethod
    def residual(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """Left side minus right side of the discrete equation; zero to its order on the solver's own solution."""
