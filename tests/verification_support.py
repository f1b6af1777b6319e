"""Forecasts of a synthetic weather whose error, spread and bias are known."""

import numpy as np
import pandas as pd
import torch
import xarray as xr

from anygrid.grid import Sphere
from anygrid.numerics.sphere_fields import sphere_field

LATS, LONS = 12, 24
LEADS = (24, 72, 120)


def fields(n, seed):
    grid = Sphere.equiangular(LATS, LONS)
    return sphere_field(n, grid, length=25, generator=torch.Generator().manual_seed(seed)).numpy()


def coordinates():
    lat, lon = (a.coordinates() for a in Sphere.equiangular(LATS, LONS).axes)
    return {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})}


def weather(starts=20, members=8, *, spread=1.0, bias=0.0, seed=0):
    """A forecast of t2m (K) and z500 (m2 s-2) from daily starts, and its truth; members are drawn as the truth is when spread is 1."""
    days = pd.date_range("2001-03-01", periods=starts + 6, freq="D")
    signal = fields(len(days), seed)
    noise = fields((members + 1) * len(days), seed + 1).reshape(members + 1, len(days), LATS, LONS)
    truth = {"t2m": 288 + 8 * signal + 2 * noise[0], "z500": 54000 + 900 * signal + 300 * noise[0]}
    at = np.arange(starts)[:, None] + np.array(LEADS)[None] // 24
    made = {
        "t2m": 288 + bias + 8 * signal[at] + 2 * spread * noise[1:][:, at],
        "z500": 54000 + 900 * signal[at] + 300 * spread * noise[1:][:, at],
    }
    units = {"t2m": "K", "z500": "m2 s-2"}
    dims = ("member", "init_time", "lead_time", "lat", "lon")
    ds = xr.Dataset(
        {n: (dims, v.astype("f4"), {"units": units[n]}) for n, v in made.items()},
        {
            **coordinates(),
            "init_time": days[:starts],
            "lead_time": ("lead_time", list(LEADS), {"units": "hours", "standard_name": "forecast_period"}),
            "member": ("member", np.arange(members), {"standard_name": "realization"}),
        },
    )
    right = xr.Dataset(
        {n: (("time", "lat", "lon"), v.astype("f4"), {"units": units[n]}) for n, v in truth.items()}, {**coordinates(), "time": days}
    )
    return ds, right


def past(years=3, seed=7):
    """Years before, of the same climate, every third day."""
    days = pd.date_range("1995-01-01", periods=years * 122, freq="3D")
    values = fields(len(days), seed)
    data = {"t2m": 288 + 8.25 * values, "z500": 54000 + 950 * values}
    units = {"t2m": "K", "z500": "m2 s-2"}
    return xr.Dataset(
        {n: (("time", "lat", "lon"), v.astype("f4"), {"units": units[n]}) for n, v in data.items()}, {**coordinates(), "time": days}
    )


def statistics(ds):
    """The store of the same ensemble of which only statistics were kept."""
    out = xr.Dataset(attrs={"ensemble_members": ds.sizes["member"]})
    for name, array in ds.data_vars.items():
        out[f"{name}_mean"] = array.mean("member").assign_attrs(array.attrs, cell_methods="realization: mean")
        out[f"{name}_std"] = array.std("member", ddof=1).assign_attrs(array.attrs, cell_methods="realization: standard_deviation")
        out[f"{name}_quantile"] = array.quantile([0.05, 0.5, 0.95], "member").assign_attrs(array.attrs)
    out["t2m_above"] = (ds.t2m > 290).mean("member").expand_dims(t2m_threshold=[290.0])
    return out.drop_vars("member", errors="ignore")
