"""Where the sun stands, and the sunlight at the top of the atmosphere: functions of date, latitude and longitude alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SOLAR_CONSTANT", "daily_insolation", "insolation", "sun"]

SOLAR_CONSTANT = 1361.0  # W m-2
_DECLINATION = ((0.006918, 0.0), (-0.399912, 0.070257), (-0.006758, 0.000907), (-0.002697, 0.001480))
_DISTANCE = ((1.000110, 0.0), (0.034221, 0.001280), (0.000719, 0.000077))
_TIME = ((0.000075, 0.0), (0.001868, -0.032077), (-0.014615, -0.040849))


def sun(times: NDArray[Any]) -> tuple[Float[Tensor, "time"], Float[Tensor, "time"], Float[Tensor, "time"]]:
    r"""Declination :math:`\delta` (radians), :math:`(\bar r / r)^2`, and the longitude (radians, east) below the sun at ``times`` UTC.

    Fourier series in the fraction of the calendar year, as by Spencer, Search 2 (1971) 172: to 0.0006 radians for the
    declination, 0.0001 for the distance, 35 s for the equation of time. The calendar's leap days shift the sun by up to a day.
    """
    at = times.astype("datetime64[s]")
    years = at.astype("datetime64[Y]")
    begin, end = years.astype("datetime64[s]"), (years + 1).astype("datetime64[s]")
    angle = torch.from_numpy(2 * math.pi * ((at - begin) / (end - begin)))
    day = torch.from_numpy((at - at.astype("datetime64[D]").astype("datetime64[s]")) / np.timedelta64(86400, "s"))
    hour = _series(_TIME, angle)
    return _series(_DECLINATION, angle), _series(_DISTANCE, angle), math.pi - 2 * math.pi * day - hour


def insolation(
    times: NDArray[Any],
    latitude: Float[Tensor, "*space"],
    longitude: Float[Tensor, "*space"],
    solar_constant: float = SOLAR_CONSTANT,
) -> Float[Tensor, "time *space"]:
    r"""Sunlight (W m-2) through a horizontal plane at the top of the atmosphere at each moment, at ``latitude, longitude`` in degrees.

    .. math:: Q = S_0 (\bar r / r)^2 \max(0, \sin\varphi \sin\delta + \cos\varphi \cos\delta \cos h)

    with :math:`h` the angle between the meridian and that of the sun. Source: Spencer (1971), see :func:`sun`.
    """
    declination, distance, below = (x.reshape(-1, *(1,) * latitude.ndim) for x in sun(times))
    phi, angle = latitude.double().deg2rad(), longitude.double().deg2rad() - below
    height = phi.sin() * declination.sin() + phi.cos() * declination.cos() * angle.cos()
    return solar_constant * distance * height.clamp(min=0)


def daily_insolation(
    times: NDArray[Any], latitude: Float[Tensor, "*space"], solar_constant: float = SOLAR_CONSTANT
) -> Float[Tensor, "time *space"]:
    r"""Mean of :func:`insolation` over a day with the sun's declination of ``times``.

    .. math::
        \bar Q = \frac{S_0}{\pi} (\bar r / r)^2 (h_0 \sin\varphi \sin\delta + \cos\varphi \cos\delta \sin h_0),
        \qquad \cos h_0 = -\tan\varphi \tan\delta

    with :math:`h_0` 0 in the polar night and :math:`\pi` under the midnight sun. At the equator at an equinox it is
    :math:`S_0 (\bar r / r)^2 / \pi`. Source: Hartmann, Global Physical Climatology (2nd ed. 2016), equation 2.16.
    """
    declination, distance, _ = (x.reshape(-1, *(1,) * latitude.ndim) for x in sun(times))
    phi = latitude.double().deg2rad()
    half = (-(phi.tan() * declination.tan())).clamp(-1, 1).acos()
    return solar_constant / math.pi * distance * (half * phi.sin() * declination.sin() + phi.cos() * declination.cos() * half.sin())


def _series(coefficients: tuple[tuple[float, float], ...], angle: Tensor) -> Tensor:
    return torch.stack([a * torch.cos(k * angle) + b * torch.sin(k * angle) for k, (a, b) in enumerate(coefficients)]).sum(0)
