"""Units told by the size of the values: what a file does not state, or states wrongly, against what the surrogate saw in training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import Variable, adopt, select
from anygrid.fields.conversions import likely_slip
from anygrid.fields.layout import dimension_roles
from anygrid.fields.variables import read_values

if TYPE_CHECKING:
    from anygrid.surrogate.model import Surrogate

__all__ = ["UnstatedUnitsWarning", "known_inputs"]

_FAR = 6.0  # deviations of the training between its mean and that of a field, beyond which a slip of units is looked for
_TOLERANCE = 0.25  # of the factor: one state, perhaps of another season or region, against the mean of the training


class UnstatedUnitsWarning(UserWarning):
    """A file states no units; its values are like those of the training and are taken as such."""


def known_inputs(surrogate: Surrogate, ds: xr.Dataset, where: str, variables: Iterable[Variable] | None = None) -> xr.Dataset:
    """``ds`` with the surrogate's inputs (or some of them) under its names and in its units: see :func:`anygrid.fields.adopt`.

    The first state of each is compared with the mean and deviation of the training. More than 6 deviations away, a factor within 25 % of
    9.80665, 100 or 1000, or a shift of 273.15, is taken for a slip of units and refused. Fields without units that are nearer pass with a
    warning.

    Raises
    ------
    DataError
        For a slip of units, named; and as ``adopt``.
    """
    chosen = tuple(surrogate.inputs if variables is None else variables)
    found = select(ds, [v.name for v in chosen])
    unstated = {v.name: v.units for v in chosen if v.units.strip() and not str(found[v.name].attrs.get("units", "")).strip()}
    taken = []
    for name, units in unstated.items():
        if _compare(surrogate, name, found[name], where, "no units"):
            ds = ds.assign({name: found[name].assign_attrs(units=units)})
            taken.append(f"{name} as {units}")
    if taken:
        warnings.warn(f"the data state no units; by the size of the values they are taken: {', '.join(taken)}", UnstatedUnitsWarning, 4)
    ds = adopt(ds, chosen, where)
    for v in chosen:
        _compare(surrogate, v.name, ds[v.name], where, f"units {v.units!r}")
    return ds


def _compare(surrogate: Surrogate, name: str, array: xr.DataArray, where: str, stated: str) -> bool:
    """Whether the first state of a field is like those of the training; a slip of units is refused."""
    k = [v.name for v in surrogate.inputs].index(name)
    usual = surrogate.statistics.inputs
    mean, std = usual.mean[k], usual.std[k]
    roles = dimension_roles(array.to_dataset(name="field"))
    space = {*surrogate.grid.dims, *(d for d, role in roles.items() if role == "space")}
    if any(array.sizes[d] == 0 for d in array.dims) or array.dtype.kind not in "fiu":
        return True
    values = read_values(array.isel({d: 0 for d in array.dims if str(d) not in space})).astype(np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0 or usual.constant[k]:
        return True
    middle, width = float(values.mean()), float(values.std())
    if abs(middle - mean) <= _FAR * std:
        return True
    said = likely_slip((middle, width), (mean, std), _TOLERANCE)
    if said:
        got = f"{stated} and a mean of {middle:.4g}: {said}"
        hint = f"state the right units: ds[{name!r}].attrs['units']; they are then converted"
        wanted = f"values like those of the training (mean {mean:.4g}, deviation {std:.3g})"
        raise DataError(f"{where}: variable {name!r}", wanted, got, hint)
    return False
