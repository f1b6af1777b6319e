"""Training on an equation: without data, with few data, resumed, and refused where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import xarray as xr

import anygrid as ag
from anygrid.errors import GridError, UsageError
from anygrid.evaluate import TEST_SEED
from anygrid.io.pairs import Pairs
from anygrid.io.store import generate
from anygrid.numerics.seeds import sample_generator
from anygrid.operators import FNO
from anygrid.problems.base import Problem
from anygrid.surrogate import Surrogate
from anygrid.training import AugmentedLagrangian, GradientNorm, Physics, fine_tune, fit
from anygrid.training.physics import Equations, check_data

POISSON = ag.Equation("-u_xx = f", {"x": ag.Bounded()}, inputs={"f": ag.RandomField(length=0.2)}, boundary="u = 0", unknown="u")
DECAY = ag.Equation("u_t = 0.01*u_xx - u**3", {"x": ag.Periodic()}, initial={"u": ag.RandomField(length=0.3, std=0.4)}, dt=0.2, steps=6)


def _operator(problem: Problem):
    periodic = [interval.periodic for interval in problem.grid(16).domain]
    return lambda inputs, outputs, grid: FNO(inputs, outputs, periodic, [12], width=16, depth=2)


def _error(surrogate: Surrogate, problem: Problem, resolution: int) -> float:
    grid = problem.grid(resolution)
    a = torch.cat([problem.sample(1, grid, sample_generator(TEST_SEED, k)) for k in range(16)]).float()
    truth = problem.solve(a, grid)
    with torch.no_grad():
        return float(((surrogate(a, grid) - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).mean())


def test_no_data_at_all_steady() -> None:
    surrogate = fit(POISSON, physics=Physics(POISSON, 65), operator=_operator(POISSON), steps=120)
    assert _error(surrogate, POISSON, 65) < 0.12
    assert _error(surrogate, POISSON, 129) < 0.13
    assert surrogate.record["validation_error"] < 0.12
    assert any("no label" in text for text in surrogate.record["inferred"])


def test_no_data_at_all_evolution_rolls_out() -> None:
    surrogate = fit(DECAY, physics=Physics(DECAY, 64), operator=_operator(DECAY), steps=120)
    grid = DECAY.grid(64)
    a = torch.cat([DECAY.sample(1, grid, sample_generator(TEST_SEED, k)) for k in range(8)]).float()
    truth, ahead = a, a
    for _ in range(DECAY.steps):
        with torch.no_grad():
            truth, ahead = DECAY.solve(truth, grid), surrogate(ahead, grid)
    still = float((a - truth).norm() / truth.norm())
    assert float((ahead - truth).norm() / truth.norm()) < 0.65 * still


def test_equation_makes_few_data_enough(tmp_path: Path) -> None:
    generate(POISSON, 12, 65, tmp_path / "few.zarr", workers=0, label_check=0)
    few = xr.open_zarr(tmp_path / "few.zarr")
    alone = fit(few, ["f"], ["u"], operator=_operator(POISSON), steps=100, validation=0)
    helped = fit(few, physics=Physics(POISSON, 65), operator=_operator(POISSON), steps=100, validation=0)
    assert _error(helped, POISSON, 65) < 0.5 * _error(alone, POISSON, 65)


def test_default_grid_is_finer_than_the_data(tmp_path: Path) -> None:
    generate(POISSON, 12, 33, tmp_path / "few.zarr", workers=0, label_check=0)
    surrogate = fit(xr.open_zarr(tmp_path / "few.zarr"), physics=POISSON, operator=_operator(POISSON), steps=2, validation=0)
    assert any(text.startswith("equation on 65,") for text in surrogate.record["inferred"])


@pytest.mark.parametrize("problem", [pytest.param(POISSON, marks=pytest.mark.slow), DECAY], ids=["steady", "evolution"])
def test_interrupted_and_resumed_is_the_same(problem: Problem, tmp_path: Path) -> None:
    rule = AugmentedLagrangian(every=5)
    physics = Physics(problem, 33, batch=2, weighting=rule)
    common = {"physics": physics, "operator": _operator(problem), "steps": 24, "checkpoint_seconds": 0.0}
    whole = fit(problem, **common)

    def stop(progress) -> None:
        if progress.step and progress.step >= 13:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(problem, run=tmp_path / "run", listener=stop, **common)
    said = []
    again = fit(problem, run=tmp_path / "run", listener=lambda p: said.append(p.message), **common)
    assert any("resumed" in text for text in said if text)
    for name, value in whole.operator.state_dict().items():
        assert torch.equal(value, again.operator.state_dict()[name]), name


def test_gradient_balancing_runs_beside_data(tmp_path: Path) -> None:
    generate(DECAY, 6, 32, tmp_path / "d.zarr", workers=0, label_check=0)
    physics = Physics(DECAY, 64, weighting=GradientNorm(every=4))
    surrogate = fit(xr.open_zarr(tmp_path / "d.zarr"), physics=physics, operator=_operator(DECAY), steps=60, validation=0)
    assert _error(surrogate, DECAY, 64) < 0.5


def test_trajectories_in_the_pool_move_on_and_end() -> None:
    """A perfect map: after as many steps as a trajectory has, every state of the pool has been begun anew."""
    surrogate = fit(DECAY, physics=Physics(DECAY, 32, batch=2), operator=_operator(DECAY), steps=2)
    equations = Equations(Physics(DECAY, 32, 2), _loss_of(surrogate), 0, torch.device("cpu"))

    class Exact(torch.nn.Module):
        def forward(self, a, grid):
            return DECAY.solve(a, grid)

    first = equations._inputs(0)[1].clone()
    errors = [float(equations.errors(Exact(), step)) for step in range(4)]
    assert max(errors) < 1e-3
    torch.testing.assert_close(equations._pool[:2], DECAY.solve(first, equations.grid))
    for step in range(4, 4 * DECAY.steps):
        equations.errors(Exact(), step)
    # Eight states, spread over the ages, each visited once in four steps: all have ended once and are of one trajectory's length.
    assert equations.drawn == 16
    assert int(equations._ages.max()) < DECAY.steps


def _loss_of(surrogate: Surrogate):
    from anygrid.training import RelativeNorm

    return RelativeNorm(surrogate.out_std.double(), torch.ones(1, dtype=torch.float64))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="physics=True"):
        fit(POISSON)
    generate(POISSON, 4, 17, tmp_path / "few.zarr", workers=0, label_check=0)
    few = xr.open_zarr(tmp_path / "few.zarr")
    few.attrs.clear()  # data that do not say what made them
    with pytest.raises(UsageError, match="physics=problem"):
        fit(few, ["f"], ["u"], physics=True)
    with pytest.raises(GridError, match="grid of the equation"):
        fit(few, physics=replace(POISSON, domain=(("x", "bounded(0, 2)"),)))
    generate(DECAY, 3, 16, tmp_path / "d.zarr", workers=0, label_check=0)
    with pytest.raises(UsageError, match="give lead= for an evolution only"):
        check_data(POISSON, Pairs(xr.open_zarr(tmp_path / "d.zarr"), ["u"], ["u"], lead=1))
    with pytest.raises(UsageError, match=r"step 0\.1"):
        fit(xr.open_zarr(tmp_path / "d.zarr"), physics=replace(DECAY, dt=0.1))
    with pytest.raises(UsageError, match="leave them out"):
        fit(few, ["u"], ["f"], physics=POISSON)
    with pytest.raises(UsageError, match="one problem"):
        fit(POISSON, physics=DECAY)
    with pytest.raises(UsageError, match="conservation law"):
        fit(ag.Equation("u_t = -u*u_x", {"x": ag.Periodic()}, dt=0.05), physics=True, steps=2)
    with pytest.raises(UsageError, match="inputs"):
        fit(few)


def test_fine_tuning_halves_the_error_of_the_inputs_at_hand() -> None:
    surrogate = fit(POISSON, physics=Physics(POISSON, 65), operator=_operator(POISSON), steps=60)
    grid = POISSON.grid(65)
    a = torch.cat([POISSON.sample(1, grid, sample_generator(TEST_SEED, k)) for k in range(3)]).float()
    truth = POISSON.solve(a, grid)
    kept = {name: value.clone() for name, value in surrogate.operator.state_dict().items()}
    found = fine_tune(surrogate, a, grid, POISSON, steps=80)

    def error(model: Surrogate) -> torch.Tensor:
        with torch.no_grad():
            return (model(a, grid) - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)

    assert float(error(found.surrogate).mean()) < 0.5 * float(error(surrogate).mean())
    # Poisson's estimate is the error, relative to the prediction instead of the truth.
    torch.testing.assert_close(found.after, error(found.surrogate), rtol=0.1, atol=0.0)
    assert all(torch.equal(value, surrogate.operator.state_dict()[name]) for name, value in kept.items())


def test_fine_tuning_never_makes_it_worse_by_its_own_estimate() -> None:
    surrogate = fit(POISSON, physics=Physics(POISSON, 33), operator=_operator(POISSON), steps=20)
    grid = POISSON.grid(33)
    a = POISSON.sample(2, grid, torch.Generator().manual_seed(0)).float()
    found = fine_tune(surrogate, a, grid, POISSON, steps=5, learning_rate=10.0)
    assert float(found.after.mean()) <= float(found.before.mean())
