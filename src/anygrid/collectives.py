r"""Sums over processes and exchange of neighbouring rows, as functions that can be differentiated.

All ranks run the same program on their own rows of an axis. What the ranks call ``backward`` on is differentiated as one function, the
sum over ranks of these losses. Then the transpose of a sum over ranks, :math:`y_r = \sum_s x_s` for every rank :math:`r`, is again a sum
over ranks, :math:`\bar x_s = \sum_r \bar y_r`; the gradient of a parameter is the sum over ranks of what each rank finds for its copy;
and where every rank holds the whole loss, it hands on its share, ``loss / ranks``.

Bytes are those that a rank hands over: the size of the tensor for a sum, of the rows for an exchange. A ring moves
``2 (ranks - 1) / ranks`` times as many for a sum [1]_.

References
----------
.. [1] Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from anygrid.errors import GridError, UsageError

__all__ = ["Rows", "Traffic", "max_over_ranks", "measured_traffic", "sum_over_ranks", "with_halo"]


@dataclass(frozen=True)
class Rows:
    """Which rows of an axis each rank of a group holds, in the order of the ranks.

    Parameters
    ----------
    cuts
        First row of every rank, and the number of rows at the end.
    rank
        This process, counted in the group.
    group
        Processes that share the rows; ``None`` for all.

    Raises
    ------
    GridError
        When a rank would have no rows.
    """

    cuts: tuple[int, ...]
    rank: int
    group: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        if len(self.cuts) < 2 or self.cuts[0] != 0 or any(b <= a for a, b in zip(self.cuts, self.cuts[1:], strict=False)):
            expected = "cuts that ascend from 0, at least one row for each rank"
            raise GridError("Rows", expected, str(self.cuts), "use fewer processes, or a grid with more points along its first axis")
        if not 0 <= self.rank < self.ranks:
            raise UsageError("Rows", f"a rank from 0 to {self.ranks - 1}", str(self.rank))

    @classmethod
    def even(cls, size: int, ranks: int, rank: int, group: dist.ProcessGroup | None = None, *, multiple: int = 1) -> Rows:
        """``size`` rows dealt as evenly as they go, ``multiple`` at a time; the last rank takes what is left over."""
        pieces = size // multiple
        return cls((*(k * pieces // ranks * multiple for k in range(ranks)), size), rank, group)

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return len(self.cuts) - 1

    @property
    def start(self) -> int:
        """First row of this rank."""
        return self.cuts[self.rank]

    @property
    def stop(self) -> int:
        """End of the rows of this rank."""
        return self.cuts[self.rank + 1]

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return self.cuts[-1]

    def scaled(self, total: int) -> Rows:
        """``total`` rows in about the same proportions."""
        return Rows(tuple(round(cut * total / self.total) for cut in self.cuts), self.rank, self.group)

    def ends(self, periodic: bool) -> tuple[bool, bool]:
        """Whether this rank has nobody before and after it."""
        return not periodic and self.rank == 0, not periodic and self.rank == self.ranks - 1


@dataclass
class Traffic:
    """What this process handed to others."""

    messages: int = 0
    bytes: int = 0

    def add(self, x: Tensor) -> None:
        """Count a tensor."""
        self.messages += 1
        self.bytes += x.nbytes


_watched: list[Traffic] = []


@contextmanager
def measured_traffic() -> Iterator[Traffic]:
    """Count what the functions of this file send while it is open."""
    traffic = Traffic()
    _watched.append(traffic)
    try:
        yield traffic
    finally:
        _watched.remove(traffic)


def _count(x: Tensor) -> None:
    for traffic in _watched:
        traffic.add(x)


def sum_over_ranks(x: Tensor, rows: Rows | None) -> Tensor:
    """Sum of ``x`` over the ranks that share ``rows``, the same on all; ``x`` itself when nothing is shared."""
    return x if rows is None or rows.ranks == 1 else _Sum.apply(x, rows)


def max_over_ranks(x: Tensor, rows: Rows | None) -> Tensor:
    """Largest ``x`` over ranks; without a gradient."""
    if rows is None or rows.ranks == 1:
        return x.detach()
    return _reduced(x.detach(), rows, dist.ReduceOp.MAX)


def with_halo(x: Tensor, rows: Rows | None, before: int, after: int, *, periodic: bool, dim: int = 2) -> Tensor:
    """``x`` and so many rows of the neighbouring ranks before and after it along ``dim``: around on a periodic axis, none at bounded ends.

    Raises
    ------
    GridError
        When a rank has fewer rows than its neighbour asks for.
    """
    if rows is None or not (before or after):
        return x
    fewest = min(b - a for a, b in zip(rows.cuts, rows.cuts[1:], strict=False))
    if fewest < max(before, after):
        hint = "use fewer processes, or a grid with more points along its first axis"
        raise GridError("halo exchange", f"{max(before, after)} or more rows on every rank", str(fewest), hint)
    return _Halo.apply(x, rows, before, after, periodic, dim)


def _reduced(x: Tensor, rows: Rows, operation: Any) -> Tensor:
    y = x.clone(memory_format=torch.contiguous_format)
    _count(y)
    dist.all_reduce(y, operation, group=rows.group)
    return y


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return _reduced(x, rows, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(g, ctx.rows), None


class _Halo(torch.autograd.Function):
    """Rows of the neighbours laid beside one's own; the transpose of :class:`_Fold`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows, before: int, after: int, periodic: bool, dim: int) -> Tensor:
        ctx.rest = rows, before, after, periodic, dim
        n = x.shape[dim]
        back, forth = _swap(x.narrow(dim, 0, after), x.narrow(dim, n - before, before), (before, after), rows, periodic, dim)
        return torch.cat([part for part in (back, x, forth) if part is not None], dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return _Fold.apply(g, *ctx.rest), None, None, None, None, None


class _Fold(torch.autograd.Function):
    """Rows that stand for the neighbours' are cut off, sent home and added there."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, rows: Rows, before: int, after: int, periodic: bool, dim: int) -> Tensor:
        ctx.rest = rows, before, after, periodic, dim
        first, last = rows.ends(periodic)
        low, high = 0 if first else before, 0 if last else after
        n = g.shape[dim] - low - high
        x = g.narrow(dim, low, n).clone(memory_format=torch.contiguous_format)
        back, forth = _swap(g.narrow(dim, 0, low), g.narrow(dim, low + n, high), (after, before), rows, periodic, dim)
        if back is not None:
            x.narrow(dim, 0, after).add_(back)
        if forth is not None:
            x.narrow(dim, n - before, before).add_(forth)
        return x

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        return _Halo.apply(x, *ctx.rest), None, None, None, None, None


def _swap(down: Tensor, up: Tensor, sizes: tuple[int, int], rows: Rows, periodic: bool, dim: int) -> tuple[Tensor | None, Tensor | None]:
    """Give ``down`` to the rank before and ``up`` to the one after, as all do; what these gave, of these sizes, ``None`` from nobody."""
    first, last = rows.ends(periodic)
    if rows.ranks == 1:
        return (None, None) if first else (up, down)
    before, after = (rows.rank - 1) % rows.ranks, (rows.rank + 1) % rows.ranks
    if rows.group is not None:
        before, after = (dist.get_global_rank(rows.group, rank) for rank in (before, after))
    shape = down.shape
    back, forth = (down.new_empty([*shape[:dim], size, *shape[dim + 1 :]]) for size in sizes)
    # In one order on all ranks: two ranks on a circle are each other's neighbour on either side.
    wanted = [
        (dist.isend, up.contiguous(), after, last),
        (dist.irecv, back, before, first),
        (dist.isend, down.contiguous(), before, first),
        (dist.irecv, forth, after, last),
    ]
    some = [(operation, x, peer) for operation, x, peer, nobody in wanted if not nobody and x.numel()]
    for operation, x, _ in some:
        if operation is dist.isend:
            _count(x)
    for work in dist.batch_isend_irecv([dist.P2POp(operation, x, peer, rows.group) for operation, x, peer in some]) if some else []:
        work.wait()
    return None if first else back, None if last else forth
