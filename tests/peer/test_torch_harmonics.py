"""Scalar and vector transforms agree with torch-harmonics, whose latitudes run from the north and whose vectors are (south, east)."""

import pytest
import torch
from sphere_support import random_coefficients, with_poles

from anygrid.grid import Sphere
from anygrid.numerics.sphere_calculus import vorticity_divergence, wind
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise

harmonics = pytest.importorskip("torch_harmonics")

CASES = {
    "gauss": (Sphere.gauss(32, 64), "legendre-gauss", 31),
    "gauss, odd": (Sphere.gauss(73, 144), "legendre-gauss", 71),
    "poles": (with_poles(33, 64), "equiangular", 16),
    "poles, beyond the exact degree": (with_poles(91, 180), "equiangular", 88),
}


def _near(ours, theirs):
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-6


@pytest.mark.parametrize("name", CASES)
def test_scalar(name):
    grid, kind, degree = CASES[name]
    sizes = {"lmax": degree + 1, "mmax": degree + 1, "grid": kind}
    u = torch.randn(2, 3, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _near(analyse(u, grid, degree), torch.view_as_real(harmonics.RealSHT(*grid.shape, **sizes).double()(u.flip(-2))))
    c = random_coefficients(degree)
    theirs = harmonics.InverseRealSHT(*grid.shape, **sizes).double()(torch.view_as_complex(c))
    _near(synthesise(c, grid), theirs.flip(-2))


@pytest.mark.parametrize("name", CASES)
def test_vector(name):
    grid, kind, degree = CASES[name]
    sizes = {"lmax": degree + 1, "mmax": degree + 1, "grid": kind}
    eigenvalue = (torch.arange(degree + 1) * torch.arange(1, degree + 2)).double()[:, None]
    u, v = torch.randn(2, 2, 3, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vorticity, divergence = vorticity_divergence(u, v, grid, degree)
    # Their potentials of (south, east) = (-v, u): spheroidal is that of the divergence, toroidal of the vorticity.
    theirs = harmonics.RealVectorSHT(*grid.shape, **sizes).double()(torch.stack([-v, u], 2).flip(-2)) * eigenvalue
    _near(divergence, -torch.view_as_real(theirs[:, :, 0]))
    _near(vorticity, torch.view_as_real(theirs[:, :, 1]))
    inverse = harmonics.InverseRealVectorSHT(*grid.shape, **sizes).double()
    potentials = torch.stack([torch.view_as_complex(c) for c in (-divergence, vorticity)], 2) / eigenvalue.clamp(min=1)
    south, east = inverse(potentials).flip(-2).unbind(2)
    found = wind(vorticity, divergence, grid)
    _near(found[0], east)
    _near(found[1], -south)


def test_cell_centres_agree_on_what_both_resolve():
    """They have no such grid: a band-limited function has the same coefficients on either."""
    c = random_coefficients(20)
    there = harmonics.RealSHT(64, 128, lmax=21, mmax=21, grid="legendre-gauss").double()
    cells = Sphere.equiangular(64, 128)
    assert exact_degree(cells) >= 20
    _near(analyse(synthesise(c, cells), cells, 20), torch.view_as_real(there(synthesise(c, Sphere.gauss(64, 128)).flip(-2))))


def test_tendencies_of_shallow_water():
    from torch_harmonics.examples import ShallowWaterSolver

    from anygrid.problems.shallow_water_sphere import ShallowWaterSphere, _tendency

    degree, problem = 20, ShallowWaterSphere()
    state = random_coefficients(degree, 1, 3)
    decay = (1.0 + torch.arange(degree + 1)[:, None, None]).double() ** -1.5
    state = state * decay * torch.tensor([2e-5, 5e-6, 4e3]).double()[:, None, None, None]
    state[:, :2, 0] = 0
    state[:, 2, 0, 0, 0] = 3e5
    ours = _tendency(problem, degree, torch.float64, state.device)(state)[0]
    theirs = ShallowWaterSolver(40, 80, 1.0, lmax=degree + 1, mmax=degree + 1, grid="legendre-gauss").double()
    phase = (-1.0) ** torch.arange(degree + 1)  # they leave out the Condon-Shortley phase here
    found = theirs.dudtspec(torch.view_as_complex(state[0]).roll(1, 0) * phase) * phase
    for k, (mine, other) in enumerate(zip(ours, torch.view_as_real(found).roll(-1, 0), strict=True)):
        gap = float((mine - other * torch.ones(degree + 1, degree + 1).tril()[..., None]).norm() / mine.norm())
        assert gap < 1e-5, (k, gap)
