r"""Isotropic Gaussian random fields on the sphere, functions of the generator alone: one seed is the same function on every grid.

.. math:: f(\theta, \lambda) = \sum_{l=0}^{L} \sigma_l \sum_{m=-l}^{l} \xi_{lm} Y_{lm}(\theta, \lambda), \qquad
          \sigma_l^2 \propto e^{-l (l + 1) \ell^2}, \quad \sum_l (2 l + 1) \sigma_l^2 = 1,

with independent :math:`\xi_{lm} \sim N(0, 1)` and real harmonics of unit mean square, so that the variance is 1 everywhere. The law is
that of :func:`anygrid.numerics.random_fields.smooth_field` with the Laplacian of the unit sphere in place of that of a box.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Sphere

__all__ = ["sphere_field"]

_LARGEST = 128  # degree: a table of 181 latitudes then takes 24 MB


def sphere_field(n: int, grid: Sphere, *, length: float, generator: torch.Generator) -> Float[Tensor, "{n} lat lon"]:
    r"""Draw ``n`` analytic isotropic Gaussian fields of variance 1, float64.

    The correlation at a great-circle distance r far below a radian is :math:`e^{-r^2 / (4 \ell^2)}`.

    Parameters
    ----------
    length
        :math:`\ell` in degrees.
    generator
        One seed is drawn from it for each field.

    Raises
    ------
    UsageError
        For a length that is not above 0, or so small that degrees above 128 were needed (2.4 degrees).
    """
    radians = math.radians(length)
    # Beyond exp(-l(l+1) l^2 / 2) = 1e-6 nothing is left of an amplitude.
    degree = max(1, math.ceil(5.3 / radians)) if radians > 0 else 0
    if not 1 <= degree <= _LARGEST:
        least = math.degrees(5.3 / _LARGEST)
        raise UsageError("sphere_field", f"a correlation length from {least:.2g} degrees on", f"{length:g}", "give it in degrees")
    numbers = np.arange(degree + 1)
    deviation = np.exp(-numbers * (numbers + 1) * radians**2 / 2)
    deviation /= math.sqrt(float(((2 * numbers + 1) * deviation**2).sum()))
    cosine, sine = np.zeros((2, n, degree + 1, degree + 1))
    below = np.tril_indices(degree + 1)  # (l, m) in the order of growing l: a longer draw begins with the shorter one
    for k in range(n):
        seed = int(torch.randint(0, 2**62, (), generator=generator, dtype=torch.int64, device=generator.device))
        drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal((len(below[0]), 2))
        cosine[k][below], sine[k][below] = drawn.T * deviation[below[0]]
    table, waves = _legendre(tuple(grid.lat.coordinates().tolist()), degree), np.outer(numbers, np.deg2rad(grid.lon.coordinates()))
    both = np.concatenate([cosine, sine]).transpose(2, 1, 0)  # (m, l, 2 n): a product for each order
    by_order = (table @ both).transpose(2, 1, 0)
    return torch.from_numpy(by_order[:n] @ np.cos(waves) + by_order[n:] @ np.sin(waves))


@lru_cache(maxsize=4)
def _legendre(latitudes: tuple[float, ...], degree: int) -> NDArray[np.float64]:
    r"""Associated Legendre functions ``(m, latitude, l)`` with which ``P_lm cos(m lon)`` has unit mean square over the sphere.

    Forward recurrence in l, stable for these degrees (Holmes and Featherstone 2002, eq. 11 to 13).
    """
    z = np.sin(np.deg2rad(np.array(latitudes)))
    s = np.sqrt(np.clip(1 - z**2, 0, None))
    p = np.zeros((len(z), degree + 1, degree + 1))
    p[:, 0, 0] = 1.0
    for m in range(degree + 1):
        if m > 0:
            p[:, m, m] = s * p[:, m - 1, m - 1] * math.sqrt(3.0 if m == 1 else (2 * m + 1) / (2 * m))
        for k in range(m + 1, degree + 1):
            a = math.sqrt((4 * k**2 - 1) / (k**2 - m**2))
            b = math.sqrt(((k - 1) ** 2 - m**2) / (4 * (k - 1) ** 2 - 1))
            p[:, k, m] = a * (z * p[:, k - 1, m] - (b * p[:, k - 2, m] if k > m + 1 else 0.0))
    return np.ascontiguousarray(p.transpose(2, 0, 1))
