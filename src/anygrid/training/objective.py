"""The loss of a step as one module: what sums gradients over ranks sees one forward pass, however often the operator runs in it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anygrid.grid import Grid
from anygrid.surrogate import Surrogate
from anygrid.training.losses import RelativeNorm
from anygrid.training.physics import Equations
from anygrid.training.settings import DEFAULTS

__all__ = ["Objective", "following_inputs", "rollout_loss"]


class Objective(nn.Module):
    """Terms of the loss over this rank's rows: on data, mean over its samples, and of each equation, mean over its inputs."""

    def __init__(self, model: Surrogate, loss: RelativeNorm, equations: Equations | None, *, labels: bool) -> None:
        super().__init__()
        self.model, self.loss, self.equations, self.labels = model, loss, equations, labels

    def forward(self, a: Tensor, u: Tensor, grid: Grid, number: int, mixed: bool, last: bool) -> tuple[Tensor | None, Tensor | None]:
        """Both terms for step ``number``; the operator in mixed precision for the data if so asked.

        The equations belong to the ``last`` of the parts that a batch is computed in.
        """
        with torch.autocast(a.device.type, torch.bfloat16, enabled=mixed):
            data = rollout_loss(self.model, a, u, grid, self.loss) if self.labels else None
        return data, self.equations.errors(self.model, number) if self.equations is not None and last else None


def rollout_loss(
    model: Surrogate,
    a: Float[Tensor, "batch lead inputs *space"],
    u: Float[Tensor, "batch lead outputs *space"],
    grid: Grid,
    loss: RelativeNorm,
) -> Float[Tensor, ""]:
    """Mean loss over the leads of a roll-out from ``a[:, 0]``, differentiated through all of it.

    Each prediction becomes the next input; inputs that are not predicted (forcings) come from the data. A random surrogate rolls out some
    draws, each with its own noise, and the loss is their score; the noise follows from torch's own generator, which a step seeds.

    Beyond :attr:`~anygrid.training.settings.Defaults.stored_leads` leads what is inside an application is computed again on the way back
    instead of kept (Griewank and Walther 2000, algorithm 799, at its simplest): one more application a lead, the same gradient, and memory
    for one application and a state a lead.
    """
    members = DEFAULTS.members if model.noise else 1
    generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, ()))) if model.noise else None
    copies = (members, *(1,) * (a.ndim - 2))
    state, total = a[:, 0].repeat(copies) if model.noise else a[:, 0], torch.zeros((), device=a.device)
    again = a.shape[1] > DEFAULTS.stored_leads
    for lead in range(a.shape[1]):
        # Noise is drawn here, so that what is computed again is the same.
        rows = state if generator is None else torch.cat([state, model.noise.draw(len(state), grid, generator).to(state)], 1)
        prediction = (checkpoint(model, rows, grid, use_reentrant=False) if again else model(rows, grid)).float()
        if generator is None:
            total = total + loss(prediction, u[:, lead], grid)
        else:
            total = total + loss.crps(prediction.unflatten(0, (members, len(a))), u[:, lead], grid, DEFAULTS.alpha).mean()
        if lead + 1 < a.shape[1]:
            following = a[:, lead + 1]
            state = following_inputs(model, prediction, following.repeat(copies) if model.noise else following)
    return total / a.shape[1]


def following_inputs(model: Surrogate, prediction: Tensor, a: Tensor) -> Tensor:
    """Inputs ``a`` of the next lead, with the predictions in the place of what is predicted."""
    names = [v.name for v in model.inputs]
    channels = list(a.unbind(1))
    for k, v in enumerate(model.outputs):
        if v.name in names:
            channels[names.index(v.name)] = prediction[:, k]
    return torch.stack(channels, 1)
