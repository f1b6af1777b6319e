"""Metrics against independent implementations."""

import numpy as np
import pytest
import torch
from scipy import signal, stats

from anygrid.grid import Box, Periodic, Sphere
from anygrid.metrics.errors import estimate, relative_l2, vrmse
from anygrid.metrics.skill import anomaly_correlation, mse_skill, rmse_by_lead
from anygrid.metrics.spectra import power_spectrum


@pytest.fixture
def fields():
    generator = torch.Generator().manual_seed(4)
    grid = Sphere.gauss(16, 32)
    truth = torch.randn(5, 3, 1, 16, 32, generator=generator, dtype=torch.float64).cumsum(-1)
    u = truth + 0.5 * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    return grid, u, truth


@pytest.mark.slow  # importing xskillscore compiles for some 30 s
def test_rmse_and_correlation_agree_with_xskillscore(fields):
    xs = pytest.importorskip("xskillscore", reason="the peer package xskillscore is not installed")
    xr = pytest.importorskip("xarray")
    grid, u, truth = fields
    weights = xr.DataArray(grid.weights().numpy(), dims=("lat", "lon"))
    a, b = (xr.DataArray(t[:, :, 0].numpy(), dims=("case", "lead", "lat", "lon")) for t in (u, truth))
    theirs = np.sqrt((xs.mse(a, b, dim=["lat", "lon"], weights=weights)).mean("case"))
    assert np.allclose(rmse_by_lead(u, truth, grid)[:, 0].numpy(), theirs, rtol=1e-12)
    # centred correlation equals ours when both anomalies have mean zero over the domain
    w = grid.weights() / grid.weights().sum()
    centred = [t - (t * w).sum((-2, -1), keepdim=True) for t in (u, truth)]
    ours = anomaly_correlation(*centred, torch.zeros(1, 16, 32, dtype=torch.float64), grid)[:, 0].numpy()
    assert np.allclose(ours, xs.pearson_r(a, b, dim=["lat", "lon"], weights=weights).mean("case"), rtol=1e-10)


def test_skill_against_the_mean_is_the_coefficient_of_determination(fields):
    _, u, truth = fields
    grid = Box.uniform({"y": Periodic(), "x": Periodic()}, (16, 32))  # even weights
    mean = truth.mean((0, -2, -1), keepdim=True).expand_as(truth)
    ours = mse_skill(u, truth, mean, grid)[:, 0].numpy()
    for lead in range(3):
        y, f = truth[:, lead].numpy().ravel(), u[:, lead].numpy().ravel()
        assert ours[lead] == pytest.approx(1 - ((y - f) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-12)


def test_relative_l2_is_the_published_ratio_of_norms(fields):
    _, u, truth = fields
    grid = Box.uniform({"y": Periodic(), "x": Periodic()}, (16, 32))
    a, b = u[:, 0], truth[:, 0]
    published = torch.linalg.vector_norm((a - b).flatten(1), dim=1) / torch.linalg.vector_norm(b.flatten(1), dim=1)
    assert torch.allclose(relative_l2(a, b, grid)[:, 0], published, rtol=1e-12)
    well = ((a - b) ** 2).mean((-2, -1)).sqrt() / b.std((-2, -1), correction=0)
    assert torch.allclose(vrmse(a, b, grid), well, rtol=1e-12)


def test_spectrum_agrees_with_scipy_periodogram():
    n = 64
    grid = Box.uniform({"x": Periodic()}, n)
    u = torch.randn(3, 1, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, density = signal.periodogram(u[:, 0].numpy(), fs=n, detrend=False, scaling="spectrum")
    assert np.allclose(power_spectrum(u, grid).power[:, 0].numpy(), density, rtol=1e-10)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(2).exponential(size=60)
    ours = estimate(values, draws=5000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(1)).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
