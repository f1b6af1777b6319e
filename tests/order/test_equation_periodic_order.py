"""The periodic solver reaches the order it states, with diagonal and with coupled linear parts, and its error estimate tells the truth."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from anygrid.equations.periodic import advance
from anygrid.equations.system import make_system
from anygrid.grid import Box, Periodic
from anygrid.numerics.stepping import ETDRK2, ETDRK4

NU = 0.1
BURGERS = make_system("u_t = -u*u_x + nu*u_xx", ["x"], parameters=["nu"])
# i psi_t = -psi_xx - 2 |psi|^2 psi: cubic, and linear part a rotation of (u, v) in every mode
SCHROEDINGER = make_system(["u_t = -v_xx - 2*(u**2 + v**2)*v", "v_t = u_xx + 2*(u**2 + v**2)*u"], ["x"])


def burgers(box: Box, time: float) -> torch.Tensor:
    """Cole-Hopf: u = -2 nu phi_x / phi, phi = 1 + a exp(-nu t) cos x + b exp(-4 nu t) sin 2x solves the heat equation."""
    x = box.points()[..., 0]
    first, second = 0.6 * math.exp(-NU * time), 0.2 * math.exp(-4 * NU * time)
    phi = 1 + first * x.cos() + second * (2 * x).sin()
    return (-2 * NU * (-first * x.sin() + 2 * second * (2 * x).cos()) / phi)[None, None]


def plane_wave(box: Box, time: float) -> torch.Tensor:
    """A exp(i (k x - (k^2 - 2 A^2) t)), A = 1.2, k = 1."""
    phase = box.points()[..., 0] - (1 - 2 * 1.2**2) * time
    return 1.2 * torch.stack((phase.cos(), phase.sin()))[None]


CASES = {
    "diagonal": (BURGERS, {"nu": torch.tensor(NU, dtype=torch.float64)}, Box.uniform({"x": Periodic(0, 2 * math.pi)}, 96), burgers, 1.0, 5),
    "coupled": (SCHROEDINGER, {}, Box.uniform({"x": Periodic(0, 2 * math.pi)}, 8), plane_wave, 1.0, 10),
}


def relative(u: torch.Tensor, v: torch.Tensor) -> float:
    return float((u - v).norm() / v.norm())


@pytest.mark.parametrize("method", [ETDRK4, ETDRK2])
@pytest.mark.parametrize("case", CASES)
def test_order_in_time(case, method):
    system, known, box, exact, duration, least = CASES[case]
    counts = [least * 2**j * (4 if method is ETDRK2 else 1) for j in range(3)]
    solutions = [advance(system, box, exact(box, 0.0), known, duration, dt=duration / n, method=method) for n in counts]
    assert [s.steps for s in solutions] == counts
    errors = [relative(s.u, exact(box, duration)) for s in solutions]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert orders[-1] == pytest.approx(method.order, abs=0.2)
    assert f"{method.order} in time" in solutions[0].scheme.order


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("case", CASES)
def test_adaptive_steps_meet_the_tolerance_and_know_their_error(case, tolerance):
    system, known, box, exact, duration, _ = CASES[case]
    solution = advance(system, box, exact(box, 0.0), known, duration, tolerance=tolerance)
    error = relative(solution.u, exact(box, duration))
    assert error < 10 * tolerance
    assert error < 10 * float(solution.error) + 1e-12
    assert float(solution.error) < 10 * tolerance


def test_error_estimate_follows_the_growth_of_errors_in_chaos():
    """Kuramoto-Sivashinsky over 30 units of time: local errors grow, and their plain sum would miss it."""
    system, box = make_system("u_t = -u*u_x - u_xx - u_xxxx", ["x"]), Box.uniform({"x": Periodic(0, 22)}, 32)
    x = box.points()[..., 0] * 2 * math.pi / 22
    start = (x.cos() + 0.3 * (2 * x).sin() + 0.1 * (3 * x).cos())[None, None]
    loose = advance(system, box, start, {}, 30.0, tolerance=1e-3)
    fine = advance(system, box, start, {}, 30.0, dt=1 / 20)
    assert 0.2 < relative(loose.u, fine.u) / float(loose.error) < 5


def test_steps_adapt_to_a_fast_start():
    """A front that forms and then rests: halving steps everywhere would cost far more."""
    system = make_system("u_t = 10*(u - u**3)", ["x"])
    box = Box.uniform({"x": Periodic(0, 1)}, 8)
    start = (0.01 + 0.005 * torch.cos(2 * math.pi * box.points()[..., 0]))[None, None]
    solution = advance(system, box, start, {}, 8.0)
    exact = start.square() / (start.square() + (1 - start.square()) * math.exp(-160))
    assert relative(solution.u, exact.sqrt()) < 1e-4
    assert solution.steps < 1000


def test_a_linear_equation_takes_one_step():
    box = Box.uniform({"x": Periodic(0, 1)}, 16)
    u = torch.randn(2, 1, 16, dtype=torch.float64)
    solution = advance(make_system("u_t = u_xx", ["x"]), box, u, {}, 100.0)
    assert solution.steps == 1
    torch.testing.assert_close(solution.u, u.mean(-1, keepdim=True).expand_as(u))
