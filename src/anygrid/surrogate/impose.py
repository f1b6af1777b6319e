"""What a surrogate imposes, computed: the equations of :mod:`anygrid.surrogate.imposed`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.collectives import max_over_ranks, sum_over_ranks
from anygrid.errors import GridError
from anygrid.grid import Box, Grid, Sphere
from anygrid.numerics.interpolation import interpolate
from anygrid.numerics.pseudospectral import low_waves
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise
from anygrid.problems.base import Wall
from anygrid.shard import Shard, rows_of
from anygrid.surrogate.imposed import axis_names

if TYPE_CHECKING:
    from anygrid.surrogate.model import Surrogate

__all__ = ["centre_of", "impose", "norm", "wall_functions"]

_REACH = 0.05  # of the axis: how far the value on a side is felt
_ON_SIDE = 1e-6  # of the axis: a point nearer than this to its end lies on the side (float32 coordinates)


def impose(
    model: Surrogate, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
) -> Float[Tensor, "batch outputs *query"]:
    """Output functions of a surrogate, with what it imposes; see the equations of :mod:`anygrid.surrogate.imposed`.

    Raises
    ------
    GridError
        On a shard, for a highest wave: it needs all points of an axis.
    """
    target = grid if query is None else query
    if model.imposed.waves is not None and (isinstance(grid, Shard) or isinstance(target, Shard)):
        raise GridError("imposed waves", "a whole grid", "a shard of one", "share samples between processes, or leave waves at None")
    if model.imposed.waves is not None and not isinstance(target, Box | Sphere):  # scattered points take the waves of a lattice
        lattice = grid if isinstance(grid, Box | Sphere) else model.grid
        return interpolate(impose(model, a, grid, lattice), lattice, target)
    if model.imposed.waves is not None and isinstance(target, Sphere):
        return _low_degrees(model, a, grid, target, model.imposed.waves)
    return _conserving(model, a, grid, target)


def _low_degrees(model: Surrogate, a: Tensor, grid: Grid, target: Sphere, highest: int) -> Tensor:
    """Outputs on a sphere, of which what they add to the state has no degrees above ``highest``."""
    whole = grid if isinstance(grid, Sphere) else model.grid  # a target may be a window
    assert isinstance(whole, Sphere)
    if exact_degree(whole) <= highest:
        return _conserving(model, a, grid, target)
    u = _conserving(model, a, grid, whole)
    start = model.add_state(torch.zeros_like(u), a, grid, whole)
    added = synthesise(analyse(u - start, whole, highest), target)
    return added + (start if target == whole else model.add_state(torch.zeros_like(added), a, grid, target))


def _conserving(model: Surrogate, a: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Outputs with their values on sides, the ball and the means."""
    u = _bounded(model, a, grid, target)
    places = [(k, v.name) for k, v in enumerate(model.outputs) if v.name in model.imposed.conserved]
    if not places:
        return u
    own = u if target == grid else _bounded(model, a, grid, grid)
    kept, source = [k for k, _ in places], [[v.name for v in model.inputs].index(name) for _, name in places]
    missing = _mean(a[:, source], grid) - _mean(own[:, kept], grid)
    here, there = _shape(model, target, u)[0], _shape(model, grid, u)[0]
    amount = missing / _mean(there[None, kept], grid)
    shift = here[kept] * amount.view(*amount.shape[:2], *(1,) * (u.ndim - 2))
    return u + shift if len(kept) == u.shape[1] else u.index_add(1, torch.tensor(kept, device=u.device), shift)


def _bounded(model: Surrogate, a: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Outputs with their values on sides, and drawn in outside of the ball."""
    radius = model.imposed.radius
    if radius is None:
        return _low(model, _walled(model, a, grid, target), target)
    source = [[v.name for v in model.inputs].index(v.name) for v in model.outputs]
    column = (1, -1, *(1,) * (a.ndim - 2))
    state, std = a[:, source], model.in_std[source].view(column).to(a.dtype)
    own = torch.tensor([v.name in model.imposed.conserved for v in model.outputs], device=a.device)
    centre = centre_of(state, grid, model.in_mean[source].to(a.dtype), own)
    rho = norm((state - centre) / std, grid) / radius
    near = torch.where(rho > 2, centre + (state - centre) * (2 / rho.clamp_min(1)), state)
    told = near if source == list(range(a.shape[1])) else a.index_copy(1, torch.tensor(source, device=a.device), near)
    u = _walled(model, told, grid, target)
    state = state if target == grid else interpolate(state, grid, target)
    _, lift, on, walled = _shape(model, target, u)
    # On another grid the centre keeps its form: one value a channel, or the lift.
    centre = torch.where(walled.view(1, -1, *(1,) * (u.ndim - 2)), lift, centre.reshape(*centre.shape[:2], *(1,) * (u.ndim - 2)))
    far = centre + model.imposed.contraction * (torch.where(on, lift, state) - centre)
    rho = rho.reshape(-1, *(1,) * (u.ndim - 1))
    t = (rho - 1).clamp(0, 1)
    blend = far + (1 - t**3 * (10 - 15 * t + 6 * t**2)) * (u - far)
    return _low(model, torch.where(rho <= 1, u, torch.where(rho >= 2, far, blend)), target)


def _low(model: Surrogate, u: Tensor, target: Grid) -> Tensor:
    return low_waves(u, target, model.imposed.waves) if model.imposed.waves is not None and isinstance(target, Box) else u


def centre_of(
    state: Float[Tensor, "batch channel *space"], grid: Grid, mean: Float[Tensor, " channel"], own: Tensor
) -> Float[Tensor, "one_or_batch channel *ones"]:
    """Centre of the ball: ``mean``, or the state's own mean in the channels of ``own`` (conserved)."""
    column = (1, -1, *(1,) * (state.ndim - 2))
    return torch.where(own.view(column), _mean(state, grid), mean.view(column)) if own.any() else mean.view(column)


def _walled(model: Surrogate, a: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Outputs with their values on sides."""
    u = model.operate(a, grid, target)
    if not model.imposed.walls:
        return model.add_state(u, a, grid, target)
    d, lift, on, _ = _shape(model, target, u)
    steps = torch.tensor([source is not None for source in model.base], device=u.device).view(1, -1, *(1,) * (u.ndim - 2))
    start = model.add_state(torch.zeros_like(u), a, grid, target)
    return torch.where(steps, torch.where(on, lift, start) + d * u, lift + d * (u - lift))


def norm(z: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, "batch 1 *ones"]:
    """Root mean square over domain and channels, without overflow, and with a finite slope at 0."""
    largest = max_over_ranks(z.detach().abs().flatten(1).amax(1), rows_of(grid)).clamp_min(1e-30).view(-1, *(1,) * (z.ndim - 1))
    square = _mean((z / largest).square(), grid).mean(1, keepdim=True)
    return largest * square.clamp_min(1e-30).sqrt()


def _mean(f: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, "batch channel *ones"]:
    """Mean over the domain."""
    weights = _mean_weights(grid, f.dtype, f.device)
    total = sum_over_ranks((f * weights).flatten(2).sum(2), rows_of(grid))
    return total.view(*f.shape[:2], *(1,) * (f.ndim - 2))


@lru_cache(maxsize=32)
def _mean_weights(grid: Grid, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "*space"]:
    with torch.inference_mode(False):  # kept for steps with gradients even when a prediction asks first
        return grid.mean_weights().to(device, dtype)


def _shape(model: Surrogate, grid: Grid, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    names = tuple(v.name for v in model.outputs)
    return _wall_functions(model.imposed.walls, names, axis_names(model.grid), grid, like.dtype, like.device)


def wall_functions(model: Surrogate, grid: Grid, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance function, lift, points on a side and channels with walls on a slab of a grid; kept by no cache."""
    names = tuple(v.name for v in model.outputs)
    return _wall_functions.__wrapped__(model.imposed.walls, names, axis_names(model.grid), grid, like.dtype, like.device)


@lru_cache(maxsize=32)
def _wall_functions(
    walls: tuple[Wall, ...], names: tuple[str, ...], axes: tuple[str, ...], grid: Grid, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "channel *space"], Float[Tensor, "channel *space"], Tensor, Tensor]:
    """Distance function ``d``, lift, points on a side, each ``(channel, *space)``, and which channels have walls."""
    with torch.inference_mode(False):
        x = grid.points()
        d = torch.ones(len(names), *grid.shape, dtype=torch.float64)
        lift, on = torch.zeros_like(d), torch.zeros_like(d, dtype=torch.bool)
        for k, name in enumerate(names):
            sides = [wall for wall in walls if wall.output == name]
            gaps = []
            for wall in sides:
                axis = axes.index(wall.axis)
                ends = grid.domain[axis]
                gap = (x[..., axis] - ends.lower if wall.side == "lower" else ends.upper - x[..., axis]) / ends.length
                gap = torch.where(gap < _ON_SIDE, 0.0, gap)
                d[k] *= torch.tanh(gap / _REACH)
                on[k] |= gap == 0
                gaps.append(gap)
            if sides:
                at = torch.stack(gaps, -1)
                share = torch.where(on[k, ..., None], (at == 0).double(), 1 / at)
                lift[k] = (share * torch.tensor([wall.value for wall in sides], dtype=torch.float64)).sum(-1) / share.sum(-1)
        walled = torch.tensor([any(wall.output == name for wall in walls) for name in names])
        return d.to(device, dtype), lift.to(device, dtype), on.to(device), walled.to(device)
