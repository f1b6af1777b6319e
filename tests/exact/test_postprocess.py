"""Calibration recovers what was done to a synthetic ensemble, and keeps its guarantees."""

import math

import pytest
import torch

from anygrid.errors import DataError, UsageError
from anygrid.grid import Sphere
from anygrid.metrics.events import brier, event_table
from anygrid.metrics.probabilistic import gaussian_crps
from anygrid.postprocess import fit_conformal, fit_emos, fit_isotonic

GRID = Sphere.gauss(6, 12)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def statistics(cases, seed=0):
    """Mean and variance of an ensemble, and a truth drawn from N(2 + 0.8 mean, 0.5 + 3 variance) at one lead, another at the second."""
    mean = 280 + 5 * normal(cases, 2, 1, *GRID.shape, seed=seed)
    variance = torch.rand(mean.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * 2 + 0.1
    noise = normal(*mean.shape, seed=seed + 2)
    a, b, c, d = (torch.tensor(v, dtype=torch.float64).reshape(2, 1, 1, 1) for v in ((2.0, -1.0), (0.8, 1.0), (0.5, 0.0), (3.0, 2.0)))
    return mean, variance, a + b * mean + (c + d * variance).sqrt() * noise


def test_emos_recovers_the_coefficients():
    mean, variance, truth = statistics(600)
    found = fit_emos(mean, variance, truth, GRID)
    # a and b go together about a mean of 280: judged where the data are
    assert torch.allclose(found.a + 280 * found.b, torch.tensor([[2 + 0.8 * 280], [279.0]], dtype=torch.float64), atol=0.03)
    assert torch.allclose(found.b, torch.tensor([[0.8], [1.0]], dtype=torch.float64), atol=0.01)
    assert torch.allclose(found.c, torch.tensor([[0.5], [0.0]], dtype=torch.float64), atol=0.15)
    assert torch.allclose(found.d, torch.tensor([[3.0], [2.0]], dtype=torch.float64), atol=0.15)


def test_emos_lowers_the_crps_of_new_cases_to_that_of_the_true_law():
    fit, new = statistics(300), statistics(200, seed=50)
    mu, sigma = fit_emos(*fit, GRID).distribution(new[0], new[1])
    raw = gaussian_crps(new[0], new[1].sqrt(), new[2]).mean()
    calibrated = gaussian_crps(mu, sigma, new[2]).mean()
    # the least expected CRPS of a normal law is sigma / sqrt(pi)
    least = torch.stack([(0.5 + 3 * new[1][:, 0]).sqrt(), (2 * new[1][:, 1]).sqrt()]).mean() / math.sqrt(math.pi)
    assert calibrated.item() == pytest.approx(least.item(), rel=0.02)
    assert calibrated < 0.5 * raw


def test_calibrated_members_have_the_calibrated_mean_and_spread_and_keep_their_ranks():
    x = 280 + normal(7, 30, 1, 1, *GRID.shape, seed=3)
    truth = 1 + x.mean(0) + 2 * normal(30, 1, 1, *GRID.shape, seed=4)
    found = fit_emos(x.mean(0), x.var(0), truth, GRID)
    new = found.members(x)
    mu, sigma = found.distribution(x.mean(0), x.var(0))
    assert torch.allclose(new.mean(0), mu)
    assert torch.allclose(new.std(0), sigma)
    assert torch.equal(new.argsort(0), x.argsort(0))


def test_too_few_pairs_are_refused():
    with pytest.raises(DataError, match="at least 20"):
        fit_emos(*(torch.full((2, 1, 1, *GRID.shape), torch.nan, dtype=torch.float64) for _ in range(3)), GRID)


def test_isotonic_probabilities_are_reliable_and_never_raise_the_brier_score():
    y = normal(40, 1, 1, *GRID.shape, seed=1)
    x = 2.5 * (y + normal(9, *y.shape, seed=2) * 0.4)  # overconfident
    count, happened = (x > 1.0).sum(0), y > 1.0
    table = event_table(count, happened, 9, GRID)
    fit = fit_isotonic(table[:20].mean((0, 1, 2)))
    assert (fit.value[1:] >= fit.value[:-1]).all()
    area = GRID.mean_weights()

    def score(p, part):
        return (((p - happened.double()) ** 2)[part] * area).sum((-1, -2)).mean().item()

    raw, new = count.double() / 9, fit(count.double() / 9)
    assert score(new, slice(0, 20)) <= score(raw, slice(0, 20))
    assert score(new, slice(20, None)) < score(raw, slice(20, None))
    # no function of the raw probability has a lower score than the frequencies themselves, rising or not
    parts = brier(table[:20].mean((0, 1, 2)))
    assert score(new, slice(0, 20)) == pytest.approx((parts.score - parts.reliability).item(), rel=0.02)
    assert score(new, slice(0, 20)) >= (parts.score - parts.reliability).item() - 1e-12


@pytest.mark.parametrize(("over", "cases"), [("field", 39), ("point", 19)])
def test_the_conformal_guarantee_holds_and_is_sharp(over, cases):
    # Errors of a skew law that is no one's scale: coverage must not depend on it.
    trials, hits = 150, []
    for seed in range(trials):
        error = torch.rand(cases + 20, 1, 1, *GRID.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3
        error = error * (1 + torch.rand(cases + 20, 1, 1, 1, 1, generator=torch.Generator().manual_seed(seed + 999), dtype=torch.float64))
        zero, one = torch.zeros_like(error), torch.full_like(error, 0.3)
        band = fit_conformal(zero[:cases], one[:cases], error[:cases], coverage=0.8, over=over)
        hits.append(band.holds(zero[cases:], one[cases:], error[cases:]).double().mean().item())
    found = sum(hits) / trials
    # exactly ceil((n + 1) 0.8) / (n + 1) = 0.8 in both cases
    assert found == pytest.approx(0.8, abs=0.02)


def test_a_conformal_band_over_fields_is_wider_than_at_points_and_needs_enough_cases():
    truth = normal(40, 1, 1, *GRID.shape)
    zero, one = torch.zeros_like(truth), torch.ones_like(truth)
    field, point = (fit_conformal(zero, one, truth, coverage=0.9, over=over) for over in ("field", "point"))
    assert (field.width > point.width.amax()).all()
    low, high = field.band(zero, 2 * one)
    assert torch.allclose(high - low, 4 * field.width.item() * one)
    with pytest.raises(UsageError, match="at least 9 validation cases"):
        fit_conformal(zero[:8], one[:8], truth[:8], coverage=0.9)
    with pytest.raises(UsageError, match="scales above 0"):
        fit_conformal(zero, zero, truth)
