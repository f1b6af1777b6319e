"""The unit of work of a generated data set: solve a block of samples and write its chunks, each in one step.

Imported by the worker processes, so it imports neither xarray nor dask.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numcodecs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError
from anygrid.io.plan import Plan, nested
from anygrid.numerics.interpolation import interpolate
from anygrid.numerics.seeds import sample_generator

__all__ = ["COMPRESSOR", "FILTER", "Job", "decode_chunk", "encode_chunk", "write_atomically"]

# Lossless and the same bytes every time. Byte shuffling takes a tenth off smooth float32 fields; level 1 writes as small as level 3.
FILTER = numcodecs.Shuffle(elementsize=4)
COMPRESSOR = numcodecs.Zstd(level=1)

Task = tuple[str, int]  # ("block", number of the block) or ("label", number of the sample)


@dataclass(frozen=True)
class Job:
    """Does one task of a plan and returns the number of samples it stands for."""

    plan: Plan

    def __call__(self, task: Task) -> int:
        """Solve and write. Raises ``DataError`` for a solution that is not finite, and ``OSError`` from the disk."""
        kind, number = task
        if kind == "label":
            self._label(number)
            return 1
        self._block(number)
        return len(self.plan.rows(number))

    def _block(self, block: int) -> None:
        plan = self.plan
        rows = plan.rows(block)
        a = torch.cat([plan.problem.sample(1, plan.grid, sample_generator(plan.seed, i)) for i in rows])
        keep = _keep(a, plan)
        self._check(keep, rows, "input")
        self._write_all("input", block, 0, keep)
        if not plan.evolution:
            keep = _keep(plan.problem.solve(a, plan.grid), plan)
            self._check(keep, rows, "solution")
            self._write_all("output", block, 0, keep)
            return
        state = [a[:, plan.shared.index(k)] for k in range(len(plan.problem.outputs))]
        frames = [_keep(torch.stack(state, 1), plan)]
        span = next(array.chunk[1] for array in plan.arrays if array.source == "state")
        for step in range(plan.steps):
            if len(frames) == span:
                self._write_all("state", block, step // span, np.stack(frames, axis=2))
                frames = []
            u = plan.problem.solve(a, plan.grid)
            a = _advance(a, u, plan.shared)
            frames.append(_keep(u, plan))
            self._check(frames[-1], rows, f"solution at step {step + 1}")
        self._write_all("state", block, plan.steps // span, np.stack(frames, axis=2))

    def _label(self, sample: int) -> None:
        """Solution of one sample at twice the resolution, on the stored grid; at the last time of an evolution."""
        plan = self.plan
        assert plan.fine is not None
        a = plan.problem.sample(1, plan.fine, sample_generator(plan.seed, sample))
        u = plan.problem.solve(a, plan.fine)
        for _ in range(plan.steps - 1 if plan.evolution else 0):
            a = _advance(a, u, plan.shared)
            u = plan.problem.solve(a, plan.fine)
        index = nested(plan.stored, plan.fine)
        there = interpolate(u, plan.fine, plan.stored) if index is None else _take(u, index)
        values = there.detach().to(torch.float64).numpy()
        self._check(values, range(sample, sample + 1), "solution at twice the resolution")
        write_atomically(plan.labels / str(sample), values.tobytes(), plan.staging)

    def _write_all(self, source: str, block: int, time: int, values: NDArray[np.float32]) -> None:
        """Write chunk ``time`` of every variable of one source; values are (sample, channel, [time], *space)."""
        for array in self.plan.arrays:
            if array.source == source:
                key = array.keys(block)[time]
                write_atomically(self.plan.store / array.name / key, encode_chunk(values[:, array.channel], array.chunk), self.plan.staging)

    def _check(self, values: NDArray[np.floating], rows: range, what: str) -> None:
        bad = ~np.isfinite(values).reshape(len(rows), -1).all(axis=1)
        if bad.any():
            sample = rows[int(bad.argmax())]
            hint = f"a finer resolution may be needed; look at problem.sample(1, grid, sample_generator({self.plan.seed}, {sample}))"
            raise DataError(f"{type(self.plan.problem).__name__}, sample {sample}", f"a finite {what}", "nan or infinity", hint)


def encode_chunk(values: NDArray[np.float32], chunk: tuple[int, ...]) -> bytes:
    """Bytes of one Zarr chunk; a chunk at the end of an axis is filled up with zeros, which no reader shows."""
    full = np.zeros(chunk, dtype="<f4")
    full[tuple(slice(n) for n in values.shape)] = values
    return bytes(COMPRESSOR.encode(FILTER.encode(full)))


def decode_chunk(data: bytes, chunk: tuple[int, ...]) -> NDArray[np.float32]:
    """Inverse of :func:`encode_chunk`, padding included."""
    return np.frombuffer(FILTER.decode(COMPRESSOR.decode(data)), dtype="<f4").reshape(chunk)


def write_atomically(target: Path, data: bytes, staging: Path) -> None:
    """Write a file so that it is there whole or not at all, whenever the process is killed or the power fails.

    ``staging`` is a folder of the same file system; what a killed process leaves there is no part of any result.
    """
    temporary = staging / uuid.uuid4().hex
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _take(u: Tensor, index: tuple[NDArray[np.int64], ...]) -> Tensor:
    for k, rows in enumerate(index):
        u = u.index_select(k + 2, torch.from_numpy(rows))
    return u


def _keep(u: Tensor, plan: Plan) -> NDArray[np.float32]:
    index = nested(plan.stored, plan.grid)
    assert index is not None  # checked when the plan was made
    return np.asarray(_take(u.detach(), index).to(torch.float32).numpy())


def _advance(a: Tensor, u: Tensor, shared: tuple[int, ...]) -> Tensor:
    """Next input of an evolution: the channels it advances are replaced, the others are held."""
    return torch.stack([a[:, i] if k < 0 else u[:, k].to(a.dtype) for i, k in enumerate(shared)], 1)
