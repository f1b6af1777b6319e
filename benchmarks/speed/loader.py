"""Is the loader ever the bottleneck? Samples a second from memory and from disk, beside those that training uses up.

    python benchmarks/speed/loader.py            # writes benchmarks/speed/loader.json

Trajectories of 20 states at 64 x 64 are written as Zarr, NetCDF 4 (compressed) and .npz. Each is read in the shuffled order of
training, from memory and streamed with room for a tenth of the data, and a step of the default operator is timed on
the same batches. Seconds are of CPU (all threads of the process) and of the clock; the former
do not change with what else the machine does.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import xarray as xr

from anygrid.fields import grid_coordinates
from anygrid.grid import Box, Periodic
from anygrid.io import Pairs, read
from anygrid.operators import default_operator
from anygrid.training.loader import Loader

GRID = Box.uniform({"x": Periodic(), "y": Periodic()}, 64)
TRAJECTORIES, STATES, BATCH, EPOCHS = 96, 20, 16, 3


def smooth_data() -> xr.Dataset:
    """Random fields with a decaying spectrum, so that compression has something to do."""
    rng = np.random.default_rng(0)
    k = np.fft.fftfreq(64, 1 / 64)
    decay = (k[:, None] ** 2 + k[:33][None] ** 2 + 49.0) ** -1.25
    noise = rng.standard_normal((TRAJECTORIES, STATES, 64, 33)) + 1j * rng.standard_normal((TRAJECTORIES, STATES, 64, 33))
    values = np.fft.irfft2(noise * decay).astype(np.float32)
    return xr.Dataset({"w": (("sample", "time", "x", "y"), values)}, {**grid_coordinates(GRID), "time": np.arange(STATES) * 1.0})


def timed(work, count: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"samples_per_cpu_second": round(count / cpu, 1), "samples_per_second": round(count / wall, 1)}


def epochs(pairs: Pairs) -> dict[str, float]:
    loader = Loader([pairs], [BATCH], seed=0)
    batches = EPOCHS * (len(pairs) // BATCH)

    def work() -> None:
        stream = loader.stream(1, (0, 0))
        for _ in range(batches):
            next(stream)
        stream.close()

    return timed(work, batches * BATCH)


def training(pairs: Pairs) -> dict[str, float]:
    torch.manual_seed(0)
    operator = default_operator(1, 1, pairs.grid)
    optimiser = torch.optim.Adam(operator.parameters())
    a, u = (x[:, 0] for x in pairs.batch(np.arange(BATCH)))

    def work() -> None:
        for _ in range(4):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(operator(a, pairs.grid), u).backward()
            optimiser.step()

    work()
    return timed(work, 4 * BATCH)


def main() -> None:
    torch.set_num_threads(1)
    ds = smooth_data()
    size = ds.w.nbytes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ds.chunk({"sample": 4}).to_zarr(place / "zarr", zarr_format=3, consolidated=False)
        ds.to_netcdf(place / "nc", engine="h5netcdf", encoding={"w": {"zlib": True, "chunksizes": (1, STATES, 64, 64)}})
        np.savez(place / "npz.npz", w=ds.w.values, t=ds.time.values)
        rows: dict[str, dict[str, float]] = {}
        for name, path in (("zarr", "zarr"), ("netcdf4 deflate", "nc"), ("npz", "npz.npz")):
            for where, limit in (("memory", None), ("streamed", size // 10)):
                data = read(place / path)
                if name == "npz" and where == "streamed":
                    continue  # NumPy reads a whole array of an .npz at once
                layout = {"periodic": {"x": True, "y": True}} if name == "npz" else {}
                rows[f"{name}, {where}"] = epochs(Pairs(data, ("w",), ("w",), lead=1, memory_limit=limit, **layout))
                data.close()
        step = training(Pairs(ds, ("w",), ("w",), lead=1))
    for row in rows.values():
        row["times_faster_than_training"] = round(row["samples_per_cpu_second"] / step["samples_per_cpu_second"], 1)
    result = {
        "command": "python benchmarks/speed/loader.py",
        "data": f"{TRAJECTORIES} trajectories x {STATES} states x 64 x 64 float32 ({size / 2**20:.0f} MiB), batches of {BATCH}",
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": 1,
            "load": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
        },
        "training_step_of_the_default_operator": step,
        "loader": rows,
    }
    (Path(__file__).parent / "loader.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
