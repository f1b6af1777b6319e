"""A search that was killed goes on where it stopped: finished short trainings are kept, the result is that of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from training_support import Pointwise, heat

from anygrid.errors import FileError, UsageError
from anygrid.surrogate import Surrogate
from anygrid.training import Progress, fit, halving

ROWS = 7


@pytest.fixture(autouse=True)
def short_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "_LEAST", 3)
    monkeypatch.setattr(halving, "_SETTLED", 0)


class _Presses(Pointwise):
    """Presses Ctrl-C in the fortieth call of a training."""

    steps = 0

    def forward(self, a: Any, grid: Any, query: Any = None) -> Any:
        _Presses.steps += self.training
        if _Presses.steps == 40 and self.training:
            signal.raise_signal(signal.SIGINT)
        return super().forward(a, grid, query)


def _train(folder: Path | None, listener: Any = None, kind: type[Pointwise] = Pointwise, **more: Any) -> Surrogate:
    operator = lambda inputs, outputs, grid: kind(inputs, outputs, dropout=0.1)  # noqa: E731 - dropout: random numbers matter
    arguments = {"lead": 1, "steps": 500, "batch": 8, "unroll": 2, "search": True, "checkpoint_seconds": 0.01}
    arguments |= {"optimizer": "adamw", **more}  # with which a gradient term is among the candidates
    return fit(heat(samples=24, points=16, times=5), "u", "u", operator=operator, run=folder, listener=listener, **arguments)


def _result(surrogate: Surrogate) -> tuple[list[Any], list[Any]]:
    rows = [[row["rung"], row["candidate"], row["steps"], row["error"]] for row in surrogate.record["search"]["rows"]]
    return rows, [w.tolist() for w in surrogate.operator.parameters()]


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], list[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halving, "_LEAST", 3)
        patch.setattr(halving, "_SETTLED", 0)
        return _result(_train(None))


def test_kill_9_in_the_search_repeats_no_finished_row(tmp_path: Path, undisturbed: tuple[list[Any], list[Any]]) -> None:
    folder, here = tmp_path / "run", Path(__file__).parent
    kept = folder / "search.json"
    code = f"""
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]
from anygrid.training import halving
halving._LEAST, halving._SETTLED = 3, 0
from test_search_kill import _train
_train(Path({str(folder)!r}))
"""
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while child.poll() is None and not (kept.exists() and kept.read_text().count('"rung"') >= 2):
        time.sleep(0.001)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    before = json.loads(kept.read_text())["rows"]
    assert 2 <= len(before) < ROWS
    told: list[Progress] = []
    resumed = _train(folder, told.append)
    assert json.loads(kept.read_text())["rows"][: len(before)] == before  # their seconds too: nobody trained them again
    assert sum(", rung " in p.message for p in told) == ROWS - len(before)
    assert _result(resumed) == undisturbed


@pytest.mark.parametrize("rows", [1, pytest.param(4, marks=pytest.mark.slow), 7])
def test_a_crash_after_any_row_and_in_the_training_changes_nothing(
    tmp_path: Path, undisturbed: tuple[list[Any], list[Any]], rows: int
) -> None:
    said: list[str] = []

    def crash(progress: Progress) -> None:
        said.extend([progress.message] if ", rung " in progress.message else [])
        if len(said) == rows < ROWS or progress.step >= 50:
            raise MemoryError

    with pytest.raises(MemoryError):
        _train(tmp_path / "run", crash)
    assert len(said) == rows
    assert _result(_train(tmp_path / "run")) == undisturbed
    assert _result(_train(tmp_path / "run")) == undisturbed  # finished: nothing is trained again


def test_control_c_in_a_short_training_keeps_the_rows_before_it(tmp_path: Path, undisturbed: tuple[list[Any], list[Any]]) -> None:
    _Presses.steps, before = 0, signal.getsignal(signal.SIGINT)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match=r"stopped in the search after [1-6] short trainings: saved in .*search\.json"):
        _train(folder, kind=_Presses)
    assert signal.getsignal(signal.SIGINT) is before
    stored = json.loads((folder / "search.json").read_text())["rows"]
    assert _result(_train(folder, kind=_Presses)) == undisturbed
    assert json.loads((folder / "search.json").read_text())["rows"][: len(stored)] == stored
    _Presses.steps = 0
    with pytest.raises(KeyboardInterrupt, match="nothing is saved without a run folder"):
        _train(None, kind=_Presses)


def test_a_run_without_a_search_is_another_run(tmp_path: Path) -> None:
    _train(tmp_path / "run", search=False, steps=3)
    with pytest.raises(UsageError, match=r"fit\.search"):
        _train(tmp_path / "run", steps=3)


def test_a_damaged_file_of_rows_is_named(tmp_path: Path) -> None:
    _train(tmp_path / "run", steps=100)
    (tmp_path / "run" / "search.json").write_text('{"rows": [')
    with pytest.raises(FileError, match=r"search\.json"):
        _train(tmp_path / "run", steps=100)


def test_rows_survive_json() -> None:
    row = halving.Row(2, halving.Candidate("defaults", 4e-3, 0.1, 32), 7, 0.5, float("inf"))
    assert halving.Row.from_json(json.loads(json.dumps(row.to_json()))) == row
