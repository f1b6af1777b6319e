"""The default operator's way into its coarse grid and back: cutting into cells and a product, against torch's convolutions.

    python benchmarks/speed/cells.py              # -> benchmarks/results/cells.json and .csv

Both take turns in one process with one thread; its processor time counts. A ratio above 1 says that the convolution is faster. The
operator takes the convolution from three channels on (``anygrid/operators/cells.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from harness import interleaved as take_turns
from harness import keep, machine, prepare, ratio
from torch import Tensor, nn

from anygrid.operators.cells import add_cells, cut_cells
from anygrid.operators.lean import activated_linear

ROUNDS, WIDTH, SIZE, STRIDE = 11, 48, 5, 2


def into(x: Tensor, weight: Tensor) -> dict[str, Callable[[], Tensor]]:
    kernel = weight.view(WIDTH, x.shape[1], SIZE, SIZE)
    last = partial(Tensor.contiguous, memory_format=torch.channels_last)
    return {
        "cells": lambda: nn.functional.linear(cut_cells(x, SIZE, STRIDE), weight),
        "convolution": lambda: nn.functional.conv2d(last(x), last(kernel), stride=STRIDE).movedim(1, -1),
    }


def back(z: Tensor, layer: nn.Linear, channels: int) -> dict[str, Callable[[], Tensor]]:
    kernel = layer.weight.view(channels, SIZE, SIZE, WIDTH).movedim(-1, 0)
    return {
        "cells": lambda: add_cells(activated_linear(z, layer), channels, SIZE, STRIDE),
        "convolution": lambda: nn.functional.conv_transpose2d(nn.functional.gelu(z).movedim(-1, 1), kernel, stride=STRIDE),
    }


def backward(run: Callable[[], Tensor]) -> Callable[[], None]:
    return lambda: run().square().mean().backward()


def main() -> None:
    allocator = prepare(1)
    rows, ratios = {}, {}
    for batch in (1, 8):
        for side in (64, 128):
            for channels in (1, 2, 3, 4, 8, 20):
                coarse = (side - SIZE) // STRIDE + 1
                x, z = torch.randn(batch, channels, side, side), torch.randn(batch, coarse, coarse, WIDTH)
                weight = torch.randn(WIDTH, channels * SIZE**2, requires_grad=True)
                layer = nn.Linear(WIDTH, channels * SIZE**2, bias=False)
                for name, sides in (("in", into(x, weight)), ("out", back(z.requires_grad_(), layer, channels))):
                    with torch.no_grad():
                        plain = take_turns(sides, ROUNDS, clock=time.thread_time)
                    trained = take_turns({key: backward(run) for key, run in sides.items()}, ROUNDS, clock=time.thread_time)
                    for pass_, found in (("forward", plain), ("with gradient", trained)):
                        key = f"{name}, {channels} channels, {side}x{side}, batch {batch}, {pass_}"
                        rows[key], ratios[key] = found, ratio(found, "cells", "convolution")
                        print(f"{key:60s} {ratios[key]:.2f}", flush=True)
    result = {"command": "python benchmarks/speed/cells.py", "machine": machine(1, allocator, "cpu", []), "rows": rows}
    keep("cells", result, ratios)


if __name__ == "__main__":
    main()
