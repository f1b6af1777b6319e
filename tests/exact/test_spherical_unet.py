"""The U-shaped spherical operator: rotations, other grids, what it refuses, and that it learns."""

import pytest
import torch
from sphere_support import random_coefficients, rotated, rotation, with_poles

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.sphere_calculus import hyperdiffusion, scale_degrees
from anygrid.numerics.spherical_harmonics import analyse, synthesise
from anygrid.operators import SphericalUNet


def _operator(coordinates=False, oversampling=2.0):
    torch.manual_seed(0)
    return SphericalUNet(2, 1, 16, width=8, coordinates=coordinates, oversampling=oversampling).double()


@torch.no_grad()
def _rotation_error(operator, grid):
    """How far rotating before and rotating after the operator are apart, for an input of degree 4 and a standard deviation about 1."""
    c, turn = random_coefficients(4, 1, 2) / 3, rotation()
    after = rotated(analyse(operator(synthesise(c, grid), grid), grid), grid, turn)
    before = operator(rotated(c, grid, turn), grid)
    return float((before - after).norm() / after.norm())


def test_rotations():
    """The error falls with the caller's grid down to what GELU aliases on the coarse grids, and that with their oversampling."""
    errors = [_rotation_error(_operator(), Sphere.gauss(n, 2 * n)) for n in (20, 40)]
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 4
    assert errors[1] < _rotation_error(_operator(oversampling=1.0), Sphere.gauss(40, 80)) / 3


def test_rotations_on_even_latitudes():
    assert _rotation_error(_operator(), Sphere.equiangular(48, 96)) < 1e-4


def test_coordinates_break_the_symmetry():
    assert _rotation_error(_operator(coordinates=True), Sphere.gauss(40, 80)) > 1e-2


@torch.no_grad()
def test_other_resolutions_and_queries():
    operator, c = _operator(coordinates=True), random_coefficients(4, 2, 2) / 3
    fine = Sphere.gauss(64, 128)
    reference = operator(synthesise(c, fine), fine)
    for grid, most in ((Sphere.gauss(32, 64), 1e-3), (Sphere.equiangular(48, 90), 1e-3), (with_poles(49, 96), 3e-3)):
        exact = operator(synthesise(c, fine), fine, grid)
        assert float((operator(synthesise(c, grid), grid) - exact).norm() / exact.norm()) < most
        assert float((operator(synthesise(c, grid), grid, fine) - reference).norm() / reference.norm()) < most
    window = Sphere(Axis("lat", Bounded(35, 70), 15), Axis("lon", Bounded(-12, 42), 28))
    points = Points(window.points().reshape(-1, 2).numpy(), ("lat", "lon"), window.domain)
    grid = Sphere.gauss(32, 64)
    a = synthesise(c, grid)
    torch.testing.assert_close(operator(a, grid, window).flatten(2), operator(a, grid, points), atol=1e-10, rtol=0)


def test_it_learns():
    """Diffusion, of which the exact map is known: after 40 steps 5 times nearer than persistence, on a finer grid too."""
    grid, fine = Sphere.gauss(10, 20), Sphere.gauss(16, 32)
    decay = hyperdiffusion(8, 1.0, 0.5, power=1)

    def data(n, seed, where):
        c = random_coefficients(8, n, 1, seed).float() / 3
        return synthesise(c, where), synthesise(scale_degrees(c, decay), where)

    torch.manual_seed(0)
    operator = SphericalUNet(1, 1, 8, width=8, levels=2, blocks=1, head=32)
    optimizer = torch.optim.AdamW(operator.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=40)
    for step in range(40):
        a, u = data(8, step, grid)
        optimizer.zero_grad()
        (operator(a, grid) - u).square().mean().backward()
        optimizer.step()
        schedule.step()
    for where in (grid, fine):
        a, u = data(8, 1000, where)
        with torch.no_grad():
            assert float((operator(a, where) - u).norm()) < float((a - u).norm()) / 5


def test_refusals():
    operator = _operator()
    with pytest.raises(GridError, match="SphericalUNet: expected a Sphere, got Box"):
        operator(torch.zeros(1, 2, 16, 16, dtype=torch.float64), Box.uniform({"x": Periodic(), "y": Periodic()}, 16))
    with pytest.raises(GridError, match="degree from 0 to 11"):
        operator(torch.zeros(1, 2, 12, 24, dtype=torch.float64), Sphere.gauss(12, 24))
    with pytest.raises(UsageError, match="halves at every level"):
        SphericalUNet(1, 1, 3, levels=3)
    with pytest.raises(UsageError, match=r"oversampling 0\.5"):
        SphericalUNet(1, 1, 16, oversampling=0.5)
