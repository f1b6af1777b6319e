"""Partial results of an ensemble put together, always in the order of the members, and written as statistics.

What stands in ``PATH.partial`` beside the store that is filled::

    parts/R.B     partial result of members B from starts R, until it is merged
    merged/R.K    the first K blocks of members, merged; K of the last file is where a killed run goes on
    merged/R.done the statistics of these starts are in the store

A merge reads and writes slice by slice, so its memory does not depend on the number of members, leads or variables.
"""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from anygrid.forecast.ensemble_block import Plan, Task, read_part, write_part
from anygrid.forecast.summary import finish, first, merge

__all__ = ["Merger"]

_LUMP = 8  # blocks merged at once: each merge reads and writes all of the statistics


class Merger:
    """Takes finished blocks in any order and merges them in that of the members."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts, self.merged = plan.partial / "parts", plan.partial / "merged"
        for folder in (self.parts, self.merged):
            folder.mkdir(exist_ok=True)
        there = {entry.name for entry in os.scandir(self.parts)}
        row_blocks, self.blocks = plan.blocks
        self.ready = {(r, b) for r in range(row_blocks) for b in range(self.blocks) if f"{r}.{b}" in there}
        self.counts = dict.fromkeys(range(row_blocks), 0)
        for entry in os.scandir(self.merged):
            r, _, k = entry.name.partition(".")
            self.counts[int(r)] = max(self.counts[int(r)], self.blocks if k == "done" else int(k))
        self.written = {r for r in range(row_blocks) if (self.merged / f"{r}.done").exists()}

    def open_tasks(self) -> tuple[list[Task], int]:
        """Blocks still to be done, and the number of members times starts that are done."""
        for r in self.counts:
            self._advance(r)
        every = [(r, b) for r in self.counts for b in range(self.blocks)]
        tasks = [(r, b) for r, b in every if b >= self.counts[r] and (r, b) not in self.ready]
        left = sum(len(self.plan.rows(r)) * len(self.plan.members_of(b)) for r, b in tasks)
        return tasks, self.plan.members * int(np.prod(self.plan.leading)) - left

    def add(self, task: Task) -> None:
        """Take a block whose file is written."""
        self.ready.add(task)
        self._advance(task[0])

    def _advance(self, r: int) -> None:
        begin = end = self.counts[r]
        while (r, end) in self.ready:
            end += 1
        whole = end == self.blocks
        if end > begin and (whole or end - begin >= _LUMP):
            if self.plan.keep.statistics:
                self._merge(r, begin, end)
            self.counts[r] = end
        if whole and r not in self.written:
            if self.plan.keep.statistics:
                self._write(r)
            (self.merged / f"{r}.done").touch()
            self.written.add(r)
            (self.merged / f"{r}.{self.blocks}").unlink(missing_ok=True)

    def _merge(self, r: int, begin: int, end: int) -> None:
        """Blocks ``begin`` to ``end`` joined to what was merged before."""
        plan, rows = self.plan, len(self.plan.rows(r))
        counts = [len(plan.members_of(b)) for b in range(begin, end)]
        before = plan.members_of(begin).start
        temporary = plan.partial / "staging" / uuid.uuid4().hex
        old = self.merged / f"{r}.{begin}"
        with ExitStack() as stack:
            state = stack.enter_context(old.open("rb")) if begin else None
            parts = [stack.enter_context(plan.part((r, b)).open("rb")) for b in range(begin, end)]
            out = stack.enter_context(temporary.open("wb"))
            for _ in range(plan.leads):
                for name in plan.names:
                    for s in plan.slices(rows):
                        values = s.stop - s.start
                        n, total = before, None
                        if state is not None:
                            total = read_part(state, plan, name, n, values, merged=True)
                        for file, m in zip(parts, counts, strict=True):
                            part = read_part(file, plan, name, m, values, merged=False)
                            total = first(part) if total is None else merge(total, n, part, m)
                            n += m
                        assert total is not None
                        write_part(out, total)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self.merged / f"{r}.{end}")
        for path in (old, *(plan.part((r, b)) for b in range(begin, end))):
            path.unlink(missing_ok=True)

    def _write(self, r: int) -> None:
        """The statistics of these starts, into the store."""
        plan, rows = self.plan, self.plan.rows(r)
        waiting: dict[tuple[str, int | None], list[NDArray[np.float32]]] = {}
        with (self.merged / f"{r}.{self.blocks}").open("rb") as file:
            for lead in range(plan.leads):
                for name in plan.names:
                    pieces = [
                        finish(read_part(file, plan, name, plan.members, s.stop - s.start, merged=True), plan.members, plan.keep_of(name))
                        for s in plan.slices(len(rows))
                    ]
                    for statistic in pieces[0]:
                        whole = np.concatenate([p[statistic] for p in pieces], axis=-1).astype(np.float32)
                        for k, values in [(None, whole)] if whole.ndim == 1 else enumerate(whole):
                            waiting.setdefault((f"{name}_{statistic}", k), []).append(values.reshape(len(rows), -1))
                if (lead + 1) % plan.span == 0 or lead + 1 == plan.leads:
                    for (name, k), frames in waiting.items():
                        plan.write_chunk(name, () if k is None else (k,), rows, lead // plan.span, np.stack(frames))
                    waiting = {}
