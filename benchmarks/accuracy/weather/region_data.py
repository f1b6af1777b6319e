"""Fine weather for `region.py`: days of the numerical model at T63, begun with a state of a T30 run; one file a day, so that it resumes.

    python benchmarks/accuracy/weather/region_data.py speedy_train.zarr fine --days 60

The boundary data of T63 (mountains, coasts, sea) are those in jcm's own wheel. A state of T30 is brought to T63 by its harmonics; its
surface pressure is moved hydrostatically to the finer mountains; the first `--spin-up` days, in which the fine scales fill up, are thrown
away.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from anygrid.fields import grid_coordinates
from anygrid.grid import Sphere
from anygrid.io.weather_store import DAY
from anygrid.numerics.spherical_harmonics import analyse, synthesise
from anygrid.problems.speedy_engine import Engine, SpeedyState
from anygrid.problems.speedy_fields import diagnose, variable

COARSE, FINE = Sphere.gauss(48, 96), Sphere.gauss(96, 192)
NAMES = ("z500", "t850", "u850", "v850", "q700", "t2m", "msl")
GRAVITY, GAS = 9.81, 287.0


def state_of(store: Path, at: str) -> SpeedyState:
    """A state of a store, finished or still being written."""
    ds = xr.open_zarr(store / "restarts", chunks=None).sel(restart=at)
    return SpeedyState(np.datetime64(at, "s"), {str(name): np.asarray(ds[name].values) for name in ds.data_vars})


def finer(state: SpeedyState, coarse: Engine, fine: Engine) -> SpeedyState:
    """The state on the finer grid."""
    fields = {name: torch.from_numpy(values.copy()) for name, values in coarse.spread(state).items()}
    low, high = (torch.from_numpy(e.constants()["orography"].copy()) for e in (coarse, fine))

    def moved(u: torch.Tensor) -> torch.Tensor:
        flat = u.double().reshape(1, -1, *COARSE.shape)
        return synthesise(analyse(flat, COARSE, 31), FINE).reshape(*u.shape[:-2], *FINE.shape)

    out = {name: moved(values) for name, values in fields.items() if name != "ps"}
    out["flux"] = out["flux"].clamp(min=0)
    step = high - moved(low)
    out["ps"] = moved(fields["ps"].log()).exp() * (-GRAVITY * step / (GAS * out["t"][-1])).exp()
    return fine.compose(state.time, {name: values.float().numpy() for name, values in out.items()})


def main() -> None:
    """Go on from the last day that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a store of `anygrid generate weather` with states")
    parser.add_argument("out", type=Path, help="folder of the days")
    parser.add_argument("--start", default="2000-01-01", help="date of the state")
    parser.add_argument("--spin-up", type=int, default=5)
    parser.add_argument("--days", type=int, default=60)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    kept, began = asked.out / "state.npz", time.monotonic()
    with Engine(21600, 63) as fine:
        if kept.exists():
            with np.load(kept) as stored:
                state = SpeedyState(np.datetime64(str(stored["time"]), "s"), {k: stored[k] for k in stored.files if k != "time"})
        else:
            with Engine(21600) as coarse:
                state = finer(state_of(asked.store, asked.start), coarse, fine)
        first = np.datetime64(asked.start, "s")
        constants = fine.constants()
        while (day := int((state.time - first) / DAY)) < asked.days + asked.spin_up:
            frames, state = fine.advance(state, 4)
            if day >= asked.spin_up:
                times = (first + day * DAY + np.arange(1, 5) * np.timedelta64(21600, "s")).astype("datetime64[ns]")
                values = diagnose(NAMES, frames, constants).numpy()
                data = {
                    name: (("time", *FINE.dims), values[:, k], {"units": variable(name).units, "long_name": variable(name).long_name})
                    for k, name in enumerate(NAMES)
                }
                data |= {name: (FINE.dims, constants[name], {"units": variable(name).units}) for name in ("orography", "land_sea_mask")}
                part = asked.out / ".part.nc"
                xr.Dataset(data, {**grid_coordinates(FINE), "time": times}).to_netcdf(part)
                part.replace(asked.out / f"day-{day - asked.spin_up:04d}.nc")
            aside = asked.out / ".state.npz"
            np.savez(aside, time=str(state.time), **state.arrays)
            aside.replace(kept)
            largest = float(np.abs(frames["u"]).max())
            print(f"day {day}: {time.monotonic() - began:.0f} s, strongest zonal wind {largest:.1f} m/s", flush=True)


if __name__ == "__main__":
    main()
