"""Rules for the weights of constraints: what they do to constraints that stay, fall, or are met."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.training.weighting import AugmentedLagrangian, Fixed, GradientNorm, PrimalDual, Weighting


def _none() -> tuple[float, Tensor]:
    raise AssertionError("no passes are needed")


def _after(rule: Weighting, values: list[float], steps: int) -> Tensor:
    constraints = torch.tensor(values, dtype=torch.float64)
    memory = rule.start(len(values))
    for step in range(steps):
        memory = rule.update(memory, constraints, step, _none)
    return rule.weights(memory, constraints)


def test_fixed_weights_stay() -> None:
    torch.testing.assert_close(_after(Fixed(0.3), [1.0, 0.0], 100), torch.tensor([0.3, 0.3], dtype=torch.float64))


def test_multipliers_rise_by_the_constraint_that_stays_and_not_by_the_one_that_is_met() -> None:
    rule = AugmentedLagrangian(penalty=2.0, multiplier=1.0, every=10)
    violated, met = _after(rule, [0.5, 0.0], 41)
    # Four updates by 2 * 0.5, and the penalty's own 2 * 0.5.
    assert float(violated) == pytest.approx(1.0 + 4 * 1.0 + 1.0)
    assert float(met) == pytest.approx(1.0)


def test_augmented_lagrangian_solves_a_constrained_problem_that_a_fixed_weight_does_not() -> None:
    """Minimise (x - 2)^2 subject to |x - 1| = 0: with multipliers x goes to 1, with a weight of 1 it stops at 1.5."""

    def solve(rule: Weighting) -> float:
        x, memory = torch.tensor(2.0, requires_grad=True), rule.start(1)
        for step in range(2000):
            c = (x - 1).abs()
            weights = rule.weights(memory, c.detach()[None])
            (slope,) = torch.autograd.grad((x - 2) ** 2 + (weights * c).sum(), x)
            memory = rule.update(memory, c.detach()[None], step, _none)
            with torch.no_grad():
                x -= 0.003 * slope
        return float(x.detach())

    assert solve(AugmentedLagrangian(every=50)) == pytest.approx(1.0, abs=0.02)
    assert solve(PrimalDual(rate=0.01)) == pytest.approx(1.0, abs=0.02)
    assert solve(Fixed(1.0)) == pytest.approx(1.5, abs=0.02)


def test_dual_ascent_extrapolates_and_stays_positive() -> None:
    rule = PrimalDual(rate=0.5, multiplier=1.0)
    memory = rule.update(rule.start(1), torch.tensor([1.0]), 0, _none)
    assert float(memory[0]) == pytest.approx(1.5)
    memory = rule.update(memory, torch.tensor([0.2]), 1, _none)
    assert float(memory[0]) == pytest.approx(1.5 + 0.5 * (0.4 - 1.0))
    falling = PrimalDual(rate=10.0, multiplier=0.1)
    memory = falling.update(falling.start(1), torch.tensor([1.0]), 0, _none)
    assert float(falling.update(memory, torch.tensor([0.0]), 1, _none)[0]) >= 0


def test_gradient_norms_become_equal() -> None:
    rule = GradientNorm(rate=0.5, every=2)
    memory = rule.start(2)
    for step in range(40):
        memory = rule.update(memory, torch.ones(2), step, lambda: (6.0, torch.tensor([2.0, 60.0])))
    torch.testing.assert_close(memory[0], torch.tensor([3.0, 0.1]), atol=1e-4, rtol=0)


def test_passes_are_asked_for_only_when_due() -> None:
    rule = GradientNorm(every=3)
    memory = rule.start(1)
    torch.testing.assert_close(rule.update(memory, torch.ones(1), 4, _none), memory)


@pytest.mark.parametrize("make", [lambda: Fixed(-1.0), lambda: PrimalDual(rate=float("nan")), lambda: AugmentedLagrangian(penalty=-2)])
def test_numbers_below_zero_are_refused(make) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        make()
