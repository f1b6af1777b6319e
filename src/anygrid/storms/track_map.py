"""Pictures of storm tracks and strike probabilities on a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anygrid.coastlines import coastlines
from anygrid.errors import UsageError
from anygrid.numerics.great_circle import bearing, destination, distance

__all__ = ["graticule", "save", "track_map"]

_INK, _LINE = "#1b1f24", "#868e96"
_COLOURS = ("#d9480f", "#ae3ec9", "#2b8a3e", "#b08900", "#0b7285")  # those of the report, which this layer does not see
_LOOKS: Any = {"font.size": 9, "axes.titlesize": 9.5, "axes.linewidth": 0.7, "legend.frameon": False, "axes.edgecolor": _INK}
_MANY = 12  # tracks of one member that are told apart by colour


def track_map(table: pd.DataFrame, best: pd.DataFrame | None = None, strike: xr.DataArray | None = None, *, title: str = "") -> Figure:
    """Tracks on latitudes and longitudes, cut at the seam of the map; observed ones in black, the strike probability behind them.

    The map shows where the tracks are, the whole globe when they go round it. A dot marks where a track begins.

    Parameters
    ----------
    table, best
        Tracks and observed storms, with ``lat``, ``lon``.
    strike
        Probability on a grid, by :func:`anygrid.storms.strike_map`.

    Raises
    ------
    UsageError
        When there is nothing to draw.
    """
    if table.empty and (best is None or best.empty):
        raise UsageError("track_map", "at least one track", "none", "looser criteria find more")
    shown = [table] if best is None else [table, best]
    centre, extent = _view(np.concatenate([t["lon"].to_numpy(float) for t in shown]), np.concatenate([t["lat"] for t in shown]))
    width = 9.0
    with mpl.rc_context(_LOOKS):
        wide = extent[1] - extent[0]
        height = 0.85 * width * (extent[3] - extent[2]) / wide * _stretch(extent)
        figure = Figure(figsize=(width, float(np.clip(height, 2.5, 8.5)) + 0.8), layout="constrained", facecolor="white")
        axes = figure.subplots()
        if strike is not None:
            _shade(figure, axes, strike, centre)
        graticule(axes, centre, extent)
        _lines(axes, table, centre)
        if best is not None and not best.empty:
            for k, (_, storm) in enumerate(best.groupby("storm")):
                label = "observed" if k == 0 else None
                _line(axes, storm["lat"].to_numpy(float), storm["lon"].to_numpy(float), centre, _INK, 1.8, label)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.06), ncols=6, borderaxespad=0)
        axes.set_title(title, loc="left")
    return figure


def graticule(axes: Axes, centre: float, extent: tuple[float, float, float, float]) -> None:
    """Meridians, parallels, their labels and coastlines; longitudes are drawn relative to the meridian ``centre``."""
    west, east, south, north = extent
    step = next(s for s in (2, 5, 10, 15, 30, 60) if (east - west) / s <= 8)
    rise = next(s for s in (2, 5, 10, 15, 30) if (north - south) / s <= 7)
    meridians = np.arange(np.ceil((west + centre) / step) * step, east + centre + 1e-9, step)
    parallels = np.arange(np.ceil(south / rise) * rise, north + 1e-9, rise)
    axes.set_xticks(meridians - centre, [_longitude(m) for m in meridians])
    axes.set_yticks(parallels, [f"{abs(p):g}°{'N' if p > 0 else 'S' if p < 0 else ''}" for p in parallels])
    axes.grid(True, color=_LINE, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    lines = coastlines(centre + west)
    axes.plot(lines[:, 0] - centre, lines[:, 1], color=_LINE, lw=0.6, alpha=0.7, zorder=1)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(_stretch(extent), adjustable="box")
    axes.tick_params(length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _stretch(extent: tuple[float, float, float, float]) -> float:
    """How much longer a degree of latitude is drawn: true in the middle of a region, equal on a map of the globe."""
    west, east, south, north = extent
    return 1.0 if east - west > 180 else float(min(2.0, 1 / max(np.cos(np.deg2rad((south + north) / 2)), 0.35)))


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all."""
    aside = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        figure.savefig(aside, dpi=150, facecolor="white", format=path.suffix.lstrip(".").lower())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _longitude(degrees: float) -> str:
    at = (degrees + 180) % 360 - 180
    return f"{abs(at):g}°{'' if at in (0, -180) else 'E' if at > 0 else 'W'}"


def _view(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> tuple[float, tuple[float, float, float, float]]:
    """Meridian in the middle, and the extent relative to it: the shortest stretch of longitudes that holds all."""
    around = np.sort(lon % 360)
    gaps = np.diff(np.append(around, around[0] + 360))
    widest = int(np.argmax(gaps))
    if gaps[widest] < 60:
        centre, half = 0.0, 180.0
    else:
        span = 360 - float(gaps[widest])
        start = float(around[(widest + 1) % around.size])
        centre, half = (start + span / 2 + 180) % 360 - 180, max(span / 2 + max(6.0, 0.08 * span), 12.0)
    margin = max(5.0, 0.08 * float(np.ptp(lat)))
    return centre, (-half, half, max(-90.0, float(lat.min()) - margin), min(90.0, float(lat.max()) + margin))


def _lines(axes: Axes, table: pd.DataFrame, centre: float) -> None:
    members = table["member"].nunique()
    groups = list(table.groupby(["start", "member", "track"], dropna=False))
    for k, ((_, _, number), part) in enumerate(groups):
        if members > 1:
            colour, size, label = _COLOURS[4], 0.8, f"tracks of {members} members" if k == 0 else None
        else:
            colour = _COLOURS[k % len(_COLOURS)] if len(groups) <= _MANY else _COLOURS[4]
            size, label = 1.6, f"track {number}" if len(groups) <= _MANY else f"{len(groups)} tracks" if k == 0 else None
        _line(axes, part["lat"].to_numpy(float), part["lon"].to_numpy(float), centre, colour, size, label)


def _line(
    axes: Axes, lat: NDArray[np.float64], lon: NDArray[np.float64], centre: float, colour: str, width: float, label: str | None
) -> None:
    """One track along great circles, broken where it crosses the seam."""
    lats, lons = _fine(lat, lon)
    x = (lons - centre + 180) % 360 - 180
    breaks = np.flatnonzero(np.abs(np.diff(x)) > 180) + 1
    x, y = np.insert(x, breaks, np.nan), np.insert(lats, breaks, np.nan)
    axes.plot(x, y, color=colour, linewidth=width, alpha=0.9, label=label, solid_capstyle="round")
    axes.plot(x[:1], y[:1], "o", color=colour, markersize=1.6 + 1.6 * width)


def _fine(lat: NDArray[np.float64], lon: NDArray[np.float64], step: float = 50e3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points at most 50 km apart on the great circles between fixes."""
    pieces: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for k in range(lat.size - 1):
        long = float(distance(lat[k], lon[k], lat[k + 1], lon[k + 1]))
        parts = np.arange(0, 1, 1 / max(1, int(np.ceil(long / step))))
        pieces.append(destination(lat[k], lon[k], bearing(lat[k], lon[k], lat[k + 1], lon[k + 1]), parts * long))
    pieces.append((lat[-1:], lon[-1:]))
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def _shade(figure: Figure, axes: Axes, strike: xr.DataArray, centre: float) -> None:
    lat, lon = (strike[d].to_numpy() for d in strike.dims)
    x = (lon - centre + 180) % 360 - 180
    order = np.argsort(x)
    values = np.where(strike.to_numpy() > 0, strike.to_numpy(), np.nan)[:, order]
    drawn = axes.pcolormesh(x[order], lat, values, cmap="YlOrRd", vmin=0, vmax=1, shading="nearest", rasterized=True)
    figure.colorbar(drawn, ax=axes, shrink=0.75, pad=0.015, aspect=28, label=str(strike.attrs.get("long_name", "probability")))
