"""Batches in a shuffled order that is a function of (seed, epoch) alone, read ahead by one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import DataError
from anygrid.grid import Grid
from anygrid.io.pairs import Pairs
from anygrid.training.ranks import ALONE, Share

__all__ = ["Batch", "Loader"]

_AHEAD = 2  # batches read while the current one is trained on


@dataclass(frozen=True)
class Batch:
    """Samples of one grid, where they come from, and the position of the loader after them.

    ``rows`` are those of the whole batch; ``a`` and ``u`` hold this rank's, which stand for ``part`` of it.
    """

    a: Float[Tensor, "batch lead inputs *space"]
    u: Float[Tensor, "batch lead outputs *space"]
    grid: Grid
    group: int
    rows: NDArray[np.int64]
    following: tuple[int, int]
    part: float = 1.0


class Loader:
    """Batches of data that lie on one or more grids; a batch holds one grid.

    The order of an epoch is drawn from a generator seeded with (seed, epoch), so that the position
    (epoch, index of the batch) tells everything. The samples left over when an epoch does not divide into batches wait for
    the next epoch, another random choice each time.

    The order knows nothing of ranks: of each batch, every rank reads its own rows.
    """

    def __init__(self, groups: Sequence[Pairs], batch: Sequence[int], seed: int, share: Callable[[int], Share] = ALONE.rows) -> None:
        self.groups, self.batch, self.seed, self.share = tuple(groups), tuple(batch), seed, share

    def epoch(self, number: int, unroll: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Group and rows of every batch of one epoch.

        Raises
        ------
        DataError
            When no trajectory is long enough for ``unroll`` leads.
        """
        generator = np.random.default_rng([self.seed, number])
        batches: list[list[tuple[int, NDArray[np.int64]]]] = []
        for k, (pairs, size) in enumerate(zip(self.groups, self.batch, strict=True)):
            order = pairs.order(generator, unroll)
            whole = len(order) // size * size
            batches.append([(k, rows) for rows in (np.split(order[:whole], whole // size) if whole else [order]) if len(rows)])
        owners = [k for k, mine in enumerate(batches) for _ in mine]
        if not owners:
            raise DataError("training", f"trajectories of at least {unroll + 1} states", "shorter ones", f"choose unroll below {unroll}")
        # The data sets mix at random, but each keeps its own order, which suits the blocks of its file.
        sources = [iter(mine) for mine in batches]
        return [next(sources[owners[k]]) for k in generator.permutation(len(owners))]

    def shares(self) -> list[float]:
        """Share of the batches that each group has."""
        counts = [max(1, len(pairs) // size) for pairs, size in zip(self.groups, self.batch, strict=True)]
        return [count / sum(counts) for count in counts]

    def read(self, group: int, rows: NDArray[np.int64], unroll: int, following: tuple[int, int] = (0, 0)) -> Batch:
        """Samples of one batch: those of this rank."""
        mine = self.share(len(rows))
        a, u = self.groups[group].batch(rows[mine.rows], unroll)
        return Batch(torch.as_tensor(a), torch.as_tensor(u), self.groups[group].grid, group, rows, following, mine.part)

    def stream(self, unroll: int, position: tuple[int, int]) -> Generator[Batch, None, None]:
        """Batches from ``position`` on, without end, read ahead; close the iterator to stop the reading."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="anygrid-loader")
        waiting: deque[Future[Batch]] = deque()
        try:
            for group, rows, following in self._order(unroll, position):
                waiting.append(pool.submit(self.read, group, rows, unroll, following))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _order(self, unroll: int, position: tuple[int, int]) -> Iterator[tuple[int, NDArray[np.int64], tuple[int, int]]]:
        number, index = position
        while True:
            batches = self.epoch(number, unroll)
            for k in range(index, len(batches)):
                after = (number, k + 1) if k + 1 < len(batches) else (number + 1, 0)
                yield *batches[k], after
            number, index = number + 1, 0
