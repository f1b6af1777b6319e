"""The random fields against the sums that define their law."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from anygrid.grid import Bounded, Box, Periodic
from anygrid.numerics.random_fields import _draw, cosine_field, periodic_field, sine_field


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_cosine_field_is_the_published_inverse_dct():
    # The published Darcy code: idct2 (orthonormal) of s * tau^(alpha-1) (pi^2 |k|^2 + tau^2)^(-alpha/2) * xi, without the constant mode.
    s, tau, alpha = 24, 3.0, 2.0
    xi = _draw(3, np.arange(s), 2, generator())
    k = np.arange(s)
    c = s * tau ** (alpha - 1) * (math.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** (-alpha / 2) * xi
    c[:, 0, 0] = 0
    published = idctn(c, axes=(1, 2), norm="ortho")
    cells = Box.uniform({"x": Bounded(), "y": Bounded()}, s, placement="cells")
    ours = cosine_field(3, cells, scale=tau ** (alpha - 1), shift=tau**2, power=alpha, modes=s - 1, generator=generator())
    np.testing.assert_allclose(ours.numpy(), published, atol=1e-13)


def test_coefficients_are_independent_standard_normal():
    xi = _draw(400, np.arange(12), 2, generator(5)).reshape(400, -1)
    assert abs(xi.mean()) < 4 / math.sqrt(xi.size)
    assert abs(xi.var() - 1) < 4 * math.sqrt(2 / xi.size)
    correlation = np.corrcoef(xi.T) - np.eye(144)
    assert np.abs(correlation).max() < 5.5 / math.sqrt(400)


@pytest.mark.parametrize("length", [1.0, 2.5])
def test_periodic_variance_of_every_fourier_mode(length):
    # Burgers' published law, mode by mode: E|u_k|^2 with u_k = mean(u exp(-2 pi i k s)) is scale^2 (4 pi^2 k^2 / L^2 + shift)^-power.
    n, modes = 4000, 6
    grid = Box.uniform({"x": Periodic(-1.0, length - 1.0)}, 16)
    u = periodic_field(n, grid, scale=25.0, shift=25.0, power=2.0, modes=modes, generator=generator(1), zero_mean=False)
    power = (torch.fft.fft(u, dim=-1) / 16).abs().square().mean(0)
    k = torch.fft.fftfreq(16, 1 / 16).double()
    expected = torch.where(k.abs() <= modes, 625 * (4 * math.pi**2 * k**2 / length**2 + 25) ** -2.0, 0.0)
    # A squared complex Gaussian scatters by 100 %, the real constant mode by 141 %, of its mean.
    assert torch.all((power - expected).abs() <= 5 * math.sqrt(2 / n) * expected + 1e-25)
    assert power[modes + 1] < 1e-25


def test_periodic_field_in_two_dimensions_is_isotropic_with_the_stated_variance():
    n, modes = 3000, 3
    grid = Box.uniform({"x": Periodic(), "y": Periodic()}, 8)
    u = periodic_field(n, grid, scale=2.0, shift=9.0, power=1.5, modes=modes, generator=generator(2))
    power = (torch.fft.fft2(u) / 64).abs().square().mean(0)
    k = torch.fft.fftfreq(8, 1 / 8).double()
    square = k[:, None] ** 2 + k**2
    expected = 4 * (4 * math.pi**2 * square + 9) ** -1.5
    expected[(k[:, None].abs() > modes) | (k.abs() > modes)] = 0
    expected[0, 0] = 0
    assert torch.all((power - expected).abs() <= 5 * math.sqrt(1 / n) * expected + 1e-25)


def test_root_mean_square_of_the_darcy_field():
    k = np.arange(61)
    variance = 9 * (math.pi**2 * (k[:, None] ** 2 + k**2) + 9.0) ** -2
    variance[0, 0] = 0
    grid = Box.uniform({"x": Bounded(), "y": Bounded()}, 31)
    u = cosine_field(1500, grid, scale=3.0, shift=9.0, power=2.0, modes=60, generator=generator(3))
    mean_square = float((u.square().mean(0) * grid.weights()).sum())
    assert math.sqrt(mean_square) == pytest.approx(math.sqrt(variance.sum()), rel=0.03)
    assert math.sqrt(variance.sum()) == pytest.approx(0.292, abs=5e-4)  # the value the docstring states


def test_sine_field_on_one_mode():
    grid = Box.uniform({"x": Bounded(0, 2), "y": Bounded(0, 1)}, (21, 11))
    u = sine_field(1, grid, scale=3.0, shift=1.0, power=2.0, modes=1, generator=generator(4))[0]
    x, y = grid.points().unbind(-1)
    amplitude = float(_draw(1, np.arange(1, 2), 2, generator(4)).item()) * 3.0 / (math.pi**2 * (1 / 4 + 1) + 1)
    torch.testing.assert_close(u, 2 * amplitude * torch.sin(math.pi * x / 2) * torch.sin(math.pi * y), atol=1e-14, rtol=1e-12)
