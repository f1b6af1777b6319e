"""What every solution of Darcy and Helmholtz obeys."""

import pytest
import torch

from anygrid.errors import AnygridError
from anygrid.numerics.linear_solvers import has_cholmod
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz

SOLVERS = ["dst-cg", "pyamg", "superlu", *(["cholmod"] if has_cholmod() else [])]


def drawn(problem, resolution, n=2, seed=0):
    grid = problem.grid(resolution)
    return problem.sample(n, grid, torch.Generator().manual_seed(seed)), grid


def relative(u, v):
    return float(torch.linalg.norm(u - v) / torch.linalg.norm(v))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
@pytest.mark.parametrize("resolution", [(3, 3), (30, 41)])
def test_darcy_residual_of_its_own_solution_is_zero_to_the_tolerance(solver, mean, resolution):
    problem = Darcy(solver=solver, mean=mean, modes=40, tolerance=1e-10)
    a, grid = drawn(problem, resolution)
    u = problem.solve(a, grid)
    r = problem.residual(a, u, grid)
    # The tolerance bounds the Euclidean norm of the residual against that of the right side, which is 1 everywhere.
    assert float(torch.linalg.norm(r)) <= 2e-10 * (a.shape[0] * (resolution[0] - 2) * (resolution[1] - 2)) ** 0.5
    assert float(torch.linalg.norm(problem.residual(a, 1.01 * u, grid))) > 1e-3


@pytest.mark.parametrize("k", [0.0, 12.0, 40.5])
def test_helmholtz_residual_of_its_own_solution_is_zero(k):
    problem = Helmholtz(wavenumber=k)
    for resolution in (10, (33, 50), 96):
        f, grid = drawn(problem, resolution)
        u = problem.solve(f, grid)
        assert float(problem.residual(f, u, grid).abs().max()) < 1e-10 * float(f.abs().max())
        assert float(problem.residual(f, u * 1.01, grid).abs().max()) > 1e-3 * float(f.abs().max())


@pytest.mark.parametrize("solver", SOLVERS[1:])
def test_solvers_agree(solver):
    a, grid = drawn(Darcy(modes=60), 45)
    tight = Darcy(solver="dst-cg", tolerance=1e-12).solve(a, grid)
    assert relative(Darcy(solver=solver, tolerance=1e-12).solve(a, grid), tight) < 1e-10


@pytest.mark.parametrize("solver", ["dst-cg", "pyamg"])
def test_a_loose_solver_is_loose_and_a_tighter_one_tighter(solver):
    a, grid = drawn(Darcy(modes=60), 45)
    exact = Darcy(solver="superlu").solve(a, grid)
    errors = []
    for tolerance in (3e-1, 1e-2, 1e-4, 1e-8):
        problem = Darcy(solver=solver, tolerance=tolerance)
        u = problem.solve(a, grid)
        errors.append(relative(u, exact))
        r = problem.residual(a, u, grid)
        assert float(torch.linalg.norm(r)) <= 1.5 * tolerance * (a.shape[0] * 43 * 43) ** 0.5
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[0] > 1e-3
    assert errors[3] < 1e-9


def test_darcy_maximum_principle_and_bounds():
    a, grid = drawn(Darcy(modes=60), 41, n=4)
    u = Darcy().solve(a, grid)
    assert float(u[..., 1:-1, 1:-1].min()) > 0
    assert float(u[..., 0, :].abs().max()) == 0
    slow, fast = (Darcy().solve(torch.full_like(a[:1], value), grid) for value in (3.0, 12.0))
    # More permeability everywhere, less pressure energy: mean pressure (the compliance) is monotone in a.
    assert float(fast.mean()) < float(u.mean()) < float(slow.mean())


def test_darcy_commutes_with_the_symmetries_of_the_square():
    a, grid = drawn(Darcy(modes=60), 31)
    u = Darcy().solve(a, grid)
    for move in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)):
        assert relative(Darcy().solve(move(a).contiguous(), grid), move(u)) < 1e-9


def test_solution_scales_with_forcing_and_inversely_with_permeability():
    a, grid = drawn(Darcy(modes=60), 31)
    u = Darcy().solve(a, grid)
    assert relative(Darcy(forcing=-2.0).solve(a, grid), -2 * u) < 1e-9
    assert relative(Darcy().solve(5 * a, grid), u / 5) < 1e-9


def test_the_solution_operator_of_helmholtz_is_linear_and_symmetric():
    problem = Helmholtz(wavenumber=20.0)
    f, grid = drawn(problem, 40, n=2)
    u = problem.solve(f, grid)
    both = problem.solve((2 * f[:1] - 3 * f[1:]), grid)
    assert relative(both, 2 * u[:1] - 3 * u[1:]) < 1e-11
    forward, backward = float((u[0] * f[1]).sum()), float((f[0] * u[1]).sum())
    assert forward == pytest.approx(backward, rel=1e-9)


def test_batch_and_dtype_do_not_change_the_answer():
    for problem in (Darcy(modes=60), Helmholtz()):
        a, grid = drawn(problem, 33, n=3)
        u = problem.solve(a, grid)
        assert torch.equal(torch.cat([problem.solve(a[i : i + 1], grid) for i in range(3)]), u)
        single = problem.solve(a.float(), grid)
        assert single.dtype == torch.float32
        assert relative(single.double(), u) < 1e-6


@pytest.mark.parametrize("problem", [Darcy(modes=60), Helmholtz(modes=60)])
def test_label_error_is_computable_and_falls_with_resolution(problem):
    fine_a, fine = drawn(problem, 121, n=3, seed=9)
    truth = problem.solve(fine_a, fine)
    errors = []
    for n in (16, 31, 61):
        a, grid = drawn(problem, n, n=3, seed=9)
        step = 120 // (n - 1)
        assert relative(a, fine_a[:, :, ::step, ::step]) < 1e-14
        errors.append(relative(problem.solve(a, grid), truth[:, :, ::step, ::step]))
    assert errors[0] > errors[1] > errors[2] > 0
    assert 1e-4 < errors[1] < 5e-2


def test_helmholtz_labels_are_exact_on_grids_that_carry_the_sampler():
    problem = Helmholtz(modes=20)
    a, grid = drawn(problem, 22)
    b, fine = drawn(problem, 64)
    assert relative(problem.solve(a, grid), problem.solve(b, fine)[:, :, ::3, ::3]) < 1e-12


@pytest.mark.parametrize("problem", [Darcy(modes=20), Helmholtz()])
def test_residual_is_differentiable_in_the_solution(problem):
    a, grid = drawn(problem, 9, n=1)
    u = torch.rand(1, 1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: problem.residual(a, v, grid) / 1e3, (u,))


def test_darcy_residual_is_differentiable_in_the_coefficient():
    problem = Darcy(modes=20)
    a, grid = drawn(problem, 7, n=1)
    u = problem.solve(a, grid)
    assert torch.autograd.gradcheck(lambda c: problem.residual(c, u, grid), (a.clone().requires_grad_(True),))


def test_a_contrast_beyond_the_sine_preconditioner_still_solves():
    # auto leaves the sine-preconditioned iteration where the contrast makes it slow or, as here, hopeless.
    grid = Darcy().grid(41)
    x, y = grid.points().unbind(-1)
    a = torch.exp(8 * torch.sin(7 * x) * torch.cos(5 * y))[None, None]
    u = Darcy().solve(a, grid)
    assert relative(u, Darcy(solver="superlu").solve(a, grid)) < 1e-5
    with pytest.raises(AnygridError, match="relative residual"):
        Darcy(solver="dst-cg").solve(a, grid)
