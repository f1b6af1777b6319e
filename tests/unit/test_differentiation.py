"""Gradients on every kind of axis, what they refuse, and exactness of Fornberg's weights on polynomials."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.differentiation import differentiate, fornberg, gradient, stencils


@given(st.integers(0, 4), st.integers(2, 7), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_weights_are_exact_for_polynomials_below_the_number_of_nodes(derivative, extra, seed):
    width = derivative + extra
    rng = np.random.default_rng(seed)
    nodes = (np.arange(width) + 0.6 * rng.random(width))[None]
    x0 = rng.random(1) * width
    weights = fornberg(x0, nodes, derivative)[0]
    polynomial = np.polynomial.Polynomial(rng.standard_normal(width))
    exact = polynomial.deriv(derivative)(x0[0]) if derivative else polynomial(x0[0])
    scale = np.abs(weights * polynomial(nodes[0])).sum() + 1
    assert abs(weights @ polynomial(nodes[0]) - exact) < 1e-9 * scale


def test_known_weights():
    np.testing.assert_allclose(
        fornberg(np.zeros(1), np.array([[-2.0, -1, 0, 1, 2]]), 1)[0], [1 / 12, -2 / 3, 0, 2 / 3, -1 / 12], atol=1e-14
    )
    np.testing.assert_allclose(fornberg(np.zeros(1), np.array([[0.0, 1, 2]]), 2)[0], [1, -2, 1], atol=1e-14)


@pytest.mark.parametrize("n", [8, 9])
def test_periodic_axes_are_exact_and_axes_are_not_mixed_up(n):
    box = Box.uniform({"x": Periodic(0, 2), "y": Periodic(-1, 4), "z": Bounded(0, 3)}, (n, n + 1, 6))
    x, y, z = box.points().unbind(-1)
    u = torch.stack((torch.sin(math.pi * x) * z**2, torch.cos(0.8 * math.pi * y) + z**4))[None]
    d = gradient(u, box)
    assert d.shape == (1, 2, 3, *box.shape)
    zero = torch.zeros_like(x)
    exact = (
        (math.pi * torch.cos(math.pi * x) * z**2, zero, 2 * torch.sin(math.pi * x) * z),
        (zero, -0.8 * math.pi * torch.sin(0.8 * math.pi * y), 4 * z**3),
    )
    torch.testing.assert_close(d[0], torch.stack([torch.stack(row) for row in exact]), rtol=0, atol=1e-11)


def test_nyquist_has_no_first_derivative():
    box = Box.uniform({"x": Periodic()}, 8)
    saw = torch.tensor([1.0, -1.0] * 4)[None, None]
    assert float(gradient(saw, box).abs().max()) < 1e-5
    torch.testing.assert_close(differentiate(saw, box, 0, 2), -((8 * math.pi) ** 2) * saw, rtol=1e-5, atol=0)


def test_a_cubic_is_exact_on_an_uneven_bounded_axis_to_its_ends():
    axis = Axis.from_coordinates("x", [0.0, 0.1, 0.15, 0.4, 0.8, 1.0, 1.7])
    x = torch.from_numpy(axis.coordinates())
    u = (x**4 - 2 * x**3 + x)[None, None]
    torch.testing.assert_close(gradient(u, Box((axis,)))[0, 0, 0], 4 * x**3 - 6 * x**2 + 1, rtol=0, atol=1e-12)
    torch.testing.assert_close(differentiate(u, Box((axis,)), 0, 2)[0, 0], 12 * x**2 - 12 * x, rtol=0, atol=1e-11)


def test_the_sphere_is_in_units_of_its_radius():
    sphere = Sphere.gauss(48, 96)
    lat, lon = torch.deg2rad(sphere.points()).unbind(-1)
    u = torch.cos(lat) ** 2 * torch.sin(2 * lon)  # a spherical harmonic of degree 2
    north, east = gradient(u[None, None], sphere)[0, 0]
    torch.testing.assert_close(north, -torch.sin(2 * lat) * torch.sin(2 * lon), rtol=0, atol=2e-4)
    torch.testing.assert_close(east, 2 * torch.cos(lat) * torch.cos(2 * lon), rtol=0, atol=1e-11)


def test_a_pole_on_the_grid_gives_zero_not_infinity():
    sphere = Sphere(Axis("lat", Bounded(-90, 90), 7), Axis("lon", Periodic(0, 360), 8))
    d = gradient(torch.randn(1, 1, 7, 8, generator=torch.Generator().manual_seed(0)), sphere)
    assert bool(torch.isfinite(d).all())
    assert float(d[0, 0, 1, [0, -1]].abs().max()) == 0


def test_a_window_of_the_sphere_is_not_periodic():
    window = Sphere(Axis.from_coordinates("lat", np.arange(30.0, 41)), Axis.from_coordinates("lon", np.arange(-10.0, 11)))
    lat, lon = window.points().unbind(-1)
    north, east = gradient((lat + 2 * lon)[None, None], window)[0, 0]
    torch.testing.assert_close(north, torch.full_like(lat, 180 / math.pi), rtol=1e-9, atol=0)
    torch.testing.assert_close(east, 360 / math.pi / torch.cos(torch.deg2rad(lat)), rtol=1e-9, atol=0)


def test_few_points_lower_the_order_and_too_few_are_refused():
    pair = Box.uniform({"x": Bounded()}, 2)
    torch.testing.assert_close(gradient(torch.tensor([[[1.0, 4.0]]]), pair)[0, 0, 0], torch.tensor([3.0, 3.0]))
    with pytest.raises(UsageError, match="more than 2 points along 'x', got 2"):
        differentiate(torch.zeros(1, 1, 2), pair, 0, 2)


def test_dtype_and_autograd_pass_through():
    box = Box.uniform({"x": Periodic(), "y": Bounded()}, (6, 7))
    u = torch.randn(2, 1, 6, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
    d = gradient(u, box)
    assert d.dtype == torch.float32
    (d**2).sum().backward()
    assert u.grad is not None
    assert float(u.grad.abs().min()) > 0


def test_scattered_points_and_wrong_shapes_are_refused():
    points = Points(np.random.default_rng(0).random((5, 2)), ("x", "y"), (Bounded(), Bounded()))
    with pytest.raises(GridError, match="scattered Points"):
        gradient(torch.zeros(1, 1, 5), points)
    with pytest.raises(GridError, match="a Box or a Sphere"):
        differentiate(torch.zeros(1, 1, 5), points, 0)
    box = Box.uniform({"x": Periodic()}, 8)
    with pytest.raises(GridError, match=r"\(batch, channel, 8\)"):
        gradient(torch.zeros(1, 1, 9), box)
    with pytest.raises(GridError, match="axis from 0 to 0"):
        differentiate(torch.zeros(1, 1, 8), box, 1)


def test_stencils_of_a_periodic_uneven_axis_wrap():
    axis = Axis("x", Periodic(0, 1), 6, "nodes", (0.0, 0.1, 0.3, 0.5, 0.7, 0.8))
    index, weights = stencils(axis)
    assert sorted(index[0].tolist()) == [0, 1, 2, 4, 5]
    np.testing.assert_allclose(weights.sum(1), 0, atol=1e-12)
