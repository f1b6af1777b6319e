"""The spectral layer against a textbook complex FFT layer in float64, closed forms, and its own FFT path."""

import math

import numpy as np
import pytest
import torch

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.bases import Basis
from anygrid.operators import transforms
from anygrid.operators.spectral import SpectralConv
from anygrid.operators.transforms import plan


def _periodic(shape):
    return Box.uniform({f"x{k}": Periodic() for k in range(len(shape))}, shape)


def _textbook(x, weight, counts):
    """Complex layer exactly as the papers write it: FFT, keep the low modes, multiply, inverse FFT."""
    d = x.dim() - 2
    dims = tuple(range(1, d + 1))
    z = torch.fft.fftn(x, dim=dims, norm="forward")
    w = torch.complex(weight[0], weight[1])
    n = x.shape[1:-1]
    kept = [torch.arange(-(c // 2), (c - 1) // 2 + 1) % m for c, m in zip(counts[:-1], n[:-1], strict=True)]
    mesh = torch.meshgrid(*kept, torch.arange(counts[-1] // 2 + 1), indexing="ij")
    out = torch.zeros(x.shape[0], *n[:-1], n[-1] // 2 + 1, w.shape[-1], dtype=torch.complex128)
    out[(slice(None), *mesh)] = torch.einsum("b...i,...io->b...o", z[(slice(None), *mesh)], w)
    return torch.fft.irfftn(out, s=n, dim=dims, norm="forward")


CASES = [
    ((64,), (24,)),
    ((65,), (25,)),
    ((16,), (16,)),
    ((64, 60), (24, 25)),
    ((85, 85), (25, 25)),
    ((33, 16), (12, 16)),
    ((16, 16), (16, 16)),
    ((12, 13, 14), (5, 6, 7)),
    ((6, 7, 8, 9), (3, 4, 4, 5)),
]


@pytest.mark.parametrize(("shape", "counts"), CASES)
@pytest.mark.parametrize("fft", [False, True])
def test_agrees_with_textbook(shape, counts, fft, monkeypatch):
    monkeypatch.setattr(transforms, "use_fft", lambda *_: fft)
    plan.cache_clear()
    torch.manual_seed(0)
    layer = SpectralConv(3, 4, [Basis("fourier", c) for c in counts]).double()
    x = torch.randn(2, *shape, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x, _periodic(shape))
    reference = _textbook(x, layer.weight, counts)
    assert (y - reference).norm() <= 1e-12 * reference.norm()
    probe = torch.randn_like(y)
    ours = torch.autograd.grad((y * probe).sum(), [x, layer.weight])
    theirs = torch.autograd.grad((reference * probe).sum(), [x, layer.weight])
    for left, right in zip(ours, theirs, strict=True):
        assert (left - right).norm() <= 1e-12 * right.norm()
    plan.cache_clear()


def test_float32_within_1e5_of_float64():
    torch.manual_seed(0)
    layer = SpectralConv(8, 8, [Basis("fourier", 25)] * 2)
    x = torch.randn(2, 85, 85, 8)
    y = layer(x, _periodic((85, 85))).double()
    exact = layer.double()(x.double(), _periodic((85, 85)))
    assert (y - exact).norm() <= 1e-5 * exact.norm()


def test_zero_padding_is_a_longer_period():
    """Padding p on a bounded axis equals the textbook's zero padding, FFT and crop, when the padded length is whole."""
    torch.manual_seed(0)
    n, padded = 48, 60
    axis = Axis("x", Bounded(0, 1), n, "cells")
    layer = SpectralConv(2, 3, [Basis("fourier", 16, padding=padded / n - 1)]).double()
    x = torch.randn(2, n, 2, dtype=torch.float64)
    y = layer(x, Box((axis,)))
    long = torch.nn.functional.pad(x, (0, 0, 0, padded - n))
    # The cell-centred lattice starts half a cell in: a phase that cancels between analysis and synthesis.
    reference = _textbook(long, layer.weight, (16,))[:, :n]
    assert (y - reference).norm() <= 1e-12 * reference.norm()


@pytest.mark.parametrize("family", ["cosine", "sine", "legendre"])
def test_identity_weights_project_onto_the_basis(family):
    basis = Basis(family, 6)
    layer = SpectralConv(1, 1, [basis]).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    s = torch.linspace(0, 1, 401, dtype=torch.float64)
    u = {"cosine": torch.cos(math.pi * 3 * s), "sine": torch.sin(math.pi * 3 * s), "legendre": (2 * s - 1) ** 2}[family]
    grid = Box.uniform({"x": Bounded(-1, 2)}, 401)
    v = layer(u[None, :, None], grid)[0, :, 0]
    assert (v - u).norm() <= (1e-3 if family == "legendre" else 1e-12) * u.norm()


def test_same_operator_on_every_grid():
    """A smooth function sampled on even, uneven, finer grids and scattered points has the same image (quadrature order 2)."""
    torch.manual_seed(0)
    layer = SpectralConv(1, 1, [Basis("cosine", 5)]).double().requires_grad_(False)

    def f(x):
        return torch.cos(math.pi * 2 * x) + x**2

    target = Box.uniform({"x": Bounded()}, 33)
    fine = Box.uniform({"x": Bounded()}, 4097)
    truth = layer(f(fine.points())[None], fine, target)
    errors = []
    for n in (64, 128, 256):
        nodes = tuple((np.linspace(0, 1, n) ** 1.5).tolist())
        uneven = Box((Axis("x", Bounded(), n, "nodes", nodes),))
        errors.append(float((layer(f(uneven.points())[None], uneven, target) - truth).norm() / truth.norm()))
    assert errors[0] < 1e-3
    assert errors[1] < errors[0] / 3.5
    assert errors[2] < errors[1] / 3.5
    spots = np.random.default_rng(0).random((4000, 1))
    points = Points(spots, ("x",), (Bounded(),))
    assert (layer(f(points.points())[None], points, target) - truth).norm() <= 2e-3 * truth.norm()


def test_query_points_see_the_function_the_grid_sees():
    torch.manual_seed(0)
    layer = SpectralConv(2, 2, [Basis("fourier", 7), Basis("cosine", 5)]).double()
    grid = Box.uniform({"x": Periodic(0, 2), "y": Bounded(1, 3)}, (16, 17))
    x = torch.randn(1, 16, 17, 2, dtype=torch.float64)
    everywhere = layer(x, grid)
    chosen = grid.points().reshape(-1, 2)[::7].numpy()
    there = layer(x, grid, Points(chosen, ("x", "y"), grid.domain))
    assert (there - everywhere.reshape(1, -1, 2)[:, ::7]).norm() <= 1e-12 * there.norm()


def test_sphere_longitude_is_equivariant():
    torch.manual_seed(0)
    layer = SpectralConv(1, 1, [Basis("cosine", 8), Basis("fourier", 9)]).double()
    grid = Sphere.gauss(16, 32)
    x = torch.randn(1, 16, 32, 1, dtype=torch.float64)
    assert (layer(x.roll(5, 2), grid) - layer(x, grid).roll(5, 2)).norm() <= 1e-12 * x.norm()


def test_matrices_made_under_inference_mode_still_train():
    plan.cache_clear()
    layer = SpectralConv(1, 1, [Basis("fourier", 5)])
    grid = _periodic((16,))
    with torch.inference_mode():
        layer(torch.randn(1, 16, 1), grid)
    layer(torch.randn(1, 16, 1, requires_grad=True), grid).sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.abs().sum() > 0)


def test_more_modes_than_points_is_refused():
    layer = SpectralConv(1, 1, [Basis("fourier", 25)])
    with pytest.raises(GridError, match="wave number 8"):
        layer(torch.randn(1, 16, 1), _periodic((16,)))
    with pytest.raises(UsageError, match="at least one mode"):
        Basis("fourier", 0)
