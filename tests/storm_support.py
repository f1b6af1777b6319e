"""Analytic lows that move along great circles of the sphere, as data sets."""

import numpy as np
import pandas as pd
import xarray as xr

from anygrid.grid import Sphere
from anygrid.numerics.great_circle import bearing, destination, distance

DEGREE = 6371229 * np.pi / 180  # metres


def low(grid, lat, lon, *, depth=3000.0, radius=5 * DEGREE):
    """Deficit of a Gaussian low, depth * exp(-d^2 / (2 radius^2))."""
    points = grid.points().numpy()
    return depth * np.exp(-(distance(points[..., 0], points[..., 1], lat, lon) ** 2) / (2 * radius**2))


def along(lat, lon, course, speed, hours):
    """Places of a storm that leaves on a course at a speed in m s-1."""
    return destination(lat, lon, course, np.asarray(hours) * 3600 * speed)


def moving(grid, paths, hours, *, background=101300.0, depth=3000.0, radius=5 * DEGREE):
    """Sea-level pressure with one low for each path ``(lat, lon)`` of arrays over ``hours``; depths may be a function of the hour."""
    fields = []
    for k, hour in enumerate(hours):
        p = np.broadcast_to(background, grid.shape).astype(np.float64)
        for lat, lon in paths:
            p = p - low(grid, lat[k], lon[k], depth=depth(hour) if callable(depth) else depth, radius=radius)
        fields.append(p)
    return dataset(grid, np.stack(fields), hours)


def dataset(grid, pressure, hours, name="msl"):
    lat, lon = grid.lat.coordinates(), grid.lon.coordinates()
    time = pd.Timestamp("2005-08-25") + pd.to_timedelta(np.asarray(hours, dtype=float), unit="h")
    return xr.Dataset(
        {name: (("time", "lat", "lon"), pressure, {"units": "Pa"})},
        {"time": time, "lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )


def gaps(table, lat, lon, hours):
    """Distance in km between the fixes of one track and the true path."""
    at = [list(hours).index(h) for h in table["lead"]]
    return distance(table["lat"].to_numpy(), table["lon"].to_numpy(), np.asarray(lat)[at], np.asarray(lon)[at]) / 1000


def vortex_wind(grid, lat, lon, *, peak=30.0, radius=4 * DEGREE):
    """Cyclonic wind round a centre: speed peak * (d/r) exp((1 - d^2/r^2)/2) across the great circle from it."""
    points = grid.points().numpy()
    d = distance(points[..., 0], points[..., 1], lat, lon)
    speed = peak * d / radius * np.exp((1 - (d / radius) ** 2) / 2) * (1 if lat >= 0 else -1)
    # Counter-clockwise: to the left of the way that leads away from the centre, which is to the right of the way towards it.
    inward = np.deg2rad(bearing(points[..., 0], points[..., 1], lat, lon))
    return speed * np.cos(inward), -speed * np.sin(inward)


T30 = Sphere.gauss(48, 96)
EVEN = Sphere.equiangular(90, 180)
