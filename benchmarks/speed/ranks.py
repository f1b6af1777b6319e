"""What processes save: seconds of a training step on 1, 2 and 4 of them, with the same batch (strong scaling) and with one that grows.

    python benchmarks/speed/ranks.py             # writes benchmarks/speed/ranks.json
    python benchmarks/speed/ranks.py 1 2 8       # other numbers of processes

The default operator at 64 x 64, one thread a process, started by torchrun as a user would. A step is the median of the log's lines. On
fewer free cores than processes the numbers only say what the exchange costs.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
BATCH, STEPS = 8, 30


def child(batch: int, parallel: str) -> None:
    """Train on this rank; the first one prints its seconds a step."""
    import numpy as np
    import torch
    import xarray as xr

    from anygrid.fields import grid_coordinates
    from anygrid.grid import Box, Periodic
    from anygrid.training import Progress, fit

    torch.set_num_threads(1)
    grid = Box.uniform({"x": Periodic(), "y": Periodic()}, 64)
    values = np.random.default_rng(0).normal(size=(128, 64, 64)).astype(np.float32)
    fields = {name: (("sample", "x", "y"), f) for name, f in (("a", values), ("u", np.roll(values, 1, 1)))}
    seen: list[tuple[int, float]] = []

    def listen(progress: Progress) -> None:
        if progress.step:
            seen.append((progress.step, progress.seconds))

    fit(xr.Dataset(fields, grid_coordinates(grid)), "a", "u", validation=0, steps=STEPS, batch=batch, parallel=parallel, listener=listen)
    if seen:
        steps = sorted((t - s) / (m - n) for (n, s), (m, t) in itertools.pairwise(seen[2:]))
        print("seconds", steps[len(steps) // 2])


def measured(count: int, batch: int, parallel: str) -> float:
    words = ["--standalone", "--nproc-per-node", str(count), __file__, "--child", str(batch), parallel]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-m", "torch.distributed.run", *words], cwd=folder, capture_output=True, text=True)
    found = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("seconds")]
    if not found:
        raise SystemExit(done.stderr[-3000:])
    return round(found[0] * 1e3, 1)


def main(counts: list[int]) -> None:
    rows = {}
    for count in counts:
        row = {"same batch": measured(count, BATCH, "data"), "batch that grows": measured(count, BATCH * count, "data")}
        if count > 1:
            row["same batch, sharded"] = measured(count, BATCH, "sharded")
        rows[f"{count} processes"] = row
    result = {
        "command": "python benchmarks/speed/ranks.py",
        "milliseconds of a step": rows,
        "batch": BATCH,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": 1, "load": round(os.getloadavg()[0], 1)},
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), sys.argv[3])
    else:
        main([int(word) for word in sys.argv[1:]] or [1, 2, 4])
