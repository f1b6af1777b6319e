"""Derivatives of sampled fields: spectral where the axis is even and periodic, finite differences elsewhere."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Grid, Points, Sphere

__all__ = ["differentiate", "fornberg", "gradient", "stencils"]

_ORDER = 4  # of the finite differences used by `gradient`


def gradient(u: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, "batch channel d *space"]:
    r"""First derivative along every axis, ``grad_k u = du/dx_k``.

    Evenly spaced periodic axes: Fourier, exact for every resolved mode but Nyquist (whose derivative vanishes at the points).
    All other axes: finite differences of order 4, one-sided near the ends of a bounded axis, lower order if the axis has fewer than 5
    points. On a :class:`Sphere` (coordinates in degrees) the components are those of the surface gradient of the unit
    sphere, :math:`\partial_\phi u` and :math:`(\cos\phi)^{-1} \partial_\lambda u` with angles in radians; at a pole,
    where the second has no meaning, it is 0.

    Returns
    -------
    Tensor
        Field units per coordinate unit (per radian on a sphere), in the dtype of ``u``.

    Raises
    ------
    GridError
        For scattered points, or if ``u`` does not have the shape of ``grid``.
    """
    if isinstance(grid, Points):
        raise GridError(
            "gradient", "a Box or a Sphere", "scattered Points", "interpolate to a Box first: derivatives need neighbours along an axis"
        )
    axes = _axes(grid)
    parts = [differentiate(u, grid, k) for k in range(len(axes))]
    if isinstance(grid, Sphere):
        cosine = np.cos(np.deg2rad(grid.lat.coordinates()))
        inverse = np.divide(1.0, cosine, out=np.zeros_like(cosine), where=np.abs(cosine) > 1e-9)
        per_radian = 180 / math.pi
        parts = [parts[0] * per_radian, parts[1] * torch.from_numpy(per_radian * inverse).to(u)[:, None]]
    return torch.stack(parts, dim=2)


def differentiate(u: Float[Tensor, "batch channel *space"], grid: Grid, axis: int, order: int = 1) -> Float[Tensor, "batch channel *space"]:
    """Derivative of the given ``order`` along one axis of a Box or Sphere, per coordinate unit to that power.

    Method and accuracy are those of :func:`gradient`; the finite-difference stencil has ``4 + order`` points.

    Raises
    ------
    GridError
        For scattered points, an axis that is not there, or if ``u`` does not have the shape of ``grid``.
    """
    axes = _axes(grid)
    if tuple(u.shape[2:]) != grid.shape:
        raise GridError("differentiate", f"a field of shape (batch, channel, {', '.join(map(str, grid.shape))})", str(tuple(u.shape)))
    if not 0 <= axis < len(axes):
        raise GridError("differentiate", f"an axis from 0 to {len(axes) - 1}", f"{axis}")
    if axes[axis].periodic and axes[axis].uniform:
        return _spectral(u, axes[axis], axis + 2, order)
    index, weights = stencils(axes[axis], order)
    shape = [-1 if k == axis else 1 for k in range(len(axes))]
    places, factors = torch.from_numpy(index).to(u.device), torch.from_numpy(weights).to(u)
    terms = (factors[:, j].reshape(shape) * u.index_select(axis + 2, places[:, j]) for j in range(index.shape[1]))
    return sum(terms, torch.zeros_like(u))


@lru_cache(maxsize=64)
def stencils(axis: Axis, derivative: int = 1, order: int = _ORDER) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Finite differences at every point of an axis, even or uneven, bounded (one-sided at the ends) or periodic (wrapped).

    Each stencil has ``derivative + order`` points, as central as the ends allow; an axis with fewer points uses all it has, at
    lower order.

    Returns
    -------
    tuple
        Indices of the points and their weights, both ``(size, width)``: ``du[i] = sum_j weights[i, j] u[index[i, j]]``.

    Raises
    ------
    UsageError
        If the axis has too few points for the derivative.
    """
    x, n = axis.coordinates(), axis.size
    width = min(derivative + order, n)
    if width <= derivative:
        raise UsageError("stencils", f"more than {derivative} points along {axis.name!r}", f"{n}", "use a finer grid")
    first = np.arange(n) - width // 2
    if not axis.periodic:
        first = first.clip(0, n - width)
    index = first[:, None] + np.arange(width)
    places = x[index % n] + axis.interval.length * (index // n)
    return index % n, fornberg(x, places, derivative)


def fornberg(x0: NDArray[np.float64], nodes: NDArray[np.float64], derivative: int) -> NDArray[np.float64]:
    """Weights ``w`` with ``f^(m)(x0) ~ sum_j w_j f(nodes_j)``, exact for polynomials of degree below the number of nodes.

    ``x0`` has shape ``(points,)``, ``nodes`` and the result ``(points, width)``. The error is of order ``width - m`` in the spacing.
    Source: Fornberg, SIAM Review 40 (1998) 685, algorithm "weights".
    """
    points, n = nodes.shape
    w = np.zeros((points, n, derivative + 1))
    w[:, 0, 0] = 1.0
    c1, c4 = np.ones(points), nodes[:, 0] - x0
    for i in range(1, n):
        top = min(i, derivative)
        c2, c5, c4 = np.ones(points), c4, nodes[:, i] - x0
        for j in range(i):
            c3 = nodes[:, i] - nodes[:, j]
            c2 = c2 * c3
            if j == i - 1:
                for k in range(top, 0, -1):
                    w[:, i, k] = c1 * (k * w[:, i - 1, k - 1] - c5 * w[:, i - 1, k]) / c2
                w[:, i, 0] = -c1 * c5 * w[:, i - 1, 0] / c2
            for k in range(top, 0, -1):
                w[:, j, k] = (c4 * w[:, j, k] - k * w[:, j, k - 1]) / c3
            w[:, j, 0] = c4 * w[:, j, 0] / c3
        c1 = c2
    return w[:, :, derivative]


def _axes(grid: Grid) -> tuple[Axis, ...]:
    axes = getattr(grid, "axes", None)
    if axes is None:
        raise GridError(
            "differentiate",
            "a Box or a Sphere",
            type(grid).__name__,
            "interpolate to a Box first: derivatives need neighbours along an axis",
        )
    return tuple(axes)


def _spectral(u: Tensor, axis: Axis, dim: int, order: int) -> Tensor:
    n = axis.size
    modes = torch.fft.rfftfreq(n, 1 / n, dtype=torch.float64)
    multiplier = (1j * modes * (2 * math.pi / axis.interval.length)) ** order
    if order % 2 and n % 2 == 0:
        multiplier[-1] = 0  # the Nyquist mode is a cosine whose odd derivatives vanish at the points
    shape = [1] * u.ndim
    shape[dim] = -1
    pair = torch.complex128 if u.dtype == torch.float64 else torch.complex64
    u_hat = torch.fft.rfft(u, dim=dim) * multiplier.to(u.device, pair).reshape(shape)
    return torch.fft.irfft(u_hat, n=n, dim=dim)
