"""What of a forecast is written: the state on another grid, or what a downscaling makes of it; the state itself stays on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import UsageError, did_you_mean
from anygrid.fields import Variable, to_dataset
from anygrid.fields.variables import coordinate
from anygrid.forecast.start import Start
from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate

__all__ = ["View", "on_grid"]

_ROWS = 16  # states at once


@dataclass(frozen=True)
class View:
    """Fields ``outputs`` on ``grid`` that ``map`` makes of the variables ``inputs`` of a state, at its own time.

    It is asked for the frames that are written, and for no other step.
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    grid: Grid
    map: Callable[[Tensor, Grid], Tensor]

    def channels(self, state: Sequence[Variable]) -> list[int]:
        """Places of ``inputs`` among the variables of the state.

        Raises
        ------
        UsageError
            When the state lacks one, or has other units.
        """
        known = {v.name: k for k, v in enumerate(state)}
        for v in self.inputs:
            if v.name not in known:
                hint = did_you_mean(v.name, known)
                raise UsageError("forecast: what is written", f"a forecast of {v.name!r}", f"one of {', '.join(known)}", hint)
            units = state[known[v.name]].units
            if v.units and units and v.units != units:
                raise UsageError("forecast: what is written", f"{v.name!r} in {v.units}", units, "train it on fields in the same units")
        return [known[v.name] for v in self.inputs]

    def frame(self, begin: Start) -> xr.Dataset:
        """One lead without values, for the starts of a forecast."""
        leading = {d: coordinate(begin.data, d) for d in begin.leading}
        sizes = [begin.data.sizes[d] for d in leading]
        out = to_dataset(torch.zeros(*sizes, len(self.outputs), *self.grid.shape), self.outputs, self.grid, leading)
        extra = {n: c for n, c in begin.data.coords.items() if n not in out.coords and set(c.dims) <= set(leading)}
        return out.assign_coords({n: c for n, c in extra.items() if n != begin.time_name})

    def values(self, state: Float[Tensor, "row channel *space"], grid: Grid, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Values of a frame of that ``shape``, one array a variable, of the channels that :meth:`channels` names."""
        with torch.inference_mode():
            u = torch.cat([self.map(rows, grid).to("cpu", torch.float32) for rows in state.split(_ROWS)])
        return [u[:, k].numpy().reshape(shape) for k in range(len(self.outputs))]


def on_grid(variables: Sequence[Variable], grid: Grid) -> View:
    """The variables interpolated to ``grid``: trigonometric along even periodic axes, else cubic splines.

    It adds nothing to what the state resolves. An operator's own output between the points of its grid is that of
    :meth:`~anygrid.surrogate.Surrogate.predict`.
    """
    return View(tuple(variables), tuple(variables), grid, partial(_interpolated, query=grid))


def _interpolated(u: Tensor, grid: Grid, *, query: Grid) -> Tensor:
    return interpolate(u, grid, query, smooth=True)
