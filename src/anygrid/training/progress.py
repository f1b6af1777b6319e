"""What training tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Listener", "Progress"]


@dataclass(frozen=True)
class Progress:
    """State of a training at one moment.

    Attributes
    ----------
    step, steps
        Steps taken and planned.
    seconds, seconds_left
        Training time used, and the estimate of what is left.
    loss
        Mean loss of the steps since the last report; NaN before the first step.
    validation
        Latest relative error on the held-out samples; NaN before the first validation.
    samples_per_second
        Samples (times leads rolled out) per second since the last report.
    learning_rate
        Learning rate of the last step.
    message
        A sentence on what was inferred or decided, or empty.
    """

    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    seconds_left: float = float("nan")
    loss: float = float("nan")
    validation: float = float("nan")
    samples_per_second: float = float("nan")
    learning_rate: float = float("nan")
    message: str = ""


Listener = Callable[[Progress], None]
