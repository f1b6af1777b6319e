"""Where a prediction is wanted: another resolution, the grid of another file, or the stations of a table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anygrid.cli import names
from anygrid.errors import DataError, FileError, GridError, UsageError, did_you_mean
from anygrid.grid import Axis, Bounded, Box, Grid, Points, Sphere

if TYPE_CHECKING:
    from anygrid.surrogate import Surrogate

__all__ = ["cut", "stations", "target_grid"]

_ALIASES = {"lat": ("latitude",), "latitude": ("lat",), "lon": ("longitude", "long"), "longitude": ("lon", "long")}


def target_grid(
    surrogate: Surrogate, resolution: str | None, like: str | None, points: Path | None, bounds: list[str] | None = None
) -> tuple[Grid | None, dict[str, list[str]]]:
    """Grid of the output, ``None`` for that of the input; and the other columns of a table of stations.

    ``bounds`` keep a part of the grid of ``resolution`` (default: that of the training data).

    Raises
    ------
    UsageError
        For more than one of the three, and a resolution for scattered points.
    GridError, DataError, FileError
        For a file or table that does not give such a grid.
    """
    given = [f for f, value in (("--resolution", resolution), ("--like", like), ("--points", points)) if value is not None]
    if len(given) > 1:
        raise UsageError("predict", "one of --resolution, --like and --points", " and ".join(given), "leave one")
    if bounds and (like is not None or points is not None):
        raise UsageError("--bounds", "bounds of a resolution", "--like or --points as well", "leave one")
    if resolution is not None or bounds:
        if isinstance(surrogate.grid, Points):
            where = "--bounds" if bounds else "--resolution"
            raise UsageError(where, "a surrogate of gridded data", "one of scattered points", "use --points or --like")
        grid = surrogate.grid if resolution is None else surrogate.grid.at(names.resolution(resolution))
        return cut(grid, bounds or []), {}
    if like is not None:
        return _like(surrogate, like), {}
    if points is not None:
        return stations(surrogate.grid, points)
    return None, {}


def cut(grid: Grid, bounds: list[str]) -> Grid:
    """The points of ``grid`` inside bounds such as ``lat=30:75,lon=-60:40``, both ends included.

    Raises
    ------
    UsageError
        For words of another form, an axis that is not there, and bounds without two points.
    """
    assert isinstance(grid, Box | Sphere)
    axes = {axis.name: axis for axis in grid.axes}
    for word in (piece for words in bounds for piece in words.split(",") if piece.strip()):
        name, _, text = (part.strip() for part in word.partition("="))
        found = next((n for n in (name, *_ALIASES.get(name, ())) if n in axes), None)
        if found is None:
            raise UsageError("--bounds", f"an axis of the data ({', '.join(axes)})", repr(name), did_you_mean(name, axes))
        try:
            low, high = (float(part) for part in text.split(":"))
        except ValueError as error:
            raise UsageError("--bounds", "AXIS=FROM:TO", repr(word), "for example --bounds lat=30:75,lon=-60:40") from error
        axes[found] = _between(axes[found], low, high)
    lat_or_first, *rest = axes.values()
    if isinstance(grid, Box):
        return Box((lat_or_first, *rest))
    return grid if not bounds else Sphere(lat_or_first, rest[0], gaussian=grid.gaussian and lat_or_first == grid.lat)


def _between(axis: Axis, low: float, high: float) -> Axis:
    """Points of an axis from ``low`` to ``high``; of a periodic one counted from ``low`` on."""
    x = axis.coordinates()
    if axis.periodic:
        x = np.sort(low + np.mod(x - low, axis.interval.length))
    x = x[(x >= low) & (x <= high)]
    if x.size < 2:
        ends = f"{axis.coordinates()[0]:g} to {axis.coordinates()[-1]:g}"
        hint = f"{axis.name} has {axis.size} points from {ends}; give wider bounds or a finer --resolution"
        raise UsageError("--bounds", "two or more points inside", f"{x.size} of {axis.name}", hint)
    if x.size == axis.size:
        return axis
    return Axis.from_coordinates(axis.name, x, interval=Bounded(x[0], x[-1]), units=axis.units)


def _like(surrogate: Surrogate, path: str) -> Grid:
    from anygrid.fields import find_grid, find_layout
    from anygrid.io import read

    ds = read(path)
    dims = surrogate.grid.dims
    fields = [str(name) for name, v in ds.data_vars.items() if set(dims) <= set(v.dims)]
    if not fields:
        have = ", ".join(map(str, ds.dims))
        raise GridError(
            f"--like {path}", f"a field on {', '.join(dims)}", f"fields on {have}", "rename its dimensions, or use --resolution"
        )
    boxed = isinstance(surrogate.grid, Box)
    layout = find_layout(ds, fields[:1], space=dims if boxed else None)
    periodic = {d: i.periodic for d, i in zip(dims, surrogate.grid.domain, strict=True)} if boxed else None
    return find_grid(ds, fields[:1], layout, periodic=periodic)[0]


def stations(grid: Grid, path: Path) -> tuple[Points, dict[str, list[str]]]:
    """Points of a CSV table with one column for each coordinate, and its other columns.

    Raises
    ------
    FileError
        For a file that is missing or no table.
    DataError
        For a missing column, and entries that are no numbers (the line is named).
    GridError
        For points outside the domain.
    """
    coordinates = grid.names if isinstance(grid, Points) else grid.dims
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise FileError(str(path), "a CSV table", str(reason), f"a first line {','.join(coordinates)}, then one line a station") from error
    if not rows:
        raise FileError(str(path), "a table with stations", "none", f"a first line {','.join(coordinates)}, then one line a station")
    columns = {str(c).strip().lower(): c for c in rows[0] if c is not None}
    chosen = []
    for name in coordinates:
        found = next((columns[n] for n in (name.lower(), *_ALIASES.get(name.lower(), ())) if n in columns), None)
        if found is None:
            raise DataError(str(path), f"a column {name!r}", f"columns {', '.join(columns)}", did_you_mean(name, columns))
        chosen.append(found)
    x = np.empty((len(rows), len(chosen)))
    for i, row in enumerate(rows):
        for k, column in enumerate(chosen):
            try:
                x[i, k] = float(row[column])
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{path} line {i + 2}", f"a number in column {column!r}", repr(row[column]), "mend or drop that line"
                ) from error
    if isinstance(grid, Sphere) and grid.lon.periodic:
        low = grid.lon.interval.lower
        x[:, 1] = low + np.mod(x[:, 1] - low, 360.0)
    others = {str(c).strip(): [str(row[c]) for row in rows] for c in rows[0] if c is not None and c not in chosen}
    return Points(x, tuple(coordinates), grid.domain), others
