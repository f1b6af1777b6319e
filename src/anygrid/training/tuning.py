r"""Fine-tuning for the inputs at hand: the equation is known, so the operator can be bent towards these very solutions.

.. math:: \min_\theta \frac1B \sum_b \frac{\| \delta(a_b, G_\theta(a_b)) \|}{\| G_\theta(a_b) \|}

by Adam from the trained weights, without any label (Li et al., Physics-Informed Neural Operator, 2021, section 3.3).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import DataError, TrainingError, UsageError
from anygrid.grid import Grid
from anygrid.problems.base import Problem
from anygrid.surrogate import Surrogate

__all__ = ["Tuned", "fine_tune"]

_RATE = 1e-3  # at the start, in scaled units of the weights: a tenth of what a training from nothing bears
_BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Tuned:
    """A surrogate fine-tuned to some inputs, and the estimated relative error of each, before and after."""

    surrogate: Surrogate
    before: Float[Tensor, " batch"]
    after: Float[Tensor, " batch"]


def fine_tune(
    surrogate: Surrogate,
    a: Float[Tensor, "batch inputs *space"],
    grid: Grid,
    problem: Problem | None = None,
    *,
    steps: int = 100,
    learning_rate: float = _RATE,
) -> Tuned:
    """A copy of ``surrogate`` that obeys the equation better for the inputs ``a``; yours is not changed.

    Worth it where one solution matters and the solver is dear: a step costs about three predictions of ``a``. The best weights
    met are kept, by the estimate of the equation, so that the result is never worse by it.

    Parameters
    ----------
    problem
        The equation; by default the one that the surrogate was made for.
    steps, learning_rate
        Of Adam; the rate falls to zero along half a cosine.

    Raises
    ------
    UsageError
        Without an equation, for one that cannot estimate an error, and for fewer than one step.
    DataError
        For inputs that are not finite.
    TrainingError
        When the estimated error is not finite.
    """
    problem = problem or surrogate.problem
    if problem is None:
        raise UsageError("fine_tune", "a surrogate that knows its equation, or problem=", "neither", "give problem=anygrid.Equation(...)")
    if steps < 1 or not learning_rate > 0:
        raise UsageError("fine_tune", "steps of 1 or more and a learning rate above 0", f"{steps} and {learning_rate}")
    if not bool(torch.isfinite(a).all()):
        raise DataError("fine_tune", "finite inputs", "NaN or inf", "fill or drop them")
    tuned = copy.deepcopy(surrogate)
    parameters = [p for p in tuned.operator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, betas=_BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    before = best = _estimate(tuned, problem, a, grid).detach()
    kept = copy.deepcopy(tuned.operator.state_dict())
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        error = _estimate(tuned, problem, a, grid)
        if not bool(torch.isfinite(error).all()):
            raise TrainingError("fine_tune", "a finite estimated error", "NaN or inf", "lower the learning rate")
        if float(error.detach().mean()) < float(best.mean()):
            best, kept = error.detach(), copy.deepcopy(tuned.operator.state_dict())
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    last = _estimate(tuned, problem, a, grid).detach()
    if not float(last.mean()) < float(best.mean()):
        tuned.operator.load_state_dict(kept)
        last = best
    tuned.record["fine_tuned"] = {"steps": steps, "inputs": len(a), "before": before.tolist(), "after": last.tolist()}
    return Tuned(tuned.eval(), before, last)


def _estimate(surrogate: Surrogate, problem: Problem, a: Tensor, grid: Grid) -> Tensor:
    """Estimated relative error of each row, each channel by its own size."""
    u = surrogate(a, grid).float()
    delta = problem.correction(a, u, grid)
    size = u.detach().flatten(2).norm(dim=2).clamp(min=1e-30)
    return (delta.flatten(2).norm(dim=2) / size).square().mean(1).clamp(min=1e-24).sqrt()
