"""Grids out of coordinates: sphere, boxes, points; periodicity; what is refused."""

import math

import numpy as np
import pytest
import xarray as xr

from anygrid.errors import DataError, GridError
from anygrid.fields import find_grid, find_layout, grid_coordinates
from anygrid.grid import Axis, Bounded, Box, Interval, Periodic, Points, Sphere, gaussian_latitudes


def grid_of(coords, periodic=None, dims=None, values=None, **attrs):
    dims = dims or tuple(coords)
    shape = tuple(len(coords[d]) for d in dims)
    held = {d: (d, c, attrs.get(d, {})) for d, c in coords.items()}
    ds = xr.Dataset({"u": (("sample", *dims), np.zeros((2, *shape)) if values is None else values)}, held)
    return find_grid(ds, ["u"], find_layout(ds, ["u"]), periodic=periodic)


def smooth(n, kind, seed=0):
    """Eight random functions on n points: periodic, or one half of a period."""
    rng = np.random.default_rng(seed)
    x = np.arange(n) / n * (1 if kind == "periodic" else 0.5)
    waves = [rng.standard_normal((8, 1)) * np.sin(2 * np.pi * k * x + rng.uniform(0, 6, (8, 1))) / k for k in range(1, 5)]
    return sum(waves)


def test_global_longitude_is_periodic():
    grid, notes = grid_of({"lat": np.arange(-88.75, 90, 2.5), "lon": np.arange(0, 360, 2.5)})
    assert grid == Sphere(Axis("lat", Bounded(-90, 90), 72, "cells"), Axis("lon", Periodic(0, 360), 144))
    assert grid.weights().sum().item() == pytest.approx(4 * math.pi, rel=1e-12)
    assert any("once round" in n for n in notes)


@pytest.mark.parametrize("first", [0.0, -180.0, 0.5, -179.5])
def test_longitude_keeps_its_origin(first):
    grid, _ = grid_of({"lat": np.arange(-60, 61, 10.0), "lon": first + np.arange(360)})
    assert grid.lon.periodic
    assert grid.lon.interval.length == 360
    np.testing.assert_allclose(grid.lon.coordinates(), first + np.arange(360), atol=1e-9)


def test_regional_longitude_is_bounded_and_float32_is_read_as_written():
    lon = np.arange(0, 10.05, 0.1).astype(np.float32)
    grid, _ = grid_of({"lat": np.arange(45, 50.05, 0.1).astype(np.float32), "lon": lon})
    assert not grid.lon.periodic
    assert grid.lon.interval == Interval(0.0, 10.0)
    assert grid.lat.interval == Interval(45.0, 50.0)


def test_gaussian_latitudes_rounded_and_descending():
    lat = np.round(gaussian_latitudes(48)[0], 3)[::-1]
    grid, notes = grid_of({"lat": lat, "lon": np.arange(96) * 3.75})
    assert grid == Sphere.gauss(48, 96)
    assert any("Gaussian" in n and "descends" in n for n in notes)


def test_latitudes_with_the_poles_are_vertices():
    grid, _ = grid_of({"lat": np.linspace(90, -90, 61), "lon": np.arange(0, 360, 3.0)})
    assert grid.lat == Axis("lat", Bounded(-90, 90), 61, "vertices")
    assert not grid.gaussian


def test_latitude_and_longitude_by_units_alone():
    grid, _ = grid_of(
        {"a": np.arange(-60, 61, 10.0), "b": np.arange(0, 360, 10.0)}, a={"units": "degrees_north"}, b={"units": "degrees_east"}
    )
    assert isinstance(grid, Sphere)
    assert grid.dims == ("a", "b")


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"lat": np.arange(-60, 61, 10.0), "lon": np.arange(0, 361, 10.0)}, "each meridian once"),
        ({"lat": np.arange(-100, 101, 10.0), "lon": np.arange(0, 360, 10.0)}, "between -90 and 90"),
        ({"lat": np.arange(-60, 61, 10.0), "lon": np.r_[350.0, 355.0, 0.0, 5.0]}, r"% 360 - 180"),
        ({"x": np.array([0.0, 1.0, 1.0, 2.0])}, "only ascend or only descend"),
        ({"x": np.array([0.0, np.nan, 1.0, 2.0])}, "1 that are not"),
        ({"x": np.array(["a", "b", "c", "d"])}, "numbers"),
    ],
)
def test_bad_coordinates(coords, message):
    with pytest.raises(GridError, match=message):
        grid_of(coords)


def test_uneven_coordinates_declared_periodic():
    with pytest.raises(GridError, match="even spacing on a periodic axis"):
        grid_of({"x": np.linspace(0, 1, 9) ** 2}, periodic={"x": True})


def test_uneven_coordinates_are_bounded_nodes():
    x = np.linspace(0, 1, 9) ** 2
    grid, notes = grid_of({"x": x})
    assert grid == Box((Axis("x", Interval(0.0, 1.0), 9, "nodes", tuple(x.tolist())),))
    assert any("unevenly" in n for n in notes)


def test_declaring_an_unknown_axis():
    with pytest.raises(GridError, match="--periodic/--bounded y"):
        grid_of({"x": np.arange(8.0)}, periodic={"y": True})


@pytest.mark.parametrize(
    ("x", "periodic", "expected"),
    [
        (np.arange(8) / 8, True, Axis("x", Periodic(0, 1), 8)),
        (np.linspace(0, 1, 9), False, Axis("x", Bounded(0, 1), 9)),
        ((np.arange(8) + 0.5) / 8, True, Axis("x", Periodic(0, 1), 8, "cells")),
        ((np.arange(8) + 0.5) / 8, False, Axis("x", Bounded(0, 1), 8, "cells")),
        (-1 + (np.arange(64) + 0.5) / 32, True, Axis("x", Periodic(-1, 1), 64, "cells")),
        (np.arange(64) / 64 * 2 * np.pi, True, Axis("x", Periodic(0, 2 * np.pi), 64)),
        (5 - 10 * np.arange(21) / 20, False, Axis("x", Bounded(-5, 5), 21)),
    ],
)
def test_extent_of_even_points(x, periodic, expected):
    grid, _ = grid_of({"x": x}, periodic={"x": periodic})
    (axis,) = grid.axes
    assert (axis.placement, axis.size, axis.periodic) == (expected.placement, expected.size, expected.periodic)
    np.testing.assert_allclose([axis.interval.lower, axis.interval.upper], [expected.interval.lower, expected.interval.upper], atol=1e-9)


def test_cell_bounds_of_the_file_are_used():
    ds = xr.Dataset({"u": (("sample", "x"), np.zeros((2, 4))), "x_bnds": (("x", "b"), np.array([[0, 2], [2, 4], [4, 6], [6, 8.0]]))})
    ds = ds.assign_coords(x=("x", [1.0, 3.0, 5.0, 7.0], {"bounds": "x_bnds"}))
    grid, _ = find_grid(ds, ["u"], find_layout(ds, ["u"]), periodic={"x": False})
    assert grid.axes == (Axis("x", Bounded(0, 8), 4, "cells"),)


def test_periodicity_by_attribute_beats_the_data():
    grid, notes = grid_of({"x": np.arange(32.0)}, values=smooth(32, "half")[:2], x={"periodic": 1})
    assert grid.axes[0].periodic
    assert any("attribute" in n for n in notes)


def test_periodicity_from_the_data():
    for kind, expected in (("periodic", True), ("half", False)):
        values = smooth(64, kind)
        ds = xr.Dataset({"u": (("sample", "x"), values)}, {"x": np.arange(64.0)})
        grid, notes = find_grid(ds, ["u"], find_layout(ds, ["u"]))
        assert grid.axes[0].periodic is expected
        assert any("taken as" in n for n in notes)


def test_undecided_periodicity_is_asked_for():
    values = np.random.default_rng(0).standard_normal((16, 64))
    ds = xr.Dataset({"u": (("sample", "x"), values)}, {"x": np.arange(64.0)})
    with pytest.raises(DataError, match="--periodic x or --bounded x"):
        find_grid(ds, ["u"], find_layout(ds, ["u"]))


def test_dimension_without_coordinates_is_the_unit_interval():
    ds = xr.Dataset({"u": (("sample", "x"), smooth(64, "periodic"))})
    grid, notes = find_grid(ds, ["u"], find_layout(ds, ["u"]))
    assert grid == Box((Axis("x", Periodic(0, 1), 64),))
    assert any("unit interval" in n for n in notes)


def test_a_slice_does_not_keep_the_whole_interval():
    whole = Box.uniform({"x": Periodic(0, 1)}, 64)
    ds = xr.Dataset({"u": (("sample", "x"), smooth(64, "periodic"))}, grid_coordinates(whole))
    layout = find_layout(ds, ["u"])
    assert find_grid(ds, ["u"], layout)[0] == whole
    assert find_grid(ds.isel(x=slice(None, None, 2)), ["u"], layout)[0] == whole.at(32)
    part = find_grid(ds.isel(x=slice(0, 20)), ["u"], layout)[0]
    assert not part.axes[0].periodic
    assert part.axes[0].interval.upper == pytest.approx(19 / 64)


def test_curvilinear_coordinates_are_refused_with_a_way_out():
    lat = np.add.outer(np.arange(5.0), 0.1 * np.arange(6.0))
    values = smooth(6, "half")[:, None, :] * np.ones((8, 5, 1))
    ds = xr.Dataset({"u": (("sample", "y", "x"), values)}, {"lat": (("y", "x"), lat), "lon": (("y", "x"), lat + 7)})
    with pytest.raises(GridError, match=r"ds.stack\(point="):
        find_grid(ds, ["u"], find_layout(ds, ["u"]), periodic={"y": False, "x": False})
    points = ds.stack(point=("y", "x")).reset_index("point")
    grid, _ = find_grid(points, ["u"], find_layout(points, ["u"]))
    assert isinstance(grid, Points)
    assert grid.shape == (30,)
    assert grid.names == ("lat", "lon")


def test_a_third_dimension_on_the_sphere_is_refused():
    ds = xr.Dataset({"u": (("sample", "level", "lat", "lon"), np.zeros((2, 3, 4, 6)))}, {"lat": np.arange(4.0), "lon": np.arange(6.0)})
    with pytest.raises(GridError, match="latitude and longitude only"):
        find_grid(ds, ["u"], find_layout(ds, ["u"], space=["level", "lat", "lon"]))
