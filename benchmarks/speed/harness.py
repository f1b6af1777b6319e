"""What the speed benchmarks share: taking turns, the machine in words, peak memory of a process of its own, and what is kept.

A kept result lies in ``benchmarks/results/NAME.json`` with a row for each measurement in ``NAME.csv``. Only ratios are compared with the
last kept run: the machines are noisy, and both sides of a ratio were measured together.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anygrid.training.allocator import keep_large_blocks

RESULTS = Path(__file__).resolve().parents[1] / "results"
LOSS = 0.05  # of a ratio, against the last kept run, from which on it is flagged


def prepare(threads: int) -> str:
    """Set threads and allocator, the same for every side; returns the allocator in words."""
    torch.set_num_threads(threads)
    return "glibc, mmap and trim thresholds raised" if keep_large_blocks() else "as found"


def machine(threads: int, allocator: str, device: str, packages: Sequence[str]) -> dict[str, Any]:
    """Hardware, threads, allocator and versions."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": threads,
        "allocator": allocator,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("torch", *packages)},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def interleaved(
    sides: dict[str, Callable[[], object]], rounds: int, device: str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict[str, float]]:
    """Milliseconds of each side: median and quartiles of ``rounds`` turns, after two turns that are not counted.

    ``time.thread_time`` as clock counts the work of one thread only, and not the time that other programs took the core away.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(-2, rounds):
        for name, run in sides.items():
            begin = clock()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if k >= 0:
                times[name].append(1e3 * (clock() - begin))
    quantiles = {name: np.quantile(t, [0.25, 0.5, 0.75]) for name, t in times.items()}
    return {name: {"median_ms": float(q[1]), "lower_ms": float(q[0]), "upper_ms": float(q[2])} for name, q in quantiles.items()}


def ratio(found: dict[str, dict[str, float]], of: str, to: str) -> float:
    """Median time of one side over that of another."""
    return round(found[of]["median_ms"] / found[to]["median_ms"], 3)


def peak_megabytes(work: Callable[..., Callable[[], object]], *arguments: object) -> float:
    """How much the resident memory of a fresh process grows while it does ``work(*arguments)()``, twice; one thread.

    ``work`` prepares (imports, weights, inputs), what it returns is measured. glibc gives nothing back here, so the growth is the peak.
    """
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(other, work, arguments))
    process.start()
    grown = end.recv()
    process.join()
    return float(grown)


def _measured(pipe: Any, work: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> None:
    prepare(1)
    run = work(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was that of the imports (Linux, proc(5))
    before = _peak()
    run()
    run()
    pipe.send(round(_peak() - before, 1))


def _peak() -> float:
    line = next(line for line in _lines("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def keep(name: str, result: dict[str, Any], ratios: dict[str, float]) -> list[str]:
    """Write a result and its ratios (larger is better for us); returns those that lost more than 5 % against the last kept run."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    last = json.loads(path.read_text()).get("ratios", {}) if path.exists() else {}
    lost = [f"{key}: {last[key]:.2f} -> {now:.2f}" for key, now in ratios.items() if key in last and now < (1 - LOSS) * last[key]]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result | {"ratios": ratios, "lost_against_last_run": lost}, indent=1) + "\n")
    part.replace(path)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["measurement", "ratio", "last kept"])
        rows.writerows([key, now, last.get(key, "")] for key, now in ratios.items())
    return lost
