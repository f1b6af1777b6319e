"""Plain U-Net (Ronneberger et al. 2015, arXiv:1505.04597), the honest convolutional baseline.

It sees pixels, not functions: the same weights mean another operator on another resolution, which is what it is here to show. On a shard
every convolution and every change of level needs a row from each neighbouring rank, every norm two sums over ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.collectives import Rows, sum_over_ranks, with_halo
from anygrid.errors import GridError, UsageError
from anygrid.grid import Grid, Points
from anygrid.operators.layers import check_input, coordinate_features, feature_count, move
from anygrid.shard import rows_of

__all__ = ["UNet"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class _Conv(nn.Module):
    """Convolution of width 3 that wraps periodic axes and repeats the edge value on bounded ones."""

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool], stride: int = 1) -> None:
        super().__init__()
        self.periodic = tuple(periodic)
        self.conv = _CONV[len(periodic)](inputs, outputs, 3, stride=stride)

    def forward(self, x: Tensor, rows: Rows | None) -> Tensor:
        d = len(self.periodic)
        x = with_halo(x, rows, 1, 1, periodic=self.periodic[0])
        for k, wraps in enumerate(self.periodic):
            ends = (True, True) if k or rows is None else rows.ends(wraps)
            pad = [0, 0] * (d - 1 - k) + [int(end) for end in ends] + [0, 0] * k
            x = nn.functional.pad(x, pad, mode="circular" if wraps else "replicate")
        return self.conv(x)


class _Norm(nn.GroupNorm):
    """Each sample to mean 0 and variance 1 over all channels and points, then a scale and a shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor, rows: Rows | None) -> Tensor:  # type: ignore[override]
        if rows is None:
            return super().forward(x)
        count = x[0].numel() // x.shape[2] * rows.total
        one = (-1, *(1,) * (x.ndim - 1))
        x = x - sum_over_ranks(x.flatten(1).sum(1) / count, rows).view(one)
        variance = sum_over_ranks(x.square().flatten(1).sum(1) / count, rows).view(one)
        column = (1, -1, *(1,) * (x.ndim - 2))
        return x * (variance + self.eps).rsqrt() * self.weight.view(column) + self.bias.view(column)


def _finer(x: Tensor, like: Tensor, rows: Rows | None) -> Tensor:
    """Linear interpolation to the points of ``like``, constant beyond the last cell centres; ``rows`` are those of ``x``."""
    size, mode = list(like.shape[2:]), _LINEAR[x.ndim - 2]
    if rows is None:
        return nn.functional.interpolate(x, size=size, mode=mode, align_corners=False)
    # Constant at the ends on periodic axes too: so it is on a whole grid.
    pad = [0, 0] * (x.ndim - 3) + [int(end) for end in rows.ends(False)]
    x = nn.functional.pad(with_halo(x, rows, 1, 1, periodic=False), pad, mode="replicate")
    x = nn.functional.interpolate(x, size=[size[0] + 4, *size[1:]], mode=mode, align_corners=False)
    return x.narrow(2, 2, size[0])


class _Stage(nn.Module):
    """Two convolutions, each followed by a group norm and GELU."""

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                _Conv(inputs, outputs, periodic),
                _Norm(outputs),
                nn.GELU(),
                _Conv(outputs, outputs, periodic),
                _Norm(outputs),
                nn.GELU(),
            ]
        )

    def forward(self, x: Tensor, rows: Rows | None) -> Tensor:
        for layer in self.layers:
            x = layer(x) if isinstance(layer, nn.GELU) else layer(x, rows)
        return x


class UNet(nn.Module):
    """Convolutional encoder and decoder with skip connections on grids of one to three axes.

    Parameters
    ----------
    inputs, outputs
        Channels.
    periodic
        Which axes are periodic; its length is the number of axes.
    width
        Channels at the finest level; doubled at each coarser one.
    levels
        Number of halvings of the resolution.
    """

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool], width: int = 32, levels: int = 3) -> None:
        super().__init__()
        if not 1 <= len(periodic) <= 3 or levels < 1:
            raise UsageError("UNet", "one to three axes and at least one level", f"{len(periodic)} axes, {levels} levels")
        self.arguments: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "periodic": list(periodic),
            "width": width,
            "levels": levels,
        }
        self.inputs, self.periodic = inputs, tuple(periodic)
        widths = [width * 2**level for level in range(levels + 1)]
        self.enter = _Stage(inputs + feature_count(periodic), width, periodic)
        self.down = nn.ModuleList(_Conv(w, w, periodic, stride=2) for w in widths[:-1])
        self.encode = nn.ModuleList(_Stage(fine, coarse, periodic) for fine, coarse in pairwise(widths))
        self.decode = nn.ModuleList(_Stage(coarse + fine, fine, periodic) for fine, coarse in pairwise(widths))
        self.leave = _CONV[len(periodic)](width, outputs, 1)

    def forward(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Apply the network to ``a`` on ``grid``; a ``query`` grid gets the interpolated output.

        Raises
        ------
        GridError
            On scattered points, which have no neighbours to convolve, on grids that do not match ``a``, and on shards whose ranks hold
            other numbers of rows than multiples of ``2**levels``.
        """
        if isinstance(grid, Points):
            raise GridError("UNet", "a Box or Sphere", "scattered points", "use a spectral operator for points")
        check_input(a, grid, self.inputs, self.periodic, "UNet")
        levels = self._rows(rows_of(grid))
        position = torch.movedim(coordinate_features(grid, a.dtype, a.device), -1, 0)
        x = self.enter(torch.cat([a, position.expand(a.shape[0], *position.shape)], dim=1), levels[0])
        skips = []
        for down, encode, fine, coarse in zip(self.down, self.encode, levels, levels[1:], strict=False):
            skips.append(x)
            x = encode(down(x, fine), coarse)
        for skip, decode, coarse, fine in zip(reversed(skips), reversed(self.decode), levels[:0:-1], levels[-2::-1], strict=True):
            x = decode(torch.cat([_finer(x, skip, coarse), skip], dim=1), fine)
        u = self.leave(x)
        return u if query is None else torch.movedim(move(torch.movedim(u, 1, -1), grid, query), -1, 1)

    def _rows(self, rows: Rows | None) -> list[Rows | None]:
        """Rows that the ranks hold at each level, finest first."""
        levels = len(self.down) + 1
        if rows is None:
            return [None] * levels
        step = 2 ** len(self.down)
        if any(cut % step for cut in rows.cuts):
            hint = f"use a number of processes that deals them so, or sharded(grid, multiple={step})"
            raise GridError("UNet", f"a multiple of {step} rows on every rank", f"cuts at {', '.join(map(str, rows.cuts))}", hint)
        return [Rows(tuple(cut // 2**level for cut in rows.cuts), rows.rank, rows.group) for level in range(levels)]
