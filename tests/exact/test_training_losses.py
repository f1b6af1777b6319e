import math

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.grid import Bounded, Box, Periodic, Sphere
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


def test_gradient_needs_a_box() -> None:
    grid = Sphere.equiangular(4, 8)
    with pytest.raises(UsageError, match="Box"):
        _norm(1.0)(torch.ones(1, 1, 4, 8), torch.ones(1, 1, 4, 8), grid)


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
