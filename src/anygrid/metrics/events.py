"""Forecasts of an event by the part of the members in which it happens: Brier score and its parts, reliability, ROC.

All of them follow from one table: the area where k of m members have the event, and the part of it where it happened. Tables of cases add
up, so that scores of any set of cases, and of their resampling, come from sums of tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.metrics.errors import area_shares

__all__ = ["Brier", "Reliability", "brier", "event_table", "reliability", "roc_area", "roc_curve"]

Table = Float[Tensor, "*rest count 2"]


def event_table(
    count: Int[Tensor, "case lead channel *space"], happened: Bool[Tensor, "case lead channel *space"], members: int, grid: Grid
) -> Float[Tensor, "case lead channel count 2"]:
    """Share of the area where exactly k of ``members`` have the event, k = 0 to m, and of that where it happened as well.

    The sum over k of the first entry is 1.
    """
    return torch.stack([area_shares(count, members + 1, grid), area_shares(count, members + 1, grid, happened.double())], -1)


@dataclass(frozen=True)
class Brier:
    """Brier score and its parts, all ``(*rest)``: ``score = reliability - resolution + uncertainty``, exactly.

    ``fair`` is the score without the part that a finite number of members costs; ``skill`` is over the frequency of the event among
    the same cases, ``1 - score / uncertainty``.
    """

    score: Tensor
    fair: Tensor
    reliability: Tensor
    resolution: Tensor
    uncertainty: Tensor

    @property
    def skill(self) -> Tensor:
        """1 perfect, 0 no better than the frequency of the event; nan where it always or never happened."""
        return torch.where(self.uncertainty > 0, 1 - self.score / self.uncertainty, torch.nan)


def brier(table: Table) -> Brier:
    r"""Brier score of the probabilities :math:`p_k = k / m`, from a table of shares :math:`w_k` and happenings :math:`o_k`.

    .. math:: \sum_k w_k (p_k - \bar o_k)^2 - \sum_k w_k (\bar o_k - \bar o)^2 + \bar o (1 - \bar o), \qquad \bar o_k = o_k / w_k,

    which are reliability, resolution and uncertainty; every probability that can occur has a class of its own, so nothing is left over.
    The fair score takes :math:`\sum_k w_k p_k (1 - p_k) / (m - 1)` away (nan for one member).

    Sources: Murphy (1973), Journal of Applied Meteorology 12, 595; Ferro (2014), QJRMS 140, 1917, eq. 2.
    """
    weight, happened, p = _parts(table)
    rate = torch.where(weight > 0, happened / weight, torch.zeros_like(weight))
    base = happened.sum(-1)
    members = table.shape[-2] - 1
    score = (weight * p**2 - 2 * p * happened + happened).sum(-1)
    lacking = (weight * p * (1 - p)).sum(-1) / (members - 1) if members > 1 else torch.full_like(score, torch.nan)
    return Brier(
        score,
        score - lacking,
        (weight * (p - rate) ** 2).sum(-1),
        (weight * (rate - base[..., None]) ** 2).sum(-1),
        base * (1 - base),
    )


@dataclass(frozen=True)
class Reliability:
    """Points of a reliability diagram ``(*rest, bin)``: mean probability said, frequency observed (nan where never said), share said."""

    said: Tensor
    observed: Tensor
    share: Tensor


def reliability(table: Table, bins: int = 10) -> Reliability:
    """Observed frequency against the probability said, in even bins of probability (a probability on an edge goes to the upper bin).

    Raises
    ------
    UsageError
        For less than one bin.
    """
    if bins < 1:
        raise UsageError("reliability", "1 bin or more", str(bins))
    weight, happened, p = _parts(table)
    members = table.shape[-2] - 1
    # In whole numbers: 0.3 * 10 in floating point may fall on either side of 3.
    place = (torch.arange(members + 1) * bins // members).clamp(max=bins - 1)
    into = torch.nn.functional.one_hot(place, bins).to(torch.float64)
    share = weight @ into
    return Reliability((weight * p) @ into / share, happened @ into / share, share)


def roc_curve(table: Table) -> Float[Tensor, "*rest point 2"]:
    r"""False alarm rate and hit rate when one warns from k members on, k = m + 1 (never) down to 0 (always).

    Source: Mason (1982), Australian Meteorological Magazine 30, 291. Nan where the event always or never happened.
    """
    weight, happened, _ = _parts(table)
    hits, alarms = (torch.flip(part, [-1]).cumsum(-1) for part in (happened, weight - happened))
    rates = [torch.nn.functional.pad(r / r[..., -1:], (1, 0)) for r in (alarms, hits)]
    return torch.stack(rates, -1)


def roc_area(table: Table) -> Float[Tensor, "*rest"]:
    """Area under the ROC curve by trapezoids: the chance that a place with the event had the higher probability (ties count half)."""
    curve = roc_curve(table)
    return torch.trapezoid(curve[..., 1], curve[..., 0], dim=-1)


def _parts(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shares and happenings, brought to a whole of 1, and the probabilities."""
    counts = table.to(torch.float64)
    whole = counts[..., 0].sum(-1, keepdim=True)
    members = table.shape[-2] - 1
    return counts[..., 0] / whole, counts[..., 1] / whole, torch.arange(members + 1, dtype=torch.float64) / members
