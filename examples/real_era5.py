"""Real ERA5 files through the whole path: read, regrid, spectra, one forecast step, and back to NetCDF with names and units.

Run:  python examples/real_era5.py FOLDER [OUT]

FOLDER holds `era5_tl31.nc` (one state, in the wheel of PyPI `neuralgcm` 1.2.2) and `era5-levels-members.grib` (10 members x 4 times;
sample data of ecmwf/cfgrib; needs `pip install "anygrid[grib]"`). The surrogate is trained for seconds on 30 pairs of states of two days:
it shows the path of the data, not skill.
"""

import sys
from pathlib import Path

import torch
import xarray as xr

from anygrid.export.prognostic import Prognostic
from anygrid.fields import Variable, find_grid, find_layout, select, to_tensor, variables_of
from anygrid.fields.units import plain_units
from anygrid.grid import Sphere
from anygrid.io import read
from anygrid.numerics.sphere_calculus import power_by_degree
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise, truncate
from anygrid.operators import SphericalFNO
from anygrid.training import fit

NAMES = ["z500", "t850"]


def fields(ds: xr.Dataset) -> tuple[torch.Tensor, Sphere, tuple[Variable, ...]]:
    """The two variables, found under whatever the file calls them, as a tensor on their grid."""
    layout = find_layout(ds, NAMES)
    grid, notes = find_grid(ds, NAMES, layout)
    assert isinstance(grid, Sphere)
    print("  " + "; ".join(notes))
    variables = variables_of(ds, NAMES)
    return to_tensor(select(ds, NAMES), variables, layout, grid), grid, variables


def main(folder: Path, out: Path) -> None:
    print("read: WeatherBench 2 names in NetCDF, short names in GRIB")
    state, members = read(folder / "era5_tl31.nc"), read(folder / "era5-levels-members.grib")
    u, grid, variables = fields(state)
    _, fine, _ = fields(members)

    shared = min(exact_degree(grid), exact_degree(fine))
    waves = truncate(analyse(u.double(), grid), shared)
    there = synthesise(waves, fine)
    back = synthesise(analyse(there, fine, shared), grid)
    lost = (back - synthesise(waves, grid)).std() / back.std()
    print(f"regrid by spherical harmonics: 32x64 to {'x'.join(map(str, fine.shape))} and back; up to degree {shared} it changes {lost:.1e}")

    print("spectra: mean square by total wavenumber")
    power = power_by_degree(waves)[0]
    for k, v in enumerate(variables):
        print(f"  {v.name} ({plain_units(v.units)})^2 " + ", ".join(f"{n}: {float(power[k, n]):.3g}" for n in (1, 2, 4, 8, 16)))

    print("one step of a surrogate trained for seconds: the path of the data, not skill")
    surrogate = fit(members, NAMES, NAMES, lead="12h", steps=20, validation=0, unroll=1, operator=lambda i, o, g: SphericalFNO(i, o, 15))
    step = surrogate.predict(members.isel(number=0, time=-1, drop=False))
    other = surrogate.predict(state)  # another grid, other names
    print(f"  from GRIB {dict(step.sizes)}, from NetCDF {dict(other.sizes)}")

    other.to_netcdf(out, engine="h5netcdf")
    found = xr.open_dataset(out)
    for name in NAMES:
        print(f"  {name}: {found[name].attrs['units']}, {found[name].attrs['standard_name']}, on {', '.join(map(str, found[name].dims))}")
    model = Prognostic(surrogate)
    print(f"as a prognostic model: {list(model.input_coords()['variable'])}, step {model.step}")
    print(f"written: {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("era5_step.nc"))
