"""The folder of a browser page: what is in it, what depends on the surrogate, what it refuses to replace."""

import errno
import json
import math
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from cli_support import call
from page_support import TARBALL, release
from test_exported_files import LINE, SPACE, latent, made, textbook

from anygrid.errors import DataError, FileError, UsageError
from anygrid.export import browser_runtime, web_page
from anygrid.export.page_facts import MOST_POINTS, own_samples, page_facts, resolutions, samples_of
from anygrid.export.web_page import check_place, write_page
from anygrid.fields import Variable, grid_coordinates
from anygrid.grid import Bounded, Box, Periodic, Sphere
from anygrid.operators import FNO, UNet
from anygrid.problems.darcy import Darcy
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Seen, Surrogate

RUNTIME = {"ort.js": b"js", "ort.wasm": b"wasm"}
HOSTILE = ["</script><img src=x onerror=alert(1)>", '"><b>&amp;\u2028']
STATIC = files("anygrid.export").joinpath("page")


def hostile():
    model = made(latent(LINE), LINE)
    names = [Variable(HOSTILE[0], "<i>", HOSTILE[1]), Variable(HOSTILE[1], "m")]
    return Surrogate(model.operator, names, names, model.statistics, LINE, "1 <day>", True).eval()


@pytest.fixture
def quick(monkeypatch):
    """Without the export of the graph, which other tests look at."""
    monkeypatch.setattr(web_page, "onnx_bytes", lambda surrogate, where: (b"graph", 1e-7))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_folder_is_whole_and_only_its_data_depend_on_the_surrogate(tmp_path):
    model, folder = hostile(), tmp_path / "page"
    samples = np.arange(96, dtype=np.float32).reshape(2, 2, 24)
    assert write_page(model, folder, RUNTIME, samples=samples, source="a.nc") < 1e-5
    found = contents(folder)
    data = {"surrogate.json", "samples.bin", "model.onnx", "ort/ort.js", "ort/ort.wasm"}
    static = {p.relative_to(STATIC).as_posix() for p in STATIC.rglob("*") if p.is_file()}
    assert set(found) == data | static
    for name in static:
        assert found[name] == STATIC.joinpath(*name.split("/")).read_bytes()
    assert np.array_equal(np.frombuffer(found["samples.bin"], "<f4"), samples.ravel())
    said = json.loads(found["surrogate.json"])
    assert [v["name"] for v in said["inputs"]] == HOSTILE
    assert (said["title"], said["dt"], said["horizontal"]) == ("page", "1 <day>", 0)
    assert said["sizes"] == {name: len(text) for name, text in found.items() if name != "surrogate.json"}
    assert said["samples"] == {"count": 2, "shape": [24], "source": "a.nc"}
    assert [v["from_output"] for v in said["inputs"]] == [0, 1]
    onnx = pytest.importorskip("onnx").load_from_string(found["model.onnx"])
    assert [i.name for i in onnx.graph.input] == ["a"]
    assert said["weights_sha256"] in [p.value for p in onnx.metadata_props]
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def test_page_asks_no_other_host_and_runs_no_text():
    html = STATIC.joinpath("index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'self'; script-src 'self' 'wasm-unsafe-eval';")
    assert "unsafe-inline" not in policy
    assert "unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", html)
    for part in STATIC.iterdir():
        if part.is_file() and part.name != "icon.svg":
            text = part.read_text()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), part.name
            assert set(re.findall(r"https?://[^\s<\"'`]*", text)) <= {"http://localhost:8000"}, part.name
            assert not re.search(r"""(src|href)=["']/|import[^;]*["']/|fetch\(["']/""", text), part.name  # any sub-path will do


def test_resolutions_hold_proportions_and_limits():
    plane = resolutions(made(latent()))
    assert (plane[0], plane[-1]) == ((15, 16), (482, 512))  # trained on 16 x 17
    assert (16, 17) in plane
    line = resolutions(made(latent(LINE), LINE))
    assert (line[0], line[-1], (24,) in line) == ((16,), (4096,), True)
    space = resolutions(made(latent(SPACE), SPACE))
    assert space[0] == (8, 5, 6)
    assert max(math.prod(shape) for shape in space) <= MOST_POINTS
    modes = resolutions(made(textbook(LINE, modes=41), Box.uniform({"x": Periodic()}, 64)))
    assert modes[0] == (48,)  # the operator needs 40
    for shapes in (plane, line, space):
        assert sorted(shapes, key=math.prod) == shapes
        assert len(set(shapes)) == len(shapes)


def test_four_dimensions_and_too_many_points_are_refused():
    four = Box.uniform({d: Periodic() for d in "wxyz"}, 6)
    with pytest.raises(UsageError, match="one to three space dimensions"):
        resolutions(made(FNO(2, 2, [True] * 4, [3] * 4, width=4, depth=1), four))
    large = Box.uniform({"x": Periodic(), "y": Periodic()}, 1200)
    with pytest.raises(UsageError, match="at most 262144 points"):
        resolutions(made(FNO(2, 2, [True] * 2, [1001] * 2, width=1, depth=1), large))


def test_facts_tell_numbers_levels_and_orientation():
    grid = Sphere.equiangular(12, 24)
    model = made(latent(grid), grid, increment=False)
    rows = torch.randn(20, 2, 12, 24)
    rows[:, 1] = torch.linspace(0, 3, 20)[:, None, None]  # one number for a whole field
    moments = Moments.of(rows.numpy())
    seen = Seen.of([(rows, grid)], lower=moments.minimum, upper=moments.maximum, centre=moments.mean, spread=moments.std)
    model = Surrogate(model.operator, model.inputs, model.outputs, Statistics(moments, moments), grid, seen=seen)
    said = page_facts(model, "t", np.sign(rows.numpy()[:4]), "s")
    assert [v["number"] for v in said["inputs"]] == [False, True]
    assert said["inputs"][0]["deviation"] == pytest.approx(1, abs=0.1)
    assert (said["sphere"], said["horizontal"], said["dt"]) == (True, 1, None)
    assert said["inputs"][0]["levels"]["values"] == [-1, 1]
    assert said["inputs"][0]["levels"]["quantiles"] == pytest.approx([0], abs=0.1)
    assert [v["from_output"] for v in said["inputs"]] == [None, None]
    assert page_facts(made(latent()), "t", None, "")["horizontal"] == 0
    turned = Box.uniform({"y": Bounded(), "x": Bounded()}, (16, 17))
    assert page_facts(made(latent(turned), turned), "t", None, "")["horizontal"] == 1


def test_samples_come_from_the_problem_or_from_data():
    problem = Darcy()
    grid = problem.grid(17)
    operator = FNO(1, 1, [False, False], [3, 3], width=4, depth=1)
    moments = Moments(100, (7.0,), (20.0,), (3.0,), (12.0,))
    model = Surrogate(operator, problem.inputs, problem.outputs, Statistics(moments, moments), grid, problem=problem)
    drawn = own_samples(model)
    assert drawn.shape == (4, 1, 17, 17)
    assert set(np.unique(drawn)) == {3.0, 12.0}
    assert np.array_equal(drawn, own_samples(model))
    assert own_samples(made(latent())) is None

    model = made(latent(LINE), LINE)
    wave = np.sin(2 * np.pi * grid_coordinates(LINE.at(40))["x"].values)
    data = xr.Dataset({"u": ("x", wave, {"units": "m s-1"}), "v": ("x", 2 * wave, {"units": "m s-1"})}, grid_coordinates(LINE.at(40)))
    found = samples_of(model, data)
    assert np.allclose(found, np.stack([wave, 2 * wave])[None], atol=1e-6)
    with pytest.raises(DataError, match="'v'"):
        samples_of(model, data.drop_vars("v"))
    walls = Box.uniform({"x": Bounded()}, 25)
    x = np.linspace(0, 1, 30) ** 1.3
    uneven = xr.Dataset({"u": ("x", x**2, {"units": "m s-1"}), "v": ("x", x, {"units": "m s-1"})}, {"x": x})
    found = samples_of(made(latent(walls), walls), uneven)
    assert np.allclose(found[0, 0], np.linspace(0, 1, 30) ** 2, atol=1e-3)


def test_places_that_are_taken_are_left_alone(tmp_path, quick):
    model, folder = made(latent(LINE), LINE), tmp_path / "page"
    folder.mkdir()
    write_page(model, folder, RUNTIME)  # an empty folder is free
    before = contents(folder)
    with pytest.raises(FileError, match="--overwrite"):
        write_page(model, folder, RUNTIME)
    write_page(model, folder, RUNTIME, title="again", overwrite=True)
    assert json.loads((folder / "surrogate.json").read_text())["title"] == "again"
    (folder / "CNAME").write_text("mine")
    with pytest.raises(FileError, match="CNAME"):
        write_page(model, folder, RUNTIME, overwrite=True)
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "surrogate.json").write_text('{"format": "mine"}')
    with pytest.raises(FileError, match="other things"):
        write_page(model, foreign, RUNTIME, overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="got a file"):
        check_place(tmp_path / "file", True)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(FileError, match="got a link"):
        check_place(tmp_path / "link", True)
    with pytest.raises(FileError, match="mkdir -p"):
        check_place(tmp_path / "no" / "page", False)
    with pytest.raises(UsageError, match="another folder"):
        check_place(Path(), False)
    assert {p.name for p in tmp_path.iterdir()} == {"page", "thesis", "file", "link"}
    assert set(contents(folder)) == {*before, "CNAME"}


def test_full_disk_keeps_the_page_that_was_there(tmp_path, quick, monkeypatch):
    model, folder = made(latent(LINE), LINE), tmp_path / "page"
    write_page(model, folder, RUNTIME)
    before = contents(folder)

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        write_page(model, folder, RUNTIME, overwrite=True)
    assert contents(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def test_command_writes_a_page_where_a_folder_is_named(tmp_path, quick, monkeypatch, capsys):
    ours = browser_runtime.runtime_files
    monkeypatch.setattr(browser_runtime, "runtime_files", lambda given: ours(given, release()))
    path, tarball = tmp_path / "waves.anygrid", tmp_path / "r.tgz"
    tarball.write_bytes(TARBALL)
    made(latent(LINE), LINE).save(path)
    (tmp_path / "empty").mkdir()
    for words in (["-o", f"{tmp_path}/new/"], ["-o", tmp_path / "empty"], ["-o", tmp_path / "third", "--format", "page"]):
        code, said, talk = call(capsys, "export", path, *words, "--runtime", tarball)
        assert code == 0, talk
        assert "python -m http.server" in talk
        assert json.loads((Path(said.strip()) / "surrogate.json").read_text())["title"] == "waves"
    x = grid_coordinates(LINE.at(30))
    wave = np.sin(2 * np.pi * x["x"].values)
    xr.Dataset({name: (("sample", "x"), [wave, 2 * wave], {"units": "m s-1"}) for name in "uv"}, x).to_netcdf(tmp_path / "d.nc")
    words = ["-o", f"{tmp_path}/new", "--overwrite", "--sample", tmp_path / "d.nc", "--title", "Waves & <b>", "--runtime", tarball]
    assert call(capsys, "export", path, *words)[0] == 0
    said = json.loads((tmp_path / "new" / "surrogate.json").read_text())
    assert (said["title"], said["samples"]) == ("Waves & <b>", {"count": 2, "shape": [30], "source": "d.nc"})


def test_command_refuses_before_it_fetches(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browser_runtime, "_fetch", lambda address, release: pytest.fail("asked the network"))
    path, unet = tmp_path / "s.anygrid", tmp_path / "unet.anygrid"
    made(latent(LINE), LINE).save(path)
    made(UNet(2, 2, [True, False], width=4)).save(unet)
    (tmp_path / "bad.tgz").write_bytes(b"no")
    for words, says in (
        ([unet, "-o", f"{tmp_path}/p/"], "UNet"),
        ([path, "-o", tmp_path / "s.onnx", "--title", "t"], "--title"),
        ([path, "-o", tmp_path / "page"], "/ at its end|slash at its end"),
        ([path, "-o", f"{tmp_path}/p/", "--sample", tmp_path / "none.nc"], "none.nc"),
        ([path, "-o", f"{tmp_path}/p/", "--runtime", tmp_path / "bad.tgz"], "sha512-"),
        ([path, "-o", f"{tmp_path}/"], "holds something"),
    ):
        code, _, talk = call(capsys, "export", *words)
        assert code == 2, talk
        assert re.search(says, talk)
        assert "hint:" in talk
    assert {p.name for p in tmp_path.iterdir()} == {"s.anygrid", "unet.anygrid", "bad.tgz"}


FIELDS = """
import { randomField, randomInput, resample } from "./fields.mjs";
const periodic = { periodic: true, placement: "vertices", lower: 0, upper: 1 };
const cells = { periodic: false, placement: "cells", lower: 0, upper: 1 };
const walls = { periodic: false, placement: "vertices", lower: 0, upper: 1 };
const free = [-Infinity, Infinity];
const f = (s) => Math.sin(2 * Math.PI * (3 * s + 0.1)) + 0.5;
const wave = (n) => Float32Array.from({ length: n }, (_, j) => f(j / n));
const cubic = (n) => Float32Array.from({ length: n }, (_, j) => (j / (n - 1)) ** 3 - j / (n - 1));
const coarse = randomField([periodic, walls], [12, 9], 7, 3, false);
const fine = randomField([periodic, walls], [24, 17], 7, 3, false);
const many = randomField([cells], [4000], 3, 5, false);
const levels = { deviation: 1, levels: { values: [3, 12], quantiles: [0] } };
const flat = { deviation: 1, mean: 2, minimum: 1.5, maximum: 2.5, levels: null };
const sphere = [{ ...cells, lower: -90, upper: 90 }, { ...periodic, upper: 360 }];
console.log(JSON.stringify({
  nested: Math.max(...coarse.map((v, i) => Math.abs(v - fine[2 * Math.floor(i / 9) * 17 + 2 * (i % 9)]))),
  other: Math.abs(coarse[5] - randomField([periodic, walls], [12, 9], 8, 3, false)[5]),
  mean: many.reduce((p, v) => p + v, 0) / 4000, power: many.reduce((p, v) => p + v * v, 0) / 4000,
  levels: [...new Set(randomInput(levels, [periodic], [64], 1, 4, false))].sort(),
  held: [Math.min, Math.max].map((of) => of(...randomInput(flat, [periodic], [64], 1, 4, false))),
  trig: [16, 17].map((n) => Math.max(...resample(wave(n), [n], [periodic], [45], false, free).map((v, j) => Math.abs(v - f(j / 45))))),
  cubic: Math.max(...resample(cubic(9), [9], [walls], [23], false, free).map((v, j) => Math.abs(v - ((j / 22) ** 3 - j / 22)))),
  nearest: [...resample(Float32Array.of(0, 0, 1, 1), [4], [cells], [8], true, free)],
  jump: [Math.min, Math.max].map((of) => of(...resample(Float32Array.of(0, 0, 0, 1, 1, 1), [6], [cells], [50], false, [0, 1]))),
  pole: (() => { const u = randomField(sphere, [400, 8], 2, 4, true).slice(0, 8); return Math.max(...u) - Math.min(...u); })(),
}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_fields_of_the_page_are_one_function_at_every_resolution(tmp_path):
    (tmp_path / "fields.mjs").write_bytes(STATIC.joinpath("fields.js").read_bytes())
    (tmp_path / "ask.mjs").write_text(FIELDS)
    done = subprocess.run(["node", "ask.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["nested"] < 1e-12
    assert found["other"] > 0.01
    assert abs(found["mean"]) < 1e-12
    assert found["power"] == pytest.approx(1, abs=1e-9)
    assert sorted(found["levels"]) == [3, 12]
    assert found["held"] == [1.5, 2.5]
    assert max(found["trig"]) < 1e-6
    assert found["cubic"] < 2e-7
    assert found["nearest"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found["jump"] == [0, 1]
    assert found["pole"] < 0.05


def test_static_files_are_those_that_are_written():
    here = {p.relative_to(str(STATIC)).as_posix() for p in Path(str(STATIC)).rglob("*") if p.is_file()}
    assert here == set(web_page._STATIC)
