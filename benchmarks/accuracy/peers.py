"""Error against training time: `fit`, and neuraloperator 2.0.0, on the same data and the same core.

    python benchmarks/accuracy/peers.py                    # -> peers.json and docs/figures/peers.png; two hours, goes on where stopped
    python benchmarks/accuracy/peers.py --tasks burgers    # one problem
    python benchmarks/accuracy/peers.py --seed 1           # a second training of each point
    python benchmarks/accuracy/peers.py --figure           # the figure from the file

`fit` is there with both of its optimisers: by default it takes SOAP from a minute on, AdamW below. Every point is a training of
its own whose schedule ends at its time. Seconds are turned into steps by the milliseconds of a step, measured in turns for all
sides on the same core, so that other jobs on the machine change nothing; reading data and validation are charged to nobody.
The peer trains in a plain loop with its own model, losses and optimiser, warm-up and half cosine; learning rate, loss, width and
batch are those with the smallest error on held-out training samples after a short training (``search`` in the file): ours has
no such search. Nobody uses symmetries. The test samples are looked at once for each point, when it is trained.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from learning import ALL, SEEDED, Row, _trained, milliseconds
from run import HERE, ROOT, Task, _data, _errors, _pairs
from torch import Tensor, nn

sys.path.insert(0, str(HERE.parent / "speed"))
from harness import machine, prepare

from anygrid.grid import Grid
from anygrid.operators import FNO
from anygrid.training.schedule import learning_rate_factor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import neuralop.models as peers
    from neuralop.losses import H1Loss, LpLoss
    from neuralop.training import AdamW as PeerAdamW

PATH, FIGURE = HERE / "peers.json", ROOT / "docs" / "figures" / "peers.png"
PEER, OURS, SOAPY, TEXTBOOK = "neuraloperator 2.0.0", "anygrid, AdamW", "anygrid, SOAP and gradient 0.1", "textbook FNO in fit"
SECONDS = {OURS: (12.0, 48.0, 120.0, 480.0), SOAPY: (12.0, 48.0, 120.0, 480.0), PEER: (48.0, 120.0, 480.0), TEXTBOOK: (48.0, 480.0)}
NAMES = {
    "darcy": "Darcy 85 x 85",
    "navier_stokes": "Navier-Stokes 1e-3, after 50 steps",
    "burgers": "Burgers 1024",
    "helmholtz": "Helmholtz 85 x 85",
}
SEARCH = 30.0  # seconds of each row of the peer's search
MODES = {1: (32,), 2: (24, 24)}
TIMED = 30


@dataclass(frozen=True)
class Settings:
    """What the search of the peer chooses."""

    learning_rate: float = 4e-3
    loss: str = "L2"
    width: int = 32
    batch: int = 8


class Peer(nn.Module):
    """The peer's network between scaled channels; a map in physical units, as ours."""

    def __init__(self, task: Task, settings: Settings, a: Tensor, u: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        dimension = a.ndim - 2
        self.network = peers.FNO(MODES[dimension], in_channels=a.shape[1], out_channels=u.shape[1], hidden_channels=settings.width)
        self.scales = (a.mean(), a.std(), u.mean(), u.std())

    def forward(self, a: Tensor, grid: Grid | None = None) -> Tensor:
        mean, deviation, shift, scale = self.scales
        return shift + scale * self.network((a - mean) / deviation)


def _samples(task: Task, ds: Any) -> tuple[Tensor, Tensor]:
    """Pairs ``(row, channel, *space)`` of one step."""
    a, u, _ = _pairs(ds, task)
    if task.problem.dt is None:
        return a, u[:, 0]
    states = torch.cat([a[:, None], u], 1)
    return states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1)


def train_peer(task: Task, a: Tensor, u: Tensor, settings: Settings, steps: int, seed: int = 0) -> Peer:
    """A plain loop: shuffled epochs, the peer's AdamW, warm-up and half cosine as in `fit`."""
    model = Peer(task, settings, a, u)
    dimension = a.ndim - 2
    loss = (H1Loss if settings.loss == "H1" else partial(LpLoss, p=2))(d=dimension)
    optimiser = PeerAdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    generator, order = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < settings.batch:
            order = torch.randperm(len(a), generator=generator)
        rows, order = order[: settings.batch], order[settings.batch :]
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor((step + 0.5) / steps, 0.05)
        optimiser.zero_grad(set_to_none=True)
        value = loss(model(a[rows]), u[rows])
        value.backward()
        optimiser.step()
    return model.eval()


def _peer_milliseconds(task: Task, a: Tensor, u: Tensor, settings: Settings) -> float:
    train_peer(task, a, u, settings, 2)
    begin = time.perf_counter()
    train_peer(task, a, u, settings, TIMED)
    return 1e3 * (time.perf_counter() - begin) / TIMED


def _fno(inputs: int, outputs: int, grid: Grid) -> nn.Module:
    """As wide as the textbook, with the peer's modes."""
    return FNO(inputs, outputs, [i.periodic for i in grid.domain], MODES[grid.ndim], width=32)


def _search(task: Task, a: Tensor, u: Tensor, held_out: Any, say: Callable[[str], None]) -> dict[str, Any]:
    """One thing after the other: rate, loss, width, batch."""
    best, rows = Settings(), []

    def error(settings: Settings) -> float:
        cost = _peer_milliseconds(task, a, u, settings)
        steps = round(1e3 * SEARCH / cost)
        found = _errors(train_peer(task, a, u, settings, steps), *_pairs(held_out.isel(sample=slice(0, 25)), task))  # type: ignore[arg-type]
        value = float(found["relative_l2"])  # type: ignore[arg-type]
        rows.append({**asdict(settings), "milliseconds": round(cost, 2), "steps": steps, "held_out": round(value, 5)})
        say(f"search {rows[-1]}")
        return value if np.isfinite(value) else np.inf

    least = error(best)
    for changes in ({"learning_rate": 1e-3}, {"learning_rate": 1e-2}, {"loss": "H1"}, {"width": 64}, {"batch": 20}):
        candidate = replace(best, **changes)
        value = error(candidate)
        if value < least:
            best, least = candidate, value
    return {"chosen": asdict(best), "seconds_a_row": SEARCH, "rows": rows}


def run(name: str, kept: dict[str, Any], save: Callable[[], None], sides: list[str], seconds: list[float] | None, seed: int) -> None:
    task = ALL[name]
    train, test = _data(name, task, "train", 2), _data(name, task, "test", 2)
    split = train.sizes["sample"] * 9 // 10
    parts = train.isel(sample=slice(0, split)), train.isel(sample=slice(split, None))
    a, u = _samples(task, parts[0])
    at, ut, grid = _pairs(test, task)
    every = (..., *[slice(None, None, task.at)] * grid.ndim)
    at, ut = at[every], ut[every]
    grid = grid.at(tuple(ut.shape[-grid.ndim :]))
    plain = replace(task, augment=())

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {name} {text}", file=sys.stderr, flush=True)

    if PEER in sides and "search" not in kept:
        kept["search"] = _search(task, a, u, parts[1], say)
        save()
    settings = Settings(**kept["search"]["chosen"]) if "search" in kept else Settings()
    rows = {OURS: Row({}), SOAPY: SEEDED["SOAP, cheaper, and gradient 0.1"], TEXTBOOK: Row({"operator": _fno})}
    wanted = [side for side in sides if side not in kept.setdefault("milliseconds", {})]
    times: dict[str, list[float]] = {side: [] for side in wanted}
    for _, side in product(range(5), wanted):
        times[side].append(_peer_milliseconds(task, a, u, settings) if side == PEER else milliseconds(plain, parts[0], rows[side]))
    kept["milliseconds"] |= {side: [round(float(q), 2) for q in np.quantile(t, [0.5, 0.25, 0.75])] for side, t in times.items()}
    save()
    points = sorted(((s, side) for side in sides for s in SECONDS[side] if not seconds or s in seconds), key=lambda p: p[0])
    for length, side in points:
        found = kept.setdefault(f"points, seed {seed}" if seed else "points", {}).setdefault(side, {})
        if f"{length:g}" in found:
            continue
        steps = round(1e3 * length / kept["milliseconds"][side][0])
        if side == PEER:
            model: Any = train_peer(task, a, u, settings, steps, seed)
        else:
            row = replace(rows[side], arguments=rows[side].arguments | {"seed": seed})
            model = _trained(plain, *parts, row, steps, lambda _: None)
        errors = _errors(model, at, ut, grid)
        found[f"{length:g}"] = {
            "steps": steps,
            "parameters": sum(p.numel() for p in model.parameters()),
            **{k: errors[k] for k in ("relative_l2", "interval_95", "one_step") if k in errors},
        }
        say(f"{side} {length:g} s {found[f'{length:g}']}")
        save()


def figure(result: dict[str, Any]) -> None:
    """Error against seconds, one panel for each problem."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13, 3.5), layout="constrained")
    shown = [n for n in NAMES if "points" in result["tasks"].get(n, {})]
    for axes, name in zip(np.atleast_1d(drawn.subplots(1, len(shown))), shown, strict=True):
        for side, colour in ((OURS, "#1c7ed6"), (SOAPY, "#0ca678"), (TEXTBOOK, "#868e96"), (PEER, "#d9480f")):
            points = sorted(result["tasks"][name]["points"].get(side, {}).values(), key=lambda p: p["steps"])
            if not points:
                continue
            cost = result["tasks"][name]["milliseconds"][side][0] / 1e3
            axes.loglog(
                [cost * p["steps"] for p in points],
                [p["relative_l2"] for p in points],
                "o-",
                ms=4,
                color=colour,
                label=side,
            )
        axes.set(title=NAMES[name], xlim=(6, 700), xlabel="seconds of training, one thread")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(which="both", lw=0.3, color="0.85")
    drawn.axes[0].set(ylabel="relative L2, test samples")
    named = {label: line for axes in drawn.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    drawn.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    drawn.savefig(FIGURE, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", choices=NAMES, default=list(NAMES))
    parser.add_argument("--sides", nargs="*", choices=SECONDS, default=list(SECONDS))
    parser.add_argument("--seconds", nargs="*", type=float, help="only these points")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", action="store_true", help="only draw what was measured")
    options = parser.parse_args()
    allocator = prepare(1)
    result: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"command": "python benchmarks/accuracy/peers.py"}
    result.setdefault("tasks", {})
    result["machine"] = result.get("machine") or machine(1, allocator, "cpu", ("anygrid", "neuraloperator"))

    def save() -> None:
        part = PATH.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(PATH)

    for name in () if options.figure else options.tasks:
        run(name, result["tasks"].setdefault(name, {}), save, options.sides, options.seconds, options.seed)
    figure(result)


if __name__ == "__main__":
    main()
