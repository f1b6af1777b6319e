"""What a member's day costs, of the learned model and of the numerical one, and large ensembles in bounded memory.

    python benchmarks/speed/weather/members.py data/weather/random.anygrid data/speedy_test.zarr \
           --before data/weather/pretrained.anygrid --members 100 1000 3000 \
           --data data/speedy_train.zarr data/speedy_train_2.zarr data/speedy_train_3.zarr      # writes members.json

Two processes of one thread each. Days of the numerical model and of the surrogate take turns on the same machine; compare ratios.
Memory is the largest sum over the program and its workers, sampled twice a second (the resident set; shared pages count in each).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch
import xarray as xr

from anygrid.forecast import Keep, ensemble
from anygrid.forecast.calendar import Step
from anygrid.problems.speedy_engine import Engine
from anygrid.surrogate import Surrogate, read_surrogate

HERE = Path(__file__).parent
DAYS = 10


def _days(path: Path) -> int:
    """Days that the model ran for a store, with those it threw away."""
    ds = xr.open_zarr(path)
    kept = (ds.time.values[-1] - ds.time.values[0]) // np.timedelta64(1, "D") + 1
    return int(kept) + int(str(ds.attrs["spin_up"]).split()[0])


class Watch(threading.Thread):
    """Largest memory and, at the end, processor time of this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest, self.spent, self._done = 0, {}, threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.5):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                    times = process.cpu_times()
                    self.spent[process.pid] = times.user + times.system
                except psutil.Error:
                    continue
            self.largest = max(self.largest, total)

    def stop(self) -> None:
        self._done.set()
        self.join()


def seconds_of(model: Surrogate) -> float:
    seconds = Step.parse(model.dt).seconds
    assert seconds is not None
    return seconds


def run(model: Surrogate, test: xr.Dataset, members: int) -> dict[str, float]:
    watch, before = Watch(), time.process_time()
    watch.start()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ensemble(
            model,
            test.isel(time=[0]),
            round(DAYS * 86400 / seconds_of(model)),
            members,
            inputs=model.inputs,
            outputs=model.outputs,
            stochastic=True,
            keep=Keep(quantiles=(0.1, 0.5, 0.9), above=(("t2m", 300.0),), members=range(3)),
            dt=model.dt,
            domain=model.grid,
            forcings=test[["toa_radiation", "sst"]],
            out=Path(folder) / "e.zarr",
            workers=2,
        )
    seconds = time.monotonic() - began
    watch.stop()
    own = watch.spent.pop(os.getpid(), 0.0)
    spent = sum(watch.spent.values()) + min(own, time.process_time() - before)
    return {
        "members": members,
        "seconds": round(seconds, 2),
        "processor_seconds": round(spent, 1),
        "memory_gb": round(watch.largest / 1e9, 3),
    }


def alone(model: Surrogate, test: xr.Dataset, rounds: int, engine: Engine) -> dict[str, float]:
    """Seconds of one thread for a member's day among sixteen computed together, as ensembles do, between days of the numerical model."""
    torch.set_num_threads(1)
    names = [v.name for v in model.inputs]
    first = test.isel(time=0).load()
    a = torch.tensor(np.stack([np.broadcast_to(first[n].values, model.grid.shape) for n in names]), dtype=torch.float32)[None]
    steps = round(86400 / seconds_of(model))
    generator, process = torch.Generator().manual_seed(0), psutil.Process(engine._process.pid)
    ours, theirs = [], []
    _, state = engine.advance(engine.rest(np.datetime64("2000-01-01", "s")), 86400 // engine.unit, "last")
    for k in range(rounds + 1):
        began = time.process_time()
        with torch.no_grad():
            for _ in range(steps):
                model.draw(a, model.grid, members=16, generator=generator)
        ours.append((time.process_time() - began) / 16)
        before = sum(process.cpu_times()[:2])
        _, state = engine.advance(state, 2 * 86400 // engine.unit)
        theirs.append((sum(process.cpu_times()[:2]) - before) / 2)
        if k == 0:
            ours.clear()
            theirs.clear()
    ratio = [b / a for a, b in zip(ours, theirs, strict=True)]
    quartiles = statistics.quantiles(ratio, n=4)
    return {
        "surrogate_core_seconds_per_day": float(f"{statistics.median(ours):.4g}"),
        "model_core_seconds_per_day": float(f"{statistics.median(theirs):.4g}"),
        "ratio": round(statistics.median(ratio), 1),
        "ratio_quartiles": [round(quartiles[0], 1), round(quartiles[2], 1)],
        "rounds": rounds,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("surrogate", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--members", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="runs of the model that they were trained on")
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="surrogates whose training came before")
    given = parser.parse_args()
    model = read_surrogate(given.surrogate).eval()
    test = xr.open_zarr(given.test)[[v.name for v in model.inputs]]
    load = os.getloadavg()[0]
    with Engine(21600) as engine:
        day = alone(model, test, given.rounds, engine)
    print(day, flush=True)
    ensembles = []
    for members in given.members:
        ensembles.append(run(model, test, members))
        print(ensembles[-1], flush=True)
    records = [m.record for m in (model, *map(read_surrogate, given.before))]
    # A training that was resumed counted the processor from there on only, and one of one thread is no cheaper than its clock says.
    training = sum(max(r["seconds"], r.get("processor_seconds", 0)) for r in records)
    invested = {"training": round(training), "data": round(sum(map(_days, given.data)) * day["model_core_seconds_per_day"])}
    saved = day["model_core_seconds_per_day"] - day["surrogate_core_seconds_per_day"]
    cpu = next((x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    result = {
        "command": "python benchmarks/speed/weather/members.py "
        + " ".join(str(m) for m in (given.surrogate, given.test))
        + "".join([" --before", *(f" {m}" for m in given.before)] if given.before else [])
        + "".join([" --data", *(f" {d}" for d in given.data)])
        + f" --members {' '.join(map(str, given.members))}",
        "member_day": day,
        "break_even_member_days": round((invested["training"] + invested["data"]) / saved),
        "core_seconds_invested": invested,
        "ensembles_of_10_days": ensembles,
        "steps_of": model.dt,
        "operator": model.operator.arguments,
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "load_before": round(load, 2), "platform": platform.platform()},
        "versions": {name: version(name) for name in ("torch", "jcm", "jax", "numpy")},
    }
    (HERE / "members.json").write_text(json.dumps(result, indent=1))
