"""Skill of roll-outs and forecasts by lead: RMSE, anomaly correlation, mean-square-error skill, with area weights.

Tensors are ``(case, lead, channel, *space)``; a case is one start. Results are float64 with one number per lead and channel.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Grid
from anygrid.metrics.errors import area_mean

__all__ = ["anomaly_correlation", "mse_skill", "relative_l2_by_lead", "rmse_by_lead"]


def _squared(u: Tensor, truth: Tensor, grid: Grid) -> Tensor:
    return area_mean((u.to(torch.float64) - truth.to(torch.float64)) ** 2, grid)


def rmse_by_lead(
    u: Float[Tensor, "case lead channel *space"], truth: Float[Tensor, "case lead channel *space"], grid: Grid
) -> Float[Tensor, "lead channel"]:
    r""":math:`(\frac1N \sum_{cases} \langle (u - v)^2 \rangle)^{1/2}`, the root outside (WeatherBench 2)."""
    return _squared(u, truth, grid).mean(0).sqrt()


def relative_l2_by_lead(
    u: Float[Tensor, "case lead channel *space"], truth: Float[Tensor, "case lead channel *space"], grid: Grid
) -> Float[Tensor, "case lead channel"]:
    r""":math:`\|u - v\| / \|v\|` of every case, lead and channel."""
    return (_squared(u, truth, grid) / area_mean(truth.to(torch.float64) ** 2, grid)).sqrt()


def anomaly_correlation(
    u: Float[Tensor, "case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    climatology: Float[Tensor, "case lead channel *space"] | Float[Tensor, "channel *space"],
    grid: Grid,
) -> Float[Tensor, "lead channel"]:
    r"""Mean over cases of :math:`\langle u' v' \rangle / (\langle u'^2 \rangle \langle v'^2 \rangle)^{1/2}`, ``'`` = minus climatology.

    The uncentred form (WeatherBench 2): the mean anomaly over the domain is part of the skill. ``climatology``
    is one field, or the field valid at each case and lead. Nan where a field equals the climatology everywhere.
    """
    c = climatology.to(torch.float64)
    p, q = u.to(torch.float64) - c, truth.to(torch.float64) - c
    return (area_mean(p * q, grid) / (area_mean(p**2, grid) * area_mean(q**2, grid)).sqrt()).mean(0)


def mse_skill(
    u: Float[Tensor, "case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    reference: Float[Tensor, "case lead channel *space"],
    grid: Grid,
) -> Float[Tensor, "lead channel"]:
    r""":math:`1 - \mathrm{MSE}(u) / \mathrm{MSE}(\text{reference})`: 1 is perfect, 0 no better than the reference, below 0 worse.

    With the reference constant in lead this is the skill against persistence; with the climatology, against climatology.
    Source: Murphy (1988), Monthly Weather Review 116, 2417-2424.
    """
    return 1 - _squared(u, truth, grid).mean(0) / _squared(reference, truth, grid).mean(0)
