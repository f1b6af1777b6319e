"""`anygrid animate`: a forecast as animated maps."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anygrid.cli.fitting import opened
from anygrid.cli.output import check_new
from anygrid.cli.talk import Talk
from anygrid.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    import xarray as xr

    from anygrid.report.scenes import Member

__all__ = ["animate"]

_KINDS = {".gif": "gif", ".png": "apng", ".apng": "apng"}
_ALIASES = {"lat": "latitude", "latitude": "lat", "lon": "longitude", "longitude": "lon"}


def animate(
    forecast: Annotated[str, typer.Argument(help="A forecast: single, an ensemble with members, or its statistics.")],
    output: Annotated[Path, typer.Option("-o", "--output", "--out", help="Where to write: NAME.gif, or NAME.png in all colours.")],
    truth: Annotated[list[str] | None, typer.Option(help="The truth, drawn beside it with the difference.")] = None,
    variable: Annotated[str | None, typer.Option(help="What to draw: z500; default: the first variable.")] = None,
    start: Annotated[str | None, typer.Option("--start", "--init", help="Which start: 2010-03-01, a number from 0, first or last.")] = None,
    member: Annotated[str | None, typer.Option(help="One member by its number, or mean or spread alone.")] = None,
    bounds: Annotated[list[str] | None, typer.Option(help="Draw a part of the map: lat=30:75,lon=-60:40.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the forecast: lead_time=1:5.")] = None,
    truth_select: Annotated[list[str] | None, typer.Option(help="Use only a part of the truth: number=0.")] = None,
    every: Annotated[int, typer.Option(help="Show every so many leads.")] = 1,
    speed: Annotated[float, typer.Option(help="Frames a second.")] = 2.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Draw a forecast as animated maps with coastlines: a frame for each lead, one colour scale.

    An ensemble is drawn as its mean and spread; a truth and the difference from it come beside them.

    \b
    anygrid animate ens.zarr --truth truth.zarr --variable z500 -o z500.gif
    anygrid animate ens.zarr --variable t2m --member 3 --start 2010-03-01 \\
                    --bounds lat=30:75,lon=-60:40 --speed 4 -o t2m.gif
    """
    from anygrid.report.animation import animate as draw
    from anygrid.surrogate.file import write_atomically

    if output.suffix.lower() not in _KINDS:
        raise UsageError(f"-o {output}", "a file name that ends in .gif, .png or .apng", repr(output.name), "for example -o film.gif")
    check_new(output, overwrite)
    who = _member(member)
    talk = Talk()
    with talk.work():
        found = draw(
            _window(opened((forecast,), tuple(select or ())), bounds or []),
            opened(tuple(truth), tuple(truth_select or ())) if truth else None,
            variable=variable,
            start=start,
            member=who,
            every=every,
            speed=speed,
            kind="gif" if _KINDS[output.suffix.lower()] == "gif" else "apng",
            names=(forecast, ", ".join(truth or ())),
            progress=talk.drawn,
        )
        write_atomically(output, found.data)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{found.frames} frames, {len(found.data) / 1e6:.2g} MB", file=sys.stderr)
    print(output)


def _member(word: str | None) -> Member:
    if word is None or word in ("mean", "spread"):
        return word  # type: ignore[return-value]
    if not re.fullmatch(r"\d{1,9}", word.strip()):
        raise UsageError("--member", "a number, mean or spread", repr(word), did_you_mean(word, ("mean", "spread")))
    return int(word)


def _window(ds: xr.Dataset, bounds: list[str]) -> xr.Dataset:
    """The points inside bounds such as ``lat=30:75,lon=-60:40``, both ends included."""
    from anygrid.cli.selection import select_slices

    for word in (piece.strip() for text in bounds for piece in text.split(",") if piece.strip()):
        name, _, text = (part.strip() for part in word.partition("="))
        found = name if name in ds.dims else _ALIASES.get(name, name)
        if found not in ds.dims:
            raise UsageError("--bounds", "an axis of the data", repr(name), did_you_mean(name, map(str, ds.dims)))
        try:
            low, high = (float(part) for part in text.split(":"))
        except ValueError as error:
            raise UsageError("--bounds", "AXIS=FROM:TO", repr(word), "for example --bounds lat=30:75,lon=-60:40") from error
        before = ds.sizes[found]
        try:
            ds = select_slices(ds, [f"{found}={low}:{high}"])
            inside = ds.sizes[found]
        except DataError:
            inside = 0
        if inside < 2:
            raise UsageError(
                "--bounds", "two or more points inside", f"{inside} of {found}", f"{found} has {before} points; give wider bounds"
            )
    return ds
