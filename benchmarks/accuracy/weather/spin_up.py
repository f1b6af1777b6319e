"""How long the weather model remembers that it began at rest: global means from rest, beside those of the same dates years later.

    python benchmarks/accuracy/weather/spin_up.py run --days 240            # writes spin_up_run.json
    python benchmarks/accuracy/weather/spin_up.py compare speedy_train.zarr  # writes spin_up.json

The run is the one that `anygrid generate weather --start 2000-01-01 --seed 0 --spin-up 180` throws away, and some weeks more, so that it
must meet the store there to the bit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import xarray as xr

from anygrid.problems.speedy import GRID
from anygrid.problems.speedy_engine import shared_engine
from anygrid.problems.speedy_fields import diagnose

HERE = Path(__file__).parent
NAMES = ("t850", "t500", "t250", "q700", "z500", "u250", "v250", "msl")
FIRST = np.datetime64("1999-07-05", "s")  # 180 days before 2000
WINDOW = 10


def means(fields: np.ndarray) -> dict[str, float]:
    """Global means of one moment, and of the kinetic energy of the eddies at 250 hPa."""
    weights = GRID.mean_weights().numpy()
    found = {name: float((weights * values).sum()) for name, values in zip(NAMES, fields, strict=True)}
    u, v = (fields[NAMES.index(name)] for name in ("u250", "v250"))
    eddy = 0.5 * ((u - u.mean(-1, keepdims=True)) ** 2 + (v - v.mean(-1, keepdims=True)) ** 2)
    return {name: found[name] for name in ("t850", "t500", "t250", "q700", "z500")} | {"eddy250": float((weights * eddy).sum())}


def run(days: int) -> None:
    engine = shared_engine(21600)
    state, rows = engine.rest(FIRST, 0), []
    for day in range(days):
        fields, state = engine.advance(state, 4, "last")
        rows.append(means(diagnose(NAMES, {n: v[0] for n, v in fields.items()}, engine.constants()).numpy()))
        if day % 10 == 9:
            (HERE / "spin_up_run.json").write_text(json.dumps({"first": str(FIRST), "rows": rows}))
            print(day + 1, rows[-1], file=sys.stderr, flush=True)


def compare(store: Path, days_there: int | None) -> None:
    """Gap between ten-day means and those of the same dates in later years; by its decay, how large it is when the spin-up ends."""
    early = json.loads((HERE / "spin_up_run.json").read_text())["rows"]
    midnight = xr.open_zarr(store)[list(NAMES)].isel(time=slice(0, None if days_there is None else 4 * days_there, 4)).load()
    fields = np.stack([midnight[name].values for name in NAMES], 1)
    days = np.round((midnight.time.values - FIRST.astype("datetime64[ns]")) / np.timedelta64(1, "D")).astype(int)
    later = {int(day): means(one) for day, one in zip(days, fields, strict=True)}
    result: dict[str, object] = {
        "command": "python benchmarks/accuracy/weather/spin_up.py compare speedy_train.zarr",
        "store_days": len(later),
        "largest_gap_to_the_store_where_they_are_one_run": max(
            abs(row[name] - later[k][name]) for k, row in enumerate(early, start=1) if k in later for name in row
        ),
    }
    gaps: dict[str, dict[str, float]] = {}
    for name in early[0]:
        found = {}
        for day in range(10, len(early) - WINDOW, 5):
            window = range(day - WINDOW // 2, day + WINDOW // 2)
            years = [y for y in range(1, 5) if all(k + round(365.25 * y) in later for k in window)]
            if years:
                then = np.mean([[later[k + round(365.25 * y)][name] for k in window] for y in years])
                found[day] = float(np.mean([early[k - 1][name] for k in window]) - then)
        gaps[name] = {str(day): float(f"{gap:.3g}") for day, gap in found.items()}
        if name == "t250":
            when = np.array([day for day in found if 20 <= day <= 75])
            slope, offset = np.polyfit(when, np.log([found[day] for day in when]), 1)
            result["t250_e_folding_days"] = round(float(-1 / slope), 1)
            result["t250_gap_extrapolated_K"] = {str(d): float(f"{np.exp(offset + slope * d):.2g}") for d in (90, 120, 180)}
    result["gap_to_same_dates_later_by_day"] = gaps
    (HERE / "spin_up.json").write_text(json.dumps(result, indent=1))
    print(json.dumps({k: v for k, v in result.items() if not k.startswith("gap")}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    actions = parser.add_subparsers(dest="what", required=True)
    actions.add_parser("run").add_argument("--days", type=int, default=240)
    comparison = actions.add_parser("compare")
    comparison.add_argument("store", type=Path)
    comparison.add_argument("--days-there", type=int, help="of a store that is still being written")
    given = parser.parse_args()
    run(given.days) if given.what == "run" else compare(given.store, given.days_there)
