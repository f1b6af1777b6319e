"""A forecast on disk: written lead by lead, continued from the last lead that is whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.io.blocks import decode_chunk, encode_chunk
from anygrid.io.working import WorkingFolder

__all__ = ["Archive", "insert_lead"]

_SMALL = 1 << 20  # bytes of a chunk below which several leads share one
_LARGE = 32 << 20  # bytes above which the first dimension is split


def insert_lead(frame: xr.Dataset, lead: str, leading: int, coordinates: dict[str, xr.DataArray]) -> xr.Dataset:
    """Data set of all leads without values: the lead dimension is put after the ``leading`` first ones."""
    size = next(c.size for c in coordinates.values() if c.dims == (lead,))
    fields = {}
    for name, v in frame.data_vars.items():
        dims = (*v.dims[:leading], lead, *v.dims[leading:])
        shape = (*v.shape[:leading], size, *v.shape[leading:])
        fields[name] = (dims, dask.array.zeros(shape, chunks=-1, dtype=np.float32), v.attrs)
    return xr.Dataset(fields, {**frame.coords, **coordinates}, frame.attrs)


class Archive:
    """The values of a store in a working folder, all variables alike: ``(*leading, lead, *space)``.

    Leads are kept until a chunk is full. Every chunk appears whole or not at all, so that after a kill the leads of all
    chunks before the first missing one are there.
    """

    def __init__(self, folder: WorkingFolder, template: xr.Dataset, lead_axis: int) -> None:
        self.folder, self.template, self.axis = folder, template, lead_axis
        self.names = tuple(str(n) for n in template.data_vars)
        shape = template[self.names[0]].shape
        frame = 4 * math.prod(shape) // shape[lead_axis]
        span = max(1, min(_SMALL // frame, shape[lead_axis] // 8))
        chunk = [*shape]
        chunk[lead_axis] = span
        if lead_axis > 0 and frame * span > _LARGE:
            chunk[0] = max(1, chunk[0] * _LARGE // (frame * span))
        self.shape, self.chunk, self.span = shape, tuple(chunk), span
        self.kept: list[list[NDArray[np.float32]]] = []
        self.written = 0

    def open(self) -> int:
        """Create the store or find what is there already; the number of leads that are whole."""
        if not self.folder.begin():
            self.folder.create(self._chunked(self.template), dict.fromkeys(self.names, self.chunk))
        blocks = 0
        while blocks * self.span < self.shape[self.axis] and self._there(blocks):
            blocks += 1
        self.written = min(blocks * self.span, self.shape[self.axis])
        return self.written

    def _there(self, block: int) -> bool:
        return all((self.folder.store / name / key).exists() for name in self.names for key in self._keys(block))

    def last(self) -> list[NDArray[np.float32]]:
        """Values of the last whole lead, one array a variable."""
        number = self.written - 1
        out = []
        for name in self.names:
            parts = [decode_chunk((self.folder.store / name / key).read_bytes(), self.chunk) for key in self._keys(number // self.span)]
            whole = np.concatenate(parts, axis=0) if self.axis else parts[0]
            frame = np.take(whole, [number % self.span], axis=self.axis).squeeze(self.axis)
            out.append(frame[: self.shape[0]] if self.axis else frame)
        return out

    def append(self, frame: list[NDArray[np.float32]]) -> None:
        """Add a lead, one array a variable."""
        self.kept.append(frame)
        if len(self.kept) == self.span or self.written + len(self.kept) == self.shape[self.axis]:
            self.flush()

    def flush(self) -> None:
        """Write what is kept as the next chunks."""
        if not self.kept:
            return
        block = self.written // self.span
        for k, name in enumerate(self.names):
            values = np.stack([frame[k] for frame in self.kept], axis=self.axis)
            for number, key in enumerate(self._keys(block)):
                part = values[number * self.chunk[0] : (number + 1) * self.chunk[0]] if self.axis else values
                self.folder.write(self.folder.store / name / key, encode_chunk(part, self.chunk))
        self.written += len(self.kept)
        self.kept = []

    def cut(self, attributes: dict[str, str]) -> None:
        """End the forecast after the leads there are: a store of that many, with these attributes, takes the place of the other."""
        self.flush()
        lead = self.template[self.names[0]].dims[self.axis]
        whole = self.folder.store.rename(self.folder.staging / "whole")
        short = self.template.isel({lead: slice(0, self.written)}).assign_attrs(attributes)
        self.folder.create(self._chunked(short), dict.fromkeys(self.names, self.chunk))
        for name, block in itertools.product(self.names, range(math.ceil(self.written / self.span))):
            for key in self._keys(block):
                (whole / name / key).rename(self.folder.store / name / key)

    def _chunked(self, template: xr.Dataset) -> xr.Dataset:
        sizes = dict(zip(template[self.names[0]].dims, self.chunk, strict=True))
        # Variable by variable: chunking the data set would leave its coordinates unwritten too.
        return template.assign({name: template[name].variable.chunk(sizes) for name in self.names})

    def _keys(self, block: int) -> Sequence[str]:
        counts = [math.ceil(n / c) for n, c in zip(self.shape, self.chunk, strict=True)]
        counts[self.axis] = 1
        index = [list(i) for i in itertools.product(*map(range, counts))]
        for i in index:
            i[self.axis] = block
        return [".".join(map(str, i)) for i in index]
