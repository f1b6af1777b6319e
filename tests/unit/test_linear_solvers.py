import numpy as np
import pytest
import scipy.sparse as sp

from anygrid.errors import AnygridError, UsageError
from anygrid.numerics import linear_solvers
from anygrid.numerics.linear_solvers import check_method, conjugate_gradients, has_cholmod, sine_poisson, solve_sparse

DEFINITE = ["pyamg", "superlu", *(["cholmod"] if has_cholmod() else [])]


def laplacian(shape, spacings):
    total = None
    for i, (m, h) in enumerate(zip(shape, spacings, strict=True)):
        line = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1]) / h**2
        before, after = int(np.prod(shape[:i])), int(np.prod(shape[i + 1 :]))
        term = sp.kron(sp.kron(sp.eye_array(before), line), sp.eye_array(after))
        total = term if total is None else total + term
    return sp.csc_array(total)


@pytest.mark.parametrize(("shape", "spacings"), [((9,), (0.1,)), ((6, 9), (0.2, 0.05)), ((4, 5, 6), (1.0, 0.5, 0.3))])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_sine_poisson_inverts_the_difference_laplacian(shape, spacings, shift):
    b = np.random.default_rng(0).standard_normal(shape)
    A = laplacian(shape, spacings) + shift * sp.eye_array(b.size)
    x = sine_poisson(shape, spacings, shift)(b)
    np.testing.assert_allclose((A @ x.ravel()).reshape(shape), b, atol=1e-11)
    single = sine_poisson(shape, spacings, shift, dtype=np.float32)(b)
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, x, rtol=1e-4, atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize("method", ["auto", *DEFINITE])
def test_definite_system(method):
    A = laplacian((13, 17), (0.1, 0.2))
    b = np.random.default_rng(1).standard_normal(13 * 17)
    x = solve_sparse(A, b, method=method, tolerance=1e-10)
    assert np.linalg.norm(A @ x - b) <= 1e-9 * np.linalg.norm(b)


@pytest.mark.skipif(not has_cholmod(), reason="scikit-sparse is not installed")
def test_cholmod_keeps_the_analysis_but_not_the_values():
    m = 100  # large enough for the supernodal code, which gives a wrong answer when the analysis is that of another pattern
    b = np.ones(m * m)
    linear_solvers._symbolic.clear()
    for scale in (1.0, 4.0):
        A = sp.csc_array(scale * laplacian((m, m), (1.0, 1.0)))
        np.testing.assert_allclose(A @ solve_sparse(A, b, method="cholmod"), b, atol=1e-10)
        assert len(linear_solvers._symbolic) == 1
    order = np.random.default_rng(0).permutation(m * m)
    B = sp.csc_array(laplacian((m, m), (1.0, 1.0))[order][:, order])
    np.testing.assert_allclose(B @ solve_sparse(B, b, method="cholmod"), b, atol=1e-10)


def test_indefinite_system_goes_to_superlu():
    A = laplacian((20, 20), (1 / 21, 1 / 21)) - 200.0 * sp.eye_array(400)
    A = sp.csc_array(A)
    b = np.random.default_rng(2).standard_normal(400)
    x = solve_sparse(A, b, method="auto", definite=False)
    np.testing.assert_allclose(A @ x, b, atol=1e-10)
    with pytest.raises(UsageError, match="superlu"):
        solve_sparse(A, b, method="pyamg", definite=False)


def test_singular_matrix_is_named():
    A = sp.csc_array(np.array([[1.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(AnygridError, match="regular matrix"):
        solve_sparse(A, np.array([1.0, 0.0]), method="superlu")


def test_conjugate_gradients_take_as_many_steps_as_there_are_eigenvalues():
    values = np.array([1.0, 1.0, 4.0, 4.0, 9.0])
    b = np.arange(1.0, 6.0)
    x, iterations = conjugate_gradients(lambda v: values * v, b, lambda r: r.copy(), tolerance=1e-13)
    np.testing.assert_allclose(x, b / values, rtol=1e-12)
    assert iterations == 3
    assert conjugate_gradients(lambda v: values * v, np.zeros(5), lambda r: r, tolerance=1e-8) == (pytest.approx(np.zeros(5)), 0)


def test_conjugate_gradients_name_what_stops_them():
    values = np.linspace(1.0, 1e4, 50)
    with pytest.raises(AnygridError, match="after 3 iterations"):
        conjugate_gradients(lambda v: values * v, np.ones(50), lambda r: r.copy(), tolerance=1e-12, max_iterations=3)
    with pytest.raises(AnygridError, match="positive definite"):
        conjugate_gradients(lambda v: -v, np.ones(5), lambda r: r.copy(), tolerance=1e-8)


def test_methods_that_are_missing_or_misspelt(monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'pyamg'"):
        check_method("pyang", "here")
    with pytest.raises(UsageError, match="even grid"):
        solve_sparse(laplacian((4,), (1.0,)), np.ones(4), method="dst-cg")
    monkeypatch.setattr(linear_solvers, "has_cholmod", lambda: False)
    with pytest.raises(UsageError, match="scikit-sparse"):
        check_method("cholmod", "here")
    A = laplacian((6, 6), (1.0, 1.0))
    x = solve_sparse(A, np.ones(36), method="auto", tolerance=1e-9)
    np.testing.assert_allclose(A @ x, np.ones(36), atol=1e-7)
