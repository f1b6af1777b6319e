"""Blocks that were compared with the default operator's: with a local kernel, with attention, factorised over the axes.

Each function builds the default operator and puts other blocks into it, on the same latent grids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anygrid.grid import Box, Grid
from anygrid.numerics.bases import Basis
from anygrid.operators import LatentFNO, default_operator
from anygrid.operators.spectral import SpectralConv, spectral_sum


def _halved(linear: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        linear.weight.mul_(0.5)
        linear.bias.zero_()
    return linear


class Local(nn.Module):
    """``z + W gelu(S z + K z)`` with a kernel ``K`` of three points along each axis of the latent grid instead of one."""

    def __init__(self, width: int, spectral: SpectralConv, periodic: tuple[bool, ...]) -> None:
        super().__init__()
        self.spectral, self.periodic = spectral, periodic
        self.kernel = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(periodic) - 1](width, width, 3)
        self.mix = _halved(nn.Linear(width, width))

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        x, d = z.movedim(-1, 1), len(self.periodic)
        for k, wraps in enumerate(self.periodic):
            pad = [0, 0] * (d - 1 - k) + [1, 1] + [0, 0] * k
            x = nn.functional.pad(x, pad, mode="circular" if wraps else "constant")
        return z + self.mix(nn.functional.gelu(self.spectral(z, grid) + self.kernel(x).movedim(1, -1)))


class Sliced(nn.Module):
    """``z + W gelu(S z + P z + A z)``: attention between learned slices (Wu et al., Transolver, 2024, eq. 2-4), four heads of 32 slices."""

    def __init__(self, width: int, spectral: SpectralConv, heads: int = 4, slices: int = 32) -> None:
        super().__init__()
        self.spectral, self.heads = spectral, heads
        self.pointwise, self.mix = nn.Linear(width, width), _halved(nn.Linear(width, width))
        self.share = nn.Linear(width, heads * slices)
        self.value, self.attend, self.back = (
            nn.Linear(width, width),
            nn.Linear(width // heads, 3 * (width // heads)),
            nn.Linear(width, width),
        )

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        x = z.flatten(1, -2)
        shares = self.share(x).unflatten(-1, (self.heads, -1)).softmax(-1).transpose(1, 2)  # batch, head, point, slice
        values = self.value(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        tokens = shares.mT @ values / (shares.sum(2)[..., None] + 1e-5)
        q, k, v = self.attend(tokens).chunk(3, -1)
        tokens = nn.functional.scaled_dot_product_attention(q, k, v)
        attended = self.back((shares @ tokens).transpose(1, 2).flatten(-2)).view_as(z)
        return z + self.mix(nn.functional.gelu(spectral_sum(z, self.spectral, self.pointwise, grid, activations=0) + attended))


class Factorised(nn.Module):
    """``z + W_2 gelu(W_1 sum_k S_k z)``: one spectral layer along each axis (Tran et al., F-FNO, 2023, eq. 6-8)."""

    def __init__(self, width: int, bases: tuple[Basis, ...]) -> None:
        super().__init__()
        self.axes = nn.ModuleList(SpectralConv(width, width, [basis]) for basis in bases)
        for layer in self.axes:
            with torch.no_grad():
                layer.weight.sub_(0.5 / width**2).mul_(width)
        self.first, self.second = nn.Linear(width, 2 * width), _halved(nn.Linear(2 * width, width))

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        assert isinstance(grid, Box)
        total = torch.zeros_like(z)
        for k, layer in enumerate(self.axes):
            lines = z.movedim(k + 1, -2)
            through = layer(lines.reshape(-1, *lines.shape[-2:]), Box((grid.axes[k],)))
            total = total + through.view(lines.shape).movedim(-2, k + 1)
        return z + self.second(nn.functional.gelu(self.first(total)))


def _rebuilt(operator: nn.Module, make: object) -> LatentFNO:
    assert isinstance(operator, LatentFNO)
    operator.blocks = nn.ModuleList(make(block) for block in operator.blocks)  # type: ignore[operator]
    return operator


def local(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    operator = default_operator(inputs, outputs, grid)
    width = operator.arguments["width"]  # type: ignore[index]
    return _rebuilt(operator, lambda block: Local(width, block.spectral, operator.periodic))  # type: ignore[arg-type]


def sliced(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    operator = default_operator(inputs, outputs, grid)
    return _rebuilt(operator, lambda block: Sliced(operator.arguments["width"], block.spectral))  # type: ignore[index]


def factorised(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    operator = default_operator(inputs, outputs, grid, modes=25)
    return _rebuilt(operator, lambda block: Factorised(operator.arguments["width"], block.spectral.bases))  # type: ignore[index]
