"""One step on several processes: seconds, bytes, links, beside what the cost model says of them, and what it says of many GPUs.

    python benchmarks/speed/scaling.py           # -> benchmarks/results/scaling.json and docs/figures/scaling.png
    python benchmarks/speed/scaling.py --model   # what the model says and the figure; what was measured stays

1, 2 and 4 processes of one thread each, over gloo; more processes than cores share them, which is said. A step is forward, backward, the
sum of the gradients and AdamW. Rates that the model is given are measured with the same number of processes at work. Arithmetic and memory
are compared with the time of the processor that a process took, which other jobs on the machine hardly change; the whole of the step with
the clock, which means something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.distributed as dist
from cost_model import GLOBE, H100, NODE, WIDE, Case, Machine, layer, projections, seconds, step, transposed_bytes
from harness import RESULTS, machine, prepare

from anygrid.collectives import measured_traffic, sum_over_ranks
from anygrid.grid import Box, Periodic
from anygrid.operators import FNO, LatentFNO
from anygrid.shard import sharded
from anygrid.training.losses import RelativeNorm

PROCESSES, ROUNDS = (1, 2, 4), 6
CASE = Case((128, 128), 4, 1, 1, 32, 4, (25, 25), 128)
FIGURE = RESULTS.parents[1] / "docs" / "figures" / "scaling.png"
MESSAGES = (1 << 10, 1 << 14, 1 << 18, 1 << 24)


def fastest(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call and seconds of processor that this process took for it: the least of some, all ranks beginning together."""
    run()
    walls, busy = [], []
    for _ in range(ROUNDS):
        dist.barrier()
        begin, used = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - begin)
        busy.append(time.process_time() - used)
    return min(walls), min(busy)


def rates() -> tuple[float, float, list[float]]:
    """Operations and bytes of memory a second of processor, and seconds of a sum over ranks by the size of its message."""
    w, k, n = CASE.width, CASE.modes[1] + 1, CASE.points[1]
    left, right = torch.randn(k, n), torch.randn(CASE.batch * CASE.points[0], n, w)
    flops = 2 * k * right.numel() / fastest(lambda: [torch.matmul(left, right) for _ in range(8)])[1] * 8
    source, target = torch.ones(1 << 23), torch.empty(1 << 23)
    memory = 2 * source.nbytes / fastest(lambda: [target.copy_(source) for _ in range(8)])[1] * 8
    links = []
    for size in MESSAGES:
        x = torch.ones(size // 4)
        links.append(fastest(lambda x=x: dist.all_reduce(x))[0])
    return flops, memory, links


def training(kind: str, way: str) -> dict[str, Any]:
    """Seconds, bytes and messages of a step of this rank."""
    torch.manual_seed(0)
    grid = Box.uniform({"x": Periodic(), "y": Periodic()}, CASE.points)
    shard, ranks = sharded(grid), dist.get_world_size()
    on, batch = (grid, CASE.batch // ranks) if way == "data" else (shard, CASE.batch)
    operator = (
        FNO(CASE.inputs, CASE.outputs, [True] * 2, CASE.modes, width=CASE.width, depth=CASE.depth, head=CASE.head)
        if kind == "FNO"
        else LatentFNO(CASE.inputs, CASE.outputs, [True] * 2, [64, 64], [17, 17], 2, width=48, depth=4)
    )
    parameters = list(operator.parameters())
    optimizer = torch.optim.AdamW(parameters, fused=True)
    loss = RelativeNorm(torch.ones(1), torch.ones(1))
    a, truth = torch.randn(batch, CASE.inputs, *on.shape), torch.randn(batch, CASE.outputs, *on.shape)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        (loss(operator(a, on), truth, on) / ranks).backward()
        gradient = sum_over_ranks(torch.cat([p.grad.flatten() for p in parameters]), shard.rows)
        for p, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)
        optimizer.step()

    taken, busy = fastest(run)
    with measured_traffic() as sent:
        run()
    count = sum(p.numel() for p in parameters)
    return {"seconds": taken, "processor_seconds": busy, "bytes": sent.bytes, "messages": sent.messages, "gradient_bytes": 4 * count}


def rank(number: int, ranks: int, store: str, pipe: Any) -> None:
    """What one process measures."""
    prepare(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, ranks), rank=number, world_size=ranks)
    found: dict[str, Any] = {"rates": rates()}
    for kind, way in (("FNO", "domain"), ("FNO", "data"), ("LatentFNO", "domain")):
        found[f"{kind}, {way}"] = training(kind, way)
    dist.destroy_process_group()
    pipe.send(found)


def measure(ranks: int) -> dict[str, Any]:
    """Steps on so many processes, and the model's word on those of the FNO."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes, workers = [], []
        for number in range(ranks):
            mine, theirs = context.Pipe()
            workers.append(context.Process(target=rank, args=(number, ranks, str(Path(folder, "store")), theirs)))
            workers[-1].start()
            pipes.append(mine)
        found = [pipe.recv() for pipe in pipes]
        for worker in workers:
            worker.join()
    flops, memory, links = (found[0]["rates"][k] for k in range(3))
    small, large = (links[0], links[-1])
    share = 2 * (ranks - 1) / ranks
    # As the model has it: seconds = rounds * latency + share * bytes / link.
    link = share * MESSAGES[-1] / (large - small if large > 2 * small else large) if ranks > 1 else float("inf")
    rounds = 2 * max(1, (ranks - 1).bit_length())
    here = Machine("this machine", flops, memory, small / rounds if ranks > 1 else 0.0, link)
    rows = []
    for name in ("FNO, domain", "FNO, data", "LatentFNO, domain"):
        row = {"operator": name.split(",")[0], "way": name.split(", ")[1], **found[0][name]}
        if name.startswith("FNO"):
            domain, data = (ranks, 1) if name.endswith("domain") else (1, ranks)
            parts = seconds(CASE, domain, data, here)
            own = parts["arithmetic"] + parts["memory"]
            row |= {"predicted": parts, "seconds_over_predicted": row["seconds"] / parts["total"]}
            row["processor_over_predicted"] = row["processor_seconds"] / own
        rows.append(row)
    used = {"flops": flops, "memory": memory, "latency": here.latency, "link": None if ranks == 1 else link}
    sums = [{"bytes": size, "seconds": taken} for size, taken in zip(MESSAGES, links, strict=True)]
    return {"processes": ranks, "oversubscribed": ranks > (os.cpu_count() or 1), "rates": used, "all_reduce": sums, "steps": rows}


def draw(result: dict[str, Any]) -> None:
    """Projected steps to 1024 GPUs; predicted beside measured here."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for way in dict.fromkeys(row["way"] for row in result["globe"]["projections"]):
        rows = [row for row in result["globe"]["projections"] if row["way"] == way]
        left.loglog([r["gpus"] for r in rows], [r["batch"] / r["total"] for r in rows], "o-", label=way)
    left.set(xlabel="GPUs", ylabel="samples a second (model)", title="721 x 1440 points, 69 variables, H100 by data sheets")
    left.legend(fontsize=8)
    for way, mark in (("domain", "o"), ("data", "s")):
        points = [
            (row["predicted"]["arithmetic"] + row["predicted"]["memory"], row["processor_seconds"], run["processes"])
            for run in result["runs"]
            for row in run["steps"]
            if row["operator"] == "FNO" and row["way"] == way
        ]
        right.plot([p[0] for p in points], [p[1] for p in points], mark, label=f"{way} parallel")
        for x, y, count in points:
            right.annotate(str(count), (x, y), textcoords="offset points", xytext=(6, -3), fontsize=8)
    most = max(max(right.get_xlim()[1], right.get_ylim()[1]), 0.1)
    right.plot([0, most], [0, most], color="grey", lw=0.8)
    right.set(xlabel="predicted processor seconds of a process", ylabel="measured", xlim=(0, most), ylim=(0, most))
    right.set_title("FNO, 128 x 128, 1, 2 and 4 processes on this machine")
    right.legend(fontsize=8)
    figure.tight_layout()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="store_true", help="only what the model says and the figure; what was measured stays")
    options = parser.parse_args()
    path = RESULTS / "scaling.json"
    if options.model:
        result: dict[str, Any] = json.loads(path.read_text())
    else:
        allocator = prepare(1)
        result = {"command": "python benchmarks/speed/scaling.py", "machine": machine(1, allocator, "cpu", ())}
        result |= {"case": CASE.__dict__, "counted": {"layer": layer(CASE), "step": step(CASE)}, "runs": []}
        for ranks in PROCESSES:
            result["runs"].append(measure(ranks))
            print(json.dumps(result["runs"][-1]), flush=True)
    one = Case(**{**GLOBE.__dict__, "batch": 1})
    transposes = {name: transposed_bytes(one, NODE, pruned=name == "pruned") for name in ("pruned", "all modes")}
    result["globe"] = {
        "case": GLOBE.__dict__,
        "parameters": GLOBE.parameters,
        "layer of a sample": layer(one),
        "step of a sample": step(one),
    }
    result["globe"] |= {
        "transposes of a sample on 8 ranks": transposes,
        "gpu": [H100.__dict__, WIDE.__dict__],
        "projections": projections(),
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
    draw(result)


if __name__ == "__main__":
    main()
