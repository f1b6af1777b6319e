"""Block bootstrap over cases: intervals of any score that is a function of means over cases, and of differences of two.

A forecast is verified from few starts, and the errors of starts close in time go together. Whole blocks of consecutive starts are drawn,
so that their dependence is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError

__all__ = ["Resampled", "bootstrap", "default_block"]


@dataclass(frozen=True)
class Resampled:
    """A score and its bootstrap draws.

    Attributes
    ----------
    value
        The score of all cases ``(*score)``.
    draws
        The score of each resampling ``(draw, *score)``; nan with fewer than 2 cases.
    """

    value: Tensor
    draws: Tensor

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Percentile interval (Efron and Tibshirani 1993, section 13.3). It speaks of the draw of cases alone, not of training."""
        low, high = torch.quantile(self.draws, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64), dim=0)
        return low, high

    def p_of_zero(self) -> Tensor:
        """Two-sided chance of a value as far from zero, if the score is a difference: twice the smaller share of draws beyond zero."""
        beyond = torch.minimum((self.draws <= 0).double().mean(0), (self.draws >= 0).double().mean(0))
        return torch.where(self.draws.isnan().any(0), torch.nan, (2 * beyond).clamp(max=1.0))


def default_block(cases: int) -> int:
    r"""Cases in a block, :math:`\lceil n^{1/3} \rceil`.

    That order minimises the error of the variance (Künsch 1989, Annals of Statistics 17, 1217; Hall et al. 1995, Biometrika 82, 561).
    Starts that follow each other faster than errors decorrelate (a day or two) need longer blocks.
    """
    return max(1, math.ceil(round(cases ** (1 / 3), 9)))


def bootstrap(
    parts: Sequence[Float[Tensor, "case *rest"]],
    score: Callable[..., Tensor],
    *,
    block: int | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Resampled:
    r"""Score of all cases and of ``draws`` sets of blocks: :math:`S(\overline{x_1}, \overline{x_2}, \ldots)`.

    Circular moving blocks (Politis and Romano 1992): :math:`\lceil n / b \rceil` starts are drawn with replacement, each with the
    ``b - 1`` that follow, the first after the last. The same draws serve all parts, so differences are paired. A case that is nan in an
    entry is left out of the means of that entry.

    Parameters
    ----------
    parts
        Per-case values in the order of their starts. Cases missing in one of two forecasts should be nan in both.
    score
        Takes the means ``(draw, *rest)`` of each part and returns ``(draw, *score)``.
    block
        Cases in a block; by default :func:`default_block`.

    Raises
    ------
    UsageError
        Without cases, for parts of different lengths, and for blocks outside 1 to n.
    """
    n = len(parts[0]) if parts else 0
    block = default_block(n) if block is None else block
    if n == 0 or any(len(p) != n for p in parts) or not 1 <= block <= n or draws < 1:
        got = f"{[len(p) for p in parts]} cases, blocks of {block}, {draws} draws"
        raise UsageError("bootstrap", "parts with as many cases each, and blocks of 1 to that many", got)
    generator = torch.Generator().manual_seed(seed)
    count = math.ceil(n / block)
    first = torch.randint(0, n, (draws, count), generator=generator)
    chosen = ((first[..., None] + torch.arange(block)) % n).flatten(1)[:, :n]
    weight = torch.zeros(draws, n, dtype=torch.float64).scatter_add_(1, chosen, torch.ones(draws, n, dtype=torch.float64))
    weight = torch.cat([torch.ones(1, n, dtype=torch.float64), weight])
    scores = score(*(_means(p, weight) for p in parts))
    return Resampled(scores[0], scores[1:] if n > 1 else torch.full_like(scores[1:], torch.nan))


def _means(part: Tensor, weight: Tensor) -> Tensor:
    """Weighted means over cases, those that are nan left out; nan where none is left."""
    flat = part.to(torch.float64).flatten(1) if part.ndim > 1 else part.to(torch.float64)[:, None]
    known = ~flat.isnan()
    total = weight @ torch.where(known, flat, 0.0)
    return (total / (weight @ known.double())).reshape(len(weight), *part.shape[1:])
