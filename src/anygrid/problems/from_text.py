"""A problem from a line of text: ``Equation("u_t = -6*u*u_x - u_xxx", domain={"x": Periodic(0, 20)})``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from anygrid.errors import UsageError, did_you_mean
from anygrid.grid import Interval
from anygrid.problems.distributions import Quantity, interval_text, text_of
from anygrid.problems.equation import EquationProblem
from anygrid.problems.natural_step import natural_step

__all__ = ["Equation"]


def Equation(  # noqa: N802 - it reads as the object it makes
    equations: str | Sequence[str],
    domain: Mapping[str, Interval],
    *,
    parameters: Mapping[str, Quantity] | None = None,
    inputs: Mapping[str, Quantity] | None = None,
    initial: Mapping[str, Quantity] | None = None,
    boundary: str | Sequence[str] | Mapping[str, str | tuple[str, str]] | None = None,
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
        Conditions on bounded axes, such as ``"u = 0"``, ``["u = 0", "v_n = 0"]`` or ``{"x": ("u = 1", "u_n = 0")}``.
    state, unknown
        Names of the unknowns, where they are to be checked.
    units
        Units by name, such as ``{"u": "m s-1", "nu": "m2 s-1", "x": "m", "t": "s"}``: of unknowns, quantities, coordinates and the time.
        They go into the data, and the terms of an equation must agree where all their units are given; variables without are ``"1"``.
    dt
        Time from input to output. Default: a round number in which the solution changes by about a third, see
        :func:`~anygrid.problems.natural_step.natural_step`.
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
    if boundary is not None and not isinstance(boundary, str | Mapping):
        boundary = "; ".join(boundary)
    if isinstance(boundary, str) and boundary.strip() and not bounded:
        hint = f"remove it, or declare {next(iter(domain), 'x')} with Bounded(...)"
        raise UsageError("boundary", "no condition where every axis is periodic", repr(boundary), hint)
    sides = boundary if isinstance(boundary, Mapping) else dict.fromkeys(bounded, boundary or "")
    for axis, text in sides.items():
        if not isinstance(text, str) and (len(text) != 2 or not all(isinstance(part, str) for part in text)):
            raise UsageError(
                f"boundary of {axis}", "one text, or a pair for the lower and the upper side", repr(text), "write ('u = 0', '')"
            )
    for name, unit in (units or {}).items():
        if not isinstance(unit, str):
            raise UsageError("Equation(units=...)", "units as text", f"{name} = {unit!r}", f"write {name} = '1' for a pure number")
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
    return problem if dt is not None else replace(problem, dt=natural_step(problem))
