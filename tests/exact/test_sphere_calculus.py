"""Vector calculus on the sphere against closed forms."""

import math

import pytest
import torch
from sphere_support import random_coefficients, with_poles

from anygrid.errors import GridError, UsageError
from anygrid.grid import Sphere
from anygrid.numerics.sphere_calculus import (
    exponential_filter,
    gradient,
    hyperdiffusion,
    inverse_laplacian,
    laplacian,
    power_by_degree,
    scale_degrees,
    vorticity_divergence,
    wind,
)
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise

GRIDS = [Sphere.gauss(20, 40), with_poles(41, 82, west=-180.0), Sphere.equiangular(40, 80), Sphere.gauss(69, 138), with_poles(137, 140)]


def _angles(grid):
    return torch.deg2rad(grid.points()).unbind(-1)


@pytest.mark.parametrize("grid", GRIDS)
def test_wind_and_back(grid):
    degree = exact_degree(grid)
    vorticity, divergence = random_coefficients(degree), random_coefficients(degree, seed=1)
    vorticity[:, :, 0] = divergence[:, :, 0] = 0  # no wind has a mean of either
    found = vorticity_divergence(*wind(vorticity, divergence, grid, 3.0), grid, radius=3.0)
    torch.testing.assert_close(found[0], vorticity, atol=1e-10, rtol=0)
    torch.testing.assert_close(found[1], divergence, atol=1e-10, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
def test_closed_forms(grid):
    lat, lon = _angles(grid)
    f = (lat.sin() * lat.cos() * lon.cos())[None, None]
    east, north = gradient(analyse(f, grid), grid, 2.0)
    torch.testing.assert_close(east[0, 0], -lat.sin() * lon.sin() / 2, atol=1e-11, rtol=0)
    torch.testing.assert_close(north[0, 0], (2 * lat).cos() * lon.cos() / 2, atol=1e-11, rtol=0)
    # Solid rotation about an axis in the plane of the equator: wind blows across the poles.
    u, v = (-lat.sin() * lon.cos())[None, None], lon.sin()[None, None]
    vorticity, divergence = vorticity_divergence(u, v, grid, radius=2.0)
    torch.testing.assert_close(synthesise(vorticity, grid)[0, 0], lat.cos() * lon.cos(), atol=1e-11, rtol=0)
    assert float(divergence.abs().max()) < 1e-11
    back = wind(vorticity, divergence, grid, 2.0)
    torch.testing.assert_close(back[0], u, atol=1e-11, rtol=0)
    torch.testing.assert_close(back[1], v, atol=1e-11, rtol=0)


def test_a_gradient_has_no_vorticity_and_its_divergence_is_the_laplacian():
    grid, c = Sphere.gauss(70, 140), random_coefficients(69)
    vorticity, divergence = vorticity_divergence(*gradient(c, grid, 2.0), grid, radius=2.0)
    assert float(vorticity.abs().max()) < 1e-9
    torch.testing.assert_close(divergence, laplacian(c, 2.0), atol=1e-9, rtol=1e-11)


def test_laplacian_and_its_inverse():
    c = random_coefficients(12)
    back = inverse_laplacian(laplacian(c, 5.0), 5.0)
    torch.testing.assert_close(back[:, :, 1:], c[:, :, 1:])
    assert float(back[:, :, 0].abs().max()) == 0
    one = torch.zeros(1, 1, 4, 4, 2, dtype=torch.float64)
    one[..., 3, 2, 0] = 1
    assert float(laplacian(one, 2.0)[..., 3, 2, 0]) == -3.0


@pytest.mark.parametrize("grid", [Sphere.gauss(20, 40), Sphere.gauss(69, 138)])
def test_power_adds_up_to_the_mean_square(grid):
    u = synthesise(random_coefficients(exact_degree(grid)), grid)
    power = power_by_degree(analyse(u, grid))
    torch.testing.assert_close(power.sum(-1), (u.square() * grid.weights()).sum((-2, -1)) / (4 * math.pi))
    one = torch.zeros(1, 1, 4, 4, 2, dtype=torch.float64)
    one[..., 3, 2, 1] = 1
    torch.testing.assert_close(power_by_degree(one)[0, 0], torch.tensor([0, 0, 0, 2 / (4 * math.pi)], dtype=torch.float64))


def test_filters():
    decay = hyperdiffusion(10, 2.0, 4.0, power=2)
    assert float(decay[0]) == 1.0
    assert math.isclose(float(decay[10]), math.exp(-0.5))
    assert math.isclose(float(decay[5]), math.exp(-0.5 * (30 / 110) ** 2))
    torch.testing.assert_close(hyperdiffusion(10, 1.0, 4.0) ** 2, hyperdiffusion(10, 2.0, 4.0))
    sharp = exponential_filter(10, 36.0, 8)
    assert float(sharp[0]) == 1.0
    assert math.isclose(float(sharp[10]), math.exp(-36))
    c = random_coefficients(10)
    torch.testing.assert_close(scale_degrees(c, sharp)[0, 0, 7, 3], c[0, 0, 7, 3] * sharp[7])
    assert scale_degrees(c.float(), sharp).dtype == torch.float32


def test_gradients_of_the_vector_transforms():
    grid = Sphere.gauss(4, 8)
    u, v = (torch.randn(1, 1, 4, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: vorticity_divergence(a, b, grid), (u, v))
    c, d = (torch.randn(1, 1, 4, 4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: wind(a, b, grid), (c, d))
    assert torch.autograd.gradcheck(lambda a: gradient(a, grid), c)


def test_refusals():
    grid = Sphere.gauss(6, 12)
    with pytest.raises(GridError, match="u and v on 6x12 points"):
        vorticity_divergence(torch.zeros(1, 1, 12, 6), torch.zeros(1, 1, 12, 6), grid)
    with pytest.raises(UsageError, match="timescale > 0"):
        hyperdiffusion(5, 1.0, 0.0)
    with pytest.raises(UsageError, match="power >= 1"):
        exponential_filter(5, power=0)
