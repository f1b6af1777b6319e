"""Spherical harmonic transforms beside torch-harmonics 0.8.0: analysis and synthesis, forward and with the gradient, in turns, one thread.

    python benchmarks/speed/sphere.py              # -> benchmarks/results/sphere.json, ten minutes
    python benchmarks/speed/sphere.py --rounds 3   # a try, nothing is kept

Gauss-Legendre latitudes, float32, the same triangular truncation on both sides, so that both compute the same numbers. A ratio is the
median processor time of torch-harmonics over ours: above 1 we are faster. Processor time, not elapsed time, so that a busy machine slows
both sides alike. ``longitudes`` compares the two ways to transform the rows: an FFT and a
rearrangement against one matrix product.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from harness import interleaved, keep, machine, prepare, ratio
from torch_harmonics import InverseRealSHT, RealSHT

from anygrid.grid import Sphere
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise

SIZES = ((32, 64), (48, 96), (64, 128), (91, 180), (121, 240), (181, 360))
FIELDS = ((1, 8), (4, 8))  # batch, channels


def _with_gradient(transform: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable[[], object]:
    x = x.detach().requires_grad_()
    g = torch.randn_like(transform(x))
    return lambda: torch.autograd.grad(transform(x), x, g)


def _sides(grid: Sphere, fields: tuple[int, int]) -> dict[str, dict[str, Callable[[], object]]]:
    degree = exact_degree(grid)
    there = RealSHT(*grid.shape, lmax=degree + 1, mmax=degree + 1, grid="legendre-gauss").float()
    back = InverseRealSHT(*grid.shape, lmax=degree + 1, mmax=degree + 1, grid="legendre-gauss").float()
    u = torch.randn(*fields, *grid.shape)
    ours, theirs = analyse(u, grid, degree), there(u.flip(-2))
    assert float((ours - torch.view_as_real(theirs)).norm() / ours.norm()) < 1e-5
    assert float((synthesise(ours, grid) - back(theirs).flip(-2)).norm() / u.norm()) < 1e-5
    return {
        "analysis": {"anygrid": lambda: analyse(u, grid, degree), "torch-harmonics": lambda: there(u)},
        "synthesis": {"anygrid": lambda: synthesise(ours, grid), "torch-harmonics": lambda: back(theirs)},
        "analysis with gradient": {
            "anygrid": _with_gradient(lambda x: analyse(x, grid, degree), u),
            "torch-harmonics": _with_gradient(there, u),
        },
        "synthesis with gradient": {
            "anygrid": _with_gradient(lambda c: synthesise(c, grid), ours),
            "torch-harmonics": _with_gradient(back, theirs),
        },
    }


def _longitudes(grid: Sphere, fields: tuple[int, int]) -> dict[str, Callable[[], object]]:
    nlon, order = grid.lon.size, np.arange(exact_degree(grid) + 1)
    angle = 2 * np.pi * (np.outer(order, np.arange(nlon)) % nlon) / nlon
    matrix = torch.tensor(np.concatenate([np.cos(angle), -np.sin(angle)]), dtype=torch.float32)
    rows = torch.randn(fields[0] * fields[1] * grid.lat.size, nlon)
    return {"fft": lambda: torch.fft.rfft(rows).T.contiguous(), "product": lambda: matrix @ rows.T}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="turns of each side; fewer than 10 are not kept")
    parser.add_argument("--note", default="", help="a sentence on the circumstances, kept with the numbers")
    options = parser.parse_args()
    allocator = prepare(1)
    torch.manual_seed(0)
    facts = machine(1, allocator, "cpu", ("torch-harmonics",))
    result: dict[str, Any] = {"command": "python benchmarks/speed/sphere.py", "note": options.note, "machine": facts, "rows": {}}
    ratios = {}
    for nlat, nlon in SIZES:
        grid = Sphere.gauss(nlat, nlon)
        for fields in FIELDS:
            name = f"{nlat}x{nlon}, {fields[0] * fields[1]} fields"
            for what, sides in _sides(grid, fields).items():
                found = interleaved(sides, options.rounds, clock=time.thread_time)
                key = f"{name}: {what}"
                result["rows"][key], ratios[key] = found, ratio(found, "torch-harmonics", "anygrid")
            found = interleaved(_longitudes(grid, fields), options.rounds, clock=time.thread_time)
            result["rows"][f"{name}: longitudes"] = found
            ratios[f"{name}: longitudes, product over fft"] = ratio(found, "product", "fft")
            print(name, {key.split(": ")[1]: value for key, value in ratios.items() if key.startswith(name + ":")}, flush=True)
    if options.rounds >= 10:
        for line in keep("sphere", result, ratios):
            print("lost:", line)


if __name__ == "__main__":
    main()
