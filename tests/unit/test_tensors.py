"""Data sets to tensors and back: order of dimensions, descending files, what is refused and how it is located."""

import numpy as np
import pytest
import torch
import xarray as xr

from anygrid.errors import DataError, FileError, GridError
from anygrid.fields import Layout, Variable, find_grid, find_layout, grid_coordinates, restore, to_dataset, to_tensor, variables_of
from anygrid.grid import Bounded, Box, Periodic, Sphere

GRID = Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 2)}, (4, 3))
LAYOUT = Layout(("sample",), "time", ("x", "y"))


def example():
    values = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
    return xr.Dataset({"u": (("sample", "time", "x", "y"), values)}, grid_coordinates(GRID))


def test_samples_then_time_are_flattened():
    u = to_tensor(example(), [Variable("u")], LAYOUT, GRID)
    assert u.dtype == torch.float32
    np.testing.assert_array_equal(u.numpy(), np.arange(120.0).reshape(10, 1, 4, 3))


def test_any_order_of_dimensions_in_the_file():
    mixed = example().transpose("y", "time", "x", "sample")
    np.testing.assert_array_equal(to_tensor(mixed, [Variable("u")], LAYOUT, GRID), to_tensor(example(), [Variable("u")], LAYOUT, GRID))


def test_descending_file_gives_ascending_tensor():
    ds = example()
    turned = ds.isel(x=slice(None, None, -1), y=slice(None, None, -1))
    np.testing.assert_array_equal(to_tensor(turned, [Variable("u")], LAYOUT, GRID), to_tensor(ds, [Variable("u")], LAYOUT, GRID))


def test_static_fields_and_parameters_are_repeated():
    ds = example().assign(f=("y", [1.0, 2.0, 3.0]), k=("sample", [5, 6]), c=((), 7.0))
    u = to_tensor(ds, [Variable(n) for n in "fkcu"], LAYOUT, GRID)
    np.testing.assert_array_equal(u[:, 0], np.broadcast_to([1.0, 2.0, 3.0], (10, 4, 3)))
    np.testing.assert_array_equal(u[:, 1, 0, 0], [5] * 5 + [6] * 5)
    assert (u[:, 2] == 7).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_missing_values_are_counted_and_located(bad):
    ds = example().assign_coords(time=np.datetime64("2000-01-01") + np.arange(5) * np.timedelta64(6, "h"))
    ds.u[1, 2, 3, 1] = bad
    ds.u[1, 3, 0, 0] = bad
    with pytest.raises(DataError, match=r"2 of 120 .*sample=index 1, time=2000-01-01T12:00:00, x=0.75, y=1\."):
        to_tensor(ds, [Variable("u")], LAYOUT, GRID)


def test_a_land_mask_is_named_as_such():
    ds = example()
    ds.u[:, :, 1, 2] = np.nan
    with pytest.raises(DataError, match="the same places are always missing"):
        to_tensor(ds, [Variable("u")], LAYOUT, GRID)


def test_beyond_float32_is_refused():
    ds = example().astype(np.float64)
    ds.u[0, 0, 0, 0] = 1e39
    with pytest.raises(DataError, match="1 of 120"):
        to_tensor(ds, [Variable("u")], LAYOUT, GRID)
    huge = example().astype(np.float64) * 0 + 1e38
    assert torch.isfinite(to_tensor(huge, [Variable("u")], LAYOUT, GRID)).all()


def test_complex_and_text_are_refused():
    for dtype, hint in ((np.complex64, "u_real"), ("U3", "numeric")):
        with pytest.raises(DataError, match=hint):
            to_tensor(example().astype(dtype), [Variable("u")], LAYOUT, GRID)


def test_wrong_size_is_refused():
    with pytest.raises(GridError, match=r"x 4, y 3.*got x 2, y 3"):
        to_tensor(example().isel(x=[0, 2]), [Variable("u")], LAYOUT, GRID)


def test_values_that_cannot_be_read_are_a_file_error():
    import dask.array as da

    def broken(block):
        if block.size:
            raise OSError("can't read data (wrong fletcher32 checksum)")
        return block

    ds = example()
    ds["u"] = (ds.u.dims, da.from_array(ds.u.values).map_blocks(broken, dtype=np.float32, meta=np.zeros((0,) * 4, np.float32)))
    with pytest.raises(FileError, match="checksum"):
        to_tensor(ds, [Variable("u")], LAYOUT, GRID)


def test_back_to_a_data_set():
    u = torch.arange(2 * 5 * 2 * 12.0).reshape(10, 2, 4, 3)
    v = (Variable("u", "m s-1", "speed", "wind_speed"), Variable("w"))
    ds = to_dataset(u, v, GRID, {"sample": [3, 4], "time": None})
    assert ds.u.dims == ("sample", "time", "x", "y")
    assert ds.u.attrs == {"units": "m s-1", "long_name": "speed", "standard_name": "wind_speed"}
    assert ds.w.attrs == {}
    assert list(ds.sample) == [3, 4]
    layout = find_layout(ds, ["u", "w"])
    grid, _ = find_grid(ds, ["u", "w"], layout)
    assert grid == GRID
    assert variables_of(ds, ["u", "w"]) == v
    np.testing.assert_array_equal(to_tensor(ds, v, layout, grid), u)


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match="a tensor of shape"):
        to_dataset(torch.zeros(2, 1, 3, 4), [Variable("u")], GRID, {"sample": None})
    with pytest.raises(DataError, match="6 rows"):
        to_dataset(torch.zeros(5, 1, 4, 3), [Variable("u")], GRID, {"sample": [0, 1], "time": [0, 1, 2]})


def test_restore_gives_back_the_file_s_own_coordinates():
    grid = Sphere.gauss(8, 16)
    lat = np.round(grid.lat.coordinates(), 3)[::-1].astype(np.float32)
    values = np.random.default_rng(0).standard_normal((2, 8, 16)).astype(np.float32)
    ds = xr.Dataset({"u": (("time", "lat", "lon"), values)}, {"lat": ("lat", lat, {"note": "kept"}), "lon": np.arange(16) * 22.5})
    layout = find_layout(ds, ["u"])
    found, _ = find_grid(ds, ["u"], layout)
    assert found == grid
    out = to_dataset(to_tensor(ds, [Variable("u")], layout, found), [Variable("u")], found, {"time": None})
    back = restore(out, ds)
    assert back.lat.attrs["note"] == "kept"
    xr.testing.assert_equal(back.u, ds.u)
    assert (back.u - ds.u).shape == (2, 8, 16)
    other = restore(out, ds.isel(lat=slice(0, 4)))
    xr.testing.assert_identical(other.lat, out.lat)
