"""`anygrid verify`: a forecast against the truth."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anygrid.cli.fitting import opened
from anygrid.cli.output import check_new
from anygrid.cli.talk import Talk
from anygrid.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from anygrid.verification import Event, Verification
    from anygrid.verification.result import Calibrated

__all__ = ["show", "verify"]

_EVENT = re.compile(r"^\s*(?P<name>.+?)\s*(?P<sign>[<>])\s*(?P<value>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(?P<unit>[A-Za-z%][^<>]*)?$")
_SHOWN = {
    "rmse": "rmse",
    "persistence rmse": "persist.",
    "climatology rmse": "climat.",
    "bias": "bias",
    "anomaly correlation": "acc",
    "activity ratio": "activity",
    "crps": "crps",
    "climatology crps": "climat.",
    "spread-skill ratio": "spread/skill",
}


def verify(
    forecast: Annotated[str, typer.Argument(help="A forecast: single, an ensemble with members, or its statistics.")],
    truth: Annotated[list[str], typer.Argument(help="The truth: files, folders or quoted globs.")],
    variables: Annotated[list[str] | None, typer.Option(help="Verify these only: z500,t2m.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the forecast: lat=30:60.")] = None,
    truth_select: Annotated[list[str] | None, typer.Option(help="Use only a part of the truth: number=0.")] = None,
    climatology: Annotated[list[str] | None, typer.Option(help="Past data without the verified period, for the climatology.")] = None,
    climatology_select: Annotated[list[str] | None, typer.Option(help="The part of --climatology to use: time=1979:2010.")] = None,
    reference: Annotated[str | None, typer.Option(help="Another forecast of the same starts, for a scorecard.")] = None,
    event: Annotated[list[str] | None, typer.Option(help="An event, in units of the forecast: 't2m>300'.")] = None,
    station: Annotated[str | None, typer.Option(help="LAT,LON of a plume in the report.")] = None,
    calibrate_until: Annotated[
        str | None, typer.Option(help="Fit a calibration on the starts that end before this date; judge it on the later ones.")
    ] = None,
    block: Annotated[int | None, typer.Option(help="Starts in a block of the bootstrap; default: cube root of their number.")] = None,
    draws: Annotated[int, typer.Option(help="Resamplings for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of resamplings and random ties.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write a page: report.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all scores as JSON.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
) -> None:
    """Score a forecast by variable and lead against the truth, persistence, climatology and another forecast.

    \b
    anygrid verify ens.zarr truth.zarr --climatology past.zarr \\
                --event "t2m>300" --station 52.1,5.2 --report report.html
    """
    from anygrid.verification import verify as score

    if report is not None:
        check_new(report, overwrite)
    if draws < 1:
        raise UsageError("--draws", "1 or more", str(draws))
    events = [read_event(text) for text in event or ()]
    place = None if station is None else _place(station)
    talk = Talk()
    with talk.work():
        found = score(
            opened((forecast,), tuple(select or ())),
            opened(tuple(truth), tuple(truth_select or ())),
            climatology=opened(tuple(climatology), tuple(climatology_select or ())) if climatology else None,
            reference=opened((reference,), tuple(select or ())) if reference else None,
            variables=_split(variables),
            events=events,
            station=place,
            calibrate_until=calibrate_until,
            block=block,
            draws=draws,
            seed=seed,
            names=(forecast, ", ".join(truth), reference or ""),
            progress=talk.stage,
        )
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    for missing in found.cannot:
        print(f"not computed: {missing}", file=sys.stderr)
    if report is not None:
        from anygrid.report.verification_page import verification_page
        from anygrid.surrogate.file import write_atomically

        text = verification_page(found, "anygrid " + shlex.join(sys.argv[1:]) if sys.argv[1:2] == ["verify"] else "")
        write_atomically(report, text.encode())
        print(f"page: {report}", file=sys.stderr)
    if as_json:
        print(found.to_json())
    else:
        show(found)


def read_event(text: str) -> Event:
    """``t2m>300`` or ``t2m < 273.15``; a unit behind the number is not converted, so it is refused.

    Raises
    ------
    UsageError
        For another form.
    """
    from anygrid.verification import Event

    found = _EVENT.match(text)
    if found is None:
        raise UsageError("--event", "NAME>VALUE or NAME<VALUE", repr(text), "for example --event 't2m>300'")
    if found["unit"]:
        hint = f"write --event '{found['name']}{found['sign']}{found['value']}' with the value in the units of the forecast"
        raise UsageError("--event", "a number without a unit", repr(text), hint)
    try:
        value = float(found["value"])
    except ValueError as error:
        raise UsageError("--event", "a number", repr(found["value"])) from error
    return Event(found["name"], found["sign"] == ">", value)


def _place(text: str) -> tuple[float, float]:
    try:
        first, second = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UsageError("--station", "LAT,LON in degrees", repr(text), "for example --station 52.1,5.2") from error
    return first, second


def _split(words: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for word in words or () for name in word.split(",") if name.strip())


def show(found: Verification) -> None:
    """A table for each variable: leads down, scores across, with the interval of the main ones."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for v in found.variables:
        curves = [c for name in _SHOWN if (c := v.curve(name)) is not None]
        units = f" ({v.units})" if v.units not in ("", "1") else ""
        table = Table(title=f"{v.name}{units}", title_justify="left")
        for column in ("lead", "starts", *(_SHOWN[c.name] for c in curves)):
            table.add_column(column, justify="right", no_wrap=True)
        for k, lead in enumerate(found.leads):
            cells = [f"{lead:g} {found.lead_units}", str(v.starts[k]) if v.starts else "-"]
            for c in curves:
                wide = c.name in ("rmse", "crps") and c.low[k] == c.low[k]
                cells.append(_number(c.value[k]) + (f" [{_number(c.low[k])}, {_number(c.high[k])}]" if wide else ""))
            table.add_row(*cells)
        console.print(table)
        for e in v.events:
            told = {c.name: c for c in e.curves}
            table = Table(title=e.event, title_justify="left")
            for column in ("lead", "frequency", *told):
                table.add_column(column, justify="right")
            for k, lead in enumerate(found.leads):
                table.add_row(f"{lead:g} {found.lead_units}", _number(e.frequency[k]), *(_number(c.value[k]) for c in told.values()))
            console.print(table)
        if v.calibrated is not None:
            _show_calibrated(console, v.name, v.calibrated, found)
        for d in v.comparisons:
            sure = [low > 0 or high < 0 for low, high in zip(d.low, d.high, strict=True)]
            parts = [f"{value:+.1%}{'*' if star else ''}" for value, star in zip(d.difference, sure, strict=True)]
            console.print(f"{d.score} against {found.reference}: {' '.join(parts)}   (* the interval leaves out zero)", markup=False)


def _show_calibrated(console: Console, name: str, c: Calibrated, found: Verification) -> None:
    """What calibration did, by lead."""
    from rich.table import Table

    table = Table(title=f"{name} calibrated on {c.fitted} starts, judged on {c.judged}", title_justify="left")
    events = [f"Brier of {e.name}" for e in c.events]
    for column in ("lead", "a", "b", "c", "d", "crps before", "after", "difference", f"fields in {c.coverage:.0%} band", *events):
        table.add_column(column, justify="right")
    for k, lead in enumerate(found.leads):
        before, after, change = (curve.value[k] for curve in c.curves)
        cells = [*(_number(row[k]) for row in c.coefficients), _number(before), _number(after), f"{change:+.1%}", _number(c.covered[k])]
        table.add_row(f"{lead:g} {found.lead_units}", *cells, *(f"{e.value[k]:+.1%}" for e in c.events))
    console.print(table)
    if c.note:
        print(f"note: {c.note}", file=sys.stderr)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4g}"
