"""Closed-form solutions of the two-dimensional Navier-Stokes equation."""

from __future__ import annotations

import math

import pytest
import torch

from anygrid.problems.navier_stokes import NavierStokes


def mesh(problem: NavierStokes, shape):
    grid = problem.grid(shape)
    return grid, *(2 * math.pi * grid.points()).unbind(-1)


@pytest.mark.parametrize("scheme", ["etdrk4", "published"])
@pytest.mark.parametrize("shape", [(16, 16), (15, 20)])
def test_taylor_green_vortices_decay_at_the_viscous_rate(scheme, shape):
    """The field cos(kx) cos(ky) advects itself by nothing, whatever its amplitude."""
    problem = NavierStokes(viscosity=0.01, forcing=0.0, dt=0.04, scheme=scheme)
    grid, x, y = mesh(problem, shape)
    w = torch.stack([s * torch.cos(2 * x) * torch.cos(2 * y) for s in (1.0, 7.0)])[:, None]
    exact = w * math.exp(-0.01 * 8 * (2 * math.pi) ** 2 * 0.04)
    torch.testing.assert_close(problem.solve(w, grid), exact, rtol=0, atol=1e-12 if scheme == "etdrk4" else 1e-6)


def test_a_shell_of_one_wave_number_decays_as_a_whole():
    """|k|^2 = 25 has modes (5,0), (3,4), (4,3)...: w is a function of psi, so any mixture is steady but for viscosity."""
    problem = NavierStokes(viscosity=0.003, forcing=0.0, dt=1.0)
    grid, x, y = mesh(problem, 32)
    w = (torch.cos(5 * x) - 2 * torch.sin(3 * x + 4 * y) + 0.7 * torch.cos(4 * x - 3 * y))[None, None]
    torch.testing.assert_close(problem.solve(w, grid), w * math.exp(-0.003 * 25 * (2 * math.pi) ** 2), rtol=0, atol=1e-11)


@pytest.mark.parametrize("scheme", ["etdrk4", "published"])
def test_the_forcing_fills_its_own_wave_from_rest(scheme):
    """The forcing is one eigenfunction of the Laplacian, so w = f (1 - e^(-lambda t)) / lambda with lambda = 8 pi^2 nu."""
    problem = NavierStokes(viscosity=1e-2, dt=0.05, forcing=0.1, scheme=scheme)
    grid, x, y = mesh(problem, 16)
    rate = 8 * math.pi**2 * 1e-2
    exact = 0.1 * (torch.sin(x + y) + torch.cos(x + y)) * -math.expm1(-rate * 0.05) / rate
    u = problem.solve(torch.zeros(1, 1, 16, 16, dtype=torch.float64), grid)
    torch.testing.assert_close(u[0, 0], exact, rtol=0, atol=1e-13 if scheme == "etdrk4" else 1e-5)


def test_tendency_of_a_small_wave_in_a_strong_shear():
    """Worked by hand: fixes the sign and direction of the velocity, which steady flows do not see."""
    problem = NavierStokes(viscosity=1e-12, forcing=0.0, dt=1e-3, courant=0.1)
    grid, x, y = mesh(problem, 24)
    shear = 2 * math.pi * torch.cos(x)  # w = v_x, so v = sin(2 pi x)
    small = 1e-6 * torch.sin(2 * y)
    # w_t = -v d(small)/dy - u_small d(shear)/dx with psi_small = small / (4 pi)^2, so u_small = 1e-6 cos(2 y) / (4 pi)
    tendency = (-4 * math.pi + math.pi) * 1e-6 * torch.sin(x) * torch.cos(2 * y)
    got = (problem.solve((shear + small)[None, None], grid)[0, 0] - shear - small) / 1e-3
    torch.testing.assert_close(got, tendency, rtol=0, atol=2e-2 * float(tendency.abs().max()))


def test_resolution_converges_faster_than_any_order():
    problem = NavierStokes(viscosity=2e-3, modes=6, courant=0.5, dt=0.5)
    finest = problem.grid(72)

    def at(n: int) -> torch.Tensor:
        grid = problem.grid(n)
        w = problem.sample(2, grid, torch.Generator().manual_seed(1)).double() * 3
        return problem.solve(w, grid)[..., :: n // 12, :: n // 12]

    truth = problem.solve(problem.sample(2, finest, torch.Generator().manual_seed(1)).double() * 3, finest)[..., ::6, ::6]
    errors = [float((at(n) - truth).norm() / truth.norm()) for n in (24, 36, 48)]
    rates = [math.log(a / b) / math.log(m / n) for a, b, m, n in zip(errors, errors[1:], (36, 48), (24, 36), strict=False)]
    assert rates[1] > rates[0] > 4
    assert rates[1] > 8
