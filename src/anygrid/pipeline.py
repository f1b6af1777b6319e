"""The main job: a problem is sampled, solved, learned, judged against its own solver and reported, in one resumable folder.

``data.zarr`` (the training set), ``surrogate.anygrid``, ``checkpoint.safetensors`` and ``log.jsonl`` (the training),
``metrics.json`` and ``report.html`` (the evaluation) appear in that order. What is there already is not made again, so a
job that was killed goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from anygrid.errors import UsageError
from anygrid.evaluate import TEST_SEED, Costs, Report, evaluate
from anygrid.io.pairs import Pairs
from anygrid.io.store import generate
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.equation import EquationProblem
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.problems.shallow_water_sphere import ShallowWaterSphere
from anygrid.report import write_report
from anygrid.surrogate import Surrogate, read_surrogate
from anygrid.training import Build, Flip, Listener, Physics, Shift, Symmetry, Transpose, fit

__all__ = ["Recipe", "Watcher", "recipe_for", "run", "write_pages"]

Resolution = int | tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """How much of everything a job takes.

    Parameters
    ----------
    n, resolution, store_resolution, trajectory
        Training set: samples, grid of the solve, grid that is kept and trained on, steps of a trajectory (evolutions). No samples: the
        operator is trained on the equation alone.
    physics
        Whether the equation joins the loss beside the data.
    budget, steps
        Training time in seconds, or optimiser steps instead.
    test, resolutions, lead_steps
        Evaluation: fresh samples, resolutions, steps of the roll-outs.
    reference
        Resolution of the truth; by default at least twice the finest resolution evaluated.
    confine, long_steps
        For chaotic evolutions: whether roll-outs are kept to the training data, and steps of the long runs whose statistics are
        compared with the solver's (0: none).
    timing
        Seconds for timing surrogate and solver.
    augment
        Symmetries that the equation, its boundary conditions and its sampler all have.
    """

    n: int
    resolution: Resolution
    resolutions: tuple[Resolution, ...]
    budget: float | None
    store_resolution: Resolution | None = None
    trajectory: int | None = None
    steps: int | None = None
    test: int = 50
    lead_steps: int | None = None
    reference: Resolution | None = None
    timing: float = 20.0
    seed: int = 0
    augment: tuple[Symmetry, ...] = ()
    physics: bool = False
    confine: bool = False
    long_steps: int = 0


# Sized so that the whole job stays below six minutes on two cores; docs/problems says what the published recipes take.
_RECIPES: dict[type[Problem], Recipe] = {
    Darcy: Recipe(
        n=500,
        resolution=169,
        store_resolution=85,
        resolutions=(43, 85, 169),
        budget=150.0,
        augment=(Flip("x"), Flip("y"), Transpose("x", "y")),
    ),
    Helmholtz: Recipe(
        n=500,
        resolution=129,
        store_resolution=65,
        resolutions=(65, 129),
        budget=150.0,
        augment=(Flip("x"), Flip("y"), Transpose("x", "y")),
    ),
    Burgers: Recipe(n=1000, resolution=1024, resolutions=(512, 1024, 2048), budget=150.0, augment=(Shift("x"),)),
    NavierStokes: Recipe(n=64, resolution=64, resolutions=(48, 64, 128), budget=150.0, trajectory=20, test=16, lead_steps=10),
    KuramotoSivashinsky: Recipe(
        n=64, resolution=128, resolutions=(96, 128, 256), budget=150.0, trajectory=50, test=32, lead_steps=30, augment=(Shift("x"),)
    ),
    ShallowWaterSphere: Recipe(n=32, resolution=36, resolutions=(36, 48), budget=150.0, trajectory=12, test=8, lead_steps=8, reference=64),
}


def _recipe_of(problem: EquationProblem) -> Recipe:
    """Sizes that some minutes suffice for, by the number of axes; steady equations and maps of one step get more samples."""
    size = {1: 256, 2: 64, 3: 24}[len(problem.domain)]
    ends = 0 if all(interval.periodic for interval in problem.intervals.values()) else 1
    resolutions = tuple(n + ends for n in (size // 2, size, 2 * size))
    # An equation without the coordinates in it, on a periodic axis, does not know where its origin is.
    shifts = tuple(Shift(name) for name, interval in problem.intervals.items() if interval.periodic and problem.homogeneous)
    if problem.dt is None:
        return Recipe(n=500, resolution=size + ends, resolutions=resolutions, budget=150.0, test=32, augment=shifts)
    trajectory = min(problem.steps, 20)
    return Recipe(
        n=64,
        resolution=size + ends,
        resolutions=resolutions,
        budget=150.0,
        trajectory=trajectory,
        test=16,
        lead_steps=min(10, trajectory),
        augment=shifts,
    )


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens: samples solved, training progress, lines to keep, and stages of the evaluation."""

    solved: Callable[[int, int, float], None]
    trained: Listener
    say: Callable[[str], None]
    stage: Callable[[str], None]


def recipe_for(problem: Problem) -> Recipe:
    """Default recipe of a built-in problem.

    Raises
    ------
    UsageError
        For a problem of one's own, which needs a :class:`Recipe` of its own.
    """
    found = _RECIPES.get(type(problem))
    if isinstance(problem, EquationProblem):
        return _recipe_of(problem)
    if found is None:
        raise UsageError("run", "a built-in problem or a recipe", type(problem).__name__, "give Recipe(n=..., resolution=..., ...)")
    return found


def run(
    problem: Problem,
    recipe: Recipe,
    folder: Path,
    watcher: Watcher,
    *,
    operator: Build | None = None,
    workers: int | None = None,
    command: str = "",
) -> Report:
    """Carry out a recipe in ``folder``, or what is still missing there, and return the report.

    Training and test samples are drawn with different seeds (:data:`anygrid.evaluate.TEST_SEED`); the test samples are
    solved afresh on a finer grid during the evaluation and never stored beside the training data.

    Parameters
    ----------
    operator
        Function ``(inputs, outputs, grid) -> module``; by default the default operator.
    command
        The command that repeats the job, for the report.

    Raises
    ------
    AnygridError
        Whatever the stages raise; what they had finished is kept.
    KeyboardInterrupt
        After Ctrl-C, with everything so far saved.
    """
    store, saved, metrics = folder / "data.zarr", folder / "surrogate.anygrid", folder / "metrics.json"
    watcher.say(_split(problem, recipe))
    data_seconds = _generate(problem, recipe, store, folder / "costs.json", watcher, workers) if recipe.n else 0.0
    data = xr.open_zarr(store) if recipe.n else None
    kept = recipe.resolution if recipe.store_resolution is None else recipe.store_resolution
    inputs, outputs = [v.name for v in problem.inputs], [v.name for v in problem.outputs]
    lead = 1 if problem.dt is not None else None
    if saved.exists():
        watcher.say(f"{saved} is there already")
        surrogate = read_surrogate(saved)
    else:
        length: dict[str, Any] = {"steps": recipe.steps} if recipe.steps is not None else {"budget": recipe.budget}
        surrogate = fit(
            problem if data is None else data,
            inputs,
            outputs,
            lead=lead,
            physics=_physics(problem, recipe),
            operator=operator,
            seed=recipe.seed,
            augment=recipe.augment,
            confine=recipe.confine,
            run=folder,
            listener=watcher.trained,
            **length,
        )
    if metrics.exists() and metrics.stat().st_mtime >= saved.stat().st_mtime:
        watcher.say(f"{metrics} is there already")
        return Report.from_json(metrics)
    report = evaluate(
        {"surrogate": surrogate},
        problem,
        resolutions=recipe.resolutions,
        n=recipe.test,
        reference=recipe.reference,
        labels=recipe.resolution if recipe.n else None,
        training=None if data is None else Pairs(data, inputs, outputs, lead=lead),
        headline=None if data is not None or kept not in recipe.resolutions else kept,
        costs=Costs(data_seconds, float(surrogate.record["seconds"])),
        steps=recipe.lead_steps,
        long_steps=recipe.long_steps,
        timing_seconds=recipe.timing,
        say=watcher.stage,
    )
    write_pages(report, folder, surrogate, {} if data is None else data.attrs, command)
    return report


def write_pages(report: Report, folder: Path, surrogate: Surrogate | None, data: dict[str, Any], command: str = "") -> Path:
    """Write ``report.html`` and ``metrics.json`` with the cards of data and model; returns the path of the page."""
    record: dict[str, Any] = {} if surrogate is None else surrogate.record
    model: dict[str, object] = {}
    if surrogate is not None:
        model = {
            "operator": type(surrogate.operator).__name__,
            "arguments": json.dumps(getattr(surrogate.operator, "arguments", {})),
            "parameters": f"{sum(p.numel() for p in surrogate.operator.parameters()):,}",
            "training": f"{record.get('steps', '?')} steps, {record.get('samples', '?')} samples, {float(record.get('seconds', 0)):.0f} s",
            "validation error": record.get("validation_error"),
            "lead": surrogate.dt,
            "inferred": "; ".join(record.get("inferred", [])),
        }
    hidden = ("request", "software", "parameters", "Conventions")
    card = {k.removeprefix("problem_").replace("_", " "): v for k, v in data.items() if k not in hidden and v not in ("", None)}
    history: Sequence[dict[str, float | None]] = record.get("history", [])
    return write_report(
        report, folder, training_record=history, data_card=card, model_card={k: v for k, v in model.items() if v}, command=command
    )


def _physics(problem: Problem, recipe: Recipe) -> bool | Problem | Physics:
    """How the equation joins the training: not at all, on a grid finer than that of the data, or alone on the recipe's."""
    if recipe.n:
        return problem if recipe.physics else False
    return Physics(problem, recipe.resolution if recipe.store_resolution is None else recipe.store_resolution)


def _split(problem: Problem, recipe: Recipe) -> str:
    """What is trained and tested on, in a sentence."""
    if not recipe.n:
        alone = f"training: the equation alone on {_by(recipe.resolution)}, no labels"
        return f"{alone}; test: {recipe.test} samples at {', '.join(_by(r) for r in recipe.resolutions)}, seed {TEST_SEED}"
    what = f"trajectories of {recipe.trajectory or problem.steps} steps" if problem.dt is not None else "samples"
    kept = f", kept at {_by(recipe.store_resolution)}" if recipe.store_resolution is not None else ""
    return (
        f"training: {recipe.n} {what} solved at {_by(recipe.resolution)}{kept}, seed {recipe.seed}; "
        f"test: {recipe.test} others at {', '.join(_by(r) for r in recipe.resolutions)}, seed {TEST_SEED}"
    )


def _generate(problem: Problem, recipe: Recipe, store: Path, costs: Path, watcher: Watcher, workers: int | None) -> float | None:
    """Make the training set; returns the seconds it takes undisturbed, also when it was made in several goes."""
    first: list[int] = []
    took = [0.0, 0.0]

    def tell(done: int, total: int, seconds: float) -> None:
        first.append(done)
        if done > first[0]:
            took[0], took[1] = seconds * total / (done - first[0]), seconds
            costs.write_text(json.dumps({"data_seconds": took[0]}))
        watcher.solved(done, total, seconds)

    generate(
        problem,
        recipe.n,
        recipe.resolution,
        store,
        seed=recipe.seed,
        workers=workers,
        store_resolution=recipe.store_resolution,
        steps=recipe.trajectory if problem.dt is not None else None,
        progress=tell,
    )
    try:
        return float(json.loads(costs.read_text())["data_seconds"])
    except (OSError, ValueError, KeyError):
        return None


def _by(resolution: Resolution) -> str:
    return "x".join(map(str, resolution)) if isinstance(resolution, tuple) else str(resolution)


def changed(recipe: Recipe, said: dict[str, Any]) -> Recipe:
    """The recipe with what was said put in place of its own values; a number of steps takes the place of the budget."""
    if said.get("steps") is not None:
        said = {**said, "budget": None}
    if said.get("resolution") is not None and "store_resolution" not in said:
        said = {**said, "store_resolution": None}
        if "resolutions" not in said:
            said["resolutions"] = (said["resolution"],)
    elif said.get("store_resolution") is not None and "resolutions" not in said:
        said = {**said, "resolutions": (said["store_resolution"],)}
    return dataclasses.replace(recipe, **said)
