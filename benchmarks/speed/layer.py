"""Our textbook FNO against neuraloperator's with the same weights, and products against FFT inside our layer.

    python benchmarks/speed/layer.py          # -> benchmarks/speed/layer.json

Both sides take turns in one process with one thread; medians and quartiles of the rounds are kept, ratios are what counts.
The allocator is glibc's with raised thresholds for both sides (see anygrid.training.allocator), so that neither pays for page faults.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from anygrid.grid import Box, Periodic
from anygrid.numerics.bases import Basis
from anygrid.operators import FNO, default_operator, lean, spectral, transforms
from anygrid.operators.spectral import SpectralConv
from anygrid.training.allocator import keep_large_blocks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import neuralop.models as peers

ROUNDS = 9
MODELS = [((1024,), (32,), 32, 20), ((64, 64), (24, 24), 32, 20), ((85, 85), (24, 24), 32, 20), ((32, 32, 16), (12, 12, 12), 20, 4)]
LAYERS = [
    ((64, 64), 13),
    ((64, 64), 25),
    ((64, 64), 49),
    ((64, 64), 64),
    ((128, 128), 25),
    ((128, 128), 49),
    ((128, 128), 97),
    ((128, 128), 128),
    ((256, 256), 33),
    ((256, 256), 65),
    ((256, 256), 129),
    ((1024,), 33),
    ((1024,), 129),
    ((1024,), 513),
    ((32, 32, 32), 9),
    ((32, 32, 32), 17),
]


def interleaved(sides: dict[str, Callable[[], object]]) -> dict[str, object]:
    """Milliseconds of each side, taking turns, and the ratio of medians of the first to the second."""
    for run in sides.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            begin = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begin))
    out: dict[str, object] = {
        name: {"median_ms": float(np.median(t)), "quartiles_ms": [float(q) for q in np.quantile(t, [0.25, 0.75])]}
        for name, t in times.items()
    }
    first, second = (float(np.median(t)) for t in times.values())
    return out | {"ratio": first / second}


def _periodic(shape: tuple[int, ...]) -> Box:
    return Box.uniform({f"x{k}": Periodic() for k in range(len(shape))}, shape)


def _step(model: torch.nn.Module, *arguments: object) -> None:
    model.zero_grad()
    model(*arguments).square().mean().backward()


def _kept(model: torch.nn.Module, *arguments: object) -> float:
    """Megabytes that a forward pass keeps for the backward pass, beside the parameters."""
    storages: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = model(*arguments)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    del output
    return sum(size for place, size in storages.items() if place not in own) / 1e6


def _path(layer: SpectralConv, x: torch.Tensor, grid: Box, *, fft: bool) -> transforms.Plan:
    transforms.use_fft = lambda *_: fft
    transforms.plan.cache_clear()
    return layer.plan(x, grid, grid)


def _layer_step(layer: SpectralConv, x: torch.Tensor, grid: Box, path: transforms.Plan) -> None:
    spectral.plan = lambda *_: path  # type: ignore[assignment]
    _step(layer, x, grid)


def models() -> list[dict[str, object]]:
    """Forward and training step of neuraloperator's FNO and of ours with its weights."""
    rows = []
    for shape, modes, width, batch in MODELS:
        torch.manual_seed(0)
        peer = peers.FNO(
            n_modes=modes,
            in_channels=1,
            out_channels=1,
            hidden_channels=width,
            lifting_channel_ratio=0,
            projection_channel_ratio=4,
            use_channel_mlp=False,
            fno_skip="linear",
            positional_embedding=None,
        )
        ours, grid, a = FNO.from_neuraloperator(peer.state_dict(), [True] * len(shape)), _periodic(shape), torch.randn(batch, 1, *shape)
        # Upstream's odd sizes in 2D and 3D are wrong, so only the times are compared there.
        difference = float((ours(a, grid) - peer(a)).detach().norm() / peer(a).detach().norm())

        with torch.no_grad():
            forward = interleaved({"neuraloperator": partial(peer, a), "anygrid": partial(ours, a, grid)})
        training = interleaved({"neuraloperator": partial(_step, peer, a), "anygrid": partial(_step, ours, a, grid)})
        rows.append(
            {
                "shape": shape,
                "modes": modes,
                "width": width,
                "batch": batch,
                "relative_difference": difference,
                "forward": forward,
                "training": training,
                "kept_for_backward_MB": {"neuraloperator": _kept(peer, a), "anygrid": _kept(ours, a, grid)},
            }
        )
        print(shape, "forward", round(float(forward["ratio"]), 2), "training", round(float(training["ratio"]), 2), flush=True)
    return rows


def layers() -> list[dict[str, object]]:
    """FFT path against matrix products in one layer of width 32, batch 8, forward and backward."""
    rows = []
    make_plan, rule = transforms.plan, transforms.use_fft
    for shape, count in LAYERS:
        layer, grid = SpectralConv(32, 32, [Basis("fourier", count)] * len(shape)), _periodic(shape)
        x = torch.randn(8, *shape, 32, requires_grad=True)
        chosen = "fft" if rule(layer.bases, grid, grid) else "products"
        paths = {name: _path(layer, x, grid, fft=name == "fft") for name in ("fft", "products")}
        timing = interleaved({name: partial(_layer_step, layer, x, grid, path) for name, path in paths.items()})
        rows.append({"shape": shape, "modes": count, "chosen": chosen, **timing})
        print(shape, count, "fft/products", round(float(timing["ratio"]), 2), "chosen", chosen, flush=True)
        spectral.plan, transforms.use_fft = make_plan, rule
    return rows


def paths() -> list[dict[str, object]]:
    """Training step and kept memory of the plain operations and of the recomputing path, in the textbook FNO and the default operator."""
    rows, rule = [], lean.recomputing
    cases: list[tuple[tuple[int, ...], int, torch.nn.Module]] = [
        ((64, 64), 20, FNO(1, 1, [True] * 2, [24, 24])),
        ((64, 64), 8, default_operator(1, 1, _periodic((64, 64)))),
        ((1024,), 8, default_operator(1, 1, _periodic((1024,)))),
    ]
    for shape, batch, model in cases:
        grid, a = _periodic(shape), torch.randn(batch, 1, *shape)
        kept = {}

        def run(on: bool, model: torch.nn.Module = model, a: torch.Tensor = a, grid: Box = grid) -> None:
            lean.recomputing = spectral.recomputing = rule if on else (lambda _: False)
            _step(model, a, grid)

        for name, on in (("plain", False), ("recomputing", True)):
            run(on)
            kept[name] = _kept(model, a, grid)
        timing = interleaved({"plain": partial(run, False), "recomputing": partial(run, True)})
        rows.append({"operator": type(model).__name__, "shape": shape, "batch": batch, "training": timing, "kept_for_backward_MB": kept})
        print(type(model).__name__, shape, "plain/recomputing", round(float(timing["ratio"]), 2), kept, flush=True)
    lean.recomputing = spectral.recomputing = rule
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    raised = keep_large_blocks()
    result = {
        "command": "python benchmarks/speed/layer.py",
        "threads": 1,
        "allocator": "glibc, mmap and trim thresholds raised" if raised else "as found",
        "torch": torch.__version__,
        "models": models(),
        "layers": layers(),
        "paths": paths(),
    }
    (Path(__file__).parent / "layer.json").write_text(json.dumps(result, indent=1) + "\n")
