"""Tracks do not depend on where longitude begins, on the order of latitudes, on the hemisphere or on units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storm_support import DEGREE, along, gaps, moving

from anygrid.grid import Sphere
from anygrid.numerics.great_circle import distance
from anygrid.storms import Criteria, Sources, track

HOURS = np.arange(0, 36, 6.0)
GRID = Sphere.equiangular(60, 120)
MSL, LOOSE = Sources("msl"), Criteria(lifetime_hours=12)


@pytest.fixture(scope="module")
def storms():
    paths = [along(25, 170, 70, 12, HOURS), along(-50, -80, 110, 18, HOURS), along(80, 0, 30, 15, HOURS)]
    ds = moving(GRID, paths, HOURS)
    return ds, track(ds, MSL, LOOSE).table


def same(a, b, turn=0.0, mirror=1):
    """The same tracks, whatever their order."""
    assert len(a) == len(b)
    assert a["track"].nunique() == b["track"].nunique()
    for lead, part in a.groupby("lead"):
        other = b[b["lead"] == lead]
        away = distance(
            mirror * part["lat"].to_numpy()[:, None],
            part["lon"].to_numpy()[:, None] + turn,
            other["lat"].to_numpy()[None],
            other["lon"].to_numpy()[None],
        )
        assert away.min(1).max() < 1.0  # metre
        nearest = away.argmin(1)
        np.testing.assert_allclose(part["pressure"].to_numpy(), other["pressure"].to_numpy()[nearest], atol=1e-4)


def test_three_storms_are_three_tracks(storms):
    assert storms[1]["track"].nunique() == 3
    assert len(storms[1]) == 18


@pytest.mark.parametrize("roll", [1, 30, 60, 119])
def test_turning_the_data_in_longitude_turns_the_tracks(storms, roll):
    ds, found = storms
    turned = ds.copy(data={"msl": np.roll(ds.msl.values, roll, axis=2)})
    same(found, track(turned, MSL, LOOSE).table, turn=3.0 * roll)


def test_conventions_of_coordinates_do_not_matter(storms):
    ds, found = storms
    same(found, track(ds.isel(lat=slice(None, None, -1)), MSL, LOOSE).table)
    same(found, track(ds.assign_coords(lon=(ds.lon + 180) % 360 - 180).sortby("lon"), MSL, LOOSE).table)
    same(found, track(ds.transpose("lon", "time", "lat"), MSL, LOOSE).table)
    same(found, track(ds.rename(lat="latitude", lon="longitude", msl="psl"), MSL, LOOSE).table)
    hectopascal = ds.copy(data={"msl": ds.msl.values / 100})
    hectopascal.msl.attrs["units"] = "hPa"
    same(found, track(hectopascal, MSL, LOOSE).table)


def test_the_mirror_image_has_mirrored_tracks(storms):
    ds, found = storms
    same(found, track(ds.copy(data={"msl": ds.msl.values[:, ::-1]}), MSL, LOOSE).table, mirror=-1)


def test_members_are_tracked_one_by_one(storms):
    ds, found = storms
    three = ds.expand_dims(number=[4, 5, 9]).copy(deep=True)
    three.msl[1] = 101300.0
    tracks = track(three, MSL, LOOSE)
    assert tracks.members == (4, 5, 9)
    assert set(tracks.table["member"]) == {4, 9}
    for member in (4, 9):
        same(found, tracks.table[tracks.table["member"] == member])


@settings(max_examples=12, deadline=None)
@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(0, 360), st.floats(3, 25))
def test_any_great_circle_is_followed(lat, lon, course, speed):
    path = along(lat, lon, course, speed, HOURS[:4])
    found = track(moving(GRID, [path], HOURS[:4], radius=6 * DEGREE), MSL, LOOSE).table
    assert found["track"].nunique() == 1
    assert len(found) == 4
    assert gaps(found, *path, HOURS[:4]).max() < 0.08 * 3 * 111.2
