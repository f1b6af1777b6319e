"""Why the default operator and the defaults of `fit` are what they are: short trainings at equal time on Darcy 85^2.

    python benchmarks/accuracy/ablation.py          # -> benchmarks/accuracy/ablation.json

Every row changes one thing of the first row and trains as long, one thread. The error is that of the held-out tenth of the
training samples; the test samples are never looked at.
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
from run import TASKS, _data

from anygrid.grid import Box
from anygrid.operators import FNO, LatentFNO, UNet
from anygrid.training import fit

HERE = Path(__file__).resolve().parent


def _latent(inputs: int, outputs: int, grid: Box, **changed: Any) -> LatentFNO:
    arguments: dict[str, Any] = {"shape": grid.shape, "modes": [17, 17], "stride": 3, "width": 48, "depth": 4, **changed}
    return LatentFNO(inputs, outputs, [False, False], **arguments)


def _fno(inputs: int, outputs: int, grid: Box) -> FNO:
    return FNO(inputs, outputs, [False, False], [25, 25])


def _unet(inputs: int, outputs: int, grid: Box) -> UNet:
    return UNet(inputs, outputs, [False, False], width=24)


SYMMETRIES = TASKS["darcy"].augment
ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "batch 16": {"batch": 16},
    "stride 2": {"operator": partial(_latent, stride=2)},
    "width 32": {"operator": partial(_latent, width=32)},
    "cosine basis": {"operator": partial(_latent, families=["cosine", "cosine"])},
    "learning rate 4e-3": {"learning_rate": 4e-3},
    "no symmetries": {"augment": ()},
    "textbook FNO": {"operator": _fno},
    "U-Net": {"operator": _unet},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=80, help="training time of each row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = _data("darcy", TASKS["darcy"], "train", 2)
    rows = {}
    for name, changed in ROWS.items():
        cpu = time.process_time()
        arguments: dict[str, Any] = {"operator": _latent, "augment": SYMMETRIES, "batch": 4, "budget": options.seconds, **changed}
        surrogate = fit(train, "permeability", "pressure", **arguments)
        rows[name] = {
            "validation_error": round(surrogate.record["validation_error"], 5),
            "steps": surrogate.record["steps"],
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "parameters": surrogate.record["parameters"],
        }
        print(name, rows[name], file=sys.stderr, flush=True)
    command = "python benchmarks/accuracy/ablation.py" + (f" --seconds {options.seconds:g}" if options.seconds != 80 else "")
    result = {"command": command, "task": "darcy 85x85, 900 samples", "seconds": options.seconds, "threads": 1, "rows": rows}
    (HERE / "ablation.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
