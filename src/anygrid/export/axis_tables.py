r"""Matrices of one axis whose resolution is a variable of the graph: interpolation, and integration against a basis.

Along an axis of :math:`n` points the coordinate is :math:`s_j = p_j / q` in integers, :math:`j / n` or :math:`j / (n - 1)` on vertices,
:math:`(2j + 1) / 2n` on cells. Every angle is a multiple of such a fraction, reduced to one turn in int64 before it becomes a float: in
float32 :math:`\sin 2\pi k s` would otherwise lose as many digits as :math:`k` has. The number of points may be symbolic; divisors
are tensors, because exporters have no operator for a remainder by a symbolic number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anygrid.grid import Axis
from anygrid.numerics.bases import Basis

__all__ = ["Line", "basis_tables", "cardinal", "features", "hat", "spline", "spline_coefficients", "weights"]


@dataclass(frozen=True)
class Line:
    """What of an even axis does not depend on its resolution."""

    periodic: bool
    cells: bool

    @classmethod
    def of(cls, axis: Axis) -> Line:
        """The line that ``axis`` lies on."""
        return cls(axis.periodic, axis.placement == "cells")

    def places(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Numerators ``(n,)`` and denominator ``(1,)`` of the coordinates, for ``points = arange(n)``."""
        n = count(points)
        if self.cells:
            return 2 * points + 1, 2 * n
        return points, n if self.periodic else n - 1


def count(points: Tensor) -> Tensor:
    """Number of points as a tensor ``(1,)``."""
    return points[-1:] + 1


def _turn(numerator: Tensor, denominator: Tensor, dtype: torch.dtype) -> Tensor:
    """Angle ``2 pi numerator / denominator``, reduced to half a turn either way."""
    part = torch.remainder(2 * numerator + denominator, 2 * denominator) - denominator
    return math.pi * (part.to(dtype) / denominator.to(dtype))


def cardinal(line: Line, source: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Trigonometric interpolation ``(target, source)`` along a periodic axis.

    .. math:: \frac{\sin(n t / 2)}{n \tan(t / 2)} \text{ for even } n, \qquad \frac{\sin(n t / 2)}{n \sin(t / 2)} \text{ for odd } n,

    with :math:`t` the angle between the points and :math:`n` the number of sources.
    """
    (p, q), (r, s) = line.places(target), line.places(source)
    n = count(source)
    numerator, denominator = p[:, None] * s - r * q, q * s
    # Reduced to [-1/2, 1/2) of a turn, which keeps the sign of sin(t / 2) and of n t / 2 together.
    part = torch.remainder(2 * numerator + denominator, 2 * denominator) - denominator
    t_half = (math.pi / 2) * (part.to(dtype) / denominator.to(dtype))
    above = torch.sin(_turn(part * n, 4 * denominator, dtype))
    same = part == 0
    t_half = torch.where(same, torch.ones_like(t_half), t_half)
    below = torch.where(torch.remainder(n, 2) == 0, torch.tan(t_half), torch.sin(t_half)) * n.to(dtype)
    return torch.where(same, torch.ones_like(above), above / below)


def _index(line: Line, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Target points in units of the source's spacing, held between its ends: numerators and denominator, integers."""
    p, q = line.places(target)
    n = count(source)
    # s = (j + 1/2) / n on cells, j / (n - 1) on vertices; twice the denominator makes both whole.
    numerator, denominator = (2 * p * n - q, 2 * q) if line.cells else (2 * p * (n - 1), 2 * q)
    return torch.minimum(numerator.clamp(min=0), (n - 1) * denominator), denominator


def _distance(line: Line, source: Tensor, target: Tensor, at: Tensor, dtype: torch.dtype) -> Tensor:
    numerator, denominator = _index(line, source, target)
    return ((numerator[:, None] - at * denominator).to(dtype) / denominator.to(dtype)).abs()


def hat(line: Line, source: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    """Piecewise linear interpolation ``(target, source)`` along a bounded axis."""
    return torch.relu(1 - _distance(line, source, target, source, dtype))


def spline(line: Line, source: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Cubic B-splines ``(target, source + 2)`` along a bounded axis, for the coefficients of :func:`spline_coefficients`.

    .. math:: B(t) = \tfrac16 \big[(2 - |t|)_+^3 - 4 (1 - |t|)_+^3\big]
    """
    at = torch.cat([source - 1, source[-1:], source[-1:] + 1])
    t = _distance(line, source, target, at, dtype)
    return (torch.relu(2 - t) ** 3 - 4 * torch.relu(1 - t) ** 3) / 6


def spline_coefficients(n: int) -> NDArray[np.float64]:
    """Matrix ``(n + 2, n)`` from values at even points to coefficients of the not-a-knot cubic spline through them (de Boor, ch. IV, XIII).

    The not-a-knot condition at the second and the last but one point is that the fourth difference of the coefficients vanishes there.
    """
    rows = np.zeros((n + 2, n + 2))
    for j in range(n):
        rows[j + 1, j : j + 3] = np.array([1, 4, 1]) / 6
    # The third derivative on a span is the third difference of four coefficients; equal on two spans: the fourth difference is 0.
    fourth = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
    rows[0, :5], rows[-1, -5:] = fourth, fourth
    values = np.zeros((n + 2, n))
    values[1:-1] = np.eye(n)
    return np.asarray(np.linalg.solve(rows, values), dtype=np.float64)


def basis_tables(basis: Basis, line: Line, points: Tensor, waves: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Real and imaginary part ``(points, modes)`` of the basis functions; no imaginary part where they are real."""
    p, q = line.places(points)
    if basis.family == "fourier":
        period = 1 + Fraction(basis.padding).limit_denominator(10**6)
        angle = _turn(p[:, None] * waves * period.denominator, q * period.numerator, dtype)
        return torch.cos(angle), torch.sin(angle)
    angle = _turn(p[:, None] * waves, 2 * q, dtype)
    if basis.family == "sine":
        return math.sqrt(2) * torch.sin(angle), None
    return torch.cos(angle) * torch.where(waves == 0, 1.0, math.sqrt(2)).to(dtype), None


def weights(line: Line, points: Tensor, dtype: torch.dtype) -> Tensor:
    """Quadrature weights ``(points,)``, as parts of the interval's length."""
    n = count(points)
    if line.periodic or line.cells:
        return (torch.ones_like(points).to(dtype)) / n.to(dtype)
    inside = torch.logical_and(points > 0, points < n - 1)
    return torch.where(inside, 1.0, 0.5).to(dtype) / (n - 1).to(dtype)


def features(line: Line, points: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Functions of position as in :func:`anygrid.operators.layers.coordinate_features` with one harmonic."""
    p, q = line.places(points)
    if line.periodic:
        angle = _turn(p, q, dtype)
        return [torch.cos(angle), torch.sin(angle)]
    return [(2 * p - q).to(dtype) / q.to(dtype)]
