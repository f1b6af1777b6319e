"""Lows that move on known great circles: over the pole, across the date line, past each other; and flows without storms."""

import numpy as np
import pytest
from storm_support import DEGREE, EVEN, T30, along, dataset, gaps, low, moving, vortex_wind

from anygrid.grid import Axis, Bounded, Periodic, Sphere
from anygrid.numerics.great_circle import distance
from anygrid.storms import Criteria, Sources, track

HOURS = np.arange(0, 54, 6.0)
MSL = Sources("msl")
POLES = Sphere(Axis("lat", Bounded(-90, 90), 61, "vertices"), Axis("lon", Periodic(-180, 180), 120))


@pytest.mark.parametrize("grid", [EVEN, T30, POLES], ids=["2 degrees", "T30", "3 degrees with poles"])
@pytest.mark.parametrize(
    ("start", "course"),
    [((75.0, 40.0), 0.0), ((-78.0, 10.0), 185.0), ((20.0, 172.0), 80.0), ((0.5, 5.0), 270.0), ((89.0, 0.0), 90.0)],
    ids=["north pole", "south pole", "date line", "equator and Greenwich", "round the pole"],
)
def test_one_storm_is_one_track_on_its_great_circle(grid, start, course):
    lat, lon = along(*start, course, 15.0, HOURS)
    found = track(moving(grid, [(lat, lon)], HOURS), MSL).table
    assert found["track"].nunique() == 1
    assert len(found) == len(HOURS)
    spacing = float(np.diff(grid.lat.coordinates()).max()) * DEGREE / 1000
    assert gaps(found, lat, lon, HOURS).max() < 0.12 * spacing


def test_two_storms_that_pass_each_other_keep_their_names():
    # In 12 hours each goes 11.7 degrees, farther than the 8 between their ways: the nearest centre is then the other storm.
    hours = np.arange(0, 84, 12.0)
    first, second = along(36, -35, 87, 30, hours), along(44, 30, 273, 30, hours)
    swaps = [
        float(distance(first[0][k], first[1][k], second[0][k + 1], second[1][k + 1]) - distance(*(x[j] for j in (k, k + 1) for x in first)))
        for k in range(len(hours) - 1)
    ]
    assert min(swaps) < -1e5
    found = track(moving(EVEN, [first, second], hours, radius=2 * DEGREE), MSL).table
    assert found["track"].nunique() == 2
    for (_, part), path in zip(found.groupby("track"), (first, second) if found["lat"][0] < 40 else (second, first), strict=True):
        assert len(part) == len(hours)
        assert gaps(part, *path, hours).max() < 40


def test_a_low_that_splits_begins_a_second_track_at_the_saddle():
    # Two lows start at one place and part; until there is a saddle between two minima there is one centre.
    hours = np.arange(0, 96, 6.0)
    east, west = along(45, 0, 90, 8, hours), along(45, 0, 270, 8, hours)
    ds = moving(EVEN, [east, west], hours, depth=2000, radius=3 * DEGREE)
    found = track(ds, MSL).table
    assert found["track"].nunique() == 2
    first, second = (part for _, part in found.groupby("track"))
    assert first["lead"].min() == 0
    # A sum of two equal Gaussians has two minima once they are more than two radii apart.
    apart = 2 * 8 * 3600 * second["lead"].min()
    assert apart > 2 * 3 * DEGREE
    last = found[found["lead"] == hours[-1]]
    assert sorted(np.sign(last["lon"])) == [-1, 1]


def test_no_storms_in_smooth_zonal_flow():
    # A subtropical ridge and a subpolar trough, and a planetary wave of 3 hPa on it: nothing closes within the radius.
    points = EVEN.points().numpy()
    phi, lam = np.deg2rad(points[..., 0]), np.deg2rad(points[..., 1])
    p = 101300 + 1500 * np.cos(3 * phi) * np.cos(phi) + 300 * np.cos(phi) ** 2 * np.cos(3 * lam)
    ds = dataset(EVEN, np.repeat(p[None], 5, 0), HOURS[:5])
    assert track(ds, MSL).table.empty
    u = 30 * np.cos(phi) * np.sin(2 * phi) ** 2
    wind = ds.assign(u=(("time", "lat", "lon"), np.repeat(u[None], 5, 0), {"units": "m s-1"}))
    wind["v"] = (wind.u * 0).assign_attrs(units="m s-1")
    assert track(wind, Sources(rotation=("u", "v"))).table.empty


def test_a_shallow_low_is_none_and_a_short_one_is_dropped():
    path = along(40, 0, 90, 10, HOURS)
    assert track(moving(EVEN, [path], HOURS, depth=150, radius=3 * DEGREE), MSL).table.empty
    assert not track(moving(EVEN, [path], HOURS, depth=400, radius=3 * DEGREE), MSL).table.empty
    brief = moving(EVEN, [path], HOURS, depth=lambda hour: 3000 if 24 <= hour <= 42 else 0)
    assert track(brief, MSL).table.empty
    assert set(track(brief, MSL, Criteria(lifetime_hours=18)).table["lead"]) == {24, 30, 36, 42}
    assert track(moving(EVEN, [path], HOURS), MSL, Criteria(travel_km=3000)).table.empty


def test_a_gap_is_bridged_and_a_leap_is_not():
    lat, lon = along(40, 0, 60, 12, HOURS)
    gone = moving(EVEN, [(lat, lon)], HOURS, depth=lambda hour: 0 if hour in (24, 30) else 3000)
    found = track(gone, MSL).table
    assert found["track"].nunique() == 1
    assert len(found) == len(HOURS) - 2
    leap = (lat, np.where(HOURS < 24, lon, lon + 40))
    assert track(moving(EVEN, [leap], HOURS), MSL, Criteria(lifetime_hours=12)).table["track"].nunique() == 2


@pytest.mark.parametrize("lat", [20.0, -35.0], ids=["north", "south"])
def test_vorticity_finds_the_centre_of_a_cyclonic_wind_and_no_anticyclone(lat):
    # Neither its own truncation nor differences shift a symmetric vortex; turned round it is no storm.
    path = along(lat, 175, 80, 10, HOURS)
    grid = Sphere.gauss(64, 128)
    winds = np.stack([vortex_wind(grid, a, o) for a, o in zip(*path, strict=True)])
    ds = dataset(grid, winds[:, 0], HOURS, "u850")
    ds["u850"].attrs["units"] = "m s-1"
    ds["v850"] = (ds.u850.dims, winds[:, 1], {"units": "m s-1"})
    strong = Criteria(vorticity=6e-5)
    found = track(ds, Sources(rotation=("u850", "v850")), strong).table
    assert found["track"].nunique() == 1
    assert gaps(found, *path, HOURS).max() < 60  # a fifth of the spacing
    assert found["vorticity"].min() > 6e-5
    assert found["wind"].max() < 30.5
    backwards = ds.assign(u850=-ds.u850, v850=-ds.v850)
    backwards.u850.attrs = backwards.v850.attrs = {"units": "m s-1"}
    rest = track(backwards, Sources(rotation=("u850", "v850")), strong).table
    assert rest.empty or gaps(rest, *path, rest["lead"]).min() > 500


def test_a_warm_core_is_told_from_a_cold_one():
    warm_path, cold_path = along(20, -60, 300, 6, HOURS), along(45, 10, 90, 10, HOURS)
    ds = moving(EVEN, [warm_path, cold_path], HOURS)
    dims, shape = ("time", "lat", "lon"), (len(HOURS), *EVEN.shape)
    bump = [np.stack([low(EVEN, a, o, depth=1, radius=3 * DEGREE) for a, o in zip(*p, strict=True)]) for p in (warm_path, cold_path)]
    thickness = 3700 + 60 * bump[0] - 60 * bump[1]
    ds["z500"] = (dims, np.full(shape, 5600 * 9.80665), {"units": "m2 s-2"})
    ds["z300"] = (dims, (5600 + thickness) * 9.80665, {"units": "m2 s-2"})
    ds["t400"] = (dims, 250 + 4 * bump[0] - 4 * bump[1], {"units": "K"})
    assert track(ds, MSL).table["track"].nunique() == 2
    for warm in (("z300", "z500"), ("z500", "z300"), ("t400",)):
        found = track(ds, Sources("msl", warm=warm)).table
        assert found["track"].nunique() == 1
        assert gaps(found, *warm_path, HOURS).max() < 30


def test_a_storm_at_the_edge_of_a_window_is_not_known_to_close():
    lat, lon = along(40, 0, 90, 12, HOURS)
    whole = moving(EVEN, [(lat, lon)], HOURS, radius=3 * DEGREE)
    window = whole.sel(lat=slice(25, 60), lon=slice(0, 22))
    found = track(window, MSL, Criteria(lifetime_hours=0)).table
    assert 0 < len(found) < len(HOURS)
    assert gaps(found, lat, lon, HOURS).max() < 20
    masked = whole.where(whole.lon > 12)
    assert len(track(masked, MSL, Criteria(lifetime_hours=0)).table) < len(HOURS)


def test_a_contour_that_leaves_the_data_is_not_closed():
    # Pressure rises by 2 hPa at 4.3 degrees from the centre: inside the radius, but outside a window that ends 3 degrees away.
    whole = moving(EVEN, [([41.0], [20.0])], [0.0], depth=1500, radius=8 * DEGREE)
    assert len(track(whole, MSL).table) == 1
    assert len(track(whole.sel(lon=slice(0, 26)), MSL).table) == 1
    assert track(whole.sel(lon=slice(0, 24)), MSL).table.empty
    assert track(whole.sel(lat=slice(38, 90)), MSL).table.empty
    assert track(whole.where(whole.lat < 44), MSL).table.empty
