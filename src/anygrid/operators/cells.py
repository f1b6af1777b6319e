r"""Strided convolution and its transpose, by torch's convolutions or as matrix products, whichever is faster.

Cell :math:`j` of an axis holds the points :math:`s j, \dots, s j + K - 1` for stride :math:`s` and size :math:`K`. A convolution is
a linear map of every cell, a transposed convolution a linear map to every cell whose overlaps add up. As matrix products between
channels-last fields they take half the time of torch's convolutions for one channel, and several times theirs for many, where cutting and
adding copy more numbers than the product reads (``benchmarks/speed/cells.py``).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.operators.lean import activated_linear

__all__ = ["add_cells", "cut_cells", "gather", "spread"]

_MANY = 3  # channels from which on a convolution is faster


def gather(
    x: Float[Tensor, "batch channel *points"], weight: Float[Tensor, "width values"], size: int, stride: int
) -> Float[Tensor, "batch *cells width"]:
    """Linear map of the values of each cell, as :func:`cut_cells` orders them: a convolution with a stride."""
    if not _convolved(x, x.shape[1], size):
        return nn.functional.linear(cut_cells(x, size, stride), weight)
    kernel = weight.unflatten(1, (x.shape[1], size, size)).contiguous(memory_format=torch.channels_last)
    return nn.functional.conv2d(x.contiguous(memory_format=torch.channels_last), kernel, stride=stride).movedim(1, -1)


def spread(
    x: Float[Tensor, "batch *cells width"], layer: nn.Linear, channels: int, size: int, stride: int
) -> Float[Tensor, "batch channel *points"]:
    """Linear map of the activated ``x`` to the values of each cell, added up as by :func:`add_cells`: a transposed convolution."""
    if not _convolved(x, channels, size):
        return add_cells(activated_linear(x, layer), channels, size, stride)
    kernel = layer.weight.unflatten(0, (channels, size, size)).movedim(-1, 0)
    return nn.functional.conv_transpose2d(nn.functional.gelu(x).movedim(-1, 1), kernel, stride=stride)


def _convolved(x: Tensor, channels: int, size: int) -> bool:
    # Cells of one point are a product as they are. Measured in two dimensions, float32 and on the CPU; CUDA's would round to TF32 besides.
    return size > 1 and channels >= _MANY and x.dim() == 4 and x.dtype == torch.float32 and x.device.type == "cpu"


def cut_cells(x: Float[Tensor, "batch channel *points"], size: int, stride: int) -> Float[Tensor, "batch *cells values"]:
    """Values of each cell of ``size`` points along every axis, channel first: ``channels * size**d`` of them."""
    d = x.dim() - 2
    for k in range(d):
        x = x.unfold(k + 2, size, stride)
    return x.movedim(1, d + 1).flatten(d + 1)


def add_cells(y: Float[Tensor, "batch *cells values"], channels: int, size: int, stride: int) -> Float[Tensor, "batch channel *points"]:
    """Transpose of :func:`cut_cells`: cells laid over each other and added up, ``stride * (cells - 1) + size`` points along each axis."""
    d = y.dim() - 2
    y = y.unflatten(-1, (channels, *[size] * d)).movedim(d + 1, 1)
    for dim in reversed(range(2, d + 2)):
        y = _add_along(y.movedim(-1, dim + 1), dim, stride)
    return y


def _add_along(y: Tensor, dim: int, stride: int) -> Tensor:
    """``(..., cells, within, ...)`` to points: values ``q * stride + p`` of cell ``j`` go to point ``(j + q) * stride + p``."""
    cells, size = y.shape[dim], y.shape[dim + 1]
    reach = -(-size // stride)
    after = [0, 0] * (y.dim() - dim - 2)
    y = nn.functional.pad(y, [*after, 0, reach * stride - size]).unflatten(dim + 1, (reach, stride))
    shifted = (nn.functional.pad(y.select(dim + 1, q), [*after, 0, 0, q, reach - 1 - q]) for q in range(reach))
    total = next(shifted)
    for part in shifted:
        total = total + part
    return total.flatten(dim, dim + 1).narrow(dim, 0, stride * (cells - 1) + size)
