"""`anygrid fit`: words to objects, the run folder, and the training."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anygrid.cli import names
from anygrid.cli.equations import equation_text, make_equation
from anygrid.cli.fit_arguments import arguments, number
from anygrid.cli.output import check_new, disk_errors
from anygrid.cli.requests import FitRequest, open_run
from anygrid.cli.talk import Talk, clock, speaks
from anygrid.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from anygrid.problems.base import Problem
    from anygrid.surrogate import Surrogate

__all__ = ["fit", "opened", "run_fit"]

_DATA, _LENGTH, _MODEL, _ROLES = "Data", "Length of the training", "Operator and training", "Where the data do not tell"


def fit(
    path: Annotated[list[str], typer.Argument(help="Files, folders, quoted globs, or gs://... of a Zarr store.")],
    inputs: Annotated[list[str] | None, typer.Option("--inputs", "-i", help="Inputs: z500 t850 t2m, or t@level=500.")] = None,
    outputs: Annotated[list[str] | None, typer.Option("--outputs", "-u", help="Outputs; default, with --lead: the inputs.")] = None,
    forcing: Annotated[
        list[str] | None, typer.Option(help="Inputs that are known ahead and not predicted: toa_radiation orography land_sea_mask.")
    ] = None,
    physics: Annotated[
        str | None,
        typer.Option(help="The equation they obey: a TOML file, a problem's name, or `data` where anygrid made them."),
    ] = None,
    lead: Annotated[
        str | None,
        typer.Option(help="How far ahead the outputs lie: 1month, 6h, 3steps, or 0.5 in units of the time coordinate."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", "--out", help="The surrogate to write; default NAME.anygrid.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder (log, checkpoints, run.toml); default runs/NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the surrogate and the run folder.")] = False,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part: time=1979:2005, lat=30:60 (both ends included).")] = None,
    validation: Annotated[str | None, typer.Option(help="Part held out (default 0.1), or files of their own.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time to train: 90s, 5m (the default), 1h30m.")] = None,
    steps: Annotated[int | None, typer.Option(help="Or a number of optimiser steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Or of passes through the data.")] = None,
    operator: Annotated[str, typer.Option(help="default, fno, unet; sfno or sunet (sphere).")] = "default",
    width: Annotated[int | None, typer.Option(help="Channels inside the operator.")] = None,
    modes: Annotated[int | None, typer.Option(help="Functions kept along each axis (default, fno), degrees (sfno, sunet).")] = None,
    stride: Annotated[
        int | None, typer.Option(help="Of the default operator's inner grid; 1: all points, for the longest roll-outs.")
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Blocks (default), layers (fno, sfno) or levels (unet, sunet).")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the schedule.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled, of matrices; default 1e-4.")] = None,
    seed: Annotated[int, typer.Option(help="Initial weights and the order of samples.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: cuda where there is one.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, or bfloat16 (mixed).")] = None,
    unroll: Annotated[int | None, typer.Option(help="Leads rolled out at the end of the training; default 3.")] = None,
    increment: Annotated[bool | None, typer.Option(help="Predict what a lead adds; default: yes with --lead.")] = None,
    gradient: Annotated[float | None, typer.Option(help="Weight of the gradient in the loss; default 0.1 with soap, else 0.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="soap (default from 60 s or 500 steps on), or adamw.")] = None,
    noise: Annotated[int | None, typer.Option(help="Channels of noise: a random surrogate for ensembles, trained on CRPS.")] = None,
    replay: Annotated[int | None, typer.Option(help="Train also on its own forecasts, of so many leads in the mean: no drift.")] = None,
    persistence: Annotated[bool | None, typer.Option(help="Predict what a lead adds to damped persistence: a stable climate.")] = None,
    parent: Annotated[str | None, typer.Option(help="A surrogate to go on from: its operator, weights and scaling.")] = None,
    waves: Annotated[int | None, typer.Option(help="Predict no waves above this number; on a sphere no higher degree.")] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Choose rate, gradient and width by short trainings, 15 % of the length.")
    ] = False,
    confine: Annotated[bool, typer.Option("--confine", help="Keep roll-outs to the training data however long they are (chaos).")] = False,
    coarse_first: Annotated[list[str] | None, typer.Option(help="FRACTION:STRIDE, such as 0.4:2: train on every 2nd point first.")] = None,
    augment: Annotated[list[str] | None, typer.Option(help="A symmetry of the problem: flip:x, shift:x or transpose:x:y.")] = None,
    keep_best: Annotated[bool, typer.Option("--keep-best", help="Keep the weights of the best validation, not the last.")] = False,
    periodic: Annotated[list[str] | None, typer.Option(help="Axes that close on themselves: x,y.")] = None,
    bounded: Annotated[list[str] | None, typer.Option(help="Axes that do not: z.")] = None,
    space: Annotated[list[str] | None, typer.Option(help="Dimensions that are space: y,x.")] = None,
    samples: Annotated[list[str] | None, typer.Option(help="Dimensions that count independent samples.")] = None,
    time: Annotated[str | None, typer.Option(help="The dimension that is time.")] = None,
    parallel: Annotated[
        str | None, typer.Option(help="Under torchrun: data (default), sharded (large weights), domain (large fields).")
    ] = None,
    micro_batch: Annotated[
        str | None, typer.Option(help="Samples computed at once: a number, or auto: halved where memory runs out.")
    ] = None,
) -> None:
    """Train a surrogate on your own data. Only the data, --inputs and --outputs are needed; what is inferred is printed.

    Interrupted or killed, the same command resumes exactly.

    \b
    anygrid fit "sst/*.nc" --inputs ssta --outputs ssta --lead 1month \\
                --select time=1979:2005 -o sst.anygrid
    anygrid fit era5.zarr --inputs z500 t850 u850 v850 t2m --lead 6h \\
                --forcing toa_radiation orography land_sea_mask --budget 2h
    anygrid fit darcy.mat --inputs coeff --outputs sol --budget 15m
    anygrid fit few.zarr --physics my_equation.toml
    torchrun --nproc-per-node 4 -m -- anygrid fit big.zarr -i a -u u --batch 32
    """
    named, known = _variables(inputs, "--inputs", physics), () if forcing is None else names.variable_names(forcing, "--forcing")
    twice = sorted(set(named) & set(known))
    if twice:
        raise UsageError("--forcing", "inputs that --inputs does not name", repr(twice[0]), "name it once: --forcing is an input too")
    request = FitRequest(
        data=tuple(_absolute(p) for p in path),
        inputs=(*named, *known),
        # An evolution predicts its own state.
        outputs=named if outputs is None and lead is not None and named else _variables(outputs, "--outputs", physics),
        physics=_equation_text(physics),
        lead=lead,
        select=tuple(select or ()),
        validation=validation if validation is None or number(validation) is not None else _absolute(validation),
        budget=budget,
        steps=steps,
        epochs=epochs,
        operator=operator,
        width=width,
        modes=modes,
        stride=stride,
        depth=depth,
        batch=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        device=device,
        precision=precision,
        unroll=unroll,
        increment=increment,
        gradient=gradient,
        optimizer=optimizer,
        noise=noise,
        replay=replay,
        persistence=persistence,
        parent=None if parent is None else _absolute(parent),
        waves=waves,
        search=search,
        confine=confine,
        coarse_first=tuple(coarse_first or ()),
        augment=tuple(augment or ()),
        keep_best=keep_best,
        periodic=tuple(periodic or ()),
        bounded=tuple(bounded or ()),
        space=tuple(space or ()),
        samples=tuple(samples or ()),
        time=time,
        parallel=parallel,
        micro_batch=micro_batch,
    )
    stem = Path(path[0].rstrip("/")).name.split(".")[0].strip("*?[]") or "data"
    target = output if output is not None or run is not None else Path(f"{stem}.anygrid")
    folder = run if run is not None else Path("runs") / (target.stem if target else stem)
    run_fit(request, folder, target, overwrite)


def run_fit(request: FitRequest, folder: Path, target: Path | None, overwrite: bool) -> Surrogate:
    """Carry out a request in its folder, and copy the surrogate to ``target``."""
    from anygrid.training import parse_duration

    first = speaks()  # of the processes that torchrun started, one does all that is done once
    if target is not None and first:
        check_new(target, overwrite)
    if request.budget is not None:
        parse_duration(request.budget, "--budget")
    chosen = arguments(request)
    physics = _problem(request.physics)
    data = opened(request.data, request.select)
    if request.validation is not None:
        part = number(request.validation)
        chosen["validation"] = opened((request.validation,), ()) if part is None else part
    layout = _layout(data, request)
    if first and open_run(folder, request, overwrite):
        print(f"continuing the run in {folder}", file=sys.stderr)
    from anygrid.training import fit as train

    talk = Talk(log=folder / "log.txt") if first else Talk(live=False)
    with talk.work(), disk_errors(folder):
        surrogate = train(
            data,
            request.inputs or None,
            request.outputs or None,
            physics=physics,
            lead=request.lead,
            layout=layout,
            run=folder,
            listener=talk.trained,
            **chosen,
        )
    if not first:
        return surrogate
    written = folder / "surrogate.anygrid"
    if target is not None:
        with disk_errors(target):
            aside = target.with_name(f".{target.name}.tmp")
            shutil.copyfile(written, aside)
            aside.replace(target)
        written = target
    record = surrogate.record
    error = record.get("validation_error")
    said = f"validation error {error:.4g} (relative L2), " if isinstance(error, float) else ""
    print(f"{record.get('steps', '?')} steps in {clock(float(record.get('seconds', 0)))}: {said}run folder {folder}", file=sys.stderr)
    print(written)
    return surrogate


def _variables(words: list[str] | None, where: str, physics: str | None) -> tuple[str, ...]:
    """Names of variables; an equation has its own."""
    if words is None:
        if physics is None or physics == "data":
            hint = f"{where} NAME; `anygrid info` lists them, `anygrid fit --help` says more"
            raise UsageError(where, "variables of the data", "none", hint)
        return ()
    return names.variable_names(words, where)


def _equation_text(physics: str | None) -> str | None:
    """The table of an equation's file, so that the run is repeated as it was; names stay."""
    if physics is None or not physics.endswith(".toml"):
        return physics
    if not Path(physics).is_file():
        raise UsageError(f"--physics {physics}", "a TOML file with an [equation]", "no such file", "see `anygrid problems` for examples")
    text = equation_text(Path(physics))
    if not text:
        raise UsageError(f"--physics {physics}", "a file with an [equation]", "none in it", "see `anygrid problems`")
    return text


def _problem(physics: str | None) -> bool | Problem:
    if physics is None or physics == "data":
        return physics is not None
    return make_equation(physics) if "=" in physics else names.make_problem(physics)


def opened(paths: tuple[str, ...], select: tuple[str, ...]) -> xr.Dataset:
    """The data of some paths, and the part of them that was asked for; longitudes that cross their seam ascend."""
    from anygrid.cli.selection import select_slices
    from anygrid.fields.longitudes import unwrapped
    from anygrid.io import read

    return select_slices(unwrapped(read(paths[0] if len(paths) == 1 else list(paths))), select)


def _layout(data: xr.Dataset, request: FitRequest) -> Any:
    """Roles of the dimensions where some were said; otherwise ``fit`` finds them."""
    if not (request.space or request.samples or request.time):
        return None
    from anygrid.fields import find_layout

    def split(words: tuple[str, ...]) -> list[str] | None:
        return [p.strip() for w in words for p in w.split(",") if p.strip()] or None

    return find_layout(
        data, (*request.inputs, *request.outputs), space=split(request.space), samples=split(request.samples), time=request.time
    )


def _absolute(path: str) -> str:
    """Paths of a run.toml hold from anywhere; addresses do as they are, and a Path would make one slash of their two."""
    from anygrid.io.addresses import is_address

    if is_address(path):
        return path
    return str(Path.cwd() / os.path.expanduser(path)) if path.strip() else path  # noqa: PTH111 - as io.read does it
