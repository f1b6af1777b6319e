"""A training goes on from a surrogate: the same map at first, its scaling kept, noise added, and another map refused."""

import copy
from pathlib import Path

import pytest
import torch
from training_support import affine, heat, small_fno

from anygrid.errors import UsageError
from anygrid.grid import Bounded, Box, Grid, Periodic, Sphere
from anygrid.operators import FNO, SphericalFNO, SphericalUNet, UNet, default_operator
from anygrid.operators.widen import widened
from anygrid.surrogate import Imposed, Noise, Surrogate, read_surrogate
from anygrid.training import Progress, fit
from anygrid.training.parent import identity

SQUARE = Box.uniform({"x": Periodic(), "y": Bounded()}, (16, 16))
GLOBE = Sphere.gauss(16, 32)


@pytest.fixture(scope="module")
def parent() -> Surrogate:
    return fit(heat(), "u", "u", lead=1, steps=60, operator=small_fno, batch=8)


def _train(parent: Surrogate, **named: object) -> Surrogate:
    return fit(heat(seed=1), "u", "u", lead=1, parent=parent, batch=8, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("operator", "grid"),
    [
        (FNO(3, 2, [True, False], [5, 5], width=6, depth=1), SQUARE),
        (default_operator(3, 2, SQUARE, width=6), SQUARE),
        (UNet(3, 2, [True, False], width=4), SQUARE),
        (SphericalFNO(3, 2, 5, 6, 1), GLOBE),
        (SphericalUNet(3, 2, 7, width=6), GLOBE),
    ],
    ids=lambda part: type(part).__name__,
)
def test_more_channels_that_are_0_change_nothing_and_others_little(operator: torch.nn.Module, grid: Grid) -> None:
    torch.manual_seed(0)
    wider, a = widened(operator, 2), torch.randn(1, 3, *grid.shape)
    had = operator(a, grid)
    torch.testing.assert_close(wider(torch.cat([a, torch.zeros(1, 2, *grid.shape)], 1), grid), had, rtol=1e-4, atol=1e-5)
    other = wider(torch.cat([a, torch.randn(1, 2, *grid.shape)], 1), grid)
    assert float((other - had).detach().abs().max()) > 1e-4
    assert wider.arguments["inputs"] == 5


def test_without_a_step_of_any_size_it_is_the_parent(parent: Surrogate) -> None:
    child, a = _train(parent, steps=1, learning_rate=1e-12), torch.randn(2, 1, 32)
    torch.testing.assert_close(child(a, parent.grid), parent(a, parent.grid))
    assert child.statistics == parent.statistics  # of its own data, which its weights know, not of these
    assert child.record["settings"]["parent"] != _train(copy.deepcopy(child), steps=1).record["settings"]["parent"]


def test_it_goes_on_where_the_parent_was(parent: Surrogate) -> None:
    fresh = fit(heat(seed=1), "u", "u", lead=1, steps=30, operator=small_fno, batch=8)
    child = _train(parent, steps=30, learning_rate=1e-3)
    assert child.record["validation_error"] < 0.8 * min(parent.record["validation_error"], fresh.record["validation_error"])


def test_a_run_resumes_from_a_parent_that_is_read_again(parent: Surrogate, tmp_path: Path) -> None:
    parent.save(tmp_path / "p.anygrid")
    for _ in range(4):  # the bytes of two files of the same surrogate may differ
        assert identity(read_surrogate(tmp_path / "p.anygrid")) == identity(parent)
        read_surrogate(tmp_path / "p.anygrid").save(tmp_path / "p.anygrid")

    def crash(progress: Progress) -> None:
        if progress.step == 5:
            raise MemoryError

    more = {"steps": 8, "run": tmp_path / "run", "checkpoint_seconds": 0.0}
    with pytest.raises(MemoryError):
        _train(parent, listener=crash, **more)
    told: list[str] = []
    _train(read_surrogate(tmp_path / "p.anygrid"), listener=lambda p: told.append(p.message), **more)
    assert any(text.startswith("resumed at step") for text in told)
    other = copy.deepcopy(parent)
    next(other.operator.parameters()).data[0] += 1e-3
    with pytest.raises(UsageError, match=r"fit\.parent"):
        _train(other, **more)


def test_what_the_parent_imposes_stays_unless_said_otherwise(parent: Surrogate) -> None:
    cut = _train(parent, steps=1, imposed=Imposed(waves=5))
    assert _train(cut, steps=1).imposed.waves == 5
    assert _train(cut, steps=1, imposed=Imposed()).imposed.waves is None


def test_noise_makes_it_random(parent: Surrogate) -> None:
    child = _train(parent, steps=5, noise=2)
    draws = child.draw(torch.randn(1, 1, 32), child.grid, members=2, generator=torch.Generator().manual_seed(0))
    assert float((draws[0] - draws[1]).detach().abs().max()) > 1e-5
    with pytest.raises(UsageError, match=r"its own noise, noise=2, got noise=3"):
        _train(child, steps=1, noise=3)


def test_a_parent_of_another_map_is_refused(parent: Surrogate) -> None:
    with pytest.raises(UsageError, match="parent's inputs: expected u, got p"):
        fit(affine(), "p", "q", parent=parent, steps=1)
    for other in ({"operator": small_fno}, {"search": True}):
        with pytest.raises(UsageError, match="a parent, or an operator or a search"):
            _train(parent, steps=1, **other)
    wider = heat().assign_coords(x=heat().x * 2)
    with pytest.raises(UsageError, match="its own domain, 0 to 1, got 0 to 2"):
        fit(wider, "u", "u", lead=1, parent=parent, steps=1)
    with pytest.raises(UsageError, match="its own step, 1min, got 2min"):
        fit(heat(times=3), "u", "u", lead=2, parent=parent, steps=1)
    with pytest.raises(UsageError, match="increments, as its own"):
        _train(parent, steps=1, increment=False)


def test_an_operator_that_cannot_be_widened_is_refused() -> None:
    class Odd(torch.nn.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.arguments = {"inputs": inputs}
            self.scale = torch.nn.Parameter(torch.ones(inputs))

    with pytest.raises(UsageError, match="first layer alone"):
        widened(Odd(3), 1)


def test_noise_that_a_surrogate_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="trained with noise"):
        Noise().draw(1, SQUARE, torch.Generator())
