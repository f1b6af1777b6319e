"""The dear work of an evaluation, rows of a batch at a time: here, in worker processes, or on a cluster, with the same values.

What is cut into tasks depends on the grid alone, because rounding may depend on the batch. Timings are never taken this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Grid
from anygrid.maps import Map
from anygrid.numerics.seeds import sample_generator
from anygrid.problems.base import Problem

__all__ = ["Reference", "Rows", "Team", "apply", "cut", "in_order", "rows_of", "solve_references"]

_VALUES = 1 << 18  # field values in one call: larger ones are no faster each, and these are enough tasks to share


@runtime_checkable  # beartype, in the tests, can then see what it is
class Team(Protocol):
    """Who does tasks: :class:`anygrid.io.workers.Workers` or :class:`anygrid.io.cluster.Cluster`."""

    def run(self, job: Callable[[Any], Any], tasks: Iterable[Any]) -> Any:
        """Yield ``(task, job(task))`` in the order of completion."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a batch, with their inputs where they are given."""

    numbers: range
    a: Tensor | None = None

    def __str__(self) -> str:
        return f"rows {self.numbers.start} to {self.numbers.stop - 1}"


@dataclass(frozen=True, eq=False)
class Applied:
    """A map of some rows."""

    map: Map
    grid: Grid

    def __call__(self, rows: Rows) -> Tensor:
        """Outputs, without derivatives."""
        assert rows.a is not None
        with torch.no_grad():
            return self.map(rows.a, self.grid).detach()


@dataclass(frozen=True, eq=False)
class Reference:
    """Samples of a problem and their solutions in float64, for an evolution over ``steps`` steps."""

    problem: Problem
    grid: Grid
    seed: int
    steps: int
    channels: tuple[int, ...] | None

    def __call__(self, rows: Rows) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs of each step; the inputs after the last one as well, where outputs are fed back."""
        drawn = [self.problem.sample(1, self.grid, sample_generator(self.seed, i)) for i in rows.numbers]
        inputs, outputs = [torch.cat(drawn).to(torch.float64)], []
        for _ in range(max(self.steps, 1)):
            with torch.no_grad():
                outputs.append(self.problem.solve(inputs[-1], self.grid))
            if self.channels is not None:  # what is not predicted, such as a coefficient, stays
                following = inputs[-1].clone()
                following[:, list(self.channels)] = outputs[-1]
                inputs.append(following)
        return inputs, outputs


def apply(team: Team | None, map_: Map, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Tensor:
    """The map of a batch, a bounded number of values at a time, without derivatives."""
    return torch.cat(list(in_order(team, Applied(map_, grid), cut(a, rows_of(grid, a.shape[1])))))


def solve_references(team: Team | None, job: Reference, n: int, say: Callable[[int], None]) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of ``n`` samples, one tensor a step; ``say`` is told how many samples are solved."""
    size = rows_of(job.grid, len(job.problem.inputs))
    parts = list(in_order(team, job, [Rows(range(i, min(i + size, n))) for i in range(0, n, size)], say))
    inputs, outputs = ([torch.cat(step) for step in zip(*(part[k] for part in parts), strict=True)] for k in (0, 1))
    return inputs, outputs


def rows_of(grid: Grid, channels: int) -> int:
    """Rows of one task."""
    return max(1, _VALUES // (grid.size * channels))


def cut(a: Tensor, size: int) -> list[Rows]:
    """Rows of a batch, ``size`` at a time."""
    # A copy each: a pickled view takes all of its tensor along.
    return [Rows(range(i, min(i + size, len(a))), a[i : i + size].clone()) for i in range(0, len(a), size)]


def in_order(
    team: Team | None, job: Callable[[Rows], Any], tasks: Sequence[Rows], say: Callable[[int], None] = lambda _: None
) -> Iterator[Any]:
    """Results in the order of the rows. One task is done here, where the data are."""
    done = 0
    if team is None or len(tasks) == 1:
        for task in tasks:
            yield job(task)
            done += len(task.numbers)
            say(done)
        return
    found = {}
    with closing(team.run(job, tasks)) as results:
        for task, result in results:
            found[task.numbers.start] = result
            done += len(task.numbers)
            say(done)
    yield from (found[task.numbers.start] for task in tasks)
