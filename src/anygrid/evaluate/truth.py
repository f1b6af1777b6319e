"""The truth at every resolution: a problem solved on a grid finer than any evaluated, or data coarsened from their own grid."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.hyperbolic import find_fluxes
from anygrid.equations.solve import advance
from anygrid.equations.symbol import spectral_form
from anygrid.errors import UsageError
from anygrid.evaluate.baselines import Examples, shared_channels
from anygrid.evaluate.resample import coarsen, how_coarsened, nested, restrict
from anygrid.evaluate.result import grid_name
from anygrid.evaluate.rows import Reference, Team, solve_references
from anygrid.fields import Variable
from anygrid.grid import Axis, Box, Grid, Sphere
from anygrid.maps import Map
from anygrid.numerics.seeds import sample_generator
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.equation import EquationProblem

__all__ = ["Cases", "DataTruth", "FixedSteps", "ManyTruths", "ProblemTruth", "Truth", "default_reference", "loose_solvers"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cases:
    """Test inputs and the truth on one grid; ``states`` holds the true trajectory ``(case, lead, channel, *space)`` from the start on."""

    grid: Grid
    a: Float[Tensor, "batch inputs *space"]
    u: Float[Tensor, "batch outputs *space"]


class Truth(ABC):
    """Test cases of one subject at any resolution up to its limit."""

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    lead_steps: int  # steps of the longest roll-out; 0 if there is none
    notes: list[str]

    @abstractmethod
    def grid(self, resolution: tuple[int, ...] | int) -> Grid:
        """Grid of the subject at a resolution."""

    @abstractmethod
    def cases(self, grid: Grid) -> Cases:
        """Inputs and truth on ``grid``, float32."""

    @abstractmethod
    def trajectory(self, grid: Grid) -> tuple[Float[Tensor, "batch lead inputs *space"], Float[Tensor, "batch lead outputs *space"]]:
        """Inputs at each lead (channels that are not predicted are known forcings) and the true outputs one step later."""


class ProblemTruth(Truth):
    """Cases drawn from a problem's own sampler and solved on the reference grid in float64.

    For an evolution with ``steps > 1`` trajectories are solved on the reference grid, and one-step cases start at times spread
    evenly over them, so that a map is judged on developed states too.
    """

    def __init__(self, problem: Problem, reference: Grid, *, n: int, seed: int, steps: int, say: Say, team: Team | None = None) -> None:
        self.problem, self.reference, self.n, self.seed = problem, reference, n, seed
        self.inputs, self.outputs = problem.inputs, problem.outputs
        self.lead_steps = steps
        job = Reference(problem, reference, seed, steps, shared_channels(problem.inputs, problem.outputs))
        over = f" over {steps} steps" if steps > 1 else ""
        say(f"solving {n} references on {grid_name(reference.shape)}{over}")
        self._inputs, self._outputs = solve_references(
            team, job, n, lambda done: say(f"solved {done} of {n} references on {grid_name(reference.shape)}")
        )
        self.notes = [f"Truth: {n} solves on a {grid_name(reference.shape)} grid in float64, finer than any grid evaluated."]
        if steps > 1:
            self.notes.append(f"One-step errors: case i starts at step i mod {steps} of its own true trajectory.")

    def _sample(self, grid: Grid) -> Tensor:
        drawn = [self.problem.sample(1, grid, sample_generator(self.seed, i)) for i in range(self.n)]
        return torch.cat(drawn).to(torch.float64)

    def grid(self, resolution: tuple[int, ...] | int) -> Grid:
        return self.problem.grid(resolution)

    def cases(self, grid: Grid) -> Cases:
        starts = np.arange(self.n) % max(self.lead_steps, 1)
        u = torch.stack([self._outputs[s][i] for i, s in enumerate(starts)])
        if self.lead_steps > 1:
            a = restrict(torch.stack([self._inputs[s][i] for i, s in enumerate(starts)]), self.reference, grid)
        else:
            a = self._sample(grid)  # the function itself at these points, not an interpolation
        return Cases(grid, a.float(), restrict(u, self.reference, grid).float())

    def trajectory(self, grid: Grid) -> tuple[Float[Tensor, "batch lead inputs *space"], Float[Tensor, "batch lead outputs *space"]]:
        a, u = (torch.stack([restrict(s, self.reference, grid).float() for s in part], 1) for part in (self._inputs, self._outputs))
        return a[:, : u.shape[1]], u


class DataTruth(Truth):
    """Cases taken evenly from a data set, coarsened where another resolution is asked for."""

    def __init__(self, data: Examples, *, n: int, steps: int) -> None:
        self.data = data
        self.inputs, self.outputs = data.inputs, data.outputs
        repeats = data.evolution and shared_channels(data.inputs, data.outputs) is not None
        self.lead_steps = steps if repeats and data.count(max(steps, 1)) else 0
        rows = len(data)
        self._rows = np.unique(np.linspace(0, rows - 1, min(n, rows)).astype(np.int64))
        self.notes = [f"Truth: {len(self._rows)} rows spread evenly over {rows} in the data set, on {grid_name(data.grid.shape)}."]
        self._a, self._u = (t[:, 0] for t in data.batch(self._rows))

    def grid(self, resolution: tuple[int, ...] | int) -> Grid:
        return self.data.grid.at(resolution)

    def cases(self, grid: Grid) -> Cases:
        own = self.data.grid
        if grid != own:
            self.notes.append(f"{grid_name(grid.shape)}: {how_coarsened(own, grid)}, for inputs and truth alike.")
        return Cases(grid, coarsen(self._a, own, grid).float(), coarsen(self._u, own, grid).float())

    def trajectory(self, grid: Grid) -> tuple[Float[Tensor, "batch lead inputs *space"], Float[Tensor, "batch lead outputs *space"]]:
        possible = self.data.count(self.lead_steps)
        rows = np.unique(np.linspace(0, possible - 1, min(len(self._rows), possible)).astype(np.int64))
        a, u = self.data.batch(rows, self.lead_steps)
        own = self.data.grid
        parts = [coarsen(t.flatten(0, 1), own, grid).unflatten(0, t.shape[:2]).float() for t in (a, u)]
        return parts[0], parts[1]


class ManyTruths(Truth):
    """Cases of several data sets of the same variables, each on its own grid and at no other resolution.

    Raises
    ------
    UsageError
        For none, for two on the same grid, and for sets of other variables or another lead than the first.
    """

    def __init__(self, sets: Sequence[Examples], *, n: int, steps: int) -> None:
        if not sets:
            raise UsageError("evaluate", "at least one data set", "none")
        first, wanted = sets[0], _kind(sets[0])
        for data in sets[1:]:
            if _kind(data) != wanted:
                raise UsageError("evaluate", f"data sets with the variables, units and lead of the first ({wanted})", str(_kind(data)))
        self._parts = {data.grid: DataTruth(data, n=n, steps=steps) for data in sets}
        if len(self._parts) < len(sets):
            raise UsageError("evaluate", "data sets on different grids", "two on the same one", "join those with xarray.concat")
        self.inputs, self.outputs = first.inputs, first.outputs
        self.lead_steps = min(part.lead_steps for part in self._parts.values())
        self.notes = [note for part in self._parts.values() for note in part.notes]

    def grid(self, resolution: tuple[int, ...] | int) -> Grid:
        for grid in self._parts:
            if grid.shape == ((resolution,) * len(grid.shape) if isinstance(resolution, int) else tuple(resolution)):
                return grid
        known = ", ".join(grid_name(grid.shape) for grid in self._parts)
        raise UsageError("evaluate resolutions", f"one of the data sets' own, {known}", str(resolution), "leave them out for all")

    def cases(self, grid: Grid) -> Cases:
        return self._parts[grid].cases(grid)

    def trajectory(self, grid: Grid) -> tuple[Float[Tensor, "batch lead inputs *space"], Float[Tensor, "batch lead outputs *space"]]:
        return self._parts[grid].trajectory(grid)


def _kind(data: Examples) -> tuple[str | None, list[tuple[str, str]]]:
    return data.dt, [(v.name, v.units) for v in (*data.inputs, *data.outputs)]


def default_reference(grids: Sequence[Grid]) -> tuple[int, ...]:
    """Resolution at least twice as fine as every grid, nesting all of them where less than four times the finest does.

    Raises
    ------
    UsageError
        For grids that have no other resolution.
    """
    if not all(isinstance(g, Box | Sphere) for g in grids):
        raise UsageError("evaluate", "a problem on a Box or a Sphere", type(grids[0]).__name__, "name a reference resolution")
    sizes: list[int] = []
    for axes in zip(*(g.axes for g in grids if isinstance(g, Box | Sphere)), strict=True):
        closed = int(axes[0].placement == "vertices" and not axes[0].periodic)  # n vertices bound n - 1 intervals
        counts = [axis.size - closed for axis in axes]
        common = math.lcm(*counts)
        if common > 4 * max(counts):
            common = max(counts)
        sizes.append(common * math.ceil(2 * max(counts) / common) + closed)
    return tuple(sizes)


def nesting_note(reference: Grid, grids: Sequence[Grid]) -> str:
    """Sentence on how the reference was brought to the grids."""
    loose = [grid_name(g.shape) for g in grids if not nested(reference, g)]
    if not loose:
        return "The reference was restricted to every grid by picking its points: no interpolation enters."
    return f"The reference does not nest {', '.join(loose)}; it was interpolated there (trigonometric on periodic axes, cubic on others)."


def coarser_sizes(grid: Grid, least: int = 5) -> list[tuple[int, ...]]:
    """Resolutions of the solver's ladder below ``grid``: halved until an axis would have fewer than ``least`` points."""
    assert isinstance(grid, Box | Sphere)
    sizes: list[tuple[int, ...]] = []
    current = [_intervals(axis) for axis in grid.axes]
    closed = [axis.size - _intervals(axis) for axis in grid.axes]
    while True:
        current = [max(1, round(n / 2)) for n in current]
        shape = tuple(n + c for n, c in zip(current, closed, strict=True))
        if min(shape) < least:
            return sizes
        sizes.append(shape)


def _intervals(axis: Axis) -> int:
    return axis.size - int(axis.placement == "vertices" and not axis.periodic)


@dataclass(frozen=True)
class FixedSteps:
    """Map of an evolution given as text, by ``count`` equal steps in the precision of the input.

    It pays for no error estimate and no float64 arithmetic, and is therefore the cheapest solver at the accuracy of a surrogate. A
    conservation law takes the steps that its speeds ask for, whatever ``count``.
    """

    problem: EquationProblem
    count: int

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """State ``problem.dt`` later."""
        problem, system = self.problem, self.problem.system
        if problem.dt is None:
            raise UsageError("FixedSteps", "an evolution", "a steady equation", "use the problem's own solve")
        dt = None if find_fluxes(system) is not None else problem.dt / self.count
        state, known = a[:, : len(system.state)], problem.quantities_of(a, grid)
        return advance(system, grid, state, known, problem.dt, problem.conditions, dt=dt).u


def loose_solvers(problem: Problem, *, counts: Sequence[int] = (1, 4, 16, 64)) -> dict[str, Map]:
    """The problem's solver, and cheaper settings of it.

    The settings are found among the fields of the problem: an iterative solver or one that controls its steps states its
    ``tolerance``, a time stepper its largest ``step``. Evolutions given as text also run with ``counts`` equal steps
    (:class:`FixedSteps`), and Burgers' equation by its closed form. Any other problem is only made cheaper by a coarser grid.
    """
    solvers: dict[str, Map] = {"solver": problem.solve}
    names: set[str] = {f.name for f in dataclasses.fields(problem)} if dataclasses.is_dataclass(problem) else set()
    variants: list[tuple[str, str, float | str]] = []
    if "tolerance" in names:
        variants += [("tolerance", f"solver, tolerance {value:g}", value) for value in (1e-2, 1e-4)]
    if "step" in names:
        step = float(problem.step)  # type: ignore[attr-defined]
        longest = math.inf if problem.dt is None else problem.dt
        variants += [("step", f"solver, step {f * step:g}", f * step) for f in (2, 4, 8, 16) if f * step <= longest]
    if isinstance(problem, Burgers) and problem.scheme != "cole-hopf":
        variants.append(("scheme", "solver, Cole and Hopf", "cole-hopf"))
    for name, title, value in variants:
        loose: Problem = dataclasses.replace(problem, **{name: value})  # type: ignore[type-var, assignment]
        solvers[title] = loose.solve
    if isinstance(problem, EquationProblem) and problem.dt is not None:
        solvers["solver, tolerance 0.1"] = dataclasses.replace(problem, tolerance=0.1).solve
        everywhere = all(interval.periodic for interval in problem.intervals.values())
        exact = everywhere and not spectral_form(problem.system).bodies
        if exact or find_fluxes(problem.system) is not None:  # the number of steps is not ours to choose
            solvers["solver, precision of the input"] = FixedSteps(problem, 1)
        else:
            solvers |= {f"solver, {n} {'steps' if n > 1 else 'step'}": FixedSteps(problem, n) for n in counts}
    return solvers
