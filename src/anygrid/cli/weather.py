"""`anygrid generate weather`, a long run of the numerical weather model, and `anygrid run weather`, from there to a verified ensemble."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from anygrid.cli import names
from anygrid.cli.output import check_writable, disk_errors
from anygrid.cli.requests import ProblemRequest, open_run
from anygrid.cli.talk import Talk, clock
from anygrid.cli.verifying import show
from anygrid.errors import UsageError

__all__ = ["generate_weather", "run_weather"]


def generate_weather(
    output: Annotated[Path, typer.Option("-o", "--out", "--output", help="The Zarr store to write, such as speedy.zarr.")],
    years: Annotated[int | None, typer.Option(help="Calendar years from --start on.")] = None,
    days: Annotated[int | None, typer.Option(help="Days, instead of years.")] = None,
    start: Annotated[str, typer.Option(help="Date of the first fields.")] = "2000-01-01",
    variables: Annotated[
        str | None,
        typer.Option(help="Short names with commas: z500,t850,t2m,msl,toa_radiation,sst. Any pressure from 30 to 1000 hPa."),
    ] = None,
    every: Annotated[int, typer.Option(help="Hours between fields; a divisor of 24.")] = 6,
    seed: Annotated[int, typer.Option(help="Decides the noise the run begins with, and so the weather.")] = 0,
    spin_up: Annotated[int, typer.Option(help="Days before --start, from air at rest, that are thrown away.")] = 180,
    restart_days: Annotated[int, typer.Option(help="Days between the states kept to start again from.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished store.")] = False,
) -> None:
    """Run the numerical weather model for years and write its fields. Killed, the same command continues.

    It needs `pip install 'anygrid[weather]'` (jcm: SPEEDY at T30, 48x96 points). docs/weather-model.md says what it can do and what not.

    \b
    anygrid generate weather --years 5 --out speedy.zarr
    """
    import numpy as np

    from anygrid.io.weather_store import generate_weather as make
    from anygrid.problems.speedy import Speedy

    if output.suffix != ".zarr":
        hint = f"for example --out {output.with_suffix('.zarr').name}"
        raise UsageError(f"--out {output}", "a name that ends in .zarr", repr(output.name), hint)
    if (years is None) == (days is None):
        raise UsageError("generate weather", "--years or --days", "both" if years else "neither", "for example --years 5")
    if years is not None and years < 1:
        raise UsageError("--years", "1 or more", str(years))
    if every < 1 or 24 % every:
        raise UsageError("--every", "a divisor of 24", str(every), "for example --every 6")
    check_writable(output.parent)
    problem = Speedy(3600.0 * every, start, _names(variables), spin_up)
    if days is None:
        assert years is not None
        first = np.datetime64(start, "D")
        year, rest = first.astype("datetime64[Y]"), first - first.astype("datetime64[Y]").astype("datetime64[D]")
        days = int(((year + years).astype("datetime64[D]") + rest - first) / np.timedelta64(1, "D"))
    talk, seconds, before = Talk(), 0.0, -1

    def tell(done: int, total: int, so_far: float) -> None:
        nonlocal seconds, before
        seconds, before = so_far, done if before < 0 else before
        talk.simulated(done, total, so_far, before)

    with talk.work(), disk_errors(output):
        make(problem, days, output, seed=seed, restart_days=restart_days, overwrite=overwrite, progress=tell)
    print(f"{days} days in {clock(seconds)}; `anygrid info {output}` shows what is in it", file=sys.stderr)
    print(output)


def run_weather(request: ProblemRequest, folder: Path, overwrite: bool) -> None:
    """Carry out `anygrid run weather`.

    Raises
    ------
    UsageError
        For options of other jobs, and what the job itself raises.
    """
    from anygrid.training import parse_duration
    from anygrid.weather_pipeline import WeatherRecipe, WeatherWatcher
    from anygrid.weather_pipeline import run_weather as carry_out

    free = ("problem", "budget", "seed", "operator", "width", "modes", "depth")
    plain = ProblemRequest(request.problem)
    other = [f.name for f in dataclasses.fields(request) if f.name not in free and getattr(request, f.name) != getattr(plain, f.name)]
    if other:
        option = "--samples" if other[0] == "n" else "--set" if other[0] == "settings" else f"--{other[0].replace('_', '-')}"
        hint = "for other sizes use `anygrid generate weather`, `fit`, `forecast` and `verify`: docs/your-own-weather-model.md"
        raise UsageError("run weather", "--budget, --seed, --operator, --width, --modes, --depth, --out", option, hint)
    build = names.operator_named(request.operator, width=request.width, modes=request.modes, depth=request.depth)
    recipe = WeatherRecipe(seed=request.seed or 0)
    if request.budget is not None:
        recipe = dataclasses.replace(recipe, budget=parse_duration(request.budget, "--budget"))
    if open_run(folder, request, overwrite):
        print(f"continuing the run in {folder}", file=sys.stderr)
    talk = Talk(log=folder / "log.txt")
    before: list[int] = []

    def simulated(done: int, total: int, seconds: float) -> None:
        before.append(done)
        talk.simulated(done, total, seconds, before[0])

    with talk.work(), disk_errors(folder):
        command = f"anygrid run {os.path.relpath(folder / 'run.toml')}"
        found = carry_out(recipe, folder, WeatherWatcher(simulated, talk.trained, talk.say), operator=build, command=command)
        talk.say(f"the whole run took {clock(talk.seconds)}")
    show(found)
    print(f"report: {folder / 'report.html'}; numbers: {folder / 'metrics.json'}; surrogate: {folder / 'surrogate.anygrid'}")


def _names(variables: str | None) -> tuple[str, ...]:
    from anygrid.problems.speedy_fields import VARIABLES

    return VARIABLES if variables is None else tuple(name.strip() for name in variables.split(",") if name.strip())
