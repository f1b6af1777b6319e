"""Streaming moments agree with two passes in float64, also where float32 or naive sums fail."""

import json

import numpy as np
import pytest

from anygrid.errors import DataError
from anygrid.statistics import Moments, Statistics


def test_parts_merge_to_the_whole():
    x = np.random.default_rng(0).standard_normal((50, 2, 8)).astype(np.float32) * [[[1.0], [1e-3]]] + [[[0.0], [1e4]]]
    whole = Moments.of(x)
    parts = Moments.of(x[:7]).merge(Moments.of(x[7:8])).merge(Moments.of(x[8:]))
    flat = np.moveaxis(x, 1, 0).reshape(2, -1)
    np.testing.assert_allclose(parts.mean, flat.mean(1), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(parts.std, flat.std(1), rtol=1e-10)
    np.testing.assert_allclose(whole.std, parts.std, rtol=1e-10)
    assert parts.minimum == tuple(flat.min(1))
    assert parts.maximum == tuple(flat.max(1))
    assert parts.count == 400


def test_large_mean_small_spread():
    # The textbook sum of squares loses every digit of this spread.
    x = (1e9 + np.array([4.0, 7.0, 13.0, 16.0])).reshape(4, 1, 1)
    assert Moments.of(x[:2]).merge(Moments.of(x[2:])).std[0] == pytest.approx(np.sqrt(22.5), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -7.3])
def test_constant_channel_has_unit_std(value):
    x = np.full((5, 1, 9), value, dtype=np.float32)
    m = Moments.of(x[:2]).merge(Moments.of(x[2:]))
    assert m.std == (1.0,)
    assert m.mean == (float(np.float32(value)),)
    assert m.constant == (True,)


def test_json_is_exact():
    x = np.random.default_rng(1).standard_normal((3, 2, 4))
    s = Statistics(Moments.of(x), Moments.of(x * 2), Moments.of(x - 1))
    assert Statistics.from_json(json.loads(json.dumps(s.to_json()))) == s
    assert Statistics.from_json(json.loads(json.dumps(Statistics(s.inputs, s.outputs).to_json()))).increments is None
    with pytest.raises(DataError, match="another form"):
        Statistics.from_json({"inputs": 3})


def test_nan_is_refused():
    with pytest.raises(DataError, match="1 that are not"):
        Moments.of(np.array([[[1.0, np.nan]]]))
