"""Bounded for ever, differentiable, exportable: what must hold of a surrogate with imposed properties whatever it imposes."""

import pytest
import torch
from torch import nn

from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic
from anygrid.operators import FNO
from anygrid.problems.base import Wall
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate

RING = Box.uniform({"x": Periodic()}, 16)
STRIP = Box.uniform({"x": Periodic(), "y": Bounded()}, (8, 7))
EVERYTHING = Imposed((Wall("u", "y", "lower", 0.3), Wall("u", "y", "upper", -0.2)), ("u",), 1.0)


def unit(channels: int, std: float = 1.0) -> Moments:
    return Moments(100, (0.0,) * channels, (100 * std**2,) * channels, (-9.0,) * channels, (9.0,) * channels)


class Wild(nn.Module):
    """An untrained network of large weights that mixes neighbours: left alone it grows beyond every bound."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(seed)) * 20

    def forward(self, a, grid, query=None):
        return nn.functional.conv1d(nn.functional.pad(a, (2, 2), mode="circular"), self.weight)


@pytest.mark.parametrize(("conserved", "steps"), [pytest.param((), 10_000, marks=pytest.mark.slow), ((), 500), (("v",), 500)])
def test_roll_outs_from_ten_and_a_thousand_times_the_amplitude_stay_bounded(conserved: tuple[str, ...], steps: int) -> None:
    names = (Variable("u"), Variable("v"))
    imposed = Imposed(conserved=conserved, radius=2.0)
    surrogate = Surrogate(Wild(1), names, names, Statistics(unit(2), unit(2), unit(2)), RING, increment=True, imposed=imposed)
    a = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 1000.0]).view(3, 1, 1)
    start, largest = a, 0.0
    with torch.inference_mode():
        for step in range(steps):
            a = surrogate(a, RING)
            if step >= 20:
                largest = max(largest, float(a.abs().max()))
    # An operator of norm about 20 * sqrt(10) on states below 4 deviations.
    assert largest < 4 * 16 * 20 * 10**0.5 * 4
    assert torch.isfinite(a).all()
    if conserved:  # rounding of states of size 1e3 in float32, a thousand times over
        assert ((a - start).mean(2)[:, 1].abs() < 1e-2).all()


def test_the_same_operator_left_alone_blows_up() -> None:
    names = (Variable("u"), Variable("v"))
    surrogate = Surrogate(Wild(1), names, names, Statistics(unit(2), unit(2), unit(2)), RING, increment=True)
    a = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for _ in range(100):
            a = surrogate(a, RING)
    assert not torch.isfinite(a).all()


@pytest.mark.parametrize("size", [1e-20, 1e30])
def test_extreme_states_give_finite_values_and_slopes_in_float32(size: float) -> None:
    surrogate = Surrogate(Wild(0), *[(Variable("u"), Variable("v"))] * 2, Statistics(unit(2), unit(2)), RING, imposed=Imposed(radius=3.0))
    a = (size * torch.randn(2, 2, 16, generator=torch.Generator().manual_seed(0))).requires_grad_()
    u = surrogate(a, RING)
    u.sum().backward()
    assert torch.isfinite(u).all()
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(surrogate(torch.zeros(1, 2, 16, requires_grad=True), RING)).all()


def test_zero_state_has_finite_slopes() -> None:
    surrogate = Surrogate(Wild(0), *[(Variable("u"), Variable("v"))] * 2, Statistics(unit(2), unit(2)), RING, imposed=Imposed(radius=3.0))
    a = torch.zeros(1, 2, 16, requires_grad=True)
    surrogate(a, RING).square().sum().backward()
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("increment", [False, True])
@pytest.mark.parametrize("size", [0.3, 1.4])
def test_slopes_agree_with_differences(increment: bool, size: float) -> None:
    """Through walls, the mean and the blending outside of the ball, with respect to state and weights."""
    torch.manual_seed(0)
    u = (Variable("u"),)
    operator = FNO(1, 1, [True, False], [3, 3], width=2, depth=1, head=4)
    surrogate = Surrogate(operator, u, u, Statistics(unit(1), unit(1), unit(1)), STRIP, increment=increment, imposed=EVERYTHING).double()
    a = torch.randn(1, 1, 8, 7, dtype=torch.float64)
    a = (size * a / a.square().mean().sqrt()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: surrogate(x, STRIP), (a,), atol=1e-7)
    weight = next(p for p in operator.parameters() if p.ndim > 1)
    surrogate(a, STRIP).square().sum().backward()
    slope, h = weight.grad.flatten()[0].item(), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.flatten()[0] += sign * h
            values.append(float(surrogate(a, STRIP).square().sum()))
            weight.flatten()[0] -= sign * h
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=1e-5, abs=1e-7)


class _OnStrip(nn.Module):
    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, a):
        return self.surrogate(a, STRIP)


def _everything() -> Surrogate:
    torch.manual_seed(0)
    u = (Variable("u"),)
    operator = FNO(1, 1, [True, False], [3, 3], width=4, depth=2, head=8)
    return Surrogate(operator, u, u, Statistics(unit(1), unit(1), unit(1)), STRIP, increment=True, imposed=EVERYTHING).eval()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported_program_imposes_the_same() -> None:
    model, a, b = _OnStrip(_everything()), torch.randn(2, 1, 8, 7), 5 * torch.randn(2, 1, 8, 7)
    expected = model(a)
    program = torch.export.export(model, (a,), strict=False).module()
    assert torch.allclose(program(a), expected, atol=1e-6)
    assert torch.allclose(program(b), model(b), atol=1e-5)


def test_nothing_of_it_is_a_weight_and_predictions_first_do_not_spoil_training() -> None:
    surrogate = _everything()
    assert all(name.startswith("operator.") for name in surrogate.state_dict())
    grid = STRIP.at((10, 9))
    with torch.inference_mode():
        surrogate(torch.randn(1, 1, *grid.shape), grid)
    surrogate(torch.randn(1, 1, *grid.shape), grid).sum().backward()  # with what was cached by the prediction
    assert all(p.grad is not None for p in surrogate.operator.parameters())
