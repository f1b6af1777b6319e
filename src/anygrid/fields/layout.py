"""Roles of the dimensions of a data set: independent samples, time, space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from anygrid.errors import DataError, did_you_mean
from anygrid.fields.variables import coordinate, select

__all__ = ["Layout", "dimension_roles", "find_layout", "is_latitude", "is_longitude", "point_coordinates"]

Role = Literal["samples", "time", "space", "level", "unknown"]

_TIME = {"time", "times", "t", "valid_time", "datetime", "date", "month", "year", "step", "lead_time", "prediction_timedelta"}
_SAMPLES = {
    *("sample", "samples", "batch", "trajectory", "traj", "trajectories", "member", "members", "number", "realization", "realisation"),
    *("ensemble", "ens", "ensemble_member", "case", "run", "simulation", "sim", "record", "example", "n"),
}
_LEVELS = {
    *("level", "levels", "lev", "plev", "pressure", "pressure_level", "isobaricinhpa", "isobaricinpa", "model_level", "hybrid", "sigma"),
    *("ilev", "bottom_top", "isobaric", "generalvertical", "generalverticallayer", "depthbelowlandlayer"),
}
_HEIGHTS = {"height", "depth", "altitude", "heightaboveground", "deptht"}
_SPACE = {
    *("x", "y", "z", "x1", "x2", "x3", "x4", "xc", "yc", "zc", "xi", "r", "radius", "theta", "phi", "easting", "northing"),
    *("south_north", "west_east", "i", "j", "k", "row", "col", "rlat", "rlon", "lat", "latitude", "lon", "longitude", "nav_lat", "nav_lon"),
}
_SPACE_LIKE = re.compile(r"^(?:[a-z0-9]+[_-])*(?:x|y|z|lat|lon|latitude|longitude)(?:[_-][a-z0-9]+)*$")
_SPATIAL_NAMES = {"projection_x_coordinate", "projection_y_coordinate", "grid_latitude", "grid_longitude", "latitude", "longitude"}


@dataclass(frozen=True)
class Layout:
    """Dimensions of a data set by role.

    Parameters
    ----------
    samples
        Dimensions that enumerate independent samples (sample, trajectory, ensemble member).
    time
        Dimension that orders states of one trajectory, if there is one.
    space
        Dimensions of the grid, in its order; for scattered points the one dimension that enumerates them.
    """

    samples: tuple[str, ...]
    time: str | None
    space: tuple[str, ...]

    @property
    def leading(self) -> tuple[str, ...]:
        """Sample dimensions, then time: the dimensions that are not space."""
        return (*self.samples, self.time) if self.time else self.samples


def find_layout(
    ds: xr.Dataset,
    names: Sequence[str],
    *,
    space: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    time: str | None = None,
) -> Layout:
    """Find the role of every dimension of the named variables from CF attributes, coordinate types and names.

    Parameters
    ----------
    space, samples, time
        Roles already known; they are taken as given, and only the other dimensions are recognised. With ``space`` no
        further dimension is taken for space.

    Raises
    ------
    DataError
        For a dimension whose role cannot be told (pressure levels, unnamed dimensions, two times), for a role given to a
        dimension that is not there, for variables on different grids, and where there is no space dimension.
    """
    data = select(ds, names)
    sizes = {str(d): n for d, n in data.sizes.items()}
    order = [str(d) for d in dict.fromkeys(d for name in data.data_vars for d in data[name].dims)]
    for option, given in _given(space, samples, time):
        for dim in given:
            if dim not in sizes:
                raise DataError(f"--{option} {dim}", f"a dimension of {', '.join(names)}", "no such dimension", did_you_mean(dim, sizes))
    known: dict[str, Role] = {}
    for role, given in _given(space, samples, time):
        known |= dict.fromkeys(given, role)
    if len(known) != len(space or ()) + len(samples or ()) + bool(time):
        raise DataError(
            "dimension roles", "one role for each dimension", "a dimension named twice", "name it in one of --space, --samples, --time"
        )
    roles = {d: known.get(d) or _role(data, d, sizes[d], space is not None) for d in order}
    times = [d for d in order if roles[d] == "time"]
    if len(times) > 1:
        if time is None:
            raise _ask(times[1], sizes[times[1]], f"a second time beside {times[0]!r}", names)
        roles |= {d: "unknown" for d in times if d != time}
    for d in order:
        # A dimension of one entry carries no information; to_tensor drops it.
        if roles[d] in ("level", "unknown") and sizes[d] > 1:
            raise _ask(d, sizes[d], "vertical levels" if roles[d] == "level" else "a dimension of unknown role", names)
    layout = Layout(
        tuple(d for d in order if roles[d] == "samples"),
        next((d for d in order if roles[d] == "time" and d in (time, times[0])), None) if times else None,
        tuple(space) if space is not None else _space_order(data, [d for d in order if roles[d] == "space"]),
    )
    if not layout.space:
        listed = ", ".join(f"{d} ({roles[d]}, {sizes[d]})" for d in order) or "no dimensions at all"
        raise DataError("dimensions", "at least one space dimension", listed, "name the space dimensions with --space")
    _same_grid(data, layout)
    return layout


def _given(space: Sequence[str] | None, samples: Sequence[str] | None, time: str | None) -> list[tuple[Role, Sequence[str]]]:
    return [("space", space or ()), ("samples", samples or ()), ("time", (time,) if time else ())]


def dimension_roles(ds: xr.Dataset) -> dict[str, str]:
    """Role of every dimension, as far as it can be told: samples, time, space, level or unknown."""
    return {str(d): _role(ds, str(d), n, False) for d, n in ds.sizes.items()}


def is_latitude(name: str, coordinate: xr.DataArray | None) -> bool:
    """Whether a coordinate is a latitude in degrees."""
    return _angular(name, coordinate, "north", ("lat", "latitude", "rlat", "nav_lat"), ("latitude", "grid_latitude"))


def is_longitude(name: str, coordinate: xr.DataArray | None) -> bool:
    """Whether a coordinate is a longitude in degrees."""
    return _angular(name, coordinate, "east", ("lon", "long", "longitude", "rlon", "nav_lon"), ("longitude", "grid_longitude"))


def point_coordinates(ds: xr.Dataset, dim: str) -> tuple[str, ...]:
    """Spatial coordinates that run along ``dim`` without indexing it: the positions of scattered points."""
    found = [str(n) for n, c in ds.coords.items() if c.dims == (dim,) and n != dim and c.dtype.kind in "fiu"]
    stated = tuple(n for n in found if "anygrid_interval" in ds[n].attrs)
    angles = tuple(n for n in found if is_latitude(n, ds[n]) or is_longitude(n, ds[n]))
    # Beside latitude and longitude, x and y are the indices or map coordinates of the same places.
    return stated or (angles if len(angles) == 2 else tuple(n for n in found if _spatial(n, ds[n])))


def _angular(name: str, coordinate: xr.DataArray | None, side: str, names: tuple[str, ...], standard: tuple[str, ...]) -> bool:
    if coordinate is None:
        return False
    units = str(coordinate.attrs.get("units", "")).lower()
    if units in (f"degrees_{side}", f"degree_{side}", f"degrees{side}", f"degree{side}", f"degrees_{side[0]}", f"degree_{side[0]}"):
        return True
    if units and not units.startswith("deg"):
        return False
    return coordinate.attrs.get("standard_name") in standard or name.lower() in names


def _spatial(name: str, coordinate: xr.DataArray | None) -> bool:
    attrs = {} if coordinate is None else coordinate.attrs
    if attrs.get("standard_name") in _SPATIAL_NAMES or "anygrid_placement" in attrs:
        return True
    if is_latitude(name, coordinate) or is_longitude(name, coordinate) or str(attrs.get("axis", "")).upper() in ("X", "Y"):
        return True
    return name.lower() in _SPACE or bool(_SPACE_LIKE.match(name.lower()))


def _role(ds: xr.Dataset, dim: str, size: int, space_given: bool) -> Role:
    c = coordinate(ds, dim)
    attrs = {} if c is None else c.attrs
    axis, name, units = str(attrs.get("axis", "")).upper(), dim.lower(), str(attrs.get("units", ""))
    if c is not None and (c.dtype.kind in "mM" or (c.dtype == object and c.size and "datetime" in type(c.values.flat[0]).__name__.lower())):
        return "time"
    if axis == "T" or " since " in units or attrs.get("standard_name") in ("time", "forecast_period", "forecast_reference_time"):
        return "time"
    if attrs.get("standard_name") == "realization" or axis == "E":
        return "samples"
    if space_given and "anygrid_placement" not in attrs:
        return "time" if name in _TIME else "samples" if name in _SAMPLES else "unknown"
    if "anygrid_placement" in attrs or is_latitude(dim, c) or is_longitude(dim, c) or axis in ("X", "Y"):
        return "space"
    if name in _LEVELS or "pressure" in str(attrs.get("standard_name", "")) or units.lower() in ("hpa", "millibars", "pa", "mb"):
        return "level"
    if name in _HEIGHTS or "positive" in attrs:
        # A handful of uneven heights are levels of a coarse product; a long even axis is a mesh.
        steps = np.diff(np.asarray(c.values, dtype=np.float64)) if c is not None and size > 15 else np.array([0.0, 1.0])
        return "space" if size > 15 and np.ptp(steps) <= 1e-3 * abs(steps.mean()) else "level"
    if name in _TIME:
        return "time"
    if name in _SAMPLES:
        return "samples"
    if _spatial(dim, c) or axis == "Z" or len(point_coordinates(ds, dim)) > 0:
        return "space"
    return "unknown"


def _ask(dim: str, size: int, what: str, names: Sequence[str]) -> DataError:
    hint = (
        f"say what it is with --space, --samples or --time {dim}, or take one entry of it as a variable, for example {names[0]}@{dim}=VALUE"
    )
    return DataError(f"dimension {dim!r}", "a recognisable role (sample, member, time or space)", f"{what} with {size} entries", hint)


def _space_order(ds: xr.Dataset, dims: list[str]) -> tuple[str, ...]:
    """Dimensions as in the data, but latitude before longitude."""
    lat = [d for d in dims if is_latitude(d, coordinate(ds, d))]
    lon = [d for d in dims if is_longitude(d, coordinate(ds, d))]
    # A Box keeps its own order even when its axes are called lat and lon.
    stated = {ds[d].attrs.get("anygrid_grid") for d in (*lat, *lon)}
    if len(lat) == len(lon) == 1 and "Box" not in stated:
        rest = [d for d in dims if d not in (*lat, *lon)]
        return (*rest, *lat, *lon)
    return tuple(dims)


def _same_grid(ds: xr.Dataset, layout: Layout) -> None:
    """Refuse variables that lie on different grids; one that lacks some of the space dimensions is constant along them."""
    on = {str(n): tuple(d for d in layout.space if d in ds[n].dims) for n in ds.data_vars}
    full = max(on.values(), key=len)
    for name, dims in on.items():
        if not set(dims) <= set(full):
            first = next(n for n, d in on.items() if d == full)
            show = [f"{n} on ({', '.join(f'{d} {ds.sizes[d]}' for d in on[n])})" for n in (first, name)]
            hint = "bring them to one grid first, for example with ds.interp, or name the common dimensions alike with ds.rename"
            raise DataError("grids of the variables", "one grid for inputs and outputs", " and ".join(show), hint)
