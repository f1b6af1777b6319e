"""Steps that do not fit into memory: how to know them, and a batch taken in parts.

A gradient is a sum over rows, so a batch may be computed in parts (micro-batches) whose gradients are added before the one step of the
optimiser: the same training to rounding, in less memory and a little more time.
"""

from __future__ import annotations

import gc
from typing import Literal

import torch

from anygrid.errors import TrainingError, UsageError

__all__ = ["MicroBatch", "check_micro_batch", "out_of_memory", "release", "too_large"]

MicroBatch = int | Literal["auto"] | None

# By torch's allocator on the CPU, by CUDA's libraries, and by oneDNN, which gives no reason.
_SAID = ("can't allocate memory", "cannot allocate memory", "out of memory", "could not create a primitive")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def release() -> None:
    """Give back what a failed step held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def check_micro_batch(micro_batch: MicroBatch, processes: int) -> None:
    """Refuse what is no number of samples.

    Raises
    ------
    UsageError
        For a number below 1, another word than ``"auto"``, and ``"auto"`` on several processes.
    """
    if micro_batch == "auto" and processes > 1:
        # A process without memory leaves the sum over processes half done, from which the others cannot go back.
        raise UsageError("micro_batch", "a number on several processes", "'auto'", "begin with half of the samples that each process has")
    if micro_batch is not None and micro_batch != "auto" and (not isinstance(micro_batch, int) or micro_batch < 1):
        raise UsageError("micro_batch", "1 or more samples, or 'auto'", repr(micro_batch))


def too_large(rows: int, fits: int, number: int, why: str, *, tried: bool) -> TrainingError:
    """The error for ``rows`` samples at once in step ``number``, of which ``fits`` would do (0: not even one)."""
    got = f"no memory for {rows} sample{'s' if rows > 1 else ''} at once at step {number} ({why})"
    if fits:
        what = f"micro_batch={fits} (--micro-batch {fits}) {'fits' if tried else 'may fit'}"
        hint = f"{what} and trains the same to rounding: the same call with it resumes; batch={fits} fits too, and is another training"
    else:
        hint = "take a smaller operator (width, depth), a coarser resolution, or fewer inputs of the equation: Physics(batch=...)"
    return TrainingError("training", "a step that fits into memory", got, hint)
