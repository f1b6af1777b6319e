"""Solutions the scheme reproduces exactly."""

import numpy as np
import pytest
import torch

from anygrid.grid import Axis, Bounded, Box
from anygrid.numerics.finite_volume import apply_diffusion, face_coefficients, solve_diffusion


def box(shape, lower=0.0, upper=1.0):
    return Box.uniform(dict(zip("xyz", [Bounded(lower, upper)] * len(shape), strict=False)), shape)


@pytest.mark.parametrize("method", ["dst-cg", "pyamg", "superlu"])
def test_parabola_is_exact_in_one_dimension(method):
    grid = box((17,), -1.0, 2.0)
    x = grid.points()[..., 0]
    u = solve_diffusion(torch.full((2, 17), 4.0, dtype=torch.float64), 1.0, grid, method=method, tolerance=1e-13)
    expected = (x + 1) * (2 - x) / 8
    torch.testing.assert_close(u, expected.expand(2, -1), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(9,), (8, 11), (5, 6, 7)])
@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
def test_linear_functions_pass_through_with_their_boundary_values(shape, mean):
    grid = box(shape)
    exact = 2.0 + (grid.points() * torch.arange(1.0, 1 + len(shape), dtype=torch.float64)).sum(-1)
    u = solve_diffusion(torch.full((1, *shape), 3.0, dtype=torch.float64), 0.0, grid, boundary=exact[None], mean=mean, tolerance=1e-13)
    torch.testing.assert_close(u[0], exact, rtol=1e-11, atol=1e-12)


def test_harmonic_mean_is_exact_for_two_layers_that_meet_between_vertices():
    # -(a u')' = 0, u(0) = 0, u(1) = 1, a = 3 left of 0.55 and 12 right of it: the flux is 1 / (0.55/3 + 0.45/12).
    grid = box((11,))
    x = grid.points()[..., 0]
    a = torch.where(x < 0.55, 3.0, 12.0).to(torch.float64)[None]
    flux = 1 / (0.55 / 3 + 0.45 / 12)
    exact = torch.where(x < 0.55, flux * x / 3, 1 - flux * (1 - x) / 12)
    u = solve_diffusion(a, 0.0, grid, boundary=exact[None], mean="harmonic", method="superlu")
    torch.testing.assert_close(u[0], exact, rtol=1e-12, atol=1e-13)
    worse = solve_diffusion(a, 0.0, grid, boundary=exact[None], mean="arithmetic", method="superlu")
    assert float((worse[0] - exact).abs().max()) > 5e-3


def test_published_five_point_stencil():
    # The matrix of the published Darcy code, written out for one vertex: arithmetic means of a with the four neighbours, over h^2.
    a = torch.rand(1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    u = torch.rand(1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (c,), (v,) = a, u
    neighbours = [(0, 1), (2, 1), (1, 0), (1, 2)]
    expected = sum((c[1, 1] + c[i]) / 2 * (v[1, 1] - v[i]) for i in neighbours) / 0.5**2
    out = apply_diffusion(a, u, box((3, 3)), reaction=2.0)
    torch.testing.assert_close(out[0, 1, 1], expected + 2 * v[1, 1])
    assert torch.equal(out[0, 0], v[0])


def test_face_means():
    a = torch.tensor([[3.0, 12.0, 12.0]])
    assert face_coefficients(a)[0].tolist() == [[7.5, 12.0]]
    assert face_coefficients(a, "harmonic")[0].tolist() == [[pytest.approx(4.8), pytest.approx(12.0)]]


def test_uneven_grid_is_exact_for_linear_functions_and_conserves_flux():
    nodes = tuple(np.sort(np.r_[0.0, 1.0, np.random.default_rng(0).random(12)]).tolist())
    grid = Box((Axis("x", Bounded(), 14, "nodes", nodes), Axis("y", Bounded(), 9)))
    exact = (grid.points() @ torch.tensor([1.0, -2.0], dtype=torch.float64))[None]
    u = solve_diffusion(torch.ones(1, 14, 9, dtype=torch.float64), 0.0, grid, boundary=exact, method="superlu")
    torch.testing.assert_close(u, exact, rtol=1e-10, atol=1e-11)
