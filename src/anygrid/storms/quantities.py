r"""Fields in the units that the criteria are stated in, whatever units a file has: pressure in Pa, height in m, wind in m s-1.

Units and values must agree: a pressure of about 1000 that says Pa is refused, and so is a geopotential that says m. Without units the
values decide where they leave no doubt.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields.conversions import GRAVITY
from anygrid.fields.units import find_unit

__all__ = ["Kind", "kind_and_scale", "sea_level_pressure", "standard_height"]

Kind = Literal["pressure", "height", "vorticity", "wind", "temperature"]

_UNITS: tuple[tuple[str, Kind, float], ...] = (
    ("Pa", "pressure", 1.0),
    ("m", "height", 1.0),
    ("m2 s-2", "height", 1 / GRAVITY),
    ("s-1", "vorticity", 1.0),
    ("m s-1", "wind", 1.0),
    ("K", "temperature", 1.0),
)
_GAS, _LAPSE, _SURFACE = 287.05, 0.0065, 288.15  # J kg-1 K-1, K m-1, K: International Standard Atmosphere (ISO 2533)


def kind_and_scale(array: xr.DataArray, name: str, level: float | None, wanted: tuple[Kind, ...]) -> tuple[Kind, float]:
    """What a field is, and the factor to the units of the criteria.

    Parameters
    ----------
    level
        Pressure of its level in hPa, if it has one: then the standard atmosphere tells height from geopotential.

    Raises
    ------
    DataError
        For another quantity, units that are missing where values do not tell, and values that contradict their units.
    """
    units = str(array.attrs.get("units", "")).strip()
    values = np.asarray(array.values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        raise DataError(f"variable {name!r}", "values", "only missing ones", "choose times and levels that have data: --select")
    middle, unit = float(np.median(values)), find_unit(units) if units else None
    if unit is None:
        if units:
            raise DataError(f"variable {name!r}", "units that can be read", repr(units), "for example Pa, hPa, m, m2 s-2, m s-1, K")
        return _from_values(middle, name, level, wanted)
    for text, kind, scale in _UNITS:
        known = find_unit(text)
        if known is not None and unit.alike(known):
            factor = scale * unit.scale / known.scale
            if kind not in wanted:
                break
            _plausible(middle * factor, kind, name, units, level)
            return kind, factor
    raise DataError(f"variable {name!r}", " or ".join(wanted), f"units {units!r}", "name another variable")


def _from_values(middle: float, name: str, level: float | None, wanted: tuple[Kind, ...]) -> tuple[Kind, float]:
    if "pressure" in wanted and 800 < middle < 1100:
        return "pressure", 100.0
    if "pressure" in wanted and 8e4 < middle < 1.1e5:
        return "pressure", 1.0
    if "height" in wanted and level is not None:
        ratio = middle / standard_height(level)
        if 0.5 < ratio < 2:
            return "height", 1.0
        if 0.5 < ratio / GRAVITY < 2:
            return "height", 1 / GRAVITY
    hint = f"state them: ds[{name.partition('@')[0]!r}].attrs['units'] = 'm2 s-2', or Pa, hPa, m, m s-1"
    if wanted == ("wind",) and abs(middle) < 100:
        return "wind", 1.0
    if wanted in (("temperature",), ("height", "temperature")) and 170 < middle < 330:
        return "temperature", 1.0
    raise DataError(f"variable {name!r}", "units", "none, and values that do not tell them", hint)


def _plausible(middle: float, kind: Kind, name: str, units: str, level: float | None) -> None:
    got = f"units {units!r} and a median that means {middle:.4g}"
    if kind == "pressure" and not 4e4 < middle < 1.2e5:
        hint = "is it Pa or hPa? mend the attribute: ds[name].attrs['units']"
        raise DataError(f"variable {name!r}", "a pressure of about 100000 Pa", f"{got} Pa", hint)
    if kind == "height" and level is not None and abs(standard := standard_height(level)) > 1000 and not 0.5 < middle / standard < 2:
        hint = "is it geopotential (m2 s-2) or height (m)? mend the attribute: ds[name].attrs['units']"
        raise DataError(f"variable {name!r}", f"a height of about {standard:.0f} m at {level:g} hPa", f"{got} m", hint)


def standard_height(hectopascals: float) -> float:
    r"""Height of a pressure in the standard atmosphere, :math:`z = \frac{T_0}{\Gamma} (1 - (p / p_0)^{R \Gamma / g})`, in m."""
    if hectopascals < 226.32:  # isothermal above 11 km
        return 11000 + _GAS * 216.65 / GRAVITY * float(np.log(226.32 / hectopascals))
    return _SURFACE / _LAPSE * (1 - (hectopascals / 1013.25) ** (_GAS * _LAPSE / GRAVITY))


def sea_level_pressure(surface: xr.DataArray, height: xr.DataArray) -> xr.DataArray:
    r"""Surface pressure reduced to sea level with the lapse rate of the standard atmosphere.

    .. math:: p_0 = p_s \Big(1 - \frac{\Gamma z}{T_0}\Big)^{-g / (R \Gamma)}

    (WMO-No. 8, Guide to Instruments, vol. I, chapter 3, with the standard temperature in place of the observed one.) Where the air is 20 K
    colder or warmer than standard this errs by some 7 % of the reduction: below 500 m by less than 5 hPa, on plateaus by far more.

    Parameters
    ----------
    surface
        Pa.
    height
        Of the ground, m.
    """
    exponent = -GRAVITY / (_GAS * _LAPSE)
    out = surface * (1 - _LAPSE * height / _SURFACE) ** exponent
    return out.assign_attrs(units="Pa", long_name="surface pressure reduced to sea level by the standard atmosphere")
