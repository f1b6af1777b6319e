"""Hybrid time stepping: the solver takes the steps whose residual is too large, and only those."""

import math

import numpy as np
import pytest
import torch
from tiny_problems import Beam

from anygrid.errors import GridError, UsageError
from anygrid.evaluate.rollout import roll_out
from anygrid.fields import to_dataset
from anygrid.forecast import Hybrid, Tally, calibrate, estimated_error, forecast, own_data
from anygrid.grid import Box, Periodic
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.distributions import LogUniform
from anygrid.problems.from_text import Equation
from anygrid.problems.helmholtz import Helmholtz

# Its correction is the error itself, so that the estimate can be compared with the truth.
PROBLEM = Burgers(viscosity=0.05, dt=0.05, scheme="cole-hopf", modes=6)
GRID = PROBLEM.grid(32)
MARCH = Equation("u_t = -u*u_x + nu*u_xx", {"x": Periodic()}, parameters={"nu": LogUniform(0.02, 0.05)}, dt=0.05)


def start(n=4, seed=0):
    return PROBLEM.sample(n, GRID, torch.Generator().manual_seed(seed))


def wrong_by(*errors):
    """A surrogate with a known relative error in each row."""

    def surrogate(a, grid):
        return PROBLEM.solve(a, grid) * (1 + torch.tensor(errors, dtype=a.dtype).view(-1, 1, 1))

    return surrogate


def test_the_estimate_is_the_error_where_the_correction_is():
    found = estimated_error(PROBLEM, start(), wrong_by(0.0, 0.01, -0.1, math.nan)(start(), GRID), GRID)
    torch.testing.assert_close(found[:3], torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64), rtol=1e-3, atol=1e-6)
    assert found[3] == math.inf
    # Nothing is also a solution, without an error.
    assert estimated_error(PROBLEM, 0 * start(1), 0 * start(1), GRID).tolist() == [0.0]


def test_the_estimate_of_an_equation_as_text_has_the_size_of_the_error():
    grid = MARCH.grid(64)
    a = MARCH.sample(3, grid, torch.Generator().manual_seed(0))
    u = MARCH.solve(a, grid)
    floor = estimated_error(MARCH, a, u, grid)
    assert float(floor.max()) < 0.01
    found = estimated_error(MARCH, a, 1.1 * u, grid)
    assert bool(((found > 0.03) & (found < 0.3)).all())


def test_the_solver_takes_the_rows_above_the_threshold_and_is_counted():
    tally = Tally()
    a = start()
    surrogate = wrong_by(0.001, 0.03, math.inf, 0.06)
    found = Hybrid(surrogate, PROBLEM, 0.05, tally)(a, GRID)
    truth = PROBLEM.solve(a, GRID)
    torch.testing.assert_close(found[:2], surrogate(a, GRID)[:2], rtol=0, atol=0)
    torch.testing.assert_close(found[2:], truth[2:], rtol=0, atol=0)
    assert found.dtype == a.dtype
    assert (tally.rows, tally.solved, tally.share) == (4, 2, 0.5)
    for threshold, solved in ((0.0, 4), (0.02, 3), (math.inf, 1)):
        tally = Tally()
        Hybrid(surrogate, PROBLEM, threshold, tally)(a, GRID)
        assert tally.solved == solved
    # Each has a tally of its own unless it is given one, and the tally is no part of what it is.
    one, two = Hybrid(surrogate, PROBLEM, 0.05), Hybrid(surrogate, PROBLEM, 0.05)
    one(a, GRID)
    assert (one.tally.rows, two.tally.rows) == (4, 0)
    assert one == two
    assert Tally().share == 0.0


def test_calibration_is_the_quantile_of_the_estimates():
    ds = own_data(PROBLEM, 32, n=3, steps=4)
    assert dict(ds.sizes) == {"sample": 3, "time": 5, "x": 32}
    # The last state of a trajectory begins no pair: 3 x 4 inputs; errors by the amplitude of the state, 12 different ones.
    seen = []

    def surrogate(a, grid):
        size = a.flatten(1).norm(dim=1).view(-1, 1, 1)
        seen.append(len(a))
        return PROBLEM.solve(a, grid) * (1 + 0.01 * size)

    u = torch.from_numpy(ds.velocity.values)[:, :4].reshape(12, 1, 32)
    errors = np.sort(estimated_error(PROBLEM, u, surrogate(u, GRID), GRID).numpy())
    seen.clear()
    assert calibrate(surrogate, PROBLEM, ds, 1.0) == pytest.approx(errors[-1])
    assert sum(seen) == 12
    assert calibrate(surrogate, PROBLEM, ds, 0.5) == pytest.approx(errors[6])
    tally = Tally()
    Hybrid(surrogate, PROBLEM, calibrate(surrogate, PROBLEM, ds, 0.75), tally)(u, GRID)
    assert tally.solved == 2
    assert calibrate(surrogate, PROBLEM, ds.isel(x=slice(None, None, -1)), 0.5) == pytest.approx(errors[6])


def test_own_data_of_steady_problems_and_of_drawn_parameters():
    ds = own_data(Helmholtz(modes=4), 17, n=2)
    assert dict(ds.sizes) == {"sample": 2, "x": 17, "y": 17}
    assert calibrate(lambda a, grid: 1.02 * Helmholtz().solve(a, grid), Helmholtz(), ds, 0.5) == pytest.approx(0.02, rel=1e-2)
    drawn = own_data(MARCH, 16, n=2, steps=1)
    a = MARCH.sample(2, MARCH.grid(16), torch.Generator().manual_seed(7_500_000_011))
    np.testing.assert_allclose(drawn.u[:, 1], MARCH.solve(a, MARCH.grid(16))[:, 0], rtol=1e-6)
    np.testing.assert_allclose(drawn.nu[:, 1], a[:, 1], rtol=1e-6)
    with pytest.raises(UsageError, match="2 or more samples"):
        own_data(PROBLEM, 16, n=1)


def test_it_works_in_forecast_and_in_evaluate_as_any_map_does():
    a = start(2)
    tally = Tally()
    hybrid = Hybrid(lambda a, grid: 1.2 * PROBLEM.solve(a, grid), PROBLEM, 0.1, tally)
    ds = to_dataset(a, PROBLEM.inputs, GRID, {"sample": np.arange(2)})
    found = forecast(hybrid, ds, 3, inputs=PROBLEM.inputs, outputs=PROBLEM.outputs, dt=0.05, domain=GRID)
    truth, state = [], a
    for _ in range(3):
        state = PROBLEM.solve(state, GRID)
        truth.append(state)
    np.testing.assert_allclose(found.velocity.values, torch.cat(truth, 1).numpy(), rtol=1e-5, atol=1e-6)
    assert (tally.rows, tally.solved) == (6, 6)
    rolled = roll_out(hybrid, a[:, None].expand(-1, 3, -1, -1), GRID, (0,))
    torch.testing.assert_close(rolled[:, :, 0], torch.cat(truth, 1), rtol=1e-5, atol=1e-6)


def test_a_surrogate_that_blows_up_is_caught_by_the_solver():
    steps = 0

    def unstable(a, grid):
        nonlocal steps
        steps += 1
        return PROBLEM.solve(a, grid) * (1.0 if steps < 3 else 1e6)

    state = start(1)
    for _ in range(6):
        state = Hybrid(unstable, PROBLEM, 0.05)(state, GRID)
    truth = start(1)
    for _ in range(6):
        truth = PROBLEM.solve(truth, GRID)
    torch.testing.assert_close(state, truth, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_done_is_said():
    with pytest.raises(UsageError, match="0 or more"):
        Hybrid(PROBLEM.solve, PROBLEM, -1.0)
    with pytest.raises(UsageError, match="0 or more"):
        Hybrid(PROBLEM.solve, PROBLEM, math.nan)
    with pytest.raises(GridError, match="hybrid: grid"):
        Hybrid(lambda a, grid: a, PROBLEM, 0.1)(start(), Box.uniform({"x": Periodic(0, 2)}, 32))
    for quantile in (0.0, 1.1, math.nan):
        with pytest.raises(UsageError, match="quantile"):
            calibrate(PROBLEM.solve, PROBLEM, own_data(PROBLEM, 16, n=2, steps=1), quantile)
    beam = Beam()
    with pytest.raises(UsageError, match=r"Beam\.correction"):
        Hybrid(beam.solve, beam, 0.1)(beam.sample(1, beam.grid(9), torch.Generator()), beam.grid(9))


def test_darcy_rows_are_judged_one_by_one():
    problem = Darcy(modes=8)
    grid = problem.grid(17)
    a = problem.sample(2, grid, torch.Generator().manual_seed(0))
    u = problem.solve(a, grid)
    found = estimated_error(problem, a, u * torch.tensor([1.0, 1.05]).view(2, 1, 1, 1), grid)
    assert float(found[0]) < 1e-6
    assert float(found[1]) == pytest.approx(0.05, rel=0.3)
