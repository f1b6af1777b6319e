"""Why the default operator and the defaults of `fit` are what they are: short trainings at equal time on three problems.

    python benchmarks/accuracy/ablation.py          # -> benchmarks/accuracy/ablation.json, 40 minutes

Every row changes one thing of its problem's reference and trains as long, one thread; the reference is what `fit` did before these
measurements (docs/design-decisions.md says what was adopted). The errors are those of the last tenth of the
training samples, which no row trains on; the test samples are never looked at. Finished rows are kept: a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import xarray as xr
from run import TASKS, Task, _data, _errors, _pairs
from torch import nn

from anygrid.grid import Grid
from anygrid.operators import FNO, LatentFNO, UNet, default_operator
from anygrid.training import fit

HERE = Path(__file__).resolve().parent


def _latent(inputs: int, outputs: int, grid: Grid, changed: dict[str, Any], modes: int = 17) -> nn.Module:
    """The default operator with some of its arguments changed."""
    default: dict[str, Any] = default_operator(inputs, outputs, grid, modes=modes).arguments  # type: ignore[assignment]
    return LatentFNO(**{**default, **changed})


def _fno(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    periodic = [interval.periodic for interval in grid.domain]
    return FNO(inputs, outputs, periodic, [25 if grid.ndim > 1 else 33] * grid.ndim)


def _unet(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    return UNet(inputs, outputs, [interval.periodic for interval in grid.domain], width=24)


def _with(changed: dict[str, Any], modes: int = 17) -> dict[str, Any]:
    return {"operator": partial(_latent, changed=changed, modes=modes)}


COMMON: dict[str, dict[str, Any]] = {
    "reference": {},
    "width 32": _with({"width": 32}),
    "width 64": _with({"width": 64}),
    "modes 25": _with({}, modes=25),
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "learning rate 4e-3": {"learning_rate": 4e-3},
    "learning rate 8e-3": {"learning_rate": 8e-3},
    "textbook FNO": {"operator": _fno},
}
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "darcy": COMMON
    | {
        "batch 2, learning rate 4e-3": {"batch": 2, "learning_rate": 4e-3},
        "batch 16": {"batch": 16},
        "stride 2": _with({"stride": 2}),
        "cosine basis": _with({"families": ["cosine", "cosine"], "padding": [0.0, 0.0]}),
        "no symmetries": {"augment": ()},
        "U-Net": {"operator": _unet},
    },
    "navier_stokes": COMMON
    | {
        "batch 4": {"batch": 4},
        "batch 4, learning rate 4e-3": {"batch": 4, "learning_rate": 4e-3},
        "batch 16": {"batch": 16},
        "states": {"increment": False},
        "states, learning rate 4e-3": {"increment": False, "learning_rate": 4e-3},
        "no unrolling": {"unroll": 1},
        "stride 4": _with({"stride": 4}),
    },
    "burgers": COMMON
    | {
        "batch 8": {"batch": 8},
        "batch 8, learning rate 4e-3": {"batch": 8, "learning_rate": 4e-3},
        "stride 2": _with({"stride": 2}),
        "stride 8": _with({"stride": 8}),
    },
}
BATCH = {"Darcy": 4, "NavierStokes": 8, "Burgers": 32}  # of the reference
SECONDS = {"darcy": 60.0, "navier_stokes": 90.0, "burgers": 40.0}


def _row(task: Task, train: xr.Dataset, held_out: xr.Dataset, seconds: float, changed: dict[str, Any]) -> dict[str, Any]:
    cpu = time.process_time()
    inputs, outputs = [v.name for v in task.problem.inputs], [v.name for v in task.problem.outputs]
    lead = None if task.problem.dt is None else 1
    arguments = {"augment": task.augment, "learning_rate": 2e-3, "batch": BATCH[type(task.problem).__name__]} | changed
    surrogate = fit(train, inputs, outputs, lead=lead, budget=seconds, validation=held_out, **arguments)
    used = time.process_time() - cpu
    errors = _errors(surrogate, *_pairs(held_out.isel(sample=slice(0, 50)), task))
    kept = {k: round(float(errors[k]), 5) for k in ("relative_l2", "one_step", "mean_over_steps") if k in errors}  # type: ignore[arg-type]
    record = surrogate.record
    return {**kept, "steps": record["steps"], "cpu_seconds": round(used, 1), "parameters": record["parameters"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the training times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "ablation.json"
    command = "python benchmarks/accuracy/ablation.py" + (f" --scale {options.scale:g}" if options.scale != 1 else "")
    result: dict[str, Any] = {"command": command, "threads": 1, "torch": torch.__version__, "tasks": {}}
    if path.exists() and (kept := json.loads(path.read_text()))["command"] == command:
        result = kept
    for name, rows in ROWS.items():
        train, seconds = _data(name, TASKS[name], "train", 2), options.scale * SECONDS[name]
        split = train.sizes["sample"] * 9 // 10
        done = result["tasks"].setdefault(name, {"seconds": seconds, "rows": {}})["rows"]
        for row, changed in rows.items():
            if row in done:
                continue
            done[row] = _row(TASKS[name], train.isel(sample=slice(0, split)), train.isel(sample=slice(split, None)), seconds, changed)
            print(name, row, done[row], file=sys.stderr, flush=True)
            path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
