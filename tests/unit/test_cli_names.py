"""Words to objects."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from anygrid.cli.names import flags, make_problem, operator_named, resolution, resolutions, variable_names
from anygrid.cli.requests import FitRequest, ProblemRequest, read_request, table
from anygrid.cli.selection import select_slices
from anygrid.errors import AnygridError, DataError, FileError, UsageError
from anygrid.grid import Bounded, Box, Periodic, Sphere
from anygrid.problems.burgers import Burgers
from anygrid.problems.navier_stokes import NavierStokes


def test_resolutions():
    assert resolution("85") == 85
    assert resolution("180x360") == (180, 360)
    assert resolutions(["48x96,24x48", "24x48", "7"]) == ((48, 96), (24, 48), 7)
    for bad in ("", "x", "12x", "0", "-3", "1.5", "12*4", "1e3", "9999999"):
        with pytest.raises(UsageError):
            resolution(bad)


def test_variable_names_keep_the_commas_of_a_level():
    assert variable_names(["a, b", "c"], "--inputs") == ("a", "b", "c")
    assert variable_names(["u@level=500,number=0,v"], "--inputs") == ("u@level=500,number=0", "v")
    with pytest.raises(UsageError, match="2 times"):
        variable_names(["a,a"], "--inputs")
    with pytest.raises(UsageError):
        variable_names([","], "--inputs")


def test_parameters_are_typed_by_the_problem():
    assert make_problem("Navier_Stokes", ["viscosity=1e-4", "modes=64"]) == NavierStokes(viscosity=1e-4, modes=64)
    assert make_problem("burgers", ["scheme=cole-hopf"]) == Burgers(scheme="cole-hopf")
    for word, hint in (
        ("viscosty=1", "viscosity"),
        ("viscosity", "for example"),
        ("viscosity=low", ""),
        ("modes=1.5", ""),
        ("scheme=colehopf", "cole-hopf"),
    ):
        with pytest.raises(UsageError) as caught:
            make_problem("burgers", [word])
        assert hint in caught.value.hint
    with pytest.raises(UsageError, match="did you mean 'darcy'"):
        make_problem("darci")


def test_flags():
    assert flags(["x,y"], ["z"]) == {"x": True, "y": True, "z": False}
    assert flags([], []) is None
    with pytest.raises(UsageError):
        flags(["x"], ["x"])


def test_operators_of_any_size():
    grid = Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 1)}, (16, 17))
    assert operator_named("default") is None
    fno = operator_named("FNO", width=4, modes=3, depth=2)(2, 1, grid)
    assert fno.arguments["modes"] == [3, 3]
    assert (fno.arguments["width"], fno.arguments["depth"]) == (4, 2)
    assert operator_named("unet", width=4, depth=1)(1, 1, grid).arguments["levels"] == 1
    assert operator_named("default", width=8)(1, 1, grid).arguments["width"] == 8
    for words in ({"name": "fn"}, {"name": "unet", "modes": 3}, {"name": "fno", "width": 0}):
        with pytest.raises(UsageError):
            operator_named(**words)
    with pytest.raises(AnygridError, match="16 functions that 16 points"):
        operator_named("fno", modes=40)(1, 1, grid)
    with pytest.raises(AnygridError):
        operator_named("default", modes=40)(1, 1, grid)
    globe = Sphere.gauss(48, 96)  # as many functions as were asked for, or as the axis carries
    for stride, kept in ((1, [47, 67]), (2, [23, 47])):
        assert operator_named("default", width=2, modes=kept[1], stride=stride)(1, 1, globe).arguments["modes"] == kept
    with pytest.raises(UsageError, match="fno does not"):
        operator_named("fno", stride=2)


def test_the_spherical_operator():
    made = operator_named("sfno", width=4, modes=6, depth=1)(1, 1, Sphere.gauss(12, 24))
    assert (made.arguments["degree"], made.arguments["width"], made.arguments["depth"]) == (5, 4, 1)
    assert operator_named("sfno")(1, 1, Sphere.gauss(12, 24)).arguments["degree"] == 11
    with pytest.raises(AnygridError, match="latitudes and longitudes, got a Box"):
        operator_named("sfno")(1, 1, Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 1)}, (16, 17)))
    with pytest.raises(AnygridError, match="at most the 12 degrees that 12x24 points"):
        operator_named("sfno", modes=40)(1, 1, Sphere.gauss(12, 24))


def test_the_u_shaped_spherical_operator():
    made = operator_named("sunet", width=4, modes=6, depth=2)(1, 1, Sphere.gauss(12, 24))
    assert (made.arguments["degree"], made.arguments["width"], made.arguments["levels"]) == (5, 4, 2)
    assert operator_named("sunet")(1, 1, Sphere.gauss(12, 24)).arguments["levels"] == 3
    assert operator_named("sunet", modes=3)(1, 1, Sphere.gauss(12, 24)).arguments["levels"] == 2
    with pytest.raises(AnygridError, match="sunet: expected data on latitudes and longitudes, got a Box"):
        operator_named("sunet")(1, 1, Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 1)}, (16, 17)))
    with pytest.raises(AnygridError, match="at most the 3 levels that 6 degrees allow"):
        operator_named("sunet", modes=6, depth=4)(1, 1, Sphere.gauss(12, 24))


@pytest.fixture
def cube():
    dates = pd.date_range("1979-01-01", periods=36, freq="MS")
    values = np.zeros((36, 5, 4))
    return xr.Dataset({"u": (("time", "lat", "k"), values)}, {"time": dates, "lat": [60.0, 30.0, 0.0, -30.0, -60.0]})


@pytest.mark.parametrize(
    ("word", "sizes"),
    [
        ("time=1979:1980", {"time": 24}),
        ("time=1980", {"time": 12}),
        ("time=:1979-06", {"time": 6}),
        ("time=1981-12:", {"time": 1}),
        ("time=1979-03-01..1979-05-01", {"time": 3}),
        ("time=1979-01-01T00:00:1979-02-01T00:00", {"time": 2}),
        ("lat=0:60", {"lat": 3}),
        ("lat=-30", {"lat": 1}),
        ("k=1:2", {"k": 2}),
    ],
)
def test_select(cube, word, sizes):
    got = select_slices(cube, [word])
    assert {d: got.sizes[d] for d in sizes} == sizes


@pytest.mark.parametrize("word", ["time", "time=", "tme=1979:1980", "time=2050:2060", "time=yesterday:today", "lat=a:b", "k=9:12"])
def test_select_refuses(cube, word):
    with pytest.raises((DataError, UsageError)) as caught:
        select_slices(cube, [word])
    assert caught.value.hint


def test_requests_survive_toml(tmp_path):
    import tomli_w

    for request in (
        FitRequest(data=("/a/*.nc",), inputs=("u@level=500",), outputs=("v",), lead="1month", budget="5m", increment=False, epochs=2.0),
        ProblemRequest("darcy", settings=("tau=2",), n=8, resolutions=("43,85",)),
    ):
        path = tmp_path / "run.toml"
        path.write_text(tomli_w.dumps({"request": table(request)}))
        assert read_request(path) == request


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[request]\ncommand = 'fly'",
        "[request]\ncommand = 'run'",
        "[request]\ncommand = 'run'\nproblem = 3",
        "not toml at all [",
        "[request]\ncommand = 'run'\nproblem = 'darcy'\nbudgt = '5m'",
        "[request]\ncommand = 'run'\nproblem = 'darcy'\nn = 'many'",
    ],
)
def test_broken_run_files(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        read_request(path)
    assert caught.value.hint
