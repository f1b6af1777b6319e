r"""The matrices of a spectral layer on a grid of symbolic resolution: those of :mod:`anygrid.operators.transforms`, made of tensors.

.. math:: \hat u_k = \sum_j w_j\, \overline{\phi_k(x_j)}\, u(x_j), \qquad v(x_j) = \operatorname{Re} \sum_k \phi_k(x_j)\, \hat v_k
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from anygrid.export.axis_tables import Line, basis_tables, count, weights
from anygrid.numerics.bases import Basis
from anygrid.operators.transforms import half_axis

__all__ = ["analysis_matrices", "synthesis_matrices"]


def _waves(basis: Basis, half: bool, device: torch.device) -> Tensor:
    if basis.family == "sine":
        return torch.arange(1, basis.count + 1, device=device)
    if basis.family == "cosine" or half:
        return torch.arange(0, basis.highest + 1, device=device)
    return torch.arange(-(basis.count // 2), (basis.count - 1) // 2 + 1, device=device)


def _pair(real: Tensor, imag: Tensor, order: tuple[int, int, int, int]) -> Tensor:
    """A complex matrix as a real one on pairs; ``order`` places (part out, part in, out, in)."""
    block = torch.stack([torch.stack([real, -imag]), torch.stack([imag, real])]).permute(order)
    return block.reshape(block.shape[0] * block.shape[1], block.shape[2] * block.shape[3])


def _at_nyquist(basis: Basis, waves: Tensor, points: Tensor) -> Tensor:
    """Which kept wave numbers are the last one that the points resolve."""
    return torch.logical_and(waves.abs() == basis.highest, count(points) == 2 * basis.highest)


def analysis_matrices(bases: Sequence[Basis], lines: Sequence[Line], points: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """One matrix for each axis, from its values to coefficients."""
    half, out = half_axis(bases), []
    for k, (basis, line, own) in enumerate(zip(bases, lines, points, strict=True)):
        waves = _waves(basis, k == half, own.device)
        real, imag = basis_tables(basis, line, own, waves, dtype)
        share = float(1 / (1 + Fraction(basis.padding).limit_denominator(10**6)))
        scale = (weights(line, own, dtype) * share)[:, None]
        if basis.family == "fourier" and basis.padding == 0 and k != half and basis.count % 2 == 1:
            # exp(ikx) and exp(-ikx) are one function there: half each.
            scale = scale * torch.where(_at_nyquist(basis, waves, own), 0.5, 1.0).to(dtype)
        real = (real * scale).mT
        conjugate = torch.zeros_like(real) if imag is None else -(imag * scale).mT
        if half is None or k > half:
            out.append(real)
        elif k == half:
            out.append(torch.cat([real, conjugate]))
        else:
            out.append(_pair(real, conjugate, (0, 2, 3, 1)))
    return out


def synthesis_matrices(bases: Sequence[Basis], lines: Sequence[Line], points: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """One matrix for each axis, from coefficients to values."""
    half, out = half_axis(bases), []
    for k, (basis, line, own) in enumerate(zip(bases, lines, points, strict=True)):
        waves = _waves(basis, k == half, own.device)
        real, imag = basis_tables(basis, line, own, waves, dtype)
        imag = torch.zeros_like(real) if imag is None else imag
        if half is None or k > half:
            out.append(real)
        elif k == half:
            # A wave number of a real field stands for its conjugate too, but at 0 and Nyquist.
            once = waves == 0
            if basis.padding == 0:
                once = torch.logical_or(once, _at_nyquist(basis, waves, own))
            times = torch.where(once, 1.0, 2.0).to(dtype)
            out.append(torch.cat([real * times, -imag * times], 1))
        else:
            out.append(_pair(real, imag, (2, 0, 1, 3)))
    return out
