"""Animated maps of a forecast: frames with coastlines on one colour scale."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from anygrid.errors import DataError, UsageError
from anygrid.fields.units import plain_units
from anygrid.report.film import Frame, animated_png, gif
from anygrid.report.scenes import Member, Scenes, caption, check_truth, find_scenes, read_scene
from anygrid.report.style import drawing
from anygrid.report.verification_maps import colour_bar, paint_map
from anygrid.verification.product import Channel

__all__ = ["Animation", "animate"]

Array = NDArray[np.float64]
_PAGE, _GAP = "#ffffff", "#ced4da"
_DPI = 100
_HEAD = 0.55  # inches above the maps for two lines of title
_WIDTHS = {1: 8.0, 2: 11.0, 3: 12.0, 4: 11.0}  # inches, by number of panels
_CUT = 0.005  # of the points of a frame at each end of a scale
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Animation:
    """An animation as the bytes of its file, the number of its frames, and what was chosen or converted for it."""

    data: bytes
    frames: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Scale:
    """Colour scale of all frames; ``beyond`` are the smallest and largest value of any."""

    colours: str
    low: float
    high: float
    beyond: tuple[float, float]


def animate(
    forecast: xr.Dataset,
    truth: xr.Dataset | None = None,
    *,
    variable: str | None = None,
    start: str | float | None = None,
    member: Member = None,
    every: int = 1,
    speed: float = 2.0,
    kind: Literal["gif", "apng"] = "gif",
    names: tuple[str, str] = ("forecast", "truth"),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Animation:
    """Maps of a forecast from one start, a frame for each lead, with the valid time in the title.

    A single forecast is one map, an ensemble its mean and spread. With a truth, it and the difference from it stand beside them. Each
    quantity has one colour scale in all frames, cut at the outer half percent of the frame that reaches farthest: sequential, or about
    zero for differences and for fields that have both signs in like measure. Missing values are grey. Data without leads, such as an
    analysis, have a frame for each time. The fields are read twice, one frame at a time.

    Parameters
    ----------
    truth
        Matched as :func:`~anygrid.verification.verify` does: by valid time, name, units and place.
    variable
        Name, or CF name; ``z@level=500`` for one level of several. By default the first.
    start
        Date, the beginning of one, a number from 0, ``"first"`` or ``"last"``. By default the first of those with the most truths.
    member
        One member by its label, or ``"mean"`` or ``"spread"`` alone.
    every
        Show every so many frames.
    speed
        Frames a second.
    kind
        ``"gif"`` has 256 colours, ``"apng"`` (an animated PNG) all.
    names
        What forecast and truth are called in messages.
    progress
        Called with how many fields were read or drawn, and how many there are.

    Raises
    ------
    UsageError
        For a start or member that is not there, a spread beside a truth, and a speed of no use.
    DataError
        For a variable that is not there, a truth without the valid times, and fields without values.
    GridError
        When the forecast does not lie on latitudes and longitudes, or the truth not on its points.
    """
    if not 0.01 <= speed <= 50:
        raise UsageError("--speed", "0.01 to 50 frames a second", f"{speed:g}", "for example --speed 4")
    scenes = find_scenes(forecast, truth, variable, start, member, every, names)
    count = len(scenes.frames)
    scales = _scales(scenes, lambda done: progress(done, 2 * count))
    frames = _drawn(scenes, scales, lambda done: progress(count + done, 2 * count))
    data = animated_png(frames, 1 / speed) if kind == "apng" else gif(frames, _palette(scales), 1 / speed)
    return Animation(data, count, scenes.notes)


def _scales(scenes: Scenes, done: Callable[[int], None]) -> dict[str, _Scale]:
    """Colour scale of each role, from all frames."""
    reach: dict[str, list[tuple[float, float, float, float]]] = {p.role: [] for p in scenes.panels}
    for k in range(len(scenes.frames)):
        fields = read_scene(scenes, k)
        if k == 0:
            check_truth(scenes, fields)
        for panel, field in zip(scenes.panels, fields, strict=True):
            values = field[np.isfinite(field)]
            if values.size:
                low, high = np.quantile(values, (_CUT, 1 - _CUT))
                reach[panel.role].append((float(low), float(high), float(values.min()), float(values.max())))
        done(k + 1)
    out = {}
    for role, ends in reach.items():
        if not ends:
            raise DataError(f"animate {scenes.channel.label}", "values to draw", "none: all are missing", "choose another time or window")
        low, high, least, most = (f(e[k] for e in ends) for k, f in enumerate((min, max, min, max)))
        out[role] = _scale(role, low, high, (least, most))
    return out


def _scale(role: str, low: float, high: float, beyond: tuple[float, float]) -> _Scale:
    """Limits of one role. The rule for fields of both signs is that of the report's pictures."""
    if role == "difference" or (role == "value" and low < 0 < high and max(-low, high) < 3 * min(-low, high)):
        most = max(-low, high) or 1.0
        return _Scale("RdBu_r", -most, most, beyond)
    if role == "spread":
        return _Scale("magma_r", 0.0, high or 1.0, beyond)
    return _Scale("viridis", low, high if high > low else low + max(abs(low), 1.0) * 1e-6, beyond)


def _drawn(scenes: Scenes, scales: dict[str, _Scale], done: Callable[[int], None]) -> Iterator[Frame]:
    """Pictures of the frames. The figure is laid out once, so that nothing but the fields and the title moves."""
    with drawing():
        figure, meshes, when = _figure(scenes, scales, read_scene(scenes, 0))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        figure.set_layout_engine("none")
        for k in range(len(scenes.frames)):
            for mesh, field in zip(meshes, read_scene(scenes, k), strict=True):
                mesh.set_array(np.ma.masked_invalid(field))
            when.set_text(caption(scenes, k))
            canvas.draw()
            yield np.array(canvas.buffer_rgba())[..., :3]
            done(k + 1)


def _figure(scenes: Scenes, scales: dict[str, _Scale], fields: Sequence[Array]) -> tuple[Figure, list[QuadMesh], Text]:
    """A figure with the fields of one frame, and what changes in it: the maps and the line with the valid time."""
    latitudes, longitudes = (axis.coordinates() for axis in scenes.product.grid.axes)  # type: ignore[attr-defined]
    panels = scenes.panels
    columns = 2 if len(panels) == 4 else len(panels)
    rows = len(panels) // columns
    width = _WIDTHS[len(panels)]
    up, across = (float(np.ptp(x)) * len(x) / (len(x) - 1) for x in (latitudes, longitudes))  # to the edges of the cells
    # A strip of a few degrees is drawn higher or wider than it is.
    tall = min(max(_stretch(latitudes, longitudes) * up / across, 0.2), 1.5)
    height = round(rows * (min(0.9 * width / columns * tall, 5.5) + 0.8) + _HEAD, 2)
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - _HEAD / height), w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor=_PAGE)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    meshes = []
    for axes, panel, field in zip(grid, panels, fields, strict=True):
        s = scales[panel.role]
        colours: dict[str, Any] = {"cmap": s.colours, "vmin": s.low, "vmax": s.high}
        axes.set_facecolor(_GAP)
        meshes.append(paint_map(axes, (latitudes, longitudes), field, panel.title, colours))
        axes.set_aspect(tall * across / up)
        _name_degrees(axes)
    for role, s in scales.items():
        mine = [k for k, p in enumerate(panels) if p.role == role]
        colour_bar(figure, meshes[mine[0]], [grid[k] for k in mine], np.array(s.beyond), aspect=32)
    # Outside the layout, at the same place whatever the maps are.
    figure.text(0.1 / width, 1 - 0.08 / height, _name(scenes.channel), va="top", fontsize=11, weight="bold")
    when = figure.text(0.1 / width, 1 - 0.31 / height, caption(scenes, 0), va="top", fontsize=10)
    return figure, meshes, when


def _stretch(latitudes: Array, longitudes: Array) -> float:
    """How much longer a degree of latitude is drawn: true in the middle of a window, equal on a map of the globe."""
    if np.ptp(longitudes) > 180:
        return 1.0
    return min(2.0, 1 / max(math.cos(math.radians(float(latitudes[0] + latitudes[-1]) / 2)), 0.35))


def _name_degrees(axes: Axes) -> None:
    for axis, (low, high), letters in ((axes.xaxis, axes.get_xlim(), "EW"), (axes.yaxis, axes.get_ylim(), "NS")):
        axis.set_major_locator(MultipleLocator(next(s for s in (1, 2, 5, 10, 15, 30, 60) if (high - low) / s <= 6.1)))
        axis.set_major_formatter(FuncFormatter(lambda v, _, letters=letters: _degrees(v, letters)))


def _degrees(value: float, letters: str) -> str:
    at = (value + 180) % 360 - 180
    return f"{abs(at):g}°{'' if at in (0, -180) else letters[0] if at > 0 else letters[1]}"


def _name(channel: Channel) -> str:
    """What is drawn, in which units."""
    long = str(channel.field.attrs.get("long_name", ""))
    units = plain_units(channel.units)
    units = "°C" if units.lower() in ("degc", "celsius", "degrees_celsius") else _raised(units)
    name = f"{channel.label}: {long}" if long and long != channel.label else channel.label
    return textwrap.shorten(name, 75, placeholder=" ...") + (f" ({units})" if units not in ("", "1") else "")


def _raised(units: str) -> str:
    """``m2 s-2`` with raised powers."""
    return re.sub(r"(?<=[A-Za-z])-?\d+", lambda found: found[0].translate(_SUPERSCRIPTS), units)


def _palette(scales: dict[str, _Scale]) -> NDArray[np.uint8]:
    """256 colours: greys for the lettering, and those of each map, also under coastlines."""
    maps = list(dict.fromkeys(s.colours for s in scales.values()))
    greys = np.linspace(0, 1, 28)[:, None] * np.ones(3)
    left = (256 - len(greys) - 1) // len(maps)
    plain = round(0.76 * left)
    ramps = [mpl.colormaps[name](np.linspace(0, 1, plain))[:, :3] for name in maps]
    ink = np.array(to_rgb("#343a40"))
    mixed = [0.4 * mpl.colormaps[name](np.linspace(0, 1, left - plain))[:, :3] + 0.6 * ink for name in maps]
    colours = np.concatenate([greys, [to_rgb(_GAP)], *ramps, *mixed])
    return np.round(255 * colours).astype(np.uint8)
