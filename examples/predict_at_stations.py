"""Output at scattered points: the same surrogate, evaluated at stations instead of on a grid."""

import numpy as np
import torch

import anygrid
from anygrid.fields import to_dataset

SAMPLES, RESOLUTION, STEPS = 64, 25, 40

problem = anygrid.Helmholtz(wavenumber=0.0, modes=8)
grid = problem.grid(RESOLUTION)
a = problem.sample(SAMPLES, grid, torch.Generator().manual_seed(0))
inputs = to_dataset(a, problem.inputs, grid, {"sample": np.arange(SAMPLES)})
outputs = to_dataset(problem.solve(a, grid), problem.outputs, grid, {"sample": np.arange(SAMPLES)})
surrogate = anygrid.fit(inputs.merge(outputs), "source", "amplitude", steps=STEPS)

# The extent is that of the functions, not of the stations.
positions = np.array([[0.2, 0.3], [0.51, 0.52], [0.75, 0.25], [0.9, 0.66]])
stations = anygrid.Points(positions, ("x", "y"), (anygrid.Bounded(), anygrid.Bounded()))
found = surrogate.predict(inputs.isel(sample=slice(0, 3)), stations)
print(found)

there = outputs.amplitude.isel(sample=slice(0, 3)).interp(x=("point", positions[:, 0]), y=("point", positions[:, 1]))
print("largest difference to the interpolated solution:", float(abs(found.amplitude - there.values).max()))
print("spread of the solution at the stations:", float(there.std()))
