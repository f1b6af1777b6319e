"""Errors as integrals over the domain: relative L2 and H1, RMSE, VRMSE, maximum; and their mean with a bootstrap interval.

Every function returns one number for each sample and channel, in float64. Norms use the quadrature weights of the grid, so a
number means the same on an uneven grid, on a sphere and at every resolution. On a shard all ranks get the number of the whole; those that
need derivatives refuse it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from anygrid.collectives import max_over_ranks, sum_over_ranks
from anygrid.errors import UsageError
from anygrid.grid import Grid, Sphere
from anygrid.numerics.differentiation import gradient
from anygrid.shard import rows_of

__all__ = ["Estimate", "area_mean", "area_shares", "bias", "estimate", "largest", "relative_h1", "relative_l2", "rmse", "vrmse"]


def area_mean(f: Float[Tensor, "*lead_space"], grid: Grid) -> Float[Tensor, "*lead"]:
    r"""Mean over the domain, :math:`\int f \,/ \int 1`, over the trailing ``grid.ndim`` array dimensions."""
    w = grid.mean_weights().to(torch.float64)
    # A product over flattened space: no temporary of the size of the field.
    return sum_over_ranks(f.to(torch.float64).flatten(f.ndim - w.ndim) @ w.flatten(), rows_of(grid))


def area_shares(
    place: Int[Tensor, "*lead_space"], classes: int, grid: Grid, part: Float[Tensor, "*lead_space"] | None = None
) -> Float[Tensor, "*lead classes"]:
    """Share of the domain that lies in each class (numbered from 0), or of ``part`` of it, over the trailing ``grid.ndim`` dimensions."""
    w = grid.mean_weights().to(torch.float64)
    rows = place.flatten(place.ndim - w.ndim)
    weight = w.flatten().expand(rows.shape)
    weight = weight if part is None else weight * part.to(torch.float64).flatten(part.ndim - w.ndim)
    found = torch.zeros(*rows.shape[:-1], classes, dtype=torch.float64).scatter_add_(-1, rows, weight)
    return sum_over_ranks(found, rows_of(grid))


def relative_l2(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, "batch channel"]:
    r"""Relative L2 error :math:`\|u - v\| / \|v\|` with :math:`\|v\|^2 = \int v^2`.

    On an even grid this is the ratio of Euclidean norms that the operator-learning literature quotes, up to the half
    weights of boundary points. Infinite where the truth is zero and ``u`` is not; nan where both are.
    """
    v = truth.to(torch.float64)
    return (area_mean((u.to(torch.float64) - v) ** 2, grid) / area_mean(v**2, grid)).sqrt()


def relative_h1(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, "batch channel"]:
    r"""Relative H1 error :math:`\|u - v\|_1 / \|v\|_1` with :math:`\|v\|_1^2 = \int v^2 + \sum_i L_i^2 (\partial_i v)^2`.

    ``L_i`` is the length of coordinate ``i`` (1 on the unit sphere), so that the number does not depend on the unit of
    length; on the unit box it is the textbook norm. Derivatives are those of :func:`anygrid.numerics.differentiation.gradient`
    on both fields, so their truncation error cancels to leading order.

    Raises
    ------
    GridError
        On a grid on which no derivative is defined (scattered points).
    """
    error, size = (_h1(f.to(torch.float64), grid) for f in (u.to(torch.float64) - truth.to(torch.float64), truth))
    return (error / size).sqrt()


def _h1(f: Tensor, grid: Grid) -> Tensor:
    lengths = [1.0] * grid.ndim if isinstance(grid, Sphere) else [interval.length for interval in grid.domain]
    total = area_mean(f**2, grid)
    slopes = gradient(f, grid)
    for axis, length in enumerate(lengths):
        total = total + area_mean((length * slopes[:, :, axis]) ** 2, grid)
    return total


def rmse(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, "batch channel"]:
    r"""Root of the mean squared error over the domain, in the units of the variable."""
    return area_mean((u.to(torch.float64) - truth.to(torch.float64)) ** 2, grid).sqrt()


def vrmse(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, "batch channel"]:
    r"""Variance-scaled RMSE, :math:`(\langle (u-v)^2 \rangle / \langle (v - \bar v)^2 \rangle)^{1/2}`; 1 = predicting the mean.

    The Well's definition (Ohana et al. 2024) without its absolute floor of 1e-7 on the variance, which would
    depend on the unit of the variable. Infinite or nan where the truth is constant over the domain.
    """
    v = truth.to(torch.float64)
    centred = v - area_mean(v, grid).reshape(*v.shape[:2], *[1] * (v.ndim - 2))
    return (area_mean((u.to(torch.float64) - v) ** 2, grid) / area_mean(centred**2, grid)).sqrt()


def bias(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, "batch channel"]:
    r"""Mean of the error over the domain, :math:`\int (u - v) / \int 1`, in the units of the variable."""
    return area_mean(u.to(torch.float64) - truth.to(torch.float64), grid)


def largest(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, "batch channel"]:
    """Largest absolute error at any grid point, in the units of the variable."""
    return max_over_ranks((u.to(torch.float64) - truth.to(torch.float64)).abs().flatten(2).amax(-1), rows_of(grid))


@dataclass(frozen=True)
class Estimate:
    """Mean over test samples with its bootstrap interval.

    ``bad`` counts samples whose value is not finite; they make the mean nan rather than being dropped in silence.
    """

    mean: float
    low: float
    high: float
    n: int
    bad: int = 0

    def __str__(self) -> str:
        if self.bad:
            return f"not finite in {self.bad} of {self.n}"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.low) else f"{self.mean:.4g}"


def estimate(values: NDArray[np.floating] | Tensor, *, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean of per-sample values and the percentile bootstrap interval of that mean.

    The interval speaks of the draw of test samples only, not of training seeds. With one sample it is nan.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

    Raises
    ------
    UsageError
        Without any values, or for a level outside (0, 1).
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0 or not 0 < level < 1:
        raise UsageError("estimate", "at least one value and a level in (0, 1)", f"{x.size} values and level {level}")
    bad = int((~np.isfinite(x)).sum())
    if bad:
        return Estimate(math.nan, math.nan, math.nan, x.size, bad)
    if x.size == 1:
        return Estimate(float(x[0]), math.nan, math.nan, 1)
    rng = np.random.default_rng(seed)
    means = x[rng.integers(0, x.size, (draws, x.size))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(x.mean()), float(low), float(high), x.size)
