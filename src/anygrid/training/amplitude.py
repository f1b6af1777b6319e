r"""How much noise a random surrogate is given: as much as makes the spread of held-out forecasts as large as their error.

.. math:: \Big\langle \log \sqrt{\tfrac{m + 1}{m}\, \overline{s^2}(\sigma) \big/ \overline{e^2}(\sigma)} \Big\rangle = 0

with the variance over :math:`m` members :math:`s^2` and the squared error of their mean :math:`e^2`, means over the domain and over
starts inside, and over leads and channels outside. Weights fit the data they were trained on more closely than others, and so does the
spread that they learned: on others it is too small. One number, the amplitude :math:`\sigma` of the noise, is left to be chosen by
data that no weight has seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from anygrid.grid import Grid
from anygrid.io.pairs import Pairs
from anygrid.metrics.probabilistic import spread_and_error, spread_skill_ratio
from anygrid.surrogate import Surrogate
from anygrid.training.objective import following_inputs

__all__ = ["fitted_amplitude"]

_MEMBERS = 8
_CASES = 8  # starts of a data set, evenly spaced
_LEADS = 10  # at most, as far as the held-out trajectories reach
_NEAR = 0.01  # of the mean logarithm
_TRIES = 5
_PART = 0.15  # of the samples trained on: states that one try advances, so that four tries are a tenth of the training's own passes
_LARGEST = 4.0  # and its inverse: beyond, the noise is not what is wrong


def fitted_amplitude(model: Surrogate, held_out: Sequence[Pairs], seed: int, samples: int) -> tuple[float, str]:
    """Amplitude of the noise for which the mean logarithm above vanishes, to 0.01, by secants; and what was found, in words.

    Ten leads at most of eight members from eight starts at most of every data set; fewer after a training of few ``samples``, whose own
    time it shall not exceed. It stays 1 where there is no spread to enlarge, and where forecasts do not stay finite. The noise is a
    function of ``seed``.
    """
    forecasts = max(1, round(_PART * samples / _MEMBERS / len(held_out)))  # leads of all members
    device = next(model.parameters()).device
    cases: list[tuple[Tensor, Tensor, Grid]] = []
    for pairs in held_out:
        leads = next(n for n in range(min(_LEADS, forecasts) if pairs.evolution else 1, 0, -1) if pairs.count(n))
        count = pairs.count(leads)
        for row in np.unique(np.linspace(0, count - 1, min(count, _CASES, forecasts // leads)).astype(np.int64)):
            a, u = pairs.batch(np.array([row]), leads)
            cases.append((torch.as_tensor(a).to(device), torch.as_tensor(u).to(device), pairs.grid))
    first = value = _mean_logarithm(model, cases, 1.0, seed)
    if not math.isfinite(first):
        return 1.0, "noise as it was learned: held-out forecasts have no spread, or do not stay finite"
    at, before = 0.0, (0.0, 0.0)
    for _ in range(_TRIES):
        if abs(value) < _NEAR or abs(at) >= math.log(_LARGEST):
            break
        # The first guess: the spread is proportional to the noise.
        slope = 1.0 if at == before[0] else (value - before[1]) / (at - before[0])
        step = -value / slope if slope > 0.1 else -value
        before, at = (at, value), min(max(at + step, -math.log(_LARGEST)), math.log(_LARGEST))
        value = _mean_logarithm(model, cases, math.exp(at), seed)
        if not math.isfinite(value):
            at, value = before
            break
    sigma, ratio, learned = (math.exp(x) for x in (at, value, first))
    return sigma, f"noise times {sigma:.3g}: spread over error of held-out forecasts {ratio:.3g}, with the noise as learned {learned:.3g}"


def _mean_logarithm(model: Surrogate, cases: Sequence[tuple[Tensor, Tensor, Grid]], amplitude: float, seed: int) -> float:
    """Mean over leads, channels and grids of the logarithm of the spread-skill ratio; nan where there is none."""
    noise, generator = replace(model.noise, amplitude=amplitude), torch.Generator().manual_seed(seed)
    by_grid: dict[tuple[Grid, int], list[tuple[Tensor, Tensor]]] = {}
    for a, truth, grid in cases:
        state, drawn = a[:, 0].repeat(_MEMBERS, *(1,) * (a.ndim - 2)), []
        with torch.no_grad():
            for lead in range(a.shape[1]):
                rows = torch.cat([state, noise.draw(_MEMBERS, grid, generator).to(state)], 1)
                drawn.append(model(rows, grid).float())
                if lead + 1 < a.shape[1]:
                    state = following_inputs(model, drawn[-1], a[:, lead + 1].expand(_MEMBERS, *a.shape[2:]))
        by_grid.setdefault((grid, a.shape[1]), []).append(spread_and_error(torch.stack(drawn, 1)[:, None], truth, grid))
    logarithms = []
    for found in by_grid.values():
        variance, error = (torch.cat(part) for part in zip(*found, strict=True))
        kept = (error > 0).all(0)  # not those of outputs that never vary
        logarithms.append(spread_skill_ratio(variance, error, _MEMBERS)[kept].log())
    return float(torch.cat(logarithms).mean())
