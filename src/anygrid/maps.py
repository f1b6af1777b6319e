"""The one type that a solver, a surrogate and a baseline share: a map between functions on a grid."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Grid

__all__ = ["Map", "NoisyMap", "RandomMap"]


@runtime_checkable  # so that type checkers at run time (beartype in the tests) can see a callable in it
class Map(Protocol):
    """Operator ``a -> u`` between functions sampled on a grid.

    Values are in physical units; tensors are ``(batch, channel, *space)`` with space ordered as ``grid.dims``. An
    evolution map advances the state by its own fixed time step. No caller may ask whether a map is a network or a solver.
    """

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """Apply the operator to a batch of input functions."""
        ...


@runtime_checkable
class RandomMap(Protocol):
    """Operator whose value is random: a stochastic solver or a generative model."""

    def __call__(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /, *, members: int, generator: torch.Generator
    ) -> Float[Tensor, "member batch outputs *space"]:
        """Draw ``members`` independent outputs for every input function."""
        ...


@runtime_checkable
class Noise(Protocol):
    """Random channels that a :class:`NoisyMap` takes."""

    def draw(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "{n} channel *space"]:
        """Noise for ``n`` input functions."""
        ...


@runtime_checkable
class NoisyMap(Protocol):
    """A :class:`Map` of inputs and, in channels behind them, noise: rows that have generators of their own are computed together."""

    @property
    def noise(self) -> Noise:
        """What draws the noise."""
        ...

    def __call__(self, a: Float[Tensor, "batch channel *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """Apply the operator to inputs and their noise."""
        ...
