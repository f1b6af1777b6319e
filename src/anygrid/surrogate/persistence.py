r"""Damped persistence: what an evolution around a climate predicts increments from.

.. math:: u = c + \rho\,(a - c) + m + s\, G_\theta\big(\min(\max(a, l), h)\big), \qquad
          c = \overline{a}, \quad \rho = \frac{\langle (a - c)(u - c) \rangle}{\langle (a - c)^2 \rangle},

with the mean state :math:`c(x)` of the training data and the regression :math:`\rho` of each channel's end of a lead on its beginning,
over samples and the domain; :math:`m` and :math:`s` are mean and standard deviation of what is left, :math:`u - c - \rho (a - c)`.
The operator hears states as far as the data reach: :math:`l(x)` and :math:`h(x)` are their smallest and largest values at each point.

Plain persistence, :math:`\rho = 1`, carries what the operator does not hear, or answers wrongly, on for ever, and such errors add up to a
drift; and beyond its data an operator goes on as a line does, so that what grows there grows for ever. Here no state is farther from the
climate than :math:`(|m| + s \max |G_\theta|) / (1 - \rho)` in the long run, errors decay within :math:`1 / (1 - \rho)` leads unless the
operator feeds them, and what is left to predict varies less. That holds where :math:`\rho < 1` and other inputs are those of data.
It is the damped persistence that forecasts are compared with (Murphy 1992, Wea. Forecasting 7, 692), here underneath one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import DataError
from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate
from anygrid.surrogate.geometry import grid_from_json, grid_to_json

__all__ = ["Persistence"]


@dataclass(frozen=True, eq=False)
class Persistence:
    """The climate that a surrogate evolves around.

    Parameters
    ----------
    climate, lower, upper
        Mean, smallest and largest state ``(output, *space)`` on ``grid``.
    rho
        Part of an anomaly that is left after a lead, of each output, from 0 to 1.
    mean, std
        Of what a lead adds to that, of each output; ``std`` is 0 for one that never varies.
    """

    climate: Float[Tensor, "output *space"]
    lower: Float[Tensor, "output *space"]
    upper: Float[Tensor, "output *space"]
    grid: Grid
    rho: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.rho), len(self.mean), len(self.std)}
        maps = (self.climate, self.lower, self.upper)
        if sizes != {len(self.climate)} or {tuple(f.shape[1:]) for f in maps} != {self.grid.shape}:
            found = f"{sizes} on {tuple(self.climate.shape[1:])}"
            raise DataError("persistence", f"{len(self.climate)} outputs on {self.grid.shape}", found)
        if not all(0 <= r <= 1 for r in self.rho) or not all(bool(torch.isfinite(f).all()) for f in maps):
            raise DataError("persistence", "parts from 0 to 1 of finite states", f"{self.rho}", "the file may be damaged")

    @classmethod
    def of(cls, leads: Callable[[], Iterable[tuple[Tensor, Tensor]]], grid: Grid) -> Persistence:
        """Of batches ``(row, output, *space)`` of states and what they are a lead later, gone through twice."""
        total, count, lower, upper = torch.zeros(()), 0, torch.tensor(torch.inf), torch.tensor(-torch.inf)
        for a, _ in leads():
            total, count = total + a.double().sum(0), count + len(a)
            lower, upper = torch.minimum(lower, a.amin(0)), torch.maximum(upper, a.amax(0))
        climate = total / count
        weights = grid.mean_weights().double()

        def mean(f: Tensor) -> Tensor:
            return (f * weights).flatten(2).sum(2).sum(0) / count

        sums = torch.zeros(4, len(climate), dtype=torch.float64)
        for a, u in leads():
            x, y = a.double() - climate, u.double() - climate
            sums += torch.stack([mean(x * x), mean(x * y), mean(y * y), mean(y)])
        xx, xy, yy, m = sums
        # Anomalies of rounding alone are none.
        varies = xx > (1e-6 * climate.abs().flatten(1).amax(1)).square()
        rho = torch.where(varies, (xy / torch.where(varies, xx, 1)).clamp(0, 1), 1)
        left = (yy - 2 * rho * xy + rho.square() * xx - m.square()).clamp_min(0).sqrt()
        columns = (tuple(v.tolist()) for v in (rho, torch.where(varies, m, 0), torch.where(varies, left, 0)))
        return cls(climate.float(), lower, upper, grid, *columns)

    def heard(self, a: Float[Tensor, "batch output *space"], grid: Grid) -> Float[Tensor, "batch output *space"]:
        """States as far as the data reach, on any grid of the domain."""
        return torch.maximum(torch.minimum(a, self._on(self.upper, a, grid)), self._on(self.lower, a, grid))

    def state(self, a: Float[Tensor, "batch output *space"], grid: Grid) -> Float[Tensor, "batch output *space"]:
        """What damped persistence makes of states on any grid of the domain."""
        climate = self._on(self.climate, a, grid)
        return climate + torch.tensor(self.rho).to(a).view(-1, *(1,) * (a.ndim - 2)) * (a - climate)

    def _on(self, f: Tensor, like: Tensor, grid: Grid) -> Tensor:
        f = f.to(like)[None]
        return f if grid == self.grid else interpolate(f, self.grid, grid)

    def tensors(self) -> dict[str, Tensor]:
        """Its maps, by name."""
        return {"climate": self.climate, "lower": self.lower, "upper": self.upper}

    def to_json(self) -> dict[str, Any]:
        """All but the maps."""
        return {"grid": grid_to_json(self.grid), "rho": list(self.rho), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, stored: dict[str, Any], maps: Mapping[str, Tensor]) -> Persistence:
        """Inverse of :meth:`to_json` and :meth:`tensors`.

        Raises
        ------
        DataError
            For numbers that do not fit the maps, and what :func:`~anygrid.surrogate.geometry.grid_from_json` refuses.
        """
        columns = (tuple(float(x) for x in stored[key]) for key in ("rho", "mean", "std"))
        return cls(maps["climate"], maps["lower"], maps["upper"], grid_from_json(stored["grid"]), *columns)
