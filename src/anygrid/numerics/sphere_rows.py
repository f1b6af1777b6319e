r"""Fields on the sphere as waves on their rows, channels last: one FFT that filters of small reach and spherical harmonics share.

.. math:: z_m(\mu) = \sum_j u(\mu, \lambda_j)\, e^{-i m \lambda_j}, \qquad 0 \le m \le n / 2

Rows are ``(wave, lat, 2, batch, channel)``, real part first, south first; coefficients here ``(order, degree, 2, batch, channel)``. With
the channels last every map of channels is one plain matrix product. Numbers are those of :mod:`anygrid.numerics.longitude_waves` and
:mod:`anygrid.numerics.spherical_harmonics`, in another order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Sphere
from anygrid.numerics.legendre_products import project, sum_up
from anygrid.numerics.longitude_waves import FOLDED, from_waves, is_folded, to_waves
from anygrid.numerics.spherical_harmonics import Coefficients, check_degree

__all__ = ["Columns", "Rows", "analyse_rows", "from_rows", "standard", "synthesise_rows", "to_rows"]

Rows = Float[Tensor, "wave lat 2 batch channel"]
Columns = Float[Tensor, "order degree 2 batch channel"]


def _unfolded(grid: Sphere) -> int:
    """A degree at which waves are neither folded in latitude nor finer than the grid's points."""
    return min((grid.shape[1] - 1) // 2, FOLDED - 1)


def to_rows(u: Float[Tensor, "batch channel lat lon"], grid: Sphere) -> Rows:
    """Waves of all rows of a global grid, without a normalisation."""
    z = to_waves(u.flatten(0, 1), grid, _unfolded(grid))
    return z.view(len(z), grid.shape[0], u.shape[0], u.shape[1], 2).permute(0, 1, 4, 2, 3).contiguous()


def from_rows(r: Rows, grid: Sphere) -> Float[Tensor, "batch channel lat lon"]:
    """Fields from waves; :func:`to_rows` of the result is ``r`` times the number of longitudes."""
    z = r.permute(0, 1, 3, 4, 2).reshape(len(r), 1, grid.shape[0], -1, 2)
    return from_waves(z, grid, _unfolded(grid)).view(r.shape[3], r.shape[4], *grid.shape)


def analyse_rows(r: Rows, grid: Sphere, degree: int) -> Columns:
    """Spherical harmonic coefficients up to ``degree``.

    Raises
    ------
    GridError
        For latitudes without an exact quadrature, or a degree that the grid cannot tell apart.
    """
    check_degree(degree, grid)
    z = _fold(r.flatten(2)) if is_folded(grid, degree) else r.flatten(2)[:, None]
    return project(z.unflatten(-1, (-1, 2)), grid, degree, "value").unflatten(2, r.shape[2:])


def synthesise_rows(c: Columns, grid: Sphere) -> Rows:
    """Waves on the rows of the grid, ready for :func:`from_rows`; the degree is one that the grid tells apart."""
    z = sum_up(c.flatten(2), grid, "value").flatten(3)
    rows = _unfold(z, grid.shape[0]) if is_folded(grid, c.shape[1] - 1) else z[:, 0]
    return rows.unflatten(2, c.shape[2:])


def standard(c: Columns) -> Coefficients:
    """Coefficients in the order of :mod:`anygrid.numerics.spherical_harmonics`."""
    return c.permute(3, 4, 1, 0, 2)


def _fold(r: Float[Tensor, "wave lat wide"]) -> Float[Tensor, "wave 2 half wide"]:
    """Sums and differences of northern latitudes and their southern partners; an equator has none."""
    south = r.shape[1] // 2
    below = torch.nn.functional.pad(r[:, :south].flip(1), (0, 0, r.shape[1] - 2 * south, 0))
    return torch.stack([r[:, south:] + below, r[:, south:] - below], 1)


def _unfold(z: Float[Tensor, "wave 2 half wide"], nlat: int) -> Float[Tensor, "wave lat wide"]:
    """Values south and north from their even and odd parts."""
    even, odd = z.unbind(1)
    return torch.cat([(even - odd)[:, nlat % 2 :].flip(1), even + odd], 1)
