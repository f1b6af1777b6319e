"""Long runs of chaotic evolutions: how many Lyapunov times a forecast holds, and the statistics that remain after that."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anygrid.errors import AnygridError, UsageError
from anygrid.evaluate.baselines import Persistence, shared_channels
from anygrid.evaluate.result import LongCurve, LongTerm, LongTime
from anygrid.evaluate.rollout import roll_out
from anygrid.evaluate.stages import Run
from anygrid.evaluate.truth import ProblemTruth
from anygrid.grid import Box, Grid, Sphere
from anygrid.maps import Map
from anygrid.metrics.errors import Estimate, estimate
from anygrid.metrics.invariants import AgainstNoise, Measures, against_noise, compare, in_blocks, invariants, measures_of
from anygrid.metrics.predictability import THRESHOLD, Perturbed, perturbed_run, valid_prediction_time

__all__ = ["long_time"]

_STORED = 50_000_000  # values of a long run that are kept
_ROWS = 16  # rows of a statistic at least: runs are cut in time until there are as many
_HORIZON = 15.0  # Lyapunov times for which forecasts are followed: float32 itself is lost by then
_SEED = 20_180_125


def long_time(run: Run, head: Grid, steps: int) -> LongTime | None:
    """Chaos of a problem's solver, and how each map stands to it; None, with a note, where there is none.

    The solver runs ``steps`` steps in float64 on the headline grid, from the test states at the end of their trajectories. A
    two-trajectory method gives its leading Lyapunov exponent; when its 95 % interval is not above 0 the flow is not chaotic.
    Maps run from the same states in float32.

    Raises
    ------
    UsageError
        For data without a solver, a steady problem, or scattered points.
    """
    truth = run.truth
    channels = shared_channels(truth.inputs, truth.outputs)
    if not isinstance(truth, ProblemTruth) or truth.problem.dt is None or channels is None or not isinstance(head, Box | Sphere):
        raise UsageError("evaluate long_steps", "an evolution problem on a Box or a Sphere", "another subject", "leave it out")
    dt = truth.problem.dt
    start = _starts(truth, head, channels)
    rows = math.ceil(_ROWS / len(start))
    if steps < 8 * rows:
        raise UsageError("evaluate long_steps", f"{8 * rows} steps or more", str(steps), "statistics need long runs")
    keep = max(1, math.ceil(len(start) * steps * len(channels) * head.size / _STORED))

    def follow(map_: Map, a: Tensor) -> Perturbed:
        generator = torch.Generator().manual_seed(_SEED)
        return perturbed_run(map_, a, head, dt=dt, steps=steps, discard=steps // 20, channels=channels, generator=generator, keep=keep)

    run.say(f"long run of the solver: {steps} steps")
    reference = follow(truth.problem.solve, start.double())
    growth = _rate_rows(reference, rows)
    exponent = estimate(growth)
    if not exponent.low > 0:
        run.notes.append(f"Not chaotic: the solver's leading Lyapunov exponent is {exponent} per unit of time. No long-time statistics.")
        return None
    horizon = min(steps, math.ceil(_HORIZON / (exponent.mean * dt)))
    forcing = start[:, None].expand(-1, horizon, *start.shape[1:])
    states = roll_out(truth.problem.solve, forcing.double(), head, channels)
    lags = max(1, min(round(2 / (exponent.mean * dt * keep)), steps // (4 * rows * keep)))
    measures = measures_of(reference.states, head, lags=lags)
    base = invariants(in_blocks(reference.states, rows), measures)
    names = [v.name for v in truth.outputs]
    curves = _curves("solver", base, measures, names, dt * keep)
    terms = []
    for role, maps in (("map", run.maps), ("baseline", run.baselines)):
        for name, map_ in maps.items():
            if role == "baseline" and not isinstance(map_, Persistence):
                continue
            run.say(f"long run of {name}: {steps} steps")
            try:
                valid = valid_prediction_time(roll_out(map_, forcing, head, channels), states, head, dt=dt)
                found = follow(map_, start) if role == "map" else None
            except AnygridError as error:
                run.notes.append(f"{name} cannot be run for {steps} steps: {str(error).splitlines()[0]}")
                continue
            times, ends = estimate(valid * exponent.mean), int((valid > (horizon - 0.5) * dt).sum())
            if found is None:
                terms.append(LongTerm(name, role, steps, times, ends, None, {}))
                continue
            finite = int((~found.rates.isnan()).all(0).long().cumprod(0).sum())
            distances: dict[str, AgainstNoise] = {}
            own: Estimate | None = None
            if finite == steps:
                statistics = invariants(in_blocks(found.states, rows), measures)
                distances = compare(statistics, base, measures)
                rates = _rate_rows(found, rows)
                distances["Lyapunov exponent"] = against_noise(rates, growth, lambda p, q: float((p - q).abs() / exponent.mean))
                own = estimate(rates)
                curves += _curves(name, statistics, measures, names, dt * keep)
            terms.append(LongTerm(name, role, finite, times, ends, own, distances))
    return LongTime(exponent, dt, steps, len(start), horizon, THRESHOLD, tuple(terms), tuple(curves))


def _starts(truth: ProblemTruth, head: Grid, channels: tuple[int, ...]) -> Tensor:
    """Inputs at the end of the true trajectories: on the attractor, if anything is; of a problem without any, its samples."""
    if truth.lead_steps < 2:
        return truth.cases(head).a
    a, u = truth.trajectory(head)
    start = a[:, -1].clone()
    start[:, list(channels)] = u[:, -1]
    return start


def _rate_rows(run: Perturbed, rows: int) -> Tensor:
    """Mean rate of each run, cut into ``rows`` parts."""
    part = run.rates.shape[1] // rows
    return run.rates[:, : rows * part].reshape(-1, part).mean(1)


def _curves(name: str, rows: dict[str, Tensor], m: Measures, variables: list[str], dt: float) -> list[LongCurve]:
    """What the figure shows of the statistics of one run."""
    found = []
    for c, variable in enumerate(variables):
        spectrum = rows["spectrum"].mean(0)[c]
        found.append(LongCurve(name, "spectrum", variable, list(map(float, range(1, len(spectrum)))), spectrum[1:].tolist()))
        for kind, edges in (("values", m.values[c]), ("slopes", m.slopes[c])):
            inside = slice(len(edges) // 4, len(edges) - len(edges) // 4)  # the reference's range
            density = rows[kind].mean(0)[c] / (edges[1] - edges[0])
            x, y = ((edges[1:] + edges[:-1]) / 2)[inside], density[inside]
            count = len(x) // 2 * 2
            pairs = [t[:count].view(-1, 2).mean(1).tolist() for t in (x, y)]
            found.append(LongCurve(name, kind, variable, pairs[0], pairs[1]))
        memory = rows["autocorrelation"].mean(0)[c]
        lags = [dt * k for k in range(len(memory))]
        found.append(LongCurve(name, "autocorrelation", variable, lags, (memory / memory[0]).tolist()))
    return found
