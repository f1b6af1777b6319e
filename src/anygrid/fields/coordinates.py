"""Which grid a data set lies on, read from its coordinates; and coordinates that give a grid back exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, GridError
from anygrid.fields.layout import Layout, is_latitude, is_longitude, point_coordinates
from anygrid.fields.periodicity import infer_periodic
from anygrid.fields.variables import coordinate, select
from anygrid.grid import Axis, Bounded, Box, Grid, Interval, Periodic, Points, Sphere, gaussian_latitudes

__all__ = ["ascending", "find_grid", "grid_coordinates"]

_GAUSS = 1e-3  # degrees: files round Gaussian latitudes to three decimals


def find_grid(
    ds: xr.Dataset, names: Sequence[str], layout: Layout, *, periodic: Mapping[str, bool] | None = None
) -> tuple[Grid, tuple[str, ...]]:
    """Grid of the named variables, and sentences that say what was inferred and why.

    Latitude and longitude in degrees make a :class:`Sphere` (longitude is periodic when it goes once round; Gaussian latitudes are
    recognised), positions along one dimension make :class:`Points`, anything else a :class:`Box`. Descending coordinates
    are turned round: a grid is ascending. A dimension without coordinates becomes the unit interval.

    Parameters
    ----------
    periodic
        Dimensions known to be periodic (True) or bounded (False). For the others the attributes decide, then the data.

    Raises
    ------
    GridError
        For coordinates that repeat, are not finite or not monotonic, uneven on a periodic axis, or a meridian that is there twice.
    DataError
        When neither attributes nor data tell whether an axis is periodic.
    """
    data = select(ds, names)
    declared = dict(periodic or {})
    for dim in declared:
        if dim not in layout.space and dim not in point_coordinates(data, layout.space[0]):
            raise GridError(f"--periodic/--bounded {dim}", f"one of {', '.join(layout.space)}", repr(dim))
    if len(layout.space) == 1 and (positions := point_coordinates(data, layout.space[0])):
        return _points(data, layout.space[0], positions, declared)
    coords = {d: coordinate(data, d) for d in layout.space}
    stored = {str(c.attrs.get("anygrid_grid")) for c in coords.values() if c is not None}
    angles = [d for d, c in coords.items() if is_latitude(d, c) or is_longitude(d, c)]
    if stored != {"Box"} and len(angles) == 2:
        if len(coords) > 2:
            raise GridError(
                "grid",
                "latitude and longitude only",
                f"{', '.join(coords)}",
                f"take one entry of the third as a variable: {names[0]}@DIM=VALUE",
            )
        (lat, lat_c), (lon, lon_c) = coords.items()
        if not (is_latitude(lat, lat_c) and is_longitude(lon, lon_c)):
            raise GridError("grid", "one latitude and one longitude", f"{lat} and {lon}", "order them with --space LAT,LON")
        return _sphere(lat_c, lon_c, declared)
    axes, notes = [], []
    for dim, c in coords.items():
        axis, note = _axis(ds, data, dim, c, declared.get(dim), layout)
        axes.append(axis)
        notes.append(note)
    return Box(tuple(axes)), tuple(notes)


def grid_coordinates(grid: Grid) -> dict[str, xr.DataArray]:
    """Coordinates of a grid, ascending, with CF attributes and those from which :func:`find_grid` recovers the grid exactly."""
    if isinstance(grid, Points):
        return _point_arrays(grid)
    if not isinstance(grid, Box | Sphere):
        raise GridError("grid_coordinates", "a Box, Sphere or Points", type(grid).__name__)
    out = {}
    for k, axis in enumerate(grid.axes):
        attrs: dict[str, object] = {"units": axis.units} if axis.units else {}
        if isinstance(grid, Sphere):
            attrs = {"units": ("degrees_north", "degrees_east")[k], "standard_name": ("latitude", "longitude")[k], "axis": "YX"[k]}
        attrs |= _own(grid, axis.interval, axis.placement, axis.units)
        if isinstance(grid, Sphere) and grid.gaussian:
            attrs["anygrid_gaussian"] = 1
        out[axis.name] = xr.DataArray(axis.coordinates(), dims=axis.name, attrs=attrs)
    return out


def ascending(coordinate: xr.DataArray | None, dim: str, size: int) -> tuple[NDArray[np.float64], bool]:
    """Coordinate values in ascending order, and whether they had to be turned round.

    Raises
    ------
    GridError
        For values that are not numbers, not finite, or neither ascend nor descend.
    """
    if coordinate is None:
        return np.arange(size, dtype=np.float64), False
    raw = np.asarray(coordinate.values)
    where = f"coordinate {dim!r}"
    if raw.dtype.kind not in "fiu":
        raise GridError(
            where, "numbers", f"values of type {raw.dtype}", f"drop the coordinate with ds.drop_vars({dim!r}), or give it numbers"
        )
    # The shortest decimal that gives a float32 is what its author wrote: 0.1, not 0.10000000149.
    x = np.array([float(str(v)) for v in raw]) if raw.dtype == np.float32 else raw.astype(np.float64)
    if not np.isfinite(x).all():
        raise GridError(where, "finite values", f"{int((~np.isfinite(x)).sum())} that are not", "mend the coordinate in the file")
    steps = np.diff(x)
    turned = bool(x.size > 1 and (steps < 0).all())
    if x.size > 1 and not turned and not (steps > 0).all():
        at = int(np.argmax(steps <= 0)) if steps[0] > 0 else int(np.argmax(steps >= 0))
        hint = f"sort the data with ds.sortby({dim!r}) and drop what is there twice"
        if abs(steps[at]) > 180 and is_longitude(dim, coordinate):
            hint = f"the longitudes cross their seam: ds.assign_coords({dim}=(ds.{dim} + 180) % 360 - 180).sortby({dim!r})"
        raise GridError(where, "values that only ascend or only descend", f"{x[at]:.6g} followed by {x[at + 1]:.6g} at index {at}", hint)
    return (x[::-1].copy() if turned else x), turned


def _own(grid: Grid, interval: Interval, placement: str, units: str) -> dict[str, object]:
    """Attributes that hold what coordinates alone cannot: interval, periodicity, placement."""
    return {
        "anygrid_grid": type(grid).__name__,
        "anygrid_interval": [interval.lower, interval.upper],
        "anygrid_periodic": int(interval.periodic),
        "anygrid_placement": placement,
        "anygrid_units": units,
    }


def _stored_axis(dim: str, c: xr.DataArray | None, x: NDArray[np.float64]) -> Axis | None:
    """Axis stated by our own attributes, if they still fit the values (a slice keeps the attributes of the whole)."""
    if c is None or "anygrid_placement" not in c.attrs:
        return None
    try:
        lower, upper = (float(v) for v in np.ravel(c.attrs["anygrid_interval"]))
        interval = Interval(lower, upper, bool(int(c.attrs["anygrid_periodic"])))
        placement = str(c.attrs["anygrid_placement"])
        units = str(c.attrs.get("anygrid_units", ""))
        if placement == "nodes":
            axis = Axis(dim, interval, x.size, "nodes", tuple(x.tolist()), units)
            gap = x[0] + interval.length - x[-1]
            whole = not interval.periodic or (x.size > 1 and gap <= 4 * np.diff(x).max())
            return axis if whole else None
        if placement not in ("vertices", "cells"):
            return None
        axis = Axis(dim, interval, x.size, "vertices" if placement == "vertices" else "cells", units=units)
    except (KeyError, TypeError, ValueError):
        return None
    return axis if np.abs(axis.coordinates() - x).max() <= 1e-4 * interval.length / x.size else None


def _axis(ds: xr.Dataset, data: xr.Dataset, dim: str, c: xr.DataArray | None, declared: bool | None, layout: Layout) -> tuple[Axis, str]:
    size = data.sizes[dim]
    x, _ = ascending(c, dim, size)
    axis = _stored_axis(dim, c, x)
    if axis is not None and declared in (None, axis.periodic):
        return axis, f"{_describe(axis)} (stated by the file)"
    even = size > 1 and _even(x)
    said = None if c is None else c.attrs.get("periodic")
    if declared is not None:
        wraps, why = declared, f"{dim} {'periodic' if declared else 'bounded'} as declared"
    elif said is not None:
        wraps = str(said).lower() in ("1", "true", "yes", "periodic")
        why = f"{dim} {'periodic' if wraps else 'bounded'} as its attribute says"
    elif not even:
        wraps, why = False, f"{dim} taken as bounded: its points are unevenly spaced"
    else:
        wraps, why = infer_periodic(data, dim, layout.leading)
    units = "" if c is None else str(c.attrs.get("units", ""))
    if c is None:
        _refuse_curvilinear(ds, dim)
        axis = Axis(dim, Periodic(0, 1) if wraps else Bounded(0, 1), size)
        return axis, f"{why}; it has no coordinates, so the unit interval is assumed"
    interval = _bounds(ds, c, wraps, dim) or (_even_interval(x, wraps) if even else None)
    axis = Axis.from_coordinates(dim, x, interval=interval, periodic=wraps, units=units)
    return axis, f"{_describe(axis)}; {why}"


def _refuse_curvilinear(ds: xr.Dataset, dim: str) -> None:
    for name, c in ds.coords.items():
        if c.ndim == 2 and dim in c.dims and (is_latitude(str(name), c) or is_longitude(str(name), c)):
            dims = ", ".join(repr(str(d)) for d in c.dims)
            hint = f"regrid the data, or take the points as scattered: ds.stack(point=({dims})).reset_index('point')"
            raise GridError(f"grid dimension {dim!r}", "coordinates along one dimension", f"{name!r} along {dims}", hint)


def _even(x: NDArray[np.float64]) -> bool:
    steps = np.diff(x)
    h = (x[-1] - x[0]) / (x.size - 1)
    return bool(np.abs(steps - h).max() <= 1e-4 * h + 1e-6 * np.abs(x).max())


def _even_interval(x: NDArray[np.float64], periodic: bool) -> Interval:
    """Extent of even points: half a spacing beyond them when that lands on rounder numbers (cell centres), else up to them."""
    h = float(x[-1] - x[0]) / (x.size - 1)
    first, last = float(x[0]), float(x[-1])
    upper = last + h if periodic else last
    centred = abs(first - h / 2) <= 1e-4 * h or _digits(h, first - h / 2, last + h / 2) < _digits(h, first, upper)
    low, high = (first - h / 2, last + h / 2) if centred else (first, upper)
    return Interval(_rounded(low, h), _rounded(high, h), periodic)


def _digits(h: float, *values: float) -> int:
    """Decimals needed to write all values, or their multiples of pi, to a small part of the spacing."""
    for digits in range(4):
        scale = 10.0**digits
        for unit in (1.0, math.pi):
            if all(abs(v / unit * scale - round(v / unit * scale)) * unit / scale <= 1e-3 * h for v in values) and (
                h * scale > 1e-2 or digits == 0
            ):
                return digits
    return 9


def _rounded(value: float, h: float) -> float:
    """Nearest number of few digits within a small part of the spacing, to undo rounding in ``x - h/2``."""
    short = float(f"{value:.10g}")
    return short if abs(short - value) <= 1e-7 * h else value


def _bounds(ds: xr.Dataset, c: xr.DataArray, periodic: bool, dim: str) -> Interval | None:
    """Extent from CF cell bounds, if the file has them."""
    name = str(c.attrs.get("bounds", c.encoding.get("bounds", "")))
    if name not in ds.variables or ds[name].dims[:1] != (dim,) or ds[name].ndim != 2 or ds[name].dtype.kind != "f":
        return None
    edges = np.asarray(ds[name].values, dtype=np.float64)
    if not np.isfinite(edges).all() or edges.min() >= edges.max():
        return None
    return Interval(float(edges.min()), float(edges.max()), periodic)


def _sphere(lat_c: xr.DataArray | None, lon_c: xr.DataArray | None, declared: Mapping[str, bool]) -> tuple[Grid, tuple[str, ...]]:
    assert lat_c is not None
    assert lon_c is not None
    lat, gaussian, lat_note = _latitude(lat_c, declared)
    lon, lon_note = _longitude(lon_c, declared)
    return Sphere(lat, lon, gaussian), (lat_note, lon_note)


def _latitude(c: xr.DataArray, declared: Mapping[str, bool]) -> tuple[Axis, bool, str]:
    dim = str(c.dims[0])
    x, turned = ascending(c, dim, c.size)
    order = "; the file descends, the grid ascends" if turned else ""
    if declared.get(dim):
        raise GridError(f"--periodic {dim}", "a bounded latitude", "periodic", "latitude ends at the poles")
    if x[0] < -90.001 or x[-1] > 90.001:
        raise GridError(
            f"coordinate {dim!r}", "latitudes between -90 and 90 degrees", f"{x[0]:g} to {x[-1]:g}", "check its values and units"
        )
    axis = _stored_axis(dim, c, x)
    if axis is not None:
        return axis, bool(c.attrs.get("anygrid_gaussian", 0)), f"{_describe(axis)} (stated by the file)"
    if x.size > 3 and np.abs(x - (nodes := gaussian_latitudes(x.size)[0])).max() < _GAUSS:
        axis = Axis(dim, Bounded(-90, 90), x.size, "nodes", tuple(nodes.tolist()))
        return axis, True, f"{dim}: {x.size} Gaussian latitudes{order}"
    x = np.clip(x, -90.0, 90.0)
    interval = None
    if x.size > 1 and _even(x):
        found = _even_interval(x, False)
        interval = Bounded(max(found.lower, -90.0), min(found.upper, 90.0))
    if x.size > 1 and (interval is None or (interval.lower == x[0] and interval.upper == x[-1])):
        # Points that stop a spacing or less before a pole, which some files leave out, stand for everything up to it.
        low = -90.0 if x[0] - 1.001 * (x[1] - x[0]) < -90 else float(x[0])
        high = 90.0 if x[-1] + 1.001 * (x[-1] - x[-2]) > 90 else float(x[-1])
        interval = Bounded(low, high)
    axis = Axis.from_coordinates(dim, x, interval=interval)
    return axis, False, _describe(axis) + order


def _longitude(c: xr.DataArray, declared: Mapping[str, bool]) -> tuple[Axis, str]:
    dim = str(c.dims[0])
    x, _ = ascending(c, dim, c.size)
    axis = _stored_axis(dim, c, x)
    if axis is not None and declared.get(dim, axis.periodic) == axis.periodic:
        return axis, f"{_describe(axis)} (stated by the file)"
    if x.size < 2:
        raise GridError(f"coordinate {dim!r}", "two or more longitudes", str(x.size))
    h = (x[-1] - x[0]) / (x.size - 1)
    if x[-1] - x[0] > 360 - 0.05 * h:
        hint = f"drop the last one with ds.isel({dim}=slice(None, -1))"
        raise GridError(f"coordinate {dim!r}", "each meridian once", f"{x[0]:g} and {x[-1]:g}, the same place", hint)
    once_round = _even(x) and abs(h * x.size - 360) <= 0.05 * h
    if declared.get(dim) and not once_round:
        raise GridError(
            f"--periodic {dim}", "even longitudes that go once round", f"{x.size} from {x[0]:g} to {x[-1]:g}", f"say --bounded {dim}"
        )
    if once_round and declared.get(dim, True):
        found = _even_interval(x, True)
        axis = Axis.from_coordinates(dim, x, interval=Periodic(found.lower, found.lower + 360), periodic=True)
        return axis, f"{_describe(axis)}, periodic because it goes once round the globe"
    axis = Axis.from_coordinates(dim, x, interval=_even_interval(x, False) if _even(x) else None)
    return (
        axis,
        f"{_describe(axis)}, bounded because it does not go round the globe"
        if not once_round
        else f"{_describe(axis)}, bounded as declared",
    )


def _describe(axis: Axis) -> str:
    low, high = axis.interval.lower, axis.interval.upper
    kind = {"vertices": "points", "cells": "cell centres", "nodes": "uneven points"}[axis.placement]
    return f"{axis.name}: {axis.size} {kind} on [{low:g}, {high:g}{')' if axis.periodic else ']'}{' ' + axis.units if axis.units else ''}"


def _points(ds: xr.Dataset, dim: str, names: tuple[str, ...], declared: Mapping[str, bool]) -> tuple[Grid, tuple[str, ...]]:
    ordered = sorted(names, key=lambda n: (int(ds[n].attrs.get("anygrid_index", 0)), is_longitude(n, ds[n])))
    extent, notes = [], []
    for name in ordered:
        c = ds[name]
        x = np.asarray(c.values, dtype=np.float64)
        if "anygrid_interval" in c.attrs and declared.get(name) is None:
            lower, upper = (float(v) for v in np.ravel(c.attrs["anygrid_interval"]))
            extent.append(Interval(lower, upper, bool(int(c.attrs.get("anygrid_periodic", 0)))))
            continue
        if declared.get(name) and not is_longitude(name, c):
            raise DataError(
                f"--periodic {name}",
                "a period",
                "scattered points, which do not tell it",
                "give the domain: Points(..., extent=(Periodic(0, 1), ...))",
            )
        low, high = float(np.nanmin(x)), float(np.nanmax(x))
        interval = Interval(low, high)
        if is_longitude(name, c) and declared.get(name, high - low > 270):
            interval = Periodic(0, 360) if low >= 0 else Periodic(-180, 180)
        elif is_latitude(name, c) and high - low > 120:
            interval = Bounded(-90, 90)
        extent.append(interval)
        notes.append(
            f"{name}: scattered points, domain taken as [{interval.lower:g}, {interval.upper:g}]{' periodic' if interval.periodic else ''}"
        )
    xy = np.stack([np.asarray(ds[n].values, dtype=np.float64) for n in ordered], axis=1)
    weights = next(
        (np.asarray(c.values, np.float64) for c in ds.coords.values() if c.dims == (dim,) and "anygrid_quadrature" in c.attrs), None
    )
    return Points(xy, tuple(ordered), tuple(extent), weights, dim), tuple(notes)


def _point_arrays(grid: Points) -> dict[str, xr.DataArray]:
    out = {}
    for k, (name, interval) in enumerate(zip(grid.names, grid.extent, strict=True)):
        attrs = {**_own(grid, interval, "points", ""), "anygrid_index": k}
        out[name] = xr.DataArray(grid.coordinates[:, k].copy(), dims=grid.dim, attrs=attrs)
    if grid.quadrature is not None:
        out["quadrature"] = xr.DataArray(np.asarray(grid.quadrature, np.float64), dims=grid.dim, attrs={"anygrid_quadrature": 1})
    return out
