"""Storm tracks of a data set: every member from every start, as one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, UsageError
from anygrid.fields import select
from anygrid.fields.names import find_name, quantity_of
from anygrid.grid import Sphere
from anygrid.storms.criteria import Criteria
from anygrid.storms.detect import Centres, State, find_centres
from anygrid.storms.link import Path, link
from anygrid.storms.mesh import Mesh, mesh_of
from anygrid.storms.quantities import Kind, kind_and_scale, sea_level_pressure
from anygrid.storms.runs import Run, find_runs
from anygrid.storms.vorticity import cyclonic, relative_vorticity

__all__ = ["COLUMNS", "Sources", "Tracks", "track"]

COLUMNS = ("start", "member", "track", "time", "lead", "lat", "lon", "pressure", "height", "vorticity", "wind")


@dataclass(frozen=True)
class Sources:
    """Variables in which storms are sought, by their own name, a usual name, or a short name with a level (``z850``).

    Parameters
    ----------
    centre
        Sea-level pressure, or height or geopotential of a low level, with a minimum at a centre; or relative vorticity.
    rotation
        Wind to the east and north. Without ``centre`` its vorticity makes the centres; beside it, a centre must turn.
    wind
        Wind to the east and north whose largest speed near a centre is noted; by default ``rotation``.
    warm
        One temperature, or the upper and the lower height of a layer, for a warm core.
    ground
        Height of the ground: then ``centre`` is surface pressure, to be reduced to sea level.
    """

    centre: str | None = None
    rotation: tuple[str, str] | None = None
    wind: tuple[str, str] | None = None
    warm: tuple[str, ...] = ()
    ground: str | None = None

    def __post_init__(self) -> None:
        if self.centre is None and self.rotation is None:
            raise UsageError("storms", "a pressure, a height or a wind", "none of them", "for example Sources(centre='msl')")
        if len(self.warm) > 2:
            raise UsageError("storms warm core", "one temperature, or two heights", f"{len(self.warm)} names")


@dataclass(frozen=True)
class Tracks:
    """Tracks of all runs.

    Parameters
    ----------
    table
        One row for each fix, sorted by start, member, track and time: ``start``, ``member``, ``track`` (from 0 in each run), ``time``
        (valid), ``lead`` (hours from the start), ``lat``, ``lon`` (degrees, -180 to 180), ``pressure`` (Pa), ``height`` (m),
        ``vorticity`` (cyclonic, s-1), ``wind`` (m s-1). What was not sought is missing.
    members
        All members, also those without a storm.
    starts
        How many starts there are.
    hours
        From the start to the last time.
    spacing
        Of the grid, degrees of latitude.
    """

    table: pd.DataFrame
    members: tuple[int, ...]
    starts: int
    hours: float
    spacing: float


@dataclass(frozen=True)
class _Fields:
    """Names and factors with which a state is read."""

    kind: Kind
    centre: tuple[str, float] | None
    rotation: tuple[str, str, float] | None
    wind: tuple[str, str, float] | None
    warm: tuple[tuple[str, float], ...]
    warm_kind: Kind


def track(
    ds: xr.Dataset, sources: Sources, criteria: Criteria = Criteria(), *, progress: Callable[[int, int], None] | None = None
) -> Tracks:
    """Find storms at every time of every run, and link them.

    Parameters
    ----------
    ds
        Fields on latitudes and longitudes in either order and either convention, global or a window, with or without members
        (``member``, ``number``...) and starts (``init_time`` beside a lead time).
    progress
        Called with states done and the number of all of them.

    Raises
    ------
    DataError
        For names, units, levels and times that cannot be used.
    GridError
        For data that do not lie on latitudes and longitudes.
    UsageError
        For steps of time too long to follow a storm.

    Notes
    -----
    One state is in memory at a time, when the data are read lazily.
    """
    ds, fields = _prepare(ds, sources)
    runs = find_runs(ds, _names(fields))
    mesh, grid = mesh_of(runs.grid), runs.grid
    total, done = sum(r.hours.size for r in runs.runs), 0
    rows: list[dict[str, object]] = []
    for run in runs.runs:
        centres = []
        for values in runs.fields(run):
            centres.append(find_centres(_state(values, fields, grid, mesh, criteria), mesh, criteria))
            done += 1
            if progress is not None:
                progress(done, total)
        for number, path in enumerate(link(centres, run.hours, criteria)):
            rows += _rows(run, number, path, centres, fields.kind)
    members = tuple(dict.fromkeys(r.member for r in runs.runs))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Tracks(table, members, len(runs.runs) // len(members), max(float(r.hours[-1]) for r in runs.runs), mesh.steps[0])


def _prepare(ds: xr.Dataset, sources: Sources) -> tuple[xr.Dataset, _Fields]:
    """The data with sea-level pressure in it, and what is read from it with which factors."""
    kind: Kind = "vorticity"
    centre = None
    if sources.centre is not None:
        name = find_name(ds, sources.centre)
        kind, scale = _measure(ds, name, ("pressure", "height", "vorticity"))
        if sources.ground is not None:
            ground = find_name(ds, sources.ground)
            _, metres = _measure(ds, ground, ("height",))
            if kind != "pressure":
                raise DataError(f"variable {name!r}", "a surface pressure to reduce", kind, "leave the height of the ground out")
            fields = select(ds, [name, ground])
            reduced = sea_level_pressure(fields[name] * scale, fields[ground] * metres)
            name, scale = "sea-level pressure", 1.0
            ds = ds.assign({name: reduced})
        centre = (name, scale)
    rotation = _pair(ds, sources.rotation)
    wind = _pair(ds, sources.wind) or rotation
    warm_names = [find_name(ds, n) for n in sources.warm]
    wanted: tuple[Kind, ...] = ("height",) if len(warm_names) == 2 else ("height", "temperature")
    measured = [_measure(ds, n, wanted) for n in warm_names]
    warm = tuple((n, scale) for n, (_, scale) in zip(warm_names, measured, strict=True))
    if len(measured) == 1 and measured[0][0] == "height":
        hint = "name the lower level too: z300,z500"
        raise DataError(f"variable {warm_names[0]!r}", "a temperature, or two heights", "one height", hint)
    return ds, _Fields(kind, centre, rotation, wind, warm, measured[0][0] if measured else "temperature")


def _measure(ds: xr.Dataset, name: str, wanted: tuple[Kind, ...]) -> tuple[Kind, float]:
    array = select(ds, [name])[name]
    roles = [d for d in array.dims if array.sizes[d] > 1 and not _horizontal(str(d))]
    return kind_and_scale(array.isel({d: 0 for d in roles}), name, quantity_of(name).level, wanted)


def _horizontal(dim: str) -> bool:
    return any(word in dim.lower() for word in ("lat", "lon", "x", "y"))


def _pair(ds: xr.Dataset, names: tuple[str, str] | None) -> tuple[str, str, float] | None:
    if names is None:
        return None
    u, v = (find_name(ds, n) for n in names)
    (_, one), (_, other) = (_measure(ds, n, ("wind",)) for n in (u, v))
    if one != other:
        raise DataError(f"wind {u!r}, {v!r}", "one unit for both", "two", "mend the units of one")
    return u, v, one


def _names(fields: _Fields) -> list[str]:
    winds = [n for pair in (fields.rotation, fields.wind) if pair for n in pair[:2]]
    return list(dict.fromkeys([*([fields.centre[0]] if fields.centre else []), *winds, *(n for n, _ in fields.warm)]))


def _state(values: dict[str, NDArray[np.float64]], fields: _Fields, grid: Sphere, mesh: Mesh, criteria: Criteria) -> State:
    turning = None
    if fields.rotation is not None:
        u, v, scale = fields.rotation
        turning = cyclonic(relative_vorticity(values[u] * scale, values[v] * scale, grid, criteria.vorticity_degrees), grid)
    elif fields.kind == "vorticity" and fields.centre is not None:
        turning = cyclonic(values[fields.centre[0]] * fields.centre[1], grid)
    speed = None
    if fields.wind is not None:
        u, v, scale = fields.wind
        speed = mesh.values(np.hypot(values[u], values[v]) * scale)
    warm = None
    if fields.warm:
        upper = values[fields.warm[0][0]] * fields.warm[0][1]
        # The two may be named in either order: thickness is positive.
        warm = mesh.values(upper if len(fields.warm) == 1 else np.abs(upper - values[fields.warm[1][0]] * fields.warm[1][1]))
    vorticity = None if turning is None else mesh.values(turning)
    if fields.kind == "vorticity":
        assert vorticity is not None
        centre, rise = -vorticity, None
    else:
        assert fields.centre is not None
        centre = mesh.values(values[fields.centre[0]] * fields.centre[1])
        rise = criteria.pressure_rise if fields.kind == "pressure" else criteria.height_rise
    warm_rise = criteria.warm_kelvin if fields.warm_kind == "temperature" else criteria.warm_rise
    return State(centre, rise, vorticity, speed, warm, warm_rise)


def _rows(run: Run, number: int, path: Path, centres: list[Centres], kind: Kind) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for k, j in zip(path.times, path.centres, strict=True):
        at = centres[k]
        value = {"pressure": np.nan, "height": np.nan, "vorticity": float(at.vorticity[j])}
        value[kind] = float(-at.value[j] if kind == "vorticity" else at.value[j])
        place = {"lat": float(at.lat[j]), "lon": float((at.lon[j] + 180) % 360 - 180)}
        when = {"time": None if run.valid is None else run.valid[k], "lead": float(run.hours[k])}
        rows.append({"start": run.start, "member": run.member, "track": number, **when, **place, **value, "wind": float(at.wind[j])})
    return rows
