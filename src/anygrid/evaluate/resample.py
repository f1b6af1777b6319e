"""Bringing fields from one resolution to another without favouring anyone.

Three different needs, three functions: `restrict` takes the point values of a finely solved truth, `coarsen` makes a coarser
truth out of data that are only known on their own grid, `refine` brings the result of a coarse solver to the grid of the
comparison with an error far below that of the solver.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from anygrid.errors import GridError
from anygrid.grid import Axis, Box, Grid, Sphere
from anygrid.numerics.interpolation import interpolate

__all__ = ["coarsen", "how_coarsened", "nested", "refine", "restrict"]


def restrict(u: Float[Tensor, "batch channel *space"], grid: Grid, target: Grid) -> Float[Tensor, "batch channel *target"]:
    """Point values of ``u`` on a coarser grid: exact where the grids nest, else as :func:`refine`."""
    return refine(u, grid, target)


def refine(u: Float[Tensor, "batch channel *space"], grid: Grid, target: Grid) -> Float[Tensor, "batch channel *target"]:
    """Interpolate to another grid of the domain: trigonometric on even periodic axes, cubic splines (order 4) on others.

    Cubic rather than linear, so that a coarse second-order solver is judged by its own error and not by that of the
    interpolation. Scattered points use :func:`anygrid.numerics.interpolation.interpolate` (linear).
    """
    if grid == target:
        return u
    if not (isinstance(grid, Box | Sphere) and isinstance(target, Box | Sphere)):
        return interpolate(u, grid, target)
    return _apply(u, [None if a == b else _point_matrix(a, b) for a, b in zip(grid.axes, target.axes, strict=True)])


def coarsen(u: Float[Tensor, "batch channel *space"], grid: Grid, target: Grid) -> Float[Tensor, "batch channel *target"]:
    """Coarser version of data known only on ``grid``.

    On a Box whose vertices nest: every n-th point. Otherwise: averages over the cells of the target (first-order
    conservative remapping; latitude in sin(latitude), so with true areas), which keeps integrals exactly.

    Raises
    ------
    GridError
        For a target finer than the data: there is no truth there.
    """
    if grid == target:
        return u
    if not (isinstance(grid, Box | Sphere) and isinstance(target, Box | Sphere)):
        raise GridError("coarsen", "the data's own points", f"{target.shape}", "scattered data have one resolution only")
    if any(b.size > a.size for a, b in zip(grid.axes, target.axes, strict=True)):
        raise GridError(
            "evaluate",
            f"resolutions up to that of the data, {'x'.join(map(str, grid.shape))}",
            "x".join(map(str, target.shape)),
            "there is no truth on finer grids; name coarser resolutions",
        )
    if isinstance(grid, Box) and nested(grid, target):
        return _apply(u, [_picking(a, b) for a, b in zip(grid.axes, target.axes, strict=True)])
    latitude = isinstance(grid, Sphere)
    pairs = enumerate(zip(grid.axes, target.axes, strict=True))
    return _apply(u, [None if a == b else _overlap_matrix(a, b, latitude and k == 0) for k, (a, b) in pairs])


def how_coarsened(grid: Grid, target: Grid) -> str:
    """Sentence on what :func:`coarsen` does between these grids."""
    if grid == target:
        return "data as they are"
    if isinstance(grid, Box) and nested(grid, target):
        return "every n-th point of the data (nested grids)"
    return "averages of the data over the cells of the coarser grid (conservative, with true areas)"


def nested(fine: Grid, coarse: Grid) -> bool:
    """Whether every point of ``coarse`` is a point of ``fine``."""
    if not (isinstance(fine, Box | Sphere) and isinstance(coarse, Box | Sphere)):
        return fine == coarse
    return all(_picking(a, b) is not None for a, b in zip(fine.axes, coarse.axes, strict=True))


def _picking(source: Axis, target: Axis) -> Tensor | None:
    """Matrix that picks the target's coordinates out of the source's; None unless all are there."""
    x, y = source.coordinates(), target.coordinates()
    nearest = np.abs(x[None, :] - y[:, None]).argmin(1)
    if np.abs(x[nearest] - y).max() > 1e-9 * source.interval.length:
        return None
    return torch.from_numpy(np.eye(source.size)[nearest])


def _point_matrix(source: Axis, target: Axis) -> Tensor:
    picked = _picking(source, target)
    if picked is not None:
        return picked
    rows = np.eye(source.size)
    if source.periodic and source.uniform:
        basis = torch.from_numpy(rows)[:, None]
        return interpolate(basis, Box((source,)), Box((target,)))[:, 0].T.contiguous()
    x, y = source.coordinates(), target.coordinates()
    if source.size == 1:
        return torch.ones(target.size, 1, dtype=torch.float64)
    if source.periodic:
        x, rows = np.append(x, x[0] + source.interval.length), np.concatenate([rows, rows[:1]])
        return torch.from_numpy(CubicSpline(x, rows, bc_type="periodic")(y))
    return torch.from_numpy(CubicSpline(x, rows)(y))


def _overlap_matrix(source: Axis, target: Axis, latitude: bool) -> Tensor:
    """Share of each source cell in each target cell; rows sum to one."""
    a, b = _edges(source), _edges(target)
    period = source.interval.length if source.periodic else None
    if latitude:
        a, b = np.sin(np.deg2rad(a)), np.sin(np.deg2rad(b))
    shifts = (0.0,) if period is None else (-period, 0.0, period)
    overlap = np.zeros((target.size, source.size))
    for shift in shifts:
        low = np.maximum(b[:-1, None], a[None, :-1] + shift)
        high = np.minimum(b[1:, None], a[None, 1:] + shift)
        overlap += np.clip(high - low, 0.0, None)
    return torch.from_numpy(overlap / overlap.sum(1, keepdims=True))


def _edges(axis: Axis) -> NDArray[np.float64]:
    """Ends of the cells around the points: half-way between neighbours, and the ends of a bounded interval."""
    x = axis.coordinates()
    middle = 0.5 * (x[1:] + x[:-1])
    if axis.periodic:
        gap = 0.5 * (x[0] + axis.interval.length - x[-1])
        return np.concatenate([[x[0] - gap], middle, [x[-1] + gap]])
    return np.concatenate([[axis.interval.lower], middle, [axis.interval.upper]])


def _apply(u: Tensor, matrices: list[Tensor | None]) -> Tensor:
    """One matrix to each space dimension, in float64, back in the precision of ``u``."""
    result = u
    for k, matrix in enumerate(matrices):
        if matrix is not None:
            result = torch.movedim(torch.tensordot(result.to(torch.float64), matrix, dims=([k + 2], [1])), -1, k + 2)
    return result.to(u.dtype).contiguous()
