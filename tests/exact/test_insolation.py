"""The sun of geometry, against what every textbook says."""

import math

import numpy as np
import torch

from anygrid.numerics.insolation import SOLAR_CONSTANT, daily_insolation, insolation, sun


def days(*dates: str) -> np.ndarray:
    return np.array(dates, dtype="datetime64[s]")


def test_equator_at_the_equinox_has_s0_over_pi():
    mean = daily_insolation(days("2001-03-20T12", "2001-09-22T23"), torch.zeros(1))
    distance = sun(days("2001-03-20T12", "2001-09-22T23"))[1]
    torch.testing.assert_close(mean[:, 0] / distance, torch.full((2,), SOLAR_CONSTANT / math.pi, dtype=torch.float64), rtol=1e-4, atol=0)


def test_pole_at_the_solstice_has_s0_sin_of_the_obliquity_all_day_and_the_other_none():
    when = days("2001-06-21T12")
    poles = torch.tensor([90.0, -90.0])
    north, south = daily_insolation(when, poles)[0].tolist()
    expected = SOLAR_CONSTANT * float(sun(when)[1]) * math.sin(math.radians(23.44))
    assert abs(north / expected - 1) < 2e-3
    assert south == 0
    hours = when[0] + np.arange(24) * np.timedelta64(3600, "s")
    all_day = insolation(hours, poles, torch.zeros(2))
    torch.testing.assert_close(all_day[:, 0], torch.full((24,), north, dtype=torch.float64), rtol=2e-3, atol=0)
    assert float(all_day[:, 1].abs().max()) == 0


def test_obliquity_and_the_ends_of_the_orbit():
    year = np.datetime64("2001-01-01", "s") + np.arange(365) * np.timedelta64(86400, "s")
    declination, distance, _ = sun(year)
    assert abs(math.degrees(float(declination.max())) - 23.44) < 0.05
    assert abs(math.degrees(float(declination.min())) + 23.44) < 0.05
    assert int(distance.argmax()) in range(0, 6)  # perihelion: 4 January 2001
    assert abs(float(distance.max()) - (1 / 0.98329) ** 2) < 2e-3
    assert abs(float(distance.min()) - (1 / 1.01671) ** 2) < 2e-3


def test_noon_comes_when_the_equation_of_time_says():
    """Sundials are ahead by 16.4 minutes early in November and behind by 14.2 in the middle of February."""
    below = sun(days("2001-11-03T12", "2001-02-11T12"))[2].rad2deg()
    torch.testing.assert_close(below / 15 * 60, torch.tensor([-16.4, 14.2], dtype=torch.float64) * 15 / 15, rtol=0, atol=0.7)


def test_day_is_the_mean_of_its_moments_and_the_globe_has_a_quarter():
    quarters = np.datetime64("2001-05-01", "s") + np.arange(96) * np.timedelta64(900, "s")
    latitude = torch.linspace(-89, 89, 90, dtype=torch.float64)
    moments = insolation(quarters, latitude, torch.full_like(latitude, 37.0)).mean(0)
    torch.testing.assert_close(moments, daily_insolation(quarters[48:49], latitude)[0], rtol=0, atol=1.5)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    mean = daily_insolation(quarters[:1], torch.from_numpy(np.rad2deg(np.arcsin(nodes))))[0] @ torch.from_numpy(weights) / 2
    assert abs(float(mean / (SOLAR_CONSTANT / 4 * sun(quarters[:1])[1])) - 1) < 1e-5


def test_light_moves_west_with_the_hours():
    longitude = torch.arange(0, 360, 0.5, dtype=torch.float64)
    noon = insolation(days("2001-03-20T06", "2001-03-20T18"), torch.zeros_like(longitude), longitude).argmax(1) * 0.5
    assert abs(float(noon[0]) - 90) < 3
    assert abs(float(noon[1]) - 270) < 3
