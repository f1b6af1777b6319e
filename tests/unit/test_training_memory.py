"""Steps that do not fit into memory, and batches computed in parts."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import Pointwise, heat

from anygrid.errors import TrainingError, UsageError
from anygrid.surrogate import Surrogate
from anygrid.training import Flip, Progress, fit

SAID = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


class Full(Pointwise):
    """Memory that holds ``room`` samples in training; ``tries`` are the sizes that were tried."""

    room, error, tries = 3, RuntimeError(SAID), []

    def forward(self, a: Any, grid: Any, query: Any = None) -> Any:
        if self.training:
            Full.tries.append(len(a))
            if len(a) > Full.room:
                raise Full.error
        return super().forward(a, grid, query)


def train(operator: Callable[..., torch.nn.Module] = Full, **more: Any) -> Surrogate:
    arguments = {"lead": 1, "steps": 12, "batch": 8, "augment": [Flip("x")], "unroll": 2, "checkpoint_seconds": 0.0}
    Full.tries = []
    return fit(heat(24, times=4), "u", "u", operator=lambda i, o, g: operator(i, o), **{**arguments, **more})


def apart(one: Surrogate, two: Surrogate) -> float:
    a, b = one.operator.state_dict(), two.operator.state_dict()
    return max(float((a[k] - b[k]).abs().max()) for k in a)


@pytest.mark.parametrize("error", [RuntimeError(SAID), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_the_error_names_the_batch_and_what_fits(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Full, "error", error)
    with pytest.raises(
        TrainingError, match=r"no memory for 8 samples at once at step 0 \(.*\)\.\n.*micro_batch=2 .* fits .*batch=2 fits too"
    ):
        train()
    assert Full.tries == [8, 4, 2, 2, 2, 2]


def test_not_even_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Full, "room", 0)
    with pytest.raises(TrainingError, match="smaller operator"):
        train(micro_batch="auto")


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Full, "error", RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        train(micro_batch="auto")
    assert Full.tries == [8]


@pytest.mark.parametrize("parts", [1, 3, "auto"])  # of 8: 3 + 3 + 2 for 3
def test_parts_train_the_same(parts: int | str) -> None:
    inside, whole = train(micro_batch=parts), train(Pointwise)
    assert apart(inside, whole) < 1e-5
    assert apart(whole, train(Pointwise, batch=4)) > 1e-4
    noted = [text for text in inside.record["inferred"] if "parts of 2 from here on" in text]
    assert len(noted) == (parts == "auto")


def test_a_resumed_run_keeps_the_parts(tmp_path: Path) -> None:
    def crash(progress: Progress) -> None:
        if progress.step == 6:
            raise LookupError

    undisturbed = train(micro_batch="auto")
    with pytest.raises(LookupError):
        train(micro_batch="auto", run=tmp_path / "run", listener=crash)
    resumed = train(run=tmp_path / "run")
    assert max(Full.tries) == 2
    assert apart(resumed, undisturbed) == 0.0
    told: list[str] = []
    with pytest.raises(LookupError):
        train(micro_batch="auto", run=tmp_path / "other", listener=crash)
    other = train(run=tmp_path / "other", micro_batch=3, listener=lambda p: told.append(p.message))
    assert any("parts of 3 samples from step" in text for text in told)
    assert apart(other, undisturbed) < 1e-5


def test_what_cannot_be() -> None:
    for bad in (0, -1):
        with pytest.raises(UsageError, match="micro_batch"):
            train(micro_batch=bad)


_SCRIPT = """
import resource, sys
sys.path[:0] = [{tests!r}]
from training_support import heat
from anygrid.operators import FNO
from anygrid.training import fit
import torch
torch.set_num_threads(1)
data = heat(40, 4096, times=2)
operator = lambda i, o, g: FNO(i, o, [True], [16], width=64, depth=4)
def limit(progress):
    if "operator FNO" in progress.message:
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + 400 * 2**20,) * 2)
    if progress.message: print(progress.message)
fit(data, "u", "u", lead=1, operator=operator, batch=32, steps=2, validation=0, listener=limit, micro_batch={micro!r})
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as Linux has them")
@pytest.mark.parametrize("micro", [None, "auto"])
def test_a_process_with_little_memory(micro: str | None) -> None:
    code = _SCRIPT.format(tests=str(Path(__file__).parent.parent), micro=micro)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env={**os.environ})
    if micro is None:
        assert "no memory for 32 samples at once" in done.stderr
        assert "fits and trains the same" in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-2000:]
        assert "batches are computed in parts of" in done.stdout
