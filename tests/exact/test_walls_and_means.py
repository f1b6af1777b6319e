"""What a problem says that its solutions satisfy, its solver's solutions satisfy; and what they do not, it does not say."""

import pytest
import torch

from anygrid.grid import Bounded, Periodic
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.catalogue import CATALOGUE
from anygrid.problems.darcy import Darcy
from anygrid.problems.distributions import LogUniform, RandomField, Uniform
from anygrid.problems.from_text import Equation
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.surrogate import Imposed, imposed_by

BOX = {"x": Bounded()}


def solved(problem: Problem, resolution: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grid = problem.grid(resolution)
    a = problem.sample(2, grid, torch.Generator().manual_seed(0)).double()
    return a, problem.solve(a, grid), grid.weights() / grid.weights().sum()


@pytest.mark.parametrize("problem", [Burgers(dt=0.1), NavierStokes(dt=0.1), KuramotoSivashinsky()], ids=lambda p: type(p).__name__)
def test_the_built_in_evolutions_conserve_their_mean(problem: Problem) -> None:
    a, u, weights = solved(problem, 64)
    a, u = a + 0.3, problem.solve(a + 0.3, problem.grid(64))
    assert problem.conserved == tuple(v.name for v in problem.outputs)
    assert torch.allclose((u * weights).flatten(1).sum(1), (a * weights).flatten(1).sum(1), atol=1e-7)
    assert problem.walls == ()


@pytest.mark.parametrize("problem", [Darcy(), Helmholtz()], ids=lambda p: type(p).__name__)
def test_the_steady_problems_are_zero_on_all_sides(problem: Problem) -> None:
    _, u, _ = solved(problem, 33)
    imposed = imposed_by(problem)
    assert {(w.axis, w.side) for w in imposed.walls} == {(axis, side) for axis in "xy" for side in ("lower", "upper")}
    for wall in imposed.walls:
        assert wall.output == problem.outputs[0].name
        assert u.select(2 if wall.axis == "x" else 3, 0 if wall.side == "lower" else -1).abs().max() == wall.value == 0
    assert imposed.conserved == ()


CONSERVED = {
    "heat": ("u",),
    "wave": ("u_t",),
    "kdv": ("u",),
    "allen-cahn": (),
    "cahn-hilliard": ("u",),
    "gray-scott": (),
    "kuramoto-sivashinsky-2d": (),
    "kolmogorov": (),
    "shallow-water": ("h", "hu", "hv"),
    "heat-bounded": (),
    "poisson": (),
}


@pytest.mark.parametrize("name", CONSERVED)
def test_means_of_the_catalogue(name: str) -> None:
    assert CATALOGUE[name]().conserved == CONSERVED[name]


@pytest.mark.parametrize(
    ("text", "more", "conserved"),
    [
        ("u_t = k*u_xx", {"boundary": "u_n = 0", "parameters": {"k": LogUniform(0.1, 1)}}, ("u",)),
        ("u_t = div(k*grad(u))", {"boundary": "u_n = 0", "inputs": {"k": RandomField(positive=True)}}, ("u",)),
        ("u_t = div(exp(u)*grad(u))", {"boundary": "u_n = 0"}, ("u",)),
        ("u_t = k*u_xx", {"boundary": "u_n = 0", "inputs": {"k": RandomField(positive=True)}}, ()),
        ("u_t = u_xx", {"boundary": {"x": ("u = 0", "u_n = 0")}}, ()),
        ("u_t = u_xx", {"boundary": "u_n = 1"}, ()),
        ("u_t = u_xx - c*u_x", {"boundary": "u_n = 0", "parameters": {"c": Uniform(0.1, 1)}}, ()),
        ("u_t = u_xx + f", {"boundary": "u_n = 0", "inputs": {"f": "cos(2*pi*x)"}}, ("u",)),
        ("u_t = u_xx + f", {"boundary": "u_n = 0", "inputs": {"f": "cos(2*pi*x)**2"}}, ()),
        ("u_t = u_xx + f", {"boundary": "u_n = 0", "inputs": {"f": RandomField()}}, ()),
        ("u_t = u_xx + 1e-6*u", {"boundary": "u_n = 0"}, ()),
    ],
)
def test_a_mean_is_conserved_where_no_flux_leaves(text: str, more: dict, conserved: tuple[str, ...]) -> None:
    problem = Equation(text, BOX, dt=0.01, **more)
    assert problem.conserved == conserved


def test_a_random_factor_in_a_given_function_is_no_constant() -> None:
    """With a constant ``g`` the forcing has no mean; with a random field it has."""
    problem = Equation("u_t = u_xx + f", {"x": Periodic()}, inputs={"g": RandomField(), "f": "g*cos(2*pi*x)"}, dt=0.01)
    assert problem.conserved == ()
    constant = Equation("u_t = u_xx + f", {"x": Periodic()}, inputs={"g": Uniform(1, 2), "f": "g*cos(2*pi*x)"}, dt=0.01)
    assert constant.conserved == ("u",)


def test_walls_of_an_equation() -> None:
    problem = Equation("u_t = u_xx", BOX, boundary={"x": ("u = 2", "u_n = 0")}, dt=0.01)
    assert [(w.output, w.axis, w.side, w.value) for w in problem.walls] == [("u", "x", "lower", 2.0)]
    _, u, _ = solved(problem, 33)
    assert torch.allclose(u[..., 0], torch.full_like(u[..., 0], 2.0), atol=1e-6)
    wave = Equation("u_tt = u_xx", BOX, boundary="u = 0", dt=0.01)
    assert [(w.output, w.side) for w in wave.walls] == [("u", "lower"), ("u", "upper"), ("u_t", "lower"), ("u_t", "upper")]
    varying = Equation(
        "-lap(u) = f", {**BOX, "y": Bounded()}, inputs={"f": RandomField()}, boundary={"x": "u = 0", "y": "u = x"}, unknown="u"
    )
    assert {(w.axis, w.side) for w in varying.walls} == {("x", "lower"), ("x", "upper")}


def test_a_value_at_an_inflow_is_no_wall() -> None:
    """The solution takes it on at one side only, and which one depends on the sign of the speed."""
    problem = Equation("u_t = -c*u_x", BOX, parameters={"c": Uniform(0.5, 1)}, boundary={"x": ("u = 0", "")}, dt=0.01)
    assert imposed_by(problem) == Imposed()
