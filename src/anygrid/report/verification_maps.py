"""Maps and plumes of a verification, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from anygrid.coastlines import draw_coastlines
from anygrid.report.style import MAPS, SOLVER, TRUTH, drawing, to_svg
from anygrid.verification.result import FieldMap, Plume

__all__ = ["colour_bar", "map_figure", "paint_map", "plume_figure"]

_SHADES = (0.01, 0.1, 0.25)  # of the members beyond each side of a band
Array = NDArray[np.float64]


def map_figure(maps: Sequence[FieldMap]) -> str:
    """For each channel truth and forecast, and below them error and spread."""
    if not maps:
        return ""
    across, up = (float(np.ptp(maps[0].coordinates[k])) or 1.0 for k in (1, 0))
    with drawing():
        width = 9.6
        row = min(max(width / 2 * up / across, 1.2), 4.5) + 0.75
        figure = Figure(figsize=(width, 2 * row * len(maps)), layout="constrained")
        panels = figure.subplots(2 * len(maps), 2, squeeze=False)
        for k, m in enumerate(maps):
            _row(figure, [*panels[2 * k], *panels[2 * k + 1]], m)
        return to_svg(figure, "maps", "Maps of truth, forecast, error and spread")


def _row(figure: Figure, panels: list[Axes], m: FieldMap) -> None:
    units = f" ({m.units})" if m.units and m.units != "1" else ""
    low, high = (float(np.nanquantile(np.stack([m.truth, m.forecast]), q)) for q in (0.005, 0.995))
    colours: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high}
    _paint(panels[0], m, m.truth, f"{m.name}: truth{units}", colours)
    drawn = _paint(panels[1], m, m.forecast, "mean of members" if m.spread is not None else "forecast", colours)
    colour_bar(figure, drawn, panels[:2], m.forecast)
    error = m.forecast - m.truth
    most = float(np.nanquantile(np.abs(error), 0.995)) or 1.0
    drawn = _paint(panels[2], m, error, "error", {"cmap": "RdBu_r", "vmin": -most, "vmax": most})
    colour_bar(figure, drawn, panels[2:3], error)
    if m.spread is not None:
        top = float(np.nanquantile(m.spread, 0.995)) or 1.0
        drawn = _paint(panels[3], m, m.spread, "spread", {"cmap": "magma_r", "vmin": 0.0, "vmax": top})
        colour_bar(figure, drawn, panels[3:4], m.spread)
    else:
        panels[3].set_visible(False)


def _paint(axes: Axes, m: FieldMap, field: Array, title: str, colours: dict[str, Any]) -> QuadMesh:
    return paint_map(axes, m.coordinates, field, title, colours, sphere=m.sphere)


def paint_map(
    axes: Axes, coordinates: tuple[Array, Array], field: Array, title: str, colours: dict[str, Any], *, sphere: bool = True
) -> QuadMesh:
    """A field on its ascending coordinates ``(y, x)``, with coastlines where these are degrees; ``colours`` are cmap, vmin and vmax."""
    y, x = coordinates
    drawn = axes.pcolormesh(x, y, field, shading="nearest", rasterized=True, **colours)
    axes.set_title(title, loc="left", fontsize=8.5)
    axes.tick_params(labelsize=6.5, length=2)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_aspect("equal" if np.ptp(x) < 4 * np.ptp(y) and np.ptp(y) < 4 * np.ptp(x) else "auto")
    if sphere:
        half = 0.5 * float(x[1] - x[0]) if len(x) > 1 else 0.0
        axes.set_ylim(max(-90.0, axes.get_ylim()[0]), min(90.0, axes.get_ylim()[1]))
        draw_coastlines(axes, float(x[0]) - half)
    return drawn


def colour_bar(figure: Figure, drawn: ScalarMappable, axes: list[Axes], values: Array, aspect: float = 22) -> None:
    """A colour bar below some maps; pointed where some of ``values`` lie beyond the scale; ``aspect`` times as wide as high for each."""
    low, high = drawn.get_clim()
    below, above = bool((values < low).any()), bool((values > high).any())
    extend: Literal["both", "min", "max", "neither"] = "both" if below and above else "min" if below else "max" if above else "neither"
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.8, aspect=aspect * len(axes), pad=0.03, extend=extend)
    bar.outline.set_linewidth(0)  # type: ignore[operator]
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=7, length=2)


def plume_figure(plumes: Sequence[Plume], lead_units: str) -> str:
    """Bands and lines of the members at a station against lead, and the truth."""
    if not plumes or len(plumes[0].leads) < 2:
        return ""
    with drawing():
        columns = min(2, len(plumes))
        rows = -(-len(plumes) // columns)
        figure = Figure(figsize=(9.8, 2.7 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, p in zip(panels, plumes, strict=False):
            _plume(axes, p)
            axes.set_xlabel(f"lead ({lead_units})")
        for axes in panels[len(plumes) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        # Bands lie on each other: what the reader sees of the inner ones is darker than each alone.
        bands = [k for k, handle in enumerate(handles) if isinstance(handle, PolyCollection)]
        for depth, k in enumerate(bands, start=1):
            alpha = float(handles[k].get_alpha() or 1.0)
            handles[k] = Patch(color=SOLVER, alpha=1 - (1 - alpha) ** depth, lw=0)
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        return to_svg(figure, "plume", "Forecasts at a station against lead, and the truth")


def _plume(axes: Axes, p: Plume) -> None:
    x = np.array(p.leads)
    if p.levels:
        pairs = [(i, p.levels.index(o)) for i, v in enumerate(p.levels) for o in p.levels if v < 0.5 and abs(v + o - 1) < 1e-9]
        for i, j in pairs:
            axes.fill_between(
                x, p.members[i], p.members[j], color=SOLVER, alpha=0.22, lw=0, label=f"{p.levels[j] - p.levels[i]:.0%} of members"
            )
        middle = int(np.abs(np.array(p.levels) - 0.5).argmin())
        axes.plot(x, p.members[middle], color=SOLVER, label=f"quantile {p.levels[middle]:g}")
    elif len(p.members) == 1:
        axes.plot(x, p.members[0], color=MAPS[0], marker="o", ms=3, label="forecast")
    else:
        if len(p.members) >= 20:
            for q in _SHADES:
                low, high = np.quantile(p.members, (q, 1 - q), axis=0)
                axes.fill_between(x, low, high, color=SOLVER, alpha=0.2, lw=0, label=f"{1 - 2 * q:.0%} of members")
        else:
            for k, row in enumerate(p.members):
                axes.plot(x, row, color=SOLVER, lw=0.7, alpha=0.6, label="members" if k == 0 else "")
        axes.plot(x, p.members.mean(0), color=SOLVER, lw=2, label="mean")
    axes.plot(x, p.truth, color=TRUTH, ls="--", marker="o", ms=3, lw=1.2, label="truth")
    axes.set_title(f"{p.name}" + (f" ({p.units})" if p.units and p.units != "1" else ""), loc="left")
    axes.grid(axis="y")
