"""What the text of an equation says beside its unknowns: which quantities it uses where, and functions of position on a grid."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import sympy as sp
import torch
from torch import Tensor

from anygrid.equations.dimensions import check_dimensions
from anygrid.equations.elimination import without_formulas
from anygrid.equations.parse import Scope, parse_expression
from anygrid.equations.system import System, make_system
from anygrid.equations.tape import record
from anygrid.errors import AnygridError, UsageError
from anygrid.grid import Grid
from anygrid.problems.distributions import LogUniform, Normal, Quantity, RandomField, Uniform

__all__ = ["evaluated", "expression", "mentioned", "range_of", "read_system"]


def mentioned(names: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Names that occur in texts, by themselves or in a derivative such as ``a_x``."""
    words = {word for text in texts for word in re.findall(r"[A-Za-z]\w*", text)}
    return {name for name in names if any(word == name or word.startswith(f"{name}_") for word in words)}


def read_system(
    equations: Sequence[str],
    axes: Sequence[str],
    known: Mapping[str, Quantity],
    sides: Sequence[str],
    outside: Collection[str],
    units: Mapping[str, str],
) -> System:
    """Standard form with numbers for fixed parameters, and without auxiliary unknowns that a nonlinear formula gives.

    Parameters
    ----------
    known
        Quantities by name. Those that stand in boundary conditions alone are parameters of the system too.
    sides
        Boundary conditions; an auxiliary unknown with one of its own stays.
    outside
        Quantities in expressions and initial states, which the equations need not hold.
    units
        By name; the terms of the equations must agree in them.
    """
    fields = [name for name, value in known.items() if isinstance(value, str | RandomField)]
    fixed = {name: value for name, value in known.items() if isinstance(value, float)}
    at_sides = mentioned(known, sides)
    # What occurs nowhere is left to make_system, which says that it is misspelt.
    inside = mentioned(known, equations) | (set(known) - at_sides - set(outside))
    named = [name for name in known if name in inside]
    system = make_system(
        equations, axes, parameters=[name for name in named if name not in fields], fields=[name for name in named if name in fields]
    )
    if units:  # while parameters are names and not numbers
        check_dimensions(system, {name: unit for name, unit in units.items() if name in named or name not in known})
    system = system.with_values({name: value for name, value in fixed.items() if name in system.parameters})
    more = tuple(name for name in known if name in at_sides and name not in (*named, *fields, *fixed))
    words = [word.removesuffix("_n") for text in sides for word in re.findall(r"\w+", text)]
    keep = [name for name in system.auxiliary if name in words]
    return without_formulas(replace(system, parameters=(*system.parameters, *more)), keep=keep, linear=False)


def expression(name: str, text: str, axes: Sequence[str], known: Mapping[str, Quantity]) -> sp.Expr:
    """Expression of the coordinates and of known numbers and random fields.

    Raises
    ------
    UsageError
        With the place in the text.
    """
    numbers = [key for key, value in known.items() if not isinstance(value, str | RandomField)]
    fields = [key for key, value in known.items() if isinstance(value, RandomField)]
    try:
        return parse_expression(text, Scope(tuple(axes), numbers, fields, unknowns=False))
    except AnygridError as error:
        raise UsageError(f"Equation: {name} = {text!r}", error.expected, error.got, error.hint) from error


def evaluated(formula: sp.Expr, grid: Grid, values: Mapping[str, Tensor | float]) -> Tensor:
    """An expression on the grid, in float64; ``values`` are numbers, or fields with or without a batch in front.

    Raises
    ------
    UsageError
        For a derivative.
    """
    coordinates = dict(zip(grid.dims, grid.points().unbind(-1), strict=True))
    tape = record([formula], tuple(sp.Symbol(axis, real=True) for axis in grid.dims))
    lookup = {**values, **coordinates}
    value = tape([torch.as_tensor(lookup[leaf.name], dtype=torch.float64) for leaf in tape.leaves], _no_derivatives)[0]
    return value.expand(torch.broadcast_shapes(value.shape, grid.shape))


def _no_derivatives(value: Tensor, orders: tuple[int, ...]) -> Tensor:
    raise UsageError("Equation", "expressions of the coordinates", "a derivative", "write the derivative out")


def range_of(quantity: Quantity) -> tuple[float, float]:
    """Least and greatest value where that is known, as far as signs are concerned."""
    if isinstance(quantity, float):
        return quantity, quantity
    if isinstance(quantity, Uniform | LogUniform):
        return quantity.low, quantity.high
    if isinstance(quantity, RandomField) and quantity.low is not None and quantity.high is not None:
        return min(quantity.low, quantity.high), max(quantity.low, quantity.high)
    if isinstance(quantity, RandomField) and quantity.positive:
        return math.exp(quantity.mean - 4 * quantity.std), math.exp(quantity.mean + 4 * quantity.std)
    if isinstance(quantity, RandomField | Normal):
        return quantity.mean - 4 * quantity.std, quantity.mean + 4 * quantity.std
    return -math.inf, math.inf
