"""Damaged, foreign and hostile files: only errors of our own come out, no code runs, and nothing hangs."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from anygrid.errors import AnygridError, FileError
from anygrid.fields.variables import read_values
from anygrid.io import read

MAGIC = {
    "any": b"",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "netcdf3": b"CDF\x01",
    "netcdf3-64": b"CDF\x02",
    "cdf5": b"CDF\x05",
    "grib1": b"GRIB\x00\x00\x40\x01",
    "grib2": b"GRIB\x00\x00\x00\x02" + (64).to_bytes(8, "big"),
    "npy": b"\x93NUMPY\x01\x00",
    "zip": b"PK\x03\x04",
    "mat5": b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM",
    "pt": b"\x80\x02",
}
SUFFIX = {"pt": ".pt", "zip": ".npz", "grib1": ".grib", "grib2": ".grib"}


def survives(path):
    """Read the file and all its values; the message of our own error, or nothing. Any other error goes up."""
    message = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = read(path)
            for array in (*ds.data_vars.values(), *ds.coords.values()):
                read_values(array)
            ds.close()
        except AnygridError as error:
            message = str(error)
    assert not message or "expected" in message
    return message


def whole_files(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 8, 8)).astype("f4")
    ds = xr.Dataset({"u": (("time", "y", "x"), values)}, {"time": np.arange(3.0), "x": np.arange(8.0)})
    files = {n: folder / n for n in ("classic.nc", "four.nc", "bare.h5", "a.npz", "a.npy", "a.pt", "a.mat", "seven.mat", "a.zarr.zip")}
    ds.to_netcdf(files["classic.nc"], engine="scipy")
    ds.to_netcdf(files["four.nc"], engine="h5netcdf")
    with h5py.File(files["bare.h5"], "w") as f:
        f.create_dataset("a", data=values, compression="gzip", fletcher32=True)
    np.savez_compressed(files["a.npz"], a=values, u=values)
    np.save(files["a.npy"], values)
    torch.save({"x": torch.from_numpy(values), "y": torch.from_numpy(values)}, files["a.pt"])
    scipy.io.savemat(files["a.mat"], {"a": values, "u": values}, do_compression=True)
    with h5py.File(files["seven.mat"], "w", userblock_size=512) as f:
        f["a"] = values.T
    with files["seven.mat"].open("r+b") as f:
        f.write(b"MATLAB 7.3 MAT-file")
    ds.to_zarr(folder / "a.zarr", zarr_format=2, consolidated=False)
    with zipfile.ZipFile(files["a.zarr.zip"], "w") as archive:
        for piece in (folder / "a.zarr").rglob("*"):
            archive.write(piece, piece.relative_to(folder / "a.zarr"))
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    found = whole_files(folder)
    assert not any(survives(path) for path in found.values()), "the undamaged files are read"
    return {name: path.read_bytes() for name, path in found.items()}


KINDS = ["classic.nc", "four.nc", "bare.h5", "a.npz", "a.npy", "a.pt", "a.mat", "seven.mat", "a.zarr.zip"]
QUIET = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", MAGIC)
@QUIET
@given(tail=st.binary(max_size=600))
@example(tail=b"")
def test_bytes_behind_any_magic(tmp_path, kind, tail):
    path = tmp_path / f"f{SUFFIX.get(kind, '.bin')}"
    path.write_bytes(MAGIC[kind] + tail)
    assert survives(path)


@pytest.mark.parametrize("name", KINDS)
@QUIET
@given(share=st.floats(0, 0.999))
@example(share=0.0)
@example(share=0.999)
def test_truncated_anywhere(tmp_path, files, name, share):
    whole = files[name]
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * share)])
    survives(path)


@pytest.mark.parametrize("name", KINDS)
def test_cut_in_half_is_an_error_that_says_so(tmp_path, files, name):
    path = tmp_path / name
    path.write_bytes(files[name][: len(files[name]) // 2])
    assert "truncated or damaged" in survives(path) or "damaged" in survives(path)


@pytest.mark.parametrize("name", [k for k in KINDS if not k.endswith(("h5", "four.nc", "seven.mat"))])
@QUIET
@given(data=st.data())
def test_flipped_bytes(tmp_path, files, name, data):
    damaged = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(bytes(damaged))
    survives(path)


@QUIET
@given(text=st.text(max_size=40))
@example(text="")
@example(text="\0")
@example(text="a" * 5000)
@example(text="[[[")
@example(text="~nobody/x")
def test_any_path(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    try:
        read(text)
    except AnygridError:
        return
    raise AssertionError(f"{text!r} was read")


WEATHER = Path(__file__).parents[2].parent / "shared/data/weather/era5-levels-members.grib"


@pytest.mark.skipif(not WEATHER.is_file(), reason="the real weather data of ../shared/data are not here")
@pytest.mark.parametrize("share", [0.001, 0.305, 0.99])
def test_a_cut_grib_file_is_refused_rather_than_read_in_part(tmp_path, share):
    pytest.importorskip("cfgrib")
    whole = WEATHER.read_bytes()
    (tmp_path / "a.grib").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileError, match="ends early"):
        read(tmp_path / "a.grib")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("the pickle ran",)


def test_pickles_are_never_run(tmp_path):
    torch.save({"a": Bomb()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    np.savez(tmp_path / "c.npz", a=np.array([Bomb()], dtype=object))
    np.save(tmp_path / "d.npy", np.array([Bomb()], dtype=object))
    for name in ("a.pt", "b.pt", "c.npz", "d.npy"):
        with pytest.raises(FileError):
            read(tmp_path / name)


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "empty.nc").write_bytes(b"")
    (tmp_path / "page.nc").write_bytes(b"<html>404 not found</html>")
    (tmp_path / "a.nc.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "folder").mkdir()
    xr.Dataset(coords={"x": [1.0]}).to_netcdf(tmp_path / "none.nc", engine="scipy")
    cases = {
        "empty.nc": "an empty file",
        "page.nc": "a known kind of data file, got another kind",
        "a.nc.gz": "unpack it first",
        "folder": "a folder with data files",
        "none.nc": "at least one variable",
        "emtpy.nc": "did you mean 'empty.nc'",
        "*.grib": "files that match",
        "no/where.nc": "there is no folder",
    }
    for name, message in cases.items():
        with pytest.raises(FileError, match=message):
            read(tmp_path / name)
    with pytest.raises(FileError, match="at least one path"):
        read([])


def test_a_zarr_store_with_a_broken_chunk(tmp_path):
    ds = xr.Dataset({"u": (("time", "x"), np.random.default_rng(0).standard_normal((4, 64)))})
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    chunk = tmp_path / "a.zarr/u/0.0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    assert "damaged" in survives(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/.zgroup").write_text("{")
    assert "damaged" in survives(tmp_path / "a.zarr")


def test_an_npz_that_unpacks_to_nonsense_sizes(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    assert survives(tmp_path / "a.npz")
