r"""Rows of a global grid as waves in longitude, and back: the first half of a spherical harmonic transform.

.. math::

    z_m(\mu) = \sum_j u(\mu, \lambda_j)\, e^{-i m \lambda_j}, \qquad
    u(\mu, \lambda_j) = \operatorname{Re} \Big( z_0 + 2 \sum_{m \ge 1} z_m e^{i m \lambda_j} \Big)

Waves are ``(wave, parity, latitude, field, 2)``, real part first, as :mod:`anygrid.numerics.legendre_products` needs them, for
which the wave number (order) is a batch, and field with both parts one wide dimension. From degree 64 on latitudes are folded into sums and
differences of north and south (two parities), which halves the products; below, the folding itself would cost more than they do.

On windows and uneven longitudes, which are only ever written to, a matrix product takes the place of the FFT.

An FFT and one rearrangement at every size: ``benchmarks/results/sphere.json`` has the matrix product beside it (``longitudes``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Sphere
from anygrid.numerics.legendre import has_quadrature

__all__ = ["FOLDED", "Longitudes", "differentiable", "from_waves", "is_folded", "is_smooth", "longitudes", "to_waves"]

FOLDED = 64  # degree from which on half the products are worth the sums and differences


@dataclass(frozen=True, eq=False)
class Longitudes:
    """How the rows of a grid become waves: ``nlon`` points, of which every ``stride``-th point of a longer FFT is one."""

    nlat: int
    nlon: int
    folded: bool
    stride: int  # above 1 where the grid is too coarse for the waves
    phase: Tensor | None  # exp(-i m first longitude), (wave, 1), where that is not 0
    once: Tensor  # how often a wave counts in a real field: 1 for wave number 0 and half of an even number of points, else 2; 5 dimensions
    matrix: Tensor | None  # (wave 2, nlon), cos and -sin, where there is no FFT


@lru_cache(maxsize=64)
def longitudes(grid: Sphere, degree: int, dtype: torch.dtype, device: torch.device) -> Longitudes:
    """How the longitudes of a grid carry waves up to ``degree``."""
    nlat, nlon = grid.shape
    x = np.deg2rad(grid.lon.coordinates())
    even = has_quadrature(grid)
    stride = -(-(2 * degree + 1) // nlon) if even else 1
    waves = np.arange(stride * nlon // 2 + 1 if even else degree + 1)
    with torch.inference_mode(False):
        phase = matrix = None
        if not even:
            angle = np.outer(waves, x)
            matrix = torch.from_numpy(np.stack([np.cos(angle), -np.sin(angle)], 1)).to(device, dtype).flatten(0, 1)
        elif x[0] != 0:
            pair = np.stack([np.cos(waves * x[0]), -np.sin(waves * x[0])], -1)
            phase = torch.view_as_complex(torch.from_numpy(pair).to(device, dtype))[:, None]
        once = torch.full((len(waves), 1, 1, 1, 1), 2.0, dtype=dtype, device=device)
        once[0] = 1.0
        if even and stride * nlon % 2 == 0:
            once[-1] = 1.0
        return Longitudes(nlat, nlon, is_folded(grid, degree), stride, phase, once, matrix)


def is_folded(grid: Sphere, degree: int) -> bool:
    """Whether latitudes are taken in pairs of north and south."""
    return degree >= FOLDED and has_quadrature(grid)


def _to_waves(x: Float[Tensor, "field lat lon"], lon: Longitudes) -> Tensor:
    n = x.shape[0]
    if lon.matrix is not None:
        return (x @ lon.matrix.T).unflatten(2, (-1, 2)).permute(2, 1, 0, 3)[:, None]
    if lon.stride > 1:
        finer = x.new_zeros(n, lon.nlat, lon.nlon, lon.stride)
        finer[..., 0] = x
        x = finer.flatten(2)
    rows = _fold(x) if lon.folded else x.transpose(0, 1)
    z = torch.fft.rfft(rows)
    z = z.reshape(-1, z.shape[-1]).T.contiguous()
    if lon.phase is not None:
        z *= lon.phase
    return torch.view_as_real(z).view(len(z), 1 + lon.folded, -1, n, 2)


def _from_waves(z: Float[Tensor, "wave parity latitude field 2"], lon: Longitudes) -> Tensor:
    if lon.matrix is not None:
        return (z * lon.once)[:, 0].permute(2, 1, 0, 3).flatten(2) @ lon.matrix
    waves = torch.view_as_complex(z.contiguous()).view(z.shape[0], -1)
    if lon.phase is not None:
        waves = waves * lon.phase.conj()
    rows = torch.fft.irfft(waves.T.contiguous(), n=lon.stride * lon.nlon, norm="forward")
    if lon.stride > 1:
        rows = rows[:, :: lon.stride]
    rows = rows.view(*z.shape[1:4], lon.nlon)
    return _unfold(rows, lon.nlat) if lon.folded else rows[0].transpose(0, 1).contiguous()


def _fold(x: Float[Tensor, "field lat lon"]) -> Float[Tensor, "2 half field lon"]:
    """Sums and differences of northern latitudes and their southern partners."""
    south = x.shape[1] // 2
    equator = x.shape[1] - 2 * south  # without a partner
    folded = x.new_empty(2, south + equator, x.shape[0], x.shape[2])
    below, above = x[:, :south].flip(1).transpose(0, 1), x[:, south:].transpose(0, 1)
    if equator:
        folded[:, 0] = above[0]
        above = above[1:]
    torch.add(above, below, out=folded[0, equator:])
    torch.sub(above, below, out=folded[1, equator:])
    return folded


def _unfold(folded: Float[Tensor, "2 half field lon"], nlat: int) -> Float[Tensor, "field lat lon"]:
    """Adjoint of :func:`_fold`."""
    south = nlat // 2
    x = folded.new_empty(folded.shape[2], nlat, folded.shape[3])
    even, odd = folded
    torch.add(even, odd, out=x[:, south:].transpose(0, 1))
    x[:, :south] = torch.sub(even[nlat - 2 * south :], odd[nlat - 2 * south :]).flip(0).transpose(0, 1)
    return x


class _ToWaves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lon: Longitudes) -> Tensor:
        ctx.lon = lon
        return _to_waves(x, lon)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _FromWaves.apply(g / ctx.lon.once, ctx.lon), None


class _FromWaves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, lon: Longitudes) -> Tensor:
        ctx.lon = lon
        return _from_waves(z, lon)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _ToWaves.apply(g, ctx.lon) * ctx.lon.once, None


def to_waves(x: Float[Tensor, "field lat lon"], grid: Sphere, degree: int) -> Float[Tensor, "wave parity latitude field 2"]:
    """Rows of the grid as waves in longitude, without a normalisation."""
    lon = longitudes(grid, degree, x.dtype, x.device)
    return _ToWaves.apply(x, lon) if differentiable(x) else _to_waves(x, lon)


def from_waves(z: Float[Tensor, "wave parity latitude field 2"], grid: Sphere, degree: int) -> Float[Tensor, "field lat lon"]:
    """Rows of the grid from waves in longitude; orders above 0 count twice."""
    lon = longitudes(grid, degree, z.dtype, z.device)
    return _FromWaves.apply(z, lon) if differentiable(z) else _from_waves(z, lon)


def differentiable(x: Tensor) -> bool:
    """Whether autograd follows ``x``: its bookkeeping costs as much as a small transform."""
    return torch.is_grad_enabled() and x.requires_grad


def is_smooth(n: int) -> bool:
    """Whether a number of points has no prime factor above 5, which FFTs like."""
    for p in (2, 3, 5):
        while n % p == 0:
            n //= p
    return n == 1
