"""Ensemble model output statistics: a normal distribution out of mean and variance of an ensemble, by least CRPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from anygrid.errors import DataError
from anygrid.grid import Grid
from anygrid.metrics.probabilistic import gaussian_crps

__all__ = ["Emos", "fit_emos"]

_MOST = 100_000  # pairs of forecast and truth in a fit; four numbers need no more
_LEAST = 20


@dataclass(frozen=True, eq=False)
class Emos:
    r"""Coefficients of :math:`N(a + b\,\bar x,\; c + d\,s^2)` for each lead and channel."""

    a: Float[Tensor, "lead channel"]
    b: Float[Tensor, "lead channel"]
    c: Float[Tensor, "lead channel"]
    d: Float[Tensor, "lead channel"]

    def distribution(
        self, mean: Float[Tensor, "case lead channel *space"], variance: Float[Tensor, "case lead channel *space"]
    ) -> tuple[Float[Tensor, "case lead channel *space"], Float[Tensor, "case lead channel *space"]]:
        """Mean and standard deviation of the calibrated forecast."""
        a, b, c, d = (k.reshape(*k.shape, *[1] * (mean.ndim - 3)) for k in (self.a, self.b, self.c, self.d))
        return a + b * mean.double(), (c + d * variance.double()).clamp(min=0).sqrt()

    def members(self, x: Float[Tensor, "member case lead channel *space"]) -> Float[Tensor, "member case lead channel *space"]:
        r"""Members shifted and stretched to the calibrated mean and spread, :math:`\mu + \sigma (x_i - \bar x) / s`.

        Each point keeps the ranks of its members, so that fields stay coherent in space and between variables.
        """
        mean, deviation = x.double().mean(0), x.double().std(0)
        mu, sigma = self.distribution(mean, deviation**2)
        return mu + torch.where(deviation > 0, sigma / deviation.clamp(min=1e-300), 0.0) * (x.double() - mean)


def fit_emos(
    mean: Float[Tensor, "case lead channel *space"],
    variance: Float[Tensor, "case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    grid: Grid,
    *,
    seed: int = 0,
) -> Emos:
    r"""Coefficients of least area-weighted CRPS over validation cases, :math:`c, d \ge 0`, one set for each lead and channel.

    The same coefficients hold at all points. Give validation cases alone: neither those the forecast was trained on nor those it is to be
    verified on. More than 100,000 pairs are thinned at random. Minimised by L-BFGS in standardised variables, with
    :math:`c = \gamma^2, d = \delta^2`. Source: Gneiting, Raftery, Westveld and Goldman (2005), Monthly Weather Review 133, 1098.

    Raises
    ------
    DataError
        For fewer than 20 pairs, or values that are not finite.
    """
    rows = [torch.empty(mean.shape[1:3], dtype=torch.float64) for _ in range(4)]
    weights = grid.mean_weights().double().expand(len(mean), *grid.shape).flatten()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(weights.numel(), generator=generator)[:_MOST]
    for lead in range(mean.shape[1]):
        for channel in range(mean.shape[2]):
            m, v, y = (f[:, lead, channel].double().flatten()[chosen] for f in (mean, variance, truth))
            known = torch.isfinite(m) & torch.isfinite(v) & torch.isfinite(y)
            if int(known.sum()) < _LEAST:
                hint = "give more validation cases"
                raise DataError("fit_emos", f"at least {_LEAST} finite pairs of forecast and truth", str(int(known.sum())), hint)
            for row, value in zip(rows, _one(m[known], v[known], y[known], weights[chosen][known]), strict=True):
                row[lead, channel] = value
    return Emos(*rows)


def _one(m: Tensor, v: Tensor, y: Tensor, w: Tensor) -> tuple[float, float, float, float]:
    """Fit of one lead and channel."""
    centre, size = float((w * m).sum() / w.sum()), float(m.std()) or 1.0
    noise = float((y - m).std()) or size
    x, spread, target, w = (m - centre) / size, v / noise**2, (y - centre) / noise, w / w.sum()

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        t = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        deviation = (t[2] ** 2 + t[3] ** 2 * spread + 1e-12).sqrt()
        value = (w * gaussian_crps(t[0] + t[1] * x, deviation, target)).sum()
        value.backward()
        assert t.grad is not None
        return float(value.detach()), t.grad.numpy()

    # From the raw ensemble, half its spread made up by a constant: a start at 0 would never leave it.
    start = np.array([0.0, size / noise, 0.5, 0.7])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-9}).x
    b = found[1] * noise / size
    return centre + found[0] * noise - b * centre, b, float(found[2] ** 2 * noise**2), float(found[3] ** 2)
