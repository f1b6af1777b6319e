"""Smooth Gaussian random fields on any grid: isotropic ones on the sphere, products of waves on a box and at points in one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Grid, Sphere
from anygrid.numerics.random_fields import Family, smooth_field
from anygrid.numerics.sphere_fields import sphere_field

__all__ = ["gaussian_field"]


def gaussian_field(n: int, grid: Grid, *, length: float, generator: torch.Generator) -> Float[Tensor, "{n} *space"]:
    r"""Draw ``n`` analytic fields of mean 0 and variance 1, float64.

    .. math:: \mathrm{corr}(f(x), f(y)) \approx e^{-|x - y|^2 / (4 \ell^2)}

    They are functions of the generator alone, never of the grid: :func:`~anygrid.numerics.sphere_fields.sphere_field` on a sphere, else
    :func:`~anygrid.numerics.random_fields.smooth_field`, periodic where the axis is, with zero normal derivative at other ends (where
    the variance is above its mean).

    Parameters
    ----------
    length
        :math:`\ell` in units of the coordinates; on the sphere in degrees of a great circle.

    Raises
    ------
    UsageError
        For a length that is not above 0, or too short for the domain.
    """
    if isinstance(grid, Sphere):
        return sphere_field(n, grid, length=length, generator=generator)
    families: list[Family] = ["periodic" if interval.periodic else "cosine" for interval in grid.domain]
    return smooth_field(n, grid, families, length=length, generator=generator)
