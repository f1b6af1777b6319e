r"""Solver of conservation laws written as text, :math:`u_t + \mathrm{div} F(u, x) = S(u, x)`, whose solutions may jump.

WENO5 with SSP-RK3, a step that follows the characteristic speeds, and a coarser solution from which the error is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.boundary import Boundary
from anygrid.equations.fluxes import ConservationLaw, find_fluxes
from anygrid.equations.solution import Scheme, Solution
from anygrid.equations.surroundings import known_values, run, surroundings
from anygrid.equations.system import System
from anygrid.equations.tape import Leaf
from anygrid.errors import AnygridError, GridError, UsageError
from anygrid.grid import Axis, Box
from anygrid.numerics.conservation_laws import GHOSTS, MUSCL, UPWIND, WENO5, End, Ends, Reconstruction, divergence, extend, ssp_rk3
from anygrid.numerics.stepping import finite_input

__all__ = ["advance", "find_fluxes"]

_LADDER = (WENO5, MUSCL, UPWIND)
_BETWEEN = (0.25, 0.5, 0.75)  # where the speeds of a scalar flux that is not convex are looked at between neighbours
_MOST_STEPS = 1_000_000


def advance(
    system: System,
    grid: Box,
    state: Float[Tensor, "batch state *space"],
    known: Mapping[str, Tensor],
    duration: float,
    *,
    boundary: Boundary | None = None,
    dt: float | None = None,
) -> Solution:
    r"""State of a conservation law ``duration`` later, differentiable in the state and what is known.

    Order 5 in space and 3 in time where the solution is smooth, 1 in L1 where it jumps. Values are taken at the points; as averages over
    cells they are of order 2. The sum over a periodic grid changes by the source alone, to rounding. The weak solution is that of
    the fluxes as written, with the entropy condition that local Lax-Friedrichs splitting imposes.

    Parameters
    ----------
    system, grid
        Equations, and an even Box with their coordinates.
    state
        Values now, of finite physical size.
    known
        Parameters and fields.
    boundary
        On bounded axes: a value is what flows in from outside, ``u_n = 0`` and silence are zero gradient. Values of zero for the unknowns
        that a reflection turns round (the momentum across the side) make a wall.
    dt
        Fixed step, refused when it is unstable. Without it each sample takes the steps its own speeds ask for.

    Returns
    -------
    Solution
        ``error`` is the relative L2 error, over all unknowns, that the distance to a solution on half as many points along each axis
        suggests at a shock. Where the solution is smooth it is far above the error. It is infinite on axes below 8 points.

    Raises
    ------
    GridError
        For an uneven axis or one of fewer than 4 points.
    AnygridError
        For complex characteristic speeds (the equations are elliptic there) and for values that are not finite, with the sample, the time,
        the place and the state, after WENO5, MUSCL and first-order upwind have all failed.
    """
    where = "Equation.solve"
    law = find_fluxes(system)
    if law is None:
        raise UsageError(where, "a conservation law u_t + div F(u) = S(u)", "; ".join(system.text))
    for axis in grid.axes:
        if not axis.uniform or axis.size < GHOSTS + 1:
            got = f"{axis.size} {'evenly' if axis.uniform else 'unevenly'} spaced ones"
            raise GridError(where, f"{GHOSTS + 1} or more evenly spaced points along {axis.name!r}", got, "use Box.uniform")
    finite_input(state, where)
    method = _Method.build(law, grid, state, known, boundary or Boundary(), where)
    u, steps, used = _first_that_holds(method, state, duration, dt, _LADDER)
    with torch.no_grad():
        error = _distance_to_coarse(method, state, u, known, boundary or Boundary(), duration, dt, used)
    return Solution(u, error, steps, _scheme(law, used))


def _scheme(law: ConservationLaw, used: Reconstruction) -> Scheme:
    reason = "first derivatives only, in flux form, so that the solution may jump"
    if law.integrated:
        reason += f"; products were integrated, so that shocks conserve {', '.join(law.state)}"
    if used is not WENO5:
        reason += "; schemes of higher order lost finite values or real speeds"
    order = f"3 in time, {used.order} in space where smooth, 1 in L1 at jumps" if used is not UPWIND else "1"
    return Scheme(f"{used.name}, Lax-Friedrichs splitting, SSP-RK3", reason, order)


def _distance_to_coarse(
    method: _Method,
    state: Tensor,
    u: Tensor,
    known: Mapping[str, Tensor],
    boundary: Boundary,
    duration: float,
    dt: float | None,
    used: Reconstruction,
) -> Tensor:
    """Estimate of the relative L2 error from a solution on half as many points along each axis.

    Errors of order p are 1 / (2**p - 1) of the distance between the solutions. Shocks have p = 1/2 in L2, which is assumed everywhere.
    """
    grid = method.grid
    sizes = tuple(axis.size if axis.size < 2 * (GHOSTS + 1) else (axis.size + _ends_count(axis)) // 2 for axis in grid.axes)
    if sizes == grid.shape:
        return torch.full_like(u.flatten(1)[:, 0], math.inf)
    coarse = grid.at(sizes)

    def halve(v: Tensor) -> Tensor:
        for k, (fine_axis, axis) in enumerate(zip(grid.axes, coarse.axes, strict=True)):
            v = _interpolate(v, fine_axis, axis, v.ndim - grid.ndim + k)
        return v

    names = method.law.fields
    fewer = {name: halve(value.to(u)) if name in names else value for name, value in known.items()}
    other = _Method.build(method.law, coarse, halve(state), fewer, boundary, method.where)
    try:
        there, _ = other.march(halve(state), duration, dt, used)
    except _LostError:
        return torch.full_like(u.flatten(1)[:, 0], math.inf)
    here = halve(u).flatten(1)
    size = here.norm(dim=1).clamp(min=torch.finfo(u.dtype).tiny)
    return (here - there.flatten(1)).norm(dim=1) / size / (math.sqrt(2) - 1)


def _ends_count(axis: Axis) -> int:
    return int(axis.placement == "vertices" and not axis.periodic)


def _interpolate(v: Tensor, fine: Axis, coarse: Axis, dim: int) -> Tensor:
    """Linear interpolation along a dimension; where points coincide, those points."""
    position = torch.from_numpy((coarse.coordinates() - fine.coordinates()[0]) / _spacing(fine)).to(v.device)
    left = (position + 1e-9).floor()
    share = (position - left).clamp(min=0.0).to(v.dtype).reshape(-1, *[1] * (v.ndim - 1 - dim))
    low, high = (v.index_select(dim, (left.long() + k) % fine.size) for k in (0, 1))
    return torch.where(share < 1e-6, low, low + share * (high - low))


def _first_that_holds(
    method: _Method, state: Tensor, duration: float, dt: float | None, ladder: tuple[Reconstruction, ...]
) -> tuple[Tensor, int, Reconstruction]:
    for scheme in ladder[:-1]:
        try:
            return *method.march(state, duration, dt, scheme), scheme
        except _LostError:
            continue
    return *method.march(state, duration, dt, ladder[-1]), ladder[-1]


class _LostError(AnygridError):
    """Values stopped being finite or speeds real: a scheme of lower order may hold."""


@dataclass(frozen=True)
class _Method:
    """A law with its known quantities on a grid: at the points, and with ghosts along each axis."""

    law: ConservationLaw
    grid: Box
    at_points: dict[Leaf, Tensor]
    beyond: tuple[dict[Leaf, Tensor], ...]
    ends: tuple[Ends, ...]
    where: str

    @classmethod
    def build(cls, law: ConservationLaw, grid: Box, state: Tensor, known: Mapping[str, Tensor], boundary: Boundary, where: str) -> _Method:
        leaves = {leaf for tape in (*law.flux, *(s.tape for s in law.speeds), law.source, law.source_rate) if tape for leaf in tape.leaves}
        at_points = {leaf: known_values(leaf, law, grid, known, state) for leaf in leaves if leaf.name not in law.state or any(leaf.orders)}
        ends = surroundings(law, grid, boundary, known, state)
        beyond = []
        for k in range(grid.ndim):
            plain = None if ends[k] is None else tuple(End(signs=(1,) if e.signs else (), on_point=e.on_point) for e in ends[k] or ())
            beyond.append(
                {
                    leaf: value if value.shape[k + 1] == 1 else extend(value[:, None], k + 2, plain)[:, 0]  # type: ignore[arg-type]
                    for leaf, value in at_points.items()
                }
            )
        return cls(law, grid, at_points, tuple(beyond), ends, where)

    def march(self, u: Tensor, duration: float, dt: float | None, scheme: Reconstruction) -> tuple[Tensor, int]:
        """State ``duration`` later and the largest number of steps of a sample."""
        remaining = torch.full((len(u),), float(duration), dtype=torch.float64, device=u.device)
        taken = 0
        while True:
            speeds = self.speeds(u, duration - remaining)
            if not bool((remaining > 0).any()):
                return u, taken
            frequency = self.frequency(u, speeds)
            count = torch.ceil(remaining * frequency / scheme.courant).clamp(min=1)
            if dt is not None:
                count = torch.ceil(remaining / dt - 1e-9).clamp(min=1)
                if bool((remaining * frequency > 1.001 * count).any()):
                    got, hint = f"{dt:.3g}", "leave dt out, and it is chosen"
                    raise UsageError(self.where, f"a step dt of at most {float(1 / frequency.max()):.3g}", got, hint)
            if float(count.max()) > _MOST_STEPS:
                sample = int(count.argmax())
                at = torch.unravel_index(u[sample].abs().amax(0).argmax(), self.grid.shape)
                got = (
                    f"{self.describe(u, sample, [int(i) for i in at], duration - remaining)}, which asks for {int(count.max())} more steps"
                )
                raise _LostError(self.where, "values that stay bounded", got, "the solution seems to blow up: solve for a shorter time")
            step = remaining / count
            h = step.to(u.dtype).reshape(-1, *[1] * (u.ndim - 1))
            u = ssp_rk3(u, lambda v, s=speeds: self.tendency(v, s, scheme), h)  # type: ignore[misc]
            remaining = torch.where(count <= 1, 0.0, remaining - step)
            taken += 1

    def tendency(self, u: Tensor, speeds: list[Tensor], scheme: Reconstruction) -> Tensor:
        total = torch.zeros_like(u)
        if self.law.source is not None:
            total = total + run(self.law.source, u, self.law.state, self.at_points)
        for k, axis in enumerate(self.grid.axes):
            longer = extend(u, k + 2, self.ends[k])
            flux = run(self.law.flux[k], longer, self.law.state, self.beyond[k])
            total = total - divergence(longer, flux, speeds[k], k + 2, _spacing(axis), scheme)
        return total

    def frequency(self, u: Tensor, speeds: list[Tensor]) -> Tensor:
        """Largest step times this is 1: crossings of a cell, and changes by the source, in unit time."""
        total = sum((speed.detach().double() / _spacing(axis) for speed, axis in zip(speeds, self.grid.axes, strict=True)))
        assert isinstance(total, Tensor)
        if self.law.source_rate is not None:
            rate = run(self.law.source_rate, u.detach(), self.law.state, self.at_points)
            total = total + 0.5 * rate.flatten(1).amax(1).double()
        return total

    def speeds(self, u: Tensor, time: Tensor) -> list[Tensor]:
        """Largest characteristic speed along each axis in each sample; checks that the state is finite and the speeds real."""
        largest = []
        for k in range(self.grid.ndim):
            form, extra = self.law.speeds[k], self.beyond[k]
            longer = extend(u, k + 2, self.ends[k])
            samples = [longer]
            if form.between:
                following = torch.cat([longer.narrow(k + 2, 1, longer.shape[k + 2] - 1), longer.narrow(k + 2, -1, 1)], k + 2)
                samples += [torch.lerp(longer, following, weight) for weight in _BETWEEN]
            found = [_largest(run(form.tape, q, self.law.state, extra), form.closed) for q in samples]
            speed = torch.stack([s for s, _ in found]).amax(0)
            lost = ~torch.isfinite(longer).all(1) | ~torch.isfinite(speed)
            elliptic = torch.stack([bad for _, bad in found]).any(0)
            if bool((lost | elliptic).any()):
                self.fail(longer, lost, elliptic, time, k)
            largest.append(speed.flatten(1).amax(1))
        return largest

    def fail(self, longer: Tensor, lost: Tensor, elliptic: Tensor, time: Tensor, dim: int) -> None:
        bad = lost if bool(lost.any()) else elliptic
        sample, *index = torch.nonzero(bad)[0].tolist()
        n = self.grid.axes[dim].size
        inside = index[dim] - GHOSTS
        places = [
            inside % n if k == dim and self.ends[dim] is None else min(max(inside, 0), n - 1) if k == dim else i
            for k, i in enumerate(index)
        ]
        u = longer.narrow(dim + 2, GHOSTS, n)
        got = self.describe(u, sample, places, time)
        if bool(lost.any()):
            hint = "a density or depth that reaches 0 does this, and so does a solution that grows without bound"
            raise _LostError(self.where, "finite values and speeds", got, hint)
        hint = f"there the system is elliptic along {self.grid.axes[dim].name}: look at the signs, and at values that must be positive"
        raise _LostError(self.where, "real characteristic speeds", f"complex ones at {got}", hint)

    def describe(self, u: Tensor, sample: int, index: list[int], time: Tensor) -> str:
        """A state and where it is."""
        at = ", ".join(f"{axis.name} = {axis.coordinates()[i]:.4g}" for axis, i in zip(self.grid.axes, index, strict=True))
        values = u[sample].flatten(1)[:, int(np.ravel_multi_index(tuple(index), self.grid.shape))].tolist()
        text = ", ".join(f"{name} = {value:.4g}" for name, value in zip(self.law.state, values, strict=True))
        return f"{text} in sample {sample} at time {float(time[sample]):.4g}, {at}"


def _spacing(axis: Axis) -> float:
    return axis.interval.length / (axis.size - _ends_count(axis))


def _largest(values: Tensor, closed: bool) -> tuple[Tensor, Tensor]:
    """Largest absolute speed and whether one is complex, at each point."""
    slack = 100 * torch.finfo(values.dtype).eps
    if closed:
        centre, radicand = values[:, 0::2], values[:, 1::2]
        bad = (radicand < -slack * (centre**2 + radicand.abs().amax(1, keepdim=True) + centre.abs().amax(1, keepdim=True) ** 2)).any(1)
        # Not clamped at 0, where the derivative of the root is infinite.
        return (centre.abs() + torch.sqrt(radicand.clamp(min=torch.finfo(values.dtype).tiny))).amax(1), bad
    size = math.isqrt(values.shape[1])
    matrix = values.detach().movedim(1, -1).unflatten(-1, (size, size)).double()
    finite = torch.isfinite(matrix).flatten(-2).all(-1)
    speeds = torch.linalg.eigvals(torch.where(finite[..., None, None], matrix, 0.0))
    bound = matrix.abs().flatten(-2).amax(-1)
    # Rounding splits a multiple eigenvalue by about the square root of the precision.
    bad = (speeds.imag.abs().amax(-1) > 10 * math.sqrt(slack) * bound) & finite
    return torch.where(finite, speeds.abs().amax(-1), math.nan).to(values.dtype), bad
