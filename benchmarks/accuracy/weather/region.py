"""What a region's finer data buy against plain interpolation: T63 weather over Europe and the North Atlantic from its T30 part.

    python benchmarks/accuracy/weather/region_data.py speedy_train.zarr fine --days 60
    python benchmarks/accuracy/weather/region.py fine --steps 400      # writes region.json, docs/figures/region.png

The parent is perfect: the coarse fields are the T63 truth itself at the valid time, cut to degree 30 on 48x96 points. What is measured is
therefore what the finer data add to a global model without errors, not a forecast. A second row takes the coarse fields of `--late` hours
before as the parent (persistence, a poor forecast), to show what is left of the gain when the parent errs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from anygrid.fields import grid_coordinates
from anygrid.grid import Sphere
from anygrid.numerics.spherical_harmonics import analyse, evaluate_at, synthesise
from anygrid.operators import default_operator
from anygrid.surrogate import Downscaling
from anygrid.training import fit_downscaling

HERE = Path(__file__).parent
FIGURE = HERE.parents[2] / "docs" / "figures" / "region.png"
COARSE, FINE, DEGREE = Sphere.gauss(48, 96), Sphere.gauss(96, 192), 30
NAMES = ("z500", "t850", "u850", "v850", "q700", "t2m", "msl")
STATIC = ("orography", "land_sea_mask")
NORTH, SOUTH, WEST, EAST = 75.0, 30.0, -60.0, 40.0
HELD_OUT = 0.25  # of the days, the last
GAP = 4  # frames between training and test
VALIDATION = 0.2  # of the training days, the last: the best weights are chosen by them, never by the test


def fields(folder: Path) -> tuple[xr.Dataset, xr.Dataset, dict[str, NDArray[Any]]]:
    """Fine fields of the region, coarse fields of the globe, and the harmonics of the latter at the points of the region."""
    days = [xr.open_dataset(path) for path in sorted(folder.glob("day-*.nc"))]
    moving = xr.concat([day[list(NAMES)] for day in days], "time")
    lon = (FINE.lon.coordinates() + 180) % 360 - 180
    order = np.argsort(lon)
    columns = order[(lon[order] >= WEST) & (lon[order] <= EAST)]
    lat = FINE.lat.coordinates()
    rows = np.flatnonzero((lat >= SOUTH) & (lat <= NORTH))
    places = {"lat": ("lat", lat[rows], {"units": "degrees_north"}), "lon": ("lon", lon[columns], {"units": "degrees_east"})}
    fine = xr.merge([moving, days[0][list(STATIC)]]).isel(lat=rows, lon=columns).drop_vars(["lat", "lon"]).assign_coords(places)
    y, x = np.meshgrid(lat[rows], lon[columns], indexing="ij")
    cut, sharp = {}, {}
    for name in NAMES:
        c = analyse(torch.from_numpy(moving[name].values).double()[None], FINE, DEGREE)
        cut[name] = (("time", *COARSE.dims), synthesise(c, COARSE)[0].float().numpy(), moving[name].attrs)
        at = evaluate_at(c, torch.from_numpy(y.ravel()), torch.from_numpy(x.ravel()))
        sharp[name] = at[0].reshape(-1, *y.shape).numpy()
    return fine, xr.Dataset(cut, {**grid_coordinates(COARSE), "time": moving["time"].values}), sharp


def rmse(found: NDArray[Any], truth: NDArray[Any], lat: NDArray[Any]) -> float:
    """Area-weighted root mean square error over times and places."""
    weights = np.cos(np.deg2rad(lat))[:, None] * np.ones(truth.shape[-1])
    return float(np.sqrt((np.square(found - truth).mean(0) * weights).sum() / weights.sum()))


def compare(
    fine: xr.Dataset, coarse: xr.Dataset, others: dict[str, dict[str, NDArray[Any]]], steps: int, split: int, width: int
) -> tuple[dict[str, Any], Downscaling, xr.Dataset]:
    """Errors at the test times of interpolation, of interpolation with the mean departure of each point, and of the downscaling.

    "before training" is the downscaling without its network: its mean departure leaves the validation times out.
    """
    began, worked = time.monotonic(), time.process_time()
    made = fit_downscaling(
        fine.isel(time=slice(0, split)),
        coarse,
        NAMES,
        NAMES,
        static=STATIC,
        validation=VALIDATION,
        steps=steps,
        keep_best=True,
        operator=partial(default_operator, width=width),
        listener=lambda p: print(p.message, flush=True) if p.message else None,
    )
    seconds, worked = time.monotonic() - began, time.process_time() - worked
    plain = plain_of(made, coarse)
    out = made.predict(coarse)
    test, past, lat = slice(split + GAP, None), slice(0, split), fine["lat"].values
    chosen = slice(split - round(VALIDATION * split), split)
    table = {}
    for k, name in enumerate(NAMES):
        truth, before = fine[name].values, plain[name] + made.mean[k].numpy()
        mean = (truth[past] - plain[name][past]).mean(0)
        row = {"interpolation": rmse(plain[name][test], truth[test], lat)}
        row |= {what: rmse(values[name][test], truth[test], lat) for what, values in others.items()}
        row["interpolation + mean departure of each point"] = rmse(plain[name][test] + mean, truth[test], lat)
        row["before training"] = rmse(before[test], truth[test], lat)
        row["downscaling"] = rmse(out[name].values[test], truth[test], lat)
        row["ratio to interpolation"] = row["downscaling"] / row["interpolation"]
        row["ratio to mean departure"] = row["downscaling"] / row["interpolation + mean departure of each point"]
        row["ratio to before training"] = row["downscaling"] / row["before training"]
        row["the same at the validation times"] = rmse(out[name].values[chosen], truth[chosen], lat) / rmse(
            before[chosen], truth[chosen], lat
        )
        table[name] = {key: float(f"{value:.4g}") for key, value in row.items()}
    facts = {
        "steps": steps,
        "training_minutes": round(seconds / 60, 1),
        "training_processor_minutes": round(worked / 60, 1),
        "best_step": made.correction.record.get("best_step"),
        "validation_error": made.correction.record.get("validation_error"),
        "validation_history": [
            [row["step"], round(row["validation"], 4)] for row in made.correction.record["history"] if row["validation"]
        ],
        "samples_seen": made.correction.record.get("samples"),
        "parameters": sum(p.numel() for p in made.parameters()),
        "rmse": table,
    }
    return facts, made, out


def plain_of(made: Downscaling, coarse: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Plain interpolation: what the downscaling adds to."""
    from anygrid.surrogate.downscaling import onto

    a = torch.from_numpy(np.stack([coarse[name].values for name in NAMES], 1))
    u = onto(a, COARSE, made.grid).numpy()
    return {name: u[:, k] for k, name in enumerate(NAMES)}


def draw(fine: xr.Dataset, plain: NDArray[Any], out: xr.Dataset, coarse: xr.Dataset, at: int) -> None:
    """One case: coarse points, interpolation, downscaling, truth, and the two errors."""
    import matplotlib.pyplot as plt

    from anygrid.coastlines import draw_coastlines

    name, lat, lon = "t2m", fine["lat"].values, fine["lon"].values
    truth, made = fine[name].values[at] - 273.15, out[name].values[at] - 273.15
    west = coarse.assign_coords(lon=(coarse["lon"] + 180) % 360 - 180).sortby("lon").sel(lat=slice(SOUTH, NORTH), lon=slice(WEST, EAST))
    figure, axes = plt.subplots(2, 3, figsize=(12, 5.4), layout="constrained", sharex=True, sharey=True)
    low, high = np.quantile(truth, [0.005, 0.995])
    panels = [
        (axes[0, 0], west["lat"].values, west["lon"].values, west[name].values[at] - 273.15, "coarse, T30 (the parent)"),
        (axes[0, 1], lat, lon, made, "downscaling"),
        (axes[0, 2], lat, lon, truth, "truth, T63"),
    ]
    for panel, y, x, values, title in panels:
        drawn = panel.pcolormesh(x, y, values, vmin=low, vmax=high, cmap="viridis", shading="nearest")
        panel.set_title(title)
    figure.colorbar(drawn, ax=axes[0, :], label="near-surface temperature (°C)")
    errors = [(axes[1, 0], plain - 273.15 - truth, "interpolation minus truth"), (axes[1, 1], made - truth, "downscaling minus truth")]
    most = float(np.quantile(np.abs(errors[0][1]), 0.99))
    for panel, values, title in errors:
        drawn = panel.pcolormesh(lon, lat, values, vmin=-most, vmax=most, cmap="RdBu_r", shading="nearest")
        panel.set_title(f"{title}: RMSE {rmse(values[None], 0 * values[None], lat):.2f} K")
    figure.colorbar(drawn, ax=axes[1, :2], label="K")
    drawn = axes[1, 2].pcolormesh(lon, lat, fine["orography"].values, cmap="terrain", shading="nearest")
    axes[1, 2].set_title("mountains of T63, which it is given")
    figure.colorbar(drawn, ax=axes[1, 2], label="m")
    for panel in axes.flat:
        draw_coastlines(panel, -180)
        panel.set_xlim(WEST, EAST)
        panel.set_ylim(SOUTH, NORTH)
    figure.suptitle(f"{str(fine['time'].values[at])[:13].replace('T', ' ')} h of the model's winter, a held-out time", fontsize=10)
    figure.savefig(FIGURE, dpi=80)


def main() -> None:
    """Both parents, one file, one figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--late", type=int, default=24, help="hours by which the persistent parent is late; 0 leaves it out")
    asked = parser.parse_args()
    fine, coarse, sharp = fields(asked.folder)
    split = round((1 - HELD_OUT) * fine.sizes["time"])
    perfect, made, out = compare(fine, coarse, {"spherical harmonics": sharp}, asked.steps, split, asked.width)
    at = split + GAP + (fine.sizes["time"] - split - GAP) // 2
    draw(fine, plain_of(made, coarse)["t2m"][at], out, coarse, at)
    words = f"--steps {asked.steps} --width {asked.width} --late {asked.late}"
    result: dict[str, Any] = {
        "command": f"python benchmarks/accuracy/weather/region.py {asked.folder.name} {words}",
        "region": f"{SOUTH:g} to {NORTH:g} N, {WEST:g} to {EAST:g} E, {fine.sizes['lat']}x{fine.sizes['lon']} points of T63",
        "days": fine.sizes["time"] / 4,
        "first": str(fine["time"].values[0]),
        "held_out_from": str(fine["time"].values[split + GAP]),
        "perfect parent (truth cut to T30)": perfect,
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "jcm", "numpy")},
    }
    if asked.late:
        late = coarse.assign_coords(time=coarse["time"] + np.timedelta64(asked.late, "h"))
        both = np.intersect1d(late["time"].values, fine["time"].values)
        poor, _, _ = compare(fine.sel(time=both), late.sel(time=both), {}, asked.steps, split - asked.late // 6, asked.width)
        result[f"persistent parent (truth of {asked.late} h before, cut to T30)"] = poor
    (HERE / "region.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
