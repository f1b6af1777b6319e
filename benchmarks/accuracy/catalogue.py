"""Cost against error of solver and operator on every problem: the catalogue, the built-in problems, and some made for the operator.

    python benchmarks/accuracy/catalogue.py fit  --runs FOLDER    # data, training, errors; beside other jobs: about 1.5 h on one core
    python benchmarks/accuracy/catalogue.py time --runs FOLDER    # timings alone, on a machine that does nothing else: some 7 minutes
    python benchmarks/accuracy/catalogue.py page --runs FOLDER    # catalogue.json, the figure and the table of docs/honest-speed.md

``fit`` and ``time`` go on where they were stopped; names after the stage restrict them. Training takes CPU-seconds, not seconds of the
clock, so that it does not depend on what else runs. ``fit`` also times every row in CPU-seconds of one thread; ``time`` replaces that.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import xarray as xr
from catalogue_page import write_page
from catalogue_rows import Row, rows
from safetensors.torch import load_file, save_file
from torch import Tensor

from anygrid.errors import AnygridError
from anygrid.evaluate import TEST_SEED
from anygrid.evaluate.baselines import Persistence, mean_field, shared_channels
from anygrid.evaluate.cost import CurvePoint, equal_error
from anygrid.evaluate.resample import refine
from anygrid.evaluate.result import grid_name
from anygrid.evaluate.rows import apply
from anygrid.evaluate.scoring import relative
from anygrid.evaluate.timing import InTurn, Job, cores, environment, measure
from anygrid.evaluate.truth import ProblemTruth, loose_solvers
from anygrid.grid import Axis, Box, Grid
from anygrid.io.pairs import Pairs
from anygrid.io.store import generate
from anygrid.maps import Map
from anygrid.surrogate import Surrogate, read_surrogate
from anygrid.training import fit

HERE = Path(__file__).resolve().parent
# Of the intervals of the grid of comparison: where the solver runs.
_SHARES = (1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 2)
_OPERATOR_SHARES = (1 / 4, 1 / 2, 1, 2)  # fewer for the operator, whose default has a latent grid of its own and costs the same on all
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)  # equal steps of the solver
_SLOWEST = 0.5  # seconds a sample: settings beyond are not taken to finer grids
_TIMED = 8  # solver settings timed at most
_LATEST = 5  # steps of the true trajectories on which test cases lie
_BATCH = 16
_QUIET = 1.7  # load of a machine that does nothing else: this process is one, with some of its jobs on all cores
_SURROGATE = "run/surrogate.anygrid"


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _settings(row: Row) -> dict[str, Map]:
    """Every solver by name, cheapest first as far as that is known: what is stopped early is then the dear ones."""
    found = dict(loose_solvers(row.problem, counts=_COUNTS))
    if row.stronger is not None:
        found |= {f"text, {name}": map_ for name, map_ in loose_solvers(row.stronger, counts=_COUNTS).items()}
    return found


def _rungs(row: Row, shares: Sequence[float] = _SHARES) -> list[Grid]:
    """Grids with these shares of the intervals of the grid of comparison, below the reference."""
    head, fine = row.problem.grid(row.store), row.problem.grid(row.reference)
    assert isinstance(head, Box)
    shapes = []
    for share in shares:
        shape = tuple(max(4, round(share * _intervals(axis))) + axis.size - _intervals(axis) for axis in head.axes)
        if min(shape) >= 5 and all(n < f for n, f in zip(shape, fine.shape, strict=True)):
            shapes.append(shape)
    return [row.problem.grid(shape) for shape in dict.fromkeys(shapes)]


def _intervals(axis: Axis) -> int:
    return axis.size - int(axis.placement == "vertices" and not axis.periodic)


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def make_data(row: Row, folder: Path, budget: float) -> dict[str, float]:
    """Training set of what ``budget`` CPU-seconds suffice for; its cost is kept beside it."""
    kept = folder / "costs.json"
    if kept.exists():
        return json.loads(kept.read_text())
    problem, grid = row.problem, row.problem.grid(row.resolution)

    def one() -> None:
        problem.solve(problem.sample(1, grid, torch.Generator().manual_seed(1)), grid)

    one()
    each = _cpu(one) * (row.steps if problem.dt is not None else 1)
    costs: dict[str, float] = {"n": int(min(row.most, max(24, budget / each)))}
    store = None if row.store == row.resolution else row.store
    steps = None if problem.dt is None else row.steps

    def work() -> None:
        generate(
            problem, int(costs["n"]), row.resolution, folder / "data.zarr", workers=0, store_resolution=store, steps=steps, label_check=0
        )

    resumed = (folder / "data.zarr.partial").exists()
    seconds = _cpu(work)
    costs["data_seconds"] = each * costs["n"] if resumed else seconds
    kept.write_text(json.dumps(costs))
    return costs


def train(row: Row, folder: Path, budget: float) -> Surrogate:
    """Train for ``budget`` CPU-seconds of one thread, or read what was trained before; what it took goes to the costs."""
    costs = json.loads((folder / "costs.json").read_text())
    data = xr.open_zarr(costs.get("data", folder / "data.zarr"))
    inputs, outputs = [v.name for v in row.problem.inputs], [v.name for v in row.problem.outputs]
    lead = 1 if row.problem.dt is not None else None
    if (folder / _SURROGATE).exists():
        made = read_surrogate(folder / _SURROGATE)
    else:
        # One application is what is judged here, so that nothing is rolled out in training.
        with mock.patch("time.perf_counter", time.process_time):  # the clock of the budget, whatever else the machine does
            made = fit(data, inputs, outputs, lead=lead, budget=budget, unroll=1 if lead else None, augment=row.augment, run=folder / "run")
    costs |= {"training_seconds": float(made.record["seconds"]), "steps": int(made.record["steps"])}
    (folder / "costs.json").write_text(json.dumps(costs))
    return made


def adopt(row: Row, folder: Path, root: Path) -> bool:
    """Take the operator that ``run.py`` trained for 15 minutes, if it is there: True if it is now in ``folder``."""
    surrogate, data = root / "runs" / f"{row.trained}-15" / "surrogate.anygrid", root / "data" / f"{row.trained}_train.zarr"
    if not (row.trained and surrogate.exists() and data.exists()):
        return False
    (folder / "run").mkdir(exist_ok=True)
    shutil.copyfile(surrogate, folder / _SURROGATE)
    ds, made = xr.open_zarr(data), read_surrogate(surrogate)
    solved = row.problem.grid(tuple(json.loads(ds.attrs["request"])["resolution"]))

    def one() -> None:
        row.problem.solve(row.problem.sample(1, solved, torch.Generator().manual_seed(1)), solved)

    one()
    solves = ds.sizes["sample"] * (max(1, ds.sizes["time"] - 1) if "time" in ds.sizes else 1)
    costs = {"data": str(data.resolve()), "n": ds.sizes["sample"], "data_seconds": solves * _cpu(one)}
    costs |= {"training_seconds": float(made.record["seconds"]), "steps": int(made.record["steps"])}
    (folder / "costs.json").write_text(json.dumps(costs))
    return True


def errors_of(row: Row, surrogate: Surrogate, folder: Path) -> dict[str, Any]:
    """Errors of operator, solver settings and trivial baselines on the grid of comparison; inputs for the timings are stored."""
    head = row.problem.grid(row.store)
    truth = ProblemTruth(
        row.problem,
        row.problem.grid(row.reference),
        n=row.test,
        seed=TEST_SEED,
        steps=min(row.steps, _LATEST) if row.steps > 1 else 0,
        say=_say,
    )
    cases = {grid: truth.cases(grid) for grid in {head, *_rungs(row)}}
    right = cases[head].u

    def error(map_: Map, grid: Grid) -> float:
        u = refine(apply(None, map_, cases[grid].a, grid), grid, head)
        return float(relative(u, right, head).mean())

    data = xr.open_zarr(json.loads((folder / "costs.json").read_text()).get("data", folder / "data.zarr"))
    names = [v.name for v in row.problem.inputs], [v.name for v in row.problem.outputs]
    pairs = Pairs(data, *names, lead=1 if row.problem.dt is not None else None)
    baselines = {"mean": error(mean_field(pairs), head)}
    channels = shared_channels(truth.inputs, truth.outputs)
    if channels is not None:
        baselines["persistence"] = error(Persistence(channels), head)
    operator = [p for grid in _rungs(row, _OPERATOR_SHARES) if (p := _point("operator", surrogate, grid, cases[grid].a, error)) is not None]
    best = min(p["error"] for p in operator)
    solver: list[dict[str, Any]] = []
    for name, map_ in _settings(row).items():
        before: list[dict[str, Any]] = []
        for grid in _rungs(row):
            point = _point(name, map_, grid, cases[grid].a, error)
            if point is None and before:
                break
            if point is None:
                continue
            before.append(point)
            stalled = len(before) > 2 and before[-1]["error"] > 0.98 * before[-3]["error"]
            if point["rough"] > _SLOWEST or point["error"] < best / 30 or (stalled and point["error"] < 1):
                break
        solver += before
        _say(f"  {name}: " + ", ".join(f"{grid_name(tuple(p['shape']))} {p['error']:.2g} in {p['rough'] * 1e3:.3g} ms" for p in before))
    _choose(solver, best)
    used = {tuple(p["shape"]) for p in [*operator, *solver] if p["timed"]}
    stored = {grid_name(g.shape): c.a.contiguous() for g, c in cases.items() if g.shape in used}
    save_file(stored, str(folder / "inputs.safetensors"))
    return {"head": list(head.shape), "baselines": baselines, "operator": operator, "solver": solver, "test": len(right)}


def _point(name: str, map_: Map, grid: Grid, a: Tensor, error: Callable[[Map, Grid], float]) -> dict[str, Any] | None:
    """Error and rough CPU-seconds of one setting on one grid; None if it refuses, takes too long or gives no finite result."""
    try:
        with torch.no_grad():
            rough = _cpu(lambda: map_(a[:1], grid))
            if rough > 4 * _SLOWEST:
                return None
            rough = min(_cpu(lambda: map_(a[:1], grid)) for _ in range(2))
        found = error(map_, grid)
    except AnygridError:
        return None
    return {"name": name, "shape": list(grid.shape), "error": found, "rough": rough, "timed": True} if math.isfinite(found) else None


def _choose(solver: list[dict[str, Any]], best: float) -> None:
    """Mark the settings worth timing: near the front of rough times, nearest to the operator's error first."""
    curve = [CurvePoint(p["rough"], p["error"], p["name"], tuple(p["shape"])) for p in solver]
    near = [p for p in solver if p["rough"] <= 2 * equal_error(curve, p["error"])[0] and p["error"] < 2]
    near.sort(key=lambda p: abs(math.log(max(p["error"], 1e-12) / best)))
    ends = [min(solver, key=lambda p: p["rough"]), min(solver, key=lambda p: p["error"])] if solver else []
    for p in solver:
        p["timed"] = any(p is q for q in [*near[:_TIMED], *ends])


def time_row(row: Row, folder: Path, seconds: float, *, busy: bool) -> dict[str, Any]:
    """Interleaved timings of the operator and of the chosen settings; in CPU-seconds of one thread where others are at work."""
    found = json.loads((folder / "errors.json").read_text())
    inputs = load_file(str(folder / "inputs.safetensors"))
    maps: Mapping[str, Map] = {"operator": read_surrogate(folder / _SURROGATE), **_settings(row)}
    threads = [1] if busy or cores() == 1 else [1, cores()]
    jobs: list[Job] = []
    for p in [*found["operator"], *found["solver"]]:
        if not p["timed"]:
            continue
        grid, a = row.problem.grid(tuple(p["shape"])), inputs[grid_name(tuple(p["shape"]))]
        a = torch.cat([a * (1 + 1e-4 * k) for k in range(math.ceil(_BATCH / len(a)))])[:_BATCH]  # no two samples alike
        role = "map" if p["name"] == "operator" else "solver"
        asked = InTurn(maps[p["name"]], a)
        jobs += [Job(p["name"], role, asked, a[:1], grid, n) for n in threads]
        many = min(_BATCH, max(1, int(0.2 / max(p["rough"], 1e-6))))
        if many > 1:
            jobs.append(Job(p["name"], role, asked, a[:many], grid, 1))
        if row.inverse and p["rough"] < 0.1:
            jobs.append(Job(p["name"] + _GRADIENT, role, InTurn(_gradient(maps[p["name"]]), a), a[:1], grid, 1))
    load = os.getloadavg()[0]
    clock = time.process_time if busy else time.perf_counter
    timings = [dataclasses.asdict(t) for t in measure(jobs, budget=seconds, repeats=15, clock=clock)]
    quiet = not busy and load < _QUIET
    return {"quiet": quiet, "clock": "CPU-seconds of one thread" if busy else "seconds", "load": load, **environment(), "timings": timings}


_GRADIENT = ", gradient"


def _gradient(map_: Map) -> Map:
    """Map whose cost is that of a gradient of a scalar with respect to the input, the unit of work of an inversion."""

    def work(a: Tensor, grid: Grid, /) -> Tensor:
        with torch.enable_grad():
            given = a.detach().clone().requires_grad_()
            map_(given, grid).square().mean().backward()
        assert given.grad is not None
        return given.grad

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("fit", "time", "page"))
    parser.add_argument("names", nargs="*", help="rows; default: all")
    parser.add_argument("--runs", type=Path, required=True, help="folder of data, surrogates and measurements")
    parser.add_argument("--training", type=float, default=40, help="CPU-seconds of training")
    parser.add_argument("--data", type=float, default=15, help="CPU-seconds of data")
    parser.add_argument("--published", type=Path, default=HERE.parents[1], help="folder with the data/ and runs/ of run.py")
    parser.add_argument("--seconds", type=float, default=10, help="for the timings of one row")
    parser.add_argument("--again", action="store_true", help="time rows that have quiet timings already")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    known = rows()
    for name in options.names or known:
        folder = options.runs / name
        folder.mkdir(parents=True, exist_ok=True)
        if options.stage == "page" or (options.stage == "time" and not (folder / "errors.json").exists()):
            continue
        kept = folder / "timings.json"
        try:
            row = known[name]()
            more = 1 if row.group in ("catalogue", "built-in") else 2
            if options.stage == "fit" and not (folder / "errors.json").exists():
                if not adopt(row, folder, options.published):
                    _say(f"{name}: data")
                    costs = make_data(row, folder, more * options.data)
                    _say(f"{name}: training on {costs['n']} samples")
                surrogate = train(row, folder, options.training)
                found = errors_of(row, surrogate, folder)
                (folder / "errors.json").write_text(json.dumps(found))
                _say(f"{name}: operator " + ", ".join(f"{grid_name(tuple(p['shape']))} {p['error']:.3g}" for p in found["operator"]))
            before = json.loads(kept.read_text()) if kept.exists() else None
            if before is None or (options.stage == "time" and (options.again or not before["quiet"])):
                _say(f"{name}: timing")
                made = time_row(row, folder, options.seconds, busy=options.stage == "fit")
                kept.write_text(json.dumps(made))
        except AnygridError as failure:
            _say(f"{name}: {failure}")
            (folder / "failed.txt").write_text(str(failure))
    write_page(options.runs, {name: make() for name, make in known.items() if (options.runs / name / "timings.json").exists()})


if __name__ == "__main__":
    main()
