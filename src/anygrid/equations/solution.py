"""What every solver of an equation returns, and how it names the scheme it chose."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["Scheme", "Solution"]


@dataclass(frozen=True)
class Scheme:
    """The method that was chosen: its name, the property of the equation that decided, and its order in time and space."""

    name: str
    reason: str
    order: str


@dataclass(frozen=True)
class Solution:
    """A solution, and how far it may be trusted.

    Attributes
    ----------
    u
        Unknowns on the grid, in the order of ``System.state``.
    error
        Estimate of the relative L2 error of each sample that the scheme makes in time (evolution) or in the linear solve (steady); the
        error of the grid itself is only seen on a finer one.
    steps
        Time steps or iterations taken; of the sample that took most.
    scheme
        What was used.
    iterations
        Iterations of each sample, where samples are solved one by one.
    """

    u: Float[Tensor, "batch unknown *space"]
    error: Float[Tensor, " batch"]
    steps: int
    scheme: Scheme
    iterations: tuple[int, ...] = ()
