r"""Sums over many scattered points and a tensor product of functions, whose matrix is made in parts and never held.

.. math:: T_{jk} = r_j\, \overline{\phi_{k_1}(x_{j1}) \cdots \phi_{k_d}(x_{jd})}\, s_k, \qquad
    (Tc)_j = \operatorname{Re} \sum_k T_{jk}\, \bar c_k, \qquad (T^\top u)_k = \sum_j T_{jk}\, u_j

A million points and 17 x 17 modes make a matrix of 1.2 GB; the functions of each axis alone take 0.2 GB, and a part of the matrix is a few
products of them. Both maps are linear and the adjoint of each other, so the backward pass of one is the other, which makes its parts again.
Fields are ``(batch, points, channel)``, coefficients ``(batch, *coefficients, channel)``, real part first where they are pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.operators.lean import recomputing

__all__ = ["Scattered"]

_PART = 1 << 19  # numbers in a part of the matrix: 2 MB in float32, which stay in the cache between making and using them


@dataclass(frozen=True, eq=False)
class Scattered:
    """The matrix of some points by the coefficients of a tensor product of functions.

    Parameters
    ----------
    tables
        Gives for each axis the conjugates of its functions at the points, ``(parts, modes, points)``: one part where they are real, else
        real and imaginary part.
    rows, columns
        The factors :math:`r`, ``(points, 1)``, and :math:`s`, ``(*modes, 1)``; 1 where there are none.
    coefficients
        Shape of the coefficients between batch and channels.
    """

    tables: Callable[[], tuple[Tensor, ...]]
    rows: Tensor | None
    columns: Tensor | None
    coefficients: tuple[int, ...]

    @torch.compiler.disable  # its loop over parts would be unrolled
    def integrate(self, u: Float[Tensor, "batch points channel"]) -> Float[Tensor, "batch *coefficients channel"]:
        """Coefficients :math:`T^\\top u`."""
        return _Integrate.apply(u, self) if recomputing(u) else _integrate(u, self)

    @torch.compiler.disable
    def sum_up(
        self, c: Float[Tensor, "batch *coefficients channel"], onto: Float[Tensor, "batch points channel"] | None = None
    ) -> Float[Tensor, "batch points channel"]:
        """Values :math:`T c` at the points; added in place to ``onto`` where that is given (without gradients)."""
        if onto is None and recomputing(c):
            return _SumUp.apply(c, self)
        return _sum_up(c, self, onto)

    def whole(self) -> Float[Tensor, "points coefficients"]:
        """The matrix :math:`T`, all of it."""
        matrix = _products(list(self.tables())).T
        if self.columns is not None:
            pairs = matrix.shape[1] // self.columns.numel()
            matrix = matrix * self.columns.flatten().repeat(pairs)
        return matrix if self.rows is None else matrix * self.rows

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Which points, and the transpose of their part of the matrix without its factors: ``(coefficients, points)``."""
        tables = self.tables()
        size = max(64, _PART // math.prod(self.coefficients))
        for start in range(0, tables[0].shape[-1], size):
            which = slice(start, start + size)
            yield which, _products([table[..., which] for table in tables])


def _products(tables: list[Tensor]) -> Tensor:
    """Conjugate functions of all axes together, ``([2 x] modes, points)``."""
    z = tables[0]
    for table in tables[1:]:
        product = z.new_empty(max(len(z), len(table)), z.shape[1], *table.shape[1:])
        left, right = z[:, :, None], table[:, None]
        torch.mul(left[0], right[0], out=product[0])
        if len(product) == 2:
            torch.mul(left[0], right[1], out=product[1]) if len(table) == 2 else torch.mul(left[1], right[0], out=product[1])
        if len(z) == len(table) == 2:
            product[0].addcmul_(left[1], right[1], value=-1)
            product[1].addcmul_(left[1], right[0])
        z = product.flatten(1, 2)
    return z.flatten(0, 1)


def _integrate(u: Tensor, matrix: Scattered) -> Tensor:
    total: Tensor | None = None
    for which, part in matrix.parts():
        near = u[:, which] if matrix.rows is None else u[:, which] * matrix.rows[which]
        c = torch.matmul(part, near)
        total = c if total is None else total + c
    assert total is not None
    c = total.reshape(u.shape[0], *matrix.coefficients, u.shape[-1])
    return c if matrix.columns is None else c * matrix.columns


def _sum_up(c: Tensor, matrix: Scattered, onto: Tensor | None = None) -> Tensor:
    flat = (c if matrix.columns is None else c * matrix.columns).flatten(1, -2)
    parts = []
    for which, part in matrix.parts():
        u = torch.matmul(part.T, flat)
        u = u if matrix.rows is None else u * matrix.rows[which]
        if onto is None:
            parts.append(u)
        else:
            onto[:, which] += u
    return torch.cat(parts, 1) if onto is None else onto


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, matrix: Scattered) -> Tensor:
        ctx.matrix = matrix
        return _integrate(u, matrix)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.sum_up(g), None


class _SumUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, matrix: Scattered) -> Tensor:
        ctx.matrix = matrix
        return _sum_up(c, matrix)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.integrate(g), None
