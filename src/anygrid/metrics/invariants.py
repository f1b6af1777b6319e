r"""Invariant statistics: what long runs of a chaotic flow have in common when no forecast holds any more.

Trajectories are ``(batch, time, channel, *space)``. A statistic is a table with one row for each trajectory (or block of one, see
:func:`in_blocks`), so that its mean over rows is the statistic of them all, and two disjoint halves of the rows tell its
noise (:func:`against_noise`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.collectives import sum_over_ranks
from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.metrics.spectra import power_spectrum
from anygrid.numerics.differentiation import gradient
from anygrid.shard import rows_of

__all__ = [
    "AgainstNoise",
    "Measures",
    "against_noise",
    "autocovariance",
    "compare",
    "correlation_distance",
    "in_blocks",
    "invariants",
    "measures_of",
    "pdf",
    "pdf_distance",
    "pdf_edges",
    "slope",
    "spectrum_distance",
    "time_mean_spectrum",
]

_CHUNK = 1 << 22  # values looked at in one go


def in_blocks(u: Float[Tensor, "batch time channel *space"], blocks: int) -> Float[Tensor, "rows part channel *space"]:
    """Every trajectory cut in time into ``blocks`` equal parts (the rest at its end is left out), which become rows."""
    part = u.shape[1] // blocks
    if blocks < 1 or part < 2:
        raise UsageError("in_blocks", f"1 to {u.shape[1] // 2} blocks of {u.shape[1]} times", str(blocks))
    return u[:, : part * blocks].reshape(u.shape[0] * blocks, part, *u.shape[2:])


def time_mean_spectrum(u: Float[Tensor, "batch time channel *space"], grid: Grid) -> Float[Tensor, "batch channel k"]:
    r"""Time mean of the power in each resolved shell of wave number; see :func:`anygrid.metrics.spectra.power_spectrum`."""
    size = max(1, _CHUNK // max(1, u[0, 0].numel()))
    rows = []
    for trajectory in u:
        found = [power_spectrum(part, grid) for part in trajectory.split(size)]
        rows.append(torch.cat([s.power for s in found]).mean(0)[:, : found[0].resolved + 1])
    return torch.stack(rows)


def spectrum_distance(p: Float[Tensor, "channel k"], q: Float[Tensor, "channel k"], *, floor: float = 1e-6) -> float:
    r"""Root mean square over shells of :math:`\ln E_p(k) / E_q(k)`: 0.1 is a tenth of the power of each shell.

    Shells below ``floor`` of the largest of ``q`` do not count: float32 knows no more of them.
    """
    total = []
    for one, two in zip(p.double(), q.double(), strict=True):
        shown = two > floor * two.max()
        total.append((one[shown].clamp_min(1e-300) / two[shown]).log().square().mean().sqrt())
    return float(torch.stack(total).mean())


def slope(u: Float[Tensor, "batch time channel *space"], grid: Grid) -> Float[Tensor, "batch time channel *space"]:
    """Derivative along the first coordinate."""
    return torch.stack([gradient(trajectory, grid)[:, :, 0] for trajectory in u])


def pdf_edges(reference: Float[Tensor, "batch time channel *space"], bins: int = 400) -> Float[Tensor, "channel edge"]:
    """Even edges of bins for :func:`pdf`: the range of the reference, and half as much beyond at either end."""
    flat = reference.transpose(0, 2).flatten(1).double()
    low, high = flat.amin(1), flat.amax(1)
    reach = (high - low).clamp_min(1e-300) / 2
    return torch.stack(
        [torch.linspace(float(a - r), float(b + r), bins + 1, dtype=torch.float64) for a, b, r in zip(low, high, reach, strict=True)]
    )


def pdf(
    u: Float[Tensor, "batch time channel *space"], edges: Float[Tensor, "channel edge"], grid: Grid
) -> Float[Tensor, "batch channel bin"]:
    """Probability of each bin under the area of the grid; the outermost bins hold what lies beyond the edges."""
    weights = grid.mean_weights().double().flatten()
    rows = torch.zeros(u.shape[0], u.shape[2], edges.shape[1] - 1, dtype=torch.float64)
    for row, trajectory in enumerate(u):
        for c, edge in enumerate(edges):
            x = trajectory[:, c].flatten(1).double()
            place = ((x - edge[0]) / (edge[1] - edge[0])).nan_to_num(nan=math.inf).clamp(0, rows.shape[2] - 1).long()
            rows[row, c].index_add_(0, place.flatten(), weights.expand_as(x).flatten() / len(x))
    return sum_over_ranks(rows, rows_of(grid))


def pdf_distance(p: Float[Tensor, "channel bin"], q: Float[Tensor, "channel bin"], edges: Float[Tensor, "channel edge"]) -> float:
    r"""1-Wasserstein distance :math:`\int |F_p - F_q| \, dx` in standard deviations of ``q``, averaged over channels.

    Not total variation: that of two samples depends on the width of the bins and does not feel how far a value is off.
    """
    width = edges[:, 1] - edges[:, 0]
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    mean = (q * middle).sum(1, keepdim=True)
    deviation = (q * (middle - mean) ** 2).sum(1).sqrt()
    apart = (p - q).cumsum(1).abs().sum(1) * width
    return float((apart / deviation).mean())


def autocovariance(
    u: Float[Tensor, "batch time channel *space"], grid: Grid, lags: int, mean: Float[Tensor, "channel *space"] | None = None
) -> Float[Tensor, "batch channel lag"]:
    r"""Covariance in time, :math:`\big\langle u'(x, t) \, u'(x, t + \tau) \big\rangle_{x, t}`, for lags of 0 to ``lags`` times.

    ``'`` = minus ``mean``, by default the mean over all trajectories and times at each point. Divided by its value at lag 0 it is the
    autocorrelation.
    """
    if not 0 <= lags < u.shape[1]:
        raise UsageError("autocovariance", f"lags below the {u.shape[1]} times of a trajectory", str(lags))
    centre = u.double().mean((0, 1)) if mean is None else mean.double()
    weights = grid.mean_weights().double().flatten()
    times = u.shape[1]
    pairs = times - torch.arange(lags + 1, dtype=torch.float64)
    length = 1 << (times + lags).bit_length()
    rows = torch.zeros(u.shape[0], u.shape[2], lags + 1, dtype=torch.float64)
    for row, trajectory in enumerate(u):
        for c in range(u.shape[2]):
            series = trajectory[:, c].flatten(1).T
            for part in torch.arange(series.shape[0]).split(max(1, _CHUNK // length)):
                spectrum = torch.fft.rfft(series[part].double() - centre[c].flatten()[part, None], n=length)
                products = torch.fft.irfft(spectrum.abs().square(), n=length)[:, : lags + 1]
                rows[row, c] += weights[part] @ (products / pairs)
    return sum_over_ranks(rows, rows_of(grid))


def correlation_distance(p: Float[Tensor, "channel lag"], q: Float[Tensor, "channel lag"]) -> float:
    """Root mean square difference over lags of two autocorrelations, given as autocovariances; averaged over channels."""
    return float((p / p[:, :1] - q / q[:, :1]).square().mean(1).sqrt().mean())


@dataclass(frozen=True)
class AgainstNoise:
    """A distance from the reference beside the noise of the reference itself.

    ``distance`` is the median distance between half of the rows of one and half of the rows of the other; ``noise`` and ``limit`` are the
    median and the 95 % quantile of the distance between two disjoint halves of the reference.
    """

    distance: float
    noise: float
    limit: float

    @property
    def within(self) -> bool:
        """Whether the distance is within the noise: at most ``limit``."""
        return self.distance <= self.limit


def against_noise(
    rows: Float[Tensor, "rows *statistic"],
    reference: Float[Tensor, "others *statistic"],
    distance: Callable[[Tensor, Tensor], float],
    *,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> AgainstNoise:
    r"""Distance between two statistics beside the split-half noise of the reference.

    Each draw splits the rows of the reference at random into disjoint halves :math:`A, B` of ``m`` rows and takes ``m`` rows :math:`C`
    of the other, so that :math:`d(\bar A, \bar B)` (noise) and :math:`d(\bar C, \bar B)` (distance) rest on as many rows. Rows must be
    nearly independent: trajectories, or blocks much longer than the memory of the flow. More rows, less noise: with it falls what
    counts as a difference.

    Raises
    ------
    UsageError
        With fewer than 4 rows of either.
    """
    if min(len(rows), len(reference)) < 4:
        raise UsageError(
            "against_noise", "4 rows or more of each", f"{len(rows)} and {len(reference)}", "cut the trajectories into blocks: in_blocks"
        )
    half = min(len(rows), len(reference)) // 2
    generator = torch.Generator().manual_seed(seed)
    apart, noise = [], []
    for _ in range(draws):
        order = torch.randperm(len(reference), generator=generator)
        one, two = reference[order[:half]].mean(0), reference[order[half : 2 * half]].mean(0)
        other = rows[torch.randperm(len(rows), generator=generator)[:half]].mean(0)
        noise.append(distance(one, two))
        apart.append(distance(other, two))
    spread = torch.tensor(noise, dtype=torch.float64)
    return AgainstNoise(float(torch.tensor(apart, dtype=torch.float64).median()), float(spread.median()), float(spread.quantile(level)))


@dataclass(frozen=True)
class Measures:
    """How statistics are taken, fixed by a reference: bins of values and of slopes, mean field, and lags of the autocorrelation."""

    grid: Grid
    lags: int
    mean: Float[Tensor, "channel *space"]
    values: Float[Tensor, "channel edge"]
    slopes: Float[Tensor, "channel edge"]


def measures_of(reference: Float[Tensor, "batch time channel *space"], grid: Grid, *, lags: int) -> Measures:
    """Measures that suit a reference."""
    return Measures(grid, lags, reference.double().mean((0, 1)), pdf_edges(reference), pdf_edges(slope(reference, grid)))


def invariants(u: Float[Tensor, "rows time channel *space"], m: Measures) -> dict[str, Tensor]:
    """Time-mean spectrum, densities of values and of slopes, and autocovariance of each row, by name."""
    return {
        "spectrum": time_mean_spectrum(u, m.grid),
        "values": pdf(u, m.values, m.grid),
        "slopes": pdf(slope(u, m.grid), m.slopes, m.grid),
        "autocorrelation": autocovariance(u, m.grid, m.lags, m.mean),
    }


def compare(rows: Mapping[str, Tensor], reference: Mapping[str, Tensor], m: Measures) -> dict[str, AgainstNoise]:
    """Distance of every statistic from the reference, beside the noise of the reference."""
    distances: dict[str, Callable[[Tensor, Tensor], float]] = {
        "spectrum": spectrum_distance,
        "values": lambda p, q: pdf_distance(p, q, m.values),
        "slopes": lambda p, q: pdf_distance(p, q, m.slopes),
        "autocorrelation": correlation_distance,
    }
    return {name: against_noise(rows[name], reference[name], distance) for name, distance in distances.items()}
