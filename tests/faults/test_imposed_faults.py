"""What cannot be imposed is refused with a name, and a tampered file gives an error, never a surrogate that imposes something else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import Pointwise

from anygrid.errors import AnygridError, DataError, FileError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic
from anygrid.problems.base import Wall
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate
from anygrid.surrogate.file import read_tensors, write_tensors

GRID = Box.uniform({"x": Periodic(), "y": Bounded()}, (8, 9))
UNIT = Moments(10, (0.0,), (10.0,), (-1.0,), (1.0,))
FULL = Imposed((Wall("u", "y", "lower", 1.25), Wall("u", "y", "upper", 0.1)), ("u",), 2.5, 0.25)


def build(imposed: Imposed, output: str = "u") -> Surrogate:
    torch.manual_seed(0)
    return Surrogate(Pointwise(1, 1), (Variable("u"),), (Variable(output),), Statistics(UNIT, UNIT, UNIT), GRID, imposed=imposed).eval()


def test_json_round_trip() -> None:
    for imposed in (FULL, Imposed()):
        assert Imposed.from_json(json.loads(json.dumps(imposed.to_json()))) == imposed


def test_file_round_trip(tmp_path: Path) -> None:
    surrogate = build(FULL)
    surrogate.save(tmp_path / "s.anygrid")
    loaded = Surrogate.load(tmp_path / "s.anygrid", operators=(Pointwise,))
    assert loaded.imposed == FULL
    a = torch.randn(2, 1, 8, 9)
    assert torch.equal(loaded(a, GRID), surrogate(a, GRID))


def test_a_file_without_it_imposes_nothing(tmp_path: Path) -> None:
    build(FULL).save(tmp_path / "s.anygrid")
    header, tensors = read_tensors(tmp_path / "s.anygrid", "anygrid surrogate", 1)
    del header["imposed"]
    write_tensors(tmp_path / "old.anygrid", tensors, "anygrid surrogate", 1, header)
    assert Surrogate.load(tmp_path / "old.anygrid", operators=(Pointwise,)).imposed == Imposed()


WALL = {"output": "u", "axis": "y", "side": "lower", "value": 0.0}
TAMPERED: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "a text": "__import__('os').system('true')",
    "another key": {**FULL.to_json(), "extra": 1},
    "a missing key": {"walls": [], "conserved": [], "radius": None},
    "a wall that is a text": {**FULL.to_json(), "walls": ["u = 0"]},
    "a wall with more": {**FULL.to_json(), "walls": [{**WALL, "more": 1}]},
    "a wall of no output": {**FULL.to_json(), "walls": [{**WALL, "output": "w"}]},
    "a wall without an axis": {**FULL.to_json(), "walls": [{**WALL, "axis": ["y"]}]},
    "a wall on a periodic axis": {**FULL.to_json(), "walls": [{**WALL, "axis": "x"}]},
    "another side": {**FULL.to_json(), "walls": [{**WALL, "side": "left"}]},
    "a side that is a list": {**FULL.to_json(), "walls": [{**WALL, "side": []}]},
    "a side twice": {**FULL.to_json(), "walls": [WALL, WALL]},
    "a value that is none": {**FULL.to_json(), "walls": [{**WALL, "value": "zero"}]},
    "an infinite value": {**FULL.to_json(), "walls": [{**WALL, "value": "inf"}]},
    "a huge value": {**FULL.to_json(), "walls": [{**WALL, "value": 10**400}]},
    "conserved that is a text": {**FULL.to_json(), "conserved": "uv"},
    "conserved numbers": {**FULL.to_json(), "conserved": [1]},
    "an unknown conserved": {**FULL.to_json(), "conserved": ["w"]},
    "conserved twice": {**FULL.to_json(), "conserved": ["u", "u"]},
    "a negative radius": {**FULL.to_json(), "radius": -1.0},
    "a radius that is not a number": {**FULL.to_json(), "radius": "nan"},
    "an expanding contraction": {**FULL.to_json(), "contraction": 1.5},
    "no contraction": {**FULL.to_json(), "contraction": None},
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_header_is_refused(how: str, tmp_path: Path) -> None:
    build(FULL).save(tmp_path / "s.anygrid")
    header, tensors = read_tensors(tmp_path / "s.anygrid", "anygrid surrogate", 1)
    header["imposed"] = copy.deepcopy(TAMPERED[how])
    write_tensors(tmp_path / "bad.anygrid", tensors, "anygrid surrogate", 1, header)
    with pytest.raises(FileError, match="describes a surrogate"):
        Surrogate.load(tmp_path / "bad.anygrid", operators=(Pointwise,))


@pytest.mark.parametrize(
    ("imposed", "said"),
    [
        (Imposed((Wall("w", "y", "lower"),)), "'w'"),
        (Imposed((Wall("u", "x", "lower"),)), "periodic axis 'x'"),
        (Imposed((Wall("u", "z", "lower"),)), "unknown axis 'z'"),
        (Imposed(conserved=("v",)), "'v'"),
    ],
)
def test_what_does_not_fit_the_surrogate_is_named(imposed: Imposed, said: str) -> None:
    with pytest.raises(DataError, match=said):
        build(imposed)


def test_dissipation_needs_an_evolution() -> None:
    with pytest.raises(DataError, match="whose outputs are all inputs"):
        build(Imposed(radius=3.0), output="v")
    with pytest.raises(DataError, match="also an input"):
        build(Imposed(conserved=("v",)), output="v")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Imposed((Wall("u", "y", "lower"), Wall("u", "y", "lower", 1.0))),
        lambda: Imposed((Wall("u", "y", "lower", float("nan")),)),
        lambda: Imposed(conserved=("u", "u")),
        lambda: Imposed(radius=0.0),
        lambda: Imposed(radius=float("inf")),
        lambda: Imposed(contraction=1.0),
    ],
)
def test_impossible_values_are_usage_errors(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_errors_are_ours() -> None:
    with pytest.raises(AnygridError):
        Imposed.from_json({"walls": 3, "conserved": [], "radius": None, "contraction": 0.5})
