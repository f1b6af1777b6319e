"""Published recipes, trained on a stated budget and tested at resolutions never trained on.

    python benchmarks/accuracy/run.py darcy --minutes 15            # -> benchmarks/accuracy/darcy-15.json

Data go to ``data/`` (made once, resumable), the run to ``runs/``. Training samples have seed 0, a tenth of them is validation;
test samples have seed 1 and are looked at once, after training. One thread, and the budget counts its processor time, so that other jobs
on the machine change little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import xarray as xr

from anygrid.fields import find_grid, find_layout, to_tensor, variables_of
from anygrid.grid import Grid
from anygrid.io.store import generate
from anygrid.metrics.errors import estimate, relative_h1, relative_l2
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.surrogate import Surrogate
from anygrid.training import Flip, Shift, Symmetry, Transpose, fit, pacing
from anygrid.training import budget as budget_module

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Task:
    """One published recipe.

    ``train`` and ``test`` are (samples, resolution solved, resolution kept); ``strides`` take the test data to the resolutions
    that are reported, the one of training marked by ``at``.
    """

    problem: Problem
    train: tuple[int, int, int]
    test: tuple[int, int, int]
    strides: tuple[int, ...]
    at: int
    augment: tuple[Symmetry, ...]
    protocol: str


TASKS = {
    "darcy": Task(
        Darcy(),
        (1000, 421, 85),
        (200, 421, 421),
        (1, 2, 5, 10),
        5,
        (Flip("x"), Flip("y"), Transpose("x", "y")),
        "1000/200, a and u on 421x421 vertices, training on every fifth; trained with the square's eight symmetries",
    ),
    "burgers": Task(
        Burgers(),
        (1000, 8192, 1024),
        (200, 8192, 8192),
        (1, 2, 4, 8, 16),
        8,
        (Shift("x"),),
        "1000/200, u(0) to u(1) on 8192 points, training on every eighth; trained with random shifts",
    ),
    "navier_stokes": Task(
        NavierStokes(viscosity=1e-3),
        (1000, 64, 64),
        (50, 128, 128),
        (1, 2, 4),
        2,
        (),
        "1000/50 trajectories of 50 unit steps, one frame in, one frame out (Markov), rolled out from w(0) alone",
    ),
}


def _data(name: str, task: Task, part: str, workers: int) -> xr.Dataset:
    n, solve, keep = task.train if part == "train" else task.test
    path = ROOT / "data" / f"{name}_{part}.zarr"
    path.parent.mkdir(exist_ok=True)
    begin = time.perf_counter()

    def progress(done: int, total: int, _: float) -> None:
        print(f"\r{path.name}: {done}/{total}", end="", file=sys.stderr)

    store = keep if keep != solve else None
    seed = 0 if part == "train" else 1
    checks = 4 if part == "train" else 1
    generate(task.problem, n, solve, path, seed=seed, store_resolution=store, workers=workers, label_check=checks, progress=progress)
    if time.perf_counter() - begin > 5:
        (path.parent / f"{name}_{part}.seconds").write_text(f"{(time.perf_counter() - begin) * workers:.1f}")
    return xr.open_zarr(path)


def _pairs(ds: xr.Dataset, task: Task) -> tuple[torch.Tensor, torch.Tensor, Grid]:
    """Input, outputs ``(sample, step, channel, *space)`` and the grid."""
    names = [v.name for v in (*task.problem.inputs, *task.problem.outputs)]
    layout = find_layout(ds, names)
    grid, _ = find_grid(ds, names, layout)
    first, last = [v.name for v in task.problem.inputs], [v.name for v in task.problem.outputs]
    if task.problem.dt is None:
        a, u = (to_tensor(ds, variables_of(ds, which), find_layout(ds, which), grid) for which in (first, last))
        return a, u[:, None], grid
    w = to_tensor(ds, variables_of(ds, last), layout, grid)
    w = w.reshape(ds.sizes["sample"], ds.sizes["time"], *w.shape[1:])
    return w[:, 0], w[:, 1:], grid


@torch.inference_mode()
def _errors(surrogate: Surrogate, a: torch.Tensor, u: torch.Tensor, grid: Grid) -> dict[str, object]:
    """Mean relative errors of the roll-out, at its end and over all of it."""
    l2, h1 = [], []
    for part, truth in zip(a.split(10), u.split(10), strict=True):
        state, steps = part, []
        for k in range(u.shape[1]):
            state = surrogate(state, grid)
            steps.append(relative_l2(state, truth[:, k], grid)[:, 0])
        l2.append(torch.stack(steps, 1))
        h1.append(relative_h1(state, truth[:, -1], grid)[:, 0])
    errors, last = torch.cat(l2), estimate(torch.cat(l2)[:, -1])
    out: dict[str, object] = {
        "relative_l2": last.mean,
        "interval_95": [last.low, last.high],
        "relative_h1": float(torch.cat(h1).mean()),
    }
    if u.shape[1] > 1:
        curve = errors.mean(0)
        out |= {"one_step": float(curve[0]), "mean_over_steps": float(curve.mean()), "by_step": [round(float(e), 6) for e in curve]}
    return out


def _baselines(a: torch.Tensor, u: torch.Tensor, train: torch.Tensor, grid: Grid) -> dict[str, float]:
    """Errors at the last step of the mean of the training outputs, and of doing nothing."""
    last = u[:, -1]
    out = {"mean": float(relative_l2(train[:, -1].mean(0, keepdim=True).expand_as(last), last, grid).mean())}
    if a.shape[1] == u.shape[2] and u.shape[1] > 1:
        out["persistence"] = float(relative_l2(a, last, grid).mean())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--minutes", type=float, default=15, help="CPU-minutes of training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that generate data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-symmetry", action="store_true", help="train without the problem's symmetries")
    parser.add_argument("--learning-rate", type=float, help="instead of the default of fit")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = TASKS[options.task]
    train, test = (_data(options.task, task, part, options.workers) for part in ("train", "test"))

    label = (
        f"{options.task}-{options.minutes:g}"
        + (f"-seed{options.seed}" if options.seed else "")
        + ("-plain" if options.no_symmetry else "")
        + (f"-lr{options.learning_rate:g}" if options.learning_rate else "")
    )
    budget_module.time = pacing.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    surrogate = fit(
        train,
        [v.name for v in task.problem.inputs],
        [v.name for v in task.problem.outputs],
        lead=None if task.problem.dt is None else 1,
        budget=options.minutes * 60 / options.threads,
        seed=options.seed,
        learning_rate=options.learning_rate,
        augment=() if options.no_symmetry else task.augment,
        run=ROOT / "runs" / label,
        listener=lambda p: print(
            f"\r{p.message or f'{p.step}/{p.steps} loss {p.loss} validation {p.validation}'}", end="", file=sys.stderr
        ),
    )

    results = {}
    a, u, grid = _pairs(test, task)
    for stride in task.strides:
        every = (..., *[slice(None, None, stride)] * grid.ndim)
        on = grid.at(tuple(u[every].shape[-grid.ndim :]))
        results["x".join(map(str, on.shape))] = _errors(surrogate, a[every], u[every], on)
        if stride == task.at:
            baselines = _baselines(a[every], u[every], _pairs(train, task)[1], on)
    generation = ROOT / "data" / f"{options.task}_train.seconds"
    row = {
        "task": options.task,
        "protocol": task.protocol,
        "command": f"python benchmarks/accuracy/run.py {options.task} --minutes {options.minutes:g}"
        + (f" --seed {options.seed}" if options.seed else "")
        + (" --no-symmetry" if options.no_symmetry else "")
        + (f" --learning-rate {options.learning_rate:g}" if options.learning_rate else ""),
        "learning_rate": surrogate.record["settings"]["learning_rate"],
        "trained_at": task.train[2],
        "results": results,
        "baselines_at_training_resolution": baselines,
        "training_seconds": surrogate.record["seconds"],
        "steps": surrogate.record["steps"],
        "samples_seen": surrogate.record["samples"],
        "parameters": surrogate.record["parameters"],
        "validation_error": surrogate.record["validation_error"],
        "operator": {"name": type(surrogate.operator).__name__, **surrogate.operator.arguments},
        "label_error": {"train": train.attrs.get("label_error"), "test": test.attrs.get("label_error")},
        "generation_core_seconds": float(generation.read_text()) if generation.exists() else None,
        "threads": options.threads,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=True
        ).stdout.strip(),
    }
    (HERE / f"{label}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps({k: np.round(v["relative_l2"], 5) for k, v in results.items()}))


if __name__ == "__main__":
    main()
