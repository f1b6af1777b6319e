"""A problem from a line of text: what becomes an input, what is fixed, what is refused and where."""

import dataclasses
import math

import pytest
import torch

from anygrid.errors import AnygridError
from anygrid.grid import Bounded, Periodic
from anygrid.problems.distributions import LogUniform, Normal, RandomField, Uniform, interval_text, read_interval, read_quantity, text_of
from anygrid.problems.from_text import Equation


def _sample(problem, resolution, n=2, seed=0):
    grid = problem.grid(resolution)
    return problem.sample(n, grid, torch.Generator().manual_seed(seed)), grid


def test_drawn_quantities_are_inputs_and_fixed_ones_are_not():
    problem = Equation(
        "u_t = -c*u_x + nu*u_xx + f",
        {"x": Periodic(0, 2)},
        parameters={"c": Uniform(1, 2), "nu": 0.01, "f": "sin(pi*x)"},
        dt=0.1,
    )
    assert [v.name for v in problem.inputs] == ["u", "c"]
    assert [v.name for v in problem.outputs] == ["u"]
    a, _ = _sample(problem, 32, n=3)
    speeds = a[:, 1]
    assert (speeds == speeds[:, :1]).all()
    assert speeds[:, 0].unique().numel() == 3
    assert ((speeds >= 1) & (speeds <= 2)).all()


def test_solution_is_the_exact_one_with_each_samples_own_speed():
    """Fourier mode k of u_t = -c u_x + nu u_xx + f, f = sin(pi x): advected, damped, driven."""
    problem = Equation("u_t = -c*u_x", {"x": Periodic(0, 1)}, parameters={"c": Uniform(-1, 1)}, initial={"u": "sin(2*pi*x)"}, dt=0.3)
    a, grid = _sample(problem, 64)
    x = grid.points()[:, 0]
    exact = torch.sin(2 * math.pi * (x - 0.3 * a[:, 1, :1].double()))
    assert (problem.solve(a.double(), grid)[:, 0] - exact).abs().max() < 1e-4


def test_samples_are_one_function_on_every_grid():
    known = {"F": Uniform(0.02, 0.06), "k": 0.055}
    text = ["u_t = 1e-4*lap(u) - u*v**2 + F*(1-u)", "v_t = 1e-4*lap(v) + u*v**2 - (F+k)*v"]
    problem = Equation(text, {"x": Periodic(), "y": Periodic()}, parameters=known, dt=1.0)
    coarse, fine = _sample(problem, 16)[0], _sample(problem, 32)[0]
    assert torch.allclose(coarse, fine[..., ::2, ::2], atol=1e-6)


def test_second_order_in_time_starts_at_rest():
    problem = Equation("u_tt = 4*u_xx", {"x": Periodic(0, 1)}, initial={"u": "cos(2*pi*x)"}, dt=0.1)
    assert [v.name for v in problem.inputs] == ["u", "u_t"]
    a, grid = _sample(problem, 32)
    assert not a[:, 1].any()
    exact = torch.cos(2 * math.pi * grid.points()[:, 0]) * math.cos(4 * math.pi * 0.1)
    assert (problem.solve(a.double(), grid)[:, 0] - exact).abs().max() < 1e-4


def test_default_start_keeps_the_boundary_condition():
    for boundary, zero in (("u = 0", True), ("u_n = 0", False)):
        problem = Equation("u_t = u_xx", {"x": Bounded(0, 1)}, boundary=boundary, dt=1e-3)
        a, _ = _sample(problem, 33)
        assert (a[:, 0, [0, -1]].abs().max() < 1e-6) == zero


def test_steady_equation_maps_what_is_drawn():
    problem = Equation("-lap(u) = f", {"x": Bounded(), "y": Bounded()}, inputs={"f": RandomField()}, boundary="u = 0", unknown="u")
    assert problem.dt is None
    a, grid = _sample(problem, 33)
    x, y = grid.points().unbind(-1)
    mode = torch.sin(math.pi * x) * torch.sin(2 * math.pi * y)
    u = problem.solve(mode[None, None], grid)[0, 0]
    assert (u - mode / (5 * math.pi**2)).abs().max() < 0.01 * u.abs().max()
    assert problem.solve(a, grid).shape == (2, 1, 33, 33)


def test_step_is_found_when_none_is_given():
    slow = Equation("u_t = -c*u", {"x": Periodic()}, parameters={"c": 0.01})
    fast = Equation("u_t = -c*u", {"x": Periodic()}, parameters={"c": 1.0})
    assert slow.dt == pytest.approx(20)  # where the change is nearest to a third of the variation
    assert fast.dt == pytest.approx(0.2)
    assert Equation("u_t = u**2", {"x": Periodic()}, initial={"u": 1.0}).dt == pytest.approx(0.5)


def test_text_forms_return():
    for quantity in (0.055, Uniform(0.02, 0.06), LogUniform(1e-3, 1.0), Normal(1.0, 2.0), RandomField(0.2, low=3.0, high=12.0), "sin(x)"):
        assert read_quantity(text_of(quantity)) == quantity
    assert read_quantity("uniform(0, 1)") == Uniform(0, 1)
    for interval in (Periodic(0, 20), Bounded(-1, 1)):
        assert read_interval(interval_text(interval), "x") == interval


def test_distributions():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([LogUniform(0.01, 100).draw(generator) for _ in range(2000)]).log10()
    assert drawn.min() >= -2
    assert drawn.max() <= 2
    assert abs(float(drawn.mean())) < 0.1
    problem = Equation("-div(a*grad(u)) = 1", {"x": Bounded()}, inputs={"a": RandomField(low=3, high=12)}, boundary="u = 0")
    assert set(_sample(problem, 65)[0].unique().tolist()) == {3.0, 12.0}


PERIODIC = {"x": Periodic()}
BOUNDED = {"x": Bounded()}
BAD = [
    ("unknown name", lambda: Equation("u_t = nu*u_xx", PERIODIC), "as many equations as unknowns"),
    ("misspelt parameter", lambda: Equation("u_t = nu*u_xx", PERIODIC, parameters={"mu": 1.0}), "nu|mu"),
    ("backward heat", lambda: Equation("u_t = -u_xx", PERIODIC, dt=0.1), "well posed|ill posed|grow"),
    ("sign of a range", lambda: Equation("u_t = nu*u_xx", PERIODIC, parameters={"nu": Uniform(-1, 1)}, dt=0.1), "nu"),
    ("no boundary condition", lambda: Equation("u_t = u_xx", BOUNDED, dt=0.1), "condition"),
    ("condition on a periodic axis", lambda: Equation("u_t = u_xx", PERIODIC, boundary={"x": "u = 0"}, dt=0.1), "periodic"),
    ("expression with an unknown", lambda: Equation("u_t = u_xx + f", PERIODIC, parameters={"f": "sin(q)"}, dt=0.1), "q"),
    ("state that is not there", lambda: Equation("u_t = u_xx", PERIODIC, state=["w"], dt=0.1), "w"),
    ("initial of a stranger", lambda: Equation("u_t = u_xx", PERIODIC, initial={"w": 1.0}, dt=0.1), "w"),
    ("negative dt", lambda: Equation("u_t = u_xx", PERIODIC, dt=-1.0), "above 0"),
    ("coefficient through zero", lambda: Equation("-div(a*grad(u)) = 1", BOUNDED, inputs={"a": RandomField()}, boundary="u = 0"), "a"),
    ("range upside down", lambda: Uniform(2, 1), "low below high"),
    ("code", lambda: Equation("u_t = __import__('os').system('true')", PERIODIC), "column"),
]


@pytest.mark.parametrize(("make", "match"), [pytest.param(make, match, id=name) for name, make, match in BAD])
def test_bad_input_is_an_error_with_a_hint(make, match):
    with pytest.raises(AnygridError, match=match) as error:
        make()
    assert error.value.hint


def test_blow_up_is_reported():
    problem = Equation("u_t = u**2", PERIODIC, initial={"u": "1 + 0*x"}, dt=2.0)
    a, grid = _sample(problem, 16)
    with pytest.raises(AnygridError, match=r"time (1|0\.99)"):
        problem.solve(a, grid)
    assert dataclasses.replace(problem, dt=0.5).solve(a, grid).mean() == pytest.approx(2.0, rel=1e-3)


def test_conditions_as_a_list_are_conditions_on_all_sides():
    def made(boundary):
        return Equation(["u_t = u_xx - v", "v_t = v_xx + u"], {"x": Bounded(0, 1)}, boundary=boundary, dt=1e-3)

    assert made(["u = 0", "v_n = 0"]) == made("u = 0; v_n = 0")
    assert made(["u = 0", "v_n = 0"]) != made("u_n = 0; v_n = 0")
