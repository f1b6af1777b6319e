"""States of a data set by row number: all in memory when they fit, read in the blocks of the file when they do not."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import dask
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from anygrid.fields import Layout, Variable, to_tensor
from anygrid.grid import Grid

__all__ = ["Disk", "Memory", "Source", "free_memory"]

_SMALL = 2**20  # blocks of fewer bytes are read several at a time
_LARGE = 2**26  # blocks without chunks in the file hold at most this many bytes


class Source(ABC):
    """Rows ``(channel, *space)`` of float32, numbered with sample dimensions first and time last."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> Float32[Tensor, "row channel *space"]:
        """The given rows, in the given order; may be called from several threads."""

    @abstractmethod
    def blocks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each row, the number of the block it is read with."""

    @property
    @abstractmethod
    def window(self) -> int:
        """Blocks that can be kept at once; 0 where all rows are at hand."""


class Memory(Source):
    """All rows in one contiguous tensor, of which some channels are given: None for all, in their order."""

    def __init__(self, values: Float32[Tensor, "row channel *space"], channels: Sequence[int] | None = None) -> None:
        self.values, self.channels = values, None if channels is None else torch.tensor(channels)

    def take(self, rows: NDArray[np.int64]) -> Float32[Tensor, "row channel *space"]:
        whole = self.values.index_select(0, torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)))
        return whole if self.channels is None else whole.index_select(1, self.channels)

    def blocks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(rows), dtype=np.int64)

    @property
    def window(self) -> int:
        return 0


class Disk(Source):
    """Rows read from a lazy data set, whole blocks at a time; the latest blocks are kept.

    A block is a chunk of the file along the sample and time dimensions (several when they are small), so that each is read
    and decompressed once per pass over rows in the order of :meth:`anygrid.io.pairs.Pairs.order`.
    """

    def __init__(self, ds: xr.Dataset, variables: Sequence[Variable], layout: Layout, grid: Grid, limit: int) -> None:
        self.variables, self.layout, self.grid = tuple(variables), layout, grid
        self.leading = tuple(d for d in layout.leading if d in ds.dims)
        self.sizes = tuple(ds.sizes[d] for d in self.leading)
        # Positions in messages must be those in the file, also within a block.
        self.ds = ds.assign_coords({d: np.arange(n) for d, n in zip(self.leading, self.sizes, strict=True) if d not in ds.coords})
        self.row_bytes = 4 * len(self.variables) * grid.size
        self.shape = _block_shape(self.ds, self.leading, self.sizes, self.row_bytes, limit)
        self.counts = tuple(math.ceil(n / b) for n, b in zip(self.sizes, self.shape, strict=True))
        self.limit = limit
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def window(self) -> int:
        return max(1, self.limit // (2 * self.row_bytes * math.prod(self.shape)))

    def blocks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.unravel_index(rows, self.sizes)
        return np.asarray(np.ravel_multi_index(tuple(p // b for p, b in zip(place, self.shape, strict=True)), self.counts), dtype=np.int64)

    def take(self, rows: NDArray[np.int64]) -> Float32[Tensor, "row channel *space"]:
        out = torch.empty((len(rows), len(self.variables), *self.grid.shape), dtype=torch.float32)
        place = np.unravel_index(rows, self.sizes)
        owner = self.blocks(rows)
        with self._lock:
            for number in np.unique(owner):
                wanted = np.flatnonzero(owner == number)
                block, extent = self._block(int(number)), self._extent(int(number))
                inside = np.ravel_multi_index(
                    tuple(p[wanted] - s.start for p, s in zip(place, extent, strict=True)), tuple(s.stop - s.start for s in extent)
                )
                out[torch.from_numpy(wanted)] = block.index_select(0, torch.from_numpy(np.asarray(inside, dtype=np.int64)))
        return out

    def load(self) -> Float32[Tensor, "row channel *space"]:
        """All rows, read block by block, so that the float64 of a file is never in memory at once."""
        out = torch.empty((math.prod(self.sizes), len(self.variables), *self.grid.shape), dtype=torch.float32)
        numbers = np.arange(len(out)).reshape(self.sizes)
        for number in range(math.prod(self.counts)):
            extent = self._extent(number)
            out[torch.from_numpy(numbers[extent].ravel())] = self._read(extent)
        return out

    def _extent(self, number: int) -> tuple[slice, ...]:
        place = np.unravel_index(number, self.counts)
        ranges = zip(place, self.shape, self.sizes, strict=True)
        return tuple(slice(int(p) * b, min(int(p) * b + b, n)) for p, b, n in ranges)

    def _block(self, number: int) -> Tensor:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        block = self._read(self._extent(number))
        self._kept[number] = block
        while len(self._kept) > 1 and sum(b.nbytes for b in self._kept.values()) > self.limit:
            self._kept.popitem(last=False)
        return block

    def _read(self, extent: tuple[slice, ...]) -> Float32[Tensor, "row channel *space"]:
        part = self.ds.isel(dict(zip(self.leading, extent, strict=True)))
        # The reader is one thread beside the training; dask's own pool would take its core.
        with dask.config.set(scheduler="synchronous"):
            return to_tensor(part, self.variables, self.layout, self.grid)


def _block_shape(ds: xr.Dataset, leading: tuple[str, ...], sizes: tuple[int, ...], row_bytes: int, limit: int) -> tuple[int, ...]:
    chunks = {d: 0 for d in leading}
    for array in ds.data_vars.values():
        for d, n in _file_chunks(array).items():
            if d in chunks:
                chunks[d] = max(chunks[d], n)
    known = any(chunks.values())
    shape = [min(n, chunks[d] or (1 if known else n)) for d, n in zip(leading, sizes, strict=True)]
    # Shrink from the front (distant samples) what does not fit; grow from the back (neighbouring times) what is small.
    for k in range(len(shape)):
        fit = (limit // 4 if known else min(_LARGE, limit // 4)) // max(1, row_bytes * math.prod(shape) // shape[k])
        shape[k] = max(1, min(shape[k], fit))
    for k in reversed(range(len(shape))):
        room = _SMALL // max(1, row_bytes * math.prod(shape))
        shape[k] = min(sizes[k], shape[k] * max(1, room))
    return tuple(shape)


def _file_chunks(array: xr.DataArray) -> dict[str, int]:
    if array.chunksizes:
        return {str(d): max(c) for d, c in array.chunksizes.items()}
    preferred = array.encoding.get("preferred_chunks")
    if preferred:
        return {str(d): int(n) for d, n in preferred.items()}
    sizes = array.encoding.get("chunksizes")
    return {str(d): int(n) for d, n in zip(array.dims, sizes, strict=True)} if sizes and len(sizes) == array.ndim else {}


def free_memory() -> int:
    """Bytes of memory that are free now, within the limit of the container."""
    free = 2**31
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    allowed, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if allowed.is_file() and used.is_file() and (text := allowed.read_text().strip()).isdigit():
        free = min(free, max(2**26, int(text) - int(used.read_text())))
    return free
