"""Time and memory of one prediction against the size of its grid: in memory and streamed from Zarr to Zarr.

    python benchmarks/speed/size.py          # -> benchmarks/results/size.json

Each measurement is a fresh process with one thread. ``peak`` is the most resident memory of that process, interpreter and libraries
included (``base`` is that of a process that imports them and builds the surrogate); ``seconds`` is opening the store, predicting and
writing. The surrogate is an untrained LatentFNO of the default size on 256 x 256 latent points: time and memory do not depend on the
weights. Input: a smooth field in float32 and chunks of 512 x 512.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parents[1] / "results" / "size.json"
SIZES = (512, 1024, 2048, 4096)
LARGE = (8192, 16384)
IN_MEMORY = 8192  # points along an axis up to which the whole field is predicted at once too
MEMORY = "500MB"


def _surrogate():
    import torch

    from anygrid.fields import Variable
    from anygrid.grid import Bounded, Box
    from anygrid.operators import default_operator
    from anygrid.statistics import Moments, Statistics
    from anygrid.surrogate import Surrogate

    torch.manual_seed(0)
    grid = Box.uniform({"x": Bounded(0, 1), "y": Bounded(0, 1)}, 256)
    moments = Moments(1, (0.0,), (1.0,), (-4.0,), (4.0,))
    return Surrogate(default_operator(1, 1, grid), (Variable("a"),), (Variable("u"),), Statistics(moments, moments), grid)


def _write_input(path: Path, n: int) -> None:
    import dask.array
    import numpy as np
    import xarray as xr

    from anygrid.fields import grid_coordinates

    grid = _surrogate().grid.at(n)
    x = dask.array.linspace(0, 1, n, chunks=512, dtype="float32")
    a = dask.array.sin(7 * x)[:, None] * dask.array.cos(11 * x)[None, :]
    ds = xr.Dataset({"a": (("x", "y"), a.astype(np.float32))}, grid_coordinates(grid))
    ds.to_zarr(path, zarr_format=2)


def _peak() -> int:
    """Most resident bytes of this process; ``ru_maxrss`` would start from the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def _measure(mode: str, source: Path, target: Path) -> dict[str, float]:
    import torch
    import xarray as xr

    from anygrid.evaluate.large import stream

    torch.set_num_threads(1)
    surrogate = _surrogate()
    started = time.monotonic()
    if mode == "streamed":
        stream(surrogate, xr.open_zarr(source), target, memory=MEMORY)
    elif mode == "in memory":
        surrogate.predict(xr.open_zarr(source)).to_zarr(target, zarr_format=2)
    return {"seconds": round(time.monotonic() - started, 2), "peak": _peak()}


def _child(mode: str, source: Path, target: Path) -> dict[str, float]:
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, __file__, mode, str(source), str(target)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_NUM_WORKERS": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        base = _child("import", folder, folder / "none")["peak"]
        for n in (*SIZES, *LARGE):
            source = folder / f"in{n}.zarr"
            _write_input(source, n)
            row: dict[str, object] = {"points": [n, n], "field_bytes": 4 * n * n}
            for mode in ("streamed", *(("in memory",) if n <= IN_MEMORY else ())):
                row[mode] = _child(mode, source, folder / "out.zarr")
            rows.append(row)
            print(row, flush=True)
            shutil.rmtree(source)
    RESULT.parent.mkdir(exist_ok=True)
    result = {"command": "python benchmarks/speed/size.py", "memory": MEMORY, "processor": platform.processor() or platform.machine()}
    RESULT.write_text(json.dumps({**result, "threads": 1, "base": base, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main()
