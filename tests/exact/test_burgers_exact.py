"""Burgers against closed forms, and the pseudo-spectral solver against the Cole-Hopf solution."""

from __future__ import annotations

import math

import pytest
import torch

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.numerics.pseudospectral import resample
from anygrid.problems.burgers import Burgers, cole_hopf


def relative(u: torch.Tensor, exact: torch.Tensor) -> float:
    return float(((u - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max())


def closed_form(x: torch.Tensor, time: float, viscosity: float, drift: float) -> torch.Tensor:
    """Velocity of phi = 1 + 0.9 exp(-4 pi^2 nu t) cos(2 pi x), moved along by a constant drift."""
    decay = 0.9 * math.exp(-4 * math.pi**2 * viscosity * time)
    angle = 2 * math.pi * (x - drift * time)
    return drift + 4 * math.pi * viscosity * decay * torch.sin(angle) / (1 + decay * torch.cos(angle))


@pytest.mark.parametrize("scheme", ["etdrk4", "cole-hopf"])
@pytest.mark.parametrize(("n", "viscosity", "drift"), [(256, 0.1, 0.0), (129, 0.1, 0.4), (256, 0.02, -1.3), (101, 0.05, 0.0)])
def test_closed_form(scheme, n, viscosity, drift):
    problem = Burgers(viscosity=viscosity, dt=0.3, scheme=scheme)
    grid = problem.grid(n)
    x = grid.points()[..., 0]
    u = problem.solve(closed_form(x, 0.0, viscosity, drift)[None, None], grid)[:, 0]
    assert relative(u, closed_form(x, 0.3, viscosity, drift)[None]) < (1e-7 if scheme == "etdrk4" else 1e-12)


@pytest.mark.parametrize(("viscosity", "dt", "bound"), [(0.1, 1.0, 2e-6), (0.01, 0.3, 3e-6)])
def test_published_samples_against_cole_hopf(viscosity, dt, bound):
    problem = Burgers(viscosity=viscosity, modes=500, dt=dt)
    grid = problem.grid(1024)
    a = problem.sample(3, grid, torch.Generator().manual_seed(0)).double()
    assert relative(problem.solve(a, grid), Burgers(viscosity=viscosity, dt=dt, scheme="cole-hopf").solve(a, grid)) < bound


def test_the_closed_form_converges_exponentially_with_the_grid():
    errors = []
    for n in (16, 32, 64):
        grid = Burgers().grid(n)
        x = grid.points()[..., 0]
        got = cole_hopf(closed_form(x, 0.0, 0.1, 0.0)[None], grid, 0.1, 0.1)
        errors.append(relative(got, closed_form(x, 0.1, 0.1, 0.0)[None]))
    assert errors[1] < 1e-3 * errors[0]
    assert errors[2] < 1e-13


def test_a_coarse_grid_solves_on_a_finer_one_of_its_own():
    """24 points of a band-limited start give the solution of 240 points at the shared ones."""
    problem = Burgers(viscosity=0.02, modes=4, dt=0.1)
    a = problem.sample(2, problem.grid(240), torch.Generator().manual_seed(1)).double()
    fine = problem.solve(a, problem.grid(240))
    coarse = problem.solve(a[..., ::10], problem.grid(24))
    torch.testing.assert_close(coarse, resample(fine, (24,)), rtol=0, atol=1e-6)


def test_the_mean_is_conserved_and_energy_falls():
    problem = Burgers(viscosity=0.005, dt=0.2, modes=20)
    grid = problem.grid(200)
    a = problem.sample(2, grid, torch.Generator().manual_seed(2)).double() + 0.5
    u = problem.solve(a, grid)
    torch.testing.assert_close(u.mean(-1), a.mean(-1), rtol=1e-12, atol=0)
    assert bool((u.square().mean(-1) < a.square().mean(-1)).all())
    assert bool((u.amax(-1) <= a.amax(-1)).all())  # maximum principle


def test_mirror_symmetry():
    problem = Burgers(viscosity=0.05, dt=0.2, modes=20)
    grid = problem.grid(64)
    a = problem.sample(2, grid, torch.Generator().manual_seed(3)).double()

    def mirror(u):
        return -u.flip(-1).roll(1, -1)

    torch.testing.assert_close(problem.solve(mirror(a), grid), mirror(problem.solve(a, grid)), rtol=0, atol=1e-11)


def test_the_sampler_has_the_published_variance():
    k = torch.arange(1, 4097, dtype=torch.float64)
    variance = float((2 * 625 * (4 * math.pi**2 * k**2 + 25) ** -2).sum())
    problem = Burgers(modes=64)
    a = problem.sample(500, problem.grid(16), torch.Generator().manual_seed(4))
    assert float(a.square().mean()) == pytest.approx(variance, rel=0.15)


def test_errors_are_named():
    problem = Burgers(viscosity=1e-3, scheme="cole-hopf")
    grid = problem.grid(64)
    wave = torch.sin(2 * math.pi * grid.points()[..., 0])[None, None]
    with pytest.raises(AnygridError, match="range of float64") as caught:
        problem.solve(wave, grid)
    assert "etdrk4" in caught.value.hint
    with pytest.raises(DataError, match="1 of 1 samples"):
        problem.solve(wave * math.nan, grid)
    with pytest.raises(AnygridError, match="internal points and steps, got sample 0"):
        Burgers(viscosity=1e-9).solve(wave, grid)
    with pytest.raises(UsageError, match="known scheme") as caught:
        Burgers(scheme="cole_hopf")  # type: ignore[arg-type]
    assert "cole-hopf" in caught.value.hint
