"""A budget of seconds as a number of steps: measured before the first step, revised at a few declared marks.

The number of threads and the cost of a step of each kind (resolution, unroll length) are measured on a copy of the model, so
that measuring changes nothing. The plan that follows is stored and the training is from then on a function of the step alone. At
the marks :data:`REVISIONS` the cost is compared with what was measured since the last one; the steps ahead are counted anew only
when the budget would be missed by more than a tenth of what is left of it, and a checkpoint follows at once. So a resumed run
has the plan of the one that was killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from anygrid.training.budget import Clock
from anygrid.training.checkpoints import State
from anygrid.training.loader import Batch, Loader
from anygrid.training.schedule import Plan, Segment
from anygrid.training.settings import DEFAULTS

__all__ = ["REVISIONS", "calibrate", "choose_threads", "revise", "validation_rows"]

REVISIONS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.97)
_TOLERANCE = 0.1
_TRIALS = 3
_SHARE = 0.02  # of the budget for measuring one kind of step
_SLOW = 1.5  # times the estimate: steps that cost more make the number of threads doubtful
_VALIDATION_SHARE = 0.05  # of the budget for all validations together
_COUNTED_SHARE = 0.1  # of the applications of a training of given steps
_LEAST_ROWS = 64  # of all data sets, however short it is


def calibrate(
    state: State,
    budget: float,
    clock: Clock,
    loader: Loader,
    step: Callable[[Batch, Segment], object],
    validate: Callable[[int], object] | None,
    agree: Callable[[float], float],
) -> None:
    """Measure the cost of validation and of the kinds of steps not known yet, and give ``state.plan`` its steps.

    The time taken is charged to the budget.

    Parameters
    ----------
    step, validate
        Take one step, or validate on so many rows, with a copy of the model.
    agree
        The first rank's reading of a clock, on every rank: what is decided by it is then decided alike.
    """
    if validate is not None:
        _plan_validation(state, budget, max(loader.batch), validate, agree)
    for segment in state.plan.segments:
        kind = (segment.stride, segment.unroll)
        if kind not in state.costs:
            state.costs[kind] = _cost(segment, budget, loader, step, agree)
    used = agree(clock.seconds)
    left = budget - used - state.validations * state.validation_seconds
    state.plan = state.plan.timed(max(left, 0.0), state.costs)
    state.mark = (0, used)
    costs = ", ".join(f"{cost * 1e3:.3g} ms (stride {s}, unroll {u})" for (s, u), cost in state.costs.items())
    state.notes.append(f"budget of {budget:g} s planned as {state.plan.steps} steps; measured cost of a step: {costs}")


def validation_rows(plan: Plan, rows: int, sets: int, batch: int, *, random: bool) -> int:
    """Rows of each of so many data sets, at most ``rows``, whose validation in a training of given steps costs about a tenth of it.

    A step counts as three applications of a lead (forward, and twice that backward), of a random surrogate for every draw. A plan
    without steps (of a budget, see :func:`calibrate`) leaves the rows as they are.
    """
    if not plan.steps or not sets:
        return rows
    training = 3 * batch * sum(s.steps * s.unroll for s in plan.segments) * (DEFAULTS.members if random else 1)
    one = State.validations * sets * (DEFAULTS.validation_draws if random else 1)
    return min(rows, max(-(-_LEAST_ROWS // sets), int(_COUNTED_SHARE * training / one)))


def choose_threads(
    state: State, budget: float, loader: Loader, step: Callable[[Batch, Segment], object], agree: Callable[[float], float]
) -> None:
    """Keep all of torch's threads or one, whichever takes a step faster now, and say so.

    Threads wait for each other at every product. On a machine that others use as well the slowest decides, and two threads on
    two shared cores can be many times slower than one.
    """
    most, first, costs = state.threads, state.plan.segments[0], {}
    if most == 1:
        return
    for threads in (most, 1):
        torch.set_num_threads(threads)
        costs[threads] = _cost(first, budget, loader, step, agree)
    state.threads = most if costs[most] < costs[1] else 1
    torch.set_num_threads(state.threads)
    state.costs = {kind: cost * costs[state.threads] / costs[most] for kind, cost in state.costs.items()}
    state.costs.setdefault((first.stride, first.unroll), costs[state.threads])
    measured = f"a step takes {costs[most] * 1e3:.3g} ms with {most}, {costs[1] * 1e3:.3g} ms with 1"
    state.notes.append(f"{state.threads} of {most} threads: {measured}")


def _cost(
    segment: Segment, budget: float, loader: Loader, step: Callable[[Batch, Segment], object], agree: Callable[[float], float]
) -> float:
    """Median seconds of a step, averaged over the data sets by their share of the batches."""
    draws = loader.epoch(0, segment.unroll)
    cost = 0.0
    for group, share in enumerate(loader.shares()):
        rows = next((rows for k, rows in draws if k == group), None)
        if rows is None:
            continue
        times: list[float] = []
        while len(times) <= _TRIALS and (len(times) < 2 or sum(times) < _SHARE * budget):
            start = time.perf_counter()
            step(loader.read(group, rows, segment.unroll), segment)
            times.append(agree(time.perf_counter() - start))
        cost += share * sorted(times[1:])[(len(times) - 1) // 2]  # the first call also sets up kernels and caches
    return cost


def _plan_validation(state: State, budget: float, rows: int, validate: Callable[[int], object], agree: Callable[[float], float]) -> None:
    """Rows and number of validations so that all of them take about a twentieth of the budget."""
    validate(rows)
    start = time.perf_counter()
    validate(rows)
    cost = agree(time.perf_counter() - start) / rows
    state.validation_rows = int(min(state.validation_rows, max(rows, _VALIDATION_SHARE / 2 * budget / cost)))
    state.validation_seconds = cost * state.validation_rows
    state.validations = max(1, min(state.validations, int(_VALIDATION_SHARE * budget / state.validation_seconds)))


def revise(state: State, budget: float, before: float, after: float, rechoose: Callable[[], None]) -> bool:
    """At a mark, bring the cost of steps up to date; returns whether the plan was changed for it.

    When steps have become much slower than estimated, ``rechoose`` is called to choose the number of threads again.
    """
    if not any(before < mark <= after < 1 for mark in REVISIONS):
        return False
    step, seconds = state.mark
    expected = state.plan.seconds(state.costs, step) - state.plan.seconds(state.costs, state.step)
    factor = (state.seconds - seconds) / expected
    state.costs = {kind: cost * factor for kind, cost in state.costs.items()}
    state.mark = (state.step, state.seconds)
    if factor > _SLOW and state.threads > 1:
        rechoose()
    left = budget - state.seconds
    ahead = state.plan.seconds(state.costs, state.step)
    if abs(ahead - left) <= _TOLERANCE * max(left, 0.0):
        return False
    was = state.plan.steps
    state.plan = state.plan.timed(max(left, 0.0), state.costs, state.step)
    change = f"{was} steps became {state.plan.steps} (a step costs {factor:.2f} of the estimate)"
    state.notes.append(f"plan revised at step {state.step}, {state.seconds:.1f} s: {change}")
    return True
