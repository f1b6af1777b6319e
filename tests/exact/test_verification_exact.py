"""Scores of ensembles against closed forms and identities."""

import itertools
import math

import pytest
import torch
from scipy import stats

from anygrid.errors import UsageError
from anygrid.grid import Sphere
from anygrid.metrics import bootstrap as boot
from anygrid.metrics.events import brier, event_table, reliability, roc_area
from anygrid.metrics.member_tally import MemberTally
from anygrid.metrics.probabilistic import crps, gaussian_crps, pointwise_crps, spread_and_error, spread_skill_ratio
from anygrid.metrics.quantiles import coverage, expected_coverage, member_quantiles, pinball
from anygrid.metrics.ranks import flatness, rank_histogram, ranks
from anygrid.metrics.skill import activity, bias_by_lead, energy_by_wavenumber
from anygrid.numerics.sphere_fields import sphere_field

GRID = Sphere.gauss(8, 16)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ensemble(members=6, cases=5, spread=1.0, seed=0):
    drawn = normal(members + 1, cases, 2, 1, *GRID.shape, seed=seed)
    return spread * drawn[1:], drawn[0]


def test_crps_of_two_members_by_hand():
    x, y = torch.tensor([[1.0], [4.0]]), torch.tensor([2.0])
    # distances 1 and 2; half the mean distance of different members is 1.5, of all pairs 0.75
    assert pointwise_crps(x, y).item() == pytest.approx(1.5 - 1.5)
    assert pointwise_crps(x, y, alpha=0.0).item() == pytest.approx(1.5 - 0.75)
    assert pointwise_crps(x, y, alpha=0.95).item() == pytest.approx(0.05 * 0.75)


def test_the_fair_crps_does_not_depend_on_the_number_of_members():
    x, y = ensemble(members=6)
    parts = [pointwise_crps(x[list(some)], y) for some in itertools.combinations(range(6), 3)]
    assert torch.allclose(torch.stack(parts).mean(0), pointwise_crps(x, y), atol=1e-13)
    plain = [pointwise_crps(x[list(some)], y, alpha=0.0) for some in itertools.combinations(range(6), 3)]
    assert (torch.stack(plain).mean(0) > pointwise_crps(x, y, alpha=0.0)).all()


def test_crps_of_many_members_is_the_gaussian_one_and_an_offset_costs_no_digits():
    levels = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    x = 2.0 + 3.0 * torch.special.ndtri(levels)[:, None]
    y = torch.tensor([4.5], dtype=torch.float64)
    exact = gaussian_crps(torch.tensor([2.0]), torch.tensor([3.0]), y)
    assert pointwise_crps(x, y, alpha=0.0).item() == pytest.approx(exact.item(), rel=1e-6)
    assert pointwise_crps(x + 1e6, y + 1e6).item() == pytest.approx(pointwise_crps(x, y).item(), rel=1e-9)
    assert gaussian_crps(y, torch.zeros(1), y + 2).item() == pytest.approx(2.0)


def test_crps_of_one_member_is_its_error_and_fairness_needs_two():
    x, y = ensemble(members=1)
    weights = GRID.mean_weights()
    assert torch.allclose(crps(x, y, GRID, alpha=0.0), ((x[0] - y).abs() * weights).sum((-1, -2)))
    with pytest.raises(UsageError, match="2 members"):
        crps(x, y, GRID)


def test_spread_skill_is_one_for_exchangeable_members_of_any_number():
    for members in (2, 5):
        x, y = ensemble(members, cases=200)
        variance, error = spread_and_error(x, y, GRID)
        assert spread_skill_ratio(variance, error, members).mean().item() == pytest.approx(1.0, abs=0.01)
    narrow, y = ensemble(5, cases=200, spread=0.5)
    # errors of the mean 1 + 0.25 / 5, spread 0.25
    expected = math.sqrt(6 / 5 * 0.25 / 1.05)
    assert spread_skill_ratio(*spread_and_error(narrow, y, GRID), 5).mean().item() == pytest.approx(expected, abs=0.01)


def test_random_ties_give_each_rank_its_chance():
    x, y = torch.zeros(4, 50000), torch.zeros(50000)
    found = ranks(x, y, torch.Generator().manual_seed(0)).bincount(minlength=5) / 50000
    assert torch.allclose(found, torch.full((5,), 0.2), atol=0.01)
    assert ranks(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([2.5]), torch.Generator()).item() == 2


def smooth_histograms(cases, members, shift, seed):
    """Fields of long correlation: a histogram of one case is far from flat though the ensemble is perfect."""
    drawn = sphere_field((members + 1) * cases, GRID, length=40, generator=torch.Generator().manual_seed(seed))
    drawn = drawn.reshape(members + 1, cases, 1, 1, *GRID.shape)
    return rank_histogram(drawn[1:], drawn[0] * shift, GRID, torch.Generator().manual_seed(1))[:, 0, 0]


def test_flatness_keeps_its_level_on_correlated_fields_and_finds_underdispersion():
    tests = [flatness(smooth_histograms(20, 3, 1.0, seed)) for seed in range(50)]
    rejected = sum(t.p_value < 0.05 for t in tests) / len(tests)
    assert 0.0 < rejected < 0.13
    # 20 cases of 128 points each are worth far fewer ranks
    assert 50 < sum(t.effective for t in tests) / len(tests) < 300
    assert flatness(smooth_histograms(20, 3, 2.0, 0)).p_value < 0.01
    with pytest.raises(UsageError, match="2 blocks"):
        flatness(smooth_histograms(1, 4, 1.0, 0))


def tables(members=6, cases=5, seed=0):
    x, y = ensemble(members, cases, seed=seed)
    x = x + 0.8 * y
    return event_table((x > 0.3).sum(0), y > 0.3, members, GRID), (x > 0.3).double().mean(0), (y > 0.3).double()


def test_brier_score_and_its_parts():
    table, p, happened = tables()
    whole = table.mean((0, 1))
    parts = brier(whole)
    area = GRID.mean_weights()
    assert parts.score.item() == pytest.approx(((p - happened) ** 2 * area).sum((-1, -2)).mean().item(), abs=1e-14)
    assert (parts.reliability - parts.resolution + parts.uncertainty).item() == pytest.approx(parts.score.item(), abs=1e-14)
    assert parts.fair.item() == pytest.approx(parts.score.item() - (p * (1 - p) * area).sum((-1, -2)).mean().item() / 5, abs=1e-14)
    assert 0 < parts.skill.item() < 1


def test_an_event_that_never_happens_has_no_skill_but_a_score():
    count = torch.ones(1, 1, 1, *GRID.shape, dtype=torch.int64)
    parts = brier(event_table(count, torch.zeros_like(count, dtype=torch.bool), 4, GRID)[0, 0, 0])
    assert parts.score.item() == pytest.approx(1 / 16)
    assert parts.skill.isnan().item()


def test_reliability_bins_hold_what_falls_into_them():
    table, p, happened = tables(members=10)
    area = GRID.mean_weights().expand(p.shape)
    found = reliability(table.mean((0, 1)), bins=5)
    inside = (p >= 0.6 - 1e-9) & (p < 0.8 - 1e-9)
    weight = area * inside
    assert found.share[0, 3].item() == pytest.approx(weight.sum().item() / 10, abs=1e-14)
    assert found.observed[0, 3].item() == pytest.approx((weight * happened).sum().item() / weight.sum().item(), abs=1e-12)
    assert found.said[0, 3].item() == pytest.approx((weight * p).sum().item() / weight.sum().item(), abs=1e-12)
    assert found.share.sum().item() == pytest.approx(1.0)


def test_roc_area_is_the_chance_of_the_right_order():
    flat = Sphere.gauss(1, 400)  # one latitude: all areas are equal
    x, y = normal(7, 1, 1, 1, 1, 400), normal(1, 1, 1, 1, 400, seed=1)
    x = x + y
    count = (x > 0.5).sum(0)
    area = roc_area(event_table(count, y > 0.5, 7, flat)[0, 0, 0])
    u = stats.mannwhitneyu(count[y > 0.5], count[y <= 0.5]).statistic
    assert area.item() == pytest.approx(u / ((y > 0.5).sum() * (y <= 0.5).sum()).item(), abs=1e-12)


def test_the_mean_pinball_score_is_half_the_crps():
    _, y = ensemble(1, cases=3)
    levels = tuple((k + 0.5) / 200 for k in range(200))
    quantile = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).reshape(-1, 1, 1, 1, 1, 1).expand(200, *y.shape)
    exact = (gaussian_crps(torch.zeros_like(y), torch.ones_like(y), y) * GRID.mean_weights()).sum((-1, -2))
    assert torch.allclose(2 * pinball(quantile, y, levels, GRID).mean(-1), exact, atol=8e-4)
    sizes = [pinball(torch.full_like(y, q)[None], y, (0.9,), GRID).mean().item() for q in (0.9, 1.2816, 1.7)]
    assert sizes[1] == min(sizes)


def test_intervals_of_exchangeable_members_hold_what_is_expected():
    drawn = torch.rand(11, 400, 1, 1, *GRID.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = member_quantiles(drawn[1:], (0.05, 0.95))
    assert expected_coverage(0.9, 10) == pytest.approx(0.9 * 9 / 11)
    assert coverage(low, high, drawn[0], GRID).mean().item() == pytest.approx(expected_coverage(0.9, 10), abs=0.005)
    assert torch.allclose(low, torch.quantile(drawn[1:], 0.05, dim=0))


def test_bias_and_activity():
    u, v = ensemble(1, cases=2)
    assert torch.allclose(bias_by_lead(u[0] + 2, u[0], GRID), torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(activity(3 * u[0] + 7, torch.zeros_like(v), GRID), 3 * activity(u[0], torch.zeros_like(v), GRID))


def test_energy_lies_at_the_wavenumber_of_a_harmonic_and_adds_up():
    lat, lon = (torch.deg2rad(GRID.points()[..., k]) for k in (0, 1))
    u = (torch.cos(lat) ** 3 * torch.cos(3 * lon))[None, None, None]  # degree 3, order 3
    power = energy_by_wavenumber(u, GRID)[0, 0, 0]
    mean_square = (u**2 * GRID.mean_weights()).sum()
    assert power[3].item() == pytest.approx(mean_square.item(), rel=1e-12)
    assert power.sum().item() == pytest.approx(mean_square.item(), rel=1e-12)


def test_blocks_keep_the_dependence_of_consecutive_cases():
    generator, n, phi = torch.Generator().manual_seed(0), 2000, 0.8
    noise, x = torch.randn(n, generator=generator, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for k in range(1, n):
        x[k] = phi * x[k - 1] + noise[k]
    true = math.sqrt(1 / (1 - phi) ** 2 / n)  # standard error of the mean of an AR(1) process
    apart, together = (boot.bootstrap([x], lambda m: m, block=b, draws=1000).draws.std().item() for b in (1, 50))
    assert together == pytest.approx(true, rel=0.15)
    assert apart < 0.4 * true


def test_a_difference_is_paired_and_missing_cases_are_left_out():
    common = 10 * normal(60)
    a, b = common + 0.1 * normal(60, seed=1) + 0.1, common + 0.1 * normal(60, seed=2)
    a[3], b[3] = torch.nan, torch.nan
    found = boot.bootstrap([a, b], lambda p, q: p - q)
    low, high = found.interval()
    known = ~a.isnan()
    assert found.value.item() == pytest.approx((a - b)[known].mean().item(), abs=1e-12)
    assert 0 < low < high < 0.25
    assert found.p_of_zero() < 0.01
    assert boot.bootstrap([a[:1]], lambda m: m).interval()[0].isnan()


def test_a_tally_in_blocks_is_the_whole():
    x, y = ensemble(9)
    x = x + 1e4
    y = y + 1e4
    tally = MemberTally.of(y, (1e4,))
    for part in x.split([2, 1, 6]):
        tally = tally.add(part)
    assert torch.allclose(tally.mean, (x - y).mean(0), atol=1e-12)
    assert torch.allclose(tally.variance, x.var(0), rtol=1e-9)
    assert torch.allclose(tally.distance / 9, (x - y).abs().mean(0))
    assert torch.equal(tally.rank(torch.Generator()), (x < y).sum(0))
    assert torch.equal(tally.above[0], (x > 1e4).sum(0))
