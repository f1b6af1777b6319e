"""Lyapunov exponents, invariant statistics and their noise against values known in closed form or from the literature."""

import math

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.grid import Bounded, Box, Periodic
from anygrid.metrics.invariants import (
    against_noise,
    autocovariance,
    compare,
    correlation_distance,
    in_blocks,
    invariants,
    measures_of,
    pdf,
    pdf_distance,
    pdf_edges,
    slope,
    spectrum_distance,
    time_mean_spectrum,
)
from anygrid.metrics.predictability import perturbed_run, valid_prediction_time
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky

TAU = 2 * math.pi


def ring(n=32, length=TAU):
    return Box.uniform({"x": Periodic(0, length)}, n)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exponent(run):
    return float(run.rates.mean())


def test_exponent_of_a_scaling_is_the_logarithm_of_its_factor_over_dt():
    a = torch.rand(3, 1, 32, dtype=torch.float64, generator=seeded())
    run = perturbed_run(lambda u, grid: 1.5 * u, a, ring(), dt=0.5, steps=4, generator=seeded())
    assert torch.allclose(run.rates, torch.full((3, 4), math.log(1.5) / 0.5, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(run.states[:, 3], 1.5**4 * a)


def test_exponent_of_a_diagonal_map_is_that_of_its_largest_factor():
    factors = torch.linspace(0.2, 0.9, 32, dtype=torch.float64)
    a = torch.zeros(2, 1, 32, dtype=torch.float64)
    run = perturbed_run(lambda u, grid: factors * u, a + 1, ring(), dt=2.0, steps=50, discard=400, generator=seeded(), size=1e-3)
    assert exponent(run) == pytest.approx(math.log(0.9) / 2, rel=1e-4)


def test_exponent_of_lorenz_63_is_that_of_the_literature():
    def rate(u):
        x, y, z = u.unbind(-1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)

    def flow(u, grid):
        for _ in range(10):
            k1 = rate(u)
            k2 = rate(u + 0.005 * k1)
            k3 = rate(u + 0.005 * k2)
            u = u + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + rate(u + 0.01 * k3))
        return u

    a = torch.randn(32, 1, 3, dtype=torch.float64, generator=seeded()) + 5
    run = perturbed_run(flow, a, Box.uniform({"i": Bounded(0, 1)}, 3), dt=0.1, steps=500, discard=100, generator=seeded(), keep=100)
    assert exponent(run) == pytest.approx(0.906, abs=0.02)  # Sprott, Chaos and Time-Series Analysis (2003), 0.9056
    assert run.states.shape == (32, 5, 1, 3)


def test_exponent_of_kuramoto_sivashinsky_is_that_of_the_literature():
    problem = KuramotoSivashinsky()
    grid = problem.grid(64)
    a = problem.sample(16, grid, seeded(5))
    run = perturbed_run(problem.solve, a, grid, dt=problem.dt, steps=200, discard=40, generator=seeded(), keep=200)
    # 0.043 (Edson, Bunder, Mattner and Roberts 2019, table 1) to 0.048 (Cvitanovic, Davidchack and Siminos 2010)
    assert 0.040 < exponent(run) < 0.051


def test_only_the_state_is_perturbed_and_parameters_stay():
    seen = []

    def decay(a, grid):
        seen.append(a[:, :1])
        return a[:, :1] * a[:, 1:]

    a = torch.full((2, 2, 32), 0.5, dtype=torch.float64)
    run = perturbed_run(decay, a, ring(), dt=1.0, steps=3, channels=(1,), generator=seeded(), size=1e-3)
    assert exponent(run) == pytest.approx(math.log(0.5), rel=1e-9)
    assert all(bool((parameter == 0.5).all()) for parameter in seen)


def test_a_run_that_blows_up_ends_alone():
    asked = []

    def map_(u, grid):
        asked.append(len(u))
        return u * (1 + 1e140 * (u.abs().amax((1, 2), keepdim=True) > 1.5).double())

    a = torch.ones(3, 1, 32, dtype=torch.float64)
    a[1] *= 2
    run = perturbed_run(map_, a, ring(), dt=1.0, steps=5, generator=seeded())
    assert torch.isfinite(run.rates[[0, 2]]).all()
    assert torch.isfinite(run.states[[0, 2]]).all()
    assert torch.isfinite(run.rates[1]).tolist() == [True, False, False, False, False]
    assert asked == [6, 6, 4, 4, 4]


def test_states_that_fall_together_have_a_rate_of_minus_infinity():
    turns = iter([1.0, 0.0, 1.0, 2.0])
    run = perturbed_run(
        lambda u, grid: 1 + next(turns) * (u - 1), torch.ones(1, 1, 32).double() * 3, ring(), dt=1.0, steps=4, generator=seeded()
    )
    assert run.rates[0].tolist() == pytest.approx([0.0, -math.inf, 0.0, math.log(2)], abs=1e-6)


def test_valid_time_is_when_a_growing_error_passes_the_threshold():
    truth = torch.sin(ring().points()[:, 0]).expand(2, 20, 1, 32).double()
    growth = 0.01 * torch.exp(0.5 * torch.arange(1, 21, dtype=torch.float64)).view(1, 20, 1, 1)
    factor = torch.tensor([1.0, 0.0], dtype=torch.float64).view(2, 1, 1, 1)  # the second forecast is perfect
    u = truth * (1 + factor * growth)
    # 0.01 exp(n / 2) <= 0.4 up to n = 7.38
    assert valid_prediction_time(u, truth, ring(), dt=2.0).tolist() == [14.0, 40.0]
    assert valid_prediction_time(u, truth, ring(), dt=2.0, threshold=0.01).tolist() == [0.0, 40.0]
    u[1, 5] = math.nan
    assert valid_prediction_time(u, truth, ring(), dt=1.0)[1] == 5


def test_spectrum_of_one_wave_and_its_distance_from_one_of_twice_the_power():
    grid = ring()
    x = grid.points()[:, 0]
    phases = torch.linspace(0, 6, 7).view(1, 7, 1, 1)
    u = 2 * torch.sin(3 * x + phases)
    found = time_mean_spectrum(u, grid)[0]
    assert found[0, 3] == pytest.approx(2.0)
    assert float(found.sum()) == pytest.approx(2.0)
    assert spectrum_distance(2 * found, found) == pytest.approx(math.log(2))


def test_pdf_of_a_wave_is_the_arcsine_law_and_a_shift_is_its_own_distance():
    grid = Box.uniform({"x": Periodic(0, TAU)}, 4096)
    u = torch.sin(grid.points()[:, 0]).view(1, 1, 1, -1)
    edges = pdf_edges(u, bins=100)
    found = pdf(u, edges, grid)[0]
    law = torch.asin(edges.clamp(-1, 1)).diff() / math.pi
    assert torch.allclose(found, law, atol=2e-3)
    moved = pdf(u + 0.3, edges, grid)[0]
    assert pdf_distance(moved, found, edges) == pytest.approx(0.3 * math.sqrt(2), rel=0.01)


def test_values_beyond_the_edges_are_kept_in_the_outermost_bins():
    u = torch.zeros(1, 2, 1, 32)
    edges = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64)
    u[0, 0] = 50
    u[0, 1] = math.inf
    assert pdf(u, edges, ring())[0, 0].tolist() == [0.0, 1.0]


def test_slope_of_a_wave():
    grid = ring(64)
    x = grid.points()[:, 0].double()
    assert torch.allclose(slope(torch.sin(2 * x).view(1, 1, 1, -1), grid)[0, 0, 0], 2 * torch.cos(2 * x), atol=1e-6)


def autoregression(phi, rows, times, seed, offset=0.0, points=16):
    """Stationary AR(1) of variance 1 at every point."""
    g = seeded(seed)
    state, out = torch.randn(rows, 1, points, generator=g, dtype=torch.float64), []
    for _ in range(times):
        state = phi * state + math.sqrt(1 - phi**2) * torch.randn(rows, 1, points, generator=g, dtype=torch.float64)
        out.append(state + offset)
    return torch.stack(out, 1)


def test_autocorrelation_and_pdf_of_an_autoregression():
    u = autoregression(0.8, 8, 4000, 0, offset=3.0)
    grid = ring(16)
    found = autocovariance(u, grid, 10).mean(0)
    powers = 0.8 ** torch.arange(11, dtype=torch.float64)
    assert torch.allclose(found[0], powers, atol=0.02)
    assert correlation_distance(found, 5 * powers[None]) < 0.01
    edges = pdf_edges(u)
    law = torch.special.ndtr(edges - 3.0).diff()
    assert pdf_distance(pdf(u, edges, grid).mean(0), law, edges) < 0.02


def test_autocovariance_is_the_plain_sum():
    u = autoregression(0.5, 2, 12, 1)
    found = autocovariance(u, ring(16), 3, mean=torch.zeros(1, 16))
    assert found[1, 0, 3] == pytest.approx(float((u[1, :-3] * u[1, 3:]).mean()))


def test_blocks_are_consecutive_parts_of_each_trajectory():
    u = torch.arange(22.0).view(2, 11, 1, 1)
    assert in_blocks(u, 3)[:, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [11, 12, 13], [14, 15, 16], [17, 18, 19]]
    with pytest.raises(UsageError):
        in_blocks(u, 6)


def test_same_law_is_within_the_noise_and_another_law_is_not():
    grid, within, outside = ring(16), 0, 0
    for seed in range(10):
        reference = autoregression(0.7, 16, 100, 100 + seed)
        edges = pdf_edges(reference)

        def law(p, q, edges=edges):
            return pdf_distance(p, q, edges)

        base = pdf(reference, edges, grid)
        within += against_noise(pdf(autoregression(0.7, 16, 100, 500 + seed), edges, grid), base, law, draws=40).within
        outside += not against_noise(pdf(autoregression(0.7, 16, 100, 900 + seed, offset=0.15), edges, grid), base, law, draws=40).within
    assert within >= 9
    assert outside >= 9


def test_split_half_noise_of_means_is_that_of_half_the_rows():
    rows = torch.randn(400, 1, generator=seeded(), dtype=torch.float64)
    found = against_noise(rows, rows, lambda p, q: float((p - q).abs()), draws=2000)
    # the difference of means of two disjoint halves of 200 has standard deviation sqrt(2 / 200) = 0.1
    assert found.limit == pytest.approx(1.96 * 0.1, rel=0.1)
    assert found.noise == pytest.approx(0.674 * 0.1, rel=0.1)
    with pytest.raises(UsageError):
        against_noise(rows[:3], rows, lambda p, q: 0.0)


def test_each_statistic_notices_what_it_is_for():
    grid = ring(16)
    reference = autoregression(0.8, 16, 200, 0)
    m = measures_of(reference, grid, lags=8)
    base = invariants(reference, m)
    others = {
        "same": autoregression(0.8, 16, 200, 1),
        "values": autoregression(0.8, 16, 200, 1, offset=0.3),
        "autocorrelation": autoregression(0.3, 16, 200, 1),
        "spectrum": 1.2 * autoregression(0.8, 16, 200, 1),
    }
    outside = {name: {k for k, v in compare(invariants(u, m), base, m).items() if not v.within} for name, u in others.items()}
    assert outside["same"] == set()
    assert outside["autocorrelation"] == {"autocorrelation"}
    assert "values" in outside["values"]
    assert "slopes" not in outside["values"]
    assert {"spectrum", "values", "slopes"} <= outside["spectrum"]
