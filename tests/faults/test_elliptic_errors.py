"""Wrong grids, wrong coefficients and wrong parameters are named, with a hint."""

import math

import pytest
import torch

from anygrid.errors import DataError, GridError, UsageError
from anygrid.grid import Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.finite_volume import face_coefficients, solve_diffusion
from anygrid.numerics.random_fields import cosine_field, periodic_field, sine_field
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz, nearest_resonance

SQUARE = {"x": Bounded(), "y": Bounded()}
WRONG = [
    Box.uniform({"x": Periodic(), "y": Periodic()}, 8),
    Box.uniform({"x": Bounded(), "y": Periodic()}, 8),
    Box.uniform(SQUARE, 8, placement="cells"),
    Box.uniform(SQUARE, (2, 8)),
    Box.uniform({"x": Bounded()}, 8),
    Box.uniform({**SQUARE, "z": Bounded()}, 4),
    Sphere.equiangular(8, 16),
    Points(torch.rand(9, 2, dtype=torch.float64).numpy(), ("x", "y"), (Bounded(), Bounded())),
]


@pytest.mark.parametrize("grid", WRONG)
@pytest.mark.parametrize("problem", [Darcy(), Helmholtz()])
def test_grids_that_do_not_carry_the_problem(problem, grid):
    a = torch.ones(1, 1, *grid.shape, dtype=torch.float64)
    for call in (lambda: problem.solve(a, grid), lambda: problem.residual(a, a, grid)):
        with pytest.raises(GridError) as caught:
            call()
        assert "hint:" in str(caught.value)


@pytest.mark.parametrize("problem", [Darcy(), Helmholtz()])
def test_field_of_another_grid(problem):
    for shape in ((1, 1, 8, 9), (1, 2, 8, 8)):
        with pytest.raises(GridError):
            problem.solve(torch.ones(shape), problem.grid(8))
        with pytest.raises(GridError):
            problem.residual(torch.ones(shape), torch.ones(shape), problem.grid(8))


def test_helmholtz_is_solved_on_its_own_square_only():
    with pytest.raises(GridError, match="unit square"):
        Helmholtz().solve(torch.ones(1, 1, 8, 8), Box.uniform({"x": Bounded(0, 2), "y": Bounded()}, 8))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_coefficients_that_are_not_elliptic(value):
    a = torch.ones(2, 1, 6, 6)
    a[1, 0, 2, 3] = value
    with pytest.raises(DataError, match="1 of 72 values"):
        Darcy().solve(a, Darcy().grid(6))


def test_sources_that_are_not_finite():
    f = torch.ones(1, 1, 6, 6)
    f[0, 0, 2, 2] = math.nan
    with pytest.raises(DataError, match="1 values"):
        Helmholtz().solve(f, Helmholtz().grid(6))
    with pytest.raises(DataError, match="finite right side"):
        solve_diffusion(torch.ones(1, 6, 6), f[0], Darcy().grid(6))


@pytest.mark.parametrize(
    "arguments",
    [{"tau": 0.0}, {"alpha": -1.0}, {"low": 0.0}, {"high": math.inf}, {"tolerance": 0.0}, {"modes": 0}, {"forcing": math.nan}],
)
def test_darcy_parameters(arguments):
    with pytest.raises(UsageError, match="Darcy"):
        Darcy(**arguments)


def test_darcy_solver_is_suggested():
    with pytest.raises(UsageError, match="did you mean 'superlu'"):
        Darcy(solver="super_lu")


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 2), (3, 4), (7, 24), (60, 61)])
def test_resonances_are_refused_and_the_hint_works(m, n):
    k = math.pi * math.hypot(m, n)
    close = min(4e-4, 0.1 / k**2)
    for near in (k, k * (1 + close), k * (1 - close)):
        with pytest.raises(UsageError, match="resonance") as caught:
            Helmholtz(wavenumber=near)
        Helmholtz(wavenumber=float(caught.value.hint.split("k=")[1].split(",")[0]))
    Helmholtz(wavenumber=k * (1 + min(6e-4, 0.15 / k**2)))


def test_nearest_resonance_against_a_full_search():
    for k in torch.linspace(0, 60, 121).tolist():
        m, n = nearest_resonance(k)
        table = [(i * i + j * j, i, j) for i in range(1, 25) for j in range(i, 25)]
        best = min(abs(s - (k / math.pi) ** 2) for s, _, _ in table)
        assert abs(m * m + n * n - (k / math.pi) ** 2) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("wavenumber", [-1.0, math.nan, math.inf])
def test_wavenumbers_that_are_none(wavenumber):
    with pytest.raises(UsageError, match="wavenumber"):
        Helmholtz(wavenumber=wavenumber)


def test_random_fields_name_the_wrong_grid_and_the_wrong_number():
    law = {"scale": 1.0, "shift": 1.0, "power": 2.0, "modes": 3, "generator": torch.Generator()}
    bounded, periodic = Box.uniform({"x": Bounded()}, 5), Box.uniform({"x": Periodic()}, 5)
    for field, grid in (
        (cosine_field, periodic),
        (sine_field, periodic),
        (periodic_field, bounded),
        (cosine_field, Sphere.equiangular(4, 8)),
    ):
        with pytest.raises(GridError):
            field(1, grid, **law)
    for wrong in ({"modes": 0}, {"shift": -1.0}, {"scale": math.nan}):
        with pytest.raises(UsageError):
            periodic_field(1, periodic, **{**law, **wrong})
    with pytest.raises(UsageError, match="constant mode"):
        periodic_field(1, periodic, **{**law, "shift": 0.0}, zero_mean=False)


def test_numerical_options():
    a, grid = torch.ones(1, 5, 5), Darcy().grid(5)
    with pytest.raises(UsageError, match="tolerance"):
        solve_diffusion(a, 1.0, grid, tolerance=0.0)
    with pytest.raises(UsageError, match="reaction"):
        solve_diffusion(a, 1.0, grid, reaction=-1.0)
    with pytest.raises(UsageError, match="linear solver"):
        solve_diffusion(a, 1.0, grid, method="magic")
    uneven = Box((grid.axes[0], grid.axes[1].from_coordinates("y", [0, 0.1, 0.4, 0.8, 1.0])))
    with pytest.raises(GridError, match="even grid"):
        solve_diffusion(a, 1.0, uneven, method="dst-cg")
    assert solve_diffusion(a, 1.0, uneven).shape == a.shape
    with pytest.raises(Exception, match=r"arithmetic|geometric"):
        face_coefficients(a, "geometric")
