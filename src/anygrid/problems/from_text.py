"""A problem from a line of text: ``Equation("u_t = -6*u*u_x - u_xxx", domain={"x": Periodic(0, 20)})``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from anygrid.equations.solve import advance
from anygrid.errors import AnygridError, UsageError, did_you_mean
from anygrid.grid import Interval
from anygrid.problems.distributions import Quantity, interval_text, text_of
from anygrid.problems.equation import EquationProblem

__all__ = ["Equation"]


def Equation(  # noqa: N802 - it reads as the object it makes
    equations: str | Sequence[str],
    domain: Mapping[str, Interval],
    *,
    parameters: Mapping[str, Quantity] | None = None,
    inputs: Mapping[str, Quantity] | None = None,
    initial: Mapping[str, Quantity] | None = None,
    boundary: str | Mapping[str, str | tuple[str, str]] | None = None,
    state: Sequence[str] = (),
    unknown: str = "",
    units: Mapping[str, str] | None = None,
    dt: float | None = None,
    steps: int = 20,
    tolerance: float = 1e-6,
) -> EquationProblem:
    """Problem of an equation given as text.

    Parameters
    ----------
    equations
        ``left = right``, one for each unknown: names, numbers, ``+ - * / **``, functions (``sin``, ``exp`` ...), derivatives as
        suffixes (``u_t``, ``u_xx``), and ``grad div lap dot curl perp vec``.
    domain
        Interval of each coordinate: ``Periodic(0, 1)`` or ``Bounded(0, 1)``.
    parameters, inputs
        What is known: a number; ``Uniform``, ``LogUniform`` or ``Normal`` for a number drawn for each sample; an expression of
        the coordinates; a ``RandomField``. What is drawn becomes an input of the map. The two arguments mean the same.
    initial
        Initial state of an evolution, as above; default: a random field that suits the boundary, 0 for the rate ``u_t`` of an
        unknown of second order in time.
    boundary
        Conditions on bounded axes, such as ``"u = 0"``, ``"u_n = 0"`` or ``{"x": ("u = 1", "u_n = 0")}``.
    state, unknown
        Names of the unknowns, where they are to be checked.
    units
        Units of variables; default ``"1"``.
    dt
        Time from input to output. Default: a round number in which the solution changes by about a third, measured on a few samples.
    steps
        Output steps of a trajectory.
    tolerance
        Relative error of the time stepping over one ``dt``, or of the steady solve.

    Raises
    ------
    UsageError
        For text that is not understood (with the place), unbalanced systems, missing or misplaced boundary conditions,
        and equations that are ill posed.
    """
    texts = (equations,) if isinstance(equations, str) else tuple(equations)
    quantities = {**(parameters or {}), **(inputs or {})}
    if parameters and inputs and len(quantities) < len(parameters) + len(inputs):
        raise UsageError("Equation", "each quantity in parameters or in inputs", "one in both", "remove it from one of them")
    bounded = [name for name, interval in domain.items() if not interval.periodic]
    sides = boundary if isinstance(boundary, Mapping) else dict.fromkeys(bounded, boundary or "")
    problem = EquationProblem(
        texts,
        tuple((name, interval_text(interval)) for name, interval in domain.items()),
        tuple((name, text_of(value)) for name, value in quantities.items()),
        tuple((name, text_of(value)) for name, value in (initial or {}).items()),
        tuple((axis, *((text, text) if isinstance(text, str) else text)) for axis, text in sides.items()),
        tuple((units or {}).items()),
        dt,
        steps,
        tolerance,
    )
    for name in (*state, *((unknown,) if unknown else ())):
        if name not in problem.system.state:
            raise UsageError("Equation", f"an equation for {name!r}", "none", did_you_mean(name, problem.system.state))
    if problem.system.steady:
        return replace(problem, steps=1)
    return problem if dt is not None else replace(problem, dt=_natural_step(problem))


def _natural_step(problem: EquationProblem) -> float:
    """A time in which the solution changes by about a third of its size: 1, 2 or 5 times a power of ten."""
    grid = problem.grid({1: 128, 2: 48, 3: 20}[len(problem.domain)])
    a = problem.sample(4, grid, torch.Generator().manual_seed(0))
    a = a.double()
    start, known, now = a[:, : len(problem.system.state)], problem.quantities_of(a, grid), 0.0
    u = start
    size = start.flatten(1).norm(dim=1).clamp(min=1e-30)
    for time in (m * 10.0**e for e in range(-6, 4) for m in (1, 2, 5)):
        try:
            u = advance(problem.system, grid, u, known, time - now, problem.conditions, tolerance=1e-4).u
        except AnygridError:
            break  # it blows up: the last time before
        now = time
        if float(((u - start).flatten(1).norm(dim=1) / size).median()) > 1 / 3:
            return time
    if now == 0:
        raise UsageError("Equation", "a solution that exists for a while", "one that ends at once", "give dt, or smaller initial values")
    return now
