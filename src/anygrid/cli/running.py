"""`anygrid run`: a problem from sampling to report, or a run.toml again."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from anygrid.cli import names
from anygrid.cli.equations import equation_text, make_equation
from anygrid.cli.fitting import run_fit
from anygrid.cli.measuring import print_report
from anygrid.cli.output import disk_errors
from anygrid.cli.requests import FitRequest, ProblemRequest, open_run, read_request
from anygrid.cli.talk import Talk, clock, processes
from anygrid.cli.weather import run_weather
from anygrid.errors import UsageError

__all__ = ["run"]

_MADE = ("log.txt", "data.zarr", "data.zarr.partial", "checkpoint.safetensors", "surrogate.anygrid")


def run(
    what: Annotated[str, typer.Argument(help="A problem (`anygrid problems`), a TOML file with an [equation], or a run.toml.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; default runs/PROBLEM.")] = None,
    n: Annotated[int | None, typer.Option("-n", "--samples", help="Training samples or trajectories; 0: the equation alone.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Points along each axis of the solve.")] = None,
    store_resolution: Annotated[str | None, typer.Option(help="Points kept and trained on.")] = None,
    trajectory: Annotated[int | None, typer.Option(help="Steps of a training trajectory (evolutions).")] = None,
    test: Annotated[int | None, typer.Option(help="Test samples.")] = None,
    resolutions: Annotated[list[str] | None, typer.Option(help="Where to evaluate: 43,85,169.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time to train: 90s, 10m.")] = None,
    steps: Annotated[int | None, typer.Option(help="Or a number of optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the training samples and the initial weights.")] = None,
    operator: Annotated[str, typer.Option(help="default, fno, unet; sfno or sunet (sphere).")] = "default",
    width: Annotated[int | None, typer.Option(help="Channels inside the operator.")] = None,
    modes: Annotated[int | None, typer.Option(help="Functions kept along each axis (default, fno), degrees (sfno, sunet).")] = None,
    depth: Annotated[int | None, typer.Option(help="Blocks (default), layers (fno, sfno) or levels (unet, sunet).")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the problem, such as viscosity=1e-4.")] = None,
    physics: Annotated[bool, typer.Option("--physics", help="Train on the residual of the equation as well.")] = False,
    confine: Annotated[bool, typer.Option("--confine", help="Keep roll-outs to the training data however long they are (chaos).")] = False,
    long_steps: Annotated[int | None, typer.Option(help="Steps of long runs, for the statistics of chaos.")] = None,
    timing: Annotated[float | None, typer.Option(help="Seconds for timing surrogate and solver.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that solve; default: one a processor.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished or different run in the folder.")] = False,
) -> None:
    """Sample, solve, train, evaluate against solver and baselines, save, report: all in one folder. Killed, it continues.

    \b
    anygrid run darcy
    anygrid run navier-stokes --set viscosity=1e-4 --budget 10m
    anygrid run my_equation.toml
    anygrid run my_equation.toml --physics --samples 20
    anygrid run my_equation.toml --samples 0
    anygrid run runs/darcy/run.toml --out again
    anygrid run weather --budget 30m          # the budget of the whole job; needs the extra `weather`
    """
    said = ProblemRequest(
        problem=what.lower().replace("_", "-"),
        settings=tuple(settings or ()),
        n=n,
        resolution=resolution,
        store_resolution=store_resolution,
        trajectory=trajectory,
        test=test,
        resolutions=tuple(resolutions or ()),
        budget=budget,
        steps=steps,
        seed=seed,
        operator=operator,
        width=width,
        modes=modes,
        depth=depth,
        timing=timing,
        physics=physics,
        confine=confine,
        long_steps=long_steps,
    )
    path = Path(what)
    request: FitRequest | ProblemRequest
    equation = equation_text(path) if path.suffix == ".toml" and path.is_file() else ""
    if equation:
        request, folder = replace(said, problem=path.stem, equation=equation), out or Path("runs") / path.stem
    elif path.suffix == ".toml" or path.is_dir():
        path = path / "run.toml" if path.is_dir() else path
        if said != ProblemRequest(problem=said.problem):
            raise UsageError(
                f"run {path}", "only --out, --workers and --overwrite beside a run.toml", "other options", "change the file instead"
            )
        request = read_request(path)
        folder = out or _folder_of(path, request)
    else:
        request, folder = said, out or Path("runs") / said.problem
    if isinstance(request, FitRequest):
        run_fit(request, folder, None, overwrite)
    elif processes() > 1:
        hint = "generate the data first, and start torchrun -m -- anygrid fit on them"
        raise UsageError("run under torchrun", "a run.toml of `anygrid fit`", "a whole job", hint)
    elif request.problem == "weather" and request.equation is None:
        if workers is not None:
            raise UsageError("run weather", "its two processes", f"--workers {workers}", "leave --workers out")
        run_weather(request, folder, overwrite)
    else:
        _run_problem(request, folder, workers, overwrite)


def _folder_of(path: Path, request: FitRequest | ProblemRequest) -> Path:
    """The folder of a run whose run.toml is given; a run.toml on its own gets a new one."""
    if any((path.parent / name).exists() for name in _MADE):
        return path.parent
    return Path("runs") / (request.problem if isinstance(request, ProblemRequest) else path.resolve().parent.name)


def _run_problem(request: ProblemRequest, folder: Path, workers: int | None, overwrite: bool) -> None:
    from anygrid.training import parse_duration

    problem = names.make_problem(request.problem, request.settings) if request.equation is None else make_equation(request.equation)
    if request.equation is not None and request.settings:
        raise UsageError("--set", "a built-in problem", "an equation of your own", "change its TOML file")
    build = names.operator_named(request.operator, width=request.width, modes=request.modes, depth=request.depth)
    said = {
        "n": request.n,
        "resolution": None if request.resolution is None else names.resolution(request.resolution),
        "store_resolution": None if request.store_resolution is None else names.resolution(request.store_resolution, "--store-resolution"),
        "trajectory": request.trajectory,
        "test": request.test,
        "resolutions": names.resolutions(request.resolutions) or None,
        "budget": None if request.budget is None else parse_duration(request.budget, "--budget"),
        "steps": request.steps,
        "seed": request.seed,
        "timing": request.timing,
        "physics": request.physics or request.n == 0,
        "confine": request.confine,
        "long_steps": request.long_steps,
    }
    if request.budget is not None and request.steps is not None:
        raise UsageError("run", "one of --budget and --steps", "both", "leave one")
    for key in ("n", "trajectory", "test", "steps", "timing", "long_steps"):
        value = said[key]
        if isinstance(value, int | float) and value <= 0 and (key != "n" or value < 0):
            raise UsageError(f"--{key.replace('_', '-')}" if len(key) > 1 else f"-{key}", "a number above 0", str(value))
    from anygrid.pipeline import Watcher, changed, recipe_for
    from anygrid.pipeline import run as carry_out

    recipe = changed(recipe_for(problem), {k: v for k, v in said.items() if v is not None})
    if request.trajectory is not None and problem.dt is None:
        raise UsageError("--trajectory", "an evolution", f"{request.problem}, which is steady", "leave it out")
    if open_run(folder, request, overwrite):
        print(f"continuing the run in {folder}", file=sys.stderr)
    talk = Talk(log=folder / "log.txt")
    command = f"anygrid run {os.path.relpath(folder / 'run.toml')}"
    with talk.work(), disk_errors(folder):
        watcher = Watcher(talk.solved, talk.trained, talk.say, talk.stage)
        found = carry_out(problem, recipe, folder, watcher, operator=build, workers=workers, command=command)
        talk.say(f"the whole run took {clock(talk.seconds)}")
    print_report(found)
    print(f"report: {folder / 'report.html'}; numbers: {folder / 'metrics.json'}; surrogate: {folder / 'surrogate.anygrid'}")
