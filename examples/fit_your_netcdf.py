"""Your own NetCDF: read it, fit an evolution, predict at another resolution, save, load.

The file is made here so that the script runs anywhere: temperature on a plate whose ends meet, which diffuses and drifts.
"""

import numpy as np
import xarray as xr

import anygrid
from anygrid.training import Shift

TRAJECTORIES, TIMES, POINTS, STEPS = 24, 6, 16, 40

# A file as a simulation would leave it: dimensions with names, coordinates, units.
rng = np.random.default_rng(0)
x = np.arange(POINTS) / POINTS
k = np.fft.fftfreq(POINTS, 1 / POINTS)
square = k[:, None] ** 2 + k**2
start = np.fft.fft2(rng.normal(size=(TRAJECTORIES, 1, POINTS, POINTS))) / (1 + square) ** 1.5
step = np.exp(-0.01 * square - 2j * np.pi * 0.05 * k[:, None])
values = 40 * np.fft.ifft2(start * step ** np.arange(TIMES)[:, None, None]).real
xr.Dataset(
    {"temperature": (("trajectory", "time", "x", "y"), values.astype("float32"), {"units": "K", "long_name": "temperature above ambient"})},
    {"time": ("time", 0.5 * np.arange(TIMES), {"units": "s"}), "x": ("x", x, {"units": "m"}), "y": ("y", x, {"units": "m"})},
).to_netcdf("plate.nc", engine="h5netcdf")

# From here on it is what one does with any file.
ds = anygrid.read("plate.nc")
surrogate = anygrid.fit(
    ds,
    inputs="temperature",
    outputs="temperature",
    lead="0.5s",  # or a number of time indices; dated files take "6h", "1month"
    steps=STEPS,  # or budget="5m", the default
    augment=[Shift("x"), Shift("y")],  # this equation does not know where it is; say so only if yours does not
    listener=lambda p: print(p.message) if p.message else None,
)
print(f"validation error one lead ahead: {surrogate.record['validation_error']:.3f} (relative L2)")
# What the map has to beat is doing nothing:
before, after = ds.temperature.isel(time=slice(0, -1)).values, ds.temperature.isel(time=slice(1, None)).values
print(f"persistence: {np.mean(np.linalg.norm(after - before, axis=(2, 3)) / np.linalg.norm(after, axis=(2, 3))):.3f}")

finer = surrogate.predict(ds.isel(time=[0]), surrogate.grid.at((32, 32)))
print(finer.temperature.sizes, finer.temperature.attrs, "lead time", finer.attrs["lead_time"])

surrogate.save("plate.anygrid")
again = anygrid.Surrogate.load("plate.anygrid").predict(ds.isel(time=[0]), surrogate.grid.at((32, 32)))
assert np.array_equal(finer.temperature, again.temperature)
