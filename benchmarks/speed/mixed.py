"""Is mixed precision of use on this processor? A training step of the default operator in bfloat16 over one in float32.

    python benchmarks/speed/mixed.py            # writes benchmarks/speed/mixed.json

Steps of both kinds are taken in turns, and the CPU seconds of one thread are compared, which do not change with what else the machine
does. ``relative error`` is that of the operator's output in bfloat16 against float32, at the initial weights.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from anygrid.grid import Box, Periodic
from anygrid.operators import default_operator

TURNS = 12
SIZES = {"1024": ({"x": 1024}, 8), "64x64": ({"x": 64, "y": 64}, 8), "24x24x24": ({"x": 24, "y": 24, "z": 24}, 2)}


def bits() -> list[str]:
    """What the processor knows of bfloat16, where the system says."""
    file = Path("/proc/cpuinfo")
    words = file.read_text().split() if file.exists() else []
    return sorted({w for w in words if "bf16" in w})


def measured(shape: dict[str, int], batch: int) -> dict[str, float]:
    grid = Box.uniform({name: Periodic() for name in shape}, tuple(shape.values()))
    torch.manual_seed(0)
    operator = default_operator(1, 1, grid)
    optimiser = torch.optim.AdamW(operator.parameters(), lr=0.0, fused=True)
    a, u = torch.randn(2, batch, 1, *grid.shape)

    def step(mixed: bool) -> float:
        begin = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = operator(a, grid)
        torch.nn.functional.mse_loss(out.float(), u).backward()
        optimiser.step()
        return time.process_time() - begin

    for mixed in (False, True):
        step(mixed)
    pairs = [(step(False), step(True)) for _ in range(TURNS)]
    plain, mixed = (sorted(p[k] for p in pairs)[TURNS // 2] for k in (0, 1))
    with torch.no_grad():
        exact = operator(a, grid)
        with torch.autocast("cpu", torch.bfloat16):
            rough = operator(a, grid).float()
    error = float((rough - exact).norm() / exact.norm())
    return {
        "float32_ms": round(plain * 1e3, 1),
        "bfloat16_ms": round(mixed * 1e3, 1),
        "ratio": round(mixed / plain, 2),
        "relative error": round(error, 4),
    }


def main() -> None:
    torch.set_num_threads(1)
    result = {
        "command": "python benchmarks/speed/mixed.py",
        "machine": {
            "processor": platform.machine(),
            "bfloat16 instructions": bits(),
            "threads": 1,
            "load": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
        },
        "step of the default operator": {name: measured(*size) for name, size in SIZES.items()},
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
