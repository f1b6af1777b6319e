r"""Tracks out of centres at successive times: every track foretells its next place on its great circle, and the best pairing is taken.

A track that moved from :math:`p` to :math:`q` in :math:`\Delta t` is expected on the continuation of that arc at the same speed. A new
centre may continue a track when the speed from the last fix is within the limit, and when it is no farther from the expected place than
that speed reaches in one step, also after a gap. Of all pairings the one with most pairs, and of those that with the least sum of
distances from the expected places, is taken (the assignment problem, solved exactly: Crouse 2016, IEEE Trans. Aerosp. Electron.
Syst. 52, 1679-1696, as in SciPy). The use of the previous displacement is that of Hodges (1994) and earlier trackers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from anygrid.errors import UsageError
from anygrid.numerics.great_circle import bearing, destination, distance
from anygrid.storms.criteria import Criteria
from anygrid.storms.detect import Centres

__all__ = ["Path", "link"]

_FAR = 1e12  # metres: costs more than any number of true pairs


@dataclass
class Path:
    """One track: for each fix the index of its time, and of its centre at that time."""

    times: list[int] = field(default_factory=list)
    centres: list[int] = field(default_factory=list)


def link(centres: Sequence[Centres], hours: NDArray[np.float64], criteria: Criteria) -> list[Path]:
    """Tracks that live and travel long enough, in the order in which they begin.

    Parameters
    ----------
    hours
        Time of each set of centres, ascending. With one time alone, every centre is a track.

    Raises
    ------
    UsageError
        For times that do not ascend, or steps so long that a storm at the largest speed goes farther than a quarter of the globe.
    """
    hours = np.asarray(hours, dtype=np.float64)
    if len(centres) != hours.size or (np.diff(hours) <= 0).any():
        raise UsageError("link", "ascending times, one for each set of centres", f"{len(centres)} sets, {hours.size} times")
    reach = criteria.speed * 3600 * float(np.diff(hours).min()) if hours.size > 1 else 0.0
    if reach > 1e7:
        hint = "give data at least every 24 hours, or a lower speed"
        raise UsageError("link", "times near enough to follow a storm", f"{np.diff(hours).min():g} hours from one to the next", hint)
    done: list[Path] = []
    alive: list[Path] = []
    for k, now in enumerate(centres):
        late = [p for p in alive if hours[k] - hours[p.times[-1]] > max(criteria.gap_hours, hours[k] - hours[k - 1])]
        done += late
        alive = [p for p in alive if p not in late]
        taken = _pair(alive, centres, hours, k, criteria)
        for path, centre in taken:
            path.times.append(k)
            path.centres.append(centre)
        used = {centre for _, centre in taken}
        alive += [Path([k], [j]) for j in range(len(now)) if j not in used]
    kept = [p for p in done + alive if hours.size == 1 or _lasts(p, centres, hours, criteria)]
    return sorted(kept, key=lambda p: (p.times[0], p.centres[0]))


def _pair(alive: list[Path], centres: Sequence[Centres], hours: NDArray[np.float64], k: int, criteria: Criteria) -> list[tuple[Path, int]]:
    now = centres[k]
    if not alive or not len(now):
        return []
    costs = np.full((len(alive), len(now)), _FAR)
    for row, path in enumerate(alive):
        last = _place(path, -1, centres)
        gap = hours[k] - hours[path.times[-1]]
        limit, step = (min(criteria.speed * 3600 * h, 1e7) for h in (gap, hours[k] - hours[k - 1]))
        expected = last
        if len(path.times) > 1:
            before = _place(path, -2, centres)
            rate = distance(*before, *last) / (hours[path.times[-1]] - hours[path.times[-2]])
            # The course at the last place is that back to the one before, turned round.
            lat, lon = destination(*last, bearing(*last, *before) + 180, rate * gap)
            expected = float(lat), float(lon)
        away = distance(*expected, now.lat, now.lon)
        allowed = (distance(*last, now.lat, now.lon) <= limit) & (away <= step)
        costs[row, allowed] = away[allowed]
    rows, columns = linear_sum_assignment(costs)
    return [(alive[r], int(c)) for r, c in zip(rows, columns, strict=True) if costs[r, c] < _FAR]


def _lasts(path: Path, centres: Sequence[Centres], hours: NDArray[np.float64], criteria: Criteria) -> bool:
    life = hours[path.times[-1]] - hours[path.times[0]]
    travel = distance(*_place(path, 0, centres), *_place(path, -1, centres))
    return bool(life >= criteria.lifetime_hours and travel >= 1000 * criteria.travel_km)


def _place(path: Path, at: int, centres: Sequence[Centres]) -> tuple[float, float]:
    found = centres[path.times[at]]
    return float(found.lat[path.centres[at]]), float(found.lon[path.centres[at]])
