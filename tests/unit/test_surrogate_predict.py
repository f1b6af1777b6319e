import math
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from training_support import Pointwise, affine, heat

from anygrid.errors import DataError, GridError
from anygrid.fields import Variable, grid_coordinates
from anygrid.grid import Bounded, Box, Grid, Interval, Periodic, Points, Sphere
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import InputRangeWarning, Seen, Surrogate, grid_from_json, grid_to_json, snap
from anygrid.surrogate.predict import predict


class Double(Pointwise):
    """Doubles its one input; remembers the batches it saw."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.batches: list[int] = []

    def forward(self, a: torch.Tensor, grid: Grid, query: Grid | None = None) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.batches.append(len(a))
        from anygrid.numerics.interpolation import interpolate

        u = 2 * a
        return u if query is None else interpolate(u, grid, query)


def _identity(channels: int = 1) -> Moments:
    return Moments(1, (0.0,) * channels, (1.0,) * channels, (-1.0,) * channels, (1.0,) * channels)


def _double(grid: Grid, *, units: str = "K", dt: str | None = None, seen: Seen | None = None) -> Surrogate:
    return Surrogate(Double(), (Variable("u", units),), (Variable("v", units),), Statistics(_identity(), _identity()), grid, dt, seen=seen)


CIRCLE = Box.uniform({"x": Periodic(0, 1)}, 32)


def test_scaling_is_that_of_the_statistics() -> None:
    inputs = Moments(4, (10.0, 7.0), (16.0, 0.0), (0.0, 7.0), (20.0, 7.0))  # deviations 2 and (constant) 1
    outputs = Moments(4, (100.0,), (36.0,), (0.0,), (1.0,))  # deviation 3

    class First(Pointwise):
        def forward(self, a: torch.Tensor, grid: Grid, query: Grid | None = None) -> torch.Tensor:
            return a[:, :1] + 10 * a[:, 1:]

    surrogate = Surrogate(First(2, 1), (Variable("a"), Variable("c")), (Variable("u"),), Statistics(inputs, outputs), CIRCLE)
    a = torch.stack([torch.full((32,), 14.0), torch.full((32,), 7.0)])[None]
    assert surrogate(a, CIRCLE).tolist() == torch.full((1, 1, 32), 106.0).tolist()  # (14 - 10) / 2 = 2, times 3, plus 100
    a[:, 1] = 7.5
    assert surrogate(a, CIRCLE)[0, 0, 0] == 100 + 3 * (2 + 10 * 0.5)


def test_dimensions_coordinates_and_units_come_back() -> None:
    ds = heat(6, 32, 3).transpose("time", "sample", "x").rename(u="u")
    ds = ds.assign_coords(season=("time", ["a", "b", "c"]), x=ds.x.values.astype(np.float32)).isel(x=slice(None, None, -1))
    ds.x.attrs.update(units="m", periodic=1)
    out = _double(CIRCLE, dt="1min").predict(ds)
    assert out.v.dims == ds.u.dims
    assert out.v.units == "K"
    np.testing.assert_array_equal(out.v.values, 2 * ds.u.values)
    for name in ("x", "time", "sample", "season"):
        np.testing.assert_array_equal(out[name].values, ds[name].values)
    assert out.x.units == "m"
    assert out.time.units == "s"
    assert out.attrs["lead_time"] == "1min"
    assert (out.v - 2 * ds.u).sizes == ds.u.sizes  # arithmetic aligns every point


def test_one_field_without_sample_dimension() -> None:
    ds = heat(1, 32).u.isel(sample=0, time=0, drop=True).to_dataset()
    np.testing.assert_array_equal(_double(CIRCLE).predict(ds).v.values, 2 * ds.u.values)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
def test_chunks_do_not_matter_and_bound_the_batch(rows: int) -> None:
    ds = heat(5, 32, 3)
    surrogate = _double(CIRCLE)
    np.testing.assert_array_equal(surrogate.predict(ds, rows=rows).v.values, 2 * ds.u.values)
    assert max(surrogate.operator.batches) <= rows
    assert sum(surrogate.operator.batches) == 15


def test_lazy_data_are_read_in_parts() -> None:
    ds = heat(8, 32)
    lazy = ds.chunk(sample=2)
    np.testing.assert_array_equal(_double(CIRCLE).predict(lazy, rows=4).v.values, 2 * ds.u.values)


def test_other_resolution_of_the_output_and_points() -> None:
    ds = heat(3, 32)
    fine = _double(CIRCLE).predict(ds, Box.uniform({"x": Periodic(0, 1)}, 96))
    np.testing.assert_allclose(fine.v.values, 2 * heat(3, 96).u.values, atol=1e-5)
    assert fine.v.dims == ("sample", "time", "x")
    positions = np.array([[0.0], [0.123], [0.9]])
    there = _double(CIRCLE).predict(ds, Points(positions, ("x",), (Interval(0, 1),)))
    assert there.v.dims == ("sample", "time", "point")
    np.testing.assert_array_equal(there.x.values, positions[:, 0])
    np.testing.assert_allclose(there.v.values[..., 0], 2 * ds.u.values[..., 0], atol=1e-5)


def test_training_mode_is_given_back() -> None:
    surrogate = _double(CIRCLE).train()
    surrogate.predict(heat(1, 32))
    assert surrogate.training


def test_refusals() -> None:
    surrogate, ds = _double(CIRCLE), heat(2, 32)
    with pytest.raises(DataError, match=r"no such name.*\nhint: did you mean 'U'"):
        surrogate.predict(ds.rename(u="U"))
    with pytest.raises(DataError, match="units 'K', got 'm'"):
        surrogate.predict(ds.assign(u=ds.u.assign_attrs(units="m")))
    bad = ds.copy(deep=True)
    bad.u.values[1, 0, 3] = np.nan
    with pytest.raises(DataError, match="1 of 128 that are not"):
        surrogate.predict(bad)
    with pytest.raises(DataError, match="at least one sample"):
        surrogate.predict(ds.isel(sample=slice(0, 0)))


@pytest.mark.parametrize(
    ("values", "attrs", "says"),
    [
        (np.arange(32) / 16, {"periodic": 1}, "domain of the training data"),  # twice the period
        (0.5 + np.arange(32) / 32, {"periodic": 1}, r"assign_coords\(x=\(0 \+ \(ds.x - 0\) % 1\)\)"),  # the same circle, cut elsewhere
        (np.arange(32) / 32, {"periodic": 0}, "periodic"),
    ],
)
def test_other_domains_are_refused(values: np.ndarray, attrs: dict[str, int], says: str) -> None:
    ds = heat(2, 32).assign_coords(x=("x", values, {"units": "m", **attrs}))
    if attrs["periodic"]:
        with pytest.raises(GridError, match=says):
            _double(CIRCLE).predict(ds)
    else:
        # The surrogate knows that x is periodic; what the file says of it does not matter as long as the points fit.
        np.testing.assert_array_equal(_double(CIRCLE).predict(ds).v.values, 2 * ds.u.values)


def test_other_families_are_refused() -> None:
    sphere = Sphere.equiangular(8, 16)
    ds = xr.Dataset({"u": (("lat", "lon"), np.ones((8, 16), np.float32), {"units": "K"})}, grid_coordinates(sphere))
    with pytest.raises(GridError, match=r"a Box grid .*a Sphere grid"):
        _double(Box.uniform({"x": Periodic(), "y": Periodic()}, 16)).predict(ds)
    assert _double(sphere).predict(ds).v.dims == ("lat", "lon")
    with pytest.raises(GridError, match="a Sphere grid"):
        _double(sphere).predict(heat(2, 32))


def test_snap_takes_the_training_interval_within_half_a_spacing() -> None:
    vertices = Box.uniform({"x": Bounded(0, 1)}, 33)
    cells = Box.uniform({"x": Bounded(0.5 / 8, 1 - 0.5 / 8)}, 8)  # how cell centres look when only the points are known
    snapped = snap(cells, vertices, "here")
    assert snapped == Box.uniform({"x": Bounded(0, 1)}, 8, placement="cells")
    with pytest.raises(GridError, match="domain of the training data"):
        snap(Box.uniform({"x": Bounded(0.25, 0.9)}, 8), vertices, "here")
    with pytest.raises(GridError, match="domain of the training data"):
        snap(Box.uniform({"x": Bounded(0, 1.1)}, 33), vertices, "here")
    with pytest.raises(GridError, match="named x"):
        snap(Box.uniform({"z": Bounded(0, 1)}, 33), vertices, "here")
    circle = snap(Box.uniform({"x": Periodic(1e-7, 1 + 1e-7)}, 16), CIRCLE, "here")
    assert circle.domain == CIRCLE.domain


@pytest.mark.parametrize(
    "grid",
    [
        Box.uniform({"x": Periodic(0, 2 * math.pi), "y": Bounded(-1, 1)}, (7, 9), placement="cells"),
        Sphere.gauss(8, 16),
        Points(np.random.default_rng(0).random((20, 2)), ("x", "y"), (Bounded(0, 1), Periodic(0, 1)), np.full(20, 0.05)),
        Points(np.random.default_rng(0).random((20, 1)), ("x",), (Bounded(0, 1),)),
    ],
)
def test_grid_survives_json(grid: Grid) -> None:
    import json

    assert grid_from_json(json.loads(json.dumps(grid_to_json(grid)))) == grid


def _waves(n: int, points: int, seed: int, low: int = 1, high: int = 4, scale: float = 1.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x, k = np.arange(points) / points, np.arange(low, high + 1)
    c = rng.normal(size=(n, 2, len(k)))
    u = np.einsum("npk,pkx->nx", c, np.stack([np.cos(2 * np.pi * k[:, None] * x), np.sin(2 * np.pi * k[:, None] * x)]))
    return torch.tensor(scale * u / np.sqrt(len(k)), dtype=torch.float32)[:, None]


def _seen(a: torch.Tensor) -> Seen:
    m = Moments.of(a.numpy())
    return Seen.of([(a, Box.uniform({"x": Periodic()}, a.shape[-1]))], lower=m.minimum, upper=m.maximum, centre=m.mean, spread=m.std)


def test_inputs_like_those_of_training_are_inside_at_any_resolution() -> None:
    seen = _seen(_waves(500, 64, 0))
    for points in (24, 64, 256):
        fresh = seen.outside(_waves(500, points, 1), Box.uniform({"x": Periodic()}, points), ("u",))
        assert sum(map(bool, fresh)) <= 2


@pytest.mark.parametrize(
    ("a", "says"),
    [
        (_waves(20, 64, 2) + 8, "u reaches"),  # another mean, and values never seen
        (_waves(20, 64, 2, scale=0.01), "score"),  # far too small, though every value was seen
        (_waves(20, 64, 2, low=12, high=20), "score"),  # the same mean, size and values, but far too rough
        (torch.full((20, 1, 64), 0.5), "score"),  # no structure at all
    ],
)
def test_inputs_outside_are_told_apart(a: torch.Tensor, says: str) -> None:
    reasons = _seen(_waves(500, 64, 0)).outside(a, Box.uniform({"x": Periodic()}, 64), ("u",))
    assert sum(any(says in reason for reason in sample) for sample in reasons) >= 0.9 * len(reasons)


def test_a_value_range_is_widened_by_a_tenth() -> None:
    seen = Seen((0.0,), (10.0,), (5.0,), (3.0,))
    grid = Box.uniform({"x": Periodic()}, 4)
    just, over = torch.full((1, 1, 4), 10.9), torch.full((1, 1, 4), 11.1)
    assert seen.outside(just, grid, ("u",)) == [[]]
    assert "u reaches 11.1 to 11.1 (seen 0 to 10)" in seen.outside(over, grid, ("u",))[0][0]


def test_predict_warns_once_names_the_sample_and_marks_the_result() -> None:
    seen = _seen(_waves(100, 32, 0))
    surrogate = _double(CIRCLE, seen=seen)
    values = _waves(6, 32, 1)[:, 0].numpy()
    values[4] += 50
    ds = xr.Dataset({"u": (("sample", "x"), values, {"units": "K"})}, {"x": np.arange(32) / 32})
    with pytest.warns(InputRangeWarning, match="1 of 6 samples outside.*sample 4: u reaches") as caught:
        out = surrogate.predict(ds, rows=2)
    assert len(caught) == 1
    assert "sample 4" in out.attrs["outside_training_range"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = surrogate.predict(ds.isel(sample=slice(0, 4)))
    assert "outside_training_range" not in inside.attrs


def test_few_samples_fall_back_on_the_value_range() -> None:
    seen = _seen(_waves(4, 32, 0))
    assert seen.mean == ()
    assert seen.outside(_waves(2, 32, 1, scale=0.001), CIRCLE, ("u",)) == [[], []]


def test_constant_channel_seen_with_another_value_is_outside() -> None:
    seen = _seen(torch.full((20, 1, 32), 0.1))
    assert seen.outside(torch.full((1, 1, 32), 0.1), CIRCLE, ("c",)) == [[]]
    assert seen.outside(torch.full((1, 1, 32), 0.2), CIRCLE, ("c",))[0]


def test_seen_survives_json() -> None:
    import json

    seen = _seen(_waves(30, 32, 0))
    assert Seen.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_the_checked_statement_of_predict_is_documented() -> None:
    assert "How it decides" in str(predict.__doc__)


def test_surrogate_is_differentiable_in_its_input() -> None:
    surrogate = Surrogate(Pointwise(1, 1), (Variable("u"),), (Variable("v"),), Statistics(_identity(), _identity()), CIRCLE)
    a = torch.rand(1, 1, 32, requires_grad=True)
    surrogate(a, CIRCLE).sum().backward()
    assert a.grad is not None
    assert a.grad.abs().max() > 0


def test_increment_needs_its_statistics() -> None:
    with pytest.raises(DataError, match="statistics of increments"):
        Surrogate(Pointwise(1, 1), (Variable("u"),), (Variable("u"),), Statistics(_identity(), _identity()), CIRCLE, increment=True)
    with pytest.raises(DataError, match="statistics of 2 inputs"):
        Surrogate(Pointwise(2, 1), (Variable("u"), Variable("w")), (Variable("u"),), Statistics(_identity(), _identity()), CIRCLE)


def test_increments_are_added_on_another_output_grid_too() -> None:
    ds = heat(2, 32)
    surrogate = Surrogate(
        Pointwise(1, 1),
        (Variable("u", "K"),),
        (Variable("u", "K"),),
        Statistics(_identity(), _identity(), _identity()),
        CIRCLE,
        "1",
        increment=True,
    )
    for parameter in surrogate.operator.parameters():
        parameter.data.zero_()
    fine = surrogate.predict(ds, Box.uniform({"x": Periodic(0, 1)}, 64))
    np.testing.assert_allclose(fine.u.values, heat(2, 64).u.values, atol=1e-5)


def test_mixed_outputs_with_and_without_an_input_of_the_name() -> None:
    two = _identity(2)
    surrogate = Surrogate(
        Pointwise(2, 2),
        (Variable("f"), Variable("u")),
        (Variable("diagnosed"), Variable("u")),
        Statistics(two, two, two),
        CIRCLE,
        "1",
        increment=True,
    )
    for parameter in surrogate.operator.parameters():
        parameter.data.zero_()
    a = torch.rand(3, 2, 32)
    out = surrogate(a, CIRCLE)
    assert torch.equal(out[:, 1], a[:, 1])
    assert out[:, 0].abs().max() == 0


def test_affine_support_is_what_it_says() -> None:
    ds = affine()
    np.testing.assert_allclose(ds.q, 3 * ds.p + 10, rtol=1e-5)
