"""Evaluation of a chaotic problem whose exponent and statistics are known: a folded line at every point of a circle."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.evaluate import evaluate
from anygrid.evaluate.result import Report
from anygrid.fields import Variable
from anygrid.grid import Box, Periodic
from anygrid.problems.base import Card, Problem
from anygrid.report.page import page

sys.path.insert(0, str(Path(__file__).parents[1]))
from evaluate_support import CARD, Decay, Rod

FACTOR = 3.0


@dataclass(frozen=True)
class Fold(Problem):
    """``u <- |3 u|`` folded into [0, 1] at each point: exponent ln 3 / dt, uniform density."""

    card: ClassVar[Card] = CARD
    dt: float = 0.5
    steps: int = 4
    inputs: ClassVar[tuple[Variable, ...]] = (Variable("u"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("u"),)

    def grid(self, resolution):
        n = resolution if isinstance(resolution, int) else resolution[0]
        return Box.uniform({"x": Periodic()}, n)

    def sample(self, n, grid, generator):
        phase = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return (0.5 + 0.5 * torch.sin(2 * math.pi * (grid.points()[:, 0] + phase)))[:, None]

    def solve(self, a, grid):
        return 1 - (1 - (FACTOR * a) % 2).abs()

    def residual(self, a, u, grid):
        return u * 0


def run(maps, problem=None, long_steps=400, **options):
    problem = problem or Fold()
    settings = {"resolutions": [16], "n": 8, "timing": False, "solvers": {"solver": problem.solve}} | options
    return evaluate(maps, problem, long_steps=long_steps, **settings)


@pytest.fixture(scope="module")
def report():
    fold = Fold()

    def blows_up(a, grid):
        return fold.solve(a, grid) + 1e30 * a.clamp_min(1) ** 8

    return run(
        {
            "the same": lambda a, grid: fold.solve(a, grid),
            "squeezed": lambda a, grid: 0.8 * fold.solve(a / 0.8, grid),
            "slightly wrong": lambda a, grid: fold.solve(a + 1e-3, grid),
            "blows up": lambda a, grid: fold.solve(a, grid) * 1e20,
        }
    )


def term(report, name):
    return next(t for t in report.long_time.terms if t.name == name)


def test_solver_exponent_and_settings(report):
    long = report.long_time
    assert long.exponent.mean == pytest.approx(math.log(3) / 0.5, rel=0.02)
    assert (long.steps, long.starts, long.dt, long.threshold) == (400, 8, 0.5, 0.4)


def test_forecasts_hold_as_long_as_their_error_allows(report):
    same, wrong, persistence = (term(report, name) for name in ("the same", "slightly wrong", "persistence"))
    # float32: 6e-8 of 1 grows threefold a step, to 0.4 of 0.58 after 14 steps; 3e-3 after 4 to 5
    assert 11 * math.log(3) < same.valid_time.mean < 17 * math.log(3)
    assert 3 * math.log(3) < wrong.valid_time.mean < 6 * math.log(3)
    assert persistence.valid_time.mean < 1
    assert persistence.distances == {}
    assert persistence.exponent is None


def test_statistics_within_the_noise_for_the_same_law_and_outside_for_another(report):
    same, squeezed = term(report, "the same"), term(report, "squeezed")
    assert set(same.distances) == {"spectrum", "values", "slopes", "autocorrelation", "Lyapunov exponent"}
    assert sum(d.within for d in same.distances.values()) >= 4
    assert same.distances["values"].within
    # uniform on [0, 0.8] against [0, 1]: distance 0.1 of a deviation of 1 / sqrt(12)
    assert squeezed.distances["values"].distance == pytest.approx(0.1 * math.sqrt(12), rel=0.1)
    assert not squeezed.distances["values"].within
    assert squeezed.exponent.mean == pytest.approx(math.log(3) / 0.5, rel=0.05)


def test_a_map_that_leaves_says_how_long_it_stayed(report):
    gone = term(report, "blows up")
    assert gone.steps < 10
    assert gone.distances == {}
    assert gone.valid_time.mean == 0


def test_round_trip_and_older_files(report):
    again = Report.from_json(report.to_json())
    assert again.long_time == report.long_time
    older = json.loads(report.to_json())
    del older["long_time"]
    assert Report.from_json(json.dumps(older)).long_time is None


def test_page_has_the_section_with_both_tables_and_the_figure(report):
    html = page(report)
    for text in (
        "Chaos and long times",
        "valid for<br>(Lyapunov times)",
        "solver's own noise",
        "longtime-",
        "outside</small>",
        "finite steps",
    ):
        assert text in html


def test_an_orderly_problem_has_a_note_instead():
    report = run({"m": Decay().solve}, Decay(), long_steps=200)
    assert report.long_time is None
    assert any("Not chaotic" in note for note in report.notes)
    assert "Chaos and long times" not in page(report)


def test_steady_problems_and_short_runs_are_refused():
    with pytest.raises(UsageError, match="long_steps"):
        run({"m": Rod().solve}, Rod(), resolutions=[17])
    with pytest.raises(UsageError, match="16 steps or more"):
        run({"m": Fold().solve}, long_steps=10)
