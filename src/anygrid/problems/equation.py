"""The problem that equations given as text are; :func:`anygrid.problems.from_text.Equation` makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.boundary import Boundary, make_boundary
from anygrid.equations.checks import check_elliptic, check_well_posed
from anygrid.equations.parse import Scope, parse_expression
from anygrid.equations.residual import residual
from anygrid.equations.solution import Solution
from anygrid.equations.solve import advance, solve_steady, steady_residual
from anygrid.equations.system import System, make_system
from anygrid.equations.tape import record
from anygrid.errors import AnygridError, UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.grid import Box, Grid, Interval
from anygrid.numerics.random_fields import Family
from anygrid.numerics.stepping import finite_input
from anygrid.problems.base import Card, Problem
from anygrid.problems.distributions import (
    LogUniform,
    Normal,
    Quantity,
    RandomField,
    Uniform,
    read_interval,
    read_quantity,
)

__all__ = ["EquationProblem"]

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
        fixed = {name: value for name, value in self.known.items() if isinstance(value, float)}
        fields = [name for name, value in self.known.items() if isinstance(value, str | RandomField)]
        parameters = [name for name in self.known if name not in fields]
        return make_system(self.equations, list(self.intervals), parameters=parameters, fields=fields).with_values(fixed)

    @cached_property
    def conditions(self) -> Boundary:
        """Boundary conditions."""
        return make_boundary({axis: (lower, upper) for axis, lower, upper in self.boundary}, self.system, self.intervals)

    @cached_property
    def drawn(self) -> tuple[str, ...]:
        """Names of the quantities that every sample has its own value of."""
        return tuple(name for name, value in self.known.items() if not isinstance(value, float | str))

    @cached_property
    def homogeneous(self) -> bool:
        """Whether the equation is the same everywhere: no coordinate and no given function of position in it."""
        tape = record([*self.system.rates, *self.system.constraints], self.system.coordinates)
        explicit = any(leaf.name in self.intervals for leaf in tape.leaves)
        return not explicit and not any(isinstance(value, str) for value in self.known.values())

    @property
    def inputs(self) -> tuple[Variable, ...]:  # type: ignore[override]
        """State, and what is drawn for each sample."""
        return tuple(self._variable(name) for name in (*(() if self.system.steady else self.system.state), *self.drawn))

    @property
    def outputs(self) -> tuple[Variable, ...]:  # type: ignore[override]
        """Unknowns."""
        return tuple(self._variable(name) for name in self.system.state)

    def _variable(self, name: str) -> Variable:
        long_name = f"rate of {name[:-2]}" if name in self.system.state and name.endswith("_t") else name
        return Variable(name, {k: v for k, v in self.units}.get(name, "1"), long_name)

    @property
    def card(self) -> Card:  # type: ignore[override]
        """What is known of the problem from its text."""
        scheme = self.solution(self.sample(1, self.grid(16), torch.Generator().manual_seed(0)), self.grid(16)).scheme
        given = "; ".join(f"{name} = {text}" for name, text in self.quantities)
        start = "; ".join(f"{name} = {text}" for name, text in self.initial) or "smooth Gaussian random fields"
        return Card(
            title=f"{', '.join(self.system.state)} in {len(self.domain)}D",
            equation="; ".join(self.equations),
            boundary="; ".join(f"{axis}: {lower} | {upper}" for axis, lower, upper in self.boundary) or "periodic",
            sampler=(f"initial state {start}" if not self.system.steady else "") + (f"; {given}" if given else ""),
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
                raise UsageError("Equation(initial=...)", "unknowns with a rate", repr(name), did_you_mean(name, self.system.state))
        ranges = {name: _range(value) for name, value in self.known.items()}
        if self.system.steady:
            check_elliptic(self.system, ranges)
        else:
            check_well_posed(self.system, ranges)

    # The problem

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Even grid of the domain."""
        return Box.uniform(self.intervals, resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch inputs *space"]:
        """Initial states and drawn quantities, float32; the generator alone decides them."""
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
        return self._evaluate(name, quantity, grid, values)

    def _families(self, name: str) -> tuple[Family, ...]:
        """Basis of a random field along each axis: sine where the unknown is prescribed at both ends, cosine on other bounded axes."""
        out: list[Family] = []
        for axis, interval in self.intervals.items():
            given = all(condition is not None and condition.kind == "value" for condition in self.conditions.both(name, axis))
            out.append("periodic" if interval.periodic else "sine" if given else "cosine")
        return tuple(out)

    def _expression(self, name: str, text: str) -> object:
        scope = Scope(
            tuple(self.intervals), [key for key, value in self.known.items() if not isinstance(value, str | RandomField)], unknowns=False
        )
        try:
            return parse_expression(text, scope)
        except AnygridError as error:
            raise UsageError(f"Equation: {name} = {text!r}", error.expected, error.got, error.hint) from error

    def _evaluate(self, name: str, text: str, grid: Grid, values: Mapping[str, Tensor]) -> Tensor:
        """An expression on the grid, in float64."""
        coordinates = dict(zip(self.intervals, grid.points().unbind(-1), strict=True))
        fixed = {key: torch.tensor(value, dtype=torch.float64) for key, value in self.known.items() if isinstance(value, float)}
        tape = record([self._expression(name, text)], self.system.coordinates)  # type: ignore[list-item]
        lookup = {**fixed, **values, **coordinates}
        leaves = [lookup[leaf.name] for leaf in tape.leaves]
        return tape(leaves, _no_derivatives)[0].expand(grid.shape)

    def quantities_of(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> dict[str, Tensor]:
        """Values of the system's parameters ``(batch,)`` and fields for a batch of inputs."""
        names = [v.name for v in self.inputs]
        out: dict[str, Tensor] = {}
        for name, quantity in self.known.items():
            if name in self.drawn:
                channel = a[:, names.index(name)]
                out[name] = channel if isinstance(quantity, RandomField) else channel.flatten(1).mean(1)
            elif isinstance(quantity, str):
                out[name] = self._evaluate(name, quantity, grid, {}).to(a)
        return out

    def solution(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Solution:
        """As :meth:`solve`, with the error estimate and the scheme that was chosen.

        Arithmetic is float64 whatever the input: in float32 the rounding of many small steps would be most of the error.
        """
        finite_input(a, "Equation.solve")
        wide = a.double()
        known = self.quantities_of(wide, grid)
        if self.system.steady:
            found = solve_steady(self.system, grid, known, self.conditions, tolerance=self.tolerance)
        else:
            assert self.dt is not None
            state = wide[:, : len(self.system.state)]
            found = advance(self.system, grid, state, known, self.dt, self.conditions, tolerance=self.tolerance)
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


def _no_derivatives(value: Tensor, orders: tuple[int, ...]) -> Tensor:
    raise UsageError("Equation", "expressions of the coordinates", "a derivative", "write the derivative out")


def _range(quantity: Quantity) -> tuple[float, float]:
    """Least and greatest value where that is known, as far as signs are concerned."""
    if isinstance(quantity, float):
        return quantity, quantity
    if isinstance(quantity, Uniform | LogUniform):
        return quantity.low, quantity.high
    if isinstance(quantity, RandomField) and quantity.low is not None and quantity.high is not None:
        return min(quantity.low, quantity.high), max(quantity.low, quantity.high)
    if isinstance(quantity, RandomField) and quantity.positive:
        return math.exp(quantity.mean - 4 * quantity.std), math.exp(quantity.mean + 4 * quantity.std)
    if isinstance(quantity, RandomField | Normal):
        return quantity.mean - 4 * quantity.std, quantity.mean + 4 * quantity.std
    return -math.inf, math.inf
