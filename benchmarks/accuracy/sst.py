"""Observed monthly sea-surface temperature anomalies: one month ahead, and by roll-out up to a year.

    python benchmarks/accuracy/sst.py          # -> benchmarks/accuracy/sst.json

Trained on 1979-2005 (the last tenth, by time, is validation and picks the size), tested on 2006-2013, never shuffled. Against
persistence, damped persistence (each point's own regression on the training years, the baseline a climatologist would bring),
and climatology. The file is the one in ../shared/data/weather, also in the wheel of PyPI jcm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

import anygrid
from anygrid.grid import Grid
from anygrid.io.pairs import Pairs
from anygrid.metrics.skill import anomaly_correlation, mse_skill, rmse_by_lead
from anygrid.operators import default_operator
from anygrid.surrogate import Surrogate

HERE = Path(__file__).resolve().parent
FILE = HERE.parents[2] / "shared" / "data" / "weather" / "sea_surface_temperature_anomaly.nc"
LEADS = 12
SIZES = {"width 8, 5 modes": (8, 5, 2), "width 16, 9 modes": (16, 9, 2), "default": (48, 17, 4)}


def _build(size: tuple[int, int, int]) -> Callable[[int, int, Grid], nn.Module]:
    width, modes, depth = size
    return lambda inputs, outputs, grid: default_operator(inputs, outputs, grid, width=width, modes=modes, depth=depth)


@torch.inference_mode()
def _rollout(map_: Callable[[torch.Tensor, Grid], torch.Tensor], a: torch.Tensor, grid: Grid) -> torch.Tensor:
    states = []
    for _ in range(LEADS):
        a = map_(a, grid)
        states.append(a)
    return torch.stack(states, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.5, help="training of each size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = anygrid.read(FILE)
    train, test = data.sel(time=slice("1979", "2005")), data.sel(time=slice("2006", "2013"))

    tried: dict[str, Surrogate] = {}
    for name, size in SIZES.items():
        tried[name] = anygrid.fit(
            train, "ssta", "ssta", lead="1month", budget=options.minutes * 60, operator=_build(size), weight_decay=1e-2, keep_best=True
        )
        print(name, tried[name].record["validation_error"], file=sys.stderr, flush=True)
    chosen = min(tried, key=lambda name: tried[name].record["validation_error"])
    surrogate = tried[chosen]

    past, pairs = Pairs(train, ("ssta",), ("ssta",), lead="1month"), Pairs(test, ("ssta",), ("ssta",), lead="1month")
    x, y = (t[:, 0].double() for t in past.batch(np.arange(len(past))))
    climatology = torch.cat([x, y[-1:]]).mean(0)
    slope = ((x - climatology) * (y - climatology)).mean(0) / ((x - climatology) ** 2).mean(0).clamp(min=1e-12)
    starts = np.arange(pairs.count(LEADS))
    a, u = pairs.batch(starts, LEADS)
    first, truth, grid = a[:, 0], u.double(), pairs.grid
    forecasts = {
        "surrogate": _rollout(surrogate, first, grid).double(),
        "persistence": first[:, None].expand_as(u).double(),
        "damped persistence": _rollout(lambda s, _: climatology + slope * (s - climatology), first.double(), grid),
        "climatology": climatology.expand_as(truth),
    }
    scores = {}
    for name, f in forecasts.items():
        row = {
            "rmse": rmse_by_lead(f, truth, grid)[:, 0],
            "skill_over_persistence": mse_skill(f, truth, forecasts["persistence"], grid)[:, 0],
        }
        row["skill_over_damped_persistence"] = mse_skill(f, truth, forecasts["damped persistence"], grid)[:, 0]
        if name != "climatology":
            row["anomaly_correlation"] = anomaly_correlation(f, truth, climatology, grid)[:, 0]
        scores[name] = {key: [round(float(v), 4) for v in value] for key, value in row.items()}
    result = {
        "command": "python benchmarks/accuracy/sst.py" + (f" --minutes {options.minutes:g}" if options.minutes != 1.5 else ""),
        "data": "monthly SST anomaly 1979-2013, 48x96 Gaussian, kelvin; trained 1979-2005, tested 2006-2013",
        "starts": len(starts),
        "leads_months": list(range(1, LEADS + 1)),
        "validation_error": {name: round(s.record["validation_error"], 5) for name, s in tried.items()},
        "chosen_on_validation": chosen,
        "minutes_each": options.minutes,
        "threads": 1,
        "torch": torch.__version__,
        "scores": scores,
    }
    (HERE / "sst.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, row in scores.items():
        print(name, row["rmse"][:6], row["skill_over_persistence"][:3])


if __name__ == "__main__":
    main()
