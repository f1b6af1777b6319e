"""The error of the spherical shallow water solver falls with the fourth power of its internal step."""

import torch

from anygrid.grid import Sphere
from anygrid.numerics.stepping import march
from anygrid.problems.shallow_water_sphere import ShallowWaterSphere, _stepper


def test_order_in_time():
    problem, grid = ShallowWaterSphere(modes=5, dt=5400.0), Sphere.gauss(16, 32)
    start = problem._state(problem.sample(1, grid, torch.Generator().manual_seed(0)).double(), grid)
    ends = [march(_stepper(problem, 15, problem.dt / n, torch.float64, start.device), start, n, "test", [0]) for n in (4, 8, 16, 64)]
    errors = [float((end - ends[-1]).norm()) for end in ends[:-1]]
    assert 12 < errors[0] / errors[1] < 22
    assert 12 < errors[1] / errors[2] < 22
