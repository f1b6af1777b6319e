"""Batches of sparse linear systems of one pattern, differentiable in the entries of the matrices and in the right sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.linalg.lapack import dgbtrf, dgbtrs
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from anygrid.errors import AnygridError

__all__ = ["Factors", "Pattern", "solve"]

_WIDEST = 24  # entries on each side of the diagonal up to which LAPACK's band is quicker than a sparse factorisation


class Pattern:
    """Places of the entries of square sparse matrices; entries at one place are added up.

    Parameters
    ----------
    rows, cols
        Place of each entry.
    size
        Rows of the matrix.
    """

    def __init__(self, rows: NDArray[np.int64], cols: NDArray[np.int64], size: int) -> None:
        self.rows, self.cols, self.size = rows, cols, size
        keys, self._slot = np.unique(cols * size + rows, return_inverse=True)
        self._indices = (keys % size).astype(np.int32)
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(keys // size, minlength=size))]).astype(np.int32)
        count = np.bincount(self._indices, minlength=size)
        diagonal = np.zeros(size, dtype=bool)
        diagonal[self._indices[keys % size == keys // size]] = True
        self._alone = np.flatnonzero((count == 1) & diagonal)

    def matrix(self, values: NDArray[np.float64]) -> sp.csc_matrix:
        """One matrix from its entries."""
        data = np.bincount(self._slot, weights=values, minlength=len(self._indices))
        return sp.csc_matrix((data, self._indices, self._starts), shape=(self.size, self.size))

    def factorize(self, values: Float[Tensor, "batch entries"], where: str) -> Factors:
        """LU factors of every matrix of the batch.

        Raises
        ------
        AnygridError
            For entries that are not finite, or a singular matrix.
        """
        entries = values.detach().cpu().double().numpy()
        if not np.isfinite(entries).all():
            raise AnygridError(
                where, "a finite linearisation", "NaN or inf", "the solution left the range in which the equation is defined"
            )
        factors: list[spla.SuperLU | _BandLU] = []
        scales = []
        for row in entries:
            if self._band is not None:
                factors.append(self._band.factorize(row, where))
                scales.append(np.ones(self.size))
                continue
            matrix = self.matrix(row)
            scale = self._scale(matrix)
            matrix.data *= scale[matrix.indices]
            try:
                # Pivots stay on the diagonal unless they are small: 5 times faster than free pivots, whose fill-in is larger.
                options = {"SymmetricMode": True}
                factors.append(spla.splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options=options))
                scales.append(scale)
            except RuntimeError as error:
                raise _singular(where, str(error)) from error
        return Factors(self, factors, np.stack(scales))

    def _scale(self, matrix: sp.csc_matrix) -> NDArray[np.float64]:
        """Factors of the rows that make the one entry of a row of its own (a prescribed value) as large as its column."""
        scale = np.ones(self.size)
        if len(self._alone):
            sizes = np.abs(matrix.data)
            largest = np.zeros(self.size)
            filled = np.flatnonzero(np.diff(matrix.indptr))
            largest[filled] = np.maximum.reduceat(sizes, matrix.indptr[filled])
            own = np.abs(matrix.diagonal()[self._alone])
            scale[self._alone] = np.where(own > 0, largest[self._alone] / np.where(own > 0, own, 1.0), 1.0)
        return scale

    @cached_property
    def _band(self) -> _Band | None:
        """The same matrix with its entries near the diagonal, where the rows can be put in such an order, as on one axis they can."""
        one = sp.csr_matrix((np.ones(len(self.rows)), (self.rows, self.cols)), shape=(self.size, self.size))
        order = reverse_cuthill_mckee((one + one.T).tocsr(), symmetric_mode=True).astype(np.int64)
        place = np.empty(self.size, dtype=np.int64)
        place[order] = np.arange(self.size)
        rows, cols = place[self.rows], place[self.cols]
        width = int(np.abs(rows - cols).max())
        if width > _WIDEST:
            return None
        height = 3 * width + 1  # a band above for what the exchange of rows brings there
        return _Band(order, width, (2 * width + rows - cols) + cols * height, height)


@dataclass(frozen=True, eq=False)
class _Band:
    """Order of the rows, entries on each side of the diagonal, and the place of each entry in LAPACK's band, ``height`` for each column."""

    order: NDArray[np.int64]
    width: int
    places: NDArray[np.int64]
    height: int

    def factorize(self, entries: NDArray[np.float64], where: str) -> _BandLU:
        band = np.bincount(self.places, weights=entries, minlength=self.height * len(self.order)).reshape(-1, self.height).T
        factors, pivots, failed = dgbtrf(band, self.width, self.width, overwrite_ab=True)
        if failed > 0:
            raise _singular(where, f"a factor that is exactly singular, at pivot {failed} of {len(self.order)}")
        return _BandLU(self, factors, pivots)


@dataclass(frozen=True, eq=False)
class _BandLU:
    band: _Band
    factors: NDArray[np.float64]
    pivots: NDArray[np.int32]

    def solve(self, b: NDArray[np.float64], how: str) -> NDArray[np.float64]:
        """Solution for one right side; ``how`` is ``"N"`` or ``"T"`` for the transposed matrix, as in SuperLU."""
        width, order = self.band.width, self.band.order
        x = np.empty_like(b)
        x[order] = dgbtrs(self.factors, width, width, b[order], self.pivots, trans=int(how == "T"))[0]
        return x


def _singular(where: str, what: str) -> AnygridError:
    hint = "the equation has no unique solution: look at its boundary conditions and coefficients"
    return AnygridError(where, "a regular linear system", what, hint)


class Factors:
    """LU factors of a batch of matrices."""

    def __init__(self, pattern: Pattern, factors: list[spla.SuperLU | _BandLU], scales: NDArray[np.float64]) -> None:
        self.pattern, self._factors, self._scales = pattern, factors, scales

    def apply(self, b: Tensor, *, transposed: bool = False) -> Tensor:
        """Solution for right sides ``(batch, size)``, in their dtype and on their device, without derivatives; one matrix serves all."""
        right = b.detach().cpu().double().numpy()
        if not transposed:
            right = right * self._scales
        factors = self._factors * len(right) if len(self._factors) == 1 else self._factors
        x = np.stack([f.solve(r, "T" if transposed else "N") for f, r in zip(factors, right, strict=True)])
        if transposed:
            x *= self._scales
        return torch.from_numpy(x).to(b)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, b: Tensor, factors: Factors) -> Tensor:
        x = factors.apply(b)
        ctx.save_for_backward(x)
        ctx.factors = factors  # type: ignore[attr-defined]
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        factors: Factors = ctx.factors  # type: ignore[attr-defined]
        adjoint = factors.apply(gradients[0], transposed=True)
        entries = None
        if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            rows, cols = (torch.from_numpy(k).to(x.device) for k in (factors.pattern.rows, factors.pattern.cols))
            entries = -adjoint[:, rows] * x[:, cols]
        return entries, adjoint, None


def solve(values: Float[Tensor, "matrix entries"], b: Float[Tensor, "batch size"], factors: Factors) -> Float[Tensor, "batch size"]:
    r"""Solve :math:`A x = b` with the factors of ``values``.

    Differentiable once: :math:`\partial_b \to \lambda = A^{-T} g` and :math:`\partial_{A_{ij}} \to -\lambda_i x_j` for a gradient ``g``
    of the result. Pass ``values`` detached where the matrix is a constant.
    """
    if not (torch.is_grad_enabled() and (values.requires_grad or b.requires_grad)):
        return factors.apply(b)
    return _Solve.apply(values, b, factors)
