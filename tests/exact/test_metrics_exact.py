"""Metrics against values known in closed form."""

import math

import numpy as np
import pytest
import torch

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.metrics.errors import area_mean, estimate, largest, relative_h1, relative_l2, rmse, vrmse
from anygrid.metrics.skill import anomaly_correlation, mse_skill, relative_l2_by_lead, rmse_by_lead
from anygrid.metrics.spectra import band_errors, power_spectrum

TAU = 2 * math.pi


def ring(n=64, length=1.0):
    return Box.uniform({"x": Periodic(0, length)}, n)


def sine(grid, k, amplitude=1.0):
    x = grid.points()[..., 0] / grid.domain[0].length
    return amplitude * torch.sin(TAU * k * x)[None, None]


def test_relative_l2_of_scaled_field_is_the_scale():
    grid = Box.uniform({"x": Bounded(), "y": Periodic(0, 3)}, (17, 12))
    u = torch.rand(3, 2, *grid.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    assert torch.allclose(relative_l2(1.25 * u, u, grid), torch.full((3, 2), 0.25, dtype=torch.float64), atol=1e-6)


def test_relative_l2_weighs_uneven_points_by_length():
    # u = 1 on [0, 1]; the error is 1 at nodes that stand for exactly half of the interval
    nodes = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.7, 1.0)
    grid = Box((Axis("x", Bounded(), 8, "nodes", nodes),))
    ones = torch.ones(1, 1, 8)
    error = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 0])  # node 0.7 reaches from 0.5 to 0.85
    assert relative_l2(ones + error, ones, grid).item() == pytest.approx(math.sqrt(0.35), rel=1e-6)


def test_h1_of_one_wave():
    # |v|^2 = 1/2 and L^2 |v'|^2 = (2 pi k)^2 / 2 whatever the length
    for length in (1.0, 5.0):
        grid = ring(64, length)
        v, e = sine(grid, 2), sine(grid, 5, 0.1)
        expected = 0.1 * math.sqrt((1 + (TAU * 5) ** 2) / (1 + (TAU * 2) ** 2))
        assert relative_h1(v + e, v, grid).item() == pytest.approx(expected, rel=1e-9)


def test_h1_on_the_sphere_is_that_of_a_harmonic():
    # sin(latitude) is an eigenfunction of the Laplacian with eigenvalue -2: |grad v|^2 = 2 |v|^2
    grid = Sphere.gauss(64, 128)
    lat = torch.deg2rad(grid.points()[..., 0])
    v = torch.sin(lat)[None, None]
    e = torch.ones_like(v)
    expected = math.sqrt(1 / ((1 / 3) * 3))
    assert relative_h1(v + e, v, grid).item() == pytest.approx(expected, rel=1e-3)


def test_h1_refuses_scattered_points():
    grid = Points(np.random.default_rng(0).random((9, 2)), ("x", "y"), (Bounded(), Bounded()))
    with pytest.raises(GridError):
        relative_h1(torch.ones(1, 1, 9), torch.ones(1, 1, 9), grid)


def test_vrmse_is_one_for_the_mean_and_ignores_offset():
    grid = Sphere.gauss(8, 16)
    v = torch.rand(2, 1, 8, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1000
    mean = area_mean(v, grid)[..., None, None].expand_as(v)
    assert torch.allclose(vrmse(mean, v, grid), torch.ones(2, 1, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(vrmse(mean - 1000, v - 1000, grid), vrmse(mean, v, grid), atol=1e-6)


def test_rmse_and_largest_of_a_wave():
    grid = ring(64)
    v = torch.zeros(1, 1, 64)
    assert rmse(sine(grid, 3, 2.0), v.double(), grid).item() == pytest.approx(math.sqrt(2), rel=1e-12)
    assert largest(sine(grid, 16, 2.0), v.double(), grid).item() == pytest.approx(2.0, rel=1e-12)


def test_area_mean_on_the_sphere():
    grid = Sphere.equiangular(180, 16)
    lat = torch.deg2rad(grid.points()[..., 0])
    assert area_mean(torch.sin(lat) ** 2, grid).item() == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize("n", [32, 33])
def test_fourier_spectrum_puts_a_wave_into_its_shell(n):
    found = power_spectrum(sine(ring(n), 5, 3.0), ring(n))
    expected = torch.zeros_like(found.power)
    expected[..., 5] = 4.5
    assert torch.allclose(found.power, expected, atol=1e-12)


@pytest.mark.parametrize("placement", ["vertices", "cells"])
@pytest.mark.parametrize("half_waves", [4, 10])
def test_cosine_spectrum_puts_a_wave_into_its_shell(placement, half_waves):
    grid = Box.uniform({"x": Bounded(0, 2)}, 33, placement=placement)
    u = torch.cos(math.pi * half_waves * grid.points()[..., 0] / 2)[None, None]
    power = power_spectrum(u, grid).power[0, 0]
    assert power[half_waves // 2].item() == pytest.approx(0.5, rel=1e-9)
    assert power.sum().item() == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(
    "grid",
    [
        ring(31),
        Box.uniform({"x": Bounded(), "y": Periodic(0, 2)}, (17, 12)),
        Box.uniform({"x": Bounded(), "y": Bounded(0, 3)}, (9, 14), placement="cells"),
        Box.uniform({"x": Bounded(), "y": Bounded(), "z": Periodic()}, (6, 5, 8)),
        Sphere.gauss(8, 15),
        Sphere.equiangular(7, 12),
        Sphere(Axis("lat", Bounded(30, 60), 7), Axis("lon", Bounded(0, 20), 9)),
    ],
    ids=["ring", "mixed", "cells", "3d", "gauss", "equiangular", "window"],
)
def test_powers_add_up_to_the_mean_square(grid):
    u = torch.randn(2, 1, *grid.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.7
    power = power_spectrum(u, grid).power.sum(-1)
    assert torch.allclose(power, area_mean(u**2, grid), rtol=1e-10)


def test_diagonal_wave_has_the_length_of_its_vector():
    grid = Box.uniform({"x": Periodic(), "y": Periodic()}, 32)
    p = grid.points()
    u = torch.cos(TAU * (3 * p[..., 0] + 4 * p[..., 1]))[None, None]
    power = power_spectrum(u, grid).power[0, 0]
    assert power[5].item() == pytest.approx(0.5, rel=1e-9)
    assert power.sum().item() == pytest.approx(0.5, rel=1e-9)


def test_uneven_axis_is_made_even_first():
    x = np.linspace(0, 1, 200) ** 1.1
    grid = Box((Axis("x", Bounded(), 200, "nodes", tuple(x)),))
    u = torch.cos(torch.from_numpy(x) * math.pi * 6)[None, None]
    power = power_spectrum(u, grid).power[0, 0]
    assert power[3].item() == pytest.approx(0.5, rel=1e-2)


def test_band_errors_see_only_their_band():
    grid = ring(128)
    v = sine(grid, 2) + sine(grid, 8, 0.5) + sine(grid, 30, 0.1)
    errors = band_errors(v + sine(grid, 8, 0.05), v, grid)
    assert errors["low"].item() == pytest.approx(0, abs=1e-12)
    assert errors["mid"].item() == pytest.approx(0.1, rel=1e-9)
    assert errors["high"].item() == pytest.approx(0, abs=1e-9)


def test_band_the_grid_does_not_carry_is_nan():
    grid = ring(16)
    assert math.isnan(band_errors(sine(grid, 2), sine(grid, 3), grid)["high"].item())


def test_skill_by_lead():
    grid = Sphere.gauss(6, 12)
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(4, 3, 2, 6, 12, generator=generator, dtype=torch.float64)
    noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    factor = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)[:, None, None, None]
    reference = truth + noise
    u = truth + factor * noise
    skill = mse_skill(u, truth, reference, grid)
    assert torch.allclose(skill, (1 - factor[:, 0, 0, 0] ** 2)[:, None].expand(3, 2), atol=1e-12)
    assert torch.allclose(rmse_by_lead(u, truth, grid), factor[:, 0, 0] * rmse_by_lead(reference, truth, grid), atol=1e-12)
    assert torch.allclose(relative_l2_by_lead(1.5 * truth, truth, grid), torch.full((4, 3, 2), 0.5, dtype=torch.float64))


def test_anomaly_correlation_of_scaled_and_reversed_anomalies():
    grid = Sphere.gauss(6, 12)
    truth = torch.randn(4, 2, 1, 6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    climatology = truth.mean((0, 1)) + 3
    anomaly = truth - climatology
    assert torch.allclose(anomaly_correlation(climatology + 0.3 * anomaly, truth, climatology, grid), torch.ones(2, 1, dtype=torch.float64))
    assert torch.allclose(anomaly_correlation(climatology - anomaly, truth, climatology, grid), -torch.ones(2, 1, dtype=torch.float64))


def test_estimate_interval_of_a_known_mean():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    found = estimate(values)
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_estimate_never_drops_what_is_not_finite():
    found = estimate(np.array([1.0, np.nan, 2.0, np.inf]))
    assert found.bad == 2
    assert math.isnan(found.mean)
    with pytest.raises(UsageError):
        estimate(np.array([]))
