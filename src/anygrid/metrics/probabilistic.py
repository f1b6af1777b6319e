"""Scores of ensembles: the continuous ranked probability score (plain, fair, almost fair) and the spread-skill ratio.

Ensembles are ``(member, case, lead, channel, *space)`` and the truth ``(case, lead, channel, *space)``; a case is one start. Results are
float64 area means ``(case, lead, channel)``, so that a mean over cases is the score and cases can be resampled
(:mod:`anygrid.metrics.bootstrap`). Sums over members run in float64 on values from which the truth was taken away.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.metrics.errors import area_mean

__all__ = ["crps", "gaussian_crps", "pointwise_crps", "spread_and_error", "spread_skill_ratio"]


def pointwise_crps(x: Float[Tensor, "member *shape"], y: Float[Tensor, "*shape"], *, alpha: float = 1.0) -> Float[Tensor, "*shape"]:
    r"""CRPS of an ensemble at every point: mean distance to the truth less half the mean distance between members.

    .. math:: \frac1m \sum_i |x_i - y| - \Big(1 - \frac{1 - \alpha}{m}\Big) \frac{1}{2 m (m - 1)} \sum_{i, j} |x_i - x_j|

    ``alpha = 1`` is the fair score, whose expectation does not depend on the number of members and is least for members drawn as
    the truth is; ``alpha = 0`` is the plain score of the empirical distribution, lower by the lack of members; between lies the
    almost fair one, which training needs so that a point where m - 1 members agree with the truth is not free of charge. The double
    sum costs a sort, :math:`\sum_{i<j} |x_i - x_j| = \sum_i (2 i - m - 1) x_{(i)}`.

    Sources: Ferro (2014), QJRMS 140, 1917, eq. 4 (fair); Lang et al. (2024), arXiv 2412.15832, eq. 4 (almost fair).

    Raises
    ------
    UsageError
        For fewer than 2 members unless ``alpha`` is 0, and for ``alpha`` outside [0, 1].
    """
    m = x.shape[0]
    if not 0 <= alpha <= 1 or m < (1 if alpha == 0 else 2):
        raise UsageError("crps", "2 members or more and alpha in [0, 1]", f"{m} and {alpha:g}", "alpha=0 takes one member")
    d = x.to(torch.float64) - y.to(torch.float64)
    error = d.abs().mean(0)
    if m == 1:
        return error
    weight = (2 * torch.arange(1, m + 1, dtype=torch.float64, device=d.device) - m - 1).reshape(m, *[1] * (d.ndim - 1))
    pairs = (weight * d.sort(0).values).sum(0) / (m * (m - 1))
    return error - (1 - (1 - alpha) / m) * pairs


def crps(
    x: Float[Tensor, "member case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    grid: Grid,
    *,
    alpha: float = 1.0,
) -> Float[Tensor, "case lead channel"]:
    """Area mean of :func:`pointwise_crps`, in the units of the variable; of one forecast (``alpha=0``) the mean absolute error."""
    return area_mean(pointwise_crps(x, truth, alpha=alpha), grid)


def gaussian_crps(mean: Float[Tensor, "*shape"], deviation: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""CRPS of a normal distribution, :math:`\sigma [z (2 \Phi(z) - 1) + 2 \varphi(z) - \pi^{-1/2}]` with :math:`z = (y - \mu)/\sigma`.

    Where the deviation is 0 it is the absolute error. Source: Gneiting et al. (2005), Monthly Weather Review 133, 1098, eq. 5.
    """
    mu, sigma, truth = mean.to(torch.float64), deviation.to(torch.float64), y.to(torch.float64)
    safe = torch.where(sigma > 0, sigma, torch.ones_like(sigma))
    z = (truth - mu) / safe
    density = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    spread = safe * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return torch.where(sigma > 0, spread, (truth - mu).abs())


def spread_and_error(
    x: Float[Tensor, "member case lead channel *space"], truth: Float[Tensor, "case lead channel *space"], grid: Grid
) -> tuple[Float[Tensor, "case lead channel"], Float[Tensor, "case lead channel"]]:
    """Area means of the variance over members (divided by m - 1) and of the squared error of their mean.

    Raises
    ------
    UsageError
        For fewer than 2 members.
    """
    if x.shape[0] < 2:
        raise UsageError("spread_and_error", "2 members or more", str(x.shape[0]), "one forecast has no spread")
    d = x.to(torch.float64) - truth.to(torch.float64)
    return area_mean(d.var(0), grid), area_mean(d.mean(0) ** 2, grid)


def spread_skill_ratio(
    variance: Float[Tensor, "case *rest"], squared_error: Float[Tensor, "case *rest"], members: int
) -> Float[Tensor, "*rest"]:
    r""":math:`\sqrt{(m + 1) / m}\, (\overline{s^2} / \overline{e^2})^{1/2}`: 1 for members drawn as the truth is, below 1 underdispersed.

    The factor is that of a mean over m members, whose squared error is :math:`(1 + 1/m) \sigma^2`; means over cases are taken before
    the root. Source: Fortin et al. (2014), Journal of Hydrometeorology 15, 1708, eq. 15 and 16.
    """
    return math.sqrt((members + 1) / members) * (variance.mean(0) / squared_error.mean(0)).sqrt()
