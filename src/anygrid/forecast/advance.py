"""A map applied to its own output, batch by batch, with what is forced put into its inputs at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.grid import Grid
from anygrid.maps import Map, NoisyMap, RandomMap

__all__ = ["Drawn", "Roller", "largest", "rows_at_once"]

_VALUES = 1 << 21  # field values in one call of the map: bounds memory
_ROWS = 64  # states in one call: more are no cheaper each, and a block that is lost is one call a step
_EXPLODED = 1e8  # times the largest initial value: no physics, and float32 ends at 3e38


def rows_at_once(grid: Grid, channels: int) -> int:
    """States in one call of a map. Fixed by the grid and the channels, because rounding may depend on it."""
    return max(1, min(_ROWS, _VALUES // (grid.size * channels)))


def largest(state: Float[Tensor, "row channel *space"]) -> Float[Tensor, " channel"]:
    """Values of each channel beyond which a state that began like this one has exploded."""
    return _EXPLODED * state.abs().amax(dim=(0, *range(2, state.ndim)))


class Drawn:
    """A random map as a :class:`~anygrid.maps.Map`: row i is drawn from its own generator, whatever else is in the batch.

    A :class:`~anygrid.maps.NoisyMap` computes all rows together (half the time at 48 x 96), any other random map one by one.
    """

    def __init__(self, map_: NoisyMap | RandomMap, generators: Sequence[torch.Generator]) -> None:
        self.map, self.generators = map_, generators

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """One output for each input."""
        if isinstance(self.map, NoisyMap):
            noise = torch.cat([self.map.noise.draw(1, grid, generator) for generator in self.generators])
            return self.map(torch.cat([a, noise.to(a)], 1), grid)
        rows = zip(a.split(1), self.generators, strict=True)
        return torch.cat([self.map(row, grid, members=1, generator=generator)[0] for row, generator in rows])


class Roller:
    """The map on batches of rows, with the state and the forcings put into its inputs.

    Parameters
    ----------
    a
        Inputs at the start.
    channels
        Place among the inputs of each output, which is fed back.
    into
        Called with a copy of the inputs and the number of steps done: puts what is forced there.
    limit
        Of each output: see :func:`largest`.
    """

    def __init__(
        self,
        map_: Map,
        grid: Grid,
        a: Float[Tensor, "row inputs *space"],
        channels: Sequence[int],
        into: Callable[[Tensor, int], None],
        limit: Float[Tensor, " outputs"],
    ) -> None:
        self.map, self.grid, self.a, self.channels, self.into, self.limit = map_, grid, a, list(channels), into, limit
        self.rows_at_once = rows_at_once(grid, max(a.shape[1], len(self.channels)))

    def initial(self) -> Float[Tensor, "row outputs *space"]:
        """State at the start."""
        return self.a[:, self.channels]

    def step(self, state: Float[Tensor, "row outputs *space"], number: int) -> Float[Tensor, "row outputs *space"]:
        """State one step later; ``number`` steps have been done."""
        a = self.a.clone()
        a[:, self.channels] = state
        self.into(a, number)
        with torch.no_grad():
            parts = [self.map(part, self.grid).detach().to("cpu", torch.float32) for part in a.split(self.rows_at_once)]
        return torch.cat(parts)

    def bad_rows(self, state: Float[Tensor, "row outputs *space"]) -> tuple[list[int], str]:
        """Rows of a state that cannot be gone on with, and what is wrong with them."""
        bad = ~torch.isfinite(state)
        what = "values that are not finite"
        if not bad.any():
            limit = self.limit.view(1, -1, *(1,) * (state.ndim - 2))
            bad, what = (state.abs() > limit) & (limit > 0), "values that exploded"
        return torch.nonzero(bad.flatten(1).any(1)).flatten().tolist(), what

    def trouble(self, state: Float[Tensor, "row outputs *space"]) -> str:
        """What is wrong with a state; empty when nothing is."""
        rows, what = self.bad_rows(state)
        if not rows:
            return ""
        return what + ("" if len(state) == 1 else f" in {len(rows)} of {len(state)} rows, the first {rows[0]}")
