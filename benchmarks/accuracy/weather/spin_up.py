"""How long the weather model remembers that it began at rest: global means from rest, beside those of the same dates years later.

    python benchmarks/accuracy/weather/spin_up.py run --days 240            # writes spin_up_run.json
    python benchmarks/accuracy/weather/spin_up.py compare speedy_train.zarr  # writes spin_up.json

The run is the one that `anygrid generate weather --start 2000-01-01 --seed 0 --spin-up 180` throws away, and some weeks more. A day counts
as settled when the mean over the ten days about it lies within two standard deviations of those of the same dates in the store.
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


def compare(store: Path) -> None:
    said = json.loads((HERE / "spin_up_run.json").read_text())
    table = {name: _smooth([row[name] for row in said["rows"]]) for name in said["rows"][0]}
    ds = xr.open_zarr(store)
    midnight = ds[list(NAMES)].isel(time=slice(None, None, 4)).load()
    values = np.stack([midnight[name].values for name in NAMES], 1)
    later = [means(one) for one in values]
    days = (midnight.time.values - FIRST.astype("datetime64[ns]")) / np.timedelta64(1, "D")
    settled, gaps = {}, {}
    for name, early in table.items():
        smooth = _smooth([row[name] for row in later])
        same = [np.interp(np.arange(1, len(early) + 1) + 365.25 * year, days, smooth, np.nan, np.nan) for year in range(1, 6)]
        same = np.array([row for row in same if np.isfinite(row).all()])
        spread = np.sqrt(same.var(0, ddof=1).mean())
        gap = (early - same.mean(0)) / spread
        outside = np.nonzero(np.abs(gap[: -WINDOW // 2]) > 2)[0]
        settled[name] = int(outside.max()) + 2 if len(outside) else 1
        gaps[name] = {str(d): round(float(gap[d - 1]), 2) for d in (10, 30, 60, 90, 120, 150, 180) if d <= len(gap)}
    result = {
        "command": "python benchmarks/accuracy/weather/spin_up.py compare " + store.name,
        "store_days": len(later),
        "first_day_after_which_within_2_sd": settled,
        "distance_in_sd_of_same_dates": gaps,
    }
    (HERE / "spin_up.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


def _smooth(values: list[float]) -> np.ndarray:
    x = np.asarray(values)
    half = WINDOW // 2
    return np.array([x[max(0, k - half) : k + half].mean() for k in range(len(x))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    actions = parser.add_subparsers(dest="what", required=True)
    actions.add_parser("run").add_argument("--days", type=int, default=240)
    actions.add_parser("compare").add_argument("store", type=Path)
    given = parser.parse_args()
    run(given.days) if given.what == "run" else compare(given.store)
