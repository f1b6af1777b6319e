"""Skill of learned global forecasts on a year that training never saw, beside the numerical model they learned from.

    D=benchmarks/accuracy/weather/skill.py
    OMP_NUM_THREADS=2 python $D train pretrained --steps 4000 --unroll 1 --out data/weather  # 20 minutes; others half an hour of a core
    python $D train deterministic --steps 800 --unroll 8 --out data/weather
    python $D train random --steps 1000 --unroll 4 --out data/weather
    python $D train climate --steps 3000 --unroll 1 --out data/weather
    python $D train lasting --steps 1800 --unroll 1 --replay 1000 --out data/weather
    python $D forecast deterministic --out data/weather
    python $D forecast random --members 30 --out data/weather
    python $D reference --members 8 --out data/weather                 # half an hour of a core
    python $D score --out data/weather                                 # writes skill.json
    python $D growth --out data/weather                                # writes growth.json
    python $D free lasting --years 10 --out data/weather               # and deterministic, random, climate: writes free_run.json
    python $D free lasting --years 100 --out data/weather              # a quarter of an hour of a core

Data, by `anygrid generate weather` (`--seed 2 --start 1996-01-01 --days 1096` and the like): data/speedy_train.zarr (2000 to 2003, seed 0),
data/speedy_train_2.zarr (1996 to 1998, seed 2), data/speedy_train_3.zarr (2004 to 2006, seed 3), and data/speedy_test.zarr (2010, seed 1;
another run of the model, looked at by forecasts and scores). Validation is the last twentieth of each training run, and settings were
chosen by such held-out errors of short trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from anygrid.forecast import Keep, ensemble
from anygrid.io.weather_ensemble import run_ensemble
from anygrid.io.weather_store import restart_from
from anygrid.numerics.gaussian_field import gaussian_field
from anygrid.problems.speedy import GRID, Speedy
from anygrid.surrogate import Imposed, read_surrogate
from anygrid.training import fit
from anygrid.verification import verify
from anygrid.weather_pipeline import DEGREE, FORCING, STATE, joined, weather_operator

HERE = Path(__file__).parent
JUDGED = ("z500", "t850", "t500", "t2m", "u850")
GROWTH = 14  # days
DAYS, EVERY = 10, 10  # length of a forecast; days between starts
SHOWN = (1, 3, 5, 10)


def starts(test: xr.Dataset, every: int = EVERY) -> np.ndarray:
    days = len(test.time) // 4
    return test.time.values[0] + np.arange(0, days - DAYS, every) * np.timedelta64(1, "D")


def training_runs(data: Path) -> list[xr.Dataset]:
    """Runs of the model from other noise: other weather."""
    return [xr.open_zarr(data / f"speedy_train{suffix}.zarr") for suffix in ("", "_2", "_3")]


def training_years(data: Path) -> xr.Dataset:
    """All of them in the order of their dates, at 00 UTC as starts and leads are."""
    return xr.concat([ds.isel(time=slice(0, None, 4)) for ds in training_runs(data)], "time", data_vars="minimal").sortby("time")


PARENTS = {"deterministic": "pretrained", "random": "pretrained", "lasting": "climate"}
KINDS = ("pretrained", "climate", *PARENTS)


def train(kind: str, steps: int, unroll: int, replay: int, folder: Path, data: Path) -> None:
    """The first training, or one that goes on from the weights of another."""
    parent = PARENTS.get(kind)
    begin, last = time.process_time(), [0.0]

    def tell(progress: Any) -> None:
        if progress.message or time.monotonic() - last[0] > 60:
            last[0] = time.monotonic()
            print(progress.message or f"step {progress.step} loss {progress.loss:.5f} validation {progress.validation:.5f}", flush=True)

    model = fit(
        [ds[[*STATE, *FORCING]] for ds in training_runs(data)],
        (*STATE, *FORCING),
        STATE,
        lead="24h",
        steps=steps,
        noise=4 if kind in ("random", "lasting") else 0,
        replay=replay,
        validation=0.05,
        operator=None if parent else weather_operator,
        parent=read_surrogate(folder / f"{parent}.anygrid") if parent else None,
        optimizer="soap",
        gradient=0.1,
        unroll=unroll,
        learning_rate=2e-3 if parent else None,
        persistence=True if kind == "climate" else None,
        imposed=Imposed(waves=DEGREE),
        run=folder / f"{kind}.run",
        listener=tell,
    )
    model.record["processor_seconds"] = time.process_time() - begin
    model.save(folder / f"{kind}.anygrid")


def make_forecast(kind: str, members: int, folder: Path, data: Path) -> None:
    model, test = read_surrogate(folder / f"{kind}.anygrid"), xr.open_zarr(data / "speedy_test.zarr")
    ensemble(
        model,
        test[[*STATE, *FORCING]].sel(time=starts(test)),
        DAYS,
        members if model.noise else None,
        inputs=model.inputs,
        outputs=model.outputs,
        stochastic=bool(model.noise),
        keep=Keep(members=range(members if model.noise else 0)),
        dt=model.dt,
        domain=model.grid,
        start="each",
        forcings=test[["toa_radiation", "sst"]],
        out=folder / f"{kind}.zarr",
        workers=0,
    )


def reference(members: int, amplitude: float, every: int, folder: Path, data: Path) -> None:
    """The model's own ensemble from the states of the run: exact but for the perturbation."""
    test, place = xr.open_zarr(data / "speedy_test.zarr"), folder / f"reference_{amplitude:g}"
    place.mkdir(parents=True, exist_ok=True)
    problem = Speedy(86400.0, variables=JUDGED)
    for at in starts(test, every):
        path = place / f"{np.datetime_as_string(at, 'D')}.nc"
        if not path.exists():
            found = run_ensemble(
                problem, restart_from(data / "speedy_test.zarr", np.datetime_as_string(at, "s")), members, DAYS, amplitude=amplitude
            )
            found.to_netcdf(path.with_suffix(".partial"))
            path.with_suffix(".partial").rename(path)


def score(folder: Path, data: Path) -> None:
    test = xr.open_zarr(data / "speedy_test.zarr")[list(JUDGED)].isel(time=slice(0, None, 4))
    past = training_years(data)[list(JUDGED)].load()
    table: dict[str, Any] = {}
    for kind in ("deterministic", "random"):
        table[kind] = scores(xr.open_zarr(folder / f"{kind}.zarr"), test, past)
    members = xr.open_zarr(folder / "random.zarr")
    table["one member"] = scores(members[list(JUDGED)].isel(member=0, drop=True), test, past)
    for place in sorted(folder.glob("reference_*")):
        parts = joined([xr.open_dataset(path) for path in sorted(place.glob("*.nc"))])
        table[f"SPEEDY perturbed by {place.name.removeprefix('reference_')}"] = scores(parts, test, past)
        same = members[list(JUDGED)].sel(init_time=parts.init_time.values)
        table[f"random on the starts of {place.name}"] = scores(same, test, past)
    result = {
        "command": "see benchmarks/accuracy/weather/skill.py",
        "test": f"{members.sizes['init_time']} starts of {DAYS} days in 2010, every {EVERY} days; {members.sizes['member']} members",
        "costs": costs(folder),
        "scores": table,
        "versions": {name: version(name) for name in ("anygrid", "torch", "jcm", "numpy")},
    }
    (HERE / "skill.json").write_text(json.dumps(result, indent=1))


def costs(folder: Path) -> dict[str, Any]:
    """Lengths and costs of the trainings that there are."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        if (folder / f"{kind}.anygrid").exists():
            model = read_surrogate(folder / f"{kind}.anygrid")
            keys = ("steps", "samples", "validation_error", "seconds", "processor_seconds")
            found[kind] = {k: model.record.get(k) for k in keys} | {"operator": model.operator.arguments}
    return found


def scores(found: xr.Dataset, test: xr.Dataset, past: xr.Dataset) -> dict[str, Any]:
    names = ("rmse", "persistence rmse", "climatology rmse", "anomaly correlation", "activity ratio", "crps", "climatology crps")
    names += ("spread-skill ratio",)
    result = verify(found, test, climatology=past, variables=[n for n in JUDGED if n in found], draws=200)
    out: dict[str, Any] = {}
    for v in result.variables:
        rows: dict[str, Any] = {}
        for name in names:
            curve = v.curve(name)
            if curve is not None:
                days = {round(lead): k for k, lead in enumerate(np.asarray(result.leads) / (24 if result.lead_units[0] == "h" else 1))}
                rows[name] = {str(d): [_short(x[days[d]]) for x in (curve.value, curve.low, curve.high)] for d in range(1, DAYS + 1)}
        rows["rank p"] = {f"{r.lead:g}": None if r.p_value is None else _short(r.p_value) for r in v.ranks}
        rows["power over truth, degrees 1-5, 6-15, 16-30"] = {
            f"{s.lead:g}": [_short(np.sum(s.forecast[a:b]) / np.sum(s.truth[a:b])) for a, b in ((1, 6), (6, 16), (16, 31))]
            for s in v.spectra
        }
        out[f"{v.name} ({v.units})"] = rows
    return out


def _short(x: float) -> float:
    return float(f"{x:.4g}")


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt((GRID.mean_weights().numpy() * x**2).sum((-1, -2))))


def growth(folder: Path, data: Path) -> None:
    """How fast two forecasts of the deterministic surrogate part that begin a hundredth of a deviation apart: as error_growth.py."""
    model, test = read_surrogate(folder / "deterministic.anygrid"), xr.open_zarr(data / "speedy_test.zarr")
    at = starts(test, 30)
    span = np.arange(at[0], at[-1] + np.timedelta64(GROWTH + 1, "D"), np.timedelta64(1, "D"))
    known = test[[*STATE, *FORCING]].sel(time=span[span <= test.time.values[-1]]).load()
    names, inputs = [v.name for v in model.outputs], [v.name for v in model.inputs]
    channels, place, weights = [inputs.index(n) for n in names], names.index("z500"), GRID.mean_weights().float()
    deviation = torch.tensor(model.statistics.outputs.std, dtype=torch.float32).view(-1, 1, 1)
    generator, curves = torch.Generator().manual_seed(0), []
    for begin in at[at + np.timedelta64(GROWTH, "D") <= test.time.values[-1]]:
        first = int(np.searchsorted(known.time.values, begin))
        fields = [known[n].expand_dims(time=known.time) if "time" not in known[n].dims else known[n] for n in inputs]
        a = torch.tensor(np.stack([f.values[first : first + GROWTH + 1] for f in fields], 1), dtype=torch.float32)
        state = a[:1, channels].repeat(2, 1, 1, 1)
        state[1] += 0.01 * deviation * gaussian_field(len(names), GRID, length=10.0, generator=generator).float()
        apart = []
        for day in range(GROWTH + 1):
            apart.append(float(((state[1, place] - state[0, place]).square() * weights).sum().sqrt()))
            rows = a[day : day + 1].repeat(2, 1, 1, 1)
            rows[:, channels] = state
            with torch.no_grad():
                state = model(rows, GRID)
        curves.append(apart)
    mean = np.sqrt(np.square(curves).mean(0))
    days = np.arange(3, GROWTH + 1)
    result = {
        "command": "python benchmarks/accuracy/weather/skill.py growth",
        "starts": len(curves),
        "z500 rms by day": {str(d): _short(float(m)) for d, m in enumerate(mean)},
        "doubling_days_z500_from_day_3_on": round(float(np.log(2) / np.polyfit(days, np.log(mean[days]), 1)[0]), 2),
    }
    (HERE / "growth.json").write_text(json.dumps(result, indent=1))


def free(kind: str, years: int, folder: Path, data: Path) -> None:
    """Years without data but sunlight and the sea of the date: means of each year, or of each decade, beside the model's own years."""
    model, test = read_surrogate(folder / f"{kind}.anygrid"), xr.open_zarr(data / "speedy_test.zarr")
    past = training_years(data)
    days, asked, period = 365 * years, years, ("decade", 3650) if years > 10 else ("year", 365)
    generator = torch.Generator().manual_seed(0)
    names, inputs = [v.name for v in model.outputs], [v.name for v in model.inputs]
    first = test[[*STATE, *FORCING]].isel(time=0).load()
    a = torch.tensor(np.stack([first[n].values for n in inputs]), dtype=torch.float32)[None]
    channels = [inputs.index(n) for n in names]
    # The boundary data of the year that was stored, again and again (2010 has no leap day).
    known = [inputs.index(n) for n in FORCING[:2]]
    forced = torch.tensor(np.stack([test[n].isel(time=slice(0, 4 * 365, 4)).values for n in FORCING[:2]], 1), dtype=torch.float32)
    weights = GRID.mean_weights()
    w = weights.numpy()
    sums = torch.zeros(days // period[1], len(names), *GRID.shape, dtype=torch.float64)
    squares, series = torch.zeros_like(sums), np.zeros((days, len(names)))
    of = model.statistics.outputs
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (of.mean, of.std))
    stopped: int | None = None
    began = time.process_time()
    for day in range(days):
        a[:, known] = forced[day % 365]
        with torch.no_grad():
            u = model.draw(a, GRID, members=1, generator=generator)[0] if model.noise else model(a, GRID)
        a[:, channels] = u
        worst = ((u[0] - mean) / std).abs().max()
        if not bool(worst < 100):  # deviations; the largest of the model's own are below 10
            stopped = day
            break
        sums[day // period[1]] += u[0].double()
        squares[day // period[1]] += u[0].double().square()
        series[day] = (u[0].double() * weights).sum((-1, -2))
    cost = time.process_time() - began
    years, whole_ones = ((days if stopped is None else stopped) // length for length in (365, period[1]))
    sums, squares, series = sums[:whole_ones], squares[:whole_ones], series[: period[1] * whole_ones]
    found: dict[str, Any] = {}
    dates = np.unique(past.time.dt.year.values)
    for k, name in enumerate(names if whole_ones else ()):
        years_of = [past[name].sel(time=str(y)).values.astype(float) for y in dates]
        truth_mean = np.stack([y.mean(0) for y in years_of])
        means = (sums[:, k] / period[1]).numpy()
        between = [_rms(truth_mean[i] - truth_mean[j]) for i in range(len(dates)) for j in range(i)]
        truth_std = np.sqrt(np.mean([y.var(0) for y in years_of], 0))
        spread = np.sqrt(np.maximum((squares[:, k] / period[1]).numpy() - means**2, 0).mean(0))
        found[name] = {
            f"rms difference of a {period[0]}'s mean from the mean of the model's years": [
                _short(_rms(m - truth_mean.mean(0))) for m in means
            ],
            "rms difference of two years of the model": [_short(min(between)), _short(max(between))],
            f"global mean of each {period[0]}": [_short(float((w * m).sum())) for m in means],
            "global mean of each year of the model": [_short(float((w * m).sum())) for m in truth_mean],
            "daily standard deviation over the model's": _short(float((w * spread).sum() / (w * truth_std).sum())),
            "largest step of a daily global mean": _short(float(np.abs(np.diff(series[:, k])).max())),
        }
    path = HERE / "free_run.json"
    whole = json.loads(path.read_text()) if path.exists() else {}
    whole[kind if period[0] == "year" else f"{kind}, decades"] = {
        "asked_for_years": asked,
        "whole_years": years,
        "stopped_after_days": stopped,
        "processor_seconds": round(cost, 1),
        "variables": found,
    }
    path.write_text(json.dumps(whole, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("train", "forecast", "reference", "score", "growth", "free"))
    parser.add_argument("kind", nargs="?", choices=KINDS)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--unroll", type=int, default=3, help="days rolled out in the steps of the last quarter")
    parser.add_argument("--replay", type=int, default=0, help="mean number of days of the forecasts beside a training")
    parser.add_argument("--members", type=int, default=30)
    parser.add_argument("--amplitude", type=float, default=0.05)
    parser.add_argument("--every", type=int, default=30, help="days between starts of the reference")
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("data/weather"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if given.stage == "train":
        train(given.kind, given.steps, given.unroll, given.replay, given.out, given.data)
    elif given.stage == "forecast":
        make_forecast(given.kind, given.members, given.out, given.data)
    elif given.stage == "reference":
        reference(given.members, given.amplitude, given.every, given.out, given.data)
    elif given.stage == "score":
        score(given.out, given.data)
    elif given.stage == "growth":
        growth(given.out, given.data)
    else:
        free(given.kind, given.years, given.out, given.data)
