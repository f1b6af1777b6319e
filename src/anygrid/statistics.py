"""Statistics of a data set in float64, gathered in one streaming pass and merged without loss of accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import DataError

__all__ = ["Moments", "Statistics"]


@dataclass(frozen=True)
class Moments:
    """Mean, spread and range of each channel of a group of variables.

    The sums of squared deviations ``deviation = sum (x - mean)^2`` of two parts merge as

        deviation = deviation_1 + deviation_2 + (mean_2 - mean_1)^2 n_1 n_2 / (n_1 + n_2),

    which loses no digits when the mean is large beside the spread [1]_.

    References
    ----------
    .. [1] Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979, eq. 2.1.
    """

    count: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """Moments of ``values`` (batch, channel, *space), summed in float64.

        Raises
        ------
        DataError
            For no values, or values that are not finite.
        """
        x = np.moveaxis(np.asarray(values), 1, 0).reshape(values.shape[1], -1).astype(np.float64)
        if x.size == 0 or not np.isfinite(x).all():
            raise DataError("statistics", "finite values", "none" if x.size == 0 else f"{int((~np.isfinite(x)).sum())} that are not")
        low, high = x.min(1), x.max(1)
        # The rounded mean of a constant channel may miss the constant by one unit in the last place.
        mean = np.where(low == high, low, x.mean(1))
        deviation = np.square(x - mean[:, None]).sum(1)
        columns = (tuple(v.tolist()) for v in (mean, deviation, low, high))
        return cls(x.shape[1], *columns)

    def merge(self, other: Moments) -> Moments:
        """Moments of both parts together."""
        if len(self.mean) != len(other.mean):
            raise DataError("statistics", f"{len(self.mean)} channels", str(len(other.mean)))
        n = self.count + other.count
        m1, m2 = np.array(self.mean), np.array(other.mean)
        mean = np.where(m1 == m2, m1, m1 + (m2 - m1) * (other.count / n))
        deviation = np.array(self.deviation) + np.array(other.deviation) + np.square(m2 - m1) * (self.count * other.count / n)
        low, high = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        columns = (tuple(v.tolist()) for v in (mean, deviation, low, high))
        return Moments(n, *columns)

    def pick(self, channels: Sequence[int]) -> Moments:
        """Moments of these channels, in this order."""
        columns = (tuple(values[k] for k in channels) for values in (self.mean, self.deviation, self.minimum, self.maximum))
        return Moments(self.count, *columns)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel; 1 for a constant one, so that scaling by it keeps the channel finite."""
        return tuple(
            1.0 if low == high else math.sqrt(d / self.count)
            for d, low, high in zip(self.deviation, self.minimum, self.maximum, strict=True)
        )

    @property
    def constant(self) -> tuple[bool, ...]:
        """Which channels never vary."""
        return tuple(low == high for low, high in zip(self.minimum, self.maximum, strict=True))


@dataclass(frozen=True)
class Statistics:
    """Moments of the inputs, of the outputs, and of what an evolution adds in one lead.

    Parameters
    ----------
    increments
        Moments of ``output(t + lead) - input(t)``, one channel for each output; an output that is not an input counts with
        its own values. ``None`` for steady data.
    """

    inputs: Moments
    outputs: Moments
    increments: Moments | None = None

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both parts together."""
        both = None
        if self.increments is not None and other.increments is not None:
            both = self.increments.merge(other.increments)
        return Statistics(self.inputs.merge(other.inputs), self.outputs.merge(other.outputs), both)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists; ``from_json`` gives back exactly these statistics."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Statistics:
        """Statistics from :meth:`to_json`, also after a trip through JSON text.

        Raises
        ------
        DataError
            For a dictionary of another form.
        """
        try:
            groups = {key: _moments(data[key]) for key in ("inputs", "outputs")}
            extra = data.get("increments")
            return cls(groups["inputs"], groups["outputs"], None if extra is None else _moments(extra))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "statistics", "counts, means, deviations, minima and maxima", "another form", "the file may be damaged"
            ) from error


def _moments(data: dict[str, Any]) -> Moments:
    columns = (tuple(float(v) for v in data[key]) for key in ("mean", "deviation", "minimum", "maximum"))
    return Moments(int(data["count"]), *columns)
