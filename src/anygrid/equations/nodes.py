"""Equations on the points of a box: which differences stand for which derivative, and the partial derivatives of every expression.

An expression becomes a tree of nodes. A node is a formula at one set of places (the vertices, or the faces across an axis) whose
arguments are unknowns, known quantities and other nodes, each brought to those places by differences and means along lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sympy as sp

from anygrid.equations.boundary import Boundary
from anygrid.equations.expressions import derivative
from anygrid.equations.system import System
from anygrid.equations.tape import Tape, record
from anygrid.errors import UsageError
from anygrid.grid import Box
from anygrid.numerics.lines import LineOperator, at_faces, at_vertices, flux_difference

__all__ = ["Argument", "Builder", "Node", "Stage", "expanded", "has_coefficient_in_flux"]

Undefined = sp.core.function.AppliedUndef


@dataclass(frozen=True, eq=False)
class Stage:
    """One operator along one axis; ``data`` says whether the normal derivatives given for the unknown enter here."""

    dim: int
    operator: LineOperator
    data: bool = False


@dataclass(frozen=True, eq=False)
class Argument:
    """An unknown (by its place), a known quantity (by its name) or a node, with the operators that bring it to its places.

    ``slopes`` are normal derivatives at the lower and the upper end that depend on unknowns (Robin conditions), as nodes at the vertices.
    """

    source: int | str | Node
    stages: tuple[Stage, ...] = ()
    slopes: tuple[Node | None, Node | None] = (None, None)


@dataclass(frozen=True, eq=False)
class Node:
    """Formula at the vertices (``faces`` is ``None``) or at the faces across one axis.

    Attributes
    ----------
    value, partials
        Tapes of the formula, and of its derivatives by the arguments named in ``varying``.
    constants
        Derivatives by arguments where they are numbers.
    arguments
        What the leaves of the tapes stand for.
    linear
        Whether no derivative depends on an unknown.
    """

    faces: int | None
    value: Tape
    partials: Tape
    varying: tuple[str, ...]
    constants: dict[str, float]
    arguments: dict[str, Argument] = field(repr=False)
    linear: bool


def has_coefficient_in_flux(expressions: Sequence[sp.Expr], fields: Sequence[str]) -> bool:
    """Whether a known field stands beside an unknown inside a derivative, as a coefficient that may jump."""
    for expression in expressions:
        for outer in expression.atoms(sp.Derivative):
            names = {str(atom.func) for atom in outer.expr.atoms(Undefined)}
            if names & set(fields) and names - set(fields):
                return True
    return False


def expanded(e: sp.Expr, axis: sp.Symbol) -> sp.Expr:
    """Derivative of an expression by the chain rule, down to derivatives of single unknowns and fields."""
    leaves = _leaves(e)
    swap = {leaf: sp.Dummy(real=True) for leaf in leaves}
    inner = e.xreplace(swap)
    back = {symbol: leaf for leaf, symbol in swap.items()}
    total = sp.diff(inner, axis).xreplace(back)
    for leaf, symbol in swap.items():
        outer = expanded(_opened(leaf), axis) if _composite(leaf) else derivative(leaf, axis)
        total += _slope(inner, symbol).xreplace(back) * outer
    return total


def _opened(e: sp.Derivative) -> sp.Expr:
    """A derivative of a composite expression, written out."""
    inner = e.expr
    for axis, count in e.variable_count:
        for _ in range(int(count)):
            inner = expanded(inner, axis)
    return inner


def _composite(e: sp.Expr) -> bool:
    return isinstance(e, sp.Derivative) and not isinstance(e.expr, Undefined)


def _leaves(e: sp.Basic) -> list[sp.Expr]:
    """Outermost derivatives, unknowns and fields."""
    if isinstance(e, (sp.Derivative, Undefined)):
        return [e]
    return list(dict.fromkeys(leaf for part in e.args for leaf in _leaves(part)))


def _slope(e: sp.Expr, by: sp.Symbol) -> sp.Expr:
    return sp.diff(e, by).replace(sp.DiracDelta, lambda *_: sp.Integer(0))  # the derivative of a sign: zero but for one value


class Builder:
    """Makes nodes for the expressions of one system on one grid.

    Parameters
    ----------
    order
        2: derivatives of expressions are differences of fluxes at the faces, conservative and second order. 4: derivatives of
        expressions are written out by the chain rule and every derivative is a fourth-order difference.
    """

    def __init__(self, system: System, unknowns: tuple[str, ...], box: Box, boundary: Boundary, order: int) -> None:
        self.system, self.unknowns, self.box, self.boundary, self.order = system, unknowns, box, boundary, order
        self.axes = system.coordinates
        self.made: dict[tuple[sp.Expr, int | None], Node] = {}

    def node(self, e: sp.Expr, faces: int | None = None) -> Node:
        """Node of an expression."""
        if (e, faces) not in self.made:
            self.made[e, faces] = self._node(e, faces)
        return self.made[e, faces]

    def _node(self, e: sp.Expr, faces: int | None) -> Node:
        arguments: dict[str, Argument] = {}
        swap: dict[sp.Expr, sp.Symbol] = {}
        formula = self._formula(e, faces, arguments, swap)
        moving = [name for name, argument in arguments.items() if self._moves(argument)]
        symbols = [sp.Symbol(name, real=True) for name in moving]
        slopes = {name: _slope(formula, symbol) for name, symbol in zip(moving, symbols, strict=True)}
        constants = {name: float(slope) for name, slope in slopes.items() if slope.is_number and slope != 0}
        varying = tuple(name for name, slope in slopes.items() if not slope.is_number)
        linear = not any(slopes[name].has(*symbols) for name in varying)
        inner = [node for a in arguments.values() for node in (a.source, *a.slopes) if isinstance(node, Node)]
        linear = linear and all(node.linear for node in inner)
        tapes = record([formula], self.axes), record([slopes[name] for name in varying], self.axes)
        return Node(faces, *tapes, varying, constants, arguments, linear)

    def _moves(self, argument: Argument) -> bool:
        """Whether an argument depends on an unknown."""
        source = argument.source
        return isinstance(source, int) or (isinstance(source, Node) and bool(source.varying or source.constants))

    def _formula(self, e: sp.Expr, faces: int | None, arguments: dict[str, Argument], swap: dict[sp.Expr, sp.Symbol]) -> sp.Expr:
        """The expression with a plain symbol in place of each argument."""
        if e in swap:
            return swap[e]
        if isinstance(e, (sp.Derivative, Undefined)):
            if _composite(e) and (self.order > 2 or not e.atoms(Undefined)):
                return self._formula(_opened(e), faces, arguments, swap)
            argument = self._flux(e, faces) if _composite(e) else self._leaf(e, faces)
            name = f"argument {len(arguments)}"  # a space keeps it apart from the names of the user
            arguments[name], swap[e] = argument, sp.Symbol(name, real=True)
            return swap[e]
        if e.is_Symbol:
            arguments.setdefault(str(e), Argument(str(e)))
            return e
        return e.func(*[self._formula(part, faces, arguments, swap) for part in e.args]) if e.args else e

    def _leaf(self, e: sp.Expr, faces: int | None) -> Argument:
        """An unknown or a field, or a derivative of one."""
        orders = [0] * len(self.axes)
        if isinstance(e, sp.Derivative):
            for axis, count in e.variable_count:
                orders[self.axes.index(axis)] += int(count)
        name = str((e.expr if isinstance(e, sp.Derivative) else e).func)
        source: int | str = self.unknowns.index(name) if name in self.unknowns else name
        pure = isinstance(source, int) and sum(order > 0 for order in orders) == 1
        stages = []
        slopes: tuple[Node | None, Node | None] = (None, None)
        for k, order in enumerate(orders):
            if order == 0 or (k == faces and order == 1):
                continue
            given = self._given(name, k) if pure and order <= 2 else (False, False)
            slopes = self._slopes(name, k) if any(given) else slopes
            self._possible(name, k, order, isinstance(source, int))
            stages.append(Stage(k, at_vertices(self.box.axes[k], order, self.order, given), any(given)))
        if faces is not None:
            slope = orders[faces] == 1
            given = self._given(name, faces) if pure and slope else (False, False)
            slopes = self._slopes(name, faces) if any(given) else slopes
            stages.append(Stage(faces, at_faces(self.box.axes[faces], int(slope), given), any(given)))
        return Argument(source, tuple(stages), slopes)

    def _slopes(self, name: str, k: int) -> tuple[Node | None, Node | None]:
        """Normal derivatives that depend on unknowns."""
        sides = self.boundary.both(name, self.box.axes[k].name)
        lower, upper = (None if c is None or c.kind != "normal" or c.known else self.node(c.value) for c in sides)
        return lower, upper

    def _given(self, name: str, k: int) -> tuple[bool, bool]:
        lower, upper = self.boundary.both(name, self.box.axes[k].name)
        return lower is not None and lower.kind == "normal", upper is not None and upper.kind == "normal"

    def _possible(self, name: str, k: int, order: int, unknown: bool) -> None:
        axis = self.box.axes[k]
        if unknown and order > 2 and not axis.periodic:
            hint = f"introduce another unknown, such as w = {name}_{axis.name * 2}, with a condition of its own"
            raise UsageError(
                "Equation", f"at most second derivatives along the bounded axis {axis.name!r}", f"order {order} of {name!r}", hint
            )

    def _flux(self, e: sp.Derivative, faces: int | None) -> Argument:
        """A derivative of a composite expression: the difference of its values at the faces or at the vertices."""
        counts = [(axis, int(count)) for axis, count in e.variable_count]
        outer, last = counts[-1]
        inner = e.expr
        for axis, count in [*counts[:-1], (outer, last - 1)]:
            for _ in range(count):
                inner = expanded(inner, axis)
        k = self.axes.index(outer)
        axis = self.box.axes[k]
        if faces == k:
            return Argument(self.node(inner), (Stage(k, at_faces(axis, 1)),))
        if any(outer in [symbol for symbol, _ in part.variable_count] for part in inner.atoms(sp.Derivative)):
            argument = Argument(self.node(inner, k), (Stage(k, flux_difference(axis)),))
        else:
            argument = Argument(self.node(inner), (Stage(k, at_vertices(axis, 1, 2)),))
        if faces is None:
            return argument
        return Argument(argument.source, (*argument.stages, Stage(faces, at_faces(self.box.axes[faces], 0))))
