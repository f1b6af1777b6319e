"""Chaos and long times: operators for Kuramoto-Sivashinsky and Kolmogorov flow, rolled out for 10^5 steps.

    python benchmarks/accuracy/chaos.py [TASK ...]        # -> benchmarks/accuracy/chaos.json

Each task makes trajectories with the problem's solver (spin-up discarded, every part from a seed of its own), trains one operator
for each weight of the gradient in the loss, and chooses among them by the valid prediction time on the validation trajectories.
The chosen one is made dissipative outside the ball of the training data and in waves that these data do not have, and rolled
out from test states and from ten times those; its invariant statistics are compared with those of the solver over as many steps,
beside the distance between halves of the solver's own run. Every stage keeps its result in ``data/chaos``; a second call goes on
where the first one ended.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from chaos_runs import TASKS, TEST, Task, folder_of, long_trajectory, reference, say, starts, trained, trajectories
from torch import Tensor

from anygrid.maps import Map
from anygrid.metrics.errors import estimate, relative_l2
from anygrid.metrics.invariants import against_noise, compare, in_blocks, invariants, measures_of
from anygrid.metrics.predictability import perturbed_run, valid_prediction_time
from anygrid.surrogate import Imposed, Surrogate, confined

HERE = Path(__file__).resolve().parent
EXPONENT_TIME = {"KuramotoSivashinsky": 2000, "EquationProblem": 400}  # steps of the two-trajectory method
LONG = "long-confined"


def _once(path: Path, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``find`` found, now or in an earlier call."""
    if not path.exists():
        say(f"{path.parent.name}/{path.stem}")
        found = json.dumps(find(), indent=1)
        path.with_suffix(".part").write_text(found)
        path.with_suffix(".part").replace(path)
    return json.loads(path.read_text())


def _skill(map_: Map, truth: Tensor, task: Task) -> tuple[float, Tensor]:
    """Relative error after one step, and the time for which the forecast of each trajectory holds."""
    grid, states = task.problem.grid(task.kept), [truth[:, 0]]
    with torch.no_grad():
        for _ in range(truth.shape[1] - 1):
            states.append(map_(states[-1], grid))
    one = float(relative_l2(states[1], truth[:, 1], grid).mean())
    return one, valid_prediction_time(torch.stack(states[1:], 1), truth[:, 1:], grid, dt=task.problem.dt or 1.0)


def _summary(map_: Map, task: Task, folder: Path) -> dict[str, float]:
    one, valid = _skill(map_, trajectories(task, "test", folder), task)
    return {"one_step": round(one, 6), "valid_time": round(float(valid.mean()), 3)}


def _shown(values: Tensor) -> dict[str, float]:
    e = estimate(values)
    return {"mean": round(e.mean, 5), "low": round(e.low, 5), "high": round(e.high, 5)}


def solver_exponent(task: Task, folder: Path) -> dict[str, Any]:
    """Leading Lyapunov exponent of the solver on its own grid, float64: a row for each start."""
    steps = EXPONENT_TIME[task.problem.__class__.__name__]
    dt, start = task.problem.dt or 1.0, starts(task, task.held_out[0], TEST, folder)
    found = perturbed_run(
        task.problem.solve, start, task.problem.grid(task.solved), dt=dt, steps=steps, discard=steps // 10, keep=steps, generator=_seeded()
    )
    return {"rows": found.rates.unflatten(1, (4, -1)).mean(2).flatten().tolist(), "steps": steps, "starts": len(start)}


def surrogate_exponent(task: Task, folder: Path, map_: Map) -> list[float]:
    """The same of an operator, float32."""
    steps = EXPONENT_TIME[task.problem.__class__.__name__]
    grid, start = task.problem.grid(task.kept), trajectories(task, "test", folder)[:, 0]
    with torch.no_grad():
        found = perturbed_run(
            map_, start, grid, dt=task.problem.dt or 1.0, steps=steps, discard=steps // 10, keep=steps, generator=_seeded()
        )
    return found.rates.unflatten(1, (4, -1)).mean(2).flatten().tolist()


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def candidate(task: Task, folder: Path, gradient: float, seed: int, lyapunov: float) -> dict[str, Any]:
    """Training cost and errors of one operator on validation and test trajectories."""
    surrogate = trained(task, folder, gradient, seed)
    run = folder_of(folder, gradient, seed)
    found: dict[str, Any] = {"gradient": gradient, "seed": seed, "training_cpu_seconds": float((run / "cpu_seconds").read_text())}
    for part in ("validation", "test"):
        one, valid = _skill(surrogate, trajectories(task, part, folder), task)
        found[part] = {"one_step": round(one, 6), "valid_lyapunov_times": _shown(valid * lyapunov)}
    return found


def dissipative(task: Task, folder: Path, gradient: float, seed: int) -> Surrogate:
    """The operator kept to its training states: conserved means, contraction outside their ball, no waves that they do not have."""
    surrogate, grid = trained(task, folder, gradient, seed), task.problem.grid(task.kept)
    states = ((part, grid) for part in trajectories(task, "train", folder).flatten(0, 1).split(512))
    moments = surrogate.statistics.inputs
    surrogate.imposed = confined(
        Imposed(conserved=task.problem.conserved), states, [v.name for v in surrogate.outputs], moments, task.margin
    )
    return surrogate


def long_run(task: Task, folder: Path, gradient: float, seed: int) -> dict[str, Any]:
    """Does it stay? From test states and from ten times those, with and without the ball."""
    grid, run = task.problem.grid(task.kept), folder_of(folder, gradient, seed)
    surrogate, plain = dissipative(task, folder, gradient, seed), trained(task, folder, gradient, seed)
    start = trajectories(task, "test", folder)[: task.starts, -1]
    start = torch.cat([start, 10 * start])
    states, largest = long_trajectory(surrogate, start, grid, task, task.long_steps, run / LONG)
    usual = float(trajectories(task, "train", folder).abs().max())
    bare, steps = start, 0
    with torch.no_grad():
        while steps < 1000 and bool(torch.isfinite(bare).all()) and float(bare.abs().max()) < 1e6:
            bare, steps = plain(bare, grid), steps + 1
    left = (~(largest <= 1.5 * usual)).any(0)
    return {
        "imposed": surrogate.imposed.to_json(),
        "test": _summary(surrogate, task, folder),
        "steps": largest.shape[1],
        "starts": f"{task.starts} test states and 10 times those",
        "finite": bool(np.isfinite(largest).all() and torch.isfinite(states).all()),
        "largest_training_value": round(usual, 3),
        "largest_after_step": {str(k): round(float(largest[:, k - 1].max()), 3) for k in (1, 10, 100, 1000, largest.shape[1])},
        "largest_after_1000": round(float(largest[:, 1000:].max()), 3),
        "last_step_beyond_1.5_of_training": int(np.nonzero(left)[0].max()) + 1 if left.any() else 0,
        "without_ball": {"steps": steps, "largest": float(bare.abs().max()) if torch.isfinite(bare).all() else None},
    }


def statistics(task: Task, folder: Path, gradient: float, seed: int, exponents: list[float]) -> dict[str, Any]:
    """Distances of the invariant statistics of the long run from those of the solver, beside the solver's own noise."""
    truth = reference(task, folder)
    map_ = dissipative(task, folder, gradient, seed)
    grid = task.problem.grid(task.kept)
    states = long_trajectory(map_, truth[:0, 0], grid, task, 0, folder_of(folder, gradient, seed) / LONG)[0]
    states = states[:, 1000 // task.every :]
    own, base = surrogate_exponent(task, folder, map_), torch.tensor(exponents)
    m = measures_of(truth, grid, lags=task.lags)
    found: dict[str, Any] = {"exponent": _shown(torch.tensor(own))}
    part = min(states.shape[1], truth.shape[1]) // task.blocks
    one, two = (invariants(in_blocks(u[:, : u.shape[1] // part * part], u.shape[1] // part), m) for u in (states, truth))
    for name, count in {"all": min(len(one["values"]), len(two["values"])), "100k steps": round(100_000 / task.every / part)}.items():
        if count < 4 or count > min(len(one["values"]), len(two["values"])):
            continue
        pick = [torch.linspace(0, len(rows["values"]) - 1, count).long() for rows in (one, two)]
        compared = compare({k: v[pick[0]] for k, v in one.items()}, {k: v[pick[1]] for k, v in two.items()}, m)
        compared["Lyapunov exponent"] = against_noise(torch.tensor(own), base, lambda p, q: float((p - q).abs() / base.mean()))
        found[name] = {
            "steps of each": count * part * task.every,
            "distances": {
                k: {"distance": round(v.distance, 5), "noise": round(v.noise, 5), "limit": round(v.limit, 5), "within": v.within}
                for k, v in compared.items()
            },
        }
    found["curves"] = {"dt": task.every * (task.problem.dt or 1.0), "edges": m.values.tolist(), "slope_edges": m.slopes.tolist()}
    for key, rows in (("solver", two), ("operator", one)):
        found["curves"][key] = {k: [float(f"{x:.5g}") for x in v.mean(0)[0]] for k, v in rows.items()}
    return found


def task_result(task: Task, folder: Path) -> dict[str, Any]:
    """Every number of one task; stages that are done are read."""
    solver = _once(folder / "exponent.json", lambda: solver_exponent(task, folder))
    lyapunov = sum(solver["rows"]) / len(solver["rows"])
    dt = task.problem.dt or 1.0
    tried = [
        _once(folder_of(folder, g, task.seeds[0]) / "candidate.json", partial(candidate, task, folder, g, task.seeds[0], lyapunov))
        for g in task.gradients
    ]
    best = max(tried, key=lambda c: c["validation"]["valid_lyapunov_times"]["mean"])["gradient"]
    one, valid = _skill(lambda a, grid: a, trajectories(task, "test", folder), task)
    seeds = []
    for seed in task.seeds:
        run = folder_of(folder, best, seed)
        if seed != task.seeds[0] and not (run / "surrogate.anygrid").exists():
            continue
        found = _once(run / "candidate.json", partial(candidate, task, folder, best, seed, lyapunov))
        stays = _once(run / "long.json", partial(long_run, task, folder, best, seed))
        stats = _once(run / "statistics.json", partial(statistics, task, folder, best, seed, solver["rows"]))
        seeds.append({"seed": seed, "test": found["test"], "long_run": stays, "statistics": stats})
    described = {f.name: getattr(task, f.name) for f in fields(task) if f.name not in ("problem", "augment")}
    return {
        "problem": repr(task.problem),
        "settings": described,
        "lyapunov_exponent": _shown(torch.tensor(solver["rows"])),
        "lyapunov_time": round(1 / lyapunov, 3),
        "steps_in_a_lyapunov_time": round(1 / (lyapunov * dt), 2),
        "persistence": {"one_step": round(one, 5), "valid_lyapunov_times": _shown(valid * lyapunov)},
        "candidates": tried,
        "chosen_gradient": best,
        "chosen_by": "mean valid prediction time on the validation trajectories, first seed",
        "seeds": seeds,
    }


def figure(result: dict[str, Any], path: Path) -> None:
    """Spectrum, densities and autocorrelation of solver and operator, one row a task."""
    from matplotlib.figure import Figure

    tasks = {name: r for name, r in result["tasks"].items() if r["seeds"]}
    drawn = Figure(figsize=(11, 2.7 * len(tasks) + 0.3), layout="constrained")
    panels = drawn.subplots(len(tasks), 4, squeeze=False)
    for row, (name, r) in zip(panels, tasks.items(), strict=True):
        curves = r["seeds"][0]["statistics"]["curves"]
        for key, style in (("solver", {"color": "0.55", "lw": 3.5}), ("operator", {"color": "#d9480f", "lw": 1.3})):
            c = curves[key]
            row[0].loglog(range(1, len(c["spectrum"])), c["spectrum"][1:], label=key, **style)
            for axes, kind, edges in ((row[1], "values", curves["edges"][0]), (row[2], "slopes", curves["slope_edges"][0])):
                e = np.array(edges)
                pairs = np.stack([(e[1:] + e[:-1]) / 2, np.array(c[kind]) / np.diff(e)]).reshape(2, -1, 4).mean(2)
                seen = pairs[1] > 0
                axes.semilogy(pairs[0][seen], pairs[1][seen], **style)
            memory = np.array(c["autocorrelation"])
            row[3].plot(curves["dt"] * np.arange(len(memory)) / r["lyapunov_time"], memory / memory[0], **style)
        row[0].set(ylabel=name.replace("_", "-").title(), xlabel="wave number", title="power spectrum")
        row[1].set(xlabel="value", title="density of values")
        row[2].set(xlabel="slope", title="density of slopes")
        row[3].set(xlabel="lag (Lyapunov times)", title="autocorrelation")
        for axes in row:
            axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(frameon=False)
    drawn.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), choices=[*TASKS], help="default: all")
    parser.add_argument("--folder", type=Path, default=HERE.parent.parent / "data" / "chaos")
    parser.add_argument("--only", choices=["training", "reference"], help="this stage alone, so that several may run at once")
    parser.add_argument("--gradient", type=float, help="train only with this weight of the gradient")
    parser.add_argument("--seed", type=int, help="train only with this seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "chaos.json"
    result: dict[str, Any] = {"command": "python benchmarks/accuracy/chaos.py", "threads": 1, "torch": torch.__version__, "tasks": {}}
    if path.exists():
        result["tasks"] = json.loads(path.read_text())["tasks"]
    for name in options.tasks:
        task, folder = TASKS[name](), options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "validation", "test"):
            trajectories(task, part, folder)
        if options.only != "reference":
            for seed in task.seeds if options.seed is None else [options.seed]:
                for gradient in task.gradients if options.gradient is None else [options.gradient]:
                    if seed == task.seeds[0] or options.only:
                        trained(task, folder, gradient, seed)
        if options.only != "training":
            reference(task, folder)
        if not options.only:
            result["tasks"][name] = task_result(task, folder)
            path.write_text(json.dumps(result, indent=1) + "\n")
            figure(result, Path(__file__).parents[2] / "docs" / "figures" / "chaos.png")


if __name__ == "__main__":
    main()
