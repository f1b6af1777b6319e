"""Ensembles: many forecasts from perturbed states, from states in the data, or by a random map, and the statistics over them."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time as clock
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from anygrid.errors import DataError, UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.forecast.advance import largest, rows_at_once
from anygrid.forecast.archive import insert_lead
from anygrid.forecast.calendar import Step
from anygrid.forecast.ensemble_block import Block, Plan
from anygrid.forecast.ensemble_merge import Merger
from anygrid.forecast.ensemble_store import skeleton
from anygrid.forecast.forcing import find_forcings, find_truth, held_in
from anygrid.forecast.leads import lead_coordinates
from anygrid.forecast.perturb import Perturbation
from anygrid.forecast.roll import digest, forecast_attributes
from anygrid.forecast.start import Start, StartAt, find_start
from anygrid.forecast.summary import EXACT, Keep
from anygrid.grid import Grid
from anygrid.io.cluster import Cluster
from anygrid.io.workers import available_cpus, one_thread, run
from anygrid.io.working import WorkingFolder, disk_error
from anygrid.maps import Map, NoisyMap, RandomMap
from anygrid.numerics.seeds import SEED_RULE

__all__ = ["ensemble"]

Progress = Callable[[int, int, float], None]
_MOST = 1 << 31  # members: above lie the streams of noise


def ensemble(
    map_: Map | RandomMap | NoisyMap,
    initial: xr.Dataset,
    steps: int,
    members: int | None = None,
    *,
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    perturbation: Perturbation | None = None,
    member_dim: str | None = None,
    stochastic: bool = False,
    seed: int = 0,
    keep: Keep = Keep(),
    dt: str | float | None = None,
    domain: Grid | None = None,
    start: StartAt = "last",
    every: int = 1,
    forcings: xr.Dataset | None = None,
    truth: xr.Dataset | None = None,
    known_times: xr.DataArray | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    cluster: Cluster | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    r"""Roll many members out, :math:`u^m_{k+1} = M(u^m_k, f_k)`, and keep statistics over them at every lead.

    Members differ by their initial states (``perturbation``, or ``member_dim`` of the initial data), by the noise of a random map
    (``stochastic``), or by both. What member m draws is a function of ``seed`` and m alone, not of blocks, workers or the number of
    members, and the same for every start: the noise exactly, values to rounding. Without ``members`` and ``member_dim`` there is one
    member, which is kept without a dimension of its own: the values of :func:`~anygrid.forecast.roll.forecast`, its starts and samples
    spread over processes.

    Blocks of members, fixed by the request, are rolled out by ``workers`` or a ``cluster``; each writes its partial result whole or not
    at all, and partial results are merged in the order of the members. So the memory does not grow with the members, a
    killed call continues where it stopped, and the bytes are the same with one process, with many, and on a cluster. Lost
    workers of a cluster lose nothing.

    The result has for a variable ``u`` and each statistic asked for ``u_mean, u_std, u_min, u_max, u_quantile, u_quantile_error, u_above,
    u_crps, u_rank``, and ``u`` for members that are kept. Quantiles are exact up to 256 members; above that ``u_quantile_error`` bounds
    their error at every point (see :mod:`anygrid.forecast.summary`).

    Parameters
    ----------
    map_
        Any map that advances the state by ``dt``. With ``stochastic`` a random one: a surrogate with noise, which computes members
        together, or any :class:`~anygrid.maps.RandomMap`, which is called for one at a time. Other processes get a surrogate as the bytes
        of its file, and what cannot be sent to them runs in this one.
    members
        Number of members; by default as many as the data hold.
    perturbation
        Random fields added to the initial state of every member. There is no unperturbed member.
    member_dim
        Dimension of the initial data that counts members.
    keep
        What is kept.
    truth
        The outputs, or some of them, at all valid times, for the scores among what is kept: then thousands of members are judged without
        being kept.
    out
        Zarr store to write; None returns the result in memory. Workers of a cluster must see it.
    workers
        Processes, each with one thread; by default one a processor. 0 works in this process.
    cluster
        Workers on other machines instead: see :func:`anygrid.io.cluster.connect`.
    progress
        Called with members times starts done, the number of all of them, and seconds since the call.

    The other parameters are those of :func:`~anygrid.forecast.roll.forecast`.

    Raises
    ------
    UsageError
        For numbers out of range, members that would all be the same, and statistics that one member does not have.
    DataError
        For initial data that cannot be used, and members that do not stay finite: the first found is named.
    FileError, ClusterError
        As those of :func:`anygrid.io.store.generate`.
    """
    _check(members, member_dim, perturbation, stochastic, keep, outputs, steps, every)
    if workers is not None and (workers < 0 or cluster is not None):
        got = f"workers {workers}" + (" and a cluster" if cluster is not None else "")
        raise UsageError("ensemble", "a number of workers from 0 on, or a cluster", got, "leave workers out: a cluster has its own")
    began = clock.monotonic()
    step, held = Step.parse(dt), held_in(forcings, inputs, outputs)
    begin, a, member = _states(initial, inputs, outputs, held, domain, start, members, member_dim)
    single = members is None and member_dim is None
    count = len(member) if member_dim is not None else members or 1
    if keep.std and count < 2 and not single:
        raise UsageError("ensemble keep", "at least 2 members for a standard deviation", "one", "leave std out: Keep(std=False)")
    if keep.members and (min(keep.members) < 0 or max(keep.members) >= count):
        raise UsageError("ensemble keep", f"members from 0 to {count - 1}", f"{min(keep.members)} to {max(keep.members)}")
    if keep.scores and (truth is None or count < 2):
        got = "none" if truth is None else "one member"
        raise UsageError("ensemble keep", "2 members or more, and the truth, for crps and rank", got, "give truth=, or leave them out")
    if truth is not None and not keep.scores:
        raise UsageError("ensemble truth", "scores among what is kept", "none", "add crps=True or rank=True to Keep, or leave truth out")
    forced = find_forcings(forcings, begin, inputs, held, step, steps)
    known = None if truth is None else find_truth(truth, begin, outputs, step, steps)
    channels = [[v.name for v in inputs].index(v.name) for v in outputs]
    frame = begin.frame(torch.zeros(a.shape[1], len(outputs), *begin.found.shape), outputs)
    frame.attrs = forecast_attributes(begin, forced, step, tuple(inputs), steps)
    lead, coordinates = lead_coordinates(
        begin, step, range(every, steps + 1, every), () if known_times is None else tuple(known_times.values)
    )
    if single:
        keep = Keep(mean=False, std=False, members=range(1))
    at_once = rows_at_once(begin.grid, max(len(inputs), len(outputs)))
    with ExitStack() as stack:
        # Workers of a cluster have other working directories.
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ensemble.zarr" if out is None else Path(out).absolute()
        plan = Plan(
            path.with_name(path.name + ".partial"),
            tuple(v.name for v in outputs),
            tuple(begin.data.sizes[d] for d in begin.leading),
            begin.order().shape[len(begin.leading) :],
            begin.order().reshape(a.shape[1], -1)[0],
            steps,
            every,
            count,
            (min(count, at_once), max(1, at_once // min(count, at_once))),
            keep,
            single,
            () if known is None else tuple(v.name for v in known.variables),
        )
        limit = largest(a[:, :, channels].flatten(0, 1))
        block = Block(plan, map_, stochastic, begin.grid, a, tuple(channels), forced, perturbation, seed, limit, known)
        request = _request(block, step, start)
        frame.attrs |= _said(block) if not single else {}
        template = insert_lead(begin.named(frame), lead, len(begin.leading), coordinates)
        folder = WorkingFolder(path, request, overwrite=overwrite)
        if not folder.finished():
            _fill(folder, block, skeleton(template, plan, tuple(outputs), member), workers, cluster, progress, began)
        found = xr.open_zarr(path)
        return found.load() if out is None else found


def _fill(
    folder: WorkingFolder,
    block: Block,
    empty: xr.Dataset,
    workers: int | None,
    cluster: Cluster | None,
    progress: Progress | None,
    began: float,
) -> None:
    """Carry out what is still missing of an ensemble, and give it its name."""
    plan, done = block.plan, 0
    total = plan.members * math.prod(plan.leading)
    try:
        with folder.alone():
            if not folder.begin():
                folder.create(empty, {str(n): tuple(c[0] for c in v.chunks or ()) for n, v in empty.data_vars.items()})
            merger = Merger(plan)
            tasks, done = merger.open_tasks()
            if progress:
                progress(done, total, clock.monotonic() - began)
            if cluster is not None and tasks:
                cluster.check_shared(merger.parts)
            processes = available_cpus() if workers is None else workers
            with closing(run(block, tasks, processes) if cluster is None else cluster.run(block, tasks)) as results:
                for task, states in results:
                    merger.add(task)
                    done += states
                    if progress:
                        progress(done, total, clock.monotonic() - began)
            folder.give_name()
    except OSError as error:
        raise disk_error(error, folder.path, f"{done} of {total} forecasts") from error


def _check(
    members: int | None,
    member_dim: str | None,
    perturbation: Perturbation | None,
    stochastic: bool,
    keep: Keep,
    outputs: Sequence[Variable],
    steps: int,
    every: int,
) -> None:
    """Refuse what cannot be an ensemble."""
    if steps < 1 or every < 1 or every > steps:
        raise UsageError("ensemble", "steps of 1 or more, and every from 1 to steps", f"steps {steps}, every {every}")
    if members is not None and not 1 <= members <= _MOST:
        raise UsageError("ensemble members", f"a number from 1 to {_MOST}", str(members), "leave it out for one forecast")
    if members is None and member_dim is None:
        if perturbation is not None or stochastic:
            raise UsageError("ensemble", "a number of members", "none", "for example members=100")
        return
    if perturbation is not None and len(perturbation.deviation) != len(outputs):
        raise UsageError("Perturbation", f"a deviation for each of {len(outputs)} variables", str(len(perturbation.deviation)))
    if perturbation is None and not stochastic and member_dim is None and members != 1:
        hint = "give a perturbation, a dimension of the data with members, or a random map (stochastic)"
        raise UsageError("ensemble", "members that differ", f"{members} times the same forecast", hint)
    if not keep.statistics and not keep.members:
        raise UsageError("ensemble keep", "at least one statistic, or members", "nothing", "for example Keep(mean=True)")
    names = [v.name for v in outputs]
    for name, _ in keep.above:
        if name not in names:
            raise UsageError("ensemble keep", "a threshold of a variable that is predicted", repr(name), did_you_mean(name, names))


def _states(
    initial: xr.Dataset,
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    held: list[str],
    domain: Grid | None,
    start: StartAt,
    members: int | None,
    member_dim: str | None,
) -> tuple[Start, Tensor, xr.DataArray]:
    """Where the ensemble starts: one start, the inputs ``(member, row, channel, *space)``, and the coordinate of the members."""
    if member_dim is None:
        begin = find_start(initial, inputs, outputs, held, domain, start)
        return begin, begin.inputs(inputs)[None], xr.DataArray(np.arange(members or 1), dims="member", name="member")
    if member_dim not in initial.dims:
        raise DataError(
            "ensemble member_dim", "a dimension of the initial data", repr(member_dim), did_you_mean(member_dim, map(str, initial.dims))
        )
    size = initial.sizes[member_dim]
    if members is not None and members > size:
        raise UsageError("ensemble members", f"at most the {size} along {member_dim}", str(members), "leave it out to take all")
    data = initial.isel({member_dim: slice(0, members)})
    values = data[member_dim].values
    # Under a name that is known to count samples, whatever it is called in the file.
    data = data.drop_vars(member_dim, errors="ignore")
    data = data if member_dim == "member" else data.rename_dims({member_dim: "member"})
    whole = find_start(data, inputs, outputs, held, domain, start)
    if "member" not in whole.data.dims:
        raise DataError("ensemble member_dim", f"a state that depends on {member_dim}", "one that does not", "leave member_dim out")
    begin = find_start(data.isel(member=0), inputs, outputs, held, domain, start)
    dims = [d for d in whole.layout.leading if d in whole.data.dims]
    a = whole.inputs(inputs).unflatten(0, [whole.data.sizes[d] for d in dims])
    a = a.movedim(dims.index("member"), 0).flatten(1, len(dims) - 1) if len(dims) > 1 else a[:, None]
    return begin, a, xr.DataArray(values, dims=member_dim, name=member_dim)


def _request(block: Block, step: Step, start: StartAt) -> dict[str, Any]:
    """Everything that decides the bytes; the map by what it makes of the first state."""
    plan = block.plan
    with one_thread():
        roller = block.roller(range(1), range(1))
        first = roller.step(roller.initial(), 0)
    kept: dict[str, Any] = {k: v for k, v in dataclasses.asdict(plan.keep).items() if v or k not in ("crps", "rank")}  # as before they were
    kept |= {"members": [plan.keep.members.start, plan.keep.members.stop, plan.keep.members.step]}
    spread = None if block.perturbation is None else dataclasses.asdict(block.perturbation)
    request = {"kind": "ensemble", "steps": plan.steps, "every": plan.every, "dt": f"{step.amount:g} {step.unit}", "start": start}
    request |= {"members": plan.members, "seed": block.seed, "perturbation": spread, "stochastic": block.stochastic, "keep": kept}
    request |= {"outputs": list(plan.names), "block": list(plan.block), "initial": digest(block.a), "first step": digest(first)}
    if block.truth is not None:
        truth = torch.zeros(block.a.shape[1], len(plan.names), *block.grid.shape)
        block.truth.into(truth, 1)
        request |= {"judged": list(plan.judged), "truth": digest(truth)}
    return request


def _said(block: Block) -> dict[str, Any]:
    """Attributes that say how the members came about."""
    plan, spread = block.plan, block.perturbation
    attrs: dict[str, Any] = {"title": f"ensemble of {plan.members} members: {', '.join(plan.names)}", "ensemble_members": plan.members}
    if spread is not None:
        sizes = ", ".join(f"{name} {d:.4g}" for name, d in zip(plan.names, spread.deviation, strict=True))
        attrs["ensemble_perturbation"] = f"smooth random fields, correlation length {spread.length:g}, standard deviation {sizes}"
    if spread is not None or block.stochastic:
        noise = "; the noise of member i is that of sample 2147483648 + i" if block.stochastic else ""
        attrs |= {"seed": block.seed, "seed_rule": f"a member is a sample: {SEED_RULE}{noise}"}
    if plan.keep.std:
        attrs["ensemble_std"] = "square root of the sum of squared deviations over the number of members less one"
    if plan.keep.quantiles:
        how = "exact" if plan.members <= EXACT else f"from a histogram of {EXACT} bins at each point; the error is below *_quantile_error"
        attrs["ensemble_quantiles"] = f"linear between order statistics, {how}"
    return attrs
