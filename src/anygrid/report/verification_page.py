"""The page of a verification: one self-contained HTML file without scripts or external requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from anygrid.report import verification_charts as charts
from anygrid.report.style import CSS
from anygrid.report.tables import number, table
from anygrid.report.verification_maps import map_figure, plume_figure
from anygrid.verification.result import Curve, VariableResult, Verification

__all__ = ["verification_page"]

_COLUMNS = (
    ("rmse", "RMSE"),
    ("persistence rmse", "persist."),
    ("climatology rmse", "climat."),
    ("bias", "bias"),
    ("anomaly correlation", "ACC"),
    ("activity ratio", "activity"),
    ("crps", "CRPS"),
    ("climatology crps", "climat."),
    ("spread-skill ratio", "spread/skill"),
)


def verification_page(result: Verification, command: str = "", facts: Sequence[str] = ()) -> str:
    """HTML of a verification; ``command`` is the command line that repeats it, ``facts`` sentences on what the forecast cost."""
    title = f"Verification of {Path(result.forecast).name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_subtitle(result))}</p>',
        _list([*result.notes], "verdict"),
        _section("What it cost", _list(facts)),
        _section("Against the reference", _figure(charts.scorecard_figure(result), _card_caption(result))),
        _section("Scores by lead", "".join(_scores(result, k, v) for k, v in enumerate(result.variables))),
        _section("Maps", _figure(map_figure(result.maps), _map_caption(result))),
        _section("At a station", _figure(plume_figure(result.plumes, result.lead_units), _plume_caption(result))),
        _section("Calibration", _figure(charts.rank_figure(result), _RANKS) + _figure(charts.quantile_figure(result), _COVERAGE)),
        _section("After calibration", "".join(_calibrated(result, v) for v in result.variables)),
        _section("Events", "".join(_events(result, v) for v in result.variables)),
        _section("Spectra", _figure(charts.spectrum_figure(result), _SPECTRA)),
        _section("What could not be computed", _list(result.cannot)),
        _section("How this was measured", _list(_method(result))),
        _section("To repeat it", f"<pre>{escape(command)}</pre>" if command else ""),
        "<footer>Written by anygrid. Coastlines: Natural Earth, public domain.</footer>",
    ]
    body = "\n".join(p for p in parts if p)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


_RANKS = (
    "How often the truth has each rank among the members, as a multiple of a flat histogram. A U: too little spread; a dome: too much; "
    "a slope: bias. p: chance of such a histogram if the ensemble were perfect (chi-square with an effective sample size taken from how "
    "much the histogram varies between blocks of starts)."
)
_COVERAGE = (
    "Part of the area where the truth lies in the interval between two quantiles of the forecast. Dotted: what a perfect ensemble of as "
    "many members reaches."
)
_SPECTRA = (
    "Mean power of the forecast over the truth's, by total wavenumber. Below 1: too smooth. Thin: of the mean of the members, which is "
    "smooth where the members disagree."
)
_EVENT = (
    "Left: frequency observed against probability said; the area of a dot is how often it was said, bars are bootstrap intervals, the "
    "dotted line the frequency of the event. Middle: hit rate against false alarm rate when one warns from 1, 2, ... members on. "
    "Right: Brier skill over the frequency of the event in these very cases."
)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content.strip() else ""


def _figure(svg: str, caption: str) -> str:
    return f'<figure class="wide">{svg}<figcaption>{escape(caption)}</figcaption></figure>\n' if svg else ""


def _list(lines: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(line[:1].upper() + line[1:])}.</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _subtitle(r: Verification) -> str:
    size = {"single": "a single forecast", "members": f"{r.held} members", "statistics": f"statistics of {r.members} members"}[r.kind]
    many = f"{r.cases} starts, {r.first} to {r.last}" if r.cases > 1 else f"one start, {r.first}"
    return f"{size} against {Path(r.truth).name}; {many}; {r.grid}"


def _scores(r: Verification, place: int, v: VariableResult) -> str:
    kinds = {"fair": "fair CRPS", "normal": "CRPS of a normal distribution", "absolute error": ""}
    told = f" {kinds[v.crps_kind]};" if kinds[v.crps_kind] else ""
    caption = (
        f"{v.name}:{told} shading is the {r.level:.0%} bootstrap interval over blocks of {r.block} starts."
        if r.cases > 1
        else f"{v.name}:{told} one start gives no interval."
    )
    return f"<h3>{escape(v.name)}</h3>\n" + _figure(charts.lead_figure(v, r.leads, r.lead_units, place), caption) + _table(r, v)


def _table(r: Verification, v: VariableResult) -> str:
    columns = [(c, head) for name, head in _COLUMNS if (c := v.curve(name)) is not None]
    if not columns:
        return ""
    leads = _leads(len(r.leads))
    rows = [("", [f"{r.leads[k]:g} {escape(r.lead_units)}", str(v.starts[k]), *(_cell(c, k) for c, _ in columns)]) for k in leads]
    units = f" RMSE, bias and CRPS in {escape(v.units)}." if v.units not in ("", "1") else ""
    return table(["lead", "starts", *(escape(head) for _, head in columns)], rows, f"{escape(v.name)}.{units}", (0,))


def _leads(count: int) -> list[int]:
    """At most twelve rows."""
    step = max(1, math.ceil(count / 12))
    return sorted({*range(0, count, step), count - 1})


def _cell(c: Curve, k: int) -> str:
    low, high = c.low[k], c.high[k]
    wide = c.name in ("rmse", "crps", "spread-skill ratio", "brier", "roc area") and math.isfinite(low) and math.isfinite(high)
    small = f" <small>{number(low)} to {number(high)}</small>" if wide else ""
    return number(c.value[k]) + small


def _events(r: Verification, v: VariableResult) -> str:
    out = ""
    for k, e in enumerate(v.events):
        names = ("brier", "brier skill", "reliability", "resolution", "uncertainty", "roc area")
        curves = {c.name: c for c in e.curves}
        rows = [
            ("", [f"{r.leads[i]:g} {escape(r.lead_units)}", number(e.frequency[i]), *(_cell(curves[n], i) for n in names)])
            for i in _leads(len(r.leads))
        ]
        figure = charts.event_figure(e, r.leads, r.lead_units, 100 * r.variables.index(v) + k)
        head = ["lead", "frequency", "Brier score", "skill", "reliability", "resolution", "uncertainty", "ROC area"]
        out += (
            f"<h3>{escape(e.event)}</h3>\n" + _figure(figure, _EVENT) + table(head, rows, "Score = reliability - resolution + uncertainty.")
        )
    return out


def _calibrated(r: Verification, v: VariableResult) -> str:
    c = v.calibrated
    if c is None:
        return ""
    head = ["lead", "a", "b", "c", "d", "CRPS before", "after", "difference", f"fields in the {c.coverage:.0%} band"]
    head += [f"Brier score of {escape(e.name)}" for e in c.events]
    rows = []
    for k in _leads(len(r.leads)):
        before, after = (curve.value[k] for curve in c.curves[:2])
        # A variance that is of no use has the coefficient 0 up to rounding of the minimum.
        numbers = [number(row[k] if abs(row[k]) > 1e-12 else 0.0) for row in c.coefficients] + [
            number(before),
            number(after),
            _percent(c.curves[2], k),
            number(c.covered[k]),
        ]
        rows.append(("", [f"{r.leads[k]:g} {escape(r.lead_units)}", *numbers, *(_percent(e, k) for e in c.events)]))
    caption = (
        f"{escape(v.name)}: EMOS N(a + b mean, c + d variance) of least CRPS, a conformal band that should hold whole fields with a chance "
        f"of {c.coverage:g}, isotonic probabilities: fitted on {c.fitted} starts that end before the {c.judged} later ones, on which the "
        f"table is made. CRPS of normal distributions. {escape(c.note)}"
    )
    return table(head, rows, caption)


def _percent(c: Curve, k: int) -> str:
    low, high = c.low[k], c.high[k]
    small = f" <small>{100 * low:+.1f} to {100 * high:+.1f}</small>" if math.isfinite(low) and math.isfinite(high) else ""
    return (f"{100 * c.value[k]:+.1f}&thinsp;%{small}" if math.isfinite(c.value[k]) else "&ndash;").replace("-", "&minus;")


def _card_caption(r: Verification) -> str:
    return (
        f"Difference to {Path(r.reference).name}, relative to it. A dot: the {r.level:.0%} interval of paired block resampling leaves out "
        "zero; about one box in twenty would have a dot by chance."
    )


def _map_caption(r: Verification) -> str:
    if not r.maps:
        return ""
    m = r.maps[0]
    return f"Valid {m.when}, lead {m.lead:g} {r.lead_units}. Truth and forecast share one colour scale, cut at the outer half percent."


def _plume_caption(r: Verification) -> str:
    if not r.plumes:
        return ""
    p = r.plumes[0]
    return f"Grid point {p.place[0]:g}, {p.place[1]:g}, nearest to the station; forecast from {p.start}."


def _method(r: Verification) -> list[str]:
    lines = [
        "means over the domain carry the area of each point; means over starts are taken before roots",
        f"intervals: {r.draws} resamplings of blocks of {r.block} consecutive starts; they speak of the draw of starts alone",
    ]
    if r.kind == "members":
        lines.append("the CRPS is the fair one: its expectation does not depend on the number of members")
        lines.append("the spread-skill ratio is corrected by the root of (m + 1) / m, so that 1 is right for any number of members")
    lines.append(f"climatology: {r.climatology}" if r.climatology else "no climatology was given")
    lines.append("persistence: the true state at the start of each forecast")
    return lines
