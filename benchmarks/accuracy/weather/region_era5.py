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


def main(folder: Path, out: Path, steps: int = 200) -> None:
    """Read, learn, apply, write."""
    fine = read(folder)
    # No mountains are in these files; the mean surface pressure of the training hours shows where they are.
    fine["terrain"] = fine["sp"].isel(time=slice(0, 18)).mean("time").assign_attrs(units="Pa")
    coarse = fine[list(NAMES)].isel(latitude=slice(None, None, STRIDE), longitude=slice(None, None, STRIDE))
    known, held_out = slice(0, 18), slice(19, 24)
    found = fit_downscaling(fine.isel(time=known), coarse, NAMES, NAMES, static=["terrain"], steps=steps)
    found.save(out.with_suffix(".anygrid"))

    region = Downscaling.load(out.with_suffix(".anygrid")).predict(coarse.isel(time=held_out))
    plain = coarse.isel(time=held_out).interp(latitude=fine["latitude"], longitude=fine["longitude"], method="cubic")
    truth = fine.isel(time=held_out)
    for name in NAMES:
        at = {"latitude": region["latitude"].values, "longitude": region["longitude"].values}
        errors = [
            float(np.sqrt(np.mean((u[name].sel(at, method="nearest").values - truth[name].sel(at).values) ** 2))) for u in (plain, region)
        ]
        print(f"{name}: interpolation {errors[0]:.3g}, downscaling {errors[1]:.3g} {region[name].attrs.get('units', '')}")
    region.to_netcdf(out)
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 200)
