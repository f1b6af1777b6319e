r"""The errors of :mod:`anygrid.metrics.errors` for fields that come in ranges of rows, points of the first space axis.

.. math:: \|u\|^2 = \sum_s \sum_{j \in s} w_j u_j^2, \qquad M_{a \cup b} = M_a + M_b + \frac{W_a W_b}{W_a + W_b} (m_a - m_b)^2

Norms and means are sums over the rows; the variance :math:`M / W` about the mean :math:`m` of all rows so far is merged range by range.
A derivative along the first axis at a row needs the rows of its stencil, so the last few rows are kept until those after them come.

Source: Chan, Golub and LeVeque, The American Statistician 37 (1983) 242, eq. 2.1 (merging of variances).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Axis, Box, Periodic, Sphere
from anygrid.numerics.differentiation import differentiate, stencils

__all__ = ["RunningErrors"]


class RunningErrors:
    """Errors of one field against the truth, from rows that are added in order; in float64.

    Values are those of the functions of :mod:`anygrid.metrics.errors` to rounding, with one exception: along an evenly spaced periodic
    first axis those take the derivative by a Fourier transform of all rows, here it is a difference of order 4.
    """

    def __init__(self, grid: Box | Sphere, channels: int) -> None:
        self.grid = grid
        # Areas of a sphere's bands, which are not the lengths of its latitudes.
        first = Sphere(grid.lat, Axis("lon", Periodic(0, 360), 1), grid.gaussian).weights()[:, 0] if isinstance(grid, Sphere) else None
        own = torch.from_numpy(grid.axes[0].weights().copy()) if first is None else first
        self._first = own / own.sum()
        rest = [torch.from_numpy(axis.weights() / axis.weights().sum()) for axis in grid.axes[1:]]
        self._rest = _outer(rest)
        self._lengths = [1.0] * grid.ndim if isinstance(grid, Sphere) else [interval.length for interval in grid.domain]
        self._index, self._weights = stencils(grid.axes[0]) if grid.shape[0] > 1 else (np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1)))
        self._width = self._index.shape[1]
        self._round = grid.axes[0].periodic
        zeros = torch.zeros(channels, dtype=torch.float64)
        self._sums = {
            name: zeros.clone() for name in ("error", "square", "truth", "slopes of error", "slopes of truth", "worst", "mean", "spread")
        }
        self._weight = 0.0
        self.rows = 0
        self._done = self._width // 2 if self._round else 0  # the first row whose derivative along the first axis is still to come
        self._kept = torch.zeros(2, channels, 0, *grid.shape[1:], dtype=torch.float64)  # error and truth
        self._head = self._kept

    def add(self, u: Float[Tensor, "channel rows *rest"], truth: Float[Tensor, "channel rows *rest"]) -> None:
        """The next rows.

        Raises
        ------
        UsageError
            For rows beyond the last.
        """
        rows = u.shape[1]
        if self.rows + rows > self.grid.shape[0]:
            raise UsageError("RunningErrors", f"{self.grid.shape[0]} rows", f"{self.rows + rows}", "add each row once, in order")
        v = truth.double()
        e = u.double() - v
        both = torch.stack([e, v])
        w = self._first[self.rows : self.rows + rows]
        sums = self._sums
        sums["error"] += self._mean(e, w)
        sums["square"] += self._mean(e**2, w)
        sums["truth"] += self._mean(v**2, w)
        torch.maximum(sums["worst"], e.abs().flatten(1).amax(1), out=sums["worst"])
        self._merge(v, w)
        along = self._other_slopes(both, self.rows)
        sums["slopes of error"] += self._mean(along[0], w)
        sums["slopes of truth"] += self._mean(along[1], w)
        self.rows += rows
        if self._round and self._head.shape[2] < self._width - 1:
            self._head = torch.cat([self._head, both[:, :, : self._width - 1 - self._head.shape[2]]], 2)
        self._kept = torch.cat([self._kept, both], 2)
        self._first_slopes(self.rows)
        if self._round and self.rows == self.grid.shape[0]:
            self._kept = torch.cat([self._kept, self._head], 2)
            self._first_slopes(self.rows + self._head.shape[2])

    def result(self) -> dict[str, Float[Tensor, "channel"]]:
        """Every error of each channel, by the names of an evaluation.

        Raises
        ------
        UsageError
            Before all rows were added.
        """
        if self.rows != self.grid.shape[0]:
            raise UsageError("RunningErrors", f"{self.grid.shape[0]} rows", f"{self.rows}", "add every row")
        s = self._sums
        return {
            "relative_l2": (s["square"] / s["truth"]).sqrt(),
            "relative_h1": ((s["square"] + s["slopes of error"]) / (s["truth"] + s["slopes of truth"])).sqrt(),
            "vrmse": (s["square"] / s["spread"]).sqrt(),
            "rmse": s["square"].sqrt(),
            "bias": s["error"].clone(),
            "largest": s["worst"].clone(),
        }

    def state(self) -> dict[str, Tensor]:
        """What is needed to go on later: see :meth:`resume`."""
        counts = torch.tensor([self.rows, self._done, self._weight], dtype=torch.float64)
        return {**self._sums, "counts": counts, "kept": self._kept, "head": self._head}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        self._sums = {name: state[name].clone() for name in self._sums}
        self.rows, self._done, self._weight = int(state["counts"][0]), int(state["counts"][1]), float(state["counts"][2])
        self._kept, self._head = state["kept"], state["head"]

    def _mean(self, f: Tensor, w: Tensor) -> Tensor:
        """Weighted sum over rows and the other axes: ``(channel)``."""
        return torch.mv(f.reshape(*f.shape[:2], -1) @ self._rest.flatten(), w)

    def _merge(self, v: Tensor, w: Tensor) -> None:
        weight = float(w.sum())
        mean = self._mean(v, w) / weight
        spread = self._mean((v - mean.view(-1, *(1,) * (v.ndim - 1))) ** 2, w)
        total = self._weight + weight
        gap = mean - self._sums["mean"]
        self._sums["spread"] += spread + gap**2 * (self._weight * weight / total)
        self._sums["mean"] += gap * (weight / total)
        self._weight = total

    def _other_slopes(self, both: Tensor, start: int) -> Tensor:
        """Sum of the squared derivatives along all axes but the first, times the squares of their lengths."""
        total = torch.zeros_like(both)
        if self.grid.ndim == 1:
            return total
        rest = Box(self.grid.axes[1:])
        flat = both.flatten(1, 2)  # rows as channels
        for k in range(rest.ndim):
            slope = differentiate(flat, rest, k).unflatten(1, both.shape[1:3]) * self._lengths[k + 1]
            if isinstance(self.grid, Sphere):
                cosine = np.cos(np.deg2rad(self.grid.lat.coordinates()[start : start + both.shape[2]]))
                inverse = np.divide(180 / math.pi, cosine, out=np.zeros_like(cosine), where=np.abs(cosine) > 1e-9)
                slope = slope * torch.from_numpy(inverse)[:, None]
            total += slope**2
        return total

    def _first_slopes(self, end: int) -> None:
        """The derivative along the first axis at all rows whose stencils end before row ``end``; those not needed any more are dropped."""
        n, width = self.grid.shape[0], self._width
        last = n + width // 2 if self._round else n
        rows = np.arange(self._done, last)
        first = rows - width // 2 if self._round else np.clip(rows - width // 2, 0, n - width)
        rows = rows[first + width <= end]
        if len(rows):
            here = torch.from_numpy(first[: len(rows)] - (end - self._kept.shape[2]))
            weights = torch.from_numpy(self._weights[rows % n])
            scale = self._lengths[0] * (180 / math.pi if isinstance(self.grid, Sphere) else 1.0)
            shape = (-1, *(1,) * (self.grid.ndim - 1))
            slope = torch.zeros((), dtype=torch.float64)
            for j in range(width):
                slope = slope + weights[:, j].reshape(shape) * self._kept.index_select(2, here + j)
            w = self._first[torch.from_numpy(rows % n)]
            self._sums["slopes of error"] += self._mean((scale * slope[0]) ** 2, w)
            self._sums["slopes of truth"] += self._mean((scale * slope[1]) ** 2, w)
            self._done = int(rows[-1]) + 1
        needed = self._done - width // 2 if self._round else int(np.clip(self._done - width // 2, 0, n - width))
        self._kept = self._kept[:, :, max(0, needed - (end - self._kept.shape[2])) :].clone()


def _outer(weights: list[Tensor]) -> Tensor:
    total = torch.ones((), dtype=torch.float64)
    for w in weights:
        total = total[..., None] * w
    return total
