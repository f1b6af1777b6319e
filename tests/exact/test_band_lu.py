"""Sparse systems whose unknowns lie on a line are solved in LAPACK's band: the same solutions, gradients and errors as sparse factors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anygrid.errors import AnygridError
from anygrid.numerics.sparse_lu import Pattern, solve


def line(n: int, unknowns: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of a system on a line, unknown by unknown, so that the entries lie far from the diagonal until they are put in order."""
    rows, cols = [], []
    for i in range(n):
        for j in range(max(0, i - reach), min(n, i + reach + 1)):
            for a in range(unknowns):
                for b in range(unknowns):
                    rows.append(a * n + i)
                    cols.append(b * n + j)
    rows, cols = np.array(rows), np.array(cols)
    mixed = np.random.default_rng(0).permutation(len(rows))
    again = np.arange(0, len(rows), 3)  # entries at one place are added up
    return np.concatenate([rows[mixed], rows[again]]), np.concatenate([cols[mixed], cols[again]])


def dense(pattern: Pattern, entries: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(len(entries), pattern.size, pattern.size, dtype=torch.float64)
    rows, cols = torch.from_numpy(pattern.rows), torch.from_numpy(pattern.cols)
    return out.index_put((torch.arange(len(entries))[:, None], rows[None], cols[None]), entries, accumulate=True)


@pytest.mark.parametrize(("unknowns", "reach", "banded"), [(1, 1, True), (2, 3, True), (3, 10, False)])
def test_solutions_and_gradients_are_those_of_the_dense_matrix(unknowns, reach, banded):
    n = 40
    pattern = Pattern(*line(n, unknowns, reach), n * unknowns)
    assert (pattern._band is not None) == banded
    g = torch.Generator().manual_seed(0)
    entries = torch.randn(2, len(pattern.rows), generator=g, dtype=torch.float64)
    entries = torch.where(torch.from_numpy(pattern.rows == pattern.cols), entries + 30, entries).requires_grad_()
    b = torch.randn(2, pattern.size, generator=g, dtype=torch.float64, requires_grad=True)
    x = solve(entries, b, pattern.factorize(entries, "here"))
    exact = torch.linalg.solve(dense(pattern, entries), b)
    torch.testing.assert_close(x, exact, rtol=1e-10, atol=1e-12)
    weights = torch.randn(x.shape, generator=g, dtype=torch.float64)
    found = torch.autograd.grad((x * weights).sum(), (entries, b))
    wanted = torch.autograd.grad((exact * weights).sum(), (entries, b))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(solve(entries, b, pattern.factorize(entries, "here")), exact, rtol=1e-10, atol=1e-12)


def test_small_pivots_are_exchanged():
    """Zeros on the diagonal, as of a constraint beside its unknown."""
    n = 30
    pattern = Pattern(*line(n, 1, 1), n)
    off = torch.from_numpy(np.abs(pattern.rows - pattern.cols) == 1)
    entries = torch.where(off, 1.0, 0.0)[None].double()
    assert float(torch.linalg.det(dense(pattern, entries)).abs()) > 0.5
    b = torch.arange(float(n), dtype=torch.float64)[None]
    x = solve(entries, b, pattern.factorize(entries, "here"))
    torch.testing.assert_close(dense(pattern, entries)[0] @ x[0], b[0], rtol=1e-12, atol=1e-12)


def test_a_singular_band_is_named():
    n = 12
    pattern = Pattern(*line(n, 1, 1), n)
    entries = torch.where(torch.from_numpy(pattern.rows == 5), 0.0, 1.0)[None].double()
    with pytest.raises(AnygridError, match="a regular linear system, got a factor that is exactly singular"):
        pattern.factorize(entries, "here")
