"""Evolution on boxes with a bounded axis: sine and cosine series where reflection allows, implicit finite differences elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations import periodic
from anygrid.equations.boundary import Boundary
from anygrid.equations.discrete import Bound, Discrete, discretised, paired, wide_known
from anygrid.equations.newton import Newton, one_sample
from anygrid.equations.nodes import has_coefficient_in_flux
from anygrid.equations.reflection import find_reflection
from anygrid.equations.solution import Scheme, Solution
from anygrid.equations.system import System
from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.grid import Box
from anygrid.numerics.replay import Replayed
from anygrid.numerics.rosenbrock import Rodasp
from anygrid.numerics.stepping import finite_input

__all__ = ["advance"]

_WHERE = "bounded solver"


def advance(
    system: System,
    grid: Box,
    state: Float[Tensor, "batch state *space"],
    known: Mapping[str, Tensor],
    duration: float,
    *,
    boundary: Boundary,
    tolerance: float = 1e-5,
    dt: float | None = None,
) -> Solution:
    r"""State ``duration`` later.

    Sine and cosine series, by the solver for periodic boxes, where the conditions are ``u = 0`` or ``u_n = 0`` on both sides and the
    equations turn into themselves under reflection (:mod:`~anygrid.equations.reflection`): order 4 in time with the linear part exact,
    spectral in space for solutions whose continuation is smooth.

    Finite differences elsewhere, on the vertices: order 4, one-sided of the same order near the ends, where a given normal derivative
    is one of the data; order 2 and conservative (fluxes at faces, arithmetic mean of the coefficient) where a known field stands inside a
    derivative, because it may jump. Prescribed values and auxiliary unknowns are constraints beside the rates of the
    state, advanced together by a linearly implicit method of order 4 (:class:`~anygrid.numerics.rosenbrock.Rodasp`): no term limits the
    step. Arithmetic is float64, the result has the dtype of ``state``.

    Parameters
    ----------
    state
        Unknowns in the order of ``system.state``. On sides with a prescribed value they take it at once.
    known
        Parameters and fields. The result is differentiable with respect to them and to ``state``, with the step sizes held.
    tolerance
        Relative L2 error in time allowed over the whole duration, for each unknown of each sample, before later amplification.
    dt
        Largest step of a fixed size; without it each sample has steps of its own, from an embedded error estimate.

    Raises
    ------
    UsageError
        For a steady system, a missing value, or derivatives above the second along a bounded axis.
    GridError
        For uneven axes or too few points.
    DataError
        For a state that is not finite or of another shape.
    AnygridError
        When the solution grows without bound, with the sample, the time and the place.
    """
    _check(system, grid, state, duration, tolerance, dt)
    reflection = find_reflection(system, boundary, grid)
    if reflection is not None:
        start = reflection.continued(state)
        found = periodic.advance(system, reflection.doubled, start, known, duration, tolerance=tolerance, dt=dt)
        reason = (
            "the equation turns into itself under reflection at its homogeneous boundaries, which makes it periodic on twice the interval"
        )
        scheme = Scheme(
            f"sine and cosine series by reflection: {found.scheme.name}", f"{reason}; {found.scheme.reason}", found.scheme.order
        )
        return Solution(reflection.restricted(found.u), found.error, found.steps, scheme)
    order = 2 if has_coefficient_in_flux((*system.rates, *system.constraints), system.fields) else 4
    return _differences(system, grid, state, known, duration, boundary, tolerance, dt, order)


def _check(system: System, grid: Box, state: Tensor, duration: float, tolerance: float, dt: float | None) -> None:
    if system.steady:
        raise UsageError(_WHERE, "an equation with a rate such as u_t", "a steady one", "use solve_steady")
    for name, value in (("duration", duration), ("tolerance", tolerance), ("dt", 1.0 if dt is None else dt)):
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{_WHERE} ({name}=...)", "a finite number above 0", f"{value}")
    wanted = (len(system.state), *grid.shape)
    if tuple(state.shape[1:]) != wanted:
        got = str(tuple(state.shape))
        raise DataError(_WHERE, f"a state of shape (batch, {', '.join(map(str, wanted))})", got, f"unknowns: {', '.join(system.state)}")
    finite_input(state, _WHERE)


def _differences(
    system: System,
    grid: Box,
    state: Tensor,
    known: Mapping[str, Tensor],
    duration: float,
    boundary: Boundary,
    tolerance: float,
    dt: float | None,
    order: int,
) -> Solution:
    unknowns = (*system.state, *system.auxiliary)
    constraints = paired(system, system.constraints, system.auxiliary)
    discrete = discretised(system, (*system.rates, *constraints), unknowns, grid, boundary, order)
    wide = wide_known(system, known, grid)
    bound = discrete.bind(wide, state.device)
    start = state.double()
    start = torch.where(discrete.fixed[: len(system.state)].to(state.device), bound.values[:, : len(system.state)], start)
    if system.auxiliary:
        start = torch.cat([start, _auxiliary(system, grid, start, wide, boundary, order)], dim=1)
    wants = torch.is_grad_enabled() and (start.requires_grad or any(value.requires_grad for value in known.values()))
    # Rejected steps would leave their graph, and their NaN, to accepted ones of other samples.
    groups = [slice(k, k + 1) for k in range(len(start))] if wants else [slice(0, len(start))]
    results, errors, steps = [], [], 0
    for group in groups:
        mine = one_sample(bound, group.start) if wants else bound
        u, error, count = _march(discrete, start[group], mine, len(system.state), duration, tolerance, dt, graded=wants)
        results.append(u[:, : len(system.state)])
        errors.append(error)
        steps = max(steps, count)
    u = torch.cat(results).to(state.dtype)
    return Solution(u, torch.cat(errors).to(state.dtype), steps, _scheme(system, order))


def _scheme(system: System, order: int) -> Scheme:
    if order == 2:
        return Scheme(
            "fluxes at faces, linearly implicit Runge-Kutta (RODASP)",
            f"a bounded axis, and a known field inside a derivative ({', '.join(system.fields)}): conservative differences",
            "4 in time, 2 in space",
        )
    reason = "a bounded axis, and no reflection turns the equation and its conditions into a periodic problem with a linear stiff part"
    return Scheme("finite differences, linearly implicit Runge-Kutta (RODASP)", reason, "4 in time, 4 in space")


def _march(
    discrete: Discrete,
    start: Tensor,
    bound: Bound,
    states: int,
    duration: float,
    tolerance: float,
    dt: float | None,
    *,
    graded: bool,
) -> tuple[Tensor, Tensor, int]:
    shape = start.shape
    mass = (~discrete.fixed).double()
    mass[states:] = 0.0

    def tendency(u: Tensor) -> Tensor:
        return discrete.residual(u.reshape(shape), bound).reshape(len(u), -1)

    def jacobian(u: Tensor) -> Tensor:
        return discrete.jacobian(u.reshape(shape), bound)

    def place(index: int) -> str:
        point = discrete.box.points().reshape(-1, discrete.box.ndim)[index % discrete.box.size]
        where = ", ".join(f"{name} = {float(x):.4g}" for name, x in zip(discrete.box.dims, point, strict=True))
        return f"{where} ({discrete.unknowns[index // discrete.box.size]})"

    functions = (tendency, jacobian) if graded else (Replayed(tendency), Replayed(jacobian))
    method = Rodasp(*functions, discrete.pattern, mass.reshape(-1).to(start.device), len(discrete.unknowns), _WHERE, place)
    flat = start.reshape(len(start), -1)
    u, error, steps = method.adaptive(flat, duration, tolerance) if dt is None else method.fixed(flat, duration, dt)
    return u.reshape(shape), error, steps


def _auxiliary(
    system: System, grid: Box, state: Tensor, wide: Mapping[str, Tensor], boundary: Boundary, order: int
) -> Float[Tensor, "batch auxiliary *space"]:
    """Auxiliary unknowns of a state: a steady problem in which the state is known."""
    constraints = paired(system, system.constraints, system.auxiliary)
    discrete = discretised(system, constraints, system.auxiliary, grid, boundary, order)
    bound = discrete.bind({**wide, **{name: state[:, j] for j, name in enumerate(system.state)}}, state.device)
    newton = Newton(discrete, 1e-10, _WHERE)
    found = []
    for k in range(len(state)):
        u, _, _ = newton(None, one_sample(bound, k))
        if newton.undetermined:
            name = system.auxiliary[newton.undetermined[0]]
            raise AnygridError(_WHERE, f"conditions that determine {name!r}", "a constant left free", f"give {name!r} a value on one side")
        found.append(u)
    return torch.cat(found)
