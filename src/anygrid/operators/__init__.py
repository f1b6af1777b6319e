"""Neural operators: plain modules ``forward(a, grid, query=None)`` with JSON-able ``arguments``."""

from __future__ import annotations

from torch import nn

from anygrid.grid import Box, Grid
from anygrid.operators.check import check_operator
from anygrid.operators.fno import FNO
from anygrid.operators.latent_fno import LatentFNO, latent_shape
from anygrid.operators.spherical_fno import SphericalFNO
from anygrid.operators.spherical_unet import SphericalUNet
from anygrid.operators.unet import UNet

__all__ = ["FNO", "OPERATORS", "LatentFNO", "SphericalFNO", "SphericalUNet", "UNet", "check_operator", "default_operator"]

OPERATORS: tuple[type[nn.Module], ...] = (LatentFNO, FNO, UNet, SphericalFNO, SphericalUNet)


# Points along an axis of the coarse latent grid, by number of axes: about a thousand points in all dimensions but the first.
_COARSE = {1: 256, 2: 32, 3: 16}
_FINE = 1 << 16  # points of the fine latent grid at most


def default_operator(
    inputs: int,
    outputs: int,
    grid: Grid,
    *,
    width: int = 48,
    depth: int = 4,
    modes: int = 17,
    harmonics: int = 1,
    stride: int | None = None,
) -> nn.Module:
    """The operator that ``fit`` trains when none is named, sized for the grid of the data.

    A :class:`LatentFNO` whose fine latent grid is that of the data (at most 65536 points) and whose blocks run on about
    256, 32 x 32 or 16 x 16 x 16 points; ``modes`` along each axis, fewer where the coarse grid carries fewer; ``harmonics`` of position for
    forcings that depend on it. With a ``stride`` of 1 the blocks work on all points, which costs more and hears all waves: of those that a
    coarse grid cannot tell apart an evolution by increments leaves errors behind that grow in long roll-outs. Grids of four axes get a
    textbook :class:`FNO`. Why: ``docs/design-decisions.md``; ``benchmarks/accuracy/ablation.py`` measures it against its variants.
    """
    periodic = [interval.periodic for interval in grid.domain]
    if grid.ndim > 3:
        assert isinstance(grid, Box)
        return FNO(inputs, outputs, periodic, [max(1, min(modes, _odd(n // 2))) for n in grid.shape], width=width, depth=depth)
    side = min(grid.size, _FINE) ** (1 / grid.ndim)
    stride = max(1, round(side / _COARSE[grid.ndim])) if stride is None else stride
    shape = latent_shape(grid, stride, _FINE)
    kept = [max(1, min(modes, _odd(n // stride))) for n in shape]
    return LatentFNO(inputs, outputs, periodic, shape, kept, stride, width=width, depth=depth, harmonics=harmonics)


def _odd(n: int) -> int:
    """Largest odd number up to ``n``: an odd number of Fourier modes is symmetric."""
    return n if n % 2 else n - 1
