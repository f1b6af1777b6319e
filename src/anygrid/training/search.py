r"""The search: learning rate, gradient term and size for these data and this budget, by a few short trainings.

.. math:: c^* = \arg\min_c \hat r_c \text{ if } \min_c \hat r_c < \log(1 - m), \text{ else } 0; \qquad r_c(t) = \log\frac{e_c(t)}{e_0(t)}

:math:`e_c(t)` is the held-out error of candidate :math:`c` after a whole training of length :math:`t`, whose learning rate rises and falls
within :math:`t`. All see the same batches in the same order, so that the ratio to the defaults has less noise than either error.

Successive halving in two rungs (Jamieson and Talwalkar, Non-stochastic Best Arm Identification, 2016, figure 3). In the first, each
candidate changes one thing of the defaults. In the second, three times as long, stand the defaults, the best candidate, and
all that was better than the defaults put together. Of a budget in seconds every candidate gets the same time, so a larger operator
takes fewer steps.

A short training favours high rates and small operators. So in a rung of length :math:`t` a rate is tried at :math:`(T/t)^{1/4}` times what
it would be over the whole length :math:`T` (the defaults fall by 2 over 15 times the length), and whatever is chosen has to be better
in the longer rung. What the search cannot know is what crosses after it; the margin :math:`m` is all there is against that.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from anygrid.errors import FileError, TrainingError, UsageError
from anygrid.grid import Box, Grid, Sphere
from anygrid.surrogate.file import write_atomically
from anygrid.training.arguments import arguments_of, built, plan_of
from anygrid.training.budget import Clock
from anygrid.training.checkpoints import State
from anygrid.training.halving import RATIO, SECOND, SHARE, Candidate, Row, affordable, candidates_for, decided, second_rung
from anygrid.training.loop import Trainer
from anygrid.training.objective import rollout_loss
from anygrid.training.pacing import calibrate, choose_threads
from anygrid.training.progress import Progress
from anygrid.training.schedule import Plan, phases
from anygrid.training.settings import DEFAULTS, Settings

__all__ = ["Search", "held_out_error"]

_POWER = 0.25  # of the ratio of lengths, by which a rate is higher in a short training
EVALUATIONS = 96  # predictions that a held-out error is a mean of
_LEADS = 4  # rolled out in the held-out error of an evolution


class Search:
    """Short trainings and what follows from them; finished ones are kept in ``search.json`` of the run folder and never repeated.

    Parameters
    ----------
    trainer
        The training as asked for: its length pays for the search.
    free
        What the caller has not said, of ``gradient``, ``learning_rate`` and ``width`` (of the default operator).

    Raises
    ------
    UsageError
        On several ranks, for a training on an equation, where nothing is held out to judge by, and where nothing is free.
    FileError
        For a damaged ``search.json``.
    """

    def __init__(self, trainer: Trainer, free: Sequence[str]) -> None:
        settings, grids = trainer.settings, [pairs.grid for pairs in trainer.loader.groups]
        if trainer.division.ranks.count > 1:
            hint = "search in one process, then give what it chose"
            raise UsageError("search", "one process", f"{trainer.division.ranks.count}", hint)
        if trainer.equations is not None:
            raise UsageError("search", "a training on data alone", "an equation", "leave out search, or physics")
        if trainer.held_out is None:
            raise UsageError("search", "samples held out to judge by", "validation=0", "hold some out, for example validation=0.1")
        able = {
            "gradient": all(isinstance(grid, Box | Sphere) for grid in grids),
            "learning_rate": True,
            "width": settings.budget is not None,
        }
        free = [word for word in free if able[word]]
        if not free:
            hint = "leave one of them out, or leave out search"
            raise UsageError("search", "something to search for", "learning rate, gradient and operator all given", hint)
        if settings.epochs is not None:
            settings = replace(settings, steps=plan_of(settings, trainer.loader).steps, epochs=None)
        self.trainer, self.settings = trainer, settings
        self.path = None if trainer.folder is None else trainer.folder.path / "search.json"
        self.candidates = candidates_for(Candidate("defaults", settings.learning_rate, settings.gradient), free)
        self.rows: list[Row] = []
        self.said: list[str] = []
        self.costs: dict[int | None, dict[tuple[int, int], float]] = {}
        self.measuring, self.threads = 0.0, torch.get_num_threads()
        self.chosen = self.candidates[0]
        self._read()

    @property
    def seconds(self) -> float:
        """Time used so far."""
        return self.measuring + sum(row.seconds for row in self.rows)

    @property
    def steps(self) -> int:
        """Steps taken so far, of all sizes."""
        return sum(row.steps for row in self.rows)

    def run(self) -> Trainer:
        """The training that follows, with what is left of its length.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C; finished rows are kept where there is a folder.
        """
        length = self._length()
        tried, each = affordable(self.candidates, length)
        if not tried:
            self._say(f"search: none, a training of about {length:.0f} steps is too short for one; the defaults are used")
            return self._rest(self.candidates[0])
        names = ", ".join(c.label for c in tried[1:])
        self._say(
            f"search: {len(tried)} short trainings of about {each:.0f} steps, then {min(len(tried), SECOND)} of {RATIO * each:.0f}: "
            f"the defaults, {names}"
        )
        first = [self._row(1, candidate, each / length) for candidate in tried]
        second = [self._row(2, candidate, RATIO * each / length) for candidate in second_rung(first)]
        return self._rest(decided(first, second))

    def _length(self) -> float:
        """Length of the training in steps of the defaults."""
        budget = self.settings.budget
        if budget is None:
            return float(self._plan(None, 1.0).steps)
        return budget / sum((s.end - s.begin) * self._costs(None)[s.stride, s.unroll] for s in self._phases().segments)

    def _phases(self) -> Plan:
        return phases(self.settings.resolutions, self.settings.unroll, DEFAULTS.unroll_fraction)

    def _plan(self, width: int | None, share: float) -> Plan:
        """Plan of a training that takes a share of the whole length."""
        if self.settings.budget is not None:
            return self._phases().timed(share * self.settings.budget, self._costs(width))
        assert self.settings.steps is not None
        return self._phases().stepped(max(1, round(share * self.settings.steps)))

    def _other(self, candidate: Candidate, settings: Settings) -> Trainer:
        """A trainer with the candidate's loss and size, and the initial weights of its seed."""
        model = copy.deepcopy(self.trainer.model)
        if candidate.width is not None:
            build = partial(_default_of, candidate.width)
            model.operator = built(build, len(model.inputs), len(model.outputs), model.grid, settings.seed).to(settings.device)
        return replace(self.trainer, model=model, loss=self.trainer.loss.weighted(candidate.gradient), settings=settings)

    def _costs(self, width: int | None) -> dict[tuple[int, int], float]:
        """Seconds of the kinds of steps, measured once for each size."""
        if width not in self.costs:
            assert self.settings.budget is not None
            clock, state, budget = Clock(), State(self._phases(), self.threads), SHARE * self.settings.budget / len(self.candidates)
            trainer, before = self._other(replace(self.candidates[0], width=width), self.settings), torch.get_num_threads()
            (_, step), agree = trainer.rehearsal(state), trainer.division.ranks.agree
            with torch.random.fork_rng():
                torch.set_num_threads(self.threads)
                try:
                    if not self.costs and self.settings.device == "cpu":
                        choose_threads(state, budget, trainer.loader, step, agree)
                    calibrate(state, budget, clock, trainer.loader, step, None, agree)
                finally:
                    torch.set_num_threads(before)
            self.costs[width], self.threads = state.costs, state.threads
            self.measuring += clock.seconds
            self._write()
        return self.costs[width]

    def _row(self, rung: int, candidate: Candidate, share: float) -> Row:
        """A short training of a share of the whole length, or what is kept of it."""
        kept = next((row for row in self.rows if (row.rung, row.candidate) == (rung, candidate)), None)
        if kept is not None:
            return kept
        plan = self._plan(candidate.width, share)
        rate = candidate.learning_rate * share**-_POWER
        settings = replace(self.settings, learning_rate=rate, gradient=candidate.gradient, keep_best=False, budget=None, steps=plan.steps)
        trainer, clock = replace(self._other(candidate, settings), folder=None, keeps=False, listener=_silent), Clock()
        try:
            trainer.run(State(plan, self.threads, validations=0))
            error = held_out_error(trainer)
        except TrainingError:
            error = math.inf
        except KeyboardInterrupt as stop:
            kept_where = f"saved in {self.path}; the same arguments go on" if self.path else "nothing is saved without a run folder"
            raise KeyboardInterrupt(f"stopped in the search after {len(self.rows)} short trainings: {kept_where}") from stop
        row = Row(rung, candidate, plan.steps, clock.seconds, error if math.isfinite(error) else math.inf)
        self.rows.append(row)
        self._write()
        self._say(f"search, rung {rung}: {candidate.label}: held-out error {error:.4g} after {plan.steps} steps, {row.seconds:.1f} s")
        return row

    def table(self) -> dict[str, Any]:
        """What the record says of the search."""
        asked = {"budget": self.settings.budget, "steps": self.settings.steps}
        rows = [row.to_json() for row in self.rows]
        return {"chosen": asdict(self.chosen), "seconds": self.seconds, "steps": self.steps, "asked": asked, "rows": rows}

    def _rest(self, candidate: Candidate) -> Trainer:
        """The training of a candidate with what is left of the length."""
        asked, self.chosen = self.settings, candidate
        settings = replace(
            asked,
            learning_rate=candidate.learning_rate,
            gradient=candidate.gradient,
            budget=None if asked.budget is None else max(asked.budget - self.seconds, 0.5 * asked.budget),
            steps=None if asked.steps is None else asked.steps - self.steps,
        )
        trainer = self._other(candidate, settings)
        settings = replace(settings, operator_arguments=arguments_of(trainer.model.operator))
        if self.rows:
            left = f"{settings.steps} steps" if settings.budget is None else f"{settings.budget:.1f} s"
            self._say(
                f"search: {candidate.label} chosen after {self.seconds:.1f} s and {self.steps} steps; {left} are left for the training"
            )
        return replace(trainer, settings=settings)

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.trainer.listener(Progress(message=text))

    def _read(self) -> None:
        """Take over what an interrupted search has finished."""
        if self.path is None or not self.path.exists():
            return
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            self.rows = [Row.from_json(row) for row in stored["rows"]]
            self.costs = {width: {(int(s), int(u)): float(c) for s, u, c in costs} for width, costs in stored["costs"]}
            self.measuring, self.threads = float(stored["measuring"]), int(stored["threads"])
        except (ValueError, KeyError, TypeError) as error:
            hint = "remove it to search again"
            raise FileError(str(self.path), "the rows of a search", f"{type(error).__name__}: {error}", hint) from error
        if self.rows:
            self._say(f"search: {len(self.rows)} short trainings are there already")

    def _write(self) -> None:
        if self.path is None:
            return
        costs = [[width, [[s, u, c] for (s, u), c in found.items()]] for width, found in self.costs.items()]
        rows = [row.to_json() for row in self.rows]
        stored = {"measuring": self.measuring, "threads": self.threads, "costs": costs, "rows": rows}
        write_atomically(self.path, (json.dumps(stored, indent=1) + "\n").encode())


def held_out_error(trainer: Trainer) -> float:
    """Mean relative error of about a hundred evenly spaced held-out predictions, without the gradient term.

    Of an evolution the predictions are those of roll-outs over up to four leads.
    """
    assert trainer.held_out is not None
    device, total, count = torch.device(trainer.settings.device), 0.0, 0
    trainer.model.eval()
    with torch.inference_mode():
        for group, (pairs, size) in enumerate(zip(trainer.held_out.groups, trainer.held_out.batch, strict=True)):
            most = _LEADS if pairs.evolution else 1
            leads = max(k for k in range(1, most + 1) if k == 1 or pairs.count(k) > 0)
            n = pairs.count(leads)
            chosen = np.unique(np.linspace(0, n - 1, min(n, EVALUATIONS // leads)).astype(np.int64))
            for part in np.split(chosen, range(size, len(chosen), size)):
                batch = trainer.held_out.read(group, part, leads)
                error = rollout_loss(trainer.model, batch.a.to(device), batch.u.to(device), batch.grid, trainer.loss.plain)
                total += float(error) * len(part)
                count += len(part)
    return total / count


def _default_of(width: int, inputs: int, outputs: int, grid: Grid) -> nn.Module:
    from anygrid.operators import default_operator  # late, as in arguments

    return default_operator(inputs, outputs, grid, width=width)


def _silent(progress: Progress) -> None:
    """A short training is told as one sentence when it has ended."""
