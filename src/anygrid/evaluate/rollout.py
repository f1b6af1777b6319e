"""Roll-outs: a map applied to its own output, and its skill by lead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.evaluate.result import LeadCurve
from anygrid.evaluate.rows import Rows, Team, apply, cut, in_order, rows_of
from anygrid.fields import Variable
from anygrid.grid import Grid
from anygrid.maps import Map
from anygrid.metrics.skill import anomaly_correlation, mse_skill, relative_l2_by_lead, rmse_by_lead

__all__ = ["lead_curve", "roll", "roll_out"]


def roll_out(
    map_: Map, a: Float[Tensor, "case lead inputs *space"], grid: Grid, channels: tuple[int, ...]
) -> Float[Tensor, "case lead outputs *space"]:
    """Apply ``map_`` repeatedly from ``a[:, 0]``.

    ``channels`` are the inputs that each output replaces; the other inputs are forcings and follow ``a``. Once a state is
    not finite the rest of that roll-out is nan, and the map is no longer called on it.
    """
    state, found = a[:, 0], []
    alive = torch.ones(len(a), dtype=torch.bool)
    for step in range(a.shape[1]):
        u = torch.full((len(a), len(channels), *grid.shape), torch.nan, dtype=a.dtype)
        if alive.any():
            u[alive] = apply(None, map_, state[alive], grid).to(a.dtype)
        alive &= torch.isfinite(u).flatten(1).all(1)
        found.append(u)
        if step + 1 < a.shape[1]:
            state = a[:, step + 1].clone()
            state[:, list(channels)] = u
    return torch.stack(found, dim=1)


@dataclass(frozen=True, eq=False)
class Rolled:
    """A map rolled out from some rows."""

    map: Map
    grid: Grid
    channels: tuple[int, ...]

    def __call__(self, rows: Rows) -> Tensor:
        """Outputs at every lead."""
        assert rows.a is not None
        return roll_out(self.map, rows.a, self.grid, self.channels)


def roll(
    team: Team | None, map_: Map, a: Float[Tensor, "case lead inputs *space"], grid: Grid, channels: tuple[int, ...]
) -> Float[Tensor, "case lead outputs *space"]:
    """:func:`roll_out` of all cases, some at a time."""
    return torch.cat(list(in_order(team, Rolled(map_, grid, channels), cut(a, rows_of(grid, a.shape[2])))))


def lead_curve(
    name: str,
    role: str,
    u: Float[Tensor, "case lead outputs *space"],
    truth: Float[Tensor, "case lead outputs *space"],
    start: Float[Tensor, "case outputs *space"],
    climatology: Float[Tensor, "outputs *space"],
    grid: Grid,
    *,
    variables: Sequence[Variable],
    dt: float,
    units: str,
    computed_at: tuple[int, ...],
) -> LeadCurve:
    """Errors and skill of a roll-out; leads at which any roll-out is not finite are None, never averaged away."""
    persisted = start[:, None].expand_as(truth)
    rmse = rmse_by_lead(u, truth, grid)
    return LeadCurve(
        name,
        role,
        computed_at,
        [dt * (j + 1) for j in range(u.shape[1])],
        units,
        _plain(relative_l2_by_lead(u, truth, grid).mean((0, 2))),
        {v.name: _plain(rmse[:, c]) for c, v in enumerate(variables)},
        _plain(anomaly_correlation(u, truth, climatology, grid).mean(1)),
        _plain(mse_skill(u, truth, persisted, grid).mean(1)),
    )


def _plain(x: Tensor) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in x.tolist()]
