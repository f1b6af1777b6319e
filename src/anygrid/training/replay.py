r"""A replay buffer: training on states that the surrogate's own forecasts have reached.

Some forecasts run beside the training, some leads a step, from states of the data; one of these leads is judged against the truth of that
time and differentiated, the others are not:

.. math:: L = L_{data} + w\, L\big( G(\tilde u_n),\, u_{n + 1} \big), \qquad \tilde u_{n + 1} = G(\tilde u_n), \quad \tilde u_0 = u_0

So errors that build up over thousands of leads, such as a drift of the mean, come into the training for the price of a few. Of a random
surrogate two draws go on from every start, each with its own noise, and are scored together: their law is judged, not their path.
A forecast that comes to the end of its data goes on in the same season of an earlier year, where they have dates: by then the truth is one
more sample of the climate to it, as any truth is after some weeks.
Source: Bodnar et al. (2025), A foundation model for the Earth system, Nature 641, 1180, methods (roll-out fine-tuning).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.io.pairs import Pairs
from anygrid.surrogate import Surrogate
from anygrid.training.losses import RelativeNorm
from anygrid.training.settings import DEFAULTS

__all__ = ["Replay"]

_STREAM = 6_100_000_013  # of random numbers, beside those of the steps
_ASTRAY = 30.0  # standard deviations: a forecast this far off has nothing to teach


class Replay:
    """Forecasts that run beside a training; what they have reached changes by :meth:`advance` alone.

    Parameters
    ----------
    pairs
        Data that they start from and are judged by.
    leads
        Mean number of leads that one goes on: after every lead, one in so many begins anew.
    count
        How many run.
    """

    def __init__(self, pairs: Pairs, leads: int, count: int, model: Surrogate, loss: RelativeNorm, seed: int) -> None:
        self.pairs, self.leads, self.loss, self.seed = pairs, leads, loss, seed
        names, outputs = [v.name for v in model.inputs], model.statistics.outputs
        self._channels = [names.index(v.name) for v in model.outputs]
        self._mean, self._std = (torch.tensor(x).view(-1, *(1,) * len(pairs.grid.shape)) for x in (outputs.mean, outputs.std))
        self._members = DEFAULTS.members if model.noise else 1
        self._rows = self._starts(count, np.random.default_rng([_STREAM, seed]))
        self._ages = torch.zeros(count, dtype=torch.int64)
        self._states = self._begin(self._rows)
        self._reached: Float[Tensor, "member row outputs *space"] | None = None

    def error(self, model: Surrogate, mixed: bool) -> Float[Tensor, ""]:
        """Loss of one more lead of every forecast; torch's own generator, which a step seeds, draws the noise."""
        a, truth = (torch.as_tensor(x)[:, 0] for x in self.pairs.batch(self._rows))
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        drawn = self._next(model, a, generator, mixed)
        self._reached = drawn.detach().cpu()
        if model.noise:
            return self.loss.crps(drawn, truth.to(drawn.device), self.pairs.grid, DEFAULTS.alpha).mean()
        return self.loss(drawn[0], truth.to(drawn.device), self.pairs.grid)

    def advance(self, model: Surrogate, step: int, mixed: bool) -> None:
        """Take over the states that :meth:`error` reached last, and go on by the leads that are not judged."""
        assert self._reached is not None
        generator = np.random.default_rng([_STREAM, self.seed, step])
        noise = torch.Generator().manual_seed(int(generator.integers(1 << 62)))
        self._take(self._reached, generator)
        self._reached = None
        for _ in range(DEFAULTS.replay_leads - 1):
            with torch.no_grad():
                a = torch.as_tensor(self.pairs.batch(self._rows)[0])[:, 0]
                self._take(self._next(model, a, noise, mixed).cpu(), generator)

    def _next(
        self, model: Surrogate, a: Float[Tensor, "row inputs *space"], generator: torch.Generator, mixed: bool
    ) -> Float[Tensor, "member row outputs *space"]:
        """States one lead after those of the forecasts; ``a`` is what is known at their time."""
        device = next(model.parameters()).device
        rows = a.to(device).repeat(self._members, *(1,) * (a.ndim - 1))
        rows[:, self._channels] = self._states.flatten(0, 1).to(device)
        if model.noise:
            rows = torch.cat([rows, model.noise.draw(len(rows), self.pairs.grid, generator).to(rows)], 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            return model(rows, self.pairs.grid).float().unflatten(0, (self._members, len(a)))

    def _take(self, reached: Float[Tensor, "member row outputs *space"], generator: np.random.Generator) -> None:
        """Go on from these states; begin anew what has gone on long enough, is astray or has no truth."""
        following = self.pairs.following(self._rows, again=True)
        far = ((reached - self._mean).abs() > _ASTRAY * self._std) & (self._std > 0)
        astray = (far | ~reached.isfinite()).movedim(1, 0).flatten(1).any(1).numpy()
        fresh = (following < 0) | astray | (generator.random(len(following)) * self.leads < 1)
        self._rows = np.where(fresh, self._starts(len(fresh), generator), following)
        states = reached.clone()
        if fresh.any():
            states[:, torch.from_numpy(fresh)] = self._begin(self._rows[fresh])
        self._states, self._ages = states, torch.where(torch.from_numpy(fresh), 0, self._ages + 1)

    def tensors(self) -> dict[str, Tensor]:
        """What the next step depends on."""
        return {"states": self._states, "rows": torch.from_numpy(self._rows), "ages": self._ages}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`tensors`."""
        self._states, self._rows, self._ages = tensors["states"], tensors["rows"].numpy(), tensors["ages"]

    def _starts(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        return generator.integers(0, len(self.pairs), count)

    def _begin(self, rows: NDArray[np.int64]) -> Float[Tensor, "member row outputs *space"]:
        """States of the data, once for every draw."""
        a: Any = torch.as_tensor(self.pairs.batch(rows)[0])[:, 0, self._channels]
        return a[None].repeat(self._members, *(1,) * a.ndim)
