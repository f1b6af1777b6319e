"""Everything that decides the bytes of a generated data set: grids, variables, chunks, and the request that names it.

Imported by the worker processes, so it imports neither xarray nor dask.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import AnygridError, UsageError
from anygrid.grid import Axis, Grid, Points
from anygrid.problems.base import Problem

__all__ = ["Array", "Plan", "Resolution", "block_size", "by", "in_range", "make_plan", "make_request", "nested"]

_CHUNK_BYTES = 4 << 20
_MOST_SAMPLES = 32
Resolution = int | tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """One stored variable: which channel of which tensor it is, and how it is chunked.

    Parameters
    ----------
    source
        ``input``: channel of the sample; ``output``: channel of the solution; ``state``: output that is stored at every time.
    chunk
        Chunk shape: (sample, [time], *space). Space is never split.
    """

    name: str
    source: str
    channel: int
    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    def keys(self, block: int) -> list[str]:
        """File names of the chunks of one block of samples."""
        times = [range(math.ceil(n / c)) for n, c in zip(self.shape[1:], self.chunk[1:], strict=True)]
        return [".".join(map(str, (block, *index))) for index in itertools.product(*times)]


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a data set, and the folders it is made in.

    ``shared`` gives, for every input channel of an evolution, the output channel that advances it, or -1 where it is held.
    """

    problem: Problem
    samples: int
    seed: int
    grid: Grid
    stored: Grid
    fine: Grid | None
    steps: int
    evolution: bool
    shared: tuple[int, ...]
    arrays: tuple[Array, ...]
    block: int
    store: Path
    labels: Path
    staging: Path

    def rows(self, block: int) -> range:
        """Samples of a block."""
        return range(block * self.block, min((block + 1) * self.block, self.samples))

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return math.ceil(self.samples / self.block)


def block_size(samples: int, largest: int) -> int:
    """Samples solved as one batch and stored as one chunk: at most 32, at most 4 MiB of ``largest`` bytes each, at least 16 blocks."""
    return max(1, min(_MOST_SAMPLES, samples // 16, _CHUNK_BYTES // max(1, largest)))


def in_range(name: str, value: int, least: int) -> None:
    """Refuse a number below ``least``."""
    if value < least:
        raise UsageError(f"generate: {name}", f"a number of {least} or more", str(value))


def make_plan(
    problem: Problem,
    n: int,
    resolution: Resolution,
    partial: Path,
    seed: int,
    store_resolution: Resolution | None,
    steps: int | None,
    label_check: int,
) -> Plan:
    """Check the arguments of ``generate`` and work out grids, variables and chunks.

    Raises
    ------
    UsageError
        For numbers out of range, grids that do not nest, and a problem whose variables cannot be stored.
    """
    in_range("n", n, 1)
    in_range("seed", seed, 0)
    in_range("label_check", label_check, 0)
    in_range("steps", 1 if steps is None else steps, 1)
    grid = problem.grid(resolution)
    stored = grid if store_resolution is None else problem.grid(store_resolution)
    if nested(stored, grid) is None:
        expected = f"a grid whose points are all among those of the solve ({by(grid)})"
        raise UsageError("store_resolution", expected, by(stored), f"choose from: {_nesting(problem, grid)}")
    evolution = problem.dt is not None
    shared = _shared(problem, steps)
    count = (problem.steps if steps is None else steps) if evolution else 1
    frames = min(count + 1, max(1, _CHUNK_BYTES // (4 * stored.size))) if evolution else 1
    block = block_size(n, 4 * (stored.size * frames if evolution else grid.size))
    arrays = [Array(v.name, "input", k, (n, *stored.shape), (block, *stored.shape)) for k, v in enumerate(problem.inputs) if shared[k] < 0]
    for k, v in enumerate(problem.outputs):
        if evolution:
            arrays.append(Array(v.name, "state", k, (n, count + 1, *stored.shape), (block, frames, *stored.shape)))
        else:
            arrays.append(Array(v.name, "output", k, (n, *stored.shape), (block, *stored.shape)))
    return Plan(
        problem=problem,
        samples=n,
        seed=seed,
        grid=grid,
        stored=stored,
        fine=_finer(problem, grid) if label_check else None,
        steps=count,
        evolution=evolution,
        shared=shared,
        arrays=tuple(arrays),
        block=block,
        store=partial / "store",
        labels=partial / "labels",
        staging=partial / "staging",
    )


def _shared(problem: Problem, steps: int | None) -> tuple[int, ...]:
    """Output channel that advances each input channel, or -1; every output of an evolution must be among its inputs."""
    names = [v.name for v in problem.outputs]
    shared = tuple(names.index(v.name) if v.name in names else -1 for v in problem.inputs)
    where, got = type(problem).__name__, f"{[v.name for v in problem.inputs]} -> {names}"
    if problem.dt is not None:
        if {k for k in shared if k >= 0} != set(range(len(names))):
            raise UsageError(where, "every output of an evolution among its inputs", got, "set dt to None if it is a steady problem")
        return shared
    if steps not in (None, 1):
        raise UsageError("generate: steps", f"no steps, because {where} is steady", str(steps), "leave it out")
    if any(k >= 0 for k in shared):
        raise UsageError(where, "inputs and outputs of a steady problem with different names", got, "rename one, or give the problem a dt")
    return shared


def by(grid: Grid) -> str:
    """Shape of a grid as people write it: ``64x64``."""
    return "x".join(map(str, grid.shape))


def _finer(problem: Problem, grid: Grid) -> Grid | None:
    """The problem's grid of half the spacing; None for scattered points, which have no finer grid."""
    if isinstance(grid, Points):
        return None
    axes: tuple[Axis, ...] = grid.axes  # type: ignore[attr-defined]
    sizes = tuple(2 * axis.size if axis.periodic or axis.placement == "cells" else 2 * axis.size - 1 for axis in axes)
    return problem.grid(sizes if len(set(sizes)) > 1 else sizes[0])


def _nesting(problem: Problem, grid: Grid) -> str:
    """Resolutions that nest in the grid, for a hint: every k-th point along every axis."""
    found: dict[str, None] = {}
    for k in (2, 3, 4, 5, 6, 7, 8, 10, 16):
        try:
            sizes = tuple(len(range(0, n, k)) for n in grid.shape)
            candidate = problem.grid(sizes if len(set(sizes)) > 1 else sizes[0])
            if nested(candidate, grid) is not None:
                found[by(candidate)] = None
        except AnygridError:  # too coarse for this problem
            continue
    return ", ".join(found) or by(grid)


def make_request(plan: Plan, checks: int) -> dict[str, Any]:
    """What decides the bytes; two calls with the same request make the same store."""
    problem = plan.problem
    assert dataclasses.is_dataclass(problem)
    fields = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}
    request: dict[str, Any] = {
        "problem": f"{type(problem).__module__}.{type(problem).__qualname__}",
        "parameters": fields,
        "samples": plan.samples,
        "seed": plan.seed,
        "resolution": plan.grid.shape,
        "store_resolution": plan.stored.shape,
        "steps": plan.steps if plan.evolution else None,
        "label_check": checks,
        "block": plan.block,
        "software": {name: importlib.metadata.version(name) for name in ("anygrid", "torch", "numpy", "scipy", "zarr")},
    }
    return request


def nested(coarse: Grid, fine: Grid) -> tuple[NDArray[np.int64], ...] | None:
    """Per axis, where the coarse grid's points are among the fine grid's; None if some are not among them."""
    if isinstance(coarse, Points) or isinstance(fine, Points):
        return (np.arange(fine.size),) if coarse == fine else None
    found = []
    for few, many in zip(coarse.axes, fine.axes, strict=True):  # type: ignore[attr-defined]
        x, y = few.coordinates(), many.coordinates()
        index = np.clip(np.searchsorted(y, x), 1, len(y) - 1)
        index -= np.abs(x - y[index - 1]) < np.abs(x - y[index])
        if np.abs(x - y[index]).max() > 1e-9 * many.interval.length:
            return None
        found.append(index)
    return tuple(found)
