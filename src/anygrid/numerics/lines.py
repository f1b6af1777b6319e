r"""Differences and means along one evenly spaced axis, at its vertices and half way between, with normal derivatives as data.

An operator maps values on the ``n`` vertices of an axis to ``m`` places and is affine: where the derivative along the outward
normal is given at an end, it enters with a weight of its own. Places are the vertices, or the *faces*: half way between
neighbours and, on a bounded axis, the two end vertices, so that the fluxes through them close the half cells there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import GridError
from anygrid.grid import Axis
from anygrid.numerics.differentiation import fornberg

__all__ = ["LineOperator", "at_faces", "at_vertices", "check_even", "face_coordinates", "flux_difference"]

Array = NDArray[np.float64]
Given = tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class LineOperator:
    """``v_i = sum_j weights[i, j] u[index[i, j]] + ends[i, 0] g_lower + ends[i, 1] g_upper``.

    ``g`` are derivatives along the outward normal, ``points`` the number of values ``u``.
    """

    index: NDArray[np.int64]
    weights: Array
    ends: Array
    points: int

    @property
    def places(self) -> int:
        """Number of results."""
        return len(self.index)

    def __call__(self, u: Tensor, dim: int) -> Tensor:
        """Linear part along dimension ``dim``; differentiable."""
        index, weights = (part.to(u.device) for part in self._tensors)
        terms = u.index_select(dim, index).unflatten(dim, (self.places, -1))
        return (terms * weights.to(u.dtype).reshape(*weights.shape, *[1] * (u.ndim - 1 - dim))).sum(dim + 1)

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.index.reshape(-1)), torch.from_numpy(self.weights)

    def offset(self, lower: Tensor | None, upper: Tensor | None, dim: int) -> Tensor | None:
        """Contribution of the data, whose dimension ``dim`` has one entry; ``None`` without any."""
        total: Tensor | None = None
        for k, data in enumerate((lower, upper)):
            if data is not None:
                shape = [1] * data.ndim
                shape[dim] = -1
                part = torch.from_numpy(self.ends[:, k]).to(data).reshape(shape) * data
                total = part if total is None else total + part
        return total

    def matrix(self) -> sp.csr_array:
        """Linear part as a sparse matrix ``(places, points)``."""
        rows = np.repeat(np.arange(self.places), self.index.shape[1])
        keep = self.weights.ravel() != 0
        entries = (self.weights.ravel()[keep], (rows[keep], self.index.ravel()[keep]))
        return sp.coo_array(entries, shape=(self.places, self.points)).tocsr()


def check_even(axis: Axis, where: str, least: int = 4) -> None:
    """Refuse an axis that is uneven, bounded without its ends, or too short.

    Raises
    ------
    GridError
        Naming the axis.
    """
    good = axis.uniform if axis.periodic else axis.placement == "vertices"
    if not good or axis.size < least:
        wanted = f"axis {axis.name!r} evenly spaced{'' if axis.periodic else ', both ends included'}, with {least} or more points"
        raise GridError(where, wanted, f"{axis.size} {axis.placement}", "use the equation's own grid(resolution), or a finer one")


def face_coordinates(axis: Axis) -> Array:
    """Coordinates of the faces: ``n`` on a periodic axis (the last one beyond the last vertex), ``n + 1`` on a bounded one."""
    x, h = axis.coordinates(), _spacing(axis)
    return x + 0.5 * h if axis.periodic else np.concatenate([x[:1], x[:-1] + 0.5 * h, x[-1:]])


@lru_cache(maxsize=256)
def at_vertices(axis: Axis, derivative: int, order: int = 2, given: Given = (False, False)) -> LineOperator:
    """Derivative at the vertices by centred differences of even ``order``.

    Near the end of a bounded axis differences are one-sided, of the same order; where the normal derivative is ``given`` there, it
    is one of the data. With ``order=2`` the second derivative at such an end balances the half cell instead,
    ``2 (u_1 - u_0) / h^2 + 2 g / h``: truncation of first order at this one point, a conservative scheme, and a solution of second order.
    """
    n, h = axis.size, _spacing(axis)
    if derivative == 0:
        return LineOperator(np.arange(n)[:, None], np.ones((n, 1)), np.zeros((n, 2)), n)
    reach = (derivative + order - 1) // 2
    wide = max(2 * reach + 1, derivative + order)
    if n < wide:
        raise GridError("differences", f"{wide} or more points along {axis.name!r}", f"{n}", "use a finer grid")
    index = np.repeat(np.arange(n)[:, None], wide, axis=1)
    weights, ends = np.zeros((n, wide)), np.zeros((n, 2))
    offsets = np.arange(-reach, reach + 1)
    centred = fornberg(np.zeros(1), offsets[None].astype(np.float64), derivative)[0] / h**derivative
    centred[np.abs(centred) < 1e-12 * np.abs(centred).max()] = 0.0
    inside = np.arange(n) if axis.periodic else np.arange(reach, n - reach)
    index[inside, : 2 * reach + 1] = (inside[:, None] + offsets) % n
    weights[inside, : 2 * reach + 1] = centred
    for row in [] if axis.periodic else range(reach):
        for end, has in enumerate(given):
            place = n - 1 - row if end else row
            if has and order == 2 and derivative == 2:
                index[place, :2] = [n - 1, n - 2] if end else [0, 1]
                weights[place, :2], ends[place, end] = np.array([-2.0, 2.0]) / h**2, 2.0 / h
                continue
            nodes = np.arange(derivative + order - has)
            w, g = _closure(nodes - row, -row if has else None, derivative)
            # The upper end is the lower one mirrored: odd derivatives change sign, the outward normal derivative does not.
            sign = (-1.0) ** derivative if end else 1.0
            index[place, : len(nodes)] = n - 1 - nodes if end else nodes
            weights[place, : len(nodes)] = sign * w / h**derivative
            ends[place, end] = -sign * g / h ** (derivative - 1)
    used = weights.any(0)
    return LineOperator(index[:, used], weights[:, used], ends, n)


def _closure(nodes: NDArray[np.int64], slope_at: int | None, derivative: int) -> tuple[Array, float]:
    """Weights of values at integer ``nodes``, and of the slope at ``slope_at``, that give a derivative at 0 exactly for polynomials."""
    count = len(nodes) + (slope_at is not None)
    powers = range(count)
    rows = [nodes.astype(np.float64) ** q for q in powers]
    if slope_at is not None:
        rows = [np.append(row, q * float(slope_at) ** max(q - 1, 0)) for q, row in zip(powers, rows, strict=True)]
    right = np.zeros(count)
    right[derivative] = float(np.prod(np.arange(1, derivative + 1)))
    w: Array = np.linalg.solve(np.stack(rows), right).astype(np.float64)
    w[np.abs(w) < 1e-13 * np.abs(w).max()] = 0.0
    return (w, 0.0) if slope_at is None else (w[:-1], float(w[-1]))


@lru_cache(maxsize=256)
def at_faces(axis: Axis, derivative: int, given: Given = (False, False)) -> LineOperator:
    """Mean of the two neighbours (``derivative=0``) or their compact difference (1) at the faces, of second order.

    At the end vertices of a bounded axis: the value itself, and the given normal derivative or a one-sided difference.
    """
    n, h = axis.size, _spacing(axis)
    pair = np.array([0.5, 0.5]) if derivative == 0 else np.array([-1.0, 1.0]) / h
    if axis.periodic:
        first = np.arange(n)
        index = np.stack([first, (first + 1) % n], axis=1)
        return LineOperator(index, np.repeat(pair[None], n, axis=0), np.zeros((n, 2)), n)
    index = np.zeros((n + 1, 3), dtype=np.int64)
    weights, ends = np.zeros((n + 1, 3)), np.zeros((n + 1, 2))
    index[1:n, :2] = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    weights[1:n, :2] = pair
    for end, row in enumerate((0, n)):
        sign = 1.0 if end else -1.0
        index[row] = n - 1 - np.arange(3) if end else np.arange(3)
        if derivative == 0:
            weights[row, 0] = 1.0
        elif given[end]:
            ends[row, end] = sign
        else:
            weights[row] = sign * np.array([1.5, -2.0, 0.5]) / h
    return LineOperator(index, weights, ends, n)


@lru_cache(maxsize=256)
def flux_difference(axis: Axis) -> LineOperator:
    """Difference of the fluxes through the two faces of each vertex's cell over its width (half a spacing at a bounded end)."""
    n, h = axis.size, _spacing(axis)
    place = np.arange(n)
    if axis.periodic:
        index = np.stack([(place - 1) % n, place], axis=1)
        return LineOperator(index, np.tile([-1 / h, 1 / h], (n, 1)), np.zeros((n, 2)), n)
    widths = np.full(n, h)
    widths[[0, -1]] = 0.5 * h
    index = np.stack([place, place + 1], axis=1)
    return LineOperator(index, np.stack([-1 / widths, 1 / widths], axis=1), np.zeros((n, 2)), n + 1)


def _spacing(axis: Axis) -> float:
    return axis.interval.length / (axis.size if axis.periodic or axis.placement == "cells" else axis.size - 1)
