"""Operators, losses and their gradients on a grid spread over processes are those of one process."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from anygrid.collectives import Rows, sum_over_ranks, with_halo
from anygrid.errors import AnygridError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Bounded, Box, Periodic, Points, Sphere
from anygrid.metrics.errors import largest, relative_h1, relative_l2, rmse, vrmse
from anygrid.metrics.invariants import autocovariance, pdf
from anygrid.metrics.spectra import power_spectrum
from anygrid.numerics.interpolation import interpolate
from anygrid.operators import FNO, LatentFNO, UNet, lean, spectral, transforms
from anygrid.shard import Shard, sharded
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate
from anygrid.surrogate.imposed import Wall
from anygrid.training.losses import RelativeNorm

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


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
    lean_rule, fft_rule = lean.recomputing, transforms.use_fft
    if path == "plain":
        lean.recomputing = spectral.recomputing = lambda _: False
    if path == "fft":
        transforms.use_fft = lambda bases, grid, query: grid == query
    transforms.plan.cache_clear()
    try:
        return {key: value for name in names for key, value in _deviations(name, dtype, cuts, gradient).items()}
    finally:
        lean.recomputing = spectral.recomputing = lean_rule
        transforms.use_fft = fft_rule
        transforms.plan.cache_clear()


def _deviations(name, dtype, cuts, gradient):
    make, grid = OPERATORS[name]
    torch.manual_seed(0)
    operator = make().to(dtype)
    a, truth = (torch.randn(2, c, *grid.shape, dtype=dtype) for c in (2, 3))
    loss = RelativeNorm(torch.tensor([1.0, 2.0, 0.5]), torch.ones(3), gradient)
    multiple = 2 ** len(operator.down) if isinstance(operator, UNet) else 1
    rows = Rows(cuts(grid.shape[0], multiple), dist.get_rank()) if cuts else sharded(grid, multiple=multiple).rows
    shard, out = Shard(grid, rows), {}
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


def third(size, multiple):
    """Three ranks, the last with as few rows as it may have."""
    return 0, size // 3 // multiple * multiple, size - multiple, size


def check(found, tolerance):
    for each in found:
        wrong = {case: values for case, values in each.items() if not max(values) <= tolerance}
        assert not wrong


QUICK = ["fno 1d", "fno 2d, Legendre and cosine", "fno, sphere", "latent 2d, finer", "unet 2d, bounded first"]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("names", [QUICK, pytest.param(list(OPERATORS), marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("ranks", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_operators_equal_serial(processes, ranks, names, dtype):
    check(processes.run(ranks, deviations, names, dtype, None, 0.0, "lean"), TOLERANCE[dtype])


@pytest.mark.parametrize("names", [QUICK, pytest.param(list(OPERATORS), marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("path", ["lean", "plain"])
def test_uneven_parts_and_gradient_term(processes, path, names):
    check(processes.run(3, deviations, names, torch.float64, third, 0.3, path), 1e-12)


def test_where_one_process_takes_the_fft(processes):
    check(processes.run(2, deviations, ["fno 1d", "fno 2d, Nyquist"], torch.float64, None, 0.0, "fft"), 1e-12)


# What comes around the operator: scaling, walls, conserved means, the ball; losses by channel; metrics; other queries.


def surrogate(imposed):
    names = ("u", "v")
    moments = Moments(10, (0.2, -0.1), (15.0, 8.0), (-3.0, -3.0), (3.0, 3.0))
    grid = box((13, 16), [False, True])
    torch.manual_seed(0)
    operator = FNO(2, 2, [False, True], [5, 5], width=5, depth=2).double()
    variables = [Variable(name, "1") for name in names]
    statistics = Statistics(moments, moments, moments)
    return Surrogate(operator, variables, variables, statistics, grid, dt="1", increment=True, imposed=imposed), grid


IMPOSED = Imposed((Wall("u", "x0", "lower", 0.3), Wall("u", "x0", "upper", -0.1)), ("v",), 1.2)


def around():
    found = {}
    for name, imposed in (("plain", Imposed()), ("imposed", IMPOSED), ("mean", Imposed(conserved=("u",)))):
        model, grid = surrogate(imposed)
        model.requires_grad_(False)
        a = torch.randn(3, 2, *grid.shape, dtype=torch.float64) * torch.tensor([0.5, 2.0, 4.0]).view(3, 1, 1, 1)  # in the ball and out
        shard = sharded(grid)
        for query in (None, finer(grid)):
            part = None if query is None else shard.at(query.shape)
            wanted = model(a, grid, query)
            u = model(shard.mine(a), shard, part)
            found[name, query is None] = worst([u], [(shard if part is None else part).mine(wanted)])
    other = box((11, 7), [False, True])
    points = Points(np.random.default_rng(0).uniform(-1, 1, (9, 2)), ("x0", "x1"), grid.domain)
    for name, query in (("whole", other), ("points", points)):  # every rank gets all of these
        found[name] = worst([model(shard.mine(a), shard, query)], [model(a, grid, query)])
    for name, source in (("from whole", grid), ("from points", points)):
        f = torch.randn(2, 1, *source.shape, dtype=torch.float64)
        part = sharded(other)
        found[name] = worst([interpolate(f, source, part, smooth=True)], [part.mine(interpolate(f, source, other, smooth=True))])
    u, v = (torch.randn(2, 2, *grid.shape, dtype=torch.float64) for _ in range(2))
    loss = RelativeNorm(torch.tensor([1.0, 2.0]), torch.ones(2), 0.5)
    for metric in (loss.by_channel, loss.per_sample, relative_l2, vrmse, rmse, largest):
        found[metric.__name__] = worst([metric(shard.mine(u), shard.mine(v), shard)], [metric(u, v, grid)])
    series, edges = u[None], torch.linspace(-3, 3, 5).repeat(2, 1)
    cut = shard.mine(u)[None]
    found["pdf"] = worst([pdf(cut, edges, shard)], [pdf(series, edges, grid)])
    found["autocovariance"] = worst([autocovariance(cut, shard, 1)], [autocovariance(series, grid, 1)])
    ball = sharded(Sphere.gauss(7, 8))
    found["area"] = abs(float(sum_over_ranks(ball.weights().sum(), ball.rows)) - 4 * math.pi)
    found["mean"] = abs(float(sum_over_ranks(ball.mean_weights().sum(), ball.rows)) - 1)
    return found


@pytest.mark.parametrize("ranks", [1, 3])
def test_surrogates_losses_and_metrics(processes, ranks):
    for each in processes.run(ranks, around):
        assert not {name: value for name, value in each.items() if not value <= 1e-12}


def twice(periodic):
    """First and second derivatives of a function of halos and sums, against those of the same on one process."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    whole, target = (torch.randn(2, 1, 9, 3, dtype=torch.float64) for _ in range(2))
    rows = Rows((0, 2, 9) if ranks == 2 else (0, 2, 6, 9), rank)
    found = []
    for serial in (True, False):
        x, weight = (f if serial else f.narrow(2, rows.start, rows.stop - rows.start) for f in (whole, target))
        x = x.clone().requires_grad_()
        first, last = (True, True) if serial else rows.ends(periodic)
        if serial and periodic:
            y = torch.cat([x[:, :, -2:], x, x[:, :, :1]], 2)
        elif serial:
            y = nn.functional.pad(x, [0, 0, 2, 1])
        else:
            y = with_halo(x, rows, 2, 1, periodic=periodic)
            y = nn.functional.pad(y, [0, 0, 2 * first, 1 * last])
        n = x.shape[2]
        z = (y.narrow(2, 3, n) * y.narrow(2, 0, n) * weight).sum()
        z = z**2 if serial else sum_over_ranks(z, rows) ** 2 / ranks
        (slope,) = torch.autograd.grad(z, x, create_graph=True)
        (curve,) = torch.autograd.grad((slope.sin() * weight).sum(), x)
        found.append([slope.detach(), curve])
    mine = [f.narrow(2, rows.start, rows.stop - rows.start) for f in found[0]]
    return worst(found[1], mine)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("ranks", [2, 3])
def test_halos_and_sums_differentiate_twice(processes, ranks, periodic):
    assert max(processes.run(ranks, twice, periodic)) <= 1e-12


def refused(what):
    rows = Rows.even(13, 2, dist.get_rank())
    grid = box((13, 16), [False, True])
    shard, points = Shard(grid, rows), Points(np.zeros((3, 1)), ("x",), (Bounded(0, 1),))
    a = torch.randn(1, 2, *shard.shape)
    tasks = {
        "points": lambda: sharded(points),
        "too many": lambda: sharded(box((1, 4), [True, True])),
        "other rows": lambda: Shard(grid, Rows.even(12, 2, 0)),
        "rank": lambda: Rows((0, 2), 1),
        "unet": lambda: UNet(2, 1, [False, True], levels=1)(a, shard),
        "halo": lambda: with_halo(a, rows, 7, 7, periodic=True),
        "waves": lambda: surrogate(Imposed(waves=3))[0](a.double(), shard),
        "slope": lambda: relative_h1(a, a, shard),
        "spectrum": lambda: power_spectrum(a, shard),
        "input": lambda: FNO(2, 1, [False, True], [3, 3])(torch.randn(1, 2, *grid.shape), shard),
    }
    try:
        tasks[what]()
    except AnygridError as error:
        return str(error)
    return "nothing was refused"


REFUSALS = {
    "points": "expected a Box or a Sphere, got Points",
    "too many": "at least one row for each rank",
    "other rows": "expected 13 rows, got 12",
    "rank": "expected a rank from 0 to 0, got 1",
    "unet": r"expected a multiple of 2 rows on every rank, got cuts at 0, 6, 13",
    "halo": "expected 7 or more rows on every rank, got 6",
    "waves": "imposed waves: expected a whole grid, got a shard of one",
    "slope": "differentiate: expected a Box or a Sphere, got Shard",
    "spectrum": "power_spectrum: expected a Box or a Sphere, got Shard",
    "input": "FNO: expected input of shape",
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_not_shared_is_refused_on_every_rank(processes, what):
    for said in processes.run(2, refused, what):
        assert REFUSALS[what] in said


def test_one_process_has_nothing_to_share():
    with pytest.raises(UsageError, match="sharded: expected processes that know of each other, got one alone"):
        sharded(box((4,), [True]))
