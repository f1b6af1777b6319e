"""Operators, losses and their gradients on a grid spread over processes are those of one process."""

import pytest
import torch
import torch.distributed as dist
from ranks_support import Processes

from anygrid.collectives import Rows, sum_over_ranks
from anygrid.grid import Bounded, Box, Periodic, Sphere
from anygrid.operators import FNO, LatentFNO, UNet, lean, spectral, transforms
from anygrid.shard import Shard, sharded
from anygrid.training.losses import RelativeNorm

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


@pytest.fixture(scope="module")
def processes():
    made = Processes(4)
    yield made
    made.close()


def box(shape, periodic, placement="vertices"):
    return Box.uniform({f"x{k}": Periodic(0, 2) if p else Bounded(-1, 1.3) for k, p in enumerate(periodic)}, shape, placement=placement)


def fno(periodic, modes, **more):
    return FNO(2, 3, periodic, modes, width=5, depth=3, head=16, **more)


OPERATORS = {
    "fno 1d": (lambda: fno([True], [16]), box((17,), [True])),
    "fno 2d, Nyquist": (lambda: fno([True, True], [12, 13]), box((12, 13), [True, True])),
    "fno 2d, bounded first": (lambda: fno([False, True], [7, 6], activations=2), box((13, 16), [False, True])),
    "fno 2d, cells": (lambda: fno([False, False], [7, 6]), box((13, 9), [False, False], "cells")),
    "fno 2d, Legendre and cosine": (lambda: fno([False, False], [4, 5], families=["legendre", "cosine"]), box((14, 11), [False, False])),
    "fno 2d, Fourier and sine": (lambda: fno([True, False], [6, 5], families=["fourier", "sine"]), box((14, 11), [True, False])),
    "fno 3d": (lambda: fno([True, False, True], [3, 4, 5]), box((7, 8, 6), [True, False, True])),
    "fno, sphere": (lambda: fno([False, True], [5, 6]), Sphere.gauss(11, 16)),
    "fno, sphere with Legendre": (lambda: fno([False, True], [5, 6], families=["legendre", "fourier"]), Sphere.equiangular(11, 16)),
    "latent 1d": (lambda: LatentFNO(2, 3, [True], [24], [5], 3, width=5, depth=2), box((31,), [True])),
    "latent 2d, its own grid": (
        lambda: LatentFNO(2, 3, [False, True], [17, 16], [5, 5], 2, width=5, depth=2),
        box((17, 16), [False, True]),
    ),
    "latent 2d, finer": (lambda: LatentFNO(2, 3, [True, False], [8, 9], [3, 3], 2, width=5, depth=2), box((16, 33), [True, False])),
    "latent, cells": (lambda: LatentFNO(2, 3, [False, False], [8, 8], [3, 3], 2, width=5, depth=2), box((13, 9), [False, False], "cells")),
    "unet 1d": (lambda: UNet(2, 3, [True], width=4, levels=2), box((24,), [True])),
    "unet 2d, bounded first": (lambda: UNet(2, 3, [False, True], width=4, levels=1), box((10, 9), [False, True], "cells")),
    "unet 2d, periodic first": (lambda: UNet(2, 3, [True, False], width=4, levels=2), box((16, 9), [True, False])),
    "unet, sphere": (lambda: UNet(2, 3, [False, True], width=4, levels=1), Sphere.equiangular(12, 14)),
    "latent, sphere": (lambda: LatentFNO(2, 3, [False, True], [8, 16], [3, 5], 2, width=5, depth=2), Sphere.equiangular(11, 18)),
}


def finer(grid):
    return grid.at(tuple(n + 3 for n in grid.shape))


def gradients(operator, a, grid, query, truth, loss, ranks=1):
    """Output, loss, and gradients of the loss with respect to the input and to every parameter; of the mean over ranks of the losses."""
    a = a.clone().requires_grad_()
    u = operator(a, grid, query)
    value = loss(u, truth, grid if query is None else query)
    found = torch.autograd.grad(value / ranks, [a, *operator.parameters()])
    return u.detach(), value.detach(), *found


def worst(found, wanted):
    return max(float((f - w).norm() / w.norm()) for f, w in zip(found, wanted, strict=True))


def deviations(names, dtype, cuts, gradient, path):
    """Largest relative deviation from the serial values, for each operator."""
    rank, out = dist.get_rank(), {}
    for module in (lean, spectral):
        module.recomputing = LEAN if path == "lean" else (lambda _: False)
    transforms.use_fft = (lambda bases, grid, query: grid == query) if path == "fft" else FFT
    transforms.plan.cache_clear()
    for name in names:
        make, grid = OPERATORS[name]
        torch.manual_seed(0)
        operator = make().to(dtype)
        a, truth = (torch.randn(2, c, *grid.shape, dtype=dtype) for c in (2, 3))
        loss = RelativeNorm(torch.tensor([1.0, 2.0, 0.5]), torch.ones(3), 0.0 if isinstance(grid, Sphere) else gradient)
        multiple = 2 ** len(operator.down) if isinstance(operator, UNet) else 1
        rows = Rows(cuts(grid.shape[0], multiple), rank) if cuts else sharded(grid, multiple=multiple).rows
        shard = Shard(grid, rows)
        for query in (None, finer(grid)):
            part = None if query is None else shard.at(query.shape)
            on = shard if part is None else part
            v = truth if query is None else torch.randn(2, 3, *query.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
            u, value, da, *weights = gradients(operator, a, grid, query, v, loss)
            mine = gradients(operator, shard.mine(a), shard, part, on.mine(v), loss, rows.ranks)
            summed = [sum_over_ranks(g, rows) for g in mine[3:]]
            out[name, query is None] = (
                worst(mine[:2], [on.mine(u), value]),
                float((mine[2] - shard.mine(da)).norm() / da.norm()),  # a row may have no gradient of its own
                worst(summed, weights),
            )
    return out


LEAN, FFT = lean.recomputing, transforms.use_fft


def third(size, multiple):
    """Three ranks, the last with as few rows as it may have."""
    return 0, size // 3 // multiple * multiple, size - multiple, size


def check(found, tolerance):
    for each in found:
        wrong = {case: values for case, values in each.items() if not max(values) <= tolerance}
        assert not wrong


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_operators_equal_serial(processes, ranks, dtype):
    check(processes.run(ranks, deviations, list(OPERATORS), dtype, None, 0.0, "lean"), TOLERANCE[dtype])


@pytest.mark.parametrize("path", ["lean", "plain"])
def test_uneven_parts_and_gradient_term(processes, path):
    check(processes.run(3, deviations, list(OPERATORS), torch.float64, third, 0.3, path), 1e-12)
