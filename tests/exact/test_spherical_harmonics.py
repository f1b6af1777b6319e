"""Legendre functions, quadrature and scalar transforms against closed forms, mpmath and direct sums."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from sphere_support import random_coefficients, with_poles

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Periodic, Sphere
from anygrid.numerics import legendre_products
from anygrid.numerics.legendre import latitude_nodes, latitude_quadrature, legendre_functions, legendre_table
from anygrid.numerics.spherical_harmonics import analyse, evaluate_at, exact_degree, synthesise, truncate

# Below and above the degree from which on latitudes are folded; odd and even numbers of latitudes; another first longitude.
GRIDS = {
    "gauss": Sphere.gauss(24, 48),
    "gauss, odd": Sphere.gauss(25, 51),
    "cells": Sphere.equiangular(32, 64),
    "cells, odd": Sphere.equiangular(33, 66),
    "poles": with_poles(32, 64),
    "poles, odd, from -180": with_poles(33, 66, west=-180.0),
    "folded gauss": Sphere.gauss(68, 136),
    "folded gauss, odd": Sphere.gauss(67, 134),
    "folded poles": with_poles(133, 134),
    "folded cells": Sphere.equiangular(134, 134),
    "more longitudes than needed": Sphere.gauss(5, 64),
    "fewer longitudes": Sphere.gauss(24, 15),
}


def _reference(degree, order, sine):
    """Orthonormal function by the recursion of the unnormalised ones, with 60 digits and any exponent."""
    with mpmath.workdps(60):
        x = mpmath.mpf(float(sine))
        before, value = mpmath.mpf(0), (-1) ** order * mpmath.fac2(2 * order - 1) * mpmath.sqrt(1 - x * x) ** order
        for at in range(order + 1, degree + 1):
            before, value = value, ((2 * at - 1) * x * value - (at + order - 1) * before) / (at - order)
        share = mpmath.mpf(2 * degree + 1) / (4 * mpmath.pi)
        return value * mpmath.sqrt(share * mpmath.factorial(degree - order) / mpmath.factorial(degree + order))


@pytest.mark.parametrize(("degree", "order"), [(720, 0), (720, 1), (719, 240), (720, 340), (720, 700), (720, 720)])
def test_legendre_functions_at_high_degree(degree, order):
    latitude = np.deg2rad([0.0, 0.25, 20.0, 45.0, 71.3, 85.0, 89.0, 89.75])
    found = legendre_functions(np.sin(latitude), np.cos(latitude), degree, order, order + 1)[0, degree]
    for value, sine in zip(found, np.sin(latitude), strict=True):
        reference = _reference(degree, order, sine)
        # Relative where the function oscillates or decays slowly; the sine itself has lost digits beside the pole.
        assert abs(value - float(reference)) < 2e-12 * max(1, abs(float(reference)))
        if 1e-250 < abs(reference) < 1e-3:
            assert abs(value / float(reference) - 1) < 1e-8


def test_small_starts_grow_back():
    # cos(85 degrees) ** 700 is 1e-742, far below the range of float64; at degree 9000 the function is of order one again.
    latitude = np.deg2rad([85.0])
    value = legendre_functions(np.sin(latitude), np.cos(latitude), 9000, 700, 701)[0, 9000, 0]
    assert abs(value) > 1e-3
    assert math.isclose(value, float(_reference(9000, 700, np.sin(latitude)[0])), rel_tol=1e-6)


def test_legendre_functions_are_those_of_scipy():
    sine, cosine = latitude_nodes(with_poles(19, 36), north=False)
    found = legendre_functions(sine, cosine, 30, 0, 31)
    degree, order = np.arange(31)[None, :, None], np.arange(31)[:, None, None]
    np.testing.assert_allclose(found, sph_harm_y(degree, order, np.arccos(sine), 0.0).real * (degree >= order), atol=1e-13)


def test_derivative_tables():
    latitude = np.deg2rad(np.array([-77.0, -40.0, -1.0, 0.0, 30.0, 88.0]))
    table = {k: legendre_table(k, np.sin(latitude), np.cos(latitude), 40, 0, 41) for k in ("value", "zonal", "meridional")}
    np.testing.assert_allclose(table["zonal"], np.arange(41)[:, None, None] * table["value"] / np.cos(latitude), rtol=1e-9, atol=1e-9)
    h = 1e-5
    beside = [legendre_functions(np.sin(x), np.cos(x), 40, 0, 41) for x in (latitude + h, latitude - h)]
    np.testing.assert_allclose(table["meridional"], (beside[0] - beside[1]) / (2 * h), atol=1e-4 * 40)
    few = legendre_table("meridional", np.sin(latitude), np.cos(latitude), 40, 7, 12)
    np.testing.assert_array_equal(few, table["meridional"][7:12])


@pytest.mark.parametrize("n", [7, 8, 90, 91])
def test_quadrature_is_exact(n):
    for grid, most in ((Sphere.gauss(n, 4), 2 * n - 1), (Sphere.equiangular(n, 4), n - 1 + n % 2), (with_poles(n, 4), n - 1 + n % 2)):
        sine, weight = latitude_quadrature(grid)
        np.testing.assert_allclose(sine, np.sin(np.deg2rad(grid.lat.coordinates())), atol=1e-15)
        assert (weight > 0).all()
        moments = np.polynomial.legendre.legvander(sine, most + 1).T @ weight
        np.testing.assert_allclose(moments[: most + 1], [2.0] + [0.0] * most, atol=1e-13)
        even = most + 1 if (most + 1) % 2 == 0 else most + 2  # odd ones vanish by symmetry
        assert abs((np.polynomial.legendre.legval(sine, np.eye(even + 1)[even]) * weight).sum()) > 1e-6


@pytest.mark.parametrize("name", GRIDS)
def test_analysis_undoes_synthesis_up_to_the_exact_degree(name):
    grid = GRIDS[name]
    degree = exact_degree(grid)
    c = random_coefficients(degree)
    torch.testing.assert_close(analyse(synthesise(c, grid), grid), c, atol=1e-11, rtol=0)


@pytest.mark.parametrize("name", ["cells", "cells, odd", "poles", "folded poles"])
def test_no_further(name):
    grid = GRIDS[name]
    degree = exact_degree(grid) + 1
    if 2 * degree < grid.lon.size:
        c = random_coefficients(degree)
        assert float((analyse(synthesise(c, grid), grid, degree) - c).abs().max()) > 1e-6


@pytest.mark.parametrize("name", GRIDS)
def test_synthesis_is_the_direct_sum(name):
    grid, degree = GRIDS[name], 12
    c = random_coefficients(degree, 1, 2)
    lat, lon = torch.deg2rad(grid.points()).numpy().reshape(-1, 2).T
    direct = np.zeros((2, lat.size))
    for m in range(degree + 1):
        for at in range(m, degree + 1):
            y = sph_harm_y(at, m, np.pi / 2 - lat, lon) * (1 if m == 0 else 2)
            direct += (torch.view_as_complex(c)[0, :, at, m].numpy()[:, None] * y).real
    np.testing.assert_allclose(synthesise(c, grid).flatten(2)[0], direct, atol=1e-11)


def test_folded_synthesis_and_scattered_points_agree():
    grid, c = with_poles(31, 60), random_coefficients(90, 1, 2)  # coarser than the waves: a longer FFT of which some points are kept
    lat, lon = grid.points().reshape(-1, 2).unbind(-1)
    torch.testing.assert_close(synthesise(c, grid).flatten(2), evaluate_at(c, lat, lon), atol=1e-10, rtol=0)


WINDOWS = {
    "window": Sphere(Axis("lat", Bounded(35, 70), 9), Axis("lon", Bounded(-12, 42), 7)),
    "uneven": Sphere(Axis("lat", Bounded(-90, 90), 3, "nodes", (-50.0, 10.0, 60.0)), Axis("lon", Periodic(0, 360), 8)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_synthesis_on_other_grids(name):
    grid, c = WINDOWS[name], random_coefficients(70, 1, 2)
    lat, lon = grid.points().reshape(-1, 2).unbind(-1)
    torch.testing.assert_close(synthesise(c, grid).flatten(2), evaluate_at(c, lat, lon), atol=1e-11, rtol=0)
    small = random_coefficients(3, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: synthesise(x, grid), small)


def test_blocks_of_any_size(monkeypatch):
    """The last block may lack functions of one parity; memory that nothing writes to is then not zero by itself."""
    grid, c = Sphere.gauss(67, 134), random_coefficients(66, 1, 1)
    expected = synthesise(c, grid)
    legendre_products.tables.cache_clear()
    monkeypatch.setattr(legendre_products, "_block_size", lambda degree: 6)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        u = synthesise(c, grid)
        torch.testing.assert_close(u, expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(analyse(u, grid), c, atol=1e-11, rtol=0)
    finally:
        torch.use_deterministic_algorithms(False)
        legendre_products.tables.cache_clear()


def test_from_one_grid_to_another():
    c = random_coefficients(20)
    u = synthesise(c, Sphere.gauss(24, 48))
    on = synthesise(analyse(u, Sphere.gauss(24, 48), 20), Sphere.equiangular(60, 90))
    torch.testing.assert_close(on, synthesise(c, Sphere.equiangular(60, 90)), atol=1e-11, rtol=0)


@pytest.mark.parametrize("grid", [Sphere.gauss(4, 9), with_poles(5, 8, west=-180.0)])
def test_gradients(grid):
    u = torch.randn(1, 1, *grid.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: analyse(x, grid, 3), u)
    assert torch.autograd.gradgradcheck(lambda x: analyse(x, grid, 3).square(), u)
    c = torch.randn(1, 1, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    for query in (grid, Sphere.equiangular(3, 5)):
        assert torch.autograd.gradcheck(lambda x, query=query: synthesise(x, query), c)


@pytest.mark.parametrize(("grid", "degree"), [(Sphere.gauss(66, 132), 65), (with_poles(67, 133), 66)])
def test_folded_gradient_is_the_adjoint(grid, degree):
    u, c = torch.randn(1, 2, *grid.shape, dtype=torch.float64, requires_grad=True), random_coefficients(degree, 1, 2).requires_grad_()
    gc, gu = random_coefficients(degree, 1, 2, seed=1), torch.randn(1, 2, *grid.shape, dtype=torch.float64)
    (du,) = torch.autograd.grad(analyse(u, grid, degree), u, gc)
    torch.testing.assert_close((du * gu).sum(), (analyse(gu, grid, degree) * gc).sum(), rtol=1e-11, atol=0)
    (dc,) = torch.autograd.grad(synthesise(c, grid), c, gu)
    torch.testing.assert_close((dc * gc).sum(), (synthesise(gc, grid) * gu).sum(), rtol=1e-11, atol=0)


def test_single_precision_and_inference_mode():
    grid = Sphere.gauss(80, 160)
    c = random_coefficients(79, 1, 1)
    with torch.inference_mode():
        u = synthesise(c.float(), grid)
    assert u.dtype == torch.float32
    assert float((u - synthesise(c, grid)).norm() / u.norm()) < 1e-6
    back = analyse(u.clone().requires_grad_(), grid)  # tables made in inference mode serve training
    back.sum().backward()
    assert float((back.detach() - c).norm() / c.norm()) < 1e-6


def test_truncation():
    grid, c = Sphere.gauss(24, 48), random_coefficients(15)
    torch.testing.assert_close(truncate(truncate(c, 20), 15), c)
    torch.testing.assert_close(synthesise(truncate(c, 20), grid), synthesise(c, grid))
    torch.testing.assert_close(truncate(c, 7), analyse(synthesise(c, grid), grid, 7))


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (Sphere(Axis("lat", Bounded(30, 60), 8), Axis("lon", Periodic(0, 360), 16)), "window from 30 to 60"),
        (Sphere(Axis("lat", Bounded(-90, 90), 8), Axis("lon", Bounded(0, 90), 16)), "longitudes that go once round"),
        (Sphere(Axis("lat", Bounded(-90, 90), 3, "nodes", (-50.0, 10.0, 60.0)), Axis("lon", Periodic(0, 360), 8)), "3 uneven latitudes"),
    ],
)
def test_other_grids_are_refused(grid, words):
    with pytest.raises(GridError, match=words) as caught:
        analyse(torch.zeros(1, 1, *grid.shape), grid, 1)
    assert caught.value.hint


def test_other_degrees_are_refused():
    grid = Sphere.gauss(8, 10)
    with pytest.raises(GridError, match="degree from 0 to 4, got 5"):
        analyse(torch.zeros(1, 1, 8, 10), grid, 5)
    with pytest.raises(GridError, match="8x10 points, got 10x8"):
        analyse(torch.zeros(1, 1, 10, 8), grid)
    with pytest.raises(UsageError, match="degree of 0 or more"):
        truncate(random_coefficients(3), -1)
