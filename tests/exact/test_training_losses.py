import math

import numpy as np
import pytest
import torch

from anygrid.errors import UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.training.losses import RelativeNorm


def _norm(gradient: float = 0.0, channels: int = 1) -> RelativeNorm:
    return RelativeNorm(torch.ones(channels), torch.ones(channels), gradient)


def test_equals_the_ratio_of_integrals() -> None:
    # u - v = 0.1 x, v = x^2 on [0, 1]: sqrt(0.01 / 3) / sqrt(1 / 5), with the trapezoid rule's second order
    errors = []
    for n in (65, 129):
        grid = Box.uniform({"x": Bounded(0, 1)}, n)
        x = grid.points()[None, None, :, 0]
        errors.append(abs(float(_norm()(x**2 + 0.1 * x, x**2, grid)) - math.sqrt(0.01 / 3) / math.sqrt(0.2)))
    assert errors[0] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_is_the_mean_over_samples_of_each_ratio() -> None:
    grid = Box.uniform({"x": Periodic()}, 16)
    v = torch.stack([torch.ones(1, 16), 100 * torch.ones(1, 16)])
    u = v + torch.tensor([0.5, 10.0]).view(2, 1, 1)
    assert _norm().per_sample(u, v, grid).tolist() == pytest.approx([0.5, 0.1])
    assert float(_norm()(u, v, grid)) == pytest.approx(0.3)


def test_uneven_points_count_by_their_weight() -> None:
    grid = Sphere.equiangular(16, 32)
    lat = torch.deg2rad(grid.points()[..., 0])
    v = torch.ones(1, 1, 16, 32, dtype=torch.float64)
    # mean of sin(lat)^2 over the sphere is 1/3; an unweighted mean over these points would be 1/2
    assert float(_norm()(v + lat.sin(), v, grid)) == pytest.approx(math.sqrt(1 / 3), rel=5e-3)


def test_channels_count_in_their_own_units() -> None:
    grid = Box.uniform({"x": Periodic()}, 8)
    v = torch.stack([torch.full((8,), 3e5), torch.full((8,), 4e-3)])[None]
    loss = RelativeNorm(torch.tensor([1e5, 1e-3]), torch.tensor([3e5, 4e-3]))
    u = v + torch.tensor([1e5, 1e-3]).view(1, 2, 1)
    assert float(loss(u, v, grid)) == pytest.approx(math.sqrt(2) / 5)


def test_channel_without_scale_does_not_count() -> None:
    grid = Box.uniform({"x": Periodic()}, 8)
    v = torch.ones(1, 2, 8)
    loss = RelativeNorm(torch.tensor([1.0, 0.0]), torch.ones(2))
    assert float(loss(v + torch.tensor([0.0, 7.0]).view(1, 2, 1), v, grid)) < 1e-6


def test_truth_of_zero_gives_a_finite_loss_and_gradient() -> None:
    grid = Box.uniform({"x": Periodic()}, 8)
    u = torch.full((1, 1, 8), 1e-3, requires_grad=True)
    loss = _norm()(u, torch.zeros(1, 1, 8), grid)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert torch.isfinite(u.grad).all()


def test_perfect_prediction_has_no_gradient_of_nan() -> None:
    grid = Box.uniform({"x": Periodic()}, 8)
    u = torch.ones(1, 1, 8, requires_grad=True)
    _norm()(u, torch.ones(1, 1, 8), grid).backward()
    assert u.grad is not None
    assert u.grad.abs().max() == 0


@pytest.mark.parametrize("axis", [Periodic(0, 3), Bounded(0, 3)])
def test_gradient_weight_one_counts_the_slowest_wave_twice(axis: object) -> None:
    # with lengths in units of L / 2 pi, |f|^2 + |f'|^2 of cos(2 pi k x / L) is (1 + k^2) |f|^2
    grid = Box.uniform({"x": axis}, 513)
    x = grid.points()[None, None, :, 0] / 3
    slow, fast = torch.cos(2 * math.pi * x), torch.cos(2 * math.pi * 3 * x)
    loss = _norm(gradient=1.0)
    assert float(loss(slow + 0.1 * fast, slow, grid)) == pytest.approx(0.1 * math.sqrt(10 / 2), rel=2e-3)


def test_gradient_in_two_dimensions_is_the_sum_over_axes() -> None:
    grid = Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 2)}, (128, 257))
    x, y = grid.points().unbind(-1)
    v, e = torch.cos(2 * math.pi * x), torch.cos(2 * math.pi * 2 * x) * torch.cos(math.pi * y)
    # |v|^2 (1 + 1), and |e|^2 (1 + 4 + 1) with |e|^2 = |v|^2 / 2
    assert float(_norm(1.0)(v[None, None] + e[None, None], v[None, None], grid)) == pytest.approx(math.sqrt(0.5 * 6 / 2), rel=2e-3)


def test_other_weights_of_the_gradient_are_other_norms() -> None:
    grid = Box.uniform({"x": Periodic()}, 64)
    x = 2 * math.pi * grid.points()[..., 0]
    u, v = torch.sin(3 * x)[None, None], torch.cos(x)[None, None]
    loss = _norm(gradient=0.5)
    # |u - v|^2 = 1/2 + 1/2 and its gradient 9/2 + 1/2; of v 1/2 and 1/2; differences of neighbours are second order
    for weight in (0.5, 2.0, 0.0, 0.5):
        wanted = math.sqrt((1 + 5 * weight) / (0.5 + 0.5 * weight))
        assert float(loss.weighted(weight)(u, v, grid)) == pytest.approx(wanted, rel=5e-3)
        assert float(_norm(gradient=weight)(u, v, grid)) == pytest.approx(wanted, rel=5e-3)
    assert float(loss.plain(u, v, grid)) == pytest.approx(math.sqrt(2), rel=1e-6)
    assert loss.gradient == 0.5


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gradient_on_the_sphere_counts_a_harmonic_by_its_eigenvalue(degree: int) -> None:
    # |Y|^2 + (radius^2 / 2) |grad Y|^2 = (1 + l (l + 1) / 2) |Y|^2 for sectoral, zonal and other harmonics alike
    errors = []
    for n in (64, 128):
        for grid in (Sphere.equiangular(n, 2 * n), Sphere.gauss(n, 2 * n), _with_poles(n)):
            lat, lon = torch.deg2rad(grid.points()).unbind(-1)
            zonal = {1: lat.sin(), 2: 3 * lat.sin() ** 2 - 1, 3: 5 * lat.sin() ** 3 - 3 * lat.sin()}[degree]
            for f in (zonal, (degree * lon).cos() * lat.cos() ** degree):
                slow = lat.sin()
                scale = _norm()((slow + 0.1 * f)[None, None], slow[None, None], grid)
                found = _norm(1.0)((slow + 0.1 * f)[None, None], slow[None, None], grid)
                errors.append(abs(float(found / scale) / math.sqrt((1 + degree * (degree + 1) / 2) / 2) - 1))
    half = len(errors) // 2
    assert max(errors[half:]) < 1e-3
    assert max(errors[:half]) / max(errors[half:]) > 3.5


def _with_poles(n: int) -> Sphere:
    lat = Axis("lat", Bounded(-90, 90), n + 1, "vertices")
    return Sphere(lat, Sphere.equiangular(n, 2 * n).lon)


def test_gradient_on_a_window_of_the_sphere() -> None:
    # u = longitude on 10..50 E, 20..60 N: the integral of 1 / cos over latitudes is log(tan(45 + lat / 2)), that of cos is sin
    grid = Sphere(Axis("lat", Bounded(20, 60), 200, "cells"), Axis("lon", Bounded(10, 50), 200, "cells"))
    lon = torch.deg2rad(grid.points()[None, None, ..., 1])
    low, high = (math.log(math.tan(math.pi / 4 + math.radians(at) / 2)) for at in (20, 60))
    area = math.sin(math.radians(60)) - math.sin(math.radians(20))
    # cells leave out half a gap at either end of the 200 longitudes
    wanted = 0.5 * (high - low) / area * 199 / 200
    one = torch.ones_like(lon)
    found = _norm(1.0)(one + 0.1 * lon, one, grid) ** 2 / 0.01 - _norm()(one + 0.1 * lon, one, grid) ** 2 / 0.01
    assert float(found) == pytest.approx(wanted, rel=1e-3)


def test_gradient_needs_neighbours() -> None:
    grid = Points(np.zeros((3, 1)), ("x",), (Bounded(0, 1),))
    with pytest.raises(UsageError, match="a Box or a Sphere"):
        _norm(1.0)(torch.ones(1, 1, 3), torch.ones(1, 1, 3), grid)


def test_value_does_not_depend_on_the_resolution() -> None:
    values = []
    for n in (32, 48, 256):
        grid = Box.uniform({"x": Periodic()}, n)
        x = 2 * math.pi * grid.points()[None, None, :, 0]
        values.append(float(_norm()(x.sin() + 0.1 * (3 * x).cos(), x.sin(), grid)))
    assert values == pytest.approx([0.1] * 3, rel=1e-12)


def test_precision_is_that_of_the_fields_whatever_was_asked_before() -> None:
    # A resumed training may ask for float32 first, one that was not stopped for float64.
    grid, norm = Box.uniform({"x": Periodic()}, 7), _norm(0.1)
    u, v = torch.randn(2, 3, 1, 7, dtype=torch.float64)
    norm(u, v, grid)
    after = norm(u.float(), v.float(), grid)
    assert after.dtype == torch.float32
    assert torch.equal(after, _norm(0.1)(u.float(), v.float(), grid))
