"""The problem that equations given as text are; :func:`anygrid.problems.from_text.Equation` makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import sympy as sp
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.boundary import Boundary, make_boundary
from anygrid.equations.checks import check_elliptic, check_well_posed
from anygrid.equations.correction import steady_correction, step_correction
from anygrid.equations.dimensions import rate_unit
from anygrid.equations.invariants import conserved_means, constant_values
from anygrid.equations.residual import residual
from anygrid.equations.solution import Solution
from anygrid.equations.solve import advance, find_box, solve_steady, steady_residual
from anygrid.equations.system import System
from anygrid.equations.tape import record
from anygrid.errors import UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.grid import Box, Grid, Interval
from anygrid.numerics.random_fields import Family
from anygrid.numerics.stepping import finite_input
from anygrid.problems.base import Card, Problem, Wall, check_tolerance
from anygrid.problems.distributions import (
    LogUniform,
    Normal,
    Quantity,
    RandomField,
    Uniform,
    read_interval,
    read_quantity,
    text_of,
)
from anygrid.problems.given import evaluated, expression, mentioned, range_of, read_system

__all__ = ["EquationProblem"]

_REFERENCE = 64  # draws whose mean the equation is linearised about
Pairs = Sequence[Sequence[str]]  # made tuples of tuples, so that the problem hashes


@dataclass(frozen=True)
class EquationProblem(Problem):
    """Solution map of equations given as text. All fields are text and numbers, so that it can be stored.

    An evolution maps the state, and with it whatever is drawn for each sample, to the state ``dt`` later; a steady equation maps what is
    drawn to the unknowns. ``dt`` is ``None`` for a steady equation.
    """

    equations: Sequence[str]
    domain: Pairs
    quantities: Pairs = ()
    initial: Pairs = ()
    boundary: Sequence[Sequence[str]] = ()
    units: Pairs = ()
    dt: float | None = None
    steps: int = 20
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "equations", tuple(self.equations))
        for name in ("domain", "quantities", "initial", "boundary", "units"):
            object.__setattr__(self, name, tuple(tuple(pair) for pair in getattr(self, name)))
        if self.dt is not None and not (self.dt > 0 and math.isfinite(self.dt)):
            raise UsageError("Equation(dt=...)", "a finite time above 0", f"{self.dt}", "give it in the time units of the equation")
        if self.steps < 1 or not 0 < self.tolerance < 1:
            got = f"{self.steps} and {self.tolerance}"
            raise UsageError("Equation", "steps of 1 or more and a tolerance between 0 and 1", got, "change these arguments")
        self._check()

    # What the text says

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Domain by coordinate."""
        return {name: read_interval(text, f"domain {name!r}") for name, text in self.domain}

    @cached_property
    def known(self) -> dict[str, Quantity]:
        """Quantities by name."""
        return {name: read_quantity(text) for name, text in self.quantities}

    @cached_property
    def system(self) -> System:
        """The equations in standard form, with numbers for fixed parameters."""
        sides = [text for _, *pair in self.boundary for text in pair]
        return read_system(self.equations, list(self.intervals), self.known, sides, self._outside, {k: v for k, v in self.units})

    @property
    def _fixed(self) -> dict[str, float]:
        return {name: value for name, value in self.known.items() if isinstance(value, float)}

    @cached_property
    def _outside(self) -> set[str]:
        """Quantities in the expressions of others and of initial states."""
        texts = (text for _, text in (*self.quantities, *self.initial) if isinstance(read_quantity(text), str))
        return mentioned(self.known, texts)

    @cached_property
    def conditions(self) -> Boundary:
        """Boundary conditions."""
        wider = replace(self.system, parameters=(*self.system.parameters, *self._fixed))
        found = make_boundary({axis: (lower, upper) for axis, lower, upper in self.boundary}, wider, self.intervals)
        return found.with_values(self._fixed)

    @cached_property
    def drawn(self) -> tuple[str, ...]:
        """Names of the quantities that every sample has its own value of."""
        return tuple(name for name, value in self.known.items() if not isinstance(value, float | str))

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """Those of them that the map depends on: all but what shapes the initial state alone."""
        used = {*self.system.parameters, *self.system.fields}
        used |= mentioned(self.known, [text for name, text in self.quantities if name in used])
        return tuple(name for name in self.drawn if name in used)

    @cached_property
    def homogeneous(self) -> bool:
        """Whether the equation is the same everywhere: no coordinate and no given function of position in it."""
        tape = record([*self.system.rates, *self.system.constraints], self.system.coordinates)
        explicit = any(leaf.name in self.intervals for leaf in tape.leaves)
        return not explicit and not any(isinstance(value, str) for value in self.known.values())

    @cached_property
    def walls(self) -> tuple[Wall, ...]:  # type: ignore[override]
        """Sides on which an unknown has a constant value."""
        return tuple(Wall(c.unknown, c.axis, c.side, float(c.value)) for c in constant_values(self.system, self.conditions))

    @cached_property
    def conserved(self) -> tuple[str, ...]:  # type: ignore[override]
        """Unknowns whose rate has no mean, tried on random states: see :mod:`anygrid.equations.invariants`."""
        given = {name: self._expression(name, value) for name, value in self.known.items() if isinstance(value, str)}
        fields = {name: range_of(value) for name, value in self.known.items() if isinstance(value, RandomField)}
        numbers = {name: range_of(value) for name, value in self.known.items() if name not in given and name not in fields}
        return conserved_means(self.system, self.intervals, self.conditions, numbers, fields, given)

    @property
    def inputs(self) -> tuple[Variable, ...]:  # type: ignore[override]
        """State, and what is drawn for each sample."""
        return tuple(self._variable(name) for name in (*(() if self.system.steady else self.system.state), *self.varying))

    @property
    def outputs(self) -> tuple[Variable, ...]:  # type: ignore[override]
        """Unknowns."""
        return tuple(self._variable(name) for name in self.system.state)

    def _variable(self, name: str) -> Variable:
        units = {k: v for k, v in self.units}
        if name in self.system.state and name.endswith("_t"):
            return Variable(name, units.get(name) or rate_unit(units.get(name[:-2]), units.get("t")), f"rate of {name[:-2]}")
        return Variable(name, units.get(name, "1"), name)

    @property
    def time_unit(self) -> str:
        """Unit of ``dt``."""
        return {k: v for k, v in self.units}.get("t", "1")

    @property
    def card(self) -> Card:  # type: ignore[override]
        """What is known of the problem from its text."""
        scheme = self.solution(self.sample(1, self.grid(16), torch.Generator().manual_seed(0)), self.grid(16)).scheme
        start = [f"{name} starts as {text_of(quantity)}" for name, quantity in self._starts.items()]
        sides = {
            axis: f", {lower}" if lower == upper else f", {lower or 'free'} | {upper or 'free'}" for axis, lower, upper in self.boundary
        }
        return Card(
            title=f"{', '.join(self.system.state)} in {len(self.domain)}D",
            equation="; ".join(self.equations),
            boundary="; ".join(f"{axis} {text}{sides.get(axis, '')}" for axis, text in self.domain),
            sampler="; ".join([*(f"{name} = {text}" for name, text in self.quantities), *start]),
            solver=f"{scheme.name}: {scheme.reason}",
            order=scheme.order,
            cost="measured by evaluate",
            source="text of the user",
        )

    def _check(self) -> None:
        """Everything that can be wrong with the text, found before anything is computed."""
        self.conditions  # noqa: B018 - reads the equations and the conditions
        for name, value in (*self.known.items(), *self._starts.items()):
            if isinstance(value, str):
                self._expression(name, value)
        for name, _ in self.initial:
            if name not in self.system.state or self.system.steady:
                hint = "a steady equation has no initial state: remove it" if self.system.steady else did_you_mean(name, self.system.state)
                raise UsageError("Equation(initial=...)", "unknowns with a rate", repr(name), hint)
        ranges = {name: range_of(value) for name, value in self.known.items()}
        if self.system.steady:
            check_elliptic(self.system, ranges)
        else:
            check_well_posed(self.system, ranges)

    # The problem

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Even grid of the domain."""
        axes, units = Box.uniform(self.intervals, resolution).axes, {k: v for k, v in self.units}
        return Box(tuple(replace(axis, units=units.get(axis.name, "")) for axis in axes))

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch inputs *space"]:
        """Initial states and drawn quantities, float32; the generator alone decides them."""
        if not self.inputs:
            hint = 'declare a parameter as Uniform(...) or an input as RandomField(...), in a file "uniform(0, 1)" or "random()"'
            raise UsageError("Equation", "something that differs from sample to sample", "a steady equation with one solution", hint)
        rows = [self._sample_one(grid, generator) for _ in range(n)]
        return torch.stack(rows).float() if rows else torch.zeros(0, len(self.inputs), *grid.shape)

    def _sample_one(self, grid: Grid, generator: torch.Generator) -> Tensor:
        values: dict[str, Tensor] = {}
        for name in self.drawn:
            values[name] = self._draw(name, self.known[name], grid, generator, values)
        for name in () if self.system.steady else self.system.state:
            values[name] = self._draw(name, self._starts[name], grid, generator, values)
        return torch.stack([values[v.name].expand(grid.shape) for v in self.inputs])

    @cached_property
    def _starts(self) -> dict[str, Quantity]:
        """Initial state by unknown."""
        if self.system.steady:
            return {}
        given = {name: read_quantity(text) for name, text in self.initial}
        names = self.system.state
        return {name: given.get(name, 0.0 if name.removesuffix("_t") in names and name.endswith("_t") else RandomField()) for name in names}

    def _draw(self, name: str, quantity: Quantity, grid: Grid, generator: torch.Generator, values: Mapping[str, Tensor]) -> Tensor:
        if isinstance(quantity, Uniform | LogUniform | Normal):
            return torch.tensor(quantity.draw(generator), dtype=torch.float64)
        if isinstance(quantity, RandomField):
            return quantity.draw(1, grid, self._families(name), generator)[0]
        if isinstance(quantity, float):
            return torch.tensor(quantity, dtype=torch.float64)
        return evaluated(self._expression(name, quantity), grid, {**self._fixed, **values})

    def _families(self, name: str) -> tuple[Family, ...]:
        """Basis of a random field along each axis: sine where the unknown is prescribed at both ends, cosine on other bounded axes."""
        out: list[Family] = []
        for axis, interval in self.intervals.items():
            given = all(condition is not None and condition.kind == "value" for condition in self.conditions.both(name, axis))
            out.append("periodic" if interval.periodic else "sine" if given else "cosine")
        return tuple(out)

    def _expression(self, name: str, text: str) -> sp.Expr:
        return expression(name, text, list(self.intervals), self.known)

    def quantities_of(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> dict[str, Tensor]:
        """Values of the system's parameters ``(batch,)`` and fields for a batch of inputs."""
        names = [v.name for v in self.inputs]
        given = {name: a[:, names.index(name)] for name in self.varying}
        numbers = {name for name in given if not isinstance(self.known[name], RandomField)}
        out: dict[str, Tensor] = {}
        for name in (*self.system.parameters, *self.system.fields):
            quantity = self.known[name]
            if isinstance(quantity, str):
                out[name] = evaluated(self._expression(name, quantity), grid, {**self._fixed, **given}).to(a)
            else:
                out[name] = given[name].flatten(1).mean(1) if name in numbers else given[name]
        return out

    def solution(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Solution:
        """As :meth:`solve`, with the error estimate and the scheme that was chosen.

        Arithmetic is float64 whatever the input: in float32 the rounding of many small steps would be most of the error.
        """
        return self._solution(a, grid, self.tolerance, None)

    def refine(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid, tolerance: float
    ) -> Solution:
        """As :meth:`solution` to the given tolerance: a steady equation from the guess ``u``, an evolution by its march in time.

        Newton's method from a good guess takes the steps of its quadratic end only, and meets the solution that the guess is near
        where there are several. The diffusion equation saves iterations as :meth:`anygrid.problems.darcy.Darcy.refine` says; other
        linear equations are factorised and save nothing; nor do evolutions, for the reason that :meth:`Problem.refine` gives.
        """
        check_tolerance(tolerance)
        return self._solution(a, grid, tolerance, u)

    def _solution(self, a: Tensor, grid: Grid, tolerance: float, start: Tensor | None) -> Solution:
        finite_input(a, "Equation.solve")
        wide = a.double()
        known = self.quantities_of(wide, grid)
        if self.system.steady:
            found = solve_steady(self.system, grid, known, self.conditions, tolerance=tolerance, start=start)
        else:
            assert self.dt is not None
            state = wide[:, : len(self.system.state)]
            found = advance(self.system, grid, state, known, self.dt, self.conditions, tolerance=tolerance)
        return replace(found, u=found.u.to(a.dtype))

    def solve(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Float[Tensor, "batch outputs *space"]:
        """State ``dt`` later, or the unknowns of a steady equation.

        Raises
        ------
        DataError
            If ``a`` is not finite.
        AnygridError
            When the solution blows up or an iteration does not converge.
        """
        return self.solution(a, grid).u

    def residual(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """Left minus right side: of the discrete equations if steady, else the defect of one ``dt`` (order 4 in it, where smooth)."""
        known = self.quantities_of(a, grid)
        if self.system.steady:
            return steady_residual(self.system, grid, u, known, self.conditions)
        return residual(self.system, grid, a[:, : len(self.system.state)], known, following=u, dt=self.dt)

    def correction(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """Estimate of ``truth - u``, the equation linearised about the mean of what is drawn: see :mod:`anygrid.equations.correction`."""
        known = self.quantities_of(a, grid)
        if self.system.steady:
            return _steady_correction(self, grid)(u, known)
        return _step_correction(self, grid)(a[:, : len(self.system.state)], u, known)

    def _reference(self, grid: Grid) -> tuple[Tensor, dict[str, Tensor]]:
        """Constant states and drawn quantities at their mean over samples and space, float64; given functions as they are."""
        a = self.sample(_REFERENCE, grid, torch.Generator().manual_seed(0)).double()
        mean = a.mean((0, *range(2, a.ndim)), keepdim=True).expand(1, -1, *grid.shape)
        return mean[:, : 0 if self.system.steady else len(self.system.state)], self.quantities_of(mean, grid)


@lru_cache(maxsize=8)
def _steady_correction(problem: EquationProblem, grid: Grid) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    box = find_box(problem.system, grid)
    return steady_correction(problem.system, box, problem.conditions, problem._reference(box)[1])


@lru_cache(maxsize=8)
def _step_correction(problem: EquationProblem, grid: Grid) -> Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]:
    box = find_box(problem.system, grid)
    assert problem.dt is not None
    return step_correction(problem.system, box, problem.conditions, problem.dt, *problem._reference(box))
