"""Noise that a random surrogate takes beside its inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid, Sphere
from anygrid.numerics.gaussian_field import gaussian_field

__all__ = ["Noise"]

_ON_SPHERE = (30.0, 4.0)  # degrees: half a wave of degree 6, and about the spacing of T30
_OF_SIDE = (1 / 8, 1 / 64)
_LEAST = 1 / 140  # of the longest side: shorter fields would need more modes than are drawn


@dataclass(frozen=True)
class Noise:
    r"""Channels of smooth Gaussian noise, independent of each other and from one application to the next.

    .. math:: u = G(a, \sigma \xi), \qquad \xi_k \sim N(0, e^{-|x - y|^2 / (4 \ell_k^2)})

    What a channel does to the output, and how much of it, is learned. The fields are functions of the generator, never of the
    grid, so that a draw is the same function at every resolution.

    Parameters
    ----------
    lengths
        :math:`\ell_k` of each channel, in units of the coordinates (degrees on the sphere); none for a map that is not random.
    amplitude
        :math:`\sigma`: 1 in training, and then chosen on held-out data (:mod:`anygrid.training.amplitude`).

    Raises
    ------
    UsageError
        For a length or an amplitude that is not finite and above 0.
    """

    lengths: tuple[float, ...] = ()
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if not all(0 < length < math.inf for length in self.lengths):
            raise UsageError("Noise", "finite lengths above 0", ", ".join(f"{length:g}" for length in self.lengths))
        if not 0 < self.amplitude < math.inf:
            raise UsageError("Noise", "a finite amplitude above 0", f"{self.amplitude:g}")

    @classmethod
    def ladder(cls, channels: int, grid: Grid) -> Noise:
        """Lengths in even ratios: from an eighth to a 64th of the shortest side, on the sphere from 30 to 4 degrees.

        Raises
        ------
        UsageError
            For a negative number of channels.
        """
        if channels < 0:
            raise UsageError("noise", "a number of channels from 0 on", str(channels))
        long, short = _ON_SPHERE
        if not isinstance(grid, Sphere):
            sides = [interval.length for interval in grid.domain]
            long, short = (max(part * min(sides), _LEAST * max(sides)) for part in _OF_SIDE)
        ratio = (short / long) ** (1 / max(1, channels - 1))
        return cls(tuple(long * ratio**k for k in range(channels)))

    def __bool__(self) -> bool:
        return bool(self.lengths)

    def draw(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "{n} channel *space"]:
        """Noise for ``n`` applications, float64.

        Raises
        ------
        UsageError
            Without channels.
        """
        if not self.lengths:
            raise UsageError("noise", "a surrogate that was trained with noise", "one without", "train with fit(..., noise=4)")
        fields = [gaussian_field(n, grid, length=length, generator=generator) for length in self.lengths]
        return self.amplitude * torch.stack(fields, 1)
