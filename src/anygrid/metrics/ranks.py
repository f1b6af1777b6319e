"""Rank histograms of ensembles, and a test of their flatness that knows that neighbouring points are not independent."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.metrics.errors import area_shares

__all__ = ["Flatness", "flatness", "rank_histogram", "rank_shares", "ranks"]


def ranks(x: Float[Tensor, "member *shape"], y: Float[Tensor, "*shape"], generator: torch.Generator) -> Int[Tensor, "*shape"]:
    r"""Rank of the truth among the members, :math:`\#\{x_i < y\} + U`, with U uniform on the ties: 0 lowest, m highest.

    Random ties keep the histogram of a bounded variable (rain, humidity) flat. Source: Hamill (2001), Monthly Weather Review 129, 550.
    """
    below = (x < y).sum(0)
    ties = (x == y).sum(0)
    drawn = torch.rand(ties.shape, generator=generator, dtype=torch.float64)
    return below + (drawn * (ties + 1)).floor().to(below.dtype)


def rank_histogram(
    x: Float[Tensor, "member case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    grid: Grid,
    generator: torch.Generator,
    *,
    bins: int | None = None,
) -> Float[Tensor, "case lead channel rank"]:
    """Share of the area where the truth has each rank; each case, lead and channel sums to 1. ``bins`` as in :func:`rank_shares`."""
    return rank_shares(ranks(x, truth, generator), len(x), grid, generator, bins=bins)


def rank_shares(
    found: Int[Tensor, "case lead channel *space"], members: int, grid: Grid, generator: torch.Generator, *, bins: int | None = None
) -> Float[Tensor, "case lead channel rank"]:
    """Share of the area where the truth has each of the ranks ``found`` among ``members``.

    With ``bins``, for many members: shares of :math:`(r + U) / (m + 1)` in even bins of [0, 1], U uniform. Members drawn as the truth is
    make that uniform for any number of them, whether or not the bins divide the ranks.
    """
    size = members + 1
    if bins is None:
        return area_shares(found, size, grid)
    spread = torch.rand(found.shape, generator=generator, dtype=torch.float64)
    return area_shares(((found + spread) * (bins / size)).floor().long().clamp(max=bins - 1), bins, grid)


@dataclass(frozen=True)
class Flatness:
    """Test of a flat rank histogram.

    Attributes
    ----------
    statistic
        Pearson's :math:`\\chi^2 = n_{eff} \\sum_r (f_r - p)^2 / p` with ``p = 1 / (m + 1)``.
    effective
        Number of independent ranks that the cases are worth, :math:`n_{eff}`.
    degrees
        Degrees of freedom: of the histogram, and of the estimate of ``effective``.
    p_value
        Chance of such a statistic under flatness.
    """

    statistic: float
    effective: float
    degrees: tuple[int, int]
    p_value: float


def flatness(histogram: Float[Tensor, "case rank"], *, block: int = 1) -> Flatness:
    r"""Chi-square test of flatness with an effective sample size estimated from how much the histogram varies between cases.

    The ranks of one case are correlated in space, and those of cases close in time with each other, so that points must not be counted.
    The shares :math:`f_{br}` of B blocks of consecutive cases do show it: were each worth n independent ranks, their variance would be
    :math:`p_r (1 - p_r) / n`. With :math:`S^2_r` the variance of the shares around their mean,

    .. math:: n_{eff} = B\, \frac{\sum_r f_r (1 - f_r)}{\sum_r S_r^2}, \qquad
              \frac{\chi^2}{K} \sim F(K, K (B - 1)), \quad K = m.

    This is the first-order correction of Rao and Scott (1981), Journal of the American Statistical Association 76, 221, with the F
    reference of Thomas and Rao (1987), ibid. 82, 630. It is approximate for few blocks; 10 or more are needed to trust it.

    Raises
    ------
    UsageError
        For fewer than 2 blocks, or a histogram of one rank.
    """
    cases, size = histogram.shape
    blocks = cases // block if block > 0 else 0
    if blocks < 2 or size < 2:
        hint = "one case cannot say how independent its points are"
        raise UsageError("flatness", "2 blocks of cases or more, and 2 ranks or more", f"{blocks} and {size}", hint)
    # Blocks of nearly equal length, so that no case is left out.
    edges = [round(k * cases / blocks) for k in range(blocks + 1)]
    share = torch.stack([histogram[a:b].to(torch.float64).mean(0) for a, b in pairwise(edges)])
    mean = share.mean(0)
    varies = float(share.var(0).sum())
    worth = float((mean * (1 - mean)).sum())
    effective = blocks * worth / varies if varies > 0 else float("inf")
    flat, degrees = 1 / size, (size - 1, (size - 1) * (blocks - 1))
    distance = float(((mean - flat) ** 2).sum()) / flat
    statistic = effective * distance if distance > 0 else 0.0
    return Flatness(statistic, effective, degrees, float(stats.f.sf(statistic / degrees[0], *degrees)))
