"""A few solved samples of an equation that is trained on without data: for scales, and for validation."""

from __future__ import annotations

import tempfile
from pathlib import Path

import xarray as xr

from anygrid.io.store import generate
from anygrid.problems.base import Problem

__all__ = ["PROBES", "probes", "usual_resolution"]

PROBES = 16
_SEED = 6_100_000_013  # apart from seeds of data, of drawn inputs and of the evaluation
_STEPS = 8


def probes(problem: Problem, resolution: int | tuple[int, ...]) -> xr.Dataset:
    """Sixteen samples, or four trajectories of at most eight steps, solved and held in memory."""
    evolution = problem.dt is not None
    with tempfile.TemporaryDirectory(prefix="anygrid-probes-") as folder:
        store = generate(
            problem,
            PROBES // 4 if evolution else PROBES,
            resolution,
            Path(folder) / "probes.zarr",
            seed=_SEED,
            workers=0,
            steps=min(problem.steps, _STEPS) if evolution else None,
            label_check=0,
        )
        return xr.open_zarr(store).load()


def usual_resolution(problem: Problem) -> tuple[int, ...]:
    """256 intervals in one dimension, 64 in two, 24 in three; a vertex more along bounded axes."""
    domain = problem.grid(16).domain
    n = {1: 256, 2: 64, 3: 24}[len(domain)]
    return tuple(n if interval.periodic else n + 1 for interval in domain)
