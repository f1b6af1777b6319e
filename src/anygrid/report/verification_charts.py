"""Figures of a verification, each a function to inline SVG (empty when there is nothing to show)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from anygrid.report.style import BASELINE, MAPS, SOLVER, TRUTH, drawing, to_svg
from anygrid.verification.result import Curve, EventResult, VariableResult, Verification

__all__ = ["event_figure", "lead_figure", "quantile_figure", "rank_figure", "scorecard_figure", "spectrum_figure"]

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_PANELS: dict[str, tuple[tuple[str, str, str], ...]] = {
    # label of the panel: curves as (name, label, colour)
    "RMSE": (
        ("rmse", "forecast", MAPS[0]),
        ("member rmse", "one member", MAPS[1]),
        ("persistence rmse", "persistence", BASELINE),
        ("climatology rmse", "climatology", MAPS[4]),
    ),
    "CRPS": (("crps", "forecast", MAPS[0]), ("persistence crps", "persistence", BASELINE), ("climatology crps", "climatology", MAPS[4])),
    "anomaly correlation": (("anomaly correlation", "forecast", MAPS[0]),),
    "spread-skill ratio": (("spread-skill ratio", "forecast", MAPS[0]),),
    "bias": (("bias", "forecast", MAPS[0]),),
    "activity ratio": (("activity ratio", "forecast", MAPS[0]),),
}
_LINES = {"spread-skill ratio": 1.0, "activity ratio": 1.0, "bias": 0.0}


def lead_figure(v: VariableResult, leads: Sequence[float], lead_units: str, place: int) -> str:
    """Scores of one channel against lead, each with its interval."""
    shown = [(title, curves) for title, curves in _PANELS.items() if v.curve(curves[0][0]) is not None]
    if not shown or len(leads) < 2:
        return ""
    with drawing():
        columns = 3
        rows = -(-len(shown) // columns)
        figure = Figure(figsize=(9.6, 2.6 * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, curves) in zip(panels, shown, strict=False):
            for k, (name, label, colour) in enumerate(curves):
                curve = v.curve(name)
                if curve is not None:
                    _line(axes, leads, curve, label, colour, k)
            if title in _LINES:
                axes.axhline(_LINES[title], color=TRUTH, lw=0.8, ls=":")
            if title in ("RMSE", "CRPS"):
                axes.set_ylim(bottom=0)
            units = f" ({v.units})" if title in ("RMSE", "CRPS", "bias") and v.units not in ("", "1") else ""
            axes.set(title=title + units, xlabel=f"lead ({lead_units})")
            _name_leads(axes, leads)
            axes.grid(axis="y")
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        return to_svg(figure, f"leads{place}", f"Scores of {v.name} against lead")


def _line(axes: Axes, leads: Sequence[float], curve: Curve, label: str, colour: str, place: int) -> None:
    value, low, high = (np.array(part, dtype=float) for part in (curve.value, curve.low, curve.high))
    axes.fill_between(leads, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(leads, value, color=colour, ls=_DASHES[place % 4], marker="o" if len(leads) < 12 else "", ms=3, label=label)


def _name_leads(axes: Axes, leads: Sequence[float]) -> None:
    """Every lead where there are few."""
    if len(leads) <= 8:
        axes.set_xticks(list(leads), [f"{v:g}" for v in leads])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))


def rank_figure(result: Verification) -> str:
    """Rank histograms of the channels at the first, middle and last lead."""
    shown = [(v, r) for v in result.variables[:4] for r in v.ranks]
    if not shown:
        return ""
    rows = -(-len(shown) // 3)
    with drawing():
        figure = Figure(figsize=(9.6, 2.0 * rows), layout="constrained")
        panels = figure.subplots(rows, 3, squeeze=False).ravel()
        for axes, (v, r) in zip(panels, shown, strict=False):
            n = len(r.share)
            axes.bar(range(n), np.array(r.share) * n, width=0.92, color=SOLVER, alpha=0.75)
            axes.axhline(1, color=TRUTH, lw=0.8, ls=":")
            p = "" if r.p_value is None or not math.isfinite(r.p_value) else f", p = {r.p_value:.2g}"
            axes.set_title(f"{v.name}, {r.lead:g} {result.lead_units}{p}", loc="left", fontsize=8.5)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for axes in panels[::3]:
            axes.set_ylabel("share / flat")
        return to_svg(figure, "ranks", "Rank histograms")


def spectrum_figure(result: Verification) -> str:
    """Ratio of the forecast's power to the truth's by total wavenumber."""
    rows = [v for v in result.variables if v.spectra][:3]
    if not rows:
        return ""
    with drawing():
        figure = Figure(figsize=(9.6, 3.0), layout="constrained")
        panels = figure.subplots(1, len(rows), squeeze=False)[0]
        for axes, v in zip(panels, rows, strict=True):
            for k, s in enumerate(v.spectra):
                degree, truth = np.arange(1, len(s.truth)), np.array(s.truth[1:])
                known = truth > 1e-14 * truth.max()
                ratio = np.where(known, np.array(s.forecast[1:]) / np.where(known, truth, 1), np.nan)
                axes.plot(degree, ratio, color=MAPS[k % 5], ls=_DASHES[k % 4], label=f"{s.lead:g} {result.lead_units}")
                if s.mean:
                    smooth = np.where(known, np.array(s.mean[1:]) / np.where(known, truth, 1), np.nan)
                    axes.plot(degree, smooth, color=MAPS[k % 5], ls=_DASHES[k % 4], lw=0.8, alpha=0.8)
            axes.axhline(1, color=TRUTH, lw=0.8, ls=":")
            axes.set(xscale="log", yscale="log", title=v.name, xlabel="total wavenumber")
            low, high = axes.get_ylim()
            axes.set_ylim(min(max(low, 1e-3), 0.7), min(max(high, 1.5), 1e2))
            for axis in (axes.xaxis, axes.yaxis):
                low, high = axis.get_view_interval()
                axis.set_major_locator(MaxNLocator(4) if high < 4 * low else LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
                axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
                axis.set_minor_formatter(NullFormatter())
            axes.grid(axis="y")
        panels[0].set_ylabel("power / truth's")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        return to_svg(figure, "spectra", "Power against total wavenumber")


def event_figure(e: EventResult, leads: Sequence[float], lead_units: str, place: int) -> str:
    """Reliability diagram and ROC curve at the first, middle and last lead, and Brier skill by lead."""
    known = [k for k, f in enumerate(e.frequency) if math.isfinite(f)]
    picked = list(dict.fromkeys(known[i] for i in (0, len(known) // 2, -1))) if known else []
    if not picked:
        return ""
    with drawing():
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        panels = figure.subplots(1, 3)
        for n, k in enumerate(picked):
            said, seen, share = (np.array(part[k], dtype=float) for part in (e.said, e.observed, e.share))
            low, high = (np.array(part[k], dtype=float) for part in (e.observed_low, e.observed_high))
            gap = np.nan_to_num(np.stack([seen - low, high - seen]).clip(min=0))
            label, colour = f"{leads[k]:g} {lead_units}", MAPS[n % 5]
            panels[0].errorbar(said, seen, yerr=gap, color=colour, ls=_DASHES[n % 4], lw=1.2, capsize=2, label=label)
            panels[0].scatter(said, seen, s=8 + 160 * share, color=colour, alpha=0.7, lw=0, zorder=3)
            panels[1].plot(*(np.array(r) for r in e.roc[k]), color=colour, ls=_DASHES[n % 4], marker="o", ms=2.5, label=label)
            panels[0].axhline(e.frequency[k], color=colour, lw=0.6, ls=":")
        for axes in panels[:2]:
            axes.plot([0, 1], [0, 1], color=TRUTH, lw=0.7, ls=":")
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        panels[0].set(title="reliability", xlabel="probability said", ylabel="frequency observed")
        panels[1].set(title="ROC", xlabel="false alarm rate", ylabel="hit rate")
        skill = next((c for c in e.curves if c.name == "brier skill"), None)
        panels[2].set_visible(len(leads) > 1)
        if skill is not None:
            _line(panels[2], leads, skill, "", MAPS[0], 0)
        panels[2].axhline(0, color=TRUTH, lw=0.7, ls=":")
        panels[2].set(title="Brier skill", xlabel=f"lead ({lead_units})")
        _name_leads(panels[2], leads)
        handles, labels = panels[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        return to_svg(figure, f"event{place}", f"Reliability and ROC of {e.event}")


def quantile_figure(result: Verification) -> str:
    """Coverage of intervals against what a perfect ensemble reaches, by lead."""
    rows = [v for v in result.variables if v.coverage][:3]
    if not rows or len(result.leads) < 2:
        return ""
    with drawing():
        figure = Figure(figsize=(9.6, 2.8), layout="constrained")
        panels = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
        for axes, v in zip(panels, rows, strict=True):
            for k, (level, expected, found) in enumerate(v.coverage):
                axes.plot(result.leads, found, color=MAPS[k], marker="o", ms=3, label=f"{level:.0%} interval")
                axes.axhline(expected, color=MAPS[k], lw=0.8, ls=":")
            axes.set(title=v.name, xlabel=f"lead ({result.lead_units})", ylim=(0, 1))
            _name_leads(axes, result.leads)
            axes.grid(axis="y")
        panels[0].set_ylabel("truth inside")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        return to_svg(figure, "coverage", "Coverage of intervals by lead")


def scorecard_figure(result: Verification) -> str:
    """Relative differences to the reference by channel, score and lead; a dot where the interval leaves out zero."""
    rows = [(v.name, c) for v in result.variables for c in v.comparisons]
    if not rows:
        return ""
    table = np.array([c.difference for _, c in rows], dtype=float) * 100
    sure = np.array([[low > 0 or high < 0 for low, high in zip(c.low, c.high, strict=True)] for _, c in rows])
    most = max(float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0, 1e-6)
    with drawing():
        figure = Figure(figsize=(9.6, 0.9 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(table, cmap="RdBu_r", norm=TwoSlopeNorm(0, -most, most), aspect="auto")
        axes.set_yticks(range(len(rows)), [f"{name} {c.score.upper()}" for name, c in rows])
        axes.set_xticks(range(table.shape[1]), [f"{v:g}" for v in result.leads])
        axes.set_xlabel(f"lead ({result.lead_units})")
        for i, k in zip(*np.nonzero(sure), strict=True):
            axes.plot(k, i, marker="o", ms=4, color="black" if abs(table[i, k]) < 0.6 * most else "white")
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label("% (blue: forecast better)", fontsize=8)
        return to_svg(figure, "scorecard", "Scorecard against the reference")
