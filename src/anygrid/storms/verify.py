"""Errors of matched tracks by lead, the mean track of an ensemble with its spread, and the reliability of strike probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from anygrid.errors import UsageError
from anygrid.numerics.great_circle import along_across, bearing, distance, mean_position
from anygrid.storms.matching import Match

__all__ = ["errors_by_lead", "mean_track", "reliability", "track_errors"]


def track_errors(matches: Sequence[Match]) -> pd.DataFrame:
    """One row for each common time of each match: ``distance``, ``along``, ``across`` (km), ``pressure`` (Pa) and ``wind`` (m s-1) errors.

    Along counts forward on the course of the observed storm, across to its right (Heming 2017, Meteorol. Appl. 24, 1-8). The course
    is that from the observed position before, at the first time that to the next; without either both are missing.
    """
    rows = []
    for match in matches:
        p = match.pairs.reset_index(drop=True)
        away = distance(p["lat"], p["lon"], p["lat_best"], p["lon_best"]) / 1000
        places = list(zip(p["lat_best"].astype(float), p["lon_best"].astype(float), strict=True))
        for k, row in p.iterrows():
            course = _course(places, int(k))
            along, across = (np.nan, np.nan) if course is None else along_across(row["lat"], row["lon"], places[int(k)], course)
            head = {"start": match.start, "member": match.member, "track": match.track, "storm": match.storm}
            error = {"distance": float(away[int(k)]), "along": float(along) / 1000, "across": float(across) / 1000}
            strength = {name: float(row[name] - row[f"{name}_best"]) for name in ("pressure", "wind")}
            rows.append(head | {"time": row["time"], "lead": float(row["lead"])} | error | strength)
    columns = ["start", "member", "track", "storm", "time", "lead", "distance", "along", "across", "pressure", "wind"]
    return pd.DataFrame(rows, columns=columns)


def _course(places: list[tuple[float, float]], k: int) -> float | None:
    pairs = [(k - 1, k)] if k > 0 else []
    pairs += [(k, k + 1)] if k + 1 < len(places) else []
    for i, j in pairs:
        if places[i] != places[j]:
            back = float(bearing(*places[j], *places[i])) + 180 if j == k else float(bearing(*places[i], *places[j]))
            return back % 360
    return None


def errors_by_lead(errors: pd.DataFrame) -> pd.DataFrame:
    """At each lead the number of pairs, the mean distance, and mean and mean absolute errors along, across, of pressure and of wind."""
    out = errors.groupby("lead").agg(pairs=("distance", "size"), distance=("distance", "mean"))
    for name in ("along", "across", "pressure", "wind"):
        out[f"{name}_bias"] = errors.groupby("lead")[name].mean()
        out[f"{name}_mae"] = errors[name].abs().groupby(errors["lead"]).mean()
    return out.reset_index()


def mean_track(matches: Sequence[Match], *, least: float = 0.5) -> pd.DataFrame:
    r"""Mean position of the members at each time of each observed storm, their spread, and the distance of the mean from the storm.

    The spread is :math:`\big(\frac{1}{M - 1} \sum_m d_m^2\big)^{1/2}` in km over the members that still have the storm, :math:`d_m` the
    distance of a member from their mean; with it the error of the mean should agree in its root mean square over many storms,
    :math:`\langle e^2 \rangle = \frac{M + 1}{M} \langle s^2 \rangle` (Fortin et al. 2014, J. Hydrometeor. 15, 1708-1713).

    Parameters
    ----------
    least
        Part of the members matched to a storm that must have it at a time.

    Raises
    ------
    UsageError
        For a part outside 0 to 1.
    """
    if not 0 <= least <= 1:
        raise UsageError("mean_track", "a part from 0 to 1", f"{least:g}")
    columns = ["start", "storm", "time", "lead", "members", "lat", "lon", "spread", "error", "lat_best", "lon_best"]
    if not matches:
        return pd.DataFrame(columns=columns)
    fixes = pd.concat([m.pairs.assign(start=m.start, member=m.member, storm=m.storm) for m in matches])
    rows = []
    for (start, storm), of_storm in fixes.groupby(["start", "storm"], dropna=False):
        count = of_storm["member"].nunique()
        for time, part in of_storm.groupby("time"):
            if len(part) < max(1, least * count):
                continue
            lat, lon = mean_position(part["lat"].to_numpy(), part["lon"].to_numpy())
            away = distance(lat, lon, part["lat"], part["lon"]) / 1000
            first = part.iloc[0]
            spread = float(np.sqrt((away**2).sum() / (len(part) - 1))) if len(part) > 1 else np.nan
            error = float(distance(lat, lon, first["lat_best"], first["lon_best"])) / 1000
            at = (start, storm, time, float(first["lead"]), len(part), lat, lon, spread, error)
            rows.append((*at, float(first["lat_best"]), float(first["lon_best"])))
    return pd.DataFrame(rows, columns=columns)


def reliability(probability: ArrayLike, happened: ArrayLike, *, bins: int = 10, weights: ArrayLike | None = None) -> pd.DataFrame:
    r"""Observed frequency by forecast probability, in ``bins`` equal classes; a reliable forecast has both alike.

    The Brier score, the mean of :math:`(p - o)^2`, is in ``attrs['brier']``.

    Parameters
    ----------
    weights
        Such as the areas of grid points.

    Raises
    ------
    UsageError
        For probabilities outside 0 to 1, or fields of different shapes.
    """
    p, o = np.asarray(probability, np.float64).ravel(), np.asarray(happened, np.float64).ravel()
    w = np.ones_like(p) if weights is None else np.broadcast_to(np.asarray(weights, np.float64), np.shape(probability)).ravel()
    if p.shape != o.shape or not ((p >= 0) & (p <= 1)).all():
        raise UsageError("reliability", "probabilities from 0 to 1, and as many events", f"shapes {p.shape} and {o.shape}")
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = []
    for k in range(bins):
        mine = which == k
        total = w[mine].sum()
        mean, seen = (np.average(x[mine], weights=w[mine]) if total > 0 else np.nan for x in (p, o))
        rows.append((k / bins, (k + 1) / bins, int(mine.sum()), float(mean), float(seen)))
    out = pd.DataFrame(rows, columns=["from", "to", "count", "probability", "frequency"])
    out.attrs["brier"] = float(np.average((p - o) ** 2, weights=w))
    return out
