"""Conditions that mix value and slope, end conditions of beams, and equations whose pressure is a formula, against closed forms."""

import math

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.grid import Bounded, Periodic
from anygrid.problems.distributions import RandomField, Uniform
from anygrid.problems.from_text import Equation

UNIT = {"x": Bounded(0, 1)}


def test_steady_robin():
    """``-u'' = 1, u(0) = 0, u'(1) + 2 u(1) = 0``: ``u = c x - x^2 / 2`` with ``c = 2/3``, which second differences meet exactly."""
    problem = Equation("-u_xx = 1", UNIT, boundary={"x": ("u = 0", "u_n + 2*u = 0")})
    grid = problem.grid(9)
    u = problem.solve(torch.zeros(1, 0, 9, dtype=torch.float64), grid)
    x = grid.points()[..., 0]
    assert (u[0, 0] - (2 / 3 * x - x**2 / 2)).abs().max() < 1e-6


def test_radiation_with_a_drawn_parameter():
    """``u_n = -h (u^4 - 1)`` at the end of a line on which ``u`` is linear."""
    problem = Equation(
        "-u_xx = 0*u + f", UNIT, parameters={"h": Uniform(0.1, 0.2), "f": "0*x"}, boundary={"x": ("u = 2", "u_n = -h*(u**4 - 1)")}
    )
    assert [v.name for v in problem.inputs] == ["h"]
    u = problem.solve(torch.full((1, 1, 17), 0.15, dtype=torch.float64), problem.grid(17))[0, 0]
    end = float(u[-1])
    assert abs((end - 2) + 0.15 * (end**4 - 1)) < 1e-10


def test_cooling_in_time_at_order_four():
    """``cos(k x) exp(-k^2 t)`` with ``k tan k = 1`` obeys ``u_n + u = 0`` at 1 and ``u_n = 0`` at 0."""
    k = 0.8603335890193797
    problem = Equation("u_t = u_xx", UNIT, boundary={"x": ("u_n = 0", "u_n + u = 0")}, dt=0.5, tolerance=1e-9)
    errors = []
    for n in (9, 17):
        grid = problem.grid(n)
        mode = torch.cos(k * grid.points()[..., 0])
        errors.append(float((problem.solve(mode[None, None], grid)[0, 0] - mode * math.exp(-k * k * 0.5)).abs().max()))
    assert errors[0] / errors[1] > 2**3.5


def test_robin_in_two_dimensions_with_a_coefficient_balances():
    """What a source of 1 brings leaves through the four sides: here all through ``x = 1``, ``a u_n = -2 a u``."""
    known = {"a": RandomField(std=0.3, positive=True)}
    domain = {"x": Bounded(), "y": Bounded()}
    problem = Equation("-div(a*grad(u)) = 1", domain, inputs=known, boundary={"x": ("u_n = 0", "u_n = -2*u"), "y": "u_n = 0"})
    grid = problem.grid(17)
    a = problem.sample(2, grid, torch.Generator().manual_seed(0)).double()
    u = problem.solve(a, grid)
    weights = torch.full((17,), 1 / 16, dtype=torch.float64)
    weights[[0, -1]] /= 2
    flux = (2 * a[:, 0, -1] * u[:, 0, -1] * weights).sum(1)
    assert (flux - 1).abs().max() < 1e-10


def test_simply_supported_beam():
    """``sin(pi x) cos(pi^2 t)``."""
    problem = Equation("u_tt = -u_xxxx", UNIT, boundary="u = 0; u_xx = 0", dt=0.1)
    grid = problem.grid(17)
    shape = torch.sin(math.pi * grid.points()[..., 0])
    u = problem.solve(torch.stack([shape, 0 * shape])[None], grid)
    assert (u[0, 0] - shape * math.cos(0.1 * math.pi**2)).abs().max() < 1e-10


def test_cahn_hilliard_without_flux_keeps_its_mean():
    problem = Equation("u_t = lap(u**3 - u - 0.0025*lap(u))", UNIT, initial={"u": RandomField(std=0.2)}, boundary="u_n = 0", dt=0.002)
    grid = problem.grid(33)
    a = problem.sample(1, grid, torch.Generator().manual_seed(1)).double()
    u = problem.solve(a, grid)
    mean = [(grid.weights() * field[0, 0]).sum() for field in (a, u)]
    assert (u - a).abs().max() > 1e-3
    assert (mean[1] - mean[0]).abs() < 1e-8


GAS = ["r_t = -d(m, x)", "m_t = -d(m**2/r + p, x)", "E_t = -d((E + p)*m/r, x)", "p = 0.4*(E - 0.5*m**2/r)"]


def test_pressure_as_a_formula_is_put_into_the_fluxes():
    """A gas at constant velocity and pressure carries its density along."""
    problem = Equation(
        GAS, {"x": Periodic()}, initial={"r": "1 + 0.2*sin(2*pi*x)", "m": "1 + 0.2*sin(2*pi*x)", "E": "3 + 0.1*sin(2*pi*x)"}, dt=0.25
    )
    assert problem.system.auxiliary == ()
    grid = problem.grid(64)
    found = problem.solution(problem.sample(1, grid, torch.Generator()).double(), grid)
    r = 1 + 0.2 * torch.sin(2 * math.pi * (grid.points()[..., 0] - 0.25))
    assert found.scheme.name.startswith("WENO5")
    assert (found.u[0, 0] - r).abs().max() < 1e-4


def test_names_may_stand_in_initial_states_and_conditions_alone():
    known = {"A": Uniform(1, 2), "noise": RandomField(), "b": Uniform(3, 4), "c": 5.0, "f": "b*x"}
    problem = Equation(
        "u_t = u_xx + f", UNIT, parameters=known, initial={"u": "A*(b + 0*noise)"}, boundary={"x": ("u = b", "u = c")}, dt=0.1
    )
    assert [v.name for v in problem.inputs] == ["u", "b"]
    grid = problem.grid(9)
    a = problem.sample(2, grid, torch.Generator().manual_seed(0)).double()
    u = problem.solve(a, grid)
    assert torch.allclose(u[:, 0, 0], a[:, 1, 0])
    assert torch.allclose(u[:, 0, -1], torch.full((2,), 5.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "sides", "match"),
    [
        ("u_tt = -u_xxxx", "u = 0; u_n = 0", "clamped"),
        ("u_t = u_xx", "u = 0; u_xx = 0", "lower order"),
        ("u_tt = -u_xxxx", "u_n = 0; u_xx = 0", "beside"),
        ("u_t = u_xx", "u*u_n = 1", "constant"),
        ("u_t = u_xx", "2*u = 1", "one normal derivative"),
        ("u_t = u_xx", "u_n = v", "'v'"),
    ],
)
def test_conditions_that_are_none(text, sides, match):
    with pytest.raises(UsageError, match=match):
        Equation(text, UNIT, boundary=sides, dt=0.1)
