"""The search of `fit`: who is tried and chosen, what a row is worth, what it leaves for the training."""

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cli_support import FIT, call, wave_file
from training_support import Pointwise, affine, heat, pointwise

from anygrid.errors import UsageError
from anygrid.problems.burgers import Burgers
from anygrid.training import DEFAULTS, Progress, fit, halving, pacing
from anygrid.training import budget as budget_module
from anygrid.training.halving import Candidate, Row, affordable, candidates_for, decided, first_rung, second_rung
from anygrid.training.loop import Trainer
from anygrid.training.step import Stepper

BASE = Candidate("defaults", 4e-3, 0.0)
ALL = ("gradient", "learning_rate", "width")


@pytest.fixture
def short_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "_LEAST", 3)
    monkeypatch.setattr(halving, "_SETTLED", 0)


def _rows(rung: int, *errors: tuple[Candidate, float]) -> list[Row]:
    return [Row(rung, candidate, 10, 1.0, error) for candidate, error in errors]


def test_candidates_change_one_thing_and_nothing_that_was_said() -> None:
    kinds = ("learning_rate", "gradient", "width")
    for free in (ALL, ("learning_rate",), ("gradient", "width")):
        base, *others = candidates_for(BASE, free)
        assert base == BASE
        changed = [[k for k in kinds if getattr(c, k) != getattr(base, k)] for c in others]
        assert all(len(c) == 1 for c in changed)
        assert {c[0] for c in changed} == set(free)
        assert len({c.label for c in others}) == len(others)


@pytest.mark.parametrize("length", [100, 2000, 4000, 7000, 50_000])
def test_the_search_stays_within_its_share(length: float) -> None:
    count, each = first_rung(6, length)
    spent = count * each + min(count, halving.SECOND) * halving.RATIO * each
    assert spent <= halving.SHARE * length * (1 + 1e-12)
    assert each >= 50 or count == 0
    assert (count == 0) == (halving.SHARE * length < 8 * 50)
    assert count == 6 or first_rung(6, 1.5 * length)[0] >= count


def test_a_gradient_term_is_tried_only_where_there_is_none() -> None:
    assert [c.gradient for c in candidates_for(replace(BASE, gradient=0.1), ALL)] == [0.1] * 5
    assert [c.gradient for c in candidates_for(BASE, ALL)] == [0.0, 0.1, 0.0, 0.0, 0.0, 0.0]


def test_a_gradient_term_is_tried_only_in_long_rungs() -> None:
    six = candidates_for(BASE, ALL)
    short, each = affordable(six, 20_000)  # a second rung of 3 x 200 steps
    assert [c.gradient for c in short] == [0.0] * 5
    assert each == first_rung(5, 20_000)[1]
    long, each = affordable(six, 34_000)
    assert long == six
    assert 3 * each >= 1000
    assert affordable(candidates_for(BASE, ("gradient",)), 5000) == ([], 0.0)


def test_the_second_rung_puts_together_what_was_better() -> None:
    _, gradient, fast, narrow, slow, _ = six = candidates_for(BASE, ALL)
    assert [c.learning_rate for c in six] == pytest.approx([4e-3, 4e-3, 8e-3, 4e-3, 2e-3, 4e-3])
    rows = _rows(1, (BASE, 1.0), (gradient, 0.8), (fast, 0.9), (narrow, 1.1), (slow, 0.95))
    first, best, both = second_rung(rows)
    assert (first, best) == (BASE, gradient)
    assert (both.learning_rate, both.gradient, both.width) == (fast.learning_rate, gradient.gradient, None)
    # With one kind of improvement the second best stands beside the best, with none the least bad.
    assert second_rung(_rows(1, (BASE, 1.0), (fast, 0.9), (slow, 0.8), (gradient, 1.5))) == [BASE, slow, fast]
    assert second_rung(_rows(1, (BASE, 1.0), (fast, 1.2))) == [BASE, fast]


def test_the_defaults_win_unless_beaten_by_the_margin_to_the_end() -> None:
    _, gradient, fast, narrow, *_ = candidates_for(BASE, ALL)
    first = _rows(1, (BASE, 1.0), (gradient, 0.9), (fast, 0.8), (narrow, 0.6))
    assert decided(first, _rows(2, (BASE, 0.5), (gradient, 0.45))) == gradient
    level = _rows(1, (BASE, 1.0), (gradient, 0.96))
    assert decided(level, _rows(2, (BASE, 0.5), (gradient, 0.48))) == BASE  # 4 %
    assert decided(level, _rows(2, (BASE, 0.5), (gradient, 0.47))) == gradient  # 6 %
    # 40 % ahead, then 20 %: expected to be behind in the end. What was put together is compared with the product of its parts.
    assert decided(first, _rows(2, (BASE, 0.5), (narrow, 0.4))) == BASE
    both = Candidate("both", fast.learning_rate, gradient.gradient)
    assert decided(first, _rows(2, (BASE, 1.0), (fast, 0.82), (both, 0.75))) == both
    assert decided(first, _rows(2, (BASE, 1.0), (fast, 0.82), (both, 0.85))) == fast
    assert decided(first, _rows(2, (BASE, 0.5), (gradient, math.inf))) == BASE
    assert decided(_rows(1, (BASE, math.inf), (slow := candidates_for(BASE, ALL)[4], 0.5)), _rows(2, (BASE, math.inf), (slow, 0.4))) == slow


def _fields(ds: Any, name: str) -> torch.Tensor:
    return torch.from_numpy(ds[name].values)[:, None]


@pytest.mark.usefixtures("short_rungs")
def test_a_row_is_a_training_of_its_own_and_its_error_that_of_held_out_samples() -> None:
    """Each row repeated by plain `fit`, its error computed by hand; the training that follows has what is left."""
    ds, steps = affine(40), 400
    surrogate = fit(ds, "p", "q", operator=pointwise, steps=steps, batch=4, search=True)
    table = surrogate.record["search"]
    rows = [Row.from_json(row) for row in table["rows"]]
    assert [row.rung for row in rows] == [1, 1, 1, 1, 2, 2, 2]  # no width: a number of steps says nothing of time
    _, each = first_rung(4, steps)
    for row, length in ((rows[1], each), (rows[-1], 3 * each)):
        assert row.steps == round(length)
        rate = row.candidate.learning_rate * (length / steps) ** -0.25
        alone = fit(ds, "p", "q", operator=pointwise, steps=row.steps, batch=4, learning_rate=rate, gradient=row.candidate.gradient)
        held_out = ds.isel(sample=slice(36, None))
        u, v = alone.predict(held_out).q.values, held_out.q.values
        w = np.full(16, 1 / 15) * np.array([0.5, *[1] * 14, 0.5])
        errors = np.sqrt(((u - v) ** 2 @ w) / (v**2 @ w))
        assert row.error == pytest.approx(errors.mean(), rel=1e-4)
    chosen = decided(rows[:4], rows[4:])
    settings = surrogate.record["settings"]
    assert (settings["learning_rate"], settings["gradient"]) == (chosen.learning_rate, chosen.gradient)
    assert surrogate.record["steps"] == steps - sum(row.steps for row in rows) >= 0.85 * steps - 4
    after = fit(
        ds,
        "p",
        "q",
        operator=pointwise,
        steps=surrogate.record["steps"],
        batch=4,
        learning_rate=chosen.learning_rate,
        gradient=chosen.gradient,
    )
    assert all(torch.equal(a, b) for a, b in zip(after.operator.parameters(), surrogate.operator.parameters(), strict=True))


@pytest.mark.usefixtures("short_rungs")
def test_a_better_rate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a default rate several times too small, doubling it must win."""
    from dataclasses import replace

    from anygrid.training import arguments

    monkeypatch.setattr(arguments, "DEFAULTS", replace(DEFAULTS, learning_rates=(1e-3, 1e-3)))
    surrogate = fit(affine(40), "p", "q", operator=pointwise, steps=1000, batch=4, gradient=0.0, search=True)
    assert surrogate.record["settings"]["learning_rate"] == pytest.approx(2e-3)
    assert any("learning rate 0.002 chosen" in text for text in surrogate.record["inferred"])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine whose clock moves by steps alone: a microsecond for every thousand weights, three times that for a roll-out."""
    now = SimpleNamespace(seconds=0.0)
    plain, looked = Stepper.step, Trainer.validate

    def step(self: Stepper, batch: Any, segment: Any, rate: float, number: int) -> float:
        now.seconds += 1e-6 * segment.unroll * sum(p.numel() for p in self.model.operator.parameters())
        return plain(self, batch, segment, rate, number)

    def validate(self: Trainer, rows: int) -> float:
        now.seconds += 1e-4 * rows
        return looked(self, rows)

    clock = SimpleNamespace(perf_counter=lambda: now.seconds)
    monkeypatch.setattr(Stepper, "step", step)
    monkeypatch.setattr(Trainer, "validate", validate)
    monkeypatch.setattr(budget_module, "time", clock)
    monkeypatch.setattr(pacing, "time", clock)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return now


@pytest.mark.usefixtures("short_rungs")
@pytest.mark.slow
def test_a_budget_gives_each_candidate_the_same_time_and_the_rest_to_the_winner(machine: SimpleNamespace) -> None:
    surrogate = fit(heat(24, points=16, times=4), "u", "u", lead=1, budget=100.0, batch=2, unroll=2, search=True, validation=0.2)
    table = surrogate.record["search"]
    rows = [Row.from_json(row) for row in table["rows"]]
    assert {row.candidate.width for row in rows if row.rung == 1} == {None, 32, 64}
    for rung in (1, 2):
        seconds = [row.seconds for row in rows if row.rung == rung]
        assert max(seconds) - min(seconds) < 0.6  # half a step of the widest, of either kind
    wide = next(row for row in rows if row.candidate.width == 64)
    assert wide.steps < rows[0].steps < next(row for row in rows if row.candidate.width == 32).steps
    assert table["seconds"] == pytest.approx(sum(row.seconds for row in rows), rel=0.5)
    assert table["seconds"] < 0.25 * 100
    assert machine.seconds == pytest.approx(100, rel=0.05)
    assert surrogate.record["seconds"] == pytest.approx(100, rel=0.05)
    assert surrogate.record["settings"]["budget"] == pytest.approx(100 - table["seconds"])
    width = table["chosen"]["width"] or 48
    assert surrogate.record["settings"]["operator_arguments"]["width"] == surrogate.operator.arguments["width"] == width


def test_too_short_a_training_is_not_searched_and_loses_nothing() -> None:
    told: list[Progress] = []
    surrogate = fit(affine(), "p", "q", operator=pointwise, steps=20, search=True, listener=told.append)
    assert any("too short" in p.message for p in told)
    assert surrogate.record["steps"] == 20
    assert surrogate.record["search"]["rows"] == []
    plain = fit(affine(), "p", "q", operator=pointwise, steps=20)
    assert all(torch.equal(a, b) for a, b in zip(plain.operator.parameters(), surrogate.operator.parameters(), strict=True))


@pytest.mark.usefixtures("short_rungs")
def test_several_grids_epochs_and_a_candidate_that_diverges() -> None:
    class Fragile(Pointwise):
        calls = 0

        def forward(self, a: Any, grid: Any, query: Any = None) -> Any:
            Fragile.calls += self.training
            u = super().forward(a, grid, query)
            return u * float("nan") if Fragile.calls == 8 else u

    data = [heat(32, points=16), heat(32, points=32, seed=1)]
    surrogate = fit(data, "u", "u", lead=1, epochs=30, batch=4, operator=lambda i, o, g: Fragile(i, o), search=True)
    rows = surrogate.record["search"]["rows"]
    assert [row["error"] is None for row in rows] == [False, True, *[False] * (len(rows) - 2)]
    assert surrogate.record["steps"] == 30 * 14 - surrogate.record["search"]["steps"]
    assert surrogate.record["search"]["chosen"] != rows[1]["candidate"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"validation": 0.0}, "held out"),
        ({"learning_rate": 1e-3, "gradient": 0.1}, "something to search for"),
    ],
)
def test_what_cannot_be_searched_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fit(affine(), "p", "q", operator=pointwise, steps=5, search=True, **options)


def test_an_equation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a training on data alone(.|\n)*physics"):
        fit(Burgers(), physics=Burgers(), steps=5, search=True)


def test_the_command_line_searches_and_info_shows_it(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "_LEAST", 2)
    monkeypatch.chdir(tmp_path)
    wave_file(tmp_path / "w.nc")
    code, _, err = call(
        capsys, "fit", "w.nc", *FIT, "--operator", "fno", "--width", "4", "--modes", "5", "--depth", "1", "--steps", 200, "--search"
    )
    assert code == 0, err
    assert "search, rung 2: defaults: held-out error" in err
    assert "chosen" in err
    code, out, _ = call(capsys, "info", "w.anygrid")
    assert code == 0
    assert "\nsearch:\n  chosen: " in out
    assert "\n  rung 1: defaults " in out
    begin = time.perf_counter()
    code, out, err = call(capsys, "fit", "w.nc", *FIT, "--search", "--validation", "0", "-o", "v.anygrid")
    assert code == 2, time.perf_counter() - begin
    assert "hold some out" in err
