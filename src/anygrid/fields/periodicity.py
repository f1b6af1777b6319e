"""Is an axis periodic? What the data themselves say when no attribute does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError
from anygrid.fields.variables import read_values

__all__ = ["infer_periodic"]

_ROWS = 64  # states that are looked at
_LINES = 4096  # grid lines of each state that are looked at
# Measured on random fields of 8 to 128 points (tests/unit/test_periodicity.py): periodic ones have jumps and kinks within 50 % of the
# interior's, bounded ones of known smoothness four times and more; between the two the user is asked.
_KINK = (0.5, 1.5)
_BROKEN = 4.0


@dataclass(frozen=True)
class _Seam:
    jump: float  # first difference across the ends over the typical one inside
    kink: float  # second difference across the ends over the typical one inside
    power: float  # what the jump would be between unrelated values
    ends: float  # spread of the values at the ends over that of all
    pinned: bool  # both ends never vary, although their neighbours do

    @property
    def broken(self) -> bool:
        return self.pinned or max(self.jump, self.kink) > _BROKEN

    @property
    def smooth(self) -> bool:
        """Whether the seam is like the interior, in data smooth enough for a seam to show."""
        bound = 1 + 0.35 * (min(self.power, 5.0) - 1)
        return self.power > 1.5 and 0.5 < self.jump < bound and _KINK[0] < self.kink < _KINK[1] and self.ends > 0.7


def infer_periodic(ds: xr.Dataset, dim: str, leading: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the variables continue across the ends of ``dim``, with the sentence that says why.

    With ``n`` values on a line, a periodic function has the neighbour differences ``u[0] - u[n-1]`` and
    ``u[n-2] - 2 u[n-1] + u[0]`` at its seam, as large as everywhere else: the first sees a jump, the second a kink (data near
    zero at both ends have no jump but a kink). Root mean squares over up to 64 states are compared; a variable as
    rough as noise says nothing. One variable with a seam makes an axis bounded; a periodic one takes all that can tell.

    Raises
    ------
    DataError
        When the data do not tell, or when the first point is repeated as the last.
    """
    where = f"axis {dim!r}"
    seams: dict[str, _Seam] = {}
    for name, array in ds.data_vars.items():
        if dim not in array.dims or array.dtype.kind not in "fiu":
            continue
        lines = _lines(array, dim, leading)
        if lines is None or np.std(lines) == 0:
            continue
        if _repeated(lines):
            hint = f"the axis is periodic with a repeated end: drop it with ds.isel({dim}=slice(None, -1)) and say --periodic {dim}"
            raise DataError(where, "each point once", f"{name!r} with the same values at its first and last point", hint)
        seams[str(name)] = _seam(lines)
    broken = {n: s for n, s in seams.items() if s.broken}
    if broken:
        name, s = max(broken.items(), key=lambda item: (item[1].pinned, max(item[1].jump, item[1].kink)))
        what = (
            "is fixed at both ends" if s.pinned else f"has a jump of {s.jump:.2g} and a kink of {s.kink:.2g} typical steps across its ends"
        )
        return False, f"{dim} taken as bounded: {name} {what}"
    telling = {n: s for n, s in seams.items() if s.power > 1.5}
    if telling and all(s.smooth for s in telling.values()):
        return True, f"{dim} taken as periodic: {', '.join(telling)} continues across its ends as smoothly as inside"
    got = "; ".join(f"{n} has a jump of {s.jump:.2g} and a kink of {s.kink:.2g}" for n, s in seams.items()) or "too few values to judge by"
    hint = f"say which with --periodic {dim} or --bounded {dim} (in Python periodic={{{dim!r}: True}} or False)"
    raise DataError(where, "data that tell whether it is periodic", f"an undecided case (in typical steps across the ends: {got})", hint)


def _lines(array: xr.DataArray, dim: str, leading: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Lines of values along ``dim``, shape (state, line, n), or None when there are too few finite ones to judge by."""
    share = _ROWS
    picks: dict[str, NDArray[np.int64]] = {}
    present = [d for d in leading if d in array.dims]
    for k, d in enumerate(present):
        take = min(array.sizes[d], max(1, round(share ** (1 / (len(present) - k)))))
        share = max(1, share // take)
        picks[d] = np.unique(np.linspace(0, array.sizes[d] - 1, take).astype(np.int64))
    across = [d for d in array.dims if d != dim and d not in present]
    thin = max(1, math.ceil((math.prod(array.sizes[d] for d in across) / _LINES) ** (1 / max(1, len(across)))))
    small = array.isel(picks).isel({d: slice(None, None, thin) for d in across})
    values = read_values(small.transpose(*present, *across, dim))
    values = np.asarray(values, dtype=np.float64).reshape(math.prod(small.sizes[d] for d in present), -1, array.sizes[dim])
    values = values[np.isfinite(values).all((1, 2))]
    return values if values.shape[0] * values.shape[1] >= 8 and values.shape[2] >= 8 else None


def _repeated(u: NDArray[np.float64]) -> bool:
    """Whether the last point is the first once more, and not the mirror image that an even function has there."""
    spread = np.std(u)
    same = np.abs(u[..., 0] - u[..., -1]).max() <= 1e-6 * spread
    even = np.abs(u[..., 1] - u[..., -2]).max() <= 1e-6 * spread
    return bool(same and not even and np.std(u[..., 0]) > 1e-3 * spread)


def _seam(u: NDArray[np.float64]) -> _Seam:
    """Compare the seam with the interior; see :func:`infer_periodic`."""
    tiny = 1e-300
    step, curve = _rms(np.diff(u, axis=-1)) + tiny, _rms(np.diff(u, n=2, axis=-1)) + tiny
    kinks = np.stack([u[..., -2] - 2 * u[..., -1] + u[..., 0], u[..., -1] - 2 * u[..., 0] + u[..., 1]])
    spread = _rms(u - u.mean(-1, keepdims=True))
    ends = u[..., [0, -1]]
    still, moving = np.ptp(ends.reshape(-1, 2), axis=0).max(), np.ptp(u[..., [1, -2]].reshape(-1, 2), axis=0).min()
    pinned = bool(still <= 1e-6 * np.std(u) and moving > 1e-3 * np.std(u))
    return _Seam(
        _rms(u[..., 0] - u[..., -1]) / step, _rms(kinks) / curve, math.sqrt(2) * spread / step, float(np.std(ends) / np.std(u)), pinned
    )


def _rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
