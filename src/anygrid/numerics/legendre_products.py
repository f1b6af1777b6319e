r"""Waves of all latitudes to degrees and back, as batched real matrix products: the second half of a spherical harmonic transform.

.. math:: c_l^m = \sum_k w_k\, \bar P_l^m(\mu_k)\, z_m(\mu_k), \qquad z_m(\mu_k) = \sum_l \bar P_l^m(\mu_k)\, c_l^m

with :math:`\bar P`, :math:`m \bar P / \cos\varphi` or :math:`d \bar P / d\varphi`. Coefficients are ``(order, degree, 2 fields)`` here. The
orders are taken in blocks, each of which leaves out the degrees below its first order, and folded latitudes in two parities. Either product
is the adjoint of the other but for the weights, and is differentiated as such, any number of times.
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
from anygrid.numerics.legendre import Kind, latitude_nodes, latitude_quadrature, legendre_table
from anygrid.numerics.longitude_waves import differentiable, is_folded, longitudes

__all__ = ["Tables", "project", "sum_up", "tables"]


@dataclass(frozen=True, eq=False)
class Block:
    """Legendre functions of some orders and degrees: ``matrix`` is ``(order, degree, latitude)``.

    Folded: orders of one parity and every second degree, functions even (``parity`` 0) or odd (1) in latitude. Otherwise all of them.
    """

    orders: slice
    degrees: slice
    parity: int
    matrix: Tensor


@dataclass(frozen=True, eq=False)
class Tables:
    """All blocks of one kind of function on one grid."""

    degree: int
    latitudes: int
    blocks: tuple[Block, ...]


def _block_size(degree: int) -> int:
    """Orders of a block: few large products at low degrees, where each has a price of its own, more of them above, to leave out zeros."""
    parts = 2 if degree < 80 else 4 if degree < 256 else 8
    return 2 * max(1, -(-(degree + 1) // (2 * parts)))


@lru_cache(maxsize=32)
def tables(grid: Sphere, degree: int, kind: Kind, weighted: bool, dtype: torch.dtype, device: torch.device) -> Tables:
    """Tables for analysis (``weighted``) or synthesis, made in float64 and then rounded.

    Raises
    ------
    GridError
        For weights on latitudes without an exact quadrature.
    """
    folded = is_folded(grid, degree)
    sine, cosine = latitude_nodes(grid, north=folded)
    weight = latitude_quadrature(grid)[1][-len(sine) :] if weighted else np.ones(len(sine))
    size, blocks = _block_size(degree) if folded else degree + 1, []
    for first in range(0, degree + 1, size):
        stop = min(first + size, degree + 1)
        table = legendre_table(kind, sine, cosine, degree, first, stop)
        if weighted:
            table *= weight * (2 * np.pi / grid.lon.size)
        for orders, degrees, parity in _pieces(first, stop, degree, kind) if folded else [(slice(0, stop), slice(0, degree + 1), 0)]:
            part = np.ascontiguousarray(table[orders.start - first :: orders.step, degrees])
            with torch.inference_mode(False):
                blocks.append(Block(orders, degrees, parity, torch.from_numpy(part).to(device, dtype)))
    return Tables(degree, len(sine), tuple(blocks))


def _pieces(first: int, stop: int, degree: int, kind: Kind) -> list[tuple[slice, slice, int]]:
    """Orders of one parity, degrees of one parity from the lowest order on, and the parity in latitude of these functions."""
    flipped = 1 if kind == "meridional" else 0  # the derivative of an even function is odd
    starts = [(order, odd) for order in range(first, min(first + 2, stop)) for odd in (0, 1) if order + odd <= degree]
    return [(slice(order, stop, 2), slice(order + odd, degree + 1, 2), odd ^ flipped) for order, odd in starts]


def _project(z: Tensor, t: Tables) -> Tensor:
    z = z.flatten(3)
    if len(t.blocks) == 1:
        return torch.bmm(t.blocks[0].matrix, z[: t.degree + 1, 0])
    c = z.new_zeros(t.degree + 1, t.degree + 1, z.shape[3])
    for block in t.blocks:
        c[block.orders, block.degrees] = torch.bmm(block.matrix, z[block.orders, block.parity])
    return c


def _sum_up(c: Tensor, t: Tables, orders: int) -> Tensor:
    if len(t.blocks) == 1:
        z = c.new_empty(orders, 1, t.latitudes, c.shape[2])
        torch.bmm(t.blocks[0].matrix.mT, c, out=z[: t.degree + 1, 0])
        z[t.degree + 1 :] = 0
        return z.unflatten(3, (-1, 2))
    z = c.new_empty(orders, 2, t.latitudes, c.shape[2])
    z[t.degree :] = 0  # the last order may have functions of one parity only, those above it have none
    for block in t.blocks:
        z[block.orders, block.parity] = torch.bmm(block.matrix.mT, c[block.orders, block.degrees])
    return z.unflatten(3, (-1, 2))


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, t: Tables) -> Tensor:
        ctx.tables, ctx.orders = t, z.shape[0]
        return _project(z, t)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _SumUp.apply(g.contiguous(), ctx.tables, ctx.orders), None


class _SumUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, t: Tables, orders: int) -> Tensor:
        ctx.tables = t
        return _sum_up(c, t, orders)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return _Project.apply(g.contiguous(), ctx.tables), None, None


def project(z: Float[Tensor, "wave parity latitude field 2"], grid: Sphere, degree: int, kind: Kind) -> Float[Tensor, "order degree wide"]:
    """Quadrature of waves against functions of latitude."""
    t = tables(grid, degree, kind, True, z.dtype, z.device)
    return _Project.apply(z, t) if differentiable(z) else _project(z, t)


def sum_up(c: Float[Tensor, "order degree wide"], grid: Sphere, kind: Kind) -> Float[Tensor, "wave parity latitude field 2"]:
    """Waves on the rows of the grid: the sum of functions of latitude."""
    degree = c.shape[0] - 1
    t = tables(grid, degree, kind, False, c.dtype, c.device)
    orders = len(longitudes(grid, degree, c.dtype, c.device).once)
    return _SumUp.apply(c, t, orders) if differentiable(c) else _sum_up(c, t, orders)
