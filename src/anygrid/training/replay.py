r"""A replay buffer: training on states that the surrogate's own forecasts have reached.

Some forecasts run beside the training, one lead a step, from states of the data; each is judged at every lead against the truth of that
time, differentiated through its last lead alone:

.. math:: L = L_{data} + w\, L\big( G(\tilde u_n),\, u_{n + 1} \big), \qquad \tilde u_{n + 1} = G(\tilde u_n), \quad \tilde u_0 = u_0

So errors that build up over hundreds of leads, such as a drift of the mean, come into the training for the price of one lead. Of a random
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
_ASTRAY = 2.0  # times the largest anomaly in so many rows of the data: a forecast this far off has nothing to teach
_SEEN = 64


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
        self._mean = torch.tensor(outputs.mean).view(-1, *(1,) * len(pairs.grid.shape))
        seen = np.linspace(0, len(pairs) - 1, min(len(pairs), _SEEN)).astype(np.int64)
        anomalies = (torch.as_tensor(pairs.batch(seen)[0])[:, 0, self._channels] - self._mean).abs()
        largest = anomalies.movedim(1, 0).flatten(1).amax(1)
        self._far = torch.where(torch.tensor(outputs.constant), torch.inf, _ASTRAY * largest).view(self._mean.shape)
        self._members = DEFAULTS.members if model.noise else 1
        self._rows = self._starts(count, np.random.default_rng([_STREAM, seed]))
        self._ages = torch.zeros(count, dtype=torch.int64)
        self._states = self._begin(self._rows)
        self._reached: Float[Tensor, "member row outputs *space"] | None = None

    def error(self, model: Surrogate, mixed: bool) -> Float[Tensor, ""]:
        """Loss of one more lead of every forecast; torch's own generator, which a step seeds, draws the noise."""
        device = next(model.parameters()).device
        a, truth = (torch.as_tensor(x)[:, 0].to(device) for x in self.pairs.batch(self._rows))
        rows = a.repeat(self._members, *(1,) * (a.ndim - 1))
        rows[:, self._channels] = self._states.flatten(0, 1).to(device)
        if model.noise:
            generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
            rows = torch.cat([rows, model.noise.draw(len(rows), self.pairs.grid, generator).to(rows)], 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            u = model(rows, self.pairs.grid).float()
        self._reached = u.detach().cpu().unflatten(0, (self._members, len(a)))
        if model.noise:
            drawn = u.unflatten(0, (self._members, len(a)))
            return self.loss.crps(drawn, truth, self.pairs.grid, DEFAULTS.alpha).mean()
        return self.loss(u, truth, self.pairs.grid)

    def advance(self, step: int) -> None:
        """Take over the states that :meth:`error` reached last; begin anew what has gone on long enough, is astray or has no truth."""
        assert self._reached is not None
        generator = np.random.default_rng([_STREAM, self.seed, step])
        following = self.pairs.following(self._rows)
        astray = ~((self._reached - self._mean).abs() <= self._far).movedim(1, 0).flatten(1).all(1).numpy()
        fresh = (following < 0) | astray | (generator.random(len(following)) * self.leads < 1)
        self._rows = np.where(fresh, self._starts(len(fresh), generator), following)
        states, self._reached = self._reached.clone(), None
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
