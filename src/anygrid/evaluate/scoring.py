"""Errors of one map on one set of cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.evaluate.result import Score, SpectrumCurve
from anygrid.fields import Variable
from anygrid.grid import Grid, Points
from anygrid.metrics.errors import Estimate, bias, estimate, largest, relative_h1, relative_l2, rmse, vrmse
from anygrid.metrics.spectra import band_errors, power_spectrum

__all__ = ["relative", "score", "spectrum_curves", "summarise"]

Metric = Callable[[Tensor, Tensor, Grid], Tensor]
_DIMENSIONLESS: dict[str, Metric] = {"relative_l2": relative_l2, "relative_h1": relative_h1, "vrmse": vrmse}
_WITH_UNITS: dict[str, Metric] = {"rmse": rmse, "bias": bias, "largest": largest}
_CHUNK_VALUES = 2_000_000


def relative(u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid) -> NDArray[np.float64]:
    """Relative L2 error of each sample, averaged over the channels."""
    return relative_l2(u, truth, grid).mean(1).numpy()


def score(
    name: str,
    role: str,
    u: Float[Tensor, "batch channel *space"],
    truth: Float[Tensor, "batch channel *space"],
    grid: Grid,
    *,
    computed_at: tuple[int, ...],
    variables: Sequence[Variable],
    labels: Float[Tensor, "batch channel *space"] | None = None,
) -> Score:
    """All errors of the outputs ``u``; H1 and bands are left out on scattered points, where they are not defined."""
    scattered = isinstance(grid, Points)
    metrics = {k: v for k, v in (_DIMENSIONLESS | _WITH_UNITS).items() if not (scattered and k == "relative_h1")}
    values = {key: _by_chunks(metric, u, truth, grid) for key, metric in metrics.items()}
    bands: dict[str, float | None] = {}
    if not scattered:
        for band, v in band_errors(u, truth, grid).items():
            mean = float(v.mean())
            bands[band] = mean if math.isfinite(mean) else None
    errors, each = summarise(values, variables)
    against = None if labels is None else estimate(relative(u, labels, grid))
    return Score(name, role, grid.shape, computed_at, errors, each, bands, against)


def summarise(
    values: Mapping[str, NDArray[np.float64]], variables: Sequence[Variable]
) -> tuple[dict[str, Estimate], dict[str, dict[str, Estimate]]]:
    """Means over samples of values ``(sample, channel)``: of those without units over all channels, and of all for each variable."""
    each = {variable.name: {key: estimate(v[:, c]) for key, v in values.items()} for c, variable in enumerate(variables)}
    return {key: estimate(v.mean(1)) for key, v in values.items() if key in _DIMENSIONLESS}, each


def _by_chunks(metric: Metric, u: Tensor, truth: Tensor, grid: Grid) -> NDArray[np.float64]:
    size = max(1, _CHUNK_VALUES // (grid.size * u.shape[1]))
    return torch.cat([metric(u[i : i + size], truth[i : i + size], grid) for i in range(0, len(u), size)]).numpy()


def spectrum_curves(
    name: str,
    u: Float[Tensor, "batch channel *space"],
    truth: Float[Tensor, "batch channel *space"] | None,
    grid: Grid,
    variables: Sequence[Variable],
) -> list[SpectrumCurve]:
    """Mean spectrum of each variable, and of its error where a truth is given; up to the last shell all axes resolve."""
    if isinstance(grid, Points) or not bool(torch.isfinite(u).all()):
        return []
    found = power_spectrum(u, grid)
    last = found.resolved + 1
    error = None if truth is None else power_spectrum(u - truth, grid).power.mean(0)
    power = found.power.mean(0)
    k = found.k[:last].tolist()
    return [
        SpectrumCurve(name, variable.name, grid.shape, k, power[c, :last].tolist(), [] if error is None else error[c, :last].tolist())
        for c, variable in enumerate(variables)
    ]
