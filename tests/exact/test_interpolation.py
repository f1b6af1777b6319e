"""Interpolation against closed forms: exact where it says exact, second order where it says second order."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from anygrid.errors import GridError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.interpolation import interpolate


def _wave(grid):
    x = grid.points()
    return (torch.sin(2 * math.pi * 3 * x[..., 0]) + torch.cos(2 * math.pi * x[..., 0]))[None, None]


@pytest.mark.parametrize(("n", "m"), [(16, 23), (15, 40), (16, 32)])
def test_trigonometric_on_periodic_axes(n, m):
    grid, query = (Box.uniform({"x": Periodic()}, k) for k in (n, m))
    assert (interpolate(_wave(grid), grid, query) - _wave(query)).abs().max() < 1e-12


def test_linear_is_second_order_and_exact_on_linear_functions():
    query = Box.uniform({"x": Bounded(), "y": Bounded()}, (51, 49))

    def f(grid):
        x = grid.points()
        return torch.sin(3 * x[..., 0] + x[..., 1])[None, None]

    errors = []
    for n in (17, 33, 65):
        grid = Box.uniform({"x": Bounded(), "y": Bounded()}, n)
        errors.append(float((interpolate(f(grid), grid, query) - f(query)).abs().max()))
        x = grid.points()
        plane, wanted = (2 * x[..., 0] - x[..., 1])[None, None], query.points()
        assert (interpolate(plane, grid, query) - (2 * wanted[..., 0] - wanted[..., 1])).abs().max() < 1e-12
    assert all(3.2 < a / b < 4.8 for a, b in pairwise(errors))


def test_points_and_grids_agree():
    grid = Box.uniform({"x": Periodic(), "y": Bounded(0, 2)}, (32, 33))
    u = torch.sin(2 * math.pi * grid.points()[..., 0])[None, None] * grid.points()[..., 1]
    spots = Points(np.random.default_rng(0).random((200, 2)) * [1, 2], ("x", "y"), grid.domain)
    x = spots.points()
    assert (interpolate(u, grid, spots) - torch.sin(2 * math.pi * x[:, 0]) * x[:, 1]).abs().max() < 1e-12
    many = Points(np.random.default_rng(1).random((4000, 2)) * [1, 2], ("x", "y"), grid.domain)
    v = (torch.sin(2 * math.pi * many.points()[:, 0]) * many.points()[:, 1])[None, None]
    inside = (interpolate(v, many, grid) - u)[..., 2:-2]  # long thin triangles along the hull are the method's weak place
    assert inside.abs().max() < 0.05
    assert inside.norm() < 0.01 * u.norm()


def test_three_axes_at_points():
    grid = Box.uniform({"x": Bounded(), "y": Bounded(), "z": Bounded()}, (5, 6, 7))
    u = (grid.points() @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))[None, None]
    spots = Points(np.random.default_rng(0).random((50, 3)), ("x", "y", "z"), grid.domain)
    assert (interpolate(u, grid, spots) - spots.points() @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).abs().max() < 1e-12


def test_sphere_to_finer_sphere_and_past_the_last_row():
    grid, query = Sphere.gauss(16, 32), Sphere.equiangular(24, 48)
    u = torch.sin(torch.deg2rad(grid.points()[..., 0]))[None, None]
    v = torch.sin(torch.deg2rad(query.points()[..., 0]))[None, None]
    assert (interpolate(u, grid, query) - v).abs().max() < 1e-2


def test_outside_the_domain_is_refused():
    grid = Box.uniform({"x": Bounded(0, 1)}, 11)
    with pytest.raises(GridError, match="between 0 and 1"):
        interpolate(torch.zeros(1, 1, 11), grid, Box((Axis("x", Bounded(0, 2), 21),)))


def test_points_on_the_hull_of_others_are_between_its_corners() -> None:
    """A turned square: its sides are no lines of machine numbers, and a linear function is exact on them."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.4, 0.6]]) * 0.5
    domain = Box.uniform({"x": Bounded(-1, 1), "y": Bounded(-1, 1)}, 3).domain
    t = np.linspace(0.01, 0.49, 41)
    sides = np.concatenate([np.column_stack(pair) for pair in ((t, 0 * t), (0 * t, t), (t, 0 * t + 0.5), (0 * t + 0.5, t))])
    known, wanted = (Points(x @ turn.T, ("x", "y"), domain, np.ones(len(x))) for x in (corners, sides))
    u = known.points() @ torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = interpolate(u[None, None], known, wanted)[0, 0]
    torch.testing.assert_close(found, wanted.points() @ torch.tensor([2.0, -1.0], dtype=torch.float64), rtol=0, atol=1e-9)
