"""Auxiliary unknowns that a formula gives, such as the pressure of a gas, put into the other equations.

What remains are unknowns that take a solve, such as a stream function, which the solvers find from linear constraints.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sympy as sp

from anygrid.equations.system import System

__all__ = ["without_formulas"]

_Undefined = sp.core.function.AppliedUndef


def without_formulas(system: System, *, keep: Collection[str] = (), linear: bool = True) -> System:
    """The system with every auxiliary replaced that a constraint gives without its derivatives: ``p = 0.4*(E - m**2/(2*r))``.

    Parameters
    ----------
    keep
        Auxiliaries that stay, such as those with boundary conditions of their own.
    linear
        Also where the formula is linear in the other unknowns, such as ``m = u_xx``: a spectral solver takes such a constraint as it
        stands, at no cost.
    """
    rates, constraints = list(system.rates), list(system.constraints)
    remaining = {system.function(name) for name in system.auxiliary}
    while True:
        found = next((f for k in range(len(constraints)) if (f := _isolated(constraints, k, remaining, keep, linear))), None)
        if found is None:
            break
        index, unknown, value = found
        constraints.pop(index)
        remaining.remove(unknown)
        rates = [rate.xreplace({unknown: value}) for rate in rates]
        constraints = [constraint.xreplace({unknown: value}) for constraint in constraints]
    if len(remaining) == len(system.auxiliary):
        return system
    auxiliary = tuple(name for name in system.auxiliary if system.function(name) in remaining)
    return replace(system, auxiliary=auxiliary, rates=tuple(rates), constraints=tuple(constraints))


def _isolated(
    constraints: list[sp.Expr], index: int, remaining: set[sp.Expr], keep: Collection[str], linear: bool
) -> tuple[int, sp.Expr, sp.Expr] | None:
    """Constraint, auxiliary and formula, where the constraint can be solved for one auxiliary."""
    constraint = constraints[index]
    for unknown in sorted(remaining, key=str):
        if str(unknown.func) in keep or not constraint.has(unknown):
            continue
        if any(d.has(unknown) for d in constraint.atoms(sp.Derivative)):
            continue
        slope = sp.diff(constraint, unknown)
        if slope == 0 or slope.atoms(_Undefined):
            continue
        value = -constraint.xreplace({unknown: sp.Integer(0)}) / slope
        if linear or not _linear(value):
            return index, unknown, value
    return None


def _linear(e: sp.Expr) -> bool:
    """Whether an expression is a sum of unknowns and their derivatives with constant factors, and of known terms."""
    for term in sp.Add.make_args(sp.expand(e)):
        functions = term.atoms(_Undefined)
        if functions:
            coordinates = {symbol for function in functions for symbol in function.args}
            rest = term.as_independent(*functions, *coordinates, as_Add=False)[1]
            if not isinstance(rest.expr if isinstance(rest, sp.Derivative) else rest, _Undefined):
                return False
    return True
