"""The cheap settings of a solver that a surrogate is compared with, and timings in which no query repeats the last."""

import math
from dataclasses import replace

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.evaluate.timing import InTurn
from anygrid.evaluate.truth import FixedSteps, loose_solvers
from anygrid.grid import Bounded, Periodic
from anygrid.problems.burgers import Burgers
from anygrid.problems.distributions import RandomField, Uniform
from anygrid.problems.from_text import Equation
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky

START = RandomField(mean=-0.7, std=0.3, positive=True)
FISHER = Equation(
    "u_t = 0.01*u_xx + r*u*(1 - u)", {"x": Periodic()}, parameters={"r": Uniform(1, 2)}, initial={"u": START}, dt=1.0, steps=1
)


def sampled(problem, resolution, n=3):
    grid = problem.grid(resolution)
    return problem.sample(n, grid, torch.Generator().manual_seed(0)).float(), grid


def test_an_evolution_as_text_runs_with_loose_tolerances_and_with_equal_steps():
    names = set(loose_solvers(FISHER, counts=(1, 4)))
    loose = {f"solver, tolerance {value}" for value in ("0.1", "0.01", "0.0001")}
    assert names == {"solver", "solver, 1 step", "solver, 4 steps"} | loose


def test_equal_steps_reach_the_solver_at_order_four():
    a, grid = sampled(FISHER, 32)
    a = a.double()
    tight = replace(FISHER, tolerance=1e-12).solve(a, grid)
    errors = [float((FixedSteps(FISHER, n)(a, grid) - tight).norm() / tight.norm()) for n in (8, 16)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)
    assert errors[1] < 1e-5


def test_equal_steps_keep_single_precision():
    a, grid = sampled(FISHER, 32)
    u = FixedSteps(FISHER, 16)(a, grid)
    assert u.dtype == torch.float32
    # float64 inside would agree with the solver to the rounding of the result alone
    exact = FISHER.solve(a.double(), grid)
    rounded = float((u - exact).norm() / exact.norm())
    assert 1e-8 < rounded < 1e-4


def test_step_numbers_are_left_out_where_they_change_nothing():
    heat = Equation("u_t = 0.1*u_xx", {"x": Periodic()}, dt=0.1)
    shock = Equation("u_t = -u*u_x", {"x": Periodic()}, initial={"u": RandomField(length=0.2)}, dt=0.05)
    for problem in (heat, shock):
        found = loose_solvers(problem)
        assert [name for name in found if "step" in name] == []
        a, grid = sampled(problem, 64)
        u, tight = found["solver, precision of the input"](a, grid), problem.solve(a, grid)
        assert float((u - tight).norm() / tight.norm()) < 1e-5


def test_bounded_equations_take_equal_implicit_steps():
    problem = Equation("u_t = u_xx + u*(1 - u)", {"x": Bounded()}, boundary={"x": ("u = 1", "u_n = 0")}, initial={"u": START}, dt=0.5)
    a, grid = sampled(problem, 17)
    tight = problem.solve(a, grid)
    errors = [float((FixedSteps(problem, n)(a, grid) - tight).norm() / tight.norm()) for n in (1, 16)]
    assert errors[1] < 0.1 * errors[0]
    assert errors[1] < 1e-3


def test_equal_steps_of_a_steady_equation_are_refused():
    problem = Equation("-u_xx = 1", {"x": Bounded()}, boundary="u = 0")
    assert not [name for name in loose_solvers(problem) if "step" in name]
    with pytest.raises(UsageError, match="an evolution"):
        FixedSteps(problem, 1)(torch.zeros(1, 1, 9), problem.grid(9))


def test_closed_form_of_burgers_is_a_setting_that_agrees():
    problem = Burgers(modes=8)
    a, grid = sampled(problem, 128)
    found = loose_solvers(problem)
    assert torch.allclose(found["solver, Cole and Hopf"](a, grid), found["solver"](a, grid), atol=1e-4)


def test_steps_are_not_longer_than_the_time_they_make_up():
    names = set(loose_solvers(KuramotoSivashinsky(dt=0.25, step=0.05)))
    assert names == {"solver", "solver, step 0.1", "solver, step 0.2"}


def test_each_timed_call_asks_for_other_samples():
    seen = []

    def remember(a, grid):
        seen.append(a[:, 0, 0].tolist())
        return a

    asked = InTurn(remember, torch.arange(3.0)[:, None, None].expand(3, 1, 4))
    grid = FISHER.grid(4)
    for _ in range(4):
        asked(torch.zeros(2, 1, 4), grid)
    assert seen == [[0, 1], [1, 2], [2, 0], [0, 1]]
