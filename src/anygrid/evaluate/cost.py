"""Cost against error: the solver's measured curve, the speed-up at equal error, the error at equal time, the break-even count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from anygrid.evaluate.result import Comparison, Score, Timing, duration, grid_name

__all__ = ["Costs", "CurvePoint", "best_seconds", "compare", "equal_error", "equal_time", "front", "solver_curve"]

MODES = {"single": "one sample at a time, best number of threads", "batch": "many samples, one thread, best batch size"}


_BETTER = 0.99


@dataclass(frozen=True)
class Costs:
    """Seconds spent before the first prediction: generating the training data, and training. None where unknown."""

    data_seconds: float | None = None
    training_seconds: float | None = None

    @property
    def total(self) -> float | None:
        """Both together; None unless both are known."""
        return None if self.data_seconds is None or self.training_seconds is None else self.data_seconds + self.training_seconds


@dataclass(frozen=True)
class CurvePoint:
    """One measured solver setting: what it costs and how wrong it is."""

    seconds: float
    error: float
    name: str
    resolution: tuple[int, ...]


def best_seconds(timings: Sequence[Timing], name: str, resolution: tuple[int, ...], mode: str) -> float | None:
    """Smallest median seconds per sample in a mode of :data:`MODES`.

    ``batch`` counts one thread only, since samples are independent and further cores take further samples; a batch of one is a batch too.
    """
    mine = [t for t in timings if t.name == name and t.resolution == resolution]
    return min((t.median for t in mine if (t.batch == 1 if mode == "single" else t.threads == 1)), default=None)


def solver_curve(scores: Sequence[Score], timings: Sequence[Timing], resolution: tuple[int, ...], mode: str) -> list[CurvePoint]:
    """Every solver setting that was both timed and measured on ``resolution``, cheapest first.

    An error of 1 is that of returning zero: such a setting solves nothing, and the way from it to one that does is no choice of settings.
    """
    points = []
    for s in scores:
        seconds = best_seconds(timings, s.name, s.computed_at, mode) if s.role == "solver" and s.resolution == resolution else None
        error = s.errors["relative_l2"].mean
        if seconds is not None and 0 < error < 1:
            points.append(CurvePoint(seconds, error, s.name, s.computed_at))
    return sorted(points, key=lambda p: p.seconds)


def front(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The settings worth using, cheapest first: each at least 1 % more accurate than every cheaper one."""
    best: list[CurvePoint] = []
    for point in sorted(curve, key=lambda p: (p.seconds, p.error)):
        if not best or point.error < _BETTER * best[-1].error:
            best.append(point)
    return best


def equal_error(curve: Sequence[CurvePoint], error: float) -> tuple[float, str]:
    """Seconds the solver needs for ``error``, and how to read them (see :class:`Comparison`).

    Log-log interpolation between neighbouring settings of the front. Never extrapolates: outside the measured range the
    nearest end is returned with ``<=`` (already more accurate at that cost) or ``>=`` (not that accurate at that cost).
    """
    best = front(curve)
    if best[0].error <= error:
        return best[0].seconds, "<=" if best[0].error < error else "="
    if best[-1].error > error:
        return best[-1].seconds, ">="
    for worse, better in pairwise(best):
        if better.error <= error:
            t = math.log(error / worse.error) / math.log(better.error / worse.error)
            return math.exp((1 - t) * math.log(worse.seconds) + t * math.log(better.seconds)), "="
    raise AssertionError("the two ends bracket the error")


def equal_time(curve: Sequence[CurvePoint], seconds: float) -> float | None:
    """Error of the solver within ``seconds``; None if every setting takes longer. Beyond the costliest: its own error."""
    best = front(curve)
    if seconds < best[0].seconds:
        return None
    for cheap, dear in pairwise(best):
        if seconds < dear.seconds:
            t = math.log(seconds / cheap.seconds) / math.log(dear.seconds / cheap.seconds)
            return math.exp((1 - t) * math.log(cheap.error) + t * math.log(dear.error))
    return best[-1].error


def compare(score: Score, timings: Sequence[Timing], curve: Sequence[CurvePoint], mode: str, costs: Costs) -> Comparison | None:
    """Map against solver; None if the map was not timed, has no finite error, or there is no curve."""
    seconds = best_seconds(timings, score.name, score.resolution, mode)
    error = score.errors["relative_l2"].mean
    if seconds is None or not curve or not math.isfinite(error):
        return None
    solver, relation = equal_error(curve, error)
    speedup = solver / seconds
    saved = solver - seconds
    # With "<=" a saving is only an upper bound, but a loss is certain; with ">=" the other way round.
    never = saved <= 0 and relation != ">="
    even = costs.total / saved if costs.total is not None and saved > 0 else None
    at_time = equal_time(curve, seconds)
    sentence = _sentence(score, mode, error, seconds, solver, relation, speedup, at_time, even, never, costs)
    return Comparison(score.name, score.resolution, mode, error, seconds, solver, relation, speedup, at_time, even, never, sentence)


def _sentence(
    score: Score,
    mode: str,
    error: float,
    seconds: float,
    solver: float,
    relation: str,
    speedup: float,
    at_time: float | None,
    even: float | None,
    never: bool,
    costs: Costs,
) -> str:
    where = f"{score.name} at {grid_name(score.resolution)} ({MODES[mode]}): {duration(seconds)} per sample, error {error:.3g}. "
    if relation == "=":
        where += f"The solver reaches that error in {duration(solver)}. "
    elif relation == "<=":
        where += f"Even the cheapest solve measured ({duration(solver)}) is more accurate, so the solver needs at most this long. "
    else:
        where += f"No solve measured is that accurate; the best takes {duration(solver)}, so the solver needs at least this long. "
    return where + _outcome(relation, speedup) + _at_equal_time(at_time) + _repayment(relation, even, never, costs)


def _outcome(relation: str, speedup: float) -> str:
    if relation == ">=" and speedup < 1:
        return "Whether the map is faster at equal error was not decided by these settings. "
    bound = {"=": "", "<=": "at most ", ">=": "at least "}[relation]
    if speedup >= 1:
        return f"At equal error the map is {bound}{speedup:.3g} times faster. "
    bound = {"=": "", "<=": "at least ", ">=": ""}[relation]
    return f"This is a loss: at equal error the map is {bound}{1 / speedup:.3g} times slower than the solver. "


def _at_equal_time(error: float | None) -> str:
    if error is None:
        return "No solver setting measured is that fast. "
    return f"In the same time the solver has an error of {error:.3g}. "


def _repayment(relation: str, even: float | None, never: bool, costs: Costs) -> str:
    if never and costs.total is None:
        return "The solver is cheaper, so no cost of data or training could be repaid."
    if never:
        return "Data and training are never repaid."
    if costs.total is None:
        return "The break-even count is unknown, because the cost of the data or of training was not given."
    if even is None:
        return "The break-even count cannot be stated."
    bound = {"=": "", "<=": "at least ", ">=": "at most "}[relation]
    return f"Data and training ({duration(costs.total)}) are repaid after {bound}{even:,.0f} solves."
