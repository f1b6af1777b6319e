"""Neural operators: plain modules ``forward(a, grid, query=None)`` with JSON-able ``arguments``."""

from __future__ import annotations

from torch import nn

from anygrid.grid import Grid
from anygrid.operators.check import check_operator
from anygrid.operators.fno import FNO
from anygrid.operators.latent_fno import LatentFNO, latent_shape
from anygrid.operators.unet import UNet

__all__ = ["FNO", "OPERATORS", "LatentFNO", "UNet", "check_operator", "default_operator"]

OPERATORS: tuple[type[nn.Module], ...] = (LatentFNO, FNO, UNet)


def default_operator(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    """The operator that ``fit`` trains when none is named, sized for the grid of the data.

    A :class:`LatentFNO` of width 48 and depth 4 on a latent grid of at most 65536 points, blocks at half its resolution,
    17 modes along each axis (fewer where the coarse grid carries fewer). Measured in ``benchmarks/accuracy/ablation.json``.
    """
    stride = 2
    shape = latent_shape(grid, stride, 1 << 16)
    periodic = [interval.periodic for interval in grid.domain]
    coarse = [n // stride for n in shape]
    modes = [max(1, min(17, n if n % 2 else n - 1)) for n in coarse]
    return LatentFNO(inputs, outputs, periodic, shape, modes, stride)
