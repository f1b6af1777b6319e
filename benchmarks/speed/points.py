"""Memory and time of one prediction from, or at, a million scattered points.

    python benchmarks/speed/points.py          # -> benchmarks/results/points.json, five minutes
    python benchmarks/speed/points.py 10000    # fewer points, nothing is kept

Each row is a fresh process with one thread and an untrained operator. ``peak`` is the most resident memory of the process, ``base`` what it
had before the points were made. A grid of 64 x 64 stands on the other side; with points on the input side, the output is there too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import multiprocessing

import numpy as np
import torch
from harness import RESULTS, machine, prepare

from anygrid.grid import Bounded, Box, Grid, Points
from anygrid.operators import FNO, default_operator


def _peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def _measure(name: str, side: str, count: int, answer: Any) -> None:
    prepare(1)
    torch.manual_seed(0)
    base = _peak()
    box = Box.uniform({"x": Bounded(0, 1), "y": Bounded(0, 1)}, 64)
    # Equal weights, as a user has them who knows the density; found from the points they take seconds more.
    points = Points(np.random.default_rng(0).random((count, 2)), ("x", "y"), box.domain, np.full(count, 1 / count))
    grid: Grid = box if side == "out" else points
    operator = default_operator(1, 1, grid) if name == "LatentFNO" else FNO(1, 1, [False, False], [17, 17])
    begin = time.perf_counter()
    with torch.inference_mode():
        operator(torch.randn(1, 1, *grid.shape), grid, points)
    answer.send({"seconds": round(time.perf_counter() - begin, 1), "peak_gb": round(_peak(), 2), "base_gb": round(base, 2)})


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    result: dict[str, Any] = {"command": "python benchmarks/speed/points.py", "points": count, "machine": machine(1, prepare(1), "cpu", ())}
    for name in ("LatentFNO", "FNO"):
        for side in ("out", "in and out"):
            end, other = multiprocessing.get_context("spawn").Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(target=_measure, args=(name, side, count, other))
            process.start()
            result[f"{name}, {side}"] = end.recv()
            process.join()
            print(name, side, result[f"{name}, {side}"], flush=True)
    if count == 1_000_000:
        (RESULTS / "points.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
