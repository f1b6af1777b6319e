"""The finite volumes against bilinear finite elements of an independent library (scikit-fem)."""

import math

import numpy as np
import pytest
import torch

from anygrid.errors import AnygridError
from anygrid.numerics.finite_volume import solve_diffusion
from anygrid.problems.darcy import Darcy

skfem = pytest.importorskip("skfem")


def finite_elements(n, coefficient, order):
    """Solution of ``-div(a grad u) = 1`` at the ``n x n`` vertices of the unit square, indexed ``[x, y]``."""
    from skfem.helpers import dot, grad

    x = np.linspace(0, 1, n)
    mesh = skfem.MeshQuad.init_tensor(x, x)
    element = skfem.ElementQuad1() if order == 1 else skfem.ElementQuad2()
    basis = skfem.Basis(mesh, element, intorder=8)

    @skfem.BilinearForm
    def stiffness(u, v, w):
        return coefficient(*w.x) * dot(grad(u), grad(v))

    @skfem.LinearForm
    def load(v, w):
        return 1.0 * v

    u = skfem.solve(*skfem.condense(stiffness.assemble(basis), load.assemble(basis), D=basis.get_dofs()))
    at_vertices = np.zeros((n, n))
    i, j = np.rint(mesh.p * (n - 1)).astype(int)
    at_vertices[i, j] = u[basis.nodal_dofs[0]]
    return at_vertices


def smooth(x, y):
    return np.exp(np.sin(3 * x + 1) * np.cos(4 * y))


def test_smooth_coefficient_converges_to_quadratic_elements_at_second_order():
    truth = finite_elements(33, smooth, order=2)
    errors = []
    for n in (17, 33, 65):
        x, y = Darcy().grid(n).points().unbind(-1)
        a = torch.from_numpy(smooth(x.numpy(), y.numpy()))[None]
        u = solve_diffusion(a, 1.0, Darcy().grid(n))[0].numpy()
        common = u[:: (n - 1) // 16, :: (n - 1) // 16] - truth[::2, ::2]
        errors.append(np.linalg.norm(common) / np.linalg.norm(truth[::2, ::2]))
    assert math.log2(errors[0] / errors[1]) > 1.8, errors
    assert math.log2(errors[1] / errors[2]) > 1.8, errors
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
def test_two_valued_coefficient_agrees_within_the_discretisation_error(mean):
    # An interface that no grid follows: a disc of low permeability, off centre.
    def disc(x, y):
        return np.where((x - 0.43) ** 2 + (y - 0.58) ** 2 < 0.07, 3.0, 12.0)

    truth = finite_elements(161, disc, order=1)
    problem = Darcy(mean=mean)
    errors = []
    for n in (41, 161):
        x, y = problem.grid(n).points().unbind(-1)
        u = problem.solve(torch.from_numpy(disc(x.numpy(), y.numpy()))[None, None], problem.grid(n))[0, 0].numpy()
        step = 160 // (n - 1)
        errors.append(np.linalg.norm(u - truth[::step, ::step]) / np.linalg.norm(truth[::step, ::step]))
    assert errors[0] < 2e-2, errors
    assert errors[1] < 5e-3, errors


def test_wrong_coefficient_would_be_seen():
    with pytest.raises(AnygridError, match="positive"):
        Darcy().solve(torch.zeros(1, 1, 5, 5), Darcy().grid(5))
    truth = finite_elements(33, smooth, order=2)
    x, y = Darcy().grid(33).points().unbind(-1)
    swapped = torch.from_numpy(smooth(y.numpy(), x.numpy()))[None]
    u = solve_diffusion(swapped, 1.0, Darcy().grid(33))[0].numpy()
    assert np.linalg.norm(u - truth) / np.linalg.norm(truth) > 0.02
