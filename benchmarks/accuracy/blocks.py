"""Blocks that were compared with the default operator's: with a local kernel, with attention, factorised over the axes, in a U, with
modes that grow in number as the training goes on.

Each function builds the default operator and puts other blocks into it, on the same latent grids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from anygrid.grid import Box, Grid
from anygrid.numerics.bases import Basis
from anygrid.numerics.interpolation import interpolate
from anygrid.operators import LatentFNO, default_operator
from anygrid.operators.latent_fno import Block
from anygrid.operators.spectral import SpectralConv, spectral_sum
from anygrid.operators.transforms import half_axis
from anygrid.training.coarsen import coarsen


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


class U(nn.Module):
    """Two blocks on the coarse latent grid with three on every second point of it between them (U-FNO, Wen et al. 2022, in form only).

    What comes back is interpolated and added to what went down, so that no width is spent on joining them.
    """

    def __init__(self, width: int, bases: tuple[Basis, ...], inner: tuple[Basis, ...]) -> None:
        super().__init__()
        self.down, self.up = Block(width, SpectralConv(width, width, bases)), Block(width, SpectralConv(width, width, bases))
        self.inner = nn.ModuleList(Block(width, SpectralConv(width, width, inner)) for _ in range(3))

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        z = self.down(z, grid)
        (x,), half = coarsen([z.movedim(-1, 1)], grid, 2)
        y = before = x.movedim(1, -1)
        for block in self.inner:
            y = block(y, half)
        return self.up(z + interpolate((y - before).movedim(-1, 1), half, grid).movedim(1, -1), grid)


def _masked(layer: SpectralConv, modes: Callable[[int], int]) -> None:
    """Modes above ``modes(step)`` keep weights of zero: their gradient is taken away until their time has come."""
    waves, half = torch.zeros(()), half_axis(layer.bases)
    for k, basis in enumerate(layer.bases):
        own = torch.arange(basis.highest + 1) if k == half else (torch.arange(basis.count) - basis.count // 2).abs()
        waves = torch.maximum(waves[..., None], own.float())
    waves, count = waves[..., None, None], [0]
    with torch.no_grad():
        layer.weight.mul_(waves <= modes(0) // 2)

    def hook(gradient: Tensor) -> Tensor:
        kept = modes(count[0])
        count[0] += 1
        return gradient if kept // 2 >= waves.max() else gradient * (waves <= kept // 2)

    layer.weight.register_hook(hook)


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


def u_shaped(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    operator = default_operator(inputs, outputs, grid)
    assert isinstance(operator, LatentFNO)
    bases = operator.blocks[0].spectral.bases  # type: ignore[union-attr]
    _, coarse = operator.latent_grids(grid)
    assert isinstance(coarse, Box)
    halves = [axis.size // 2 if axis.periodic else (axis.size - 1) // 2 + 1 for axis in coarse.axes]
    inner = tuple(replace(b, count=min(b.count, n - 1 + n % 2)) for b, n in zip(bases, halves, strict=True))  # type: ignore[arg-type]
    operator.blocks = nn.ModuleList([U(operator.arguments["width"], bases, inner)])  # type: ignore[arg-type]
    return operator


def growing(steps: int) -> Callable[[int, int, Grid], nn.Module]:
    """The default operator with 5 modes along each axis at first and all of its 17 from half of the training on."""

    def build(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        operator = default_operator(inputs, outputs, grid)
        for block in operator.blocks:  # type: ignore[union-attr]
            _masked(block.spectral, lambda step: min(17, 5 + round(24 * step / steps)))  # type: ignore[union-attr,arg-type]
        return operator

    return build
