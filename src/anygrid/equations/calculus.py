"""Derivatives of expressions that keep derivatives in space as they are: by a direction in the unknowns, and the product rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import sympy as sp

from anygrid.equations.expressions import derivative
from anygrid.equations.system import System

__all__ = ["ALONG", "directional", "product_rule"]

ALONG = "'"  # marks the direction of an unknown; no name in a text can end so
_LONGEST = 3000  # operations of an expression to which the product rule is applied


@lru_cache(maxsize=64)
def directional(system: System, expressions: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
    r"""Derivatives :math:`F'(u) v` of expressions in a direction, whose components are functions named after the unknowns with ``ALONG``.

    Auxiliary unknowns have directions of their own.
    """
    unknowns = {system.function(name): sp.Function(f"{name}{ALONG}")(*system.coordinates) for name in (*system.state, *system.auxiliary)}

    def along(e: sp.Expr) -> sp.Expr:
        if isinstance(e, sp.core.function.AppliedUndef):
            return unknowns.get(e, sp.Integer(0))
        if isinstance(e, sp.Derivative):
            inner = along(e.expr)
            return sp.Integer(0) if inner == 0 else sp.Derivative(inner, *e.variable_count)
        return _chained(e, along)

    return tuple(along(e) for e in expressions)


def product_rule(e: sp.Expr, axes: tuple[sp.Symbol, ...]) -> sp.Expr:
    """Derivatives of composites along these axes as derivatives of functions alone, unless that makes the expression too long."""
    if isinstance(e, sp.Derivative) and not isinstance(e.expr, sp.core.function.AppliedUndef):
        inner = product_rule(e.expr, axes)
        for axis, order in e.variable_count:
            for _ in range(int(order)):
                opened = inner.count_ops() < _LONGEST and axis in axes
                inner = _along_axis(inner, axis) if opened else derivative(inner, axis)
        return inner
    return e if not e.args or isinstance(e, sp.Derivative) else e.func(*[product_rule(part, axes) for part in e.args])


def _along_axis(e: sp.Expr, axis: sp.Symbol) -> sp.Expr:
    return _chained(e, lambda leaf: derivative(leaf, axis)) + _chained(e, None, axis)


def _chained(e: sp.Expr, direction: Callable[[sp.Expr], sp.Expr] | None, axis: sp.Symbol | None = None) -> sp.Expr:
    """Chain rule over the functions and derivatives in an expression; without ``direction`` its derivative along ``axis`` at fixed ones."""
    slots = {leaf: sp.Dummy(real=True) for leaf in _leaves(e)}
    back = {slot: leaf for leaf, slot in slots.items()}
    opened = e.xreplace(slots)
    steps = [(axis, sp.Integer(1))] if direction is None else [(slot, direction(leaf)) for leaf, slot in slots.items()]
    terms = [sp.diff(opened, slot) * step for slot, step in steps if step != 0]
    # The derivative of sign is 0 wherever it exists.
    return sp.Add(*terms).replace(sp.DiracDelta, lambda *_: sp.Integer(0)).xreplace(back)


def _leaves(e: sp.Basic) -> set[sp.Expr]:
    """Largest parts that are functions or derivatives."""
    if isinstance(e, sp.Derivative | sp.core.function.AppliedUndef):
        return {e}
    return {leaf for part in e.args for leaf in _leaves(part)}
