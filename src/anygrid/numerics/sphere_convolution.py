r"""Convolution with filters of small reach on the sphere: discrete in the data, continuous in the filter (DISCO).

.. math::

    v_o(x) = \sum_c \sum_b W_{bco} \int \phi_b(x, x')\, u_c(x')\, dx' \approx \sum_{c, b} W_{bco} \sum_j q_j\, \phi_b(x, x_j)\, u_c(x_j)

(Ocampo, Price and McEwen 2023, arXiv:2209.13603) with the filters of :class:`~anygrid.numerics.cap_filters.CapFilters` and the
quadrature of the grid: the layer means the same at every resolution. Rows of longitude are shift-invariant, so the sum over longitude is a
product of waves, and what is left is one banded real matrix in latitude for each wave: poles, where a cap holds whole rows, cost no more
than the equator. ``benchmarks/speed/sphere_operators.py`` has a sparse matrix product beside it.

The rows of every matrix are corrected so that filters without direction average constants exactly, and the others map them to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import GridError
from anygrid.grid import Sphere
from anygrid.numerics.cap_filters import CapFilters
from anygrid.numerics.legendre import latitude_nodes, latitude_quadrature
from anygrid.numerics.sphere_rows import Rows, from_rows, to_rows

__all__ = ["convolve", "convolve_rows"]

_BLOCK = 8  # latitudes of one product: a band of the matrix, with few zeros beside it


@dataclass(frozen=True, eq=False)
class _Band:
    """Matrices from the latitudes ``inside`` to a block of latitudes ``rows``: (wave, rows, inside) for each filter."""

    rows: slice
    inside: slice
    matrices: tuple[Tensor, ...]


def convolve(
    u: Float[Tensor, "batch inputs lat lon"], weight: Float[Tensor, "size inputs outputs"], grid: Sphere, filters: CapFilters
) -> Float[Tensor, "batch outputs lat lon"]:
    """The convolution of a field on a global grid.

    Raises
    ------
    GridError
        For latitudes without an exact quadrature, or a field or weights of another shape.
    """
    if tuple(u.shape[2:]) != grid.shape or tuple(weight.shape[:2]) != (filters.size, u.shape[1]):
        expected = f"a field on {grid.shape[0]}x{grid.shape[1]} points and weights ({filters.size}, {u.shape[1]}, outputs)"
        raise GridError("convolve", expected, f"{tuple(u.shape)} and {tuple(weight.shape)}")
    return from_rows(convolve_rows(to_rows(u, grid), weight, grid, filters), grid)


def convolve_rows(
    r: Rows, weight: Float[Tensor, "size channel outputs"], grid: Sphere, filters: CapFilters
) -> Float[Tensor, "wave lat 2 batch outputs"]:
    """The convolution between waves: the channels are mapped first, which leaves nothing wide to keep for the backward pass."""
    waves, nlat, _, batch, _ = r.shape
    bands, even, odd = _bands(grid, filters, r.dtype, r.device), None, None
    for b, (_, _, sine) in enumerate(filters.harmonics):
        part = _Banded.apply((r.flatten(0, 3) @ weight[b]).view(waves, nlat, -1), bands, b, False)
        if sine:
            odd = part if odd is None else odd + part
        else:
            even = part if even is None else even + part
    assert even is not None
    return (even if odd is None else even + _turned(odd)).view(waves, nlat, 2, batch, -1)


class _Banded(torch.autograd.Function):
    """Product with the banded matrices of one filter, or with their transposes: each is the adjoint of the other."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, bands: tuple[_Band, ...], number: int, transposed: bool) -> Tensor:
        ctx.bands, ctx.number, ctx.transposed = bands, number, transposed
        out = torch.zeros_like(z) if transposed else torch.empty_like(z)
        for band in bands:
            matrix = band.matrices[number]
            if transposed:
                out[:, band.inside].baddbmm_(matrix.mT, z[:, band.rows])
            else:
                torch.bmm(matrix, z[:, band.inside], out=out[:, band.rows])
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        return _Banded.apply(g.contiguous(), ctx.bands, ctx.number, not ctx.transposed), None, None, None


def _turned(z: Float[Tensor, "wave lat wide"]) -> Tensor:
    """Times the imaginary unit."""
    real, imaginary = z.chunk(2, -1)
    return torch.cat([-imaginary, real], -1)


@lru_cache(maxsize=32)
def _bands(grid: Sphere, filters: CapFilters, dtype: torch.dtype, device: torch.device) -> tuple[_Band, ...]:
    sine, cosine = latitude_nodes(grid, north=False)
    latitude, reach = np.arctan2(sine, cosine), np.deg2rad(filters.cutoff)
    bands = []
    for first in range(0, len(sine), _BLOCK):
        last = min(first + _BLOCK, len(sine))
        near = np.nonzero((latitude > latitude[first] - reach) & (latitude < latitude[last - 1] + reach))[0]
        inside = slice(int(near[0]), int(near[-1]) + 1)
        rows = slice(first, last)
        table = _table(grid, filters, rows, inside)
        with torch.inference_mode(False):
            matrices = tuple(torch.from_numpy(np.ascontiguousarray(np.moveaxis(t, -1, 0))).to(device, dtype) for t in table)
        bands.append(_Band(rows, inside, matrices))
    return tuple(bands)


def _table(grid: Sphere, filters: CapFilters, rows: slice, inside: slice) -> NDArray[np.float64]:
    """Real factors ``(filter, output latitude, input latitude, wave)``: of the waves themselves, or of ``i`` times them for sines."""
    nlon, (sine, cosine) = grid.shape[1], latitude_nodes(grid, north=False)
    turn = 2 * np.pi * np.arange(nlon // 2 + 1) / nlon  # the other half mirrors this one
    s, c = sine[rows, None, None], cosine[rows, None, None]
    other, across = sine[None, inside, None], cosine[None, inside, None]
    north, east = c * other - s * across * np.cos(turn), np.broadcast_to(across * np.sin(turn), (s.size, other.size, len(turn)))
    values = filters.values(north, east, s * other + c * across * np.cos(turn))
    odd = np.array([sin for _, _, sin in filters.harmonics])[:, None, None, None]
    mirrored = values[..., (nlon - 1) // 2 : 0 : -1]
    spectrum = np.fft.rfft(np.concatenate([values, np.where(odd, -mirrored, mirrored)], -1), axis=-1)
    # The sum over longitudes correlates: the conjugate of the transform, i times the sum with the sine where the filter is odd.
    table = np.where(odd, -spectrum.imag, spectrum.real) * (latitude_quadrature(grid)[1][inside, None] * 2 * np.pi / nlon)
    total = table[..., 0].sum(2)[..., None, None]
    plain = 0
    for b, (_, n, _) in enumerate(filters.harmonics):  # the filter without direction is the first of its radial number
        if n == 0:
            plain = b
            table[b] /= total[b]
        else:
            table[b] -= total[b] * table[plain]
    return table / nlon
