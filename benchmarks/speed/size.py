"""Time and memory of one prediction against the size of its grid: in memory, streamed from Zarr to Zarr, and beside neuraloperator's FNO.

    python benchmarks/speed/size.py            # -> benchmarks/results/size.json and docs/figures/size.png, ten minutes
    python benchmarks/speed/size.py --smoke    # three small grids, nothing is kept

Each measurement is a fresh process with one thread and untrained weights, on which neither time nor memory depends. ``seconds`` is the
median of ``repeats`` calls; ``megabytes`` is how much the resident memory grew over all of them, from what the process held with its
weights and its input. "In memory" is the operator alone on a tensor; "streamed" opens a Zarr store, predicts and writes one, with
``memory="500MB"``, and reads its input from there. The LatentFNO is the default operator on 256 x 256 latent points of a square; FNO and
neuraloperator's FNO are the same textbook network (24 x 24 modes, width 32, 4 layers) on a torus. A slope is that of a straight
line through the logarithms of the four largest sizes of a row: 1 is proportional to the number of points.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DASK_NUM_WORKERS", "1")

import numpy as np
import torch
from harness import RESULTS, machine, prepare
from models import peer_model
from torch import nn

from anygrid.grid import Bounded, Box, Periodic
from anygrid.operators import FNO, default_operator

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "figures" / "size.png"
SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MODES = (24, 24)
MEMORY = "500MB"
# Largest grid of each line; in memory as far as a quarter more than the last times four is free.
LINES = {
    ("LatentFNO", "in memory"): 4096,
    ("LatentFNO", "streamed"): 16384,
    ("FNO", "in memory"): 4096,
    ("FNO", "streamed"): 8192,
    ("neuraloperator FNO", "in memory"): 4096,
}
FITTED = 4  # sizes


def grid(name: str, n: int) -> Box:
    interval = Bounded(0, 1) if name == "LatentFNO" else Periodic(0, 1)
    return Box.uniform({"x": interval, "y": interval}, n)


def operator(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "LatentFNO":
        return default_operator(1, 1, grid(name, 256))
    peer = peer_model(MODES)
    return peer if name.startswith("neuraloperator") else FNO.from_neuraloperator(peer.state_dict(), [True, True])


def write_input(path: Path, name: str, n: int) -> None:
    import dask.array
    import xarray as xr

    from anygrid.fields import grid_coordinates

    x = dask.array.linspace(0, 1, n, chunks=512, dtype="float32")
    a = dask.array.sin(7 * x)[:, None] * dask.array.cos(11 * x)[None, :]
    xr.Dataset({"a": (("x", "y"), a.astype(np.float32))}, grid_coordinates(grid(name, n))).to_zarr(path, zarr_format=2)


def surrogate(name: str) -> Any:
    from anygrid.fields import Variable
    from anygrid.statistics import Moments, Statistics
    from anygrid.surrogate import Surrogate

    moments = Moments(1, (0.0,), (1.0,), (-4.0,), (4.0,))
    return Surrogate(operator(name), (Variable("a"),), (Variable("u"),), Statistics(moments, moments), grid(name, 256))


def work(name: str, mode: str, n: int, source: str) -> Any:
    """What is measured, prepared."""
    if mode == "in memory":
        made, on, a = operator(name), grid(name, n), torch.randn(1, 1, n, n)
        return (lambda: made(a)) if name.startswith("neuraloperator") else (lambda: made(a, on))
    import xarray as xr

    from anygrid.evaluate.large import stream

    model, target = surrogate(name), Path(source).with_name("out.zarr")

    def run() -> None:
        shutil.rmtree(target, ignore_errors=True)
        stream(model, xr.open_zarr(source), target, memory=MEMORY)

    return run


def child(answer: Any, name: str, mode: str, n: int, source: str) -> None:
    prepare(1)
    run = work(name, mode, n, source)
    repeats = 5 if n <= 512 else 3 if n <= 2048 else 1
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was that of the imports (Linux, proc(5))
    before, seconds = peak(), []
    with torch.inference_mode():
        for _ in range(repeats):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
    answer.send({"seconds": float(f"{np.median(seconds):.3g}"), "megabytes": round(peak() - before, 1), "repeats": repeats})


def peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def free() -> float:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 1024


def measure(name: str, mode: str, sizes: list[int]) -> dict[str, Any]:
    """One line: a row for each size, and its slopes."""
    rows: list[dict[str, Any]] = []
    for n in sizes:
        if mode == "in memory" and rows and 1.25 * 4 * rows[-1]["megabytes"] > free():
            break
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            source = Path(folder) / "in.zarr"
            if mode == "streamed":
                write_input(source, name, n)
            context = multiprocessing.get_context("spawn")
            end, other = context.Pipe(duplex=False)
            process = context.Process(target=child, args=(other, name, mode, n, str(source)))
            process.start()
            other.close()
            try:
                rows.append({"points": [n, n], "field_megabytes": round(4 * n * n / 2**20, 3)} | end.recv())
            except EOFError:
                break  # killed for memory: the line ends here
            finally:
                process.join()
        print(name, mode, rows[-1], flush=True)
    last = rows[-FITTED:]
    points = np.log([row["points"][0] * row["points"][1] for row in last])
    slopes = {
        f"{what}_slope": round(float(np.polyfit(points, np.log([max(row[key], 1e-3) for row in last]), 1)[0]), 2) + 0.0  # not -0.0
        for what, key in (("time", "seconds"), ("memory", "megabytes"))
        if len(last) > 1
    }
    return slopes | {"rows": rows}


def figure(result: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 4), layout="constrained")
    panels = (("seconds", "time", "seconds a prediction"), ("megabytes", "memory", "memory it takes, MB"))
    colours = {"LatentFNO": "#d9480f", "FNO": "#1c7ed6", "neuraloperator FNO": "0.45"}
    for axes, (key, what, title) in zip(drawn.subplots(1, 2), panels, strict=True):
        for label, line in result["lines"].items():
            name, mode = label.split(", ")
            x = [row["points"][0] ** 2 for row in line["rows"]]
            y = [max(row[key], 0.1 if key == "megabytes" else 1e-4) for row in line["rows"]]
            style = "-" if mode == "in memory" else "--"
            axes.loglog(x, y, style, color=colours[name], marker="o", ms=3, lw=1.4, label=label)
            axes.annotate(f" {line[f'{what}_slope']:.2f}", (x[-1], y[-1]), color=colours[name], fontsize=8, va="center")
        ticks = [n**2 for n in (32, 128, 512, 2048, 8192)]
        axes.set(title=title, xlabel="points", xticks=ticks, xticklabels=[f"{int(t**0.5)}²" for t in ticks])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
    axes.legend(frameon=False, fontsize=8)
    drawn.supxlabel("one thread; the number at the end of a line is its slope over the four largest sizes, 1 = proportional", fontsize=8)
    drawn.savefig(FIGURE, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    result: dict[str, Any] = {
        "command": "python benchmarks/speed/size.py",
        "machine": machine(1, prepare(1), "cpu", ["neuraloperator"]),
        "date": time.strftime("%Y-%m-%d"),
        "memory": MEMORY,
        "fitted_sizes": FITTED,
        "lines": {},
    }
    for (name, mode), largest in LINES.items():
        sizes = [32, 64, 128] if smoke else [n for n in (*SIZES, 8192, 16384) if n <= largest]
        result["lines"][f"{name}, {mode}"] = measure(name, mode, sizes)
    if smoke:
        print({label: {k: v for k, v in line.items() if k != "rows"} for label, line in result["lines"].items()})
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "size.json").write_text(json.dumps(result, indent=1) + "\n")
    figure(result)


if __name__ == "__main__":
    main()
