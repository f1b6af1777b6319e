r"""Predictability: how fast a small perturbation of a flow grows, and how long a forecast holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.maps import Map
from anygrid.metrics.errors import area_mean

__all__ = ["THRESHOLD", "Perturbed", "perturbed_run", "valid_prediction_time"]

THRESHOLD = 0.4  # relative error up to which a forecast is valid: Pathak et al., Chaos 28 (2018) 041101


@dataclass(frozen=True)
class Perturbed:
    """A run, and how fast a small perturbation of it grew.

    ``states`` are those after every ``keep``-th step; ``rates`` the logarithmic growth per time in each step. The leading Lyapunov
    exponent is the mean of the rates.
    """

    states: Float[Tensor, "batch time channel *space"]
    rates: Float[Tensor, "batch step"]


def perturbed_run(
    map_: Map,
    a: Float[Tensor, "batch inputs *space"],
    grid: Grid,
    *,
    dt: float,
    steps: int,
    generator: torch.Generator,
    channels: Sequence[int] | None = None,
    discard: int = 0,
    size: float | None = None,
    keep: int = 1,
) -> Perturbed:
    r"""Run a map beside a perturbed copy of itself that is brought back to a small distance after every step.

    .. math:: \lambda = \lim_{N \to \infty} \frac{1}{N \, dt} \sum_{n=1}^N
              \ln \frac{\| \Phi(u_n + \delta_n) - \Phi(u_n) \|}{\| \delta_n \|}, \qquad
              \delta_{n+1} = \varepsilon \, \|u_{n+1}\| \, \frac{\Phi(u_n + \delta_n) - \Phi(u_n)}{\| \Phi(u_n + \delta_n) - \Phi(u_n) \|}

    Parameters
    ----------
    a
        First states, in the dtype in which to compute.
    dt
        Time that one application advances.
    steps, discard
        Steps that count, and those before them in which the perturbation turns into the leading direction.
    generator
        Draws the first perturbation (normal at each point).
    channels
        Inputs that the outputs replace, in order; the others stay. By default all.
    size
        :math:`\varepsilon`; by default the root of the rounding unit, where rounding and nonlinearity disturb alike.
    keep
        Every how many steps a state is kept.

    Notes
    -----
    From the step in which a run is no longer finite, its states and rates are nan and the map is no longer called on it. Where the two
    states fall together the rate is minus infinity, and the perturbation starts afresh.

    Source: Benettin, Galgani, Giorgilli and Strelcyn, Meccanica 15 (1980) 21, with one vector.
    """
    if steps < 1 or discard < 0 or keep < 1 or dt <= 0:
        raise UsageError("perturbed_run", "steps and keep of 1 or more, dt above 0", f"{steps}, {keep} and {dt}")
    which = list(range(a.shape[1])) if channels is None else list(channels)
    first = a[:, which]
    epsilon = math.sqrt(torch.finfo(a.dtype).eps) if size is None else size
    noise = torch.randn(first.shape, dtype=torch.float64, generator=generator).to(a)
    noise = noise * _over(1 / _norms(noise), noise)
    state, moved = first, first + noise * _over(epsilon * _norms(first), noise)
    alive = torch.ones(len(a), dtype=torch.bool)
    states = torch.full((len(a), steps // keep, *first.shape[1:]), torch.nan, dtype=a.dtype)
    rates = torch.full((len(a), steps), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for step in range(-discard, steps):
            # What the perturbation is: adding it to the state has rounded it.
            before = _norms(moved - state)
            state, moved = _apply(map_, a, which, state, moved, grid, alive)
            after = _norms(moved - state)
            alive = alive & torch.isfinite(after)
            if not alive.any():
                break
            if step >= 0:
                rates[alive, step] = (after / before).log()[alive] / dt
                if (step + 1) % keep == 0:
                    states[alive, step // keep] = state[alive]
            together = _over(after == 0, state) != 0
            direction = torch.where(together, noise, (moved - state) * _over(1 / after.clamp_min(1e-300), state))
            moved = state + direction * _over(epsilon * _norms(state), state)
    return Perturbed(states, rates)


def _apply(map_: Map, a: Tensor, which: Sequence[int], state: Tensor, moved: Tensor, grid: Grid, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Both states one application later; nan where the run has ended."""
    inputs = torch.cat([a[alive], a[alive]])
    inputs[:, list(which)] = torch.cat([state[alive], moved[alive]])
    ahead = torch.full((2, *state.shape), torch.nan, dtype=state.dtype)
    ahead[:, alive] = map_(inputs, grid).to(state.dtype).unflatten(0, (2, -1))
    return ahead[0], ahead[1]


def _norms(f: Tensor) -> Tensor:
    return f.detach().double().flatten(1).norm(dim=1)


def _over(factor: Tensor, like: Tensor) -> Tensor:
    return factor.view(-1, *(1,) * (like.ndim - 1)).to(like)


def valid_prediction_time(
    u: Float[Tensor, "batch time channel *space"],
    truth: Float[Tensor, "batch time channel *space"],
    grid: Grid,
    *,
    dt: float,
    threshold: float = THRESHOLD,
) -> Float[Tensor, " batch"]:
    r"""Time before the error first exceeds ``threshold``; times are :math:`dt, 2 dt, \dots`.

    .. math:: E(t) = \| u(t) - v(t) \| \big/ \langle \| v \|^2 \rangle_t^{1/2}

    averaged over channels. A forecast that is valid to the end gets all of the time, which then is a lower bound; values that
    are not finite count as errors.

    Source: Pathak, Wikner, Fussell, Chandra, Hunt, Girvan and Ott, Chaos 28 (2018) 041101: valid time, this normalisation, and 0.4.
    """
    v = truth.double()
    size = area_mean(v**2, grid).mean(1, keepdim=True)
    error = (area_mean((u.double() - v) ** 2, grid) / size).sqrt().mean(2)
    valid = (error <= threshold).long().cumprod(1)
    return valid.sum(1).double() * dt
