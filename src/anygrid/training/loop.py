"""The training loop.

What a step does depends on the weights, the optimiser's moments, the plan, and the step's number; random numbers are seeded
with (seed, step), the order of samples with (seed, epoch). So a run that was killed and resumes from its last checkpoint
takes the very same steps again, and ends with the same weights bit for bit (same machine, same numbers of threads and of ranks).

On several ranks all run this loop in step. What a clock, a file or a signal decides, it decides for all of them.
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
from torch import Tensor

from anygrid.errors import FileError
from anygrid.grid import Grid
from anygrid.surrogate import Surrogate
from anygrid.training.budget import Clock
from anygrid.training.checkpoints import Checkpoint, RunFolder, State
from anygrid.training.interrupt import Interrupt
from anygrid.training.loader import Batch, Loader
from anygrid.training.losses import RelativeNorm
from anygrid.training.memory import MicroBatch
from anygrid.training.pacing import calibrate, choose_threads, revise
from anygrid.training.parallel import Division
from anygrid.training.physics import Equations
from anygrid.training.progress import Listener, Progress
from anygrid.training.replay import Replay
from anygrid.training.schedule import Segment, learning_rate_factor
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.step import Stepper

__all__ = ["Trainer"]

_LOGS = 100  # lines of the log in a training
_REPORT_SECONDS = 0.25


@dataclass
class Trainer:
    """One training: the model, its data, its loss and its settings.

    ``folder`` is given on the first rank, and ``keeps`` says on every one whether there is a folder.
    """

    model: Surrogate
    loader: Loader
    held_out: Loader | None
    loss: RelativeNorm
    settings: Settings
    folder: RunFolder | None
    keeps: bool
    listener: Listener
    equations: Equations | None
    division: Division
    micro_batch: MicroBatch
    replay: Replay | None = None

    def run(self, state: State) -> State:
        """Train to the end of the plan, from the folder's checkpoint if there is one.

        Raises
        ------
        TrainingError
            When the loss or its gradient is not finite; the last checkpoint is kept.
        KeyboardInterrupt
            After Ctrl-C, once the step is finished and a checkpoint is written.
        """
        ranks, budget = self.division.ranks, self.settings.budget
        stepper = self._stepper(state, lambda text: self._note(stepper.state, text))
        weights = self.model.operator.state_dict()  # the tensors themselves: they follow the training
        state, best = self._begin(state, stepper, weights)
        stepper.state = state
        clock = Clock(state.seconds)
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
                meter.add(stepper.step(batch, segment, rate, state.step), len(batch.rows) * segment.unroll)

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
                logged = validated or _crossed(before, after, _LOGS)
                if logged or state.seconds - meter.since > _REPORT_SECONDS:
                    self._tell(state, meter, rate, validated, logged)
                # A signal may reach any rank, at any time: all stop after the same step, and go by the first one's clock.
                stop, state.seconds = ranks.totals(float(interrupt.asked), state.seconds if ranks.first else 0.0)
                revised = budget is not None and revise(
                    state,
                    budget,
                    before,
                    after,
                    lambda: choose_threads(state, budget, self.loader, self.rehearsal(state)[1], ranks.agree),
                )
                ended = state.step == state.plan.steps
                if self.keeps and (revised or ended or stop or state.seconds - saved > self.settings.checkpoint_seconds):
                    self._save(state, stepper, weights, best)
                    saved = ranks.agree(clock.seconds)
                if stop and not ended:
                    self._stop(state)
        if batches:
            batches.close()
        if best:
            self.model.operator.load_state_dict(best)
            state.validation = state.best
        self.division.finish(self.model)
        return state

    def validate(self, rows: int) -> float:
        """Mean relative error, one lead ahead, over ``rows`` evenly spaced held-out samples of each data set.

        Of a random surrogate it is that of the mean of ``DEFAULTS.validation_draws``.
        """
        assert self.held_out is not None
        device = torch.device(self.settings.device)
        self.model.eval()
        total, count = 0.0, 0
        with self.division.evaluation():
            for group, (pairs, size) in enumerate(zip(self.held_out.groups, self.held_out.batch, strict=True)):
                chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), rows)).astype(np.int64))
                for part in np.split(chosen, range(size, len(chosen), size)):
                    batch = self.held_out.read(group, part, 1)
                    (a, truth), grid = self.division.part([batch.a, batch.u], batch.grid)
                    errors = self.loss.plain.per_sample(self._expected(a[:, 0].to(device), grid), truth[:, 0].to(device), grid)
                    # Each rank has some samples, or a share of all of them.
                    total += float(errors.sum()) * (batch.part * len(part) / len(errors))
                    count += len(part)
        return self.division.ranks.totals(total)[0] / count

    def _expected(self, a: Tensor, grid: Grid) -> Tensor:
        """Prediction; of a random surrogate the mean of some draws, the same at every validation."""
        if not self.model.noise:
            return self.model(a, grid)
        generator = torch.Generator().manual_seed(self.settings.seed)
        return self.model.draw(a, grid, members=DEFAULTS.validation_draws, generator=generator).mean(0)

    def _begin(self, state: State, stepper: Stepper, weights: dict[str, Tensor]) -> tuple[State, dict[str, Tensor]]:
        """The state to begin with, and the best weights so far: those of the checkpoint, which the first rank reads for all."""
        ranks, division = self.division.ranks, self.division
        stored = ranks.broadcast(self.folder.load() if self.folder else None)
        if stored is None:
            state = ranks.broadcast(state)
            state.micro_batch = self.micro_batch if isinstance(self.micro_batch, int) else 0
            return state, {}
        if set(stored.weights) != set(weights):
            assert self.folder is not None
            raise FileError(str(self.folder.checkpoint), "the weights of this operator", "other weights", "choose another run folder")
        with torch.no_grad():
            for name, value in weights.items():
                division.fill(value, stored.weights[name])
            best = {name: division.like(weights[name], value) for name, value in stored.best.items()}
            stepper.restore(stored.optimizer)
        if self.equations:
            self.equations.restore(stored.equations)
        if self.replay:
            self.replay.restore(stored.replay)
        state, now = stored.state, ranks.count
        self.listener(replace(self._progress(state), message=f"resumed at step {state.step} of {state.plan.steps}"))
        if state.ranks != now and state.step < state.plan.steps:
            words = f"{now} process{'es' if now > 1 else ''} in place of {state.ranks}"
            self._note(state, f"{words} from step {state.step} on: from here sums are rounded in another order")
            state.ranks = now
        if isinstance(self.micro_batch, int) and self.micro_batch != state.micro_batch:
            self._note(state, f"parts of {self.micro_batch} samples from step {state.step} on, added to the gradient of a batch")
            state.micro_batch = self.micro_batch
        return state, best

    def _save(self, state: State, stepper: Stepper, weights: dict[str, Tensor], best: dict[str, Tensor]) -> None:
        """Write a checkpoint: the first rank does, of tensors that all of them gather."""
        whole = self.division.whole
        optimizer = {k: whole(entries) for k, entries in stepper.optimizer.state_dict()["state"].items()}
        remembered = self.equations.tensors() if self.equations else {}
        replayed = self.replay.tensors() if self.replay else {}
        checkpoint = Checkpoint(state, whole(weights), whole(best), optimizer, remembered, replayed)
        if self.folder:
            self.folder.save(checkpoint)

    def _stop(self, state: State) -> None:
        """Leave after Ctrl-C.

        Raises
        ------
        KeyboardInterrupt
            Always.
        """
        where = self.folder.path if self.folder else "the run folder"
        kept = f"saved in {where}; the same arguments resume it" if self.keeps else "nothing is saved without a run folder"
        raise KeyboardInterrupt(f"stopped at step {state.step} of {state.plan.steps}: {kept}")

    def _calibrate(self, state: State, budget: float, clock: Clock) -> None:
        rehearsal, step = self.rehearsal(state)
        validate = None if self.held_out is None else rehearsal.validate
        known, agree = len(state.notes), self.division.ranks.agree
        if self.settings.device == "cpu":
            choose_threads(state, budget, self.loader, step, agree)
        calibrate(state, budget, clock, self.loader, step, validate, agree)
        for note in state.notes[known:]:
            self.listener(replace(self._progress(state), message=note))

    def rehearsal(self, state: State) -> tuple[Trainer, Callable[[Batch, Segment], float]]:
        """A trainer of a copy of the model, and steps with it: for measuring, so that it changes nothing."""
        model, equations = self.division.spare(self.model, torch.device(self.settings.device)), copy.deepcopy(self.equations)
        trainer = replace(self, model=model, folder=None, keeps=False, equations=equations, replay=copy.copy(self.replay))
        stepper = trainer._stepper(copy.deepcopy(state), lambda text: None)
        return trainer, lambda batch, segment: stepper.step(batch, segment, 0.0, 0)

    def _stepper(self, state: State, tell: Callable[[str], None]) -> Stepper:
        return Stepper(self.model, self.loss, self.equations, self.settings, self.division, state, tell, self.micro_batch, self.replay)

    def _note(self, state: State, text: str) -> None:
        """Tell what was decided on the way, and keep it for the record."""
        state.notes.append(text)
        self.listener(replace(self._progress(state), message=text))

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
