"""Mixed precision: what overflows is repeated in float32, the same to the last bit, and a training that overflows often stays there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import Pointwise, heat

import anygrid as ag
from anygrid.errors import TrainingError
from anygrid.surrogate import Surrogate
from anygrid.training import Physics, Progress, fit
from anygrid.training.mixed import OFTEN, WINDOW, said, stays


class Narrow(Pointwise):
    """In bfloat16 its steps ``bad`` overflow; with ``aware`` they are taken in float32 instead."""

    bad, aware, value = frozenset([3]), False, float("inf")
    step, passes = -1, 0

    def forward(self, a: Any, grid: Any, query: Any = None) -> Any:
        mixed = torch.is_autocast_enabled("cpu")
        if not (self.training and mixed):
            return super().forward(a, grid, query)
        Narrow.passes += 1
        if Narrow.step not in Narrow.bad:
            assert super().forward(a, grid, query).dtype == torch.bfloat16
            return super().forward(a, grid, query)
        if not Narrow.aware:
            return super().forward(a, grid, query) * Narrow.value
        with torch.autocast("cpu", enabled=False):
            return super().forward(a, grid, query)


def train(monkeypatch: pytest.MonkeyPatch, bad: set[int], aware: bool = False, listener: Any = None, **more: Any) -> Surrogate:
    from anygrid.training.step import Stepper

    plain = Stepper.step

    def step(self: Stepper, batch: Any, segment: Any, rate: float, number: int) -> float:
        Narrow.step = number
        return plain(self, batch, segment, rate, number)

    Narrow.bad, Narrow.aware, Narrow.passes = frozenset(bad), aware, 0
    arguments = {"steps": 24, "precision": "bfloat16", "device": "cpu", "checkpoint_seconds": 0.0, "listener": listener}
    operator = lambda inputs, outputs, grid: Narrow(inputs, outputs)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", step)
        if "physics" in more:
            return fit(more["physics"].problem, operator=operator, **arguments, **more)
        return fit(heat(24, times=3), "u", "u", lead=1, operator=operator, batch=8, unroll=1, **arguments, **more)


def same(one: Surrogate, two: Surrogate) -> bool:
    a, b = one.operator.state_dict(), two.operator.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_overflow_is_repeated_in_float32(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(Narrow, "value", value)
    told: list[str] = []
    found = train(monkeypatch, {3, 7}, listener=lambda p: told.append(p.message))
    assert same(found, train(monkeypatch, {3, 7}, aware=True))
    assert not same(found, train(monkeypatch, set()))
    repeated = [text for text in told if "repeated in float32" in text]
    assert repeated == [text for text in found.record["inferred"] if "repeated in float32" in text]
    assert repeated[0].startswith("step 3 gave a loss of ")
    assert "step 7" in repeated[1]
    assert repeated[1].endswith("(2 times so far)")


def test_one_that_overflows_often_stays_in_float32_and_so_does_a_resumed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad = {2, 4, 6, 8, 9}
    undisturbed = train(monkeypatch, bad)
    assert Narrow.passes == 10  # steps 0 to 9
    assert sum("stays in float32" in text for text in undisturbed.record["inferred"]) == 1

    def crash(progress: Progress) -> None:
        if progress.step == 15:
            raise LookupError

    with pytest.raises(LookupError):
        train(monkeypatch, bad, listener=crash, run=tmp_path / "run")
    resumed = train(monkeypatch, bad, run=tmp_path / "run")
    assert Narrow.passes == 0
    assert same(resumed, undisturbed)


def test_the_equation_is_taken_once_for_a_repeated_step(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ag.Equation("u_t = 0.01*u_xx", {"x": ag.Periodic()}, initial={"u": ag.RandomField(length=0.3)}, dt=0.2, steps=6)
    physics = Physics(problem, 16, batch=2)
    generated = [train(monkeypatch, bad, aware=aware, physics=physics) for bad, aware in (({3}, False), ({3}, True))]
    assert same(*generated)


def test_float32_that_is_not_finite_remains_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere(Pointwise):
        def forward(self, a: Any, grid: Any, query: Any = None) -> Any:
            return super().forward(a, grid, query) * float("inf")

    with pytest.raises(TrainingError, match="a finite loss and gradient"):
        fit(heat(24), "u", "u", lead=1, steps=3, precision="bfloat16", device="cpu", operator=lambda i, o, g: Nowhere(i, o))


def test_how_often_is_too_often() -> None:
    lone = [k * WINDOW for k in range(OFTEN)]
    assert not stays([])
    assert not stays(lone)
    assert stays([*lone, *range(lone[-1] + 1, lone[-1] + OFTEN)])
    assert "stays" not in said(lone, 1.0, float("nan"))
