"""Is the search of `fit` worth its time? `fit(budget=..., search=True)` against `fit(budget=...)`, at equal total time.

    python benchmarks/accuracy/search.py --time                               # cost of a step by width, first
    python benchmarks/accuracy/search.py --tasks burgers --seconds 240        # -> benchmarks/accuracy/search.json

Both run as a user would run them, on a clock that other jobs do not change: a step advances it by the milliseconds of
`seeds.json` (AdamW's for each lead and what SOAP adds for each step, quiet machine, one thread) times the ratio of its width to
the default's, measured in turns in CPU seconds; a prediction by a third of AdamW's. So the search pays for every step it takes.
Errors are those of the last tenth of the training samples, which neither the trainings nor the search have seen (`fit` holds out a
tenth of the others); the test samples are never looked at.
Finished rows are kept: a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import xarray as xr
from learning import ALL
from run import Task, _data, _errors, _pairs

from anygrid.grid import Grid
from anygrid.operators import default_operator
from anygrid.training import budget as budget_module
from anygrid.training import fit, loop, pacing, search
from anygrid.training import step as step_module
from anygrid.training.settings import DEFAULTS

HERE = Path(__file__).resolve().parent
WIDTHS = (32, 48, 64)
UNROLLED = (25 + 15 * 3) / 40  # leads of a step that was timed for seeds.json: steps 20 to 60, three leads in the last quarter
TIMED, TURNS = 12, 3  # steps of a turn, the first of which is not counted


def _sized(width: int, inputs: int, outputs: int, grid: Grid) -> torch.nn.Module:
    return default_operator(inputs, outputs, grid, width=width)


def _arguments(task: Task) -> tuple[list[str], list[str], dict[str, Any]]:
    lead = None if task.problem.dt is None else 1
    return [v.name for v in task.problem.inputs], [v.name for v in task.problem.outputs], {"lead": lead, "augment": task.augment}


def ratios(task: Task, train: xr.Dataset) -> dict[int, float]:
    """CPU time of a step of each width over that of the default, the median of some turns."""
    inputs, outputs, arguments = _arguments(task)
    plain, taken = step_module.Stepper.step, list[float]()

    def step(self: step_module.Stepper, *words: Any) -> float:
        begun = time.process_time()
        loss = plain(self, *words)
        taken.append(time.process_time() - begun)
        return loss

    step_module.Stepper.step = step  # type: ignore[method-assign]
    try:
        turns: dict[int, list[float]] = {width: [] for width in WIDTHS}
        for _, width in product(range(TURNS), WIDTHS):
            taken.clear()
            fit(
                train,
                inputs,
                outputs,
                steps=TIMED,
                unroll=None if task.problem.dt is None else 1,
                validation=0.0,
                operator=partial(_sized, width),
                optimizer="soap",
                **arguments,
            )
            turns[width].append(sorted(taken[1:])[len(taken) // 2 - 1])
    finally:
        step_module.Stepper.step = plain  # type: ignore[method-assign]
    median = {width: sorted(each)[TURNS // 2] for width, each in turns.items()}
    return {width: round(median[width] / median[48], 3) for width in WIDTHS}


@contextmanager
def machine(milliseconds: tuple[float, float], ratio: dict[int, float]) -> Iterator[SimpleNamespace]:
    """Within it the clock of `fit` moves by steps (milliseconds of a lead, and of SOAP's rotations) and predictions alone."""
    now, plain, looked, judged = SimpleNamespace(seconds=0.0), step_module.Stepper.step, loop.Trainer.validate, search.held_out_error

    def cost(trainer: loop.Trainer | step_module.Stepper, leads: int = 1, rotations: int = 0) -> float:
        width = int(trainer.model.operator.arguments["width"])  # type: ignore[index,union-attr]
        return (milliseconds[0] * leads + milliseconds[1] * rotations) / 1e3 * ratio[width]

    def step(self: step_module.Stepper, batch: Any, segment: Any, rate: float, number: int) -> float:
        now.seconds += cost(self, segment.unroll, 1)
        return plain(self, batch, segment, rate, number)

    def predicted(trainer: loop.Trainer, rows: int) -> None:
        now.seconds += cost(trainer) / 3 * rows / max(trainer.settings.batch)

    def validate(self: loop.Trainer, rows: int) -> float:
        predicted(self, rows)
        return looked(self, rows)

    def error(trainer: loop.Trainer) -> float:
        predicted(trainer, search.EVALUATIONS)
        return judged(trainer)

    clock = SimpleNamespace(perf_counter=lambda: now.seconds)
    kept = budget_module.time, pacing.time
    step_module.Stepper.step, loop.Trainer.validate, search.held_out_error = step, validate, error  # type: ignore[method-assign,assignment]
    budget_module.time = pacing.time = clock  # type: ignore[assignment]
    try:
        yield now
    finally:
        step_module.Stepper.step, loop.Trainer.validate, search.held_out_error = plain, looked, judged  # type: ignore[method-assign]
        budget_module.time, pacing.time = kept  # type: ignore[assignment]


def _row(
    task: Task, parts: tuple[xr.Dataset, xr.Dataset], seconds: float, seed: int, *, searched: bool, found: dict[str, Any]
) -> dict[str, Any]:
    inputs, outputs, arguments = _arguments(task)
    ratio = {int(width): value for width, value in found["ratio"].items()}
    with machine((found["milliseconds"], found["rotations"]), ratio) as now:
        surrogate = fit(parts[0], inputs, outputs, budget=seconds, seed=seed, search=searched, **arguments)
    errors = _errors(surrogate, *_pairs(parts[1].isel(sample=slice(0, 50)), task))
    row = {k: round(float(errors[k]), 5) for k in ("relative_l2", "one_step") if k in errors}  # type: ignore[arg-type]
    row |= {"steps": surrogate.record["steps"], "seconds": round(now.seconds, 1)}
    if searched:
        table = surrogate.record["search"]
        row |= {"chosen": table["chosen"]["label"], "search_seconds": round(table["seconds"], 1)}
        row["tried"] = [[r["rung"], r["candidate"]["label"], r["steps"], r["error"] and round(r["error"], 5)] for r in table["rows"]]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true", help="measure the steps only")
    parser.add_argument("--tasks", nargs="*", choices=ALL, default=["darcy", "burgers", "helmholtz", "navier_stokes"])
    parser.add_argument("--seconds", nargs="*", type=float, default=[240.0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    path, quiet = HERE / "search.json", json.loads((HERE / "seeds.json").read_text())["tasks"]
    result: dict[str, Any] = {"command": "python benchmarks/accuracy/search.py", "threads": 1, "torch": torch.__version__, "tasks": {}}
    if path.exists():
        result = json.loads(path.read_text())
    for name in options.tasks:
        task, train = ALL[name], _data(name, ALL[name], "train", 2)
        split = train.sizes["sample"] * 9 // 10
        parts = train.isel(sample=slice(0, split)), train.isel(sample=slice(split, None))
        found = result["tasks"].setdefault(name, {})
        if "ratio" not in found:
            rows = quiet[name.removesuffix("_169")]["rows"]
            milliseconds = rows["AdamW (reference)"]["milliseconds"]
            rotations = round(rows["SOAP, cheaper, and gradient 0.1"]["milliseconds"] - milliseconds, 2)
            if train.sizes.get("time", 1) > DEFAULTS.unroll:
                milliseconds /= UNROLLED
            ratio = {str(k): v for k, v in ratios(task, parts[0]).items()}
            found |= {"milliseconds": milliseconds, "rotations": rotations, "ratio": ratio, "rows": {}}
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(name, found, file=sys.stderr, flush=True)
        for seconds, seed, searched in product(() if options.time else options.seconds, options.seeds, (False, True)):
            label = f"{seconds:g} s, {'search' if searched else 'defaults'}, seed {seed}"
            if label in found["rows"]:
                continue
            found["rows"][label] = _row(task, parts, seconds, seed, searched=searched, found=found)
            print(name, label, found["rows"][label], file=sys.stderr, flush=True)
            path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
