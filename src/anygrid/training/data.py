"""The data of a training: samples grouped by grid, what is held out, their statistics, and what identifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from anygrid.errors import DataError, UsageError
from anygrid.fields import Layout
from anygrid.grid import Grid
from anygrid.io.pairs import Pairs
from anygrid.problems.base import Problem
from anygrid.statistics import Statistics
from anygrid.surrogate import Imposed, Persistence, Seen, confined, grid_to_json, snap

__all__ = ["TrainingData", "gather"]

_SEEN = 1024  # samples whose statistics describe what was seen
_READ = 64  # samples read at once for that


@dataclass(frozen=True)
class TrainingData:
    """Samples to train on and held-out ones, one :class:`Pairs` for each data set, and the statistics of the former."""

    groups: tuple[Pairs, ...]
    held_out: tuple[Pairs, ...]
    statistics: Statistics
    attributes: Mapping[str, Any]
    memory_limit: int

    @property
    def reference(self) -> Pairs:
        """The data set on the finest grid."""
        return max(self.groups, key=lambda pairs: pairs.grid.size)

    @property
    def notes(self) -> list[str]:
        """Sentences on what was inferred from the files, each once."""
        return list(dict.fromkeys(note for pairs in self.groups for note in pairs.notes))

    @property
    def problem(self) -> Problem | None:
        """The problem that made the data, where their attributes say so and their variables and their lead are its own."""
        from anygrid.problems.stored import problem_of  # late: it reads in every problem

        first, stored = self.reference, self.attributes["attributes"]
        return problem_of(stored, [v.name for v in first.inputs], [v.name for v in first.outputs], first.dt)

    def seen(self) -> Seen:
        """Range and statistics of the inputs, the latter from at most 1024 evenly spaced samples."""
        moments = self.statistics.inputs
        spread = [0.0 if constant else std for constant, std in zip(moments.constant, moments.std, strict=True)]
        return Seen.of(self._inputs(), lower=moments.minimum, upper=moments.maximum, centre=moments.mean, spread=spread)

    def confined(self, imposed: Imposed) -> Imposed:
        """``imposed``, with the ball and the waves of at most 1024 evenly spaced states.

        Raises
        ------
        UsageError
            Unless every output is an input, a lead later.
        """
        source, names = self._evolving("confine"), [v.name for v in self.reference.outputs]
        states = ((a[:, source], grid) for a, grid in self._inputs())
        return confined(imposed, states, names, self.statistics.inputs.pick(source))

    def persistence(self) -> Persistence:
        """The climate that all samples are anomalies of.

        Raises
        ------
        UsageError
            Unless every output is an input, a lead later; for data sets on several grids.
        """
        source, grid = self._evolving("persistence"), self.reference.grid
        if any(pairs.grid != grid for pairs in self.groups):
            raise UsageError("persistence", "data sets on one grid", "several grids", "interpolate them, or leave persistence out")

        def leads() -> Iterator[tuple[Tensor, Tensor]]:
            for pairs in self.groups:
                for begin in range(0, len(pairs), _READ):
                    a, u = pairs.batch(np.arange(begin, min(begin + _READ, len(pairs))))
                    yield torch.as_tensor(a)[:, 0, source], torch.as_tensor(u)[:, 0]

        return Persistence.of(leads, grid)

    def fingerprint(self) -> dict[str, Any]:
        """What tells these data from others: sizes, grids, and a hash of the statistics, which any changed value changes."""
        text = json.dumps([self.statistics.to_json(), [grid_to_json(p.grid) for p in (*self.groups, *self.held_out)]])
        return {
            "samples": [len(pairs) for pairs in self.groups],
            "held_out": [len(pairs) for pairs in self.held_out],
            "grids": ["x".join(map(str, pairs.grid.shape)) for pairs in self.groups],
            "memory_limit": self.memory_limit,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }

    def _evolving(self, option: str) -> list[int]:
        """Places among the inputs of the outputs, which have to be there all."""
        first = self.reference
        given, names = [v.name for v in first.inputs], [v.name for v in first.outputs]
        if not first.evolution or set(names) - set(given):
            raise UsageError(option, "an evolution, whose outputs are all inputs", "another map", f"leave {option} out")
        return [given.index(name) for name in names]

    def _inputs(self) -> Iterator[tuple[Tensor, Grid]]:
        for pairs in self.groups:
            rows = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _SEEN // len(self.groups))).astype(np.int64))
            for part in np.split(rows, range(_READ, len(rows), _READ)):
                yield torch.as_tensor(pairs.batch(part, 1)[0])[:, 0], pairs.grid


def gather(
    data: xr.Dataset | Sequence[xr.Dataset],
    validation: float | xr.Dataset | Sequence[xr.Dataset],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    *,
    lead: int | str | None,
    layout: Layout | None,
    periodic: Mapping[str, bool] | None,
    memory_limit: int,
) -> TrainingData:
    """Samples and statistics of one or more data sets on grids of one domain.

    Raises
    ------
    DataError
        For data sets of other variables or time steps than the first, too few samples, and outputs that never vary.
    UsageError
        For a held-out part outside [0, 1).
    GridError
        For data sets on different domains.
    """

    def pairs_of(sets: xr.Dataset | Sequence[xr.Dataset]) -> tuple[Pairs, ...]:
        listed = (sets,) if isinstance(sets, xr.Dataset) else tuple(sets)
        return tuple(Pairs(ds, inputs, outputs, lead=lead, layout=layout, periodic=periodic, memory_limit=memory_limit) for ds in listed)

    groups = pairs_of(data)
    if not groups:
        raise DataError("fit", "at least one data set", "none")
    if isinstance(validation, float | int):
        if not 0 <= validation < 1:
            raise UsageError("validation", "a part of the samples from 0 to below 1", str(validation), "give 0.1, or a data set of its own")
        split = [pairs.split(float(validation)) for pairs in groups] if validation else [(pairs, None) for pairs in groups]
        groups, held_out = tuple(s[0] for s in split), tuple(s[1] for s in split if s[1] is not None)
    else:
        held_out = pairs_of(validation)
    first = groups[0]
    for pairs in (*groups[1:], *held_out):
        same = (pairs.dt, [(v.name, v.units) for v in (*pairs.inputs, *pairs.outputs)])
        wanted = (first.dt, [(v.name, v.units) for v in (*first.inputs, *first.outputs)])
        if same != wanted:
            raise DataError("fit", f"data sets with the variables, units and time step of the first ({wanted})", str(same))
        snap(pairs.grid, max(groups, key=lambda p: p.grid.size).grid, "fit: grids of the data sets")
    statistics = reduce(Statistics.merge, (pairs.statistics() for pairs in groups))
    if all(statistics.outputs.constant):
        raise DataError("fit", f"outputs that vary ({', '.join(outputs)})", "constant outputs", "check the variables and the files")
    sets = (data,) if isinstance(data, xr.Dataset) else tuple(data)
    return TrainingData(groups, held_out, statistics, _plain(sets), memory_limit)


def _plain(sets: Sequence[xr.Dataset]) -> dict[str, Any]:
    """Where the data came from, as far as the files say."""
    sources = [str(ds.encoding["source"]) for ds in sets if "source" in ds.encoding]
    attributes = {str(k): v for k, v in sets[0].attrs.items() if len(str(v)) <= 1000 or k == "parameters"}
    return {"sources": sources, "attributes": attributes}
