import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anygrid.errors import UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Sphere
from anygrid.training.coarsen import coarse_grid, coarsen
from anygrid.training.settings import Settings
from anygrid.training.symmetries import Flip, Shift, Symmetry, Transpose, apply_symmetries, check_symmetries

SQUARE = Box.uniform({"x": Bounded(0, 1), "y": Bounded(0, 1)}, 9)


def _draws(f: torch.Tensor, symmetry: Symmetry, grid: Box) -> list[torch.Tensor]:
    return [apply_symmetries([f], [symmetry], grid, torch.Generator().manual_seed(seed))[0] for seed in range(40)]


@pytest.mark.parametrize(
    "axis",
    [
        Axis("x", Bounded(0, 2), 9),
        Axis("x", Bounded(0, 2), 8, "cells"),
        Axis("x", Periodic(0, 2), 8),
        Axis("x", Periodic(0, 2), 7, "cells"),
    ],
)
def test_flip_is_the_reflection_of_the_domain(axis: Axis) -> None:
    grid = Box((axis,))
    x = torch.from_numpy(axis.coordinates())[None, None]
    f, mirrored = torch.sin(np.pi * x) + torch.cos(3 * np.pi * x), torch.sin(np.pi * (2 - x)) + torch.cos(3 * np.pi * (2 - x))
    found = _draws(f, Flip("x"), grid)
    flipped = [not torch.equal(g, f) for g in found]
    assert 5 < sum(flipped) < 35
    assert all(torch.allclose(g, mirrored, atol=1e-12) for g, other in zip(found, flipped, strict=True) if other)


def test_shift_is_a_translation_by_whole_points_that_reaches_all_of_them() -> None:
    grid = Box.uniform({"x": Periodic()}, 8)
    f = torch.arange(8.0)[None, None]
    wanted = {tuple(f.roll(k, -1).flatten().tolist()) for k in range(8)}
    assert {tuple(g.flatten().tolist()) for g in _draws(f, Shift("x"), grid)} == wanted


def test_a_sphere_turns_about_its_axis() -> None:
    sphere = Sphere.equiangular(4, 8)
    check_symmetries([Shift("lon")], sphere)
    field = torch.arange(32.0).reshape(1, 1, 4, 8)
    turned = {
        tuple(apply_symmetries([field], [Shift("lon")], sphere, torch.Generator().manual_seed(k))[0].ravel().tolist()) for k in range(80)
    }
    assert turned == {tuple(field.roll(k, 3).ravel().tolist()) for k in range(8)}
    with pytest.raises(UsageError, match="periodic axis"):
        check_symmetries([Shift("lat")], sphere)


def test_transpose_exchanges_the_coordinates() -> None:
    x, y = SQUARE.points().unbind(-1)
    f, swapped = (x + 2 * y)[None, None], (y + 2 * x)[None, None]
    found = _draws(f, Transpose("x", "y"), SQUARE)
    assert any(torch.equal(g, swapped) for g in found)
    assert all(torch.equal(g, swapped) or torch.equal(g, f) for g in found)


@given(st.integers(0, 10_000))
def test_all_fields_get_the_same_transformation(seed: int) -> None:
    a = torch.randn(2, 1, 3, 9, 9)
    one, two = apply_symmetries([a, 2 * a], [Flip("x"), Flip("y"), Transpose("x", "y")], SQUARE, torch.Generator().manual_seed(seed))
    assert torch.equal(2 * one, two)
    assert one.is_contiguous()


@pytest.mark.parametrize(
    ("symmetry", "grid", "says"),
    [
        (Flip("z"), SQUARE, "axes out of x, y, got 'z'"),
        (Shift("x"), SQUARE, "the bounded axis 'x'"),
        (Transpose("x", "y"), Box.uniform({"x": Bounded(0, 1), "y": Bounded(0, 2)}, 9), "equal extent"),
        (Flip("x"), Box((Axis("x", Bounded(0, 1), 3, "nodes", (0.0, 0.3, 1.0)),)), "evenly spaced"),
        (Flip("lat"), Sphere.equiangular(4, 8), "shifts of longitude"),
    ],
)
def test_symmetries_that_the_points_do_not_have(symmetry: Symmetry, grid: Box, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_symmetries([symmetry], grid)


def test_unknown_kind_in_a_run_file() -> None:
    with pytest.raises(UsageError, match="'rotate'"):
        Settings.symmetries([{"kind": "rotate", "axis": "x"}])


@pytest.mark.parametrize(("axis", "stride"), [(Periodic(0, 1), 4), (Bounded(0, 1), 3)])
def test_coarse_points_are_points_of_the_fine_grid(axis: object, stride: int) -> None:
    grid = Box.uniform({"x": axis, "y": axis}, 16)
    x = grid.points()[..., 0][None, None]
    (coarse,), there = coarsen([x], grid, stride)
    assert torch.equal(coarse[0, 0], there.points()[..., 0])
    assert there.domain == grid.domain


@pytest.mark.parametrize(
    "grid",
    [
        Box.uniform({"x": Periodic()}, 9),
        Box.uniform({"x": Bounded()}, 8),
        Box.uniform({"x": Periodic()}, 8, placement="cells"),
        Sphere.equiangular(4, 8),
    ],
)
def test_points_that_do_not_nest(grid: Box) -> None:
    with pytest.raises(UsageError, match="resolutions"):
        coarse_grid(grid, 2)
