"""Parareal: exact on the first k steps after k rounds, and the solver's own forecast when it stops."""

import pytest
import torch

from anygrid.errors import AnygridError, UsageError
from anygrid.forecast import parareal
from anygrid.grid import Box, Periodic
from anygrid.problems.burgers import Burgers
from anygrid.problems.distributions import LogUniform
from anygrid.problems.from_text import Equation

GRID = Box.uniform({"x": Periodic()}, 32)
STEPS = 8
PROBLEM = Burgers(viscosity=0.05, dt=0.05, scheme="cole-hopf", modes=6)


def start(n=2):
    return PROBLEM.sample(n, GRID, torch.Generator().manual_seed(0)).double()


def sequential(fine, a, steps=STEPS):
    states = []
    for _ in range(steps):
        a = fine(a, GRID)
        states.append(a)
    return torch.stack(states, 1)


def coarse_with(error):
    """The solver, shifted and damped: a coarse map of that relative size of error."""

    def coarse(a, grid):
        assert a.dtype == torch.float32
        u = PROBLEM.solve(a.double(), grid)
        return ((1 - error) * u + error * u.roll(1, -1)).float()

    return coarse


def error_of(found, truth):
    return float(((found - truth).flatten(2).norm(dim=2) / truth.flatten(2).norm(dim=2)).max())


@pytest.mark.parametrize(("error", "tolerance", "most"), [(0.02, 1e-6, 4), (0.2, 1e-6, 6), (0.02, 1e-3, 2)])
def test_it_ends_with_the_solvers_own_forecast_in_fewer_rounds(error, tolerance, most):
    truth = sequential(PROBLEM.solve, start())
    found = parareal(coarse_with(error), PROBLEM.solve, start(), GRID, STEPS, tolerance)
    assert found.rounds == len(found.updates) <= most < found.steps == STEPS
    assert error_of(found.states, truth) < tolerance
    assert found.updates[-1] <= tolerance < found.updates[0]
    assert STEPS <= found.solved < STEPS * found.rounds + 1


def test_the_error_falls_faster_than_any_power():
    found = parareal(coarse_with(0.05), PROBLEM.solve, start(), GRID, STEPS, 1e-12)
    ratios = [later / now for now, later in zip(found.updates[:4], found.updates[1:4], strict=False)]
    assert ratios[0] < 0.3
    assert ratios == sorted(ratios, reverse=True)


def test_after_k_rounds_the_first_k_states_are_exact_whatever_the_coarse_map():
    calls = []

    def fine(a, grid):
        calls.append(a.shape[0])
        return PROBLEM.solve(a, grid)

    found = parareal(lambda a, grid: 0.3 * a.flip(-1), fine, start(), GRID, STEPS, 1e-14)
    # A useless coarse map: nothing is saved, and the result is the sequential one.
    assert found.rounds == STEPS
    assert calls == [2 * n for n in range(STEPS, 0, -1)]
    assert found.solved == sum(range(1, STEPS + 1))
    torch.testing.assert_close(found.states, sequential(PROBLEM.solve, start()), rtol=0, atol=1e-14)


def test_a_perfect_coarse_map_needs_one_round():
    found = parareal(lambda a, grid: PROBLEM.solve(a.double(), grid), PROBLEM.solve, start(), GRID, STEPS, 1e-5)
    assert (found.rounds, found.solved) == (1, STEPS)


def test_inputs_that_are_not_outputs_are_held():
    problem = Equation("u_t = -c*u_x", {"x": Periodic()}, parameters={"c": LogUniform(0.5, 2.0)}, dt=0.1)
    a = problem.sample(2, GRID, torch.Generator().manual_seed(0)).double()
    a[:, 0] += 2.0
    found = parareal(lambda b, grid: 0.98 * b[:, :1], problem.solve, a, GRID, 3, 1e-9)
    truth = a.clone()
    for n in range(3):
        truth[:, :1] = problem.solve(truth, GRID)
        assert float((found.states[:, n] - truth[:, :1]).abs().max()) < 1e-9
    # The same with the state in the last channel.
    swapped = parareal(
        lambda b, grid: 0.98 * b[:, 1:], lambda b, grid: problem.solve(b.flip(1), grid), a.flip(1), GRID, 3, 1e-9, channels=(1,)
    )
    torch.testing.assert_close(swapped.states, found.states, rtol=0, atol=1e-9)


def test_what_cannot_be_done_is_said():
    with pytest.raises(UsageError, match="1 or more steps"):
        parareal(coarse_with(0.1), PROBLEM.solve, start(), GRID, 0)
    with pytest.raises(UsageError, match="tolerance above 0"):
        parareal(coarse_with(0.1), PROBLEM.solve, start(), GRID, 2, 0.0)
    with pytest.raises(AnygridError, match="stays finite, got one that does not at step 2"):
        parareal(lambda a, grid: a * 1e30, PROBLEM.solve, start(), GRID, 3)
