"""Line charts of a report, each a function from the report to inline SVG (empty when there is nothing to show)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from anygrid.evaluate.cost import MODES, best_seconds, front, solver_curve
from anygrid.evaluate.result import LeadCurve, Report, Score, duration, grid_name
from anygrid.metrics.spectra import BANDS
from anygrid.report.style import BASELINE, MAPS, MARKERS, SOLVER, TRUTH, drawing, to_svg

__all__ = ["cost_chart", "lead_chart", "resolution_chart", "spectra_chart", "training_chart"]

_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_MOST_VARIABLES = 3


def _map_style(report: Report) -> dict[str, tuple[str, str]]:
    """Colour and marker of each map."""
    names = dict.fromkeys(s.name for s in report.scores if s.role == "map")
    return {name: (MAPS[i % len(MAPS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _side(shape: tuple[int, ...]) -> float:
    """Points along one side of a cube with as many points."""
    return math.prod(shape) ** (1 / len(shape))


def _means(scores: Sequence[Score]) -> tuple[list[float], list[float]]:
    """Points along a side and mean relative L2 error, by resolution."""
    ordered = sorted(scores, key=lambda s: math.prod(s.resolution))
    return [_side(s.resolution) for s in ordered], [s.errors["relative_l2"].mean for s in ordered]


def _plain_log(axes: Axes) -> None:
    """Decimal numbers on a logarithmic error axis, the more of them the less it spans."""
    low, high = axes.get_ylim()
    many = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=9)
    axes.yaxis.set_major_locator(MaxNLocator(5) if high < 5 * low else many)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def resolution_chart(report: Report) -> str:
    """Relative L2 error of every map, the solver on each grid itself, and the baselines, against resolution."""
    shapes = sorted({s.resolution for s in report.scores}, key=math.prod)
    if len(shapes) < 2:
        return ""
    with drawing():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        x = [_side(shape) for shape in shapes]
        labels = [grid_name(s) for s in shapes]
        for name, (colour, marker) in _map_style(report).items():
            rows = {s.resolution: s.errors["relative_l2"] for s in report.scores if s.name == name}
            points = [(_side(r), e) for r, e in sorted(rows.items(), key=lambda i: math.prod(i[0])) if math.isfinite(e.mean)]
            if points:
                mean = [e.mean for _, e in points]
                spread = [[e.mean - e.low for _, e in points], [e.high - e.mean for _, e in points]]
                spread = [[0 if math.isnan(v) else v for v in side] for side in spread]
                axes.errorbar([p for p, _ in points], mean, yerr=spread, color=colour, marker=marker, ms=8, capsize=3, label=name, zorder=4)
        own = [s for s in report.scores if s.role == "solver" and s.computed_at == s.resolution]
        for name in list(dict.fromkeys(s.name for s in own))[:1]:
            own = [s for s in own if s.name == name]
            axes.plot(*_means(own), color=SOLVER, marker="s", ms=5, label=f"{name} on the same grid")
        for i, name in enumerate(dict.fromkeys(s.name for s in report.scores if s.role == "baseline")):
            axes.plot(*_means([s for s in report.scores if s.name == name]), color=BASELINE, ls=_DASHES[i % 3], label=name)
        axes.set(xscale="log", yscale="log", xlabel="grid", ylabel="relative L2 error")
        axes.set_xticks(x, labels)
        axes.minorticks_off()
        _plain_log(axes)
        axes.grid(axis="y")
        trained = report.settings.get("trained_at")
        if trained in labels:
            axes.axvline(x[labels.index(trained)], color=TRUTH, lw=0.8, ls=":", zorder=0)
            axes.annotate(" trained here", (x[labels.index(trained)], 1), xycoords=("data", "axes fraction"), va="top", fontsize=8)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return to_svg(figure, "resolution", "Relative L2 error against resolution")


def cost_chart(report: Report) -> str:
    """Error against seconds per sample at the headline resolution: the solver's settings, the maps, the baselines."""
    if not any(solver_curve(report.scores, report.timings, report.headline, mode) for mode in MODES):
        return ""
    with drawing():
        figure = Figure(figsize=(9.2, 4.1), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, mode in zip(panels, MODES, strict=True):
            _cost_panel(report, axes, mode)
            axes.set_title(MODES[mode], loc="left")
        panels[0].set_ylabel("relative L2 error")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
        return to_svg(figure, "cost", "Error against time per sample, for the solver and for the maps")


def _cost_panel(report: Report, axes: Axes, mode: str) -> None:
    curve = solver_curve(report.scores, report.timings, report.headline, mode)
    for name in dict.fromkeys(p.name for p in curve):
        mine = sorted((p for p in curve if p.name == name), key=lambda p: math.prod(p.resolution))
        axes.plot([p.seconds for p in mine], [p.error for p in mine], color=SOLVER, marker="s", ms=3.5, lw=0.8, alpha=0.45)
    best = front(curve)
    if best:
        axes.plot(
            [p.seconds for p in best],
            [p.error for p in best],
            color=SOLVER,
            marker="s",
            ms=6,
            lw=2,
            label="solver, best settings",
            zorder=3,
        )
        last: tuple[int, ...] = ()
        for p in best:
            if p.resolution != last:
                axes.annotate(grid_name(p.resolution), (p.seconds, p.error), (6, 3), textcoords="offset points", size=7.5, color=SOLVER)
            last = p.resolution
    for name, (colour, marker) in _map_style(report).items():
        score = next((s for s in report.scores if s.name == name and s.resolution == report.headline), None)
        seconds = best_seconds(report.timings, name, report.headline, mode)
        if score is None or seconds is None or not math.isfinite(score.errors["relative_l2"].mean):
            continue
        wanted = [t for t in report.timings if t.name == name and t.resolution == report.headline and t.median == seconds]
        spread = [[seconds - wanted[0].low], [wanted[0].high - seconds]]
        axes.errorbar(
            [seconds],
            [score.errors["relative_l2"].mean],
            xerr=spread,
            color=colour,
            marker=marker,
            ms=12,
            ls="",
            capsize=3,
            label=name,
            zorder=5,
        )
    for i, s in enumerate(s for s in report.scores if s.role == "baseline" and s.resolution == report.headline):
        if math.isfinite(s.errors["relative_l2"].mean):
            axes.axhline(s.errors["relative_l2"].mean, color=BASELINE, ls=_DASHES[i % 3], lw=1.2, label=s.name, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="time per sample")
    axes.margins(x=0.14)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: duration(v)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _plain_log(axes)
    axes.grid()


def spectra_chart(report: Report) -> str:
    """Mean power by wave number of the truth and of each map (solid), and of each map's error (dashed), one panel a variable."""
    curves = [c for c in report.spectra if c.resolution == report.headline]
    variables = list(dict.fromkeys(c.variable for c in curves))[:_MOST_VARIABLES]
    if not variables:
        return ""
    styles = _map_style(report)
    with drawing():
        figure = Figure(figsize=(7.2 if len(variables) == 1 else 3.6 * len(variables), 3.5), layout="constrained")
        panels = figure.subplots(1, len(variables), squeeze=False)[0]
        for axes, variable in zip(panels, variables, strict=True):
            top = 0.0
            for c in (c for c in curves if c.variable == variable):
                k, power = c.k[1:], c.power[1:]
                colour = TRUTH if c.name == "truth" else styles.get(c.name, (BASELINE, ""))[0]
                top = max([top, *power]) if c.name == "truth" else top
                axes.plot(k, power, color=colour, lw=2.4 if c.name == "truth" else 1.5, label=c.name, zorder=2 if c.name == "truth" else 3)
                if c.error:
                    axes.plot(k, c.error[1:], color=colour, ls=_DASHES[0], lw=1.2, label=f"error of {c.name}")
            for low, _ in list(BANDS.values())[1:]:
                axes.axvline(low - 0.5, color=BASELINE, lw=0.7, ls=":", zorder=0)
            axes.set(xscale="log", yscale="log", xlabel="wave number", title=variable)
            if top > 0:
                low, high = axes.get_ylim()
                axes.set_ylim(max(low, top * 1e-14), min(high, top * 1e3))
            axes.grid(axis="y")
        panels[0].set_ylabel("power")
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return to_svg(figure, "spectra", "Power against wave number")


def lead_chart(report: Report) -> str:
    """Relative error, anomaly correlation and skill over persistence by lead."""
    if not report.leads:
        return ""
    styles = _map_style(report)
    panels_of = (
        ("relative L2 error", "relative_l2"),
        ("anomaly correlation", "anomaly_correlation"),
        ("skill over persistence", "skill_over_persistence"),
    )
    with drawing():
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        panels = figure.subplots(1, 3)
        for axes, (title, attribute) in zip(panels, panels_of, strict=True):
            for i, curve in enumerate(report.leads):
                values: Sequence[float | None] = getattr(curve, attribute)
                y = [math.nan if v is None else v for v in values]
                axes.plot(curve.lead, y, label=_lead_label(curve), **_lead_style(curve, i, styles))
            axes.set(title=title, xlabel=f"lead ({report.leads[0].lead_units})")
            axes.grid(axis="y")
        panels[0].set_yscale("log")
        panels[0].set_ylim(top=min(panels[0].get_ylim()[1], 20.0))  # a roll-out that explodes must not flatten the others
        _plain_log(panels[0])
        panels[1].set_ylim(top=1.02)
        panels[2].axhline(0, color=TRUTH, lw=0.7)
        panels[2].set_ylim(max(-1.5, panels[2].get_ylim()[0]), 1.05)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
        return to_svg(figure, "leads", "Error and skill of roll-outs by lead")


def _lead_label(curve: LeadCurve) -> str:
    return f"{curve.name} {grid_name(curve.resolution)}" if curve.role == "solver" else curve.name


def _lead_style(curve: LeadCurve, place: int, styles: Mapping[str, tuple[str, str]]) -> dict[str, object]:
    if curve.role == "map":
        return {"color": styles[curve.name][0], "lw": 2.2, "zorder": 4}
    if curve.role == "solver":
        return {"color": SOLVER, "lw": 1.1, "ls": _DASHES[place % 3]}
    return {"color": BASELINE, "ls": _DASHES[place % 3]}


def training_chart(record: Sequence[Mapping[str, float | None]]) -> str:
    """Training loss and validation error against time, and the learning rate below.

    Rows have any of the keys ``step, seconds, loss, validation, lr``; missing and None values are gaps.
    """
    key = "seconds" if any(row.get("seconds") is not None for row in record) else "step"
    lines = {name: _series(record, key, name) for name in ("loss", "validation", "lr")}
    if not lines["loss"][0] and not lines["validation"][0]:
        return ""
    scale, unit = (1 / 60, "minutes") if key == "seconds" and max(lines["loss"][0] or lines["validation"][0]) > 180 else (1.0, key)
    with drawing():
        with_rate = bool(lines["lr"][0])
        figure = Figure(figsize=(7.2, 4.0 if with_rate else 3.2), layout="constrained")
        panels = figure.subplots(2 if with_rate else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1] if with_rate else [1])[:, 0]
        for name, colour, width in (("loss", BASELINE, 1.0), ("validation", MAPS[0], 2.0)):
            x, y = lines[name]
            if x:
                marker = "o" if len(x) < 40 and name == "validation" else ""
                panels[0].plot([v * scale for v in x], y, color=colour, lw=width, marker=marker, ms=3.5, label=name)
        panels[0].set(yscale="log", ylabel="error")
        _plain_log(panels[0])
        panels[0].legend()
        panels[0].grid(axis="y")
        if with_rate:
            panels[1].plot([v * scale for v in lines["lr"][0]], lines["lr"][1], color=SOLVER, lw=1.2)
            panels[1].set(ylabel="learning rate", ylim=(0, None))
        panels[-1].set_xlabel(unit)
        return to_svg(figure, "training", "Training loss and validation error against time")


def _series(record: Sequence[Mapping[str, float | None]], key: str, name: str) -> tuple[list[float], list[float]]:
    pairs = [(row.get(key), row.get(name)) for row in record]
    kept = [(float(x), float(y)) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]
    return [x for x, _ in kept], [y for _, y in kept]
