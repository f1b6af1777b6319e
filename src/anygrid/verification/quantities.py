"""Which quantity a variable is, whatever its file calls it, and how to bring it into the units of another file.

ERA5 short names, the long ones of WeatherBench 2 and CF standard names are known. Other names match themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError
from anygrid.fields.units import find_unit, zero_point

__all__ = ["GRAVITY", "Conversion", "Quantity", "check_magnitudes", "conversion", "plain_units", "quantity_of"]

GRAVITY = 9.80665  # m s-2, by which geopotential and geopotential height differ (WMO)

# canonical name: other names, in lower case; the first is the CF standard name where there is one
_NAMES: dict[str, tuple[str, ...]] = {
    "z": ("geopotential",),
    "gh": ("geopotential_height", "hgt", "zg", "height"),
    "t": ("air_temperature", "temperature", "ta"),
    "u": ("eastward_wind", "u_component_of_wind", "ua"),
    "v": ("northward_wind", "v_component_of_wind", "va"),
    "w": ("lagrangian_tendency_of_air_pressure", "vertical_velocity", "omega"),
    "q": ("specific_humidity", "hus"),
    "r": ("relative_humidity", "hur"),
    "t2m": ("2t", "2m_temperature", "tas"),
    "d2m": ("2d", "2m_dewpoint_temperature"),
    "u10": ("10u", "10m_u_component_of_wind", "uas", "u10m"),
    "v10": ("10v", "10m_v_component_of_wind", "vas", "v10m"),
    "msl": ("air_pressure_at_mean_sea_level", "air_pressure_at_sea_level", "mean_sea_level_pressure", "mslp", "psl", "prmsl"),
    "sp": ("surface_air_pressure", "surface_pressure", "ps"),
    "sst": ("sea_surface_temperature", "tos"),
    "tp": ("total_precipitation",),
    "tcwv": ("total_column_water_vapour",),
}
_KNOWN = {other: name for name, others in _NAMES.items() for other in (name, *others)}
_LEVELLED = {"z", "gh", "t", "u", "v", "w", "q", "r"}
_SHORT = re.compile(r"^(z|gh|t|u|v|w|q|r)_?(\d{2,4})$")
_PICKED = re.compile(r"^(?P<name>[^@]+)@(?P<dim>[^=@]+)=(?P<value>[^,]+)$")


@dataclass(frozen=True)
class Quantity:
    """A physical quantity, on a pressure level (hPa) or on none."""

    name: str
    level: float | None = None

    @property
    def kin(self) -> frozenset[Quantity]:
        """Quantities that can be made of it: itself, and geopotential out of geopotential height and back."""
        other = {"z": "gh", "gh": "z"}.get(self.name)
        return frozenset({self} if other is None else {self, Quantity(other, self.level)})


def quantity_of(name: str, array: xr.DataArray, level: float | None = None) -> Quantity:
    """Quantity of a variable by its name, else by its CF standard name; ``z500`` and ``z@level=500`` are the same."""
    bare, standard = name.lower(), str(array.attrs.get("standard_name", "")).lower()
    if picked := _PICKED.match(name):
        found = _pressure(picked["value"], picked["dim"])
        return quantity_of(picked["name"], array, level if found is None else found)
    if bare not in _KNOWN and (short := _SHORT.match(bare)):
        return _honest(Quantity(short[1], float(short[2])), array)
    if bare in _KNOWN:
        return _honest(Quantity(_KNOWN[bare], level), array)
    known = _KNOWN.get(standard, "")
    # Near the surface and on a level the standard name is the same.
    return _honest(Quantity(known if known and (level is not None or known not in _LEVELLED) else bare, level), array)


def _pressure(text: str, dim: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value / 100 if dim.lower().endswith("inpa") or value > 2000 else value


def _honest(q: Quantity, array: xr.DataArray) -> Quantity:
    """A geopotential in metres is a height, and a height in m2 s-2 a geopotential, whatever the name says."""
    units = find_unit(str(array.attrs.get("units", "")))
    metre, geo = find_unit("m"), find_unit("m2 s-2")
    if q.name in ("z", "gh") and units is not None and metre is not None and geo is not None:
        if units.alike(metre):
            return Quantity("gh", q.level)
        if units.alike(geo):
            return Quantity("z", q.level)
    return q


def plain_units(text: str) -> str:
    """A unit for people: ``m**2 s**-2`` as ``m2 s-2``."""
    return text.replace("**", "")


@dataclass(frozen=True)
class Conversion:
    """``wanted = scale * found + offset``, and the sentence that says so (empty where nothing is changed)."""

    scale: float = 1.0
    offset: float = 0.0
    said: str = ""

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if not self.said else values * self.scale + self.offset


def conversion(label: str, found: Quantity, found_units: str, wanted: Quantity, wanted_units: str) -> Conversion:
    """How to bring values of one file into the quantity and units of another.

    Raises
    ------
    DataError
        For units of different kinds.
    """
    gravity = 1.0 if found.name == wanted.name else 1 / GRAVITY if found.name == "z" else GRAVITY
    between = "geopotential and geopotential height"
    # With no units stated the values themselves have to tell: check_magnitudes.
    a, b = find_unit(found_units), find_unit(wanted_units)
    if not found_units.strip() or not wanted_units.strip() or (a is None and found_units.strip() == wanted_units.strip()):
        if gravity == 1.0:
            return Conversion()
        return Conversion(gravity, 0.0, f"{label}: {between} differ by {GRAVITY}: the truth was brought to the forecast's")
    step = find_unit("m2 s-2"), find_unit("m")
    assert step[0] is not None
    assert step[1] is not None
    source = a if a is None or gravity == 1.0 else a * (step[1] / step[0] if found.name == "z" else step[0] / step[1])
    if source is None or b is None or not source.alike(b):
        hint = f"the two files hold different quantities under the name {label}; rename one, or choose with --variables"
        raise DataError(f"verify {label}", f"units like the forecast's, {wanted_units!r}", repr(found_units), hint)
    scale = gravity * source.scale / b.scale
    offset = 0.0 if gravity != 1.0 else (zero_point(found_units) - zero_point(wanted_units)) / b.scale
    if abs(scale - 1) < 1e-12 and abs(offset) < 1e-12:
        return Conversion()
    how = (f" times {scale:.7g}" if abs(scale - 1) > 1e-12 else "") + (f" plus {offset:.7g}" if abs(offset) > 1e-12 else "")
    names = f" ({between})" if gravity != 1.0 else ""
    return Conversion(scale, offset, f"{label}: the truth in {found_units} was brought to the forecast's {wanted_units}:{how}{names}")


_SLIPS = (
    (GRAVITY, "one holds geopotential (m2 s-2), the other geopotential height (m)"),
    (100.0, "one is in Pa, the other in hPa"),
    (1000.0, "one is in kg kg-1, the other in g kg-1, or in m and mm"),
)


def check_magnitudes(label: str, forecast: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
    """Refuse two fields whose sizes differ by a factor or shift that only a slip of units explains.

    Medians are compared: a factor within 3 % of 9.80665, 100 or 1000 (either way), or a shift within 20 of 273.15. It says nothing of
    fields whose median is small beside their own spread.

    Raises
    ------
    DataError
        Naming the slip.
    """
    a, b = (v[np.isfinite(v)] for v in (forecast, truth))
    if a.size == 0 or b.size == 0:
        return
    (p, q), spread = (np.median(a), np.median(b)), (np.ptp(np.quantile(a, (0.1, 0.9))), np.ptp(np.quantile(b, (0.1, 0.9))))
    got = f"medians {p:.4g} and {q:.4g}"
    hint = "state the right units in the file's attributes ('units'); they are then converted"
    where = f"verify {label}"
    # 273.15 between two fields of nearly equal spread; a factor would change the spread as well.
    shifted = -90 < min(p, q) < 60 and abs(abs(p - q) - 273.15) < 20
    if shifted and 0.5 < (spread[0] + 1e-9) / (spread[1] + 1e-9) < 2 and max(spread) < 150:
        raise DataError(where, "forecast and truth in one unit", f"{got}: one is in K, the other in degC", hint)
    if p * q <= 0 or abs(q) < spread[1] / 2 or abs(p) < spread[0] / 2:
        return
    for factor, said in _SLIPS:
        if any(abs(p / q / f - 1) < 0.03 for f in (factor, 1 / factor)):
            raise DataError(where, "forecast and truth in one unit", f"{got}: {said}", hint)
