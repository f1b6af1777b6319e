"""Training on several ranks equals training in one process, and ends and resumes together."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_support import on_ranks
from torch import Tensor
from training_support import Pointwise, heat

from anygrid.surrogate import Surrogate
from anygrid.training import Progress, Shift, fit

ARGUMENTS: dict[str, Any] = {
    "lead": 1,
    "steps": 24,
    "batch": 8,
    "unroll": 2,
    "augment": (Shift("x"),),
    "resolutions": [(0.2, 2)],
    "keep_best": True,
    "learning_rate": 3e-3,
    "checkpoint_seconds": 0.0,
}


ROUNDING = 1e-7  # the loss is float32 whatever the weights are


class Double(Pointwise):
    """Weights and arithmetic in float64, so that equal to rounding means equal to many digits."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.double()

    def forward(self, a: Tensor, grid: Any, query: Any = None) -> Tensor:
        return super().forward(a.double(), grid, query)


def double(inputs: int, outputs: int, grid: Any) -> Double:
    return Double(inputs, outputs)


def train(folder: Path | None = None, listener: Callable[[Progress], None] | None = None, **more: Any) -> Surrogate:
    data = [heat(samples=12, points=16, times=5), heat(samples=9, points=24, times=4, seed=1)]
    return fit(data, "u", "u", run=folder, listener=listener, **{"operator": double, **ARGUMENTS, **more})


def weights(surrogate: Surrogate) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in surrogate.operator.state_dict().items()}


def kept(folder: Path, count: int, **more: Any) -> list[dict[str, Tensor]]:
    """Weights that each of ``count`` ranks comes to."""
    work = folder / f"on {count}"

    def job() -> None:
        surrogate = more.get("work", train)(**{k: v for k, v in more.items() if k != "work"})
        torch.save([weights(surrogate), surrogate.record], work / f"{os.environ['RANK']}.pt")

    on_ranks(count, job, work)
    return [torch.load(work / f"{k}.pt", weights_only=False)[0] for k in range(count)]


def apart(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[k] - two[k]).abs().max() / two[k].abs().max()) for k in one)


@pytest.fixture(scope="module")
def serial() -> dict[str, Tensor]:
    return weights(train())


# Of a batch of 8, three ranks take 3, 3 and 2 rows.
@pytest.mark.parametrize("count", [1, 2, 3])
def test_equals_one_process(tmp_path: Path, serial: dict[str, Tensor], count: int) -> None:
    found = kept(tmp_path, count)
    assert apart(found[0], serial) < ROUNDING
    assert all(torch.equal(w[k], found[0][k]) for w in found for k in serial)


def test_ranks_without_rows(tmp_path: Path) -> None:
    assert apart(kept(tmp_path, 4, batch=3)[3], weights(train(batch=3))) < ROUNDING


def test_the_comparison_can_fail(serial: dict[str, Tensor]) -> None:
    assert apart(weights(train(batch=7)), serial) > 1e-3


@pytest.mark.parametrize("count", [2, 3])
def test_sharded_weights(tmp_path: Path, serial: dict[str, Tensor], count: int) -> None:
    assert apart(kept(tmp_path, count, parallel="sharded")[1], serial) < ROUNDING
