"""`anygrid predict`, `refine`, `forecast` and `info`: what one does with a surrogate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anygrid.cli import describe
from anygrid.cli.fitting import opened
from anygrid.cli.output import check_new, check_writable, data_suffix, write_dataset
from anygrid.cli.talk import Talk
from anygrid.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import xarray as xr

    from anygrid.forecast import Hybrid
    from anygrid.surrogate import Surrogate

__all__ = ["forecast", "info", "predict", "refine"]


def predict(
    surrogate: Annotated[Path, typer.Argument(help="A surrogate that `anygrid fit` wrote.")],
    new: Annotated[list[str], typer.Argument(help="New inputs: files, folders or quoted globs.")],
    output: Annotated[Path, typer.Option("-o", "--output", "--out", help="Where to write: NAME.nc or NAME.zarr.")],
    resolution: Annotated[str | None, typer.Option(help="Output at this resolution, such as 180x360.")] = None,
    like: Annotated[str | None, typer.Option(help="Output on the grid of this file.")] = None,
    points: Annotated[
        Path | None, typer.Option(help="Output at the stations of this CSV table (columns named like the coordinates).")
    ] = None,
    bounds: Annotated[list[str] | None, typer.Option(help="Output on a part of the grid: lat=30:75,lon=-60:40.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the inputs: time=2010:2013.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="For fields larger than memory: work in slabs of about so many bytes (2GB), to NAME.zarr.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Apply a surrogate to new inputs, on their own grid or any other; units and coordinates are kept.

    \b
    anygrid predict sst.anygrid new.nc -o out.nc --resolution 180x360

    What `anygrid downscale` wrote is applied to coarse fields of the whole, and gives its region.
    """
    from anygrid.cli.grids import target_grid
    from anygrid.evaluate.large import stream
    from anygrid.surrogate import Downscaling, kind_of, read_surrogate
    from anygrid.surrogate.downscaling import KIND

    data_suffix(output)
    if memory is None:
        check_new(output, overwrite)
    elif output.suffix != ".zarr":
        raise UsageError("predict --memory", "an output NAME.zarr, which is written in parts", output.name, f"write -o {output.stem}.zarr")
    if kind_of(surrogate) == KIND:
        if resolution or like or points or bounds or memory:
            raise UsageError(
                f"predict {surrogate}", "nothing on the grid", "an option that chooses one", "a downscaling has its own region"
            )
        _write(Downscaling.load(surrogate).predict(opened(tuple(new), tuple(select or ()))), output, overwrite)
        return
    model = read_surrogate(surrogate)
    grid, columns = target_grid(model, resolution, like, points, bounds)
    data = opened(tuple(new), tuple(select or ()))
    if memory is not None:
        talk = Talk()
        with talk.work():
            path = stream(model, data, output, grid, memory=memory, overwrite=overwrite, progress=talk.streamed)
        print(path)
        return
    out = model.predict(data, grid)
    if columns and grid is not None:
        out = out.assign_coords({name: (grid.dims[0], values) for name, values in columns.items() if name not in out.coords})
    _write(out, output, overwrite)


def _write(out: xr.Dataset, output: Path, overwrite: bool) -> None:
    write_dataset(out, output, overwrite)
    sizes = ", ".join(f"{d} {n}" for d, n in out.sizes.items())
    print(f"{', '.join(map(str, out.data_vars))} on {sizes}", file=sys.stderr)
    print(output)


def refine(
    surrogate: Annotated[Path, typer.Argument(help="A surrogate of data that `anygrid generate` or `anygrid run` made.")],
    new: Annotated[list[str], typer.Argument(help="New inputs: files, folders or quoted globs.")],
    output: Annotated[Path, typer.Option("-o", "--output", "--out", help="Where to write: NAME.nc or NAME.zarr.")],
    tolerance: Annotated[float, typer.Option(help="Of the solver.")] = 1e-6,
    compare: Annotated[int, typer.Option(help="Samples also solved without the prediction, to count what it saves.")] = 4,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the inputs: sample=0:9.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors and iterations as JSON.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Bring predictions to the solver's accuracy: the solver goes on from the surrogate.

    \b
    anygrid refine runs/darcy/surrogate.anygrid new.nc -o exact.nc --tolerance 1e-8
    """
    from anygrid.surrogate import read_surrogate
    from anygrid.surrogate.refine import refine as solve

    data_suffix(output)
    check_new(output, overwrite)
    out = solve(read_surrogate(surrogate), opened(tuple(new), tuple(select or ())), tolerance, compare=compare)
    write_dataset(out, output, overwrite)
    told = {k: v for k, v in out.attrs.items() if k in ("tolerance", "scheme") or k.startswith(("solver_", "surrogate_", "iterations"))}
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for name, value in told.items():
        print(f"{name.replace('_', ' ')}: {f'{value:.4g}' if isinstance(value, float) else value}", file=sys.stderr)
    print(output)


def forecast(
    surrogate: Annotated[Path, typer.Argument(help="A surrogate that was fitted with --lead.")],
    initial: Annotated[list[str], typer.Argument(help="Data that hold the state to start from.")],
    output: Annotated[Path, typer.Option("-o", "--output", "--out", help="Where to write: NAME.zarr (resumable) or NAME.nc.")],
    steps: Annotated[int | None, typer.Option(help="How many leads to go on.")] = None,
    days: Annotated[float | None, typer.Option(help="Or how many days, a multiple of the surrogate's step.")] = None,
    start: Annotated[str, typer.Option(help="Which times to start from: last, first or each.")] = "last",
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the initial data: time=2005-12.")] = None,
    every: Annotated[int, typer.Option(help="Keep every so many steps.")] = 1,
    resolution: Annotated[str | None, typer.Option(help="Write it at this resolution, such as 181x360, interpolated.")] = None,
    like: Annotated[str | None, typer.Option(help="Write it on the grid of this file, which may be a region.")] = None,
    points: Annotated[Path | None, typer.Option(help="Write it at the stations of this CSV table.")] = None,
    bounds: Annotated[list[str] | None, typer.Option(help="Write a part of it: lat=30:75,lon=-60:40.")] = None,
    downscale: Annotated[Path | None, typer.Option(help="Write the region that `anygrid downscale` was trained for.")] = None,
    forcings: Annotated[list[str] | None, typer.Option(help="Inputs that are not predicted, at the times of the forecast.")] = None,
    check: Annotated[
        float | None, typer.Option(help="Let the solver take steps whose residual is above this quantile, such as 0.95.")
    ] = None,
    held_out: Annotated[list[str] | None, typer.Option(help="Data for that quantile; default: samples solved afresh.")] = None,
    truth: Annotated[list[str] | None, typer.Option(help="The truth: for the skill by lead, or crps and rank among --keep.")] = None,
    train: Annotated[list[str] | None, typer.Option(help="Data for the climatology; default: the truth, which flatters it.")] = None,
    train_select: Annotated[list[str] | None, typer.Option(help="The part of --train to use.")] = None,
    members: Annotated[int | None, typer.Option(help="Forecast an ensemble of so many members.")] = None,
    perturb: Annotated[
        float | None, typer.Option(help="Random fields on each member's start, in standard deviations of the training.")
    ] = None,
    length: Annotated[float | None, typer.Option(help="Their correlation length; default: a tenth of the domain, 10 degrees.")] = None,
    member_dim: Annotated[str | None, typer.Option(help="The dimension of the initial data that counts members.")] = None,
    seed: Annotated[int, typer.Option(help="A member is a function of the seed and its number alone.")] = 0,
    keep: Annotated[str, typer.Option(help="Statistics: mean,std,min,max,crps,rank,quantiles(0.1,0.9),exceedance(t2m>300K).")] = "mean,std",
    keep_members: Annotated[str | None, typer.Option(help="Members to keep themselves: 0:10.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ensembles: processes, one thread each; default: one a processor.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Forecast on a Dask cluster: tcp://HOST:8786, to a NAME.zarr that it sees.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the skill as JSON.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Apply a surrogate again and again from a state, and score it by lead against persistence and climatology.

    \b
    anygrid forecast sst.anygrid sst.nc --select time=2005-12 --steps 12 \\
                -o forecast.zarr --truth sst.nc
    anygrid forecast sst.anygrid sst.nc --steps 12 --members 1000 \\
                --perturb 0.01 --keep "mean,std,quantiles(0.1,0.9)" -o ens.zarr
    anygrid forecast w.anygrid init.nc --days 10 --members 1000 --out ens.zarr \\
                --keep "mean,std,quantiles,exceedance(t2m>300K)"
    """
    from anygrid.cli import ensembles
    from anygrid.cli.leads import steps_of
    from anygrid.cli.regions import view_of
    from anygrid.cli.skill import climatology_for, skill_rows, time_of
    from anygrid.cli.starting import prepared
    from anygrid.fields import adopt
    from anygrid.fields.longitudes import longitude_turn
    from anygrid.forecast import forecast as roll
    from anygrid.surrogate import read_surrogate

    store = data_suffix(output) == "zarr"
    if start not in ("last", "first", "each"):
        raise UsageError("--start", "last, first or each", repr(start), did_you_mean(start, ["last", "first", "each"]))
    if not store:
        check_new(output, overwrite)
    check_writable(output.parent)
    model = read_surrogate(surrogate)
    if model.dt is None:
        raise UsageError(
            f"forecast {surrogate}", "a surrogate fitted with --lead", "one of a steady map", "fit it with --lead, or use predict"
        )
    count = steps_of(steps, days, model.dt)
    if held_out and check is None:
        raise UsageError("--held-out", "a quantile to find in these data", "none", "add --check 0.95")
    asked = ensembles.Asked(members, member_dim, perturb, length, seed, keep, keep_members, workers, scheduler)
    if asked.anything and check is not None:
        raise UsageError("--check", "one forecast in this process", "an ensemble, or other processes", "leave it out")
    if asked.many and truth and not ensembles.kept(keep, None, model.outputs).scores:
        hint = "add --keep mean,std,crps,rank, or leave --truth out and score with `anygrid verify`"
        raise UsageError("--truth", "scores of members among --keep", repr(keep), hint)
    view = view_of(model, resolution, like, points, bounds, downscale)
    if view is not None and (asked.anything or truth):
        hint = "downscale or interpolate what it writes with `anygrid predict`, or leave --members and --truth out"
        raise UsageError("forecast on another grid", "one forecast, without members and skill", "an ensemble or a truth", hint)
    hybrid = None if check is None else _hybrid(model, check, held_out)
    data = opened(tuple(initial), tuple(select or ()))
    judge = opened(tuple(truth), ()) if truth and asked.many else None
    right = adopt(opened(tuple(truth), ()), model.outputs, "--truth") if truth and not asked.many else None
    clock = None if right is None else time_of(right, [v.name for v in model.outputs])
    talk = Talk()
    data, forced = prepared(model, data, start, opened(tuple(forcings), ()) if forcings else None, member_dim)
    known = None if right is None or clock is None else right[clock]
    with talk.work():
        if asked.anything:
            found = ensembles.carry_out(
                model,
                data,
                count,
                asked,
                start=start,
                every=every,
                forcings=forced,
                truth=judge,
                known_times=known,
                out=output if store else None,
                overwrite=overwrite,
                progress=talk.members,
            )
        else:
            found = roll(
                hybrid or model,
                data,
                count,
                inputs=model.inputs,
                outputs=model.outputs,
                dt=model.dt,
                domain=model.grid,
                start=start,  # type: ignore[arg-type]
                every=every,
                forcings=forced,
                known_times=known,
                view=view,
                out=output if store else None,
                overwrite=overwrite,
                progress=talk.rolled,
            )
    if not store:
        write_dataset(found, output, overwrite)
    if hybrid is not None:
        tally = hybrid.tally
        print(f"the solver took {tally.solved} of {tally.rows} steps: estimated error above {hybrid.threshold:.3g}", file=sys.stderr)
    sizes = ", ".join(f"{d} {n}" for d, n in found.sizes.items())
    print(f"{output}: {', '.join(map(str, found.data_vars))} on {sizes}", file=sys.stderr)
    if right is None:
        print(output)
        return
    past = adopt(opened(tuple(train), tuple(train_select or ())), model.outputs, "--train") if train else right
    found, right, data, past = (longitude_turn(ds, model.grid).to(ds) for ds in (found, right, data, past))
    climatology, what = climatology_for(found, past, [v.name for v in model.outputs])
    rows = skill_rows(model, found, right, data, climatology)
    print(f"climatology: {what} of the {'training data' if train else 'truth itself, which flatters it'}", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _show_skill(rows)


def _hybrid(model: Surrogate, quantile: float, held_out: list[str] | None) -> Hybrid:
    """The surrogate with its solver beside it."""
    from anygrid.forecast import Hybrid, calibrate, own_data
    from anygrid.surrogate.model import equation_of

    problem = equation_of(model, "forecast --check")
    known = opened(tuple(held_out), ()) if held_out else own_data(problem, model.grid.shape)
    return Hybrid(model, problem, calibrate(model, problem, known, quantile))


def _show_skill(rows: list[dict[str, Any]]) -> None:
    """A table with one line for each lead and variable."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Skill by lead (1 perfect, 0 no better, below 0 worse)", title_justify="left")
    for column in rows[0]:
        if column != "units":
            table.add_column(column, justify="left" if column == "variable" else "right")
    for row in rows:
        shown = [f"{row['lead']:g} {row['units']}", *(v for k, v in row.items() if k not in ("lead", "units"))]
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else "-" if v is None else str(v) for v in shown))
    Console(highlight=False, width=None if sys.stdout.isatty() else 130).print(table)


def info(
    path: Annotated[str, typer.Argument(help="A surrogate, or any data file, folder, glob or address of a Zarr store.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a surrogate is and how it was trained; or, of a data file, what is in it and how it is understood."""
    facts: dict[str, Any]
    if describe.is_surrogate(path):
        from anygrid.surrogate import kind_of, read_surrogate
        from anygrid.surrogate.downscaling import KIND

        facts = describe.downscaling_facts(path) if kind_of(path) == KIND else describe.surrogate_facts(read_surrogate(path))
    else:
        from anygrid.io import read

        facts = describe.data_facts(read(path))
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
    else:
        describe.show(facts)
