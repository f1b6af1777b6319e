"""Memory in long use: 10^4 predictions, 10^4 steps of a forecast, and ensembles of 100, 1000 and 10000 members.

    python benchmarks/speed/long_use.py          # -> benchmarks/results/long_use.json, some minutes on a machine of one's own
    python benchmarks/speed/long_use.py 400      # fewer calls, nothing is kept

Each part is a fresh process with one thread and an untrained FNO of width 8 on 64 points. ``slope`` is that of a straight line through
the resident memory of the second half, where caches are full and the allocator has grown. The predictions change between three
resolutions and five numbers of rows. The forecast goes to a Zarr store on disk. Ensembles keep mean, standard deviation and two
quantiles of 20 steps and work in this process; ``peak`` is the most resident memory, ``base`` what it was before.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import xarray as xr
from harness import RESULTS, machine, prepare

from anygrid.fields import Variable
from anygrid.forecast import Keep, Perturbation, ensemble, forecast
from anygrid.grid import Box, Periodic
from anygrid.operators import FNO
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate

U = Variable("u", "m", "height")
GRID = Box.uniform({"x": Periodic(0, 1)}, 64)


def _surrogate() -> Surrogate:
    torch.manual_seed(0)
    moments = Moments(2, (0.0,), (2.0,), (-3.0,), (3.0,))
    operator = FNO(1, 1, [True], [17], width=8, depth=2, head=16)
    # Outputs rather than increments: an untrained map then stays bounded for any number of steps.
    return Surrogate(operator, (U,), (U,), Statistics(moments, moments, moments), GRID, "1 s").eval()


def _state(points: int, rows: int) -> xr.Dataset:
    x, phase = np.arange(points) / points, np.arange(rows)[:, None] / 7
    return xr.Dataset({"u": (("sample", "x"), np.sin(2 * np.pi * (x + phase)).astype("f4"), {"units": "m"})}, {"x": x})


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


class _Watch:
    """Resident memory every so many calls."""

    def __init__(self, every: int) -> None:
        self.every, self.calls, self.bytes = every, [], []  # type: ignore[var-annotated]
        self.began = time.perf_counter()

    def __call__(self, done: int) -> None:
        if done % self.every == 0:
            gc.collect()
            self.calls.append(done)
            self.bytes.append(_resident())

    def result(self) -> dict[str, Any]:
        """Memory in MB, and the slope over the second half in bytes a call."""
        half = len(self.calls) // 2
        slope = np.polyfit(self.calls[half:], self.bytes[half:], 1)[0]
        megabytes = [round(b / 1e6, 2) for b in self.bytes]
        seconds = round(time.perf_counter() - self.began, 1)
        return {"calls": self.calls, "resident_mb": megabytes, "slope_bytes_per_call": round(float(slope), 1), "seconds": seconds}


def predictions(calls: int) -> dict[str, Any]:
    """Through ``Surrogate.predict``, data set to data set."""
    model, watch = _surrogate(), _Watch(max(1, calls // 20))
    for k in range(1, calls + 1):
        model.predict(_state((64, 96, 128)[k % 3], 1 + k % 5))
        watch(k)
    return watch.result()


def steps(calls: int) -> dict[str, Any]:
    """One forecast to disk."""
    watch = _Watch(max(1, calls // 20))
    with tempfile.TemporaryDirectory() as folder:
        forecast(
            _surrogate(),
            _state(64, 1),
            calls,
            inputs=(U,),
            outputs=(U,),
            domain=GRID,
            out=f"{folder}/f.zarr",
            progress=lambda k, *_: watch(k),
        )
    return watch.result()


def members(count: int) -> dict[str, Any]:
    """One ensemble to disk, in this process."""
    model, base, began = _surrogate(), _resident(), time.perf_counter()
    spread, keep = Perturbation((0.1,), 0.1), Keep(quantiles=(0.1, 0.9))
    with tempfile.TemporaryDirectory() as folder:
        ensemble(
            model,
            _state(64, 1),
            20,
            count,
            inputs=(U,),
            outputs=(U,),
            perturbation=spread,
            keep=keep,
            domain=GRID,
            out=f"{folder}/e.zarr",
            workers=0,
        )
    seconds = time.perf_counter() - began
    rate = round(count / seconds, 1)
    return {
        "members": count,
        "seconds": round(seconds, 2),
        "members_per_second": rate,
        "peak_mb": round(_peak() / 1e6, 1),
        "base_mb": round(base / 1e6, 1),
    }


def _measured(answer: Any, work: Callable[[int], dict[str, Any]], count: int) -> None:
    prepare(1)
    answer.send(work(count))


def in_a_process(work: Callable[[int], dict[str, Any]], count: int) -> dict[str, Any]:
    """What ``work(count)`` found in a fresh process."""
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(other, work, count))
    process.start()
    other.close()
    found: dict[str, Any] = end.recv()
    process.join()
    return found


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    facts = machine(1, prepare(1), "cpu", ("xarray", "zarr"))
    result: dict[str, Any] = {"command": "python benchmarks/speed/long_use.py", "machine": facts}
    result["predictions"] = in_a_process(predictions, calls)
    result["forecast_steps"] = in_a_process(steps, calls)
    for name in ("predictions", "forecast_steps"):
        print(name, result[name]["slope_bytes_per_call"], "bytes a call", result[name]["seconds"], "s", flush=True)
    result["ensembles"] = [in_a_process(members, calls // share) for share in (100, 10, 1)]
    for row in result["ensembles"]:
        print(row, flush=True)
    if calls == 10_000:
        (RESULTS / "long_use.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
