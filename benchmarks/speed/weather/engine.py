"""What the numerical weather model costs: seconds of processor time a simulated day, and to start and compile.

    python benchmarks/speed/weather/engine.py            # writes engine.json

Processor time of the model's own process (one thread), so that other jobs on the machine count little. The compiled program is cached on
disk; ``first_call`` is with that cache as found, ``compile`` with an empty one (``--cold``, in a temporary folder).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from anygrid.problems.speedy_engine import Engine

HERE = Path(__file__).parent


def measure(days: int) -> dict[str, float]:
    with Engine() as engine:
        process = psutil.Process(engine._process.pid)

        def spent() -> float:
            times = process.cpu_times()
            return times.user + times.system

        state = engine.rest(np.datetime64("2000-01-01", "s"))
        found = {"start_s": spent()}
        _, state = engine.advance(state, 1, "last")
        found["first_call_s"] = spent() - found["start_s"]
        for keep in ("last", "all"):
            before, clock = spent(), time.monotonic()
            for _ in range(days // 10):
                _, state = engine.advance(state, 40, keep)
            found[f"day_{keep}_s"] = (spent() - before) / days
            found[f"day_{keep}_wall_s"] = (time.monotonic() - clock) / days
        found["memory_mb"] = process.memory_info().rss / 1e6
        found["state_mb"] = sum(a.nbytes for a in state.arrays.values()) / 1e6
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    cpu = next((x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    load = os.getloadavg()[0]
    if given.cold:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            found = {"cold": measure(given.days)}
    else:
        found = {"warm": measure(given.days)}
    path = HERE / "engine.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept |= found | {
        "command": "python benchmarks/speed/weather/engine.py --days 30 [--cold]",
        "processor": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "versions": {name: version(name) for name in ("jcm", "dinosaur", "jax", "numpy")},
    }
    path.write_text(json.dumps(kept, indent=1))
    print(json.dumps(found, indent=1))
