"""fit: from data to a surrogate, with a default for everything but data, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import xarray as xr
from torch import nn

from anygrid.errors import DataError, UsageError
from anygrid.fields import Layout
from anygrid.grid import Box, Sphere
from anygrid.problems.base import Problem
from anygrid.surrogate import Imposed, Noise, Surrogate, imposed_by
from anygrid.training.allocator import keep_large_blocks
from anygrid.training.amplitude import fitted_amplitude
from anygrid.training.arguments import (
    Build,
    arguments_of,
    built,
    check,
    check_replay,
    check_same,
    device_of,
    increments_vary_less,
    leads_unrolled,
    learning_rate_of,
    length_of,
    loss_of,
    memory_limit_of,
    optimizer_of,
    plan_of,
    variables,
)
from anygrid.training.checkpoints import RunFolder, State
from anygrid.training.data import TrainingData, gather
from anygrid.training.loader import Loader
from anygrid.training.loop import Trainer
from anygrid.training.losses import RelativeNorm
from anygrid.training.memory import MicroBatch, check_micro_batch
from anygrid.training.pacing import validation_rows
from anygrid.training.parallel import Division, Domain, Parallel, Shards, division_of
from anygrid.training.parent import check_parent, identity, operator_of
from anygrid.training.physics import Equations, Physics, asked, asked_of_data, check_data, completed, limit, unseen
from anygrid.training.probes import probes, usual_resolution
from anygrid.training.progress import Listener, Progress
from anygrid.training.ranks import join
from anygrid.training.record import inferred, record
from anygrid.training.replay import Replay
from anygrid.training.search import Search
from anygrid.training.settings import DEFAULTS, Optimizer, Precision, Settings
from anygrid.training.symmetries import Symmetry

__all__ = ["fit"]

_VALIDATION_ROWS = 512  # of each data set, looked at in one validation, evenly spaced


def fit(
    data: xr.Dataset | Sequence[xr.Dataset] | Problem,
    inputs: str | Sequence[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    *,
    lead: int | str | None = None,
    physics: bool | Problem | Physics = False,
    imposed: Imposed | None = None,
    validation: float | xr.Dataset | Sequence[xr.Dataset] = DEFAULTS.validation,
    budget: float | str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    operator: nn.Module | Build | None = None,
    parent: Surrogate | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float = DEFAULTS.weight_decay,
    seed: int = 0,
    device: str | None = None,
    precision: Precision = "float32",
    unroll: int | None = None,
    increment: bool | None = None,
    gradient: float | None = None,
    optimizer: Optimizer | None = None,
    noise: int = 0,
    replay: int = 0,
    persistence: bool | None = None,
    search: bool = False,
    confine: bool = False,
    resolutions: Sequence[tuple[float, int]] = (),
    augment: Sequence[Symmetry] = (),
    keep_best: bool = False,
    layout: Layout | None = None,
    periodic: Mapping[str, bool] | None = None,
    memory_limit: int | None = None,
    run: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    parallel: Parallel = "data",
    micro_batch: MicroBatch = None,
    listener: Listener | None = None,
) -> Surrogate:
    """Train an operator that maps ``inputs`` to ``outputs``; what was inferred is told and kept in ``record["inferred"]``.

    Parameters
    ----------
    data
        One data set, or several on different grids of one domain; a batch holds samples of one grid. Or a problem, with
        ``physics=True``: then the operator is trained on the equation alone, on inputs from the problem's sampler, and a few solved
        samples serve for scales and validation only.
    inputs, outputs
        Names of variables; not needed where a problem says them.
    physics
        The equation that the data obey: its residual, on inputs drawn afresh and on a finer grid, joins the loss. ``True`` takes the
        problem that wrote the data; see :class:`~anygrid.training.physics.Physics` for grid, batch and weights.
    imposed
        What the outputs satisfy exactly; by default what the equation of ``physics`` says of walls and conserved means, else nothing.
        See :class:`~anygrid.surrogate.Imposed`.
    confine
        Whether roll-outs are to stay with the training data however long they are: contraction outside the ball that holds the
        training states, and no waves that these do not have; see :func:`anygrid.surrogate.confined`. For chaotic flows.
    lead
        For an evolution: how far ahead the outputs lie, as a number of time indices or a duration such as ``"1month"``.
        Without it the outputs belong to the same sample and time as the inputs.
    validation
        Part of the samples held out, taken by trajectory, or by time (the last part) of a single trajectory; or data of its own;
        0 holds nothing out.
    budget, steps, epochs
        Length of the training: seconds or text such as ``"10m"``, or a number of optimiser steps, or of passes through the
        data. At most one; without any, a budget of 5 minutes. The learning rate reaches zero when the budget ends. The
        clock counts steps, measuring and validation, not the reading of statistics before the first step.
    operator
        A module with ``forward(a, grid, query=None)`` and ``arguments`` (copied, so that yours is not changed), or a function
        ``(inputs, outputs, grid) -> module``; by default the one of :func:`anygrid.operators.default_operator`.
    parent
        Surrogate to go on from, of the same variables, domain and step: its operator, weights, scaling and, unless said otherwise, what
        it imposes, on these data. With ``noise`` one without noise becomes random. Not with ``operator`` and ``search``.
    batch
        Samples in a step; by default about 32768 points: 4 at 85 x 85, at most 8.
    seed
        Decides the initial weights (unless a module is given), the order of samples, and the augmentation.
    learning_rate
        Peak of the schedule; default 4e-3 up to 5 minutes or 5000 steps, 2e-3 for longer trainings.
    precision
        ``"bfloat16"`` computes the operator in mixed precision. A step whose loss or gradient is not finite is repeated in float32, and
        a training with five such steps in a hundred stays there.
    unroll
        Leads rolled out, and differentiated through, in each step of the last quarter of the budget (evolution only;
        default 3), so that roll-outs stay stable; 1 never unrolls. More than four are computed twice, in the memory of one.
    increment
        Whether to predict what the output adds to the input of the same name. Default: for an evolution whose increments vary
        less than its states (they do not when most of the input is forgotten within the lead).
    gradient
        Weight of the gradient in the loss: see :class:`~anygrid.training.losses.RelativeNorm`. Default: 0.1 with SOAP, on a Box or a
        Sphere; else none.
    optimizer
        ``"adamw"``, or ``"soap"`` (:class:`~anygrid.training.soap.SOAP`), which learns more in a step and takes up to twice as long for it.
        Default: SOAP for trainings of a minute or 500 steps and more on data alone, on a Box, unless ``gradient`` is 0, weights are
        sharded or there is ``noise``; at equal time it had smaller errors on Darcy, Burgers, Navier-Stokes and Helmholtz. Else AdamW.
    noise
        Channels of noise that make the surrogate random (:meth:`~anygrid.surrogate.Surrogate.draw`): trained on the almost fair CRPS of
        two draws a sample, see :meth:`~anygrid.training.losses.RelativeNorm.crps`. Data alone; not with ``parallel="domain"``, nor with
        ``search``. On several processes and with ``micro_batch`` the noise is another.
        Correlation lengths: :meth:`~anygrid.surrogate.Noise.ladder`; the amplitude is chosen on the held-out samples at the end, see
        :mod:`anygrid.training.amplitude`.
    replay
        Train also on states that forecasts of the surrogate have reached by themselves, so many leads from the data in the mean, so that
        long forecasts do not drift: see :mod:`anygrid.training.replay`. An evolution in one process, whose outputs are all inputs; the
        forecasts start from the first data set. A step costs half as much again. Meant for random surrogates: one without noise learns
        that what it cannot know is the mean.
    persistence
        Whether increments are those to damped persistence around the mean state of the data, so that long forecasts do not drift: see
        :mod:`anygrid.surrogate.persistence`. For states that vary about a climate, on one grid, all of them inputs and outputs; not with
        ``parallel="domain"``. Default: as the parent does, else no.
    search
        Whether to spend up to 15 % of the length on short trainings that choose learning rate, weight of the gradient and (of a
        budget in seconds) width of the default operator, judged on the held-out samples; what you give yourself is kept. See
        :mod:`anygrid.training.search`; the short trainings are told, and kept in ``record["search"]``. In one process only.
    resolutions
        ``(fraction of the budget, stride)`` pairs: train first on every ``stride``-th point. Default: full resolution.
    augment
        Symmetries of the problem to train with, from :mod:`anygrid.training.symmetries`. Default: none.
    keep_best
        Return the weights of the best validation rather than the last (the schedule ends at zero, so the last are usually the
        best; with few samples they may not be).
    layout, periodic
        Roles of the dimensions and periodicity of the axes, where the data do not tell.
    memory_limit
        Bytes of data that may be kept in memory; larger data are streamed. Default: a quarter of what is free.
    run
        Folder for ``run.toml``, log, checkpoints and the surrogate. A folder that holds a run of the same arguments and data
        is resumed, exactly; one of other arguments is refused.
    checkpoint_seconds
        Training time between checkpoints.
    parallel
        How the work is divided where ``torchrun`` started several processes (or a ``torch.distributed`` group exists): ``"data"``, each
        takes a part of every batch; ``"sharded"``, each holds only a part of the weights and moments besides; ``"domain"``, each takes
        its own rows of every field, for fields too large for one (no equations, no scattered points). All equal the training in one
        process to rounding. Only the first process writes and calls ``listener``; all return the surrogate.
    micro_batch
        Samples that a process computes at once; by default its whole part of the batch. Smaller parts, whose gradients are added, train
        the same to rounding in less memory. ``"auto"`` halves them where memory runs out (one process). A resumed run keeps what it
        came to.
    listener
        Called with a :class:`~anygrid.training.progress.Progress` a few times a second.

    Raises
    ------
    UsageError
        For a budget of 0, two lengths at once, an option that does not fit the data, a run folder of another run.
    DataError
        For data that cannot be trained on: missing variables, NaN, one sample only, outputs that never vary.
    TrainingError
        When the loss is not finite, when a step does not fit into memory, or when another process failed or is gone; the last
        checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C, with a checkpoint saved; the same call resumes.
    """
    keep_large_blocks()
    seconds = length_of(budget, steps, epochs)
    ranks = join()
    tell = listener if listener is not None and ranks.first else _silent
    division = division_of(ranks, parallel)
    again = "the same call resumes from the last checkpoint" if run is not None else "give a run folder, from which the same call resumes"
    with ranks.watched(again):
        check_micro_batch(micro_batch, ranks.count)
        if physics and isinstance(division, Domain):
            raise UsageError("parallel='domain'", "a loss on data alone", "an equation", "leave out physics, or choose parallel='data'")
        use, labels = asked(data, physics), not isinstance(data, Problem)
        if isinstance(data, Problem):
            assert use is not None
            unseen(data, data.grid(17))  # refuses what cannot be trained on before more is solved
            data = validation = probes(data, use.resolution or usual_resolution(data))
        names = variables(inputs, "inputs", use), variables(outputs, "outputs", use)
        if use is not None and use.problem.dt is not None and lead is None:
            lead = 1
        limit_here = ranks.broadcast(memory_limit_of(memory_limit, run if ranks.first else None, ranks.here))
        found = gather(data, validation, *names, lead=lead, layout=layout, periodic=periodic, memory_limit=limit_here)
        use = asked_of_data(found.problem) if physics is True and labels else use
        first = found.reference
        if use is not None:
            check_data(use.problem, first)
        if increment is None:
            increment = increments_vary_less(found, names) if parent is None else parent.increment
        sizes = [batch if batch is not None else max(1, min(DEFAULTS.batch, DEFAULTS.batch_points // p.grid.size)) for p in found.groups]
        chosen = device_of(device, ranks)
        if noise and (use is not None or search or isinstance(division, Domain)):
            raise UsageError("noise", "data alone, without physics, search and parallel='domain'", "one of them", "leave it or noise out")
        check_replay(replay, found, alone=use is None and not search and ranks.alone)
        random = Noise.ladder(noise, first.grid)
        if parent is None:
            module = built(operator, len(names[0]) + noise, len(names[1]), first.grid, seed)
        else:
            check_parent(parent, first, random, increment, persistence, alone=operator is None and not search)
            module = operator_of(parent, noise, seed)
        if imposed is None:
            imposed = imposed_by(use.problem) if use is not None else Imposed() if parent is None else parent.imposed
        imposed = found.confined(imposed) if confine else imposed
        climate = parent.persistence if parent is not None else found.persistence() if persistence else None
        if climate is not None and (not increment or isinstance(division, Domain)):
            raise UsageError("persistence", "a prediction of increments of whole fields", "states, or parts of fields", "leave it out")
        use = None if use is None else completed(use, first.grid.shape, DEFAULTS.batch_points, labels=labels)
        neighbours = all(isinstance(pairs.grid, Box | Sphere) for pairs in found.groups)
        taken = steps or round((epochs or 0) * sum(len(pairs) / max(1, size) for pairs, size in zip(found.groups, sizes, strict=True)))
        boxes = all(isinstance(pairs.grid, Box) for pairs in found.groups)  # on spheres it has not been measured
        suited = boxes and use is None and not noise and not isinstance(division, Shards)
        optimizer = optimizer_of(optimizer, gradient, seconds, taken, suited=suited)
        settings = Settings(
            inputs=names[0],
            outputs=names[1],
            lead=lead,
            validation=float(validation) if isinstance(validation, float | int) else None,
            budget=seconds,
            steps=steps,
            epochs=epochs,
            operator=type(module).__name__,
            operator_arguments=arguments_of(module),
            batch=tuple(sizes),
            learning_rate=learning_rate_of(seconds, steps) if learning_rate is None else learning_rate,
            weight_decay=weight_decay,
            seed=seed,
            device=chosen,
            precision=precision,
            unroll=leads_unrolled(unroll, found) if labels else 1,
            increment=increment,
            gradient=gradient if gradient is not None else DEFAULTS.soap_gradient if optimizer == "soap" and neighbours else 0.0,
            resolutions=tuple((float(f), int(s)) for f, s in resolutions),
            augment=tuple(augment),
            keep_best=keep_best,
            checkpoint_seconds=checkpoint_seconds,
            physics=None if use is None else use.to_table(),
            imposed=imposed.to_json() if imposed else None,
            labels=labels,
            search=search,
            optimizer=optimizer,
            noise=noise,
            parent=None if parent is None else identity(parent),
            replay=replay,
            persistence=climate is not None,
        )
        check(settings, found)

        model = Surrogate(
            module,
            first.inputs,
            first.outputs,
            found.statistics if parent is None else parent.statistics,
            first.grid,
            first.dt,
            increment,
            found.attributes,
            seen=found.seen(),
            imposed=imposed,
            problem=found.problem if use is None else use.problem,
            noise=random,
            persistence=climate,
        )
        if not model.out_std.any():
            raise DataError("fit", "outputs that change from input to output", "increments that are constant", "train with increment=False")
        loss = loss_of(model, found, settings.gradient)
        equations = None if use is None else Equations(use, loss, seed, torch.device(chosen), settings.augment, ranks)
        said = inferred(settings, found, module, equations, division, default_length=budget is None and seconds is not None)
        if equations is not None:
            said.append(limit(equations.problem, equations.grid))
        for text in said:
            tell(Progress(message=text))
        given = {"gradient": gradient, "learning_rate": learning_rate, "width": operator}
        free = [word for word, value in given.items() if value is None]
        folder = None if run is None else Path(run)
        return _trained(model, found, settings, loss, equations, division, said, tell, folder, micro_batch, free)


def _trained(
    model: Surrogate,
    found: TrainingData,
    settings: Settings,
    loss: RelativeNorm,
    equations: Equations | None,
    division: Division,
    said: list[str],
    tell: Listener,
    run: Path | None,
    micro_batch: MicroBatch,
    free: list[str],
) -> Surrogate:
    """Train ``model`` as it was asked for, or as a search of what is ``free`` finds it better, and write it."""
    ranks, arguments = division.ranks, {"fit": settings.to_table(), "data": found.fingerprint()}
    check_same(ranks, arguments)
    loader = Loader(found.groups, settings.batch, settings.seed, division.rows)
    sizes = [max(settings.batch)] * len(found.held_out)
    held_out = Loader(found.held_out, sizes, settings.seed, division.rows) if found.held_out else None
    folder = RunFolder(run, arguments) if run is not None and ranks.first else None
    placed = division.place(model, torch.device(settings.device))
    beside = None
    if settings.replay:
        count = max(1, round(DEFAULTS.replay_part * settings.batch[0]))
        beside = Replay(found.groups[0], settings.replay, count, placed, loss, settings.seed)
    trainer = Trainer(placed, loader, held_out, loss, settings, folder, run is not None, tell, equations, division, micro_batch, beside)
    hunt = Search(trainer, free) if settings.search else None
    if hunt:
        trainer = hunt.run()
        settings, model, said = trainer.settings, trainer.model, said + hunt.said
    plan, rows = plan_of(settings, loader), min(_VALIDATION_ROWS, max((len(p) for p in found.held_out), default=0))
    rows = validation_rows(plan, rows, len(found.held_out), max(settings.batch), random=bool(settings.noise))
    state = trainer.run(State(plan, torch.get_num_threads(), validation_rows=rows, ranks=ranks.count))
    if model.noise and found.held_out:
        amplitude, text = ranks.broadcast(fitted_amplitude(model.eval(), found.held_out, settings.seed, state.samples))
        model.noise = replace(model.noise, amplitude=amplitude)
        said = [*said, text]
        tell(Progress(state.step, state.plan.steps, state.seconds, message=text))
    model.record.update(record(settings, state, said, model, found))
    if hunt:
        model.record.update(search=hunt.table(), seconds=hunt.seconds + state.seconds)
    model.cpu().eval()
    if folder:
        model.save(folder.surrogate)
    ranks.agree(0.0)  # nobody looks for the file before it is there
    return model


def _silent(progress: Progress) -> None:
    """Listen to nothing."""
