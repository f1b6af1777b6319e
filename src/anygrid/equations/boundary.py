r"""Boundary conditions as text: ``"u = 0"``, ``"u_n = sin(pi*y)"``, ``{"x": ("u = 1", "u_n = 0")}``.

Two kinds are known, on each side of each bounded axis: the value (Dirichlet), and the derivative along the outward normal
(Neumann), which is :math:`-\partial_x u` at the lower end and :math:`+\partial_x u` at the upper one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import sympy as sp

from anygrid.equations.parse import Scope, parse_expression
from anygrid.equations.system import System
from anygrid.errors import UsageError, did_you_mean
from anygrid.grid import Interval

__all__ = ["Boundary", "Condition", "Kind", "Side", "derivative_orders", "make_boundary"]

Side = Literal["lower", "upper"]
Kind = Literal["value", "normal"]
_SIDES: tuple[Side, Side] = ("lower", "upper")


@dataclass(frozen=True)
class Condition:
    """``unknown = value`` (kind ``value``) or ``d unknown / dn = value`` (kind ``normal``) on one side of one axis.

    ``value`` is an expression in the coordinates and parameters.
    """

    unknown: str
    axis: str
    side: Side
    kind: Kind
    value: sp.Expr

    @property
    def homogeneous(self) -> bool:
        """Whether the value is zero."""
        return bool(self.value == 0)

    def __str__(self) -> str:
        return f"{self.unknown}{'_n' if self.kind == 'normal' else ''} = {self.value}"


@dataclass(frozen=True)
class Boundary:
    """Conditions on all bounded axes, at most one for each unknown and side."""

    conditions: tuple[Condition, ...] = ()

    def get(self, unknown: str, axis: str, side: Side) -> Condition | None:
        """Condition of this unknown on this side, ``None`` where there is none (periodic axes, unknowns that need none)."""
        for condition in self.conditions:
            if (condition.unknown, condition.axis, condition.side) == (unknown, axis, side):
                return condition
        return None

    def both(self, unknown: str, axis: str) -> tuple[Condition | None, Condition | None]:
        """Conditions at the lower and the upper end of an axis."""
        return self.get(unknown, axis, "lower"), self.get(unknown, axis, "upper")


def make_boundary(
    text: str | Mapping[str, str | tuple[str, ...]] | None,
    system: System,
    domain: Mapping[str, Interval],
) -> Boundary:
    """Read boundary conditions.

    Parameters
    ----------
    text
        Conditions separated by ``;``, for all sides of all bounded axes; or a mapping from axes to such texts, where a pair is the
        lower and the upper side. An empty text or ``None`` says nothing.
    system
        Gives the unknowns, the parameters a value may contain, and which unknowns need conditions: those differentiated
        twice or more along a bounded axis on both of its sides, and at least one where all derivatives are first. The rate ``u_t`` of an
        equation of second order in time inherits the kind of ``u``, with value zero.
    domain
        Interval of each coordinate.

    Raises
    ------
    UsageError
        For a missing condition, one on a periodic axis, two for one side, an unknown name, or text that is not understood.
    """
    bounded = [name for name, interval in domain.items() if not interval.periodic]
    found: dict[tuple[str, str, Side], Condition] = {}
    for axis, side, words in _assigned(text, domain, bounded):
        for part in words.split(";"):
            if not part.strip():
                continue
            condition = _read(part.strip(), axis, side, system)
            place = (condition.unknown, axis, side)
            if place in found:
                got = f"{found[place]} and {condition}"
                raise UsageError(_where(axis, side), f"one condition for {condition.unknown!r}", got, "remove one of them")
            found[place] = condition
    _inherit(found, system)
    for axis in bounded:
        _complete(found, system, axis)
    return Boundary(tuple(found.values()))


def derivative_orders(system: System, axis: str) -> dict[str, int]:
    """Highest order of derivative along ``axis`` of each unknown and field that occurs in the system."""
    highest: dict[str, int] = {}
    symbol = sp.Symbol(axis, real=True)
    for expression in (*system.rates, *system.constraints):
        for name, order in _orders(expression, symbol).items():
            highest[name] = max(order, highest.get(name, 0))
    return highest


def _orders(e: sp.Basic, axis: sp.Symbol) -> dict[str, int]:
    if isinstance(e, sp.core.function.AppliedUndef):
        return {str(e.func): 0}
    extra, parts = 0, e.args
    if isinstance(e, sp.Derivative):
        extra = sum(int(count) for symbol, count in e.variable_count if symbol == axis)
        parts = (e.expr,)
    found: dict[str, int] = {}
    for part in parts:
        for name, order in _orders(part, axis).items():
            found[name] = max(order + extra, found.get(name, 0))
    return found


def _where(axis: str, side: Side) -> str:
    return f"boundary, {side} side of {axis}"


def _assigned(
    text: str | Mapping[str, str | tuple[str, ...]] | None, domain: Mapping[str, Interval], bounded: list[str]
) -> list[tuple[str, Side, str]]:
    """Axis, side and text of every side that is spoken of."""
    if text is None:
        return []
    if isinstance(text, str):
        if text.strip() and not bounded:
            raise UsageError("boundary", "conditions on bounded axes only", f"{text!r} while every axis is periodic", "remove boundary=")
        return [(axis, side, text) for axis in bounded for side in _SIDES]
    assigned: list[tuple[str, Side, str]] = []
    for axis, given in text.items():
        if axis not in domain:
            raise UsageError("boundary", "the name of an axis", repr(axis), did_you_mean(axis, domain))
        pair = (given, given) if isinstance(given, str) else tuple(given)
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise UsageError(f"boundary of {axis}", "one text, or a pair for the lower and the upper side", repr(given))
        if domain[axis].periodic:
            if any(part.strip() for part in pair):
                hint = f"remove it, or declare {axis} with Bounded(...)"
                raise UsageError(f"boundary of {axis}", "no condition on a periodic axis", repr(given), hint)
            continue
        assigned += [(axis, side, part) for side, part in zip(_SIDES, pair, strict=True)]
    return assigned


def _read(text: str, axis: str, side: Side, system: System) -> Condition:
    where = _where(axis, side)
    left, equals, right = (part.strip() for part in text.partition("="))
    hint = "write 'u = value' or 'u_n = value' (derivative along the outward normal), conditions separated by ';'"
    if not equals or not left or not right or "=" in right:
        raise UsageError(where, "a condition 'left = right'", repr(text), hint)
    unknowns = (*system.state, *system.auxiliary)
    name, kind = left, "value"
    if left not in unknowns and left.endswith("_n"):
        name, kind = left[:-2], "normal"
    if name not in unknowns:
        stem, _, suffix = left.partition("_")
        if stem in unknowns and suffix in system.axes:
            raise UsageError(
                where, "a value or a normal derivative", repr(left), f"write {stem}_n, the derivative along the outward normal"
            )
        if not left.isidentifier():
            raise UsageError(where, "an unknown alone on the left", repr(left), hint)
        raise UsageError(where, "a condition on an unknown of the equation", repr(left), did_you_mean(name, unknowns))
    value = parse_expression(right, Scope(system.axes, system.parameters, (), unknowns=False))
    return Condition(name, axis, side, "value" if kind == "value" else "normal", value)


def _inherit(found: dict[tuple[str, str, Side], Condition], system: System) -> None:
    """What holds for ``u`` at all times holds for its rate, with value zero because no condition depends on time."""
    for name, rate in zip(system.state, system.rates, strict=False):
        if not isinstance(rate, sp.core.function.AppliedUndef):
            continue
        velocity = str(rate.func)
        if velocity not in system.state:
            continue
        for condition in [c for c in found.values() if c.unknown == name]:
            place = (velocity, condition.axis, condition.side)
            found.setdefault(place, Condition(velocity, condition.axis, condition.side, condition.kind, sp.Integer(0)))


def _complete(found: Mapping[tuple[str, str, Side], Condition], system: System, axis: str) -> None:
    """Refuse a bounded axis on which a condition is missing."""
    orders = derivative_orders(system, axis)
    unknowns = [name for name in (*system.state, *system.auxiliary) if orders.get(name, 0) > 0]
    for side in _SIDES:
        for name in unknowns:
            if orders[name] > 1 and (name, axis, side) not in found:
                hint = f"add boundary='{name} = 0' (value) or '{name}_n = 0' (no flux), or declare {axis} with Periodic(...)"
                raise UsageError(_where(axis, side), f"a condition for {name!r}", "none", hint)
    if unknowns and not any(place[1] == axis for place in found):
        hint = f"add boundary={{{axis!r}: ('{unknowns[0]} = 0', '')}} where it flows in, or declare {axis} with Periodic(...)"
        raise UsageError(f"boundary of {axis}", f"a condition for {unknowns[0]!r}", "none", hint)
