import contextlib
import json
import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from training_support import Pointwise, affine, pointwise

from anygrid.errors import AnygridError, FileError
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Grid, Periodic, Points, Sphere
from anygrid.operators import default_operator
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate
from anygrid.surrogate.file import read_tensors, write_tensors
from anygrid.training import fit

OPERATORS = (Pointwise,)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return fit(affine(), ["p", "c"], "q", operator=pointwise, steps=3, batch=4)


@pytest.fixture(scope="module")
def contents(surrogate: Surrogate, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "s.anygrid"
    surrogate.save(path)
    return path.read_bytes()


def _equal(one: Surrogate, two: Surrogate) -> bool:
    a, b = one.operator.state_dict(), two.operator.state_dict()
    facts = ("inputs", "outputs", "statistics", "grid", "dt", "increment", "seen")
    return (
        all(torch.equal(a[k], b[k]) for k in a)
        and all(getattr(one, f) == getattr(two, f) for f in facts)
        and json.dumps([one.record, one.provenance]) == json.dumps([two.record, two.provenance])
    )


def _forge(path: Path, header: dict[str, Any], tensors: dict[str, torch.Tensor], version: int = 1) -> Path:
    write_tensors(path, tensors, "anygrid surrogate", version, header)
    return path


def _parts(contents: bytes, tmp_path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    path = tmp_path / "good.anygrid"
    path.write_bytes(contents)
    return read_tensors(path, "anygrid surrogate", 1)


def test_round_trip_keeps_everything_and_predicts_the_same(surrogate: Surrogate, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "s.anygrid"
    surrogate.save(path)
    loaded = Surrogate.load(path, operators=OPERATORS)
    assert _equal(loaded, surrogate)
    assert not loaded.training
    np.testing.assert_array_equal(loaded.predict(affine()).q.values, surrogate.predict(affine()).q.values)
    assert loaded.record["validation_error"] == surrogate.record["validation_error"]
    assert not list(path.parent.glob(".*"))


def test_saving_again_replaces_in_one_piece(surrogate: Surrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.anygrid"
    surrogate.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anygrid.surrogate.file.os.fsync", full)
    with pytest.raises(FileError, match="No space left"):
        surrogate.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.anygrid"]


def test_scattered_points_are_kept(surrogate: Surrogate, tmp_path: Path) -> None:
    points = Points(np.random.default_rng(0).random((50, 1)), ("x",), (Bounded(0, 1),))
    moved = Surrogate(surrogate.operator, surrogate.inputs, surrogate.outputs, surrogate.statistics, points)
    moved.save(tmp_path / "s.anygrid")
    assert Surrogate.load(tmp_path / "s.anygrid", operators=OPERATORS).grid == points


def test_loading_leaves_the_random_state_alone(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.anygrid"
    path.write_bytes(contents)
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    Surrogate.load(path, operators=OPERATORS)
    assert torch.equal(torch.rand(2), wanted)


def test_missing_folder_foreign_truncated(contents: bytes, tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes | None, str]] = {
        "missing": (None, "no such file"),
        "empty": (b"", "truncated or foreign"),
        "text": (b"not a surrogate at all, just some words", "truncated or foreign"),
        "half": (contents[: len(contents) // 2], "truncated or foreign"),
        "end": (contents[:-1], "truncated or foreign"),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(1000), "truncated or foreign"),
    }
    for name, (data, says) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(FileError, match=says):
            Surrogate.load(tmp_path / name, operators=OPERATORS)
    with pytest.raises(FileError, match="a folder"):
        Surrogate.load(tmp_path, operators=OPERATORS)
    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(FileError, match="another program"):
        Surrogate.load(tmp_path / "weights.safetensors", operators=OPERATORS)


def test_a_damaged_weight_is_noticed(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.anygrid"
    path.write_bytes(contents[:-3] + bytes([contents[-3] ^ 1]) + contents[-2:])
    with pytest.raises(FileError, match="checksum"):
        Surrogate.load(path, operators=OPERATORS)


def test_newer_version_and_unknown_operator(contents: bytes, tmp_path: Path) -> None:
    header, tensors = _parts(contents, tmp_path)
    with pytest.raises(FileError, match=r"version 1 or older, got 2\.\nhint: upgrade"):
        Surrogate.load(_forge(tmp_path / "newer", header, tensors, version=2), operators=OPERATORS)
    other = {**header, "operator": {**header["operator"], "name": "Pointwize"}}
    with pytest.raises(FileError, match=r"'Pointwize'.*\nhint: did you mean 'Pointwise'"):
        Surrogate.load(_forge(tmp_path / "other", other, tensors), operators=OPERATORS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h, t: t.pop("first.weight"), "the weight 'first.weight', got a file without it"),
        (lambda h, t: t.update({"first.weight": torch.ones(3, 3)}), r"'first.weight' of shape \(8, 2\)"),
        (lambda h, t: t.update({"first.bias": torch.ones(8, dtype=torch.float64)}), "float64"),
        (lambda h, t: t.update({"third": torch.ones(1)}), "1 more, such as 'third'"),
        (lambda h, t: h["operator"]["arguments"].update(width=10**12), "larger number"),
        (lambda h, t: h["operator"]["arguments"].update(width=9), "shape"),
        (lambda h, t: h["operator"]["arguments"].update(depth=2), "unexpected keyword|describes a surrogate"),
        (lambda h, t: h["operator"].pop("name"), "describes a surrogate"),
        (lambda h, t: h.pop("statistics"), "describes a surrogate"),
        (lambda h, t: h["statistics"]["inputs"].update(mean=[1.0]), "describes a surrogate"),
        (lambda h, t: h["inputs"].pop(), "describes a surrogate"),
        (lambda h, t: h["inputs"][0].update(colour="red"), "describes a surrogate"),
        (lambda h, t: h["grid"].update(family="torus"), "box, sphere or points"),
        (lambda h, t: h["grid"]["axes"][0].update(size=-1), "describes a surrogate"),
        (lambda h, t: h.update(seen={"lower": []}), "describes a surrogate"),
        (lambda h, t: h.update(record=3), "describes a surrogate"),
    ],
)
def test_headers_that_do_not_fit(contents: bytes, tmp_path: Path, change: Any, says: str) -> None:
    header, tensors = _parts(contents, tmp_path)
    change(header, tensors)
    with pytest.raises(FileError, match=says):
        Surrogate.load(_forge(tmp_path / "forged", header, tensors), operators=OPERATORS)


def test_header_that_is_no_json(tmp_path: Path) -> None:
    for text in ("{", "[1]", "[" * 100_000, "null"):
        save_file({"w": torch.ones(1)}, tmp_path / "x", {"format": "anygrid surrogate", "version": "1", "header": text, "sha256": "0"})
        with pytest.raises(FileError):
            Surrogate.load(tmp_path / "x", operators=OPERATORS)
    save_file({"w": torch.ones(1)}, tmp_path / "x", {"format": "anygrid surrogate", "version": "one"})
    with pytest.raises(FileError, match="damaged header"):
        Surrogate.load(tmp_path / "x", operators=OPERATORS)


def test_a_huge_declared_size_allocates_nothing(contents: bytes, tmp_path: Path) -> None:
    length = struct.unpack("<Q", contents[:8])[0]
    table = json.loads(contents[8 : 8 + length])
    table["first.weight"] = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
    raw = json.dumps(table).encode()
    path = tmp_path / "huge"
    for data in (struct.pack("<Q", len(raw)) + raw + contents[8 + length :], struct.pack("<Q", 1 << 62) + contents[8:]):
        path.write_bytes(data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(FileError):
            Surrogate.load(path, operators=OPERATORS)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_an_error_of_ours_or_harmless(
    data: st.DataObject, contents: bytes, surrogate: Surrogate, tmp_path: Path
) -> None:
    damaged = bytearray(contents)
    for _ in range(data.draw(st.integers(0, 4), "flips")):
        # Half of the damage goes to the front, where the structure is.
        limit = data.draw(st.sampled_from([16, len(contents)]))
        damaged[data.draw(st.integers(0, limit - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([None, 0, 7, 8, 100, len(damaged) - 1]))
    path = tmp_path / "fuzzed"
    path.write_bytes(bytes(damaged[:cut]) + data.draw(st.sampled_from([b"", b"\0", b"tail"])))
    with contextlib.suppress(AnygridError):
        assert _equal(Surrogate.load(path, operators=OPERATORS), surrogate)


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    import pickle

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    (tmp_path / "evil").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(FileError):
        Surrogate.load(tmp_path / "evil", operators=OPERATORS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("grid", [Box.uniform({"x": Periodic(), "y": Bounded()}, 17), Sphere.equiangular(8, 16)])
def test_the_default_operator_comes_back_without_naming_it(grid: Grid, tmp_path: Path) -> None:
    unit = Moments(1, (0.0,), (1.0,), (-1.0,), (1.0,))
    surrogate = Surrogate(default_operator(1, 1, grid), (Variable("a"),), (Variable("u"),), Statistics(unit, unit), grid).eval()
    surrogate.save(tmp_path / "s.anygrid")
    a = torch.rand(1, 1, *grid.shape)
    with torch.no_grad():
        assert torch.equal(Surrogate.load(tmp_path / "s.anygrid")(a, grid), surrogate(a, grid))


def test_facts_that_json_cannot_hold_do_not_cost_the_surrogate(surrogate: Surrogate, tmp_path: Path) -> None:
    odd = {"missing_value": float("nan"), "levels": np.arange(3), "list": [np.float32(1.5), (1, None)], "yes": True}
    facts = Surrogate(surrogate.operator, surrogate.inputs, surrogate.outputs, surrogate.statistics, surrogate.grid, provenance=odd)
    facts.save(tmp_path / "s.anygrid")
    loaded = Surrogate.load(tmp_path / "s.anygrid", operators=OPERATORS)
    assert loaded.provenance == {"missing_value": None, "levels": "[0 1 2]", "list": ["1.5", [1, None]], "yes": True}


def test_a_parent_that_is_no_folder_is_said(surrogate: Surrogate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"a folder with room .* Not a directory|a folder with room .* File exists"):
        surrogate.save(tmp_path / "file" / "s.anygrid")
