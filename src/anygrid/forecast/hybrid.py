"""Hybrid time stepping: the surrogate steps, the residual of the equation watches, the solver steps where it is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.fields import find_layout, to_dataset
from anygrid.grid import Box, Grid
from anygrid.io.pairs import Pairs
from anygrid.maps import Map
from anygrid.metrics.errors import relative_l2
from anygrid.problems.base import Problem
from anygrid.surrogate.geometry import snap

__all__ = ["Hybrid", "Tally", "calibrate", "estimated_error", "own_data"]

_ROWS = 512  # of held-out data looked at, evenly spaced: a quantile of 0.99 then rests on five
_AT_ONCE = 16
_SEED = 7_500_000_011  # for data of one's own making; neither that of training nor that of evaluation


@dataclass
class Tally:
    """How many rows a :class:`Hybrid` has advanced, and how many of them the solver."""

    rows: int = 0
    solved: int = 0

    @property
    def share(self) -> float:
        """Part of the rows that the solver advanced; 0 before the first."""
        return self.solved / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Hybrid:
    r"""A :class:`~anygrid.maps.Map` that predicts with a surrogate and solves where the prediction does not satisfy the equation.

    .. math:: M(a) = G(a) \text{ where } \hat e(a, G(a)) \le \theta, \quad S(a) \text{ elsewhere}

    row by row, with the error :math:`\hat e` that :func:`estimated_error` reads off the residual, and wherever :math:`G(a)` is not
    finite. It works wherever a map does: in ``forecast``, in ``evaluate``, as the coarse map of ``parareal``. What it bounds is the
    estimated error of each step; errors of steps that pass add up as those of any forecast do.

    Parameters
    ----------
    surrogate
        The map to watch.
    problem
        Its equation, with a ``correction`` and, for an evolution, the same step.
    threshold
        Largest estimated relative error that passes; :func:`calibrate` finds one. 0 always solves, infinity only what is not finite.
    tally
        Told of every row; give your own to several maps, or a fresh one before each forecast, to count what you want to count.

    Raises
    ------
    UsageError
        For a negative threshold; when called, for a problem without a correction.
    GridError
        When called, for a grid of another domain than the problem's.
    """

    surrogate: Map
    problem: Problem
    threshold: float
    tally: Tally = field(default_factory=Tally, compare=False)

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise UsageError("Hybrid threshold", "a number of 0 or more", str(self.threshold), "calibrate(...) gives one")

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """Outputs for a batch of inputs, each from the surrogate or the solver; without derivatives."""
        with torch.no_grad():
            u = self.surrogate(a, grid)
            estimate = estimated_error(self.problem, a, u, grid)
            refused = (estimate > self.threshold) | ~torch.isfinite(estimate)
            self.tally.rows += len(a)
            self.tally.solved += int(refused.sum())
            if not bool(refused.any()):
                return u
            u = u.clone()
            u[refused] = self.problem.solve(a[refused], _own(self.problem, grid)).to(u)
            return u


def estimated_error(
    problem: Problem, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
) -> Float[Tensor, " batch"]:
    r"""Relative L2 error of each row as its residual tells it: :math:`\|\delta\| / \|u + \delta\|` with ``problem.correction``.

    Of the worst variable, in float64; infinite for rows that are not finite. As good as the correction is: the error itself for linear
    equations with constant coefficients, right in order of magnitude for others, and for an evolution never below the ``dt**4`` of
    its defect, which every step carries, a perfect one too.

    Raises
    ------
    UsageError
        For a problem without a correction.
    """
    box = _own(problem, grid)
    finite = torch.isfinite(u).flatten(1).all(1) & torch.isfinite(a).flatten(1).all(1)
    error = torch.full((len(u),), math.inf, dtype=torch.float64, device=u.device)
    if bool(finite.any()):
        good = u[finite].double()
        better = good + problem.correction(a[finite].double(), good, box)
        # A variable that is zero, and shall be, has no error.
        error[finite] = relative_l2(good, better, box).nan_to_num(nan=0.0, posinf=math.inf).amax(1)
    return error


def calibrate(surrogate: Map, problem: Problem, data: xr.Dataset, quantile: float = 0.95) -> float:
    """Threshold for :class:`Hybrid`: the quantile of the estimated error of single predictions on held-out data.

    A prediction on data like these then passes with that probability; what lies above has left the range in which the surrogate was
    found to work. Only the inputs are used: every state of every trajectory is one.

    Parameters
    ----------
    data
        States (or inputs) with the problem's variables that the surrogate was not trained on: data that were held out, or
        :func:`own_data`.

    Raises
    ------
    UsageError
        For a quantile outside (0, 1], and a problem without a correction.
    DataError, GridError
        For data without the variables, or on another domain.
    """
    if not 0 < quantile <= 1:
        raise UsageError("calibrate quantile", "a number above 0 and up to 1", str(quantile), "for example 0.95")
    names = [v.name for v in problem.inputs], [v.name for v in problem.outputs]
    example = problem.grid(16)
    space = example.dims if isinstance(example, Box) else None
    layout = None if space is None else find_layout(data, [*dict.fromkeys((*names[0], *names[1]))], space=space)
    periodic = None if space is None else dict(zip(space, (i.periodic for i in example.domain), strict=True))
    pairs = Pairs(data, *names, lead=None if problem.dt is None else 1, layout=layout, periodic=periodic)
    grid = _own(problem, pairs.grid)
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _ROWS)).astype(np.int64))
    errors = []
    with torch.no_grad():
        for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
            a = pairs.batch(part)[0][:, 0]
            errors.append(estimated_error(problem, a, surrogate(a, grid), grid))
    return float(torch.cat(errors).quantile(quantile, interpolation="higher"))


def own_data(problem: Problem, resolution: int | tuple[int, ...], *, n: int = 8, steps: int = 4, seed: int = _SEED) -> xr.Dataset:
    """Data to calibrate on where none were held out: samples of the problem, for an evolution with ``steps`` steps of its solver.

    Raises
    ------
    UsageError
        For less than two samples or one step.
    """
    if n < 2 or steps < 1:
        raise UsageError("own_data", "2 or more samples and 1 or more steps", f"{n} and {steps}")
    grid = problem.grid(resolution)
    a = problem.sample(n, grid, torch.Generator().manual_seed(seed))
    if problem.dt is None:
        values, leading = torch.cat([a.double(), problem.solve(a, grid).double()], 1), {"sample": np.arange(n)}
        return to_dataset(values.float(), (*problem.inputs, *problem.outputs), grid, leading)
    names = [v.name for v in problem.inputs]
    channels = [names.index(v.name) for v in problem.outputs]
    inputs = [a]
    for _ in range(steps):
        a = a.clone()
        a[:, channels] = problem.solve(a, grid)
        inputs.append(a)
    times = {"sample": np.arange(n), "time": problem.dt * np.arange(steps + 1)}
    return to_dataset(torch.stack(inputs, 1).float(), problem.inputs, grid, times)


def _own(problem: Problem, grid: Grid) -> Grid:
    """The grid on the problem's own domain, to the last digit."""
    return snap(grid, problem.grid(grid.shape), "hybrid: grid of the data")
