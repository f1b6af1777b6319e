"""Names that forecasters write, such as ``msl`` or ``z850``, found in data that call them otherwise."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from anygrid.errors import DataError, did_you_mean
from anygrid.fields import select
from anygrid.fields.layout import dimension_roles

__all__ = ["level_of", "resolve"]

# ERA5, WeatherBench 2, CMIP and CF names of one quantity; the first is the short name.
_NAMES = (
    ("msl", "mslp", "psl", "prmsl", "slp", "mean_sea_level_pressure", "air_pressure_at_mean_sea_level", "air_pressure_at_sea_level"),
    ("sp", "ps", "surface_pressure", "surface_air_pressure"),
    ("z", "geopotential", "gh", "zg", "hgt", "geopotential_height"),
    ("u", "ua", "u_component_of_wind", "eastward_wind", "u_wind"),
    ("v", "va", "v_component_of_wind", "northward_wind", "v_wind"),
    ("t", "ta", "temperature", "air_temperature"),
    ("vo", "vorticity", "relative_vorticity", "atmosphere_relative_vorticity"),
    ("u10", "10u", "uas", "10m_u_component_of_wind"),
    ("v10", "10v", "vas", "10m_v_component_of_wind"),
    ("orography", "orog", "surface_altitude"),
)
_SURFACE = ("u10", "v10")


def resolve(ds: xr.Dataset, name: str) -> str:
    """Name under which :func:`anygrid.fields.select` finds a variable: itself, another name of it, or ``z850`` as ``z@level=850``.

    Raises
    ------
    DataError
        For a name that is not there, or a level that is not; the hint names the nearest.
    """
    if name in ds.data_vars or "@" in name:
        select(ds, [name])
        return name
    plain = _find(ds, name)
    if plain is not None:
        return plain
    found = re.fullmatch(r"(?P<short>[A-Za-z_]+?)_?(?P<level>\d{1,4})", name)
    base = None if found is None or name in _SURFACE else _find(ds, found["short"])
    if found is None or base is None:
        known = [*map(str, ds.data_vars), *(names[0] for names in _NAMES if _find(ds, names[0]))]
        raise DataError(f"variable {name!r}", "a variable of the data", "no such name", did_you_mean(name, known))
    roles = dimension_roles(ds)
    level = next((str(d) for d in ds[base].dims if roles[str(d)] == "level"), None)
    if level is None:
        raise DataError(f"variable {name!r}", f"levels of {base!r}", f"dimensions {', '.join(map(str, ds[base].dims))}", f"write {base}")
    pascal = str(ds[level].attrs.get("units", "")) == "Pa" or float(np.max(ds[level].values)) > 2000
    full = f"{base}@{level}={int(found['level']) * (100 if pascal else 1)}"
    select(ds, [full])
    return full


def level_of(ds: xr.Dataset, name: str) -> float | None:
    """Pressure in hPa of a name such as ``z@level=850``, if it has one."""
    found = re.search(r"@(?P<dim>[^=]+)=(?P<value>[0-9.]+)", name)
    if found is None or found["dim"] not in ds.coords or dimension_roles(ds).get(found["dim"]) != "level":
        return None
    value = float(found["value"])
    return value / 100 if value > 2000 else value


def _find(ds: xr.Dataset, name: str) -> str | None:
    """Variable of that name, or of another name of the same quantity."""
    if name in ds.data_vars:
        return name
    group = next((names for names in _NAMES if name.lower() in names), (name,))
    lower = {str(v).lower(): str(v) for v in ds.data_vars}
    for other in group:
        if other in lower:
            return lower[other]
    standard = [str(v) for v, a in ds.data_vars.items() if str(a.attrs.get("standard_name", "")) in group]
    return standard[0] if len(standard) == 1 else None
