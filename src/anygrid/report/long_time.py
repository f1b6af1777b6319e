"""The section on chaos: valid prediction times in Lyapunov times, and the statistics of long runs beside the solver's own noise."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from anygrid.evaluate.result import LongTerm, LongTime, Report
from anygrid.metrics.invariants import AgainstNoise
from anygrid.report.style import MAPS, TRUTH, drawing, to_svg
from anygrid.report.tables import interval, number, table

__all__ = ["long_time_chart", "long_time_tables"]

_NAMES = {
    "spectrum": "power spectrum",
    "values": "density of values",
    "slopes": "density of slopes",
    "autocorrelation": "autocorrelation in time",
    "Lyapunov exponent": "Lyapunov exponent",
}
_UNITS = {
    "spectrum": "root mean square ln ratio of shells",
    "values": "standard deviations",
    "slopes": "standard deviations",
    "autocorrelation": "correlation",
    "Lyapunov exponent": "of the solver's",
}
_LABELS = {"spectrum": "wave number", "values": "value", "slopes": "slope", "autocorrelation": "lag (time units)"}


def long_time_tables(report: Report) -> str:
    """How long forecasts hold; then, apart, how far the statistics are from the solver's."""
    long = report.long_time
    return "" if long is None else _valid_table(long) + _statistics_table(long)


def _valid_table(long: LongTime) -> str:
    rows = []
    for term in long.terms:
        held = f" <small>{term.to_the_end} of {long.starts} to the end</small>" if term.to_the_end else ""
        finite = f"{term.steps:,}" if term.role == "map" else "&ndash;"
        cells = [
            escape(term.name),
            ("&ge;&thinsp;" if term.to_the_end else "") + interval(term.valid_time) + held,
            interval(term.exponent),
            finite,
        ]
        rows.append((term.role, cells))
    rows.append(("solver part", ["solver", "the reference", interval(long.exponent), f"{long.steps:,}"]))
    caption = (
        f"Valid prediction time: until the relative error exceeds {long.threshold:g}, in Lyapunov times of "
        f"{number(1 / long.exponent.mean)} time units (1 over the solver's leading exponent), over {long.starts} starts followed for "
        f"{number(long.horizon * long.dt * long.exponent.mean)} Lyapunov times; means with 95&nbsp;% intervals. "
        "The truth here is a float64 run of the solver on the same grid."
    )
    head = ["", "valid for<br>(Lyapunov times)", "Lyapunov exponent<br>(per time unit)", f"finite steps<br>of {long.steps:,}"]
    return table(head, rows, caption)


def _statistics_table(long: LongTime) -> str:
    maps = [t for t in long.terms if t.role == "map"]
    rows = []
    for name in _NAMES:
        found = next((t.distances[name] for t in maps if name in t.distances), None)
        if found is None:
            continue
        cells = [f"{_NAMES[name]} <small>{_UNITS[name]}</small>", f"{number(found.noise)} <small>up to {number(found.limit)}</small>"]
        rows.append(("", cells + [_verdict(t, name) for t in maps]))
    if not rows:
        return ""
    caption = (
        f"Invariant statistics of {long.starts} runs of {long.steps:,} steps: distance of each map from the solver, beside the distance "
        "between halves of the solver's own runs (median, and its 95&nbsp;% quantile, up to which a distance is within the noise)."
    )
    return table(["", "solver's own noise", *(escape(t.name) for t in maps)], rows, caption)


def _verdict(term: LongTerm, name: str) -> str:
    at: AgainstNoise | None = term.distances.get(name)
    if at is None:
        return "&ndash;"
    return number(at.distance) + (" <small>within</small>" if at.within else " <small>outside</small>")


def long_time_chart(report: Report) -> str:
    """Spectrum, densities and autocorrelation of the solver (thick) and of each map; one row a variable."""
    long = report.long_time
    if long is None or not long.curves:
        return ""
    variables = list(dict.fromkeys(c.variable for c in long.curves))[:2]
    maps = [t.name for t in long.terms if t.role == "map"]
    with drawing():
        figure = Figure(figsize=(9.6, 2.8 * len(variables) + 0.3), layout="constrained")
        panels = figure.subplots(len(variables), len(_LABELS), squeeze=False)
        for row, variable in zip(panels, variables, strict=True):
            for axes, statistic in zip(row, _LABELS, strict=True):
                _panel(axes, long, statistic, variable, maps)
            row[0].set_ylabel(variable)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
        return to_svg(figure, "longtime", "Spectra, densities and autocorrelation of long runs")


def _panel(axes: Axes, long: LongTime, statistic: str, variable: str, maps: list[str]) -> None:
    lowest = math.inf
    for curve in (c for c in long.curves if (c.statistic, c.variable) == (statistic, variable)):
        solver = curve.name not in maps
        colour = TRUTH if solver else MAPS[maps.index(curve.name) % len(MAPS)]
        style: dict[str, Any] = {"lw": 3.2, "alpha": 0.45, "zorder": 2} if solver else {"lw": 1.3, "zorder": 3}
        axes.plot(curve.x, curve.y, color=colour, label=curve.name, **style)
        if solver and statistic != "autocorrelation":
            positive = [y for y in curve.y if y > 0]
            lowest = min(positive, default=1.0) / 3
    axes.set(title=_NAMES[statistic], xlabel=_LABELS[statistic])
    if statistic != "autocorrelation":
        axes.set_yscale("log")
        axes.set_ylim(bottom=lowest)
    else:
        axes.axhline(0, color=TRUTH, lw=0.7)
    if statistic == "spectrum":
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
