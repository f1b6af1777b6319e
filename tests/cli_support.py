"""The command line called in this process, and a small file that nobody wrote for it."""

import math

import numpy as np
import pandas as pd
import xarray as xr

from anygrid.cli import main


def call(capsys, *words):
    """Exit code, stdout and stderr of one command."""
    capsys.readouterr()
    try:
        main([str(w) for w in words])
    except SystemExit as leave:
        code = leave.code
    said = capsys.readouterr()
    return code, said.out, said.err


def wave_file(path, *, times=24, lat=9, lon=16, units="degC"):
    """Waves that travel east by a quarter of the globe a month: odd names, descending latitudes, a mask-free ocean."""
    date = pd.date_range("1999-01-01", periods=times, freq="MS")
    phi = np.linspace(80, -80, lat)
    lam = np.arange(lon) * 360 / lon
    t, y, x = np.meshgrid(np.arange(times), np.deg2rad(phi), np.deg2rad(lam), indexing="ij")
    theta = np.cos(y) * np.sin(x - math.pi / 2 * t) + 0.3 * np.cos(2 * (x - math.pi / 2 * t)) * np.cos(y) ** 2
    ds = xr.Dataset(
        {
            "thetao_con": (
                ("month", "nav_lat", "nav_lon"),
                theta.astype(np.float32),
                {"units": units, "long_name": "conservative temperature"},
            )
        },
        {
            "month": ("month", date, {"standard_name": "time"}),
            "nav_lat": ("nav_lat", phi, {"units": "degrees_north"}),
            "nav_lon": ("nav_lon", lam, {"units": "degrees_east"}),
        },
    )
    ds.to_netcdf(path, engine="h5netcdf")
    return ds


FIT = ("--inputs", "thetao_con", "--outputs", "thetao_con", "--lead", "1month")
SMALL = ("--operator", "fno", "--width", "4", "--modes", "5", "--depth", "1")
