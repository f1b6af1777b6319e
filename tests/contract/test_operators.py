"""Every operator on every kind of grid keeps the contract."""

import pytest
import torch
from torch import nn

from anygrid.grid import Bounded, Box, Grid, Periodic, Points, Sphere
from anygrid.operators import FNO, SphericalFNO, SphericalUNet, UNet, check_operator, default_operator

GRIDS = {
    "periodic": Box.uniform({"x": Periodic()}, 64),
    "bounded": Box.uniform({"x": Bounded(), "y": Bounded()}, 33),
    "mixed": Box.uniform({"x": Periodic(), "y": Bounded(0, 2)}, (32, 33)),
    "cells": Box.uniform({"x": Bounded(), "y": Bounded()}, 32, placement="cells"),
    "gauss": Sphere.gauss(24, 48),
    "equiangular": Sphere.equiangular(24, 48),
    "solid": Box.uniform({"x": Periodic(), "y": Bounded(0, 2), "z": Bounded()}, (16, 17, 17)),
}


def _build(kind: str, grid: Grid) -> nn.Module:
    periodic = [interval.periodic for interval in grid.domain]
    if kind == "default":
        return default_operator(2, 3, grid)
    if kind == "unet":
        return UNet(2, 3, periodic, width=8, levels=2)
    families = ["fourier" if p or kind == "fno" else "cosine" for p in periodic]
    return FNO(2, 3, periodic, [9] * grid.ndim, families=families, width=8, depth=2)


@pytest.mark.parametrize("kind", ["default", "fno", "cosine fno", "unet"])
@pytest.mark.parametrize("name", GRIDS)
def test_contract(kind, name):
    torch.manual_seed(0)
    grid = GRIDS[name]
    check_operator(_build(kind, grid), grid, 2, 3, resolution_free=kind != "unet")


@pytest.mark.parametrize("name", ["gauss", "equiangular"])
@pytest.mark.parametrize("coordinates", [True, False])
def test_contract_of_the_spherical_operator(name, coordinates):
    torch.manual_seed(0)
    check_operator(SphericalFNO(2, 3, 8, width=8, depth=2, coordinates=coordinates), GRIDS[name], 2, 3)


@pytest.mark.parametrize("name", ["gauss", "equiangular"])
@pytest.mark.parametrize("coordinates", [True, False])
def test_contract_of_the_u_shaped_spherical_operator(name, coordinates):
    torch.manual_seed(0)
    check_operator(SphericalUNet(2, 3, 8, width=8, coordinates=coordinates), GRIDS[name], 2, 3)


@pytest.mark.parametrize("kind", ["default", "fno"])
def test_contract_on_points(kind):
    torch.manual_seed(0)
    x = torch.rand(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    points = Points(x, ("x", "y"), (Periodic(), Bounded()))
    check_operator(_build(kind, points), points, 2, 3)


def test_the_check_can_fail():
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.arguments: dict = {}
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, a, grid, query=None):
            return self.scale * a.roll(1, 2) / a.abs().amax()

    with pytest.raises(AssertionError, match="depends on its batch"):
        check_operator(Pixels(), GRIDS["periodic"], 2, 2)
