"""Skill of a forecast by lead, against persistence and climatology, where the truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import find_grid, find_layout, select
from anygrid.forecast import truth_for
from anygrid.grid import Box, Grid
from anygrid.metrics.skill import anomaly_correlation, mse_skill, rmse_by_lead
from anygrid.surrogate import snap

if TYPE_CHECKING:
    from anygrid.surrogate import Surrogate

__all__ = ["climatology_for", "skill_rows", "time_of"]

Row = dict[str, Any]


def skill_rows(model: Surrogate, found: xr.Dataset, truth: xr.Dataset, initial: xr.Dataset, climatology: xr.Dataset) -> list[Row]:
    """One row for each lead and variable: RMSE, anomaly correlation, mean-square skill over persistence and climatology.

    Persistence is the state that each forecast started from. Only starts whose truth is known at that lead are counted.

    Parameters
    ----------
    found
        A forecast; its truth may be missing (NaN) at some leads.
    initial
        The data it started from.
    climatology
        The climatological field at each valid time of ``found``, or one field.

    Raises
    ------
    DataError
        When the truth lies on another grid, or no start has a truth.
    """
    names = [v.name for v in model.outputs]
    space = model.grid.dims
    lead = str(found["lead_time"].dims[0])
    own = time_of(truth, names)
    # A truth may name its time otherwise than the initial data do, whose name the forecast has taken over.
    shared = own if own is None or lead == "lead_time" else lead
    right = truth_for(found, truth if own is None else truth.rename({own: shared}), time=shared or "time")
    for dim in space:
        if right.sizes.get(dim) != found.sizes.get(dim):
            where = f"{dim} with {found.sizes.get(dim)} points, as the forecast has"
            raise DataError("--truth", where, f"{right.sizes.get(dim)}", "give the truth on the grid of the forecast")
    leading = [str(d) for d in found[names[0]].dims if d not in (lead, *space)]
    started = _starts(initial, found, names, lead)
    grid = _grid(model, found, names)
    fields = [_cases(ds, found, names, leading, lead, space) for ds in (found, right, started, climatology)]
    units = str(found["lead_time"].attrs.get("units", "steps"))
    rows: list[Row] = []
    for k, length in enumerate(np.atleast_1d(found["lead_time"].values)):
        known = torch.isfinite(fields[1][:, k]).flatten(1).all(1)
        if not known.any():
            continue
        u, v, p, c = (f[known][:, k : k + 1].double() for f in fields)
        scores = {
            "rmse": rmse_by_lead(u, v, grid),
            "persistence rmse": rmse_by_lead(p, v, grid),
            "climatology rmse": rmse_by_lead(c, v, grid),
            "anomaly correlation": anomaly_correlation(u, v, c, grid),
            "skill over persistence": mse_skill(u, v, p, grid),
            "skill over climatology": mse_skill(u, v, c, grid),
        }
        amount = float(length / np.timedelta64(1, "D")) if np.issubdtype(np.asarray(length).dtype, np.timedelta64) else float(length)
        for n, name in enumerate(names):
            facts = {"lead": amount, "units": units, "variable": name, "starts": int(known.sum())}
            rows.append({**facts, **{key: _finite(value[0, n]) for key, value in scores.items()}})
    if not rows:
        raise DataError("--truth", "the truth at some of the valid times", "none without missing values", "give the truth of that period")
    return rows


def time_of(ds: xr.Dataset, names: list[str]) -> str | None:
    """The time dimension of a data set, if it has one with coordinates."""
    layout = find_layout(ds, names)
    return layout.time if layout.time in ds.coords else None


def climatology_for(found: xr.Dataset, data: xr.Dataset, names: list[str]) -> tuple[xr.Dataset, str]:
    """Climatological field at the valid times of a forecast, from ``data``, and what it is in words.

    The mean of each calendar month where the data have dates and span two years or more, else the mean over time.
    """
    picked = select(data, names)
    layout = find_layout(picked, names)
    if layout.time is None:
        return picked.mean(list(layout.samples)) if layout.samples else picked, "mean over samples"
    if layout.samples:
        picked = picked.mean(list(layout.samples))
    times = picked[layout.time]
    lead = str(found["lead_time"].dims[0])
    valid = found.coords.get("valid_time", found.coords.get(lead))
    dated = times.dtype.kind == "M" or (times.dtype == object and hasattr(times.values.flat[0], "month"))
    if dated and valid is not None and valid.dtype.kind not in "fiu":
        years = np.unique(times.dt.year)
        if len(years) > 2:
            monthly = picked.groupby(times.dt.month).mean()
            months = xr.DataArray(valid.dt.month.values, dims=valid.dims)
            return monthly.sel(month=months, method="nearest").drop_vars("month"), f"calendar-month means over {years[0]} to {years[-1]}"
    return picked.mean(layout.time), f"mean over {times.size} times"


def _starts(initial: xr.Dataset, found: xr.Dataset, names: list[str], lead: str) -> xr.Dataset:
    """The state each forecast started from."""
    state = select(initial, names)
    layout = find_layout(state, names)
    if layout.time is None:
        return state
    if "init_time" in found.dims:
        return state.rename({layout.time: "init_time"})
    reference = found.coords.get("forecast_reference_time")
    if reference is None or lead != layout.time:
        return state.isel({layout.time: -1}, drop=True)
    return state.sel({layout.time: reference.values}).drop_vars(layout.time)


def _grid(model: Surrogate, found: xr.Dataset, names: list[str]) -> Grid:
    space = model.grid.dims
    boxed = isinstance(model.grid, Box)
    frame = found.isel({d: 0 for d in found.dims if d not in space}, drop=True)
    layout = find_layout(frame, names, space=space if boxed else None)
    periodic = {d: i.periodic for d, i in zip(space, model.grid.domain, strict=True)} if boxed else None
    return snap(find_grid(frame, names, layout, periodic=periodic)[0], model.grid, "forecast")


def _cases(ds: xr.Dataset, like: xr.Dataset, names: list[str], leading: list[str], lead: str, space: tuple[str, ...]) -> torch.Tensor:
    """Values as ``(case, lead, channel, *space)``, space ascending, repeated along the dimensions that ``ds`` lacks."""
    sizes = [like.sizes[d] for d in (*leading, lead, *space)]
    planes = []
    for name in names:
        array = ds[name]
        for dim in space:
            if dim in array.indexes:
                array = array.sortby(dim)
        missing = {d: like.sizes[d] for d in (*leading, lead) if d not in array.dims}
        planes.append(array.drop_vars(list(array.coords)).expand_dims(missing).transpose(*leading, lead, *space).values.reshape(sizes))
    stacked = np.stack(planes, axis=len(leading) + 1)
    return (
        torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32)).flatten(0, len(leading) - 1)
        if leading
        else torch.from_numpy(stacked)[None]
    )


def _finite(value: torch.Tensor) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
