"""Coordinates of a forecast: leads, starts and valid times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from anygrid.forecast.calendar import Step, valid_times
from anygrid.forecast.start import Start

__all__ = ["lead_coordinates"]


def lead_coordinates(begin: Start, step: Step, counts: Sequence[int], known: tuple[Any, ...]) -> tuple[str, dict[str, xr.DataArray]]:
    """Name of the lead dimension and the coordinates of leads and valid times."""
    units = str(begin.time_attrs.get("units", ""))
    attrs = {"standard_name": "forecast_period", "long_name": "time since the start of the forecast", "units": step.units(units)}
    leads = [step.lead(k) for k in counts]
    reference = {"standard_name": "forecast_reference_time", "long_name": "start of the forecast"}
    table = None
    if begin.times is not None:
        axis = (*begin.axis, *known)
        found = [valid_times(t, step, counts, axis, units) for t in begin.times]
        table = None if any(row is None for row in found) else np.array(found)
    if not begin.each and table is not None and begin.times is not None:
        name = begin.time_name
        return name, {
            name: xr.DataArray(table[0], dims=name, attrs={"standard_name": "time", "axis": "T", **begin.time_attrs}),
            "lead_time": xr.DataArray(leads, dims=name, attrs=attrs),
            "forecast_reference_time": xr.DataArray(begin.times[0], attrs={**_unit(begin), **reference}),
        }
    out = {"lead_time": xr.DataArray(leads, dims="lead_time", attrs=attrs)}
    if begin.each and begin.times is not None:
        out["init_time"] = xr.DataArray(np.array(begin.times), dims="init_time", attrs={**_unit(begin), **reference})
        if table is not None:
            out["valid_time"] = xr.DataArray(table, dims=("init_time", "lead_time"), attrs={**_unit(begin), "standard_name": "time"})
    return "lead_time", out


def _unit(begin: Start) -> dict[str, Any]:
    return {k: v for k, v in begin.time_attrs.items() if k == "units"}
