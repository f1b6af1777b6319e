"""Whole models against neuraloperator 2.0.0: forward pass, training step and training memory at seven sizes.

    python benchmarks/speed/models.py                  # -> benchmarks/results/models.json, .csv and docs/figures/models.png
    python benchmarks/speed/models.py --device cuda    # -> models-cuda.json
    python benchmarks/speed/models.py --smoke          # the smallest size, three rounds, nothing is kept

"FNO" is our textbook network with the peer's own weights: the same function where sizes are even, to the difference that is stated. The
default operator of `fit` stands beside it as what one trains here instead; it computes another function. All sides take turns in one
process, with the same threads and the same allocator, so that neither gains from page faults saved. Memory is the growth of the
resident set of a fresh process over two training steps.

The floor of the two-dimensional layer is its multiplications at the rate of a square product measured in the same run, and its field read
and written once for each pass over it at the rate of a copy. The least time of a whole network is its multiplications at that rate and its
GELUs at torch's rate, without touching memory; "reachable" is the peer's time over it, which no arrangement of these operations exceeds.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from harness import interleaved, keep, machine, peak_megabytes, prepare, ratio
from torch import nn

from anygrid.grid import Box, Periodic
from anygrid.operators import FNO, default_operator
from anygrid.operators.spectral import spectral_sum

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "figures" / "models.png"
WIDTH, DEPTH, HEAD = 32, 4, 128
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {  # shape, modes, batch
    "1D 1024": ((1024,), (32,), 20),
    "1D 8192": ((8192,), (32,), 20),
    "2D 64": ((64, 64), (24, 24), 20),
    "2D 85": ((85, 85), (24, 24), 20),
    "2D 128": ((128, 128), (32, 32), 8),
    "2D 256": ((256, 256), (32, 32), 4),
    "3D 64x64x20": ((64, 64, 20), (12, 12, 12), 2),
}
AIM = {"forward": 3.0, "training": 2.0, "memory": 2.0}


def _grid(shape: tuple[int, ...]) -> Box:
    return Box.uniform({f"x{k}": Periodic() for k in range(len(shape))}, shape)


def peer_model(modes: tuple[int, ...]) -> nn.Module:
    """The peer's FNO in the form whose weights our network takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import neuralop.models as peers
    torch.manual_seed(0)
    made: nn.Module = peers.FNO(
        n_modes=modes,
        in_channels=1,
        out_channels=1,
        hidden_channels=WIDTH,
        lifting_channel_ratio=0,
        projection_channel_ratio=4,
        use_channel_mlp=False,
        fno_skip="linear",
        positional_embedding=None,
    )
    return made


def sides(name: str, device: str) -> tuple[dict[str, nn.Module], torch.Tensor, Box]:
    """The models of one size, an input and its grid."""
    shape, modes, batch = SIZES[name]
    peer, grid = peer_model(modes), _grid(shape)
    ours = FNO.from_neuraloperator(peer.state_dict(), [True] * len(shape))
    torch.manual_seed(0)
    models = {"neuraloperator": peer, "FNO": ours, "default": default_operator(1, 1, grid, width=WIDTH)}
    return {k: m.to(device) for k, m in models.items()}, torch.randn(batch, 1, *shape, device=device), grid


def call(name: str, model: nn.Module, a: torch.Tensor, grid: Box) -> torch.Tensor:
    return model(a) if name == "neuraloperator" else model(a, grid)


def step(name: str, model: nn.Module, a: torch.Tensor, grid: Box) -> None:
    model.zero_grad(set_to_none=True)
    call(name, model, a, grid).square().mean().backward()


def training_work(size: str, side: str) -> partial[None]:
    """A training step of one side, prepared in a process of its own."""
    models, a, grid = sides(size, "cpu")
    return partial(step, side, models[side], a, grid)


def measure(size: str, device: str, rounds: int) -> dict[str, Any]:
    models, a, grid = sides(size, device)
    with torch.no_grad():
        apart = call("FNO", models["FNO"], a, grid) - call("neuraloperator", models["neuraloperator"], a, grid)
        difference = float(apart.norm() / call("neuraloperator", models["neuraloperator"], a, grid).norm())
        forward = interleaved({k: partial(call, k, m, a, grid) for k, m in models.items()}, rounds, device)
    training = interleaved({k: partial(step, k, m, a, grid) for k, m in models.items()}, rounds, device)
    if device == "cuda":
        memory = {}
        for k, m in models.items():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step(k, m, a, grid)
            memory[k] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    else:
        memory = {k: peak_megabytes(training_work, size, k) for k in models}
    shape, modes, batch = SIZES[size]
    row: dict[str, Any] = {"shape": shape, "modes": modes, "width": WIDTH, "batch": batch, "relative_difference": difference}
    return row | {"forward": forward, "training": training, "training_megabytes": memory}


def products(size: str) -> dict[str, int]:
    """Floating-point operations of one layer's transforms there and back, its mixing and its pointwise map, and of the projection."""
    shape, modes, batch = SIZES[size]
    points, half, kept = batch * math.prod(shape), modes[-1] // 2 + 1, [*modes[:-1], 1]
    transforms = 2 * points * WIDTH * 2 * half
    for k in range(len(shape) - 1):  # pairs to pairs: twice the modes from twice the points
        transforms += 2 * batch * WIDTH * math.prod(shape[:k]) * (2 * kept[k]) * (2 * shape[k]) * math.prod(kept[k + 1 :]) * half
    mixing = 2 * batch * 4 * WIDTH**2 * math.prod(kept) * half
    return {
        "transforms": 2 * transforms,
        "mixing": mixing,
        "pointwise": 2 * points * WIDTH**2,
        "projection": 2 * points * (WIDTH + 1) * HEAD,
    }


def rates(device: str) -> dict[str, float]:
    """Milliseconds of an operation in a square product, of a byte in a copy, and of a GELU and its gradient on a field that is in cache."""
    square, field = torch.randn(1024, 1024, device=device), torch.randn(20, 64, 64, WIDTH, device=device)
    target, cached = torch.empty_like(field), field[:2].clone()
    with torch.no_grad():
        found = interleaved(
            {
                "operation": partial(torch.matmul, square, square),
                "byte": partial(target.copy_, field),
                "gelu": partial(nn.functional.gelu, cached),
                "gelu_backward": partial(torch.ops.aten.gelu_backward, cached, cached),
            },
            21,
            device,
        )
    count = {"operation": 2 * 1024**3, "byte": 2 * 4 * field.numel(), "gelu": cached.numel(), "gelu_backward": cached.numel()}
    return {name: found[name]["median_ms"] / n for name, n in count.items()}


def least(size: str, rate: dict[str, float]) -> dict[str, float]:
    """Milliseconds below which the FNO cannot fall with these operations: its products at full rate and its GELUs, no memory touched."""
    shape, _, batch = SIZES[size]
    count, points = products(size), batch * math.prod(shape)
    gelus = points * (HEAD + WIDTH * 2 * (DEPTH - 1))  # two between layers, as the peer
    others = DEPTH * (count["mixing"] + count["pointwise"]) + count["projection"]
    forward = DEPTH * count["transforms"] + others
    return {
        "forward_ms": forward * rate["operation"] + gelus * rate["gelu"],
        "training_ms": (forward + DEPTH * count["transforms"] + 2 * others) * rate["operation"]
        + gelus * (rate["gelu"] + rate["gelu_backward"]),
        "gelu_share_of_forward": gelus * rate["gelu"] / (forward * rate["operation"] + gelus * rate["gelu"]),
    }


def floor(rate: dict[str, float], device: str) -> dict[str, float]:
    """Counted floor and measured time of one layer, 64 x 64 points, 24 modes, width 32, batch 20: forward pass."""
    shape, modes, batch = SIZES["2D 64"]
    model, grid = FNO(1, 1, [True, True], modes, width=WIDTH).to(device), _grid(shape)
    count, x = products("2D 64"), torch.randn(batch, *shape, WIDTH, device=device)
    bytes_ = 4 * x.numel() * 5  # read by analysis and pointwise path, their sum written, read and written by the activation
    with torch.no_grad():
        run = partial(spectral_sum, x, model.spectral[0], model.pointwise[0], grid, activations=1)
        layer = interleaved({"layer": run}, 21, device)["layer"]["median_ms"]
    counted = (count["transforms"] + count["mixing"] + count["pointwise"]) * rate["operation"] + bytes_ * rate["byte"]
    return {
        "gigaflops_of_a_product": round(1e-6 / rate["operation"], 1),
        "gigabytes_a_second_of_a_copy": round(1e-6 / rate["byte"], 1),
        "nanoseconds_of_a_gelu": round(1e6 * rate["gelu"], 3),
        "nanoseconds_of_its_gradient": round(1e6 * rate["gelu_backward"], 3),
        "floor_ms": round(counted, 3),
        "layer_ms": round(layer, 3),
        "layer_over_floor": round(layer / counted, 3),
        "layer_over_floor_and_gelu": round(layer / (counted + x.numel() * rate["gelu"]), 3),
    }


def figure(result: dict[str, Any]) -> None:
    """How many times faster, and how much less memory, at each size."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 3.3), layout="constrained")
    titles = {"forward": "forward pass, times faster", "training": "training step, times faster", "memory": "training memory, times less"}
    for axes, (kind, title) in zip(drawn.subplots(1, 3, sharey=True), titles.items(), strict=True):
        for k, (side, colour) in enumerate((("FNO", "#1c7ed6"), ("default", "#d9480f"))):
            values = [result["ratios"][f"{size} {kind} {side}"] for size in result["sizes"]]
            axes.barh([i + 0.2 - 0.4 * k for i in range(len(values))], values, height=0.38, color=colour, label=side)
        axes.axvline(1, color="0.3", lw=0.8)
        axes.axvline(AIM[kind], color="0.3", lw=0.8, ls=":")
        axes.set_xscale("log")
        axes.set_xlim(0.7)
        axes.set(
            title=title,
            xticks=[1, 2, 5, 10, 20, 50],
            xticklabels=["1", "2", "5", "10", "20", "50"],
            yticks=range(len(result["sizes"])),
            yticklabels=list(result["sizes"]),
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()
    bars = axes.containers
    drawn.legend(
        bars, ["same network, same weights", "default operator of fit"], frameon=False, loc="outside upper right", ncols=2, fontsize=8
    )
    drawn.supxlabel("neuraloperator 2.0.0 over anygrid; dotted: the aim", fontsize=9)
    drawn.savefig(FIGURE, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    allocator = prepare(options.threads)
    names = list(SIZES)[:1] if options.smoke else list(SIZES)
    name = "models" + ("-cuda" if options.device == "cuda" else "") + (f"-{options.threads}threads" if options.threads > 1 else "")
    result: dict[str, Any] = {
        "command": "python benchmarks/speed/models.py" + (f" {' '.join(sys.argv[1:])}" if sys.argv[1:] else ""),
        "machine": machine(options.threads, allocator, options.device, ["neuraloperator"]),
        "date": time.strftime("%Y-%m-%d"),
        "sizes": {},
    }
    ratios: dict[str, float] = {}
    rate = rates(options.device)
    for size in names:
        row = result["sizes"][size] = measure(size, options.device, 3 if options.smoke else options.rounds)
        for side in ("FNO", "default"):
            for kind in ("forward", "training"):
                ratios[f"{size} {kind} {side}"] = ratio(row[kind], "neuraloperator", side)
            ratios[f"{size} memory {side}"] = round(row["training_megabytes"]["neuraloperator"] / row["training_megabytes"][side], 3)
        row["least"] = least(size, rate)
        row["reachable"] = {
            kind: round(row[kind]["neuraloperator"]["median_ms"] / row["least"][f"{kind}_ms"], 2) for kind in ("forward", "training")
        }
        print(size, {k.removeprefix(f"{size} "): v for k, v in ratios.items() if k.startswith(size)}, flush=True)
    result["layer_floor"] = floor(rate, options.device)
    print(result["layer_floor"])
    if not options.smoke:
        for text in keep(name, result, ratios):
            print("lost more than 5 %:", text, file=sys.stderr)
        figure(result | {"ratios": ratios})


if __name__ == "__main__":
    main()
