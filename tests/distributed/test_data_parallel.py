"""Training on several ranks equals training in one process, and ends and resumes together."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from ranks_support import end, on_ranks, said, start
from torch import Tensor
from training_support import Pointwise, heat, small_fno

import anygrid as ag
from anygrid.errors import UsageError
from anygrid.io.store import generate
from anygrid.operators import UNet, default_operator
from anygrid.surrogate import Surrogate
from anygrid.training import AugmentedLagrangian, GradientNorm, Physics, PrimalDual, Progress, Shift, fit

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


SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)
ROUNDING = 1e-7  # the loss is float32 whatever the weights are


class Double(Pointwise):
    """Weights and arithmetic in float64, so that equal to rounding means equal to many digits."""

    def __init__(self, inputs: int, outputs: int, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__(inputs, outputs, width, dropout)
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


def kept(path: Path, count: int, **more: Any) -> list[dict[str, Tensor]]:
    """Weights that each of ``count`` ranks comes to."""
    work = path / f"on {count}"

    def job() -> None:
        surrogate = more.get("work", train)(**{k: v for k, v in more.items() if k != "work"})
        torch.save([weights(surrogate), surrogate.record], work / f"{os.environ['RANK']}.pt")

    on_ranks(count, job, work)
    return [torch.load(work / f"{k}.pt", weights_only=False)[0] for k in range(count)]


def apart(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[k] - two[k]).abs().max() / two[k].abs().max()) for k in one)


@pytest.fixture(scope="module", autouse=True)
def serial() -> dict[str, Tensor]:
    return weights(train())


# Of a batch of 8, three ranks take 3, 3 and 2 rows.
@pytest.mark.parametrize("count", [SLOW(1), 2, SLOW(3)])
def test_equals_one_process(tmp_path: Path, serial: dict[str, Tensor], count: int) -> None:
    found = kept(tmp_path, count)
    assert apart(found[0], serial) < ROUNDING
    assert all(torch.equal(w[k], found[0][k]) for w in found for k in serial)


@pytest.mark.slow
def test_ranks_without_rows(tmp_path: Path) -> None:
    assert apart(kept(tmp_path, 4, batch=3)[3], weights(train(batch=3))) < ROUNDING


def test_the_comparison_can_fail(serial: dict[str, Tensor]) -> None:
    assert apart(weights(train(batch=7)), serial) > 1e-3


@pytest.mark.parametrize("count", [2, SLOW(3)])
def test_sharded_weights(tmp_path: Path, serial: dict[str, Tensor], count: int) -> None:
    assert apart(kept(tmp_path, count, parallel="sharded")[1], serial) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("operator", [default_operator, small_fno, lambda i, o, g: UNet(i, o, [True], width=8, levels=2)])
def test_sharded_blocks_of_the_operators(tmp_path: Path, operator: Any) -> None:
    work = functools.partial(_one_grid, operator=operator, steps=6)
    assert apart(kept(tmp_path, 2, work=work, parallel="sharded")[0], weights(work())) < 1e-3


def _one_grid(**more: Any) -> Surrogate:
    return fit(heat(samples=12, points=64, times=5), "u", "u", **{**ARGUMENTS, "resolutions": (), **more})


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "parallel"), [(1, "data"), (2, "data"), (1, "sharded")])  # of the 3, 3 and 2 rows of three ranks
def test_parts_of_a_rank(tmp_path: Path, serial: dict[str, Tensor], parts: int, parallel: str) -> None:
    assert apart(kept(tmp_path, 3, micro_batch=parts, parallel=parallel)[1], serial) < ROUNDING


def test_what_several_ranks_cannot_do(tmp_path: Path) -> None:
    def job() -> None:
        with pytest.raises(UsageError, match="a number on several processes, got 'auto'"):
            train(micro_batch="auto")
        with pytest.raises(UsageError, match=r"cpu or cuda on several processes, .* got 'cpu:1'"):
            train(device="cpu:1")

    on_ranks(2, job, tmp_path)


DECAY = ag.Equation("u_t = 0.01*u_xx - u**3", {"x": ag.Periodic()}, initial={"u": ag.RandomField(length=0.3, std=0.4)}, dt=0.2, steps=4)
POISSON = ag.Equation("-u_xx = f", {"x": ag.Bounded()}, inputs={"f": ag.RandomField(length=0.2)}, boundary="u = 0", unknown="u")


@pytest.mark.slow
@pytest.mark.parametrize("rule", [AugmentedLagrangian(every=3), PrimalDual(), GradientNorm(every=4)], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("problem", [DECAY, POISSON], ids=["evolution", "steady"])
def test_equations(tmp_path: Path, problem: Any, rule: Any) -> None:
    """Three inputs of the equation on two ranks, beside data; an evolution's pool moves on alike."""
    generate(problem, 6, 17, tmp_path / "few.zarr", workers=0, label_check=0)
    data = xr.open_zarr(tmp_path / "few.zarr").load()
    physics = Physics(problem, 17, batch=3, weighting=rule)
    work = functools.partial(fit, data, physics=physics, operator=double, steps=16, batch=4, unroll=1, learning_rate=3e-3)
    found = kept(tmp_path, 2, work=work)
    assert torch.equal(found[0]["first.weight"], found[1]["first.weight"])
    assert apart(found[0], weights(work())) < 1e-5  # the residual differentiates float32 outputs twice


class Sabotage(Double):
    """Calls ``act(step)`` before each pass of a training step."""

    act: Callable[[int], None] = staticmethod(lambda step: None)
    steps = 0

    def forward(self, a: Tensor, grid: Any, query: Any = None) -> Tensor:
        if self.training:
            Sabotage.act(Sabotage.steps)
            Sabotage.steps += 1
        return super().forward(a, grid, query)


def sabotaged(folder: Path, act: Callable[[int], None], rank: int, **more: Any) -> None:
    """Train with ``act`` on one rank."""
    Sabotage.steps = 0  # the test's process may have trained too
    if os.environ["RANK"] == str(rank):
        Sabotage.act = staticmethod(act)  # type: ignore[assignment]
    train(folder, operator=lambda inputs, outputs, grid: Sabotage(inputs, outputs), unroll=1, **more)


def sabotage(tmp_path: Path, act: Callable[[int], None], rank: int, count: int = 2, **more: Any) -> list[int | None]:
    begin = time.monotonic()
    codes = end(start(count, lambda: sabotaged(tmp_path / "run", act, rank, **more), tmp_path / "said"))
    assert time.monotonic() - begin < 60  # nobody waits for the patience of the group
    return codes


def fail_at(step: int) -> Callable[[int], None]:
    def act(now: int) -> None:
        if now == step:
            raise LookupError("the cat sat on this disk")

    return act


def kill_at(step: int, number: int) -> Callable[[int], None]:
    return lambda now: os.kill(os.getpid(), number) if now == step else None


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["data", "sharded"])
def test_a_killed_rank_ends_all_and_the_run_resumes_bit_for_bit(tmp_path: Path, parallel: str) -> None:
    # Three ranks: their sums depend on the order of addition, which a resumed run must keep.
    same = {"parallel": parallel, "operator": lambda i, o, g: Sabotage(i, o), "unroll": 1}
    undisturbed = kept(tmp_path, 3, **same)[0]
    codes = sabotage(tmp_path, kill_at(13, signal.SIGKILL), 1, 3, parallel=parallel)
    assert codes == [2, -signal.SIGKILL, 2]
    for rank in (0, 2):
        assert "process 1 gone without a word" in said(tmp_path / "said", rank)
        assert "the same call resumes from the last checkpoint" in said(tmp_path / "said", rank)
    resumed = kept(tmp_path / "again", 3, folder=tmp_path / "run", **same)
    assert all(torch.equal(w[k], undisturbed[k]) for w in resumed for k in undisturbed)


def test_another_number_of_ranks_goes_on(tmp_path: Path) -> None:
    same = {"operator": lambda i, o, g: Sabotage(i, o), "unroll": 1}
    sabotage(tmp_path, kill_at(13, signal.SIGKILL), 1)
    told: list[str] = []
    resumed = train(tmp_path / "run", lambda p: told.append(p.message), **same)
    assert "resumed at step 13 of 24" in told
    assert any("1 process in place of 2 from step 13 on" in text for text in resumed.record["inferred"])
    assert apart(weights(resumed), weights(train(**same))) < ROUNDING


@pytest.mark.parametrize("rank", [SLOW(0), 1])
def test_an_error_on_one_rank_ends_all_with_its_words(tmp_path: Path, rank: int) -> None:
    assert sabotage(tmp_path, fail_at(7), rank) == [2, 2]
    assert f"LookupError in process {rank}: the cat sat on this disk" in said(tmp_path / "said", 1 - rank)
    assert "LookupError" in said(tmp_path / "said", rank)


@pytest.mark.parametrize("number", [signal.SIGINT, SLOW(signal.SIGTERM)])
def test_a_signal_on_any_rank_stops_all_after_the_step(tmp_path: Path, number: int) -> None:
    assert sabotage(tmp_path, kill_at(9, number), 1, checkpoint_seconds=1e6) == [2, 2]
    for rank in (0, 1):
        assert "KeyboardInterrupt: stopped at step 10 of 24: saved in" in said(tmp_path / "said", rank)
    told: list[str] = []
    train(tmp_path / "run", lambda p: told.append(p.message), operator=lambda i, o, g: Sabotage(i, o), unroll=1, checkpoint_seconds=1e6)
    assert "resumed at step 10 of 24" in told


def test_only_the_first_rank_writes_and_speaks(tmp_path: Path) -> None:
    def job() -> None:
        folder = tmp_path / "run"
        surrogate = train(folder, lambda p: print(p.message) if p.message else None)
        assert surrogate.record["ranks"] == 2
        assert Surrogate.load(folder / "surrogate.anygrid", operators=(Double,)).record["ranks"] == 2

    on_ranks(2, job, tmp_path / "said")
    assert "2 processes, data: 4 samples of a batch in each" in said(tmp_path / "said", 0)
    assert said(tmp_path / "said", 1) == ""


def test_a_budget_is_planned_and_revised_alike(tmp_path: Path) -> None:
    found = kept(tmp_path, 2, budget=1.5, steps=None)
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])
    records = [torch.load(tmp_path / "on 2" / f"{k}.pt", weights_only=False)[1] for k in range(2)]
    assert records[0]["plan"] == records[1]["plan"]
    assert all(any("planned as" in text for text in record["inferred"]) for record in records)


def test_different_arguments_are_refused(tmp_path: Path) -> None:
    def job() -> None:
        train(seed=int(os.environ["RANK"]))

    assert end(start(2, job, tmp_path)) == [2, 2]
    assert "fit.seed of process 1 differs" in said(tmp_path, 0)


def _torchrun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "anygrid", "fit", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_torchrun_at_the_command_line(tmp_path: Path) -> None:
    heat(24, 64, times=4).to_netcdf(tmp_path / "d.nc")
    words = ["d.nc", "--inputs", "u", "--outputs", "u", "--lead", "1steps", "--steps", "6", "--operator", "fno", "--batch", "4"]
    done = _torchrun(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "d.anygrid"
    assert done.stderr.count("2 processes, data: 2 samples of a batch in each") == 1
    code, _, said_alone = call_alone(tmp_path, *words, "--output", "alone.anygrid", "--run", "runs/alone")
    assert code == 0, said_alone
    found, wanted = (Surrogate.load(tmp_path / name) for name in ("d.anygrid", "alone.anygrid"))
    assert apart(weights(found), weights(wanted)) < 1e-3
    wrong = _torchrun(tmp_path, *words[:2], "v", *words[3:], "--run", "runs/wrong")
    assert wrong.returncode != 0
    assert wrong.stderr.count("error: variables: expected") <= 1
    assert "'v'" in wrong.stderr


def call_alone(folder: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "anygrid", "fit", *words], cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr
