"""Position as an input of operators: which functions, and that an operator hears a forcing that only position tells."""

import math

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.grid import Bounded, Box, Periodic
from anygrid.operators import LatentFNO, default_operator
from anygrid.operators.layers import coordinate_features, feature_count

GRID = Box.uniform({"x": Periodic(0, 2), "y": Bounded()}, (16, 9))


def test_features_are_the_waves_of_each_periodic_axis():
    features = coordinate_features(GRID, torch.float64, torch.device("cpu"), 3)
    x, y = GRID.points().unbind(-1)
    expected = [f(math.pi * wave * x) for wave in (1, 2, 4) for f in (torch.cos, torch.sin)] + [2 * y - 1]
    torch.testing.assert_close(features, torch.stack(expected, -1), atol=1e-12, rtol=0)
    assert feature_count((True, False), 3) == features.shape[-1]


def test_a_shift_by_a_period_of_the_lowest_wave_is_seen():
    """With waves 1, 2 and 4 the operator tells places half a domain apart, as with one."""
    torch.manual_seed(0)
    line = Box.uniform({"x": Periodic()}, (32,))
    for harmonics in (1, 3):
        operator = default_operator(1, 1, line, width=8, harmonics=harmonics)
        assert operator.encode.in_features == operator.size * (1 + 2 * harmonics)
        a = torch.randn(1, 1, 32)
        u, moved = operator(a, line), operator(a.roll(16, -1), line).roll(-16, -1)
        assert (u - moved).abs().max() > 1e-3 * u.abs().max()


def test_no_harmonics_are_refused():
    with pytest.raises(UsageError, match="harmonics"):
        LatentFNO(1, 1, [True], [32], [9], harmonics=0)
