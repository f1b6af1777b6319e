"""The spherical operator commutes with rotations, and its output on another grid is the same function."""

import pytest
import torch
from sphere_support import random_coefficients, rotated, rotation, with_poles

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.spherical_harmonics import analyse, synthesise
from anygrid.operators import SphericalFNO
from anygrid.operators.spherical_fno import _mix


def _operator(depth=3, coordinates=False):
    torch.manual_seed(0)
    return SphericalFNO(2, 1, 8, width=16, depth=depth, coordinates=coordinates).double()


@torch.no_grad()
def _error(operator, grid):
    """How far rotating before and rotating after the operator are apart, for an input of degree 6 and a standard deviation about 1."""
    c, turn = random_coefficients(6, 1, 2) / 3, rotation()
    after = rotated(analyse(operator(synthesise(c, grid), grid), grid), grid, turn)
    before = operator(rotated(c, grid, turn), grid)
    return float((before - after).norm() / after.norm())


def test_rotations():
    errors = [_error(_operator(), Sphere.gauss(n, 2 * n)) for n in (12, 24, 48)]
    assert errors[-1] < 1e-5
    assert errors[2] < 0.1 * errors[1] < 0.1 * 0.1 * errors[0]


def test_on_even_latitudes_too():
    assert _error(_operator(), with_poles(65, 128)) < 1e-4
    assert _error(_operator(), Sphere.equiangular(64, 128)) < 1e-4


def test_coordinates_break_the_symmetry():
    assert _error(_operator(coordinates=True), Sphere.gauss(24, 48)) > 1e-2


def test_one_matrix_for_each_degree():
    weight, c = torch.randn(9, 2, 4, dtype=torch.float64), random_coefficients(8, 3, 2)
    mixed = _mix(c, weight)
    for degree, order, part in ((0, 0, 0), (5, 3, 1), (8, 8, 0)):
        torch.testing.assert_close(mixed[:, :, degree, order, part], c[:, :, degree, order, part] @ weight[degree])


@torch.no_grad()
def test_queries():
    grid, operator = Sphere.gauss(48, 96), _operator(coordinates=True)
    a = synthesise(random_coefficients(6, 2, 2), grid)
    fine = Sphere.equiangular(60, 90)
    exact = operator(synthesise(random_coefficients(6, 2, 2), Sphere.gauss(64, 128)), Sphere.gauss(64, 128), fine)
    torch.testing.assert_close(operator(a, grid, fine), exact, atol=1e-5, rtol=0)
    window = Sphere(Axis("lat", Bounded(35, 70), 15), Axis("lon", Bounded(-12, 42), 28))
    points = Points(window.points().reshape(-1, 2).numpy(), ("lat", "lon"), window.domain)
    on_window = operator(a, grid, window)
    torch.testing.assert_close(on_window.flatten(2), operator(a, grid, points), atol=1e-10, rtol=0)
    far = Sphere.gauss(64, 128)
    torch.testing.assert_close(on_window, operator(synthesise(random_coefficients(6, 2, 2), far), far, window), atol=1e-5, rtol=0)


def test_refusals():
    operator = _operator()
    box = Box.uniform({"x": Periodic(), "y": Periodic()}, 16)
    with pytest.raises(GridError, match="a Sphere, got Box"):
        operator(torch.zeros(1, 2, 16, 16, dtype=torch.float64), box)
    with pytest.raises(GridError, match="degree from 0 to 5"):
        operator(torch.zeros(1, 2, 6, 12, dtype=torch.float64), Sphere.gauss(6, 12))
    with pytest.raises(GridError, match=r"shape \(batch, 2, 16, 32\)"):
        operator(torch.zeros(1, 3, 16, 32, dtype=torch.float64), Sphere.gauss(16, 32))
    with pytest.raises(GridError, match="as query"):
        operator(torch.zeros(1, 2, 16, 32, dtype=torch.float64), Sphere.gauss(16, 32), box)
    with pytest.raises(UsageError, match="sizes of 1 or more"):
        SphericalFNO(0, 1, 4)
