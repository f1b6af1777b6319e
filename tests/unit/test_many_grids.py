"""Samples at different resolutions, and scattered points that differ: trained on together, predicted and evaluated."""

import numpy as np
import pytest
import torch
import xarray as xr

from anygrid.errors import UsageError
from anygrid.evaluate import TensorExamples, evaluate
from anygrid.fields import Variable, to_dataset
from anygrid.grid import Bounded, Box, Points
from anygrid.io.pairs import Pairs
from anygrid.operators import FNO
from anygrid.training import fit

SQUARE = {"x": Bounded(0, 1), "y": Bounded(0, 1)}
VARIABLES = (Variable("a"), Variable("u"))


def _samples(grid, n, seed):
    """The same map on every grid: u = (x - 1/2) a, and a is one wave of random amplitude."""
    amplitude = torch.from_numpy(np.random.default_rng(seed).uniform(0.5, 2, n))
    x = grid.points()
    a = torch.cos(torch.pi * x[..., 0]) * torch.cos(torch.pi * x[..., 1])
    u = (x[..., 0] - 0.5) * a
    fields = torch.stack([a, u]).float()
    return to_dataset(amplitude.view(-1, *(1,) * fields.ndim).float() * fields, VARIABLES, grid, {"sample": np.arange(n)})


def _points(n, seed):
    return Points(np.random.default_rng(seed).random((n, 2)), ("x", "y"), tuple(SQUARE.values()), np.full(n, 1 / n))


def _operator(inputs, outputs, grid):
    return FNO(inputs, outputs, [False, False], [3, 3], ["cosine", "cosine"], width=8, depth=1, head=8)


def test_samples_of_three_resolutions_are_trained_on_predicted_and_evaluated():
    sets = [_samples(Box.uniform(SQUARE, shape), 8, k) for k, shape in enumerate([(9, 12), (17, 9), (24, 24)])]
    surrogate = fit(sets, "a", "u", steps=100, operator=_operator, batch=4, learning_rate=2e-2)
    test = [_samples(Box.uniform(SQUARE, shape), 4, 9 + k) for k, shape in enumerate([(9, 12), (11, 13), (31, 20)])]
    report = evaluate({"surrogate": surrogate}, [Pairs(ds, ["a"], ["u"]) for ds in test], timing=False)
    mine = {s.resolution: s for s in report.scores if s.name == "surrogate"}
    assert list(mine) == [(9, 12), (11, 13), (31, 20)]
    for ds, score in zip(test, mine.values(), strict=True):
        out = surrogate.predict(ds)
        assert out.u.shape == ds.u.shape
        alone = evaluate({"surrogate": surrogate}, Pairs(ds, ["a"], ["u"]), timing=False).scores[0]
        assert score.errors == alone.errors
        assert score.errors["relative_l2"].mean < 0.2
    assert {s.resolution for s in report.scores if s.name == "mean of test"} == set(mine)
    chosen = evaluate({"surrogate": surrogate}, [Pairs(ds, ["a"], ["u"]) for ds in test], resolutions=[(31, 20)], timing=False)
    assert {s.resolution for s in chosen.scores} == {(31, 20)}


def test_each_set_has_its_own_scattered_points():
    sets = [_samples(_points(n, k), 6, k) for k, n in enumerate([200, 300, 250])]
    assert all(isinstance(ds, xr.Dataset) and "point" in ds.sizes for ds in sets)
    surrogate = fit(sets, "a", "u", steps=100, operator=_operator, batch=3, learning_rate=2e-2)
    rows = []
    for seed, n in ((7, 220), (8, 400)):
        points = _points(n, seed)
        a, u = (torch.from_numpy(_samples(points, 3, seed)[name].values)[:, None] for name in "au")
        rows.append(TensorExamples(a, u, points, VARIABLES[:1], VARIABLES[1:]))
    report = evaluate({"surrogate": surrogate}, rows, timing=False)
    found = [s for s in report.scores if s.name == "surrogate"]
    assert [s.resolution for s in found] == [(220,), (400,)]
    assert all(s.errors["relative_l2"].mean < 0.3 for s in found)


def test_sets_that_do_not_go_together():
    grid = Box.uniform(SQUARE, (9, 12))
    first, other = Pairs(_samples(grid, 3, 0), ["a"], ["u"]), Pairs(_samples(grid.at(8), 3, 0), ["u"], ["a"])
    zero = {"zero": lambda a, g: 0 * a}
    with pytest.raises(UsageError, match="the variables, units and lead of the first"):
        evaluate(zero, [first, other])
    with pytest.raises(UsageError, match="different grids, got two on the same one"):
        evaluate(zero, [first, first])
    with pytest.raises(UsageError, match="at least one data set"):
        evaluate(zero, [])
    with pytest.raises(UsageError, match="own, 9x12, 8x8, got 7"):
        evaluate(zero, [first, Pairs(_samples(grid.at(8), 3, 0), ["a"], ["u"])], resolutions=[7])
