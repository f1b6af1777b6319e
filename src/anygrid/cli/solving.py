"""`anygrid problems` and `anygrid generate`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anygrid.cli import describe, names
from anygrid.cli.ensembles import hands
from anygrid.cli.output import check_writable, disk_errors
from anygrid.cli.talk import Talk, clock
from anygrid.errors import UsageError

if TYPE_CHECKING:
    from anygrid.problems.base import Problem

__all__ = ["generate", "problems"]


def problems(
    name: Annotated[str, typer.Argument(help="A problem, for its card.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the built-in problems and equations, or show the card of one, or of a TOML file with an [equation]."""
    facts = {key: _facts(names.make_problem(key)) for key in ([name] if name else names.problem_classes())}
    if as_json:
        print(json.dumps(next(iter(facts.values())) if name else facts, indent=1))
    elif name:
        describe.show(next(iter(facts.values())))
    else:
        for key, card in facts.items():
            print(f"{key}\n    {card['equation']}\n    {', '.join(card['inputs'])} -> {', '.join(card['outputs'])}; {card['kind']}")
        print("\nEquations given as text:")
        for key, texts in names.equation_texts().items():
            print(f"{key}\n    {'; '.join(texts)}")
        print("\n`anygrid problems NAME` shows a card, `anygrid run NAME` does everything.")


def _facts(problem: Problem) -> dict[str, Any]:
    """The card, the variables and the parameters of a problem."""
    shown = {}
    for side, variables in (("inputs", problem.inputs), ("outputs", problem.outputs)):
        shown[side] = {v.name: f"{v.long_name or v.name} [{v.units or '-'}]" for v in variables}
    # What an equation is made of stands in its card already.
    hidden = ("equations", "domain", "quantities", "initial", "boundary", "units")
    parameters = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem) if f.name not in hidden}  # type: ignore[arg-type]
    kind = "one map" if problem.dt is None else f"from time 0 to {problem.dt:g}" if problem.steps == 1 else f"steps of {problem.dt:g}"
    return {**dataclasses.asdict(problem.card), **shown, "kind": kind, "parameters": parameters}


def generate(
    problem: Annotated[str, typer.Argument(help="A problem; `anygrid problems` lists them.")],
    n: Annotated[int, typer.Option("-n", "--samples", help="Number of samples or trajectories.")],
    resolution: Annotated[str, typer.Option(help="Points along each axis of the solve: 421, or 128x64.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The Zarr store to write, such as data.zarr.")],
    store_resolution: Annotated[str | None, typer.Option(help="Keep only the points of this coarser grid.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a trajectory (evolutions); default: as published.")] = None,
    seed: Annotated[int, typer.Option(help="Sample i is a function of the seed and i alone.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each; default: one a processor.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Solve on a Dask cluster: tcp://HOST:8786. It must share the file system.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the problem, such as viscosity=1e-4.")] = None,
    label_check: Annotated[int, typer.Option(help="Samples solved again at twice the resolution, to state the error of the labels.")] = 4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished data set.")] = False,
) -> None:
    """Sample a problem, solve it in parallel, and write inputs and solutions to a Zarr store. Killed, the same command continues.

    \b
    anygrid generate darcy -n 1200 --resolution 421 --store-resolution 85 \\
                -o darcy.zarr
    """
    from anygrid.io.store import generate as make

    chosen = names.make_problem(problem, settings or [])
    if output.suffix != ".zarr":
        raise UsageError(
            f"-o {output}", "a name that ends in .zarr", repr(output.name), f"for example -o {output.with_suffix('.zarr').name}"
        )
    check_writable(output.parent)
    talk = Talk()
    seconds = 0.0

    def tell(done: int, total: int, so_far: float) -> None:
        nonlocal seconds
        seconds = so_far
        talk.solved(done, total, so_far)

    with talk.work(), disk_errors(output), hands(workers, scheduler) as cluster:
        make(
            chosen,
            n,
            names.resolution(resolution),
            output,
            seed=seed,
            workers=workers,
            cluster=cluster,
            store_resolution=None if store_resolution is None else names.resolution(store_resolution, "--store-resolution"),
            steps=steps,
            label_check=label_check,
            overwrite=overwrite,
            progress=tell,
        )
    print(f"{n} samples in {clock(seconds)}; `anygrid info {output}` shows what is in it", file=sys.stderr)
    print(output)
