"""How far the weather model's own ensemble drifts from the run it started on: root mean square difference to the control by lead.

python benchmarks/accuracy/weather/error_growth.py speedy_train.zarr --members 2 --days 14     # writes error_growth.json
"""

from __future__ import annotations

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

from anygrid.io.weather_ensemble import run_ensemble
from anygrid.problems.speedy import GRID, Speedy
from anygrid.problems.speedy_engine import SpeedyState

HERE = Path(__file__).parent
NAMES = ("z500", "t850", "t2m", "u250")


def main(store: Path, members: int, days: int, amplitude: float, starts: list[str]) -> None:
    restarts = xr.open_zarr(store / "restarts", chunks=None)
    weights = GRID.mean_weights().numpy()
    curves: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for begin in starts:
        one = restarts.sel(restart=begin)
        state = SpeedyState(np.datetime64(begin, "s"), {str(n): np.asarray(one[n].values) for n in one.data_vars})
        found = run_ensemble(Speedy(variables=NAMES), state, members + 1, days, amplitude=amplitude, control=True)
        for name in NAMES:
            gap = found[name].values[1:] - found[name].values[:1]
            curves[name].append(np.sqrt((weights * gap**2).sum((-1, -2))))
    mean = {name: np.sqrt((np.concatenate(rows) ** 2).mean(0)) for name, rows in curves.items()}
    # The first days are those of waves that the noise set off and that die; after them the error grows by itself.
    late = np.arange(7, days + 1)
    rate = np.polyfit(late, np.log(mean["z500"][4 * late]), 1)[0]
    result = {
        "command": f"python benchmarks/accuracy/weather/error_growth.py {store.name} --members {members} --days {days}",
        "starts": starts,
        "members": members,
        "amplitude": amplitude,
        "rms_by_lead_day": {name: {str(d): float(f"{values[4 * d]:.4g}") for d in range(days + 1)} for name, values in mean.items()},
        "doubling_days_z500_from_day_7_on": round(float(np.log(2) / rate), 2),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("jcm", "jax", "numpy")},
    }
    (HERE / "error_growth.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--amplitude", type=float, default=0.01)
    parser.add_argument("--starts", nargs="+", default=["2000-01-15", "2000-04-15", "2000-07-01"])
    given = parser.parse_args()
    main(given.store, given.members, given.days, given.amplitude, given.starts)
