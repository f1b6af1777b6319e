"""Fields of a model on sigma levels, brought to levels of pressure, and the pressure at sea level."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["at_pressure", "geopotential_at_pressure", "sea_level_pressure", "temperature_at_pressure"]

GAS = 287.04  # J kg-1 K-1, dry air
GRAVITY = 9.80665  # m s-2
LAPSE = 0.0065  # K m-1, below the lowest level
_EXPONENT = GAS * LAPSE / GRAVITY


def at_pressure(
    values: Float[Tensor, "*batch level lat lon"], sigma: Float[Tensor, "level"], surface: Float[Tensor, "*batch lat lon"], pressure: float
) -> Float[Tensor, "*batch lat lon"]:
    r"""Value at ``pressure`` (Pa) where level ``k`` lies at :math:`p_k = \sigma_k p_s`: linear in :math:`\ln p`.

    Above the highest and below the lowest level the nearest level's value. ``sigma`` ascends (downwards in the air); order 2.
    """
    upper, weight = _place(sigma, surface, pressure)
    below = values.gather(-3, upper + 1)
    return torch.lerp(values.gather(-3, upper), below, weight.clamp(0, 1)).squeeze(-3)


def temperature_at_pressure(
    temperature: Float[Tensor, "*batch level lat lon"],
    sigma: Float[Tensor, "level"],
    surface: Float[Tensor, "*batch lat lon"],
    pressure: float,
) -> Float[Tensor, "*batch lat lon"]:
    r"""Temperature at ``pressure``, also under the ground.

    As :func:`at_pressure` above the lowest level ``b``; below it

    .. math:: T = T_b (p / p_b)^{R \Gamma / g}, \qquad \Gamma = 6.5\ \mathrm{K\,km^{-1}}

    Source: Trenberth, Berry and Buja, NCAR/TN-396+STR (1993), section 2, without their higher-order terms.
    """
    within = at_pressure(temperature, sigma, surface, pressure)
    ratio = pressure / (sigma[-1] * surface)
    return torch.where(ratio > 1, temperature[..., -1, :, :] * ratio**_EXPONENT, within)


def geopotential_at_pressure(
    geopotential: Float[Tensor, "*batch level lat lon"],
    temperature: Float[Tensor, "*batch level lat lon"],
    humidity: Float[Tensor, "*batch level lat lon"],
    sigma: Float[Tensor, "level"],
    surface: Float[Tensor, "*batch lat lon"],
    pressure: float,
) -> Float[Tensor, "*batch lat lon"]:
    r"""Geopotential (m2 s-2) at ``pressure`` (Pa), also under the ground.

    The cubic in :math:`\ln p` with the levels' values and hydrostatic slopes

    .. math:: \partial \Phi / \partial \ln p = -R T_v, \qquad T_v = (1 + 0.608\,q)\,T

    of order 4; above the highest level with its slope, below the lowest the thickness of air of constant lapse rate,

    .. math:: \Phi = \Phi_b + \frac{g\,T_{v,b}}{\Gamma} \big(1 - (p / p_b)^{R \Gamma / g}\big).

    Source: as :func:`temperature_at_pressure`.
    """
    virtual = temperature * (1 + 0.608 * humidity)
    upper, weight = _place(sigma, surface, pressure)
    lower, w = upper + 1, weight.clamp(0, 1)
    step = sigma.log().diff()[upper]
    f0, f1 = geopotential.gather(-3, upper), geopotential.gather(-3, lower)
    s0, s1 = -GAS * step * virtual.gather(-3, upper), -GAS * step * virtual.gather(-3, lower)
    within = f0 + w * (s0 + w * (3 * (f1 - f0) - 2 * s0 - s1 + w * (2 * (f0 - f1) + s0 + s1)))
    within = (within + s0 * weight.clamp(max=0)).squeeze(-3)
    ratio = pressure / (sigma[-1] * surface)
    thickness = GRAVITY / LAPSE * virtual[..., -1, :, :] * (1 - ratio**_EXPONENT)
    return torch.where(ratio > 1, geopotential[..., -1, :, :] + thickness, within)


def sea_level_pressure(
    geopotential: Float[Tensor, "*batch level lat lon"],
    temperature: Float[Tensor, "*batch level lat lon"],
    sigma: Float[Tensor, "level"],
    surface: Float[Tensor, "*batch lat lon"],
) -> Float[Tensor, "*batch lat lon"]:
    r"""Pressure (Pa) where the geopotential would be 0.

    With a constant lapse rate below the lowest level ``b``,

    .. math:: p = p_b \big(1 + \Gamma \Phi_b / (g T_b)\big)^{g / (R \Gamma)}.

    Over high ground it is a convention, as everywhere; the usual corrections for cold and hot plateaus are left out.
    Source: as :func:`temperature_at_pressure`.
    """
    lowest = geopotential[..., -1, :, :] / (GRAVITY * temperature[..., -1, :, :])
    return sigma[-1] * surface * (1 + LAPSE * lowest) ** (1 / _EXPONENT)


def _place(sigma: Tensor, surface: Tensor, pressure: float) -> tuple[Tensor, Tensor]:
    """Index of the level above ``pressure`` and the place between it and the next, in ln p; outside 0 to 1 beyond the last levels."""
    target = (pressure / surface).log().unsqueeze(-3)
    levels = sigma.to(surface.dtype).log()
    upper = (torch.searchsorted(levels, target.contiguous()) - 1).clamp(0, len(sigma) - 2)
    return upper, (target - levels[upper]) / levels.diff()[upper]
