"""The main job for weather: a numerical model runs, a random operator learns from it, forecasts are verified beside the model's own.

``run_1.zarr, run_2.zarr`` (two independent runs of the model), ``training`` and ``training_random`` (checkpoints and logs: first without
noise, then with it from those weights), ``surrogate.anygrid``,
``forecast.zarr`` (the surrogate's ensembles), ``reference`` (the model's), ``metrics.json`` and ``report.html`` appear in that order in one
folder. What is there is not made again, so a job that was killed goes on where it stopped.

The second run is cut by time: its last part, after a gap as long as a forecast, is what forecasts are verified on. Nothing is
chosen by it: training and validation see the first run and the beginning of the second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from anygrid.errors import UsageError
from anygrid.forecast import Keep, ensemble
from anygrid.grid import Grid
from anygrid.io.weather_ensemble import run_ensemble
from anygrid.io.weather_store import generate_weather, restart_from
from anygrid.io.workers import one_thread
from anygrid.operators import default_operator
from anygrid.problems.speedy import Speedy
from anygrid.problems.speedy_engine import Engine
from anygrid.report.verification_page import verification_page
from anygrid.surrogate import Imposed, Surrogate, read_surrogate
from anygrid.surrogate.file import write_atomically
from anygrid.training import Build, Listener, fit
from anygrid.verification import Verification, verify

__all__ = ["DEGREE", "FORCING", "STATE", "WeatherRecipe", "WeatherWatcher", "joined", "run_weather", "weather_operator"]

STATE = (
    *("z500", "z850", "z250", "t850", "t500", "t250", "u850", "v850", "u500", "v500", "u250", "v250"),
    *("q700", "q850", "t2m", "msl"),
)
"""What is predicted. Pressure at the ground would say what ``msl`` says, with mountains in it that hide the weather."""
FORCING = ("toa_radiation", "sst", "orography", "land_sea_mask")
"""What is known: sunlight, the sea's temperature of the date, mountains, and where there is land."""
DEGREE = 30
"""Highest degree of what a step adds: that of the model."""
_JUDGED = ("z500", "t850", "t2m", "u850", "msl")
_STATION = (52.5, 13.4)  # Berlin
_DAY = np.timedelta64(1, "D")
_LEAST = 60  # days of training data below which nothing is learned


@dataclass(frozen=True)
class WeatherRecipe:
    """How much of everything the job takes.

    Parameters
    ----------
    budget
        Seconds of the whole job on two cores: two fifths for the model's runs, two fifths for training, a tenth for its ensemble.
    spin_up
        Days from rest that are thrown away of each run.
    lead
        Step of the surrogate.
    days
        Length of a forecast.
    starts, members
        Forecasts that are verified, and members of each.
    reference_members, amplitude
        Members of the model's own ensembles, and the relative noise they begin with (:func:`~anygrid.problems.speedy.perturbed`).
    noise
        Channels of noise of the surrogate.
    """

    budget: float = 1800.0
    spin_up: int = 120
    lead: str = "24h"
    days: int = 10
    starts: int = 10
    members: int = 20
    reference_members: int = 4
    amplitude: float = 0.05
    noise: int = 4
    seed: int = 0


@dataclass(frozen=True)
class WeatherWatcher:
    """Who is told what happens: days simulated by both runs, training progress, and lines to keep."""

    simulated: Callable[[int, int, float], None]
    trained: Listener
    say: Callable[[str], None]


@dataclass(frozen=True)
class _Plan:
    """What a budget comes to here: days of each run and seconds of training. Written once, so that a killed job keeps it."""

    days: int
    training: float
    second_per_day: float


def run_weather(
    recipe: WeatherRecipe, folder: Path, watcher: WeatherWatcher, *, operator: Build | None = None, command: str = ""
) -> Verification:
    """Carry out a recipe in ``folder``, or what is still missing there, and return the verification.

    Raises
    ------
    UsageError
        For a budget that leaves less than two months to learn from; when `jcm` is not installed.
    AnygridError
        Whatever the stages raise; what they had finished is kept.
    """
    plan = _planned(recipe, folder / "plan.json")
    test = plan.days - max(recipe.days + recipe.starts, plan.days // 4)
    watcher.say(
        f"two runs of {plan.days} days after {recipe.spin_up} of spin-up; training on all of the first and {test - recipe.days} days of "
        f"the second, test on its last {plan.days - test}"
    )
    runs = _generated(recipe, plan, folder, watcher)
    first, second = (xr.open_zarr(path) for path in runs)
    begin = second.time.values[0]
    past = second.sel(time=slice(None, begin + (test - recipe.days) * _DAY))
    later = second.sel(time=slice(begin + test * _DAY, None))
    surrogate = _trained(recipe, plan, [first, past], folder, watcher, operator)
    starts = later.time.values[0] + np.linspace(0, plan.days - test - recipe.days - 1, recipe.starts).astype(int) * _DAY
    watcher.say(f"forecasting {recipe.days} days from {recipe.starts} starts with {recipe.members} members")
    forecast = _forecast(recipe, surrogate, later, starts, folder / "forecast.zarr")
    watcher.say(f"the model's own ensemble: {recipe.reference_members} members from the same states, perturbed by {recipe.amplitude:g}")
    reference = _reference(recipe, runs[1], starts, folder / "reference")
    watcher.say("verifying")
    found = verify(
        forecast,
        later[list(STATE)],
        climatology=first[list(STATE)],
        reference=reference,
        variables=_JUDGED,
        station=_STATION,
        seed=recipe.seed,
        names=("surrogate", "SPEEDY's run", f"SPEEDY's own ensemble (perturbed by {recipe.amplitude:g})"),
    )
    facts = _facts(recipe, plan, surrogate, _seconds_a_day(recipe, surrogate))
    write_atomically(folder / "metrics.json", found.to_json().encode())
    write_atomically(folder / "report.html", verification_page(found, command, facts).encode())
    for fact in facts:
        watcher.say(fact)
    return found


def _problem(recipe: WeatherRecipe, start: str) -> Speedy:
    return Speedy(21600.0, start, (*STATE, *FORCING[:2]), recipe.spin_up)


def _planned(recipe: WeatherRecipe, path: Path) -> _Plan:
    """The plan of the folder, or one from the speed of the model on this machine."""
    if path.exists():
        return _Plan(**json.loads(path.read_text()))
    with Engine() as one, Engine() as two, ThreadPoolExecutor(2) as pool:
        # Both at once, as in the runs; the first call compiles.
        second_per_day = max(pool.map(_second_per_day, (one, two)))
    days = round(0.4 * recipe.budget / second_per_day) - recipe.spin_up
    least = _LEAST + 2 * recipe.days + recipe.starts
    if days < least:
        took = second_per_day * (least + recipe.spin_up) / 0.4 / 60
        raise UsageError(
            "run weather --budget",
            f"time for {least} days of each run after {recipe.spin_up} of spin-up",
            f"{max(days, 0)} days ({second_per_day:.2g} s a day here)",
            f"give it {took:.0f}m or more",
        )
    plan = _Plan(days, 0.4 * recipe.budget, second_per_day)
    write_atomically(path, json.dumps(asdict(plan)).encode())
    return plan


def _second_per_day(engine: Engine) -> float:
    _, state = engine.advance(engine.rest(np.datetime64("2000-01-01", "s")), 86400 // engine.unit, "last")
    began = time.monotonic()
    for _ in range(4):
        _, state = engine.advance(state, 86400 // engine.unit)
    return (time.monotonic() - began) / 4


def _generated(recipe: WeatherRecipe, plan: _Plan, folder: Path, watcher: WeatherWatcher) -> tuple[Path, Path]:
    """Both runs, side by side, each with a process of its own for the model; their seasons are half a year apart."""
    paths = folder / "run_1.zarr", folder / "run_2.zarr"
    done = [0, 0]

    def one(k: int) -> None:
        def tell(days: int, total: int, seconds: float) -> None:
            done[k] = days
            watcher.simulated(min(done) if min(done) else max(done) // 2, total, seconds)

        start = ("2000-01-01", "2001-07-01")[k]
        generate_weather(_problem(recipe, start), plan.days, paths[k], seed=2 * recipe.seed + k, progress=tell)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(2)))
    return paths


def _trained(
    recipe: WeatherRecipe, plan: _Plan, data: list[xr.Dataset], folder: Path, watcher: WeatherWatcher, operator: Build | None
) -> Surrogate:
    saved = folder / "surrogate.anygrid"
    if saved.exists():
        watcher.say(f"{saved} is there already")
        return read_surrogate(saved)
    names = (*STATE, *FORCING)
    train = partial(
        fit,
        [ds[list(names)] for ds in data],
        names,
        STATE,
        lead=recipe.lead,
        budget=plan.training / 2,
        optimizer="soap",
        gradient=0.1,
        seed=recipe.seed,
        listener=watcher.trained,
    )
    # A step on two draws takes twice as long as one without noise, and learns the mean no better.
    first = train(operator=operator or weather_operator, run=folder / "training")
    imposed = Imposed(waves=DEGREE)
    surrogate = train(parent=first, noise=recipe.noise, imposed=imposed, learning_rate=2e-3, run=folder / "training_random")
    surrogate.record["seconds"] += first.record["seconds"]
    surrogate.save(saved)
    return surrogate


def weather_operator(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    """The default operator on all points and with all waves up to :data:`DEGREE`: see docs/design-decisions.md."""
    return default_operator(inputs, outputs, grid, width=32, modes=2 * DEGREE + 1, stride=1)


def _forecast(recipe: WeatherRecipe, surrogate: Surrogate, truth: xr.Dataset, starts: Any, path: Path) -> xr.Dataset:
    """Ensembles from all starts."""
    steps = round(recipe.days * 24 / _hours(recipe.lead))
    return ensemble(
        surrogate,
        truth[[*STATE, *FORCING]].sel(time=starts),
        steps,
        recipe.members,
        inputs=surrogate.inputs,
        outputs=surrogate.outputs,
        stochastic=True,
        seed=recipe.seed,
        keep=Keep(members=range(recipe.members)),
        dt=surrogate.dt,
        domain=surrogate.grid,
        start="each",
        forcings=truth[list(FORCING[:2])],
        out=path,
        workers=2,
    )


def _seconds_a_day(recipe: WeatherRecipe, surrogate: Surrogate) -> float:
    """Processor time of one thread for a member's day among eight that are computed together, as ensembles do; the median of eight."""
    a = surrogate.in_mean[None, : len(surrogate.inputs), None, None].expand(-1, -1, *surrogate.grid.shape)
    generator, found = torch.Generator().manual_seed(0), []
    with one_thread(), torch.no_grad():
        for _ in range(9):
            began = time.process_time()
            surrogate.draw(a, surrogate.grid, members=8, generator=generator)
            found.append((time.process_time() - began) / 8)
    return 24 / _hours(recipe.lead) * float(np.median(found[1:]))


def _hours(lead: str) -> float:
    return float(lead.removesuffix("h"))


def _reference(recipe: WeatherRecipe, run: Path, starts: Any, folder: Path) -> xr.Dataset:
    """The model's own ensembles, a file for each start."""
    folder.mkdir(exist_ok=True)
    problem = Speedy(86400.0, "2000-01-01", _JUDGED, recipe.spin_up)

    def some(k: int) -> None:
        with Engine(problem.unit) as engine:
            for at in starts[k::2]:
                path = folder / f"{np.datetime_as_string(at, 'D')}.nc"
                if path.exists():
                    continue
                state = restart_from(run, np.datetime_as_string(at, "s"))
                members, days = recipe.reference_members, recipe.days
                found = run_ensemble(problem, state, members, days, amplitude=recipe.amplitude, seed=recipe.seed, engine=engine)
                partial = path.with_suffix(".partial")
                found.to_netcdf(partial)
                partial.rename(path)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(some, range(2)))
    return joined([xr.open_dataset(folder / f"{np.datetime_as_string(at, 'D')}.nc") for at in starts])


def joined(ensembles: list[xr.Dataset]) -> xr.Dataset:
    """Ensembles of several starts as one forecast, without their initial states."""
    parts = []
    for ds in ensembles:
        later = ds.isel(time=slice(1, None)).swap_dims(time="lead_time").drop_vars("time")
        parts.append(later.expand_dims(init_time=[ds.time.values[0]]))
    return xr.concat(parts, "init_time")


def _facts(recipe: WeatherRecipe, plan: _Plan, surrogate: Surrogate, each: float) -> list[str]:
    """What it cost, and from how many member-days on it was worth it."""
    data, training = 2 * plan.second_per_day * (plan.days + recipe.spin_up), float(surrogate.record["seconds"])
    saved, times = plan.second_per_day - each, plan.second_per_day / each
    repaid = f"are repaid after {(data + training) / saved:,.0f} member-days" if saved > 0 else "are never repaid"
    return [
        f"data: {2 * (plan.days + recipe.spin_up)} simulated days, {data:.0f} core-seconds; training: {training:.0f} s on "
        f"{surrogate.record['threads']} of the two cores",
        f"a member's day costs {1000 * each:.1f} ms of a core, the model's {plan.second_per_day:.2f} s, {times:.0f} times as much",
        f"data and training {repaid}",
        "the reference is SPEEDY at T30 (400 km, no day and night): skill against it says how well this model was learned, not how well "
        "the Earth is forecast; the surrogate starts from fields on pressure levels of the run, the reference from whole states of it",
    ]
