r"""Source terms that make chosen functions solve a system: manufactured solutions.

.. math:: s_i = \partial_t u^*_i - F_i(u^*, \psi^*, x, t), \qquad s_j = G_j(u^*, \psi^*, x, t)

With ``s`` added to the right side of each equation, ``u*`` and ``psi*`` are its exact solution, against which every solver of the same text
can be measured. Source: Roache, J. Fluids Eng. 124 (2002) 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy as sp
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.parse import Scope, parse_expression
from anygrid.equations.system import System
from anygrid.equations.tape import Orders, record
from anygrid.errors import DataError, GridError, UsageError, did_you_mean
from anygrid.grid import Box

__all__ = ["evaluate_expressions", "forced", "manufacture"]

_TIME = sp.Symbol("t", real=True)


def manufacture(
    system: System, solutions: Mapping[str, sp.Expr | str], fields: Mapping[str, sp.Expr | str] | None = None
) -> tuple[sp.Expr, ...]:
    """Sources to add to the right side of each equation: of the rates, in the order of ``system.state``, then of the constraints.

    Parameters
    ----------
    solutions
        For each unknown an expression, or its text, in the coordinates and parameters, and in ``t`` for an evolution. The rate that a
        second order in time makes a state, such as ``u_t``, follows from ``u`` and is left out.
    fields
        Expressions, or texts, of the known fields.

    Returns
    -------
    tuple of sympy.Expr
        In coordinates, parameters and ``t``.

    Raises
    ------
    UsageError
        For an unknown or field without expression, a name that is none, or text that is not understood.
    """
    given = {name: _read(system, text) for name, text in {**solutions, **(fields or {})}.items()}
    for name in system.state:
        if name.endswith("_t") and name not in given and name[:-2] in given:
            given[name] = sp.diff(given[name[:-2]], _TIME)
    names = (*system.state, *system.auxiliary, *system.fields)
    for name in names:
        if name not in given:
            raise UsageError("manufacture", f"an expression for {name!r}", "none", "choose any smooth function of the coordinates")
    for name in given:
        if name not in names:
            raise UsageError("manufacture", "expressions of the system's unknowns and fields", repr(name), did_you_mean(name, names))
    swap = {system.function(name): given[name] for name in names}
    sources = [sp.diff(given[name], _TIME) - rate.xreplace(swap).doit() for name, rate in zip(system.state, system.rates, strict=False)]
    return (*sources, *(constraint.xreplace(swap).doit() for constraint in system.constraints))


def forced(system: System, sources: Sequence[sp.Expr]) -> System:
    """The system with the sources of :func:`manufacture` on its right sides.

    Raises
    ------
    UsageError
        For another number of sources, or one that depends on time: rates have no clock.
    """
    count = len(system.rates)
    if len(sources) != count + len(system.constraints):
        raise UsageError("forced", f"{count + len(system.constraints)} sources", f"{len(sources)}")
    if any(source.has(_TIME) for source in sources):
        raise UsageError("forced", "sources that do not depend on time", "t", "choose solutions without t: they are then steady states")
    rates = tuple(rate + source for rate, source in zip(system.rates, sources, strict=False))
    return replace(system, rates=rates, constraints=tuple(c - s for c, s in zip(system.constraints, sources[count:], strict=True)))


def evaluate_expressions(
    expressions: Sequence[sp.Expr | str],
    system: System,
    grid: Box,
    parameters: Mapping[str, Tensor] | None = None,
    *,
    time: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "batch expression *space"]:
    """Values on a grid of expressions, or texts, in the coordinates, the parameters of ``system`` and ``t``.

    ``parameters`` have the shape ``()`` or ``(batch,)``; without one of the latter the batch is 1. The arithmetic is float64.

    Raises
    ------
    GridError
        For a grid over other axes.
    DataError
        For a parameter without a value.
    """
    if grid.dims != system.axes:
        raise GridError("evaluate_expressions", f"the axes {', '.join(system.axes)}", ", ".join(grid.dims))
    values = {name: value.double().reshape(-1, *[1] * grid.ndim) for name, value in (parameters or {}).items()}
    values |= dict(zip(grid.dims, grid.points().unbind(-1), strict=True)) | {"t": torch.tensor(time, dtype=torch.float64)}
    tape = record([_read(system, e) for e in expressions], system.coordinates)
    for leaf in tape.leaves:
        if leaf.name not in values:
            raise DataError("evaluate_expressions", f"a value of {leaf.name!r}", "none", did_you_mean(leaf.name, values))
    results = tape([values[leaf.name] for leaf in tape.leaves], _never)
    batch = max([result.shape[0] for result in results if result.ndim > grid.ndim], default=1)
    return torch.stack([result.expand(batch, *grid.shape) for result in results], 1).to(dtype)


def _read(system: System, text: sp.Expr | str) -> sp.Expr:
    if not isinstance(text, str):
        return text
    return parse_expression(text, Scope((*system.axes, "t"), system.parameters, unknowns=False))


def _never(value: Tensor, orders: Orders) -> Tensor:
    raise UsageError("evaluate_expressions", "expressions without derivatives", f"one of orders {orders}", "call .doit() first")
