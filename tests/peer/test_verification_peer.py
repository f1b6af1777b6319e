"""Scores of ensembles against scoringrules and xskillscore, to 1e-10."""

import numpy as np
import pytest
import torch

from anygrid.grid import Sphere
from anygrid.metrics.events import brier, event_table, reliability, roc_area
from anygrid.metrics.probabilistic import crps, gaussian_crps, pointwise_crps
from anygrid.metrics.quantiles import member_quantiles, pinball
from anygrid.metrics.ranks import ranks

GRID = Sphere.gauss(8, 16)
FLAT = Sphere.gauss(1, 64)  # all areas are equal, for peers that know no weights
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(4, 2, 1, *GRID.shape, generator=generator, dtype=torch.float64)
    return 0.6 * y + torch.randn(9, *y.shape, generator=generator, dtype=torch.float64), y


@pytest.fixture
def flat():
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(40, 1, 1, 1, 64, generator=generator, dtype=torch.float64)
    return 0.6 * y + torch.randn(10, *y.shape, generator=generator, dtype=torch.float64), y


def test_crps_agrees_with_scoringrules(drawn):
    sr = pytest.importorskip("scoringrules", reason="the peer package scoringrules is not installed")
    x, y = drawn
    for alpha, estimator in ((1.0, "fair"), (0.0, "nrg"), (0.0, "pwm")):
        # the probability-weighted-moments estimator is the fair one in scoringrules
        wanted = sr.crps_ensemble(y.numpy(), x.numpy(), m_axis=0, estimator=estimator)
        ours = pointwise_crps(x, y, alpha=1.0 if estimator == "pwm" else alpha)
        np.testing.assert_allclose(ours.numpy(), wanted, **CLOSE)
    almost = 0.95 * sr.crps_ensemble(y.numpy(), x.numpy(), m_axis=0, estimator="fair") + 0.05 * sr.crps_ensemble(
        y.numpy(), x.numpy(), m_axis=0, estimator="nrg"
    )
    np.testing.assert_allclose(pointwise_crps(x, y, alpha=0.95).numpy(), almost, **CLOSE)
    spread = x.std(0)
    np.testing.assert_allclose(gaussian_crps(x.mean(0), spread, y), sr.crps_normal(y.numpy(), x.mean(0).numpy(), spread.numpy()), **CLOSE)


def test_quantile_score_agrees_with_scoringrules(drawn):
    sr = pytest.importorskip("scoringrules", reason="the peer package scoringrules is not installed")
    x, y = drawn
    for level in (0.01, 0.5, 0.95):
        q = member_quantiles(x, (level,))
        np.testing.assert_allclose(q[0], np.quantile(x.numpy(), level, axis=0), **CLOSE)
        wanted = (sr.quantile_score(y.numpy(), q[0].numpy(), level) * GRID.mean_weights().numpy()).sum((-2, -1))
        np.testing.assert_allclose(pinball(q, y, (level,), GRID)[..., 0], wanted, **CLOSE)


@pytest.mark.slow  # importing xskillscore compiles for some 30 s
def test_scores_agree_with_xskillscore(drawn, flat):
    xs = pytest.importorskip("xskillscore", reason="the peer package xskillscore is not installed")
    xr = pytest.importorskip("xarray")
    x, y = drawn
    dims = ("case", "lead", "channel", "lat", "lon")
    weights = xr.DataArray(GRID.weights().numpy(), dims=("lat", "lon"))
    theirs = xs.crps_ensemble(
        xr.DataArray(y.numpy(), dims=dims), xr.DataArray(x.numpy(), dims=("member", *dims)), dim=["lat", "lon"], weights=weights
    )
    np.testing.assert_allclose(crps(x, y, GRID, alpha=0.0), theirs, **CLOSE)

    x, y = (t.flatten(-5) for t in flat)
    u, v = xr.DataArray(x.numpy(), dims=("member", "point")), xr.DataArray(y.numpy(), dims="point")
    histogram = xs.rank_histogram(v, u, dim="point").values
    np.testing.assert_array_equal(ranks(x, y, torch.Generator()).bincount(minlength=11), histogram)

    x, y = flat
    count = (x > 0.5).sum(0)
    table = event_table(count, y > 0.5, 10, FLAT).mean((0, 1, 2))
    parts, event, said = brier(table), (v > 0.5).astype(float), (u > 0.5).mean("member")
    np.testing.assert_allclose(parts.score, xs.brier_score(event, said, dim="point"), **CLOSE)
    np.testing.assert_allclose(parts.fair, xs.brier_score(event, u > 0.5, member_dim="member", fair=True, dim="point"), **CLOSE)
    np.testing.assert_allclose(roc_area(table), xs.roc(event, said, dim="point", return_results="area"), **CLOSE)
    edges = np.linspace(0, 1, 6) - 1e-9  # ours: a probability on an edge belongs to the upper bin
    edges[-1] = 1.0
    theirs = xs.reliability(event.astype(bool), said, dim="point", probability_bin_edges=edges)
    ours = reliability(table, bins=5)
    np.testing.assert_allclose(ours.observed, theirs.values, **CLOSE)
    np.testing.assert_allclose(ours.share * count.numel(), theirs["samples"].values, rtol=1e-10)
