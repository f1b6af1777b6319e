"""The page: one self-contained HTML file without scripts or external requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from anygrid.errors import FileError
from anygrid.evaluate.result import Comparison, Report, duration, grid_name
from anygrid.report import charts, long_time, pictures, tables
from anygrid.report.style import CSS

__all__ = ["page", "write_report"]

_LONG_CAPTION = (
    "Statistics of long runs: the solver thick, the maps thin. Densities are those of values and of slopes along the first coordinate, "
    "over the range of the solver's; the autocorrelation is that at a point, averaged over the domain."
)
Record = Sequence[Mapping[str, float | None]]
Facts = Mapping[str, object]


def write_report(
    report: Report,
    folder: str | Path,
    *,
    training_record: Record = (),
    data_card: Facts | None = None,
    model_card: Facts | None = None,
    title: str = "",
    command: str = "",
) -> Path:
    """Write ``report.html`` and ``metrics.json`` into ``folder`` (made if need be) and return the path of the page.

    Parameters
    ----------
    training_record
        Rows with any of ``step, seconds, loss, validation, lr``.
    data_card, model_card
        Facts about the data and the model, shown as they are.
    title
        Heading; by default the subject of the report.
    command
        Command line that repeats the run.

    Raises
    ------
    FileError
        When the folder cannot be written.
    """
    folder = Path(folder)
    text = page(report, training_record=training_record, data_card=data_card, model_card=model_card, title=title, command=command)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("metrics.json", report.to_json()), ("report.html", text)):
            # Written beside and renamed, so that a full disk leaves the previous report
            part = folder / f".{name}.part"
            part.write_text(content, encoding="utf-8")
            part.replace(folder / name)
    except OSError as error:
        raise FileError("write_report", "a folder that can be written", f"{folder}: {error.strerror}", "choose another folder") from error
    return folder / "report.html"


def page(
    report: Report,
    *,
    training_record: Record = (),
    data_card: Facts | None = None,
    model_card: Facts | None = None,
    title: str = "",
    command: str = "",
) -> str:
    """HTML of the report."""
    heading = title or report.subject
    cost = _figure(charts.cost_chart(report), _cost_caption(report)) + tables.comparison_table(report)
    scale = _figure(charts.spectra_chart(report), _spectra_caption(report), narrow=len(report.outputs) == 1) + tables.bands_table(report)
    training = _figure(charts.training_chart(training_record), "Training loss and validation error as training recorded them.", narrow=True)
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="lead">{escape(_subtitle(report))}</p>',
        _tiles(report),
        '<ul class="verdict">' + "".join(f"<li>{escape(line)}</li>" for line in report.verdict) + "</ul>",
        tables.headline_table(report),
        _fields(report),
        _section("Error against resolution", _figure(charts.resolution_chart(report), _resolution_caption(report), narrow=True)),
        _section("Cost against error", cost),
        _section("Error by scale", scale),
        _section("Roll-out", _figure(charts.lead_chart(report), _lead_caption(report)) + tables.leads_table(report)),
        _section("Chaos and long times", long_time.long_time_tables(report) + _figure(long_time.long_time_chart(report), _LONG_CAPTION)),
        _section("Training", training),
        _cards(report, data_card, model_card),
        _section("How this was measured", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>"),
        _section("To repeat it", f"<pre>{escape(command)}</pre>" if command else ""),
        _section("Machine", tables.definition_list(report.environment)),
        _section("All numbers", tables.variables_table(report) + tables.timing_table(report)),
        "<footer>Written by anygrid. The same numbers are in metrics.json beside this file.</footer>",
    ]
    body = "\n".join(p for p in parts if p)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>{CSS}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content.strip() and content != "<ul></ul>" else ""


def _figure(svg: str, caption: str, *, narrow: bool = False) -> str:
    return f'<figure class="{"narrow" if narrow else "wide"}">{svg}<figcaption>{escape(caption)}</figcaption></figure>\n' if svg else ""


def _subtitle(report: Report) -> str:
    names = [", ".join(v["name"] for v in part) for part in (report.inputs, report.outputs)]
    where = ", ".join(dict.fromkeys(grid_name(s.resolution) for s in report.scores if s.role == "map"))
    against = "a fine solve" if report.kind == "problem" else "the data"
    return f"{names[0]} → {names[1]}, evaluated on {where} against {against}; {report.environment.get('date', '')}"


def _tile(kind: str, value: str, text: str) -> str:
    return f'<div class="tile {kind}"><b>{value}</b><span>{escape(text)}</span></div>'


def _tiles(report: Report) -> str:
    """The numbers one looks for first, of the first map."""
    at = next((s for s in report.scores if s.role == "map" and s.resolution == report.headline), None)
    if at is None:
        return ""
    error, where = at.errors["relative_l2"], grid_name(report.headline)
    found = [_tile("", "fails" if error.bad else tables.number(error.mean), f"relative L2 error of {at.name} at {where}")]
    rivals = [s for s in report.scores if s.role == "baseline" and s.resolution == report.headline]
    rivals = sorted((s for s in rivals if math.isfinite(s.errors["relative_l2"].mean)), key=lambda s: s.errors["relative_l2"].mean)
    if rivals and error.mean > 0 and rivals[0].errors["relative_l2"].mean > 0:
        best = rivals[0]
        ratio = best.errors["relative_l2"].mean / error.mean
        text = f"{'less' if ratio > 1 else 'more'} error than the best trivial baseline ({best.name})"
        found.append(_tile("good" if ratio > 1 else "bad", f"{tables.number(ratio if ratio > 1 else 1 / ratio)}&times;", text))
    mine = [c for c in report.comparisons if c.name == at.name and c.resolution == report.headline]
    found += [_speed_tile(c) for c in mine]
    batch = next((c for c in mine if c.mode == "batch"), None)
    if batch is not None:
        found.append(_break_even_tile(batch))
    return f'<div class="tiles">{"".join(found)}</div>'


def _speed_tile(c: Comparison) -> str:
    mode = "one sample at a time" if c.mode == "single" else "many samples, per core"
    faster = c.speedup >= 1
    bound = {"=": "", "<=": "&le;&thinsp;" if faster else "&ge;&thinsp;", ">=": "&ge;&thinsp;" if faster else "&le;&thinsp;"}[c.relation]
    value = f"{bound}{tables.number(c.speedup if faster else 1 / c.speedup)}&times;"
    kind = "good" if faster and c.relation != "<=" else "bad" if not faster and c.relation != ">=" else ""
    return _tile(kind, value, f"{'faster' if faster else 'slower'} than the solver at equal error, {mode}")


def _break_even_tile(c: Comparison) -> str:
    if c.never:
        return _tile("bad", "never", "data and training are repaid: the solver is cheaper at equal error")
    if c.break_even is None:
        return _tile("", "unknown", "break-even count: the cost of data or training was not given")
    bound = {"=": "", "<=": "&ge;&thinsp;", ">=": "&le;&thinsp;"}[c.relation]
    return _tile("", f"{bound}{c.break_even:,.0f}", "solves, computed in batches, repay data and training")


def _fields(report: Report) -> str:
    drawn = ""
    for i, example in enumerate(report.examples):
        cut = "" if len(example.resolution) <= 2 else " A cut through the middle of the other dimensions."
        left = len(example.predictions) - pictures.MOST_MAPS
        more = f" Not shown: {left} more maps." if left > 0 else ""
        shared = " Truth and predictions share one colour scale." if len(example.dims) > 1 else ""
        caption = f"{example.title[0].upper()}{example.title[1:]} at {grid_name(example.resolution)}.{shared}{cut}{more}"
        drawn += _figure(pictures.picture(report, example, f"fields{i}"), caption)
    return _section("Fields", drawn)


def _resolution_caption(report: Report) -> str:
    solver = " The solver's own error on the same grid is the blue line." if report.kind == "problem" else ""
    return f"Mean relative L2 error against the truth; bars are 95 % bootstrap intervals.{solver}"


def _cost_caption(report: Report) -> str:
    return (
        f"Lower left is better. Errors at {grid_name(report.headline)} against the same fine truth for solver and maps; small labels "
        "are the grid on which the solver ran before interpolation, whose time is not charged to it. Bars are quartiles over "
        "interleaved repeats; the maps' time leaves out data and training, for which see the break-even count."
    )


def _spectra_caption(report: Report) -> str:
    return (
        f"Mean power by wave number at {grid_name(report.headline)}; dashed: power of the error. Where the two meet, a map knows nothing. "
        "Dotted lines part the bands of the table."
    )


def _lead_caption(report: Report) -> str:
    return (
        f"Each map applied to its own output from the true start, on {grid_name(report.headline)}. Skill: 1 is perfect, 0 is persistence. "
        "A line that ends is a roll-out that is no longer finite."
    )


def _cards(report: Report, data_card: Facts | None, model_card: Facts | None) -> str:
    cost = {key.replace("_seconds", ""): report.settings.get(key) for key in ("data_seconds", "training_seconds")}
    spent = {f"{key} took": duration(value) for key, value in cost.items() if isinstance(value, float)}
    rest = {k: v for k, v in report.settings.items() if k not in ("data_seconds", "training_seconds")}
    cards = (("Data", data_card), ("Model", model_card), ("Evaluation", rest | spent))
    shown = "".join(f"<div><h3>{name}</h3>{tables.definition_list(facts)}</div>" for name, facts in cards if facts)
    return _section("Cards", f'<div class="cards">{shown}</div>')
