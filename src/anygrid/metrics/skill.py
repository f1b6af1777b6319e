"""Skill of roll-outs and forecasts by lead: RMSE, bias, anomaly correlation, activity, spectra; area weights.

Tensors are ``(case, lead, channel, *space)``; a case is one start. Results are float64, per lead and channel or also per case.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Grid, Sphere
from anygrid.metrics.errors import area_mean
from anygrid.numerics.sphere_calculus import power_by_degree
from anygrid.numerics.spherical_harmonics import analyse

__all__ = [
    "activity",
    "anomaly_correlation",
    "bias_by_lead",
    "energy_by_wavenumber",
    "mse_skill",
    "relative_l2_by_lead",
    "rmse_by_lead",
]


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


def bias_by_lead(
    u: Float[Tensor, "case lead channel *space"], truth: Float[Tensor, "case lead channel *space"], grid: Grid
) -> Float[Tensor, "case lead channel"]:
    r"""Mean error :math:`\langle u - v \rangle` of every case, in the units of the variable."""
    return area_mean(u.to(torch.float64) - truth.to(torch.float64), grid)


def activity(
    u: Float[Tensor, "case lead channel *space"],
    climatology: Float[Tensor, "case lead channel *space"] | Float[Tensor, "channel *space"],
    grid: Grid,
) -> Float[Tensor, "case lead channel"]:
    r"""Standard deviation of the anomaly over the domain, :math:`\langle (u' - \langle u' \rangle)^2 \rangle^{1/2}`, of every case.

    A forecast that smooths its fields to lower its RMSE is less active than the truth: look at the ratio of the two.
    Source: Ben Bouallègue et al. (2024), Bulletin of the AMS 105, E864.
    """
    anomaly = u.to(torch.float64) - climatology.to(torch.float64)
    centred = anomaly - area_mean(anomaly, grid).reshape(*anomaly.shape[:3], *[1] * (anomaly.ndim - 3))
    return area_mean(centred**2, grid).sqrt()


def energy_by_wavenumber(u: Float[Tensor, "case lead channel lat lon"], grid: Sphere) -> Float[Tensor, "case lead channel degree"]:
    r"""Mean square by total wavenumber, :math:`E_l = \frac{1}{4\pi} \sum_m |\hat u_l^m|^2`; :math:`\sum_l E_l = \langle u^2 \rangle`.

    Up to the degree that the grid holds exactly. The ratio of the forecast's to the truth's shows at which scales it is too smooth
    (below 1) or noisy (above 1), whether or not the phases are right.

    Raises
    ------
    GridError
        On a window, or latitudes without an exact quadrature.
    """
    c = analyse(u.to(torch.float64).flatten(0, 1), grid)
    return power_by_degree(c).unflatten(0, u.shape[:2])
