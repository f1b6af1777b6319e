"""A killed run, resumed, ends with the weights of an undisturbed one, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import Pointwise, affine, heat

from anygrid.errors import FileError, TrainingError, UsageError
from anygrid.surrogate import Surrogate
from anygrid.training import Progress, Shift, fit, read_run
from anygrid.training.checkpoints import RunFolder, State
from anygrid.training.schedule import Plan, Segment

ARGUMENTS: dict[str, Any] = {
    "lead": 1,
    "steps": 60,
    "batch": 8,
    "unroll": 2,
    "augment": (Shift("x"),),
    "resolutions": [(0.2, 2)],
    "keep_best": True,
    "checkpoint_seconds": 0.01,
}


def _train(folder: Path | None, listener: Any = None, **more: Any) -> Surrogate:
    operator = lambda inputs, outputs, grid: Pointwise(inputs, outputs, dropout=0.1)  # noqa: E731 - dropout: random numbers matter
    return fit(heat(samples=24, points=16, times=5), "u", "u", operator=operator, run=folder, listener=listener, **{**ARGUMENTS, **more})


def _same(one: Surrogate, two: Surrogate) -> bool:
    a, b = one.operator.state_dict(), two.operator.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def undisturbed() -> Surrogate:
    return _train(None)


def _child(folder: Path) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    code = f"""
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]
from test_training_kill import _train
_train(Path({str(folder)!r}))
"""
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_kill_9_and_resume_equals_undisturbed(tmp_path: Path, undisturbed: Surrogate) -> None:
    folder = tmp_path / "run"
    child, log = _child(folder), folder / "log.jsonl"
    # No warning, from outside, in whatever it is doing some time after step 20: a step, a checkpoint, a line of the log.
    while child.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 20):
        time.sleep(0.001)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    assert not (folder / "surrogate.anygrid").exists()
    resumed = _train(folder)
    assert _same(resumed, undisturbed)
    assert resumed.record["samples"] == undisturbed.record["samples"]
    assert resumed.record["best_step"] == undisturbed.record["best_step"]
    steps = [row["step"] for row in resumed.record["history"]]
    assert steps == sorted(set(steps))
    assert not list(folder.glob(".*.tmp"))
    assert _same(Surrogate.load(folder / "surrogate.anygrid", operators=(Pointwise,)), undisturbed)


@pytest.mark.parametrize("step", [1, 12, 45, 59])
def test_a_crash_at_any_step_changes_nothing(tmp_path: Path, undisturbed: Surrogate, step: int) -> None:
    def crash(progress: Progress) -> None:
        if progress.step == step:
            raise MemoryError

    with pytest.raises(MemoryError):
        _train(tmp_path / "run", crash)
    assert _same(_train(tmp_path / "run"), undisturbed)


@pytest.mark.parametrize(
    "more", [{"optimizer": "soap"}, {"noise": 2, "replay": 3}, {"replay": 3}, {"persistence": True}], ids=lambda m: "-".join(m)
)
def test_a_crash_changes_nothing_with(more: dict[str, Any], tmp_path: Path) -> None:
    def crash(progress: Progress) -> None:
        if progress.step == 27:  # between two changes of SOAP's bases, after they were found
            raise MemoryError

    wanted = _train(None, **more)
    with pytest.raises(MemoryError):
        _train(tmp_path / "run", crash, **more)
    assert _same(_train(tmp_path / "run", **more), wanted)


def test_the_test_can_fail(undisturbed: Surrogate) -> None:
    assert not _same(_train(None, seed=1), undisturbed)


def test_control_c_saves_the_finished_step_and_resumes(tmp_path: Path, undisturbed: Surrogate) -> None:
    folder, before = tmp_path / "run", signal.getsignal(signal.SIGINT)

    def press(progress: Progress) -> None:
        if progress.step == 31:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"step 31 of 60: saved in .*run"):
        _train(folder, press, checkpoint_seconds=1e6)
    assert signal.getsignal(signal.SIGINT) is before
    told: list[Progress] = []
    resumed = _train(folder, told.append, checkpoint_seconds=1e6)
    assert min(p.step for p in told if p.step) == 31
    assert _same(resumed, undisturbed)


def test_control_c_at_the_last_step_still_delivers(tmp_path: Path, undisturbed: Surrogate) -> None:
    def press(progress: Progress) -> None:
        if progress.step == 60:
            signal.raise_signal(signal.SIGINT)

    assert _same(_train(tmp_path / "run", press), undisturbed)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, undisturbed: Surrogate) -> None:
    _train(tmp_path / "run")
    told: list[Progress] = []
    again = _train(tmp_path / "run", told.append)
    assert [p.message for p in told if "resumed" in p.message] == ["resumed at step 60 of 60"]
    assert _same(again, undisturbed)


def test_the_callers_random_state_is_untouched(undisturbed: Surrogate) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    _train(None, steps=3)
    assert torch.equal(torch.rand(3), wanted)


def test_a_run_of_other_arguments_or_data_is_refused(tmp_path: Path) -> None:
    _train(tmp_path / "run", steps=3)
    with pytest.raises(UsageError, match=r"fit\.learning_rate"):
        _train(tmp_path / "run", steps=3, learning_rate=0.1)
    with pytest.raises(UsageError, match=r"data\.sha256"):
        fit(
            heat(24, 16, 5, seed=1),
            "u",
            "u",
            operator=lambda i, o, g: Pointwise(i, o, dropout=0.1),
            run=tmp_path / "run",
            **{**ARGUMENTS, "steps": 3},
        )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("do not touch")
    with pytest.raises(UsageError, match="something else"):
        _train(tmp_path / "mine", steps=3)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_nan_stops_with_step_rows_and_hint_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    class Explodes(Pointwise):
        steps = 0

        def forward(self, a: Any, grid: Any, query: Any = None) -> Any:
            Explodes.steps += self.training
            u = super().forward(a, grid, query)
            return u * float("nan") if Explodes.steps > 5 else u

    with pytest.raises(TrainingError, match=r"nan .*at step 5, rows \d+, .*\n.*learning rate") as caught:
        fit(affine(), "p", "q", operator=lambda i, o, g: Explodes(i, o), steps=20, run=tmp_path / "run", checkpoint_seconds=0.0)
    assert "last checkpoint is kept" in caught.value.hint
    folder = RunFolder(tmp_path / "run", read_run(tmp_path / "run" / "run.toml"))
    loaded = folder.load()
    assert loaded is not None
    assert loaded.state.step == 5
    assert loaded.weights.keys() == Pointwise(1, 1).state_dict().keys()
    assert all(torch.isfinite(w).all() for w in loaded.weights.values())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    _train(tmp_path / "run", steps=3)
    file = tmp_path / "run" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FileError, match=r"checkpoint\.safetensors"):
        _train(tmp_path / "run", steps=3)


def test_state_survives_json() -> None:
    state = State(Plan((Segment(0, 1, 2, 3, 4),)), 2, {(2, 3): 0.1}, 3, (1, 2), 4.5, 6, mark=(1, 0.1), notes=["a"], history=[{"step": 1}])
    again = State.from_json(state.to_json())
    assert again.to_json() == state.to_json()
    assert again.plan == state.plan
    assert again.costs == state.costs
