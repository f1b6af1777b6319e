"""Events: a value above or below a threshold, and where an ensemble store kept how many members have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anygrid.verification.product import Channel

__all__ = ["Event", "kept_threshold"]


@dataclass(frozen=True)
class Event:
    """A value of a channel above or below a threshold, in the units of the forecast."""

    channel: str
    above: bool
    threshold: float

    def __str__(self) -> str:
        return f"{self.channel} {'>' if self.above else '<'} {self.threshold:g}"


def kept_threshold(channel: Channel, event: Event) -> tuple[str, int] | None:
    """Dimension and index of the event among the thresholds that an ensemble store kept."""
    array = channel.arrays.get("above")
    if array is None:
        return None
    dim = str(array.dims[0])
    near = np.flatnonzero(np.isclose(array[dim].values.astype(float), event.threshold, rtol=1e-6))
    return (dim, int(near[0])) if near.size else None
