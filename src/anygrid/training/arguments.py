"""What ``fit`` was asked for, checked and completed with what the data say."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.io.source import free_memory
from anygrid.surrogate import Surrogate
from anygrid.training.budget import parse_duration
from anygrid.training.checkpoints import read_run
from anygrid.training.coarsen import coarse_grid
from anygrid.training.data import TrainingData
from anygrid.training.loader import Loader
from anygrid.training.losses import RelativeNorm
from anygrid.training.physics import Physics
from anygrid.training.ranks import Ranks
from anygrid.training.schedule import Plan, phases
from anygrid.training.settings import DEFAULTS, Optimizer, Settings
from anygrid.training.symmetries import check_symmetries

__all__ = [
    "Build",
    "arguments_of",
    "built",
    "check",
    "check_replay",
    "check_same",
    "device_of",
    "increments_vary_less",
    "leads_unrolled",
    "learning_rate_of",
    "length_of",
    "loss_of",
    "memory_limit_of",
    "plan_of",
    "variables",
]

Build = Callable[[int, int, Grid], nn.Module]


def memory_limit_of(given: int | None, run: str | Path | None, processes: int) -> int:
    """Bytes for data in each of the processes of a machine.

    A run keeps the limit it began with: the order of streamed samples depends on it.
    """
    described = Path(run, "run.toml") if run is not None else None
    if given is None and described is not None and described.exists():
        given = read_run(described).get("data", {}).get("memory_limit")
    return free_memory() // 4 // processes if given is None else given


def device_of(given: str | None, ranks: Ranks) -> str:
    """The device by name; on several ranks ``"cuda"`` is another one for each, which :func:`~anygrid.training.ranks.join` chose.

    Raises
    ------
    UsageError
        For one device by number on several ranks.
    """
    if given is not None and ":" in given and not ranks.alone:
        raise UsageError("device", "cpu or cuda on several processes, which choose their own", repr(given), "leave it out")
    return given or ("cuda" if torch.cuda.is_available() else "cpu")


def check_same(ranks: Ranks, arguments: Mapping[str, Any]) -> None:
    """Refuse ranks that were given different arguments or data.

    Raises
    ------
    UsageError
        With the first entry in which they differ.
    """
    wanted = ranks.broadcast(arguments)
    differ = [f"{table}.{key}" for table in wanted for key in wanted[table] if arguments[table].get(key) != wanted[table][key]]
    found = [(rank, names[0]) for rank, names in enumerate(ranks.gather(differ)) if names]
    if found:
        where = f"{found[0][1]} of process {found[0][0]} differs from that of the first"
        raise UsageError(
            "fit", "the same arguments and data in all processes", where, "give all the same; for separate trainings start them apart"
        )


def variables(names: str | Sequence[str] | None, what: str, use: Physics | None) -> tuple[str, ...]:
    """Names as said, or those of the problem; both must agree, since its equation takes the channels in its own order."""
    own = None if use is None else tuple(v.name for v in (use.problem.inputs if what == "inputs" else use.problem.outputs))
    if names is None:
        if own is None:
            raise UsageError("fit", f"{what}", "none", "name variables of the data set")
        return own
    listed = _names(names, what)
    if own is not None and listed != own:
        raise UsageError(what, f"the problem's {what} {', '.join(own)}", ", ".join(listed), "leave them out, or leave out physics")
    return listed


def _names(names: str | Sequence[str], what: str) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(names)
    if not listed or len(set(listed)) != len(listed):
        raise UsageError(what, "one or more different variables", repr(listed), "name variables of the data set")
    return listed


def length_of(budget: float | str | None, steps: int | None, epochs: float | None) -> float | None:
    """Budget in seconds, or ``None`` when steps or epochs are given."""
    given = {"budget": budget, "steps": steps, "epochs": epochs}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError("fit", "one of budget, steps and epochs", " and ".join(named), "leave one")
    if budget is not None:
        return parse_duration(budget)
    if not named:
        return DEFAULTS.budget
    least = 1 if steps is not None else 1e-9
    value = given[named[0]]
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= least):
        raise UsageError(named[0], "a number above 0", repr(value))
    return None


def learning_rate_of(seconds: float | None, steps: int | None) -> float:
    """Peak of the schedule by the length of the training."""
    short, long = DEFAULTS.learning_rates
    if seconds is not None:
        return short if seconds <= DEFAULTS.short_budget else long
    return short if steps is not None and steps <= DEFAULTS.short_steps else long


def optimizer_of(given: Optimizer | None, gradient: float | None, seconds: float | None, steps: int, *, suited: bool) -> Optimizer:
    """The optimiser that was asked for; else SOAP with its gradient term, where the training suits it and is long enough."""
    if given is not None:
        return given
    long = steps >= DEFAULTS.soap_steps if seconds is None else seconds >= DEFAULTS.soap_budget
    return "soap" if long and suited and gradient != 0 else "adamw"


def built(operator: nn.Module | Build | None, inputs: int, outputs: int, grid: Grid, seed: int) -> nn.Module:
    """The operator: a copy of the one given, one made by the function given, or the default."""
    if isinstance(operator, nn.Module):
        return copy.deepcopy(operator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if operator is not None:
            return operator(inputs, outputs, grid)
        from anygrid.operators import default_operator  # late: training with one's own operator needs none of ours

        return default_operator(inputs, outputs, grid)


def arguments_of(module: Any) -> dict[str, Any]:
    """Constructor arguments of an operator: the one attribute its contract asks for beside ``forward``."""
    return dict(module.arguments)


def increments_vary_less(found: TrainingData, names: tuple[tuple[str, ...], tuple[str, ...]]) -> bool:
    """Whether what a lead adds varies less than the states, on average over outputs."""
    moments = found.statistics
    if moments.increments is None or not set(names[0]) & set(names[1]):
        return False
    ratios = [step / state for step, state in zip(moments.increments.std, moments.outputs.std, strict=True)]
    return sum(ratios) < len(ratios)


def leads_unrolled(unroll: int | None, found: TrainingData) -> int:
    """Leads to roll out at the end: at most as many as the shortest data set's trajectories hold."""
    if not found.reference.evolution:
        if unroll not in (None, 1):
            raise UsageError("unroll", "an evolution to roll out", "steady data", "give lead=... as well")
        return 1
    if unroll is not None:
        return unroll
    return max(k for k in range(1, DEFAULTS.unroll + 1) if k == 1 or all(pairs.count(k) > 0 for pairs in found.groups))


def check(settings: Settings, found: TrainingData) -> None:
    """Refuse settings that do not fit each other or the data."""
    if min(settings.batch) < 1:
        raise UsageError("batch", "1 or more samples", str(min(settings.batch)))
    if not (settings.learning_rate > 0 and settings.weight_decay >= 0 and settings.gradient >= 0):
        raise UsageError("fit", "learning_rate above 0, weight_decay and gradient of 0 or more", "a negative one, or a rate of 0")
    if settings.keep_best and not found.held_out:
        raise UsageError("keep_best", "samples held out", "validation=0", "hold some out, for example validation=0.1")
    for pairs in found.groups:
        check_symmetries(settings.augment, pairs.grid)
        for _, stride in settings.resolutions:
            coarse_grid(pairs.grid, stride)


def check_replay(leads: int, found: TrainingData, *, alone: bool) -> None:
    """Refuse forecasts beside a training that cannot run there: ``alone`` says that there is no equation, search or other process.

    Raises
    ------
    UsageError
        For a negative number, a map that is no evolution of all its outputs, and what is not alone.
    """
    first = found.groups[0]
    if leads < 0:
        raise UsageError("replay", "a number of leads from 0 on", str(leads))
    if leads and (not first.evolution or {v.name for v in first.outputs} - {v.name for v in first.inputs}):
        raise UsageError("replay", "an evolution, whose outputs are all inputs", "another map", "leave replay out")
    if leads and not alone:
        raise UsageError("replay", "data alone, in one process, without physics and search", "one of them", "leave it or replay out")


def loss_of(model: Surrogate, found: TrainingData, gradient: float) -> RelativeNorm:
    """Loss with channels scaled like the operator's output, and the root mean square of the outputs as the typical norm."""
    outputs = found.statistics.outputs
    deviations = [0.0 if constant else std for constant, std in zip(outputs.constant, outputs.std, strict=True)]
    typical = [math.hypot(mean, std) for mean, std in zip(outputs.mean, deviations, strict=True)]
    return RelativeNorm(model.out_std.double().cpu(), torch.tensor(typical, dtype=torch.float64), gradient)


def plan_of(settings: Settings, loader: Loader) -> Plan:
    """Phases of the training, in steps where its length is given in steps or epochs."""
    plan = phases(settings.resolutions, settings.unroll, DEFAULTS.unroll_fraction)
    if settings.budget is not None:
        return plan
    if settings.steps is not None:
        return plan.stepped(settings.steps)
    assert settings.epochs is not None
    return plan.stepped(max(1, round(settings.epochs * len(loader.epoch(0, 1)))))
