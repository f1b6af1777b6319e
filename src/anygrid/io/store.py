"""Data sets made from a problem: a Zarr store generated in parallel, resumed exactly, with the error of its own labels.

The bytes depend on the request alone: not on workers, interruptions or the time of day. A block of samples is solved as
one batch, and the blocks are fixed by :func:`~anygrid.io.plan.block_size`, because a batched solve may round differently
from a single one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from anygrid.errors import UsageError
from anygrid.fields import Variable, grid_coordinates
from anygrid.grid import Points
from anygrid.io.blocks import Job, decode_chunk
from anygrid.io.cluster import Cluster
from anygrid.io.plan import Plan, Resolution, by, in_range, make_plan, make_request, nested
from anygrid.io.workers import available_cpus, run
from anygrid.io.working import WorkingFolder, disk_error
from anygrid.numerics.seeds import SEED_RULE
from anygrid.problems.base import Problem

__all__ = ["generate"]

Progress = Callable[[int, int, float], None]


def generate(
    problem: Problem,
    n: int,
    resolution: Resolution,
    path: str | Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    cluster: Cluster | None = None,
    store_resolution: Resolution | None = None,
    steps: int | None = None,
    label_check: int = 4,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    r"""Sample a problem, solve it, and write inputs and solutions to a Zarr store that ``xarray.open_zarr`` reads.

    A steady problem gives its inputs and outputs on ``(sample, *space)``. An evolution gives its outputs on
    ``(sample, time, *space)`` from the initial state (time 0) to ``steps * problem.dt``, and the inputs it holds fixed on
    ``(sample, *space)``. Values are float32, units and coordinates as the problem states them.

    Interrupted at any moment, also by ``kill -9`` or a full disk, the same call continues; the bytes are then
    those of an undisturbed call. Called again on a finished store, the same request returns at once.

    The error of the labels is :math:`\|u_h - u_{h/2}\| / \|u_{h/2}\|` on the stored grid (quadrature-weighted relative
    L2, at the last time of an evolution), with :math:`u_{h/2}` the problem solved from the same seeds on a grid of half the
    spacing. With a method of order p the true error of :math:`u_h` is about :math:`2^p/(2^p-1)` times that. Attributes
    ``label_error`` (mean over the checked samples, worst variable), ``label_error_max`` and ``label_error_how`` state it.

    Parameters
    ----------
    n
        Number of samples. Sample i is a function of ``seed`` and i alone.
    resolution
        Resolution of the solve, as ``problem.grid`` takes it.
    workers
        Processes, each with one thread; by default one a processor. 0 solves in this process.
    cluster
        Workers on other machines instead, which share the file system of ``path``: see :func:`anygrid.io.cluster.connect`.
    store_resolution
        Keep only the points of this coarser grid, which must be among those of the solve (421 -> 85, 128 -> 64).
    steps
        Steps of ``problem.dt`` in a trajectory; by default the published ``problem.steps``.
    label_check
        Number of samples, from the first, that are solved again at twice the resolution; 0 leaves the error unstated.
    overwrite
        Replace a finished store at ``path``. It is removed only when the new one is whole.
    progress
        Called with samples done, samples in all (checks included), and seconds since the call.

    Raises
    ------
    UsageError
        For numbers out of range, and grids that do not nest.
    FileError
        When something else is at ``path``, an unfinished data set there was begun with another request, another process
        is at work on it, or the disk is full.
    ClusterError
        When the workers of a cluster do not see the folder, or it is lost.
    DataError
        When a solution is not finite (the sample is named).
    """
    path = Path(path).absolute()  # workers of a cluster have other working directories
    started = time.monotonic()
    in_range("workers", 0 if workers is None else workers, 0)
    if workers is not None and cluster is not None:
        raise UsageError("generate", "workers or a cluster", "both", "leave workers out: the cluster has its own")
    plan = make_plan(problem, n, resolution, path.with_name(path.name + ".partial"), seed, store_resolution, steps, label_check)
    checks = min(label_check, n) if plan.fine is not None else 0
    folder = WorkingFolder(path, make_request(plan, checks), overwrite=overwrite)
    if folder.finished():
        return path
    done = 0
    try:
        with folder.alone():
            if not folder.begin():
                folder.create(_skeleton(plan, folder.request), {array.name: array.chunk for array in plan.arrays})
            plan.labels.mkdir(exist_ok=True)
            tasks, done = _open_tasks(plan, checks)
            total = n + checks
            if progress:
                progress(done, total, time.monotonic() - started)
            if cluster is not None and tasks:
                cluster.check_shared(plan.labels)
            processes = available_cpus() if workers is None else workers
            with closing(run(Job(plan), tasks, processes) if cluster is None else cluster.run(Job(plan), tasks)) as results:
                for _, count in results:
                    done += count
                    if progress:
                        progress(done, total, time.monotonic() - started)
            folder.add_attributes(_label_errors(plan, checks))
            folder.give_name()
    except OSError as error:
        raise disk_error(error, path, f"{done} of {n + checks} solves") from error
    return path


def _skeleton(plan: Plan, request: dict[str, Any]) -> xr.Dataset:
    """The data set without its values."""
    problem = plan.problem
    variables: dict[str, Variable] = {v.name: v for v in (*problem.inputs, *problem.outputs)}
    data = {}
    for array in plan.arrays:
        dims = ("sample", *(("time",) if array.source == "state" else ()), *plan.stored.dims)
        v = variables[array.name]
        attrs = {k: t for k, t in (("units", v.units), ("long_name", v.long_name), ("standard_name", v.standard_name)) if t}
        data[array.name] = (dims, dask.array.zeros(array.shape, chunks=array.chunk, dtype=np.float32), attrs)
    coordinates: dict[str, Any] = dict(grid_coordinates(plan.stored))
    coordinates["sample"] = ("sample", np.arange(plan.samples), {"long_name": "number of the sample"})
    if plan.evolution:
        assert problem.dt is not None
        coordinates["time"] = (
            "time",
            problem.dt * np.arange(plan.steps + 1),
            {"long_name": "time", "axis": "T", "units": problem.time_unit},
        )
    return xr.Dataset(data, coordinates, _provenance(plan, request))


def _provenance(plan: Plan, request: dict[str, Any]) -> dict[str, Any]:
    card = plan.problem.card
    options = {"seed": plan.seed} | ({"store_resolution": plan.stored.shape} if plan.stored != plan.grid else {})
    options |= {"steps": plan.steps} if plan.evolution else {}
    options |= {"label_check": request["label_check"]}
    call = f"generate({plan.problem!r}, {plan.samples}, {plan.grid.shape}, path, {', '.join(f'{k}={v}' for k, v in options.items())})"
    return {
        "Conventions": "CF-1.11",
        "title": card.title,
        **{f"problem_{name}": getattr(card, name) for name in ("equation", "boundary", "sampler", "solver", "order", "cost", "source")},
        "problem": request["problem"],
        "parameters": json.dumps(request["parameters"]),
        "dt": "" if plan.problem.dt is None else plan.problem.dt,
        "resolution": list(plan.grid.shape),
        "seed": plan.seed,
        "seed_rule": SEED_RULE,
        "batch_rule": f"samples are solved as batches of {plan.block}, from the first on; the last batch may be smaller",
        "command": call,
        "software": json.dumps(request["software"]),
    }


def _open_tasks(plan: Plan, checks: int) -> tuple[list[tuple[str, int]], int]:
    """Tasks still to be done, the long ones first, and the number of samples that are done already."""
    labels = [i for i in range(checks) if not (plan.labels / str(i)).exists()]
    there = {array.name: {entry.name for entry in os.scandir(plan.store / array.name)} for array in plan.arrays}
    blocks = [b for b in range(plan.blocks) if not all(there[array.name].issuperset(array.keys(b)) for array in plan.arrays)]
    done = checks - len(labels) + plan.samples - sum(len(plan.rows(b)) for b in blocks)
    return [*(("label", i) for i in labels), *(("block", b) for b in blocks)], done


def _label_errors(plan: Plan, checks: int) -> dict[str, Any]:
    """Attributes that state the error of the labels."""
    if checks == 0:
        why = "not measured: " + ("scattered points have no finer grid" if isinstance(plan.grid, Points) else "label_check was 0")
        return {"label_error_how": why}
    weights = plan.stored.weights().numpy()
    outputs = [array for array in plan.arrays if array.source != "input"]
    errors = np.empty((checks, len(outputs)))
    for i in range(checks):
        fine = np.frombuffer((plan.labels / str(i)).read_bytes()).reshape(len(outputs), *plan.stored.shape)
        for k, array in enumerate(outputs):
            chunk = decode_chunk((plan.store / array.name / array.keys(i // plan.block)[-1]).read_bytes(), array.chunk)
            values = chunk[i % plan.block].astype(np.float64)
            if array.source == "state":
                values = values[plan.steps % array.chunk[1]]
            norm = np.sum(weights * fine[k] ** 2)
            errors[i, k] = np.sqrt(np.sum(weights * (values - fine[k]) ** 2) / norm) if norm > 0 else 0.0
    assert plan.fine is not None
    where = "at the shared points" if nested(plan.stored, plan.fine) is not None else "interpolated onto the stored grid"
    when = f", after {plan.steps} steps" if plan.evolution else ""
    how = f"relative L2 between samples 0 to {checks - 1} as stored and solved at {by(plan.fine)} from the same seeds, {where}{when}"
    mean, most = errors.mean(0), errors.max(0)
    attributes: dict[str, Any] = {"label_error": float(mean.max()), "label_error_max": float(most.max()), "label_error_how": how}
    if len(outputs) > 1:
        attributes |= {f"label_error_{array.name}": float(mean[k]) for k, array in enumerate(outputs)}
    return attributes
