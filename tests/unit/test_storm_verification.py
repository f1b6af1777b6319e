"""Matching, errors along and across, mean track and spread, strike probability, reliability."""

import numpy as np
import pandas as pd
import pytest

from anygrid.errors import UsageError
from anygrid.grid import Sphere
from anygrid.numerics.great_circle import bearing, destination, distance
from anygrid.storms import Tracks, errors_by_lead, match_tracks, mean_track, reliability, strike_map, strike_probability, track_errors

BEGIN = pd.Timestamp("2005-08-25")
HOURS = np.arange(0, 54, 6.0)


def course(lat=20.0, lon=170.0, way=60.0, speed=8.0, hours=HOURS):
    return destination(lat, lon, way, hours * 3600 * speed)


def table(paths, *, members=None, pressure=98000.0, wind=30.0, hours=HOURS):
    rows = [
        (BEGIN, m, t, BEGIN + pd.Timedelta(hours=h), h, a, o, pressure, wind)
        for m, t, (lat, lon) in paths
        for h, a, o in zip(hours, lat, lon, strict=True)
    ]
    return pd.DataFrame(rows, columns=["start", "member", "track", "time", "lead", "lat", "lon", "pressure", "wind"])


def observed(name="A", pressure=97000.0, wind=35.0, path=None):
    lat, lon = course() if path is None else path
    time = BEGIN + pd.to_timedelta(HOURS, unit="h")
    columns = {"storm": name, "name": name, "time": time, "lat": lat, "lon": lon, "status": "hurricane"}
    return pd.DataFrame(columns | {"wind": wind, "pressure": pressure})


def displaced(along, across):
    """The observed path moved forward and to the right, km."""
    lat, lon = course()
    out = []
    for k in range(len(HOURS)):
        # The course goes on along its own great circle.
        way = 60.0 if k == 0 else float(bearing(lat[k], lon[k], lat[0], lon[0])) + 180
        a, o = destination(lat[k], lon[k], way, along * 1e3)
        ahead = way if along == 0 else float(bearing(a, o, lat[k], lon[k])) + (180 if along > 0 else 0)
        out.append(destination(a, o, ahead + 90, across * 1e3))
    return np.array([p[0] for p in out]), np.array([p[1] for p in out])


@pytest.mark.parametrize(("along", "across"), [(100, 0), (0, 80), (-120, -50), (60, 200)])
def test_errors_along_and_across_are_those_put_in(along, across):
    matches = match_tracks(table([(0, 0, displaced(along, across))]), observed())
    assert [(m.storm, m.track) for m in matches] == [("A", 0)]
    errors = track_errors(matches)
    np.testing.assert_allclose(errors["along"], along, atol=0.1)
    np.testing.assert_allclose(errors["across"], across, atol=0.1)
    np.testing.assert_allclose(errors["distance"], np.hypot(along, across), rtol=1e-3)
    by_lead = errors_by_lead(errors)
    assert list(by_lead["lead"]) == list(HOURS)
    assert (by_lead["pressure_bias"] == 1000).all()
    assert (by_lead["wind_mae"] == 5).all()
    assert (by_lead["pairs"] == 1).all()


def test_matching_takes_the_nearer_of_two_and_refuses_what_is_far_or_short():
    a, b = course(), course(lat=23.0)
    tracks = table([(0, 0, course(lat=22.5)), (0, 1, course(lat=20.4)), (0, 2, course(lat=45.0))])
    best = pd.concat([observed("A", path=a), observed("B", path=b)])
    assert {(m.track, m.storm) for m in match_tracks(tracks, best)} == {(0, "B"), (1, "A")}
    early = best[best["time"] < BEGIN + pd.Timedelta(hours=20)]  # 4 of 9 fixes are below 60 per cent
    assert match_tracks(tracks, early) == []
    assert match_tracks(tracks.iloc[:0], best) == []


def test_mean_track_and_spread_across_the_date_line():
    paths = [(m, 0, displaced(0, across)) for m, across in enumerate((-150, -50, 50, 150))]
    found = mean_track(match_tracks(table(paths), observed()))
    assert (found["members"] == 4).all()
    assert found["error"].max() < 1.0
    np.testing.assert_allclose(found["spread"], np.sqrt((2 * 150**2 + 2 * 50**2) / 3), rtol=2e-3)
    assert mean_track([]).empty
    with pytest.raises(UsageError, match="from 0 to 1"):
        mean_track([], least=2)


def test_strike_probability_counts_members_not_tracks_and_what_lies_between_fixes():
    lat, lon = np.zeros(3), np.array([0.0, 8.0, 16.0])
    hours = np.array([0.0, 12.0, 24.0])
    paths = [(0, 0, (lat, lon)), (0, 1, (lat, lon)), (1, 0, (lat + 5, lon))]
    tracks = Tracks(table(paths, hours=hours), (0, 1, 2, 3), 1, 24.0, 1.0)
    assert strike_probability(tracks, 0.5, 4.0, 120) == 0.25  # midway between two fixes, 445 km from either
    assert strike_probability(tracks, 2.5, 4.0, 300) == 0.5
    assert strike_probability(tracks, 0.5, 12.0, 120, (0, 12)) == 0
    assert strike_probability(tracks, 0.5, 12.0, 120, (12, 24)) == 0.25
    assert strike_probability(tracks, 0.0, -2.0, 120) == 0
    assert strike_probability(tracks, [0, 30], [360.0, 4.0], 120).tolist() == [0.25, 0]
    for bad in ({"radius_km": 0}, {"lat": 91}, {"window": (12, 0)}):
        with pytest.raises(UsageError, match="strike probability"):
            strike_probability(tracks, **({"lat": 0, "lon": 0} | bad))


def test_strike_map_is_the_area_of_the_corridor():
    lat, lon = course(lat=0, lon=-40, way=90, speed=20)
    tracks = Tracks(table([(0, 0, (lat, lon))]), (0, 1), 1, 48.0, 1.0)
    grid = Sphere.equiangular(180, 360)
    found = strike_map(tracks, grid, 550)
    area = float((grid.weights().numpy() * found.values).sum()) * 6371.229**2
    length = float(distance(lat[0], lon[0], lat[-1], lon[-1])) / 1000
    assert area == pytest.approx(0.5 * (length * 1100 + np.pi * 550**2), rel=0.02)  # half the members; a strip with round ends
    assert found.attrs["units"] == "1"


def test_reliability_of_a_forecast_that_is_and_of_one_that_is_not():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=200_000)
    happened = rng.uniform(size=p.size) < p
    good = reliability(p, happened)
    np.testing.assert_allclose(good["probability"], good["frequency"], atol=0.015)
    assert good.attrs["brier"] == pytest.approx(1 / 6, abs=2e-3)  # the mean of p (1 - p)
    assert good["count"].sum() == p.size
    assert reliability(p, rng.uniform(size=p.size) < p / 2)["frequency"].iloc[-1] < 0.55
    with pytest.raises(UsageError, match="probabilities"):
        reliability([1.2], [1])
