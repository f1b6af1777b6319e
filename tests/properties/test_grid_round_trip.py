"""Data set -> tensor -> data set is the identity, and the coordinates of a grid give the grid back exactly."""

import numpy as np
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrid.fields import Variable, find_grid, find_layout, grid_coordinates, to_dataset, to_tensor, variables_of
from anygrid.grid import Axis, Box, Interval, Periodic, Points, Sphere

SETTINGS = settings(max_examples=60, deadline=None)
ends = st.floats(-1e3, 1e3).map(lambda v: round(v, 6))


# Strategies draw recipes and the tests build the grids: the type checker draws random numbers, which strategies may not.


@st.composite
def intervals(draw):
    low = draw(ends)
    return low, low + draw(st.floats(1e-3, 1e3)), draw(st.booleans())


@st.composite
def axes(draw, name):
    placement = draw(st.sampled_from(["vertices", "cells", "nodes"]))
    size = draw(st.integers(2, 9))
    # Gaps between 1 and 2: no axis of a real file is missing most of its period.
    steps = [draw(st.floats(1, 2)) for _ in range(size + 1)]
    return name, draw(intervals()), size, placement, steps, draw(st.sampled_from(["", "m", "degrees_north"]))


def build_axis(name, interval, size, placement, steps, units):
    interval = Interval(*interval)
    if placement != "nodes":
        return Axis(name, interval, size, placement, units=units)
    place = np.cumsum(steps)
    nodes = interval.lower + interval.length * place[:-1] / place[-1]
    return Axis(name, interval, size, "nodes", tuple(nodes.tolist()), units)


@st.composite
def boxes(draw):
    names = draw(st.lists(st.sampled_from(["x", "y", "z", "lat", "lon", "level", "foo", "time_like"]), min_size=1, max_size=3, unique=True))
    return "box", [draw(axes(n)) for n in names]


@st.composite
def spheres(draw):
    kind = draw(st.sampled_from(["gauss", "equiangular", "window"]))
    return (
        kind,
        draw(st.integers(2, 9)),
        draw(st.integers(2, 12)),
        draw(st.integers(-80, 60)),
        draw(st.one_of(st.none(), st.integers(-160, 100))),
    )


@st.composite
def points(draw):
    extent = draw(st.lists(intervals(), min_size=1, max_size=3))
    return "points", draw(st.integers(1, 12)), extent, draw(st.integers(0, 2**32)), draw(st.booleans())


def build(recipe):
    kind, *rest = recipe
    if kind == "box":
        return Box(tuple(build_axis(*a) for a in rest[0]))
    if kind == "points":
        n, extent, seed, weighted = rest
        rng, extent = np.random.default_rng(seed), tuple(Interval(*e) for e in extent)
        xy = np.stack([e.lower + e.length * rng.random(n) for e in extent], axis=1)
        return Points(xy, ("x", "y", "z")[: len(extent)], extent, rng.random(n) if weighted else None)
    nlat, nlon, low, west = rest
    if kind != "window":
        return Sphere.gauss(nlat, nlon) if kind == "gauss" else Sphere.equiangular(nlat, nlon)
    lon = Periodic(-180, 180) if west is None else Interval(float(west), 200.0)
    return Sphere(Axis("latitude", Interval(float(low), low + 20.0), nlat), Axis("longitude", lon, nlon, "cells"))


grids = st.one_of(boxes(), spheres(), points())


@SETTINGS
@given(recipe=grids, seed=st.integers(0, 99))
def test_a_grid_and_its_fields_come_back(recipe, seed):
    grid = build(recipe)
    variables = (Variable("u", "m s-1", "speed"), Variable("v"))
    u = torch.randn(3, 2, *grid.shape, generator=torch.Generator().manual_seed(seed))
    ds = to_dataset(u, variables, grid, {"sample": [0, 1, 2]})
    layout = find_layout(ds, ["u", "v"])
    found, _ = find_grid(ds, ["u", "v"], layout)
    assert found == grid
    assert variables_of(ds, ["u", "v"]) == variables
    assert torch.equal(to_tensor(ds, variables, layout, found), u)


@settings(max_examples=8, deadline=None)
@given(recipe=grids)
def test_also_through_a_file(tmp_path_factory, recipe):
    grid = build(recipe)
    path = tmp_path_factory.mktemp("round") / "f.nc"
    ds = xr.Dataset({"u": (("sample", *grid.dims), np.ones((2, *grid.shape), "f4"))}, grid_coordinates(grid))
    ds.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, engine="h5netcdf") as back:
        assert find_grid(back, ["u"], find_layout(back, ["u"]))[0] == grid


@SETTINGS
@given(recipe=st.one_of(boxes(), spheres()), flips=st.lists(st.booleans(), min_size=3, max_size=3), order=st.randoms())
def test_turned_and_transposed_files_give_the_same_tensor(recipe, flips, order):
    grid = build(recipe)
    u = torch.randn(2, 1, *grid.shape)
    ds = to_dataset(u, [Variable("u")], grid, {"sample": None})
    turned = ds.isel({d: slice(None, None, -1) for d, flip in zip(grid.dims, flips, strict=False) if flip})
    dims = list(turned.dims)
    order.shuffle(dims)
    turned = turned.transpose(*dims)
    layout = find_layout(turned, ["u"])
    found, _ = find_grid(turned, ["u"], layout)
    back = to_tensor(turned, [Variable("u")], layout, found)
    place = [found.dims.index(d) for d in grid.dims]
    assert torch.equal(back.permute(0, 1, *(2 + p for p in place)), u)
    assert set(found.axes) == set(grid.axes)
