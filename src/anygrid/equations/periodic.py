r"""Evolution systems on evenly spaced periodic boxes in one to three dimensions: Fourier in space, exponential Runge-Kutta in time.

.. math:: \partial_t \hat u = A(k)\, \hat u + \hat f + \hat N(u)

The constant-coefficient linear part ``A``, a number or a small matrix for each mode, and the forcing ``f`` are advanced exactly; products
``N`` of polynomial degree ``p`` act on and among the modes below ``n / (p + 1)``, where they are free of aliasing. Modes beyond feel ``A``
and ``f`` only, so that their exact solution is taken in one go and time steps touch the kept modes alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.propagator import Propagator, Step, propagator
from anygrid.equations.solution import Solution
from anygrid.equations.system import System
from anygrid.errors import AnygridError, DataError, GridError, UsageError, did_you_mean
from anygrid.grid import Box, Grid
from anygrid.numerics.pseudospectral import from_spectrum, to_spectrum
from anygrid.numerics.stepping import ETDRK4, Stepper, finite_input

__all__ = ["advance"]

_WHERE = "periodic solver"
_BOTTOM = 48  # halvings of the duration
_SHARES = 12
_GROWTH = 1e8  # times the first scale, with steps below duration / 2**24, counts as blow-up
_STEPS = 200_000


def advance(
    system: System,
    grid: Grid,
    state: Float[Tensor, "batch unknown *space"],
    known: Mapping[str, Tensor],
    duration: float,
    *,
    tolerance: float = 1e-5,
    dt: float | None = None,
    method: type[Stepper] = ETDRK4,
) -> Solution:
    """State ``duration`` later.

    Parameters
    ----------
    system
        An evolution. Auxiliary unknowns are solved for mode by mode from constraints that are linear with constant
        coefficients; a mode that they leave undetermined, such as the mean of a stream function, is 0.
    grid
        A :class:`~anygrid.grid.Box` of evenly spaced periodic axes, named as the system's.
    state
        Unknowns in the order of ``system.state``; float32 or float64, which is the dtype of the result.
    known
        Parameters, ``(batch,)`` or ``()``, and fields, ``(batch, *space)`` or ``(*space)``.
    duration
        Time to advance by, in the unit of the equation.
    tolerance
        Relative L2 error in time allowed over the whole duration, for each unknown of each sample, before later amplification.
    dt
        Largest step of a fixed size. Without it steps are halved and doubled by the error of the worst sample: each is taken
        as one and as two halves, whose difference over ``2**order - 1`` is the error of the halves, which are kept.
    method
        Exponential method: :class:`~anygrid.numerics.stepping.ETDRK4` or :class:`~anygrid.numerics.stepping.ETDRK2`.

    Returns
    -------
    Solution
        ``error`` follows local errors to the end along the linearised solution, so that their growth (chaos) and decay (diffusion)
        are in it; it is NaN for a given ``dt``, where nothing is compared. A linear equation with constant coefficients is solved
        exactly in one step. Modes that products do not reach follow the linear part, with no growth where that would make them grow.
        Gradients flow through the steps that were taken, with their sizes held.

    Raises
    ------
    GridError
        For any other grid.
    DataError
        For a state that is not finite or of another shape.
    UsageError
        For a steady system, a constraint that is not linear with constant coefficients, or a missing value.
    AnygridError
        If the solution grows without bound, with the sample, the time and the place.
    """
    box = _box(grid, system)
    _check(system, box, state, known, duration, tolerance, dt)
    solver = propagator(system, box, state, known, method)
    if not solver.spectral.form.bodies:
        u = solver.exact(to_spectrum(state, box.ndim), duration)
        if not torch.isfinite(u).all():
            raise _linear_failure(u)
        smallest = torch.full((len(state),), torch.finfo(state.dtype).eps, dtype=state.dtype, device=state.device)
        return Solution(from_spectrum(u, box.shape), smallest, 1, solver.scheme())
    u0 = to_spectrum(state, box.ndim)
    low = solver.spectral.compact(u0)
    if dt is None:
        low, wrong, steps = _adaptive(solver, low, duration, tolerance)
    else:
        steps = max(1, math.ceil(duration / dt - 1e-9))
        low, wrong = _fixed(solver, low, duration, steps), torch.full_like(low[:, :, 0].real.flatten(1)[:, :1], math.nan)[:, 0]
    u = from_spectrum(solver.spectral.truncation.scatter(low, solver.exact(u0, duration, held=True)), box.shape)
    return Solution(u, solver.relative(wrong, u), steps, solver.scheme())


def _fixed(solver: Propagator, start: Tensor, duration: float, steps: int) -> Tensor:
    step, u = solver.step(duration / steps), start
    for _ in range(steps):
        u = step(u)
    if torch.isfinite(u).all():
        return u
    with torch.no_grad():  # walk again and look after every step; only the rare failure pays for it
        u = start
        for k in range(steps):
            new = step(u)
            if not torch.isfinite(new).all():
                raise _blow_up(solver, u, new, k * duration / steps, f"with steps of {duration / steps:.3g}")
            u = new
    return u


def _adaptive(solver: Propagator, u: Tensor, duration: float, tolerance: float) -> tuple[Tensor, Tensor, int]:
    """State at the end, its root-mean-square error ``(batch,)``, and the steps taken.

    A step is ``duration / 2**level``, at multiples of itself, so that the end is met exactly and few coefficients are built.
    """
    divisor = 2**solver.method.order - 1
    eps = torch.finfo(solver.spectral.dtype).eps
    first = scale = solver.norms(u)
    level, place, taken = _first_level(solver, u, duration, tolerance), 0, 0
    wrong, unlike = torch.zeros_like(u), False
    while place < 2**level:
        h = duration / 2**level
        half = solver.step(h / 2)
        new = half(half(u))
        with torch.no_grad():
            coarse = solver.step(h)(u)
            local = (new - coarse) / divisor
            size = torch.maximum(scale, solver.norms(new))
            floor = size.amax(1, keepdim=True).clamp(min=1e-300)
            error = float((solver.norms(local) / torch.maximum(size, 1e-4 * floor)).max())
        # A share of the tolerance by the length of the step; where a singularity needs ever shorter ones, a fixed share each.
        allowed = max(tolerance / 2 ** min(level, _SHARES), eps / 4)
        grown = bool((size.amax(1) > _GROWTH * first.amax(1).clamp(min=1e-300)).any())
        if not error <= allowed or (grown and level >= _BOTTOM // 2):
            if level >= _BOTTOM or (grown and level >= _BOTTOM // 2):
                raise _blow_up(solver, u, new, place * h, f"though steps shrank to {h:.3g}")
            more = min(4, max(1, math.ceil(math.log2(error / allowed) / solver.method.order))) if math.isfinite(error) else 2
            more = min(more, _BOTTOM - level)
            level, place = level + more, place * 2**more
            continue
        with torch.no_grad():
            carried = wrong if unlike else _carried(solver, solver.step(h), u, coarse, wrong)
            # A step too long for an explicit stiff term makes waves grow that its halves, which are kept, damp. From then on: halves.
            unlike = unlike or not bool((solver.norms(carried) <= 1.5 * solver.norms(wrong)).all())
            if unlike:
                carried = _carried(solver, partial(_twice, half), u, new, wrong)
            wrong = carried + local
        u, scale, place, taken = new, size, place + 1, taken + 2
        if taken > _STEPS:
            hint = "shorten the time, allow a larger tolerance, or look for a term that makes the equation stiff outside of its linear part"
            raise AnygridError(_WHERE, f"at most {_STEPS} steps", f"step {h:.3g} at time {place * h:.6g} of {duration:g}", hint)
        if level and place % 2 == 0 and error < 0.8 * allowed / 2**solver.method.order:
            level, place = level - 1, place // 2
    # Rounding of the coefficients repeats in every step, the same in one step and in two halves, which therefore do not show it.
    rounding = taken * eps / 4 * scale.square().sum(1).sqrt()
    return u, solver.norms(wrong).square().sum(1).sqrt() + rounding, taken


def _twice(step: Step, u: Tensor) -> Tensor:
    return step(step(u))


def _carried(solver: Propagator, step: Step, u: Tensor, after: Tensor, wrong: Tensor) -> Tensor:
    """Where the error ``wrong`` of ``u`` is after a step from ``u`` to ``after``: a difference along it, of a size that rounds least."""
    size = solver.norms(wrong).square().sum(1).sqrt()
    if not bool((size > 0).any()):
        return wrong
    length = torch.finfo(solver.spectral.dtype).eps ** 0.5 * solver.norms(u).square().sum(1).sqrt()
    stretch = torch.where((size > 0) & (length > 0), length / size.clamp(min=1e-300), 1.0)
    factor = stretch.to(solver.spectral.dtype).reshape(-1, *[1] * (u.ndim - 1))
    return (step(u + factor * wrong) - after) / factor


def _first_level(solver: Propagator, u: Tensor, duration: float, tolerance: float) -> int:
    with torch.no_grad():
        size = solver.norms(u)
        rate = solver.norms(solver.spectral.tendency(u)) / torch.maximum(size, 0.01 * size.amax(1, keepdim=True)).clamp(min=1e-300)
    fastest = float(rate.max())
    if not (math.isfinite(fastest) and fastest > 0):
        return 0
    return min(30, max(0, math.ceil(math.log2(duration * fastest / tolerance**0.25))))


def _blow_up(solver: Propagator, u: Tensor, new: Tensor, time: float, how: str) -> AnygridError:
    """Error that says where the last finite state ``u`` is largest in the sample whose next state ``new`` is worst."""
    size = solver.norms(new).sum(1).nan_to_num(math.inf, math.inf)
    sample = int((size / solver.norms(u).sum(1).clamp(min=1e-300)).argmax())
    fields = solver.backward(u[sample].detach())
    box, names = solver.spectral.grid, solver.spectral.system.state
    unknown, index = divmod(int(fields.abs().argmax()), box.size)
    point = box.points().reshape(box.size, -1)[index].tolist()
    there = ", ".join(f"{axis} = {value:.4g}" for axis, value in zip(box.dims, point, strict=True))
    got = f"sample {sample} without bound at time {time:.6g} {how}: |{names[unknown]}| = {float(fields.abs().max()):.3g} at {there}"
    return AnygridError(_WHERE, "a finite solution", got, "the equation may blow up there: shorten the time, or check signs and amplitudes")


def _linear_failure(u: Tensor) -> AnygridError:
    bad = (~torch.isfinite(torch.view_as_real(u))).flatten(1).any(1)
    got = f"sample {int(bad.nonzero()[0, 0])} beyond all numbers"
    hint = "the equation makes short waves grow without bound: check the signs of its highest derivatives"
    return AnygridError(_WHERE, "a finite solution", got, hint)


def _box(grid: Grid, system: System) -> Box:
    if not isinstance(grid, Box):
        raise GridError(_WHERE, "a Box", f"a {type(grid).__name__}", "interpolate to an even periodic grid first")
    if grid.dims != system.axes:
        raise GridError(
            _WHERE, f"axes {', '.join(system.axes)}", ", ".join(grid.dims), "name the grid's axes as in the equation, in its order"
        )
    for axis in grid.axes:
        if not (axis.periodic and axis.uniform):
            kind = "uneven" if axis.periodic else "bounded"
            raise GridError(_WHERE, "evenly spaced periodic axes", f"a {kind} axis {axis.name!r}", "bounded axes have solvers of their own")
    return grid


def _check(
    system: System, box: Box, state: Tensor, known: Mapping[str, Tensor], duration: float, tolerance: float, dt: float | None
) -> None:
    for name, value in (("duration", duration), ("tolerance", tolerance), ("dt", 1.0 if dt is None else dt)):
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{_WHERE} ({name}=...)", "a finite number above 0", f"{value}")
    wanted = (len(system.state), *box.shape)
    if tuple(state.shape[1:]) != wanted or state.dtype not in (torch.float32, torch.float64):
        expected = f"a float32 or float64 state of shape (batch, {', '.join(map(str, wanted))})"
        raise DataError(_WHERE, expected, f"{state.dtype} of {tuple(state.shape)}", f"unknowns: {', '.join(system.state)}")
    finite_input(state, _WHERE)
    for name in (*system.parameters, *system.fields):
        if name not in known:
            raise UsageError(_WHERE, f"a value of {name!r}", "none", did_you_mean(name, known))
        shape, space = tuple(known[name].shape), box.shape if name in system.fields else ()
        if shape not in (space, (1, *space), (len(state), *space)):
            expected = f"{name!r} of shape {space} or {(len(state), *space)}"
            raise DataError(_WHERE, expected, f"{shape}", "a parameter is a number for each sample, a field a value at each point")
