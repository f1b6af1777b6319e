"""Shallow water on the sphere: the published test cases that have an answer, waves in closed form, invariants."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import cumulative_trapezoid

from anygrid.errors import AnygridError, GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Sphere
from anygrid.numerics.legendre import latitude_quadrature
from anygrid.numerics.spherical_harmonics import evaluate_at, synthesise
from anygrid.problems.shallow_water_sphere import ShallowWaterSphere, _tendency

HOUR, DAY = 3600.0, 86400.0


def _angles(grid):
    return torch.deg2rad(grid.points()).unbind(-1)


def _mean(f, grid):
    weights = torch.from_numpy(latitude_quadrature(grid)[1])
    return float((f.mean(-1) * weights).sum(-1) / 2)


@pytest.mark.parametrize("grid", [Sphere.gauss(16, 32), Sphere.equiangular(31, 62)])
def test_steady_geostrophic_flow(grid):
    """Williamson et al. (1992), case 2: solid rotation in balance does not change but for the hyperdiffusion, left out here."""
    problem = ShallowWaterSphere(dt=DAY / 2, damping=1e15)
    lat, _ = _angles(grid)
    speed = 2 * math.pi * problem.radius / (12 * DAY)
    u = speed * lat.cos()
    h = (2.94e4 - (problem.radius * problem.rotation * speed + speed**2 / 2) * lat.sin() ** 2) / problem.gravity
    a = torch.stack([u, 0 * u, h])[None]
    error = (problem.solve(a, grid) - a).abs().amax((0, 2, 3))
    assert float(error[:2].max()) < 1e-10 * speed
    assert float(error[2]) < 1e-10 * float(h.max())


def test_gravity_wave():
    """A small bump of one degree on a sphere at rest beats with the frequency sqrt(g H l (l + 1)) / a."""
    grid = Sphere.gauss(12, 24)
    problem = ShallowWaterSphere(dt=2 * HOUR, rotation=0.0, damping=1e15, courant=0.4)
    c = torch.zeros(1, 1, 12, 12, 2, dtype=torch.float64)
    c[..., 5, 2, 1] = 1e-3
    bump = synthesise(c, grid)
    a = torch.cat([torch.zeros(1, 2, 12, 24, dtype=torch.float64), 8000 + bump], 1)
    turn = math.cos(problem.dt * math.sqrt(problem.gravity * 8000 * 30) / problem.radius)
    out = problem.solve(a, grid)[:, 2:]
    assert abs(turn) > 0.1
    assert float((out - 8000 - turn * bump).norm() / bump.norm()) < 1e-4


def _galewsky(problem, grid, *, bump):
    """Galewsky et al. (2004), eq. 2-4: a jet at 45 degrees north in balance by a fine integral in latitude, and its perturbation."""
    south, north = math.pi / 7, math.pi / 2 - math.pi / 7

    def jet(x):
        inside = (x > south) & (x < north)
        y = np.where(inside, x, (south + north) / 2)
        return np.where(inside, 80 * np.exp(4 / (north - south) ** 2) * np.exp(1 / ((y - south) * (y - north))), 0.0)

    fine = np.linspace(-math.pi / 2, math.pi / 2, 20001)
    slope = problem.radius * jet(fine) * (2 * problem.rotation * np.sin(fine) + np.tan(fine * 0.999999) / problem.radius * jet(fine))
    phi = -cumulative_trapezoid(slope, fine, initial=0.0)
    mean = np.sum(phi * np.cos(fine)) / np.sum(np.cos(fine))
    lat, lon = (x.numpy() for x in _angles(grid))
    h = 1e4 + np.interp(lat, fine, phi - mean) / problem.gravity
    if bump:
        h = h + 120 * np.cos(lat) * np.exp(-(((lon - math.pi) * 3) ** 2)) * np.exp(-((15 * (math.pi / 4 - lat)) ** 2))
    return torch.from_numpy(np.stack([jet(lat), 0 * lat, h]))[None]


def test_the_jet_stays_zonal_without_its_perturbation():
    grid, problem = Sphere.gauss(64, 128), ShallowWaterSphere(dt=6 * HOUR)
    a = _galewsky(problem, grid, bump=False)
    u = problem.solve(a, grid)
    assert float(u[:, 1].std(-1).max()) < 1e-9  # no wave grows from rounding
    assert float((u[:, 0] - a[:, 0]).abs().max()) < 0.02 * 80  # what degree 63 does not carry of the jet's edges
    assert float((u[:, 2] - a[:, 2]).abs().max()) < 0.002 * 1e4


def test_invariants_of_the_perturbed_jet():
    """Volume to rounding; energy and potential enstrophy to what the hyperdiffusion takes."""
    grid, problem = Sphere.gauss(48, 96), ShallowWaterSphere(dt=12 * HOUR)
    a = _galewsky(problem, grid, bump=True)
    start = problem._fields(problem._state(a, grid), grid)  # what the truncation makes of it
    u = problem.solve(a, grid)
    assert float(u[:, 1].std()) > 0.05
    volume = [_mean(x[0, 2], grid) for x in (start, u)]
    assert abs(volume[1] / volume[0] - 1) < 1e-13
    energy = [_mean(0.5 * x[0, 2] * (x[0, 0] ** 2 + x[0, 1] ** 2) + 0.5 * problem.gravity * x[0, 2] ** 2, grid) for x in (start, u)]
    assert abs(energy[1] / energy[0] - 1) < 1e-5
    coriolis = 2 * problem.rotation * _angles(grid)[0].sin()
    enstrophy = []
    for x in (start, u):
        vorticity = synthesise(problem._state(x, grid)[:, :1], grid)[0, 0]
        enstrophy.append(_mean(0.5 * (vorticity + coriolis) ** 2 / x[0, 2], grid))
    assert abs(enstrophy[1] / enstrophy[0] - 1) < 1e-3


def test_same_seed_same_function_on_every_grid():
    problem = ShallowWaterSphere()
    seen = {}
    for grid in (Sphere.gauss(24, 48), Sphere.equiangular(60, 120)):
        a = problem.sample(2, grid, torch.Generator().manual_seed(5)).double()
        lat, lon = torch.tensor([10.0, -80.0, 45.0]), torch.tensor([0.0, 100.0, 359.0])
        seen[grid] = evaluate_at(problem._state(a, grid)[:, :, :17, :17], lat.double(), lon.double())
    first, second = seen.values()
    assert float(((first - second).abs().amax((0, 2)) / first.abs().amax((0, 2)))[[0, 2]].max()) < 1e-5


def test_sampled_winds_have_the_speed_asked_for():
    problem, grid = ShallowWaterSphere(speed=15.0), Sphere.gauss(32, 64)
    a = problem.sample(16, grid, torch.Generator().manual_seed(0)).double()
    assert abs(math.sqrt(np.mean([_mean(x[0] ** 2 + x[1] ** 2, grid) for x in a])) / 15 - 1) < 0.1
    state = problem._state(a, grid)
    assert float(state[:, 1].norm()) < 1e-4 * float(state[:, 0].norm())
    assert abs(np.mean([_mean(x[2], grid) for x in a]) - 8000) < 0.1
    flat = state.clone()
    flat[:, 2, 1:] = 0
    growth = [_tendency(problem, 31, torch.float64, state.device)(s)[:, 1].norm() for s in (state, flat)]
    assert float(growth[0] / growth[1]) < 0.01  # in balance: no divergence arises at once


def test_refusals():
    problem = ShallowWaterSphere()
    grid = problem.grid(16)
    with pytest.raises(UsageError, match="a finite number above 0"):
        ShallowWaterSphere(depth=-1.0)
    with pytest.raises(UsageError, match=r"at most 2\.8"):
        ShallowWaterSphere(courant=5.0)
    with pytest.raises(GridError, match="a Sphere, got Box"):
        problem.solve(torch.zeros(1, 3, 8, 8), Box.uniform({"x": Periodic(), "y": Periodic()}, 8))
    with pytest.raises(GridError, match="pole to pole"):
        problem.sample(1, Sphere(Axis("lat", Bounded(0, 60), 8), Axis("lon", Periodic(0, 360), 16)), torch.Generator())
    with pytest.raises(AnygridError, match="depth above 0"):
        problem.solve(torch.zeros(1, 3, 16, 32), grid)
    with pytest.raises(AnygridError, match="at most 20000 internal steps"):
        problem.solve(torch.full((1, 3, 16, 32), 1e9), grid)
