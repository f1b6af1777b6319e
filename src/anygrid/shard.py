"""A grid of which each process holds some rows of the first axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from anygrid.collectives import Rows
from anygrid.errors import GridError, UsageError
from anygrid.grid import Box, Grid, Interval, Sphere, outer

__all__ = ["Shard", "rows_of", "sharded", "whole_of"]


@dataclass(frozen=True)
class Shard(Grid):
    """Rows of the first axis of ``whole`` that this process holds, and which ranks hold the others.

    ``shape``, ``points()`` and ``weights()`` are those of its own rows, with the quadrature of the whole: a sum over rows and over
    ranks is an integral over the domain. It has no axes of its own: what needs all points of the first axis does not take a part for the
    whole.

    Raises
    ------
    GridError
        For scattered points, rows that are not those of the grid.
    """

    whole: Box | Sphere
    rows: Rows

    def __post_init__(self) -> None:
        if not isinstance(self.whole, Box | Sphere):
            hint = "share samples instead: every process then holds whole fields"
            raise GridError("Shard", "a Box or a Sphere", type(self.whole).__name__, hint)
        if self.rows.total != self.whole.shape[0]:
            raise GridError("Shard", f"{self.whole.shape[0]} rows", str(self.rows.total))

    @property
    def dims(self) -> tuple[str, ...]:
        return self.whole.dims

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.stop - self.rows.start, *self.whole.shape[1:]

    @property
    def domain(self) -> tuple[Interval, ...]:
        return self.whole.domain

    def points(self) -> Float[Tensor, "*space d"]:
        first, *rest = (torch.from_numpy(axis.coordinates()) for axis in self.whole.axes)
        return torch.stack(torch.meshgrid(first[self.rows.start : self.rows.stop], *rest, indexing="ij"), dim=-1)

    def weights(self) -> Float[Tensor, "*space"]:
        first, *rest = self.whole.factors()
        return outer([first[self.rows.start : self.rows.stop], *rest])

    def mean_weights(self) -> Float[Tensor, "*space"]:
        return self.weights() / math.prod(float(factor.sum()) for factor in self.whole.factors())

    def at(self, shape: tuple[int, ...] | int) -> Shard:
        """Same domain at another resolution, its rows dealt in about the same proportions."""
        whole = self.whole.at(shape)
        return Shard(whole, self.rows.scaled(whole.shape[0]))

    def mine(self, field: Tensor, dim: int = 2) -> Tensor:
        """Rows of this rank out of a field on the whole grid."""
        return field.narrow(dim, self.rows.start, self.rows.stop - self.rows.start)


def sharded(grid: Grid, group: dist.ProcessGroup | None = None, *, multiple: int = 1) -> Shard:
    """The part of ``grid`` for this process, its rows dealt evenly to the ranks of ``group`` (default: all), by so many at a time.

    Raises
    ------
    GridError
        For scattered points, or too few rows for the ranks.
    UsageError
        When this process has not joined others.
    """
    if not dist.is_initialized():
        hint = "start the script with torchrun, and call torch.distributed.init_process_group() in it"
        raise UsageError("sharded", "processes that know of each other", "one alone", hint)
    if not isinstance(grid, Box | Sphere):
        raise GridError("Shard", "a Box or a Sphere", type(grid).__name__, "share samples instead: every process then holds whole fields")
    return Shard(grid, Rows.even(grid.shape[0], dist.get_world_size(group), dist.get_rank(group), group, multiple=multiple))


def rows_of(grid: Grid) -> Rows | None:
    """Rows that this process has of ``grid``; ``None`` where it has them all."""
    return grid.rows if isinstance(grid, Shard) else None


def whole_of(grid: Grid) -> Grid:
    """The grid that ``grid`` is a part of, or itself."""
    return grid.whole if isinstance(grid, Shard) else grid
