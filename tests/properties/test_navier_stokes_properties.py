"""Conservation, symmetry and failure of the Navier-Stokes solver."""

from __future__ import annotations

import math

import pytest
import torch

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.numerics.pseudospectral import inverse_laplacian, to_spectrum
from anygrid.problems.navier_stokes import NavierStokes


def start(problem: NavierStokes, n: int, amplitude: float = 1.0) -> torch.Tensor:
    return amplitude * problem.sample(2, problem.grid(n), torch.Generator().manual_seed(0)).double()


def test_energy_and_enstrophy_are_conserved_without_viscosity_and_forcing():
    problem = NavierStokes(viscosity=1e-14, forcing=0.0, courant=0.25, modes=12)
    grid = problem.grid(48)
    w = start(problem, 48, 3.0)
    u = problem.solve(w, grid)
    assert float((u - w).norm() / w.norm()) > 0.1  # it did move

    def invariants(field):
        w_hat = to_spectrum(field[:, 0], 2)
        twice = torch.ones(25, dtype=torch.float64).index_fill(0, torch.arange(1, 24), 2.0)  # the half-stored modes count twice
        square = w_hat.abs() ** 2 * twice
        return torch.stack(((square * -inverse_laplacian(grid)).sum((1, 2)), square.sum((1, 2))))

    torch.testing.assert_close(invariants(u), invariants(w), rtol=1e-7, atol=0)


def test_the_mean_is_conserved_and_enstrophy_falls_without_forcing():
    problem = NavierStokes(forcing=0.0)
    w = start(problem, 32) + 0.7
    u = problem.solve(w, problem.grid(32))
    torch.testing.assert_close(u.mean((2, 3)), w.mean((2, 3)), rtol=1e-13, atol=0)
    assert bool(((u - 0.7).square().sum((1, 2, 3)) < 0.99 * (w - 0.7).square().sum((1, 2, 3))).all())


def test_shifts_by_grid_points_commute_with_the_unforced_solver():
    problem = NavierStokes(forcing=0.0)
    w = start(problem, 32, 2.0)
    shifted = problem.solve(w.roll((5, 11), (2, 3)), problem.grid(32))
    torch.testing.assert_close(shifted, problem.solve(w, problem.grid(32)).roll((5, 11), (2, 3)), rtol=0, atol=1e-11)


def test_quarter_turns_commute_and_mirrors_change_the_sign():
    problem = NavierStokes(forcing=0.0)
    grid, w = problem.grid(33), start(problem, 33, 2.0)
    u = problem.solve(w, grid)
    torch.testing.assert_close(problem.solve(-w.transpose(2, 3), grid), -u.transpose(2, 3), rtol=0, atol=1e-11)

    def turn(field):
        return field.flip(2).roll(1, 2).transpose(2, 3)  # (x, y) -> (y, -x) on points that start at 0

    torch.testing.assert_close(problem.solve(turn(w), grid), turn(u), rtol=0, atol=1e-11)


def test_two_half_steps_are_one_step():
    whole, half = NavierStokes(dt=1.0, courant=0.5), NavierStokes(dt=0.5, courant=0.5)
    grid, w = whole.grid(32), start(whole, 32)
    torch.testing.assert_close(half.solve(half.solve(w, grid), grid), whole.solve(w, grid), rtol=0, atol=1e-6)


def test_the_sampler_has_the_published_variance():
    """Sum over wave vectors of 2 * 343 * (4 pi^2 |k|^2 + 49)^-2.5, from the published code's formula."""
    k = torch.arange(-127, 128, dtype=torch.float64)
    square = k[:, None] ** 2 + k**2
    terms = 2 * 343 * (4 * math.pi**2 * square + 49) ** -2.5
    terms[127, 127] = 0
    problem = NavierStokes(modes=24)
    w = problem.sample(400, problem.grid(20), torch.Generator().manual_seed(5))
    assert float(w.square().mean()) == pytest.approx(float(terms.sum()), rel=0.05)
    assert 0.24 < math.sqrt(float(terms.sum())) < 0.27


def test_a_fast_sample_takes_more_steps_and_does_not_change_the_others():
    problem = NavierStokes()
    grid, w = problem.grid(32), start(problem, 32)
    mixed = torch.cat((w, 40 * w))
    torch.testing.assert_close(problem.solve(mixed, grid)[:2], problem.solve(w, grid), rtol=0, atol=1e-12)
    counts = problem._substeps(mixed[:, 0], grid)
    assert int(counts[2]) > 4 * int(counts[0])


def test_steps_of_the_published_trajectories():
    assert [NavierStokes(viscosity=v).steps for v in (1e-3, 1e-4, 1e-5)] == [50, 30, 20]
    assert NavierStokes(viscosity=1e-3, dt=0.5).steps == 100


@pytest.mark.parametrize("bad", [{"viscosity": 0.0}, {"dt": -1.0}, {"courant": 3.0}, {"modes": 0}, {"viscosity": math.nan}])
def test_parameters_out_of_range_are_named(bad):
    with pytest.raises(UsageError, match=f"NavierStokes\\({next(iter(bad))}="):
        NavierStokes(**bad)


def test_bad_fields_are_named():
    problem = NavierStokes()
    grid, w = problem.grid(16), torch.ones(2, 1, 16, 16)
    w[1, 0, 3, 3] = math.inf
    with pytest.raises(DataError, match="the first at index 1"):
        problem.solve(w, grid)
    huge = 1e9 * start(problem, 16)
    with pytest.raises(AnygridError, match="internal steps, got sample"):
        problem.solve(huge, grid)
    with pytest.raises(AnygridError, match=r"NaN or inf in sample 0 at time 0\.\d+"):
        NavierStokes(scheme="published", dt=0.01).solve(huge / 1e3, grid)
