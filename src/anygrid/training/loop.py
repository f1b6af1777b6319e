"""The training loop.

What a step does depends on the weights, the optimiser's moments, the plan, and the step's number; random numbers are seeded
with (seed, step), the order of samples with (seed, epoch). So a run that was killed and resumes from its last checkpoint
takes the very same steps again, and ends with the same weights bit for bit (same machine, same number of threads).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import TrainingError
from anygrid.grid import Grid
from anygrid.surrogate import Surrogate
from anygrid.training.budget import Clock
from anygrid.training.checkpoints import RunFolder, State
from anygrid.training.coarsen import coarsen
from anygrid.training.interrupt import Interrupt
from anygrid.training.loader import Batch, Loader
from anygrid.training.losses import RelativeNorm
from anygrid.training.pacing import calibrate, choose_threads, revise
from anygrid.training.physics import Equations
from anygrid.training.progress import Listener, Progress
from anygrid.training.schedule import Segment, learning_rate_factor
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.symmetries import apply_symmetries

__all__ = ["Trainer", "rollout_loss"]

_LOGS = 100  # lines of the log in a training
_REPORT_SECONDS = 0.25


@dataclass
class Trainer:
    """One training: the model, its data, its loss and its settings."""

    model: Surrogate
    loader: Loader
    held_out: Loader | None
    loss: RelativeNorm
    settings: Settings
    folder: RunFolder | None
    listener: Listener
    equations: Equations | None

    def run(self, state: State) -> State:
        """Train to the end of the plan, from the folder's checkpoint if there is one.

        Raises
        ------
        TrainingError
            When the loss or its gradient is not finite; the last checkpoint is kept.
        KeyboardInterrupt
            After Ctrl-C, once the step is finished and a checkpoint is written.
        """
        optimizer = make_optimizer(self.model.operator, self.settings)
        weights = self.model.operator.state_dict()  # the tensors themselves: they follow the training
        best: dict[str, Tensor] = {}
        if self.folder and (resumed := self.folder.load(weights, optimizer)):
            state, best, remembered = resumed
            if self.equations:
                self.equations.restore(remembered)
            self.listener(replace(self._progress(state), message=f"resumed at step {state.step} of {state.plan.steps}"))
        clock, budget = Clock(state.seconds), self.settings.budget
        meter, saved, batches = _Meter(clock.seconds), clock.seconds, None
        with Interrupt() as interrupt, torch.random.fork_rng(devices=_cuda_devices(self.settings.device)), _threads(state.threads):
            if not state.plan.steps:
                assert budget is not None
                self._calibrate(state, budget, clock)
            while state.step < state.plan.steps:
                segment, before = state.plan.at(state.step), state.plan.fraction(state.step)
                batches = batches or self.loader.stream(segment.unroll, state.position)
                asked = time.perf_counter()
                batch = next(batches)
                state.waited += time.perf_counter() - asked
                rate = self.settings.learning_rate * learning_rate_factor(state.plan.fraction(state.step + 0.5), DEFAULTS.warm_up)
                meter.add(self.step(optimizer, batch, segment, rate, state.step), len(batch.rows) * segment.unroll)

                state.step, state.position = state.step + 1, batch.following
                state.samples += len(batch.rows) * segment.unroll
                after = state.plan.fraction(state.step)
                if state.plan.at(state.step).unroll != segment.unroll:
                    batches.close()  # another unroll length has other starting rows, so another order
                    batches = None
                validated = self.held_out is not None and _crossed(before, after, state.validations)
                if validated:
                    state.validation = self.validate(state.validation_rows)
                    if self.settings.keep_best and state.validation < state.best:
                        state.best, state.best_step = state.validation, state.step
                        best = {name: value.clone() for name, value in weights.items()}
                state.seconds = clock.seconds
                revised = budget is not None and revise(
                    state, budget, before, after, lambda: choose_threads(state, budget, self.loader, self._rehearsal()[1])
                )
                logged = validated or _crossed(before, after, _LOGS)
                if logged or state.seconds - meter.since > _REPORT_SECONDS:
                    self._tell(state, meter, rate, validated, logged)
                ended = state.step == state.plan.steps
                if self.folder and (revised or ended or interrupt.asked or state.seconds - saved > self.settings.checkpoint_seconds):
                    self.folder.save(state, weights, optimizer, best, self.equations.tensors() if self.equations else {})
                    saved = clock.seconds
                if interrupt.asked and not ended:
                    kept = (
                        f"saved in {self.folder.path}; the same arguments resume it"
                        if self.folder
                        else "nothing is saved without a run folder"
                    )
                    raise KeyboardInterrupt(f"stopped at step {state.step} of {state.plan.steps}: {kept}")
        if batches:
            batches.close()
        if best:
            self.model.operator.load_state_dict(best)
            state.validation = state.best
        return state

    def step(self, optimizer: torch.optim.Optimizer, batch: Batch, segment: Segment, rate: float, number: int) -> float:
        """One step of the optimiser; returns the loss."""
        settings, device = self.settings, torch.device(self.settings.device)
        seed = settings.seed * 1_000_003 + number
        torch.manual_seed(seed)
        fields, grid = coarsen([batch.a, batch.u], batch.grid, segment.stride)
        if settings.augment:
            fields = apply_symmetries(fields, settings.augment, grid, torch.Generator().manual_seed(seed))
        a, u = (f.to(device, non_blocking=True) for f in fields)
        self.model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            terms = [rollout_loss(self.model, a, u, grid, self.loss)] if settings.labels else []
        loss = terms[0] if self.equations is None else self._with_equations(self.equations, terms, number)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.operator.parameters(), DEFAULTS.clip)
        value, slope = float(loss.detach()), float(norm)
        if not (math.isfinite(value) and math.isfinite(slope)):
            rows = ", ".join(map(str, batch.rows.tolist()))
            what = f"{value} with gradient norm {slope} at step {number}, rows {rows} of data set {batch.group}"
            hint = f"lower the learning rate (now {settings.learning_rate:g}), or look at these samples; the last checkpoint is kept"
            raise TrainingError("training", "a finite loss and gradient", what, hint)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return value

    def _with_equations(self, equations: Equations, data: list[Tensor], number: int) -> Tensor:
        """The loss on data, if any, and the weighted terms of the equations."""
        errors = equations.errors(self.model, number)
        values = errors.detach().cpu().double()
        memory, rule = equations.memory, equations.weighting
        weights = rule.weights(memory, values)
        parameters = [p for p in self.model.operator.parameters() if p.requires_grad]

        def slopes() -> tuple[float, Tensor]:
            # Without data the first equation is what the others are measured by.
            norms = [_gradient_norm(term, parameters) for term in (*(data or errors[:1]), *errors)]
            return norms[0], torch.tensor(norms[1:], dtype=torch.float64)

        equations.memory = rule.update(memory, values, number, slopes)
        return sum(data, (weights.to(errors) * errors).sum())

    def validate(self, rows: int) -> float:
        """Mean relative error, one lead ahead, over ``rows`` evenly spaced held-out samples of each data set."""
        assert self.held_out is not None
        device = torch.device(self.settings.device)
        self.model.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            for group, (pairs, size) in enumerate(zip(self.held_out.groups, self.held_out.batch, strict=True)):
                chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), rows)).astype(np.int64))
                for part in np.split(chosen, range(size, len(chosen), size)):
                    batch = self.held_out.read(group, part, 1)
                    u = self.model(batch.a[:, 0].to(device), batch.grid)
                    total += float(self.loss.per_sample(u, batch.u[:, 0].to(device), batch.grid).sum())
                    count += len(part)
        return total / count

    def _calibrate(self, state: State, budget: float, clock: Clock) -> None:
        rehearsal, step = self._rehearsal()
        validate = None if self.held_out is None else rehearsal.validate
        known = len(state.notes)
        if self.settings.device == "cpu":
            choose_threads(state, budget, self.loader, step)
        calibrate(state, budget, clock, self.loader, step, validate)
        for note in state.notes[known:]:
            self.listener(replace(self._progress(state), message=note))

    def _rehearsal(self) -> tuple[Trainer, Callable[[Batch, Segment], float]]:
        """A trainer of a copy of the model, and steps with it: for measuring, so that it changes nothing."""
        trainer = replace(self, model=copy.deepcopy(self.model), folder=None, equations=copy.deepcopy(self.equations))
        optimizer = make_optimizer(trainer.model.operator, self.settings)
        return trainer, lambda batch, segment: trainer.step(optimizer, batch, segment, 0.0, 0)

    def _tell(self, state: State, meter: _Meter, rate: float, validated: bool, logged: bool) -> None:
        loss, speed = meter.read(state.seconds)
        self.listener(replace(self._progress(state), loss=loss, samples_per_second=speed, learning_rate=rate))
        if logged:
            validation = state.validation if validated else None
            row = {"step": state.step, "seconds": state.seconds, "loss": loss, "validation": validation, "learning_rate": rate}
            state.history.append(row)
            if self.folder:
                self.folder.write_log({**row, "samples_per_second": speed})

    def _progress(self, state: State) -> Progress:
        budget, mean = self.settings.budget, state.seconds / max(1, state.step)
        left = (state.plan.steps - state.step) * mean if budget is None else max(0.0, budget - state.seconds)
        return Progress(state.step, state.plan.steps, state.seconds, left, validation=state.validation)


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


def make_optimizer(operator: torch.nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases and other vectors are not decayed."""
    parameters = [p for p in operator.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # Fused: 3 ms instead of 15 for 2.8 million parameters on one core, out of some hundred for a step.
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, betas=DEFAULTS.betas, fused=True)


def _gradient_norm(term: Tensor, parameters: list[torch.nn.Parameter]) -> float:
    slopes = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return math.sqrt(sum(float(slope.square().sum()) for slope in slopes if slope is not None))


@dataclass
class _Meter:
    """Loss and throughput since the last report."""

    since: float
    losses: list[float] = field(default_factory=list)
    samples: int = 0

    def add(self, loss: float, samples: int) -> None:
        self.losses.append(loss)
        self.samples += samples

    def read(self, now: float) -> tuple[float, float]:
        """Mean loss and samples per second, and a new beginning."""
        loss, speed = sum(self.losses) / len(self.losses), self.samples / max(now - self.since, 1e-9)
        self.since, self.losses, self.samples = now, [], 0
        return loss, speed


def _crossed(before: float, after: float, marks: int) -> bool:
    """Whether one of the evenly spaced marks ``1/marks, ..., 1`` lies in ``(before, after]``."""
    return math.floor(after * marks + 1e-9) > math.floor(before * marks + 1e-9)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads, or with as many as are set meanwhile, and then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cuda_devices(device: str) -> list[torch.device]:
    return [torch.device(device)] if device.startswith("cuda") else []
