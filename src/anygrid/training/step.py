"""One step of the optimiser: the loss of this rank's rows, the gradient over all ranks, and what must be finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from anygrid.errors import TrainingError, UsageError
from anygrid.surrogate import Surrogate
from anygrid.training.checkpoints import State
from anygrid.training.coarsen import coarsen
from anygrid.training.loader import Batch
from anygrid.training.losses import RelativeNorm
from anygrid.training.memory import MicroBatch, out_of_memory, release, too_large
from anygrid.training.mixed import said, stays
from anygrid.training.objective import Objective
from anygrid.training.parallel import Division, Domain, Shards
from anygrid.training.physics import Equations
from anygrid.training.replay import Replay
from anygrid.training.schedule import Segment
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.soap import SOAP
from anygrid.training.symmetries import apply_symmetries
from anygrid.training.weighting import GradientNorm

__all__ = ["Stepper", "make_optimizer"]

_APART = 7_919_000_000_003  # between the seeds of ranks: what an operator draws for its rows must differ from rank to rank


class Stepper:
    """Steps of one model: its loss, its optimiser, and the way its work is divided.

    What a step decides for those after it is kept in ``state``: the parts that batches are computed in, and steps repeated in float32.

    Raises
    ------
    UsageError
        For weights of equations by gradient norms, where gradients are spread over ranks or come in parts; for SOAP on sharded weights.
    """

    def __init__(
        self,
        model: Surrogate,
        loss: RelativeNorm,
        equations: Equations | None,
        settings: Settings,
        division: Division,
        state: State,
        tell: Callable[[str], None],
        micro_batch: MicroBatch,
        replay: Replay | None = None,
    ) -> None:
        weighting = None if equations is None else equations.weighting
        if isinstance(weighting, GradientNorm) and (isinstance(division, Shards) or micro_batch is not None):
            hint = "choose another weighting, such as AugmentedLagrangian, or leave out parallel and micro_batch"
            raise UsageError("fit", "weights of the equation that need no gradient norms of a whole batch", "GradientNorm", hint)
        if settings.optimizer == "soap" and isinstance(division, Shards):
            raise UsageError(
                "parallel='sharded'", "an optimiser that works on parts of a weight", "soap", "leave out optimizer or parallel"
            )
        self.model, self.equations, self.settings, self.division = model, equations, settings, division
        self.state, self.tell, self.micro_batch, self.replay = state, tell, micro_batch, replay
        self.objective = division.wrap(Objective(model, loss, equations, labels=settings.labels))
        self.optimizer = make_optimizer(model.operator, settings)

    def step(self, batch: Batch, segment: Segment, rate: float, number: int) -> float:
        """Take step ``number`` with the learning rate ``rate``; returns the loss of the whole batch.

        In mixed precision, what is not finite is computed again in float32.

        Raises
        ------
        TrainingError
            When the loss or its gradient is not finite, or a part of the batch does not fit into memory; the weights are then those
            before the step.
        """
        mixed = self.settings.precision == "bfloat16" and not stays(self.state.repeated)
        before = self.equations.snapshot() if self.equations and (mixed or self.micro_batch == "auto") else {}
        value, slope = self._fitting(batch, segment, number, mixed, before)
        if mixed and not (math.isfinite(value) and math.isfinite(slope)):
            self._back(before)
            self.state.repeated.append(number)
            self.tell(said(self.state.repeated, value, slope))
            value, slope = self._fitting(batch, segment, number, False, before)
        if not (math.isfinite(value) and math.isfinite(slope)):
            rows = ", ".join(map(str, batch.rows.tolist()))
            what = f"{value} with gradient norm {slope} at step {number}, rows {rows} of data set {batch.group}"
            hint = f"lower the learning rate (now {self.settings.learning_rate:g}), or look at these samples; the last checkpoint is kept"
            raise TrainingError("training", "a finite loss and gradient", what, hint)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.replay and segment.stride == 1:
            self.replay.advance(number)
        return value

    def _fitting(self, batch: Batch, segment: Segment, number: int, mixed: bool, before: dict[str, Tensor]) -> tuple[float, float]:
        """Loss and gradient norm, in parts that fit into memory.

        Raises
        ------
        TrainingError
            When smaller parts are needed and were not allowed, or would not do.
        """
        size = self.state.micro_batch or len(batch.rows)  # the same on all ranks, whose passes follow from it
        found = self._attempt(batch, segment, number, mixed, size)
        if not isinstance(found, str):
            return found
        size = min(size, len(batch.a))
        why, smaller = found, size
        if not self.division.ranks.alone:
            raise too_large(size, size // 2, number, why, tried=False)
        while isinstance(found, str) and smaller > 1 and self.settings.labels:
            smaller //= 2
            self._back(before)
            found = self._attempt(batch, segment, number, mixed, smaller)
        if isinstance(found, str) or self.micro_batch != "auto":
            raise too_large(size, 0 if isinstance(found, str) else smaller, number, why, tried=True)
        self.state.micro_batch = smaller
        self.tell(f"no memory for {size} samples at once at step {number}: batches are computed in parts of {smaller} from here on")
        return found

    def _attempt(self, batch: Batch, segment: Segment, number: int, mixed: bool, size: int) -> tuple[float, float] | str:
        """Loss and gradient norm, computed ``size`` samples at once; the words of the error when there is no memory for it."""
        try:
            return self._gradient(batch, segment, number, mixed, size)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # Only here, where nothing refers to what the attempt held.
        self.optimizer.zero_grad(set_to_none=True)
        release()
        return why

    def _gradient(self, batch: Batch, segment: Segment, number: int, mixed: bool, size: int) -> tuple[float, float]:
        """Loss of the whole batch and norm of its gradient, which is left in the weights."""
        settings, device, ranks = self.settings, torch.device(self.settings.device), self.division.ranks
        seed = settings.seed * 1_000_003 + number
        # On a shared domain what all ranks compute of the latent field or the coefficients must be the same.
        torch.manual_seed(seed if isinstance(self.division, Domain) else seed + ranks.rank * _APART)
        fields, grid = coarsen([batch.a, batch.u], batch.grid, segment.stride)
        if settings.augment:
            fields = apply_symmetries(fields, settings.augment, grid, torch.Generator().manual_seed(seed))
        fields, grid = self.division.part(fields, grid)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, rows = torch.zeros((), device=device), len(batch.a)
        passes = self.division.passes(len(batch.rows), size)
        for k in range(passes):
            mine = slice(k * size, (k + 1) * size) if k * size < rows else slice(0, 1)  # beyond its rows one that counts nothing
            a, u = (f[mine].to(device, non_blocking=True) for f in fields)
            last = k + 1 == passes
            self.division.delay(self.objective, not last)
            data, errors = self.objective(a, u, grid, number, mixed, last)
            loss = self._weighed(data, errors, batch.part * (len(a) / rows if k * size < rows else 0.0), number)
            # The sum of gradients over ranks is a mean: times their number it is that of the whole batch.
            (loss * ranks.count).backward()
            total += loss.detach()
        if self.replay and segment.stride == 1:
            loss = DEFAULTS.replay_weight * self.replay.error(self.model, mixed)
            loss.backward()
            total += loss.detach()
        if device.type == "cuda":
            ranks.agree(0.0)  # a process that is gone is noticed here, while NCCL would wait for it
        value = float(ranks.total(total))
        norm = torch.nn.utils.clip_grad_norm_(self.model.operator.parameters(), DEFAULTS.clip)
        return value, float(self.division.whole({"norm": norm})["norm"])

    def _back(self, before: dict[str, Tensor]) -> None:
        """Let the equations forget an attempt."""
        if self.equations and before:
            self.equations.restore(before)
            before |= self.equations.snapshot()

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


def make_optimizer(operator: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SOAP; biases and other vectors are not decayed."""
    parameters = [p for p in operator.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "soap":
        return SOAP(groups, settings.learning_rate, DEFAULTS.betas)
    # Fused: 3 ms instead of 15 for 2.8 million parameters on one core, out of some hundred for a step.
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=DEFAULTS.betas, fused=True)
