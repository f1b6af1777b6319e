"""One step of the optimiser: the loss of this rank's rows, the gradient over all ranks, and what must be finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anygrid.errors import TrainingError, UsageError
from anygrid.surrogate import Surrogate
from anygrid.training.coarsen import coarsen
from anygrid.training.loader import Batch
from anygrid.training.losses import RelativeNorm
from anygrid.training.objective import Objective
from anygrid.training.parallel import Division, Domain, Shards
from anygrid.training.physics import Equations
from anygrid.training.schedule import Segment
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.symmetries import apply_symmetries
from anygrid.training.weighting import GradientNorm

__all__ = ["Stepper", "make_optimizer"]

_APART = 7_919_000_000_003  # between the seeds of ranks: what an operator draws for its rows must differ from rank to rank


class Stepper:
    """Steps of one model: its loss, its optimiser, and the way its work is divided.

    Raises
    ------
    UsageError
        For weights of equations by gradient norms, where gradients are spread over ranks.
    """

    def __init__(self, model: Surrogate, loss: RelativeNorm, equations: Equations | None, settings: Settings, division: Division) -> None:
        if equations is not None and isinstance(equations.weighting, GradientNorm) and isinstance(division, Shards):
            hint = "choose another weighting, such as AugmentedLagrangian, or parallel='data'"
            raise UsageError("parallel='sharded'", "weights of the equation that need no gradient norms", "GradientNorm", hint)
        self.model, self.equations, self.settings, self.division = model, equations, settings, division
        self.objective = division.wrap(Objective(model, loss, equations, labels=settings.labels))
        self.optimizer = make_optimizer(model.operator, settings)

    def step(self, batch: Batch, segment: Segment, rate: float, number: int) -> float:
        """Take step ``number`` with the learning rate ``rate``; returns the loss of the whole batch.

        Raises
        ------
        TrainingError
            When the loss or its gradient is not finite; the weights are then those before the step.
        """
        settings, device, ranks = self.settings, torch.device(self.settings.device), self.division.ranks
        seed = settings.seed * 1_000_003 + number
        # On a shared domain what all ranks compute of the latent field or the coefficients must be the same.
        torch.manual_seed(seed if isinstance(self.division, Domain) else seed + ranks.rank * _APART)
        fields, grid = coarsen([batch.a, batch.u], batch.grid, segment.stride)
        if settings.augment:
            fields = apply_symmetries(fields, settings.augment, grid, torch.Generator().manual_seed(seed))
        fields, grid = self.division.part(fields, grid)
        a, u = (f.to(device, non_blocking=True) for f in fields)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        data, errors = self.objective(a, u, grid, number, settings.precision == "bfloat16")
        loss = self._weighed(data, errors, batch.part, number)
        # The sum of gradients over ranks is a mean: times their number it is that of the whole batch.
        (loss * ranks.count).backward()
        if device.type == "cuda":
            ranks.agree(0.0)  # a process that is gone is noticed here, while NCCL would wait for it
        value = float(ranks.total(loss.detach()))
        norm = torch.nn.utils.clip_grad_norm_(self.model.operator.parameters(), DEFAULTS.clip)
        slope = float(self.division.whole({"norm": norm})["norm"])
        if not (math.isfinite(value) and math.isfinite(slope)):
            rows = ", ".join(map(str, batch.rows.tolist()))
            what = f"{value} with gradient norm {slope} at step {number}, rows {rows} of data set {batch.group}"
            hint = f"lower the learning rate (now {settings.learning_rate:g}), or look at these samples; the last checkpoint is kept"
            raise TrainingError("training", "a finite loss and gradient", what, hint)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return value

    def restore(self, stored: dict[int, dict[str, Tensor]]) -> None:
        """Moments of a checkpoint, by the number of the parameter in the optimiser."""
        plain = self.optimizer.state_dict()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state = {
            k: {name: self.division.like(parameters[k], t) if t.shape == parameters[k].shape else t for name, t in entries.items()}
            for k, entries in stored.items()
        }
        self.optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})

    def _weighed(self, data: Tensor | None, errors: Tensor | None, part: float, number: int) -> Tensor:
        """Part of the loss that is of this rank: that of the data, and the weighted terms of the equations."""
        terms = [] if data is None else [data * part]
        if self.equations is None or errors is None:
            return terms[0]
        errors = errors * self.equations.share.part
        # The rule sees the errors of all inputs, so that every rank comes to the same weights.
        values = self.division.ranks.total(errors.detach().cpu().double())
        memory, rule = self.equations.memory, self.equations.weighting
        weights = rule.weights(memory, values)

        def slopes() -> tuple[float, Tensor]:
            # Without data the first equation is what the others are measured by.
            norms = [self._gradient_norm(term) for term in (*(terms or errors[:1]), *errors)]
            return norms[0], torch.tensor(norms[1:], dtype=torch.float64)

        self.equations.memory = rule.update(memory, values, number, slopes)
        return sum(terms, (weights.to(errors) * errors).sum())

    def _gradient_norm(self, term: Tensor) -> float:
        """Norm of the gradient of a term, summed over ranks."""
        parameters = [p for p in self.model.operator.parameters() if p.requires_grad]
        slopes = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        whole = [self.division.ranks.total(slope) for slope in slopes if slope is not None]
        return math.sqrt(sum(float(slope.square().sum()) for slope in whole))


def make_optimizer(operator: torch.nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases and other vectors are not decayed."""
    parameters = [p for p in operator.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # Fused: 3 ms instead of 15 for 2.8 million parameters on one core, out of some hundred for a step.
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, betas=DEFAULTS.betas, fused=True)
