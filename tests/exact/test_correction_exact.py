"""The estimated error of a problem against errors that are known because they were put there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import anygrid as ag
from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.catalogue import CATALOGUE
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.navier_stokes import NavierStokes


def _solved(problem: Problem, resolution: int, n: int = 3) -> tuple[Grid, Tensor, Tensor]:
    grid = problem.grid(resolution)
    a = problem.sample(n, grid, torch.Generator().manual_seed(4)).double()
    return grid, a, problem.solve(a, grid)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


def _error(u: Tensor) -> Tensor:
    """One twentieth of the distance to the next sample: zero where all solutions are."""
    difference = u.roll(1, 0) - u
    return 0.05 * difference * (_norm(u) / _norm(difference)).reshape(-1, *[1] * (u.ndim - 1))


LINE = {"x": ag.Bounded(0, 1)}
BOUNDED = {
    "differences, values": lambda: ag.Equation(
        "u_t = nu*u_xx - u**3 + s",
        LINE,
        parameters={"nu": 0.1, "s": ag.Uniform(0.5, 1.5)},
        boundary={"x": ("u = 1", "u = 0")},
        initial={"u": "1 - x + s*sin(pi*x)"},
        dt=0.05,
    ),
    "differences, coefficient": lambda: ag.Equation(
        "u_t = d(a*d(u, x), x)",
        LINE,
        inputs={"a": ag.RandomField(low=0.1, high=0.3)},
        boundary="u = 0",
        initial={"u": ag.RandomField()},
        dt=0.02,
    ),
}


@pytest.mark.parametrize("name", ["heat", "heat-bounded", "advection-diffusion", "wave", "poisson"])
def test_linear_constant_coefficients_give_the_error_itself(name: str) -> None:
    problem = CATALOGUE[name]()
    grid, a, u = _solved(problem, 33 if "bounded" in name or name == "poisson" else 32)
    error = _error(u)
    assert float(_norm(problem.correction(a, u + error, grid) + error).max() / _norm(error).min()) < 1e-9


@pytest.mark.parametrize("problem", [Helmholtz(), Burgers()], ids=["Helmholtz", "Burgers"])
def test_exact_inverses_give_the_error_itself(problem: Problem) -> None:
    grid, a, u = _solved(problem, 65 if isinstance(problem, Helmholtz) else 256)
    error = _error(u)
    assert float(_norm(problem.correction(a, u + error, grid) + error).max() / _norm(error).min()) < 1e-5


@pytest.mark.parametrize(
    ("make", "resolution", "left"),
    [
        pytest.param(Darcy, 49, 0.1, id="Darcy"),
        pytest.param(CATALOGUE["composite"], 33, 0.2, id="composite"),
        pytest.param(CATALOGUE["nonlinear-poisson"], 33, 0.1, id="nonlinear-poisson"),
        pytest.param(CATALOGUE["kdv"], 128, 0.2, id="kdv"),
        pytest.param(CATALOGUE["cahn-hilliard"], 48, 0.01, id="cahn-hilliard"),
        pytest.param(lambda: NavierStokes(dt=0.25), 48, 0.1, id="NavierStokes"),
        *[pytest.param(make, 65, 0.3, id=name) for name, make in BOUNDED.items()],
    ],
)
def test_corrected_solution_is_nearer_and_the_estimate_is_the_error(make, resolution: int, left: float) -> None:
    """A part ``left`` of an error of 5 % remains after one correction, and its size is known as well as that."""
    problem = make()
    grid, a, u = _solved(problem, resolution)
    error = _error(u)
    wrong = (u + error).requires_grad_()
    correction = problem.correction(a, wrong, grid)
    assert float((_norm(correction.detach() + error) / _norm(error)).max()) < left
    correction.square().sum().backward()
    assert wrong.grad is not None
    assert bool(torch.isfinite(wrong.grad).all())


def test_steps_of_an_evolution_are_seen_to_order_five() -> None:
    """The defect times the step on the solver's own solution: order 4 in dt, times dt."""
    found = []
    for dt in (0.1, 0.05):
        start = {"u": "0.5 + 0.4*cos(2*pi*x)"}
        problem = ag.Equation("u_t = u - u**3 + 0.01*u_xx", {"x": ag.Periodic()}, initial=start, dt=dt, tolerance=1e-11)
        grid, a, u = _solved(problem, 64)
        found.append(float(_norm(problem.correction(a, u, grid)).mean()))
    order = torch.log2(torch.tensor(found[0] / found[1]))
    assert 4.6 < float(order) < 5.6


def test_bounded_differences_agree_with_their_solver() -> None:
    found = []
    for dt in (0.1, 0.05):
        problem = ag.Equation(
            "u_t = nu*u_xx + u - u**3",
            LINE,
            parameters={"nu": 0.1},
            boundary={"x": ("u = 1", "u = 0")},
            initial={"u": "1 - x + 0.3*sin(pi*x)**4"},
            dt=dt,
            tolerance=1e-9,
        )
        grid, a, u = _solved(problem, 33)
        found.append(float(_norm(problem.correction(a, u, grid)).mean()))
    # Stiff modes that decay within the step reduce the order, as in every one-step method.
    assert found[1] < found[0] / 6


def test_values_at_walls_are_corrected_to_the_last_digit() -> None:
    problem = BOUNDED["differences, values"]()
    grid, a, u = _solved(problem, 33)  # of 1 at the left, 0 at the right
    delta = problem.correction(a, u + 0.1, grid)
    torch.testing.assert_close(delta[..., [0, -1]], torch.full_like(delta[..., [0, -1]], -0.1), atol=1e-9, rtol=0)


def test_jumps_and_hidden_unknowns_are_refused() -> None:
    problem = CATALOGUE["inviscid-burgers"]()
    grid = problem.grid(32)
    a = problem.sample(1, grid, torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="a conservation law"):
        problem.correction(a, a, grid)
