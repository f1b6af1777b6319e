"""The error falls at the stated order."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from anygrid.grid import Axis, Bounded, Box
from anygrid.numerics.finite_volume import solve_diffusion
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz


def orders(errors):
    return [math.log2(a / b) for a, b in pairwise(errors)]


def manufactured(points, reaction):
    """Coefficient exp(x_0 - x_d/2), solution prod sin(pi x_i) (1 + x_0), and the right side by automatic differentiation."""
    x = points.clone().requires_grad_(True)
    d = x.shape[-1]

    def coefficient(x):
        return torch.exp(x[..., 0] - 0.5 * x[..., -1])

    def solution(x):
        return torch.sin(math.pi * x).prod(-1) * (1 + x[..., 0])

    u, a = solution(x), coefficient(x)
    gradient = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    divergence = sum(torch.autograd.grad((a * gradient[..., i]).sum(), x, create_graph=True)[0][..., i] for i in range(d))
    return a.detach(), u.detach(), (reaction * u - divergence).detach()


@pytest.mark.parametrize(("d", "sizes"), [(1, (17, 33, 65)), (2, (17, 33, 65)), (3, (9, 17, 33))])
@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
@pytest.mark.parametrize("reaction", [0.0, 20.0])
def test_second_order_for_smooth_coefficients(d, sizes, mean, reaction):
    errors = []
    for n in sizes:
        grid = Box.uniform(dict(zip("xyz", [Bounded()] * d, strict=False)), n)
        a, u, f = manufactured(grid.points(), reaction)
        solved = solve_diffusion(a[None], f[None], grid, reaction=reaction, mean=mean, tolerance=1e-10)
        errors.append(float((solved[0] - u).abs().max()))
    assert min(orders(errors)) > 1.85, errors
    assert max(orders(errors)) < 2.3, errors


def test_second_order_on_smoothly_graded_nodes():
    errors = []
    for n in (17, 33, 65):
        s = np.linspace(0, 1, n)
        nodes = s + 0.1 * np.sin(2 * np.pi * s)
        nodes[[0, -1]] = 0.0, 1.0
        grid = Box((Axis("x", Bounded(), n, "nodes", tuple(nodes.tolist())), Axis("y", Bounded(), n)))
        a, u, f = manufactured(grid.points(), 0.0)
        errors.append(float((solve_diffusion(a[None], f[None], grid, method="superlu")[0] - u).abs().max()))
    assert min(orders(errors)) > 1.8, errors


@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
def test_about_first_order_for_the_jumping_darcy_coefficient(mean):
    problem = Darcy(mean=mean, modes=100)
    seed = 4
    fine = problem.grid(481)
    a = problem.sample(4, fine, torch.Generator().manual_seed(seed))
    reference = problem.solve(a, fine)
    errors = []
    for n in (31, 61, 121):
        step = 480 // (n - 1)
        coarse = problem.solve(a[:, :, ::step, ::step], problem.grid(n))
        truth = reference[:, :, ::step, ::step]
        errors.append(float(torch.linalg.norm(coarse - truth) / torch.linalg.norm(truth)))
    rate = math.log2(errors[0] / errors[-1]) / 2
    assert 0.7 < rate < 1.4, errors


@pytest.mark.parametrize("wavenumber", [0.0, 12.0])
def test_helmholtz_second_order_for_a_source_that_does_not_vanish_on_the_boundary(wavenumber):
    # u = sin(pi x) y (1 - y) solves it with f = (pi^2 - k^2) u + 2 sin(pi x), which is not zero at y = 0 and y = 1.
    errors = []
    problem = Helmholtz(wavenumber=wavenumber)
    for n in (17, 33, 65):
        grid = problem.grid(n)
        x, y = grid.points().unbind(-1)
        u = torch.sin(math.pi * x) * y * (1 - y)
        f = (math.pi**2 - wavenumber**2) * u + 2 * torch.sin(math.pi * x)
        errors.append(float((problem.solve(f[None, None], grid)[0, 0] - u).abs().max()))
    assert all(1.85 < order < 2.3 for order in orders(errors)), errors


def test_helmholtz_error_falls_faster_than_any_power_for_an_odd_analytic_source():
    # f is a function of sines alone: odd about every side, with a sine series that falls geometrically.
    problem = Helmholtz()
    solutions = []
    for n in (9, 17, 33, 65):
        grid = problem.grid(n)
        x, y = grid.points().unbind(-1)
        f = torch.sin(math.pi * x) / (1.3 + torch.cos(2 * math.pi * x)) * torch.sin(math.pi * y) / (1.3 + torch.cos(2 * math.pi * y))
        step = (n - 1) // 8
        solutions.append(problem.solve(f[None, None], grid)[..., ::step, ::step])
    errors = [float((u - solutions[-1]).abs().max() / solutions[-1].abs().max()) for u in solutions[:-1]]
    assert orders(errors)[1] > orders(errors)[0] + 1, errors
    assert errors[-1] < 1e-6, errors
