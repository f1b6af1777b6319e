"""Names for the axes of arrays that come without any: MATLAB, .npz, .npy, .pt and bare HDF5 files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from anygrid.errors import FileError

__all__ = ["name_dimensions"]

_TIME = ("t", "time", "times", "tspan", "t_coordinate", "t-coordinate")
_SPACE = ("x", "y", "z")
_AXIS_NAMES = ("x", "y", "z", "lat", "latitude", "lon", "longitude", "x1", "x2", "x3")


def name_dimensions(arrays: Mapping[str, Any], where: str) -> xr.Dataset:
    """Data set of bare arrays, with dimension names where shapes leave no doubt.

    The rules, in order. A vector called like an axis (``x``, ``lat``, ``t``...) is the coordinate of an axis of its length. The first
    axis is ``sample`` when two or more arrays share it. The arrays of fewest axes are functions of space; an array with
    one axis more, in front of or behind the same space axes, has ``time`` there. Everything else is ``dim_0``, ``dim_1``...,
    for the user to name: a guess would train on the wrong axis. Space axes of different sizes get different names, so
    that a coarse input and a fine output do not pass for one grid.

    Raises
    ------
    FileError
        When no array holds numbers.
    """
    data = {str(n): a for n, a in arrays.items() if a.dtype.kind in "fiubc" and a.ndim > 0 and 0 not in a.shape}
    squeezed = {n: a.reshape(-1) if a.ndim == 2 and 1 in a.shape and n in (*_TIME, *_AXIS_NAMES) else a for n, a in data.items()}
    vectors = {n: a for n, a in squeezed.items() if a.ndim == 1}
    fields = {n: a for n, a in squeezed.items() if a.ndim > 1}
    if not fields and not vectors:
        held = ", ".join(f"{n} ({a.dtype})" for n, a in list(arrays.items())[:6]) or "nothing"
        raise FileError(where, "arrays of numbers", held, "save each field as an array (sample, ..., space)")
    time = next((n for n in _TIME if n in vectors), None)
    axes = {n: a for n, a in vectors.items() if n in _AXIS_NAMES}
    naming = _Naming(fields, {n: a.shape[0] for n, a in axes.items()}, vectors[time].shape[0] if time else None)
    out: dict[str, Any] = {n: (naming.dims(n), a) for n, a in fields.items()}
    used = {d: size for n in fields for d, size in zip(naming.dims(n), fields[n].shape, strict=True)}
    coords: dict[str, Any] = {}
    for n, a in vectors.items():
        role = "time" if n == time and "time" in used else n
        if used.get(role) == a.shape[0] and (role == "time" or n in axes):
            coords[role] = (role, np.asarray(a, dtype=np.float64))
        elif naming.samples == a.shape[0] and n not in (*_TIME, *_AXIS_NAMES):
            out[n] = (("sample",), a)  # one number for each sample: a parameter
        elif n not in used:
            out[n] = ((f"{n}_dim",), a)
    return xr.Dataset(out, coords)


class _Naming:
    """Dimension names of arrays from their shapes; see :func:`name_dimensions`."""

    def __init__(self, fields: Mapping[str, Any], axes: Mapping[str, int], times: int | None) -> None:
        self.axes, self.times = axes, times
        shapes = {n: tuple(a.shape) for n, a in fields.items()}
        firsts = [s[0] for s in shapes.values()]
        common = max(set(firsts), key=firsts.count) if firsts else None
        lengths = set(axes.values()) | ({times} if times else set())
        # One array alone shows its samples only if its other axes are known, or square, or there is just one.
        alone = len(shapes) == 1 and self._clear(next(iter(shapes.values())), lengths)
        self.samples = common if common is not None and (firsts.count(common) > 1 or alone) else None
        self.names = self._assign(shapes)

    def _clear(self, shape: tuple[int, ...], lengths: set[int]) -> bool:
        rest = list(shape[1:])
        known = bool(lengths) and all(n in lengths for n in rest)
        if self.times in rest and len(rest) > 1:
            rest.remove(self.times)
        return len(rest) == 1 or known or (shape[0] != rest[0] and len(set(rest)) == 1)

    def dims(self, name: str) -> tuple[str, ...]:
        return self.names[name]

    def _assign(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
        with_samples = {n: s[1:] for n, s in shapes.items() if self.samples is not None and s[0] == self.samples}
        fewest = min((len(s) for s in with_samples.values()), default=0)
        # The arrays of fewest axes may all carry time; a vector of times tells.
        bases = [s for s in with_samples.values() if len(s) == fewest]
        timed = self.times is not None and fewest > 1 and all(self.times in (s[0], s[-1]) and s.count(self.times) == 1 for s in bases)
        taken = set(shapes) | set(self.axes)
        labels = _SPACE if not (set(_SPACE) & set(shapes)) else ("x1", "x2", "x3")
        sizes: dict[str, int] = {}
        names: dict[str, tuple[str, ...]] = {}
        for n, s in shapes.items():
            if n not in with_samples:
                names[n] = tuple(f"{n}_dim_{k}" if f"dim_{k}" in taken or len(shapes) > 1 else f"dim_{k}" for k in range(len(s)))
                continue
            rest = s[1:]
            at = self._time_axis(rest, bases, fewest, timed)
            if at is None and not self._space_is_sure(rest, fewest, timed):
                names[n] = ("sample", *(f"dim_{k + 1}" for k in range(len(rest))))
                continue
            space = [size for k, size in enumerate(rest) if k != at]
            dims = [self._space_name(n, k, size, space, labels, sizes) for k, size in enumerate(space)]
            if at is not None:
                dims.insert(at, "time")
            names[n] = ("sample", *dims)
        return names

    def _time_axis(self, rest: tuple[int, ...], bases: list[tuple[int, ...]], fewest: int, timed: bool) -> int | None:
        if timed and len(rest) == fewest:
            return 0 if rest[0] == self.times else len(rest) - 1
        if len(rest) == fewest + 1 and not timed:
            if rest[:-1] in bases and (self.times in (None, rest[-1])):
                # Square space in front of time of the same length would fit both ways; the classical files put time last.
                return len(rest) - 1
            if rest[1:] in bases:
                return 0
        return None

    def _space_is_sure(self, rest: tuple[int, ...], fewest: int, timed: bool) -> bool:
        if len(rest) > 3 or timed or len(rest) != fewest:
            return False
        lengths = set(self.axes.values())
        return len(rest) == 1 or len(set(rest)) == 1 or (bool(lengths) and all(n in lengths for n in rest))

    def _space_name(self, array: str, k: int, size: int, space: list[int], labels: tuple[str, ...], sizes: dict[str, int]) -> str:
        fitting = [n for n, length in self.axes.items() if length == size]
        if len(fitting) == 1 and space.count(size) == 1:
            name = fitting[0]
        elif len(fitting) == len(space) and len(set(space)) == 1:
            name = sorted(fitting, key=_AXIS_NAMES.index)[k]
        else:
            name = labels[k]
        if sizes.setdefault(name, size) != size:
            name = f"{array}_{name}"
            sizes[name] = size
        return name
