"""Every format: names, values and laziness as written; published layouts; several files as one."""

import importlib.util
import zipfile
from pathlib import Path

import dask.array
import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr

from anygrid.errors import FileError
from anygrid.fields import find_grid, find_layout
from anygrid.io import Pairs, read

RNG = np.random.default_rng(0)
A, U = RNG.standard_normal((5, 8, 8)).astype("f4"), RNG.standard_normal((5, 8, 8, 4)).astype("f4")
WEATHER = Path(__file__).parents[2].parent / "shared/data/weather"
needs_weather = pytest.mark.skipif(not WEATHER.is_dir(), reason="the real weather data of ../shared/data are not here")


def field(times=4, **extra):
    values = RNG.standard_normal((times, 6, 8)).astype("f4")
    coords = {"time": np.arange(times) * 1.0, "y": np.arange(6) * 0.5, "x": np.arange(8) * 0.25}
    return xr.Dataset({"u": (("time", "y", "x"), values, {"units": "m s-1"})}, coords, extra)


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy", "netcdf4", "netcdf4-classic", "zarr2", "zarr3", "zarr-zip", "zarr-consolidated"])
def test_xarray_formats_round_trip(tmp_path, engine):
    ds = field()
    path = tmp_path / "data.bin"
    if engine in ("h5netcdf", "scipy"):
        ds.to_netcdf(path, engine=engine)
    elif engine.startswith("netcdf4"):
        pytest.importorskip("netCDF4")
        ds.to_netcdf(path, engine="netcdf4", format="NETCDF3_64BIT" if "classic" in engine else "NETCDF4")
    elif engine == "zarr-zip":
        ds.to_zarr(tmp_path / "folder", zarr_format=3, consolidated=False)
        with zipfile.ZipFile(path, "w") as archive:
            for piece in (tmp_path / "folder").rglob("*"):
                archive.write(piece, piece.relative_to(tmp_path / "folder"))
    else:
        ds.to_zarr(path, zarr_format=3 if engine == "zarr3" else 2, consolidated=engine == "zarr-consolidated")
    back = read(path)
    xr.testing.assert_equal(back.load(), ds)
    assert back.u.attrs["units"] == "m s-1"
    back.close()


def test_netcdf_variables_in_one_group_are_found_and_in_several_asked_for(tmp_path):
    ds = field()
    ds.to_netcdf(tmp_path / "a.nc", group="run1", engine="h5netcdf")
    xr.testing.assert_equal(read(tmp_path / "a.nc").load(), ds)
    ds.to_netcdf(tmp_path / "a.nc", group="run2", engine="h5netcdf", mode="a")
    with pytest.raises(FileError, match="groups run1, run2"):
        read(tmp_path / "a.nc")


def test_npz_with_names_and_axes(tmp_path):
    np.savez(tmp_path / "d.npz", a=A, u=U, t=np.arange(4) * 0.5, nu=np.arange(5.0))
    ds = read(tmp_path / "d.npz")
    assert ds.a.dims == ("sample", "x", "y")
    assert ds.u.dims == ("sample", "x", "y", "time")
    assert ds.nu.dims == ("sample",)
    np.testing.assert_array_equal(ds.time, [0, 0.5, 1, 1.5])
    np.testing.assert_array_equal(ds.u, U)


def test_npz_with_latitude_and_longitude(tmp_path):
    np.savez(tmp_path / "d.npz", sst=RNG.standard_normal((7, 4, 9)), lat=np.arange(4.0), lon=np.arange(9.0))
    ds = read(tmp_path / "d.npz")
    assert ds.sst.dims == ("sample", "lat", "lon")
    np.testing.assert_array_equal(ds.lon, np.arange(9.0))


@pytest.mark.parametrize(
    ("arrays", "dims"),
    [
        ({"data": (100, 64)}, {"data": ("sample", "x")}),
        ({"data": (100, 64, 64)}, {"data": ("sample", "x", "y")}),
        ({"data": (100, 11, 64)}, {"data": ("data_dim_0", "data_dim_1", "data_dim_2")}),
        ({"x": (50, 16, 16), "y": (50, 16, 16)}, {"x": ("sample", "x1", "x2"), "y": ("sample", "x1", "x2")}),
        ({"x": (50, 16), "y": (50, 9, 16)}, {"x": ("sample", "x1"), "y": ("sample", "time", "x1")}),
        ({"a": (50, 8, 8), "u": (50, 16, 16)}, {"a": ("sample", "x", "y"), "u": ("sample", "u_x", "u_y")}),
        ({"a": (50, 8, 12), "u": (50, 8, 12)}, {"a": ("sample", "dim_1", "dim_2"), "u": ("sample", "dim_1", "dim_2")}),
    ],
)
def test_axes_are_named_only_where_there_is_no_doubt(tmp_path, arrays, dims):
    np.savez(tmp_path / "d.npz", **{n: np.zeros(s, "f4") for n, s in arrays.items()})
    ds = read(tmp_path / "d.npz")
    found = {
        n: tuple(
            d.replace("dim_", f"{n}_dim_") if len(arrays) == 1 and "sample" not in ds[n].dims and "_dim" not in d else d for d in ds[n].dims
        )
        for n in arrays
    }
    assert found == dims


def test_one_trajectory_array_with_its_times(tmp_path):
    np.savez(tmp_path / "d.npz", w=np.zeros((7, 3, 8, 8)), t=np.arange(3.0))
    assert read(tmp_path / "d.npz").w.dims == ("sample", "time", "x", "y")


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "d.npy", A)
    ds = read(tmp_path / "d.npy")
    assert ds.data.dims == ("sample", "x", "y")
    np.testing.assert_array_equal(ds.data, A)


def test_pt_dictionary_of_tensors(tmp_path):
    torch.save({"x": torch.from_numpy(A) > 0, "y": torch.from_numpy(A).bfloat16(), "note": "kept out"}, tmp_path / "d.pt")
    ds = read(tmp_path / "d.pt")
    assert ds.x.dims == ds.y.dims == ("sample", "x1", "x2")
    np.testing.assert_array_equal(ds.x, A > 0)
    np.testing.assert_allclose(ds.y, A, rtol=1e-2)
    torch.save(torch.from_numpy(A), tmp_path / "e.pt")
    assert read(tmp_path / "e.pt").data.dims == ("sample", "x", "y")
    torch.save(torch.from_numpy(A), tmp_path / "f.pt", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read(tmp_path / "f.pt").data, A)


def test_matlab_v5_classical_files(tmp_path):
    scipy.io.savemat(tmp_path / "ns.mat", {"a": A, "u": U, "t": np.arange(4.0)})
    ds = read(tmp_path / "ns.mat")
    assert ds.a.dims == ("sample", "x", "y")
    assert ds.u.dims == ("sample", "x", "y", "time")
    np.testing.assert_array_equal(ds.u, U)
    scipy.io.savemat(tmp_path / "darcy.mat", {"coeff": A, "sol": A * 2, "Kcoeff": A})
    assert read(tmp_path / "darcy.mat").sol.dims == ("sample", "x", "y")
    scipy.io.savemat(tmp_path / "burgers.mat", {"a": A[:, 0], "u": A[:, 1], "visc": 0.1})
    assert read(tmp_path / "burgers.mat").u.dims == ("sample", "x")


def test_matlab_v73_is_transposed_back(tmp_path):
    with h5py.File(tmp_path / "ns.mat", "w", userblock_size=512) as file:
        for name, array in {"a": A, "u": U, "t": np.arange(4.0)[None]}.items():
            file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_("double")
    with (tmp_path / "ns.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    ds = read(tmp_path / "ns.mat")
    assert ds.a.dims == ("sample", "x", "y")
    assert ds.u.dims == ("sample", "x", "y", "time")
    assert isinstance(ds.u.data, dask.array.Array)
    np.testing.assert_array_equal(ds.a, A)
    np.testing.assert_array_equal(ds.u, U)
    np.testing.assert_array_equal(ds.time, np.arange(4.0))


def test_bare_hdf5(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["group/a"], file["group/u"], file["name"] = A, U, "text"
    ds = read(tmp_path / "d.h5")
    assert ds.group_a.dims == ("sample", "x", "y")
    np.testing.assert_array_equal(ds.group_u, U)


def the_well(path):
    """Two trajectories of three times on 8 x 6 points, as docs/data_format.md of the_well lays them out."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as f:
        f.attrs.update(
            dataset_name="toy", grid_type="cartesian", n_spatial_dims=2, n_trajectories=2, simulation_parameters=["Re"], Re=100.0
        )
        f.create_group("dimensions").attrs["spatial_dims"] = ["x", "y"]
        f["dimensions/time"] = np.arange(3.0, dtype="f4")
        for d, n in (("x", 8), ("y", 6)):
            f[f"dimensions/{d}"] = (np.arange(n, dtype="f4") + 0.5) / n
            bc = f.create_group(f"boundary_conditions/{d}_bc")
            bc.attrs.update(associated_dims=[d], bc_type="PERIODIC" if d == "x" else "WALL")
        data = {
            "t0_fields/density": ((2, 3, 8, 6), [True, True], True, True),
            "t0_fields/porosity": ((2, 8, 6), [True, True], True, False),
            "t0_fields/inflow": ((2, 3, 6), [False, True], True, True),
            "t1_fields/velocity": ((2, 3, 8, 6, 2), [True, True], True, True),
            "t2_fields/stress": ((2, 3, 8, 6, 2, 2), [True, True], True, True),
        }
        out = {}
        for name, (shape, dims, samples, times) in data.items():
            out[name] = rng.standard_normal(shape).astype("f4")
            f[name] = out[name]
            f[name].attrs.update(dim_varying=dims, sample_varying=samples, time_varying=times)
        f["scalars/Re"] = np.array([100.0], dtype="f4")
        f["scalars/Re"].attrs.update(sample_varying=False, time_varying=False)
        f["scalars/force"] = np.array([1.0, 2.0], dtype="f4")
        f["scalars/force"].attrs.update(sample_varying=True, time_varying=False)
    return out


def test_the_well(tmp_path):
    data = the_well(tmp_path / "toy.hdf5")
    ds = read(tmp_path / "toy.hdf5")
    assert ds.density.dims == ("sample", "time", "x", "y")
    assert ds.porosity.dims == ("sample", "x", "y")
    assert ds.inflow.dims == ("sample", "time", "y")
    assert ds.force.dims == ("sample",)
    assert ds.Re.item() == 100
    np.testing.assert_array_equal(ds.velocity_y, data["t1_fields/velocity"][..., 1])
    np.testing.assert_array_equal(ds.stress_xy, data["t2_fields/stress"][..., 0, 1])
    names = ["density", "porosity", "inflow", "force", "velocity_x"]
    pairs = Pairs(ds, names, ("density", "velocity_x"), lead=1)
    assert [(a.name, a.size, a.periodic, a.placement) for a in pairs.grid.axes] == [("x", 8, True, "cells"), ("y", 6, False, "cells")]
    a, u = pairs.batch(np.array([3]))
    np.testing.assert_array_equal(a[0, 0, 0], data["t0_fields/density"][1, 1])
    np.testing.assert_array_equal(a[0, 0, 1], data["t0_fields/porosity"][1])
    np.testing.assert_array_equal(a[0, 0, 2], np.broadcast_to(data["t0_fields/inflow"][1, 1], (8, 6)))
    assert (a[0, 0, 3] == 2).all()
    np.testing.assert_array_equal(u[0, 0, 1], data["t1_fields/velocity"][1, 2, ..., 0])


def test_pdebench_one_dimension(tmp_path):
    data = RNG.standard_normal((4, 5, 16)).astype("f4")
    with h5py.File(tmp_path / "b.hdf5", "w") as f:
        f["tensor"], f["x-coordinate"], f["t-coordinate"] = data, (np.arange(16) + 0.5) / 16, np.arange(6) * 0.1
    ds = read(tmp_path / "b.hdf5")
    assert ds.tensor.dims == ("sample", "time", "x")
    np.testing.assert_allclose(ds.time, np.arange(5) * 0.1)
    np.testing.assert_array_equal(ds.tensor, data)
    assert find_grid(ds, ["tensor"], find_layout(ds, ["tensor"]), periodic={"x": True})[0].axes[0].placement == "cells"


def test_pdebench_darcy_and_flow(tmp_path):
    nu, tensor = RNG.standard_normal((3, 8, 8)).astype("f4"), RNG.standard_normal((3, 1, 8, 8)).astype("f4")
    x = (np.arange(8) + 0.5) / 8
    with h5py.File(tmp_path / "d.hdf5", "w") as f:
        f["nu"], f["tensor"], f["x-coordinate"], f["y-coordinate"] = nu, tensor, x, x
    ds = read(tmp_path / "d.hdf5")
    assert ds.nu.dims == ds.tensor.dims == ("sample", "x", "y")
    np.testing.assert_array_equal(ds.tensor, tensor[:, 0])
    flow = {n: RNG.standard_normal((2, 3, 8, 8)).astype("f4") for n in ("density", "pressure", "Vx", "Vy")}
    with h5py.File(tmp_path / "c.hdf5", "w") as f:
        for n, v in {**flow, "x-coordinate": x, "y-coordinate": x, "t-coordinate": np.arange(4.0)}.items():
            f[n] = v
    ds = read(tmp_path / "c.hdf5")
    assert ds.Vy.dims == ("sample", "time", "x", "y")
    np.testing.assert_array_equal(ds.Vy, flow["Vy"])


def test_pdebench_groups_and_incompressible(tmp_path):
    data = RNG.standard_normal((3, 5, 8, 8, 2)).astype("f4")
    with h5py.File(tmp_path / "r.h5", "w") as f:
        for k in range(3):
            f[f"{k:04d}/data"] = data[k]
            f[f"{k:04d}/grid/x"] = f[f"{k:04d}/grid/y"] = np.linspace(-1, 1, 8)
            f[f"{k:04d}/grid/t"] = np.arange(5.0)
    ds = read(tmp_path / "r.h5")
    assert ds.data_1.dims == ("sample", "time", "x", "y")
    np.testing.assert_array_equal(ds.data_1, data[..., 1])
    with h5py.File(tmp_path / "n.h5", "w") as f:
        f["velocity"], f["force"], f["t"], f["particles"] = data, data[:, 0], np.zeros((3, 1)) + np.arange(5.0), data[..., :1]
    ds = read(tmp_path / "n.h5")
    assert ds.velocity_y.dims == ("sample", "time", "x", "y")
    assert ds.force_x.dims == ("sample", "x", "y")
    np.testing.assert_array_equal(ds.particles, data[..., 0])
    np.testing.assert_array_equal(ds.time, np.arange(5.0))


def test_folder_and_glob_join_along_time_in_order(tmp_path):
    ds = field(12)
    for k, part in enumerate((slice(8, 12), slice(0, 4), slice(4, 8))):
        ds.isel(time=part).to_netcdf(tmp_path / f"p{k}.nc", engine="h5netcdf")
    (tmp_path / "notes.txt").write_text("not data")
    for where in (tmp_path, tmp_path / "*.nc", str(tmp_path / "p?.nc"), [tmp_path / "p2.nc", tmp_path / "p0.nc", tmp_path / "p1.nc"]):
        back = read(where)
        assert isinstance(back.u.data, dask.array.Array)
        xr.testing.assert_equal(back.load(), ds)


def test_numbered_pieces_without_time_are_samples(tmp_path):
    parts = [xr.Dataset({"a": (("sample", "x"), np.full((2, 8), k, "f4"))}, {"x": np.arange(8.0)}) for k in range(12)]
    for k, part in enumerate(parts):
        part.to_netcdf(tmp_path / f"run{k}.nc", engine="scipy")
    back = read(tmp_path)
    assert back.a.shape == (24, 8)
    np.testing.assert_array_equal(back.a[:, 0], np.repeat(np.arange(12), 2))
    for k, part in enumerate(parts):
        part.isel(sample=0).to_netcdf(tmp_path / f"run{k}.nc", engine="scipy")
    back = read(tmp_path)
    assert back.a.dims == ("sample", "x")
    np.testing.assert_array_equal(back.a[:, 0], np.arange(12))


def test_trajectories_with_the_same_times_are_samples(tmp_path):
    parts = [field(4) for _ in range(3)]
    for k, part in enumerate(parts):
        part.to_zarr(tmp_path / f"{k}.zarr", zarr_format=3, consolidated=False)
    back = read(tmp_path)
    assert back.u.dims == ("sample", "time", "y", "x")
    np.testing.assert_array_equal(back.u[2], parts[2].u)


def test_pieces_with_different_variables_are_merged(tmp_path):
    ds = field(8).assign(v=lambda d: d.u * 2)
    for n in "uv":
        for k, part in enumerate((slice(0, 4), slice(4, 8))):
            ds[[n]].isel(time=part).to_netcdf(tmp_path / f"{n}{k}.nc", engine="h5netcdf")
    xr.testing.assert_equal(read(tmp_path).load()[["u", "v"]], ds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.isel(x=slice(0, 4)).assign_coords(time=d.time + 4), "4 points along x instead of 8"),
        (lambda d: d.assign_coords(x=d.x + 1, time=d.time + 4), "other values of x"),
        (lambda d: d.assign_coords(time=d.time + 2), "times after the end"),
        (lambda d: d.isel(y=slice(0, 3)).rename(u="v"), "3 points along y instead of 6"),
    ],
)
def test_pieces_that_do_not_fit(tmp_path, change, message):
    field().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    change(field()).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(FileError, match=message):
        read(tmp_path)


@needs_weather
def test_real_sea_surface_temperature():
    ds = read(WEATHER / "sea_surface_temperature_anomaly.nc")
    pairs = Pairs(ds, ("ssta",), ("ssta",), lead="1month")
    assert (len(pairs), pairs.dt, pairs.grid.gaussian, pairs.grid.shape) == (419, "1month", True, (48, 96))
    a, u = pairs.batch(np.array([5]))
    np.testing.assert_array_equal(a[0, 0, 0], ds.ssta[5, ::-1].values)
    np.testing.assert_array_equal(u[0, 0, 0], ds.ssta[6, ::-1].values)
    train, test = pairs.split(96)
    assert (len(train), len(test)) == (323, 95)


@needs_weather
def test_real_states_on_a_gaussian_grid_and_a_region():
    ds = read(WEATHER / "era5_tl31.nc")
    names = ["temperature@level=500", "u_component_of_wind@level=850"]
    grid, _ = find_grid(ds, names, find_layout(ds, names))
    assert grid.gaussian
    assert grid.shape == (32, 64)
    europe = read(WEATHER / "era5_europe")
    assert set(europe.data_vars) == {"q", "u", "v", "sp", "tcw", "u10", "v10"}
    pairs = Pairs(europe, ("u10", "q@level=850"), ("u10",), lead="3h")
    assert (len(pairs), pairs.dt, pairs.grid.lon.periodic) == (21, "3h", False)


@needs_weather
@pytest.mark.skipif(importlib.util.find_spec("cfgrib") is None, reason="cfgrib (the grib extra) is not installed")
def test_real_grib_with_members_and_levels():
    before = set(WEATHER.iterdir())
    ds = read(WEATHER / "era5-levels-members.grib")
    assert set(WEATHER.iterdir()) == before
    pairs = Pairs(ds, ("z@isobaricInhPa=500", "t@isobaricInhPa=850"), ("z@isobaricInhPa=500",), lead="12h")
    assert pairs.layout.samples == ("number",)
    assert len(pairs) == 30
    assert pairs.inputs[1].units == "K"
    assert pairs.grid.lon.periodic


def test_grib_without_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(100) + b"7777")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileError, match=r'pip install "anygrid\[grib\]"'):
        read(tmp_path / "a.grib")


def test_zip_of_zarr_is_told_from_npz_and_pt(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FileError, match="another kind"):
        read(tmp_path / "a.npz")
