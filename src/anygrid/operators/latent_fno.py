r"""Fourier neural operator on a latent grid of its own: the default operator.

.. math::

    z_0 = E\,I_{g \to h}(a, x), \qquad z_{t+1} = z_t + W_t\,\sigma\big(\mathcal S_t z_t + P_t z_t\big), \qquad
    u = I_{h \to q}\,D\,\sigma(Q z_T)

:math:`I` interpolates between the caller's grid :math:`g` (or query :math:`q`) and a fine latent grid :math:`h` of fixed
resolution; :math:`E` and :math:`D` are a strided convolution and its transpose between :math:`h` and a grid ``stride`` times
coarser, on which the spectral blocks :math:`\mathcal S_t` run. What is learned lives on latent grids that never change, so the
convolutions are fixed integral kernels in physical units and the cost of the blocks does not depend on the caller's resolution.
Fields rougher than the latent grid are sampled on it, not averaged; predictions carry no detail below its spacing.

On a shard of a grid :math:`I_{g \to h}` is a sum over ranks, being linear, and every rank then holds the whole latent field: what lies
between the interpolations is computed by all of them and needs no neighbours' rows; each evaluates the output on its own rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Box, Grid, Points, Sphere
from anygrid.numerics.interpolation import interpolate
from anygrid.operators.cells import cut_cells, gather, spread
from anygrid.operators.layers import check_input, coordinate_features, feature_count, make_bases
from anygrid.operators.lean import activated_linear
from anygrid.operators.spectral import SpectralConv, spectral_sum
from anygrid.shard import whole_of

__all__ = ["Block", "LatentFNO", "extend", "latent_shape"]


def latent_shape(grid: Grid, stride: int, most: int) -> tuple[int, ...]:
    """Resolution of the fine latent grid for data on ``grid``: theirs, cut to ``most`` points and rounded to fit the stride.

    Scattered points get about as many latent points as they are.
    """
    shape = [max(8, round(grid.size ** (1 / grid.ndim)))] * grid.ndim if isinstance(grid, Points) else list(grid.shape)
    factor = min(1.0, (most / math.prod(shape)) ** (1 / len(shape)))
    fitted = []
    for k, n in enumerate(shape):
        ends = 1 if _includes_both_ends(grid, k) else 0
        fitted.append(max(2, -(-(round(n * factor) - ends) // stride)) * stride + ends)
    return tuple(fitted)


def _includes_both_ends(grid: Grid, k: int) -> bool:
    if isinstance(grid, Points):
        return not grid.domain[k].periodic
    assert isinstance(grid, Box | Sphere)
    return grid.axes[k].placement == "vertices" and not grid.axes[k].periodic


@lru_cache(maxsize=64)
def _latent_grids(grid: Grid, shape: tuple[int, ...], stride: int) -> tuple[Grid, Grid]:
    """Fine and coarse latent grid in the domain of ``grid``."""
    if isinstance(grid, Points):
        fine: Grid = Box(tuple(Axis(f"x{k}", interval, n) for k, (interval, n) in enumerate(zip(grid.domain, shape, strict=True))))
    else:
        fine = grid.at(shape)
    ends = [1 if _includes_both_ends(fine, k) else 0 for k in range(len(shape))]
    if any((n - e) % stride for n, e in zip(shape, ends, strict=True)):
        raise GridError(
            "LatentFNO",
            f"a grid like the training data's, on which {'x'.join(map(str, shape))} points fit a stride of {stride}",
            "an axis with another placement of its points",
            "interpolate the data to a grid of the training data's kind",
        )
    return fine, fine.at(tuple((n - e) // stride + e for n, e in zip(shape, ends, strict=True)))


class Block(nn.Module):
    """``z + W gelu(S z + P z)`` on a channels-last field."""

    def __init__(self, width: int, spectral: SpectralConv) -> None:
        super().__init__()
        self.spectral = spectral
        self.pointwise = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        # A residual branch of about half size at the start keeps the depth's sum of branches of order one.
        with torch.no_grad():
            self.mix.weight.mul_(0.5)
            self.mix.bias.zero_()

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        return z + activated_linear(spectral_sum(z, self.spectral, self.pointwise, grid, activations=0), self.mix)


class LatentFNO(nn.Module):
    """Encoder, spectral blocks on a coarse latent grid, decoder; see the module's equation.

    Parameters
    ----------
    inputs, outputs
        Channels.
    periodic
        Which axes of the domain are periodic; one to three axes.
    shape
        Resolution of the fine latent grid, usually that of the training data (:func:`latent_shape`).
    modes
        Basis functions kept along each axis, at most as many as the coarse latent grid carries.
    stride
        How much coarser the blocks' grid is.
    families, padding
        As for :class:`~anygrid.operators.fno.FNO`.
    width, depth
        Channels and number of blocks.
    coordinates
        Whether position enters as input channels; without it, and on periodic axes only, the operator commutes with shifts
        by whole coarse latent cells.
    harmonics
        Position along a periodic axis enters as 1, 2, 4, ... waves, so many of them. Forcing at a higher wave number than these is
        learned from the state instead, if the state shows it, and then drifts in roll-outs.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        periodic: Sequence[bool],
        shape: Sequence[int],
        modes: Sequence[int],
        stride: int = 2,
        families: Sequence[str] | None = None,
        padding: Sequence[float] | None = None,
        width: int = 48,
        depth: int = 4,
        coordinates: bool = True,
        harmonics: int = 1,
    ) -> None:
        super().__init__()
        d = len(periodic)
        if not 1 <= d <= 3 or len(shape) != d or stride < 1:
            raise UsageError("LatentFNO", "one to three axes, one size for each, a stride of 1 or more", f"{d} axes, {shape}, {stride}")
        if harmonics < 1:
            raise UsageError("LatentFNO harmonics", "1 or more", str(harmonics))
        families = ["fourier"] * d if families is None else list(families)
        if padding is None:
            padding = [0.0 if p or f != "fourier" else 0.25 for p, f in zip(periodic, families, strict=True)]
        self.arguments: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "periodic": list(periodic),
            "shape": list(shape),
            "modes": list(modes),
            "stride": stride,
            "families": families,
            "padding": list(padding),
            "width": width,
            "depth": depth,
            "coordinates": coordinates,
            "harmonics": harmonics,
        }
        self.inputs, self.periodic, self.coordinates, self.harmonics = inputs, tuple(periodic), coordinates, harmonics
        self.shape, self.stride = tuple(shape), stride
        bases = make_bases(modes, families, padding)
        channels = inputs + (feature_count(periodic, harmonics) if coordinates else 0)
        # Kernels overlap: each reaches at least to the centre of the neighbouring coarse cell, a stride of 1 is pointwise.
        self.reach = 0 if stride == 1 else max(2, stride - 1)
        self.size = 2 * self.reach + 1
        self.encode = nn.Linear(channels * self.size**d, width)
        self.blocks = nn.ModuleList(Block(width, SpectralConv(width, width, bases)) for _ in range(depth))
        self.pointwise = nn.Linear(width, width)
        self.decode = nn.Linear(width, outputs * self.size**d, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        # Start as linear interpolation of a pointwise projection: a smooth function, without a trace of the coarse cells.
        hat = (1 - torch.arange(-self.reach, self.reach + 1).abs() / stride).clamp(min=0)
        kernel = hat
        for _ in range(d - 1):
            kernel = kernel[..., None] * hat
        with torch.no_grad():
            self.decode.weight.copy_((torch.randn(outputs, 1, width) / width**0.5 * kernel.reshape(1, -1, 1)).flatten(0, 1))

    def forward(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Apply the operator to ``a`` on ``grid``; evaluate the output on ``query`` (default: ``grid``).

        Raises
        ------
        GridError
            For a tensor that does not lie on ``grid``, or a grid of another topology or placement than the operator's.
        """
        check_input(a, grid, self.inputs, self.periodic, "LatentFNO")
        fine, _ = self.latent_grids(grid)
        return interpolate(self.latent(interpolate(a, grid, fine), grid), fine, grid if query is None else query, smooth=True)

    def latent_grids(self, grid: Grid) -> tuple[Grid, Grid]:
        """Fine and coarse latent grid in the domain of ``grid``, whole also where that is a shard."""
        return _latent_grids(whole_of(grid), self.shape, self.stride)

    def latent(self, x: Float[Tensor, "batch inputs *fine"], grid: Grid) -> Float[Tensor, "batch outputs *fine"]:
        """What the operator does between its two interpolations, on the fine latent grid of ``grid``."""
        fine, coarse = self.latent_grids(grid)
        margins = [self.margins(n, m) for n, m in zip(fine.shape, coarse.shape, strict=True)]
        z = self._encode(x, fine, margins)
        for block in self.blocks:
            z = block(z, coarse)
        z = self.pointwise(z)
        around = -(-self.reach // self.stride)  # coarse cells beyond a periodic end whose kernels reach back inside
        z = extend(z.movedim(-1, 1), [(around, around) if p else (0, 0) for p in self.periodic], self.periodic).movedim(1, -1)
        z = spread(z, self.decode, len(self.bias), self.size, self.stride) + self.bias.reshape(-1, *[1] * grid.ndim)
        for k, ((before, _), wraps) in enumerate(zip(margins, self.periodic, strict=True)):
            z = z.narrow(k + 2, before + (around * self.stride if wraps else 0), fine.shape[k])
        return z

    def _encode(self, x: Tensor, fine: Grid, margins: Sequence[tuple[int, int]]) -> Tensor:
        """Strided convolution of the input and of position, which is the same for every sample."""
        own, places = self.encode.weight.tensor_split([self.inputs * self.size**fine.ndim], dim=1)
        z = gather(extend(x, margins, self.periodic), own, self.size, self.stride)
        if not self.coordinates:
            return z + self.encode.bias
        position = torch.movedim(coordinate_features(fine, x.dtype, x.device, self.harmonics), -1, 0)[None]
        position = cut_cells(extend(position, margins, self.periodic), self.size, self.stride)
        return z + nn.functional.linear(position, places, self.encode.bias)

    def margins(self, fine: int, coarse: int) -> tuple[int, int]:
        """Fine points to add before and after an axis so that kernel ``j`` is centred on coarse point ``j``."""
        shared_ends = (fine - 1) == self.stride * (coarse - 1)
        shift = 0 if shared_ends else (self.stride - 1) // 2
        return self.reach - shift, self.stride * (coarse - 1) + self.reach + shift - (fine - 1)


def extend(x: Tensor, margins: Sequence[tuple[int, int]], periodic: Sequence[bool]) -> Tensor:
    """Continue ``(batch, channel, *space)`` beyond its ends: around on periodic axes, by zeros on bounded ones."""
    d = len(periodic)
    for k, ((before, after), wraps) in enumerate(zip(margins, periodic, strict=True)):
        if before or after:
            pad = [0, 0] * (d - 1 - k) + [before, after] + [0, 0] * k
            x = nn.functional.pad(x, pad, mode="circular" if wraps else "constant")
    return x
