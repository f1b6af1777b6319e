r"""The plan of a training: how many steps, at which resolution and unroll length, and the learning rate of each.

Everything is a function of the *fraction* of the budget used, a number from 0 to 1. A plan cuts the fraction into segments
of constant cost and gives each a number of steps; a budget in seconds becomes steps through the measured cost of a step of
each segment, and from then on the training is a function of the step alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from anygrid.errors import UsageError

__all__ = ["Plan", "Segment", "learning_rate_factor", "phases"]


@dataclass(frozen=True)
class Segment:
    """Consecutive steps of one kind: fractions ``begin`` to ``end`` of the budget in ``steps`` steps.

    ``stride`` is the subsampling of the grid (1: full resolution), ``unroll`` the number of leads rolled out in one step.
    """

    begin: float
    end: float
    stride: int = 1
    unroll: int = 1
    steps: int = 0


@dataclass(frozen=True)
class Plan:
    """Segments in order; step ``s`` of the training belongs to exactly one of them."""

    segments: tuple[Segment, ...]

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return sum(segment.steps for segment in self.segments)

    def at(self, step: int) -> Segment:
        """Segment that ``step`` (counted from 0) belongs to."""
        first = 0
        for segment in self.segments:
            first += segment.steps
            if step < first:
                return segment
        return self.segments[-1]

    def fraction(self, taken: float) -> float:
        """Fraction of the budget used after ``taken`` steps; half a step more is the middle of the next one."""
        first = 0
        for segment in self.segments:
            if taken < first + segment.steps:
                return segment.begin + (segment.end - segment.begin) * (taken - first) / segment.steps
            first += segment.steps
        return 1.0

    def seconds(self, costs: dict[tuple[int, int], float], begin: int = 0) -> float:
        """Seconds that the steps from ``begin`` on take, given the cost of a step by ``(stride, unroll)``."""
        total, first = 0.0, 0
        for segment in self.segments:
            left = min(segment.steps, max(0, first + segment.steps - begin))
            total += left * costs[segment.stride, segment.unroll]
            first += segment.steps
        return total

    def timed(self, seconds: float, costs: dict[tuple[int, int], float], step: int = 0) -> Plan:
        """Same fractions, with the steps from ``step`` on counted anew so that they fill ``seconds``.

        Steps already taken keep their place: the segment that holds ``step`` is cut there.
        """
        done: list[Segment] = []
        ahead: list[Segment] = []
        first = 0
        for segment in self.segments:
            taken = min(segment.steps, max(0, step - first))
            first += segment.steps
            if segment.steps and taken == segment.steps:
                done.append(segment)
                continue
            # An empty segment (of a plan not timed yet) lies ahead as a whole.
            cut = segment.begin + (segment.end - segment.begin) * (taken / segment.steps if segment.steps else 0.0)
            if taken:
                done.append(replace(segment, end=cut, steps=taken))
            ahead.append(replace(segment, begin=cut))
        span = sum(s.end - s.begin for s in ahead)
        counted = [replace(s, steps=max(1, round(seconds * (s.end - s.begin) / span / costs[s.stride, s.unroll]))) for s in ahead]
        return Plan((*done, *counted))

    def stepped(self, steps: int) -> Plan:
        """Same fractions, to the nearest step, in exactly ``steps`` steps; a segment too short for one step is dropped."""
        edges = [0, *(round(segment.end * steps) for segment in self.segments)]
        cuts = zip(self.segments, itertools.pairwise(edges), strict=True)
        return Plan(tuple(replace(s, begin=a / steps, end=b / steps, steps=b - a) for s, (a, b) in cuts if b > a))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain numbers."""
        return [asdict(segment) for segment in self.segments]

    @classmethod
    def from_json(cls, stored: Sequence[dict[str, Any]]) -> Plan:
        """Inverse of :meth:`to_json`."""
        return cls(tuple(Segment(**segment) for segment in stored))


def phases(resolutions: Sequence[tuple[float, int]], unroll: int, unroll_fraction: float) -> Plan:
    """Plan without steps: coarse grids first, ``(fraction of the budget, stride)`` each, the roll-out at the end.

    Raises
    ------
    UsageError
        For fractions that are not positive or reach the whole budget, and for a stride or unroll length below 1.
    """
    total = sum(fraction for fraction, _ in resolutions)
    if any(fraction <= 0 or stride < 1 for fraction, stride in resolutions) or total >= 1:
        raise UsageError("resolutions", "(fraction, stride) pairs with fractions that sum to less than 1", repr(list(resolutions)))
    if unroll < 1:
        raise UsageError("unroll", "1 or more leads", str(unroll))
    cuts = [0.0]
    for fraction, _ in resolutions:
        cuts.append(cuts[-1] + fraction)
    strides = [stride for _, stride in resolutions] + [1]
    last = 1.0 - unroll_fraction if unroll > 1 else 1.0
    edges = sorted({*cuts, last, 1.0})
    segments = []
    for begin, end in itertools.pairwise(edges):
        stride = strides[max(k for k, cut in enumerate(cuts) if cut <= begin)]
        segments.append(Segment(begin, end, stride, unroll if begin >= last else 1))
    return Plan(tuple(segments))


def learning_rate_factor(fraction: float, warm_up: float) -> float:
    r"""Share of the peak learning rate after ``fraction`` of the budget.

    .. math:: \eta(f) = \begin{cases} f / w & f < w \\ \tfrac12 (1 + \cos \pi \frac{f - w}{1 - w}) & f \ge w \end{cases}

    Linear warm-up over the fraction :math:`w`, then a half cosine to exactly 0 (Loshchilov and Hutter 2017, equation 5).
    """
    if fraction < warm_up:
        return fraction / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - warm_up) / (1 - warm_up))))
