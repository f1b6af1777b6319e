import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anygrid.errors import UsageError
from anygrid.training import pacing
from anygrid.training.budget import parse_duration
from anygrid.training.checkpoints import State
from anygrid.training.loader import Loader
from anygrid.training.pacing import revise, validation_rows
from anygrid.training.schedule import Plan, Segment, learning_rate_factor, phases


@pytest.mark.parametrize(
    ("text", "seconds"), [(90, 90), (0.5, 0.5), ("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), (" 2 min ", 120)]
)
def test_durations(text: float | str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", [0, -1, float("nan"), float("inf"), "0s", "", "ten", "10x", "m", "1h 3q", "-5s"])
def test_refused_durations(text: float | str) -> None:
    with pytest.raises(UsageError, match="above 0"):
        parse_duration(text)


def test_learning_rate_rises_to_one_and_falls_to_zero() -> None:
    assert learning_rate_factor(0.0, 0.1) == 0
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1)
    assert learning_rate_factor(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(1.0, 0.1) == pytest.approx(0, abs=1e-15)


def test_phases_cut_at_every_change() -> None:
    plan = phases([(0.3, 4), (0.2, 2)], unroll=3, unroll_fraction=0.25)
    kinds = [(round(s.begin, 6), round(s.end, 6), s.stride, s.unroll) for s in plan.segments]
    assert kinds == [(0, 0.3, 4, 1), (0.3, 0.5, 2, 1), (0.5, 0.75, 1, 1), (0.75, 1, 1, 3)]


@pytest.mark.parametrize("bad", [[(0.6, 2), (0.4, 1)], [(-0.1, 2)], [(0.5, 0)]])
def test_refused_phases(bad: list[tuple[float, int]]) -> None:
    with pytest.raises(UsageError, match="fractions"):
        phases(bad, 1, 0.25)


@given(st.integers(1, 5000), st.sampled_from([[], [(0.3, 4), (0.2, 2)]]), st.integers(1, 4))
def test_stepped_plan_has_exactly_the_steps(steps: int, resolutions: list[tuple[float, int]], unroll: int) -> None:
    plan = phases(resolutions, unroll, 0.25).stepped(steps)
    assert plan.steps == steps
    assert plan.fraction(0) == 0
    assert plan.fraction(steps) == 1
    assert all(plan.fraction(k) < plan.fraction(k + 1) for k in range(0, steps, max(1, steps // 50)))


def test_timed_plan_spends_each_fraction_of_the_seconds() -> None:
    costs = {(2, 1): 0.01, (1, 1): 0.04, (1, 3): 0.1}
    plan = phases([(0.5, 2)], 3, 0.25).timed(100, costs)
    assert [s.steps for s in plan.segments] == [5000, 625, 250]
    assert plan.seconds(costs) == pytest.approx(100)
    assert plan.seconds(costs, 5000) == pytest.approx(50)
    assert plan.at(4999).stride == 2
    assert plan.at(5000).stride == 1
    assert plan.fraction(5000) == pytest.approx(0.5)


@given(st.integers(0, 5874), st.floats(0.1, 300))
def test_replanning_keeps_the_past_and_the_present(step: int, seconds: float) -> None:
    costs = {(2, 1): 0.01, (1, 1): 0.04, (1, 3): 0.1}
    plan = phases([(0.5, 2)], 3, 0.25).timed(100, costs)
    again = plan.timed(seconds, costs, step)
    assert again.fraction(step) == pytest.approx(plan.fraction(step), abs=1e-12)
    assert again.fraction(step / 2) == pytest.approx(plan.fraction(step / 2), abs=1e-12)
    assert (again.at(step).stride, again.at(step).unroll) == (plan.at(step).stride, plan.at(step).unroll)
    assert again.steps > step
    kinds = 4
    assert again.seconds(costs, step) == pytest.approx(seconds, abs=0.1 * kinds)
    assert Plan.from_json(again.to_json()) == again


def _half_way(seconds: float) -> State:
    plan = Plan((Segment(0, 1, steps=1000),))
    return State(plan, 1, costs={(1, 1): 0.1}, step=500, seconds=seconds, mark=(250, 25.0))


def _never() -> None:
    raise AssertionError("threads chosen again without need")


def test_plan_is_left_alone_within_a_tenth() -> None:
    state = _half_way(51.0)
    assert not revise(state, 100.0, 0.4999, 0.5, _never)
    assert state.plan.steps == 1000
    assert state.costs[1, 1] == pytest.approx(26 / 250)


def test_plan_is_revised_when_the_machine_slows_down() -> None:
    state = _half_way(75.0)  # the last 250 steps took 0.2 s each
    assert revise(state, 100.0, 0.4999, 0.5, _never)
    assert state.plan.steps == 500 + 125
    assert state.plan.fraction(500) == pytest.approx(0.5)
    assert state.plan.fraction(625) == 1
    assert "revised" in state.notes[0]


def test_plan_is_revised_only_at_marks() -> None:
    state = _half_way(75.0)
    assert not revise(state, 100.0, 0.5, 0.501, _never)
    assert state.plan.steps == 1000


def test_a_spent_budget_ends_at_once() -> None:
    state = _half_way(101.0)
    assert revise(state, 100.0, 0.4999, 0.5, _never)
    assert state.plan.steps == 501
    assert math.isfinite(state.plan.fraction(500.5))


def test_threads_are_chosen_again_when_steps_become_slow() -> None:
    state = _half_way(75.0)
    state.threads = 2
    asked = []
    assert revise(state, 100.0, 0.4999, 0.5, lambda: asked.append(state.costs[1, 1]))
    assert asked == [pytest.approx(0.2)]


@pytest.mark.parametrize(("slow_with", "chosen"), [(2, 1), (1, 2)])
def test_the_faster_number_of_threads_is_kept(slow_with: int, chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(pacing, "_cost", lambda *_: 0.020 if torch.get_num_threads() == slow_with else 0.002)
    state = State(Plan((Segment(0, 1, steps=10),)), 2, costs={(1, 1): 0.5})
    try:
        pacing.choose_threads(state, 60.0, Loader([], [], 0), _never, float)
        assert state.threads == torch.get_num_threads() == chosen
    finally:
        torch.set_num_threads(before)
    assert state.costs[1, 1] == pytest.approx(0.5 if chosen == 2 else 0.05)
    assert f"{chosen} of 2 threads" in state.notes[0]


def test_validations_of_given_steps_cost_a_tenth_of_them() -> None:
    plan = phases([], unroll=4, unroll_fraction=0.25).stepped(1000)
    applications = 3 * 7 * (750 + 250 * 4)
    rows = validation_rows(plan, 10**6, 3, 7, random=False)
    assert State.validations * 3 * rows == pytest.approx(0.1 * applications, rel=0.02)
    # Two draws of a sample in a step, eight in a validation.
    assert validation_rows(plan, 10**6, 3, 7, random=True) == max(math.ceil(64 / 3), rows // 4)
    longer = phases([], unroll=4, unroll_fraction=0.25).stepped(10000)
    assert validation_rows(longer, 10**6, 3, 7, random=True) == pytest.approx(10 * rows / 4, rel=0.02)
    assert validation_rows(plan.stepped(3), 10**6, 3, 7, random=False) == math.ceil(64 / 3)
    assert validation_rows(plan, 20, 3, 7, random=False) == 20
    assert validation_rows(phases([], 1, 0.25), 500, 1, 7, random=False) == 500  # a budget, measured later
    assert validation_rows(plan, 0, 0, 7, random=False) == 0
