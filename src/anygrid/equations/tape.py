"""SymPy expressions as a short list of torch operations, each common part computed once.

What an expression is built from (unknowns, fields, parameters, coordinates, and derivatives of unknowns and fields) is handed in as
tensors: the caller alone knows how to differentiate on its grid. Derivatives of composite expressions, such as the flux in
``div(a*grad(u))``, are asked for through a function while the tape runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp
import torch
from torch import Tensor

from anygrid.equations.limits import real_number
from anygrid.errors import UsageError

__all__ = ["Differentiate", "Leaf", "Orders", "Tape", "record"]

Orders = tuple[int, ...]
Differentiate = Callable[[Tensor, Orders], Tensor]


@dataclass(frozen=True)
class Leaf:
    """A named quantity, or its derivative of these orders along the axes (all zero: the quantity itself)."""

    name: str
    orders: Orders


@dataclass(frozen=True)
class Tape:
    """Operations in order; each makes one value from earlier ones.

    Attributes
    ----------
    leaves
        What a call must be given, in this order.
    """

    leaves: tuple[Leaf, ...]
    operations: tuple[tuple[Callable[..., Tensor], tuple[int, ...]] | tuple[Orders, tuple[int, ...]] | float, ...]
    results: tuple[int, ...]

    def __call__(self, leaves: Sequence[Tensor], differentiate: Differentiate) -> tuple[Tensor, ...]:
        """Values of the expressions for values of the leaves, which broadcast against each other."""
        like = leaves[0] if leaves else torch.zeros((), dtype=torch.float64)
        values: list[Tensor] = list(leaves)
        for operation in self.operations:
            if isinstance(operation, float):
                values.append(torch.full((), operation, dtype=like.dtype, device=like.device))
                continue
            what, places = operation
            arguments = [values[k] for k in places]
            values.append(what(*arguments) if callable(what) else differentiate(arguments[0], what))
        return tuple(values[k] for k in self.results)


def record(expressions: Sequence[sp.Expr], axes: Sequence[sp.Symbol]) -> Tape:
    """Tape that computes the expressions.

    Raises
    ------
    UsageError
        For a function that has no counterpart here, or a number that is not finite and real.

    Notes
    -----
    Fractional powers of negative values are NaN, as in torch, and so are the derivatives of ``sqrt`` and ``abs(u)**0.5`` at 0 infinite.
    """
    writer = _Writer(tuple(axes))
    results = [writer.place(expression) for expression in expressions]
    # Leaves come first in the list of values, so places of operations follow their count.
    count = len(writer.leaves)
    at = [k if kind == "leaf" else count + k for kind, k in writer.places]

    operations = tuple(o if isinstance(o, float) else (o[0], tuple(at[k] for k in o[1])) for o in writer.operations)
    return Tape(tuple(writer.leaves), operations, tuple(at[k] for k in results))  # type: ignore[arg-type]


class _Writer:
    def __init__(self, axes: tuple[sp.Symbol, ...]) -> None:
        self.axes = axes
        self.leaves: list[Leaf] = []
        self.operations: list[tuple[Callable[..., Tensor] | Orders, tuple[int, ...]] | float] = []
        self.places: list[tuple[str, int]] = []
        self.known: dict[sp.Expr, int] = {}

    def place(self, e: sp.Expr) -> int:
        if e not in self.known:
            self.known[e] = self.write(e)
        return self.known[e]

    def write(self, e: sp.Expr) -> int:
        if e.is_number:
            value = real_number(e)
            if value is None:
                raise UsageError("Equation", "finite real numbers", str(e.func.__name__), "look for a division by 0 or an overflow")
            return self.operation(value)
        if e.is_Symbol:
            return self.leaf(str(e), (0,) * len(self.axes))
        if isinstance(e, sp.core.function.AppliedUndef):
            return self.leaf(str(e.func), (0,) * len(self.axes))
        if isinstance(e, sp.Derivative):
            orders = [0] * len(self.axes)
            for axis, order in e.variable_count:
                orders[self.axes.index(axis)] += int(order)
            if isinstance(e.expr, sp.core.function.AppliedUndef):
                return self.leaf(str(e.expr.func), tuple(orders))
            return self.operation((tuple(orders), (self.place(e.expr),)))
        if e.is_Add:
            return self.sum(list(e.args))
        if e.is_Mul:
            return self.chain(torch.mul, list(e.args))
        if e.is_Pow:
            return self.power(e)
        if type(e) not in _FUNCTIONS:
            raise UsageError("Equation", "functions that can be computed", str(e.func))
        return self.operation((_FUNCTIONS[type(e)], (self.place(e.args[0]),)))

    def chain(self, function: Callable[..., Tensor], parts: list[sp.Expr]) -> int:
        """Numbers and constants first: they are cheap to combine."""
        parts = sorted(parts, key=lambda p: bool(p.atoms(sp.core.function.AppliedUndef)))
        total = self.place(parts[0])
        for part in parts[1:]:
            total = self.operation((function, (total, self.place(part))))
        return total

    def sum(self, parts: list[sp.Expr]) -> int:
        """Terms with a negative factor are subtracted, where there is something to subtract them from."""
        parts = sorted(parts, key=lambda p: (bool(p.atoms(sp.core.function.AppliedUndef)), _negative(p)))
        total = self.place(parts[0])
        for part in parts[1:]:
            what, part = (torch.sub, -part) if _negative(part) else (torch.add, part)
            total = self.operation((what, (total, self.place(part))))
        return total

    def power(self, e: sp.Expr) -> int:
        base, exponent = e.base, e.exp
        if exponent.is_Float and float(exponent).is_integer():
            exponent = sp.Integer(int(exponent))  # pow would give the same, and NaN slopes for some bases
        if exponent in (0, 1):
            return self.place(base**exponent)
        if abs(exponent) == sp.Rational(1, 2):
            return self.operation((torch.sqrt if exponent > 0 else torch.rsqrt, (self.place(base),)))
        if exponent.is_Integer and int(exponent) < 0:
            inverse = base if exponent == -1 else base ** (-exponent)
            return self.operation((torch.reciprocal, (self.place(inverse),)))
        if exponent.is_Integer:  # products: exact for negative bases, and faster than pow
            half = int(exponent) // 2
            rest = int(exponent) - half
            return self.operation((torch.mul, (self.place(base**half), self.place(base**rest))))
        return self.operation((torch.pow, (self.place(base), self.place(exponent))))

    def leaf(self, name: str, orders: Orders) -> int:
        self.leaves.append(Leaf(name, orders))
        self.places.append(("leaf", len(self.leaves) - 1))
        return len(self.places) - 1

    def operation(self, what: tuple[Callable[..., Tensor] | Orders, tuple[int, ...]] | float) -> int:
        self.operations.append(what)
        self.places.append(("operation", len(self.operations) - 1))
        return len(self.places) - 1


def _negative(e: sp.Expr) -> bool:
    return bool(e.as_coeff_Mul()[0].is_negative)


_FUNCTIONS: Mapping[type, Callable[..., Tensor]] = {
    sp.sin: torch.sin,
    sp.cos: torch.cos,
    sp.tan: torch.tan,
    sp.exp: torch.exp,
    sp.log: torch.log,
    sp.sinh: torch.sinh,
    sp.cosh: torch.cosh,
    sp.tanh: torch.tanh,
    sp.Abs: torch.abs,
    sp.sign: torch.sign,
}
