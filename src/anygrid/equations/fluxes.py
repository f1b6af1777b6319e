r"""Conservation laws recognised in equations: from text to fluxes, sources and characteristic speeds.

.. math:: \partial_t u_i + \sum_d \partial_{x_d} F_{d,i}(u, x) = S_i(u, x)

Terms written as derivatives of expressions stay as they are. Products such as ``u*u_x`` are integrated where that can be done exactly,
``(u**2/2)_x``; the quantity conserved across shocks is then the unknown that has the rate, which is a choice where the text is silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from anygrid.equations.elimination import without_formulas
from anygrid.equations.system import System
from anygrid.equations.tape import Tape, record
from anygrid.errors import UsageError

__all__ = ["ConservationLaw", "Speeds", "find_fluxes"]

_LARGEST = 400  # operations of a Jacobian whose characteristic polynomial is worth factoring


@dataclass(frozen=True)
class Speeds:
    """Characteristic speeds along one axis.

    Attributes
    ----------
    tape
        Closed form: pairs ``c, r`` for speeds ``c +- sqrt(r)``. Otherwise the entries of the flux Jacobian, row by row.
    closed
        Whether the tape holds closed forms.
    between
        Whether speeds between two states may exceed those at both: a scalar flux whose slope is not linear.
    """

    tape: Tape
    closed: bool
    between: bool


@dataclass(frozen=True)
class ConservationLaw:
    """Fluxes and sources of a system, as tapes over the state, parameters, fields and coordinates.

    Attributes
    ----------
    state
        Unknowns.
    axes
        Coordinates.
    fields
        Known functions of position.
    flux, speeds
        For each axis.
    source
        ``None`` where it is zero.
    source_rate
        Bounds on the rates at which the source changes the state, ``sum_j |dS_i/du_j|`` for each unknown.
    integrated
        Whether a flux was found by integrating a product.
    expressions
        The fluxes, ``expressions[axis][unknown]``, to be shown.
    """

    state: tuple[str, ...]
    axes: tuple[str, ...]
    fields: tuple[str, ...]
    flux: tuple[Tape, ...]
    speeds: tuple[Speeds, ...]
    source: Tape | None
    source_rate: Tape | None
    integrated: bool
    expressions: tuple[tuple[sp.Expr, ...], ...]


@lru_cache(maxsize=32)
def find_fluxes(system: System) -> ConservationLaw | None:
    """The system as a conservation law with sources, ``None`` where it has no such form.

    Unknowns fixed by constraints without derivatives (a pressure, a velocity) are eliminated first. There is no such form with second or
    higher derivatives of unknowns, with products of derivatives, or with products that are no derivative of anything.
    """
    if system.steady:
        return None
    alone = without_formulas(system)
    if alone.auxiliary:
        return None
    rates = alone.rates
    place = system.coordinates
    state = {system.function(name): sp.Symbol(name, real=True) for name in system.state}
    rows = [_flux_and_source(rate, place, state) for rate in rates]
    if any(row is None for row in rows):
        return None
    found = [row for row in rows if row is not None]
    fluxes = tuple(tuple(row.flux[d] for row in found) for d in range(len(place)))
    if all(entry == 0 for axis in fluxes for entry in axis):
        return None
    unknowns = tuple(state.values())
    source = tuple(row.source for row in found)
    slopes = [sp.Add(*[sp.Abs(sp.diff(entry, q)) for q in unknowns]) for entry in source]
    silent = all(entry == 0 for entry in source)
    try:
        return ConservationLaw(
            system.state,
            system.axes,
            system.fields,
            tuple(record(axis, place) for axis in fluxes),
            tuple(_speeds(axis, unknowns, place) for axis in fluxes),
            None if silent else record(source, place),
            None if silent else record(slopes, place),
            any(row.integrated for row in found),
            fluxes,
        )
    except UsageError:  # a function that cannot be computed, such as the derivative of a sign
        return None


@dataclass
class _Row:
    """One equation: flux along each axis and source."""

    flux: list[sp.Expr]
    source: sp.Expr
    integrated: bool = False


def _flux_and_source(rate: sp.Expr, place: tuple[sp.Symbol, ...], state: Mapping[sp.Expr, sp.Symbol]) -> _Row | None:
    """The rate as ``-sum_d D_d(flux_d) + source``; ``None`` where that is not possible."""
    swap = {d: sp.Dummy(real=True) for d in _outermost(rate)}
    body = rate.xreplace(swap)
    marks = set(swap.values())
    row = _Row([sp.Integer(0)] * len(place), body.xreplace(dict.fromkeys(marks, sp.Integer(0))).xreplace(dict(state)))
    products: list[dict[sp.Symbol, sp.Expr]] = [{} for _ in place]  # factor of D(q), for each axis and unknown
    for d, mark in swap.items():
        factor = sp.diff(body, mark)
        if factor.free_symbols & marks:
            factor = sp.expand(factor)
            if factor.free_symbols & marks:
                return None
        if not d.has(*state):
            row.source += factor.xreplace(dict(state)) * d.doit()
            continue
        if d.derivative_count != 1 or d.expr.has(sp.Derivative):
            return None
        axis, inner = d.variables[0], d.expr.xreplace(dict(state))
        k = place.index(axis)
        if not factor.has(*state):
            row.flux[k] -= factor * inner
            row.source -= sp.diff(factor, axis) * inner
            continue
        factor = factor.xreplace(dict(state))
        row.source += factor * sp.diff(inner, axis)
        for q in state.values():
            products[k][q] = products[k].get(q, sp.Integer(0)) + factor * sp.diff(inner, q)
    for k, factors in enumerate(products):
        if any(factor != 0 for factor in factors.values()):
            potential = _potential(factors)
            if potential is None:
                return None
            row.flux[k] -= potential
            row.source -= sp.diff(potential, place[k])
            row.integrated = True
    return row


def _outermost(e: sp.Basic) -> Iterator[sp.Derivative]:
    if isinstance(e, sp.Derivative):
        yield e
        return
    for part in e.args:
        yield from _outermost(part)


def _potential(slopes: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr | None:
    """Function with these partial derivatives; ``None`` where there is none, or none that is found quickly."""
    if sum(slope.count_ops() for slope in slopes.values()) > _LARGEST:
        return None
    total = sp.Integer(0)
    for q, slope in slopes.items():
        rest = sp.expand(slope - sp.diff(total, q))
        if rest == 0:
            continue
        # The rule-based integrator ends soon, unlike the general one, and finds what people write.
        part = sp.integrate(rest, q, manual=True)
        if part.has(sp.Integral, sp.Piecewise):
            return None
        total += part
    good = all(sp.simplify(sp.diff(total, q) - slope) == 0 for q, slope in slopes.items())
    return total if good else None


def _speeds(flux: tuple[sp.Expr, ...], unknowns: tuple[sp.Symbol, ...], place: tuple[sp.Symbol, ...]) -> Speeds:
    jacobian = sp.Matrix(flux).jacobian(sp.Matrix(unknowns))
    if len(unknowns) == 1:
        slope = jacobian[0]
        return Speeds(record((slope, sp.Integer(0)), place), True, sp.diff(slope, unknowns[0], 2) != 0)
    pairs = _closed_form(jacobian)
    if pairs is None:
        return Speeds(record(tuple(jacobian), place), False, False)
    return Speeds(record(pairs, place), True, False)


def _closed_form(jacobian: sp.Matrix) -> tuple[sp.Expr, ...] | None:
    """Eigenvalues as pairs ``c, r`` for ``c +- sqrt(r)``, where the characteristic polynomial has factors of degree 1 and 2."""
    size = jacobian.rows
    if size > 4 or sum(entry.count_ops() for entry in jacobian) > _LARGEST:
        return None
    speed = sp.Dummy("speed", real=True)
    exact = jacobian.applyfunc(lambda entry: sp.nsimplify(entry, rational=True))
    _, factors = sp.factor_list((speed * sp.eye(size) - exact).det(method="berkowitz").together().as_numer_denom()[0])
    pairs: list[sp.Expr] = []
    for factor, _ in factors:
        if not factor.has(speed):
            continue
        coefficients = sp.Poly(factor, speed).all_coeffs()
        if len(coefficients) == 2:
            pairs += [sp.cancel(-coefficients[1] / coefficients[0]), sp.Integer(0)]
        elif len(coefficients) == 3:
            a, b, c = coefficients
            pairs += [sp.cancel(-b / (2 * a)), sp.factor((b**2 - 4 * a * c) / (4 * a**2))]
        else:
            return None
    return tuple(pairs)
