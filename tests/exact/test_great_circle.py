"""Great circles against the haversine formula with forty digits, and against closed forms."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrid.numerics.great_circle import (
    EARTH_RADIUS,
    along_across,
    bearing,
    destination,
    distance,
    distance_to_arc,
    mean_position,
    to_degrees,
    to_vector,
)

LAT = st.floats(-90, 90, allow_subnormal=False)
LON = st.floats(-360, 360, allow_subnormal=False)


def haversine(lat1, lon1, lat2, lon2):
    with mpmath.workdps(40):
        p1, l1, p2, l2 = (mpmath.radians(mpmath.mpf(float(x))) for x in (lat1, lon1, lat2, lon2))
        h = mpmath.sin((p2 - p1) / 2) ** 2 + mpmath.cos(p1) * mpmath.cos(p2) * mpmath.sin((l2 - l1) / 2) ** 2
        return float(2 * mpmath.asin(mpmath.sqrt(min(h, mpmath.mpf(1)))) * EARTH_RADIUS)


@settings(max_examples=60, deadline=None)
@given(LAT, LON, LAT, LON)
def test_distance_is_the_haversine_of_forty_digits(lat1, lon1, lat2, lon2):
    assert float(distance(lat1, lon1, lat2, lon2)) == pytest.approx(haversine(lat1, lon1, lat2, lon2), rel=1e-13, abs=1e-7)


def test_distance_keeps_its_digits_where_the_textbook_formula_loses_them():
    assert float(distance(40, 179.9999999, 40, -179.9999999)) == pytest.approx(haversine(40, 179.9999999, 40, -179.9999999), rel=1e-6)
    assert float(distance(0, 0, 1e-7, -180)) == pytest.approx(np.pi * EARTH_RADIUS, rel=1e-8)
    assert float(distance(90, 12, -90, 77)) == pytest.approx(np.pi * EARTH_RADIUS, rel=1e-14)


def test_known_distance():
    # London Heathrow to New York JFK is 5540 km on the sphere (Great Circle Mapper: 5539 to 5555 by radius and ellipsoid).
    assert float(distance(51.4706, -0.4619, 40.6398, -73.7789)) == pytest.approx(5.54e6, rel=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.floats(-89, 89), LON, st.floats(0, 359), st.floats(1e3, 1.9e7))
def test_one_arrives_where_distance_and_bearing_say(lat, lon, course, metres):
    there = destination(lat, lon, course, metres)
    assert float(distance(lat, lon, *there)) == pytest.approx(metres, rel=1e-9)
    turn = float(bearing(lat, lon, *there)) - course
    assert abs((turn + 180) % 360 - 180) < 1e-5


def test_along_and_across_are_the_sides_of_the_right_triangle():
    lat, lon = destination(*destination(10, 170, 60, 9e5), 0, 0)
    # From the foot point turn right by a quarter of the circle and go on: the way across.
    foot = (float(lat), float(lon))
    ahead = (float(bearing(*foot, 10, 170)) + 180) % 360
    for side, sign in ((90, 1), (-90, -1)):
        point = destination(*foot, ahead + side, 3e5)
        along, across = along_across(*point, (10.0, 170.0), 60.0)
        assert float(along) == pytest.approx(9e5, abs=0.1)
        assert float(across) == pytest.approx(sign * 3e5, abs=0.1)
    assert float(along_across(10, 160, (10.0, 170.0), 90.0)[0]) < 0


@settings(max_examples=40, deadline=None)
@given(LAT, st.floats(-180, 180), LAT, st.floats(-180, 180), LAT, st.floats(-180, 180))
def test_distance_to_an_arc_is_the_least_over_its_points(lat, lon, lat1, lon1, lat2, lon2):
    long = float(distance(lat1, lon1, lat2, lon2))
    if not 1e3 < long < 1.95e7:
        return
    p, q = to_vector(lat1, lon1), to_vector(lat2, lon2)
    angle, parts = long / EARTH_RADIUS, np.linspace(0, 1, 4001)[:, None]
    on = to_degrees((np.sin((1 - parts) * angle) * p + np.sin(parts * angle) * q) / np.sin(angle))
    sampled = float(distance(lat, lon, *on).min())
    found = float(distance_to_arc(lat, lon, (lat1, lon1), (lat2, lon2)))
    assert found <= sampled + 1e-3
    assert sampled - found < long / 4000 + 1


def test_mean_position_across_the_date_line_and_round_the_pole():
    assert mean_position([10, 10], [179, -179]) == pytest.approx((10.0015, -180), abs=2e-3)
    assert mean_position([80, 80, 80, 80], [0, 90, 180, -90])[0] == pytest.approx(90)
