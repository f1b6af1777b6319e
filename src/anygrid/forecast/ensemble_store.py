"""The data set of an ensemble without its values: statistics and members with names, units and coordinates."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import xarray as xr

from anygrid.errors import UsageError
from anygrid.fields import Variable
from anygrid.forecast.ensemble_block import Plan
from anygrid.forecast.summary import EXACT, Keep

__all__ = ["skeleton"]

_CELLS = {"mean": "mean", "std": "standard_deviation", "min": "minimum", "max": "maximum"}


def skeleton(template: xr.Dataset, plan: Plan, outputs: tuple[Variable, ...], member: xr.DataArray) -> xr.Dataset:
    """Data set with the dimensions of ``template`` (one forecast) and what ``plan.keep`` asks for.

    ``member`` is the coordinate of the members; its name is that of their dimension.
    """
    keep = plan.keep
    made: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}

    def add(name: str, like: xr.DataArray, before: str | None, size: int, attrs: dict[str, Any]) -> None:
        if name in made:
            raise UsageError("ensemble", "names that do not meet those of statistics", f"two times {name!r}", "rename the variable")
        dims = (*(() if before is None else (before,)), *like.dims)
        shape = (*(() if before is None else (size,)), *like.shape)
        chunk = (*(() if before is None else (1,)), *plan.chunk_rows, plan.span, *plan.space)
        made[name] = (dims, dask.array.zeros(shape, chunks=chunk, dtype=np.float32), attrs)

    for v in outputs:
        like = template[v.name]
        attrs, words = dict(like.attrs), v.long_name or v.name
        for statistic in _statistics(keep):
            add(f"{v.name}_{statistic}", like, None, 0, attrs | {"cell_methods": f"realization: {_CELLS[statistic]}"})
        if keep.quantiles:
            add(
                f"{v.name}_quantile", like, "quantile", len(keep.quantiles), attrs | {"long_name": f"quantiles of {words} over the members"}
            )
            if plan.members > EXACT:
                bound = {"units": v.units} if v.units else {}
                add(
                    f"{v.name}_quantile_error",
                    like,
                    "quantile",
                    len(keep.quantiles),
                    bound | {"long_name": "bound of the error of the quantile"},
                )
            coordinates["quantile"] = ("quantile", np.array(keep.quantiles), {"long_name": "probability", "units": "1"})
        if keep.crps and v.name in plan.judged:
            add(f"{v.name}_crps", like, None, 0, attrs | {"long_name": f"fair CRPS of {words} against the truth"})
        if keep.rank and v.name in plan.judged:
            add(f"{v.name}_rank", like, None, 0, {"long_name": f"members with {words} below the truth", "units": "1"})
        thresholds = keep.thresholds(v.name)
        if thresholds:
            dim = f"{v.name}_threshold"
            about = {"long_name": f"part of the members with {words} above the threshold", "units": "1"}
            add(f"{v.name}_above", like, dim, len(thresholds), about)
            coordinates[dim] = (dim, np.array(thresholds), {"units": v.units} if v.units else {})
        if plan.single:
            add(v.name, like, None, 0, attrs)
        elif keep.members:
            add(v.name, like, str(member.name), len(keep.members), attrs)
            chosen = member.values[list(keep.members)]
            coordinates[str(member.name)] = (member.name, chosen, {**member.attrs, "standard_name": "realization"})
    return xr.Dataset(made, {**template.coords, **coordinates}, template.attrs)


def _statistics(keep: Keep) -> list[str]:
    asked = {"mean": keep.mean, "std": keep.std, "min": keep.minimum, "max": keep.maximum}
    return [name for name, wanted in asked.items() if wanted]
