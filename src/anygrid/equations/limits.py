"""Bounds on expressions, so that no text makes SymPy run for ever or fill the memory.

SymPy computes with exact numbers of any length: it would write down all digits of ``9**9**9``. Whatever holds no symbol is therefore first
computed in double precision here, and refused if it is no finite real number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import sympy as sp

__all__ = ["DEGREE", "LARGEST", "ORDER", "excess", "function_of_number", "real_number"]

DEGREE, ORDER, LARGEST = 12, 8, 1e300  # of polynomials and powers, of derivatives in space, and of numbers
_NODES = 2000
_NOT_FINITE = (sp.zoo, sp.nan, sp.oo, -sp.oo, sp.I)


def excess(value: sp.Expr) -> tuple[str, str, str] | None:
    """What is expected, what was found and a hint, where an expression is too large or not finite and real; ``None`` where it is fine."""
    for count, part in enumerate(sp.preorder_traversal(value)):
        if count >= _NODES:
            return f"at most {_NODES} operations", "more", "introduce an unknown for a part of it"
        if part in _NOT_FINITE or (isinstance(part, sp.Expr) and part.is_number and real_number(part) is None):
            return (
                "a finite real expression",
                "a number that is not",
                "look for a division by 0, an overflow or a root of a negative number",
            )
        if part.is_Pow and part.exp.is_Rational and abs(part.exp) > DEGREE:
            return f"powers from -{DEGREE} to {DEGREE}", "a higher one", "scale the variables instead"
    degree, order = _degree(value), _order(value)
    if degree > DEGREE:
        return f"a polynomial degree of at most {DEGREE}", str(degree), "scale the variables instead"
    if order > ORDER:
        return f"derivatives up to order {ORDER}", str(order), "introduce an unknown for the inner ones"
    return None


def _degree(value: sp.Expr) -> int:
    """Bound on the degree of the expression in the unknowns, without expanding it."""
    if value.is_Add:
        return max(_degree(part) for part in value.args)
    if value.is_Mul:
        return sum(_degree(part) for part in value.args)
    if value.is_Pow and value.exp.is_Integer:
        return _degree(value.base) * abs(int(value.exp))
    if isinstance(value, sp.Derivative):
        return _degree(value.expr)
    return 1 if value.atoms(sp.core.function.AppliedUndef) else 0


def _order(value: sp.Basic) -> int:
    """Highest order of nested derivatives in space, were all carried out."""
    inner = max((_order(part) for part in value.args), default=0)
    return inner + sum(int(n) for _, n in value.variable_count) if isinstance(value, sp.Derivative) else inner


def real_number(e: sp.Expr) -> float | None:
    """Value of an expression without symbols; ``None`` where it is no finite real number, or one beyond 1e300."""
    return _guarded(_computed, e)


def function_of_number(name: str, e: sp.Expr) -> float | None:
    """Value of a function of :data:`~anygrid.equations.expressions.FUNCTIONS` by name, as in :func:`real_number`."""
    return _guarded(lambda argument: _NUMERIC[name](_computed(argument)), e)


def _guarded(compute: Callable[[sp.Expr], float], e: sp.Expr) -> float | None:
    try:
        value = compute(e)
    except (ArithmeticError, ValueError, TypeError):
        return None
    return value if abs(value) <= LARGEST else None


def _computed(e: sp.Expr) -> float:
    if not e.args:
        return float(e)
    values = [_computed(part) for part in e.args]
    if e.is_Add:
        return math.fsum(values)
    if e.is_Mul:
        return math.prod(values)
    if e.is_Pow:
        return math.pow(*values)
    return _NUMERIC[e.func.__name__.lower()](*values)


_NUMERIC: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "abs": abs,
    "sign": lambda x: math.copysign(1.0, x) if x else 0.0,
}
