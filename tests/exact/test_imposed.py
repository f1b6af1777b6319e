"""What a surrogate imposes holds to rounding on every grid, whatever its operator says."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from anygrid.fields import Variable
from anygrid.grid import Axis, Bounded, Box, Grid, Periodic, Points
from anygrid.numerics.interpolation import interpolate
from anygrid.operators import default_operator
from anygrid.problems.base import Wall
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate

SQUARE = Box.uniform({"x": Bounded(), "y": Bounded(-1, 3)}, (17, 13))
CHANNEL = Box.uniform({"x": Periodic(0, 2), "y": Bounded(-1, 3)}, (16, 13))
TORUS = Box.uniform({"x": Periodic(0, 2), "y": Periodic()}, (16, 12))
SIDES = (("x", "lower"), ("x", "upper"), ("y", "lower"), ("y", "upper"))


def statistics(inputs: int, outputs: int, mean: float = 2.0, std: float = 3.0) -> Statistics:
    def moments(n: int, at: float) -> Moments:
        return Moments(100, (at,) * n, (100 * std**2,) * n, (-10.0,) * n, (10.0,) * n)

    return Statistics(moments(inputs, mean), moments(outputs, mean), moments(outputs, 0.5))


def build(grid: Grid, names: tuple[str, ...], imposed: Imposed, *, increment: bool, extra: tuple[str, ...] = ()) -> Surrogate:
    """A surrogate of random weights in float64 from ``names + extra`` to ``names``."""
    torch.manual_seed(0)
    inputs, outputs = tuple(map(Variable, (*names, *extra))), tuple(map(Variable, names))
    operator = default_operator(len(inputs), len(outputs), grid)
    made = Surrogate(operator, inputs, outputs, statistics(len(inputs), len(outputs)), grid, increment=increment, imposed=imposed)
    return made.double().eval()


def random(grid: Grid, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, channels, *grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def side(u: torch.Tensor, axis: str, end: str) -> torch.Tensor:
    return u.select(-2 if axis == "x" else -1, 0 if end == "lower" else -1)


@pytest.mark.parametrize("increment", [False, True])
@pytest.mark.parametrize("value", [0.0, 7.5])
def test_values_on_all_sides_at_three_resolutions(increment: bool, value: float) -> None:
    walls = tuple(Wall("v", axis, end, value) for axis, end in SIDES)
    surrogate = build(SQUARE, ("u", "v"), Imposed(walls), increment=increment)
    free = copy.deepcopy(surrogate)
    free.imposed = Imposed()
    a = random(SQUARE, 2)
    for shape in (SQUARE.shape, (9, 7), (40, 31)):
        query = SQUARE.at(shape)
        u, other = surrogate(a, SQUARE, query), free(a, SQUARE, query)
        for axis, end in SIDES:
            assert torch.equal(side(u[:, 1], axis, end), torch.full_like(side(u[:, 1], axis, end), value))
        assert torch.equal(u[:, 0], other[:, 0])
        assert not torch.equal(u[:, 1, 1:-1, 1:-1], torch.full_like(u[:, 1, 1:-1, 1:-1], value))


@pytest.mark.parametrize("increment", [False, True])
def test_different_values_on_two_sides_in_float32(increment: bool) -> None:
    imposed = Imposed((Wall("u", "y", "lower", -1.5), Wall("u", "y", "upper", 4.0)))
    surrogate = build(CHANNEL, ("u",), imposed, increment=increment).float()
    u = surrogate(random(CHANNEL, 1).float(), CHANNEL)
    assert u.dtype == torch.float32
    assert (u[..., 0] == -1.5).all()
    assert (u[..., -1] == 4.0).all()


class Says(nn.Module):
    """An operator that says the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, a, grid, query=None):
        return torch.full((len(a), 1, *(query or grid).shape), self.value, dtype=a.dtype)


def fixed(grid: Grid, imposed: Imposed, says: float = 0.0, *, increment: bool = False) -> Surrogate:
    u = (Variable("u"),)
    return Surrogate(Says(says), u, u, statistics(1, 1), grid, increment=increment, imposed=imposed).double()


def test_the_lift_is_linear_between_two_sides_and_what_is_said_enters_by_the_distance() -> None:
    imposed = Imposed((Wall("u", "y", "lower", -1.0), Wall("u", "y", "upper", 3.0)))
    s = torch.linspace(0, 1, 13, dtype=torch.float64)
    lift = -1 + 4 * s
    d = torch.from_numpy(distance(s.numpy()) * distance(1 - s.numpy()))
    u = fixed(CHANNEL, imposed)(random(CHANNEL, 1), CHANNEL)  # the operator says the mean, 2
    assert torch.allclose(u, (lift + d * (2 - lift)).expand_as(u), atol=1e-13)
    a = random(CHANNEL, 1)
    u = fixed(CHANNEL, imposed, increment=True)(a, CHANNEL)  # and here an increment of 0.5
    assert torch.allclose(u[..., 1:-1], (a + 0.5 * d)[..., 1:-1], atol=1e-13)


def distance(s: np.ndarray) -> np.ndarray:
    """The documented d of one side, written out once more."""
    return np.tanh(s / 0.05)


def test_one_side_leaves_the_other_free_and_grows_like_the_distance() -> None:
    u = fixed(SQUARE, Imposed((Wall("u", "x", "upper", 0.0),)))(random(SQUARE, 1), SQUARE)
    s = np.linspace(1, 0, 17)
    expected = torch.from_numpy(2 * distance(s))
    assert torch.allclose(u, expected[:, None].expand_as(u), atol=1e-13)
    assert float(u[0, 0, 0, 0]) == pytest.approx(2.0)


def test_sides_of_different_values_meet_in_the_mean() -> None:
    """Three cold walls and a hot lid: exact on each side, the mean in the two corners that both own."""
    walls = tuple(Wall("u", axis, end, 1.0 if (axis, end) == ("y", "upper") else 0.0) for axis, end in SIDES)
    u = build(SQUARE, ("u",), Imposed(walls), increment=False)(random(SQUARE, 1), SQUARE)
    assert (u[:, :, 1:-1, -1] == 1).all()
    assert (u[:, :, 0, :-1] == 0).all()
    assert (u[:, :, -1, :-1] == 0).all()
    assert (u[:, :, :, 0] == 0).all()
    assert (u[:, :, 0, -1] == 0.5).all()
    assert torch.isfinite(u).all()


def test_scattered_points_see_the_same_function_as_the_grid() -> None:
    imposed = Imposed(tuple(Wall("u", axis, end, 1.0) for axis, end in SIDES))
    surrogate = build(SQUARE, ("u",), imposed, increment=False)
    a, fine = random(SQUARE, 1), SQUARE.at((33, 25))
    points = Points(fine.points().reshape(-1, 2).numpy(), ("x", "y"), SQUARE.domain)
    assert torch.allclose(surrogate(a, SQUARE, points).reshape(3, 1, 33, 25), surrogate(a, SQUARE, fine), atol=1e-12)


@pytest.mark.parametrize("increment", [False, True])
def test_conserved_mean_at_three_resolutions(increment: bool) -> None:
    surrogate = build(TORUS, ("u", "v"), Imposed(conserved=("v",)), increment=increment, extra=("f",))
    surrogate.operator = Wave()
    a = random(TORUS, 3)
    a[:, :2] = interpolate(random(TORUS.at((6, 6)), 2), TORUS.at((6, 6)), TORUS)  # a state that every grid below resolves
    for shape in (TORUS.shape, (8, 9), (33, 24)):
        u = surrogate(a, TORUS, TORUS.at(shape))
        assert torch.allclose(u[:, 1].mean((1, 2)), a[:, 1].mean((1, 2)), atol=1e-14)
        assert not torch.allclose(u[:, 0].mean((1, 2)), a[:, 0].mean((1, 2)), atol=1e-3)


class Wave(nn.Module):
    """An operator whose output has a few waves and a mean that depends on the input."""

    def forward(self, a, grid, query=None):
        x = (query or grid).points().to(a)
        wave = torch.cos(torch.pi * x[..., 0]) + torch.sin(2 * torch.pi * x[..., 1])
        return torch.stack([a.flatten(1).sum(1)[:, None, None] + wave] * 2, 1)


def test_conserved_mean_between_walls_on_uneven_nodes() -> None:
    y = np.sort(np.random.default_rng(0).random(14))
    y[0], y[-1] = 0, 1
    grid = Box((Axis("x", Periodic(), 8), Axis("y", Bounded(), 14, "nodes", tuple(y))))
    imposed = Imposed((Wall("u", "y", "lower", 2.0), Wall("u", "y", "upper", 2.0)), ("u",))
    surrogate = build(grid, ("u",), imposed, increment=True)
    a = random(grid, 1)
    u, weights = surrogate(a, grid), grid.weights()
    assert torch.allclose((u * weights).sum((2, 3)), (a * weights).sum((2, 3)), atol=1e-13)
    assert (u[..., 0] == 2).all()
    assert (u[..., -1] == 2).all()


def test_a_point_has_its_value_whichever_others_are_asked_for() -> None:
    surrogate = build(TORUS, ("u",), Imposed(conserved=("u",)), increment=True)
    a = random(TORUS, 1)
    picked = Points(TORUS.points().reshape(-1, 2)[:5].numpy(), ("x", "y"), TORUS.domain)
    assert torch.allclose(surrogate(a, TORUS, picked), surrogate(a, TORUS).flatten(2)[..., :5], atol=1e-12)


def of_size(size: float, grid: Grid = TORUS, centre: float = 2.0) -> torch.Tensor:
    """States at ``size`` standard deviations of the training data (3) from its mean (2)."""
    z = random(grid, 1)
    weights = grid.weights() / grid.weights().sum()
    return centre + 3 * size * z / (z.square() * weights).sum((2, 3), keepdim=True).sqrt()


def test_inside_the_ball_nothing_changes_and_far_outside_it_contracts() -> None:
    surrogate = build(TORUS, ("u",), Imposed(radius=2.5, contraction=0.3), increment=True)
    free = build(TORUS, ("u",), Imposed(), increment=True)
    inside = of_size(2.499)
    assert torch.equal(surrogate(inside, TORUS), free(inside, TORUS))
    outside = of_size(5.001)
    assert torch.allclose(surrogate(outside, TORUS), 2 + 0.3 * (outside - 2), atol=1e-12)
    between = of_size(3.75)  # rho = 1.5, where the quintic is one half
    expected = 0.5 * free(between, TORUS) + 0.5 * (2 + 0.3 * (between - 2))
    assert torch.allclose(surrogate(between, TORUS), expected, atol=1e-12)


def test_the_centre_is_the_state_s_own_mean_where_that_is_conserved() -> None:
    surrogate = build(TORUS, ("u",), Imposed(conserved=("u",), radius=1.0), increment=True)
    a = of_size(4.0, centre=50.0)
    u, mean = surrogate(a, TORUS), a.mean((2, 3), keepdim=True)
    assert torch.allclose(u, mean + 0.5 * (a - mean), atol=1e-12)


def test_far_outside_the_values_on_sides_hold() -> None:
    walls = (Wall("u", "y", "lower", 1.0), Wall("u", "y", "upper", 3.0))
    u = build(CHANNEL, ("u",), Imposed(walls, radius=1.0), increment=False)(of_size(100.0, CHANNEL), CHANNEL)
    assert torch.allclose(u[..., 0], torch.ones(()).to(u))
    assert torch.allclose(u[..., -1], 3 * torch.ones(()).to(u))
    assert u.abs().max() > 100


def test_nothing_imposed_changes_no_bit() -> None:
    surrogate = build(TORUS, ("u",), Imposed(), increment=True)
    a, query = random(TORUS, 1), TORUS.at((20, 20))
    says = 0.5 + 3 * surrogate.operator((a - 2) / 3, TORUS, query)
    assert torch.equal(surrogate(a, TORUS, query), interpolate(a, TORUS, query) + says)
