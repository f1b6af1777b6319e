"""`anygrid refine`, and `anygrid forecast --check`: what they write and say, and how they refuse."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from cli_support import call
from refine_support import near

from anygrid.fields import to_dataset
from anygrid.operators import FNO
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy

DARCY = Darcy(modes=8)
MARCH = Burgers(viscosity=0.05, dt=0.05, scheme="cole-hopf", modes=6)


def untrained(problem, points, dt=None):
    torch.manual_seed(0)
    grid = problem.grid(points)
    periodic = [i.periodic for i in grid.domain]
    return near(problem, points, dt=dt, operator=FNO(1, 1, periodic, [4] * grid.ndim, width=4, depth=1, head=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Surrogates that know nothing but their equation, and inputs for them."""
    path = tmp_path_factory.mktemp("refine")
    untrained(DARCY, 17).save(path / "darcy.anygrid")
    untrained(MARCH, 32, dt="0.05").save(path / "march.anygrid")
    for problem, points, name in ((DARCY, 17, "a.nc"), (MARCH, 32, "u.nc")):
        grid = problem.grid(points)
        a = problem.sample(2, grid, torch.Generator().manual_seed(0)).float()
        to_dataset(a, problem.inputs, grid, {"sample": np.arange(2)}).to_netcdf(path / name, engine="h5netcdf")
    unknown = untrained(DARCY, 17)
    unknown.problem = None
    unknown.save(path / "unknown.anygrid")
    return path


def test_refine_writes_the_solvers_solution_and_says_what_it_took(folder, capsys):
    code, out, err = call(capsys, "refine", folder / "darcy.anygrid", folder / "a.nc", "--out", folder / "exact.nc", "--tolerance", "1e-9")
    assert (code, out) == (0, f"{folder / 'exact.nc'}\n")
    assert "iterations without guess: " in err
    found, given = xr.open_dataset(folder / "exact.nc"), xr.open_dataset(folder / "a.nc")
    truth = DARCY.solve(torch.from_numpy(given.permeability.values)[:, None].double(), DARCY.grid(17))[:, 0]
    np.testing.assert_allclose(found.pressure, truth, rtol=1e-7, atol=1e-9)
    assert float(found.solver_error.max()) <= 1e-9
    words = ["refine", folder / "darcy.anygrid", folder / "a.nc", "-o", folder / "exact.nc", "--json", "--compare", "0"]
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "--overwrite" in err
    code, out, _ = call(capsys, *words, "--overwrite")
    told = json.loads(out)
    assert code == 0
    assert told["tolerance"] == 1e-6
    assert "iterations_without_guess" not in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["unknown.anygrid", "a.nc", "-o", "x.nc"], "a surrogate that knows its equation"),
        (["darcy.anygrid", "a.nc", "-o", "x.nc", "--tolerance", "2"], "a tolerance between 0 and 1"),
        (["darcy.anygrid", "a.nc", "-o", "x.nc", "--compare", "-1"], "0 or more samples"),
        (["darcy.anygrid", "u.nc", "-o", "x.nc"], "permeability"),
        (["darcy.anygrid", "a.nc", "-o", "x.csv"], "ends in .nc or .zarr"),
        (["nothing.anygrid", "a.nc", "-o", "x.nc"], "no such file"),
    ],
)
def test_refine_refuses_without_a_traceback(folder, capsys, words, says, monkeypatch):
    monkeypatch.chdir(folder)
    code, out, err = call(capsys, "refine", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert "hint: " in err
    assert "Traceback" not in err
    assert not (folder / "x.nc").exists()


def test_forecast_with_a_check_is_the_solvers_where_the_surrogate_is_useless(folder, capsys):
    # Of an untrained surrogate's errors on the solver's own data none is smaller than on a state ten times as large.
    calibration = xr.open_dataset(folder / "u.nc").load()
    calibration = xr.concat([calibration * 1e-3, calibration * 1e-3], "time").assign_coords(time=[0.0, 0.05])
    calibration.velocity.attrs["units"] = "1"
    calibration.to_netcdf(folder / "held.nc", engine="h5netcdf")
    words = ["forecast", folder / "march.anygrid", folder / "u.nc", "--steps", "2", "-o", folder / "f.nc", "--overwrite"]
    code, _, err = call(capsys, *words, "--check", "0.5")
    assert code == 0
    assert "the solver took " in err
    assert " of 4 steps: estimated error above " in err
    code, _, err = call(capsys, *words, "--check", "0.01", "--held-out", folder / "held.nc")
    assert code == 0, err
    assert "of 4 steps" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--check", "1.5"], "calibrate quantile"),
        (["--check", "0"], "calibrate quantile"),
        (["--held-out", "u.nc"], "add --check 0.95"),
        (["--check", "0.9", "--held-out", "missing.nc"], "missing.nc"),
    ],
)
def test_forecast_refuses_a_check_it_cannot_make(folder, capsys, words, says, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = call(capsys, "forecast", "march.anygrid", "u.nc", "--steps", "2", "-o", "g.nc", *words)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_info_shows_the_equation(folder, capsys):
    code, out, _ = call(capsys, "info", folder / "darcy.anygrid", "--json")
    assert code == 0
    assert json.loads(out)["equation"] == repr(DARCY)
    code, out, _ = call(capsys, "info", folder / "unknown.anygrid")
    assert code == 0
    assert "equation" not in out


def test_refine_help(capsys):
    code, out, _ = call(capsys, "refine", "--help")
    assert code == 0
    assert "--tolerance" in out
