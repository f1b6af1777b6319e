"""Tasks of the chaos benchmark: their trajectories, trainings and long runs, each kept in a folder and resumed from it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anygrid.fields.tensors import to_dataset
from anygrid.grid import Grid
from anygrid.maps import Map
from anygrid.operators import default_operator
from anygrid.problems.base import Problem
from anygrid.problems.catalogue import CATALOGUE
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.surrogate import Surrogate
from anygrid.training import fit
from anygrid.training.progress import Progress
from anygrid.training.symmetries import Shift, Symmetry


@dataclass(frozen=True)
class Task:
    """One chaotic flow. Parts of the data are (trajectories, steps); ``gradients`` are the weights of the gradient in the loss."""

    problem: Problem
    solved: int  # points along each axis
    kept: int  # of the states that operators see: Fourier truncation
    spin_up: int  # steps from the sampler's states onto the attractor
    train: tuple[int, int]
    held_out: tuple[int, int]
    reference: tuple[int, int]
    gradients: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    batch: int
    width: int
    harmonics: int  # of position: the forcing of Kolmogorov flow is a fourth one
    augment: tuple[Symmetry, ...]
    margin: float  # radius of the ball over the largest norm of a training state
    starts: int  # of long runs, from test states and as many from ten times those
    long_steps: int
    every: int  # steps between stored states
    stored: int  # states stored of each long run; its rest is only watched
    lags: int  # of the autocorrelation, in stored states
    blocks: int  # into which a run is cut for its statistics


TASKS: dict[str, Callable[[], Task]] = {
    "kuramoto_sivashinsky": lambda: Task(
        problem=KuramotoSivashinsky(),
        solved=64,
        kept=64,
        spin_up=0,  # the sampler has its own
        train=(64, 400),
        held_out=(32, 240),
        reference=(32, 25_000),
        gradients=(0.0, 0.1),
        seeds=(0, 1, 2),
        steps=8_000,
        batch=16,
        width=48,
        harmonics=1,
        augment=(Shift("x"),),
        margin=1.2,
        starts=4,
        long_steps=100_000,
        every=2,
        stored=50_000,
        lags=50,
        blocks=8,
    ),
    "kolmogorov": lambda: Task(
        problem=replace(CATALOGUE["kolmogorov"](), tolerance=1e-4),  # a quarter of the default's cost, labels still good to 4 digits
        solved=64,
        kept=32,
        spin_up=200,
        train=(24, 160),
        held_out=(8, 80),
        reference=(4, 4_000),
        gradients=(0.1,),  # the better one on Kuramoto-Sivashinsky
        seeds=(0,),
        steps=8_000,
        batch=8,
        width=32,
        harmonics=3,
        augment=(Shift("x"),),
        margin=1.05,  # with 1.2, 8 of 216 training states times 3, 5 or 10 stayed in a state of their own; with 1.05 none
        starts=2,
        long_steps=100_000,
        every=4,
        stored=2_000,
        lags=40,
        blocks=4,
    ),
}
TRAIN, VALIDATION, TEST, REFERENCE = 1, 2, 3, 4  # seeds of the parts


CHUNK = 100  # stored states in one file of a long run


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _save(path: Path, values: NDArray[np.floating]) -> None:
    part = path.with_name(f".{path.name}")
    np.save(part.with_suffix(".part.npy"), values)
    part.with_suffix(".part.npy").replace(path)


def _truncated(u: Tensor, task: Task) -> Tensor:
    """States on the grid that operators see: the Fourier modes below its Nyquist wave number."""
    if task.kept == task.solved:
        return u
    dims = tuple(range(-task.problem.grid(task.kept).ndim, 0))
    half = task.kept // 2
    spectrum = torch.fft.fftn(u, dim=dims, norm="forward")
    kept = [*range(half), *range(task.solved - half, task.solved)]
    for dim in dims:
        spectrum = spectrum.index_select(dim, torch.tensor(kept)).index_fill(dim, torch.tensor([half]), 0)
    return torch.fft.ifftn(spectrum, dim=dims, norm="forward").real


def starts(task: Task, n: int, seed: int, folder: Path) -> Tensor:
    """``n`` states on the attractor, float64, on the solver's grid."""
    path = folder / f"starts-{seed}-{n}.npy"
    grid = task.problem.grid(task.solved)
    if not path.exists():
        state = task.problem.sample(n, grid, torch.Generator().manual_seed(seed)).double()
        for _ in range(task.spin_up):
            state = task.problem.solve(state, grid)
        _save(path, state.float().numpy())
    return torch.from_numpy(np.load(path)).double()


def trajectories(task: Task, part: str, folder: Path) -> Tensor:
    """Trajectories ``(sample, time, channel, *space)`` of one part, float32, on the grid that operators see."""
    path = folder / f"{part}.npy"
    n, steps = task.train if part == "train" else task.held_out
    if not path.exists():
        say(f"{part}: {n} trajectories of {steps} steps")
        begin, grid = time.process_time(), task.problem.grid(task.solved)
        states = [starts(task, n, {"train": TRAIN, "validation": VALIDATION, "test": TEST}[part], folder)]
        for _ in range(steps):
            states.append(task.problem.solve(states[-1], grid))
        _save(path, torch.stack(states, 1).float().numpy())
        (folder / f"{part}.seconds").write_text(f"{time.process_time() - begin:.1f}")
    u = torch.from_numpy(np.load(path))
    return _truncated(u.flatten(0, 1), task).unflatten(0, u.shape[:2])


def long_trajectory(map_: Map, start: Tensor, grid: Grid, task: Task, steps: int, folder: Path) -> tuple[Tensor, NDArray[np.float64]]:
    """States after every ``task.every``-th step (the first ``task.stored`` of them), and the largest value after each step.

    Written in parts, with the state to go on from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = CHUNK * task.every
    done = len(list(folder.glob("largest-*.npy")))
    state = torch.from_numpy(np.load(folder / f"state-{done - 1:05d}.npy")) if done else start
    for number in range(done, steps // part):
        kept, largest = [], []
        with torch.no_grad():
            for step in range(part):
                state = map_(state, grid)
                largest.append(state.abs().flatten(1).amax(1).double())
                if (step + 1) % task.every == 0 and number * CHUNK < task.stored:
                    kept.append(_truncated(state, task) if state.shape[-1] == task.solved else state)
        if kept:
            _save(folder / f"states-{number:05d}.npy", torch.stack(kept, 1).float().numpy())
        _save(folder / f"state-{number:05d}.npy", state.numpy())
        _save(folder / f"largest-{number:05d}.npy", torch.stack(largest, 1).numpy())
        if number % 10 == 0:
            say(f"{folder.parent.name}/{folder.name}: {(number + 1) * part}/{steps} steps, largest value {largest[-1].max():.3g}")
    stored = [torch.from_numpy(np.load(p)) for p in sorted(folder.glob("states-*.npy"))]
    return torch.cat(stored, 1), np.concatenate([np.load(p) for p in sorted(folder.glob("largest-*.npy"))], 1)


def reference(task: Task, folder: Path) -> Tensor:
    """Stored states of the solver's own long run, on the grid that operators see."""
    n, steps = task.reference
    grid = task.problem.grid(task.solved)
    return long_trajectory(task.problem.solve, starts(task, n, REFERENCE, folder), grid, task, steps, folder / "reference")[0]


def folder_of(folder: Path, gradient: float, seed: int) -> Path:
    return folder / f"gradient{gradient:g}-seed{seed}"


def trained(task: Task, folder: Path, gradient: float, seed: int) -> Surrogate:
    """The operator of one weight of the gradient and one seed; a training that was killed is resumed."""
    grid, run = task.problem.grid(task.kept), folder_of(folder, gradient, seed)
    path = run / "surrogate.anygrid"
    if not path.exists():
        train, held_out = (
            to_dataset(
                u, task.problem.outputs, grid, {"sample": np.arange(len(u)), "time": (task.problem.dt or 1.0) * np.arange(u.shape[1])}
            )
            for u in (trajectories(task, "train", folder), trajectories(task, "validation", folder))
        )
        names = [v.name for v in task.problem.outputs]
        begin = time.process_time()
        say(f"training {run}")
        surrogate = fit(
            train,
            names,
            names,
            lead=1,
            validation=held_out,
            steps=task.steps,
            operator=partial(default_operator, width=task.width, harmonics=task.harmonics),
            batch=task.batch,
            learning_rate=3e-3,
            seed=seed,
            gradient=gradient,
            increment=True,
            unroll=3,
            augment=task.augment,
            run=run,
            listener=_Listener(),
        )
        surrogate.save(path)
        (run / "cpu_seconds").write_text(f"{time.process_time() - begin:.1f}")
    return Surrogate.load(path)


class _Listener:
    """One line every two minutes."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self.last > 120 and progress.loss is not None:
            self.last = time.monotonic()
            say(f"step {progress.step}/{progress.steps} loss {progress.loss:.5f} validation {progress.validation}")
