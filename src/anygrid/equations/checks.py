r"""Is the problem well posed? Growth of plane waves for evolutions, ellipticity for steady equations, before anything is solved.

About a frozen state a small plane wave :math:`e^{i k \cdot x + \sigma t}` obeys :math:`\sigma \hat u = A(ik) \hat u`. An evolution is
ill-posed in the sense of Hadamard where :math:`\mathrm{Re}\,\sigma` grows without bound with :math:`|k|`: the shortest wave that a grid
holds would grow fastest. A steady system is elliptic where the highest-order part of :math:`\det A(ik)` has no zero for real
:math:`k \ne 0`.

The numbers are looked for at samples of the parameters, the directions of the wave and the frozen state. What depends on the state is
refused only where every sampled state is at fault. Source: Kreiss and Lorenz, Initial-Boundary Value Problems (1989), sections 2.1 and 2.2.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import mpmath
import sympy as sp

from anygrid.equations.system import System
from anygrid.errors import UsageError

__all__ = ["Range", "check_elliptic", "check_well_posed"]

Range = tuple[float, float]
Orders = tuple[int, ...]
Numbers = Mapping[tuple[int, int], Mapping[Orders, mpmath.mpf]]
_WHERE = "Equation"
_DIGITS = 120
_ROUNDING = mpmath.mpf(10) ** (-25)  # of the largest entry: Jordan blocks of four split eigenvalues by 10**(-_DIGITS / 4)
_SHORT, _SHORTER = 10**10, 10**11  # wave numbers at which the highest order rules
_STATES = 4


def check_well_posed(system: System, ranges: Mapping[str, Range]) -> None:
    """Refuse an evolution in which short waves grow without bound.

    Parameters
    ----------
    system
        An evolution; a steady system passes.
    ranges
        Smallest and largest value of every parameter and field.

    Raises
    ------
    UsageError
        Naming the terms whose sign is wrong (backward diffusion, a wave equation that is elliptic in time), or the parameter of
        whose range a part is ill-posed.
    """
    if system.steady:
        return
    symbol = _Symbol.of(system, (*system.rates, *system.constraints), (*system.state, *system.auxiliary))
    _judge(symbol, ranges, lambda sample: _growth(symbol, sample, len(system.state)), _refuse_growth)


def check_elliptic(system: System, ranges: Mapping[str, Range]) -> None:
    """Refuse a steady system that is not elliptic, or changes its type within the ranges; an evolution passes.

    Parameters and errors are those of :func:`check_well_posed`.
    """
    if not system.steady:
        return
    symbol = _Symbol.of(system, system.constraints, system.state)
    if any(not row for row in symbol.rows()):
        return
    signs: set[int] = set()

    def fault(sample: _Sample) -> str | None:
        found = _definite_sign(symbol, sample)
        if found:
            signs.add(found)
        if len(signs) == 2:
            return "of either sign"
        return None if found else "with zeros"

    _judge(symbol, ranges, fault, _refuse_type)


@dataclass(frozen=True)
class _Sample:
    """Numbers for everything in the coefficients, and the directions of waves."""

    known: Mapping[str, float]
    state: Sequence[float]
    directions: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _Symbol:
    """Coefficients of the linearised equations: ``entries[row, unknown][orders]`` multiplies that derivative of a small change."""

    names: tuple[str, ...]
    unknowns: tuple[str, ...]
    axes: tuple[str, ...]
    entries: Mapping[tuple[int, int], Mapping[Orders, sp.Expr]]
    functions: Mapping[tuple[int, int], Mapping[Orders, Callable[..., float]]]
    frozen: int

    @classmethod
    def of(cls, system: System, equations: Sequence[sp.Expr], unknowns: Sequence[str]) -> _Symbol:
        place = system.coordinates
        names = (*system.parameters, *system.fields, *system.axes)
        jets: dict[sp.Expr, tuple[str, Orders, sp.Symbol]] = {}
        expanded = [sp.expand(equation.doit()) for equation in equations]
        for atom in sorted(set().union(*(_jets(e) for e in expanded)), key=str):
            inner, orders = (atom.expr, _orders(atom, place)) if isinstance(atom, sp.Derivative) else (atom, (0,) * len(place))
            jets[atom] = (str(inner.func), orders, sp.Dummy(real=True))
        known = {system.function(name): sp.Symbol(name, real=True) for name in system.fields}
        free = {a: s for a, (_, _, s) in jets.items() if a not in known}
        # Derivatives before the functions they are of, which they contain.
        plain = [e.xreplace({a: s for a, s in free.items() if isinstance(a, sp.Derivative)}).xreplace({**free, **known}) for e in expanded]
        arguments = [sp.Symbol(name, real=True) for name in names] + list(free.values())
        entries: dict[tuple[int, int], dict[Orders, sp.Expr]] = {}
        for (i, e), (j, name) in itertools.product(enumerate(plain), enumerate(unknowns)):
            slopes = {orders: sp.diff(e, s) for stem, orders, s in jets.values() if stem == name and e.has(s)}
            entries[i, j] = {orders: slope for orders, slope in slopes.items() if slope != 0}
        functions = {at: {o: sp.lambdify(arguments, c, "mpmath") for o, c in entry.items()} for at, entry in entries.items()}
        return cls(names, tuple(unknowns), system.axes, entries, functions, len(free))

    def rows(self) -> list[bool]:
        """Whether each equation holds a derivative."""
        size = len(self.unknowns)
        return [any(any(sum(o) for o in self.entries[i, j]) for j in range(size)) for i in range(size)]

    @property
    def coefficients(self) -> list[sp.Expr]:
        """Factors of derivatives, which decide; those of the unknowns themselves do not."""
        return [c for entry in self.entries.values() for orders, c in entry.items() if sum(orders)]

    def numbers(self, sample: _Sample) -> Numbers:
        """Coefficients at a sample; ``ArithmeticError``, ``TypeError`` or ``ValueError`` where one is not a real number there."""
        # Not in float64: rounding would make complex pairs of the equal eigenvalues of, say, gas dynamics.
        values = [mpmath.mpf(v) for v in (*(sample.known[name] for name in self.names), *sample.state)]
        return {at: {o: mpmath.mpf(f(*values)) for o, f in entry.items()} for at, entry in self.functions.items()}

    def term(self, at: tuple[int, int], group: Sequence[Orders]) -> str:
        """Terms with these derivatives of an unknown in an equation, as a user would write them."""
        parts = []
        for orders in group:
            name = sp.Symbol(f"{self.unknowns[at[1]]}_{''.join(axis * n for axis, n in zip(self.axes, orders, strict=True))}")
            coefficient = self.entries[at][orders]
            parts.append(str(sp.Mul(coefficient if not coefficient.atoms(sp.Dummy) else sp.Symbol("(...)"), name)))
        return " + ".join(parts).replace("+ -", "- ")


def _jets(e: sp.Basic) -> Iterator[sp.Expr]:
    """Unknowns, fields and their derivatives, each as the largest such expression."""
    if isinstance(e, sp.core.function.AppliedUndef | sp.Derivative):
        yield e
        return
    for part in e.args:
        yield from _jets(part)


def _orders(d: sp.Derivative, place: tuple[sp.Symbol, ...]) -> Orders:
    counts = dict(d.variable_count)
    return tuple(int(counts.get(axis, 0)) for axis in place)


def _samples(symbol: _Symbol, ranges: Mapping[str, Range]) -> Iterator[tuple[str | None, dict[str, float]]]:
    """Values of what is known: the middle, each range walked with the others in the middle, corners and random ones.

    The name is that of the one quantity that differs from the middle.
    """
    used = {str(s) for c in symbol.coefficients for s in c.free_symbols}
    spans = {name: ranges.get(name, (-1.0, 1.0)) if name in used else (1.0, 1.0) for name in symbol.names}
    middle = {name: 0.5 * (low + high) for name, (low, high) in spans.items()}
    yield None, middle
    for name, (low, high) in spans.items():
        if high > low:
            yield from ((name, {**middle, name: low + share * (high - low)}) for share in (0.0, 1.0, 0.25, 0.75))
    draw = random.Random(0)
    for low_or_high in (0.0, 1.0):
        yield None, {name: span[0] + low_or_high * (span[1] - span[0]) for name, span in spans.items()}
    for _ in range(8):
        yield None, {name: low + draw.choice((0.0, 1.0, draw.random())) * (high - low) for name, (low, high) in spans.items()}


def _directions(dimension: int) -> tuple[tuple[float, ...], ...]:
    """Unit vectors over half of all directions, the axes among them."""
    if dimension == 1:
        return ((1.0,),)
    if dimension == 2:
        return tuple((math.cos(math.pi * n / 8), math.sin(math.pi * n / 8)) for n in range(8))
    whole = [v for v in itertools.product((-1, 0, 1), repeat=3) if v > (0, 0, 0)]
    return tuple(tuple(c / math.hypot(*v) for c in v) for v in whole)


def _judge(
    symbol: _Symbol,
    ranges: Mapping[str, Range],
    fault: Callable[[_Sample], str | None],
    refuse: Callable[[_Symbol, _Sample, str, str | None, Mapping[str, Range]], None],
) -> None:
    """Call ``refuse`` where every frozen state is at fault, with the parameter to blame where other values of it are not."""
    draw = random.Random(1)
    states = [[draw.uniform(0.3, 1.7) * (1 if n % 2 == 0 else draw.choice((-1, 1))) for _ in range(symbol.frozen)] for n in range(_STATES)]
    depends = any(c.atoms(sp.Dummy) for c in symbol.coefficients)
    directions = _directions(len(symbol.axes))
    good, bad, seen = False, [], set()
    for name, known in _samples(symbol, ranges):
        key = tuple(known.values())
        if key in seen:
            continue
        seen.add(key)
        faults: list[tuple[_Sample, str]] = []
        fine = False
        for state in states if depends else states[:1]:
            sample = _Sample(known, state, directions)
            try:
                with mpmath.workdps(_DIGITS):
                    found = fault(sample)
            except (ArithmeticError, TypeError, ValueError):  # a coefficient that is not defined at this state
                continue
            if found is None:
                fine = True
                break
            faults.append((sample, found))
        if faults and not fine:
            bad.append((name, *faults[0]))
        good |= fine
    if bad:
        named = next((entry for entry in bad if entry[0] is not None), None)
        name, sample, reason = named if named is not None and good else bad[0]
        varied = [n for n in symbol.names if n in ranges and ranges[n][1] > ranges[n][0]]
        blamed = (name or (", ".join(varied) if varied else None)) if good else None
        refuse(symbol, sample, reason, blamed, ranges)


# Evolutions


def _matrix(numbers: Numbers, size: int, k: int, direction: tuple[float, ...]) -> mpmath.matrix:
    matrix = mpmath.matrix(size, size)
    for (i, j), entry in numbers.items():
        for orders, coefficient in entry.items():
            wave = coefficient * k ** sum(orders) * math.prod(c**n for c, n in zip(direction, orders, strict=True))
            matrix[i, j] += wave * (1, 1j, -1, -1j)[sum(orders) % 4]
    return matrix


def _largest_rate(numbers: Numbers, size: int, evolving: int, k: int, at: tuple[float, ...]) -> mpmath.mpf:
    """Largest real part of the growth rates, the unknowns without a rate eliminated; 0 where they are not determined."""
    matrix = _matrix(numbers, size, k, at)
    if size > evolving:
        try:
            inner = mpmath.inverse(matrix[evolving:, evolving:]) * matrix[evolving:, :evolving]
        except ZeroDivisionError:
            return mpmath.mpf(0)
        matrix = matrix[:evolving, :evolving] - matrix[:evolving, evolving:] * inner
    if evolving == 1:
        return mpmath.re(matrix[0, 0])
    rate = max(mpmath.re(value) for value in mpmath.eig(matrix, left=False, right=False))
    return rate if rate > mpmath.mnorm(matrix, 1) * _ROUNDING else mpmath.mpf(0)


def _grows(symbol: _Symbol, numbers: Numbers, evolving: int, sample: _Sample) -> float | None:
    """Power of |k| with which the growth rate rises, where it does."""
    for direction in sample.directions:
        shorter = _largest_rate(numbers, len(symbol.unknowns), evolving, _SHORTER, direction)
        if shorter > 0:
            short = _largest_rate(numbers, len(symbol.unknowns), evolving, _SHORT, direction)
            power = float(mpmath.log(shorter / short, 10)) if short > 0 else 1.0
            if power > 0.05:
                return power
    return None


def _growth(symbol: _Symbol, sample: _Sample, evolving: int) -> str | None:
    """The terms at fault and the growth rate they cause."""
    numbers = symbol.numbers(sample)
    power = _grows(symbol, numbers, evolving, sample)
    if power is None:
        return None
    rate = f"like |k|**{round(power, 2):g}"
    places: list[tuple[tuple[int, int], Orders]] = [(at, o) for at, entry in numbers.items() for o in entry if at[0] < evolving and any(o)]
    whole: dict[tuple[tuple[int, int], int], list[Orders]] = {}
    for at, orders in places:
        whole.setdefault((at, sum(orders)), []).append(orders)
    groups = sorted(whole.items(), key=lambda item: -item[0][1])
    for at, group in [(at, group) for (at, _), group in groups] + [(at, [o]) for at, o in places]:
        turned = {p: {o: -c if p == at and o in group else c for o, c in entry.items()} for p, entry in numbers.items()}
        if _grows(symbol, turned, evolving, sample) is None:
            return f"the sign of {symbol.term(at, group)}, with which the growth rate of a wave of number k rises {rate}"
    return f"a growth rate of waves of number k that rises {rate}"


def _refuse_growth(symbol: _Symbol, sample: _Sample, found: str, blamed: str | None, ranges: Mapping[str, Range]) -> None:
    expected = "an evolution in which short waves do not grow without bound"
    if blamed is not None:
        got = f"{found}, where {_shown(blamed, sample)}, within the range of {_span(blamed, ranges)}"
        raise UsageError(_WHERE, expected, got, f"narrow the range of {blamed} so that the sign does not change")
    hint = "turn the sign round (diffusion is +lap(u), waves u_tt = +lap(u)), or add a higher derivative that damps, such as -u_xxxx"
    raise UsageError(_WHERE, expected, found, hint)


# Steady systems


def _definite_sign(symbol: _Symbol, sample: _Sample) -> int:
    """Sign of the highest-order part of the determinant over all directions; 0 where it has zeros."""
    numbers = symbol.numbers(sample)
    size = len(symbol.unknowns)
    pairs = [[mpmath.det(_matrix(numbers, size, k, direction)) for k in (_SHORT, _SHORTER)] for direction in sample.directions]
    # At large k the determinant is of one power of k, real where that is even and imaginary where it is odd.
    largest = max(pairs, key=lambda pair: abs(pair[1]))
    if largest[0] == 0:
        return 0
    power = round(float(mpmath.log(abs(largest[1] / largest[0]), 10)))
    parts = [mpmath.im(v) if power % 2 else mpmath.re(v) for _, v in pairs]
    if any(abs(p) <= abs(largest[1]) * 1e-9 for p in parts) or (power % 2 and len(symbol.axes) > 1):
        return 0
    signs = {1 if p > 0 else -1 for p in parts}
    return signs.pop() if len(signs) == 1 else 0


def _refuse_type(symbol: _Symbol, sample: _Sample, found: str, blamed: str | None, ranges: Mapping[str, Range]) -> None:
    order = max(sum(o) for entry in symbol.entries.values() for o in entry)
    highest = {at: [o for o in entry if sum(o) == order] for at, entry in symbol.entries.items()}
    terms = [symbol.term(at, group) for at, group in highest.items() if group]
    got = f"a principal part {found}: {'; '.join(terms)}"
    if blamed is not None or found == "of either sign":
        name = blamed or next((n for n in symbol.names if n in ranges and ranges[n][1] > ranges[n][0]), "a coefficient")
        got = f"{got}, where {_shown(name, sample)}, within the range of {_span(name, ranges)}"
        raise UsageError(_WHERE, "a steady equation of one elliptic type", got, f"keep {name} on one side of zero")
    hint = "write an equation that is hyperbolic or parabolic as an evolution, with u_t or u_tt"
    raise UsageError(_WHERE, "an elliptic steady equation", got, hint)


def _shown(names: str, sample: _Sample) -> str:
    return ", ".join(f"{name} = {sample.known[name]:.4g}" for name in names.split(", ") if name in sample.known)


def _span(names: str, ranges: Mapping[str, Range]) -> str:
    return ", ".join(f"{name} [{ranges[name][0]:.4g}, {ranges[name][1]:.4g}]" for name in names.split(", ") if name in ranges)
