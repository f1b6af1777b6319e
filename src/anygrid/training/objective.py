"""The loss of a step as one module: what sums gradients over ranks sees one forward pass, however often the operator runs in it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.grid import Grid
from anygrid.surrogate import Surrogate
from anygrid.training.losses import RelativeNorm
from anygrid.training.physics import Equations

__all__ = ["Objective", "rollout_loss"]


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

    Each prediction becomes the next input; inputs that are not predicted (forcings) come from the data.
    """
    names = [v.name for v in model.inputs]
    shared = [(k, names.index(v.name)) for k, v in enumerate(model.outputs) if v.name in names]
    state, total = a[:, 0], torch.zeros((), device=a.device)
    for lead in range(a.shape[1]):
        prediction = model(state, grid).float()
        total = total + loss(prediction, u[:, lead], grid)
        if lead + 1 < a.shape[1]:
            channels = list(a[:, lead + 1].unbind(1))
            for k, place in shared:
                channels[place] = prediction[:, k]
            state = torch.stack(channels, 1)
    return total / a.shape[1]
