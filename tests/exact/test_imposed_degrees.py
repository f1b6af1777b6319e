"""The highest degree that is imposed on a sphere holds to rounding, for the same function at every resolution."""

import copy

import numpy as np
import pytest
import torch
from test_imposed import build, random

from anygrid.errors import DataError, GridError
from anygrid.fields import Variable
from anygrid.grid import Axis, Bounded, Box, Grid, Periodic, Points, Sphere
from anygrid.numerics.interpolation import interpolate
from anygrid.numerics.spherical_harmonics import analyse, synthesise, truncate
from anygrid.surrogate import Imposed, Surrogate
from anygrid.surrogate.imposed import check_imposed

GAUSS = Sphere.gauss(16, 32)
EVEN = Sphere.equiangular(25, 48)  # exact to degree 12


def free(surrogate: Surrogate) -> Surrogate:
    other = copy.deepcopy(surrogate)
    other.imposed = Imposed()
    return other


@pytest.mark.parametrize("grid", [GAUSS, EVEN])
def test_what_a_step_adds_has_no_higher_degree_and_the_same_lower_ones(grid: Sphere) -> None:
    surrogate, a = build(grid, ("u", "v"), Imposed(waves=7), increment=True), random(grid, 2)
    added, said = (surrogate(a, grid) - a).detach(), (free(surrogate)(a, grid) - a).detach()
    found, wanted = analyse(added, grid), analyse(said, grid)
    assert float((wanted[:, :, 8:]).abs().max()) > 1e-2  # there was something to cut
    assert float((found - truncate(truncate(wanted, 7), wanted.shape[2] - 1)).abs().max()) < 1e-11


def test_an_output_that_is_no_input_is_cut_itself() -> None:
    surrogate, a = build(GAUSS, ("u",), Imposed(waves=7), increment=False), random(GAUSS, 1)
    u = surrogate(a, GAUSS).detach()
    torch.testing.assert_close(u, synthesise(analyse(free(surrogate)(a, GAUSS), GAUSS, 7), GAUSS))
    assert float(analyse(u, GAUSS)[:, :, 8:].abs().max()) < 1e-11


@pytest.mark.parametrize(
    "query", [Sphere.gauss(30, 64), EVEN, Sphere(Axis("lat", Bounded(10, 50), 9), Axis("lon", Bounded(20, 80), 12))], ids=str
)
def test_elsewhere_the_same_function_is_added(query: Sphere) -> None:
    surrogate, a = build(GAUSS, ("u", "v"), Imposed(waves=7), increment=True), random(GAUSS, 2)
    added = synthesise(analyse(surrogate(a, GAUSS) - a, GAUSS, 7), query)
    torch.testing.assert_close(surrogate(a, GAUSS, query), interpolate(a, GAUSS, query) + added)


def test_points_take_the_values_of_the_grid() -> None:
    surrogate, a = build(GAUSS, ("u",), Imposed(waves=7), increment=True), random(GAUSS, 1)
    places = Points(np.array([[10.0, 20.0], [-45.0, 300.0]]), GAUSS.dims, GAUSS.domain)
    torch.testing.assert_close(surrogate(a, GAUSS, places), interpolate(surrogate(a, GAUSS), GAUSS, places))


def test_a_grid_that_resolves_no_more_is_left_as_it_is() -> None:
    surrogate, a = build(GAUSS, ("u",), Imposed(waves=15), increment=True), random(GAUSS, 1)
    assert torch.equal(surrogate(a, GAUSS), free(surrogate)(a, GAUSS))


@pytest.mark.parametrize(
    "grid",
    [Sphere(Axis("lat", Bounded(10, 50), 9), Axis("lon", Periodic(0, 360), 12)), Box.uniform({"x": Bounded()}, 9)],
    ids=["window", "box"],
)
def test_a_grid_without_waves_is_refused(grid: Grid) -> None:
    with pytest.raises((DataError, GridError), match=r"imposed waves|latitudes from pole to pole"):
        check_imposed(Imposed(waves=3), (Variable("u"),), (Variable("u"),), grid)
