"""The trivial maps a surrogate has to beat, each one a `Map`; and `Examples`, the rows they and the evaluation read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError
from anygrid.evaluate.resample import refine
from anygrid.fields import Variable
from anygrid.grid import Grid

__all__ = ["Examples", "MeanField", "NearestSample", "Persistence", "TensorExamples", "mean_field", "shared_channels"]

_CHUNK_BYTES = 64 * 2**20


@runtime_checkable
class Examples(Protocol):
    """Rows of inputs and outputs on one grid. :class:`anygrid.io.pairs.Pairs` is one; :class:`TensorExamples` another."""

    @property
    def inputs(self) -> tuple[Variable, ...]: ...

    @property
    def outputs(self) -> tuple[Variable, ...]: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def dt(self) -> str | None: ...

    @property
    def evolution(self) -> bool: ...

    def __len__(self) -> int: ...

    def count(self, steps: int = 1) -> int:
        """Rows from which ``steps`` leads are available."""
        ...

    def batch(self, index: NDArray[np.int64], steps: int = 1) -> tuple[Tensor, Tensor]:
        """Inputs and outputs ``(row, steps, channel, *space)`` of some rows."""
        ...


@dataclass(frozen=True, eq=False)
class TensorExamples:
    """Rows held in two tensors ``(row, channel, *space)``."""

    a: Float[Tensor, "row input *space"]
    u: Float[Tensor, "row output *space"]
    grid: Grid
    inputs: tuple[Variable, ...] = (Variable("a"),)
    outputs: tuple[Variable, ...] = (Variable("u"),)
    dt: str | None = None
    evolution: bool = False

    def __len__(self) -> int:
        return len(self.a)

    def count(self, steps: int = 1) -> int:
        """All rows for one step, none for more: single rows have no successor."""
        return len(self.a) if steps == 1 else 0

    def batch(self, index: NDArray[np.int64], steps: int = 1) -> tuple[Tensor, Tensor]:
        """Rows ``index`` with a step dimension of one."""
        if steps != 1:
            raise DataError("TensorExamples.batch", "one step", f"{steps}", "give trajectories as a Dataset with a time dimension")
        rows = torch.from_numpy(np.asarray(index))
        return self.a[rows][:, None], self.u[rows][:, None]


@dataclass(frozen=True, eq=False)
class MeanField:
    """Map that returns the same fields, known on ``grid``, for every input."""

    fields: Float[Tensor, "channel *space"]
    grid: Grid

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """The fields on ``grid``, once for each input."""
        return refine(self.fields[None], self.grid, grid).expand(len(a), -1, *grid.shape).to(a.dtype)


@dataclass(frozen=True)
class Persistence:
    """Map that returns the input channels ``channels`` unchanged: tomorrow is like today."""

    channels: tuple[int, ...]

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """The chosen channels of ``a``."""
        return a[:, list(self.channels)]


class NearestSample:
    r"""Map that returns the output of the training sample whose input is nearest.

    Distance: :math:`\sum_c \int (a_c - b_c)^2 / \sigma_c^2` with the spread of each input channel over the training set, on
    the training grid; inputs on other grids are interpolated to it and the output back. Training rows are read in
    chunks of about 64 MB, so the set may be larger than memory.

    Parameters
    ----------
    examples
        The training set.
    limit
        At most so many of its rows are searched, evenly spread; None means all.
    """

    def __init__(self, examples: Examples, *, limit: int | None = None) -> None:
        self.examples = examples
        n = len(examples)
        self.rows = np.arange(n) if limit is None or n <= limit else np.linspace(0, n - 1, limit).astype(np.int64)
        total, square, count = torch.zeros(1), torch.zeros(1), 0
        for _, a, _ in _chunks(examples, self.rows):
            flat = a.to(torch.float64).flatten(2)
            total, square, count = total + flat.sum((0, 2)), square + (flat**2).sum((0, 2)), count + flat.shape[0] * flat.shape[2]
        mean = total / count
        spread = (square / count - mean**2).clamp(min=0).sqrt()
        self._scale = torch.where(spread > 0, 1 / spread, torch.zeros_like(spread))  # a constant channel says nothing about nearness

    def _features(self, a: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (a.ndim - 2)
        weight = self.examples.grid.weights().sqrt()
        return (a.to(torch.float64) * self._scale.reshape(shape) * weight).flatten(1).to(torch.float32)

    def __call__(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /) -> Float[Tensor, "batch outputs *space"]:
        """Output of the nearest training sample for each input."""
        wanted = self._features(refine(a, grid, self.examples.grid))
        best = torch.full((len(a),), torch.inf)
        found: list[int] = [0] * len(a)
        for rows, b, _ in _chunks(self.examples, self.rows):
            have = self._features(b)
            # |x - y|^2 without the |x|^2 that all candidates share
            distance = (have**2).sum(1)[None] - 2 * wanted @ have.T
            value, index = distance.min(1)
            for i in torch.nonzero(value < best).flatten().tolist():
                best[i], found[i] = value[i], int(rows[index[i]])
        u = torch.cat([self.examples.batch(np.array([row]))[1][:, 0] for row in found])
        return refine(u, self.examples.grid, grid).to(a.dtype)


def mean_field(examples: Examples) -> MeanField:
    """Mean of the outputs over all rows, in float64."""
    total: Tensor | float = 0.0
    for _, _, u in _chunks(examples, np.arange(len(examples))):
        total = total + u.to(torch.float64).sum(0)
    return MeanField((torch.as_tensor(total) / len(examples)).to(torch.float32), examples.grid)


def shared_channels(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> tuple[int, ...] | None:
    """Position among the inputs of each output; None unless every output is also an input."""
    names = [v.name for v in inputs]
    return tuple(names.index(v.name) for v in outputs) if all(v.name in names for v in outputs) else None


def _chunks(examples: Examples, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    channels = len(examples.inputs) + len(examples.outputs)
    size = max(1, _CHUNK_BYTES // (4 * channels * examples.grid.size))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        a, u = examples.batch(part)
        yield part, a[:, 0], u[:, 0]
