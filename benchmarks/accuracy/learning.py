"""How to learn faster: optimisers, losses, curricula and blocks against the defaults of `fit`, at equal time on four problems.

    python benchmarks/accuracy/learning.py --time       # milliseconds of a step of each row, on a quiet machine, first
    python benchmarks/accuracy/learning.py              # -> benchmarks/accuracy/learning.json, half an hour of one core
    python benchmarks/accuracy/learning.py --seeds      # -> benchmarks/accuracy/seeds.json: the four nearest to a default, two seeds
    python benchmarks/accuracy/learning.py --second     # a second seed as well, for the rows and tasks named
    python benchmarks/accuracy/learning.py --rates      # -> benchmarks/accuracy/rates.json: learning rates of SOAP with a gradient term

A row changes one thing of the reference. It trains for as many steps as fit into its problem's seconds by the time of a step measured
before, so that other jobs on the machine change nothing. Rows added later are timed in turns with the reference, in CPU seconds, and
their milliseconds are those of the reference times the ratio. Errors are those of the last tenth of the training samples, which no row
trains on; the test samples are never looked at. Finished rows are kept: a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import blocks
import optimisers
import torch
import xarray as xr
from run import TASKS, Task, _data, _errors, _pairs

from anygrid.problems.helmholtz import Helmholtz
from anygrid.training import Build, Flip, Progress, Transpose, fit, step
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.soap import SOAP

HERE = Path(__file__).resolve().parent
SECONDS = {"darcy": 40.0, "darcy_169": 40.0, "navier_stokes": 60.0, "burgers": 25.0, "helmholtz": 40.0}
ALL = TASKS | {
    "darcy_169": replace(TASKS["darcy"], train=(1000, 169, 85)),  # solved on fewer points: another data set, with a reference of its own
    "helmholtz": Task(
        Helmholtz(), (1000, 85, 85), (200, 85, 85), (1,), 1, (Flip("x"), Flip("y"), Transpose("x", "y")), "source to amplitude"
    ),
}
TIMED, SETTLED = 60, 20  # steps, and those of them that are not counted: SOAP finds its bases there


@dataclass(frozen=True)
class Row:
    """What a row changes: arguments of `fit`, the optimiser made from AdamW's groups, the peak rate and the number of steps, the operator
    made for a number of steps, the strides out of which each batch draws one, and whether the weight of the gradient falls to 0."""

    arguments: dict[str, Any]
    optimiser: Callable[[optimisers.Groups, float, int], torch.optim.Optimizer] | None = None
    operator: Callable[[int], Build] | None = None
    strides: tuple[int, ...] = (1,)
    falls: bool = False


B, REFERENCE = DEFAULTS.betas, "AdamW (reference)"
ROWS = {
    REFERENCE: Row({}),
    "SOAP": Row({}, lambda g, lr, n: optimisers.soap(g, lr, B)),
    "Shampoo": Row({}, lambda g, lr, n: optimisers.soap(g, lr, B, shampoo=True)),
    "Muon": Row({}, lambda g, lr, n: optimisers.muon(g, lr, B)),
    "schedule-free AdamW": Row({}, lambda g, lr, n: optimisers.ScheduleFree(g, lr, (0.9, B[1]), max(1, n // 20))),
    "average of weights": Row({}, lambda g, lr, n: optimisers.Averaged(g, lr, B, 0.99)),
    "gradient in the loss 0.1": Row({"gradient": 0.1}),
    "every second point first": Row({"resolutions": ((0.5, 2),)}),
    "local kernel": Row({"operator": blocks.local}),
    "slice attention": Row({"operator": blocks.sliced}),
    "factorised": Row({"operator": blocks.factorised}),
    "U-shaped": Row({"operator": blocks.u_shaped}),
    "growing modes": Row({}, operator=blocks.growing),
    "each batch on every point or every second": Row({}, strides=(1, 2)),
    "no symmetries": Row({"augment": ()}),
    "gradient 0.03": Row({"gradient": 0.03}),
    "gradient 0.1 falling to 0": Row({"gradient": 0.1}, falls=True),
}
SEEDED = {
    REFERENCE: Row({}),
    "gradient in the loss 0.1": Row({"gradient": 0.1}),
    "SOAP, cheaper": Row({}, lambda g, lr, n: SOAP(g, lr, B)),
    "SOAP, cheaper, and gradient 0.1": Row({"gradient": 0.1}, lambda g, lr, n: SOAP(g, lr, B)),
}
PAIR = SEEDED["SOAP, cheaper, and gradient 0.1"]
RATES = {
    f"SOAP and gradient 0.1, rate {rate:g}": replace(PAIR, arguments={"gradient": 0.1, "learning_rate": rate})
    for rate in (2e-3, 4e-3, 8e-3)
}


def _trained(
    task: Task, train: xr.Dataset, held_out: xr.Dataset | float, row: Row, steps: int, listener: Callable[[Progress], None]
) -> Any:
    """A training with the row's optimiser in the place of AdamW, on the strides that it draws."""
    plain, taken, made = step.make_optimizer, step.Stepper.step, []
    # The row alone decides, whatever fit would take for this length.
    arguments = (
        {"augment": task.augment, "optimizer": "adamw", "gradient": 0.0}
        | row.arguments
        | ({"operator": row.operator(steps)} if row.operator else {})
    )

    def make(operator: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
        assert row.optimiser is not None
        groups = [{k: g[k] for k in ("params", "weight_decay")} for g in plain(operator, settings).param_groups]
        made.append(row.optimiser(groups, settings.learning_rate, steps))
        return made[-1]

    def changed(self: step.Stepper, batch: Any, segment: Any, rate: float, number: int) -> float:
        stride = row.strides[int(torch.randint(len(row.strides), (), generator=torch.Generator().manual_seed(number)))]
        if row.falls:
            self.objective.loss = self.objective.loss.weighted(row.arguments["gradient"] * (1 - number / steps))
        return taken(self, batch, replace(segment, stride=stride), rate, number)

    step.make_optimizer = make if row.optimiser else plain  # type: ignore[assignment]
    step.Stepper.step = changed if row.falls or len(row.strides) > 1 else taken  # type: ignore[method-assign]
    try:
        inputs, outputs = [v.name for v in task.problem.inputs], [v.name for v in task.problem.outputs]
        lead = None if task.problem.dt is None else 1
        surrogate = fit(train, inputs, outputs, lead=lead, steps=steps, validation=held_out, listener=listener, **arguments)
    finally:
        step.make_optimizer, step.Stepper.step = plain, taken  # type: ignore[method-assign]
    if made and hasattr(made[-1], "finish"):
        made[-1].finish()
    return surrogate


def milliseconds(task: Task, train: xr.Dataset, row: Row) -> float:
    """CPU time of a step, as often unrolled as in a training, without validation."""
    said: list[tuple[int, float]] = []
    _trained(task, train, 0.0, row, TIMED, lambda p: said.append((p.step, time.process_time())))
    begun, ended = next(s for s in said if s[0] >= SETTLED), said[-1]
    return 1e3 * (ended[1] - begun[1]) / (ended[0] - begun[0])


def _steps(name: str, task: Task, train: xr.Dataset, rows: dict[str, Row], kept: dict[str, Any]) -> None:
    """Milliseconds of a step of the rows that have none, measured in three turns, with the reference where that was measured before."""
    wanted = [label for label in rows if "milliseconds" not in kept.setdefault(label, {})]
    if not wanted:
        return
    beside = [] if REFERENCE in wanted else [REFERENCE]
    times = [{label: milliseconds(task, train, (ROWS | SEEDED | RATES)[label]) for label in (*beside, *wanted)} for _ in range(3)]
    median = {label: sorted(turn[label] for turn in times)[1] for label in (*beside, *wanted)}
    scale = kept[REFERENCE]["milliseconds"] / median[REFERENCE] if beside else 1.0
    for label in wanted:
        kept[label]["milliseconds"] = round(scale * median[label], 2)
        print(name, label, kept[label], file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true", help="measure the steps only")
    parser.add_argument("--seeds", action="store_true", help="the four nearest to a default, with two seeds")
    parser.add_argument("--second", action="store_true", help="a second seed for the rows and tasks named")
    parser.add_argument("--rates", action="store_true", help="learning rates of SOAP with a gradient term")
    parser.add_argument("--tasks", nargs="*", choices=ALL, default=list(ALL))
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, seeds = (
        (SEEDED, (0, 1)) if options.seeds else ({label: ROWS[label] for label in options.rows}, (0, 1) if options.second else (0,))
    )
    path = HERE / ("seeds.json" if options.seeds else "rates.json" if options.rates else "learning.json")
    command = "python benchmarks/accuracy/learning.py" + (" --seeds" if options.seeds else " --rates" if options.rates else "")
    if options.rates:
        rows, options.tasks = RATES, [name for name in options.tasks if name != "darcy_169"]
    result: dict[str, Any] = {"command": command, "threads": 1, "torch": torch.__version__, "tasks": {}}
    if path.exists():
        result = json.loads(path.read_text())
    for name in options.tasks:
        task = ALL[name]
        train, seconds = _data(name, task, "train", 2), SECONDS[name]
        split = train.sizes["sample"] * 9 // 10
        parts = train.isel(sample=slice(0, split)), train.isel(sample=slice(split, None))
        kept = result["tasks"].setdefault(name, {"seconds": seconds, "rows": {}})["rows"]
        if options.rates:  # every row costs what the pair does
            cost = json.loads((HERE / "seeds.json").read_text())["tasks"][name]["rows"]["SOAP, cheaper, and gradient 0.1"]["milliseconds"]
            kept |= {label: {"milliseconds": cost} | kept.get(label, {}) for label in rows}
        _steps(name, task, parts[0], rows, kept)
        path.write_text(json.dumps(result, indent=1) + "\n")
        for seed, (label, row) in product(() if options.time else seeds, rows.items()):
            found, suffix = kept[label], f"_seed{seed}" if seed else ""
            if f"relative_l2{suffix}" in found:
                continue
            steps = round(1e3 * seconds / found["milliseconds"])
            surrogate = _trained(task, *parts, replace(row, arguments=row.arguments | {"seed": seed}), steps, lambda _: None)
            errors = _errors(surrogate, *_pairs(parts[1].isel(sample=slice(0, 50)), task))
            found |= {f"{k}{suffix}": round(float(errors[k]), 5) for k in ("relative_l2", "one_step") if k in errors}  # type: ignore[arg-type]
            found |= {"steps": steps, "parameters": surrogate.record["parameters"]}
            print(name, label, found, file=sys.stderr, flush=True)
            path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
