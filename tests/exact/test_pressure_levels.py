"""From sigma to pressure in atmospheres whose temperature and geopotential are known formulas."""

import math

import pytest
import torch

from anygrid.numerics.pressure_levels import (
    GAS,
    GRAVITY,
    LAPSE,
    at_pressure,
    geopotential_at_pressure,
    sea_level_pressure,
    temperature_at_pressure,
)

SIGMA = torch.tensor([0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95], dtype=torch.float64)


def surface() -> torch.Tensor:
    """Pressures of a coast and of high mountains, 2 x 3 points."""
    return torch.tensor([[101325.0, 98000.0, 85000.0], [70000.0, 61000.0, 102000.0]], dtype=torch.float64)


def constant_lapse(ps: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Temperature and geopotential of the air of 288.15 K at the sea's 1013.25 hPa that cools by 6.5 K a kilometre."""
    ratio = sigma[:, None, None] * ps / 101325.0
    power = GAS * LAPSE / GRAVITY
    temperature = 288.15 * ratio**power
    return temperature, GRAVITY * (288.15 - temperature) / LAPSE


def test_what_is_linear_in_ln_p_is_exact_and_beyond_the_levels_it_stays():
    ps = surface()
    values = 3 * (SIGMA[:, None, None] * ps).log() + 1
    inside = at_pressure(values, SIGMA, ps, 50000.0)
    torch.testing.assert_close(inside, torch.full_like(ps, 3 * math.log(50000.0) + 1), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        at_pressure(values, SIGMA, ps, 100000.0)[1], torch.stack([values[-1, 1, 0], values[-1, 1, 1], values[-1, 1, 2]])
    )
    torch.testing.assert_close(at_pressure(values, SIGMA, ps, 1000.0), values[0])


@pytest.mark.parametrize("pressure", [95000.0, 100000.0, 85000.0])
def test_under_the_lowest_level_the_standard_atmosphere_goes_on_exactly(pressure):
    ps = surface()
    t, z = constant_lapse(ps, SIGMA)
    exact_t = 288.15 * (pressure / 101325.0) ** (GAS * LAPSE / GRAVITY)
    under = pressure > SIGMA[-1] * ps
    assert under.any()
    torch.testing.assert_close(
        temperature_at_pressure(t, SIGMA, ps, pressure)[under], torch.full_like(ps, exact_t)[under], rtol=1e-12, atol=0
    )
    made = geopotential_at_pressure(z, t, torch.zeros_like(t), SIGMA, ps, pressure)[under]
    torch.testing.assert_close(made, torch.full_like(made, GRAVITY * (288.15 - exact_t) / LAPSE), rtol=0, atol=1e-6)


def test_sea_level_pressure_of_the_standard_atmosphere_is_the_same_over_every_mountain():
    ps = surface()
    t, z = constant_lapse(ps, SIGMA)
    torch.testing.assert_close(sea_level_pressure(z, t, SIGMA, ps), torch.full_like(ps, 101325.0), rtol=1e-12, atol=0)


def test_geopotential_is_good_to_metres_on_the_eight_levels_where_linear_is_not():
    ps = surface()
    t, z = constant_lapse(ps, SIGMA)
    exact = GRAVITY * (288.15 - 288.15 * (50000.0 / 101325.0) ** (GAS * LAPSE / GRAVITY)) / LAPSE
    made = geopotential_at_pressure(z, t, torch.zeros_like(t), SIGMA, ps, 50000.0)
    assert float((made - exact).abs().max()) < 1.0 * GRAVITY
    assert float((at_pressure(z, SIGMA, ps, 50000.0) - exact).abs().max()) > 10 * GRAVITY


def test_orders_two_and_four():
    """Halving the distance of levels divides the error of temperature by 4 and that of geopotential by 16."""
    ps = torch.full((1, 1), 101325.0, dtype=torch.float64)
    errors = []
    for n in (10, 20, 40):
        sigma = torch.logspace(math.log10(0.1), math.log10(0.95), n + 1, dtype=torch.float64)
        t, z = constant_lapse(ps, sigma)
        p = float(sigma[n // 2] * 101325.0 * (0.95 / 0.1) ** (0.5 / n))  # the middle between two levels
        exact = 288.15 * (p / 101325.0) ** (GAS * LAPSE / GRAVITY)
        made = geopotential_at_pressure(z, t, torch.zeros_like(t), sigma, ps, p)
        errors.append((abs(float(temperature_at_pressure(t, sigma, ps, p)) - exact), abs(float(made) - GRAVITY * (288.15 - exact) / LAPSE)))
    for fine, coarse in ((1, 0), (2, 1)):
        assert math.log2(errors[coarse][0] / errors[fine][0]) == pytest.approx(2, abs=0.1)
        assert math.log2(errors[coarse][1] / errors[fine][1]) == pytest.approx(4, abs=0.2)


def test_moist_air_is_lighter():
    ps = torch.full((1, 1), 101325.0, dtype=torch.float64)
    t, z = constant_lapse(ps, SIGMA)
    dry = geopotential_at_pressure(z, t, torch.zeros_like(t), SIGMA, ps, 100000.0)
    wet = geopotential_at_pressure(z, t, torch.full_like(t, 0.02), SIGMA, ps, 100000.0)
    thickness = GRAVITY / LAPSE * float(t[-1]) * (1 - (100000.0 / (0.95 * 101325.0)) ** (GAS * LAPSE / GRAVITY))
    assert float(wet - dry) == pytest.approx(0.608 * 0.02 * thickness, rel=1e-9)
