"""Mixed precision that overflows: such a step is repeated in float32, and a training that overflows often stays there."""

from __future__ import annotations

__all__ = ["OFTEN", "WINDOW", "said", "stays"]

# A lone overflow is chance; five in a hundred steps cost more than the steps in bfloat16 save, and tell that its range does not do.
OFTEN, WINDOW = 5, 100


def stays(repeated: list[int]) -> bool:
    """Whether the steps from now on are taken in float32, after those of these numbers were repeated in it."""
    return len(repeated) >= OFTEN and repeated[-1] - repeated[-OFTEN] < WINDOW


def said(repeated: list[int], value: float, slope: float) -> str:
    """What is told when the last of these steps is repeated."""
    what = f"step {repeated[-1]} gave a loss of {value:g} and a gradient norm of {slope:g} in bfloat16 and is repeated in float32"
    count = f" ({len(repeated)} times so far)" if len(repeated) > 1 else ""
    rest = f"; {OFTEN} times within {WINDOW} steps: the training stays in float32" if stays(repeated) else ""
    return what + count + rest
