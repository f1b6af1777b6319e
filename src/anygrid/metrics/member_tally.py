"""What can be known of an ensemble without holding its members: tallies that grow as members come in, in any blocks.

Mean, variance, rank of the truth, counts above thresholds and the mean distance to the truth are exact. The CRPS is not among them: it
needs every pair of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["MemberTally"]


@dataclass(frozen=True)
class MemberTally:
    """Sums over the members seen so far, each of the shape of the truth. Start with :meth:`of`, go on with :meth:`add`.

    Attributes
    ----------
    mean, squares
        Mean of member minus truth, and sum of squared deviations from the mean.
    distance
        Sum of the distances to the truth.
    below, ties
        Members below the truth, and equal to it.
    above
        Members above each threshold ``(threshold, *shape)``.
    """

    truth: Tensor
    thresholds: tuple[float, ...]
    members: int
    mean: Float[Tensor, "*shape"]
    squares: Float[Tensor, "*shape"]
    distance: Float[Tensor, "*shape"]
    below: Int[Tensor, "*shape"]
    ties: Int[Tensor, "*shape"]
    above: Int[Tensor, "threshold *shape"]

    @classmethod
    def of(cls, truth: Float[Tensor, "*shape"], thresholds: Sequence[float] = ()) -> MemberTally:
        """Tally of no members."""
        zero, none = torch.zeros(truth.shape, dtype=torch.float64), torch.zeros(truth.shape, dtype=torch.int64)
        return cls(truth.double(), tuple(thresholds), 0, zero, zero, zero, none, none, none.expand(len(thresholds), *truth.shape))

    def add(self, x: Float[Tensor, "member *shape"]) -> MemberTally:
        """With more members; blocks are merged by the pairwise rule of Chan, Golub and LeVeque (1983), free of cancellation."""
        d = x.double() - self.truth
        n, more = self.members, len(d)
        mean, step = d.mean(0), d.mean(0) - self.mean
        above = [(x.double() > t).sum(0) for t in self.thresholds]
        return replace(
            self,
            members=n + more,
            mean=self.mean + step * (more / (n + more)),
            squares=self.squares + ((d - mean) ** 2).sum(0) + step**2 * (n * more / (n + more)),
            distance=self.distance + d.abs().sum(0),
            below=self.below + (d < 0).sum(0),
            ties=self.ties + (d == 0).sum(0),
            above=self.above + torch.stack(above) if above else self.above,
        )

    @property
    def variance(self) -> Float[Tensor, "*shape"]:
        """Variance over members, divided by m - 1."""
        return self.squares / (self.members - 1)

    def rank(self, generator: torch.Generator) -> Int[Tensor, "*shape"]:
        """Rank of the truth, with random ties: that of :func:`anygrid.metrics.ranks.ranks` on all members at once."""
        drawn = torch.rand(self.ties.shape, generator=generator, dtype=torch.float64)
        return self.below + (drawn * (self.ties + 1)).floor().to(self.below.dtype)
