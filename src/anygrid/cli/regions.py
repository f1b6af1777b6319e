"""`anygrid downscale`, and what of a forecast is written where a grid or a region was asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anygrid.cli import names
from anygrid.cli.fitting import opened
from anygrid.cli.output import check_new, check_writable, disk_errors
from anygrid.cli.talk import Talk, clock
from anygrid.errors import UsageError

if TYPE_CHECKING:
    from anygrid.forecast import View
    from anygrid.surrogate import Surrogate

__all__ = ["downscale", "view_of"]


def downscale(
    fine: Annotated[list[str], typer.Argument(help="Fine fields of the region: files, folders or quoted globs.")],
    coarse: Annotated[list[str], typer.Option(help="Coarse global fields of the same times: analyses, or forecasts by valid time.")],
    inputs: Annotated[list[str], typer.Option("--inputs", "-i", help="Variables of the coarse fields.")],
    outputs: Annotated[list[str], typer.Option("--outputs", "-u", help="Variables of the fine fields.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="What to write: NAME.anygrid.")],
    static: Annotated[list[str] | None, typer.Option(help="Fine fields that do not change: orography,land_sea_mask.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the fine fields: time=2000:2010, lat=30:75.")] = None,
    validation: Annotated[float, typer.Option(help="Part of the times held out, the last.")] = 0.1,
    budget: Annotated[str | None, typer.Option(help="Time to train: 90s, 5m (the default), 1h30m.")] = None,
    steps: Annotated[int | None, typer.Option(help="Or a number of optimiser steps.")] = None,
    operator: Annotated[str, typer.Option(help="default, fno or unet.")] = "default",
    width: Annotated[int | None, typer.Option(help="Channels inside the operator.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the schedule.")] = None,
    seed: Annotated[int, typer.Option(help="Initial weights and the order of samples.")] = 0,
    keep_best: Annotated[bool, typer.Option("--keep-best", help="Keep the weights of the best validation, not the last.")] = False,
    run: Annotated[Path | None, typer.Option(help="Run folder, from which the same command continues; default runs/NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is written.")] = False,
) -> None:
    """Learn what fine data of a region add to coarse global fields of the same times. docs/region.md says when it helps.

    Interrupted or killed, the same command resumes.

    \b
    anygrid downscale "europe/*.nc" --coarse global.zarr --inputs z500,t850,t2m \\
                      --outputs t2m --static orography -o europe.anygrid
    anygrid forecast w.anygrid init.nc --steps 40 --downscale europe.anygrid -o out.nc
    anygrid predict europe.anygrid coarse.nc -o fine.nc
    """
    from anygrid.training import fit_downscaling, parse_duration

    check_new(output, overwrite)
    check_writable(output.parent)
    if budget is not None:
        parse_duration(budget, "--budget")
    build = names.operator_named(operator, width=width, modes=None, depth=None)
    still = names.variable_names(static, "--static") if static else ()
    talk, folder = Talk(), Path("runs") / output.stem if run is None else run
    with talk.work(), disk_errors(folder):
        found = fit_downscaling(
            opened(tuple(fine), tuple(select or ())),
            opened(tuple(coarse), ()),
            names.variable_names(inputs, "--inputs"),
            names.variable_names(outputs, "--outputs"),
            static=still,
            validation=validation,
            budget=budget,
            steps=steps,
            operator=build,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            keep_best=keep_best,
            run=folder,
            listener=talk.trained,
        )
    with disk_errors(output):
        found.save(output)
    record: dict[str, Any] = found.correction.record
    error = record.get("validation_error")
    said = (
        f": {error:.3g} of the error of interpolation and mean departure is left at the held-out times" if isinstance(error, float) else ""
    )
    print(f"{record.get('steps', '?')} steps in {clock(float(record.get('seconds', 0)))}{said}", file=sys.stderr)
    print(output)


def view_of(
    model: Surrogate,
    resolution: str | None,
    like: str | None,
    points: Path | None,
    bounds: list[str] | None,
    region: Path | None,
) -> View | None:
    """What of a forecast is written; None for the states themselves.

    Raises
    ------
    UsageError
        For a grid and a region at once; and as :func:`~anygrid.cli.grids.target_grid`.
    """
    from anygrid.cli.grids import target_grid
    from anygrid.forecast import View, on_grid
    from anygrid.surrogate import Downscaling, window

    grid, _ = target_grid(model, resolution, like, points, bounds)
    if region is not None:
        if grid is not None:
            raise UsageError("--downscale", "a region alone", "a grid as well", "leave --resolution, --like, --points and --bounds out")
        found = Downscaling.load(region)
        return View(found.inputs, found.outputs, found.grid, found)
    return None if grid is None else on_grid(model.outputs, window(grid, model.grid, "forecast: output grid"))
