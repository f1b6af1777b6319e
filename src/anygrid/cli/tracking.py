"""`anygrid track`: storms in fields, their tracks, strike probabilities, and errors against best tracks."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anygrid.cli.fitting import opened
from anygrid.cli.output import check_new, disk_errors
from anygrid.cli.talk import Talk
from anygrid.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from anygrid.storms import Criteria, Sources, Tracks

__all__ = ["track"]

_MAP_DEGREES = 1.0
_VALUES = ("pressure", "height", "vorticity", "wind")  # columns that are left out where nothing of the kind was sought
_PICTURES = (".png", ".pdf", ".svg")


def track(
    data: Annotated[list[str], typer.Argument(help="Fields on latitudes and longitudes: files, folders or quoted globs.")],
    out: Annotated[Path, typer.Option("-o", "--out", "--output", help="Where to write the table of tracks: NAME.csv.")],
    var: Annotated[
        str | None, typer.Option(help="Pressure at sea level, or height or geopotential of a level (msl, z850); default: msl if there.")
    ] = None,
    vorticity: Annotated[str | None, typer.Option(help="Wind whose vorticity counts: u850,v850. Alone it makes the centres.")] = None,
    wind: Annotated[str | None, typer.Option(help="Wind whose largest speed near a centre is noted: u10,v10.")] = None,
    warm_core: Annotated[str | None, typer.Option(help="Ask a warm core: two heights z300,z500, or a temperature t400.")] = None,
    ground: Annotated[str | None, typer.Option(help="Height of the ground: --var is surface pressure, reduced to sea level.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the data: time=2005-08 or latitude=0:60.")] = None,
    rise: Annotated[float | None, typer.Option(help="Closed contour: Pa of pressure, or m of height (200 Pa, 17 m).")] = None,
    within: Annotated[float | None, typer.Option(help="The contour closes within so many degrees (5.5).")] = None,
    threshold: Annotated[float | None, typer.Option(help="Least cyclonic vorticity, s-1 (1e-5).")] = None,
    speed: Annotated[float | None, typer.Option(help="Largest speed of a storm, m/s (41).")] = None,
    lifetime: Annotated[float | None, typer.Option(help="Least hours from first to last fix (24).")] = None,
    travel: Annotated[float | None, typer.Option(help="Least km from first to last fix (0).")] = None,
    best: Annotated[Path | None, typer.Option(help="Best tracks to compare with: HURDAT2, or dplyr's storms.csv.")] = None,
    strike: Annotated[list[str] | None, typer.Option(help="Probability of a storm within R km of a place: LAT,LON,R.")] = None,
    radius: Annotated[float, typer.Option(help="R of the strike probability on the map of an ensemble, km.")] = 120.0,
    map_: Annotated[Path | None, typer.Option("--map", help="Draw the tracks: NAME.png, .pdf or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts, strikes and errors as JSON.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the outputs.")] = False,
) -> None:
    """Find storms as closed lows or centres of vorticity, and follow them in time, in every member.

    \b
    anygrid track ens.zarr --out tracks.csv --var msl --map tracks.png
    anygrid track era5.nc --out tracks.csv --var msl --warm-core z300,z500 \\
                  --wind u10,v10 --lifetime 54 --best hurdat2.txt
    """
    from anygrid.storms import read_best_tracks
    from anygrid.storms import track as find
    from anygrid.surrogate.file import write_atomically

    if out.suffix.lower() != ".csv":
        raise UsageError(f"-o {out}", "a file name that ends in .csv", repr(out.name), "for example -o tracks.csv")
    if map_ is not None and map_.suffix.lower() not in _PICTURES:
        raise UsageError(f"--map {map_}", "a file name that ends in .png, .pdf or .svg", repr(map_.name), "for example --map tracks.png")
    for path in (out, map_):
        if path is not None:
            check_new(path, overwrite)
    places = [_place(word) for word in strike or ()]
    criteria = _criteria(rise, within, threshold, speed, lifetime, travel)
    observed = None if best is None else read_best_tracks(best)
    ds = _of_mean(opened(tuple(data), tuple(select or ())))
    sources = _sources(var, vorticity, wind, warm_core, ground)
    talk = Talk()
    with talk.work():
        tracks = find(ds, sources, criteria, progress=talk.tracked)
    facts = _facts(tracks, places)
    if observed is not None:
        facts |= _compared(tracks, observed)
    empty = [] if tracks.table.empty else [c for c in _VALUES if tracks.table[c].isna().all()]
    write_atomically(out, tracks.table.drop(columns=empty).to_csv(index=False, float_format="%.8g").encode())
    if map_ is not None:
        _draw(tracks, observed, map_, radius)
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
        return
    _say(facts)
    print(out)
    if map_ is not None:
        print(map_)


def _of_mean(ds: xr.Dataset) -> xr.Dataset:
    """Where a store of an ensemble kept statistics only, its means under the names of the fields."""
    means = {
        str(n): str(n).removesuffix("_mean") for n, v in ds.data_vars.items() if str(v.attrs.get("cell_methods")) == "realization: mean"
    }
    if "ensemble_members" not in ds.attrs or not means or any(name in ds.data_vars for name in means.values()):
        return ds
    said = "only statistics were kept: the tracks are those of the ensemble mean, which is smoother than any member"
    print(f"note: {said} (forecast --keep-members 0:50 keeps members)", file=sys.stderr)
    return ds[list(means)].rename(means)


def _sources(var: str | None, vorticity: str | None, wind: str | None, warm: str | None, ground: str | None) -> Sources:
    from anygrid.storms import Sources

    turning = None if vorticity is None else _two(vorticity, "--vorticity", "u850,v850")
    blowing = None if wind is None else _two(wind, "--wind", "u10,v10")
    names = () if warm is None else tuple(word.strip() for word in warm.split(","))
    if any(not name for name in names) or len(names) > 2:
        raise UsageError("--warm-core", "one temperature, or two heights", repr(warm), "for example --warm-core z300,z500")
    return Sources("msl" if var is None and turning is None else var, turning, blowing, names, ground)


def _criteria(
    rise: float | None, within: float | None, threshold: float | None, speed: float | None, lifetime: float | None, travel: float | None
) -> Criteria:
    from anygrid.storms import Criteria

    usual = Criteria()
    return Criteria(
        pressure_rise=usual.pressure_rise if rise is None else rise,
        height_rise=usual.height_rise if rise is None else rise,
        contour_radius=usual.contour_radius if within is None else within,
        vorticity=usual.vorticity if threshold is None else threshold,
        speed=usual.speed if speed is None else speed,
        lifetime_hours=usual.lifetime_hours if lifetime is None else lifetime,
        travel_km=usual.travel_km if travel is None else travel,
    )


def _two(text: str, option: str, example: str) -> tuple[str, str]:
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(words):
        raise UsageError(option, "wind to the east and to the north", repr(text), f"for example {option} {example}")
    return words[0], words[1]


def _place(text: str) -> tuple[float, float, float]:
    try:
        lat, lon, km = (float(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(
            "--strike", "LAT,LON,R: two angles and a radius in km", repr(text), "for example --strike 29.9,-90.1,120"
        ) from error
    if not (abs(lat) <= 90 and math.isfinite(lon) and 0 < km < math.inf):
        raise UsageError("--strike", "a latitude from -90 to 90 and a radius above 0 km", repr(text), "the latitude comes first")
    return lat, lon, km


def _facts(tracks: Tracks, places: list[tuple[float, float, float]]) -> dict[str, Any]:
    from anygrid.storms import strike_probability

    counts = tracks.table.groupby(["start", "member"], dropna=False)["track"].nunique()
    runs = tracks.starts * len(tracks.members)
    facts: dict[str, Any] = {
        "tracks": int(counts.sum()),
        "fixes": len(tracks.table),
        "members": len(tracks.members),
        "starts": tracks.starts,
        "tracks_per_run": float(counts.sum()) / runs,
        "grid_spacing_degrees": tracks.spacing,
    }
    if places:
        facts["strike"] = [
            {"lat": lat, "lon": lon, "radius_km": km, "probability": float(strike_probability(tracks, lat, lon, km))}
            for lat, lon, km in places
        ]
    return facts


def _compared(tracks: Tracks, best: pd.DataFrame) -> dict[str, Any]:
    """Errors of the tracks that are observed storms."""
    from anygrid.storms import errors_by_lead, match_tracks, mean_track, track_errors

    matches = match_tracks(tracks.table, best)
    during = best[best["time"].isin(tracks.table["time"])]["storm"].nunique() if not tracks.table.empty else 0
    out: dict[str, Any] = {"observed_storms": int(during), "matched_tracks": len(matches)}
    out["matched_storms"] = len({m.storm for m in matches})
    if matches:
        out["errors_by_lead"] = _records(errors_by_lead(track_errors(matches)))
        if len(tracks.members) > 1:
            out["mean_track"] = _records(mean_track(matches))
    return out


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, which has no NaN."""
    rows = table.to_dict("records")
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def _draw(tracks: Tracks, best: pd.DataFrame | None, path: Path, radius: float) -> None:
    from anygrid.grid import Sphere
    from anygrid.storms import strike_map
    from anygrid.storms.track_map import save, track_map

    strike = None
    if len(tracks.members) > 1:
        strike = strike_map(tracks, Sphere.equiangular(round(180 / _MAP_DEGREES), round(360 / _MAP_DEGREES)), radius)
    shown = (
        None if best is None or tracks.table.empty else best[best["time"].between(tracks.table["time"].min(), tracks.table["time"].max())]
    )
    with disk_errors(path):
        save(track_map(tracks.table, shown, strike), path)


def _say(facts: dict[str, Any]) -> None:
    runs = facts["members"] * facts["starts"]
    many = f" in {facts['members']} members" if facts["members"] > 1 else ""
    many += f" from {facts['starts']} starts" if facts["starts"] > 1 else ""
    mean = f", {facts['tracks_per_run']:.3g} in each" if runs > 1 else ""
    print(f"{facts['tracks']} tracks{many}{mean}; {facts['fixes']} fixes", file=sys.stderr)
    if facts["grid_spacing_degrees"] > 1:
        print(f"a grid of {facts['grid_spacing_degrees']:.3g} degrees: positions are good, depths and winds too weak", file=sys.stderr)
    for place in facts.get("strike", ()):
        where = f"{place['lat']:g}, {place['lon']:g}"
        print(f"within {place['radius_km']:g} km of {where}: probability {place['probability']:.2f}", file=sys.stderr)
    if "matched_tracks" in facts:
        print(f"{facts['matched_storms']} of {facts['observed_storms']} observed storms found", file=sys.stderr)
    for row in facts.get("errors_by_lead", ()):
        parts = [f"lead {row['lead']:g} h: {row['pairs']} pairs, distance {row['distance']:.0f} km"]
        parts += [f"{k} {row[f'{k}_bias']:+.0f} km" for k in ("along", "across") if row[f"{k}_bias"] is not None]
        parts += [f"wind {row['wind_bias']:+.1f} m/s"] if row["wind_bias"] is not None else []
        parts += [f"pressure {row['pressure_bias'] / 100:+.1f} hPa"] if row["pressure_bias"] is not None else []
        print(", ".join(parts), file=sys.stderr)
