"""One fixed step of our solver of equations written as text against exponax's ETDRK4: same equation, grid, batch and step.

    python benchmarks/speed/solvers.py                 # -> benchmarks/speed/solvers.json
    python benchmarks/speed/solvers.py --rounds 3 --dry    # a look, nothing is written

Both sides take turns in one process with one thread, in float32 and in float64 (JAX's x64 mode), from Fourier coefficients to Fourier
coefficients, compiled or built before the clock starts; medians and quartiles of the rounds are kept, ratios are what counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
import torch

from anygrid.equations.propagator import propagator
from anygrid.equations.system import make_system
from anygrid.grid import Box, Periodic
from anygrid.training.allocator import keep_large_blocks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import exponax
    import jax

BATCHES = (1, 16)
STEPS = 10  # between two looks at the clock


@dataclass(frozen=True)
class Case:
    name: str
    equations: tuple[str, ...]
    shape: tuple[int, ...]
    length: float
    dt: float
    peer: Callable[[int, float, float], object]
    sign: float = 1.0  # exponax's vorticity has the other sign


def _burgers(n: int, length: float, dt: float) -> object:
    return exponax.stepper.Burgers(1, length, n, dt, diffusivity=0.01, convection_scale=1.0, conservative=True, order=4)


def _kuramoto_sivashinsky(n: int, length: float, dt: float) -> object:
    return exponax.stepper.KuramotoSivashinskyConservative(1, length, n, dt, order=4)


def _korteweg_de_vries(n: int, length: float, dt: float) -> object:
    make = exponax.stepper.KortewegDeVries
    options = {"convection_scale": 6.0, "dispersivity": 1.0, "diffusivity": 0.0, "hyper_diffusivity": 0.0}
    return make(1, length, n, dt, conservative=True, order=4, **options)


def _vorticity(n: int, length: float, dt: float) -> object:
    return exponax.stepper.NavierStokesVorticity(2, length, n, dt, diffusivity=1e-3, order=4)


NAVIER_STOKES = ("w_t = -dot(perp(psi), grad(w)) + 0.001*lap(w)", "lap(psi) = -w")
CASES = (
    Case("Kuramoto-Sivashinsky", ("u_t = -u*u_x - u_xx - u_xxxx",), (512,), 100.0, 0.05, _kuramoto_sivashinsky),
    Case("Burgers", ("u_t = -u*u_x + 0.01*u_xx",), (1024,), 1.0, 2e-4, _burgers),
    Case("Korteweg-de Vries", ("u_t = -6*u*u_x - u_xxx",), (512,), 40.0, 1e-3, _korteweg_de_vries),
    Case("Navier-Stokes vorticity", NAVIER_STOKES, (64, 64), 1.0, 0.01, _vorticity, -1.0),
    Case("Navier-Stokes vorticity", NAVIER_STOKES, (128, 128), 1.0, 0.005, _vorticity, -1.0),
)


def start(case: Case, batch: int) -> torch.Tensor:
    """Smooth states of about unit size, eight modes along each axis."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.fft.rfftn(torch.randn(batch, 1, *case.shape, generator=generator), dim=tuple(range(2, 2 + len(case.shape))))
    for axis, n in enumerate(case.shape):
        last = axis == len(case.shape) - 1
        m = (torch.fft.rfftfreq(n, 1 / n) if last else torch.fft.fftfreq(n, 1 / n)).abs()
        noise = noise * (m <= 8).reshape([-1 if k == axis else 1 for k in range(len(case.shape))])
    u = torch.fft.irfftn(noise, s=case.shape, dim=tuple(range(2, 2 + len(case.shape))))
    return u / u.flatten(1).abs().amax(1).reshape(-1, *[1] * (1 + len(case.shape)))


def measure(case: Case, dtype: torch.dtype, batch: int, rounds: int) -> dict[str, object]:
    """Milliseconds a step of each side, taking turns; their ratio; how far their results are apart after ``STEPS`` steps."""
    axes = ("x", "y", "z")[: len(case.shape)]
    box = Box.uniform({name: Periodic(0, case.length) for name in axes}, case.shape)
    jax.config.update("jax_enable_x64", dtype == torch.float64)
    u = start(case, batch).to(dtype)
    ours = propagator(make_system(list(case.equations), list(axes)), box, u, {})
    begin, step = ours.forward(u), ours.step(case.dt)
    theirs = jax.jit(jax.vmap(case.peer(case.shape[0], case.length, case.dt).step_fourier))  # type: ignore[attr-defined]
    other = jax.numpy.fft.rfftn(jax.numpy.asarray(case.sign * u.numpy()), axes=tuple(range(2, u.ndim)))

    def run_ours() -> torch.Tensor:
        state = begin
        for _ in range(STEPS):
            state = step(state)
        return state

    def run_theirs() -> jax.Array:
        state = other
        for _ in range(STEPS):
            state = theirs(state)
        return state.block_until_ready()

    times: dict[str, list[float]] = {"anygrid": [], "exponax": []}
    with torch.no_grad():
        here = ours.backward(run_ours()).numpy()
        there = case.sign * np.asarray(jax.numpy.fft.irfftn(run_theirs(), s=case.shape, axes=tuple(range(2, u.ndim))))
        for _ in range(rounds):
            for name, run in (("anygrid", run_ours), ("exponax", run_theirs)):
                clock = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - clock) / STEPS)
    out: dict[str, object] = {"case": case.name, "shape": case.shape, "dtype": str(dtype)[6:], "batch": batch, "dt": case.dt}
    for name, values in times.items():
        out[name] = {"median_ms": float(np.median(values)), "quartiles_ms": [float(q) for q in np.quantile(values, [0.25, 0.75])]}
    out["ratio"] = float(np.median(times["anygrid"]) / np.median(times["exponax"]))
    out["relative_difference"] = float(np.linalg.norm(here - there) / np.linalg.norm(there))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=61)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    raised = keep_large_blocks()
    rows = []
    for dtype, case, batch in itertools.product((torch.float32, torch.float64), CASES, BATCHES):
        row = measure(case, dtype, batch, options.rounds)
        rows.append(row)
        what = f"{case.name} {case.shape} {row['dtype']} batch {batch}"
        print(f"{what}: ratio {row['ratio']:.2f}, difference {row['relative_difference']:.1e}", flush=True)
    result = {
        "command": "python benchmarks/speed/solvers.py",
        "threads": 1,
        "steps_timed_together": STEPS,
        "allocator": "glibc, mmap and trim thresholds raised" if raised else "as found",
        "torch": torch.__version__,
        "exponax": exponax.__version__,
        "jax": jax.__version__,
        "cases": rows,
    }
    if not options.dry:
        (Path(__file__).parent / "solvers.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
