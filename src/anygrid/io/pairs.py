"""Training pairs out of a data set: which states follow which, batches of them, their statistics, and splits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError, UsageError
from anygrid.fields import Layout, find_grid, find_layout, select, to_tensor, variables_of
from anygrid.fields.missing import with_masks
from anygrid.fields.variables import coordinate
from anygrid.grid import Grid
from anygrid.io.leads import Lead, find_lead, season_clock
from anygrid.io.source import Disk, Memory, Source, free_memory
from anygrid.statistics import Moments, Statistics

__all__ = ["Pairs"]

_ENSEMBLE = {"member", "members", "number", "realization", "realisation", "ensemble", "ens", "ensemble_member"}
_PASS = 2**25  # bytes of one side in a step of the statistics


class Pairs:
    """Pairs (input, output) of a data set.

    Without a lead, the input and the output of a pair stand in the same row (a sample, and a time where there is one). With a
    lead, the output is the state one lead after the input, in the same trajectory; no pair crosses a gap in time. Values that
    fit in ``memory_limit`` are loaded once, as one contiguous float32 array a side (one for both where all outputs are inputs too);
    larger ones are read block by block.

    Parameters
    ----------
    inputs, outputs
        Names of variables; ``NAME@DIM=VALUE`` takes one entry of a further dimension.
    lead
        Lead time: a number of time indices, or a duration such as ``"1month"``, ``"6h"`` or ``"0.5"`` in units of the time
        coordinate. None for steady data.
    layout
        Roles of the dimensions where :func:`anygrid.fields.find_layout` cannot tell them.
    periodic
        Axes known to be periodic (True) or bounded (False).
    memory_limit
        Bytes that may be kept in memory; by default a quarter of what is free.

    Attributes
    ----------
    notes
        Sentences on what was inferred: the grid, the lead, gaps, where the values are.
    lead_steps, dt, evolution
        Lead in indices and as text; whether there is one.

    Raises
    ------
    DataError
        For missing variables, no sample dimension, a single sample, NaN or infinite values (streamed data are checked as they
        are read; inputs that are no outputs may miss values at the same places at all times, and are filled there), a lead that
        does not exist, inputs and outputs on different grids.
    GridError
        For coordinates that do not form a grid.
    """

    def __init__(
        self,
        ds: xr.Dataset,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        lead: int | str | None = None,
        layout: Layout | None = None,
        periodic: Mapping[str, bool] | None = None,
        memory_limit: int | None = None,
    ) -> None:
        for option, named in (("inputs", inputs), ("outputs", outputs)):
            if isinstance(named, str) or not named:
                raise UsageError(option, "a list of variable names", repr(named), f"{option}=('u',)")
        names = tuple(dict.fromkeys((*inputs, *outputs)))
        self.inputs, self.outputs = variables_of(ds, inputs), variables_of(ds, outputs)
        self.layout: Layout = find_layout(ds, names) if layout is None else layout
        data = _with_leading(select(ds, names), self.layout, inputs, outputs, lead)
        grid, notes = find_grid(ds, names, self.layout, periodic=periodic)
        self.grid: Grid = grid
        given = with_masks(data, [v for v in self.inputs if v.name not in outputs], self.layout)
        self.inputs = tuple({v.name: v for v in given}.get(v.name, v) for v in self.inputs)
        self.evolution = lead is not None
        self._lead = self._find_lead(data, lead)
        dates = coordinate(data, self.layout.time) if lead is not None and self.layout.time else None
        self._clock = None if dates is None else season_clock(dates)
        self.lead_steps: int = self._lead.steps if self._lead else 0
        self.dt: str | None = self._lead.dt if self._lead else None
        sizes = [data.sizes[d] for d in self.layout.leading]
        self._times = data.sizes[self.layout.time] if self.layout.time else 1
        self._all = math.prod(sizes)
        self._trajectories, self._range = (0, self._all // self._times), (0, self._times)
        if len(self) < 2:
            what = "pair of states" if self.evolution else "sample"
            raise DataError(
                "training data", f"two or more {what}s", f"{len(self)}", "give more samples or times; nothing can be learned from one"
            )
        limit = free_memory() // 4 if memory_limit is None else memory_limit
        self._in, self._out, where = self._open(data, limit)
        self.notes: tuple[str, ...] = (*notes, *self._lead_notes(), *_mask_notes(given), where)

    def __len__(self) -> int:
        return self.count(1)

    def count(self, steps: int = 1) -> int:
        """Rows from which ``steps`` leads are available inside one trajectory, without a gap."""
        return (self._trajectories[1] - self._trajectories[0]) * len(self._starts(steps))

    def batch(
        self, index: NDArray[np.int64], steps: int = 1
    ) -> tuple[Float32[Tensor, "batch lead inputs *space"], Float32[Tensor, "batch lead outputs *space"]]:
        """Inputs and outputs of some of the ``count(steps)`` rows.

        ``a[:, j]`` is the input at ``t + j lead``, ``u[:, j]`` the truth at ``t + (j + 1) lead``; for steady data ``steps`` is 1 and both
        stand at ``t``. Values are in physical units; space is ascending, in the order of ``grid.dims``.

        Raises
        ------
        IndexError
            For numbers outside ``0 ... count(steps) - 1``.
        """
        rows = self._rows(np.asarray(index, dtype=np.int64), steps)
        ahead = np.arange(steps) * self.lead_steps
        before = (rows[:, None] + ahead).ravel()
        a = self._in.take(before)
        u = self._out.take(before + self.lead_steps)
        return a.reshape(len(rows), steps, *a.shape[1:]), u.reshape(len(rows), steps, *u.shape[1:])

    def following(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of some of the ``len(self)`` rows of an evolution those one lead later in the same trajectory; -1 where there is none.

        Where a trajectory ends, or has a gap, that has dates and is longer than a year: the row of the same season (the day of the year,
        to a day, and the same hour) as early in it as there is one.
        """
        starts = self._starts(1)
        wanted = starts[index % len(starts)] + self.lead_steps
        place, there = _found(starts, wanted)
        if self._clock is not None and not there.all():
            seconds, year = self._clock
            known, now = seconds[starts], seconds[wanted]
            years = np.floor((now - known[0]) / year)
            back = np.rint(years * year / 86400) * 86400  # whole days, so that the hour stays
            near = np.minimum(np.searchsorted(known, now - back - 1), len(starts) - 1)
            close = (years > 0) & (np.abs(known[near] - (now - back)) < now - seconds[wanted - self.lead_steps])
            place, there = np.where(there, place, near), there | close
        return np.where(there, index // len(starts) * len(starts) + place, -1)

    def order(self, generator: np.random.Generator, steps: int = 1) -> NDArray[np.int64]:
        """All ``count(steps)`` rows in a random order that suits where they are kept.

        In memory, any permutation. From disk, blocks of the file are shuffled and rows mixed among as many blocks as memory
        holds, so that an epoch reads each block about once. A function of the generator's state alone.
        """
        n = self.count(steps)
        window = min(self._in.window or 10**9, self._out.window or 10**9)
        if window == 10**9:
            return generator.permutation(n)
        rows = self._rows(np.arange(n), steps)
        owner = self._in.blocks(rows)
        position = np.empty(int(owner.max()) + 1, dtype=np.int64)
        numbers = np.unique(owner)
        position[numbers] = generator.permutation(len(numbers))
        return np.lexsort((generator.random(n), position[owner] // window)).astype(np.int64)

    def statistics(self) -> Statistics:
        """Moments of inputs, outputs and increments of these pairs, in float64, in one pass.

        An increment is the output minus the input of the same name; an output that is no input counts with its own values.
        """
        rows = max(1, _PASS // (4 * self.grid.size * max(len(self.inputs), len(self.outputs))))
        shared = [(k, [v.name for v in self.inputs].index(o.name)) for k, o in enumerate(self.outputs) if o in self.inputs]
        total: Statistics | None = None
        for start in range(0, len(self), rows):
            a, u = (x[:, 0].numpy() for x in self.batch(np.arange(start, min(start + rows, len(self)))))
            increments = None
            if self.evolution:
                change = u.astype(np.float64)
                for k, i in shared:
                    change[:, k] -= a[:, i]
                increments = Moments.of(change)
            part = Statistics(Moments.of(a), Moments.of(u), increments)
            total = part if total is None else total.merge(part)
        if total is None:
            raise DataError("statistics", "at least one pair", "none", "the split left nothing on this side")
        return total

    def split(self, last: float | int) -> tuple[Pairs, Pairs]:
        """The first part and the ``last`` part, in order, never shuffled; ``last`` is a fraction below 1, or a count.

        Trajectories are divided where there are several; otherwise, and for ensemble members (which share their weather),
        times are: no pair has its input on one side and its output on the other.

        Raises
        ------
        UsageError
            When either side would be left without a pair.
        """
        by_time = self._range[1] - self._range[0] > 1 and (
            self._trajectories[1] - self._trajectories[0] == 1 or bool(set(self.layout.samples) & _ENSEMBLE)
        )
        low, high = self._range if by_time else self._trajectories
        count = round(last * (high - low)) if isinstance(last, float) and last < 1 else int(last)
        count = max(1, count) if last > 0 else 0
        sides = []
        for part in ((low, high - count), (high - count, high)):
            side: Pairs = object.__new__(Pairs)
            side.__dict__.update(self.__dict__)
            side._range, side._trajectories = (part, self._trajectories) if by_time else (self._range, part)
            sides.append(side)
            if part[0] < 0 or part[0] >= part[1] or len(side) == 0:
                kind = "times" if by_time else "samples"
                raise UsageError("split", "a pair on both sides", f"{last} of {high - low} {kind}", "hold out fewer, or give more data")
        return sides[0], sides[1]

    def _find_lead(self, data: xr.Dataset, lead: int | str | None) -> Lead | None:
        if lead is None:
            return None
        time = self.layout.time
        if time is None:
            listed = ", ".join(f"{d} {n}" for d, n in data.sizes.items())
            raise DataError(
                "--lead", "data with a time dimension", f"dimensions {listed}", "name it with --time, or leave out the lead for steady data"
            )
        return find_lead(lead, coordinate(data, time), data.sizes[time])

    def _starts(self, steps: int) -> NDArray[np.int64]:
        """Times from which ``steps`` leads lie in the range without a gap."""
        if steps < 1 or (steps > 1 and not self.evolution):
            raise UsageError("steps", "1 or more, and 1 for steady data", str(steps))
        low, high = self._range
        reach = steps * self.lead_steps
        starts = np.arange(low, max(low, high - reach))
        if self._lead is None or not any(self._lead.gaps):
            return starts
        missing = np.concatenate([[0], np.cumsum(self._lead.gaps)])
        return starts[missing[starts + reach] == missing[starts]]

    def _rows(self, index: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        starts = self._starts(steps)
        total = (self._trajectories[1] - self._trajectories[0]) * len(starts)
        if index.size and (index.min() < 0 or index.max() >= total):
            raise IndexError(f"row {index.max() if index.max() >= total else index.min()} of {total}")
        return (self._trajectories[0] + index // max(1, len(starts))) * self._times + starts[index % max(1, len(starts))]

    def _open(self, data: xr.Dataset, limit: int) -> tuple[Source, Source, str]:
        one = set(self.outputs) <= set(self.inputs)
        size = 4 * self._all * (len(self.inputs) + (0 if one else len(self.outputs))) * self.grid.size
        same = self.inputs == self.outputs
        sides = [Disk(data, side, self.layout, self.grid, max(limit // (1 if same else 2), 2**20)) for side in (self.inputs, self.outputs)]
        if size > limit:
            shown = f"{size / 2**30:.3g} GiB are streamed from disk (the limit is {limit / 2**30:.3g} GiB)"
            return sides[0], sides[0] if same else sides[1], shown
        try:
            inputs = Memory(sides[0].load())
            outputs = Memory(inputs.values, [self.inputs.index(v) for v in self.outputs]) if one else Memory(sides[1].load())
        except DataError:
            for variables in (self.inputs, self.outputs):
                # A block knows only its own missing values; the message shall count them all.
                to_tensor(sides[0].ds, variables, self.layout, self.grid)
            raise
        return inputs, inputs if same else outputs, f"{size / 2**20:.3g} MiB are kept in memory"

    def _lead_notes(self) -> tuple[str, ...]:
        if self._lead is None:
            return ()
        steps = f"{self.lead_steps} step{'s' if self.lead_steps > 1 else ''} in time"
        gaps = sum(self._lead.gaps)
        return (f"lead {self.dt} = {steps}" + (f"; {gaps} gaps in time, which no pair crosses" if gaps else ""),)


def _found(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places of numbers in ascending rows, and whether they are there."""
    place = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return place, rows[place] == wanted


def _mask_notes(variables: Sequence[Variable]) -> tuple[str, ...]:
    names = ", ".join(v.name for v in variables if v.masked)
    return (f"{names}: missing at the same places at all times (land?), filled from around them",) if names else ()


def _with_leading(data: xr.Dataset, layout: Layout, inputs: Sequence[str], outputs: Sequence[str], lead: int | str | None) -> xr.Dataset:
    """The data, after checking that there are samples and that inputs and outputs have time where they need it."""
    if not layout.leading:
        listed = ", ".join(f"{d} {n}" for d, n in data.sizes.items())
        hint = "join several files with a glob, or name the dimension with --samples or --time"
        raise DataError("training data", "a sample or time dimension", f"only {listed}", hint)
    time = layout.time
    for option, names in (("outputs", outputs), ("inputs", inputs)):
        missing = [d for d in layout.leading if not any(d in data[n].dims for n in names)]
        if time in missing and (lead is not None or option == "inputs"):
            other = next(n for n in (*outputs, *inputs) if time in data[n].dims)
            hint = f"take one time of the others, for example {other}@{time}=VALUE, or name inputs and outputs that both have time"
            raise DataError(option, f"a variable with the dimension {time!r}", ", ".join(names), hint)
        if missing and option == "outputs":
            raise DataError(
                "outputs", f"variables with the dimension {missing[0]!r}", ", ".join(names), "name outputs that vary from sample to sample"
            )
    return data
