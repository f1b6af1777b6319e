r"""Successive halving, the arithmetic of it: who is tried, for how long, and who is chosen. See :mod:`anygrid.training.search`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["RATIO", "SECOND", "SHARE", "Candidate", "Row", "affordable", "candidates_for", "decided", "first_rung", "second_rung"]

SHARE = 0.15  # of the length of the training, for all short trainings together
RATIO = 3  # length of the second rung over that of the first
SECOND = 3  # candidates of the second rung
_LEAST = 50  # steps of the defaults in the first rung: fewer say nothing
_SETTLED = 1000  # steps of the second rung from which on a gradient term is tried
_MARGIN = 0.05
_TINY = 1e-30
_KINDS = ("learning_rate", "gradient", "width")
_RATES = (2.0, 0.5)  # times the default
_GRADIENT = 0.1
_WIDTHS = (32, 64)  # the default operator has 48


@dataclass(frozen=True)
class Candidate:
    """What may differ from the defaults; the rate is that of the whole length, ``width`` is ``None`` for the operator as it was given."""

    label: str
    learning_rate: float
    gradient: float
    width: int | None = None


@dataclass(frozen=True)
class Row:
    """One short training; an error of infinity is a training that diverged."""

    rung: int
    candidate: Candidate
    steps: int
    seconds: float
    error: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; JSON has no infinity."""
        return {**asdict(self), "error": self.error if math.isfinite(self.error) else None}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Row:
        """Inverse of :meth:`to_json`."""
        error = math.inf if stored["error"] is None else float(stored["error"])
        return cls(int(stored["rung"]), Candidate(**stored["candidate"]), int(stored["steps"]), float(stored["seconds"]), error)


def candidates_for(base: Candidate, free: Sequence[str]) -> list[Candidate]:
    """The defaults, and what changes one thing of them, the most promising first; a gradient term only where they have none.

    Parameters
    ----------
    free
        What may be changed: ``gradient``, ``learning_rate``, ``width``; what the caller has said is not.
    """
    out = [base]
    if "gradient" in free and base.gradient == 0:
        out.append(replace(base, label=f"gradient {_GRADIENT:g}", gradient=_GRADIENT))
    rates = [base.learning_rate * factor for factor in _RATES] if "learning_rate" in free else []
    widths = list(_WIDTHS) if "width" in free else []
    for k in range(2):
        out += [replace(base, label=f"learning rate {rate:g}", learning_rate=rate) for rate in rates[k : k + 1]]
        out += [replace(base, label=f"width {width}", width=width) for width in widths[k : k + 1]]
    return out


def first_rung(count: int, length: float) -> tuple[int, float]:
    """Candidates and length of each training of the first rung, for a training of ``length`` steps.

    As many of ``count`` as leave each at least 50 steps; no candidates where not even two have them.
    """
    for k in range(count, 1, -1):
        each = SHARE * length / (k + RATIO * min(k, SECOND))
        if each >= _LEAST:
            return k, each
    return 0, 0.0


def affordable(candidates: Sequence[Candidate], length: float) -> tuple[list[Candidate], float]:
    """Candidates and length of each training of the first rung, for a training of ``length`` steps.

    A gradient term is tried only where the second rung has 1000 steps: on Burgers' equation it is far ahead after 200, and behind after
    a thousand and from then on.
    """
    plain = [candidate for candidate in candidates if candidate.gradient == candidates[0].gradient]
    count, each = first_rung(len(candidates), length)
    if RATIO * each < _SETTLED:
        candidates, (count, each) = plain, first_rung(len(plain), length)
    return list(candidates[:count]), each


def second_rung(rows: Sequence[Row]) -> list[Candidate]:
    """The defaults, the best candidate of the first rung, and all that was better than the defaults together, or the second best."""
    base, *others = rows
    ranked = _ranked(others)
    best: dict[str, Row] = {}  # the best of each kind of change that is an improvement
    for row in ranked:
        if row.error < base.error:
            best.setdefault(_changed(row.candidate, base.candidate), row)
    chosen = [base.candidate, ranked[0].candidate]
    if len(best) > 1:
        changes = {kind: getattr(row.candidate, kind) for kind, row in best.items()}
        label = " and ".join(row.candidate.label for row in best.values())
        chosen.append(replace(base.candidate, label=label, **changes))
    elif len(ranked) > 1:
        chosen.append(ranked[1].candidate)
    return chosen


def decided(first: Sequence[Row], second: Sequence[Row]) -> Candidate:
    r"""The candidate to train: the best of the second rung, if it is expected to beat the defaults by the margin.

    .. math:: \hat r = r_2 + \max(0, r_2 - r_1), \qquad r_k = \log \frac{e(t_k)}{e_0(t_k)}

    An advantage that shrinks from the first rung to the second is expected to shrink as much again; one that grows is taken as it is.
    What was put together had the product of its parts' ratios in the first rung.
    """
    before = {_changed(row.candidate, first[0].candidate): _ratio(row, first[0]) for row in reversed(_ranked(first[1:]))}
    tried = {row.candidate: _ratio(row, first[0]) for row in first}

    def expected(row: Row) -> float:
        now = _ratio(row, second[0])
        parts = (kind for kind in _KINDS if getattr(row.candidate, kind) != getattr(second[0].candidate, kind))
        return now + max(0.0, now - tried.get(row.candidate, sum(before[kind] for kind in parts)))

    best = min(second[1:], key=expected)
    return best.candidate if expected(best) < math.log(1 - _MARGIN) else second[0].candidate


def _ratio(row: Row, base: Row) -> float:
    """Logarithm of the ratio of errors, finite also where one of them is not."""
    one, two = (min(max(error, _TINY), 1 / _TINY) for error in (row.error, base.error))
    return math.log(one / two)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.error)


def _changed(candidate: Candidate, base: Candidate) -> str:
    return next(kind for kind in _KINDS if getattr(candidate, kind) != getattr(base, kind))
