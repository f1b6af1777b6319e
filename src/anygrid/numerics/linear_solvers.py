"""Sparse linear systems of discretised elliptic equations: direct factorisation, multigrid, and conjugate gradients.

Methods for a symmetric matrix ``A``:

    dst-cg    conjugate gradients preconditioned by the exact inverse of the constant-coefficient operator, applied with sine
              transforms. Even bounded grids only; about sqrt(contrast) iterations for each digit, whatever the grid.
    cholmod   supernodal Cholesky (optional package scikit-sparse). Positive definite; exact to rounding.
    pyamg     classical (Ruge-Stueben) algebraic multigrid accelerated by conjugate gradients. Positive definite; any grid.
    superlu   LU with the minimum-degree ordering of ``A + A^T`` and diagonal pivots. Also indefinite; exact to rounding.

CPU milliseconds of one two-valued Darcy system (contrast 4, relative residual 1e-8, one thread, AMD EPYC): dst-cg 7, 31, 118 at 85^2,
211^2, 421^2; cholmod 10, 87, 541; pyamg 27, 129, 662; superlu 18, 188, 1425. Hence the order in which ``auto`` tries them. Log-normal
coefficients of contrast above about 50 turn the first two round: the iterations of dst-cg grow with the contrast, nothing else does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray

from anygrid.errors import AnygridError, UsageError, did_you_mean

__all__ = ["METHODS", "LinearMethod", "check_method", "conjugate_gradients", "has_cholmod", "multigrid", "sine_poisson", "solve_sparse"]

LinearMethod = Literal["auto", "dst-cg", "cholmod", "pyamg", "superlu"]
METHODS: tuple[str, ...] = ("auto", "dst-cg", "cholmod", "pyamg", "superlu")
Array = NDArray[np.float64]


@lru_cache(maxsize=1)
def has_cholmod() -> bool:
    """Whether the optional package scikit-sparse is installed."""
    return importlib.util.find_spec("sksparse") is not None


def check_method(method: str, where: str) -> None:
    """Raise UsageError unless ``method`` is known and can run here."""
    if method not in METHODS:
        raise UsageError(where, "a linear solver", repr(method), did_you_mean(method, METHODS))
    if method == "cholmod" and not has_cholmod():
        raise UsageError(
            where, "scikit-sparse for method 'cholmod'", "no such package", "pip install 'anygrid[cholmod]', or use method='auto'"
        )


def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Array,
    precondition: Callable[[Array], Array],
    *,
    tolerance: float,
    start: Array | None = None,
    max_iterations: int = 500,
    where: str = "conjugate_gradients",
) -> tuple[Array, int]:
    """Solve ``A x = b`` for symmetric positive definite ``A`` until ``|b - A x| <= tolerance |b|`` (Euclidean norm).

    The error falls at least by ``(sqrt(kappa) - 1) / (sqrt(kappa) + 1)`` an iteration, ``kappa`` the condition number of the
    preconditioned operator. Source: Hestenes & Stiefel (1952); Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.1.

    Parameters
    ----------
    start
        Guess of the solution; zero without it. The iteration begins at ``c start`` with ``c = (start, b) / (start, A start)``, the
        multiple of least energy, so that no guess, however poor, is further from the solution than zero is, in the norm minimised.

    Returns
    -------
    x, iterations

    Raises
    ------
    AnygridError
        If the tolerance is not reached, or ``A`` turns out not to be positive definite.
    """
    x, r = np.zeros_like(b), b.copy()
    goal = tolerance * float(np.linalg.norm(b))
    if start is not None:
        q = apply(start)
        energy = float(np.vdot(start, q))
        if energy > 0:
            best = float(np.vdot(start, b)) / energy
            x += best * start
            r -= best * q
    if float(np.linalg.norm(r)) <= goal:
        return x, 0
    z = precondition(r)
    p = z.copy()
    rz = float(np.vdot(r, z))
    for iteration in range(1, max_iterations + 1):
        q = apply(p)
        curvature = float(np.vdot(p, q))
        if not curvature > 0:
            raise AnygridError(
                where, "a positive definite operator", f"curvature {curvature:.3g}", "check that the coefficient is positive and finite"
            )
        step = rz / curvature
        x += step * p
        r -= step * q
        if float(np.linalg.norm(r)) <= goal:
            return x, iteration
        z = precondition(r)
        rz, previous = float(np.vdot(r, z)), rz
        p *= rz / previous
        p += z
    reached = float(np.linalg.norm(r)) / float(np.linalg.norm(b))
    raise AnygridError(
        where,
        f"a relative residual of {tolerance:g}",
        f"{reached:.3g} after {max_iterations} iterations",
        "use method='pyamg' or 'superlu', or a larger tolerance",
    )


def sine_poisson(
    shape: tuple[int, ...], spacings: tuple[float, ...], shift: float = 0.0, dtype: type = np.float64
) -> Callable[[Array], Array]:
    """Exact inverse of the 3-, 5- or 7-point ``-Laplacian + shift`` with zero Dirichlet values.

    Parameters
    ----------
    shape, spacings
        Interior points and spacing along each axis.
    shift
        Constant added to the operator, which must stay regular.
    dtype
        Floating-point type of the transforms; float32 for a preconditioner.

    Returns
    -------
    callable
        Maps a right side ``(*shape)`` to the solution in O(N log N) through the type-1 sine transform, which diagonalises it with
        eigenvalues ``sum_i (2 - 2 cos(pi j_i / (m_i + 1))) / h_i^2 + shift``.

    Source: Hockney (1965); Buzbee, Golub & Nielson (1970).
    """
    eigenvalues = np.full(shape, float(shift))
    for i, (m, h) in enumerate(zip(shape, spacings, strict=True)):
        line = (2 - 2 * np.cos(np.pi * np.arange(1, m + 1) / (m + 1))) / h**2
        eigenvalues += line.reshape((-1,) + (1,) * (len(shape) - 1 - i))
    normal = np.prod([2.0 * (m + 1) for m in shape])
    factor = (1.0 / (eigenvalues * normal)).astype(dtype)

    def solve(b: Array) -> Array:
        c = scipy.fft.dstn(b.astype(dtype), type=1, overwrite_x=True)
        c *= factor
        return scipy.fft.dstn(c, type=1, overwrite_x=True).astype(np.float64, copy=False)

    return solve


def solve_sparse(
    A: sp.csc_array, b: Array, *, method: str, tolerance: float = 1e-8, definite: bool = True, where: str = "solve_sparse"
) -> Array:
    """Solve ``A x = b`` for a symmetric sparse matrix.

    ``method`` is one of ``cholmod``, ``pyamg``, ``superlu``; ``auto`` takes CHOLMOD where installed, else multigrid for a positive
    definite matrix, and SuperLU for an indefinite one (``definite=False``). ``tolerance`` is the relative residual at which the
    iterative method stops; the direct ones are exact to rounding.

    Raises
    ------
    UsageError
        Unknown or missing method, or a method for definite matrices with ``definite=False``.
    AnygridError
        Multigrid did not reach the tolerance, or the matrix is singular.
    """
    check_method(method, where)
    if method == "auto":
        method = "superlu" if not definite else ("cholmod" if has_cholmod() else "pyamg")
    if method == "dst-cg":
        raise UsageError(where, "a method for a general matrix", "'dst-cg'", "it needs an even grid; use 'auto'")
    if not definite and method != "superlu":
        raise UsageError(where, "method 'superlu' for an indefinite matrix", repr(method), "use method='auto'")
    if method == "cholmod":
        return _cholmod(A, b)
    if method == "pyamg":
        return multigrid(A, b, tolerance=tolerance, where=where)[0]
    return _superlu(A, b, where)


def _superlu(A: sp.csc_array, b: Array, where: str) -> Array:
    try:
        factor = spla.splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError as error:
        raise AnygridError(where, "a regular matrix", str(error), "the equation has no unique solution for this coefficient") from error
    x = factor.solve(b)
    # Diagonal pivots can lose digits on an indefinite matrix; one refinement step restores them at the cost of a back-substitution.
    return x + factor.solve(b - A @ x)


def multigrid(A: sp.csc_array, b: Array, *, tolerance: float, start: Array | None = None, where: str = "multigrid") -> tuple[Array, int]:
    """Solve ``A x = b`` for positive definite ``A`` by conjugate gradients, preconditioned by a cycle of classical algebraic multigrid.

    Stops at ``|b - A x| <= tolerance |b|``; returns the solution and the number of cycles. ``start`` is a guess of the solution.
    Source: Ruge & Stueben (1987); Bell, Olson & Schroder, PyAMG (2022).

    Raises
    ------
    AnygridError
        If the tolerance is not reached.
    """
    import pyamg  # 0.4 s to import: only for those who use it

    residuals: list[float] = []
    hierarchy = pyamg.ruge_stuben_solver(sp.csr_matrix(A), max_coarse=50)
    x = hierarchy.solve(b, x0=start, tol=tolerance, accel="cg", maxiter=200, residuals=residuals)
    reached = float(np.linalg.norm(b - A @ x)) / max(float(np.linalg.norm(b)), 1e-300)
    if not reached <= 10 * tolerance + 1e-13:
        raise AnygridError(
            where, f"a relative residual of {tolerance:g}", f"{reached:.3g} after {len(residuals)} cycles", "use method='superlu'"
        )
    return np.asarray(x, dtype=np.float64), max(0, len(residuals) - 1)


_symbolic: dict[tuple[int, int, int, int], Any] = {}


def _cholmod(A: sp.csc_array, b: Array) -> Array:
    from sksparse.cholmod import analyze

    matrix = sp.csc_matrix(A)
    # The fill-reducing ordering depends on the pattern alone: samples on one grid share it.
    key = (matrix.shape[0], matrix.nnz, hash(matrix.indptr.tobytes()), hash(matrix.indices.tobytes()))
    if key not in _symbolic:
        _symbolic.clear()
        _symbolic[key] = analyze(matrix)
    return np.asarray(_symbolic[key].cholesky(matrix)(b))
