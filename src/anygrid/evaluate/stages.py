"""The stages of an evaluation, each adding to one `Run`: baselines, scores, timing jobs, roll-outs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anygrid.errors import AnygridError, UsageError
from anygrid.evaluate.baselines import Examples, MeanField, NearestSample, Persistence, TensorExamples, mean_field, shared_channels
from anygrid.evaluate.resample import refine, restrict
from anygrid.evaluate.result import LeadCurve, Score, SpectrumCurve, grid_name
from anygrid.evaluate.rollout import lead_curve, roll
from anygrid.evaluate.rows import Team, apply
from anygrid.evaluate.scoring import relative, score, spectrum_curves
from anygrid.evaluate.timing import InTurn, Job, cores
from anygrid.evaluate.truth import Cases, ProblemTruth, Say, Truth, coarser_sizes
from anygrid.grid import Box, Grid, Sphere
from anygrid.maps import Map
from anygrid.numerics.seeds import sample_generator

__all__ = ["Run", "lead_curves", "make_baselines", "score_maps", "score_solvers", "timing_jobs"]

_BATCH_VALUES = 2_000_000  # values in one timed call; a larger batch is no cheaper per sample on a CPU


@dataclass
class Run:
    """What accumulates while evaluating."""

    truth: Truth
    maps: Mapping[str, Map]
    say: Say
    team: Team | None = None  # who else computes; never what is timed
    baselines: dict[str, Map] = field(default_factory=dict)
    solvers: dict[str, Map] = field(default_factory=dict)
    ladder: list[Grid] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    spectra: list[SpectrumCurve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: dict[str, AnygridError] = field(default_factory=dict)
    shown: dict[str, Tensor] = field(default_factory=dict)


def make_baselines(run: Run, training: Examples | None, head: Grid, n: int) -> None:
    """Mean, persistence and nearest training sample, as far as each can be had; says why one is missing."""
    truth = run.truth
    if training is not None:
        run.baselines["mean of training"] = mean_field(training)
        run.baselines["nearest training sample"] = NearestSample(training)
    elif isinstance(truth, ProblemTruth):
        # Samples n, n+1, ... of the seed whose first n are the test
        a = torch.cat([truth.problem.sample(1, head, sample_generator(truth.seed, n + i)) for i in range(n)]).float()
        u = apply(run.team, truth.problem.solve, a, head)
        run.baselines["mean"] = mean_field(TensorExamples(a, u, head, truth.inputs, truth.outputs))
        run.notes.append(f"Baseline 'mean': mean of {n} other solutions. No training set was given, hence no nearest training sample.")
    else:
        cases = truth.cases(head)
        run.baselines["mean of test"] = MeanField(cases.u.double().mean(0).float(), head)
        run.notes.append(
            "Baseline 'mean of test': no training set was given, so it is the mean of the test data itself, which flatters it."
        )
    channels = shared_channels(truth.inputs, truth.outputs)
    if channels is not None:
        run.baselines["persistence"] = Persistence(channels)


def score_maps(run: Run, cases: Cases, head: bool, labels: Tensor | None) -> None:
    """Every map and baseline on one grid."""
    grid, outputs = cases.grid, run.truth.outputs
    run.say(f"evaluating on {grid_name(grid.shape)}")
    run.spectra += spectrum_curves("truth", cases.u, None, grid, outputs)
    for role, maps in (("map", run.maps), ("baseline", run.baselines)):
        for name, map_ in maps.items():
            try:
                u = apply(run.team if role == "map" else None, map_, cases.a, grid)  # baselines hold the training data
            except AnygridError as error:
                if role == "baseline":
                    raise
                run.failures[name] = error
                run.notes.append(f"{name} refuses {grid_name(grid.shape)}: {_first_line(error)}")
                continue
            if u.shape != cases.u.shape:
                raise UsageError(f"evaluate: map {name!r}", f"output of shape {tuple(cases.u.shape)}", f"{tuple(u.shape)}")
            run.scores.append(score(name, role, u, cases.u, grid, computed_at=grid.shape, variables=outputs, labels=labels))
            if role == "map":
                run.spectra += spectrum_curves(name, u, cases.u, grid, outputs)
                if head:
                    run.shown[name] = u


def score_solvers(run: Run, grids: Sequence[Grid], head: Grid, label_grid: Grid | None) -> float | None:
    """Every solver on its ladder of grids, judged on every grid of the evaluation; then the maps, also against the labels.

    Returns the mean error of the labels at the headline resolution, None where the reference is itself the label.
    """
    truth = run.truth
    assert isinstance(truth, ProblemTruth)
    cases = {grid: truth.cases(grid) for grid in grids}
    labels: dict[Grid, Tensor] = {}
    if label_grid is not None:
        labels = _labels_solved_on(run.team, truth, label_grid, cases)
    run.ladder = solver_ladder(truth, grids)
    for rung in run.ladder:
        given = cases[rung].a if rung in cases else truth.cases(rung).a
        for place, (name, solver) in enumerate(run.solvers.items()):
            run.say(f"{name} on {grid_name(rung.shape)}")
            try:
                u = apply(run.team, solver, given, rung)
            except AnygridError as error:
                run.notes.append(f"{name} refuses {grid_name(rung.shape)}: {_first_line(error)}")
                continue
            for grid in grids:
                brought = refine(u, rung, grid)
                run.scores.append(score(name, "solver", brought, cases[grid].u, grid, computed_at=rung.shape, variables=truth.outputs))
            if place == 0 and label_grid is None and rung in cases:
                labels[rung] = u
    for grid in grids:
        score_maps(run, cases[grid], grid == head, labels.get(grid))
    if head not in labels or label_grid == truth.reference:
        run.notes.append("The labels are those of the reference grid, so their own error is not measured here.")
        return None
    return float(relative(labels[head], cases[head].u, head).mean())


def _first_line(error: AnygridError) -> str:
    return str(error).splitlines()[0]


def _labels_solved_on(team: Team | None, truth: ProblemTruth, grid: Grid, cases: Mapping[Grid, Cases]) -> dict[Grid, Tensor]:
    if grid == truth.reference:
        return {g: c.u for g, c in cases.items()}
    u = apply(team, truth.problem.solve, truth.cases(grid).a.double(), grid)
    return {g: restrict(u, grid, g).float() for g in cases}


def solver_ladder(truth: ProblemTruth, grids: Sequence[Grid]) -> list[Grid]:
    """Grids on which solvers run: those evaluated, coarser ones by halving the finest, and one twice as fine; all below the reference."""
    finest = max(grids, key=lambda g: g.size)
    assert isinstance(finest, Box | Sphere)
    shapes = {g.shape for g in grids} | set(coarser_sizes(finest))
    finer = tuple(2 * axis.size - int(axis.placement == "vertices" and not axis.periodic) for axis in finest.axes)
    if all(f < r for f, r in zip(finer, truth.reference.shape, strict=True)):
        shapes.add(finer)
    return [truth.grid(shape) for shape in sorted(shapes)]


def timing_jobs(run: Run, grids: Sequence[Grid], batch: int) -> list[Job]:
    """For every map and every rung of the solvers that was scored: one sample, with one thread and with all cores; a batch with one.

    A batch needs no threads: its samples are independent, and other cores compute other samples.
    """
    every = [1, cores()] if cores() > 1 else [1]
    jobs: list[Job] = []
    scored = {(s.name, s.computed_at) for s in run.scores}
    for role, maps, where in (("map", run.maps, list(grids)), ("solver", run.solvers, run.ladder)):
        for grid in where:
            a = run.truth.cases(grid).a
            many = max(1, min(batch, len(a), _BATCH_VALUES // (grid.size * a.shape[1])))
            for name, map_ in maps.items():
                if (name, grid.shape) not in scored:
                    continue
                asked = InTurn(map_, a)
                jobs += [Job(name, role, asked, a[:1], grid, threads) for threads in every]
                if many > 1:
                    jobs.append(Job(name, role, asked, a[:many], grid, 1))
    return jobs


def lead_curves(run: Run, head: Grid, dt: float, units: str) -> list[LeadCurve]:
    """Roll-outs of every map, baseline and (with a problem) of its solver on its ladder up to the headline grid."""
    truth = run.truth
    channels = shared_channels(truth.inputs, truth.outputs)
    if truth.lead_steps < 2 or channels is None:
        return []
    a, u = truth.trajectory(head)
    start = a[:, 0][:, list(channels)]
    mean = next(m for m in run.baselines.values() if isinstance(m, MeanField))
    climatology = mean(start[:1], head)[0]
    curves = []

    def add(name: str, role: str, map_: Map, on: Grid) -> None:
        run.say(f"rolling out {name} on {grid_name(on.shape)}")
        given = a if on == head else truth.trajectory(on)[0]
        try:
            found = roll(run.team if role != "baseline" else None, map_, given, on, channels)
        except AnygridError as error:
            run.notes.append(f"{name} cannot be rolled out on {grid_name(on.shape)}: {_first_line(error)}")
            return
        found = refine(found.flatten(0, 1), on, head).unflatten(0, found.shape[:2])
        facts = {"variables": truth.outputs, "dt": dt, "units": units, "computed_at": on.shape}
        curves.append(lead_curve(name, role, found, u, start, climatology, head, **facts))  # type: ignore[arg-type]

    for name, map_ in run.maps.items():
        add(name, "map", map_, head)
    for name, map_ in run.baselines.items():
        if isinstance(map_, MeanField | Persistence):
            add(name, "baseline", map_, head)
    for name, solver in list(run.solvers.items())[:1]:
        for rung in run.ladder:
            if rung.size <= head.size:
                add(name, "solver", solver, rung)
    return curves
