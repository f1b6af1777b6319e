"""Errors of a surrogate on fields that do not fit into memory: predicted slab by slab and compared with the stored truth at once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from anygrid.errors import DataError, FileError, GridError, UsageError
from anygrid.evaluate.baselines import shared_channels
from anygrid.evaluate.large import identity, parse_memory, upwards
from anygrid.evaluate.result import Report, Score, data_title, grid_name
from anygrid.evaluate.scoring import summarise
from anygrid.evaluate.timing import environment
from anygrid.evaluate.verdict import verdict
from anygrid.fields import Layout, Variable, check_units, find_grid, find_layout, select, to_tensor
from anygrid.fields.variables import coordinate
from anygrid.grid import Box, Sphere
from anygrid.io.leads import find_lead
from anygrid.metrics.running import RunningErrors
from anygrid.operators.streaming import Slabs, bytes_per_row, passes, slab
from anygrid.surrogate.file import read_tensors, write_tensors
from anygrid.surrogate.geometry import snap
from anygrid.surrogate.model import Surrogate
from anygrid.surrogate.slabs import Streamed, streamed

__all__ = ["evaluate_large"]

_FORMAT, _VERSION = "anygrid notes of an evaluation", 1
_EVERY = 10.0  # seconds between notes of what was done: what a kill loses
_HELD = 14  # float64 fields of a slab that the errors take at their peak
_STENCIL = 4  # rows that are kept for the derivative along the first axis

Place = tuple[int, ...]  # positions along the sample dimensions and time


def evaluate_large(
    surrogate: Surrogate,
    ds: xr.Dataset,
    *,
    n: int = 32,
    training: xr.Dataset | None = None,
    memory: int | str = "1GB",
    keep: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """As :func:`anygrid.evaluate.evaluate` with data, without ever holding a whole field.

    The prediction is made in ranges of rows of the first space axis and compared with the truth there; neither is held and nothing is
    written. The errors are those of ``evaluate`` to rounding; along an evenly spaced periodic first axis, H1 takes differences of order 4
    where ``evaluate`` takes a Fourier transform (:class:`anygrid.metrics.running.RunningErrors`). Baselines: the mean of the training
    data or, without them, of the test data (from two samples on), and persistence of an evolution. What needs whole fields is left out:
    error by wave-number band, spectra, roll-outs, the nearest training sample, other resolutions; and nothing is timed.

    Parameters
    ----------
    ds
        Inputs and truth on one grid, opened lazily; without a sample or time dimension it is one sample.
    n
        Number of test samples, spread evenly over the data.
    training
        The training data on the same grid, for their mean; all their samples are read once.
    memory
        Bytes, or text such as ``"500MB"``, for the slabs at work; the interpreter and the surrogate come on top (about 0.5 GB).
    keep
        File that notes what was done about every ten seconds; the same call continues from there, and removes it at the end. A file
        of another request is begun anew.
    progress
        Called with slabs read for a prediction or compared, and how many there are in all.

    Raises
    ------
    DataError, GridError
        For a missing variable, other units, values that are not finite, data without the lead of the surrogate, scattered points, another
        domain; and what :func:`anygrid.surrogate.slabs.streamed` refuses.
    UsageError
        For an operator other than LatentFNO and FNO, an imposed ball or highest wave, no samples, and memory too small for one row.
    FileError
        When ``keep`` is another file, or cannot be written.
    """
    if n < 1:
        raise UsageError("evaluate n", "at least one test sample", str(n))
    cases = _open(surrogate, ds, "evaluate")
    rows = np.unique(np.linspace(0, len(cases.places) - 1, min(n, len(cases.places))).astype(np.int64))
    given = None if training is None else _open(surrogate, training, "evaluate: training data")
    if given is not None and given.grid != cases.grid:
        found, hint = f"{grid_name(given.grid.shape)} points", "interpolate them to it first, or leave them out"
        raise GridError("evaluate: training data", f"the grid of the test data, {grid_name(cases.grid.shape)}", found, hint)
    run = _Run(
        surrogate, cases, [cases.places[k] for k in rows], given, parse_memory(memory), None if keep is None else Path(keep), progress
    )
    was_training = surrogate.training
    surrogate.eval()
    try:
        with torch.inference_mode():
            run.work()
    finally:
        surrogate.train(was_training)
    return _report(run)


class _Cases:
    """Pairs of inputs and truth, read by rows of the first space axis."""

    def __init__(self, surrogate: Surrogate, data: xr.Dataset, layout: Layout, grid: Box | Sphere, lead: int, places: list[Place]) -> None:
        self.inputs, self.outputs, self.device = surrogate.inputs, surrogate.outputs, surrogate.in_mean.device
        self.data, self.layout, self.grid, self.lead, self.places = data, layout, grid, lead, places
        self.bytes = 0
        self._last: tuple[Any, Tensor | None] = (None, None)

    def given(self, place: Place, start: int, stop: int) -> Tensor:
        """Inputs ``(1, channel, rows, *rest)``; those read last are at hand."""
        key = (place, start, stop)
        if self._last[0] != key or self._last[1] is None:
            self._last = (key, self._read(self.inputs, place, start, stop).to(self.device))
        assert self._last[1] is not None
        return self._last[1]

    def truth(self, place: Place, start: int, stop: int) -> Tensor:
        """Outputs ``(channel, rows, *rest)``, a lead later for an evolution."""
        ahead = (*place[:-1], place[-1] + self.lead) if self.lead else place
        return self._read(self.outputs, ahead, start, stop)[0]

    def _read(self, variables: tuple[Variable, ...], place: Place, start: int, stop: int) -> Tensor:
        leading = (d for d in self.layout.leading if d in self.data.dims)
        where = {d: slice(k, k + 1) for d, k in zip(leading, place, strict=True)} | {self.grid.dims[0]: slice(start, stop)}
        part = self.data.isel(where)
        self.bytes += sum(part[v.name].nbytes for v in variables)
        return to_tensor(part, variables, self.layout, slab(self.grid, start, stop))


def _open(surrogate: Surrogate, ds: xr.Dataset, where: str) -> _Cases:
    variables = tuple({v.name: v for v in (*surrogate.inputs, *surrogate.outputs)}.values())
    names = [v.name for v in variables]
    check_units(ds, variables, where)
    data = select(ds, names)
    space = surrogate.grid.dims if isinstance(surrogate.grid, Box) and set(surrogate.grid.dims) <= set(data.dims) else None
    layout = find_layout(data, names, space=space)
    periodic = None if space is None else dict(zip(space, (i.periodic for i in surrogate.grid.domain), strict=True))
    found = snap(find_grid(data, names, layout, periodic=periodic)[0], surrogate.grid, f"{where}: grid of the data")
    if not isinstance(found, Box | Sphere):
        raise GridError(where, "grids with axes", "scattered points", "evaluate in memory")
    leading = [d for d in layout.leading if d in data.dims]
    for v in surrogate.outputs:
        if not {*leading, *found.dims} <= set(data[v.name].dims):
            wanted, got = (", ".join(map(str, d)) for d in ((*leading, *found.dims), data[v.name].dims))
            raise DataError(where, f"the truth of {v.name!r} along {wanted}", f"dimensions {got}")
    lead, starts = 0, list(range(data.sizes[leading[-1]] if leading else 1))
    if surrogate.dt is not None:
        if layout.time is None or layout.time not in leading:
            raise DataError(
                where, "data with a time dimension, which hold the state a lead later", f"dimensions {', '.join(map(str, data.sizes))}"
            )
        said = surrogate.record.get("settings", {}).get("lead") or surrogate.dt
        known = find_lead(said, coordinate(data, layout.time), data.sizes[layout.time])
        lead = known.steps
        starts = [t for t in starts[: len(starts) - lead] if not any(known.gaps[t : t + lead])]
    outer = np.ndindex(*(data.sizes[d] for d in leading[:-1]))
    places = [(*before, t) if leading else () for before in outer for t in starts]
    if not places:
        raise DataError(where, "at least one sample", "none" if not lead else f"no two states {surrogate.dt} apart")
    return _Cases(surrogate, upwards(data, found), layout, found, lead, places)


@dataclass(eq=False)
class _Run:
    """An evaluation at work: what was gathered of the inputs of each sample, and the errors of each map on it so far."""

    surrogate: Surrogate
    cases: _Cases
    places: list[Place]
    training: _Cases | None
    memory: int
    keep: Path | None
    progress: Callable[[int, int], None] | None
    rows: int = 0  # of a slab
    next: int = 0  # first row that was not compared yet
    done: int = 0  # slabs
    fields: list[Streamed] = field(default_factory=list)
    errors: dict[str, list[RunningErrors]] = field(default_factory=dict)
    _noted: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        cases, grid = self.cases, self.cases.grid
        outputs, across = len(cases.outputs), grid.size // grid.shape[0]
        self.channels = shared_channels(cases.inputs, cases.outputs)
        names = ["surrogate"]
        if self.training is not None or len(self.places) > 1:
            names.append("mean of test" if self.training is None else "mean of training")
        if self.channels is not None:
            names.append("persistence")
        self.errors = {name: [RunningErrors(grid, outputs) for _ in self.places] for name in names}
        row = bytes_per_row(self.surrogate.operator, grid, grid, 4) + across * 8 * _HELD * outputs
        held = len(names) * len(self.places) * 2 * _STENCIL * across * 8 * outputs
        if row + held > self.memory:
            hint = f"give at least {-(-(row + held) // 10**6)}MB, evaluate fewer samples, or put the shorter axes after the first"
            expected = f"room for one row along {grid.dims[0]!r} and {len(self.places)} samples, {row + held:,} bytes"
            raise UsageError("memory", expected, f"{self.memory:,}", hint)
        most = min((self.memory - held) // row, grid.shape[0])
        chunk = max((cases.data[v.name].chunksizes.get(grid.dims[0], (1,))[0] for v in cases.outputs), default=1)
        self.rows = most // chunk * chunk or most  # whole chunks of the file, which is then read once

    @property
    def _parts(self) -> int:
        return math.ceil(self.cases.grid.shape[0] / self.rows)

    @property
    def _each(self) -> int:
        """Slabs that are read to know what the prediction of one sample needs of its whole input."""
        return self._parts * (passes(self.surrogate.operator) + bool(self.surrogate.imposed.conserved))

    def work(self) -> None:
        """All of it, or what an earlier call left."""
        known = self._resume()
        for k, place in enumerate(self.places):
            had = known[k] if k < len(known) else None
            self.fields.append(streamed(self.surrogate, self._field(place), self.cases.grid, had))
            self._told(max(0, self._each * (k + 1) - self.done))
            self._note()
        self._told(len(self.places) * (self.next // self.rows))
        for start in range(self.next, self.cases.grid.shape[0], self.rows):
            self._compare(start, min(start + self.rows, self.cases.grid.shape[0]))
            self._note()
        if self.keep is not None:
            self.keep.unlink(missing_ok=True)

    def _field(self, place: Place) -> Slabs:
        last: list[int] = [-1]

        def read(start: int, stop: int) -> Tensor:
            if len(self.fields) < len(self.places) and start != last[0]:  # not when the state of the same slab is read
                self._told(1)
            last[0] = start
            return self.cases.given(place, start, stop)

        return Slabs(self.cases.grid, read, self.rows)

    def _told(self, slabs: int) -> None:
        self.done += slabs
        if slabs and self.progress is not None:
            self.progress(self.done, len(self.places) * (self._each + self._parts))

    def _compare(self, start: int, stop: int) -> None:
        """The prediction and the baselines on one slab of every sample."""
        cases, of = self.cases, self.training or self.cases
        mean: Tensor | None = None
        if any(name.startswith("mean") for name in self.errors):
            total = torch.zeros((), dtype=torch.float64)
            places = self.places if self.training is None else of.places
            for place in places:
                total = total + of.truth(place, start, stop)
            mean = (total / len(places)).float()
        for k, (place, made) in enumerate(zip(self.places, self.fields, strict=True)):
            v = cases.truth(place, start, stop)
            for name, running in self.errors.items():
                if name == "surrogate":
                    u = made.rows(start, stop)[0].float().cpu()
                elif name == "persistence":
                    assert self.channels is not None
                    u = cases.given(place, start, stop)[0, list(self.channels)].cpu()
                else:
                    assert mean is not None
                    u = mean
                running[k].add(u, v)
            self._told(1)
        self.next = stop

    @property
    def _request(self) -> str:
        """What the numbers depend on, as far as it can be told without reading the fields."""
        said: dict[str, Any] = {"kind": "evaluation", **identity(self.surrogate, self.cases.data, self.cases.grid), "places": self.places}
        if self.training is not None:
            said["training"] = [identity(self.surrogate, self.training.data, self.training.grid), len(self.training.places)]
        return json.dumps(said)

    def _resume(self) -> list[tuple[Tensor, ...]]:
        """What an earlier call gathered; its errors and its place are taken over."""
        if self.keep is None or not self.keep.exists():
            return []
        try:
            header, tensors = read_tensors(self.keep, _FORMAT, _VERSION)
        except FileError as error:
            hint = "name another file, or remove it"
            raise FileError(str(self.keep), "notes of an evaluation", "another or a broken file", hint) from error
        if header["request"] != self._request:
            return []
        self.next, self.cases.bytes = header["next"], header["bytes"]
        for name, each in self.errors.items():
            for k, running in enumerate(each):
                running.resume({what: tensors[f"errors.{name}.{k}.{what}"] for what in running.state()})
        return [tuple(tensors[f"gathered.{k}.{i}"].to(self.cases.device) for i in range(n)) for k, n in enumerate(header["gathered"])]

    def _note(self) -> None:
        if self.keep is None or time.monotonic() - self._noted < _EVERY:
            return
        tensors = {f"gathered.{k}.{i}": t for k, made in enumerate(self.fields) for i, t in enumerate(made.gathered)}
        for name, each in self.errors.items():
            for k, running in enumerate(each):
                tensors |= {f"errors.{name}.{k}.{what}": t for what, t in running.state().items()}
        header = {"request": self._request, "gathered": [len(made.gathered) for made in self.fields]}
        write_tensors(self.keep, tensors, _FORMAT, _VERSION, header | {"next": self.next, "bytes": self.cases.bytes})
        self._noted = time.monotonic()


def _report(run: _Run) -> Report:
    cases, outputs, shape = run.cases, run.cases.outputs, run.cases.grid.shape
    scores = []
    for name, each in run.errors.items():
        found = [running.result() for running in each]
        values = {key: torch.stack([one[key] for one in found]).numpy() for key in found[0]}
        errors, variables = summarise(values, outputs)
        scores.append(Score(name, "map" if name == "surrogate" else "baseline", shape, shape, errors, variables, {}))
    read = cases.bytes + (run.training.bytes if run.training is not None else 0)
    trained_at = None if run.training is None else run.training.grid.shape
    settings = {
        "n": len(run.places),
        "resolutions": [grid_name(shape)],
        "trained_at": None if trained_at is None else grid_name(trained_at),
        "data_seconds": None,
        "training_seconds": None,
        "label_error": None,
        "roll_out_steps": 0,
        "memory": run.memory,
        "slab_rows": run.rows,
        "bytes_read": read,
    }
    return Report(
        subject=data_title(cases.inputs, outputs, run.surrogate.dt),
        kind="data",
        inputs=[asdict(v) for v in cases.inputs],
        outputs=[asdict(v) for v in outputs],
        settings=settings,
        environment=environment(),
        headline=shape,
        scores=tuple(scores),
        timings=(),
        comparisons=(),
        leads=(),
        spectra=(),
        examples=(),
        verdict=verdict(scores, (), (), shape, trained_at, None),
        notes=_notes(run, read),
    )


def _notes(run: _Run, read: int) -> tuple[str, ...]:
    grid, count = run.cases.grid, len(run.places)
    axis = grid.axes[0]
    spread = f"{count} rows spread evenly over {len(run.cases.places)} in the data set"
    notes = [
        f"Truth: {spread}, on {grid_name(grid.shape)}.",
        f"Made in slabs of {run.rows} rows along {axis.name}; {read / 1e9:.3g} GB of values were read.",
        "Left out, because they need whole fields: error by wave-number band, spectra, roll-outs, the nearest training sample, timings.",
    ]
    if axis.periodic and axis.uniform:
        notes.append(
            f"H1: derivatives along {axis.name} by differences of order 4, where an evaluation in memory takes a Fourier transform."
        )
    if run.training is None:
        flattering = "Baseline 'mean of test': no training set was given, so it is the mean of the test data itself, which flatters it."
        alone = "No baseline 'mean': one sample is its own mean. A VRMSE of 1 is that of the sample's mean over the domain."
        notes.append(flattering if count > 1 else alone)
    return tuple(notes)
