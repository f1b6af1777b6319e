"""Roll out an evolution, the solver and a surrogate alike, and store the forecast as Zarr."""

import numpy as np
import torch
import xarray as xr

import anygrid
from anygrid.fields import to_dataset
from anygrid.training import Shift

TRAJECTORIES, POINTS, LEADS, STEPS = 12, 48, 12, 60

problem = anygrid.KuramotoSivashinsky(spin_up=20.0)
grid = problem.grid(POINTS)
start = problem.sample(TRAJECTORIES + 2, grid, torch.Generator().manual_seed(0))
initial = to_dataset(start, problem.inputs, grid, {"sample": np.arange(TRAJECTORIES + 2)})

# The solver makes the truth; forecast() takes any map that advances a state by dt.
truth = anygrid.forecast(problem.solve, initial, LEADS, inputs=problem.inputs, outputs=problem.outputs, dt=problem.dt)
training = truth.isel(sample=slice(0, TRAJECTORIES))
surrogate = anygrid.fit(training, "u", "u", lead=1, steps=STEPS, learning_rate=5e-3, unroll=2, augment=[Shift("x")])

found = anygrid.forecast(
    surrogate,
    initial.isel(sample=slice(TRAJECTORIES, None)),  # two samples that were never trained on
    LEADS,
    inputs=surrogate.inputs,
    outputs=surrogate.outputs,
    dt=problem.dt,
    domain=surrogate.grid,
    out="forecast.zarr",  # written lead by lead; killed at any moment, the same call continues it
)
assert found.equals(xr.open_zarr("forecast.zarr"))

error = ((found.u - truth.u) ** 2).mean(("sample", "x")) ** 0.5
persistence = ((initial.u - truth.u).sel(sample=found.sample) ** 2).mean(("sample", "x")) ** 0.5
for lead in (0, 1, 3, LEADS - 1):
    print(f"lead {lead + 1:2d}: RMSE {float(error[lead]):.3f}, persistence {float(persistence[lead]):.3f}")
