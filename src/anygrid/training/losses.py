r"""The loss: a relative norm that is an integral over the domain.

.. math:: L(u, v) = \frac1B \sum_b \frac{\| (u_b - v_b) / s \|}{\max(\| v_b / s \|, \varepsilon)}, \qquad
          \| f \|^2 = \sum_{c,j} w_j \big( f_{c}(x_j)^2 + \lambda\, | \ell \nabla f_c(x_j) |^2 \big) \Big/ \sum_j w_j

with the quadrature weights :math:`w` of the grid, so that its value does not depend on the resolution, and the standard
deviation :math:`s` of each channel, so that channels of different units count alike. On a shard the sums run over ranks too, and every
rank has the loss of the whole; neighbouring ranks exchange one row for the gradient.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.collectives import sum_over_ranks, with_halo
from anygrid.errors import UsageError
from anygrid.grid import Axis, Box, Grid, Sphere, outer
from anygrid.metrics.probabilistic import pointwise_crps
from anygrid.shard import Shard, rows_of, whole_of

__all__ = ["RelativeNorm"]

_SMALLEST = 1e-3  # of the typical norm: a truth that vanishes must not make its sample's loss infinite


class RelativeNorm:
    r"""Relative L2 norm, or with ``gradient`` = :math:`\lambda > 0` relative Sobolev (H1) norm, averaged over samples.

    Parameters
    ----------
    scale
        Standard deviation of each channel, shape ``(channel,)``; a channel with 0 does not count.
    typical
        Root mean square of each channel over the training data, shape ``(channel,)``. A sample's norm enters the
        denominator as at least one thousandth of the typical one.
    gradient
        Weight :math:`\lambda` of the gradient, with lengths in units of :math:`\ell` = domain length / :math:`2\pi`
        (then the slowest periodic wave counts its gradient once); on a sphere :math:`\ell` = radius / :math:`\sqrt 2`, so that a
        harmonic of degree :math:`l` counts it :math:`l (l + 1) / 2` times. Differences between neighbours, second order; not on
        scattered points.
    """

    def __init__(self, scale: Float[Tensor, " channel"], typical: Float[Tensor, " channel"], gradient: float = 0.0) -> None:
        self.inverse = torch.where(scale > 0, 1 / scale.clamp_min(1e-300), torch.zeros_like(scale))
        self.floor = _SMALLEST * float((typical * self.inverse).square().sum().sqrt())
        self.gradient = gradient
        self._weights: dict[tuple[Grid, torch.device, torch.dtype, bool], tuple[Tensor, list[Tensor]]] = {}

    def weighted(self, gradient: float) -> RelativeNorm:
        """The same norm with another weight of the gradient."""
        other = copy.copy(self)
        other.gradient = gradient
        return other

    @property
    def plain(self) -> RelativeNorm:
        """The norm without the gradient: what a validation reports, whatever is trained on."""
        return self.weighted(0.0)

    def per_sample(
        self, u: Float[Tensor, "batch channel *space"], v: Float[Tensor, "batch channel *space"], grid: Grid
    ) -> Float[Tensor, " batch"]:
        """Relative norm of ``u - v`` for every sample."""
        inverse = self.inverse.to(device=v.device, dtype=v.dtype).view(1, -1, *(1,) * (v.ndim - 2))
        error, truth = self._squares([(u - v) * inverse, v * inverse], grid)
        # The square root has no slope at 0: an error of 1e-12 relative is as good as none in float32.
        return (error / truth.clamp_min(max(self.floor**2, 1e-30))).clamp_min(1e-24).sqrt()

    def by_channel(
        self, error: Float[Tensor, "batch channel *space"], u: Float[Tensor, "batch channel *space"], grid: Grid
    ) -> Float[Tensor, "batch channel"]:
        """Norm of each channel of an error, relative to the norm of the whole of ``u``."""
        inverse = self.inverse.to(device=u.device, dtype=u.dtype).view(1, -1, *(1,) * (u.ndim - 2))
        scaled = error * inverse
        whole, *each = self._squares([u * inverse, *scaled.split(1, 1)], grid)
        return (torch.stack(each, 1) / whole.clamp_min(max(self.floor**2, 1e-30))[:, None]).clamp_min(1e-24).sqrt()

    def __call__(self, u: Float[Tensor, "batch channel *space"], v: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, ""]:
        """Mean of :meth:`per_sample`."""
        return self.per_sample(u, v, grid).mean()

    def _squares(self, fields: list[Tensor], grid: Grid) -> tuple[Tensor, ...]:
        """Squared norms of some fields, ``(batch,)`` each; shards add them up in one message."""
        rows = rows_of(grid)
        squares = [self._square(f, grid) for f in fields]
        return tuple(squares) if rows is None else sum_over_ranks(torch.stack(squares), rows).unbind()

    def crps(
        self, x: Float[Tensor, "member batch channel *space"], v: Float[Tensor, "batch channel *space"], grid: Grid, alpha: float
    ) -> Float[Tensor, " batch"]:
        r"""Almost fair CRPS of draws (:func:`~anygrid.metrics.probabilistic.pointwise_crps`), averaged over channels and the domain.

        In standard deviations; and :math:`\sqrt\lambda` times the same of :math:`\ell \partial_i` of draws and truth for every axis, so
        that neighbouring points are drawn together. Whole grids only.
        """
        inverse = self.inverse.to(device=v.device, dtype=v.dtype).view(1, -1, *(1,) * (v.ndim - 2))
        members, fields = len(x), torch.cat([x, v[None]]).flatten(0, 1) * inverse
        weights, _ = self._on(grid, fields)

        def score(f: Tensor, weight: Tensor) -> Tensor:
            f = f.unflatten(0, (members + 1, len(v)))
            each = pointwise_crps(f[:-1], f[-1], alpha=alpha).to(weight)
            return (each * weight).flatten(1).sum(1) / v.shape[1]

        total = score(fields, weights)
        for difference, factor in self._differences(fields, grid):
            # The factor of a squared difference is (l / h)^2 times its part of the domain: that of an absolute one is its root.
            part = weights[tuple(slice(0, n) for n in factor.shape)]
            total = total + score(difference, (self.gradient * factor * part).sqrt())
        return total

    def _square(self, f: Tensor, grid: Grid) -> Tensor:
        total = (f.square() * self._on(grid, f)[0]).flatten(1).sum(1)
        for difference, factor in self._differences(f, grid):
            total = total + self.gradient * (difference.square() * factor).flatten(1).sum(1)
        return total

    def _differences(self, f: Tensor, grid: Grid) -> Iterator[tuple[Tensor, Tensor]]:
        """Differences between neighbours along each axis, and the weights of their squares; nothing without a gradient term."""
        for k, factor in enumerate(self._on(grid, f)[1]):
            if k == 0 and isinstance(grid, Shard):
                onward = with_halo(f, grid.rows, 0, 1, periodic=grid.domain[0].periodic)
                following = onward.narrow(2, 1, factor.shape[0])
            elif factor.shape[k] == f.shape[k + 2]:
                following = f.roll(-1, k + 2)
            else:
                following = f.narrow(k + 2, 1, f.shape[k + 2] - 1)
            yield following - f.narrow(k + 2, 0, factor.shape[k]), factor

    def _on(self, grid: Grid, f: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Weights of values, and of squared differences along each axis, that sum to 1; kept for the grids in use."""
        key = (grid, f.device, f.dtype, self.gradient > 0)
        if key not in self._weights:
            # Kept for steps with gradients even when validation asks first.
            with torch.inference_mode(False):
                self._weights[key] = self._make(grid, f)
        return self._weights[key]

    def _make(self, grid: Grid, f: Tensor) -> tuple[Tensor, list[Tensor]]:
        slopes = []
        if self.gradient > 0:
            whole = whole_of(grid)
            if not isinstance(whole, Box | Sphere):
                raise UsageError("gradient loss", "data on a Box or a Sphere", type(whole).__name__, "leave gradient at 0")
            rows = slice(grid.rows.start, grid.rows.stop) if isinstance(grid, Shard) else slice(None)
            volume = whole.weights().sum()
            each = _on_sphere(whole) if isinstance(whole, Sphere) else _on_box(whole)
            slopes = [outer([first[rows], *others]) / volume for first, *others in each]
        return grid.mean_weights().to(f), [slope.to(f) for slope in slopes]


def _on_box(grid: Box) -> list[list[NDArray[np.float64]]]:
    """Weights of squared differences between neighbours along each axis, as factors: area across times (l / h)^2 h."""
    out = []
    for k, axis in enumerate(grid.axes):
        factors = grid.factors()
        factors[k] = (axis.interval.length / (2 * math.pi)) ** 2 / _gaps(axis)
        out.append(factors)
    return out


def _on_sphere(grid: Sphere) -> list[list[NDArray[np.float64]]]:
    r"""The same for :math:`\frac12 \int (u_\varphi^2 \cos\varphi + u_\lambda^2 / \cos\varphi)\, d\varphi\, d\lambda`."""
    bands, widths = grid.factors()
    lat, ends = np.deg2rad(grid.lat.coordinates()), grid.lat.interval
    middle = 0.5 * (lat[1:] + lat[:-1])
    height = np.diff(np.deg2rad([ends.lower, *np.rad2deg(middle), ends.upper]))
    # The mean cosine of a band, its area over its height, is above 0 at a pole too.
    across = height * height / bands
    return [[np.cos(middle) / np.diff(lat) / 2, widths], [across / 2, 1 / np.deg2rad(_gaps(grid.lon))]]


def _gaps(axis: Axis) -> NDArray[np.float64]:
    x = axis.coordinates()
    gaps = np.diff(x)
    return np.append(gaps, x[0] + axis.interval.length - x[-1]) if axis.periodic else gaps
