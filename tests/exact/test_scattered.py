"""Sums over scattered points in parts: the matrix product, its gradients, and no matrix kept."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from anygrid.grid import Bounded, Box, Periodic, Points
from anygrid.operators import FNO, scattered, transforms
from anygrid.operators.spectral import SpectralConv

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of gradients too, whose sums over points cancel
CASES = {
    "periodic": ([True, True], [6, 5], None),
    "padded": ([False, False], [5, 7], None),
    "cosine and periodic": ([False, True], [4, 5], ["cosine", "fourier"]),
    "periodic and cosine": ([True, False], [5, 4], ["fourier", "cosine"]),
    "real": ([False, False], [4, 5], ["sine", "legendre"]),
    "three axes": ([True, False, True], [4, 3, 5], ["fourier", "legendre", "fourier"]),
    "one axis": ([False], [7], None),
}


def _points(periodic, n, seed=0):
    domain = tuple(Periodic(0, 2) if p else Bounded(-1, 1) for p in periodic)
    low, length = np.array([i.lower for i in domain]), np.array([i.length for i in domain])
    rng = np.random.default_rng(seed)
    weights = rng.random(n) + 0.5
    names = tuple("xyz"[: len(domain)])
    return Points(low + length * rng.random((n, len(domain))), names, domain, weights * np.prod(length) / weights.sum())


def _in_parts(monkeypatch):
    """Every matrix of points in parts of 64 of them."""
    monkeypatch.setattr(transforms, "_HELD", 0)
    monkeypatch.setattr(scattered, "_PART", 1)
    transforms.plan.cache_clear()


@pytest.fixture(autouse=True)
def _no_plans_left():
    transforms.plan.cache_clear()
    yield
    transforms.plan.cache_clear()


def _operator(case, dtype):
    periodic, modes, families = CASES[case]
    torch.manual_seed(0)
    return FNO(1, 2, periodic, modes, families, width=4, depth=3, head=8).to(dtype), periodic


def _found(operator, a, grid, query, twice=False):
    a = a.clone().requires_grad_()
    u = operator(a, grid, query)
    grads = torch.autograd.grad(u.sin().sum(), [a, *operator.parameters()], create_graph=twice)
    if twice:
        grads = torch.autograd.grad(sum(g.sin().sum() for g in grads), [a, *operator.parameters()])
    return [u, *grads]


@pytest.mark.parametrize(("case", "dtype"), list(itertools.product(CASES, TOLERANCE)), ids=str)
def test_parts_give_the_values_and_gradients_of_the_matrix(case, dtype, monkeypatch):
    operator, periodic = _operator(case, dtype)
    grid = _points(periodic, 201)
    a = torch.randn(2, 1, *grid.shape, dtype=dtype)
    whole = _found(operator, a, grid, grid)
    _in_parts(monkeypatch)
    for left, right in zip(_found(operator, a, grid, grid), whole, strict=True):
        assert (left - right).norm() <= TOLERANCE[dtype] * right.norm()


@pytest.mark.parametrize("side", ["from a grid", "to a grid"])
def test_points_on_one_side_only(side, monkeypatch):
    operator, periodic = _operator("padded", torch.float64)
    points = _points(periodic, 203, 1)
    grid = Box.uniform({"x": Bounded(-1, 1), "y": Bounded(-1, 1)}, (9, 8))
    here, there = (grid, points) if side == "from a grid" else (points, grid)
    a = torch.randn(2, 1, *here.shape, dtype=torch.float64)
    whole = _found(operator, a, here, there, twice=True)
    _in_parts(monkeypatch)
    for left, right in zip(_found(operator, a, here, there, twice=True), whole, strict=True):
        assert (left - right).norm() <= 1e-12 * right.norm()


def test_nyquist_of_the_grid_counts_once_at_the_points(monkeypatch):
    grid = Box.uniform({"x": Periodic(0, 2), "y": Periodic(0, 2)}, 6)
    torch.manual_seed(0)
    layer = SpectralConv(1, 1, transforms_bases([6, 6])).double()
    x = torch.randn(1, 6, 6, 1, dtype=torch.float64)
    on_grid = layer(x, grid)
    _in_parts(monkeypatch)
    at_points = layer(x, grid, Points(grid.points().reshape(-1, 2).numpy(), ("x", "y"), grid.domain))
    assert (at_points.view_as(on_grid) - on_grid).norm() <= 1e-13 * on_grid.norm()


def transforms_bases(modes):
    return FNO(1, 1, [True] * len(modes), modes).spectral[0].bases


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch.func's own
def test_other_modes_of_differentiation(monkeypatch):
    operator, periodic = _operator("padded", torch.float64)
    grid = _points(periodic, 150)
    a, direction = torch.randn(2, 2, 1, 150, dtype=torch.float64)
    _in_parts(monkeypatch)
    _, forward_mode = torch.func.jvp(lambda x: operator(x, grid), (a,), (direction,))
    step = 1e-6
    difference = (operator(a + step * direction, grid) - operator(a - step * direction, grid)) / (2 * step)
    assert (forward_mode - difference).norm() <= 1e-6 * difference.norm()


def test_no_part_is_kept_for_the_backward_pass(monkeypatch):
    operator, periodic = _operator("padded", torch.float32)
    grid, query = _points(periodic, 4000), _points(periodic, 4000, 1)
    _in_parts(monkeypatch)
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    a = torch.randn(1, 1, *grid.shape)
    layer, x = operator.spectral[0], torch.randn(1, 4000, 4, requires_grad=True)
    with saved_tensors_hooks(pack, lambda t: t):
        layer(x, grid, query).sum().backward()
    assert sum(kept.values()) < 0.1 * 4000 * 40 * 4  # the matrix of 4000 points by 5 x 4 pairs
    with torch.inference_mode():
        operator(a, grid, query)
    operator(a, grid, query).sum().backward()  # what was made under inference_mode serves training


_MILLION = """
import numpy as np, torch
from pathlib import Path
from anygrid.grid import Bounded, Points
from anygrid.operators import FNO

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

n = 60_000
domain = (Bounded(0, 1), Bounded(0, 1))
make = lambda n: Points(np.random.default_rng(0).random((n, 2)), ("x", "y"), domain, np.full(n, 1 / n))
operator = FNO(1, 1, [False, False], [17, 17], width=4, depth=2, head=8)
operator(torch.randn(1, 1, 1000), make(1000)).sum().backward()
before = peak()
operator(torch.randn(1, 1, n), make(n)).sum().backward()
print(peak() - before)
"""


def test_training_on_many_points_takes_little_memory():
    said = subprocess.run([sys.executable, "-c", _MILLION], check=True, capture_output=True, text=True).stdout
    assert int(said) < 60_000  # kB; the matrix of analysis and that of synthesis take 73,000 each
