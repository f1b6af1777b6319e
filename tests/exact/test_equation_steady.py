"""Steady equations against manufactured solutions, whose right sides SymPy computes from the equation itself."""

import math
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
import torch

from anygrid.equations.boundary import make_boundary
from anygrid.equations.discrete import Discrete, wide_known
from anygrid.equations.steady import solve_steady
from anygrid.equations.system import make_system
from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.grid import Bounded, Box, Periodic
from anygrid.problems.darcy import Darcy

LINE = {"x": Bounded(0, 1)}
BOX = {"x": Bounded(0, 1), "y": Bounded(0, 2)}
STRIP = {"x": Periodic(0, 1), "y": Bounded(0, 1)}
TORUS = {"x": Periodic(0, 1), "y": Periodic(0, 1)}
MIXED = {"x": ("u = sin(y)", "u_n = cos(1 + y)"), "y": ("u_n = -cos(x)", "u = sin(x + 2)")}


def sampled(expression, system, grid):
    values = sp.lambdify(system.coordinates, expression)(*grid.points().numpy().transpose(-1, *range(grid.ndim)))
    return torch.from_numpy(np.broadcast_to(values, grid.shape).copy())


def manufactured(equations, domain, exact, *, coefficients=None, parameters=None, sources=("f",)):
    """System, expressions of the solution, and expressions of its fields with each source solved for from its equation."""
    coefficients, parameters = coefficients or {}, parameters or {}
    system = make_system(equations, tuple(domain), parameters=tuple(parameters), fields=(*coefficients, *sources))
    names = {str(symbol): symbol for symbol in system.coordinates}
    exact = {name: sp.sympify(text, locals=names) for name, text in exact.items()}
    fields = {name: sp.sympify(text, locals=names) for name, text in coefficients.items()}
    swap = {system.function(name): value for name, value in {**exact, **fields}.items()}
    numbers = {sp.Symbol(name, real=True): value for name, value in parameters.items()}
    for constraint, source in zip(system.constraints, sources, strict=True):
        left = constraint.xreplace(numbers).subs(swap).doit()
        source_term = system.function(source)
        fields[source] = -left.xreplace({source_term: sp.Integer(0)}) / sp.diff(left, source_term)
    return system, exact, fields


def solved(system, fields, domain, boundary, n, parameters=None, tolerance=1e-10):
    grid = Box.uniform(domain, n)
    known = {name: sampled(value, system, grid) for name, value in fields.items()}
    known |= {name: torch.tensor(float(value), dtype=torch.float64) for name, value in (parameters or {}).items()}
    return grid, solve_steady(system, grid, known, make_boundary(boundary, system, domain), tolerance=tolerance)


def largest(system, exact, grid, u):
    return max(float((u[0, j] - sampled(exact[name], system, grid)).abs().max()) for j, name in enumerate(system.state))


@pytest.mark.parametrize(
    ("equations", "domain", "boundary", "exact", "extra"),
    [
        ("-lap(u) = f", LINE, "u = 0", {"u": "sin(pi*x)*exp(x)"}, {}),
        ("-lap(u) = f", LINE, {"x": ("u_n = -2", "u = 3*x + sin(1) - 1")}, {"u": "2*x + sin(x**2)"}, {}),
        ("-lap(u) = f", BOX, "u = sin(x + y)", {"u": "sin(x + y)"}, {}),
        ("-div(a*grad(u)) = f", BOX, "u = sin(x + y)", {"u": "sin(x + y)"}, {"coefficients": {"a": "exp(x - y/2)"}}),
        ("-div(a*grad(u)) = f", BOX, MIXED, {"u": "sin(x + y)"}, {"coefficients": {"a": "exp(x - y/2)"}}),
        ("-div(exp(a)*grad(u)) + u = f", BOX, MIXED, {"u": "sin(x + y)"}, {"coefficients": {"a": "x - y/2"}}),
        ("-div(a*grad(u)) = f", BOX, "u_n = 0", {"u": "cos(pi*x)*cos(pi*y)"}, {"coefficients": {"a": "exp(x - y/2)"}}),
        ("-lap(u) + u**3 = f", BOX, MIXED, {"u": "sin(x + y)"}, {}),
        ("-lap(u**2 + 3*u) = f", LINE, {"x": ("u = 1", "u_n = 0")}, {"u": "cos(pi*x)"}, {}),
        ("lap(u) + k**2*u = f", BOX, "u = sin(x + y)", {"u": "sin(x + y)"}, {"parameters": {"k": 5}}),
        ("-nu*lap(u) + u_x + 2*u_y = f", BOX, MIXED, {"u": "sin(x + y)"}, {"parameters": {"nu": 0.1}}),
        ("-nu*lap(u) + u*u_x + u_xy = f", BOX, "u = sin(x + y)", {"u": "sin(x + y)"}, {"parameters": {"nu": 0.7}}),
        ("-lap(u) = f", STRIP, "u = 0", {"u": "(cos(2*pi*x) + 2)*sin(pi*y)*exp(y)"}, {}),
        ("-div((1 + u**2)*grad(u)) + u = f", STRIP, "u_n = 0", {"u": "cos(2*pi*x)*cos(pi*y)"}, {}),
        ("-lap(u) = f", TORUS, None, {"u": "cos(2*pi*x)*cos(2*pi*y)"}, {}),
        (
            ["lap(psi) + w = g", "lap(w) = f"],
            BOX,
            "psi = cos(x*y); w = sin(x + y)",
            {"w": "sin(x + y)", "psi": "cos(x*y)"},
            {"sources": ("g", "f")},
        ),
    ],
)
def test_second_order_on_manufactured_solutions(equations, domain, boundary, exact, extra):
    system, exact, fields = manufactured(equations, domain, exact, **extra)
    errors = []
    for n in (33, 65) if len(domain) == 1 else (20, 40):
        grid, solution = solved(system, fields, domain, boundary, n, extra.get("parameters"))
        errors.append((largest(system, exact, grid, solution.u), max(axis.weights().max() for axis in grid.axes)))
        assert float(solution.error.max()) < 1e-9
    orders = [math.log(a[0] / b[0]) / math.log(a[1] / b[1]) for a, b in pairwise(errors)]
    assert all(1.8 < order < 2.2 for order in orders), (orders, errors)
    assert errors[-1][0] < 0.02


def test_three_dimensions_with_a_periodic_axis():
    domain = {"x": Bounded(), "y": Bounded(), "z": Periodic()}
    system, exact, fields = manufactured("-lap(u) + u_z = f", domain, {"u": "sin(pi*x)*sin(pi*y)*cos(2*pi*z)"})
    errors = []
    for n in ((9, 9, 8), (17, 17, 16)):
        grid, solution = solved(system, fields, domain, "u = 0", n)
        errors.append(largest(system, exact, grid, solution.u))
    assert 1.8 < math.log2(errors[0] / errors[1]) < 2.2, errors


def test_darcy_is_the_published_problem():
    problem = Darcy(modes=60)
    grid = problem.grid(61)
    a = problem.sample(2, grid, torch.Generator().manual_seed(1))
    system = make_system("-div(a*grad(u)) = 1", ("x", "y"), fields=("a",))
    boundary = make_boundary("u = 0", system, {"x": Bounded(), "y": Bounded()})
    solution = solve_steady(system, grid, {"a": a[:, 0]}, boundary)
    wanted = problem.solve(a, grid)
    assert float((solution.u - wanted).norm() / wanted.norm()) < 1e-7
    assert "finite volumes" in solution.scheme.name
    # The general path assembles the same matrix: its residual there vanishes to the tolerance of the linear solver.
    discrete = Discrete(system, system.constraints, ("u",), grid, boundary, 2)
    left = discrete.residual(wanted, discrete.bind(wide_known(system, {"a": a[:, 0]}, grid)))
    assert float(left.abs().max()) < 1e-5


def test_the_general_path_gives_the_solution_of_the_one_for_diffusion():
    grid = Box.uniform(BOX, 21)
    x, y = grid.points().unbind(-1)
    known = {"a": torch.exp(x - y), "f": torch.sin(3 * x) + y}
    both = []
    for text, extra in (("-div(a*grad(u)) = f", {}), ("-div(a*grad(u)) + zero*u_y = f", {"zero": torch.tensor(0.0)})):
        system = make_system(text, ("x", "y"), fields=("a", "f"), parameters=tuple(extra))
        both.append(solve_steady(system, grid, known | extra, make_boundary("u = x*y", system, BOX), tolerance=1e-12))
    assert both[0].scheme.name != both[1].scheme.name
    assert float((both[0].u - both[1].u).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("equation", "boundary"),
    [
        ("-div(a*grad(u)) = f", "u = c*x"),
        ("-div(a*grad(u)) + c*u**3 = f", {"x": ("u = c", "u_n = c*y"), "y": "u_n = 0"}),
        ("-div(a*grad(u)) + c*u_x = f", "u = 0"),
    ],
)
def test_derivatives_by_the_known_values_are_those_of_finite_differences(equation, boundary):
    domain = {"x": Bounded(), "y": Bounded()}
    grid = Box.uniform(domain, (9, 11))
    g = torch.Generator().manual_seed(0)
    system = make_system(equation, ("x", "y"), fields=("a", "f"), parameters=("c",) if "c*" in equation else ())
    if "c" not in system.parameters:
        system = make_system(equation + " + 0.1*c", ("x", "y"), fields=("a", "f"), parameters=("c",))
    conditions = make_boundary(boundary, system, domain)
    known = {
        "a": (1 + torch.rand((2, 9, 11), generator=g, dtype=torch.float64)).requires_grad_(),
        "f": (4 * torch.rand((9, 11), generator=g, dtype=torch.float64)).requires_grad_(),
        "c": torch.tensor([0.7, 1.3], dtype=torch.float64).requires_grad_(),
    }
    weights = torch.rand((2, 1, 9, 11), generator=g, dtype=torch.float64)

    def loss(known):
        return (weights * solve_steady(system, grid, known, conditions, tolerance=1e-13).u).sum()

    gradients = dict(zip(known, torch.autograd.grad(loss(known), known.values()), strict=True))
    for name, value in known.items():
        along = torch.rand(value.shape, generator=g, dtype=torch.float64)
        step = 1e-5
        with torch.no_grad():
            ahead, behind = ({**known, name: value + sign * step * along} for sign in (1, -1))
            difference = float(loss(ahead) - loss(behind)) / (2 * step)
        assert float((gradients[name] * along).sum()) == pytest.approx(difference, rel=1e-5), name


def test_single_precision_comes_back_as_it_went_in():
    system = make_system("-lap(u) = f", ("x",), fields=("f",))
    grid = Box.uniform(LINE, 17)
    solution = solve_steady(system, grid, {"f": torch.ones(3, 17)}, make_boundary("u = 0", system, LINE))
    x = grid.points()[:, 0]
    assert solution.u.dtype == torch.float32
    assert solution.u.shape == (3, 1, 17)
    assert torch.allclose(solution.u[1, 0].double(), x * (1 - x) / 2, atol=1e-6)


@pytest.mark.parametrize(("domain", "boundary"), [(TORUS, None), (BOX, "u_n = 0"), (STRIP, {"y": ("u_n = 1", "u_n = 1")})])
def test_data_that_do_not_balance_are_refused(domain, boundary):
    system = make_system("-lap(u) = f", ("x", "y"), fields=("f",))
    grid = Box.uniform(domain, 16)
    with pytest.raises(AnygridError, match=r"data that balance.*imbalance"):
        solve_steady(system, grid, {"f": torch.ones(grid.shape)}, make_boundary(boundary, system, domain))


def test_balanced_fluxes_give_the_solution_of_mean_zero():
    # -u'' = -2 with u = x^2 - 1/3: the fluxes 0 and 2 carry away what the source puts in.
    system = make_system("-u_xx = -2", ("x",))
    grid = Box.uniform(LINE, 33)
    u = solve_steady(system, grid, {}, make_boundary({"x": ("u_n = 0", "u_n = 2")}, system, LINE)).u[0, 0].double()
    x = grid.points()[:, 0]
    assert abs(float((u * grid.weights()).sum())) < 1e-7
    assert torch.allclose(u - u[0], x**2, atol=1e-6)


def test_newton_says_when_there_is_no_solution():
    # The Bratu problem -u'' = c exp(u) has none beyond c = 3.5138.
    system = make_system("-u_xx = c*exp(u)", ("x",), parameters=("c",))
    grid, boundary = Box.uniform(LINE, 33), make_boundary("u = 0", system, LINE)
    below = solve_steady(system, grid, {"c": torch.tensor(3.4)}, boundary)
    assert 2 < below.steps < 20
    # Lower branch: cosh(t/4)^2 ... with u(1/2) = 2 log cosh(t/4), t = sqrt(2 c) cosh(t/4); t = 3.9366 at c = 3.4 (fixed point).
    t = 1.0
    for _ in range(500):
        t = math.sqrt(2 * 3.4) * math.cosh(t / 4)
    assert float(below.u[0, 0, 16]) == pytest.approx(2 * math.log(math.cosh(t / 4)), rel=5e-3)
    with pytest.raises(AnygridError, match="Newton's method to converge"):
        solve_steady(system, grid, {"c": torch.tensor(5.0)}, boundary)


def test_bad_input_is_named():
    system = make_system("-div(a*grad(u)) = 1", ("x",), fields=("a",))
    grid, boundary = Box.uniform(LINE, 9), make_boundary("u = 0", system, LINE)
    with pytest.raises(DataError, match="positive"):
        solve_steady(system, grid, {"a": -torch.ones(9)}, boundary)
    with pytest.raises(UsageError, match="value for 'a'"):
        solve_steady(system, grid, {}, boundary)
    with pytest.raises(UsageError, match="'a' of shape"):
        solve_steady(system, grid, {"a": torch.ones(7)}, boundary)
    third = make_system("u_xxx = 1", ("x",))
    with pytest.raises(UsageError, match=r"at most second derivatives.*\n.*introduce another unknown"):
        solve_steady(third, grid, {}, make_boundary("u = 0", third, LINE))
    evolution = make_system("u_t = u_xx", ("x",))
    with pytest.raises(UsageError, match="without rates"):
        solve_steady(evolution, grid, {}, make_boundary("u = 0", evolution, LINE))
