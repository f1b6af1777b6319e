"""Quantiles of ensembles: their pinball score, and how often intervals between them hold the truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.metrics.errors import area_mean

__all__ = ["coverage", "expected_coverage", "member_quantiles", "pinball"]


def member_quantiles(x: Float[Tensor, "member *shape"], levels: Sequence[float]) -> Float[Tensor, "level *shape"]:
    """Quantiles over the members, linear between order statistics (Hyndman and Fan 1996, type 7: numpy's), float64.

    Raises
    ------
    UsageError
        For levels outside [0, 1].
    """
    if not levels or min(levels) < 0 or max(levels) > 1:
        raise UsageError("member_quantiles", "levels in [0, 1]", str(list(levels)))
    s, out = x.to(torch.float64).sort(0).values, []
    for level in levels:
        place = level * (len(s) - 1)
        low = min(int(place), len(s) - 1)
        out.append(torch.lerp(s[low], s[min(low + 1, len(s) - 1)], place - low))
    return torch.stack(out)


def pinball(
    quantile: Float[Tensor, "level case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    levels: Sequence[float],
    grid: Grid,
) -> Float[Tensor, "case lead channel level"]:
    r"""Area mean of the quantile score :math:`(\mathbb 1\{y < q\} - \tau)(q - y)`, least in expectation for the true quantile.

    For levels near 0 or 1 it is the score of extremes; the mean over all levels is half the CRPS.
    Source: Koenker and Bassett (1978), Econometrica 46, 33; Gneiting (2011), International Journal of Forecasting 27, 197, eq. 2.
    """
    y = truth.to(torch.float64)
    scores = []
    for q, level in zip(quantile.to(torch.float64), levels, strict=True):
        scores.append(area_mean(((y < q).to(torch.float64) - level) * (q - y), grid))
    return torch.stack(scores, -1)


def coverage(
    low: Float[Tensor, "case lead channel *space"],
    high: Float[Tensor, "case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    grid: Grid,
) -> Float[Tensor, "case lead channel"]:
    """Share of the area where the truth lies between two bounds, both included."""
    return area_mean(((truth >= low) & (truth <= high)).to(torch.float64), grid)


def expected_coverage(level: float, members: int) -> float:
    r"""Coverage that a perfect ensemble of m members reaches between its quantiles :math:`(1 \mp c)/2`: :math:`c (m - 1) / (m + 1)`.

    The truth falls with equal chance between any two of m + 1 neighbouring members, and a type-7 quantile p stands
    :math:`p (m - 1)` steps above the lowest. Exact for uniform members, near that for others.
    """
    return level * (members - 1) / (members + 1)
