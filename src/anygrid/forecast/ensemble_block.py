"""The unit of work of an ensemble: some members from some starts, rolled out, summed up, and written whole or not at all."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError
from anygrid.forecast.advance import Drawn, Roller
from anygrid.forecast.forcing import Forcings
from anygrid.forecast.perturb import Perturbation
from anygrid.forecast.summary import Keep, Part, fields, of_variable, summarise
from anygrid.grid import Grid
from anygrid.io.blocks import encode_chunk, write_atomically
from anygrid.maps import Map, NoisyMap, RandomMap
from anygrid.numerics.seeds import sample_generator

__all__ = ["Block", "Plan", "Task", "read_part", "write_part"]

_SLICE = 1 << 14  # values that are summed up at once: a histogram of them takes 16 MB
_SMALL = 1 << 20  # bytes of a chunk below which several leads share one
_NOISE = 1 << 31  # numbers from here on are the streams of random maps, those below the streams of perturbations

Task = tuple[int, int]  # number of the block of rows, number of the block of members


@dataclass(frozen=True, eq=False)
class Plan:
    """How an ensemble is cut into blocks and where its files lie.

    Parameters
    ----------
    partial
        Folder with the ``store`` that is filled, and ``parts`` and ``staging`` beside it.
    names
        Of the variables that are predicted.
    leading
        Sizes of the dimensions before the lead; a row is one entry of them all.
    space
        Shape of a frame in the store, and ``order``: where each of its values stands in a row of the tensors.
    block
        Members and rows of a block.
    single
        Whether there is one member without a dimension of its own.
    judged
        Names of the variables whose truth is known.
    """

    partial: Path
    names: tuple[str, ...]
    leading: tuple[int, ...]
    space: tuple[int, ...]
    order: NDArray[np.int64]
    steps: int
    every: int
    members: int
    block: tuple[int, int]
    keep: Keep
    single: bool
    judged: tuple[str, ...] = ()

    def keep_of(self, name: str) -> Keep:
        """What is kept of one variable."""
        return of_variable(self.keep, judged=name in self.judged)

    @property
    def leads(self) -> int:
        """Leads that are kept."""
        return self.steps // self.every

    @property
    def span(self) -> int:
        """Leads of one chunk."""
        return max(1, min(_SMALL // (4 * math.prod(self.chunk_rows) * math.prod(self.space)), self.leads))

    @property
    def together(self) -> bool:
        """Whether all rows make one block, and share their chunks."""
        return self.blocks[0] == 1

    @property
    def chunk_rows(self) -> tuple[int, ...]:
        """Shape of a chunk along the leading dimensions."""
        return self.leading if self.together else (1,) * len(self.leading)

    @property
    def blocks(self) -> tuple[int, int]:
        """Numbers of blocks of rows and of members."""
        return math.ceil(math.prod(self.leading) / self.block[1]), math.ceil(self.members / self.block[0])

    def rows(self, number: int) -> range:
        """Rows of a block of them."""
        return range(number * self.block[1], min((number + 1) * self.block[1], math.prod(self.leading)))

    def members_of(self, number: int) -> range:
        """Members of a block of them."""
        return range(number * self.block[0], min((number + 1) * self.block[0], self.members))

    def part(self, task: Task) -> Path:
        """File of the partial result of a block."""
        return self.partial / "parts" / f"{task[0]}.{task[1]}"

    def slices(self, rows: int) -> Iterator[slice]:
        """Values of one variable of ``rows`` rows at one lead, a bounded number at a time."""
        size = rows * math.prod(self.space)
        for begin in range(0, size, _SLICE):
            yield slice(begin, min(begin + _SLICE, size))

    def write_chunk(self, name: str, before: tuple[int, ...], rows: range, chunk: int, frames: NDArray[np.float32]) -> None:
        """Write leads ``(lead, row, value)`` of a block of rows, at ``before`` along the first dimensions and ``chunk`` along the lead."""
        for index, shape, part in self._pieces(rows, np.moveaxis(frames, 0, 1)):
            sizes = (*(1,) * len(before), *shape)
            values = part.reshape(*sizes, -1, *self.space)
            key = ".".join(map(str, (*before, *index, chunk, *(0,) * len(self.space))))
            data = encode_chunk(values, (*sizes, self.span, *self.space))
            write_atomically(self.partial / "store" / name / key, data, self.partial / "staging")

    def _pieces(self, rows: range, values: NDArray) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], NDArray]]:
        """Place and shape of chunks along the leading dimensions, and their values: all rows together, or one by one."""
        if self.together:
            yield (0,) * len(self.leading), self.leading, values
            return
        for k, row in enumerate(rows):
            yield tuple(int(i) for i in np.unravel_index(row, self.leading)), (1,) * len(self.leading), values[k]


@dataclass(frozen=True, eq=False)
class Block:
    """Does one task of a plan and returns the number of members times starts that it stands for.

    Parameters
    ----------
    a
        Inputs at the start, of every member or of one that all of them start from.
    channels
        Place of each output among the inputs.
    limit
        Of each output: where it has exploded.
    truth
        Of the outputs, at step 0 and after every step.
    """

    plan: Plan
    map: Map | RandomMap | NoisyMap
    stochastic: bool
    grid: Grid
    a: Float[Tensor, "member row inputs *space"]
    channels: tuple[int, ...]
    forced: Forcings
    perturbation: Perturbation | None
    seed: int
    limit: Float[Tensor, " outputs"]
    truth: Forcings | None = None

    def roller(self, rows: range, members: range) -> Roller:
        """These members at these starts, one after another, with their own noise."""
        part = slice(rows.start, rows.stop)
        own = self.a[list(members)] if len(self.a) > 1 else self.a.expand(len(members), *self.a.shape[1:])
        a = own[:, part].clone()
        if self.perturbation is not None:
            for k, member in enumerate(members):
                field = self.perturbation.field(self.grid, self.seed, member)
                a[k][:, list(self.channels)] = (a[k][:, list(self.channels)].double() + field).float()
        map_: Map = self.map  # type: ignore[assignment]
        if self.stochastic:
            # A generator for every start, in the same state: a start has the same noise alone as among others.
            map_ = Drawn(self.map, [sample_generator(self.seed, _NOISE + m) for m in members for _ in rows])  # type: ignore[arg-type]
        return Roller(map_, self.grid, a.flatten(0, 1), self.channels, lambda x, n: self.forced.into(x, n, part), self.limit)

    def __call__(self, task: Task) -> int:
        """Roll out and write.

        Raises
        ------
        DataError
            For a state that is not finite; the member is named.
        """
        plan, rows, members = self.plan, self.plan.rows(task[0]), self.plan.members_of(task[1])
        kept = _Kept(plan, rows, members)
        roller = self.roller(rows, members)
        state = roller.initial()
        temporary = plan.partial / "staging" / uuid.uuid4().hex
        try:
            with temporary.open("wb") as file:
                for number in range(plan.steps):
                    state = roller.step(state, number)
                    self._check(roller, state, number + 1, rows, members)
                    if (number + 1) % plan.every == 0:
                        x = state.view(len(members), len(rows), len(self.channels), -1).numpy()[..., plan.order]
                        kept.add(x)
                        self._sum_up(file, x, number + 1, rows)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(plan.part(task))
        finally:
            with suppress(OSError):
                temporary.unlink()
        return len(rows) * len(members)

    def _sum_up(self, file: BinaryIO, x: NDArray[np.float32], step: int, rows: range) -> None:
        plan = self.plan
        if not plan.keep.statistics:
            return
        truth = None
        if self.truth is not None:
            whole = torch.zeros(len(rows), len(plan.names), *self.grid.shape)
            self.truth.into(whole, step, slice(rows.start, rows.stop))
            truth = whole.flatten(2).numpy()[..., plan.order]
        for c, name in enumerate(plan.names):
            flat = np.ascontiguousarray(x[:, :, c]).reshape(len(x), -1)
            y = None if truth is None else np.ascontiguousarray(truth[:, c]).ravel()
            for part in plan.slices(x.shape[1]):
                own = None if y is None else y[part]
                write_part(file, summarise(flat[:, part], plan.keep_of(name), plan.keep.thresholds(name), own))

    def _check(self, roller: Roller, state: Tensor, step: int, rows: range, members: range) -> None:
        bad, what = roller.bad_rows(state)
        if bad:
            member, row = members[bad[0] // len(rows)], rows[bad[0] % len(rows)]
            which = (f" of member {member}" if not self.plan.single else "") + (
                f" of start {row}" if math.prod(self.plan.leading) > 1 else ""
            )
            hint = "forecast fewer steps, perturb less, or train with longer roll-outs"
            raise DataError("ensemble", "finite values", f"{what}{which} at step {step}", hint)


class _Kept:
    """Members that are kept themselves: written when a chunk of leads is full."""

    def __init__(self, plan: Plan, rows: range, members: range) -> None:
        self.plan, self.rows = plan, rows
        self.wanted = [(k, plan.keep.members.index(m)) for k, m in enumerate(members) if m in plan.keep.members]
        self.frames: list[NDArray[np.float32]] = []
        self.done = 0

    def add(self, x: NDArray[np.float32]) -> None:
        """Take a lead ``(member, row, channel, value)``."""
        if not self.wanted:
            return
        self.frames.append(x[[k for k, _ in self.wanted]])
        self.done += 1
        if len(self.frames) == self.plan.span or self.done == self.plan.leads:
            for i, (_, place) in enumerate(self.wanted):
                before = () if self.plan.single else (place,)
                for c, name in enumerate(self.plan.names):
                    frames = np.stack([f[i, :, c] for f in self.frames])
                    self.plan.write_chunk(name, before, self.rows, (self.done - 1) // self.plan.span, frames)
            self.frames = []


def write_part(file: BinaryIO, part: Part) -> None:
    """Add the arrays of one slice to a file, in the order of :func:`~anygrid.forecast.summary.fields`."""
    for array in part.values():
        file.write(np.ascontiguousarray(array).tobytes())


def read_part(file: BinaryIO, plan: Plan, name: str, count: int, values: int, *, merged: bool) -> Part:
    """The next arrays of a file, which stand for ``count`` members."""
    found: Part = {}
    for key, kind, shape in fields(plan.keep_of(name), len(plan.keep.thresholds(name)), count, values, merged=merged):
        size = np.dtype(kind).itemsize * math.prod(shape)
        found[key] = np.frombuffer(file.read(size), dtype=kind).reshape(shape)
    return found
