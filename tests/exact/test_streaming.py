"""An operator fed slab by slab says what it says of the whole field."""

import itertools

import pytest
import torch

from anygrid.errors import GridError, UsageError
from anygrid.grid import Bounded, Box, Periodic
from anygrid.operators import FNO, LatentFNO, UNet
from anygrid.operators.streaming import Slabs, emit, gather

KINDS = {"periodic": (Periodic(0, 2), "vertices"), "vertices": (Bounded(-1, 1.3), "vertices"), "cells": (Bounded(0, 1), "cells")}
SHAPES = {1: (61,), 2: (37, 24), 3: (19, 12, 10)}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def _box(kind, dims, extra=0):
    interval, placement = KINDS[kind]
    shape = tuple(n + extra for n in SHAPES[dims])
    return Box.uniform({f"x{k}": interval for k in range(dims)}, shape, placement=placement)


def _latent(box):
    torch.manual_seed(0)
    periodic = [i.periodic for i in box.domain]
    ends = 0 if periodic[0] or box.axes[0].placement == "cells" else 1
    return LatentFNO(2, 3, periodic, [16 + ends] * box.ndim, [5] * box.ndim, 2, width=8, depth=2)


def _fno(box):
    torch.manual_seed(0)
    return FNO(2, 3, [i.periodic for i in box.domain], [5] * box.ndim, width=8, depth=3, head=16)


def _streamed(operator, a, grid, query, rows=7):
    field = Slabs(grid, lambda start, stop: a[:, :, start:stop], rows)
    with torch.no_grad():
        gathered = gather(operator, field)
        n = query.shape[0]
        return torch.cat([emit(operator, gathered, field, query, s, min(s + 5, n)) for s in range(0, n, 5)], 2)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("kind", "dims", "build"), list(itertools.product(KINDS, SHAPES, (_latent, _fno))))
def test_slabs_give_the_values_of_the_whole(kind, dims, build, dtype):
    grid = _box(kind, dims)
    operator = build(grid).to(dtype).eval()
    a = torch.randn(2, 2, *grid.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    queries = [grid, _box(kind, dims, 5)]
    if kind == "periodic" and build is _fno:
        queries = queries[:1]
    for query in queries:
        with torch.no_grad():
            whole = operator(a, grid, query)
        found = _streamed(operator, a, grid, query)
        assert found.dtype == dtype
        assert (found - whole).norm() <= TOLERANCE[dtype] * whole.norm()


def test_axes_of_both_kinds_and_other_bases():
    box = Box.uniform({"x": Bounded(0, 1), "y": Periodic(0, 1)}, (21, 16))
    torch.manual_seed(0)
    operator = FNO(2, 1, [False, True], [4, 5], families=["legendre", "fourier"], width=6, depth=2, activations=2).double()
    a = torch.randn(1, 2, *box.shape, dtype=torch.float64)
    with torch.no_grad():
        whole = operator(a, box)
    assert (_streamed(operator, a, box, box) - whole).norm() <= 1e-12 * whole.norm()
    turned = Box(box.axes[::-1])
    operator = LatentFNO(2, 1, [True, False], [8, 9], [3, 3], 2, width=6, depth=1).double()
    with torch.no_grad():
        whole = operator(a.mT.contiguous(), turned)
    assert (_streamed(operator, a.mT.contiguous(), turned, turned) - whole).norm() <= 1e-12 * whole.norm()


def test_what_cannot_be_streamed_is_said():
    box = _box("periodic", 1)
    a = torch.randn(1, 2, *box.shape)
    with pytest.raises(UsageError, match="a LatentFNO or an FNO, got UNet"):
        gather(UNet(2, 1, [True]), Slabs(box, lambda s, e: a[:, :, s:e], 4))
    with pytest.raises(GridError, match="same points along the periodic axis 'x0'"):
        _streamed(_fno(box), a, box, _box("periodic", 1, 5))
    with pytest.raises(UsageError, match="at least one row"):
        Slabs(box, lambda s, e: a, 0)
    with pytest.raises(GridError, match="input of shape"):
        gather(_latent(box), Slabs(box, lambda s, e: a[:, :1, s:e], 4))
