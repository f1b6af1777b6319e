"""Time of one run of a surrogate in a browser page, beside the same graph in onnxruntime and the surrogate in torch.

    python benchmarks/speed/browser.py          # -> benchmarks/results/browser.json; needs Chromium, and npm or a cached runtime

Headless Chromium, one thread of WebAssembly, the page of `anygrid export` served from this machine; onnxruntime and torch on one thread.
The surrogate is an untrained operator of the default size (times do not depend on the weights), trained grid 64 x 64 or 1024 points.
Turns are taken; medians and quartiles of 25 turns after 5 that are not counted. The time in the browser is that which the page shows: from
the call of onnxruntime-web to its answer, in the page's worker, without drawing. ``folder_megabytes`` is the whole page.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from harness import keep, machine, prepare, ratio

from anygrid.export.browser_runtime import RELEASE, runtime_files
from anygrid.export.web_page import write_page
from anygrid.fields import Variable
from anygrid.grid import Box, Periodic
from anygrid.operators import default_operator
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from browser_support import CHROMIUM, Browser, browser, served

ROUNDS, WARM_UP = 25, 5
CASES = {"plane": (("x", "y"), 64, (64, 256)), "line": (("x",), 1024, (1024, 4096))}


def surrogate(names: tuple[str, ...], trained: int) -> Surrogate:
    """An untrained surrogate of the default size on a periodic domain."""
    torch.manual_seed(0)
    grid = Box.uniform({name: Periodic() for name in names}, trained)
    moments = Moments(1, (0.0,), (1.0,), (-4.0,), (4.0,))
    return Surrogate(default_operator(1, 1, grid), (Variable("a"),), (Variable("u"),), Statistics(moments, moments), grid).eval()


def in_browser(page: Browser, choice: int) -> float:
    """Milliseconds that the page says one run took, at one resolution of its slider."""
    page.js(f"(() => {{ anygrid.result = null; const q = document.getElementById('resolution'); q.value = {choice};"
            " q.dispatchEvent(new Event('input')) })()")  # fmt: skip
    page.wait("window.anygrid.result")
    return float(page.js("window.anygrid.result.ms"))


def measure(model: Surrogate, folder: Path, n: int, page: Browser) -> dict[str, Any]:
    """Times of the three sides at ``n`` points along each axis."""
    shape = [n] * model.grid.ndim
    choice = page.js("window.anygrid.facts.resolutions").index(shape)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    native = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    a, grid = torch.randn(1, 1, *shape), model.grid.at(tuple(shape))

    def clocked(run: Any) -> float:
        begin = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - begin)

    times: dict[str, list[float]] = {"browser": [], "onnxruntime": [], "torch": []}
    with torch.no_grad():
        for k in range(-WARM_UP, ROUNDS):
            found = {
                "browser": in_browser(page, choice),
                "onnxruntime": clocked(lambda: native.run(None, {"a": a.numpy()})),
                "torch": clocked(lambda: model(a, grid)),
            }
            for name, value in found.items() if k >= 0 else ():
                times[name].append(value)
    quantiles = {name: np.quantile(t, [0.25, 0.5, 0.75]).round(3).tolist() for name, t in times.items()}
    return {name: {"lower_ms": q[0], "median_ms": q[1], "upper_ms": q[2]} for name, q in quantiles.items()}


def main() -> None:
    allocator = prepare(1)
    result: dict[str, Any] = {"command": "python benchmarks/speed/browser.py", "runtime": f"{RELEASE.package} {RELEASE.version}"}
    result |= {"machine": machine(1, allocator, "cpu", ["onnxruntime"]), "rounds": ROUNDS, "cases": []}
    ratios: dict[str, float] = {}
    assert CHROMIUM is not None, "needs Chromium"
    with tempfile.TemporaryDirectory() as place:
        for name, (axes, trained, sizes) in CASES.items():
            model, folder = surrogate(axes, trained), Path(place) / name
            write_page(model, folder, runtime_files())
            megabytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
            with served(folder) as (address, _), browser(Path(place) / f"profile-{name}") as page:
                begin = time.perf_counter()
                page.open(address)
                page.wait("window.anygrid?.result")
                opened = time.perf_counter() - begin
                result["browser"] = page.js("navigator.userAgent").split(") ")[-1]
                for n in sizes:
                    times = measure(model, folder, n, page)
                    row = {"case": name, "points": [n] * len(axes), "parameters": sum(p.numel() for p in model.operator.parameters())}
                    result["cases"].append(
                        row | {"folder_megabytes": round(megabytes, 1), "seconds_to_first_picture": round(opened, 1)} | times
                    )
                    ratios[f"{name} {n}: torch / browser"] = ratio(times, "torch", "browser")
                    print(result["cases"][-1], flush=True)
    for line in keep("browser", result, ratios):
        print(f"lost: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
