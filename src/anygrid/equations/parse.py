"""Text to SymPy by a grammar of our own. Nothing is ever evaluated as Python, and size and depth are bounded.

::

    equation   = sum "=" sum
    sum        = product { ("+" | "-") product }
    product    = unary { ("*" | "/") unary }
    unary      = ("+" | "-") unary | power
    power      = atom [ "**" unary ]
    atom       = number | name | name "(" sum { "," sum } ")" | "(" sum ")"

A name may carry derivatives after an underscore: ``u_t``, ``u_tt``, ``u_xx``, ``u_xxy``; ``d(e, x)`` and ``d(e, x, 2)`` differentiate an
expression. A declared parameter or field of that name comes first. Precedence is Python's: ``-u**2`` is ``-(u**2)``, ``2**-1`` is allowed.
Roots and other fractional powers of negative values are NaN, as in torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import sympy as sp

from anygrid.equations.expressions import COUNTED, DERIVATIVE, FUNCTIONS, OPERATORS, Value, derivative
from anygrid.equations.limits import DEGREE, LARGEST, ORDER, excess, function_of_number, real_number
from anygrid.equations.tokens import Tokens
from anygrid.errors import did_you_mean

__all__ = ["Parsed", "Scope", "parse_equation", "parse_expression"]

_DEPTH, _CALLS = 60, 80
_CONSTANTS: dict[str, sp.Expr] = {"pi": sp.pi}
_CLOCK = (
    "a map has no clock: let unknowns oscillate, s_t = w*c and c_t = -w*s with initial s = 0 and c = 1 for s = sin(w*t), "
    "or count with q_t = 1"
)
_MEANT = {"laplacian": "lap", "laplace": "lap", "delta": "lap", "gradient": "grad", "nabla": "grad", "divergence": "div", "rot": "curl"}
_MEANT |= {"ln": "log", "diff": "d", "derivative": "d", "fabs": "abs", "sgn": "sign"}
_INNER = "name what has the rate: u_t - u_xxt = f becomes the two equations m_t = f and u - u_xx = m"


@dataclass(frozen=True)
class Scope:
    """The names a text may use: coordinates in the order of the domain, constants, and known functions of position.

    Every other name is an unknown where ``unknowns`` is true, and an error elsewhere.
    """

    axes: tuple[str, ...]
    parameters: Collection[str] = ()
    fields: Collection[str] = ()
    unknowns: bool = True

    @property
    def coordinates(self) -> tuple[sp.Symbol, ...]:
        """Symbols of the coordinates."""
        return tuple(sp.Symbol(name, real=True) for name in self.axes)


@dataclass
class Parsed:
    """Left side minus right side, and the unknowns met; ``u_t`` is an unknown of that name with an entry in ``rates``."""

    expression: sp.Expr
    unknowns: list[str] = field(default_factory=list)
    rates: dict[str, tuple[str, int]] = field(default_factory=dict)  # name of the rate -> (unknown, order in time)


def parse_equation(text: str, scope: Scope) -> Parsed:
    """Read ``left = right``.

    Raises
    ------
    UsageError
        Pointing at the place in the text that is not understood.
    """
    reader = _Reader(text, scope)
    left = reader.scalar(reader.sum(), 0)
    reader.tokens.expect("=")
    place = reader.tokens.place
    right = reader.scalar(reader.sum(), place)
    reader.tokens.end()
    return Parsed(reader.bounded(left - right), reader.unknowns, reader.rates)


def parse_expression(text: str, scope: Scope) -> sp.Expr:
    """Read an expression without ``=``, such as a forcing, with the errors of :func:`parse_equation`."""
    reader = _Reader(text, scope)
    value = reader.scalar(reader.sum(), 0)
    reader.tokens.end()
    return reader.bounded(value)


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, scope: Scope) -> None:
        self.tokens, self.scope = Tokens(text), scope
        self.unknowns: list[str] = []
        self.rates: dict[str, tuple[str, int]] = {}
        self.depth = self.calls = 0

    # Grammar

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.tokens.error(self.tokens.place, f"at most {_DEPTH} nested parentheses", "more", "simplify the expression")
        start = self.tokens.place
        values = [self.product()]
        while (sign := self.tokens.next("+", "-")) is not None:
            place = self.tokens.place
            value = self.product()
            if isinstance(value, tuple) != isinstance(values[0], tuple):
                hint = (
                    "use dot, div or a component" if len(self.scope.axes) > 1 else f"with one axis write u_{self.scope.axes[0]} for grad(u)"
                )
                raise self.tokens.error(place, "two scalars or two vectors to add", "a scalar and a vector", hint)
            values.append(_negative(value) if sign == "-" else value)
        self.depth -= 1
        if len(values) == 1:
            return values[0]
        # All at once: SymPy takes time in proportion to the length for every single addition.
        if isinstance(values[0], tuple):
            return tuple(self.bounded(sp.Add(*parts), start) for parts in zip(*values, strict=True))
        return self.bounded(sp.Add(*values), start)

    def product(self) -> Value:
        start, first = self.tokens.place, self.unary()
        vector = first if isinstance(first, tuple) else None
        factors = [] if isinstance(first, tuple) else [first]
        while (operator := self.tokens.next("*", "/")) is not None:
            place = self.tokens.place
            other = self.unary()
            if operator == "/":
                other = self.scalar(other, place)
                if other == 0:
                    raise self.tokens.error(place, "a divisor other than 0", "0")
                other = 1 / other
            if not isinstance(other, tuple):
                factors.append(other)
            elif vector is None:
                vector = other
            else:
                raise self.tokens.error(place, "a scalar factor", "two vectors", "write dot(v, w)")
        if vector is None:
            return factors[0] if len(factors) == 1 else self.bounded(sp.Mul(*factors), start)
        return tuple(self.bounded(sp.Mul(*factors, part), start) for part in vector) if factors else vector

    def unary(self) -> Value:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.tokens.error(
                self.tokens.place, f"at most {_DEPTH} signs and powers in each other", "more", "simplify the expression"
            )
        sign = self.tokens.next("+", "-")
        value = self.unary() if sign else self.power()
        self.depth -= 1
        return _negative(value) if sign == "-" else value

    def power(self) -> Value:
        base, place = self.atom(), self.tokens.place
        if self.tokens.next("**") is None:
            return base
        place = self.tokens.place
        exponent = self.scalar(self.unary(), place)
        base = self.scalar(base, place)
        if not exponent.is_number and exponent.atoms(sp.core.function.AppliedUndef):
            raise self.tokens.error(place, "a number or parameter as exponent", "an unknown", "write exp(v*log(u))")
        size = real_number(exponent)
        # SymPy computes powers of numbers exactly, and 9**9**9 would never end.
        if size is not None and abs(size) > DEGREE:
            raise self.tokens.error(place, f"an exponent from -{DEGREE} to {DEGREE}", f"{size:g}", "scale the variables instead")
        if base == 0 and (size is None or size < 0):
            raise self.tokens.error(place, "a base other than 0", "0")
        if exponent.is_Float and size is not None and (4 * size).is_integer():
            exponent = sp.Rational(round(4 * size), 4)  # u**2.0 is u**2, and u**0.5 is sqrt(u)
        if base.is_number and exponent.is_number and not (base.is_Integer and exponent.is_Integer):
            root = real_number(sp.Pow(base, exponent, evaluate=False))
            if root is None:
                raise self.tokens.error(place, "a finite real power", "one that is not", "look at the sign and the size of the base")
            if not exponent.is_Integer and exponent not in (sp.Rational(1, 2), sp.Rational(-1, 2)):
                return sp.Float(root)  # other roots of numbers are simplified by SymPy, which factors them
        return self.bounded(base**exponent, place)

    def atom(self) -> Value:
        kind, text, place = self.tokens.current
        if kind == "number":
            self.tokens.advance()
            if float(text) > LARGEST:
                raise self.tokens.error(place, f"numbers up to {LARGEST:g}", text[:40], "scale the variables instead")
            return sp.Integer(int(text)) if text.isdigit() and len(text) < 16 else sp.Float(float(text))
        if self.tokens.next("(") is not None:
            value = self.sum()
            self.tokens.expect(")")
            return value
        if kind != "name":
            raise self.tokens.error(place, "a number, a name or '('", self.tokens.found, "an operand is missing here")
        self.tokens.advance()
        return self.call(text, place) if self.tokens.next("(") is not None else self.name(text, place)

    def call(self, name: str, place: int) -> Value:
        if name == DERIVATIVE:
            return self.derived(place)
        if name not in _CALLED:
            hint = f"write {_MEANT[name.lower()]}" if name.lower() in _MEANT else did_you_mean(name, _CALLED)
            raise self.tokens.error(place, "a function", f"{name!r} before '('", f"{hint} (a product is written {name}*(...))")
        values = [self.sum()]
        while self.tokens.next(","):
            values.append(self.sum())
        self.tokens.expect(")")
        axes = self.scope.coordinates
        if name == COUNTED or name in FUNCTIONS:
            count = len(axes) if name == COUNTED else 1
            if len(values) != count:
                raise self.tokens.error(place, f"{name} of {count} argument{'s'[: count != 1]}", f"{len(values)}")
            parts = tuple(self.scalar(value, place) for value in values)
            return parts if name == COUNTED else self.applied(name, parts[0], place)
        function, kinds, dimensions = OPERATORS[name]
        if len(axes) not in dimensions:
            raise self.tokens.error(place, f"{name} in {' or '.join(map(str, dimensions))} dimensions", f"{len(axes)}")
        if len(values) != len(kinds):
            raise self.tokens.error(place, f"{name} of {len(kinds)} arguments", f"{len(values)}")
        for value, wanted in zip(values, kinds, strict=True):
            if wanted != "*" and isinstance(value, tuple) != (wanted == "v"):
                expected = "a vector" if wanted == "v" else "a scalar"
                raise self.tokens.error(
                    place, f"{expected} in {name}", "a scalar" if wanted == "v" else "a vector", "grad and vec make vectors"
                )
        result = function(*values, axes)
        if isinstance(result, tuple):
            return tuple(self.bounded(part, place) for part in result)
        return self.bounded(result, place)

    def applied(self, name: str, argument: sp.Expr, place: int) -> sp.Expr:
        """A function of a scalar; of a number only where it has a value, which SymPy may take for ever to find."""
        self.calls += 1
        if self.calls > _CALLS:  # each takes SymPy some milliseconds
            raise self.tokens.error(place, f"at most {_CALLS} calls of functions", "more", "give a part of the expression as a field")
        if argument.is_number and function_of_number(name, argument) is None:
            raise self.tokens.error(place, "a finite real expression", f"{name} of a number where it has no such value")
        return self.bounded(FUNCTIONS[name](argument), place)

    def derived(self, place: int) -> sp.Expr:
        """``d(e, x)`` and ``d(e, x, n)``, after its parenthesis."""
        at = self.tokens.place
        value = self.scalar(self.sum(), at)
        self.tokens.expect(",")
        kind, axis, at = self.tokens.current
        if kind != "name" or axis not in (*self.scope.axes, "t"):
            raise self.tokens.error(at, "an axis as second argument of d", self.tokens.found, did_you_mean(axis, [*self.scope.axes, "t"]))
        self.tokens.advance()
        order = 1
        if self.tokens.next(",") is not None:
            kind, text, at = self.tokens.current
            if kind != "number" or not text.isdigit() or not 1 <= int(text[:4]) <= ORDER:
                raise self.tokens.error(at, f"an order from 1 to {ORDER}", self.tokens.found, "d(u, x, 2) is the second derivative")
            order = int(text[:4])
            self.tokens.advance()
        self.tokens.expect(")")
        if axis not in self.scope.axes:
            name = str(value.func)
            if value != sp.Function(name)(*self.scope.coordinates):
                raise self.tokens.error(place, "the rate of an unknown", "that of an expression", _INNER)
            return self.differentiated(name, {"t": order}, place)
        return self.bounded(derivative(value, self.scope.coordinates[self.scope.axes.index(axis)], order), place)

    def name(self, name: str, place: int) -> Value:
        scope = self.scope
        if name in scope.axes:
            return scope.coordinates[scope.axes.index(name)]
        if name in scope.parameters:
            return sp.Symbol(name, real=True)
        if name in scope.fields:
            return self.field(name, place)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in _CALLED:
            raise self.tokens.error(place, f"'(' after {name}", "none", f"{name} is a function")
        if name == "t":
            raise self.tokens.error(place, "coefficients that do not depend on time", "t", _CLOCK)
        stem, _, suffix = name.partition("_")
        orders = self.derivatives(suffix) if suffix else None
        if orders is not None:
            if stem in scope.parameters or stem in _CALLED or stem in _CONSTANTS:
                raise self.tokens.error(place, "derivatives of unknowns or fields", f"one of {stem!r}", "parameters are constants")
            return self.differentiated(stem, orders, place)
        return self.field(name, place)

    def derivatives(self, suffix: str) -> dict[str, int] | None:
        """Axes that a suffix such as ``xxy`` or ``tt`` names; ``None`` when it is no such suffix."""
        orders: dict[str, int] = {}
        while suffix:
            axis = next((a for a in sorted([*self.scope.axes, "t"], key=len, reverse=True) if suffix.startswith(a)), None)
            if axis is None:
                return None
            orders[axis] = orders.get(axis, 0) + 1
            suffix = suffix[len(axis) :]
        return orders

    def differentiated(self, stem: str, orders: dict[str, int], place: int) -> sp.Expr:
        times = orders.pop("t", 0)
        if sum(orders.values()) > ORDER or times > 2:
            expected = f"derivatives up to order {ORDER} in space and 2 in time"
            raise self.tokens.error(place, expected, f"a higher one of {stem!r}", "introduce another unknown")
        if times:
            if orders:
                raise self.tokens.error(place, "derivatives in time or in space", "both in one", _INNER)
            if stem in self.scope.fields or stem in self.scope.axes:
                raise self.tokens.error(place, "the rate of an unknown", f"that of {stem!r}, which is given")
            self.field(stem, place)
            rate = f"{stem}_{'t' * times}"
            self.rates[rate] = (stem, times)
            return sp.Function(rate)(*self.scope.coordinates)
        value = self.field(stem, place)
        for axis, order in orders.items():
            value = derivative(value, self.scope.coordinates[self.scope.axes.index(axis)], order)
        return value

    def field(self, name: str, place: int) -> sp.Expr:
        if name not in self.scope.fields:
            if not self.scope.unknowns:
                raise self.tokens.error(
                    place, "a coordinate or a parameter", repr(name), did_you_mean(name, [*self.scope.axes, *self.scope.parameters])
                )
            if name not in self.unknowns:
                self.unknowns.append(name)
        return sp.Function(name)(*self.scope.coordinates)

    # Bounds

    def scalar(self, value: Value, place: int) -> sp.Expr:
        if isinstance(value, tuple):
            raise self.tokens.error(place, "a scalar", "a vector", "use dot(v, w), div(v), or write one equation for each component")
        return value

    def bounded(self, value: sp.Expr, place: int | None = None) -> sp.Expr:
        """The value, if it is a finite expression of bounded size and degree."""
        fault = excess(value)
        if fault is not None:
            raise self.tokens.error(self.tokens.length if place is None else place, *fault)
        return value


def _negative(value: Value) -> Value:
    return tuple(-part for part in value) if isinstance(value, tuple) else -value


_CALLED = (*FUNCTIONS, *OPERATORS, COUNTED)  # d(...) too, but d alone may be a parameter or an unknown
