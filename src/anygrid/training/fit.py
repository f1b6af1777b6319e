"""fit: from data to a surrogate, with a default for everything but data, inputs and outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import nn

from anygrid.errors import DataError, UsageError
from anygrid.fields import Layout
from anygrid.grid import Grid
from anygrid.io.source import free_memory
from anygrid.problems.base import Problem
from anygrid.surrogate import Imposed, Surrogate, imposed_by
from anygrid.training.allocator import keep_large_blocks
from anygrid.training.budget import parse_duration
from anygrid.training.checkpoints import RunFolder, State, read_run
from anygrid.training.coarsen import coarse_grid
from anygrid.training.data import TrainingData, gather
from anygrid.training.loader import Loader
from anygrid.training.loop import Trainer
from anygrid.training.losses import RelativeNorm
from anygrid.training.physics import Equations, Physics, asked, asked_of_data, check_data, completed, limit, unseen
from anygrid.training.probes import probes, usual_resolution
from anygrid.training.progress import Listener, Progress
from anygrid.training.record import inferred, record
from anygrid.training.schedule import Plan, phases
from anygrid.training.settings import DEFAULTS, Precision, Settings
from anygrid.training.symmetries import Symmetry, check_symmetries

__all__ = ["Build", "fit"]

Build = Callable[[int, int, Grid], nn.Module]
_VALIDATION_ROWS = 512  # held-out samples looked at in one validation, evenly spaced


def fit(
    data: xr.Dataset | Sequence[xr.Dataset] | Problem,
    inputs: str | Sequence[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    *,
    lead: int | str | None = None,
    physics: bool | Problem | Physics = False,
    imposed: Imposed | None = None,
    validation: float | xr.Dataset | Sequence[xr.Dataset] = DEFAULTS.validation,
    budget: float | str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    operator: nn.Module | Build | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float = DEFAULTS.weight_decay,
    seed: int = 0,
    device: str | None = None,
    precision: Precision = "float32",
    unroll: int | None = None,
    increment: bool | None = None,
    gradient: float = 0.0,
    resolutions: Sequence[tuple[float, int]] = (),
    augment: Sequence[Symmetry] = (),
    keep_best: bool = False,
    layout: Layout | None = None,
    periodic: Mapping[str, bool] | None = None,
    memory_limit: int | None = None,
    run: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    listener: Listener | None = None,
) -> Surrogate:
    """Train an operator that maps ``inputs`` to ``outputs``; what was inferred is told and kept in ``record["inferred"]``.

    Parameters
    ----------
    data
        One data set, or several on different grids of one domain; a batch holds samples of one grid. Or a problem, with
        ``physics=True``: then the operator is trained on the equation alone, on inputs from the problem's sampler, and a few solved
        samples serve for scales and validation only.
    inputs, outputs
        Names of variables; not needed where a problem says them.
    physics
        The equation that the data obey: its residual, on inputs drawn afresh and on a finer grid, joins the loss. ``True`` takes the
        problem that wrote the data; see :class:`~anygrid.training.physics.Physics` for grid, batch and weights.
    imposed
        What the outputs satisfy exactly; by default what the equation of ``physics`` says of walls and conserved means, else nothing.
        See :class:`~anygrid.surrogate.Imposed`, also for maps that are to be dissipative.
    lead
        For an evolution: how far ahead the outputs lie, as a number of time indices or a duration such as ``"1month"``.
        Without it the outputs belong to the same sample and time as the inputs.
    validation
        Part of the samples held out, taken by trajectory, or by time (the last part) of a single trajectory; or data of its own;
        0 holds nothing out.
    budget, steps, epochs
        Length of the training: seconds or text such as ``"10m"``, or a number of optimiser steps, or of passes through the
        data. At most one; without any, a budget of 5 minutes. The learning rate reaches zero when the budget ends. The
        clock counts steps, measuring and validation, not the reading of statistics before the first step.
    operator
        A module with ``forward(a, grid, query=None)`` and ``arguments`` (copied, so that yours is not changed), or a function
        ``(inputs, outputs, grid) -> module``; by default the one of :func:`anygrid.operators.default_operator`.
    batch
        Samples in a step; by default about 32768 points: 4 at 85 x 85, at most 8.
    seed
        Decides the initial weights (unless a module is given), the order of samples, and the augmentation.
    learning_rate
        Peak of the schedule; default 4e-3 up to 5 minutes or 5000 steps, 2e-3 for longer trainings.
    precision
        ``"bfloat16"`` computes the operator in mixed precision (CUDA only).
    unroll
        Leads rolled out, and differentiated through, in each step of the last quarter of the budget (evolution only;
        default 3), so that roll-outs stay stable; 1 never unrolls.
    increment
        Whether to predict what the output adds to the input of the same name. Default: for an evolution whose increments vary
        less than its states (they do not when most of the input is forgotten within the lead).
    gradient
        Weight of the gradient in the loss: see :class:`~anygrid.training.losses.RelativeNorm`.
    resolutions
        ``(fraction of the budget, stride)`` pairs: train first on every ``stride``-th point. Default: full resolution.
    augment
        Symmetries of the problem to train with, from :mod:`anygrid.training.symmetries`. Default: none.
    keep_best
        Return the weights of the best validation rather than the last (the schedule ends at zero, so the last are usually the
        best; with few samples they may not be).
    layout, periodic
        Roles of the dimensions and periodicity of the axes, where the data do not tell.
    memory_limit
        Bytes of data that may be kept in memory; larger data are streamed. Default: a quarter of what is free.
    run
        Folder for ``run.toml``, log, checkpoints and the surrogate. A folder that holds a run of the same arguments and data
        is resumed, exactly; one of other arguments is refused.
    checkpoint_seconds
        Training time between checkpoints.
    listener
        Called with a :class:`~anygrid.training.progress.Progress` a few times a second.

    Raises
    ------
    UsageError
        For a budget of 0, two lengths at once, an option that does not fit the data, a run folder of another run.
    DataError
        For data that cannot be trained on: missing variables, NaN, one sample only, outputs that never vary.
    TrainingError
        When the loss is not finite; the last checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C, with a checkpoint saved; the same call resumes.
    """
    tell = listener or _silent
    keep_large_blocks()
    seconds = _length(budget, steps, epochs)
    use, labels = asked(data, physics), not isinstance(data, Problem)
    if isinstance(data, Problem):
        assert use is not None
        unseen(data, data.grid(17))  # refuses what cannot be trained on before more is solved
        data = validation = probes(data, use.resolution or usual_resolution(data))
    names = _variables(inputs, "inputs", use), _variables(outputs, "outputs", use)
    if use is not None and use.problem.dt is not None and lead is None:
        lead = 1
    found = gather(data, validation, *names, lead=lead, layout=layout, periodic=periodic, memory_limit=_memory_limit(memory_limit, run))
    use = asked_of_data(found.problem) if physics is True and labels else use
    first = found.reference
    if use is not None:
        check_data(use.problem, first)
    increment = _increments_vary_less(found, names) if increment is None else increment
    sizes = [batch if batch is not None else max(1, min(DEFAULTS.batch, DEFAULTS.batch_points // p.grid.size)) for p in found.groups]
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    module = _operator(operator, len(names[0]), len(names[1]), first.grid, seed)
    imposed = (Imposed() if use is None else imposed_by(use.problem)) if imposed is None else imposed
    use = None if use is None else completed(use, first.grid.shape, DEFAULTS.batch_points, labels=labels)
    settings = Settings(
        inputs=names[0],
        outputs=names[1],
        lead=lead,
        validation=float(validation) if isinstance(validation, float | int) else None,
        budget=seconds,
        steps=steps,
        epochs=epochs,
        operator=type(module).__name__,
        operator_arguments=_arguments(module),
        batch=tuple(sizes),
        learning_rate=_learning_rate(seconds, steps) if learning_rate is None else learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        device=chosen,
        precision=precision,
        unroll=_unroll(unroll, found) if labels else 1,
        increment=increment,
        gradient=gradient,
        resolutions=tuple((float(f), int(s)) for f, s in resolutions),
        augment=tuple(augment),
        keep_best=keep_best,
        checkpoint_seconds=checkpoint_seconds,
        physics=None if use is None else use.to_table(),
        imposed=imposed.to_json() if imposed else None,
        labels=labels,
    )
    _check(settings, found)

    model = Surrogate(
        module,
        first.inputs,
        first.outputs,
        found.statistics,
        first.grid,
        first.dt,
        increment,
        found.attributes,
        seen=found.seen(),
        imposed=imposed,
        problem=found.problem if use is None else use.problem,
    )
    if not model.out_std.any():
        raise DataError("fit", "outputs that change from input to output", "increments that are constant", "train with increment=False")
    loss = _loss(model, found, gradient)
    equations = None if use is None else Equations(use, loss, seed, torch.device(chosen), settings.augment)
    said = inferred(settings, found, module, equations, default_length=budget is None and seconds is not None)
    if equations is not None:
        said.append(limit(equations.problem, equations.grid))
    for text in said:
        tell(Progress(message=text))
    loader = Loader(found.groups, sizes, seed)
    held_out = Loader(found.held_out, [max(sizes)] * len(found.held_out), seed) if found.held_out else None
    folder = RunFolder(Path(run), {"fit": settings.to_table(), "data": found.fingerprint()}) if run is not None else None
    rows = min(_VALIDATION_ROWS, max((len(p) for p in found.held_out), default=0))
    trainer = Trainer(model.to(chosen), loader, held_out, loss, settings, folder, tell, equations)
    state = trainer.run(State(_plan(settings, loader), torch.get_num_threads(), validation_rows=rows))
    model.record.update(record(settings, state, said, model, found))
    model.cpu().eval()
    if folder:
        model.save(folder.surrogate)
    return model


def _memory_limit(given: int | None, run: str | Path | None) -> int:
    """Bytes for data. A run keeps the limit it began with: the order of streamed samples depends on it."""
    described = Path(run, "run.toml") if run is not None else None
    if given is None and described is not None and described.exists():
        given = read_run(described).get("data", {}).get("memory_limit")
    return free_memory() // 4 if given is None else given


def _silent(progress: Progress) -> None:
    """Listen to nothing."""


def _variables(names: str | Sequence[str] | None, what: str, use: Physics | None) -> tuple[str, ...]:
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


def _length(budget: float | str | None, steps: int | None, epochs: float | None) -> float | None:
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


def _learning_rate(seconds: float | None, steps: int | None) -> float:
    short, long = DEFAULTS.learning_rates
    if seconds is not None:
        return short if seconds <= DEFAULTS.short_budget else long
    return short if steps is not None and steps <= DEFAULTS.short_steps else long


def _operator(operator: nn.Module | Build | None, inputs: int, outputs: int, grid: Grid, seed: int) -> nn.Module:
    if isinstance(operator, nn.Module):
        return copy.deepcopy(operator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if operator is not None:
            return operator(inputs, outputs, grid)
        from anygrid.operators import default_operator  # late: training with one's own operator needs none of ours

        return default_operator(inputs, outputs, grid)


def _arguments(module: Any) -> dict[str, Any]:
    """Constructor arguments of an operator: the one attribute its contract asks for beside ``forward``."""
    return dict(module.arguments)


def _increments_vary_less(found: TrainingData, names: tuple[tuple[str, ...], tuple[str, ...]]) -> bool:
    moments = found.statistics
    if moments.increments is None or not set(names[0]) & set(names[1]):
        return False
    ratios = [step / state for step, state in zip(moments.increments.std, moments.outputs.std, strict=True)]
    return sum(ratios) < len(ratios)


def _unroll(unroll: int | None, found: TrainingData) -> int:
    """Leads to roll out at the end: at most as many as the shortest data set's trajectories hold."""
    if not found.reference.evolution:
        if unroll not in (None, 1):
            raise UsageError("unroll", "an evolution to roll out", "steady data", "give lead=... as well")
        return 1
    if unroll is not None:
        return unroll
    return max(k for k in range(1, DEFAULTS.unroll + 1) if k == 1 or all(pairs.count(k) > 0 for pairs in found.groups))


def _check(settings: Settings, found: TrainingData) -> None:
    if settings.precision == "bfloat16" and not settings.device.startswith("cuda"):
        raise UsageError("precision", "float32 on this device", "bfloat16", "bfloat16 is for CUDA devices")
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


def _loss(model: Surrogate, found: TrainingData, gradient: float) -> RelativeNorm:
    """Loss with channels scaled like the operator's output, and the root mean square of the outputs as the typical norm."""
    outputs = found.statistics.outputs
    deviations = [0.0 if constant else std for constant, std in zip(outputs.constant, outputs.std, strict=True)]
    typical = [math.hypot(mean, std) for mean, std in zip(outputs.mean, deviations, strict=True)]
    return RelativeNorm(model.out_std.double().cpu(), torch.tensor(typical, dtype=torch.float64), gradient)


def _plan(settings: Settings, loader: Loader) -> Plan:
    plan = phases(settings.resolutions, settings.unroll, DEFAULTS.unroll_fraction)
    if settings.budget is not None:
        return plan
    if settings.steps is not None:
        return plan.stepped(settings.steps)
    assert settings.epochs is not None
    return plan.stepped(max(1, round(settings.epochs * len(loader.epoch(0, 1)))))
