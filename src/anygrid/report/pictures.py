"""Pictures of fields: input, truth, prediction and error, on one colour scale where they are to be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from anygrid.evaluate.result import FieldExample, Report
from anygrid.report.style import MAPS, TRUTH, drawing, to_svg

__all__ = ["MOST_MAPS", "picture"]

MOST_MAPS = 2  # predictions side by side; more would be too small to see

Array = NDArray[np.float32]


def picture(report: Report, example: FieldExample, name: str) -> str:
    """One row for each variable: lines for one space dimension, colour maps for two or more."""
    inputs = [_label(v) for v in report.inputs][: len(example.input)]
    outputs = [_label(v) for v in report.outputs][: len(example.truth)]
    shown = dict(list(example.predictions.items())[:MOST_MAPS])
    with drawing():
        draw = _lines if len(example.dims) == 1 else _maps
        figure = draw(example, shown, inputs, outputs)
        return to_svg(figure, name, f"Input, truth, prediction and error of {example.title}")


def _label(variable: dict[str, str]) -> str:
    units = variable.get("units", "")
    return variable["name"] + (f" ({units})" if units and units != "1" else "")


def _axis_label(example: FieldExample, k: int) -> str:
    name = example.dims[k]
    return f"{name} (degrees)" if example.geometry == "sphere" else name


def _lines(example: FieldExample, shown: dict[str, Array], inputs: Sequence[str], outputs: Sequence[str]) -> Figure:
    rows = max(len(inputs), len(outputs))
    figure = Figure(figsize=(9.4, 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False)
    x = example.coordinates[0]
    order = np.argsort(x)
    dots = example.geometry == "points"

    def line(axes: Axes, y: Array, colour: str, width: float, dashes: str = "-", label: str = "") -> None:
        style: dict[str, Any] = {"ls": "", "marker": ".", "ms": 3} if dots else {"ls": dashes, "lw": width}
        axes.plot(x[order], y[order], color=colour, label=label, **style)

    for row in range(rows):
        for axes in panels[row]:
            axes.set_xlabel(_axis_label(example, 0))
        if row < len(inputs):
            line(panels[row][0], example.input[row], TRUTH, 1.2)
            panels[row][0].set_title(f"input: {inputs[row]}", loc="left")
        if row < len(outputs):
            line(panels[row][1], example.truth[row], TRUTH, 2.2, label="truth")
            for i, (name, u) in enumerate(shown.items()):
                line(panels[row][1], u[row], MAPS[i], 1.4, "--", name)
                line(panels[row][2], u[row] - example.truth[row], MAPS[i], 1.2, label=name)
            panels[row][1].set_title(f"output: {outputs[row]}", loc="left")
            panels[row][1].legend(fontsize=7.5)
            panels[row][2].axhline(0, color=TRUTH, lw=0.6)
            panels[row][2].set_title("error", loc="left")
    for row in range(rows):
        for axes in panels[row]:
            if not axes.has_data():
                axes.set_visible(False)
    return figure


def _maps(example: FieldExample, shown: dict[str, Array], inputs: Sequence[str], outputs: Sequence[str]) -> Figure:
    rows, columns = max(len(inputs), len(outputs)), 2 + 2 * len(shown)
    width = 9.6
    figure = Figure(figsize=(width, rows * _row_height(example, width / columns)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for axes in panels[row]:
            axes.set_axis_off()
        if row < len(inputs):
            field = _paint(panels[row][0], example, example.input[row], f"input: {inputs[row]}", *_scale([example.input[row]]))
            _bar(figure, field, [panels[row][0]])
        if row < len(outputs):
            _output_row(figure, panels[row], example, row, shown, outputs[row])
        _name_axes(panels[row][0 if row < len(inputs) else 1], example)
    return figure


def _output_row(figure: Figure, panels: NDArray[np.object_], example: FieldExample, row: int, shown: dict[str, Array], label: str) -> None:
    truth = example.truth[row]
    colours, limits = _scale([truth, *(u[row] for u in shown.values())], truth)
    field = _paint(panels[1], example, truth, f"truth: {label}", colours, limits)
    for i, (name, u) in enumerate(shown.items()):
        _paint(panels[2 + i], example, u[row], f"prediction: {name}", colours, limits)
    _bar(figure, field, list(panels[1 : 2 + len(shown)]))
    errors = {name: u[row] - truth for name, u in shown.items()}
    most = max((_usual(np.abs(e[np.isfinite(e)])) for e in errors.values()), default=0.0) or 1.0
    for i, (name, e) in enumerate(errors.items()):
        axes = panels[2 + len(shown) + i]
        title = "error" if len(errors) == 1 else f"error: {name}"
        field = _paint(axes, example, e, title, "RdBu_r", (-most, most))
    if errors:
        _bar(figure, field, list(panels[2 + len(shown) :]))


def _scale(fields: Sequence[Array], leading: Array | None = None) -> tuple[str, tuple[float, float]]:
    """Colour map and limits, from the first field; diverging and symmetric only where it has both signs in like measure."""
    values = fields[0] if leading is None else leading
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low < 0 < high and max(-low, high) < 3 * min(-low, high):
        most = _usual(np.abs(values))
        return "RdBu_r", (-most, most)
    return "viridis", (low, high if high > low else low + max(abs(low), 1.0) * 1e-6)


def _usual(sizes: Array) -> float:
    """Largest size, or the 99th percentile where that is less than half of it.

    A few extreme points (a polar row) must not leave the rest of a signed picture white; the colour bar's pointed ends tell of them.
    """
    most = float(sizes.max(initial=0))
    usual = float(np.quantile(sizes, 0.99)) if sizes.size else 0.0
    return usual if most > 2 * usual > 0 else most


def _row_height(example: FieldExample, width: float) -> float:
    horizontal, vertical = _extent(example)
    return min(max(0.8 * width * vertical / horizontal, 0.7), 3.0) + 1.0 if _equal(example) else 2.6


def _extent(example: FieldExample) -> tuple[float, float]:
    spans = [float(np.ptp(c)) or 1.0 for c in example.coordinates[:2]]
    return (spans[1], spans[0]) if example.geometry == "sphere" else (spans[0], spans[1])


def _equal(example: FieldExample) -> bool:
    horizontal, vertical = _extent(example)
    return max(horizontal, vertical) < 4 * min(horizontal, vertical)


def _paint(axes: Axes, example: FieldExample, field: Array, title: str, colours: str, limits: tuple[float, float]) -> ScalarMappable:
    scale: dict[str, Any] = {"cmap": colours, "vmin": limits[0], "vmax": limits[1]}
    axes.set_title(title, loc="left", fontsize=8.5)
    if example.geometry == "points":
        x, y = example.coordinates[:2]
        size = min(40.0, 4000 / max(len(x), 1))
        drawn: ScalarMappable = axes.scatter(x, y, c=field, s=size, lw=0, rasterized=True, **scale)
    else:
        first, second = example.coordinates
        # On a sphere rows are latitudes; on a box the first coordinate runs to the right
        x, y, image = (second, first, field) if example.geometry == "sphere" else (first, second, field.T)
        if _even(x) and _even(y):
            extent = (*_ends(x), *_ends(y))
            drawn = axes.imshow(image, origin="lower", extent=extent, interpolation="nearest", **scale)
        else:
            drawn = axes.pcolormesh(x, y, image, shading="nearest", rasterized=True, **scale)
    axes.set_aspect("equal" if _equal(example) else "auto")
    return drawn


def _even(x: Array) -> bool:
    steps = np.diff(x)
    return bool(len(x) < 3 or np.ptp(steps) < 1e-3 * abs(steps.mean()))


def _ends(x: Array) -> tuple[float, float]:
    half = 0.5 * float(x[-1] - x[0]) / max(len(x) - 1, 1) or 0.5
    return float(x[0]) - half, float(x[-1]) + half


def _bar(figure: Figure, drawn: ScalarMappable, axes: list[Axes]) -> None:
    shrink, aspect = (0.86, 18) if len(axes) == 1 else (0.6, 18 * math.sqrt(len(axes)))
    low, high = drawn.get_clim()
    shown = drawn.get_array()
    beyond = shown is not None and low is not None and high is not None and bool((shown < low).any() and (shown > high).any())
    extend: Literal["both", "neither"] = "both" if beyond else "neither"
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=shrink, aspect=aspect, pad=0.03, extend=extend)
    bar.outline.set_linewidth(0)  # type: ignore[operator]
    bar.locator = MaxNLocator(3)
    bar.update_ticks()
    bar.formatter.set_powerlimits((-2, 4))  # type: ignore[attr-defined]
    bar.ax.tick_params(labelsize=7.5, length=2.5)


def _name_axes(axes: Axes, example: FieldExample) -> None:
    """Coordinates on the first picture of a row; the others share them."""
    axes.set_axis_on()
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=7, length=2)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    across, up = (1, 0) if example.geometry == "sphere" else (0, 1)
    axes.set_xlabel(_axis_label(example, across), fontsize=7.5, labelpad=1)
    axes.set_ylabel(_axis_label(example, up), fontsize=7.5, labelpad=1)
