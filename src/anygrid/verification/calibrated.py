"""What calibration buys: fitted on the first starts, judged on those that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError
from anygrid.metrics.errors import area_mean
from anygrid.metrics.events import brier, event_table
from anygrid.metrics.probabilistic import gaussian_crps
from anygrid.postprocess import fit_conformal, fit_emos, fit_isotonic
from anygrid.verification.event import Event
from anygrid.verification.known import Known
from anygrid.verification.product import Channel, Product
from anygrid.verification.result import Calibrated
from anygrid.verification.scores import Sampling

__all__ = ["calibrate_channel"]

_COVERAGE = 0.9
_LEAST = 9  # starts that a guarantee of 0.9 needs


@dataclass(frozen=True, eq=False)
class _Block:
    """Mean, variance and truth ``(case, 1, 1, *space)`` of some starts at one lead."""

    mean: Tensor
    variance: Tensor
    truth: Tensor


def calibrate_channel(
    product: Product,
    channel: Channel,
    known: Known,
    fitted: NDArray[np.int64],
    judged: NDArray[np.int64],
    events: tuple[Event, ...],
    sampling: Sampling,
) -> Calibrated:
    """EMOS, a conformal band over whole fields, and isotonic probabilities of events, fitted on some starts and judged on others.

    One lead is held at a time. A lead at which fewer than 2 starts of either kind have a truth is nan.

    Raises
    ------
    DataError
        When the forecast has no spread, or the truth is missing at some points.
    """
    size, nothing = len(product.leads), torch.nan
    raw, after = (torch.full((len(judged), size), nothing, dtype=torch.float64) for _ in range(2))
    scores = {e: [raw.clone(), raw.clone()] for e in events}
    coefficients = torch.full((4, size), nothing, dtype=torch.float64)
    covered, note = [nothing] * size, ""
    for k in range(size):
        have = [rows[known.rows(product.valid[rows, k]) >= 0] for rows in (fitted, judged)]
        if min(map(len, have)) < 2:
            continue
        past, new = (_read(product, channel, known, rows, k) for rows in have)
        here = torch.from_numpy(np.isin(judged, have[1]))
        emos = fit_emos(past.mean, past.variance, past.truth, product.grid)
        (centre, scale), (mu, sigma) = (emos.distribution(b.mean, b.variance) for b in (past, new))
        coefficients[:, k] = torch.stack([emos.a, emos.b, emos.c, emos.d])[:, 0, 0]
        raw[here, k] = area_mean(gaussian_crps(new.mean, new.variance.sqrt(), new.truth), product.grid)[:, 0, 0]
        after[here, k] = area_mean(gaussian_crps(mu, sigma, new.truth), product.grid)[:, 0, 0]
        if len(have[0]) < _LEAST:
            note = f"a band that holds whole fields with a chance of {_COVERAGE:g} needs {_LEAST} starts to fit, not {len(have[0])}"
        else:
            band = fit_conformal(centre, scale.clamp(min=1e-9), past.truth, coverage=_COVERAGE)
            covered[k] = float(band.holds(mu, sigma.clamp(min=1e-9), new.truth).double().mean())
        for event, (before, better) in scores.items():
            before[here, k], better[here, k] = _brier(product, channel, known, have, k, event)
    curves = [
        *sampling.curve("crps before", [raw], _same),
        *sampling.curve("crps after", [after], _same),
        *sampling.curve("relative difference", [after, raw], _relative),
    ]
    told = tuple(c for e, (before, better) in scores.items() for c in sampling.curve(str(e), [better, before], _relative))
    rows = tuple(tuple(row.tolist()) for row in coefficients)
    return Calibrated(len(fitted), len(judged), rows, tuple(curves), _COVERAGE, tuple(covered), note, told)


def _same(x: Tensor) -> Tensor:
    return x


def _relative(a: Tensor, b: Tensor) -> Tensor:
    return a / b - 1


def _read(product: Product, channel: Channel, known: Known, rows: NDArray[np.int64], lead: int) -> _Block:
    means, variances = [], []
    for case in rows:
        at = slice(int(case), int(case) + 1), slice(lead, lead + 1)
        if {"mean", "std"} <= set(channel.arrays):
            means.append(product.read(channel.arrays["mean"], *at)[0, 0])
            variances.append(product.read(channel.arrays["std"], *at)[0, 0] ** 2)
        elif product.member_dim is not None and "" in channel.arrays:
            x = product.read(channel.arrays[""], *at, product.member_dim)[:, 0, 0]
            means.append(x.mean(0))
            variances.append(x.var(0, ddof=1))
        else:
            raise DataError("--calibrate-until", "members, or mean and std", f"a single forecast of {channel.label}", "leave it out")
    truth = known.at(channel.label, known.rows(product.valid[rows, lead]))
    if not np.isfinite(truth).all():
        raise DataError(
            "--calibrate-until", "a truth at every point", f"{channel.label} with gaps (land?)", "leave it out with --variables"
        )
    return _Block(*(torch.from_numpy(np.asarray(part))[:, None, None] for part in (np.stack(means), np.stack(variances), truth)))


def _brier(
    product: Product, channel: Channel, known: Known, have: list[NDArray[np.int64]], lead: int, event: Event
) -> tuple[Tensor, Tensor]:
    """Brier score of each judged start, before and after."""
    past, new = (torch.cat([_table(product, channel, known, int(c), lead, event) for c in rows]) for rows in have)
    weight, happened = new[..., 0], new[..., 1]
    p = fit_isotonic(past.mean(0))(torch.arange(weight.shape[-1], dtype=torch.float64) / (weight.shape[-1] - 1))
    return brier(new).score, (weight * p**2 - 2 * p * happened + happened).sum(-1)


def _table(product: Product, channel: Channel, known: Known, case: int, lead: int, event: Event) -> Tensor:
    x = torch.from_numpy(product.read(channel.arrays[""], slice(case, case + 1), slice(lead, lead + 1), product.member_dim))
    y = torch.from_numpy(known.at(channel.label, known.rows(product.valid[case : case + 1, lead : lead + 1])))
    said, happened = (v > event.threshold if event.above else v < event.threshold for v in (x[:, :, :, None], y[:, :, None]))
    return event_table(said.sum(0), happened, len(x), product.grid)[:, 0, 0]
