"""What counts as a storm: one frozen record of every threshold, each with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from anygrid.errors import UsageError

__all__ = ["Criteria"]


@dataclass(frozen=True)
class Criteria:
    r"""Thresholds of detection and linking. Distances are degrees of great circle (111.2 km), as in the papers.

    The defaults of detection and linking are those with which Ullrich and Zarzycki (2017, Geosci. Model Dev. 10, 1069-1090,
    doi:10.5194/gmd-10-1069-2017; repeated in Ullrich et al. 2021, Geosci. Model Dev. 14, 5023-5048, doi:10.5194/gmd-14-5023-2021) track
    tropical cyclones. They were tuned on grids of 0.25 to 1 degree. The lifetime is that of studies of extratropical cyclones; for tropical
    ones they ask 54 h.

    Parameters
    ----------
    pressure_rise
        Pa by which pressure must rise from the centre on every path out to ``contour_radius`` (there: 200 Pa).
    height_rise
        The same in metres of geopotential height, for lows found in height instead. 17 m is 200 Pa at 1.2 kg m-3 by the hydrostatic
        relation, :math:`\Delta z = \Delta p / (\rho g)`.
    contour_radius
        Degrees within which the contour must close (there: 5.5).
    vorticity
        Least cyclonic relative vorticity at the centre, s-1 (Hodges 1994, Mon. Wea. Rev. 122, 2573-2586, and Hoskins and Hodges 2002,
        J. Atmos. Sci. 59, 1041-1061: 1e-5 at 850 hPa after truncation).
    vorticity_degrees
        Total wavenumbers kept when vorticity is found by spherical harmonics: the planetary scale is taken out and the field is cut at
        T42 (Hoskins and Hodges 2002), so that one threshold serves every resolution from T42 on.
    merge_radius
        Degrees; of two centres that are nearer the weaker is dropped (there: 6).
    warm_rise
        By how much the warm core must exceed its surroundings: metres of thickness between two levels (there: 6 m between 300 and
        500 hPa), or kelvin of temperature with ``warm_kelvin``.
    warm_kelvin
        Kelvin of temperature at one upper level (there, in the sensitivity study: 0.4 K at 400 hPa).
    warm_radius
        Degrees within which that contour must close (there: 6.5).
    warm_offset
        Degrees between the centre and the warmest point at most (there: 1); never less than to the next grid points.
    wind_radius
        Degrees around the centre in which the largest wind is sought (there: 2).
    speed
        m s-1 at most between two fixes. 8 degrees in 6 hours (there) are 41 m s-1.
    gap_hours
        Longest time without a fix inside a track (there: 24 h).
    lifetime_hours
        From the first to the last fix at least (24 h: Neu et al. 2013, Bull. Amer. Meteor. Soc. 94, 529-547).
    travel_km
        Great circle from the first to the last fix at least. 0 keeps what stands still; Hoskins and Hodges (2002) ask 1000 km.

    Raises
    ------
    UsageError
        For a threshold that is negative or not finite, and a range of wavenumbers that is empty.

    Notes
    -----
    Hart (2003, Mon. Wea. Rev. 131, 585-616) tells warm from cold cores by the slope of the height perturbation with the logarithm of
    pressure in two layers, over 500 km. A local maximum of thickness is the one-layer form of his upper thermal wind being positive.
    """

    pressure_rise: float = 200.0
    height_rise: float = 17.0
    contour_radius: float = 5.5
    vorticity: float = 1e-5
    vorticity_degrees: tuple[int, int] = (6, 42)
    merge_radius: float = 6.0
    warm_rise: float = 6.0
    warm_kelvin: float = 0.4
    warm_radius: float = 6.5
    warm_offset: float = 1.0
    wind_radius: float = 2.0
    speed: float = 41.0
    gap_hours: float = 24.0
    lifetime_hours: float = 24.0
    travel_km: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                if not 0 <= value[0] <= value[1]:
                    raise UsageError(f"Criteria {field.name}", "a lowest and a highest wavenumber", repr(value), "for example (6, 42)")
            elif not (math.isfinite(value) and value >= 0):
                raise UsageError(f"Criteria {field.name}", "a number of 0 or more", f"{value:g}")
        if self.speed == 0:
            raise UsageError("Criteria speed", "a speed above 0 m s-1", "0", "41 is the usual limit")
