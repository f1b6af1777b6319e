"""`evaluate`: any maps against the truth, the solver and the trivial baselines, at any resolutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from anygrid.errors import UsageError
from anygrid.evaluate.baselines import Examples
from anygrid.evaluate.cost import MODES, Costs, compare, solver_curve
from anygrid.evaluate.long_run import long_time
from anygrid.evaluate.pictures import field_examples
from anygrid.evaluate.result import Comparison, Report, Timing, data_title, grid_name
from anygrid.evaluate.rows import Team
from anygrid.evaluate.stages import Run, lead_curves, make_baselines, score_maps, score_solvers, timing_jobs
from anygrid.evaluate.timing import cores, environment, measure
from anygrid.evaluate.truth import DataTruth, ManyTruths, ProblemTruth, Say, Truth, default_reference, loose_solvers, nesting_note
from anygrid.evaluate.verdict import verdict
from anygrid.grid import Grid
from anygrid.io.cluster import Cluster
from anygrid.io.workers import Workers
from anygrid.maps import Map
from anygrid.metrics.spectra import describe_transform
from anygrid.problems.base import Problem

__all__ = ["TEST_SEED", "evaluate"]

# Training seeds are small integers chosen by people; no one arrives here by counting up from zero.
TEST_SEED = 7_400_000_011

Resolution = int | tuple[int, ...]


def _silent(text: str) -> None:
    """Progress is shown by those who ask for it."""


def evaluate(
    maps: Mapping[str, Map],
    subject: Problem | Examples | Sequence[Examples],
    *,
    resolutions: Sequence[Resolution] = (),
    n: int = 32,
    seed: int = TEST_SEED,
    reference: Resolution | None = None,
    labels: Resolution | None = None,
    training: Examples | None = None,
    costs: Costs | None = None,
    solvers: Mapping[str, Map] | None = None,
    steps: int | None = None,
    long_steps: int = 0,
    headline: Resolution | None = None,
    timing: bool = True,
    timing_seconds: float = 30.0,
    batch: int = 16,
    workers: int = 0,
    cluster: Cluster | None = None,
    say: Say = _silent,
) -> Report:
    r"""Measure maps against the truth, beside the solver and the trivial baselines.

    With a problem the truth is solved in float64 on a grid finer than any evaluated, and a surrogate, a coarse solver and
    a loose solver are all measured against it, on the same grid and the same float32 inputs. Solvers run on grids coarser than
    the one of the comparison are brought to it by interpolation of order 4 or better, whose time is not charged to them.
    With data the truth is the data; other resolutions are coarsened from them (see :func:`anygrid.evaluate.resample.coarsen`).

    Parameters
    ----------
    maps
        The maps under test by name.
    subject
        A problem, or rows of test data (:class:`anygrid.io.pairs.Pairs`), or several such sets on different grids of one domain, each
        evaluated on its own grid.
    resolutions
        Where to evaluate; by default that of the data.
    n, seed
        Number of test samples, and for a problem the seed that draws them (keep it apart from the seed of training).
    reference
        Resolution of the truth; by default at least twice the finest evaluated, nesting all where possible.
    labels
        Resolution at which the training labels were solved; by default solved on each evaluated grid itself.
    training
        The training set, for the mean and the nearest training sample.
    costs
        Seconds spent on data and training, for the break-even count.
    solvers
        Solver settings by name; by default the problem's own and looser tolerances. Each runs on a ladder of grids.
    steps
        Length of the roll-outs; by default a problem's own number of steps, or 12 for data with a lead.
    long_steps
        Length of long runs of a chaotic problem, for the valid prediction time in Lyapunov times and the invariant statistics
        beside the noise of the solver's own (thousands; twice that many calls of the solver and of each map). Default: none.
    headline
        Resolution of the first table; by default that of training, else the first.
    timing, timing_seconds, batch
        Whether to time, for about how long, and the number of samples in a batch.
    workers, cluster
        Who solves the truth, runs the solvers and the maps: so many processes of one thread each, or the workers of a cluster
        (:func:`anygrid.io.cluster.connect`), which need no common file system; by default this process with its threads. The values
        are those of one process with one thread. Baselines and long runs stay here, and timings are always taken in this process, when
        all else is done.
    say
        Called with one line of progress at a time.

    Raises
    ------
    UsageError
        Without maps or resolutions, or with a reference not finer than what is evaluated.
    AnygridError
        When a map refuses every resolution: its own error.
    """
    if not maps:
        raise UsageError("evaluate", "at least one map", "none", 'evaluate({"name": map}, ...)')
    if workers < 0 or (workers and cluster is not None):
        got = f"workers {workers}" + (" and a cluster" if cluster is not None else "")
        raise UsageError("evaluate", "a number of workers from 0 on, or a cluster", got, "leave workers out: a cluster has its own")
    with Workers(workers) if workers else nullcontext(cluster) as team:
        truth = _truth(subject, resolutions, n, seed, reference, labels, steps, say, team)
        sets = [] if isinstance(subject, Problem) else _sets(subject)
        grids = [truth.grid(r) for r in resolutions] or [data.grid for data in sets]
        trained_at = None if training is None else training.grid.shape
        head = _headline(truth, grids, headline, trained_at)
        run = Run(truth, maps, say, team)
        make_baselines(run, training, head, n)
        label_error = None
        if isinstance(subject, Problem):
            run.solvers = dict(loose_solvers(subject) if solvers is None else solvers)
            label_error = score_solvers(run, grids, head, None if labels is None else truth.grid(labels))
        else:
            for grid in grids:
                score_maps(run, truth.cases(grid), grid == head, None)
        for name, failure in run.failures.items():
            if not any(s.name == name for s in run.scores):
                raise failure
        dt, units = _time(subject)
        leads = lead_curves(run, head, dt, units)
    long = long_time(run, head, long_steps) if long_steps else None
    timings = []
    if timing:
        say("timing")
        timings = measure(timing_jobs(run, grids, batch), budget=timing_seconds)
        if team is not None:
            run.notes.append(
                f"Errors were computed by {_said(workers, cluster)}; the times were taken afterwards in one process, on its machine."
            )
    comparisons = _comparisons(run, timings, costs or Costs())
    cases = truth.cases(head)
    settings = _settings(truth, grids, n, trained_at, costs, label_error)
    return Report(
        subject=subject.card.title if isinstance(subject, Problem) else data_title(sets[0].inputs, sets[0].outputs, sets[0].dt),
        kind="problem" if isinstance(subject, Problem) else "data",
        inputs=[dataclasses.asdict(v) for v in truth.inputs],
        outputs=[dataclasses.asdict(v) for v in truth.outputs],
        settings=settings,
        environment=environment() | {"threads in timings": f"1 and {cores()}" if cores() > 1 else "1"},
        headline=head.shape,
        scores=tuple(run.scores),
        timings=tuple(timings),
        comparisons=tuple(comparisons),
        leads=tuple(leads),
        spectra=tuple(run.spectra),
        examples=tuple(field_examples(cases.a, cases.u, run.shown, head)),
        verdict=verdict(run.scores, comparisons, leads, head.shape, trained_at, label_error),
        notes=tuple(dict.fromkeys([*truth.notes, *run.notes, describe_transform(head)])),
        long_time=long,
    )


def _sets(subject: Examples | Sequence[Examples]) -> list[Examples]:
    return [subject] if isinstance(subject, Examples) else list(subject)


def _time(subject: Problem | Examples | Sequence[Examples]) -> tuple[float, str]:
    """Time of one step of a roll-out, and its unit."""
    if isinstance(subject, Problem):
        return subject.dt or 1.0, "time units"
    dt = next((data.dt for data in _sets(subject)), None)
    return 1.0, f"steps of {dt}" if dt else "steps"


def _said(workers: int, cluster: Cluster | None) -> str:
    return f"{workers} processes" if cluster is None else f"the workers of {cluster.address}"


def _truth(
    subject: Problem | Examples | Sequence[Examples],
    resolutions: Sequence[Resolution],
    n: int,
    seed: int,
    reference: Resolution | None,
    labels: Resolution | None,
    steps: int | None,
    say: Say,
    team: Team | None,
) -> Truth:
    if n < 1:
        raise UsageError("evaluate n", "at least one test sample", str(n))
    if not isinstance(subject, Problem):
        sets, length = _sets(subject), 12 if steps is None else steps
        return DataTruth(sets[0], n=n, steps=length) if len(sets) == 1 else ManyTruths(sets, n=n, steps=length)
    if not resolutions:
        raise UsageError("evaluate", "at least one resolution", "none", "name them, such as resolutions=[43, 85]")
    grids = [subject.grid(r) for r in resolutions]
    label_grids = [] if labels is None else [subject.grid(labels)]
    fine = subject.grid(default_reference([*grids, *label_grids]) if reference is None else reference)
    for grid in grids:
        if any(f <= g for f, g in zip(fine.shape, grid.shape, strict=True)):
            raise UsageError(
                "evaluate reference",
                f"a grid finer than {grid_name(grid.shape)} in every direction",
                grid_name(fine.shape),
                "leave it out to get one twice as fine as the finest resolution",
            )
    if any(f < g for grid in label_grids for f, g in zip(fine.shape, grid.shape, strict=True)):
        raise UsageError("evaluate labels", f"labels on a grid no finer than the reference {grid_name(fine.shape)}", str(labels))
    length = steps if steps is not None else (subject.steps if subject.dt is not None and subject.steps > 1 else 0)
    truth = ProblemTruth(subject, fine, n=n, seed=seed, steps=length, say=say, team=team)
    truth.notes.append(nesting_note(fine, grids))
    return truth


def _headline(truth: Truth, grids: Sequence[Grid], wanted: Resolution | None, trained_at: tuple[int, ...] | None) -> Grid:
    if wanted is not None:
        grid = truth.grid(wanted)
        if grid not in grids:
            raise UsageError("evaluate headline", "one of the resolutions", grid_name(grid.shape))
        return grid
    return next((g for g in grids if g.shape == trained_at), grids[0])


def _comparisons(run: Run, timings: Sequence[Timing], costs: Costs) -> list[Comparison]:
    found: list[Comparison] = []
    for s in run.scores:
        if s.role == "map":
            made = (compare(s, timings, solver_curve(run.scores, timings, s.resolution, mode), mode, costs) for mode in MODES)
            found += [c for c in made if c is not None]
    return found


def _settings(
    truth: Truth, grids: Sequence[Grid], n: int, trained_at: tuple[int, ...] | None, costs: Costs | None, label_error: float | None
) -> dict[str, Any]:
    """Plain values that say how the numbers came about."""
    made = {
        "n": n,
        "resolutions": [grid_name(g.shape) for g in grids],
        "trained_at": None if trained_at is None else grid_name(trained_at),
        "data_seconds": None if costs is None else costs.data_seconds,
        "training_seconds": None if costs is None else costs.training_seconds,
        "label_error": label_error,
        "roll_out_steps": truth.lead_steps,
    }
    if isinstance(truth, ProblemTruth):
        made |= {"seed": truth.seed, "reference": grid_name(truth.reference.shape), "problem": repr(truth.problem)}
    return made
