"""Sine series on the interior vertices of even bounded axes, where functions that vanish at the ends live."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Box

__all__ = ["difference_symbol", "multiply_sines"]


def multiply_sines(u: Float[Tensor, "batch channel *space"], symbol: Float[Tensor, "*modes"]) -> Float[Tensor, "batch channel *space"]:
    r"""Multiply the sine coefficients of the interior values of ``u`` by ``symbol``; the result is zero on the boundary.

    .. math:: u = \sum_j \hat u_j \prod_i \sin(\pi j_i x_i / \ell_i), \qquad \hat u_j \to s_j \hat u_j, \quad j_i = 1 \dots n_i - 2

    ``symbol`` has two entries fewer than ``u`` along each axis. Two type-1 transforms an axis; differentiable.
    """
    ndim = symbol.ndim
    c = u
    for dim in range(-ndim, 0):
        c = _transform(c.narrow(dim, 1, c.shape[dim] - 2), dim)
    c = c * symbol / math.prod(2.0 * (n + 1) for n in symbol.shape)
    for dim in range(-ndim, 0):
        c = _transform(c, dim)
    return torch.nn.functional.pad(c, (1, 1) * ndim)


def difference_symbol(box: Box, device: torch.device) -> Float[Tensor, "*modes"]:
    r"""Eigenvalues :math:`\sum_i (2 - 2 \cos(\pi j_i / (n_i - 1))) / h_i^2` of the 3-, 5- or 7-point ``-Laplacian`` beyond zero values."""
    total = torch.zeros((1,) * box.ndim, dtype=torch.float64, device=device)
    for k, axis in enumerate(box.axes):
        m = axis.size - 1
        j = torch.arange(1, m, dtype=torch.float64, device=device)
        line = (2 - 2 * torch.cos(math.pi * j / m)) * (m / axis.interval.length) ** 2
        total = total + line.reshape([-1 if i == k else 1 for i in range(box.ndim)])
    return total


def _transform(x: Tensor, dim: int) -> Tensor:
    """``2 sum_m x_m sin(pi (j+1)(m+1) / (M+1))``, the type-1 transform, through the FFT of the odd extension."""
    zero = torch.zeros_like(x.narrow(dim, 0, 1))
    odd = torch.cat([zero, x, zero, -x.flip(dim)], dim=dim)
    return -torch.fft.rfft(odd, dim=dim).imag.narrow(dim, 1, x.shape[dim])
