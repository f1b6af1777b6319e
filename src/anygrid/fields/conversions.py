"""How values of one file are brought to the quantity and units of another, and slips of units told by the size of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError
from anygrid.fields.names import Quantity
from anygrid.fields.units import find_unit, zero_point

__all__ = ["GRAVITY", "Conversion", "check_magnitudes", "conversion", "likely_slip"]

GRAVITY = 9.80665  # m s-2, by which geopotential and geopotential height differ (WMO)

Values = TypeVar("Values", NDArray[np.float64], xr.DataArray)


@dataclass(frozen=True)
class Conversion:
    """``wanted = scale * found + offset``, and the sentence that says so (empty where nothing is changed)."""

    scale: float = 1.0
    offset: float = 0.0
    said: str = ""

    def __call__(self, values: Values) -> Values:
        return values if not self.said else values * self.scale + self.offset


def conversion(
    label: str,
    found: Quantity,
    found_units: str,
    wanted: Quantity,
    wanted_units: str,
    *,
    where: str = "verify",
    source: str = "the truth",
    target: str = "the forecast's",
) -> Conversion:
    """How to bring values of one file into the quantity and units of another.

    Raises
    ------
    DataError
        For units of different kinds.
    """
    factors = {("z", "gh"): 1 / GRAVITY, ("zs", "orography"): 1 / GRAVITY, ("gh", "z"): GRAVITY, ("orography", "zs"): GRAVITY}
    gravity = factors.get((found.name, wanted.name), 1.0)
    between = "geopotential and geopotential height"
    # With no units stated the values themselves have to tell: check_magnitudes.
    a, b = find_unit(found_units), find_unit(wanted_units)
    if not found_units.strip() or not wanted_units.strip() or (a is None and found_units.strip() == wanted_units.strip()):
        if gravity == 1.0:
            return Conversion()
        return Conversion(gravity, 0.0, f"{label}: {between} differ by {GRAVITY}: {source} was brought to {target}")
    step = find_unit("m2 s-2"), find_unit("m")
    assert step[0] is not None
    assert step[1] is not None
    known = a if a is None or gravity == 1.0 else a * (step[1] / step[0] if gravity < 1 else step[0] / step[1])
    if known is None or b is None or not known.alike(b):
        hint = f"the two files hold different quantities under the name {label}; rename one, or choose with --variables"
        raise DataError(f"{where} {label}", f"units like {target}, {wanted_units!r}", repr(found_units), hint)
    scale = gravity * known.scale / b.scale
    offset = 0.0 if gravity != 1.0 else (zero_point(found_units) - zero_point(wanted_units)) / b.scale
    if abs(scale - 1) < 1e-12 and abs(offset) < 1e-12:
        return Conversion()
    how = (f" times {scale:.7g}" if abs(scale - 1) > 1e-12 else "") + (f" plus {offset:.7g}" if abs(offset) > 1e-12 else "")
    names = f" ({between})" if gravity != 1.0 else ""
    return Conversion(scale, offset, f"{label}: {source} in {found_units} was brought to {target} {wanted_units}:{how}{names}")


_SLIPS = (
    (GRAVITY, "one holds geopotential (m2 s-2), the other geopotential height (m)"),
    (100.0, "one is in Pa, the other in hPa"),
    (1000.0, "one is in kg kg-1, the other in g kg-1, or in m and mm"),
)
_KELVIN = "one is in K, the other in degC"


def likely_slip(found: tuple[float, float], usual: tuple[float, float], tolerance: float = 0.03) -> str:
    """The slip of units that explains how two fields differ, each given by a middle and the width of its values; empty where none does.

    A factor within ``tolerance`` of 9.80665, 100 or 1000 (either way), or a shift within 20 of 273.15 between widths that agree to a
    factor of 2. It says nothing of fields whose middle is small beside their own width.
    """
    (p, spread_p), (q, spread_q) = found, usual
    # 273.15 between two fields of nearly equal spread; a factor would change the spread as well.
    shifted = -90 < min(p, q) < 60 and abs(abs(p - q) - 273.15) < 20
    if shifted and 0.5 < (spread_p + 1e-9) / (spread_q + 1e-9) < 2 and max(spread_p, spread_q) < 150:
        return _KELVIN
    if p * q <= 0 or abs(q) < spread_q / 2 or abs(p) < spread_p / 2:
        return ""
    return next((said for f, said in _SLIPS if any(abs(p / q / g - 1) < tolerance for g in (f, 1 / f))), "")


def check_magnitudes(label: str, forecast: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
    """Refuse two fields whose sizes differ by a factor or shift that only a slip of units explains: :func:`likely_slip` of their medians.

    Raises
    ------
    DataError
        Naming the slip.
    """
    a, b = (v[np.isfinite(v)] for v in (forecast, truth))
    if a.size == 0 or b.size == 0:
        return
    (p, spread_p), (q, spread_q) = ((float(np.median(v)), float(np.ptp(np.quantile(v, (0.1, 0.9))))) for v in (a, b))
    said = likely_slip((p, spread_p), (q, spread_q))
    if said:
        hint = "state the right units in the file's attributes ('units'); they are then converted"
        raise DataError(f"verify {label}", "forecast and truth in one unit", f"medians {p:.4g} and {q:.4g}: {said}", hint)
