"""From the numbers of cases to scores by lead with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anygrid.metrics.bootstrap import Resampled, bootstrap
from anygrid.metrics.events import brier, reliability, roc_area, roc_curve
from anygrid.metrics.quantiles import expected_coverage
from anygrid.metrics.ranks import flatness
from anygrid.verification.cases import Cases
from anygrid.verification.event import Event
from anygrid.verification.result import Comparison, Curve, EventResult, RankResult, SpectrumResult, VariableResult

__all__ = ["Sampling", "compare", "summarise"]

Means = Callable[..., Tensor]


@dataclass(frozen=True)
class Sampling:
    """How intervals are made."""

    block: int
    draws: int = 1000
    level: float = 0.95
    seed: int = 0

    def __call__(self, parts: Sequence[Tensor], score: Means) -> Resampled:
        return bootstrap(parts, score, block=self.block, draws=self.draws, seed=self.seed)

    def curve(self, name: str, parts: Sequence[Tensor | None], score: Means) -> list[Curve]:
        """The score by lead, or nothing where a part is not known."""
        known = [p for p in parts if p is not None]
        if len(known) < len(parts):
            return []
        found = self(known, score)
        low, high = found.interval(self.level)
        return [Curve(name, *(tuple(v.tolist()) for v in (found.value, low, high)))]


def summarise(
    name: str, units: str, c: Cases, leads: Sequence[float], members: int, kind: str, score: str, sampling: Sampling, picked: Sequence[int]
) -> VariableResult:
    """All scores of one channel. Baselines are taken over the very cases of the forecast."""
    with torch.no_grad():
        curves = _curves(c, members, kind, sampling)
        known = c.squared if c.squared is not None else c.crps if c.crps is not None else c.pinball
        starts = () if known is None else tuple((~known.reshape(*known.shape[:2], -1)[..., 0].isnan()).sum(0).tolist())
        quantiles = [(q, tuple(_mean(c.pinball)[:, i].tolist())) for i, q in enumerate(c.levels)] if c.pinball is not None else []
        held = [(v, expected_coverage(v, members) if kind == "members" else v) for v in c.intervals]
        covered = [(v, e, tuple(_mean(c.covered)[:, i].tolist())) for i, (v, e) in enumerate(held)] if c.covered is not None else []
        return VariableResult(
            name,
            units,
            starts,
            score,
            tuple(curves),
            tuple(quantiles),
            tuple(covered),
            tuple(_ranks(c, leads, sampling.block, picked)),
            tuple(_spectra(c, leads, picked)),
            tuple(_event(e, t, sampling) for e, t in c.tables.items()),
            left_out=c.left_out,
        )


def _curves(c: Cases, members: int, kind: str, sampling: Sampling) -> list[Curve]:
    one = sampling.curve
    curves = one("rmse", [c.squared], torch.sqrt)
    curves += one("persistence rmse", [_like(c.persistence_squared, c.squared)], torch.sqrt)
    curves += one("climatology rmse", [c.climatology_squared], torch.sqrt)
    curves += one("member rmse", [c.member_squared], torch.sqrt) if kind == "members" else []
    curves += one("bias", [c.error], _same)
    curves += one("anomaly correlation", [c.correlation], _same)
    curves += one("activity ratio", [c.activity, c.truth_activity], lambda a, b: a / b)
    curves += one("skill over persistence", [c.squared, _like(c.persistence_squared, c.squared)], lambda a, b: 1 - a / b)
    curves += one("skill over climatology", [c.squared, c.climatology_squared], lambda a, b: 1 - a / b)
    if kind == "single":
        return curves + one("mean absolute error", [c.absolute], _same)
    factor = math.sqrt((members + 1) / members)
    curves += one("crps", [c.crps], _same)
    curves += one("persistence crps", [_like(c.persistence_absolute, c.crps)], _same)
    curves += one("climatology crps", [c.climatology_crps], _same)
    curves += one("crps skill over climatology", [c.crps, c.climatology_crps], lambda a, b: 1 - a / b)
    curves += one("spread", [c.variance], torch.sqrt)
    return curves + one("spread-skill ratio", [c.variance, c.squared], lambda s, e: factor * (s / e).sqrt())


def compare(ours: Cases, theirs: Cases, sampling: Sampling) -> tuple[Comparison, ...]:
    """Relative differences of RMSE and CRPS, from cases that both forecasts have, by paired resampling."""
    found = []
    for name, a, b, root in (("rmse", ours.squared, theirs.squared, True), ("crps", ours.crps, theirs.crps, False)):
        if a is None or b is None or (name == "crps" and ours.crps is ours.absolute):
            continue
        both = ~(a.isnan() | b.isnan())
        parts = [torch.where(both, v, torch.nan) for v in (a, b)]

        def score(p: Tensor, q: Tensor, root: bool = root) -> Tensor:
            return (p / q).sqrt() - 1 if root else p / q - 1

        drawn = sampling(parts, score)
        low, high = drawn.interval(sampling.level)
        found.append(Comparison(name, *(tuple(v.tolist()) for v in (drawn.value, low, high, drawn.p_of_zero()))))
    return tuple(found)


def _same(x: Tensor) -> Tensor:
    return x


def _like(part: Tensor | None, other: Tensor | None) -> Tensor | None:
    """A baseline, only where the forecast has a value."""
    return None if part is None or other is None else torch.where(other.isnan(), torch.nan, part)


def _mean(part: Tensor) -> Tensor:
    return part.nanmean(0)


def _ranks(c: Cases, leads: Sequence[float], block: int, picked: Sequence[int]) -> list[RankResult]:
    if c.rank is None:
        return []
    out = []
    for k in picked:
        here = c.rank[:, k][~c.rank[:, k, 0].isnan()]
        if len(here) == 0:
            continue
        test = flatness(here, block=min(block, len(here) // 2)) if len(here) >= 2 else None
        told = (None, None, None) if test is None else (test.statistic, test.effective, test.p_value)
        out.append(RankResult(float(leads[k]), tuple(here.mean(0).tolist()), *told))
    return out


def _spectra(c: Cases, leads: Sequence[float], picked: Sequence[int]) -> list[SpectrumResult]:
    if c.power is None or c.truth_power is None:
        return []
    out = []
    for k in picked:
        parts = [() if p is None else tuple(_mean(p[:, k]).tolist()) for p in (c.truth_power, c.power, c.mean_power)]
        if parts[0] and math.isfinite(parts[0][0]):
            out.append(SpectrumResult(float(leads[k]), *parts))
    return out


def _event(event: Event, table: Tensor, sampling: Sampling) -> EventResult:
    scores = (
        ("brier", lambda t: brier(t).score),
        ("brier skill", lambda t: brier(t).skill),
        ("reliability", lambda t: brier(t).reliability),
        ("resolution", lambda t: brier(t).resolution),
        ("uncertainty", lambda t: brier(t).uncertainty),
        ("roc area", roc_area),
    )
    curves = [c for name, score in scores for c in sampling.curve(name, [table], score)]
    mean = table.nanmean(0)
    points = reliability(mean, _bins(table.shape[-2] - 1))
    low, high = sampling([table], lambda t: reliability(t, _bins(table.shape[-2] - 1)).observed).interval(sampling.level)
    roc = roc_curve(mean)
    rows = [tuple(tuple(row.tolist()) for row in part) for part in (points.said, points.observed, low, high, points.share)]
    rates = tuple((tuple(r[:, 0].tolist()), tuple(r[:, 1].tolist())) for r in roc)
    frequency = tuple(mean[..., 1].sum(-1).tolist())
    return EventResult(str(event), frequency, tuple(curves), rows[0], rows[1], rows[2], rows[3], rows[4], rates)


def _bins(members: int) -> int:
    """Ten bins, or one for each probability where there are fewer."""
    return min(10, members + 1)
