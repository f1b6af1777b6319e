"""What was tried to make the spectral layer and its neighbours faster, each against what the library does.

    python benchmarks/speed/kernels.py              # -> benchmarks/results/kernels.json and .csv
    python benchmarks/speed/kernels.py --compile    # with the pointwise function compiled by inductor and by cc as well (minutes)

All sides of a comparison take turns in one process with one thread, and its processor time is what counts: other jobs on the machine blur
it, but do not decide it. A ratio above 1 says that the other way is faster than the library's.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from harness import interleaved as take_turns
from harness import keep, machine, prepare
from models import HEAD, SIZES, WIDTH, sides
from torch import Tensor, nn

from anygrid.grid import Box
from anygrid.operators import FNO, lean
from anygrid.operators.layers import Pointwise
from anygrid.operators.spectral import SpectralConv, mix, spectral_sum
from anygrid.operators.transforms import analyse, synthesise

ROUNDS = 11
interleaved = partial(take_turns, clock=time.thread_time)
# x P(x^2) / Q(x^2) on [-5.4, 5.4] for half the error function of x / sqrt(2), fitted here; 5.5e-9 in exact arithmetic.
HALF = (
    (0.398942246, 0.0333695878, 0.00465066273, 0.000164291316, 6.35949991e-06, 2.33868507e-08),
    (1.0, 0.250311244, 0.0283771073, 0.00185881102, 7.23888057e-05, 1.21655589e-06),
)


def products() -> dict[str, Any]:
    """The tall products of pointwise maps and heads by MKL (``nn.functional.linear``) and by oneDNN."""
    out = {}
    for inside, outside in ((WIDTH, WIDTH), (WIDTH, HEAD), (HEAD, WIDTH)):
        x, weight = torch.randn(81920, inside), torch.randn(outside, inside)
        call = partial(torch.ops.mkldnn._linear_pointwise, x, weight, None, "none", [], "")
        out[f"oneDNN, {inside} to {outside} channels"] = interleaved(
            {"library": partial(nn.functional.linear, x, weight), "other": call}, ROUNDS
        )
    return out


def folding() -> dict[str, Any]:
    """Half the arithmetic from even and odd parts: the last axis with cosines and sines, a pair axis with real matrices and a turn."""
    x, matrix = torch.randn(1280, 64, WIDTH), torch.randn(26, 64)
    half = torch.randn(13, 32)

    def folded() -> None:
        # Points are taken as stored so that n - j lies half an axis on: no reversal is paid for.
        even, odd = x[:, :32] + x[:, 32:], x[:, :32] - x[:, 32:]
        torch.matmul(half, even), torch.matmul(half, odd)

    pairs, whole, real = torch.randn(20, 128, 13 * WIDTH), torch.randn(48, 128), torch.randn(25, 64)

    def turned() -> None:
        y = torch.matmul(real, pairs.view(20, 64, -1)).view(20, 25, 2, -1)
        cosine, sine, out = y[:, :13], y[:, 13:], pairs.new_empty(20, 2, 24, pairs.shape[-1])
        torch.sub(cosine[:, 1:, 0], sine[:, :, 1], out=out[:, 0, :12])
        torch.add(cosine[:, 1:, 1], sine[:, :, 0], out=out[:, 1, :12])
        torch.add(cosine[:, 1:12, 0], sine[:, :11, 1], out=out[:, 0, 13:])
        torch.sub(cosine[:, 1:12, 1], sine[:, :11, 0], out=out[:, 1, 13:])
        out[:, :, 12] = cosine[:, 0]

    return {
        "folded last axis": interleaved({"library": partial(torch.matmul, matrix, x), "other": folded}, ROUNDS),
        "real halves of a pair axis": interleaved({"library": partial(torch.matmul, whole, pairs), "other": turned}, ROUNDS),
    }


def _layer(size: str) -> tuple[Tensor, SpectralConv, nn.Linear, Box]:
    models, a, grid = sides(size, "cpu")
    model = models["FNO"]
    assert isinstance(model, FNO)
    spectral, pointwise = model.spectral[0], model.pointwise[0]
    assert isinstance(spectral, SpectralConv)
    assert isinstance(pointwise, nn.Linear)
    return model.lift(a.movedim(1, -1)), spectral, pointwise, grid


def by_samples(x: Tensor, layer: SpectralConv, pointwise: nn.Linear, grid: Box) -> Tensor:
    """A layer whose activation, analysis and pointwise map see one sample after another."""
    plan, y, found = layer.plan(x, grid, grid), torch.empty_like(x), []
    for one, out in zip(x.split(1), y.split(1), strict=True):
        s = nn.functional.gelu(one)
        found.append(analyse(s, plan))
        torch.addmm(pointwise.bias, s.flatten(0, -2), pointwise.weight.T, out=out.view(-1, WIDTH))
    return synthesise(mix(torch.cat(found), layer.weight, plan), plan, onto=y)


def by_tiles(x: Tensor, layer: SpectralConv, pointwise: nn.Linear, grid: Box, numbers: int) -> Tensor:
    """The same by tiles of whole rows of the last axis, of so many numbers: activation, last product, pointwise map in cache."""
    plan, (n, width) = layer.plan(x, grid, grid), x.shape[-2:]
    lines, last = x.view(-1, n, width), plan.analysis[-1]
    y, c = torch.empty_like(lines), x.new_empty(len(lines), len(last), width)
    rows = max(1, numbers // (n * width))
    for some, out, found in zip(lines.split(rows), y.split(rows), c.split(rows), strict=True):
        s = nn.functional.gelu(some)
        torch.bmm(last.expand(len(s), -1, -1), s, out=found)
        torch.addmm(pointwise.bias, s.view(-1, width), pointwise.weight.T, out=out.view(-1, width))
    for k in reversed(range(len(plan.analysis) - 1)):
        c = torch.matmul(plan.analysis[k], c.reshape(math.prod(x.shape[: k + 1]), plan.analysis[k].shape[1], -1))
    c = c.reshape(len(x), *plan.coefficients, width)
    return synthesise(mix(c, layer.weight, plan), plan, onto=y.view(x.shape))


def blocking() -> dict[str, Any]:
    """A layer, whole batch at once, against one sample at a time and tiles of rows."""
    out = {}
    for size in ("2D 64", "2D 256", "1D 8192"):
        arguments = _layer(size)
        ways: dict[str, Callable[..., Tensor]] = {"library": partial(spectral_sum, activations=1), "samples": by_samples}
        ways |= {f"tiles of {n >> 10}K": partial(by_tiles, numbers=n) for n in (1 << 16, 1 << 17, 1 << 19)}
        exact = ways["library"](*arguments)
        for way in ways.values():
            assert (way(*arguments) - exact).norm() <= 1e-5 * exact.norm()
        timed = interleaved({name: partial(way, *arguments) for name, way in ways.items()}, ROUNDS)
        for name in list(ways)[1:]:
            out[f"{size} by {name}"] = {"library": timed["library"], "other": timed[name]}
    return out


def heads() -> dict[str, Any]:
    """A training step of the projection: hidden layer kept (the library), everything kept, nothing kept."""
    head, x = Pointwise(WIDTH, HEAD, 1), torch.randn(81920, WIDTH, requires_grad=True)
    large, rule = lean._LARGE, lean.recomputing

    def run(limit: int, on: bool) -> None:
        lean._LARGE, lean.recomputing = limit, rule if on else (lambda _: False)
        head(x).sum().backward()
        lean._LARGE, lean.recomputing = large, rule

    with torch.enable_grad():
        timed = interleaved(
            {"library": partial(run, large, True), "all": partial(run, large, False), "none": partial(run, 0, True)}, ROUNDS
        )
    return {f"projection, {name} kept": {"library": timed["library"], "other": timed[name]} for name in ("all", "none")}


def bfloat16() -> dict[str, Any]:
    """The layer's products in bfloat16, and what they are off by."""
    x, matrix = torch.randn(1280, 64, WIDTH), torch.randn(26, 64)
    small, coarse = x.bfloat16(), matrix.bfloat16()
    timed = interleaved({"library": partial(torch.matmul, matrix, x), "other": partial(torch.matmul, coarse, small)}, ROUNDS)
    exact = matrix @ x
    error = float((torch.matmul(coarse, small).float() - exact).norm() / exact.norm())
    return {"last axis in bfloat16": timed | {"relative_error": error}}


def _rational(x: Tensor) -> Tensor:
    y = x.clamp(-5.4, 5.4)
    t = y * y
    above, below = (coefficients[-1] * torch.ones_like(t) for coefficients in HALF)
    for p, q in zip(HALF[0][-2::-1], HALF[1][-2::-1], strict=True):
        above, below = above * t + p, below * t + q
    return x * (0.5 + y * above / below)


def _horner(coefficients: tuple[float, ...]) -> str:
    text = f"{coefficients[-1]}f"
    for c in coefficients[-2::-1]:
        text = f"({text} * t + {c}f)"
    return text


def compiled() -> dict[str, Any]:
    """GELU on half a million numbers by torch, as a rational function by inductor, and by a C compiler."""
    x, out = 2 * torch.randn(1 << 19), torch.empty(1 << 19)
    begin = time.perf_counter()
    inductor = torch.compile(_rational, dynamic=True)
    inductor(x)
    seconds = {"inductor": time.perf_counter() - begin}
    source = f"""#include <stddef.h>
void gelu(float *restrict out, const float *restrict x, size_t n) {{
  for (size_t i = 0; i < n; i++) {{
    float y = x[i] < -5.4f ? -5.4f : (x[i] > 5.4f ? 5.4f : x[i]), t = y * y;
    out[i] = x[i] * (0.5f + y * {_horner(HALF[0])} / {_horner(HALF[1])});
  }}
}}
"""
    ways: dict[str, Callable[[], object]] = {"library": partial(nn.functional.gelu, x), "inductor": partial(inductor, x)}
    compiler = shutil.which("cc")
    with tempfile.TemporaryDirectory() as folder:
        if compiler:
            (Path(folder) / "gelu.c").write_text(source)
            begin = time.perf_counter()
            command = [compiler, "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "gelu.c", "-o", "gelu.so"]
            subprocess.run(command, cwd=folder, check=True)
            seconds["cc"] = time.perf_counter() - begin
            call, size = ctypes.CDLL(f"{folder}/gelu.so").gelu, ctypes.c_size_t(x.numel())
            pointers = ctypes.c_void_p(out.data_ptr()), ctypes.c_void_p(x.data_ptr())
            ways["cc"] = lambda: call(*pointers, size)
        timed = interleaved(ways, ROUNDS)
    exact = nn.functional.gelu(x.double())
    off = {"inductor": float((inductor(x) - exact).abs().max()), "library": float((nn.functional.gelu(x) - exact).abs().max())}
    if "cc" in timed:
        off["cc"] = float((out - exact).abs().max())
    return {
        f"GELU by {name}": {"library": timed["library"], "other": timed[name], "compile_seconds": seconds[name], "largest_error": off}
        for name in seconds
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    allocator = prepare(1)
    result: dict[str, Any] = {
        "command": "python benchmarks/speed/kernels.py" + (" --compile" if options.compile else ""),
        "machine": machine(1, allocator, "cpu", ["neuraloperator"]),
        "date": time.strftime("%Y-%m-%d"),
        "sizes": {name: SIZES[name] for name in ("2D 64", "2D 256", "1D 8192")},
        "tried": {},
    }
    with torch.no_grad():
        for part in (products, folding, blocking, heads, bfloat16, *((compiled,) if options.compile else ())):
            result["tried"] |= part()
    ratios = {name: round(row["library"]["median_ms"] / row["other"]["median_ms"], 3) for name, row in result["tried"].items()}
    for name, value in ratios.items():
        print(f"{name:40s} {value:.2f}")
    keep("kernels", result, ratios)


if __name__ == "__main__":
    main()
