"""Data sets to tensors and back: the only file that joins xarray and torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError, GridError
from anygrid.fields.coordinates import ascending, grid_coordinates
from anygrid.fields.layout import Layout
from anygrid.fields.missing import filled, refuse_missing
from anygrid.fields.variables import Variable, coordinate, read_values, select
from anygrid.grid import Grid, Points

__all__ = ["restore", "to_array", "to_dataset", "to_tensor"]


def to_tensor(ds: xr.Dataset, variables: Sequence[Variable], layout: Layout, grid: Grid) -> Float32[Tensor, "n channel *space"]:
    """Values of the variables, one channel each, in ascending coordinates.

    Sample dimensions and then time are flattened into ``n``, in the order of ``layout``; space is ordered as ``grid.dims``. A
    variable without one of the dimensions (a static field, a scalar parameter) is repeated along it. What is missing of a ``masked``
    variable is filled.

    Raises
    ------
    DataError
        For NaN or infinite values (how many and where the first is; of a masked variable, NaN that come and go) and values that
        are not real numbers.
    GridError
        For data whose dimensions do not have the sizes of the grid.
    """
    return torch.from_numpy(to_array(ds, variables, layout, grid))


def to_array(ds: xr.Dataset, variables: Sequence[Variable], layout: Layout, grid: Grid) -> NDArray[np.float32]:
    """As :func:`to_tensor`, as a NumPy array."""
    data = select(ds, [v.name for v in variables])
    space = layout.space if isinstance(grid, Points) else grid.dims
    if set(space) != set(layout.space) or tuple(data.sizes.get(d, 0) for d in space) != grid.shape:
        found = ", ".join(f"{d} {data.sizes.get(d, 'missing')}" for d in layout.space)
        wanted = ", ".join(f"{d} {n}" for d, n in zip(space, grid.shape, strict=True))
        raise GridError("data", f"the grid {wanted}", found, "use data on that grid, or find the grid of these data")
    leading = tuple(d for d in layout.leading if d in data.sizes)
    shape = (*(data.sizes[d] for d in leading), *grid.shape)
    turned = (
        {} if isinstance(grid, Points) else {d: slice(None, None, -1) for d in space if ascending(coordinate(data, d), d, data.sizes[d])[1]}
    )
    out = np.empty((math.prod(shape[: len(leading)]), len(variables), *grid.shape), dtype=np.float32)
    for k, variable in enumerate(variables):
        array = data[variable.name]
        spare = [d for d in array.dims if d not in (*leading, *space)]
        if any(array.sizes[d] > 1 for d in spare):
            raise DataError(
                f"variable {variable.name!r}", "only sample, time and space dimensions", f"{', '.join(map(str, spare))} as well"
            )
        array = array.squeeze(spare, drop=True).isel({d: s for d, s in turned.items() if d in array.dims})
        if array.dtype.kind not in "fiub":
            hint = f"split it into {variable.name}_real and {variable.name}_imag" if array.dtype.kind == "c" else "use a numeric variable"
            raise DataError(f"variable {variable.name!r}", "real numbers", f"type {array.dtype}", hint)
        present = tuple(d for d in (*leading, *space) if d in array.dims)
        values = read_values(array.transpose(*present))
        if variable.masked and set(space) <= set(present):
            values = filled(variable.name, values, grid)
        refuse_missing(variable.name, values, {d: coordinate(array, d) for d in present})
        full = tuple(values.shape[present.index(d)] if d in present else 1 for d in (*leading, *space))
        out[:, k] = np.broadcast_to(values.reshape(full), shape).reshape(out.shape[0], *grid.shape)
    return out


def to_dataset(u: Tensor, variables: Sequence[Variable], grid: Grid, leading: Mapping[str, Any]) -> xr.Dataset:
    """Data set of a tensor ``(n..., channel, *space)``, with names, units and coordinates, ascending in space.

    Parameters
    ----------
    leading
        Names and coordinates (values, a DataArray, or None for no coordinate) of the dimensions before the channel, in
        order. Where the tensor has one leading dimension for several names, it is unfolded.

    Raises
    ------
    DataError
        When the shape does not fit the variables, the grid and the leading dimensions.
    """
    values = u.detach().cpu().numpy()
    split = values.ndim - len(grid.shape) - 1
    if split < 0 or values.shape[split:] != (len(variables), *grid.shape):
        wanted = f"(..., {len(variables)}, {', '.join(map(str, grid.shape))})"
        raise DataError("to_dataset", f"a tensor of shape {wanted}", str(tuple(values.shape)))
    rows = math.prod(values.shape[:split])
    sizes = [0 if c is None else np.size(c) for c in leading.values()]
    if split == len(sizes):
        sizes = [n or values.shape[k] for k, n in enumerate(sizes)]
    elif sizes.count(0) == 1:
        sizes[sizes.index(0)] = rows // max(1, math.prod(n for n in sizes if n))
    if math.prod(sizes) != rows:
        raise DataError("to_dataset", f"{math.prod(sizes)} rows for {dict(zip(leading, sizes, strict=True))}", str(rows))
    values = values.reshape(*sizes, len(variables), *grid.shape)
    dims = (*leading, *grid.dims)
    coords: dict[str, Any] = {
        name: c if isinstance(c, xr.DataArray) else (name, np.asarray(c)) for name, c in leading.items() if c is not None
    }
    coords |= grid_coordinates(grid)
    fields = {}
    for k, v in enumerate(variables):
        attrs = {key: text for key, text in (("units", v.units), ("long_name", v.long_name), ("standard_name", v.standard_name)) if text}
        fields[v.name] = xr.Variable(dims, values.take(k, axis=len(sizes)), attrs)
    return xr.Dataset(fields, coords)


def restore(result: xr.Dataset, source: xr.Dataset) -> xr.Dataset:
    """Give ``result`` the coordinates of ``source`` where they are the same places: its order, its values, its attributes.

    A grid ascends and is exactly even; a file may descend and hold rounded float32. Arithmetic between the two in xarray
    would align them on equal values and lose points. Dimensions that differ in size or place are left alone.
    """
    out = result
    for dim in result.dims:
        name = str(dim)
        if name not in result.coords or name not in source.coords or source[name].dims != (dim,) or source[name].size != result[name].size:
            continue
        if result[name].dtype.kind not in "fiu" or source[name].dtype.kind not in "fiu":
            continue
        (x, turned), (y, _) = ascending(source[name], name, source[name].size), ascending(result[name], name, result[name].size)
        if np.abs(x - y).max() <= 1e-2 * np.ptp(x) / max(1, x.size - 1):
            out = out.isel({dim: slice(None, None, -1)}) if turned else out
            attrs = {
                **{k: v for k, v in result[name].attrs.items() if k in ("units", "standard_name", "axis")},
                **source[name].attrs,
                **({} if turned else {k: v for k, v in result[name].attrs.items() if str(k).startswith("anygrid_")}),
            }
            out = out.assign_coords({name: (name, source[name].values, attrs)})
    return out
