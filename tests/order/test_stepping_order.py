"""Every time-stepping method reaches the order it states, on stiff, real, complex and physical problems."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from anygrid.numerics.stepping import ETDRK2, ETDRK4, CrankNicolsonEuler, Stepper, hermite_defect
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes, _stepper

METHODS = [ETDRK4, ETDRK2, CrankNicolsonEuler]
RATES = torch.tensor([-3.0, -1.0, -1e-9, 0.0, 0.7], dtype=torch.float64)  # small ones need the contour means


def logistic(time: float, start: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """Solution of u' = r u - u^2."""
    growth = torch.where(rates == 0, time, torch.expm1(rates * time) / torch.where(rates == 0, 1.0, rates))
    return start * torch.exp(rates * time) / (1 + start * growth)


def run(method: type[Stepper], rates: torch.Tensor, nonlinear, start: torch.Tensor, time: float, count: int) -> torch.Tensor:
    step = method(rates, nonlinear, time / count)
    for _ in range(count):
        start = step(start)
    return start


def observed(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in pairwise(errors)]


def test_the_list_of_methods_is_complete():
    assert set(METHODS) == set(Stepper.__subclasses__())


@pytest.mark.parametrize("method", METHODS)
def test_order_on_a_nonlinear_system_with_known_solution(method):
    start = torch.tensor([[0.3, 0.8, 1.1, 0.5, 0.2]], dtype=torch.float64)
    exact = logistic(1.0, start, RATES)
    errors = [float((run(method, RATES, lambda u: -(u**2), start, 1.0, n) - exact).abs().max()) for n in (16, 32, 64)]
    assert observed(errors) == pytest.approx([method.order] * 2, abs=0.25)


@pytest.mark.parametrize("method", METHODS)
def test_order_with_oscillating_linear_part(method):
    """Complex rates: |u| obeys u' = -u^2 / (1 + ...) in a rotating frame only for N(u) = -|u| u, so u = e^{iwt} v with v' = -v^2."""
    rates = torch.tensor([2j, -5j], dtype=torch.complex128)
    start = torch.tensor([[0.5 + 0j, 1.0 + 0j]], dtype=torch.complex128)
    exact = torch.exp(rates) * start / (1 + start)
    errors = [float((run(method, rates, lambda u: -u.abs() * u, start, 1.0, n) - exact).abs().max()) for n in (32, 64, 128)]
    assert observed(errors) == pytest.approx([method.order] * 2, abs=0.3)


@pytest.mark.parametrize("method", [ETDRK2, ETDRK4])
def test_a_linear_system_is_exact_at_any_step_and_stiffness(method):
    rates = torch.tensor([-1e6, -50.0, -1e-3, 0.0, 1.0], dtype=torch.float64)
    start, source = torch.ones(2, 5, dtype=torch.float64), torch.full((2, 5), 3.0, dtype=torch.float64)
    exact = torch.exp(rates) + 3 * torch.where(rates == 0, 1.0, torch.expm1(rates) / torch.where(rates == 0, 1.0, rates))
    torch.testing.assert_close(run(method, rates, lambda u: source, start, 1.0, 1), exact.expand(2, 5), rtol=1e-12, atol=1e-14)


def test_order_of_navier_stokes_in_its_internal_step():
    problem = NavierStokes(modes=8)
    grid = problem.grid(32)
    w = problem.sample(2, grid, torch.Generator().manual_seed(3)).double()[:, 0] * 4
    w_hat = torch.fft.rfft2(w)

    def at(count: int) -> torch.Tensor:
        step, state = _stepper(problem, grid, 1 / count, torch.float64, w.device), w_hat
        for _ in range(count):
            state = step(state)
        return state

    finest = at(256)
    errors = [float((at(n) - finest).abs().max()) for n in (16, 32, 64)]
    assert observed(errors) == pytest.approx([4, 4], abs=0.35)


def test_order_of_kuramoto_sivashinsky_in_its_internal_step():
    grid = KuramotoSivashinsky().grid(48)
    u = KuramotoSivashinsky(spin_up=10, step=0.2).sample(4, grid, torch.Generator().manual_seed(4)).double()
    finest = KuramotoSivashinsky(step=1 / 320).solve(u, grid)
    errors = [float((KuramotoSivashinsky(step=h).solve(u, grid) - finest).norm() / finest.norm()) for h in (1 / 10, 1 / 20, 1 / 40)]
    rates = observed(errors)
    assert rates[1] > rates[0] > 3  # 4 is reached slowly from below: order reduction by stiffness, known for ETDRK4
    assert rates[1] > 3.3
    assert errors[1] < 1e-6  # the default step


def test_hermite_defect_has_order_four_on_a_stiff_system():
    rates = torch.tensor([-4.0, -3.0, 0.0, 0.7], dtype=torch.float64)
    start = torch.tensor([[0.3, 0.8, 1.1, 0.5]], dtype=torch.float64)
    defects = [
        float(hermite_defect(rates, lambda u: -(u**2), start, logistic(h, start, rates), h).abs().max())
        for h in (1 / 16, 1 / 32, 1 / 64, 1 / 128)
    ]
    assert observed(defects)[-1] == pytest.approx(4, abs=0.2)
    assert defects[-1] < 1e-7


@pytest.mark.parametrize("problem", [NavierStokes, KuramotoSivashinsky])
def test_residuals_of_the_evolution_problems_fall_at_order_four(problem):
    stiff = problem is KuramotoSivashinsky
    first = problem(spin_up=2, step=0.01) if stiff else problem(modes=8)
    grid = first.grid(32)
    # Fine steps put the start on the slow manifold; else its fast modes still relax and hide the order.
    a = first.solve(first.sample(2, grid, torch.Generator().manual_seed(5)).double(), grid)
    sizes = []
    for dt in (0.2, 0.1, 0.05):
        each = problem(dt=dt, step=0.005) if stiff else problem(dt=dt, courant=0.1)
        sizes.append(float(each.residual(a, each.solve(a, grid), grid).norm()))
    rates = observed(sizes)
    assert rates[-1] > 3.6
    assert max(rates) < 4.6
