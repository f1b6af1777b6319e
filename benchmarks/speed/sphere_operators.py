"""Operators on the sphere, a forward pass and a training step; and the local convolution beside a sparse matrix product. One thread.

    python benchmarks/speed/sphere_operators.py              # -> benchmarks/results/sphere_operators.json, three minutes
    python benchmarks/speed/sphere_operators.py --rounds 3   # a try, nothing is kept

48x96 Gaussian points, batch 4, width 32, 5 channels in and 3 out, float32, random weights: what a pass costs, not what it is worth.
A training step is forward, backward and AdamW. Times are medians of processor time, taken in turns, so that a busy machine slows all
alike. A ratio is the time of another over that of ``SphericalUNet``, and of the sparse product over our convolution.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from harness import interleaved, keep, machine, prepare, ratio

from anygrid.grid import Sphere
from anygrid.numerics.cap_filters import CapFilters
from anygrid.numerics.sphere_convolution import convolve
from anygrid.operators import SphericalFNO, SphericalUNet, default_operator

GRID, BATCH, WIDTH = Sphere.gauss(48, 96), 4, 32
SIZES = ((32, 64), (48, 96), (91, 180))


def _operators() -> dict[str, torch.nn.Module]:
    return {
        "LatentFNO (default)": default_operator(5, 3, GRID, width=WIDTH),
        "SphericalFNO": SphericalFNO(5, 3, 47, width=WIDTH),
        "SphericalUNet": SphericalUNet(5, 3, 47, width=WIDTH),
        "SphericalUNet without coordinates": SphericalUNet(5, 3, 47, width=WIDTH, coordinates=False),
    }


def _forward(operator: torch.nn.Module, a: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return operator(a, GRID)

    return run


def _step(operator: torch.nn.Module, a: torch.Tensor) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(operator.parameters())

    def run() -> None:
        optimizer.zero_grad()
        operator(a, GRID).square().mean().backward()
        optimizer.step()

    return run


def _convolutions(grid: Sphere, filters: CapFilters) -> dict[str, Callable[[], object]]:
    """Ours, and one sparse matrix (points, points) for each filter; both give the same numbers."""
    nlat, nlon = grid.shape
    x, weight = torch.randn(BATCH, WIDTH, nlat, nlon), torch.randn(filters.size, WIDTH, WIDTH) / 10
    unit = torch.zeros(nlat, 1, nlat, nlon)
    unit[range(nlat), 0, range(nlat), 0] = 1  # the response to one point of each row holds the matrix
    every, matrices = np.arange(nlon), []
    for b in range(filters.size):
        one = torch.zeros(filters.size, 1, 1)
        one[b] = 1
        response = convolve(unit, one, grid, filters)[:, 0].numpy()
        source, target, east = np.nonzero(np.abs(response) > 1e-6 * np.abs(response).max())
        rows = (target[:, None] * nlon + (east[:, None] + every) % nlon).ravel()
        columns = (source[:, None] * nlon + every).ravel()
        values = torch.from_numpy(np.repeat(response[source, target, east], nlon))
        matrices.append(torch.sparse_coo_tensor(np.stack([rows, columns]), values, (grid.size, grid.size)).to_sparse_csr())

    def sparse() -> torch.Tensor:
        y = x.permute(2, 3, 0, 1).reshape(-1, WIDTH)
        total = sum(matrix @ (y @ w).view(grid.size, -1) for matrix, w in zip(matrices, weight, strict=True))
        return total.view(nlat, nlon, BATCH, WIDTH).permute(2, 3, 0, 1).contiguous()

    ours = convolve(x, weight, grid, filters)
    assert float((sparse() - ours).norm() / ours.norm()) < 1e-4
    return {"anygrid": lambda: convolve(x, weight, grid, filters), "sparse product": sparse}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side; fewer than 10 are not kept")
    parser.add_argument("--note", default="", help="a sentence on the circumstances, kept with the numbers")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse")
    allocator = prepare(1)
    torch.manual_seed(0)
    command = "python benchmarks/speed/sphere_operators.py"
    result: dict[str, Any] = {"command": command, "note": options.note, "machine": machine(1, allocator, "cpu", ()), "rows": {}}
    ratios, a = {}, torch.randn(BATCH, 5, *GRID.shape)
    operators = _operators()
    result["parameters"] = {name: sum(p.numel() for p in operator.parameters()) for name, operator in operators.items()}
    for what, make in (("forward", _forward), ("training step", _step)):
        found = interleaved({name: make(operator, a) for name, operator in operators.items()}, options.rounds, clock=time.thread_time)
        result["rows"][what] = found
        others = [name for name in operators if name != "SphericalUNet"]
        ratios |= {f"{what}: {name} over SphericalUNet": ratio(found, name, "SphericalUNet") for name in others}
        print(what, {name: round(row["median_ms"], 1) for name, row in found.items()}, flush=True)
    for nlat, nlon in SIZES:
        for angular in (0, 1):
            filters = CapFilters(540 / nlat, 2, angular)
            name = f"convolution: {nlat}x{nlon}, {filters.size} filters"
            found = interleaved(_convolutions(Sphere.gauss(nlat, nlon), filters), options.rounds, clock=time.thread_time)
            result["rows"][name], ratios[name] = found, ratio(found, "sparse product", "anygrid")
            print(name, ratios[name], flush=True)
    if options.rounds >= 10:
        for line in keep("sphere_operators", result, ratios):
            print("lost:", line)


if __name__ == "__main__":
    main()
