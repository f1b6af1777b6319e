"""What is left of a storm on a coarse grid: depth, wind and place of analytic vortices at T30 and T63.

    python benchmarks/accuracy/weather/storm_resolution.py     # -> benchmarks/accuracy/weather/storm_resolution.json

A Gaussian low of 3000 Pa and radius r (its pressure deficit is exp(-1/2) of the depth there), and a vortex whose largest wind,
30 m/s, blows at radius r, are cut at the total wavenumber of the model (all that it can hold), put on its Gaussian grid and
given to the tracker. Means over 8 centres between 10 and 50 degrees. `sampled` is the same grid without the cut: the best that any
grid of points does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from anygrid.grid import Sphere
from anygrid.numerics.great_circle import bearing, distance
from anygrid.numerics.sphere_calculus import vorticity_divergence, wind
from anygrid.numerics.spherical_harmonics import analyse, synthesise
from anygrid.storms.criteria import Criteria
from anygrid.storms.detect import State, find_centres
from anygrid.storms.mesh import mesh_of

HERE = Path(__file__).resolve().parent
FINE = Sphere.gauss(128, 256)  # 156 km: a Gaussian of 100 km has nothing left beyond its wavenumbers (e-8)
MODELS = {"T30": (30, Sphere.gauss(48, 96)), "T63": (63, Sphere.gauss(96, 192))}
RADII = (100, 200, 300, 500, 800)
DEPTH, PEAK, CENTRES = 3000.0, 30.0, 8


def low(grid: Sphere, lat: float, lon: float, km: float) -> np.ndarray:
    x = grid.points().numpy()
    return DEPTH * np.exp(-((distance(x[..., 0], x[..., 1], lat, lon) / 1000 / km) ** 2) / 2)


def vortex(grid: Sphere, lat: float, lon: float, km: float) -> tuple[np.ndarray, np.ndarray]:
    x = grid.points().numpy()
    d = distance(x[..., 0], x[..., 1], lat, lon) / 1000 / km
    speed = PEAK * d * np.exp((1 - d**2) / 2)
    inward = np.deg2rad(bearing(x[..., 0], x[..., 1], lat, lon))
    return speed * np.cos(inward), -speed * np.sin(inward)


def tensor(field: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(field))[None, None]


def one(lat: float, lon: float, km: float, degree: int, grid: Sphere) -> dict[str, float]:
    """What is left at one centre, as parts of the truth, and the error of place in km (None where no storm is found)."""
    mesh, out = mesh_of(grid), {}
    cut = synthesise(analyse(tensor(low(FINE, lat, lon, km)), FINE, degree), grid)[0, 0].numpy()
    for name, deficit in (("cut", cut), ("sampled", low(grid, lat, lon, km))):
        values = mesh.values(101300 - deficit)
        found = find_centres(State(values, Criteria().pressure_rise), mesh, Criteria())
        hit = [k for k in range(len(found)) if float(distance(lat, lon, found.lat[k], found.lon[k])) < 5e5]
        out[f"{name} depth"] = float(deficit.max() / DEPTH)
        out[f"{name} found"] = float(bool(hit))
        out[f"{name} place km"] = float(distance(lat, lon, found.lat[hit[0]], found.lon[hit[0]])) / 1000 if hit else np.nan
    u, v = vortex(FINE, lat, lon, km)
    ue, ve = wind(*vorticity_divergence(tensor(u), tensor(v), FINE, degree), grid)
    out["cut wind"] = float(torch.hypot(ue, ve).max()) / PEAK
    out["sampled wind"] = float(np.hypot(*vortex(grid, lat, lon, km)).max()) / PEAK
    return out


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    centres = np.stack([rng.uniform(10, 50, CENTRES), rng.uniform(0, 360, CENTRES)], 1)
    rows = []
    for name, (degree, grid) in MODELS.items():
        spacing = float(np.diff(grid.lat.coordinates()).max()) * 111.2
        for km in RADII:
            cases = [one(lat, lon, km, degree, grid) for lat, lon in centres]
            known = {k: [c[k] for c in cases if np.isfinite(c[k])] for k in cases[0]}
            means = {k: round(float(np.mean(v)), 3) if v else None for k, v in known.items()}
            rows.append({"model": name, "spacing_km": round(spacing), "radius_km": km, **means})
            print(rows[-1], file=sys.stderr)
    text = {
        "command": "python benchmarks/accuracy/weather/storm_resolution.py",
        "depth_pa": DEPTH,
        "wind": PEAK,
        "centres": CENTRES,
        "rows": rows,
    }
    (HERE / "storm_resolution.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
