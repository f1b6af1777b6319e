"""What a data set of the weather model may hold: its variables by ERA5's short names, made out of the model's fields on levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.fields.names import table_entry
from anygrid.grid import Sphere
from anygrid.numerics.insolation import daily_insolation
from anygrid.numerics.pressure_levels import at_pressure, geopotential_at_pressure, sea_level_pressure, temperature_at_pressure

__all__ = ["FORCINGS", "SINGLE", "STATIC", "VARIABLES", "diagnose", "forcing", "variable"]

VARIABLES = ("z500", "z850", "t850", "t500", "u850", "v850", "u500", "v500", "q700", "t2m", "msl", "sp")
"""Written unless others are named."""

_ON_LEVELS = ("z", "t", "u", "v", "q")


def _known(name: str, long_name: str = "") -> Variable:
    """A variable of the table, with the model's own words where it means something particular by it."""
    entry = table_entry(name)
    assert entry is not None
    return Variable(name, entry.units, long_name or entry.long_name, entry.standard_name)


SINGLE = {
    "t2m": _known("t2m", "near-surface air temperature, as SPEEDY extrapolates it to sigma 0.99"),
    "sp": _known("sp"),
    "msl": _known("msl"),
}
FORCINGS = {
    "toa_radiation": _known("toa_radiation", "daily mean sunlight at the top of the atmosphere"),
    "sst": _known("sst", "sea surface temperature, climatology of the day, filled in over land"),
    "siconc": _known("siconc", "sea ice cover, climatology of the day"),
}
STATIC = {name: _known(name) for name in ("orography", "land_sea_mask")}
SOLAR = 1368.0  # W m-2, SPEEDY's own
_HIGHEST, _LOWEST = 30, 1000  # hPa


def variable(name: str) -> Variable:
    """Units and CF names of a short name such as ``z500``, ``t2m`` or ``sst``.

    Raises
    ------
    UsageError
        For a name that is none, and levels outside the model.
    """
    for table in (SINGLE, FORCINGS, STATIC):
        if name in table:
            return table[name]
    found = re.fullmatch(r"([a-z])(\d+)", name)
    if found is None or found[1] not in _ON_LEVELS:
        raise UsageError(f"variable {name!r}", "a short name such as z500 or t2m", repr(name), did_you_mean(name, known()))
    level = int(found[2])
    if not _HIGHEST <= level <= _LOWEST:
        hint = "the model's levels lie between 25 and 950 hPa over the sea"
        raise UsageError(f"variable {name!r}", f"a pressure from {_HIGHEST} to {_LOWEST} hPa", f"{level} hPa", hint)
    v = _known(found[1])
    return Variable(name, v.units, f"{v.long_name} at {level} hPa", v.standard_name)


def known() -> list[str]:
    """Names that one may ask for; any other level of z, t, u, v and q too."""
    return [*VARIABLES, *SINGLE, *FORCINGS, *STATIC]


def diagnose(
    names: Sequence[str], fields: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> Float[Tensor, "*batch variables lat lon"]:
    """Variables at pressure levels and at the ground from the engine's fields on its levels (``anygrid.problems.speedy_engine``)."""
    sigma = torch.from_numpy(np.asarray(constants["sigma"], dtype=np.float32))
    u, v, t, q, z, ps = (torch.from_numpy(np.asarray(fields[name])) for name in ("u", "v", "t", "q", "z", "ps"))
    made = []
    for name in names:
        if name == "sp":
            made.append(ps)
        elif name == "msl":
            made.append(sea_level_pressure(z, t, sigma, ps))
        elif name == "t2m":
            made.append(_near_surface(t, sigma, constants))
        else:
            pressure = 100.0 * int(name[1:])
            if name[0] == "z":
                made.append(geopotential_at_pressure(z, t, q, sigma, ps, pressure))
            elif name[0] == "t":
                made.append(temperature_at_pressure(t, sigma, ps, pressure))
            else:
                made.append(at_pressure({"u": u, "v": v, "q": q}[name[0]], sigma, ps, pressure))
    return torch.stack(made, -3)


def forcing(name: str, times: NDArray[Any], grid: Sphere, constants: Mapping[str, NDArray[Any]]) -> Float[Tensor, "time lat lon"]:
    """Boundary data as the model has them at ``times``: sunlight from geometry, sea surface and ice from its climatology of the day.

    The model has no day and night: its sunlight is the mean of the day.
    """
    if name == "toa_radiation":
        return daily_insolation(times, grid.points()[..., 0], SOLAR).float()
    return torch.from_numpy(constants[name][_calendar_day(times)])


def _calendar_day(times: NDArray[Any]) -> NDArray[np.int64]:
    """Place of a date in a year of 365 days; 29 February has the entry of the 28th."""
    days, years = times.astype("datetime64[D]"), times.astype("datetime64[Y]")
    day = (days - years.astype("datetime64[D]")).astype(np.int64)
    long = ((years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")).astype(np.int64) == 366
    return day - (long & (day >= 59))


def _near_surface(t: Tensor, sigma: Tensor, constants: Mapping[str, NDArray[Any]]) -> Tensor:
    """Air temperature of SPEEDY's surface fluxes: the lowest two levels' gradient in ln(sigma), where they are unstable, to sigma 0.99.

    Over the sea down to the height 0. Source: Molteni, Climate Dynamics 20 (2003) 175, appendix; `jcm` 3.0.0, speedy_surface_flux.
    """
    lowest, next_ = t[..., -1, :, :], t[..., -2, :, :]
    gradient = ((lowest - next_) / (sigma[-1].log() - sigma[-2].log())).clamp(min=0)
    step = gradient * (torch.tensor(0.99).log() - sigma[-1].log())
    mask, height = (torch.from_numpy(np.asarray(constants[name])) for name in ("land_sea_mask", "orography"))
    sea = step * (1 - 9.81 * height / (287.0 * 288.0 * sigma[-1].log()))
    return lowest + torch.lerp(sea, step, mask)
