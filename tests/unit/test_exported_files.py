"""Exported files compute what the surrogate computes, at any batch and resolution; what has no graph is refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_support import call

from anygrid.errors import FileError, UsageError
from anygrid.export import Traceable, check, export_onnx, export_program
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic, Points, Sphere
from anygrid.operators import FNO, LatentFNO, UNet
from anygrid.problems.base import Wall
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate

PLANE = Box.uniform({"x": Periodic(0, 2), "y": Bounded()}, (16, 17))


def made(operator, grid=PLANE, *, increment=True, imposed=Imposed()):
    torch.manual_seed(0)
    for name, p in operator.named_parameters():
        if "spectral" in name:  # at their start the spectral layers are too small to be seen
            torch.nn.init.normal_(p, 0, 0.3)
    moments = Moments(100, (0.7, -2.0), (361.0, 9.0), (-5.0, -5.0), (5.0, 5.0))
    variables = [Variable("u", "m s-1"), Variable("v", "m s-1")]
    step = "1 day" if increment else None
    statistics = Statistics(moments, moments, moments if increment else None)
    return Surrogate(operator, variables, variables, statistics, grid, step, increment, imposed=imposed).eval()


def latent(grid=PLANE, **options):
    torch.manual_seed(0)  # the same weights whichever tests ran before
    return LatentFNO(2, 2, [i.periodic for i in grid.domain], grid.shape, [5] * grid.ndim, width=8, depth=2, **options)


def textbook(grid=PLANE, modes=5, **options):
    torch.manual_seed(0)
    return FNO(2, 2, [i.periodic for i in grid.domain], [modes] * grid.ndim, width=8, depth=2, **options)


LINE, WALLS = Box.uniform({"x": Periodic()}, 24), Box.uniform({"x": Bounded()}, 25)
CELLS = Box.uniform({"x": Bounded(), "y": Periodic()}, (16, 12), placement="cells")
SPACE = Box.uniform({"x": Periodic(), "y": Periodic(), "z": Bounded()}, (12, 8, 9))
CASES = [
    *[(latent, grid, {}) for grid in (PLANE, LINE, WALLS, CELLS, SPACE, Sphere.equiangular(12, 24))],
    (latent, LINE, {"stride": 3, "harmonics": 2}),
    *[(textbook, grid, {}) for grid in (PLANE, LINE, WALLS, CELLS, SPACE)],
    (textbook, SPACE, {"families": ["fourier", "cosine", "sine"]}),
    (textbook, SPACE, {"families": ["cosine", "fourier", "cosine"]}),
    (textbook, PLANE, {"families": ["cosine", "cosine"], "coordinates": False}),
    (textbook, LINE, {"modes": 6, "activations": 2}),
]


@pytest.mark.parametrize(("make", "grid", "options"), CASES)
def test_symbolic_matrices_are_those_of_the_grid(make, grid, options):
    model = made(make(grid, **options)) if grid is PLANE else made(make(grid, **options), grid)
    traceable = Traceable(model)
    for shape in [*check.resolutions(model), tuple(2 * n for n in grid.shape)]:
        a = check.sample(model, 2, shape)
        with torch.no_grad():
            expected = model(a, grid.at(shape))
            assert (traceable(a) - expected).norm() < 1e-6 * (expected - a).norm()


def test_onnx_file_runs_anywhere_and_says_what_it_is(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = made(latent(WALLS), WALLS)
    path = tmp_path / "m.onnx"
    assert export_onnx(model, path) < 1e-5
    session = onnxruntime.InferenceSession(path)
    for batch, n in ((1, 9), (3, 25), (2, 130)):
        a = check.sample(model, batch, (n,))
        with torch.no_grad():
            expected = model(a, WALLS.at(n)).numpy()
        assert np.abs(session.run(None, {"a": a.numpy()})[0] - expected).max() < 1e-5 * np.abs(expected - a.numpy()).max()
    said = session.get_modelmeta().custom_metadata_map
    assert [v["units"] for v in json.loads(said["anygrid.inputs"])] == ["m s-1"] * 2
    assert json.loads(said["anygrid.axes"])[0]["name"] == "x"
    assert json.loads(said["anygrid.axes"])[0]["periodic"] is False
    assert len(said["anygrid.weights_sha256"]) == 64


def test_program_is_read_back_with_its_facts(tmp_path):
    model = made(textbook(LINE), LINE, increment=False)
    path = tmp_path / "m.pt2"
    assert export_program(model, path) < 1e-5
    facts = {"anygrid.json": ""}
    program = torch.export.load(path, extra_files=facts).module()
    a = check.sample(model, 5, (41,))
    with torch.no_grad():
        expected = model(a, LINE.at(41))
        assert (program(a) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert json.loads(facts["anygrid.json"])["outputs"][1]["name"] == "v"


def test_failed_check_leaves_no_file(tmp_path, monkeypatch):
    model = made(textbook(LINE), LINE)
    monkeypatch.setattr("anygrid.export.programs.check", lambda own, run, where: check.check(own, lambda a: run(a) * 1.0001, where))
    with pytest.raises(FileError, match="relative difference"):
        export_program(model, tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == []


POINTS = Points(np.random.default_rng(0).random((30, 2)), ("x", "y"), (Periodic(), Bounded()))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: made(UNet(2, 2, [True, False], width=4)), "UNet"),
        (lambda: made(latent(), imposed=Imposed(walls=(Wall("u", "y", "lower", 0.0),))), "imposed walls"),
        (lambda: made(LatentFNO(2, 2, [True, False], (8, 8), [3, 3], width=4), POINTS), "Points"),
        (lambda: made(textbook(Sphere.gauss(12, 24)), Sphere.gauss(12, 24)), "uneven nodes along lat"),
        (lambda: made(textbook(WALLS, families=["legendre"]), WALLS), "Legendre"),
    ],
)
def test_what_has_no_graph_is_refused_by_name(model, says):
    with pytest.raises(UsageError, match=says) as caught:
        Traceable(model())
    assert caught.value.hint


def test_command(tmp_path, capsys):
    path, out = tmp_path / "s.anygrid", tmp_path / "s.pt2"
    made(textbook(LINE), LINE).save(path)
    code, said, talk = call(capsys, "export", path, "-o", out)
    assert (code, said.strip()) == (0, str(out))
    assert "three resolutions" in talk
    assert call(capsys, "export", path, "-o", out)[0] == 2
    for words in (["-o", tmp_path / "s.bin"], ["-o", tmp_path / "x.pt2", "--format", "onx"]):
        code, said, talk = call(capsys, "export", path, *words)
        assert code == 2
        assert "hint:" in talk
    assert {p.name for p in tmp_path.iterdir()} == {"s.anygrid", "s.pt2"}


def test_the_check_reports_to_nobody(tmp_path):
    pytest.importorskip("onnxruntime")
    home = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    loading = "from anygrid.export.onnx_graph import _runtime; assert _runtime().InferenceSession"
    subprocess.run([sys.executable, "-c", loading], env=home | {"PATH": "/usr/bin:/bin"}, check=True)
    # onnxruntime keeps an identifier of the device in the cache once it reports
    assert not list(tmp_path.rglob("deviceid"))


COMPILED = """
import sys
import torch
from test_exported_files import LINE, Traceable, check, latent, made, textbook

torch._dynamo.config.error_on_recompile = True
with torch.no_grad():
    for make in (latent, textbook):
        torch._dynamo.reset()
        model = made(make(LINE), LINE)
        compiled = torch.compile(Traceable(model), fullgraph=True, dynamic=True, backend=sys.argv[1])
        for batch, n in ((3, 24), (2, 33), (7, 48), (5, 101)):  # a first batch of two would be taken for the two channels
            a = check.sample(model, batch, (n,))
            expected = model(a, LINE.at(n))
            assert (compiled(a) - expected).abs().max() < 1e-5 * (expected - a).abs().max(), (make, n)
"""


def test_compiled_whole_and_once_for_all_resolutions():
    # In a process of its own: the type checks on under pytest are no part of the graph.
    root = Path(__file__).parents[2]
    path = {"PYTHONPATH": f"{root / 'src'}:{root / 'tests'}:{Path(__file__).parent}", "PATH": "/usr/bin:/bin", "HOME": str(root)}
    done = subprocess.run([sys.executable, "-c", COMPILED, "eager"], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
