"""A surrogate on a field that comes slab by slab: scaling, increments, walls and conserved means around a streamed operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import GridError, UsageError
from anygrid.grid import Box, Sphere
from anygrid.operators.streaming import Slabs, emit, gather, interpolate_slab, slab
from anygrid.surrogate.impose import wall_functions

if TYPE_CHECKING:
    from anygrid.surrogate.model import Surrogate

__all__ = ["Streamed", "streamed"]


@dataclass(frozen=True, eq=False)
class Streamed:
    """Output of ``surrogate`` for one field, to be asked for by rows of the first axis of ``query``.

    ``gathered`` is what the operator keeps of the whole input, ``amount`` what conservation adds, ``(batch, output)``.
    """

    surrogate: Surrogate
    field: Slabs
    query: Box | Sphere
    gathered: tuple[Tensor, ...]
    amount: Float[Tensor, "batch outputs"] | None

    def rows(self, start: int, stop: int) -> Float[Tensor, "batch outputs rows *rest"]:
        """Outputs in physical units on rows ``start`` to ``stop`` of the query."""
        u = _walled(self.surrogate, self.field, self.gathered, self.query, start, stop)
        if self.amount is None:
            return u
        d = wall_functions(self.surrogate, slab(self.query, start, stop), u)[0]
        return u + d * self.amount.view(*self.amount.shape, *(1,) * (u.ndim - 2))


def streamed(surrogate: Surrogate, field: Slabs, query: Box | Sphere, known: tuple[Tensor, ...] | None = None) -> Streamed:
    """Pass over a field in physical units; ``known``: what an earlier pass over the same field gathered.

    Raises
    ------
    UsageError
        For an operator that cannot be streamed, or a surrogate with noise, around a climate, or that imposes a ball or a highest wave,
        which need the whole output.
    GridError
        For conserved means on a sphere; and as :func:`~anygrid.operators.streaming.interpolate_slab` raises it.
    """
    imposed = surrogate.imposed
    if surrogate.noise:
        raise UsageError("streaming", "a surrogate without noise", f"{len(surrogate.noise.lengths)} channels of it", "predict in memory")
    if surrogate.persistence is not None:
        raise UsageError("streaming", "a surrogate of plain persistence", "one around a climate", "predict in memory")
    for name, value in (("radius", imposed.radius), ("waves", imposed.waves)):
        if value is not None:
            raise UsageError("streaming", f"a surrogate without an imposed {name}", f"{name} = {value}", "predict in memory")
    if imposed.conserved and not isinstance(field.grid, Box):
        raise GridError("streaming", "a Box for a surrogate with conserved means", type(field.grid).__name__, "predict in memory")
    gathered = gather(surrogate.operator, _scaled(surrogate, field)) if known is None else known
    return Streamed(surrogate, field, query, gathered, _amount(surrogate, field, gathered) if imposed.conserved else None)


def _scaled(surrogate: Surrogate, field: Slabs) -> Slabs:
    def read(start: int, stop: int) -> Tensor:
        a = field.read(start, stop)
        column = (1, -1, *(1,) * (a.ndim - 2))
        return (a - surrogate.in_mean.view(column).to(a.dtype)) / surrogate.in_std.view(column).to(a.dtype)

    return Slabs(field.grid, read, field.rows)


def _walled(
    surrogate: Surrogate, field: Slabs, gathered: tuple[Tensor, ...], query: Box | Sphere, start: int, stop: int
) -> Float[Tensor, "batch outputs rows *rest"]:
    """What the surrogate says with its values on sides: as in :mod:`anygrid.surrogate.imposed`."""
    u = emit(surrogate.operator, gathered, _scaled(surrogate, field), query, start, stop)
    column = (1, -1, *(1,) * (u.ndim - 2))
    u = surrogate.out_mean.view(column).to(u.dtype) + surrogate.out_std.view(column).to(u.dtype) * u
    state = _state(surrogate, field, query, start, stop, u)
    if not surrogate.imposed.walls:
        return u + state
    d, lift, on, _ = wall_functions(surrogate, slab(query, start, stop), u)
    steps = torch.tensor([source is not None for source in surrogate.base], device=u.device).view(column)
    return torch.where(steps, torch.where(on, lift, state) + d * u, lift + d * (u - lift))


def _state(surrogate: Surrogate, field: Slabs, query: Box | Sphere, start: int, stop: int, like: Tensor) -> Tensor:
    """What outputs by increments begin from, zero in the others; :meth:`Surrogate.add_state` of zero."""
    shared = [(k, source) for k, source in enumerate(surrogate.base) if source is not None]
    if not shared:
        return torch.zeros_like(like)
    sources = [source for _, source in shared]
    read: Callable[[int, int], Tensor] = lambda first, end: field.read(first, end)[:, sources]  # noqa: E731
    state = interpolate_slab(read, field.grid, query, start, stop)
    return torch.zeros_like(like).index_copy(1, torch.tensor([k for k, _ in shared], device=like.device), state)


def _amount(surrogate: Surrogate, field: Slabs, gathered: tuple[Tensor, ...]) -> Tensor:
    """What the output lacks of the conserved means, over the mean of the distance function: ``(batch, output)``."""
    grid = field.grid
    names = [v.name for v in surrogate.inputs]
    kept = [(k, names.index(v.name)) for k, v in enumerate(surrogate.outputs) if v.name in surrogate.imposed.conserved]
    outputs, sources = [k for k, _ in kept], [source for _, source in kept]
    rest = [axis.weights() / axis.weights().sum() for axis in grid.axes]
    missing, mean = torch.zeros(()), torch.zeros(())
    for start, stop, a in field:
        u = _walled(surrogate, field, gathered, grid, start, stop)
        d = wall_functions(surrogate, slab(grid, start, stop), u)[0]
        missing = missing.to(u.device) + _sum((a[:, sources] - u[:, outputs]).double(), [rest[0][start:stop], *rest[1:]])
        mean = mean.to(u.device) + _sum(d[None, outputs].double(), [rest[0][start:stop], *rest[1:]])
        amount = torch.zeros(u.shape[:2], dtype=u.dtype, device=u.device)
    amount[:, outputs] = (missing / mean).to(amount)
    return amount


def _sum(f: Tensor, weights: list[np.ndarray]) -> Tensor:
    """Weighted sum over space, one axis after the other, last first."""
    for w in reversed(weights):
        f = f @ torch.from_numpy(w.copy()).to(f)
    return f
