r"""The step of an evolution that nobody has chosen: a round time in which its solution changes by about a third.

.. math:: \| u_j(\Delta t) - u_j(0) \| \approx \tfrac13 \max(\|u_j(0)\|', \|u_j(\Delta t)\|') \quad\text{for the unknown } j
    \text{ that changes most}

with norms of the variation in space (of the value, where an unknown starts without variation). Unknowns that start from zero, such as a
rate at rest, have no size to compare with and are left out; where all do, the step is a third of the way to the state in which they settle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anygrid.equations.solve import advance
from anygrid.errors import AnygridError, DataError, GridError, UsageError
from anygrid.problems.equation import EquationProblem

__all__ = ["natural_step"]

_CHANGE, _SMALL = 1 / 3, 0.01
_POINTS = {1: 128, 2: 48, 3: 20}
_FEWER = {1: 65, 2: 25, 3: 13}  # with bounded axes, whose solver may be an implicit one
_TOLERANCE = 1e-3
_FIRST, _LEAST, _MOST = -6, -15, 12  # powers of ten
_STEPS = 100  # of the solver within a time, from which ten times as many are not tried


def natural_step(problem: EquationProblem) -> float:
    """1, 2 or 5 times a power of ten, measured on four samples of an evolution whose own ``dt`` is ignored.

    Raises
    ------
    UsageError
        Where the solution ends at once or does not change.
    """
    march = _March(problem)
    power = _FIRST
    u, trouble = march.later(march.start, 10.0**power)
    while power > _LEAST and (u is None or march.change(u) > _CHANGE):
        power -= 3
        u, trouble = march.later(march.start, 10.0**power)
    if u is None:
        got = f"one that ends at once ({trouble})" if trouble else "one that ends at once"
        raise UsageError("Equation", "a solution that exists for a while", got, "give dt, or smaller initial values")
    rung = 3 * power
    found = [(rung, u)]
    while rung < 3 * _MOST and march.change(u) <= _CHANGE:
        # A whole decade only where a small part of an oscillation is over, so that none is missed.
        further = rung + (3 if march.change(u) < _SMALL else 1)
        before, (u, _) = u, march.later(u, _time(further) - _time(rung))
        if u is None:
            break
        rung = further
        found.append((rung, u))
        if march.settled(before, u) or march.steps > _STEPS:
            break
    most = max(march.distance(u) for _, u in found)
    if most == 0:
        hint = "give initial values that are no state of rest, or dt"
        raise UsageError("Equation", "a solution that changes in time", "one that stays as it starts", hint)
    wanted = _CHANGE if march.sized and most > _CHANGE else most / 3
    return march.between(found, wanted)


class _March:
    """Four samples, and how far the solution moves away from them."""

    def __init__(self, problem: EquationProblem) -> None:
        self.problem, count = problem, len(problem.domain)
        everywhere = all(interval.periodic for interval in problem.intervals.values())
        self.grid = problem.grid((_POINTS if everywhere else _FEWER)[count])
        a = problem.sample(4, self.grid, torch.Generator().manual_seed(0)).double()
        self.known = problem.quantities_of(a, self.grid)
        self.start = a[:, : len(problem.system.state)]
        self.steps = 0
        moving = _norm(self.start) > 0
        if problem.boundary:  # prescribed values are taken at once, which is no change in time
            at_once, _ = self.later(self.start, 10.0**_LEAST)
            self.start = self.start if at_once is None else at_once
        value, varying = _norm(self.start), self._variation(self.start)
        self.by_variation = varying > 1e-6 * value
        self.size = torch.where(self.by_variation, varying, value) * moving
        self.sized = bool((self.size > 0).all(0).any())

    def _variation(self, u: Tensor) -> Tensor:
        return _norm(u - u.flatten(2).mean(2).reshape(*u.shape[:2], *[1] * (u.ndim - 2)))

    def later(self, u: Tensor, time: float) -> tuple[Tensor | None, str]:
        """State after ``time``, or ``None`` and the reason where the solution blows up."""
        try:
            found = advance(self.problem.system, self.grid, u, self.known, time, self.problem.conditions, tolerance=_TOLERANCE)
        except (UsageError, GridError, DataError):
            raise  # the equation is at fault, not its solution
        except AnygridError as error:
            return None, error.got
        self.steps = found.steps
        return found.u, ""

    def change(self, u: Tensor) -> float:
        """Relative change of the unknown that changed most, median of the samples; 0 where all start from zero."""
        if not self.sized:
            return 0.0
        now = torch.where(self.by_variation, self._variation(u), _norm(u))
        size = torch.maximum(self.size, now)
        ratio = torch.where(self.size > 0, _norm(u - self.start) / size.clamp(min=1e-300), 0.0)
        return float(ratio.amax(1).median())

    def distance(self, u: Tensor) -> float:
        """The change, or where all start from zero, how far they are from there."""
        return self.change(u) if self.sized else float(_norm(u - self.start).sum(1).median())

    def settled(self, before: Tensor, u: Tensor) -> bool:
        """Whether ten times the time changed nothing any more."""
        moved, way = _norm(u - before), _norm(u - self.start)
        return bool((moved <= 0.02 * way).all()) and bool((way > 1e-6 * _norm(u)).any())

    def between(self, found: list[tuple[int, Tensor]], wanted: float) -> float:
        """Which of 1, 2, 5, ... comes nearest to the distance that is wanted, from states at most a decade apart."""
        last = next((k for k, (_, u) in enumerate(found) if self.distance(u) >= wanted), len(found))
        if last == 0:
            return _time(found[0][0])
        rung, u = found[last - 1]
        end = found[last][0] if last < len(found) else rung + 3
        tried = [(rung, self.distance(u))]
        for further in range(rung + 1, end):
            after, _ = self.later(u, _time(further) - _time(further - 1))
            if after is None:
                break
            u = after
            tried.append((further, self.distance(u)))
        if last < len(found):
            tried.append((end, self.distance(found[last][1])))
        return _time(min(tried, key=lambda pair: abs(math.log(max(pair[1], 1e-300) / wanted)))[0])


def _norm(u: Tensor) -> Tensor:
    """Root mean square over space, ``(batch, unknown)``."""
    return u.flatten(2).square().mean(2).sqrt()


def _time(rung: int) -> float:
    """1, 2, 5, 10, ... for 0, 1, 2, 3, ..."""
    return float(f"{(1, 2, 5)[rung % 3]}e{rung // 3}")  # not a product, which is rounded
