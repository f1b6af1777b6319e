"""Conservation laws from text reach the order of their scheme for smooth solutions, in space and time, in one and two dimensions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from anygrid.equations import hyperbolic
from anygrid.equations.hyperbolic import advance
from anygrid.equations.system import make_system
from anygrid.grid import Box, Periodic
from anygrid.numerics.conservation_laws import MUSCL, UPWIND, WENO5, Reconstruction

TURN = Periodic(0, 2 * math.pi)
EULER = [
    "r_t = -div(vec(m, n))",
    "m_t = -div(vec(m*u + p, m*v))",
    "n_t = -div(vec(n*u, n*v + p))",
    "E_t = -div((E + p)*vec(u, v))",
    "p = 0.4*(E - 0.5*r*(u**2 + v**2))",
    "u = m/r",
    "v = n/r",
]


def observed(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in pairwise(errors)]


def burgers(x: torch.Tensor, t: float) -> torch.Tensor:
    """Solution of u_t + u u_x = 0 from 1 + sin(x) / 2 before its shock at t = 2, by Newton's method along the characteristics."""
    y = x.clone()
    for _ in range(50):
        y = y - (y + t * (1 + 0.5 * torch.sin(y)) - x) / (1 + 0.5 * t * torch.cos(y))
    return 1 + 0.5 * torch.sin(y)


def advection(x: torch.Tensor, t: float) -> torch.Tensor:
    return torch.sin(x - t)


CASES = [("u_t = -u_x", advection), ("u_t = -u*u_x", burgers)]


@pytest.fixture
def no_estimate(monkeypatch):
    monkeypatch.setattr(hyperbolic, "_distance_to_coarse", lambda method, state, *rest: torch.zeros(len(state)))


@pytest.mark.parametrize(("equation", "exact"), CASES)
@pytest.mark.parametrize(("scheme", "sizes"), [(WENO5, (40, 80)), (MUSCL, (64, 128)), (UPWIND, (128, 256))])
def test_order_in_space(monkeypatch, no_estimate, scheme: Reconstruction, sizes, equation, exact):
    """L1 norm: a limiter clips the few points at extrema to a lower order."""
    monkeypatch.setattr(hyperbolic, "_LADDER", (scheme,))
    errors = []
    for n in sizes:
        grid = Box.uniform({"x": TURN}, n)
        x = grid.points()[..., 0]
        # Steps of n**(-5/3) keep the error in time, of order 3, below that of WENO5.
        dt = 6 * n ** (-5 / 3) if scheme is WENO5 else None
        u = advance(make_system(equation, ("x",)), grid, exact(x, 0.0)[None, None], {}, 1.0, dt=dt).u
        errors.append(float((u[0, 0] - exact(x, 1.0)).abs().mean()))
    assert observed(errors) == pytest.approx([scheme.order], abs=0.2)


def test_order_in_time(no_estimate):
    grid = Box.uniform({"x": TURN}, 24)
    start = burgers(grid.points()[..., 0], 0.0)[None, None]
    system = make_system("u_t = -u*u_x", ("x",))
    fine = advance(system, grid, start, {}, 0.8, dt=0.8 / 128).u
    errors = [float((advance(system, grid, start, {}, 0.8, dt=0.8 / n).u - fine).norm()) for n in (8, 16, 32)]
    # The split follows the largest speed at each step, which is a point's and not a smooth function of time.
    assert observed(errors) == pytest.approx([3, 3], abs=0.4)


def test_order_for_gas_in_two_dimensions():
    """A density wave that gas of constant velocity and pressure carries along: exact, nonlinear, and not along an axis."""
    system = make_system(EULER, ("x", "y"))
    errors = []
    for n in (12, 24):
        grid = Box.uniform({"x": TURN, "y": TURN}, n)
        x, y = grid.points().unbind(-1)

        def exact(t: float, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            r = 1 + 0.2 * torch.sin(x + y - 1.5 * t)
            return torch.stack([r, r, 0.5 * r, 2.5 + 0.625 * r])[None]

        solution = advance(system, grid, exact(0.0), {}, 0.2, dt=0.2 * (6 / n) ** (5 / 3))
        errors.append(float((solution.u - exact(0.2)).abs().mean()))
        assert errors[-1] < float(solution.error)
    assert observed(errors)[0] > 4.5


@pytest.mark.parametrize("equation", [case[0] for case in CASES])
def test_the_estimate_is_above_the_error_and_falls_with_it(equation):
    exact = dict(CASES)[equation]
    estimates = []
    for n in (32, 64):
        grid = Box.uniform({"x": TURN}, n)
        x = grid.points()[..., 0]
        solution = advance(make_system(equation, ("x",)), grid, exact(x, 0.0)[None, None], {}, 0.5)
        estimates.append(float(solution.error))
        assert float((solution.u[0, 0] - exact(x, 0.5)).norm() / solution.u.norm()) < estimates[-1]
    assert estimates[1] < estimates[0] / 6
