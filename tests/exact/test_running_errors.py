"""Errors from ranges of rows are those of the whole field."""

import math

import pytest
import torch

from anygrid.errors import UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Sphere
from anygrid.metrics.errors import bias, largest, relative_h1, relative_l2, rmse, vrmse
from anygrid.metrics.running import RunningErrors

METRICS = {"relative_l2": relative_l2, "relative_h1": relative_h1, "vrmse": vrmse, "rmse": rmse, "bias": bias, "largest": largest}
UNEVEN = (0.0, 0.03, 0.1, 0.2, 0.24, 0.4, 0.55, 0.6, 0.7, 0.83, 0.9, 1.0)
GRIDS = {
    "box": Box.uniform({"x": Bounded(-1, 1.5), "y": Bounded(0, 2)}, (23, 11)),
    "cells": Box.uniform({"x": Bounded(0, 1), "y": Periodic(0, 3)}, (17, 12), placement="cells"),
    "uneven": Box((Axis("x", Bounded(0, 1), 12, "nodes", UNEVEN), Axis("y", Bounded(0, 1), 9))),
    "uneven and periodic": Box((Axis("x", Periodic(0, 1.1), 12, "nodes", UNEVEN), Axis("y", Bounded(0, 1), 9))),
    "line": Box.uniform({"x": Bounded(0, 2)}, (40,)),
    "few rows": Box.uniform({"x": Bounded(0, 2), "y": Bounded(0, 2)}, (3, 8)),
    "three axes": Box.uniform({"x": Bounded(0, 1), "y": Periodic(0, 1), "z": Bounded(0, 3)}, (14, 6, 7)),
    "sphere": Sphere.equiangular(16, 20),
    "gauss": Sphere.gauss(14, 20),
}


def _fields(grid, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    truth = 300 + torch.randn(1, 2, *grid.shape, generator=generator, dtype=torch.float64)
    return (truth + 0.1 * torch.randn(truth.shape, generator=generator, dtype=torch.float64)).to(dtype), truth.to(dtype)


def _in_ranges(grid, u, truth, rows, stop_after=None):
    running = RunningErrors(grid, u.shape[1])
    for start in range(0, grid.shape[0], rows):
        running.add(u[0, :, start : start + rows], truth[0, :, start : start + rows])
        if start == stop_after:
            kept, running = running.state(), RunningErrors(grid, u.shape[1])
            running.resume(kept)
    return running.result()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
@pytest.mark.parametrize("name", GRIDS)
def test_ranges_of_rows_give_the_errors_of_the_whole(name, rows, dtype):
    grid = GRIDS[name]
    u, truth = _fields(grid, dtype)
    found = _in_ranges(grid, u, truth, rows, stop_after=0)
    assert found.keys() == METRICS.keys()
    for key, metric in METRICS.items():
        torch.testing.assert_close(found[key], metric(u, truth, grid)[0], rtol=1e-12, atol=1e-12 if key == "bias" else 0)


@pytest.mark.parametrize("rows", [1, 3, 7, 64])
def test_a_torus_differs_in_h1_alone_by_the_order_of_its_differences(rows):
    def errors(n):
        grid = Box.uniform({"x": Periodic(0, 2), "y": Periodic(0, 1)}, (n, 12))
        x, y = grid.points().movedim(-1, 0)
        truth = torch.sin(3 * math.pi * x) * torch.cos(2 * math.pi * y)
        u = (truth + 0.1 * torch.cos(2 * math.pi * x))[None, None]
        found = _in_ranges(grid, u, truth[None, None], rows)
        for key in METRICS.keys() - {"relative_h1"}:
            torch.testing.assert_close(found[key], METRICS[key](u, truth[None, None], grid)[0], rtol=1e-12, atol=1e-14)
        return float(abs(found["relative_h1"] / relative_h1(u, truth[None, None], grid)[0] - 1))

    coarse, fine = errors(32), errors(64)
    assert 1e-4 < coarse < 3e-3
    assert 12 < coarse / fine < 20


def test_rows_too_many_or_too_few():
    grid = GRIDS["box"]
    u, truth = _fields(grid)
    running = RunningErrors(grid, 2)
    running.add(u[0, :, :20], truth[0, :, :20])
    with pytest.raises(UsageError, match="expected 23 rows, got 20"):
        running.result()
    with pytest.raises(UsageError, match="expected 23 rows, got 24"):
        running.add(u[0, :, :4], truth[0, :, :4])
