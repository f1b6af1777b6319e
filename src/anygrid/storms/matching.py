r"""Which forecast track is which observed storm.

Two tracks are of one storm when they share enough of their times and lie close while they begin: at least a part of the fixes of the
forecast track are at times of the observed one, and the mean distance over the first common times is below a limit. Froude, Bengtsson
and Hodges (2007, Mon. Wea. Rev. 135, 2545-2567) ask 60 % of the fixes and 4 degrees over the first four. Of several pairings that pass,
the one with most pairs and then least total distance is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from anygrid.errors import DataError
from anygrid.numerics.great_circle import EARTH_RADIUS, distance

__all__ = ["Match", "Matching", "match_tracks", "runs_of"]

_FAR = 1e12
_KEYS = ["start", "member", "track"]


@dataclass(frozen=True)
class Matching:
    """Limits of :func:`match_tracks`; the defaults are those of Froude et al. (2007)."""

    overlap: float = 0.6
    first: int = 4
    degrees: float = 4.0


@dataclass(frozen=True)
class Match:
    """A forecast track and the observed storm it is, joined at their common times.

    Parameters
    ----------
    pairs
        ``time``, ``lead``, and of either one ``lat``, ``lon``, ``pressure``, ``wind``: the observed with ``_best``.
    """

    start: object
    member: int
    track: int
    storm: str
    pairs: pd.DataFrame


def runs_of(table: pd.DataFrame) -> list[tuple[tuple[object, int], pd.DataFrame]]:
    """Tracks of each member from each start."""
    return [((start, int(member)), part) for (start, member), part in table.groupby(["start", "member"], dropna=False, sort=True)]


def match_tracks(table: pd.DataFrame, best: pd.DataFrame, matching: Matching = Matching()) -> list[Match]:
    """Pair the tracks of every run with observed storms.

    Parameters
    ----------
    table
        Tracks as :class:`~anygrid.storms.tracks.Tracks` holds them.
    best
        Observed fixes as :func:`~anygrid.storms.best_tracks.read_best_tracks` gives them.

    Raises
    ------
    DataError
        For tracks without dates.
    """
    if table.empty or best.empty:
        return []
    if table["time"].isna().any():
        raise DataError("match_tracks", "tracks with dates", "lead times alone", "give data that state their start")
    stamps = table["time"].map(pd.Timestamp) if table["time"].dtype == object else table["time"]
    table = table.assign(time=stamps.astype("datetime64[ns]"))
    observed = best.assign(time=best["time"].astype("datetime64[ns]")).drop_duplicates(["storm", "time"])
    near = observed[observed["time"].isin(table["time"].unique())]
    out: list[Match] = []
    for (start, member), part in runs_of(table):
        tracks = list(part.groupby("track"))
        storms = list(near[near["time"].isin(part["time"])].groupby("storm"))
        joined = [[_join(track, storm) for _, storm in storms] for _, track in tracks]
        costs = np.array(
            [[_cost(pairs, len(track), matching) for pairs in row] for row, (_, track) in zip(joined, tracks, strict=True)]
        ).reshape(len(tracks), len(storms))
        for i, j in zip(*linear_sum_assignment(costs), strict=True):
            if costs[i, j] < _FAR:
                out.append(Match(start, member, int(tracks[i][0]), str(storms[j][0]), joined[i][j]))
    return out


def _join(track: pd.DataFrame, storm: pd.DataFrame) -> pd.DataFrame:
    wanted = [c for c in ("time", "lead", "lat", "lon", "pressure", "wind") if c in track]
    return track[wanted].merge(storm[["time", "lat", "lon", "pressure", "wind"]], on="time", suffixes=("", "_best")).sort_values("time")


def _cost(pairs: pd.DataFrame, fixes: int, matching: Matching) -> float:
    if len(pairs) < max(1, matching.overlap * fixes):
        return _FAR
    head = pairs.head(matching.first)
    mean = float(distance(head["lat"], head["lon"], head["lat_best"], head["lon_best"]).mean())
    return mean if mean <= np.deg2rad(matching.degrees) * EARTH_RADIUS else _FAR
