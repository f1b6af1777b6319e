"""A guess changes what a solver costs, never what it returns; and a poor guess costs no more than none."""

import numpy as np
import pytest
import torch
import xarray as xr
from refine_support import Near, near

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.fields import to_dataset
from anygrid.grid import Bounded
from anygrid.numerics.linear_solvers import conjugate_gradients, multigrid, sine_poisson
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.distributions import RandomField
from anygrid.problems.from_text import Equation
from anygrid.problems.helmholtz import Helmholtz
from anygrid.surrogate import Surrogate
from anygrid.surrogate.refine import refine

SQUARE = {"x": Bounded(), "y": Bounded()}
NONLINEAR = Equation(
    "-lap(u) + k*u**3 = f", SQUARE, parameters={"k": 10.0}, inputs={"f": RandomField(std=10.0)}, boundary="u = 0", unknown="u"
)
DIFFUSION = Equation("-div(a*grad(u)) = 1", SQUARE, inputs={"a": RandomField(low=3.0, high=12.0)}, boundary="u = 1", unknown="u")
ADVECTED = Equation("-lap(u) + u_x = f", SQUARE, inputs={"f": RandomField()}, boundary="u = 0", unknown="u")


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def wrong(u, error, seed=0):
    """``u`` with a smooth error of that relative size."""
    x = torch.linspace(0, 1, u.shape[-1], dtype=u.dtype)
    c = torch.randn(4, 4, generator=seeded(seed), dtype=u.dtype)
    waves = torch.sin(torch.pi * torch.arange(1, 5, dtype=u.dtype)[:, None] * x)
    field = torch.einsum("ij,ix,jy->xy", c, waves, waves)
    return u + error * field * u.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / field.norm()


def relative(u, v):
    return float((u - v).norm() / v.norm())


def test_conjugate_gradients_from_a_guess():
    values = np.arange(1.0, 40.0)
    b = np.sin(values)
    solution = b / values
    x, none = conjugate_gradients(lambda v: values * v, b, lambda r: r, tolerance=1e-10)
    y, some = conjugate_gradients(lambda v: values * v, b, lambda r: r, tolerance=1e-10, start=solution + 1e-6 * np.cos(values))
    assert some < none
    np.testing.assert_allclose(x, solution, atol=1e-9)
    np.testing.assert_allclose(y, solution, atol=1e-9)
    # The exact solution, at whatever scale, is met at once: the guess is scaled to least energy.
    for factor in (1.0, -3.0):
        z, count = conjugate_gradients(lambda v: values * v, b, lambda r: r, tolerance=1e-10, start=factor * solution)
        assert count == 0
        np.testing.assert_allclose(z, solution, atol=1e-12)
    assert conjugate_gradients(lambda v: values * v, b, lambda r: r, tolerance=1e-10, start=np.zeros(39))[1] == none


def test_multigrid_from_a_guess():
    from anygrid.numerics.finite_volume import _System

    box = Darcy().grid(41)
    rough = np.exp(np.sin(np.arange(40 * 41)) * 3)
    matrix = _System.build(box, [rough.reshape(40, 41), rough.reshape(41, 40)], 0.0).matrix()
    b = np.ones(matrix.shape[0])
    x, none = multigrid(matrix, b, tolerance=1e-10)
    y, some = multigrid(matrix, b, tolerance=1e-10, start=x * (1 + 1e-5))
    assert some < none
    assert np.linalg.norm(b - matrix @ y) <= 1e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("solver", ["dst-cg", "pyamg", "superlu"])
def test_darcy_meets_its_tolerance_from_any_guess_and_saves_iterations_from_a_good_one(solver):
    problem = Darcy(solver=solver)
    grid = problem.grid(33)
    a = problem.sample(2, grid, seeded())
    exact = Darcy(tolerance=1e-13, solver="superlu").solve(a, grid)
    cold = problem.refine(a, torch.zeros_like(a), grid, 1e-8)
    warm = problem.refine(a, wrong(exact, 1e-3), grid, 1e-8)
    for found in (cold, warm):
        assert float(found.error.max()) <= 1e-8
        assert relative(found.u, exact) < 1e-8
        assert found.steps == max(found.iterations)
        assert len(found.iterations) == 2
    # The stated error is that of the equations, read by the residual that the problem itself states.
    residual = problem.residual(a, warm.u, grid)[..., 1:-1, 1:-1].flatten(1).norm(dim=1) / 31
    torch.testing.assert_close(residual, warm.error, rtol=1e-4, atol=1e-12)
    if solver == "superlu":
        assert cold.iterations == warm.iterations == (1, 1)
    else:
        assert all(w < c for w, c in zip(warm.iterations, cold.iterations, strict=True))


def test_darcy_never_costs_more_from_a_useless_guess():
    problem = Darcy()
    grid = problem.grid(33)
    a = problem.sample(1, grid, seeded())
    exact = Darcy(tolerance=1e-13, solver="superlu").solve(a, grid)
    none = problem.refine(a, torch.zeros_like(a), grid, 1e-8).iterations[0]
    noise = torch.randn(a.shape, generator=seeded(1), dtype=a.dtype)
    for guess in (noise, 1e6 * noise, torch.full_like(a, torch.nan), exact * 0 + torch.inf):
        found = problem.refine(a, guess, grid, 1e-8)
        assert found.iterations[0] <= none + 1
        assert relative(found.u, exact) < 1e-8


@pytest.mark.parametrize(
    ("problem", "least"), [(NONLINEAR, 1), (DIFFUSION, 2), (ADVECTED, 0)], ids=["newton", "conjugate gradients", "direct"]
)
def test_steady_equations_from_a_guess(problem, least):
    grid = problem.grid(21)
    a = problem.sample(2, grid, seeded()).double()
    exact = problem.refine(a, torch.zeros(2, 1, 21, 21, dtype=torch.float64), grid, 1e-12)
    cold = problem.refine(a, torch.zeros_like(exact.u), grid, 1e-7)
    guess = wrong(exact.u, 1e-4) - 0.1  # wrong at the boundary too
    guess[:, :, 1:-1, 1:-1] += 0.1
    warm = problem.refine(a, guess, grid, 1e-7)
    assert relative(warm.u, exact.u) < 1e-7
    assert relative(cold.u, exact.u) < 1e-7
    assert all(c - w >= least for w, c in zip(warm.iterations, cold.iterations, strict=True))
    assert problem.solution(a, grid).iterations == problem.refine(a, torch.full_like(guess, torch.nan), grid, problem.tolerance).iterations


def test_newton_falls_back_where_the_guess_leads_nowhere(monkeypatch):
    monkeypatch.setattr("anygrid.equations.newton._MOST", 7)
    grid = NONLINEAR.grid(17)
    a = NONLINEAR.sample(1, grid, seeded()).double()
    plain = NONLINEAR.solution(a, grid)
    found = NONLINEAR.refine(a, torch.full_like(a, 1e6), grid, 1e-6)
    assert relative(found.u, plain.u) < 1e-9
    assert found.steps == 7 + plain.steps


def test_solvers_that_no_guess_helps_say_so():
    problem = Helmholtz()
    grid = problem.grid(33)
    a = problem.sample(2, grid, seeded())
    found = problem.refine(a, torch.full_like(a, torch.nan), grid, 1e-6)
    assert torch.equal(found.u, problem.solve(a, grid))
    assert found.iterations == (1, 1)
    assert bool(found.error.isnan().all())
    assert "saves it nothing" in found.scheme.reason
    march = Burgers(scheme="cole-hopf", modes=8)
    start = march.sample(1, march.grid(32), seeded())
    assert torch.equal(march.refine(start, start, march.grid(32), 1e-6).u, march.solve(start, march.grid(32)))
    for tolerance in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            problem.refine(a, a, grid, tolerance)
        with pytest.raises(UsageError, match="between 0 and 1"):
            NONLINEAR.refine(a, a, grid, tolerance)
        with pytest.raises(UsageError, match="between 0 and 1"):
            Darcy().refine(a, a, grid, tolerance)


def test_an_evolution_is_refined_to_the_tolerance_asked_for():
    from anygrid.grid import Periodic

    problem = Equation("u_t = -u*u_x + nu*u_xx", {"x": Periodic()}, parameters={"nu": 0.02}, dt=0.1, tolerance=1e-3)
    grid = problem.grid(64)
    a = problem.sample(2, grid, seeded()).double()
    exact = problem.refine(a, a, grid, 1e-11).u
    loose, tight = (problem.refine(a, a, grid, tolerance) for tolerance in (1e-3, 1e-8))
    assert relative(tight.u, exact) < 1e-7 < relative(loose.u, exact)
    assert tight.steps > loose.steps


def test_a_surrogate_refines_tensors():
    problem = Darcy()
    surrogate = near(problem, 33, 1e-3)
    grid = problem.grid(33)
    a = problem.sample(2, grid, seeded())
    found = surrogate.refine(a, grid, 1e-8)
    assert relative(found.u, problem.solve(a, grid)) < 1e-8
    assert max(found.iterations) < min(problem.refine(a, torch.zeros_like(a), grid, 1e-8).iterations)
    surrogate.problem = None
    with pytest.raises(UsageError, match="knows its equation"):
        surrogate.refine(a, grid)


def test_a_surrogate_and_its_equation_have_the_same_variables():
    made = near(Darcy(), 33)
    with pytest.raises(DataError, match="source to amplitude, as the equation has it, got permeability to pressure"):
        Surrogate(Near(), made.inputs, made.outputs, made.statistics, made.grid, problem=Helmholtz())


def data_of(problem, n, points):
    grid = problem.grid(points)
    a = problem.sample(n, grid, seeded()).float()
    return a, to_dataset(a, problem.inputs, grid, {"sample": np.arange(10, 10 + n)})


def test_a_data_set_is_refined_and_the_surrogate_judged():
    problem = Darcy()
    a, ds = data_of(problem, 3, 29)
    out = refine(near(problem, 33, 1e-3), ds.isel(y=slice(None, None, -1)), 1e-7, compare=2)
    grid = problem.grid(29)
    exact = problem.solve(a.double(), grid)
    assert out.pressure.dtype == np.float64
    assert relative(torch.from_numpy(out.pressure.values.copy()).flip(-1)[:, None], exact) < 1e-7
    np.testing.assert_array_equal(out.sample, ds.sample)
    np.testing.assert_array_equal(out.y, ds.y[::-1])
    shape = torch.sin(3 * exact / exact.flatten(2).abs().amax(-1)[..., None, None])
    wanted = 1e-3 * (exact * shape).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    np.testing.assert_allclose(out.surrogate_error, wanted, rtol=1e-3)
    assert out.attrs["surrogate_error"] == pytest.approx(float(wanted.max()), rel=1e-3)
    assert out.attrs["solver_error"] == float(out.solver_error.max()) <= 1e-7
    assert out.attrs["iterations_with_guess"] == float(out.iterations[:2].mean())
    cold = problem.refine(a[:2].double(), torch.zeros_like(exact[:2]), grid, 1e-7).iterations
    assert out.attrs["iterations_without_guess"] == sum(cold) / 2 > out.attrs["iterations_with_guess"]
    assert "iterations_without_guess" not in refine(near(problem, 33), ds, 1e-4, compare=0).attrs


def test_a_data_set_without_samples_and_one_of_an_evolution(tmp_path):
    problem = Darcy()
    _, ds = data_of(problem, 2, 29)
    alone = refine(near(problem, 29), ds.isel(sample=0))
    assert alone.pressure.dims == ("x", "y")
    assert alone.surrogate_error.ndim == 0
    march = Burgers(scheme="cole-hopf", modes=8, dt=0.1)
    a, states = data_of(march, 3, 32)
    out = refine(near(march, 32, 0.1, dt="0.1"), states)
    assert relative(torch.from_numpy(out.velocity.values), march.solve(a.double(), march.grid(32))[:, 0]) < 1e-12
    assert "solver_error" not in out
    assert out.attrs["lead_time"] == "0.1"
    assert 0.01 < out.attrs["surrogate_error"] < 0.1
    out.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    assert xr.open_dataset(tmp_path / "out.nc").attrs["tolerance"] == 1e-6


def test_refine_refuses_what_it_cannot_use():
    problem = Darcy()
    _, ds = data_of(problem, 2, 29)
    surrogate = near(problem, 29)
    with pytest.raises(UsageError, match="compare"):
        refine(surrogate, ds, compare=-1)
    with pytest.raises(DataError, match="positive, finite coefficient"):
        refine(surrogate, ds * -1)
    surrogate.problem = None
    with pytest.raises(UsageError, match="knows its equation"):
        refine(surrogate, ds)


def test_the_laplacian_itself_needs_one_iteration():
    # The preconditioner is the inverse of the constant-coefficient operator: a sanity check of what the counts mean.
    inverse = sine_poisson((9, 9), (0.1, 0.1))
    b = np.random.default_rng(0).normal(size=(9, 9))
    x = inverse(b)
    with pytest.raises(AnygridError, match="positive definite"):
        conjugate_gradients(lambda v: -v, b, lambda r: r, tolerance=1e-8)
    assert conjugate_gradients(lambda v: v, x, lambda r: r, tolerance=1e-8)[1] == 1
