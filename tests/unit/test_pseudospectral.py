"""Fourier multipliers and resampling, at even, odd and unequal sizes, Nyquist included."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrid.errors import GridError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.pseudospectral import (
    dealias,
    derivative,
    from_spectrum,
    inverse_laplacian,
    laplacian,
    mode_numbers,
    periodic_box,
    resample,
    square_flux,
    to_spectrum,
)

SHAPES = [(8, 8), (9, 7), (10, 15), (6, 11)]


def field(box: Box):
    x, y = box.points().unbind(-1)
    a, b = (2 * math.pi / axis.interval.length for axis in box.axes)
    return torch.sin(a * x) * torch.cos(2 * b * y) + 0.3 * torch.cos(2 * a * x + b * y), x, y, a, b


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_and_laplacian_of_waves_are_exact(shape):
    box = Box.uniform({"x": Periodic(-1, 2), "y": Periodic(0, 0.5)}, shape)
    u, x, y, a, b = field(box)
    u_hat = to_spectrum(u, 2)
    wave = torch.sin(2 * a * x + b * y)
    dx = a * torch.cos(a * x) * torch.cos(2 * b * y) - 0.6 * a * wave
    dyy = -4 * b**2 * torch.sin(a * x) * torch.cos(2 * b * y) - 0.3 * b**2 * torch.cos(2 * a * x + b * y)
    lap = -(a**2 + 4 * b**2) * torch.sin(a * x) * torch.cos(2 * b * y) - 0.3 * (4 * a**2 + b**2) * torch.cos(2 * a * x + b * y)
    for multiplier, exact in ((derivative(box, 0), dx), (derivative(box, 1, 2), dyy), (laplacian(box), lap)):
        torch.testing.assert_close(from_spectrum(u_hat * multiplier, shape), exact, rtol=1e-10, atol=1e-9)
    back = from_spectrum(to_spectrum(lap + 5.0, 2) * inverse_laplacian(box), shape)
    torch.testing.assert_close(back, u, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("axis", [0, 1])
def test_odd_derivative_of_the_nyquist_mode_is_zero_and_the_even_one_is_not(axis):
    box = Box.uniform({"x": Periodic(), "y": Periodic()}, (8, 8))
    saw = torch.cos(8 * math.pi * box.points()[..., axis])
    u_hat = to_spectrum(saw, 2)
    assert float(from_spectrum(u_hat * derivative(box, axis), box.shape).abs().max()) < 1e-12
    torch.testing.assert_close(from_spectrum(u_hat * derivative(box, axis, 2), box.shape), -((8 * math.pi) ** 2) * saw)


@pytest.mark.parametrize(("n", "kept"), [(6, 1), (7, 2), (8, 2), (9, 2), (64, 21), (96, 31)])
def test_dealias_keeps_the_modes_whose_products_do_not_fall_back(n, kept):
    modes = mode_numbers((n,))[0][dealias((n,))]
    assert float(modes.max()) == kept
    assert 2 * kept - n < -kept  # the highest alias of a product lies outside the mask
    assert 2 * (kept + 1) - n >= -(kept + 1)  # and one more mode would not do


def test_square_flux_is_the_derivative_of_the_square_without_aliasing():
    box, fine = (Box.uniform({"x": Periodic(0, 3)}, n) for n in (24, 240))
    g = torch.Generator().manual_seed(1)
    u_hat = torch.randn(2, 13, generator=g, dtype=torch.complex128) * dealias((24,))
    u_hat[:, 0] = u_hat[:, 0].real + 0j
    got = square_flux(box, torch.float64, torch.device("cpu"))(u_hat)
    u = resample(from_spectrum(u_hat, (24,)), (240,))
    exact = to_spectrum(-0.5 * u * u, 1) * derivative(fine, 0)
    torch.testing.assert_close(got[:, :8], exact[:, :8] / 10, rtol=1e-10, atol=1e-10)
    assert float(got[:, 8:].abs().max()) == 0


@given(st.integers(3, 24), st.integers(3, 40), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_resampling_is_the_same_function_where_both_grids_carry_it(old, new, seed):
    g = torch.Generator().manual_seed(seed)
    top = (min(old, new) - 1) // 2
    k = torch.arange(top + 1, dtype=torch.float64)
    a, b = torch.randn(2, top + 1, generator=g, dtype=torch.float64)

    def at(n):
        angle = 2 * math.pi * k * (torch.arange(n, dtype=torch.float64) / n)[:, None]
        return angle.cos() @ a + angle.sin() @ b

    torch.testing.assert_close(resample(at(old), (new,)), at(new), rtol=1e-10, atol=1e-10)


def test_resampling_treats_nyquist_as_a_cosine():
    saw = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    fine = torch.cos(8 * math.pi * torch.arange(24, dtype=torch.float64) / 24)
    torch.testing.assert_close(resample(saw, (24,)), fine, atol=1e-12, rtol=0)
    torch.testing.assert_close(resample(fine, (8,)), saw, atol=1e-12, rtol=0)
    torch.testing.assert_close(resample(resample(saw, (9,)), (8,)), saw, atol=1e-12, rtol=0)


def test_resampling_in_two_dimensions_keeps_shared_points():
    u = torch.randn(2, 8, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(resample(u, (24, 18))[:, ::3, ::2], u, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (Box.uniform({"x": Periodic(), "y": Bounded()}, 8), "bounded axis 'y'"),
        (Box((Axis("x", Periodic(), 3, "nodes", (0.0, 0.2, 0.7)), Axis("y", Periodic(), 4))), "uneven axis 'x'"),
        (Box.uniform({"x": Periodic(0, 2), "y": Periodic()}, 8), "period 1 along 'x', got 2"),
        (Box.uniform({"x": Periodic()}, 8), "2 axes"),
        (Sphere.equiangular(4, 8), "a Sphere"),
        (Points(torch.rand(5, 2).double().numpy(), ("x", "y"), (Periodic(), Periodic())), "a Points"),
    ],
)
def test_wrong_grids_are_named(grid, says):
    with pytest.raises(GridError, match=says):
        periodic_box(grid, "here", (1.0, 1.0))


def test_even_derivatives_are_exactly_real_and_odd_ones_exactly_imaginary():
    """A rounding error in the other part would make every coefficient of a solver complex."""
    grid = Box.uniform({"x": Periodic(0, 3.7)}, 12)
    for order in range(1, 7):
        multiplier = derivative(grid, 0, order)
        assert not bool((multiplier.real if order % 2 else multiplier.imag).any())
        assert bool((multiplier.imag if order % 2 else multiplier.real)[1:-1].all())
