"""What a training says of itself: what was inferred before it, and the record kept in the surrogate after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from anygrid.grid import Grid
from anygrid.surrogate import Surrogate
from anygrid.training.checkpoints import State
from anygrid.training.data import TrainingData
from anygrid.training.parallel import Division, Domain
from anygrid.training.physics import Equations
from anygrid.training.settings import DEFAULTS, Settings

__all__ = ["inferred", "record"]


def inferred(
    settings: Settings, found: TrainingData, module: nn.Module, equations: Equations | None, division: Division, *, default_length: bool
) -> list[str]:
    """Sentences on what the data and the defaults decided."""
    first = found.reference
    counts = [f"{len(p)} samples on {'x'.join(map(str, p.grid.shape))}" for p in found.groups]
    said = [*found.notes, f"{' and '.join(counts)}; {sum(len(p) for p in found.held_out)} held out"]
    if not settings.labels:
        said = [f"no data: {len(first)} solved samples give scales and validation, and no label is trained on"]
    if settings.imposed is not None:
        said.append(f"imposed exactly: {_imposed(settings.imposed)}")
    if equations is not None:
        shape = "x".join(map(str, equations.grid.shape))
        said.append(f"equation on {shape}, {equations.batch} inputs drawn a step, {type(equations.weighting).__name__}")
    if default_length:
        said.append(f"no length given: a budget of {DEFAULTS.budget:g} s")
    if first.evolution:
        what = "states" if not settings.increment else "increments to damped persistence" if settings.persistence else "increments"
        said.append(f"evolution by {first.dt or 'one lead'}: predicting {what}, rolled out over {settings.unroll} leads at the end")
    said.append(f"operator {settings.operator} with {sum(p.numel() for p in module.parameters()):,} parameters")
    if settings.noise:
        said.append(f"random: {settings.noise} channels of noise, almost fair CRPS of {DEFAULTS.members} draws a sample")
    if settings.replay:
        said.append(f"replay: beside the data forecasts of its own, begun anew after {settings.replay} leads in the mean")
    if settings.optimizer == "soap":
        said.append(f"optimiser SOAP, weight of the gradient in the loss {settings.gradient:g}")
    batch = ", ".join(str(n) for n in dict.fromkeys(settings.batch))
    said.append(f"batch {batch}, device {settings.device}, {settings.precision}")
    if settings.precision == "bfloat16" and settings.device == "cpu":
        said.append("bfloat16 on a CPU: without instructions for it a step takes six times as long (benchmarks/speed/mixed.json)")
    if not division.ranks.alone:
        said.append(_ranks(settings.batch, division, first.grid))
    return said


def _ranks(batch: tuple[int, ...], division: Division, grid: Grid) -> str:
    """What each process does, in words."""
    count = division.ranks.count
    if isinstance(division, Domain):
        return f"{count} processes, domain: each has its part of the {grid.shape[0]} rows along {grid.dims[0]}, and all samples"
    most, least = -(-max(batch) // count), min(batch) // count
    each = f"{least} to {most}" if most > least else f"{most}"
    idle = f"; {count - min(batch)} have nothing to do: a larger batch would use them" if least == 0 else ""
    return f"{count} processes, {division.name}: {each} samples of a batch in each{idle}"


def _imposed(imposed: Mapping[str, Any]) -> str:
    """What is imposed, in words."""
    walls = [f"{w['output']} = {w['value']:g} at the {w['side']} end of {w['axis']}" for w in imposed["walls"]]
    means = [f"the mean of {name}" for name in imposed["conserved"]]
    ball = [] if imposed["radius"] is None else [f"contraction beyond {imposed['radius']:g} standard deviations"]
    waves = [] if imposed["waves"] is None else [f"no waves above number {imposed['waves']}"]
    return "; ".join(walls + means + ball + waves)


def record(settings: Settings, state: State, said: list[str], model: Surrogate, found: TrainingData) -> dict[str, Any]:
    """What is kept of a training that has ended."""
    held_out = bool(found.held_out)
    return {
        "settings": settings.to_table(),
        "data": found.fingerprint(),
        "inferred": said + state.notes,
        "steps": state.step,
        "samples": state.samples,
        "seconds": state.seconds,
        "seconds_waiting_for_data": state.waited,
        "plan": state.plan.to_json(),
        "history": state.history,
        "validation_error": state.validation if held_out else None,
        "validation_samples": state.validation_rows * len(found.held_out),
        "best_step": state.best_step if settings.keep_best else None,
        "parameters": sum(p.numel() for p in model.operator.parameters()),
        "torch": torch.__version__,
        "threads": state.threads,
        "ranks": state.ranks,
    }
