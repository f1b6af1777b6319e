import math

import pytest

from anygrid.evaluate.cost import Costs, CurvePoint, best_seconds, compare, equal_error, equal_time, front, solver_curve
from anygrid.evaluate.result import Score, Timing
from anygrid.metrics.errors import Estimate


def point(seconds, error, n=9):
    return CurvePoint(seconds, error, "solver", (n,))


# error = 1e-3 / seconds: a straight line of slope -1 in log-log
LINE = [point(0.01, 0.1), point(0.1, 0.01), point(1.0, 0.001)]


def scored(error, name="net", role="map", at=(64,)):
    e = Estimate(error, error, error, 8)
    return Score(name, role, (64,), at, {"relative_l2": e}, {}, {})


def timed(seconds, name="net", role="map", at=(64,), batch=1, threads=1):
    return Timing(name, role, at, batch, threads, 9, seconds, seconds, seconds)


def test_equal_error_interpolates_in_log_log():
    seconds, relation = equal_error(LINE, 0.02)
    assert relation == "="
    assert seconds == pytest.approx(1e-3 / 0.02, rel=1e-12)


@pytest.mark.parametrize(("error", "expected"), [(0.5, (0.01, "<=")), (1e-5, (1.0, ">=")), (0.1, (0.01, "="))])
def test_equal_error_never_extrapolates(error, expected):
    assert equal_error(LINE, error) == expected


def test_equal_time_interpolates_and_stops_at_the_ends():
    assert equal_time(LINE, 0.05) == pytest.approx(0.02, rel=1e-12)
    assert equal_time(LINE, 0.001) is None
    assert equal_time(LINE, 1e6) == 0.001


def test_front_drops_what_is_dearer_and_no_better():
    wasteful = [*LINE, point(0.05, 0.2), point(0.2, 0.0099999)]
    assert front(wasteful) == LINE


def test_gain_and_break_even():
    c = compare(scored(0.01), [timed(0.02)], LINE, "single", Costs(8.0, 8.0))
    assert c.speedup == pytest.approx(5)
    assert c.break_even == pytest.approx(200)  # 16 s at 0.08 s saved each
    assert not c.never
    assert "5 times faster" in c.sentence
    assert "repaid after 200 solves" in c.sentence


def test_a_loss_is_called_a_loss_and_never_repaid():
    c = compare(scored(0.01), [timed(0.4)], LINE, "single", Costs(8.0, 8.0))
    assert c.speedup == pytest.approx(0.25)
    assert c.break_even is None
    assert c.never
    assert "This is a loss: at equal error the map is 4 times slower than the solver." in c.sentence
    assert "never repaid" in c.sentence
    assert c.solver_error_at_equal_time == pytest.approx(0.001 / 0.4)


def test_bounds_are_said():
    cheap = compare(scored(0.5), [timed(0.001)], LINE, "single", Costs(1.0, 1.0))
    assert cheap.relation == "<="
    assert "at most 10 times faster" in cheap.sentence
    assert "after at least" in cheap.sentence
    slow = compare(scored(0.5), [timed(0.1)], LINE, "single", Costs(1.0, 1.0))
    assert slow.never
    assert "at least 10 times slower" in slow.sentence
    exact = compare(scored(1e-6), [timed(0.1)], LINE, "single", Costs(1.0, 1.0))
    assert exact.relation == ">="
    assert "at least 10 times faster" in exact.sentence
    assert "after at most" in exact.sentence
    undecided = compare(scored(1e-6), [timed(10.0)], LINE, "single", Costs(1.0, 1.0))
    assert not undecided.never
    assert "not decided" in undecided.sentence


def test_unknown_costs_and_missing_timings():
    assert "unknown" in compare(scored(0.01), [timed(0.02)], LINE, "single", Costs(1.0)).sentence
    assert compare(scored(0.01), [], LINE, "single", Costs()) is None
    assert compare(scored(math.nan), [timed(0.1)], LINE, "single", Costs()) is None


def test_modes_take_the_best_of_their_kind():
    timings = [timed(0.5), timed(0.3, threads=2), timed(0.2, batch=8), timed(0.1, batch=8, threads=2)]
    assert best_seconds(timings, "net", (64,), "single") == 0.3
    assert best_seconds(timings, "net", (64,), "batch") == 0.2
    assert best_seconds(timings, "net", (32,), "single") is None


def test_curve_pairs_errors_with_the_grid_that_was_timed():
    scores = [scored(0.1, "solver", "solver", (16,)), scored(0.01, "solver", "solver", (64,)), scored(0.5)]
    timings = [timed(0.1, "solver", "solver", (16,)), timed(2.0, "solver", "solver", (64,)), timed(0.01)]
    assert [(p.seconds, p.error, p.resolution) for p in solver_curve(scores, timings, (64,), "single")] == [
        (0.1, 0.1, (16,)),
        (2.0, 0.01, (64,)),
    ]


def test_a_setting_that_solves_nothing_is_no_setting():
    scores = [scored(error, "solver", "solver", at=(n,)) for error, n in ((8.0, 17), (0.01, 33))]
    timings = [timed(seconds, "solver", "solver", at=(n,)) for seconds, n in ((0.001, 17), (0.1, 33))]
    curve = solver_curve(scores, timings, (64,), "single")
    assert [p.resolution for p in curve] == [(33,)]
    assert equal_error(curve, 0.05) == (0.1, "<=")
