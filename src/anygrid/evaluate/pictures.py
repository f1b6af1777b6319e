"""Which test samples a report shows, thinned to what a figure can resolve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.evaluate.result import FieldExample
from anygrid.evaluate.scoring import relative
from anygrid.grid import Box, Grid, Points, Sphere

__all__ = ["field_examples"]

_MOST_POINTS = 160  # along an axis of a picture about 3 cm wide
_MOST_LINE = 600
_MOST_CHANNELS = 3


def field_examples(
    a: Float[Tensor, "batch input *space"], u: Float[Tensor, "batch output *space"], results: Mapping[str, Tensor], grid: Grid
) -> list[FieldExample]:
    """The sample with the median and the one with the largest error of the first map: neither is chosen for looks.

    Of three or more space dimensions the first two are shown, cut through the middle of the others.
    """
    if results:
        error = relative(next(iter(results.values())), u, grid)
        order = np.argsort(np.where(np.isfinite(error), error, np.inf))
        chosen = {"median error": int(order[(len(order) - 1) // 2]), "largest error": int(order[-1])}
    else:
        chosen = {"first sample": 0}
    if len(set(chosen.values())) < len(chosen):
        chosen = dict(list(chosen.items())[:1])
    slices, dims, coordinates, periodic = _window(grid)
    geometry = "sphere" if isinstance(grid, Sphere) else "points" if isinstance(grid, Points) else "box"

    def thin(t: Tensor) -> NDArray[np.float32]:
        return t[(slice(0, _MOST_CHANNELS), *slices)].to(torch.float32).numpy()

    return [
        FieldExample(
            f"test sample {i} ({title})",
            grid.shape,
            dims,
            periodic,
            geometry,
            coordinates,
            thin(a[i]),
            thin(u[i]),
            {name: thin(result[i]) for name, result in results.items()},
        )
        for title, i in chosen.items()
    ]


def _window(grid: Grid) -> tuple[tuple[slice | int, ...], tuple[str, ...], tuple[NDArray[np.float32], ...], tuple[bool, ...]]:
    """Index of the shown part, its dimensions, coordinates and periodicity."""
    if not isinstance(grid, Box | Sphere):
        x = grid.points().numpy().astype(np.float32)
        names = grid.names if isinstance(grid, Points) else grid.dims
        return (slice(None),), names, tuple(x[:, k] for k in range(x.shape[1])), tuple(i.periodic for i in grid.domain)
    most = _MOST_LINE if grid.ndim == 1 else _MOST_POINTS
    shown, slices = grid.axes[:2], []
    for axis in shown:
        slices.append(slice(None, None, max(1, -(-axis.size // most))))
    middle = [axis.size // 2 for axis in grid.axes[2:]]
    coordinates = tuple(axis.coordinates()[s].astype(np.float32) for axis, s in zip(shown, slices, strict=True))
    return (*slices, *middle), tuple(a.name for a in shown), coordinates, tuple(a.periodic for a in shown)
