"""Symmetries of the domain, applied alike to inputs and outputs during training (scalar fields only).

If the true operator commutes with a symmetry, a transformed pair is as good a sample as the original. Whether it does is for
the user to say: Darcy's equation on the square commutes with flips and the transpose, an advected field with none of them
unless the forcing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Box, Grid, Sphere

__all__ = ["Flip", "Shift", "Symmetry", "Transpose", "apply_symmetries", "check_symmetries"]


@dataclass(frozen=True)
class Flip:
    """Reflection of one axis, with probability one half."""

    axis: str


@dataclass(frozen=True)
class Transpose:
    """Exchange of two axes of equal extent and size, with probability one half."""

    first: str
    second: str


@dataclass(frozen=True)
class Shift:
    """Translation along a periodic axis by a random number of points."""

    axis: str


Symmetry = Flip | Transpose | Shift


def check_symmetries(symmetries: Sequence[Symmetry], grid: Grid) -> None:
    """Refuse symmetries that the points of ``grid`` do not have.

    Raises
    ------
    UsageError
        For scattered points, anything but a shift of longitude on a sphere (mirrors turn winds around), an unknown axis, an uneven one, a
        shift along a bounded axis, a transpose of unequal axes.
    """
    if not symmetries:
        return
    if not isinstance(grid, Box | Sphere):
        raise UsageError("augment", "data on a Box or a Sphere", type(grid).__name__, "train without augmentation")
    if isinstance(grid, Sphere) and not all(isinstance(s, Shift) for s in symmetries):
        raise UsageError("augment", "shifts of longitude on a sphere", "a flip or a transpose", "leave it out: it would turn winds around")
    axes = {axis.name: axis for axis in grid.axes}
    for symmetry in symmetries:
        names = (symmetry.first, symmetry.second) if isinstance(symmetry, Transpose) else (symmetry.axis,)
        for name in names:
            if name not in axes or not axes[name].uniform:
                raise UsageError("augment", f"evenly spaced axes out of {', '.join(axes)}", repr(name))
        if isinstance(symmetry, Shift) and not axes[symmetry.axis].periodic:
            raise UsageError("augment", "a periodic axis to shift along", f"the bounded axis {symmetry.axis!r}")
        if isinstance(symmetry, Transpose):
            one, two = axes[symmetry.first], axes[symmetry.second]
            if (one.interval, one.size, one.placement) != (two.interval, two.size, two.placement):
                raise UsageError("augment", "axes of equal extent and size to transpose", f"{one.name!r} and {two.name!r}")


def apply_symmetries(fields: Sequence[Tensor], symmetries: Sequence[Symmetry], grid: Grid, generator: torch.Generator) -> list[Tensor]:
    """Apply one random draw of every symmetry to all ``fields``, whose last dimensions are the space of ``grid``."""
    out = list(fields)
    if not isinstance(grid, Box | Sphere):
        return out
    axes = {axis.name: (k - grid.ndim, axis) for k, axis in enumerate(grid.axes)}
    for symmetry in symmetries:
        draw = int(torch.randint(0, 2**31, (1,), generator=generator))
        if isinstance(symmetry, Shift):
            dim, axis = axes[symmetry.axis]
            out = [f.roll(draw % axis.size, dim) for f in out]
        elif draw % 2 and isinstance(symmetry, Transpose):
            out = [f.transpose(axes[symmetry.first][0], axes[symmetry.second][0]) for f in out]
        elif draw % 2 and isinstance(symmetry, Flip):
            dim, axis = axes[symmetry.axis]
            # Points at 0, h, ..., (n-1)h of a periodic axis map to 0, (n-1)h, ..., h: a flip, then one place on.
            move = int(axis.periodic and axis.placement == "vertices")
            out = [f.flip(dim).roll(move, dim) if move else f.flip(dim) for f in out]
    return [f.contiguous() for f in out]
