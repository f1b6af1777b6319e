"""Ways to an ensemble, beside a random surrogate: perturbed starts, bred starts, and several independent trainings.

    D=benchmarks/accuracy/weather/ways.py
    python $D train --out data/weather       # four trainings without noise, 600 steps each
    python $D amplitude --out data/weather   # of perturbed starts, chosen on the last twentieth of the first training run
    python $D forecast --out data/weather
    python $D score --out data/weather       # writes ways.json

After `skill.py train` and `skill.py forecast`. The same starts (of bred ones, every third) and the same scores, of two fields.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from skill import DAYS, EVERY, HERE, JUDGED, scores, starts, training_runs, training_years

from anygrid.forecast import Keep, Perturbation, breed, ensemble
from anygrid.surrogate import Imposed, Surrogate, read_surrogate
from anygrid.training import fit
from anygrid.weather_pipeline import DEGREE, FORCING, STATE, weather_operator

SEVERAL, STEPS, MEMBERS = 4, 600, 30
BREEDING = 10  # days
SCORED = ("z500", "t2m")
TRIED = (0.05, 0.1, 0.15, 0.2, 0.3)  # standard deviations of a variable
NAMES = [*STATE, *FORCING]


def train(folder: Path, data: Path) -> None:
    """Trainings that differ by their seed, of the weights and of the order of samples."""
    runs = [ds[NAMES] for ds in training_runs(data)]
    for seed in range(SEVERAL):
        if not (folder / f"several_{seed}.anygrid").exists():
            model = fit(
                runs,
                NAMES,
                STATE,
                lead="24h",
                steps=STEPS,
                validation=0.05,
                operator=weather_operator,
                optimizer="soap",
                gradient=0.1,
                seed=seed,
                imposed=Imposed(waves=DEGREE),
                run=folder / f"several_{seed}.run",
            )
            model.save(folder / f"several_{seed}.anygrid")
            print(seed, model.record["validation_error"], flush=True)


def perturbed(
    model: Surrogate, initial: xr.Dataset, amplitude: float, days: int, members: int, known: xr.Dataset, out: Path | None
) -> xr.Dataset:
    """Random fields on every start, of a part of each variable's deviation."""
    return ensemble(
        model,
        initial,
        days,
        members,
        inputs=model.inputs,
        outputs=model.outputs,
        perturbation=Perturbation(tuple(amplitude * s for s in model.statistics.outputs.std), 10.0),
        keep=Keep(mean=False, std=False, members=range(members)),
        dt=model.dt,
        domain=model.grid,
        start="each",
        forcings=known,
        out=out,
        workers=0,
    )


def amplitude(folder: Path, data: Path) -> float:
    """Of :data:`TRIED` the one whose mean logarithm of spread over error is least in size on the held-out part of the first run."""
    model, ds = read_surrogate(folder / "deterministic.anygrid"), training_runs(data)[0][NAMES]
    late = ds.isel(time=slice(-round(0.05 * len(ds.time)), None)).load()
    begin = late.isel(time=slice(0, len(late.time) - 4 * DAYS, 4 * DAYS))
    weights = model.grid.mean_weights().numpy()
    found: dict[float, float] = {}
    for tried in TRIED:
        out = perturbed(model, begin, tried, DAYS, 8, late[list(FORCING[:2])], None)
        logarithms = []
        for name in JUDGED:
            valid = out.valid_time.values
            truth = late[name].sel(time=xr.DataArray(valid.ravel())).values.reshape(*valid.shape, *model.grid.shape)
            x = out[name].transpose("member", *out.valid_time.dims, "lat", "lon").values.astype(float)
            s, e = ((f * weights).sum((-1, -2)).mean(0) for f in (x.var(0, ddof=1), (x.mean(0) - truth) ** 2))
            logarithms.append(0.5 * np.log((9 / 8) * s / e).mean())
        found[tried] = float(np.mean(logarithms))
        print(f"amplitude {tried:g}: spread over error {np.exp(found[tried]):.3f}", flush=True)
    best = min(found, key=lambda a: abs(found[a]))
    (folder / "amplitude.json").write_text(
        json.dumps({"chosen": best, "spread over error": {str(a): round(float(np.exp(v)), 3) for a, v in found.items()}})
    )
    return best


def forecast(folder: Path, data: Path) -> None:
    """The three ensembles from the starts of the test year."""
    model, test = read_surrogate(folder / "deterministic.anygrid"), xr.open_zarr(data / "speedy_test.zarr")[NAMES]
    known, at = test[list(FORCING[:2])], starts(test)
    size = json.loads((folder / "amplitude.json").read_text())["chosen"]
    perturbed(model, test.sel(time=at), size, DAYS, MEMBERS, known, folder / "perturbed.zarr")
    if not (folder / "several.nc").exists():
        parts = []
        for seed in range(SEVERAL):
            one = read_surrogate(folder / f"several_{seed}.anygrid")
            parts.append(
                ensemble(
                    one, test.sel(time=at), DAYS, inputs=one.inputs, outputs=one.outputs, dt=one.dt, domain=one.grid, start="each",
                    forcings=known, workers=0,
                )[list(JUDGED)]
            )  # fmt: skip
        xr.concat(parts, xr.DataArray(np.arange(SEVERAL), dims="member", name="member", attrs={"standard_name": "realization"})).to_netcdf(
            folder / "several.nc"
        )
    if not (folder / "bred.nc").exists():
        parts = []
        for day in starts(test, 3 * EVERY)[1:]:
            history = test.sel(time=slice(day - np.timedelta64(BREEDING, "D"), day)).isel(time=slice(None, None, 4)).load()
            given = {"inputs": model.inputs, "outputs": model.outputs, "domain": model.grid}
            bred = breed(model, history, MEMBERS, deviation=model.statistics.outputs.std, amplitude=size, **given)
            keep = Keep(mean=False, std=False, members=range(MEMBERS))
            parts.append(
                ensemble(model, bred, DAYS, member_dim="member", keep=keep, dt=model.dt, start="each", forcings=known, workers=0, **given)[
                    list(JUDGED)
                ]
            )
        xr.concat(parts, "init_time").to_netcdf(folder / "bred.nc")


def score(folder: Path, data: Path) -> None:
    """All of them beside the random surrogate."""
    test = xr.open_zarr(data / "speedy_test.zarr")[list(SCORED)].isel(time=slice(0, None, 4))
    past = training_years(data)[list(SCORED)].load()
    found = {
        "random": xr.open_zarr(folder / "random.zarr")[list(SCORED)],
        "perturbed starts": xr.open_zarr(folder / "perturbed.zarr")[list(SCORED)],
        "bred starts": xr.open_dataset(folder / "bred.nc")[list(SCORED)],
        "several trainings": xr.open_dataset(folder / "several.nc")[list(SCORED)],
    }
    result = {
        "command": "see benchmarks/accuracy/weather/ways.py",
        "members": {name: ds.sizes["member"] for name, ds in found.items()},
        "amplitude of starts": json.loads((folder / "amplitude.json").read_text()),
        "starts": {name: ds.sizes["init_time"] for name, ds in found.items()},
        "scores": {name: scores(ds, test, past) for name, ds in found.items()},
    }
    (HERE / "ways.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("train", "amplitude", "forecast", "score"))
    parser.add_argument("--out", type=Path, default=Path("data/weather"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    {"train": train, "amplitude": amplitude, "forecast": forecast, "score": score}[given.stage](given.out, given.data)
