"""The one table of meteorological names, and a field found by what it is, whatever its file calls it.

ERA5 short names, the long ones of WeatherBench 2, those of CMIP and GRIB, and CF standard names are known. Other names match themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from anygrid.errors import DataError, did_you_mean
from anygrid.fields.units import find_unit

__all__ = [
    "TABLE",
    "Name",
    "Quantity",
    "find_name",
    "has_field",
    "level_dimension",
    "not_there",
    "other_name",
    "pressure_levels",
    "quantity_of",
    "table_entry",
]


@dataclass(frozen=True)
class Name:
    """One quantity of the table: ERA5 short name, SI units, words, CF standard name, and what other files call it (lower case).

    ``levels`` says that it is given on pressure levels, so that ``z500`` means it at 500 hPa.
    """

    short: str
    units: str
    long_name: str
    standard_name: str
    others: tuple[str, ...] = ()
    levels: bool = False


TABLE = (
    Name("z", "m2 s-2", "geopotential", "geopotential", levels=True),
    Name("gh", "m", "geopotential height", "geopotential_height", ("hgt", "zg", "height"), levels=True),
    Name("t", "K", "temperature", "air_temperature", ("temperature", "ta"), levels=True),
    Name("u", "m s-1", "eastward wind", "eastward_wind", ("u_component_of_wind", "ua", "u_wind"), levels=True),
    Name("v", "m s-1", "northward wind", "northward_wind", ("v_component_of_wind", "va", "v_wind"), levels=True),
    Name("w", "Pa s-1", "vertical velocity", "lagrangian_tendency_of_air_pressure", ("vertical_velocity", "omega", "wap"), levels=True),
    Name("q", "kg kg-1", "specific humidity", "specific_humidity", ("hus",), levels=True),
    Name("r", "%", "relative humidity", "relative_humidity", ("hur",), levels=True),
    Name("vo", "s-1", "relative vorticity", "atmosphere_relative_vorticity", ("vorticity", "relative_vorticity"), levels=True),
    Name("ciwc", "kg kg-1", "cloud ice", "mass_fraction_of_cloud_ice_in_air", ("specific_cloud_ice_water_content", "cli"), levels=True),
    Name(
        "clwc",
        "kg kg-1",
        "cloud liquid water",
        "mass_fraction_of_cloud_liquid_water_in_air",
        ("specific_cloud_liquid_water_content", "clw"),
        levels=True,
    ),
    Name("t2m", "K", "2 metre temperature", "air_temperature", ("2t", "2m_temperature", "tas")),
    Name("d2m", "K", "2 metre dewpoint temperature", "dew_point_temperature", ("2d", "2m_dewpoint_temperature")),
    Name("u10", "m s-1", "10 metre eastward wind", "eastward_wind", ("10u", "10m_u_component_of_wind", "uas", "u10m")),
    Name("v10", "m s-1", "10 metre northward wind", "northward_wind", ("10v", "10m_v_component_of_wind", "vas", "v10m")),
    Name("u100", "m s-1", "100 metre eastward wind", "eastward_wind", ("100u", "100m_u_component_of_wind", "u100m")),
    Name("v100", "m s-1", "100 metre northward wind", "northward_wind", ("100v", "100m_v_component_of_wind", "v100m")),
    Name(
        "msl",
        "Pa",
        "mean sea level pressure",
        "air_pressure_at_mean_sea_level",
        ("air_pressure_at_sea_level", "mean_sea_level_pressure", "mslp", "psl", "prmsl", "slp"),
    ),
    Name("sp", "Pa", "surface pressure", "surface_air_pressure", ("surface_pressure", "ps")),
    Name("sst", "K", "sea surface temperature", "sea_surface_temperature", ("tos",)),
    Name("siconc", "1", "sea ice cover", "sea_ice_area_fraction", ("sea_ice_cover", "ci")),
    Name("skt", "K", "skin temperature", "surface_temperature", ("skin_temperature", "ts")),
    Name("tp", "m", "total precipitation", "", ("total_precipitation",)),
    Name("tcw", "kg m-2", "total column water", "", ("total_column_water",)),
    Name("tcwv", "kg m-2", "total column water vapour", "atmosphere_mass_content_of_water_vapor", ("total_column_water_vapour", "prw")),
    Name("toa_radiation", "W m-2", "sunlight at the top of the atmosphere", "toa_incoming_shortwave_flux", ("rsdt",)),
    Name("tisr", "J m-2", "sunlight at the top of the atmosphere, accumulated", "", ("toa_incident_solar_radiation",)),
    Name("orography", "m", "height of the ground", "surface_altitude", ("orog", "surface_height")),
    Name("zs", "m2 s-2", "geopotential of the ground", "surface_geopotential", ("geopotential_at_surface",)),
    Name("land_sea_mask", "1", "fraction of land", "land_binary_mask", ("lsm", "land_area_fraction", "sftlf")),
)
_NAMES = {other: entry for entry in TABLE for other in (entry.short, *entry.others)}
_STANDARD: dict[str, Name] = {}
for _entry in TABLE:
    # Of one standard name the quantity on levels stands first: near the surface the name alone does not tell.
    _STANDARD.setdefault(_entry.standard_name, _entry)
_NAMES = {**{name: entry for name, entry in _STANDARD.items() if name}, **_NAMES}

KIN = {"z": "gh", "gh": "z", "zs": "orography", "orography": "zs"}
"""Geopotential and height: each is made of the other by g."""

_SHORT = re.compile(r"^(?P<name>[a-z][a-z_]*?)_?(?P<level>\d{1,4})$")
_PICKED = re.compile(r"^(?P<name>[^@]+)@(?P<dim>[^=@]+)=(?P<value>[^,]+)$")
_PRESSURES = {"level", "levels", "lev", "plev", "pressure", "pressure_level", "isobaric", "isobaricinhpa", "isobaricinpa", "air_pressure"}


@dataclass(frozen=True)
class Quantity:
    """A physical quantity, on a pressure level (hPa) or on none."""

    name: str
    level: float | None = None

    @property
    def kin(self) -> frozenset[Quantity]:
        """Quantities that can be made of it: itself, and geopotential out of geopotential height and back."""
        other = KIN.get(self.name)
        return frozenset({self} if other is None else {self, Quantity(other, self.level)})

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}{self.level:g}"


def table_entry(name: str) -> Name | None:
    """Entry of the table that goes by a name, short, long or CF; None for other names."""
    return _NAMES.get(name.lower())


def quantity_of(name: str, array: xr.DataArray | None = None, level: float | None = None) -> Quantity:
    """Quantity of a variable by its name, else by its CF standard name; ``z500`` and ``z@level=500`` are the same."""
    attrs = {} if array is None else array.attrs
    bare, units = name.lower(), str(attrs.get("units", ""))
    if picked := _PICKED.match(name):
        found = _pressure(picked["value"], picked["dim"])
        return quantity_of(picked["name"], array, level if found is None else found)
    if bare in _NAMES:
        entry = _NAMES[bare]
        return _honest(Quantity(entry.short, level), units)
    if (short := _SHORT.match(bare)) and short["name"] in _NAMES and _NAMES[short["name"]].levels:
        return _honest(Quantity(_NAMES[short["name"]].short, float(short["level"])), units)
    known = _STANDARD.get(str(attrs.get("standard_name", "")).lower() or "-")
    # Near the surface and on a level the standard name is the same.
    if known is None or (level is None and known.levels):
        return _honest(Quantity(bare, level), units)
    return _honest(Quantity(known.short, level), units)


def _pressure(text: str, dim: str) -> float | None:
    """HPa of a level's value; None where the dimension is no pressure."""
    if dim.lower() not in _PRESSURES:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value / 100 if dim.lower().endswith("inpa") or value > 2000 else value


def _honest(q: Quantity, units: str) -> Quantity:
    """A geopotential in metres is a height, and a height in m2 s-2 a geopotential, whatever the name says."""
    if q.name not in KIN:
        return q
    unit, metre, geo = find_unit(units), find_unit("m"), find_unit("m2 s-2")
    if not units.strip() or unit is None or metre is None or geo is None:
        return q
    height, geopotential = ("gh", "z") if q.name in ("z", "gh") else ("orography", "zs")
    return Quantity(height, q.level) if unit.alike(metre) else Quantity(geopotential, q.level) if unit.alike(geo) else q


def level_dimension(array: xr.DataArray) -> str | None:
    """Dimension of a field that counts pressure levels; model levels (1, 2, 3... or sigma) are none."""
    for dim in map(str, array.dims):
        if dim not in array.coords or array[dim].dtype.kind not in "fiu":
            continue
        units = str(array[dim].attrs.get("units", "")).strip()
        unit, pascal = (find_unit(units), find_unit("Pa")) if units else (None, None)
        stated = unit is not None and pascal is not None and unit.alike(pascal)
        named = dim.lower() in _PRESSURES or array[dim].attrs.get("standard_name") == "air_pressure"
        numbered = array.sizes[dim] > 3 and bool((array[dim].values == np.arange(1, array.sizes[dim] + 1)).all())
        if stated or (named and not units and not numbered):
            return dim
    return None


def pressure_levels(coordinate: xr.DataArray) -> np.ndarray:
    """Values of a level coordinate in hPa."""
    values = np.asarray(coordinate.values, dtype=np.float64)
    units = str(coordinate.attrs.get("units", "")).strip().lower()
    pascal = units in ("pa", "pascal") or str(coordinate.name).lower().endswith("inpa") or (not units and values.max() > 2000)
    return values / 100 if pascal else values


def other_name(ds: xr.Dataset, name: str) -> str | None:
    """Name in ``ds``, as :func:`anygrid.fields.select` takes it, of the field that ``name`` means; None where there is none.

    ``z500`` is ``geopotential@level=500`` where that is there, else geopotential height at 500 hPa.
    """
    wanted = quantity_of(name)
    offered = dict(reversed(list(_offered(ds, wanted)))) if wanted.name in _NAMES else {}
    return offered.get(wanted) or next((spec for q, spec in offered.items() if q in wanted.kin), None)


def _offered(ds: xr.Dataset, wanted: Quantity) -> Iterator[tuple[Quantity, str]]:
    """The fields that could be meant, each as it is selected."""
    for key, array in ds.data_vars.items():
        q = quantity_of(str(key), array, _scalar_level(array))
        dim = None if wanted.level is None else level_dimension(array)
        if dim is not None:
            q = quantity_of(str(key), array, 0.0)
        if q.name not in {k.name for k in wanted.kin} or not _measures(array, q.name):
            continue
        if dim is None:
            yield q, str(key)
            continue
        for value, hectopascal in zip(array[dim].values, pressure_levels(array[dim]), strict=True):
            yield Quantity(q.name, round(float(hectopascal), 6)), f"{key}@{dim}={float(value):.10g}"


def _scalar_level(array: xr.DataArray) -> float | None:
    """Level of a field that has one only: a coordinate without a dimension, or what a reader put among the attributes."""
    for key in (*array.coords, *array.attrs):
        if str(key).lower() in _PRESSURES and (key not in array.coords or array.coords[key].ndim == 0):
            value = array.coords[key].values if key in array.coords else array.attrs[key]
            return _pressure(str(value), str(key))
    return None


def _measures(array: xr.DataArray, short: str) -> bool:
    """Whether a field's units allow the quantity: names of one letter mean other things elsewhere (``t`` in seconds)."""
    found, known = str(array.attrs.get("units", "")).strip(), table_entry(short)
    if not found or known is None or len(str(array.name)) > 2:
        return True
    a, b = find_unit(found), find_unit(known.units)
    return a is None or b is None or a.alike(b)


def find_name(ds: xr.Dataset, name: str) -> str:
    """Name in ``ds`` of the field that ``name`` means: itself where it is there, else as :func:`other_name` finds it.

    Raises
    ------
    DataError
        For a name that nothing answers to; the hint names the nearest, or the levels that are there.
    """
    if name in ds.data_vars or name.partition("@")[0] in ds.data_vars:
        return name
    found = other_name(ds, name)
    if found is None:
        raise not_there(ds, name)
    return found


def has_field(ds: xr.Dataset, name: str) -> bool:
    """Whether something in ``ds`` answers to a name."""
    return name in ds.data_vars or name.partition("@")[0] in ds.data_vars or other_name(ds, name) is not None


def not_there(ds: xr.Dataset, name: str) -> DataError:
    """Error for a name that nothing in ``ds`` answers to."""
    wanted, known = quantity_of(name), [str(v) for v in ds.data_vars]
    for key, array in ds.data_vars.items():
        dim = level_dimension(array)
        if dim is None:
            continue
        q, levels = quantity_of(str(key), array, 0.0), pressure_levels(array[dim])
        if wanted.level is not None and q.name in {k.name for k in wanted.kin}:
            near = levels[np.abs(levels - wanted.level).argsort()][:6]
            listed = ", ".join(f"{v:g}" for v in sorted(near))
            hint = f"the levels near it are {listed} hPa: for example {q.name}{near[0]:g}"
            return DataError(f"variable {name!r}", f"a level of {str(key)!r}", f"{wanted.level:g} hPa, which is not there", hint)
        known += [str(Quantity(q.name, float(v))) for v in levels] if _SHORT.match(name.lower()) else []
    return DataError(f"variable {name!r}", "a variable of the data", "no such name", did_you_mean(name.partition("@")[0], known))
