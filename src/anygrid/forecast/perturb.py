"""Initial states of the members of an ensemble: smooth random fields added to one state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid, Sphere
from anygrid.numerics.gaussian_field import gaussian_field
from anygrid.numerics.seeds import sample_generator

__all__ = ["Perturbation", "default_length"]


@dataclass(frozen=True)
class Perturbation:
    r"""Smooth Gaussian fields, independent between members and variables, added to the initial state.

    .. math:: u^m_c(x) = u_c(x) + \sigma_c f^m_c(x), \qquad \mathrm{corr}(f(x), f(y)) \approx e^{-|x - y|^2 / (4 \ell^2)}.

    They are functions of the seed, the member and nothing else: neither of the grid nor of the starting time. See
    :func:`~anygrid.numerics.gaussian_field.gaussian_field`.

    Parameters
    ----------
    deviation
        :math:`\sigma_c` of each variable that is predicted, in its units; 0 leaves one alone.
    length
        :math:`\ell` in units of the coordinates; on the sphere in degrees of a great circle.

    Raises
    ------
    UsageError
        For a deviation that is negative or not finite, or a length that is not above 0.
    """

    deviation: tuple[float, ...]
    length: float

    def __post_init__(self) -> None:
        if not all(0 <= d < math.inf for d in self.deviation):
            raise UsageError("Perturbation", "finite deviations of 0 or more", ", ".join(f"{d:g}" for d in self.deviation))
        if not 0 < self.length < math.inf:
            raise UsageError("Perturbation length", "a length above 0", f"{self.length:g}", "give it in units of the coordinates")

    def field(self, grid: Grid, seed: int, member: int) -> Float[Tensor, "channel *space"]:
        """What is added to the state of a member, float64.

        Raises
        ------
        UsageError
            For a length too short for the domain.
        """
        n, generator = len(self.deviation), sample_generator(seed, member)
        drawn = gaussian_field(n, grid, length=self.length, generator=generator)
        return drawn * torch.tensor(self.deviation, dtype=torch.float64).view(-1, *(1,) * len(grid.shape))


def default_length(grid: Grid) -> float:
    """A tenth of the shortest extent; 10 degrees on the sphere."""
    return 10.0 if isinstance(grid, Sphere) else min(interval.length for interval in grid.domain) / 10
