"""Small weather as ERA5, WeatherBench 2 or CMIP would name it, and the real files where they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

WB2 = {
    "z": "geopotential",
    "t": "temperature",
    "t2m": "2m_temperature",
    "msl": "mean_sea_level_pressure",
    "orography": "orography",
}
CMIP = {"z": "zg", "t": "ta", "t2m": "tas", "msl": "psl", "orography": "orog"}


def real_weather() -> Path | None:
    """The folder ``shared/data/weather`` beside the checkout or above it, wherever the tests stand."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "data" / "weather").is_dir():
            return folder / "shared" / "data" / "weather"
    return None


WEATHER = real_weather()
needs_weather = pytest.mark.skipif(WEATHER is None, reason="the real weather data of shared/data/weather are not here")


def weather(times=12, lat=12, lon=24, seed=0, freq="6h") -> xr.Dataset:
    """ERA5's short names: z and t on three levels, t2m, msl, and the height of the ground. Waves that travel east."""
    rng = np.random.default_rng(seed)
    phi, lam = -90 + (np.arange(lat) + 0.5) * 180 / lat, np.arange(lon) * 360 / lon
    step = np.arange(times)[:, None, None]
    y, x = np.deg2rad(phi)[None, :, None], np.deg2rad(lam)[None, None, :]
    wave = np.cos(y) ** 2 * np.cos(2 * x - 0.4 * step + rng.uniform(0, 6)) + 0.3 * np.cos(y) * np.sin(x - 0.2 * step)
    level = np.array([300, 500, 850])
    height = np.array([9000.0, 5600.0, 1450.0])[None, :, None, None]
    z = 9.80665 * (height + 150 * np.cos(2 * y)[:, None] + 100 * wave[:, None])
    t = np.array([230.0, 255.0, 275.0])[None, :, None, None] + 15 * np.cos(2 * y)[:, None] + 4 * wave[:, None]
    dims = ("time", "latitude", "longitude")
    on = ("time", "level", "latitude", "longitude")
    ground = 200 * (1 + np.cos(3 * np.deg2rad(lam)))[None, :] * np.cos(np.deg2rad(phi))[:, None]
    f = np.float32
    return xr.Dataset(
        {
            "z": (on, z.astype(f), {"units": "m**2 s**-2", "standard_name": "geopotential", "long_name": "Geopotential"}),
            "t": (on, t.astype(f), {"units": "K", "standard_name": "air_temperature"}),
            "t2m": (dims, (288 + 18 * np.cos(2 * y) + 3 * wave).astype(f), {"units": "K"}),
            "msl": (dims, (101000 + 800 * wave).astype(f), {"units": "Pa", "standard_name": "air_pressure_at_mean_sea_level"}),
            "orography": (dims[1:], ground.astype(f), {"units": "m", "standard_name": "surface_altitude"}),
        },
        {
            "time": ("time", pd.date_range("2001-01-01", periods=times, freq=freq)),
            "level": ("level", level),
            "latitude": ("latitude", phi, {"units": "degrees_north"}),
            "longitude": ("longitude", lam, {"units": "degrees_east"}),
        },
    )


def renamed(ds: xr.Dataset, names: dict[str, str]) -> xr.Dataset:
    """The same under other names."""
    return ds.rename({k: v for k, v in names.items() if k in ds})


def as_cmip(ds: xr.Dataset) -> xr.Dataset:
    """Height in m, temperature in degC, pressure in hPa, levels in Pa, north first, longitudes from -180: everything otherwise."""
    out = renamed(ds, CMIP).rename(level="plev", latitude="lat", longitude="lon")
    out["zg"] = (out.zg / 9.80665).assign_attrs(units="m", standard_name="geopotential_height")
    for name in ("ta", "tas"):
        out[name] = (out[name] - 273.15).assign_attrs(units="degC")
    out["psl"] = (out.psl / 100).assign_attrs(units="hPa")
    out = out.assign_coords(plev=("plev", out.plev.values * 100.0, {"units": "Pa"}))
    out = out.assign_coords(lon=("lon", (out.lon.values + 180) % 360 - 180, out.lon.attrs)).sortby("lon")
    return out.isel(lat=slice(None, None, -1))
