"""Interleaved timing of maps with one thread and with all, and the facts about the machine that make a time mean something."""

from __future__ import annotations

import gc
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from anygrid.evaluate.result import Timing
from anygrid.grid import Grid
from anygrid.maps import Map

__all__ = ["InTurn", "Job", "cores", "environment", "measure"]

_SHORTEST = 5e-3  # seconds: shorter calls are repeated inside one measurement, or the clock and the interpreter are measured
_LEAST_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Job:
    """One call to be timed: ``map(a, grid)`` with a number of threads."""

    name: str
    role: str
    map: Map
    a: Tensor
    grid: Grid
    threads: int


class InTurn:
    """Map that answers each call for other samples of ``rows``, in turn: a query is new, and what a map keeps of the last one rarely helps.

    A solver whose coefficients depend on a parameter of the sample builds them anew, a solver that chooses its steps takes those of
    each sample. ``a`` of a call only says how many samples are asked for.
    """

    def __init__(self, map_: Map, rows: Tensor) -> None:
        self.map, self.rows, self.next = map_, torch.cat([rows, rows]), 0

    def __call__(self, a: Tensor, grid: Grid, /) -> Tensor:
        """The map of the next ``len(a)`` samples."""
        start = self.next
        self.next = (start + 1) % (len(self.rows) // 2)
        return self.map(self.rows[start : start + len(a)], grid)


def measure(
    jobs: Sequence[Job], *, budget: float = 30.0, repeats: int = 15, clock: Callable[[], float] = time.perf_counter
) -> list[Timing]:
    """Time all jobs in turn, round after round, so that a disturbance of the machine hits all of them alike.

    Each job is called once to warm up and once to learn its cost; then it takes part in as many rounds as its share of
    ``budget`` seconds allows, two at least, ``repeats`` at most. A number of threads that proved over twice as slow as
    another for the same call takes no further part: it cannot be the best. The garbage collector is off during a measurement, and
    each measurement follows an untimed call, because the other jobs may have displaced what the map keeps between calls.
    """
    loops, samples = [], []
    pools = ThreadpoolController()  # found once: the search for thread pools takes some 20 ms
    best: dict[tuple[str, Grid, int], float] = {}
    for job in jobs:
        key = (job.name, job.grid, len(job.a))
        cost = _once(job, 1, clock, pools)
        # On a busy machine many threads can take 100 times as long as one; one such call is enough to know
        if cost < 4 * best.get(key, math.inf):
            cost = min(cost, _once(job, 1, clock, pools))
        best[key] = min(cost, best.get(key, cost))
        loops.append(max(1, min(100, int(_SHORTEST / max(cost, 1e-6)) + 1)))
        samples.append([cost])
    share = budget / max(len(jobs), 1)
    rounds = []
    for job, count, found in zip(jobs, loops, samples, strict=True):
        hopeless = found[0] > 2 * best[job.name, job.grid, len(job.a)]
        rounds.append(0 if hopeless else max(_LEAST_ROUNDS - 1, min(repeats - 1, int(share / ((count + 1) * found[0] + 1e-9)))))
    for turn in range(max(rounds, default=0)):
        for job, count, found, wanted in zip(jobs, loops, samples, rounds, strict=True):
            if turn < wanted:
                found.append(_once(job, count, clock, pools, warm=True))
    return [_summary(job, found) for job, found in zip(jobs, samples, strict=True)]


def _summary(job: Job, found: list[float]) -> Timing:
    low, middle, high = (float(q) / len(job.a) for q in np.quantile(found, [0.25, 0.5, 0.75]))
    return Timing(job.name, job.role, job.grid.shape, len(job.a), job.threads, len(found), middle, low, high)


def _once(job: Job, loops: int, clock: Callable[[], float], controller: ThreadpoolController, *, warm: bool = False) -> float:
    """Seconds for one call, after another one if ``warm``. The previous number of torch threads is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with torch.no_grad(), controller.limit(limits=job.threads):
            if warm:
                job.map(job.a, job.grid)
            start = clock()
            for _ in range(loops):
                job.map(job.a, job.grid)
            return (clock() - start) / loops
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1


def environment() -> dict[str, str]:
    """Hardware, software, precision, threads and allocator of this run, as text for a report."""
    preload = os.environ.get("LD_PRELOAD", "")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(cores()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads outside the timings",
        "numpy": np.__version__,
        "precision": "maps, solvers under test and timings: float32 input; truth and metrics: float64",
        "device": "cpu",
        "allocator": f"LD_PRELOAD={preload}" if preload else "the C library's malloc (LD_PRELOAD not set)",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    info = Path("/proc/meminfo")
    if info.exists():
        return f"{int(info.read_text().split()[1]) / 2**20:.1f} GiB"
    return "unknown"
