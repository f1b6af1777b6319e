"""Best tracks of tropical cyclones: NOAA's HURDAT2 text, and the table of it that comes with dplyr.

Units are made SI: knots become m s-1 (1 kn = 1852/3600 m s-1) and hPa become Pa. The wind is the largest sustained one over a minute, the
position has a tenth of a degree (Landsea and Franklin 2013, Mon. Wea. Rev. 141, 3576-3592; the columns are described in NOAA's "The revised
Atlantic hurricane database (HURDAT2)", www.nhc.noaa.gov/data/hurdat/hurdat2-format-atl-1851-2021.pdf).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anygrid.errors import FileError, UsageError

__all__ = ["BEST_COLUMNS", "KNOT", "SeasonCount", "read_best_tracks", "season_count"]

BEST_COLUMNS = ("storm", "name", "time", "lat", "lon", "status", "wind", "pressure")
KNOT = 1852 / 3600  # m s-1

_TIDY = ("name", "year", "month", "day", "hour", "lat", "long", "status", "wind", "pressure")
_STATUS = {
    **{"TD": "tropical depression", "TS": "tropical storm", "HU": "hurricane", "EX": "extratropical", "SD": "subtropical depression"},
    **{"SS": "subtropical storm", "LO": "other low", "WV": "tropical wave", "DB": "disturbance", "ET": "extratropical"},
}
_TROPICAL = ("tropical storm", "hurricane", "subtropical storm")
_HEADER = re.compile(r"^[A-Z]{2}\d{6}$")
_MISSING = {"", "NA", "-99", "-999"}


def read_best_tracks(path: str | Path) -> pd.DataFrame:
    """Fixes as rows: ``storm`` (such as AL122005), ``name``, ``time``, ``lat``, ``lon``, ``status``, ``wind`` (m s-1), ``pressure`` (Pa).

    The format is told from the first line. The table of dplyr has no numbers of storms: fixes of one name that are less than 20 days apart
    are one storm, which is called by its name and the year it began in (``Zeta 2005``).
    It also drops minutes, so that a landfall may share the time of a fix, and lacks storms that were never more than subtropical.

    Raises
    ------
    FileError
        For a file that is missing or of neither format, and lines that are cut or hold what they cannot; the line is named.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(str(path), "a file of best tracks", error.strerror or str(error), "check the path") from error
    except UnicodeDecodeError as error:
        raise FileError(str(path), "text", "other bytes", "give HURDAT2 text or the CSV table of it") from error
    lines = text.splitlines()
    first = lines[0].strip() if lines else ""
    if first.startswith("name,"):
        rows = _tidy(lines, str(path))
    elif _HEADER.match(first.split(",")[0].strip()):
        rows = _native(lines, str(path))
    else:
        got = repr(first[:40]) if first else "an empty file"
        raise FileError(str(path), "HURDAT2 text (AL122005, KATRINA, ...) or a table with columns name, year, month, ...", got)
    return pd.DataFrame(rows, columns=list(BEST_COLUMNS))


def _native(lines: list[str], where: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    storm, name, left = "", "", 0
    for number, line in enumerate(lines, 1):
        cells = [c.strip() for c in line.split(",")]
        if not line.strip():
            continue
        if _HEADER.match(cells[0]):
            if left:
                raise FileError(f"{where}, line {number}", f"{left} more fixes of {storm}", "the next storm", "the file may be damaged")
            if len(cells) < 3 or not cells[2].isdigit():
                raise FileError(f"{where}, line {number}", "a storm, its name and the number of its fixes", repr(line[:60]))
            storm, name, left = cells[0], cells[1].title(), int(cells[2])
            continue
        if left == 0 or len(cells) < 8:
            raise FileError(f"{where}, line {number}", "a fix: date, time, record, status, lat, lon, wind, pressure", repr(line[:60]))
        left -= 1
        try:
            time = np.datetime64(f"{cells[0][:4]}-{cells[0][4:6]}-{cells[0][6:8]}T{cells[1][:2]}:{cells[1][2:4]}", "ns")
            lat, lon = _angle(cells[4], "NS", 90), _angle(cells[5], "EW", 360)
            wind, pressure = _number(cells[6]) * KNOT, _number(cells[7]) * 100
        except ValueError as error:
            raise FileError(f"{where}, line {number}", "dates and numbers of HURDAT2", repr(line[:60]), str(error)) from error
        rows.append((storm, name, time, lat, (lon + 180) % 360 - 180, _STATUS.get(cells[3], cells[3]), wind, pressure))
    if left:
        raise FileError(where, f"{left} more fixes of {storm}", "the end of the file", "the file may be truncated; fetch it again")
    return rows


def _tidy(lines: list[str], where: str) -> list[tuple[object, ...]]:
    reader = csv.DictReader(lines)
    missing = [c for c in _TIDY if c not in (reader.fieldnames or [])]
    if missing:
        raise FileError(where, f"a table with {', '.join(_TIDY)}", f"none called {', '.join(missing)}")
    rows: list[tuple[object, ...]] = []
    last: dict[str, tuple[np.datetime64, str]] = {}
    for number, row in enumerate(reader, 2):
        try:
            year, month, day, hour = (int(row[c]) for c in ("year", "month", "day", "hour"))
            time = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}", "ns")
            lat, lon = float(row["lat"]), float(row["long"])
            wind, pressure = _number(row["wind"]) * KNOT, _number(row["pressure"]) * 100
        except (TypeError, ValueError) as error:
            raise FileError(f"{where}, line {number}", "dates and numbers", repr(lines[number - 1][:60]), str(error)) from error
        before, storm = last.get(row["name"], (None, ""))
        if before is None or not np.timedelta64(0) <= time - before < np.timedelta64(20, "D"):
            storm = f"{row['name']} {year}"
        last[row["name"]] = (time, storm)
        rows.append((storm, row["name"], time, lat, (lon + 180) % 360 - 180, row["status"], wind, pressure))
    return rows


def _angle(text: str, sides: str, most: float) -> float:
    value = float(text[:-1])
    if text[-1] not in sides or not 0 <= value <= most:
        raise ValueError(f"{text!r} is no angle to {' or '.join(sides)}")
    return -value if text[-1] == sides[1] else value


def _number(text: str | None) -> float:
    return float("nan") if text is None or text.strip() in _MISSING else float(text)


@dataclass(frozen=True)
class SeasonCount:
    """Storms of a season, and how many of them became hurricanes and major hurricanes."""

    storms: int
    hurricanes: int
    major: int


def season_count(best: pd.DataFrame, year: int) -> SeasonCount:
    """Storms (34 kn and more), hurricanes (64) and major hurricanes (96) that began in a year, while tropical or subtropical.

    Raises
    ------
    UsageError
        For a year without storms.
    """
    begun = best.groupby("storm")["time"].transform("min").dt.year == year
    season = best[begun]
    if season.empty:
        years = best["time"].dt.year
        raise UsageError("season_count", f"a year from {years.min()} to {years.max()}", str(year))
    # Half a knot of slack: winds are multiples of 5 kn.
    peak = season[season["status"].isin(_TROPICAL)].groupby("storm")["wind"].max() / KNOT
    return SeasonCount(*(int((peak > limit - 0.5).sum()) for limit in (34, 64, 96)))
