import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anygrid.errors import GridError, UsageError
from anygrid.evaluate import Costs, MeanField, NearestSample, Persistence, TensorExamples, evaluate
from anygrid.evaluate.rollout import roll_out
from anygrid.evaluate.timing import Job, measure
from anygrid.evaluate.truth import coarser_sizes, default_reference
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic, Points, Sphere

sys.path.insert(0, str(Path(__file__).parents[1]))
from evaluate_support import Decay, Rod, rod_error


def run(maps, problem=None, **options):
    problem = problem or Rod()
    settings = {"resolutions": [17, 33], "n": 4, "timing": False, "solvers": {"solver": problem.solve}} | options
    return evaluate(maps, problem, **settings)


def find(report, name, resolution, computed_at=None):
    return next(s for s in report.scores if (s.name, s.resolution, s.computed_at) == (name, (resolution,), (computed_at or resolution,)))


def test_solver_and_map_are_measured_against_the_same_fine_truth():
    report = run({"copy of the solver": Rod().solve}, reference=129)
    for n in (17, 33):
        # truth is the solve on 129 points, whose own error is known too
        expected = (1 + rod_error(n)) / (1 + rod_error(129)) - 1
        for name in ("copy of the solver", "solver"):
            assert abs(find(report, name, n).errors["relative_l2"].mean) == pytest.approx(abs(expected), rel=1e-3)
    assert report.headline == (17,)
    assert report.settings["reference"] == "129"


def test_coarse_solver_is_brought_to_the_grid_of_the_comparison():
    report = run({"m": Rod().solve}, reference=129)
    coarse = find(report, "solver", 33, 9).errors["relative_l2"].mean
    assert coarse == pytest.approx((1 + rod_error(9)) / (1 + rod_error(129)) - 1, abs=0.01)
    assert abs(coarse) > 10 * find(report, "solver", 33).errors["relative_l2"].mean


def test_error_against_labels_is_another_number_than_against_truth():
    report = run({"copy of the solver": Rod().solve}, reference=129)
    score = find(report, "copy of the solver", 17)
    assert score.label_l2.mean == pytest.approx(0, abs=1e-6)
    assert report.settings["label_error"] == pytest.approx(score.errors["relative_l2"].mean, rel=1e-6)
    assert any("labels themselves" in line for line in report.verdict)
    other = run({"copy of the solver": Rod().solve}, reference=129, labels=65)
    assert find(other, "copy of the solver", 17).label_l2.mean == pytest.approx((1 + rod_error(17)) / (1 + rod_error(65)) - 1, rel=1e-3)
    assert run({"m": Rod().solve}, reference=129, labels=129).settings["label_error"] is None


def test_loose_tolerances_are_baselines_of_their_own():
    report = run({"m": Rod().solve}, solvers=None)
    assert {s.name for s in report.scores if s.role == "solver"} == {"solver", "solver, tolerance 0.01", "solver, tolerance 0.0001"}


def test_baselines_with_and_without_training():
    grid = Rod().grid(17)
    a = Rod().sample(30, grid, torch.Generator().manual_seed(1)).float()
    training = TensorExamples(a, Rod().solve(a, grid), grid, Rod.inputs, Rod.outputs)
    report = run({"m": Rod().solve}, training=training)
    assert {s.name for s in report.scores if s.role == "baseline"} == {"mean of training", "nearest training sample"}
    assert find(report, "nearest training sample", 17).errors["relative_l2"].mean < 0.1  # amplitudes lie densely in [0.5, 1.5]
    assert find(report, "mean of training", 17).errors["relative_l2"].mean > 0.05
    without = run({"m": Rod().solve})
    assert {s.name for s in without.scores if s.role == "baseline"} == {"mean"}
    assert any("No training set was given" in note for note in without.notes)


def test_map_worse_than_a_baseline_is_told_so():
    report = run({"bad": lambda a, grid: 10 * Rod().solve(a, grid)})
    text = " ".join(report.verdict)
    assert "a loss" in text
    assert "beside the point" in text


def test_map_that_is_not_finite_is_reported_not_averaged():
    def broken(a, grid):
        u = Rod().solve(a, grid)
        u[1] = torch.nan
        return u

    report = run({"broken": broken})
    assert find(report, "broken", 17).errors["relative_l2"].bad == 1
    assert any("not finite in 1 of 4" in line for line in report.verdict)
    assert report.from_json(report.to_json()).verdict == report.verdict


def test_map_that_refuses_one_resolution_is_noted_and_all_raise():
    def picky(a, grid):
        if grid.shape == (17,):
            raise GridError("picky", "33 points", "17", "use more")
        return Rod().solve(a, grid)

    report = run({"picky": picky}, headline=33)
    assert [s.resolution for s in report.scores if s.name == "picky"] == [(33,)]
    assert any("picky refuses 17" in note for note in report.notes)
    with pytest.raises(GridError, match="33 points"):
        run({"picky": picky}, resolutions=[17])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"reference": 33}, "finer than 33"),
        ({"resolutions": []}, "at least one resolution"),
        ({"headline": 9}, "one of the resolutions"),
        ({"n": 0}, "at least one test sample"),
        ({"labels": 257, "reference": 129}, "no finer than the reference"),
    ],
)
def test_wrong_settings(options, word):
    with pytest.raises(UsageError, match=word):
        run({"m": Rod().solve}, **options)


def test_no_maps_and_wrong_output_shape():
    with pytest.raises(UsageError, match="at least one map"):
        run({})
    with pytest.raises(UsageError, match="output of shape"):
        run({"m": lambda a, grid: a[:, :, :3]})


def test_timings_comparisons_and_costs():
    report = run(
        {"m": lambda a, g: 1.05 * Rod().solve(a, g)},
        timing=True,
        timing_seconds=0.1,
        costs=Costs(10.0, 20.0),
        resolutions=[17],
    )
    assert {(t.batch, t.threads) for t in report.timings if t.name == "m"} >= {(1, 1), (4, 1)}
    assert {c.mode for c in report.comparisons} == {"single", "batch"}
    assert all(t.low <= t.median <= t.high for t in report.timings)
    assert all(max(t.repeats for t in report.timings if (t.name, t.batch) == ("m", batch)) >= 3 for batch in (1, 4))
    assert report.seconds("m", (17,)) > 0
    assert report.environment["allocator"]


def test_same_seed_same_numbers_and_other_seed_other_numbers():
    first, again, other = (run({"m": lambda a, g: a * 0.02}, seed=s) for s in (1, 1, 2))
    assert [s.errors for s in first.scores] == [s.errors for s in again.scores]
    assert first.scores[-1].variables != other.scores[-1].variables


def test_roll_out_of_an_evolution():
    report = run({"exact": lambda a, g: a * np.exp(-0.5)}, Decay(), resolutions=[32], reference=64, n=3)
    curves = {(c.name, c.resolution): c for c in report.leads}
    exact = curves["exact", (32,)]
    assert exact.lead == [0.5, 1.0, 1.5, 2.0]
    # the truth gains 1/64 a step
    assert exact.relative_l2 == pytest.approx([1 - (64 / 65) ** k for k in range(1, 5)], rel=1e-4)
    persistence = curves["persistence", (32,)]
    assert persistence.skill_over_persistence == pytest.approx([0] * 4, abs=1e-9)
    assert curves["solver", (16,)].relative_l2[-1] == pytest.approx((17 / 16 * 64 / 65) ** 4 - 1, rel=1e-3)
    assert exact.anomaly_correlation[0] > 0.99


def test_roll_out_that_explodes_stops_being_called():
    grid = Box.uniform({"x": Periodic()}, 4)
    calls = []

    def explode(a, grid):
        calls.append(len(a))
        return a * 1e30

    a = torch.ones(2, 5, 1, 4)
    a[1] = 0
    u = roll_out(explode, a, grid, (0,))
    assert calls == [2, 2, 1, 1, 1]
    assert torch.isnan(u[0, 2:]).all()
    assert (u[1] == 0).all()


def test_forcing_channels_follow_the_truth_in_a_roll_out():
    grid = Box.uniform({"x": Periodic()}, 4)
    a = torch.arange(3.0)[None, :, None, None].expand(1, 3, 2, 4).clone()
    u = roll_out(lambda s, g: s[:, :1] + s[:, 1:], a, grid, (0,))
    assert u[0, :, 0, 0].tolist() == [0.0, 1.0, 3.0]  # 0+0, 0+1, 1+2


def test_data_on_a_sphere_is_coarsened_with_areas():
    grid = Sphere.gauss(12, 24)
    a = torch.randn(10, 1, 12, 24, generator=torch.Generator().manual_seed(0))
    data = TensorExamples(a, 2 * a, grid, (Variable("t", "K"),), (Variable("q", "K"),))
    report = evaluate({"double": lambda x, g: 2 * x}, data, resolutions=[(12, 24), (6, 12)], timing=False)
    assert [s.errors["relative_l2"].mean for s in report.scores if s.name == "double"] == pytest.approx([0, 0], abs=1e-6)
    assert any("true areas" in note for note in report.notes)
    assert report.comparisons == ()
    with pytest.raises(GridError, match="no truth on finer grids"):
        evaluate({"double": lambda x, g: 2 * x}, data, resolutions=[(24, 48)], timing=False)


def test_scattered_points_have_no_h1_and_no_spectra():
    grid = Points(np.random.default_rng(0).random((30, 2)), ("x", "y"), (Bounded(), Bounded()))
    a = torch.rand(5, 1, 30, generator=torch.Generator().manual_seed(0))
    report = evaluate({"m": lambda x, g: 1.1 * x}, TensorExamples(a, a, grid), timing=False)
    score = report.scores[0]
    assert score.errors["relative_l2"].mean == pytest.approx(0.1, rel=1e-4)
    assert "relative_h1" not in score.errors
    assert report.spectra == ()


def test_nearest_sample_agrees_with_brute_force_on_another_grid():
    grid = Box.uniform({"x": Periodic()}, 16)
    generator = torch.Generator().manual_seed(0)
    k = torch.arange(1, 4)
    waves = torch.sin(2 * np.pi * k[:, None] * grid.points()[:, 0]).float()
    c, d = torch.randn(50, 3, generator=generator), torch.randn(7, 3, generator=generator)
    a = (c @ waves)[:, None]
    training = TensorExamples(torch.cat([a, torch.full_like(a, 3.0)], 1), 5 * a, grid, (Variable("a"), Variable("c")))
    fine = grid.at(48)
    query = (d @ torch.sin(2 * np.pi * k[:, None] * fine.points()[:, 0]).float())[:, None]
    found = NearestSample(training)(torch.cat([query, torch.full_like(query, 3.0)], 1), fine)
    nearest = torch.cdist(d, c).argmin(1)  # waves are orthogonal, so distance of fields is distance of coefficients
    assert torch.allclose(found[..., ::3], 5 * a[nearest], atol=1e-4)


def test_persistence_and_mean_field():
    grid = Box.uniform({"x": Periodic()}, 8)
    a = torch.rand(3, 2, 8)
    assert torch.equal(Persistence((1,))(a, grid), a[:, 1:])
    field = torch.cos(2 * np.pi * grid.points()[:, 0]).float()[None]
    found = MeanField(field, grid)(torch.rand(3, 2, 16), grid.at(16))
    assert torch.allclose(found[:, :, ::2], field.expand(3, 1, 8), atol=1e-6)


class Clock:
    """Time that only passes when a job runs."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def job(self, name, seconds, threads=1, batch=1):
        def work(a, grid):
            self.now += seconds
            self.calls.append((name, torch.get_num_threads()))
            return a

        return Job(name, "map", work, torch.zeros(batch, 1, 4), Box.uniform({"x": Periodic()}, 4), threads)


def test_timing_is_interleaved_per_sample_and_with_the_threads_asked_for():
    clock, before = Clock(), torch.get_num_threads()
    found = measure([clock.job("a", 0.1), clock.job("b", 0.4, threads=2, batch=4)], budget=5.2, repeats=5, clock=clock)
    assert [(t.median, t.batch, t.threads) for t in found] == [(pytest.approx(0.1), 1, 1), (pytest.approx(0.1), 4, 2)]
    assert clock.calls[4:8] == [("a", 1), ("a", 1), ("b", 2), ("b", 2)]  # each measurement after an untimed call
    assert torch.get_num_threads() == before
    assert [t.repeats for t in found] == [5, 4]


def test_hopeless_thread_count_is_called_once_only():
    clock = Clock()
    found = measure([clock.job("a", 0.1), clock.job("a", 10.0, threads=2)], budget=1.0, repeats=5, clock=clock)
    assert clock.calls.count(("a", 2)) == 1
    assert found[1].median == pytest.approx(10.0)


def test_default_reference_nests_every_grid():
    vertices = [Box.uniform({"x": Bounded(), "y": Bounded()}, n) for n in (43, 85)]
    assert default_reference(vertices) == (169, 169)
    circle = [Box.uniform({"x": Periodic()}, n) for n in (64, 96)]
    assert default_reference(circle) == (192,)
    assert default_reference([Box.uniform({"x": Periodic()}, n) for n in (61, 64)]) == (128,)  # no small common multiple
    assert coarser_sizes(vertices[1]) == [(43, 43), (22, 22), (11, 11), (6, 6)]
