"""What a surrogate saves its solver: iterations from its prediction against iterations from nothing, and steps solved at once.

    python benchmarks/speed/refine.py                 # iterations and rounds, which no other job disturbs: refine.json
    python benchmarks/speed/refine.py --timing        # seconds too; on a quiet machine

Surrogates are trained here for ``--budget`` seconds each (default 60), so they are modest ones. Darcy and nonlinear Poisson: iterations of
the solver at several tolerances, seconds of both including the prediction. Viscous Burgers: parareal with the surrogate as
coarse map, beside persistence as one, and hybrid time stepping from states like those of training and three times as large.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import xarray as xr
from torch import Tensor

from anygrid.forecast import Hybrid, Tally, calibrate, estimated_error, own_data, parareal
from anygrid.grid import Grid
from anygrid.io.store import generate
from anygrid.metrics.errors import relative_l2
from anygrid.problems.base import Problem
from anygrid.problems.catalogue import CATALOGUE
from anygrid.problems.darcy import Darcy
from anygrid.surrogate import Surrogate
from anygrid.surrogate.refine import surrogate_guess
from anygrid.training import fit

TEST_SEED, TESTED, REPEATS = 7_400_000_012, 4, 5
STEPS = 10


def trained(problem: Problem, n: int, resolution: int, budget: float, folder: Path) -> Surrogate:
    store = generate(
        problem, n, resolution, folder / f"{resolution}-{type(problem).__name__}.zarr", label_check=0, overwrite=True, workers=0
    )
    names = [v.name for v in problem.inputs], [v.name for v in problem.outputs]
    return fit(xr.open_zarr(store), *names, lead=None if problem.dt is None else 1, budget=budget)


def tested(problem: Problem, grid: Grid) -> Tensor:
    return problem.sample(TESTED, grid, torch.Generator().manual_seed(TEST_SEED)).double()


def seconds(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[REPEATS // 2] / TESTED


def steady(problem: Problem, surrogate: Surrogate, resolution: int, tolerances: tuple[float, ...], timing: bool) -> list[dict[str, Any]]:
    grid = problem.grid(resolution)
    a = tested(problem, grid)
    guess = surrogate_guess(surrogate, a, grid)
    nothing = torch.zeros_like(guess)
    rows = []
    for tolerance in tolerances:
        cold, warm = problem.refine(a, nothing, grid, tolerance), problem.refine(a, guess, grid, tolerance)
        row: dict[str, Any] = {
            "resolution": resolution,
            "tolerance": tolerance,
            "prediction_error": round(float(relative_l2(guess, cold.u, grid).mean()), 5),
            "iterations_from_zero": sum(cold.iterations) / TESTED,
            "iterations_from_prediction": sum(warm.iterations) / TESTED,
            "difference_of_solutions": float(f"{float(relative_l2(warm.u, cold.u, grid).max()):.2g}"),
        }
        if timing:

            def both(tolerance: float = tolerance) -> None:
                problem.refine(a, surrogate_guess(surrogate, a, grid), grid, tolerance)

            row |= {
                "seconds_from_zero": round(seconds(lambda t=tolerance: problem.refine(a, nothing, grid, t)), 5),  # type: ignore[misc]
                "seconds_of_prediction": round(seconds(lambda: surrogate_guess(surrogate, a, grid)), 5),
                "seconds_with_prediction": round(seconds(both), 5),
            }
        rows.append(row)
        print(row)
    return rows


def sequential(step: Callable[[Tensor, Grid], Tensor], a: Tensor, grid: Grid) -> Tensor:
    states = []
    for _ in range(STEPS):
        a = a.clone()
        a[:, :1] = step(a, grid).to(a)
        states.append(a[:, :1])
    return torch.stack(states, 1)


def in_time(problem: Problem, surrogate: Surrogate, resolution: int, timing: bool) -> list[dict[str, Any]]:
    grid = problem.grid(resolution)
    a = tested(problem, grid)
    truth = sequential(problem.solve, a, grid)
    rows = []
    for name, coarse in (("surrogate", surrogate), ("persistence", lambda a, grid: a[:, :1])):
        for tolerance in (1e-3, 1e-5):
            found = parareal(coarse, problem.solve, a, grid, STEPS, tolerance)
            row: dict[str, Any] = {
                "coarse": name,
                "tolerance": tolerance,
                "steps": STEPS,
                "rounds": found.rounds,
                "solved": found.solved,
                "updates": [float(f"{u:.2g}") for u in found.updates],
                "error_against_sequential": float(f"{max(error(found.states[:, n], truth[:, n], grid) for n in range(STEPS)):.2g}"),
            }
            if timing:
                row["seconds_sequential"] = round(seconds(lambda: sequential(problem.solve, a, grid)), 4)
                row["seconds_parareal"] = round(
                    seconds(lambda c=coarse, t=tolerance: parareal(c, problem.solve, a, grid, STEPS, t)),  # type: ignore[misc]
                    4,
                )
            rows.append(row)
            print(row)
    return rows


def error(u: Tensor, truth: Tensor, grid: Grid) -> float:
    return float(relative_l2(u, truth, grid).max())


def hybrid(problem: Problem, surrogate: Surrogate, resolution: int) -> list[dict[str, Any]]:
    grid = problem.grid(resolution)
    held_out = own_data(problem, resolution, steps=STEPS)
    rows = []
    for amplitude in (1.0, 3.0):
        a = tested(problem, grid)
        a[:, :1] *= amplitude
        truth = sequential(problem.solve, a, grid)
        before = torch.cat([a[:, None, :1], truth[:, :-1]], 1).flatten(0, 1)
        inputs = torch.cat([before, a[:, None, 1:].expand(-1, STEPS, -1, *grid.shape).flatten(0, 1)], 1)
        u = surrogate_guess(surrogate, inputs, grid)
        guessed, real = estimated_error(problem, inputs, u, grid), relative_l2(u, truth.flatten(0, 1), grid)[:, 0]
        ranks = torch.stack([x.argsort().argsort().double() for x in (guessed, real)])
        row: dict[str, Any] = {
            "amplitude": amplitude,
            "rank_correlation_of_estimate_and_error": round(float(torch.corrcoef(ranks)[0, 1]), 3),
            "median_estimate_over_error": round(float((guessed / real).median()), 3),
            "error_surrogate_alone": float(
                f"{error(sequential(lambda a, g: surrogate(a.float(), g), a, grid)[:, -1], truth[:, -1], grid):.3g}"
            ),
        }
        for quantile in (0.5, 0.9, 0.99):
            tally = Tally()
            map_ = Hybrid(surrogate, problem, calibrate(surrogate, problem, held_out, quantile), tally)
            rolled = sequential(lambda a, g, m=map_: m(a.float(), g), a, grid)  # type: ignore[misc]
            row[f"quantile {quantile}"] = {
                "threshold": round(map_.threshold, 5),
                "share_solved": round(tally.share, 3),
                "error": float(f"{error(rolled[:, -1], truth[:, -1], grid):.3g}"),
            }
        rows.append(row)
        print(row)
    return rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--budget", type=float, default=60.0, help="seconds of training of each surrogate")
    words.add_argument("--timing", action="store_true", help="measure seconds; for a quiet machine")
    words.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    said = words.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "command": f"python benchmarks/speed/refine.py --budget {said.budget:g}" + (" --timing" if said.timing else ""),
        "machine": {"processor": platform.machine(), "torch": torch.__version__, "threads": 1},
        "samples": TESTED,
    }
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        with torch.enable_grad():
            march = trained(CATALOGUE["viscous-burgers"](), 32, 128, said.budget, folder)
            poisson = trained(CATALOGUE["nonlinear-poisson"](), 96, 49, said.budget, folder)
            darcy = trained(Darcy(), 200, 85, said.budget, folder)
        equation, nonlinear = CATALOGUE["viscous-burgers"](), CATALOGUE["nonlinear-poisson"]()
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "newton nonlinear-poisson": lambda: [row for n in (49, 97) for row in steady(nonlinear, poisson, n, (1e-4, 1e-8), said.timing)],
            "conjugate gradients darcy": lambda: [
                row for n in (85, 211) for row in steady(Darcy(), darcy, n, (1e-3, 1e-5, 1e-8), said.timing)
            ],
            "hybrid viscous-burgers at 128": lambda: hybrid(equation, march, 128),
            "parareal viscous-burgers at 128": lambda: in_time(equation, march, 128, said.timing),
        }
        for part, measured in parts.items():
            found[part] = measured()
            said.out.write_text(json.dumps(found, indent=1) + "\n")  # after each part: they take minutes
    print(said.out)


if __name__ == "__main__":
    main()
