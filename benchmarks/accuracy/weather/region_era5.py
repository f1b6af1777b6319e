"""From coarse fields to a region's fine ones, on a real day: ERA5 at 0.25 degrees over western Europe.

    python benchmarks/accuracy/weather/region_era5.py /path/to/era5_europe region.nc

Every fifth point of it, 1.25 degrees apart, is the parent. One day shows the way of the data, not what can be won: the last hours are held
out, and look much like those before them.
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr

from anygrid.surrogate import Downscaling
from anygrid.training import fit_downscaling

NAMES = ("u10", "v10", "tcw")
STRIDE = 5  # 0.25 to 1.25 degrees


def read(folder: Path) -> xr.Dataset:
    """The hours of one day; eastward and northward wind at 10 m, and water vapour of the column."""
    return xr.merge([xr.open_dataset(next(folder.glob(f"*_{name}.nc"))) for name in (*NAMES, "sp")], combine_attrs="override")


def main(folder: Path, out: Path, steps: int = 60) -> None:
    """Read, learn, apply, write."""
    fine = read(folder)
    # No mountains are in these files; the mean surface pressure of the training hours shows where they are.
    fine["terrain"] = fine["sp"].isel(time=slice(0, 18)).mean("time").assign_attrs(units="Pa")
    coarse = fine[list(NAMES)].isel(latitude=slice(None, None, STRIDE), longitude=slice(None, None, STRIDE))
    known, held_out = slice(0, 18), slice(19, 24)
    found = fit_downscaling(fine.isel(time=known), coarse, NAMES, NAMES, static=["terrain"], steps=steps)
    found.save(out.with_suffix(".anygrid"))

    Downscaling.load(out.with_suffix(".anygrid")).predict(coarse.isel(time=held_out)).to_netcdf(out)
    with xr.open_dataset(out) as written:  # plain xarray: what a colleague sees
        region = written.load()
    plain = coarse.interp(latitude=fine["latitude"], longitude=fine["longitude"], method="cubic")
    for name in NAMES:
        mean = (fine[name] - plain[name]).isel(time=known).mean("time")
        ways = {
            "interpolation": plain[name].isel(time=held_out),
            "plus mean departure": (plain[name] + mean).isel(time=held_out),
            "downscaling": region[name],
        }
        errors = {way: float(np.sqrt(((u - fine[name]) ** 2).mean())) for way, u in ways.items()}  # by time and place
        if region[name].shape != fine[name].isel(time=held_out).shape or region[name].attrs["units"] != fine[name].attrs["units"]:
            raise SystemExit(f"{name}: other points or units than the fine fields: {region[name]}")
        print(f"{name} ({region[name].attrs['units']}): " + ", ".join(f"{way} {error:.3g}" for way, error in errors.items()))
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 60)
