"""Filters of small reach on the sphere: closed forms, a direct sum, rotations, and the same function at every resolution."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import fixed_quad
from scipy.special import eval_legendre
from sphere_support import random_coefficients, rotated, rotation, with_poles

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Sphere
from anygrid.numerics.cap_filters import CapFilters
from anygrid.numerics.legendre import latitude_quadrature
from anygrid.numerics.sphere_calculus import gradient
from anygrid.numerics.sphere_convolution import convolve
from anygrid.numerics.sphere_rows import analyse_rows, from_rows, standard, synthesise_rows, to_rows
from anygrid.numerics.spherical_harmonics import analyse, synthesise

DEGREE = 8
FAMILIES = {"gauss": Sphere.gauss, "cells": Sphere.equiangular, "poles": lambda nlat, nlon: with_poles(nlat + 1, nlon + 1)}


def _single(filters, number):
    weight = torch.zeros(filters.size, 1, 1, dtype=torch.float64)
    weight[number] = 1
    return weight


def _legendre_coefficient(filters, k, degree):
    """Funk-Hecke: what a filter of distance makes of a harmonic of this degree."""
    knots = [math.radians(filters.cutoff) * j / (filters.radial + 1) for j in range(filters.radial + 2)]

    def integrand(d):
        return 2 * math.pi * filters.profile(k, 0, d) * eval_legendre(degree, np.cos(d)) * np.sin(d)

    return sum(fixed_quad(integrand, low, high, n=20)[0] for low, high in pairwise(knots))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", [0, 1])
def test_funk_hecke(family, k):
    """A filter of distance multiplies each degree by its Legendre coefficient, to the third order of the spacing or better."""
    filters, c = CapFilters(25.0, 2), random_coefficients(DEGREE, 1, 1)
    factor = torch.tensor([_legendre_coefficient(filters, k, degree) for degree in range(DEGREE + 1)])
    assert float(factor[0]) == pytest.approx(1, abs=1e-12)
    assert abs(float(factor[-1])) < 0.8  # it does something
    errors = []
    for nlat in (20, 40, 80):
        grid = FAMILIES[family](nlat, 2 * nlat)
        exact = synthesise(c * factor[:, None, None], grid)
        found = convolve(synthesise(c, grid), _single(filters, k), grid, filters)
        errors.append(float((found - exact).abs().max() / exact.abs().max()))
    assert errors[1] < 1e-3
    assert errors[2] < 1e-4
    assert errors[2] < errors[0] / 50


def test_directions_measure_derivatives():
    r"""The first harmonic on degree l: the gradient times :math:`2\pi \int R(d) P_l^1(\cos d) \sin d\, dd / (l (l + 1))`."""
    filters, c, degree = CapFilters(25.0, 1, 1), random_coefficients(5, 1, 1), 5
    c[:, :, :degree] = 0
    reach = math.radians(25.0)

    def integrand(d):  # P_l^1 without the phase of Condon and Shortley, as a derivative of P_l
        x = np.polynomial.legendre.Legendre.basis(degree).deriv()(np.cos(d)) * np.sin(d)
        return 2 * math.pi * filters.profile(0, 1, d) * np.sin(d) * x * np.sin(d)

    factor = sum(fixed_quad(integrand, low, high, n=20)[0] for low, high in ((0, reach / 2), (reach / 2, reach))) / (degree * (degree + 1))
    for family in FAMILIES.values():
        grid = family(72, 144)
        u = synthesise(c, grid)
        east, north = gradient(c, grid)
        scale = float(factor * north.abs().max())
        assert float((convolve(u, _single(filters, 1), grid, filters) - factor * north).abs().max()) < 2e-4 * scale
        assert float((convolve(u, _single(filters, 2), grid, filters) - factor * east).abs().max()) < 2e-4 * scale


@pytest.mark.parametrize("grid", [Sphere.gauss(13, 20), Sphere.equiangular(12, 15), with_poles(9, 16, west=-170.0)])
def test_it_is_the_sum_of_the_quadrature(grid):
    """Point by point, in every direction, with odd and even sizes and the Nyquist wave; the corrections of the rows undone."""
    filters = CapFilters(40.0, 2, 2)
    u = torch.randn(1, 1, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sine, weights = latitude_quadrature(grid)
    lon = np.deg2rad(grid.lon.coordinates())
    s, c = np.meshgrid(sine, lon, indexing="ij")[0].ravel(), np.sqrt(1 - np.clip(np.repeat(sine, len(lon)) ** 2, 0, 1))
    east_of = np.tile(lon, len(sine))[None] - np.tile(lon, len(sine))[:, None]
    north, east = c[:, None] * s - s[:, None] * c * np.cos(east_of), c * np.sin(east_of)
    values = filters.values(north, east, s[:, None] * s + c[:, None] * c * np.cos(east_of))
    values *= np.repeat(weights, len(lon)) * 2 * np.pi / len(lon)
    for k in range(2):
        plain = 5 * k
        values[plain] /= values[plain].sum(1, keepdims=True)
        for b in range(plain + 1, plain + 5):
            values[b] -= values[b].sum(1, keepdims=True) * values[plain]
    for b in range(filters.size):
        direct = torch.from_numpy(values[b] @ u.numpy().ravel()).view(grid.shape)
        torch.testing.assert_close(convolve(u, _single(filters, b), grid, filters)[0, 0], direct, atol=1e-12, rtol=0)


def test_constants():
    grid, filters = Sphere.gauss(16, 32), CapFilters(15.0, 2, 2)
    one = torch.ones(1, 1, *grid.shape, dtype=torch.float64)
    for b, (_, n, _) in enumerate(filters.harmonics):
        torch.testing.assert_close(convolve(one, _single(filters, b), grid, filters), one * (n == 0), atol=1e-13, rtol=0)


def test_rotations():
    """Filters without direction commute with rotations, the better the finer the grid; others do not."""
    c, turn = random_coefficients(DEGREE, 1, 2), rotation()

    def error(filters, nlat):
        grid = Sphere.gauss(nlat, 2 * nlat)
        weight = torch.randn(filters.size, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        after = rotated(analyse(convolve(synthesise(c, grid), weight, grid, filters), grid, nlat // 2), grid, turn)
        before = convolve(rotated(c, grid, turn), weight, grid, filters)
        return float((before - after).norm() / after.norm())

    errors = [error(CapFilters(30.0, 2), nlat) for nlat in (18, 36, 72)]
    assert errors[2] < 1e-4
    assert errors[2] < errors[1] / 10 < errors[0] / 100
    assert error(CapFilters(30.0, 2, 1), 36) > 0.1


def test_the_same_function_at_every_resolution():
    filters, c = CapFilters(20.0, 2), random_coefficients(DEGREE, 1, 2)
    weight = torch.randn(filters.size, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fine = Sphere.gauss(100, 200)
    reference = analyse(convolve(synthesise(c, fine), weight, fine, filters), fine, 39)
    for grid, most in ((Sphere.gauss(40, 80), 1e-3), (Sphere.equiangular(48, 90), 2e-3), (Sphere.gauss(70, 140), 1e-4)):
        found, exact = convolve(synthesise(c, grid), weight, grid, filters), synthesise(reference, grid)
        assert float((found - exact).norm() / exact.norm()) < most


@pytest.mark.parametrize("nlon", [11, 12])
def test_gradients(nlon):
    """Of field and weights, first and second, with the Nyquist wave of an even row."""
    grid, filters = Sphere.gauss(5, nlon), CapFilters(70.0, 1, 1)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(1, 2, *grid.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(3, 2, 1, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: convolve(x, w, grid, filters), (u, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, w: convolve(x, w, grid, filters), (u, weight), fast_mode=True)


@pytest.mark.parametrize("grid", [Sphere.gauss(16, 32), Sphere.gauss(67, 134), Sphere.equiangular(132, 140), with_poles(131, 140)])
def test_rows_carry_the_same_harmonics(grid):
    """Channels last, folded latitudes too: the numbers of the transforms themselves."""
    degree = 7 if grid.shape[0] < 64 else 65
    c = random_coefficients(degree, 2, 3)
    u = synthesise(c, grid)
    columns = analyse_rows(to_rows(u, grid), grid, degree)
    torch.testing.assert_close(standard(columns), c, atol=1e-11, rtol=0)
    torch.testing.assert_close(from_rows(synthesise_rows(columns, grid), grid), u, atol=1e-10, rtol=0)
    torch.testing.assert_close(from_rows(to_rows(u, grid), grid), grid.shape[1] * u, atol=1e-9, rtol=0)


def test_refusals():
    with pytest.raises(UsageError, match="cutoff of up to 90"):
        CapFilters(120.0, 2)
    filters, weight = CapFilters(20.0, 1), torch.ones(1, 1, 1)
    window = Sphere(Axis("lat", Bounded(35, 70), 15), Axis("lon", Bounded(-12, 42), 28))
    with pytest.raises(GridError, match="go once round"):
        convolve(torch.zeros(1, 1, 15, 28), weight, window, filters)
    with pytest.raises(GridError, match="12x24 points and weights"):
        convolve(torch.zeros(1, 1, 12, 24), torch.ones(2, 1, 1), Sphere.gauss(12, 24), filters)
