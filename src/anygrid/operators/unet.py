"""Plain U-Net (Ronneberger et al. 2015, arXiv:1505.04597), the honest convolutional baseline.

It sees pixels, not functions: the same weights mean another operator on another resolution, which is what it is here to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import GridError, UsageError
from anygrid.grid import Grid, Points
from anygrid.operators.layers import check_input, coordinate_features, feature_count, move

__all__ = ["UNet"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class _Conv(nn.Module):
    """Convolution of width 3 that wraps periodic axes and repeats the edge value on bounded ones."""

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool], stride: int = 1) -> None:
        super().__init__()
        self.periodic = tuple(periodic)
        self.conv = _CONV[len(periodic)](inputs, outputs, 3, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        d = len(self.periodic)
        for k, wraps in enumerate(self.periodic):
            pad = [0, 0] * (d - 1 - k) + [1, 1] + [0, 0] * k
            x = nn.functional.pad(x, pad, mode="circular" if wraps else "replicate")
        return self.conv(x)


class _Stage(nn.Module):
    """Two convolutions, each followed by a group norm and GELU."""

    def __init__(self, inputs: int, outputs: int, periodic: Sequence[bool]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Conv(inputs, outputs, periodic),
            nn.GroupNorm(1, outputs),
            nn.GELU(),
            _Conv(outputs, outputs, periodic),
            nn.GroupNorm(1, outputs),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


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
            On scattered points, which have no neighbours to convolve, and on grids that do not match ``a``.
        """
        if isinstance(grid, Points):
            raise GridError("UNet", "a Box or Sphere", "scattered points", "use a spectral operator for points")
        check_input(a, grid, self.inputs, self.periodic, "UNet")
        position = torch.movedim(coordinate_features(grid, a.dtype, a.device), -1, 0)
        x = self.enter(torch.cat([a, position.expand(a.shape[0], *position.shape)], dim=1))
        skips = []
        for down, encode in zip(self.down, self.encode, strict=True):
            skips.append(x)
            x = encode(down(x))
        for skip, decode in zip(reversed(skips), reversed(self.decode), strict=True):
            x = nn.functional.interpolate(x, size=skip.shape[2:], mode=_LINEAR[len(self.periodic)], align_corners=False)
            x = decode(torch.cat([x, skip], dim=1))
        u = self.leave(x)
        return u if query is None else torch.movedim(move(torch.movedim(u, 1, -1), grid, query), -1, 1)
