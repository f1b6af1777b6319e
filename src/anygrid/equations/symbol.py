r"""A system for periodic boxes: constant-coefficient linear part, known forcing, and the least products to transform.

Every rate becomes

.. math:: \partial_t u_i = \sum_j A_{ij}(\nabla) w_j + \sum_b M_{ib}(\nabla) B_b(w, x) + f_i(x)

with polynomials :math:`A, M` in derivatives whose coefficients hold numbers and parameters alone, pointwise products :math:`B` of
unknowns ``w`` (state and auxiliary), their derivatives and known functions, and forcing ``f`` free of unknowns. Constraints have
``A`` and ``f`` only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from anygrid.equations.expressions import plain
from anygrid.equations.system import System
from anygrid.equations.tape import Leaf, record
from anygrid.errors import UsageError

__all__ = ["Multiplier", "SpectralForm", "Term", "spectral_form"]

Orders = tuple[int, ...]
Multiplier = tuple[tuple[Orders, sp.Expr], ...]  # sum of factor * derivative of these orders; factors hold numbers and parameters
_EXPANDED = 300  # terms; larger products stay as they are, and are evaluated pointwise
_Undef = sp.core.function.AppliedUndef


@dataclass(frozen=True)
class Term:
    """``factor * D^orders body``: a constant factor, outer derivatives, and a pointwise body (1 for a constant)."""

    factor: sp.Expr
    orders: Orders
    body: sp.Expr


@dataclass(frozen=True)
class SpectralForm:
    """What :mod:`anygrid.equations.periodic` computes, chosen to need few transforms.

    Attributes
    ----------
    linear, constraint
        For each rate and each constraint the multiplier of each unknown that occurs linearly.
    forcing, constraint_forcing
        For each rate and each constraint its terms without unknowns.
    bodies
        Pointwise expressions, each transformed once an evaluation.
    columns
        For each body the multiplier with which it enters each rate that it enters.
    leaves
        Unknowns and derivatives of unknowns that the bodies need at the grid points.
    degree
        Polynomial degree of the bodies, known functions of position counted; 1 where there is no body.
    polynomial
        Whether all bodies are polynomials; where not, ``degree`` is at least 3.
    remarks
        How products were rewritten.
    """

    linear: tuple[dict[str, Multiplier], ...]
    constraint: tuple[dict[str, Multiplier], ...]
    forcing: tuple[tuple[Term, ...], ...]
    constraint_forcing: tuple[tuple[Term, ...], ...]
    bodies: tuple[sp.Expr, ...]
    columns: tuple[dict[int, Multiplier], ...]
    leaves: tuple[Leaf, ...]
    degree: int
    polynomial: bool
    remarks: tuple[str, ...]


@lru_cache(maxsize=64)
def spectral_form(system: System) -> SpectralForm:
    """Split a system; of the equivalent forms of its products, the one with the fewest transforms.

    Raises
    ------
    UsageError
        For a steady system, or for a constraint that is not linear with constant coefficients.
    """
    if system.steady:
        raise UsageError("periodic solver", "an equation with a rate such as u_t", "a steady one", "solve_steady takes it")
    split = _Splitter(system)
    rates = [split.terms(rate) for rate in system.rates]
    linear, forcing, products = zip(*(split.sorted(terms) for terms in rates), strict=True)
    constraint, constraint_forcing = [], []
    for expression in system.constraints:
        part, given, rest = split.sorted(split.terms(expression))
        if rest:
            hint = "give it a rate; or put products into rates: vorticity and stream function for a pressure, m_t = ... with u - u_xx = m"
            expected = "equations without rates to be linear in the unknowns, with constant coefficients"
            raise UsageError("periodic solver", expected, plain(rest[0].body), hint)
        constraint.append(part)
        constraint_forcing.append(tuple(given))
    free = [part for part, known in zip(constraint, constraint_forcing, strict=True) if not known]
    best, remarks = _cheapest(split, [list(terms) for terms in products], free)
    degrees = [split.degree(body) for body in best.bodies]
    polynomial = None not in degrees
    degree = max([d or 3 for d in degrees], default=1)
    leaves = tuple(leaf for leaf in record(best.bodies, split.place).leaves if leaf.name in split.unknowns)
    known = tuple(map(tuple, forcing))
    forced, solved = tuple(constraint_forcing), tuple(constraint)
    return SpectralForm(linear, solved, known, forced, best.bodies, best.columns, leaves, degree, polynomial, remarks)


class _Splitter:
    """Terms of expressions of one system."""

    def __init__(self, system: System) -> None:
        self.place = system.coordinates
        self.zero: Orders = (0,) * len(self.place)
        self.unknowns = (*system.state, *system.auxiliary)

    def has_unknown(self, e: sp.Expr) -> bool:
        return any(str(atom.func) in self.unknowns for atom in e.atoms(_Undef))

    def is_constant(self, e: sp.Expr) -> bool:
        return not e.free_symbols & set(self.place)

    def orders(self, e: sp.Derivative) -> Orders:
        orders = list(self.zero)
        for axis, count in e.variable_count:
            orders[self.place.index(axis)] += int(count)
        return tuple(orders)

    def terms(self, e: sp.Expr) -> list[Term]:
        if self.is_constant(e):
            return [] if e == 0 else [Term(e, self.zero, sp.Integer(1))]
        if e.is_Add:
            return [term for part in e.args for term in self.terms(part)]
        if isinstance(e, sp.Derivative) and not isinstance(e.expr, _Undef):
            outer = self.orders(e)
            inner = [term for term in self.terms(e.expr) if term.body != 1]
            return [Term(t.factor, tuple(a + b for a, b in zip(t.orders, outer, strict=True)), t.body) for t in inner]
        if e.is_Mul:
            factor = sp.Mul(*[part for part in e.args if self.is_constant(part)])
            if factor != 1:
                rest = sp.Mul(*[part for part in e.args if not self.is_constant(part)])
                return [Term(factor * t.factor, t.orders, t.body) for t in self.terms(rest)]
        if e.is_Mul or e.is_Pow:
            other = _expanded(_product_rule(e))
            if other != e:
                return self.terms(other)
        return [Term(sp.Integer(1), self.zero, _product_rule(e))]

    def sorted(self, terms: Iterable[Term]) -> tuple[dict[str, Multiplier], list[Term], list[Term]]:
        """Linear multipliers of the unknowns, terms without unknowns, products."""
        linear: dict[str, dict[Orders, sp.Expr]] = {}
        forcing, products = [], []
        for term in terms:
            if not self.has_unknown(term.body):
                forcing.append(term)
                continue
            leaf = self.leaf(term.body)
            if leaf is None:
                products.append(term)
                continue
            orders = tuple(a + b for a, b in zip(leaf.orders, term.orders, strict=True))
            entry = linear.setdefault(leaf.name, {})
            entry[orders] = entry.get(orders, sp.Integer(0)) + term.factor
        return {name: _multiplier(entry) for name, entry in linear.items() if _multiplier(entry)}, forcing, products

    def leaf(self, e: sp.Expr) -> Leaf | None:
        """The unknown, or derivative of one, that ``e`` is."""
        inner = e.expr if isinstance(e, sp.Derivative) else e
        if not isinstance(inner, _Undef) or str(inner.func) not in self.unknowns:
            return None
        return Leaf(str(inner.func), self.orders(e) if isinstance(e, sp.Derivative) else self.zero)

    def derivative(self, e: sp.Expr, axis: int) -> sp.Expr:
        """Derivative of a leaf as it stands in expressions."""
        return sp.Derivative(e, self.place[axis]) if not isinstance(e, sp.Derivative) else sp.diff(e, self.place[axis])

    def degree(self, e: sp.Expr) -> int | None:
        """Polynomial degree in unknowns and known functions of position; ``None`` where there is none."""
        if not self.has_unknown(e):
            return 0 if self.is_constant(e) else 1
        if isinstance(e, sp.Derivative):
            return self.degree(e.expr)
        if isinstance(e, _Undef):
            return 1
        parts = [self.degree(part) for part in e.args]
        if e.is_Add:
            return None if None in parts else max(d for d in parts if d is not None)
        if e.is_Mul:
            return None if None in parts else sum(d for d in parts if d is not None)
        if e.is_Pow and e.exp.is_Integer and e.exp > 0 and parts[0] is not None:
            return parts[0] * int(e.exp)
        return None


def _multiplier(entry: dict[Orders, sp.Expr]) -> Multiplier:
    return tuple((orders, factor) for orders, factor in entry.items() if sp.expand(factor) != 0)


def _product_rule(e: sp.Expr) -> sp.Expr:
    """Derivatives of composites inside of products become derivatives of unknowns, where SymPy has a rule for them."""
    swap = {}
    for part in e.atoms(sp.Derivative):
        if not isinstance(part.expr, _Undef):
            done = part.doit()
            if not done.has(sp.Subs, sp.re, sp.im, sp.DiracDelta, sp.Integral):
                swap[part] = done
    return e.xreplace(swap) if swap else e


def _expanded(e: sp.Expr) -> sp.Expr:
    """Products of sums as sums of products, if these are not too many."""
    if _count(e) > _EXPANDED:
        return e
    factors = [sp.expand_multinomial(part, deep=False) if part.is_Pow else part for part in sp.Mul.make_args(e)]
    return sp.expand_mul(sp.Mul(*factors), deep=False)


def _count(e: sp.Expr) -> int:
    if e.is_Add:
        return sum(_count(part) for part in e.args)
    if e.is_Mul:
        return math.prod(_count(part) for part in e.args)
    if e.is_Pow and e.exp.is_Integer and e.exp > 0:
        terms = _count(e.base)
        return math.comb(terms + int(e.exp) - 1, int(e.exp))
    return 1


# Rewriting and grouping


@dataclass(frozen=True)
class _Grouping:
    bodies: tuple[sp.Expr, ...]
    columns: tuple[dict[int, Multiplier], ...]


def _cheapest(
    split: _Splitter, products: list[list[Term]], relations: Sequence[dict[str, Multiplier]]
) -> tuple[_Grouping, tuple[str, ...]]:
    """Of equal costs the last: conservative forms conserve."""
    conserved = [[_conserved(split, term) for term in terms] for terms in products]
    vorticity = [_vorticity(split, terms, relations) for terms in conserved]
    flux = ("products of the form u*u_x as (u**2/2)_x",) if conserved != products else ()
    stream = (*flux, "advection of vorticity in the form of Basdevant (1983)")
    candidates: list[tuple[list[list[Term]], tuple[str, ...]]] = [(products, ()), (conserved, flux), (vorticity, stream)]
    best: tuple[int, _Grouping, tuple[str, ...]] | None = None
    for k, (terms, remarks) in enumerate(candidates):
        if k and terms == candidates[k - 1][0]:
            continue
        grouping = _grouped(terms)
        leaves = [leaf for leaf in record(grouping.bodies, split.place).leaves if leaf.name in split.unknowns]
        cost = len(leaves) + len(grouping.bodies)
        if best is None or cost <= best[0]:
            best = cost, grouping, remarks
    assert best is not None
    return best[1], best[2]


def _conserved(split: _Splitter, term: Term) -> Term:
    """``f**p * f_x`` as ``(f**(p + 1))_x / (p + 1)`` for an unknown or a derivative of one ``f``."""
    powers = term.body.as_powers_dict()
    if len(powers) != 2 or any(split.leaf(base) is None for base in powers):
        return term
    for f, g in (tuple(powers), tuple(powers)[::-1]):
        p = powers[f]
        for axis in range(len(split.place)):
            if powers[g] == 1 and p.is_Integer and p > 0 and g == split.derivative(f, axis):
                orders = tuple(n + (k == axis) for k, n in enumerate(term.orders))
                return Term(term.factor / (p + 1), orders, f ** (p + 1))
    return term


def _vorticity(split: _Splitter, terms: list[Term], relations: Sequence[dict[str, Multiplier]]) -> list[Term]:
    r"""Advection of ``w = s lap(psi)`` by its own stream function in four transforms, not five.

    .. math:: \psi_y w_x - \psi_x w_y = s [(\partial_{xx} - \partial_{yy})(\psi_x \psi_y) + \partial_{xy}(\psi_y^2 - \psi_x^2)]

    Source: Basdevant, J. Comput. Phys. 50 (1983) 209.
    """
    if len(split.place) != 2:
        return terms
    x, y = split.place
    for relation in relations:
        for psi in relation:
            others = [name for name in relation if name != psi]
            lap = dict(relation[psi])
            if len(others) != 1 or set(lap) != {(2, 0), (0, 2)} or sp.expand(lap[2, 0] - lap[0, 2]) != 0:
                continue
            own = dict(relation[others[0]])
            if set(own) != {(0, 0)}:
                continue
            scale = -lap[2, 0] / own[0, 0]
            f, w = sp.Function(psi)(x, y), sp.Function(others[0])(x, y)
            first, second = f.diff(y) * w.diff(x), f.diff(x) * w.diff(y)
            plus = [t for t in terms if t.body == first]
            minus = [t for t in terms if t.body == second]
            if len(plus) != 1 or len(minus) != 1 or plus[0].orders != minus[0].orders or sp.expand(plus[0].factor + minus[0].factor) != 0:
                continue
            factor, outer = plus[0].factor * scale, plus[0].orders
            cross, difference = f.diff(x) * f.diff(y), f.diff(y) ** 2 - f.diff(x) ** 2
            parts = [(-1, (0, 2), cross), (1, (2, 0), cross), (1, (1, 1), difference)]
            swapped = [Term(s * factor, tuple(a + b for a, b in zip(outer, o, strict=True)), body) for s, o, body in parts]
            return [t for t in terms if t not in (plus[0], minus[0])] + swapped
    return terms


def _grouped(products: Sequence[Sequence[Term]]) -> _Grouping:
    """Bodies that enter every rate in proportion are added before they are transformed; or all that share rate and derivatives."""
    columns: dict[sp.Expr, dict[tuple[int, Orders], sp.Expr]] = {}
    for i, terms in enumerate(products):
        for term in terms:
            column = columns.setdefault(term.body, {})
            column[i, term.orders] = column.get((i, term.orders), sp.Integer(0)) + term.factor
    columns = {body: {key: c for key, c in column.items() if sp.expand(c) != 0} for body, column in columns.items()}
    columns = {body: column for body, column in columns.items() if column}
    groups: list[tuple[dict[tuple[int, Orders], sp.Expr], sp.Expr]] = []
    for body, column in columns.items():
        for k, (reference, total) in enumerate(groups):
            ratio = _ratio(column, reference)
            if ratio is not None:
                groups[k] = reference, total + ratio * body
                break
        else:
            groups.append((column, body))
    keys = {key for column in columns.values() for key in column}
    if len(keys) < len(groups):
        by_key = [(key, sp.Add(*[column[key] * body for body, column in columns.items() if key in column])) for key in sorted(keys)]
        groups = [({key: sp.Integer(1)}, total) for key, total in by_key]
    return _Grouping(tuple(total for _, total in groups), tuple(_by_rate(column) for column, _ in groups))


def _by_rate(column: dict[tuple[int, Orders], sp.Expr]) -> dict[int, Multiplier]:
    out: dict[int, Multiplier] = {}
    for (i, orders), factor in column.items():
        out[i] = (*out.get(i, ()), (orders, factor))
    return out


def _ratio(column: dict[tuple[int, Orders], sp.Expr], reference: dict[tuple[int, Orders], sp.Expr]) -> sp.Expr | None:
    if set(column) != set(reference):
        return None
    ratios = [sp.cancel(column[key] / reference[key]) for key in column]
    return ratios[0] if all(sp.cancel(r - ratios[0]) == 0 for r in ratios[1:]) else None
