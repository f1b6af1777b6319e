"""A surrogate applied to a data set: checks first, then batches, then names, units and coordinates back."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import Layout, find_grid, find_layout, restore, select, to_dataset, to_tensor
from anygrid.fields.longitudes import UNTURNED, Turn, longitude_turn
from anygrid.fields.variables import coordinate
from anygrid.grid import Box, Grid, Points
from anygrid.surrogate.geometry import snap, window
from anygrid.surrogate.magnitudes import known_inputs
from anygrid.surrogate.seen import InputRangeWarning

if TYPE_CHECKING:
    from anygrid.surrogate.model import Surrogate

__all__ = ["Opened", "open_inputs", "predict"]

_POINTS_AT_ONCE = 1 << 19  # points of a batch: with 64 channels inside an operator, 128 MiB a layer


def predict(surrogate: Surrogate, ds: xr.Dataset, grid: Grid | None = None, *, rows: int | None = None) -> xr.Dataset:
    """Outputs of ``surrogate`` for every sample, member and time of ``ds``, on the grid of ``ds`` or on ``grid``.

    The data may have any resolution of the domain of training. Sample and time dimensions are kept with their
    coordinates. For an evolution each output is the state ``dt`` after the input of the same time label; the attribute
    ``lead_time`` says so.

    How it decides that an input lies outside what was seen: see :mod:`anygrid.surrogate.seen`. Values are compared with the
    training range widened by 10 % on each side, and three resolution-free statistics of each channel (mean, deviation,
    large-scale share) with their distribution over training samples. Samples outside get a prediction all the same, with
    one :class:`InputRangeWarning` and the attribute ``outside_training_range`` on the result.

    Parameters
    ----------
    grid
        Where to evaluate the output: a grid of the domain of training or of a part of it, or scattered points.
    rows
        Samples in one batch; by default as many as make half a million points.

    Raises
    ------
    DataError
        For a missing variable, other units, and values that are not finite.
    GridError
        For data on another family of grid, other axes, another periodicity or another extent than the training data.
    """
    given = open_inputs(surrogate, ds, "predict")
    names, source = [v.name for v in surrogate.inputs], given.grid
    target = source if grid is None else _target(grid, surrogate.grid)
    rows = rows or max(1, _POINTS_AT_ONCE // max(source.size, target.size))
    device = surrogate.in_mean.device
    parts: list[torch.Tensor] = []
    reasons: list[list[str]] = []
    training = surrogate.training
    surrogate.eval()
    with torch.inference_mode():
        for a in given.blocks(rows):
            if surrogate.seen is not None:
                reasons += surrogate.seen.outside(a, source, tuple(names))
            parts += [surrogate(chunk.to(device), source, target).float().cpu() for chunk in a.split(rows)]
    surrogate.train(training)
    out = given.named(torch.cat(parts), None if grid is None else target).assign_attrs(_attributes(surrogate))
    return _warn(out, reasons)


@dataclass(frozen=True, eq=False)
class Opened:
    """Inputs that were found good: their variables, the roles of their dimensions, their grid as read and on the domain of training.

    ``data`` has the longitudes of the training; ``turn`` brings them back to those of ``ds``.
    """

    surrogate: Surrogate
    ds: xr.Dataset
    data: xr.Dataset
    layout: Layout
    found: Grid
    grid: Grid
    leading: dict[str, xr.DataArray | None]
    turn: Turn = UNTURNED

    def blocks(self, rows: int) -> Iterator[torch.Tensor]:
        """Inputs ``(rows, channel, *space)``, float32, about so many rows at a time."""
        for block in _blocks(self.data, list(self.leading), rows):
            yield to_tensor(block, self.surrogate.inputs, self.layout, self.found)

    def named(self, u: torch.Tensor, target: Grid | None = None) -> xr.Dataset:
        """Outputs of all rows as a data set, on ``target`` or in the order and with the coordinates of the inputs."""
        out = to_dataset(u, self.surrogate.outputs, target or self.grid, self.leading)
        out = self.turn.back(_order(out, self.data, self.layout)) if target is None else out
        extra = {
            k: c
            for k, c in self.ds.coords.items()
            if k not in out.coords and set(c.dims) <= set(out.dims) and (target is None or set(c.dims) <= set(self.leading))
        }
        return out.assign_coords(extra)


def open_inputs(surrogate: Surrogate, ds: xr.Dataset, where: str) -> Opened:
    """Check a data set of inputs and find its grid; errors as in :func:`predict`."""
    names = [v.name for v in surrogate.inputs]
    ds = known_inputs(surrogate, ds, where)
    turn = longitude_turn(ds, surrogate.grid)
    data = turn.to(select(ds, names))
    space = surrogate.grid.dims if isinstance(surrogate.grid, Box) and set(surrogate.grid.dims) <= set(data.dims) else None
    layout = find_layout(data, names, space=space)
    periodic = None
    if space is not None:
        periodic = dict(zip(space, (interval.periodic for interval in surrogate.grid.domain), strict=True))
    found, _ = find_grid(data, names, layout, periodic=periodic)
    source = snap(found, surrogate.grid, f"{where}: grid of the data")
    leading = {d: coordinate(data, d) for d in layout.leading if d in data.dims}
    if any(data.sizes[d] == 0 for d in leading):
        raise DataError(where, "at least one sample", "none")
    return Opened(surrogate, ds, data, layout, found, source, leading, turn)


def _target(grid: Grid, reference: Grid) -> Grid:
    """The output's grid on the domain of training; scattered points are welcome where the data were a box or a sphere."""
    if isinstance(grid, Points) and not isinstance(reference, Points):
        if grid.ndim != reference.ndim:
            raise DataError("predict: output points", f"{reference.ndim} coordinates ({', '.join(reference.dims)})", str(grid.ndim))
        extent = reference.domain
        return Points(grid.coordinates, grid.names, extent, grid.quadrature, grid.dim)
    return window(grid, reference, "predict: output grid")


def _blocks(data: xr.Dataset, leading: list[str], rows: int) -> Iterator[xr.Dataset]:
    """Parts of the data of at most about ``rows`` samples, in row-major order of the leading dimensions."""
    if not leading:
        yield data
        return
    # Outer dimensions one entry at a time until what is inside fits; the last such dimension in slices.
    inner = 1
    split = len(leading) - 1
    while split > 0 and inner * data.sizes[leading[split]] <= rows:
        inner *= data.sizes[leading[split]]
        split -= 1
    step = max(1, rows // inner)
    for outer in itertools.product(*(range(data.sizes[d]) for d in leading[:split])):
        fixed = {d: slice(k, k + 1) for d, k in zip(leading[:split], outer, strict=True)}
        for begin in range(0, data.sizes[leading[split]], step):
            yield data.isel({**fixed, leading[split]: slice(begin, begin + step)})


def _order(out: xr.Dataset, data: xr.Dataset, layout: Layout) -> xr.Dataset:
    """The order of dimensions and the coordinates of the input."""
    first = max(data.data_vars.values(), key=lambda v: v.ndim)
    dims = [d for d in first.dims if d in out.dims]
    return restore(out, data).transpose(*dims, *(d for d in out.dims if d not in dims))


def _attributes(surrogate: Surrogate) -> dict[str, Any]:
    attrs = {"Conventions": "CF-1.11", "source": f"anygrid surrogate ({type(surrogate.operator).__name__})"}
    if surrogate.dt is not None:
        attrs["lead_time"] = surrogate.dt
    return attrs


def _warn(out: xr.Dataset, reasons: list[list[str]]) -> xr.Dataset:
    flagged = [k for k, found in enumerate(reasons) if found]
    if not flagged:
        return out
    count = f"{len(flagged)} of {len(reasons)} samples" if len(reasons) > 1 else "the input"
    which = f"sample {flagged[0]}: " if len(reasons) > 1 else ""
    text = f"{count} outside what the surrogate was trained on; {which}{'; '.join(reasons[flagged[0]])}"
    warnings.warn(f"{text}. These predictions are extrapolations.", InputRangeWarning, stacklevel=4)
    return out.assign_attrs(outside_training_range=text)
