"""The truth that belongs to a forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import select
from anygrid.forecast.calendar import month_number

__all__ = ["truth_for"]


def truth_for(forecast: xr.Dataset, truth: xr.Dataset, *, time: str = "time") -> xr.Dataset:
    """Variables of ``truth`` at the valid times of ``forecast``, with its dimensions; NaN where the truth has no such time.

    Times match when they are equal; for a forecast in calendar months, when they lie in the same month.

    Raises
    ------
    DataError
        When the forecast has no valid times, or the truth has none of them.
    """
    names = [str(n) for n in forecast.data_vars]
    data = select(truth, names)
    valid = forecast.coords.get("valid_time", forecast.coords.get(time))
    if valid is None or time not in data.coords:
        hint = f"name the time dimension; found {list(truth.dims)}"
        raise DataError("truth_for", "valid times in the forecast and times in the truth", "none", hint)
    monthly = str(forecast["lead_time"].attrs.get("units", "")) in ("month", "year") and valid.dtype.kind not in "fiu"

    def key(value: Any) -> Any:
        if monthly:
            return month_number(value)
        return round(float(value), 9) if valid.dtype.kind in "fiu" else value

    places = {key(v): k for k, v in enumerate(data[time].values)}
    index = np.array([places.get(key(v), -1) for v in valid.values.ravel()]).reshape(valid.shape)
    if (index < 0).all():
        first, last = data[time].values[[0, -1]]
        wanted = f"times between {valid.values.min()} and {valid.values.max()}"
        raise DataError("truth_for", wanted, f"{first} to {last}", "give the truth of that period")
    rows = xr.DataArray(index, dims=valid.dims)
    matched = data.drop_vars(time).isel({time: rows}).where(rows >= 0)
    same = {d: forecast[d] for d in forecast.dims if d in forecast.coords and d in valid.dims}
    return matched.assign_coords({**same, **({"valid_time": valid} if "valid_time" in forecast.coords else {})})
