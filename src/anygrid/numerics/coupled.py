"""Exponential time differencing where the linear part couples the unknowns of each mode: a small matrix instead of a number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anygrid.numerics.stepping import Nonlinear

__all__ = ["CoupledETDRK", "apply_matrix", "phi_functions"]


def phi_functions(matrix: Tensor, count: int) -> tuple[Tensor, ...]:
    r"""Matrix functions :math:`\varphi_0 = e^A`, :math:`\varphi_{j+1}(A) = A^{-1} (\varphi_j(A) - 1/j!)` up to ``count``.

    They stand in the first block row of the exponential of the block matrix with ``A`` in its corner and ones above its diagonal, so
    that singular ``A`` (the mean of a wave equation) needs no care. Errors are about ``|A|`` roundings.

    Source: Al-Mohy and Higham, SIAM J. Sci. Comput. 33 (2011) 488, theorem 2.1.

    Parameters
    ----------
    matrix
        ``(..., m, m)``, real or complex.
    """
    m = matrix.shape[-1]
    zeros = torch.zeros_like(matrix)
    one = torch.eye(m, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    rows = [torch.cat([matrix, *([one] if count else []), *[zeros] * (count - 1)], -1)]
    for j in range(1, count + 1):
        rows.append(torch.cat([one if k == j + 1 else zeros for k in range(count + 1)], -1))
    whole = torch.linalg.matrix_exp(torch.cat(rows, -2))
    return tuple(whole[..., :m, k * m : (k + 1) * m] for k in range(count + 1))


def apply_matrix(matrix: Tensor, u: Tensor) -> Tensor:
    """Product of each mode's matrix with its unknowns: ``(batch or 1, m, m, *modes)`` times ``(batch, m, *modes)``."""
    out = matrix[:, :, 0] * u[:, :1]
    for j in range(1, u.shape[1]):
        out = torch.addcmul(out, matrix[:, :, j], u[:, j : j + 1])
    return out


class CoupledETDRK:
    r"""ETDRK4 (order 4) or ETDRK2 (order 2) for ``du/dt = A u + N(u)`` with a matrix ``A`` for each mode.

    The formulas of :class:`~anygrid.numerics.stepping.ETDRK4` and :class:`~anygrid.numerics.stepping.ETDRK2` with
    :math:`Q = \tfrac h2 \varphi_1(\tfrac{Ah}2)`, :math:`f_1 = h(\varphi_1 - 3\varphi_2 + 4\varphi_3)`,
    :math:`2 f_2 = 2h(\varphi_2 - 2\varphi_3)`, :math:`f_3 = h(4\varphi_3 - \varphi_2)` at :math:`Ah`.

    Parameters
    ----------
    matrix
        ``(batch or 1, m, m, *modes)``, in float64 or complex128.
    nonlinear
        ``N`` on states ``(batch, m, *modes)``.
    dt
        Size of the step.
    order
        4 or 2.
    dtype
        Real dtype of the arithmetic.
    """

    def __init__(self, matrix: Tensor, nonlinear: Nonlinear, dt: float, order: int, dtype: torch.dtype) -> None:
        self.dt, self.nonlinear, self.order = dt, nonlinear, order
        a = matrix.movedim((1, 2), (-2, -1)) * dt
        parts = self._fourth(a, dt) if order == 4 else self._second(a, dt)
        self._real = not matrix.is_complex()
        kind = dtype if self._real else (torch.complex64 if dtype == torch.float32 else torch.complex128)
        coefficients = tuple(part.movedim((-2, -1), (1, 2)).contiguous().to(kind) for part in parts)
        # Real coefficients act on (re, im) pairs: mixed real-complex products are converted element by element.
        self._coefficients = tuple(c[..., None] for c in coefficients) if self._real else coefficients

    @staticmethod
    def _fourth(a: Tensor, h: float) -> tuple[Tensor, ...]:
        full, phi1, phi2, phi3 = phi_functions(a, 3)
        half, q = phi_functions(a / 2, 1)
        return full, half, h / 2 * q, h * (phi1 - 3 * phi2 + 4 * phi3), 2 * h * (phi2 - 2 * phi3), h * (4 * phi3 - phi2)

    @staticmethod
    def _second(a: Tensor, h: float) -> tuple[Tensor, ...]:
        full, phi1, phi2 = phi_functions(a, 2)
        return full, h * phi1, h * phi2

    def __call__(self, u: Tensor) -> Tensor:
        """State one step later."""
        if not self._real:
            return self._advance(u, self.nonlinear)
        return torch.view_as_complex(self._advance(torch.view_as_real(u), self._on_pairs))

    def _on_pairs(self, pairs: Tensor) -> Tensor:
        return torch.view_as_real(self.nonlinear(torch.view_as_complex(pairs)))

    def _advance(self, u: Tensor, tendency: Callable[[Tensor], Tensor]) -> Tensor:
        if self.order == 2:
            full, first, second = self._coefficients
            nu = tendency(u)
            a = apply_matrix(full, u) + apply_matrix(first, nu)
            return a + apply_matrix(second, tendency(a) - nu)
        full, half, q, f1, f2, f3 = self._coefficients
        nu = tendency(u)
        base = apply_matrix(half, u)
        a = base + apply_matrix(q, nu)
        na = tendency(a)
        nb = tendency(base + apply_matrix(q, na))
        nc = tendency(apply_matrix(half, a) + apply_matrix(q, 2 * nb - nu))
        return apply_matrix(full, u) + apply_matrix(f1, nu) + apply_matrix(f2, na + nb) + apply_matrix(f3, nc)
