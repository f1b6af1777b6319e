r"""A system of equations in standard form: rates of a state, and constraints that fix the other unknowns at every moment.

.. math:: \partial_t u_i = F_i(u, \psi, x), \qquad 0 = G_j(u, \psi, x)

A steady system has constraints only. Second order in time becomes first order with the rate as another state.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from anygrid.equations.expressions import FUNCTIONS, OPERATORS
from anygrid.equations.limits import excess
from anygrid.equations.parse import Parsed, Scope, parse_equation
from anygrid.errors import UsageError, did_you_mean

__all__ = ["System", "make_system"]

_EQUATIONS = 20


@dataclass(frozen=True)
class System:
    """Equations as SymPy expressions; unknowns and fields are functions of the coordinates, parameters symbols.

    Attributes
    ----------
    axes
        Names of the coordinates, in the order of the domain.
    state
        Unknowns with a rate, in the order of first mention; for a steady system the unknowns themselves.
    auxiliary
        Unknowns of an evolution that a constraint fixes.
    parameters, fields
        Names of constants, and of known functions of position.
    rates
        One for each state of an evolution, none for a steady system.
    constraints
        Expressions that vanish: one for each auxiliary, or for each unknown of a steady system.
    text
        What the user wrote.
    """

    axes: tuple[str, ...]
    state: tuple[str, ...]
    auxiliary: tuple[str, ...]
    parameters: tuple[str, ...]
    fields: tuple[str, ...]
    rates: tuple[sp.Expr, ...]
    constraints: tuple[sp.Expr, ...]
    text: tuple[str, ...]

    @property
    def steady(self) -> bool:
        """Whether no unknown has a rate."""
        return not self.rates

    @property
    def coordinates(self) -> tuple[sp.Symbol, ...]:
        """Symbols of the coordinates."""
        return tuple(sp.Symbol(name, real=True) for name in self.axes)

    def function(self, name: str) -> sp.Expr:
        """The unknown or field of this name, as it stands in the expressions."""
        return sp.Function(name)(*self.coordinates)

    def with_values(self, values: Mapping[str, float]) -> System:
        """The same system with numbers for some parameters.

        Raises
        ------
        UsageError
            For a name that is no parameter, or a number for which a term is not finite.
        """
        for name in values:
            if name not in self.parameters:
                raise UsageError("Equation", "values of its parameters", repr(name), did_you_mean(name, self.parameters))
        swap = {sp.Symbol(name, real=True): _number(value) for name, value in values.items()}
        return System(
            self.axes,
            self.state,
            self.auxiliary,
            tuple(name for name in self.parameters if name not in values),
            self.fields,
            tuple(_substituted(rate, swap) for rate in self.rates),
            tuple(_substituted(constraint, swap) for constraint in self.constraints),
            self.text,
        )


def _substituted(expression: sp.Expr, swap: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    result = expression.xreplace(dict(swap))
    fault = excess(result)
    if fault is not None:
        listed = ", ".join(f"{name} = {value}" for name, value in swap.items())
        raise UsageError("Equation", fault[0], f"{fault[1]} with {listed}", fault[2])
    return result


def _number(value: float) -> sp.Expr:
    """Whole numbers exactly, so that ``u**p`` with ``p = 2`` is a square."""
    return sp.Integer(int(value)) if float(value).is_integer() and abs(value) < 2**53 else sp.Float(value)


def make_system(
    equations: str | Sequence[str],
    axes: Sequence[str],
    *,
    parameters: Collection[str] = (),
    fields: Collection[str] = (),
    state: Sequence[str] = (),
) -> System:
    """Read equations and bring them to standard form.

    Parameters
    ----------
    equations
        Texts ``left = right``, one for each unknown.
    axes
        Coordinates of the domain.
    parameters, fields
        Names of constants, and of known functions of position; every other name is an unknown.
    state
        The unknowns that have a rate (or the steady unknowns) where they are to be named, as a check.

    Raises
    ------
    UsageError
        For text that is not understood, as many equations as unknowns missing, a rate that cannot be solved for, a name
        that is declared and never used.
    """
    texts = (equations,) if isinstance(equations, str) else tuple(equations)
    if not 1 <= len(texts) <= _EQUATIONS or not 1 <= len(axes) <= 3:
        expected = f"one to {_EQUATIONS} equations in one to three dimensions"
        raise UsageError("Equation", expected, f"{len(texts)} in {len(axes)}")
    _check_declared(axes, parameters, fields)
    scope = Scope(tuple(axes), tuple(parameters), tuple(fields))
    parsed = [parse_equation(text, scope) for text in texts]
    unknowns = tuple(dict.fromkeys(name for one in parsed for name in one.unknowns))
    _check_names(texts, parsed, unknowns, parameters, fields, state)
    orders: dict[str, int] = {}
    for one in parsed:
        for name, order in one.rates.values():
            orders[name] = max(order, orders.get(name, 0))
    expressions = [one.expression for one in parsed]
    known = (tuple(axes), tuple(parameters), tuple(fields))
    if not orders:
        return System(known[0], unknowns, (), known[1], known[2], (), tuple(expressions), texts)
    return _evolution(texts, expressions, unknowns, orders, known)


def _check_declared(axes: Sequence[str], parameters: Collection[str], fields: Collection[str]) -> None:
    names = [*axes, *parameters, *fields]
    for name in names:
        if not (name.isascii() and name.isidentifier() and name[0] != "_"):
            raise UsageError("Equation", "names of letters, digits and _, such as k_1", repr(name), "rename it")
        if names.count(name) > 1:
            raise UsageError("Equation", "every name once among axes, parameters and inputs", f"{name!r} twice", "rename one of them")
        if name in FUNCTIONS or name in OPERATORS or name in ("t", "pi", "vec"):
            raise UsageError("Equation", "names that mean nothing else", repr(name), f"rename it, for example to {name}_0")


def _check_names(
    texts: tuple[str, ...],
    parsed: Sequence[Parsed],
    unknowns: tuple[str, ...],
    parameters: Collection[str],
    fields: Collection[str],
    state: Sequence[str],
) -> None:
    for name in state:
        if name not in unknowns:
            raise UsageError("Equation", f"an equation in which {name!r} occurs", "none", did_you_mean(name, unknowns))
    used = {str(atom.func) if atom.is_Function else str(atom) for one in parsed for atom in _atoms(one.expression)}
    idle = [name for name in [*parameters, *fields] if name not in used]
    if len(unknowns) != len(texts):
        listed = ", ".join(unknowns[:12]) + (", ..." if len(unknowns) > 12 else "") or "none"
        hint = "give known constants in parameters=, known functions in inputs=, and one equation for each unknown"
        if any(re.fullmatch(r"d\d?(t|x|y|z)\d?", name) for name in unknowns):
            hint = "write derivatives as suffixes: u_t for du/dt, u_xx for d2u/dx2"
        timed = [stem for one in parsed for stem, _ in one.rates.values()]
        for name in (name for name in unknowns if name not in timed):
            near = did_you_mean(name, idle or [*parameters, *fields, *timed])
            if idle or (near.startswith("did") and len(name) > 2):
                hint = f"{name!r} is declared nowhere" + (f", and {idle[0]!r} used nowhere: is one misspelt?" if idle else f": {near}")
        raise UsageError("Equation", "as many equations as unknowns", f"{len(texts)} equations for the unknowns {listed}", hint)
    if idle:
        raise UsageError("Equation", f"an equation in which {idle[0]!r} occurs", "none", "remove it, or look for a misspelt name")
    for name in unknowns:
        if name not in used and not any(stem == name for one in parsed for stem, _ in one.rates.values()):
            raise UsageError("Equation", f"{name!r} to remain in its equation", "terms that cancel", "look at the signs")


def _atoms(expression: sp.Expr) -> set[sp.Basic]:
    return expression.atoms(sp.Symbol, sp.core.function.AppliedUndef)


def _evolution(
    texts: tuple[str, ...],
    expressions: list[sp.Expr],
    unknowns: tuple[str, ...],
    orders: dict[str, int],
    known: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
) -> System:
    """Solve the equations that hold rates for the highest ones."""
    place = tuple(sp.Symbol(name, real=True) for name in known[0])

    def function(name: str) -> sp.Expr:
        return sp.Function(name)(*place)

    highest = {name: function(f"{name}_{'t' * order}") for name, order in orders.items()}
    timed = [k for k, e in enumerate(expressions) if any(e.has(rate) for rate in highest.values())]
    if len(timed) != len(orders):
        listed = ", ".join(str(rate.func) for rate in highest.values())
        raise UsageError("Equation", f"one equation for each of the rates {listed}", f"{len(timed)} equations with rates")
    matrix, right = _linear_in(texts, [expressions[k] for k in timed], list(highest.values()))
    solved = dict(zip(orders, matrix.inv() * right, strict=True))
    for rate in solved.values():
        fault = excess(rate)
        if fault is not None:
            raise UsageError("Equation", f"rates with {fault[0]}", fault[1], fault[2])
    state: list[str] = []
    rates: list[sp.Expr] = []
    for name in (name for name in unknowns if name in orders):
        if orders[name] == 1:
            state, rates = [*state, name], [*rates, solved[name]]
        else:
            state, rates = [*state, name, f"{name}_t"], [*rates, function(f"{name}_t"), solved[name]]
    auxiliary = tuple(name for name in unknowns if name not in orders)
    constraints = tuple(e for k, e in enumerate(expressions) if k not in timed)
    return System(known[0], tuple(state), auxiliary, known[1], known[2], tuple(rates), constraints, texts)


def _linear_in(texts: tuple[str, ...], expressions: list[sp.Expr], rates: list[sp.Expr]) -> tuple[sp.Matrix, sp.Matrix]:
    """Matrix and right side of ``expressions = 0`` as linear equations in the rates, whose factors must be constants."""
    zero = {rate: sp.Integer(0) for rate in rates}
    place = set(rates[0].args)
    rows, right = [], []
    for expression in expressions:
        if any(derivative.has(*rates) for derivative in expression.atoms(sp.Derivative)):
            hint = "name what has the rate: u_t - lap(u_t) = f becomes the two equations m_t = f and u - lap(u) = m"
            raise UsageError("Equation", "rates outside of derivatives in space", "a derivative of a rate", hint)
        row = [sp.diff(expression, rate) for rate in rates]
        if any(entry.atoms(sp.core.function.AppliedUndef) or entry.free_symbols & place for entry in row):
            got = "a function of a rate, or a rate times an unknown or a coordinate"
            raise UsageError("Equation", "rates times constants", got, "divide the equation by that factor")
        rows.append(row)
        right.append(-expression.xreplace(zero))
    matrix = sp.Matrix(rows)
    if len(rates) > 4 and not matrix.is_diagonal() and matrix.free_symbols:
        hint = "write each equation with a single rate, or give the parameters numbers"
        raise UsageError("Equation", "at most 4 rates coupled by parameters", f"{len(rates)}", hint)
    if matrix.det() == 0:
        raise UsageError("Equation", f"equations that determine the rates of {' and '.join(texts)}", "dependent ones")
    return matrix, sp.Matrix(right)
