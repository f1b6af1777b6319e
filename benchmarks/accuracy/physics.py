"""What the equation is worth in training: less data, no data, a finer grid; and which rule for the weights.

    python benchmarks/accuracy/physics.py darcy          # rows of one case -> benchmarks/accuracy/physics.json
    python benchmarks/accuracy/physics.py burgers kolmogorov two-unknowns rules raw
    python benchmarks/accuracy/physics.py --table        # the rows so far

Cases are trained for a number of steps, so that other jobs on the machine change nothing but the time; a row that is in the
file is not made again. Training and held-out samples are parts of one set, test samples have a seed of their own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import xarray as xr
from run import TASKS, _data
from torch import Tensor

import anygrid as ag
from anygrid.evaluate import TEST_SEED
from anygrid.grid import Grid
from anygrid.io.store import generate
from anygrid.numerics.seeds import sample_generator
from anygrid.operators import default_operator
from anygrid.problems.base import Problem
from anygrid.problems.darcy import Darcy
from anygrid.problems.equation import EquationProblem
from anygrid.surrogate import Surrogate
from anygrid.training import AugmentedLagrangian, Fixed, GradientNorm, Physics, PrimalDual, fit
from anygrid.training.weighting import Weighting

RESULT = Path(__file__).with_suffix(".json")
ROOT = Path(__file__).parents[2]
FLOW = ["w_t = -dot(perp(psi), grad(w)) + lap(w)/Re - 4*cos(4*y) - 0.1*w", "lap(psi) = -w"]
REACTION = ["u_t = Du*u_xx + u - u**3 - v", "v_t = Dv*v_xx + 0.2*(u - v)"]


@dataclass(frozen=True)
class Case:
    """A problem, its training data, the grids of labels and residual, and the tests."""

    problem: Problem
    samples: int
    resolution: int  # of the solver that makes the labels
    labels: int  # of the labels
    residual: int
    steps: int
    tests: dict[str, int] = field(default_factory=dict)  # a name and a resolution each
    truth: int = 0
    test_samples: int = 50
    trajectory: int = 0
    fraction: float = 0.1


def burgers() -> EquationProblem:
    start = {"u": ag.RandomField(length=0.2)}
    return ag.Equation("u_t = -u*u_x + nu*u_xx", {"x": ag.Periodic()}, parameters={"nu": 0.01}, initial=start, dt=0.025, steps=20)


def kolmogorov() -> EquationProblem:
    """Reynolds number 500 on the square of side 2 pi; steps of 1/16, so that the defect of one is far below a learned error."""
    domain = {"x": ag.Periodic(0, 2 * math.pi), "y": ag.Periodic(0, 2 * math.pi)}
    start = {"w": ag.RandomField(length=0.3, std=4.0)}
    return ag.Equation(FLOW, domain, state=["w"], parameters={"Re": 500.0}, initial=start, dt=1 / 16, steps=16)


def two_unknowns() -> EquationProblem:
    """FitzHugh-Nagumo waves, two constraints of their own."""
    start = {"u": ag.RandomField(length=2.0, std=0.7), "v": ag.RandomField(length=2.0, std=0.3)}
    known = {"Du": 1.0, "Dv": 0.3}
    return ag.Equation(REACTION, {"x": ag.Periodic(0, 40)}, parameters=known, initial=start, dt=0.25, steps=20)


CASES: dict[str, Callable[[], Case]] = {
    # The equation by the harmonic mean, whose error at 85 x 85 is half that of the arithmetic one (0.45 % and 0.9 %).
    "darcy": lambda: Case(Darcy(mean="harmonic"), 1000, 421, 85, 85, 3000, {"85": 85, "169": 169}, 337, 50),
    "burgers": lambda: Case(burgers(), 200, 512, 64, 256, 3000, {"64": 64, "256": 256}, 512, 50, 20),
    "kolmogorov": lambda: Case(kolmogorov(), 40, 128, 32, 128, 1500, {"32": 32, "128": 128}, 128, 10, 16, 1.0),
    "two-unknowns": lambda: Case(two_unknowns(), 100, 256, 128, 128, 2000, {"128": 128, "256": 256}, 512, 30, 20),
}
RULES: dict[str, Weighting] = {
    "augmented Lagrangian": AugmentedLagrangian(),
    "primal-dual": PrimalDual(),
    "fixed 1": Fixed(1.0),
    "fixed 0.1": Fixed(0.1),
    "gradient norm": GradientNorm(),
}


@dataclass(frozen=True)
class Raw(Problem):
    """A problem whose estimate of the error is its plain residual, scaled to the size of the solution: what others train on."""

    of: Problem
    scale: float

    @property
    def inputs(self) -> Any:  # type: ignore[override]
        return self.of.inputs

    @property
    def outputs(self) -> Any:  # type: ignore[override]
        return self.of.outputs

    def grid(self, resolution: Any) -> Grid:
        return self.of.grid(resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Tensor:
        return self.of.sample(n, grid, generator)

    def solve(self, a: Tensor, grid: Grid) -> Tensor:
        return self.of.solve(a, grid)

    def residual(self, a: Tensor, u: Tensor, grid: Grid) -> Tensor:
        return self.of.residual(a, u, grid)

    def correction(self, a: Tensor, u: Tensor, grid: Grid) -> Tensor:
        return -self.scale * self.of.residual(a, u, grid)


def data_of(name: str, case: Case) -> xr.Dataset:
    """Samples, generated once; the last tenth is held out. Darcy's are those of run.py."""
    if name == "darcy":
        return _data("darcy", TASKS["darcy"], "train", 2).load()
    folder = ROOT / "data" / f"physics_{name}.zarr"
    shown = {"store_resolution": case.labels} if case.labels != case.resolution else {}
    generate(case.problem, case.samples, case.resolution, folder, workers=1, steps=case.trajectory, label_check=0, **shown)
    return xr.open_zarr(folder).load()


def truth_of(case: Case) -> list[tuple[str, Grid, Tensor, list[Tensor]]]:
    """Test inputs and true states at every lead on every test grid, solved on the finest."""
    fine, out = case.problem.grid(case.truth), []
    drawn = [case.problem.sample(1, fine, sample_generator(TEST_SEED, k)).float() for k in range(case.test_samples)]
    states, current = [], torch.cat(drawn)
    for _ in range(case.trajectory or 1):
        solved = torch.cat([case.problem.solve(part.double(), fine).float() for part in current.split(10)])
        states.append(solved)
        current = torch.cat([solved, current[:, solved.shape[1] :]], 1) if case.trajectory else solved
    for label, n in case.tests.items():
        grid = case.problem.grid(n)
        every = [(f - 1) // (g - 1) if f % 2 and g % 2 else f // g for f, g in zip(fine.shape, grid.shape, strict=True)]
        cut = (slice(None), slice(None), *[slice(None, None, k) for k in every])
        out.append((label, grid, torch.cat(drawn)[cut], [s[cut] for s in states]))
    return out


def errors_of(surrogate: Surrogate, case: Case) -> dict[str, float]:
    """Mean relative L2 error on each test grid: of one application, and for an evolution after the whole roll-out."""
    found = {}
    for label, grid, a, states in truth_of(case):
        with torch.no_grad():
            before, ahead, once = a, a, []
            for truth in states:
                once.append(_relative(_apply(surrogate, before, grid), truth))
                ahead = torch.cat([_apply(surrogate, ahead, grid), a[:, truth.shape[1] :]], 1) if case.trajectory else ahead
                before = torch.cat([truth, a[:, truth.shape[1] :]], 1) if case.trajectory else before
            found[f"{label} step"] = sum(once) / len(once)
            if case.trajectory:
                found[f"{label} roll-out"] = _relative(ahead[:, : states[-1].shape[1]], states[-1])
    return found


def _apply(surrogate: Surrogate, a: Tensor, grid: Grid) -> Tensor:
    return torch.cat([surrogate(part, grid) for part in a.split(10)])


def _relative(u: Tensor, truth: Tensor) -> float:
    error = ((u - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).nan_to_num(1e3, 1e3)
    return float(error.clamp(max=1e3).mean())


def row(name: str, how: str, seed: int, *, share: float, physics: Physics | None, steps: int | None = None) -> None:
    """Train and test one surrogate, and add it to the file."""
    case = CASES[name]()
    length = steps or case.steps
    key = f"{name} | {how} | {length} steps | seed {seed}"
    rows = json.loads(RESULT.read_text()) if RESULT.exists() else {"command": "python benchmarks/accuracy/physics.py CASE...", "rows": {}}
    if key in rows["rows"]:
        return
    # One operator for all rows of a case: that of the finest grid trained on.
    grid = case.problem.grid(max(case.labels, case.residual))
    operator = _built(len(case.problem.inputs), len(case.problem.outputs), grid, seed)
    lead = 1 if case.trajectory else None
    began, cpu = time.perf_counter(), time.process_time()
    common: dict[str, Any] = {"steps": length, "operator": operator, "seed": seed}
    if share:
        whole, first = data_of(name, case), round(0.9 * case.samples)
        train, held_out = whole.isel(sample=slice(0, round(share * first))), whole.isel(sample=slice(first, None))
        names = {"inputs": [v.name for v in case.problem.inputs], "outputs": [v.name for v in case.problem.outputs], "lead": lead}
        surrogate = fit(train, validation=held_out, physics=physics or False, **names, **common)
    else:
        assert physics is not None
        surrogate = fit(physics.problem, physics=physics, **common)
    used = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    found = {"errors": errors_of(surrogate, case), "validation": surrogate.record["validation_error"], **used}
    found["samples"] = round(share * round(0.9 * case.samples))
    rows = json.loads(RESULT.read_text()) if RESULT.exists() else rows
    rows["rows"][key] = found
    rows["torch"], rows["threads"] = torch.__version__, 1
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(key, {k: round(v, 5) for k, v in found["errors"].items()}, f"{used['cpu_seconds']:.0f} s of CPU", flush=True)


def _built(inputs: int, outputs: int, grid: Grid, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return default_operator(inputs, outputs, grid)


def _physics(name: str, weighting: Weighting | None = None) -> Physics:
    case = CASES[name]()
    return Physics(case.problem, case.residual, weighting=weighting or AugmentedLagrangian())


def compare(name: str, seed: int) -> None:
    """Data alone, all and a part of them; the part with the equation; the equation alone."""
    case = CASES[name]()
    row(name, "data", seed, share=1.0, physics=None)
    if case.fraction < 1:
        row(name, "a tenth of the data", seed, share=case.fraction, physics=None)
        row(name, "a tenth of the data and the equation", seed, share=case.fraction, physics=_physics(name))
    else:
        row(name, "data and the equation", seed, share=1.0, physics=_physics(name))
    row(name, "the equation alone", seed, share=0.0, physics=_physics(name))


def rules() -> None:
    """Rules for the weights, a tenth of the data (Kolmogorov: all) or none, shorter trainings, one seed."""
    for name, share in (("darcy", 0.1), ("burgers", 0.1), ("kolmogorov", 1.0), ("two-unknowns", 0.0)):
        for label, rule in RULES.items():
            if share or label not in ("fixed 0.1", "fixed 1"):
                row(name, f"{label}, {'no' if not share else 'with'} data", 0, share=share, physics=_physics(name, rule), steps=800)
        if not share:
            row(name, "fixed 1, no data", 0, share=share, physics=_physics(name, Fixed(1.0)), steps=800)


def raw() -> None:
    """The plain residual in the place of the estimated error, at the best of three weights and under gradient-norm balancing."""
    case = CASES["darcy"]()
    grid = case.problem.grid(case.residual)
    a = torch.cat([case.problem.sample(1, grid, sample_generator(3, k)) for k in range(8)])
    u = case.problem.solve(a, grid)
    # The residual of zero counts as an error of 1.
    scale = float(u.norm() / case.problem.residual(a, torch.zeros_like(u), grid).norm())
    for label, rule in {"fixed 1": Fixed(1.0), "fixed 0.1": Fixed(0.1), "fixed 0.01": Fixed(0.01), "gradient norm": GradientNorm()}.items():
        row(
            "darcy",
            f"plain residual, {label}, with data",
            0,
            share=0.1,
            steps=800,
            physics=Physics(Raw(case.problem, scale), case.residual, weighting=rule),
        )
    row("darcy", "a tenth of the data", 0, share=0.1, physics=None, steps=800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"{', '.join(CASES)}, rules, raw")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.cases:
        if name in ("rules", "raw"):
            {"rules": rules, "raw": raw}[name]()
            continue
        for seed in range(options.seeds):
            compare(name, seed)
    if options.table:
        for key, found in json.loads(RESULT.read_text())["rows"].items():
            print(key, {k: round(v, 5) for k, v in found["errors"].items()}, f"{found['cpu_seconds']:.0f} s")


if __name__ == "__main__":
    main()
