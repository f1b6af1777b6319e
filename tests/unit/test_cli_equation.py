"""`anygrid` takes a TOML file with an equation wherever it takes the name of a problem."""

import json
import tomllib

import pytest
import xarray as xr
from cli_support import call

from anygrid.grid import Periodic
from anygrid.io.store import generate
from anygrid.problems.from_text import Equation

TEXT = """
[equation]
equations = "u_t = -c*u_x + nu*u_xx"
domain = { x = "periodic(0, 2)" }
parameters = { c = "uniform(0.5, 1.5)", nu = 0.01 }
dt = 0.1
steps = 3
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


def test_card(file, capsys):
    code, out, _ = call(capsys, "problems", file, "--json")
    card = json.loads(out)
    assert code == 0
    assert card["equation"] == "u_t = -c*u_x + nu*u_xx"
    assert list(card["inputs"]) == ["u", "c"]
    assert "exact in time" in card["solver"]


def test_the_catalogue_is_listed_and_shown(capsys):
    code, out, _ = call(capsys, "problems", "kdv", "--json")
    assert code == 0
    assert json.loads(out)["kind"] == "steps of 0.1"
    code, _, err = call(capsys, "problems", "kvd")
    assert code == 2
    assert "kdv" in err


def test_generate_is_that_of_the_library(file, capsys):
    code, _, _ = call(capsys, "generate", file, "-n", "3", "--resolution", "32", "-o", "data.zarr", "--workers", "1")
    assert code == 0
    problem = Equation("u_t = -c*u_x + nu*u_xx", {"x": Periodic(0, 2)}, parameters={"c": "uniform(0.5, 1.5)", "nu": 0.01}, dt=0.1, steps=3)
    xr.testing.assert_identical(xr.open_zarr("data.zarr"), xr.open_zarr(generate(problem, 3, 32, "other.zarr", workers=1)))


def test_run_does_everything_and_its_run_toml_needs_no_other_file(file, capsys):
    small = ("-n", "6", "--resolution", "32", "--test", "2", "--resolutions", "16,32", "--steps", "4", "--timing", "0.2", "--workers", "1")
    code, out, _ = call(capsys, "run", file, *small)
    assert code == 0
    assert "surrogate" in out
    assert "solver" in out
    assert (file.parent / "runs" / "mine" / "report.html").exists()
    file.unlink()
    request = tomllib.loads((file.parent / "runs" / "mine" / "run.toml").read_text())["request"]
    assert "u_t = -c*u_x" in request["equation"]
    code, _, _ = call(capsys, "run", "runs/mine/run.toml", "--out", "again", "--workers", "1")
    assert code == 0
    data = [xr.open_zarr(folder / "data.zarr") for folder in (file.parent / "runs" / "mine", file.parent / "again")]
    xr.testing.assert_identical(*data)


BAD = [
    ("equations", "equatoins", "did you mean"),
    ("periodic(0, 2)", "periodical(0, 2)", "periodic(lower, upper)"),
    ("u_xx", "u_xx +", "column"),
    ("nu = 0.01", "nu = -0.01", "nu"),
    ("uniform(0.5, 1.5)", "uniform(0.5, high=x)", "number"),
    ("dt = 0.1", 'dt = "long"', "dt"),
    ("[equation]", "[equatoin]", "[equation]"),
    ('domain = { x = "periodic(0, 2)" }', "", "domain"),
]


@pytest.mark.parametrize(("old", "new", "match"), BAD)
def test_a_broken_file_is_an_error_that_says_where(file, capsys, old, new, match):
    file.write_text(TEXT.replace(old, new))
    code, _, err = call(capsys, "problems", file)
    assert code == 2
    assert match in err
    assert "hint" in err
    assert "Traceback" not in err


def test_fit_takes_the_equation_beside_data_and_its_run_toml_holds_it(file, capsys):
    call(capsys, "generate", file, "-n", "3", "--resolution", "32", "-o", "data.zarr", "--workers", "0")
    code, _, err = call(capsys, "fit", "data.zarr", "--physics", file, "--steps", "2", "-o", "s.anygrid")
    assert code == 0
    assert "equation on 64, " in err
    assert "imposed exactly: the mean of u" in err
    file.unlink()
    assert "c*u_x" in tomllib.loads((file.parent / "runs" / "s" / "run.toml").read_text())["request"]["physics"]
    code, out, _ = call(capsys, "refine", "s.anygrid", "data.zarr", "--select", "time=0", "-o", "exact.nc", "--json")
    assert code == 0
    assert json.loads(out)["solver_error"] < 1e-6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--physics", "none.toml"), "no such file"),
        (("--physics", "kdvv"), "did you mean 'kdv'?"),
        (("--physics", "data"), "--inputs"),
        (("--physics", "darcy"), "permeability"),
    ],
)
def test_fit_refuses_equations_that_do_not_fit(file, capsys, words, said):
    call(capsys, "generate", file, "-n", "3", "--resolution", "32", "-o", "data.zarr", "--workers", "0")
    code, _, err = call(capsys, "fit", "data.zarr", "--steps", "2", *words)
    assert code == 2
    assert said in err
