"""What equation text can say: its functions, its vector calculus, and how they become SymPy expressions.

An unknown or a known field is an applied SymPy function of the coordinates, a derivative an unevaluated ``Derivative``: ``div(a*grad(u))``
keeps its flux form, which finite volumes need, until somebody asks for ``.doit()``. A vector is a tuple of expressions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import sympy as sp

from anygrid.errors import UsageError

__all__ = ["COUNTED", "DERIVATIVE", "FUNCTIONS", "OPERATORS", "Value", "Vector", "derivative"]

Vector: TypeAlias = tuple[sp.Expr, ...]
Value: TypeAlias = sp.Expr | Vector
_LARGEST = 1000  # operations in a derivative carried out by SymPy

FUNCTIONS: dict[str, Callable[[sp.Expr], sp.Expr]] = {
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "exp": sp.exp,
    "log": sp.log,
    "sqrt": sp.sqrt,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "abs": sp.Abs,
    "sign": sp.sign,
}


def derivative(value: sp.Expr, axis: sp.Symbol, order: int = 1) -> sp.Expr:
    """Unevaluated derivative; sums are split and numbers taken out, which changes no flux form, and nested ones are joined.

    What holds no unknown and no field is differentiated at once: a grid need not resolve it.
    """
    if value.is_Add:
        return sp.Add(*[derivative(term, axis, order) for term in value.args])
    if not value.atoms(sp.core.function.AppliedUndef):
        for _ in range(order):
            value = sp.diff(value, axis)
            if value.count_ops() > _LARGEST:
                raise UsageError("equation", f"derivatives of at most {_LARGEST} operations", "more", "give this function as a field")
        return value
    constant, rest = value.as_independent(*value.atoms(sp.Symbol, sp.core.function.AppliedUndef), as_Add=False)
    if isinstance(rest, sp.Derivative):
        # In one order, so that u_xy and u_yx are the same.
        orders = {**dict(rest.variable_count), axis: dict(rest.variable_count).get(axis, 0) + order}
        return constant * sp.Derivative(rest.expr, *sorted(orders.items(), key=lambda item: item[0].name))
    return constant * sp.Derivative(rest, (axis, order))


def plain(e: sp.Expr) -> str:
    """An expression as a user would write it: ``u*u_x`` for ``u(x)*Derivative(u(x), x)``."""
    names: dict[sp.Expr, sp.Symbol] = {}
    for d in e.atoms(sp.Derivative):
        if isinstance(d.expr, sp.core.function.AppliedUndef):
            names[d] = sp.Symbol(f"{d.expr.func}_{''.join(str(axis) * int(count) for axis, count in d.variable_count)}")
    e = e.xreplace(names)
    return str(e.xreplace({f: sp.Symbol(str(f.func)) for f in e.atoms(sp.core.function.AppliedUndef)}))


def _grad(u: sp.Expr, axes: tuple[sp.Symbol, ...]) -> Vector:
    return tuple(derivative(u, x) for x in axes)


def _div(v: Vector, axes: tuple[sp.Symbol, ...]) -> sp.Expr:
    return sp.Add(*[derivative(part, x) for part, x in zip(v, axes, strict=True)])


def _lap(u: Value, axes: tuple[sp.Symbol, ...]) -> Value:
    if isinstance(u, tuple):
        return tuple(_scalar_laplacian(part, axes) for part in u)
    return _scalar_laplacian(u, axes)


def _scalar_laplacian(u: sp.Expr, axes: tuple[sp.Symbol, ...]) -> sp.Expr:
    return sp.Add(*[derivative(u, x, 2) for x in axes])


def _perp(u: sp.Expr, axes: tuple[sp.Symbol, ...]) -> Vector:
    """Velocity ``(u_y, -u_x)`` of the stream function ``u``, divergence-free, with ``curl(perp(u)) = -lap(u)``."""
    x, y = axes
    return derivative(u, y), -derivative(u, x)


def _curl(v: Vector, axes: tuple[sp.Symbol, ...]) -> Value:
    if len(axes) == 2:
        return derivative(v[1], axes[0]) - derivative(v[0], axes[1])
    return tuple(derivative(v[(k + 2) % 3], axes[(k + 1) % 3]) - derivative(v[(k + 1) % 3], axes[(k + 2) % 3]) for k in range(3))


# name: (function, kinds of its arguments, numbers of axes it exists in). "s" is a scalar, "v" a vector, "*" either.
OPERATORS: dict[str, tuple[Callable[..., Value], str, tuple[int, ...]]] = {
    "grad": (_grad, "s", (1, 2, 3)),
    "div": (_div, "v", (1, 2, 3)),
    "lap": (_lap, "*", (1, 2, 3)),
    "perp": (_perp, "s", (2,)),
    "curl": (_curl, "v", (2, 3)),
    "dot": (lambda v, w, axes: sp.Add(*[p * q for p, q in zip(v, w, strict=True)]), "vv", (1, 2, 3)),
}
COUNTED = "vec"  # vec(u, v[, w]): a vector from as many scalars as there are axes
DERIVATIVE = "d"  # d(e, x) or d(e, x, 2): derivative of an expression along one axis
