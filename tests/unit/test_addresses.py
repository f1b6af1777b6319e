"""Zarr stores by address: values, laziness, formats and chains as on disk; every way in which an address fails."""

import functools
import http.server
import importlib
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
from cli_support import call
from fsspec.implementations.memory import MemoryFileSystem
from interchange_support import WB2, renamed, weather

from anygrid.cli.words import gathered
from anygrid.errors import FileError
from anygrid.fields.variables import read_values
from anygrid.io import Pairs, addresses, read

fsspec_registry = importlib.import_module("fsspec.registry")  # the package has a mapping of this name
FIT = (
    "--inputs",
    "z500",
    "t2m",
    "--lead",
    "6h",
    "--operator",
    "sfno",
    "--modes",
    "5",
    "--width",
    "4",
    "--depth",
    "1",
    "--steps",
    "2",
    "--unroll",
    "1",
    "--validation",
    "0",
)


def published(times=12):
    """The schema of WeatherBench 2: time, level, latitude, longitude, long names; three times a chunk."""
    return renamed(weather(times), WB2).chunk(time=3)


def put(ds, address, zarr_format=2, consolidated=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata of format 3 are no standard yet
        ds.to_zarr(address, zarr_format=zarr_format, consolidated=consolidated)


@pytest.fixture
def bucket():
    """A folder in memory, emptied afterwards."""
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


class Fake(MemoryFileSystem):
    """The memory under another scheme, whose requests are kept and can be made to fail."""

    asked: tuple[str, ...] = ()
    failure = None
    failing = ""

    def __init__(self, token="default", **options):
        super().__init__(**options)
        self.token = token

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://").removeprefix("fake://"))

    def cat_file(self, path, start=None, end=None):
        type(self).asked += (path.partition(".zarr/")[2],)
        if self.failure is not None and self.failing in path:
            if isinstance(self.failure, float):
                time.sleep(self.failure)
            else:
                raise self.failure
        return super().cat_file(path, start, end)


@pytest.fixture
def fake(bucket, monkeypatch):
    """A store ``fake://.../era5.zarr``, also under ``gs://``, and the class that serves it."""

    class Served(Fake):
        protocol = ("fake", "gs", "gcs")

    for scheme in ("fake", "gs"):
        monkeypatch.setitem(fsspec_registry._registry, scheme, Served)
    put(published(), f"{bucket}/era5.zarr")
    return Served, f"fake://{bucket.removeprefix('memory://')}/era5.zarr"


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_in_memory_is_read_as_one_on_disk(bucket, tmp_path, zarr_format, consolidated):
    ds = published()
    put(ds, f"{bucket}/era5.zarr", zarr_format, consolidated)
    put(ds, tmp_path / "era5.zarr", zarr_format, consolidated)
    there, here = read(f"{bucket}/era5.zarr/"), read(tmp_path / "era5.zarr")
    assert there.encoding["source"] == f"{bucket}/era5.zarr"
    assert there.geopotential.encoding["preferred_chunks"] == here.geopotential.encoding["preferred_chunks"]
    xr.testing.assert_identical(there.load(), here.load())
    xr.testing.assert_equal(there, ds.compute())


def test_only_metadata_coordinates_and_what_is_used_are_fetched(fake):
    served, address = fake
    ds = read(address)
    chunks = {name for name in served.asked if name.rpartition("/")[2][0] != "."}
    assert chunks == {"time/0", "level/0", "latitude/0", "longitude/0"}
    served.asked = ()
    ds.geopotential.isel(time=4).load()
    assert served.asked == ("geopotential/1.0.0.0",)


def test_pairs_fetch_the_chunks_of_their_variables_alone(fake):
    served, address = fake
    pairs = Pairs(read(address), ("geopotential@level=500", "2m_temperature"), ("2m_temperature",), lead="6h")
    a, u = pairs.batch(np.arange(11))
    np.testing.assert_array_equal(a[:, 0, 0], published().geopotential.sel(level=500)[:11])
    np.testing.assert_array_equal(u[:, 0, 0], published()["2m_temperature"][1:])
    assert not any(name.startswith(("temperature/0", "mean_sea_level_pressure/0")) for name in served.asked)
    served.asked = ()
    pairs.batch(np.arange(11))  # of another epoch
    assert served.asked == ()


def test_consolidated_metadata_save_requests(fake):
    served, address = fake
    read(address)
    assert not any(name.endswith(".zarray") for name in served.asked)
    assert served.asked[0] == ".zmetadata"


def test_several_addresses_are_one_data_set(bucket, tmp_path):
    ds = published()
    put(ds.isel(time=slice(6)), f"{bucket}/a.zarr")
    put(ds.isel(time=slice(6, None)), tmp_path / "b.zarr")
    both = read([str(tmp_path / "b.zarr"), f"{bucket}/a.zarr"])
    assert both.geopotential.chunks is not None
    xr.testing.assert_equal(both.load(), ds.compute())
    put(ds.isel(time=slice(4, 8)), f"{bucket}/c.zarr")
    with pytest.raises(FileError, match=r"c\.zarr: expected times after the end of a\.zarr"):
        read([f"{bucket}/a.zarr", f"{bucket}/c.zarr"])


@pytest.mark.parametrize("chain", ["simplecache::", ""])
def test_access_is_anonymous_unless_fsspec_is_configured(fake, monkeypatch, chain):
    served, address = fake
    tokens = []
    monkeypatch.setattr(served, "__init__", lambda self, token="default", **kw: (tokens.append(token), MemoryFileSystem.__init__(self))[0])
    address = chain + address.replace("fake://", "gs://")
    xr.testing.assert_equal(read(address).load(), published().compute())
    assert set(tokens) == {"anon"}
    tokens.clear()
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "google_default"})
    read(address)
    assert set(tokens) == {"google_default"}


def test_file_addresses_are_paths(tmp_path):
    weather(2).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    xr.testing.assert_equal(read(f"file://{tmp_path}/a.nc").load(), weather(2))


def test_http(tmp_path):
    pytest.importorskip("aiohttp")
    put(published(), tmp_path / "era5.zarr")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        xr.testing.assert_equal(read(f"http://127.0.0.1:{server.server_port}/era5.zarr").load(), published().compute())
        with pytest.raises(FileError, match=r"did you mean 'era5\.zarr'"):
            read(f"http://127.0.0.1:{server.server_port}/era.zarr")
        server.shutdown()


def refused(address):
    with pytest.raises(FileError) as caught:
        read(address)
    assert caught.value.where.startswith(str(address).rstrip("/"))
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("{}/era.zarr", "nothing of that name.\nhint: did you mean 'era5.zarr'?"),
        ("memory://no-such-folder/era5.zarr", "nothing of that name.\nhint: "),
        ("{}", "a folder without its metadata.\nhint: choose from: empty.zarr, era5.zarr, half.zarr, page.zarr"),
        ("{}/era5.nc", "a single file.\nhint: download it first"),
        ("{}/era5.zarr/.zattrs", "a single file.\nhint: download it first"),
        ("{}/era5.zarr/geopotential", "a single array"),
        ("{}/page.zarr", "a web page"),
        ("{}/half.zarr", "expected a whole Zarr store"),
        ("{}/empty.zarr", "at least one variable, got a Zarr store without any.\nhint: the server may list no folders"),
        ("{}/*.zarr", "a pattern"),
        ("memry://a/b.zarr", "a scheme that fsspec knows, got 'memry://'.\nhint: did you mean 'memory'?"),
        ("gopher://a/b.zarr", "hint: choose from: "),
        ("simplecache::memry://a/b.zarr", "did you mean 'memory'?"),
        ("reference::{}/era5.zarr", "references"),
        ("memory://", "expected a Zarr store"),
    ],
)
def test_what_is_no_store_is_said(bucket, address, says):
    put(published(2), f"{bucket}/era5.zarr")
    files, root = fsspec.core.url_to_fs(bucket)
    files.pipe_file(f"{root}/page.zarr/.zmetadata", b"<html>not found</html>")
    files.pipe_file(f"{root}/half.zarr/.zmetadata", b'{"zarr_consolidated_format": 1}')
    files.pipe_file(f"{root}/empty.zarr/.zgroup", b'{"zarr_format": 2}')
    assert says in refused(address.format(bucket))


@pytest.mark.parametrize(("address", "package"), [("gs://b/a.zarr", "gcsfs"), ("s3://b/a.zarr", "s3fs"), ("https://h/a.zarr", "aiohttp")])
def test_a_package_that_is_missing_is_named(monkeypatch, address, package):
    scheme = address.partition(":")[0]
    monkeypatch.delitem(fsspec_registry._registry, scheme, raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert f'none ({package}).\nhint: pip install {package}, or all at once: pip install "anygrid[remote]"' in refused(address)


class Answered(Exception):
    """As aiohttp and gcsfs tell a status."""

    status = 403


Answered.__module__ = "aiohttp.client_exceptions"


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (PermissionError("Access Denied"), "no permission: PermissionError (Access Denied).\nhint: where it needs an account"),
        (Answered("403"), "no permission"),
        (OSError("Forbidden: https://storage.googleapis.com/..."), "no permission"),
        (
            ConnectionError("Cannot connect to host"),
            "expected an answer, got ConnectionError (Cannot connect to host).\nhint: check the net",
        ),
        (3.0, "expected an answer, got none within 0.2 s.\nhint: check the network"),
        (ZeroDivisionError(), "expected a whole Zarr store, got ZeroDivisionError.\nhint: it may be damaged"),
    ],
)
def test_servers_that_refuse_fail_or_are_silent(fake, monkeypatch, failure, says):
    served, address = fake
    monkeypatch.setattr(addresses, "_PATIENCE", 0.2)
    served.failure = failure
    begun = time.monotonic()
    assert says in refused(address)
    assert time.monotonic() - begun < 10


def test_a_bucket_that_refuses_what_it_lacks_is_read(fake):
    """Without the right to list, s3 answers 403 for an object that is not there."""
    served, address = fake
    files = fsspec.filesystem("memory")
    files.rm(f"/{address.removeprefix('fake://')}/.zmetadata")
    served.failure, served.failing = PermissionError("Access Denied"), ".zmetadata"
    xr.testing.assert_equal(read(address).load(), published().compute())


def test_a_network_that_fails_later_is_named(fake):
    served, address = fake
    ds = read(address)
    served.failure, served.failing = ConnectionError("gone"), "geopotential/2"
    np.testing.assert_array_equal(read_values(ds.geopotential[0]), published(1).geopotential[0])
    with pytest.raises(FileError, match=f"(?s){address}.*ConnectionError.*check the network"):
        read_values(ds.geopotential[6])


def test_an_address_that_became_a_path_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="give an address as text"):
        read(Path("gs://bucket/era5.zarr"))


def test_the_command_line_leaves_addresses_alone(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put(published(), f"{bucket}/era5-6h.zarr")
    code, out, err = call(capsys, "info", f"{bucket}/era5-6h.zarr")
    assert code == 0, err
    assert "geopotential: time x level x latitude x longitude" in out
    code, out, err = call(capsys, "fit", *FIT, f"{bucket}/era5-6h.zarr")
    assert code == 0, err
    assert out == "era5-6h.anygrid\n"
    assert f'"{bucket}/era5-6h.zarr"' in (tmp_path / "runs/era5-6h/run.toml").read_text()
    code, _, err = call(capsys, "forecast", "era5-6h.anygrid", f"{bucket}/era5-6h.zarr", "--steps", "1", "-o", "out.nc")
    assert code == 0, err
    code, _, err = call(capsys, "verify", "out.nc", f"{bucket}/era5-6h.zarr", "--draws", "10")
    assert code in (0, 2)
    assert "nothing of that name" not in err
    code, _, err = call(capsys, "info", f"{bucket}/era.zarr")
    assert code == 2
    assert "hint: did you mean 'era5-6h.zarr'?" in err
    assert gathered(["fit", "-i", "z500", "gs://a/b"]) == ["fit", "-i", "z500", "gs://a/b"]


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "darcy", "-n", "2", "--resolution", "16", "-o", "s3://bucket/darcy.zarr"),
        ("fit", "a.nc", *FIT, "-o", "gs://bucket/a.anygrid"),
        ("fit", "a.nc", *FIT, "-o", "a.anygrid", "--run", "simplecache::gs://bucket/run"),
        ("run", "darcy", "--out", "memory://darcy"),
        ("track", "a.nc", "-o", "https://host/tracks.csv"),
        ("evaluate", "w.anygrid", "a.nc", "--report", "gs://bucket/report"),
        ("export", "w.anygrid", "-o", "gs://bucket/page/"),
    ],
)
def test_nothing_is_written_to_addresses(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    weather(3).to_netcdf("a.nc", engine="h5netcdf")
    before = set(tmp_path.iterdir())
    code, _, err = call(capsys, *words)
    assert code == 2, err
    assert "expected a path on this machine, got an address.\nhint: addresses are only read from" in err
    assert set(tmp_path.iterdir()) == before
