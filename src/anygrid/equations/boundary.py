r"""Boundary conditions as text: ``"u = 0"``, ``"u_n = sin(pi*y)"``, ``{"x": ("u = 1", "u_n = 0")}``.

Two kinds are known, on each side of each bounded axis: the value (Dirichlet), and the derivative along the outward normal
(Neumann), which is :math:`-\partial_x u` at the lower end and :math:`+\partial_x u` at the upper one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import sympy as sp

from anygrid.equations.expressions import plain
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

    ``value`` is an expression in the coordinates and parameters; that of a normal derivative may hold unknowns (a Robin condition).
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

    @property
    def known(self) -> bool:
        """Whether the value holds no unknown."""
        return not self.value.atoms(sp.core.function.AppliedUndef)

    def __str__(self) -> str:
        return f"{self.unknown}{'_n' if self.kind == 'normal' else ''} = {plain(self.value)}"


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

    def with_values(self, values: Mapping[str, float]) -> Boundary:
        """The same conditions with numbers for some parameters."""
        swap = {sp.Symbol(name, real=True): sp.Float(value) if value % 1 else sp.Integer(int(value)) for name, value in values.items()}
        return Boundary(tuple(replace(c, value=c.value.xreplace(swap)) for c in self.conditions))


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
    higher: list[tuple[Condition, int]] = []
    for axis, side, words in _assigned(text, domain, bounded):
        for part in words.split(";"):
            if not part.strip():
                continue
            condition, order = _read(part.strip(), axis, side, system)
            place = (condition.unknown, axis, side)
            if order > 1:
                higher.append((condition, order))
                continue
            if place in found:
                got = f"{found[place]} and {condition}"
                raise UsageError(_where(axis, side), f"one condition for {condition.unknown!r}", got, _one(condition, system))
            found[place] = condition
    for condition, order in higher:
        _check_implied(found.get((condition.unknown, condition.axis, condition.side)), condition, order, system)
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


_FORMS = "write 'u = value', 'u_n = value' or 'u_n + h*u = value' (u_n is the derivative along the outward normal), separated by ';'"


def _read(text: str, axis: str, side: Side, system: System) -> tuple[Condition, int]:
    """A condition and its order of derivative."""
    where = _where(axis, side)
    left, equals, right = (part.strip() for part in text.partition("="))
    if not equals or not left or not right or "=" in right:
        raise UsageError(where, "a condition 'left = right'", repr(text), _FORMS)
    unknowns = (*system.state, *system.auxiliary)
    high = re.fullmatch(rf"(\w+?)_(nn+|(?:{axis}){{2,}})", left)
    if high is not None and high[1] in unknowns:
        order = len(high[2]) if high[2][0] == "n" else len(high[2]) // len(axis)
        if order > 3 or right not in ("0", "0.0"):
            raise UsageError(where, "second and third derivatives of 0", repr(text), _FORMS)
        return Condition(high[1], axis, side, "normal" if order == 3 else "value", sp.Integer(0)), order
    for word in re.findall(r"[A-Za-z]\w*", left):
        stem, _, suffix = word.partition("_")
        if stem in unknowns and suffix in system.axes:
            got = repr(word)
            raise UsageError(where, "a value or a normal derivative", got, f"write {stem}_n, the derivative along the outward normal")
    slopes = {f"{name}_n": name for name in unknowns}
    if left.isidentifier() and left not in unknowns and left not in slopes:
        raise UsageError(where, "a condition on an unknown of the equation", repr(left), did_you_mean(left.removesuffix("_n"), unknowns))
    if left in unknowns:
        return Condition(left, axis, side, "value", _value(right, system, where)), 0
    scope = Scope(system.axes, system.parameters, (*unknowns, *slopes), unknowns=False)
    whole = _parsed(left, scope, where) - _parsed(right, scope, where)
    present = [name for name in slopes if whole.has(system.function(name))]
    if len(present) != 1:
        expected = "one normal derivative such as u_n, or an unknown alone on the left"
        raise UsageError(where, expected, repr(text), _FORMS)
    slope = system.function(present[0])
    factor = sp.diff(whole, slope)
    if factor.atoms(sp.core.function.AppliedUndef) or factor == 0:
        raise UsageError(where, f"{present[0]} times a constant", repr(text), _FORMS)
    return Condition(slopes[present[0]], axis, side, "normal", -whole.xreplace({slope: sp.Integer(0)}) / factor), 1


def _one(condition: Condition, system: System) -> str:
    """What to do about two conditions on one unknown."""
    if derivative_orders(system, condition.axis).get(condition.unknown, 0) < 3:
        return "remove one of them"
    u, xx = condition.unknown, condition.axis * 2
    return f"clamped ends are not there: '{u} = 0' means {u} = {u}_{xx} = 0, and '{u}_n = 0' means {u}_n = {u}_{xx}{condition.axis} = 0"


def _check_implied(lower: Condition | None, condition: Condition, order: int, system: System) -> None:
    """Refuse a second or third derivative of 0 but where reflection implies it: beside a value, or a first derivative, of 0."""
    u, where = condition.unknown, _where(condition.axis, condition.side)
    if derivative_orders(system, condition.axis).get(u, 0) < order + 1:
        raise UsageError(where, f"conditions of lower order than the derivatives of {u!r}", f"{u}_{'n' * order} = 0", "remove it")
    if lower is None or lower.kind != condition.kind or not lower.homogeneous:
        beside = f"{u} = 0" if order == 2 else f"{u}_n = 0"
        raise UsageError(where, f"'{beside}' beside '{u}_{'n' * order} = 0'", "none" if lower is None else str(lower), f"add {beside}")


def _value(text: str, system: System, where: str) -> sp.Expr:
    return _parsed(text, Scope(system.axes, system.parameters, (), unknowns=False), where)


def _parsed(text: str, scope: Scope, where: str) -> sp.Expr:
    try:
        return parse_expression(text, scope)
    except UsageError as error:
        raise UsageError(where, error.expected, error.got, error.hint) from error


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
