"""Grids as JSON, and whether two grids sample the same domain."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np

from anygrid.errors import FileError, GridError
from anygrid.grid import Axis, Box, Grid, Interval, Points, Sphere

__all__ = ["grid_from_json", "grid_to_json", "snap", "window"]

_TOLERANCE = 1e-3  # of a spacing: coordinates are often stored in float32


def grid_to_json(grid: Grid) -> dict[str, Any]:
    """Plain lists, numbers and strings that :func:`grid_from_json` turns back into an equal grid."""
    if isinstance(grid, Box):
        return {"family": "box", "axes": [_axis_to_json(axis) for axis in grid.axes]}
    if isinstance(grid, Sphere):
        return {"family": "sphere", "axes": [_axis_to_json(axis) for axis in grid.axes], "gaussian": grid.gaussian}
    assert isinstance(grid, Points)
    quadrature = None if grid.quadrature is None else _pack(np.asarray(grid.quadrature, dtype=np.float64))
    extent = [_interval_to_json(interval) for interval in grid.extent]
    return {
        "family": "points",
        "coordinates": _pack(grid.coordinates),
        "names": list(grid.names),
        "extent": extent,
        "quadrature": quadrature,
        "dim": grid.dim,
    }


def grid_from_json(stored: dict[str, Any]) -> Grid:
    """Inverse of :func:`grid_to_json`.

    Raises
    ------
    FileError
        When the family is unknown; a missing or ill-typed entry raises what Python raises (the caller names the file).
    """
    family = stored["family"]
    if family == "box":
        return Box(tuple(_axis_from_json(axis) for axis in stored["axes"]))
    if family == "sphere":
        lat, lon = (_axis_from_json(axis) for axis in stored["axes"])
        return Sphere(lat, lon, gaussian=bool(stored["gaussian"]))
    if family == "points":
        extent = tuple(_interval_from_json(interval) for interval in stored["extent"])
        coordinates = _unpack(stored["coordinates"]).reshape(-1, len(extent))
        quadrature = None if stored["quadrature"] is None else _unpack(stored["quadrature"])
        return Points(coordinates, tuple(map(str, stored["names"])), extent, quadrature, str(stored["dim"]))
    raise FileError("grid", "a grid family box, sphere or points", repr(family))


def snap(grid: Grid, reference: Grid, where: str) -> Grid:
    """The points of ``grid`` on the domain of ``reference``.

    Coordinates in a file tell the extent of the domain only to about half a spacing (a bounded axis may store vertices or
    cell centres), so a bounded axis may begin and end up to half a spacing from the ends of the reference's interval, and
    takes that interval; a periodic axis must have the same period to half a spacing and start inside it.

    Raises
    ------
    GridError
        For another family (box, sphere, points), other axes, another periodicity or another extent.
    """
    family, wanted = type(grid).__name__, type(reference).__name__
    if family != wanted:
        raise GridError(
            where,
            f"a {wanted} grid ({', '.join(reference.dims)})",
            f"a {family} grid ({', '.join(grid.dims)})",
            "a surrogate runs at any resolution of its own domain; interpolate the data to such a grid first",
        )
    if isinstance(grid, Points) and isinstance(reference, Points):
        if grid.names != reference.names:
            raise GridError(where, f"points with coordinates {', '.join(reference.names)}", ", ".join(grid.names))
        return Points(grid.coordinates, grid.names, reference.extent, grid.quadrature, grid.dim)
    if isinstance(grid, Sphere) and isinstance(reference, Sphere):
        lat, lon = (_snap_axis(axis, other, where) for axis, other in zip(grid.axes, reference.axes, strict=True))
        return replace(grid, lat=lat, lon=lon)
    assert isinstance(grid, Box)
    assert isinstance(reference, Box)
    if grid.dims != reference.dims:
        expected = f"{len(reference.dims)} space dimensions named {', '.join(reference.dims)}"
        raise GridError(where, expected, ", ".join(grid.dims), "rename the dimensions with ds.rename({...})")
    return Box(tuple(_snap_axis(axis, other, where) for axis, other in zip(grid.axes, reference.axes, strict=True)))


def window(grid: Grid, reference: Grid, where: str) -> Grid:
    """The points of an output ``grid`` on the domain of ``reference``, of which it may be a part: bounds inside those of each axis.

    Longitudes of a window may be counted as the caller likes, -60 to 40 or 300 to 400, where the reference goes round.

    Raises
    ------
    GridError
        As :func:`snap`, and for points outside the domain.
    """
    if isinstance(grid, Sphere) and isinstance(reference, Sphere):
        lat, lon = (_window_axis(axis, other, where) for axis, other in zip(grid.axes, reference.axes, strict=True))
        return replace(grid, lat=lat, lon=lon)
    if isinstance(grid, Box) and isinstance(reference, Box) and grid.dims == reference.dims:
        return Box(tuple(_window_axis(axis, other, where) for axis, other in zip(grid.axes, reference.axes, strict=True)))
    return snap(grid, reference, where)


def _window_axis(axis: Axis, reference: Axis, where: str) -> Axis:
    ends, x = reference.interval, axis.coordinates()
    if axis.periodic:
        return _snap_axis(axis, reference, where)
    if ends.periodic:
        if x[-1] - x[0] >= ends.length:
            hint = "drop the repeated points"
            raise GridError(where, f"{axis.name!r} over less than its period of {ends.length:g}", f"{x[-1] - x[0]:g}", hint)
        return axis
    slack = (0.5 + _TOLERANCE) * max(_spacing(axis), _spacing(reference))
    part = ends.lower <= x[0] and x[-1] <= ends.upper and max(x[0] - ends.lower, ends.upper - x[-1]) > slack
    return axis if part else _snap_axis(axis, reference, where)


def _snap_axis(axis: Axis, reference: Axis, where: str) -> Axis:
    name, ends = axis.name, reference.interval
    if axis.periodic != ends.periodic:
        kinds = ["bounded", "periodic"]
        raise GridError(
            where, f"a {kinds[ends.periodic]} coordinate {name!r}", f"a {kinds[axis.periodic]} one", "choose data of the same domain"
        )
    if axis.interval == ends:
        return axis
    x = axis.coordinates()
    spacing = _spacing(axis)
    slack = (0.5 + _TOLERANCE) * max(spacing, _spacing(reference))
    begin, end = x[0] - ends.lower, ends.upper - x[-1]
    if ends.periodic:
        fits = abs(axis.interval.length - ends.length) <= slack and begin >= -_TOLERANCE * spacing and end >= -_TOLERANCE * spacing
    else:
        inside = min(begin, end) >= -(0.5 + _TOLERANCE) * spacing
        fits = inside and max(begin, end) <= slack
    if not fits:
        raise GridError(
            where,
            f"{name!r} over [{ends.lower:g}, {ends.upper:g}], the domain of the training data",
            f"{x.size} values from {x[0]:g} to {x[-1]:g}",
            f"choose data on the same domain{_longitude_hint(axis, ends)}",
        )
    if x.size < 2:
        return Axis(name, ends, x.size, "nodes", (float(np.clip(x[0], ends.lower, ends.upper)),), axis.units)
    return Axis.from_coordinates(name, np.clip(x, ends.lower, ends.upper), interval=ends, units=axis.units)


def _spacing(axis: Axis) -> float:
    return float(np.diff(axis.coordinates()).max()) if axis.size > 1 else axis.interval.length


def _longitude_hint(axis: Axis, ends: Interval) -> str:
    if not (axis.periodic and ends.periodic and abs(axis.interval.length - ends.length) < 1e-3 * ends.length):
        return ""
    low, length = f"{ends.lower:g}", f"{ends.length:g}"
    return f"; here: ds.assign_coords({axis.name}=({low} + (ds.{axis.name} - {low}) % {length})).sortby({axis.name!r})"


def _interval_to_json(interval: Interval) -> list[Any]:
    return [interval.lower, interval.upper, interval.periodic]


def _interval_from_json(stored: list[Any]) -> Interval:
    lower, upper, periodic = stored
    return Interval(float(lower), float(upper), periodic=bool(periodic))


def _axis_to_json(axis: Axis) -> dict[str, Any]:
    return {
        "name": axis.name,
        "interval": _interval_to_json(axis.interval),
        "size": axis.size,
        "placement": axis.placement,
        "nodes": list(axis.nodes),
        "units": axis.units,
    }


def _axis_from_json(stored: dict[str, Any]) -> Axis:
    placement = stored["placement"]
    if placement not in ("vertices", "cells", "nodes"):
        raise FileError("grid", "a placement vertices, cells or nodes", repr(placement))
    nodes = tuple(float(x) for x in stored["nodes"])
    return Axis(str(stored["name"]), _interval_from_json(stored["interval"]), int(stored["size"]), placement, nodes, str(stored["units"]))


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode("ascii")


def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f8").astype(np.float64)
