"""The main job: all files are there, the numbers belong to them, and what was finished is not done again."""

import json

import pytest
import xarray as xr
from cli_support import call

from anygrid import pipeline
from anygrid.errors import UsageError
from anygrid.pipeline import Recipe, changed, recipe_for
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.problems.shallow_water_sphere import ShallowWaterSphere

QUICK = (
    "-n",
    "12",
    "--test",
    "3",
    "--steps",
    "4",
    "--timing",
    "0.2",
    "--workers",
    "0",
    "--operator",
    "fno",
    "--width",
    "4",
    "--modes",
    "5",
    "--depth",
    "1",
)


@pytest.mark.parametrize(
    "problem",
    [Darcy(), Helmholtz(), Burgers(), NavierStokes(), KuramotoSivashinsky(), ShallowWaterSphere()],
    ids=lambda p: type(p).__name__,
)
def test_recipes_fit_their_problems(problem):
    from anygrid.io.plan import nested
    from anygrid.training.symmetries import check_symmetries

    recipe = recipe_for(problem)
    kept = recipe.store_resolution or recipe.resolution
    assert nested(problem.grid(kept), problem.grid(recipe.resolution)) is not None
    assert kept in recipe.resolutions
    assert len(recipe.resolutions) > 1
    check_symmetries(recipe.augment, problem.grid(kept))


def test_a_problem_of_ones_own_needs_a_recipe():
    from tiny_problems import Beam

    with pytest.raises(UsageError, match="recipe"):
        recipe_for(Beam())


def test_changes_of_a_recipe():
    recipe = recipe_for(Darcy())
    assert changed(recipe, {"resolution": 33}) == pipeline.dataclasses.replace(
        recipe, resolution=33, store_resolution=None, resolutions=(33,)
    )
    assert changed(recipe, {"steps": 7}).budget is None
    assert changed(recipe, {"resolution": 33, "store_resolution": 17}).resolutions == (17,)
    assert isinstance(changed(recipe, {"n": 4}), Recipe)


def test_darcy_from_sampling_to_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("run", "darcy", "--resolution", "17", "--store-resolution", "9", "--resolutions", "9,17", *QUICK)

    def killed(*words, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "evaluate", killed)
        code, _, _ = call(capsys, *words)
        assert code == 130
    folder = tmp_path / "runs" / "darcy"
    trained = (folder / "surrogate.anygrid").read_bytes()

    def again(*words, **more):
        raise AssertionError("trained twice")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", again)
        code, out, err = call(capsys, *words)
        assert code == 0, err
    assert (folder / "surrogate.anygrid").read_bytes() == trained
    assert {"run.toml", "data.zarr", "surrogate.anygrid", "log.txt", "log.jsonl", "metrics.json", "report.html"} <= {
        p.name for p in folder.iterdir()
    }
    assert xr.open_zarr(folder / "data.zarr").sizes == {"sample": 12, "x": 9, "y": 9}
    found = json.loads((folder / "metrics.json").read_text())
    maps = {tuple(s["resolution"]): s for s in found["scores"] if s["role"] == "map"}
    assert set(maps) == {(9, 9), (17, 17)}
    roles = {s["role"] for s in found["scores"]}
    assert roles == {"map", "baseline", "solver"}
    assert found["settings"]["seed"] != 0
    assert found["settings"]["data_seconds"] > 0
    for line in found["verdict"]:
        assert line.split()[0] in out
    assert "To repeat it" in (folder / "report.html").read_text()
    before = (folder / "metrics.json").stat().st_mtime_ns
    code, out, _ = call(capsys, "run", "runs/darcy/run.toml")
    assert code == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    code, _, err = call(capsys, *words, "--seed", "1")
    assert code == 2
    assert "seed" in err


@pytest.mark.parametrize(
    "words",
    [
        ("helmholtz", "--resolution", "9"),
        ("burgers", "--resolution", "64"),
        ("kuramoto-sivashinsky", "--resolution", "64", "--trajectory", "3"),
        ("navier-stokes", "--resolution", "16", "--trajectory", "3"),
    ],
    ids=lambda w: w[0],
)
def test_every_problem_runs(tmp_path, capsys, words):
    cheap = {"kuramoto-sivashinsky": ("--set", "spin_up=2"), "burgers": ("--set", "scheme=cole-hopf")}
    extra = cheap.get(words[0], ())
    code, _, err = call(capsys, "run", *words, *QUICK, *extra, "--out", tmp_path / "r")
    assert code == 0, err
    found = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert bool(found["leads"]) == (len(words) > 3)  # a trajectory of more than one step
    assert any(s["name"] == "solver" for s in found["scores"])


@pytest.mark.parametrize("words", [("-n", "0"), ("-n", "6", "--physics")], ids=["no data", "data and equation"])
def test_the_equation_joins_the_training(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ("--resolution", "17", "--resolutions", "17", "--test", "2", "--steps", "2", "--timing", "0.1", "--workers", "0")
    code, out, err = call(capsys, "run", "poisson", *small, *words, "--operator", "fno", "--width", "4", "--modes", "5", "--depth", "1")
    assert code == 0, err
    assert "imposed exactly: u = 0" in err
    alone = words == ("-n", "0")
    assert ("the equation alone on 17, no labels" in err) == alone
    assert ("equation on 17x17" in err) == alone
    assert ("equation on 33x33" in err) != alone
    assert ("data.zarr" in {path.name for path in (tmp_path / "runs" / "poisson").iterdir()}) != alone
    assert "solver" in out


def test_confinement_and_long_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ("-n", "3", "--trajectory", "4", "--resolution", "16", "--test", "2", "--steps", "2", "--timing", "0.1", "--workers", "0")
    fno = ("--operator", "fno", "--width", "4", "--modes", "5", "--depth", "1")
    code, _, err = call(capsys, "run", "heat", *small, *fno, "--confine", "--long-steps", "64")
    assert code == 0, err
    assert "contraction beyond" in err
    assert "no waves above" in err
    assert "Not chaotic" in (tmp_path / "runs" / "heat" / "metrics.json").read_text()
    settings = (tmp_path / "runs" / "heat" / "run.toml").read_text()
    assert "confine = true" in settings
    assert "long_steps = 64" in settings
    again = ("evaluate", "runs/heat/surrogate.anygrid", "heat", "-n", "2", "--timing", "0", "--resolutions", "16", "--json")
    assert "Not chaotic" in call(capsys, *again, "--long-steps", "64")[1]
    assert "Not chaotic" not in call(capsys, *again)[1]
    code, _, err = call(capsys, "evaluate", "runs/heat/surrogate.anygrid", "missing.toml")
    assert code != 0
    assert "missing.toml: expected a TOML file with an [equation], got no such file" in err
    code, _, err = call(capsys, "run", "heat", "--long-steps", "-1")
    assert code == 2
    assert "--long-steps" in err
    code, _, err = call(capsys, "run", "poisson", *(w for w in small if w not in ("--trajectory", "4")), *fno, "--confine", "--out", "p")
    assert code == 2
    assert "confine" in err
