"""The smooth field of equations given as text: its law, its boundary values, one function on every grid."""

import numpy as np
import pytest
import torch

from anygrid.errors import GridError, UsageError
from anygrid.grid import Bounded, Box, Periodic, Points
from anygrid.numerics.random_fields import smooth_field

DOMAIN = {"x": Periodic(0, 3), "y": Bounded(-1, 1)}


def _draw(grid, families=("periodic", "cosine"), n=3, length=0.3, zero_mean=False):
    return smooth_field(n, grid, families, length=length, generator=torch.Generator().manual_seed(5), zero_mean=zero_mean)


def test_one_seed_is_one_function():
    coarse, fine = Box.uniform(DOMAIN, (12, 9)), Box.uniform(DOMAIN, (24, 17))
    u, v = _draw(coarse), _draw(fine)
    assert torch.allclose(u, v[:, ::2, ::2], atol=1e-12)
    points = Points(coarse.points().reshape(-1, 2).numpy(), ("x", "y"), tuple(DOMAIN.values()))
    assert torch.allclose(_draw(points), u.reshape(3, -1), atol=1e-12)


def test_variance_correlation_and_mean():
    grid = Box.uniform({"x": Periodic(0, 1)}, 64)
    u = smooth_field(4000, grid, ("periodic",), length=0.05, generator=torch.Generator().manual_seed(0))
    assert u.var() == pytest.approx(1, rel=0.05)
    distance = 5 / 64
    correlation = (u[:, 0] * u[:, 5]).mean()
    assert correlation == pytest.approx(np.exp(-(distance**2) / (4 * 0.05**2)), abs=0.05)
    assert smooth_field(9, grid, ("periodic",), length=0.2, generator=torch.Generator(), zero_mean=True).mean(1).abs().max() < 1e-12


def test_boundary_values():
    grid = Box.uniform(DOMAIN, (8, 401))
    assert _draw(grid, ("periodic", "sine"))[:, :, [0, -1]].abs().max() < 1e-12
    u = _draw(grid)
    slope = (u[:, :, 1] - u[:, :, 0]) / (2 / 400)
    inside = (u[:, :, 201] - u[:, :, 200]) / (2 / 400)
    assert slope.abs().max() < 0.1 * inside.abs().max()


def test_refusals():
    grid = Box.uniform(DOMAIN, (8, 9))
    with pytest.raises(GridError, match="family for each"):
        _draw(grid, ("cosine", "cosine"))
    with pytest.raises(UsageError, match="correlation length"):
        _draw(grid, length=1e-4)
