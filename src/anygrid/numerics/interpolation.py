"""Values of a sampled function at the points of another grid of the same domain."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial import ConvexHull, Delaunay, cKDTree
from torch import Tensor, nn

from anygrid.collectives import sum_over_ranks
from anygrid.errors import GridError
from anygrid.grid import Axis, Box, Grid, Points, Sphere
from anygrid.shard import Shard

__all__ = ["interpolate", "matrix_between", "matrix_columns"]

_POINTS = 1 << 14  # scattered points at once: their matrices have a column for each point of an axis
_BETWEEN = 1 << 22  # numbers that are held between the axes, which may ask for fewer points at once
_SLACK = 0.51  # of a spacing: cell-centred grids of one domain end this far from each other's last point


def interpolate(
    u: Float[Tensor, "batch channel *space"], grid: Grid, query: Grid, *, smooth: bool = False
) -> Float[Tensor, "batch channel *query"]:
    """Interpolate ``u`` from ``grid`` to ``query``; linear in ``u`` and differentiable.

    Along an evenly spaced periodic axis: trigonometric interpolation, exact for every wave number the axis resolves.
    Along any other axis: piecewise linear, second order and without overshoot; with ``smooth`` a cubic spline (not-a-knot,
    fourth order), for fields without jumps. From scattered points: linear on their triangulation, nearest outside its hull.
    Points of the query beyond a bounded axis by at most half a spacing take the value at its end.

    From a shard every rank interpolates what its own rows add to the query, and the ranks sum that up; only where the points of the first
    axis are asked for again does nothing travel. Onto a shard every rank evaluates its own rows.

    Raises
    ------
    GridError
        When the grids do not have the same coordinates, or the query leaves the domain.
    """
    if grid.ndim != query.ndim:
        raise GridError("interpolate", f"a query with {grid.ndim} coordinates", f"{query.ndim}", "use a grid of the same domain")
    if grid == query:
        return u
    batch, channels = u.shape[:2]
    if isinstance(grid, Points):
        return _from_points(u.reshape(batch * channels, -1), grid, query).reshape(batch, channels, *query.shape).to(u.dtype)
    if isinstance(grid, Shard):
        return _from_shard(u, grid, query, smooth)
    assert isinstance(grid, Box | Sphere)
    if isinstance(query, Shard):
        u = _along_axes(u, grid, query.whole, smooth, 1)
        first = grid.axes[0], query.whole.axes[0]
        if first[0] == first[1]:
            return query.mine(u).contiguous()
        return _first(u, _part_of_matrix(*first, smooth, query.rows.start, query.rows.stop))
    if isinstance(query, Box | Sphere):
        return _along_axes(u, grid, query, smooth, 0).contiguous()
    return _onto_points(u, grid, query, smooth)


def _along_axes(u: Tensor, grid: Box | Sphere, query: Box | Sphere, smooth: bool, first: int) -> Tensor:
    """Interpolate along the axes from the ``first`` on."""
    for k, (axis, other) in enumerate(zip(grid.axes, query.axes, strict=True)):
        if k >= first and axis != other:
            u = torch.movedim(_along(torch.movedim(u, k + 2, -1), axis, other, smooth), -1, k + 2)
    return u


def _first(u: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("qx,bcx...->bcq...", matrix.to(u), u)


def _from_shard(u: Tensor, grid: Shard, query: Grid, smooth: bool) -> Tensor:
    if isinstance(query, Points):
        return sum_over_ranks(_onto_points(u, grid.whole, query, smooth, slice(grid.rows.start, grid.rows.stop)), grid.rows)
    target = query.whole if isinstance(query, Shard) else query
    assert isinstance(target, Box | Sphere)
    u = _along_axes(u, grid.whole, target, smooth, 1)
    first = grid.whole.axes[0], target.axes[0]
    if isinstance(query, Shard) and first[0] == first[1] and grid.rows == query.rows:
        return u.contiguous()
    rows = grid.rows
    if first[0] == first[1]:
        own = torch.movedim(nn.functional.pad(torch.movedim(u, 2, -1), [rows.start, rows.total - rows.stop]), -1, 2)
    else:
        own = _first(u, _part_of_matrix(*first, smooth, 0, target.shape[0], rows.start, rows.stop))
    u = sum_over_ranks(own, rows)
    return query.mine(u).contiguous() if isinstance(query, Shard) else u


@lru_cache(maxsize=16)
def _part_of_matrix(
    axis: Axis, target: Axis, smooth: bool, first: int, end: int, start: int = 0, stop: int | None = None
) -> Float[Tensor, "rows columns"]:
    """Rows ``first`` to ``end`` and columns ``start`` to ``stop`` of :func:`matrix_between`, made alone."""
    with torch.inference_mode(False):
        return torch.from_numpy(_axis_matrix(axis, target.coordinates()[first:end], smooth, slice(start, stop)))


def _onto_points(u: Tensor, grid: Box | Sphere, query: Grid, smooth: bool, rows: slice = slice(None)) -> Tensor:
    """Values at scattered points, or what ``rows`` of the first axis, which ``u`` has, add to them."""
    parts = []
    linear = rows == slice(None) and not any(_cardinal(axis) or _splined(axis, smooth) for axis in grid.axes)
    size = _POINTS if linear else min(_POINTS, max(64, _BETWEEN // (u.numel() // grid.shape[-1])))
    for some in np.split(query.points().numpy(), range(size, query.size, size)):
        if linear:
            parts.append(_from_corners(u, grid, some))
            continue
        tables = [_axis_matrix(axis, some[:, k], smooth, slice(None) if k else rows) for k, axis in enumerate(grid.axes)]
        matrices = [torch.from_numpy(table).to(u) for table in tables]
        parts.append(_at_points(u, matrices))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


def _cardinal(axis: Axis) -> bool:
    """Whether interpolation along an axis is trigonometric."""
    return axis.periodic and axis.uniform


def _splined(axis: Axis, smooth: bool) -> bool:
    return smooth and axis.size > 3


def _from_corners(u: Tensor, grid: Box | Sphere, x: NDArray[np.float64]) -> Tensor:
    """Linear along every axis: a weighted sum of the corners of the cell around each point, without a matrix."""
    index, weight = np.zeros((1, len(x)), dtype=np.int64), np.ones((1, len(x)))
    for k, axis in enumerate(grid.axes):
        places, t = _neighbours(axis, x[:, k])
        index = (index * axis.size + places[:, None]).reshape(-1, len(x))
        weight = (weight * np.stack([1 - t, t])[:, None]).reshape(-1, len(x))
    flat, total = u.flatten(2), u.new_zeros(())
    for place, w in zip(torch.from_numpy(index).to(u.device), torch.from_numpy(weight).to(u), strict=True):
        total = total + flat.index_select(2, place) * w
    return total


def _along(u: Tensor, axis: Axis, target: Axis, smooth: bool) -> Tensor:
    """Interpolate the last dimension from ``axis`` to ``target``: by picking points, by FFT, or by a matrix, whichever is the cheapest."""
    picked = _stride(axis, target)
    if picked:
        return u[..., ::picked]
    if axis.interval == target.interval and axis.periodic and axis.placement == target.placement == "vertices":
        return _resample(u, target.size)
    return torch.matmul(u, matrix_between(axis, target, smooth).to(u).T)


def _stride(axis: Axis, target: Axis) -> int | None:
    """Number of points of ``axis`` to a point of ``target`` when both begin and end at the same places; None otherwise."""
    if axis.interval != target.interval or not axis.placement == target.placement == "vertices":
        return None
    ends = 0 if axis.periodic else 1
    whole, rest = divmod(axis.size - ends, target.size - ends)
    return whole if rest == 0 and whole > 1 else None


def _resample(u: Tensor, size: int) -> Tensor:
    """Values at ``size`` even points of the trigonometric interpolant of an even periodic sample (last dimension)."""
    n = u.shape[-1]
    z = torch.fft.fft(u, norm="forward")
    wave = torch.fft.fftfreq(n, 1 / n, device=u.device).round().long()
    if n % 2 == 0:
        # The Nyquist cosine is half a wave of either sign; its sine is not seen by the sample.
        half = z.narrow(-1, n // 2, 1) / 2
        z = torch.cat([z.narrow(-1, 0, n // 2), half, z.narrow(-1, n // 2 + 1, n // 2 - 1), half], dim=-1)
        wave = torch.cat([wave, -wave[n // 2 : n // 2 + 1]])
    out = z.new_zeros(*z.shape[:-1], size).index_add(-1, wave % size, z)
    return torch.fft.ifft(out, norm="forward").real


@lru_cache(maxsize=64)
def matrix_between(axis: Axis, target: Axis, smooth: bool) -> Float[Tensor, "target axis"]:
    """Matrix (float64) of :func:`interpolate` between two axes, for those who apply a part of it at a time."""
    with torch.inference_mode(False):
        return torch.from_numpy(_axis_matrix(axis, target.coordinates(), smooth))


def _at_points(u: Tensor, matrices: list[Tensor]) -> Tensor:
    """Contract every space dimension with its own (points, size) matrix, the points held in common."""
    letters = "xyzw"[: len(matrices)]
    # Last axis first keeps the intermediate at (batch, points, remaining axes).
    out = torch.einsum(f"bc{letters},p{letters[-1]}->bcp{letters[:-1]}", u, matrices[-1])
    for letter, matrix in zip(letters[:-1], matrices[:-1], strict=True):
        rest = letters[letters.index(letter) + 1 : -1]
        out = torch.einsum(f"bcp{letter}{rest},p{letter}->bcp{rest}", out, matrix)
    return out


def matrix_columns(axis: Axis, target: Axis, start: int, stop: int) -> Float[Tensor, "target columns"]:
    """Columns ``start`` to ``stop`` of :func:`matrix_between` without ``smooth``, made alone and kept by no cache."""
    return torch.from_numpy(_axis_matrix(axis, target.coordinates(), False, slice(start, stop)))


def _axis_matrix(axis: Axis, x: NDArray[np.float64], smooth: bool, columns: slice = slice(None)) -> NDArray[np.float64]:
    if _cardinal(axis):
        # Trigonometric cardinal function: sin(n t / 2) / (n tan(t / 2)), with sin in the denominator for odd n.
        n = axis.size
        turn = 2 * np.pi * (x[:, None] - axis.coordinates()[columns]) / axis.interval.length
        t = np.remainder(turn + np.pi, 2 * np.pi) - np.pi
        near = np.abs(t) < 1e-12
        below = n * (np.tan(t / 2) if n % 2 == 0 else np.sin(t / 2))
        return np.where(near, 1.0, np.sin(n * t / 2) / np.where(near, 1.0, below))
    if _splined(axis, smooth):
        nodes, x = _inside(axis, x)
        values = np.eye(axis.size)
        values = np.concatenate([values, values[:1]]) if axis.periodic else values
        return CubicSpline(nodes, values, bc_type="periodic" if axis.periodic else "not-a-knot")(x)[:, columns]
    # Two entries a row: never the square matrix of a long axis.
    places, t = _neighbours(axis, x)
    span = range(axis.size)[columns]
    matrix = np.zeros((x.size, len(span)))
    for place, weight in zip(places, (1 - t, t), strict=True):
        row = np.flatnonzero((place >= span.start) & (place < span.stop))
        matrix[row, place[row] - span.start] += weight[row]
    return matrix


def _neighbours(axis: Axis, x: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The two points of an axis around each ``x``, ``(2, x)``, and how far it is from the first to the second of them."""
    nodes, x = _inside(axis, x)
    if axis.size == 1:
        return np.zeros((2, x.size), dtype=np.int64), np.zeros(x.size)
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    return np.stack([left, (left + 1) % axis.size]), (x - nodes[left]) / (nodes[left + 1] - nodes[left])


def _inside(axis: Axis, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes of an axis, with the first of the next period where there is one, and ``x`` between the first and the last."""
    nodes = axis.coordinates()
    if axis.periodic:
        length = axis.interval.length
        return np.append(nodes, nodes[0] + length), nodes[0] + np.mod(x - nodes[0], length)
    slack = _SLACK * float(np.diff(nodes).max()) if axis.size > 1 else np.inf
    if x.min() < nodes[0] - slack or x.max() > nodes[-1] + slack:
        raise GridError(
            "interpolate",
            f"{axis.name} between {nodes[0]:g} and {nodes[-1]:g}",
            f"{x.min():g} to {x.max():g}",
            "stay inside the domain of the data",
        )
    return nodes, np.clip(x, nodes[0], nodes[-1])


def _from_points(u: Tensor, grid: Points, query: Grid) -> Tensor:
    """From scattered points, ``(batch, points)``: barycentric weights on the triangulation of points and periodic images."""
    index, weight = _barycentric(grid, query)
    return (u[:, index.to(u.device)] * weight.to(u)).sum(-1)


@lru_cache(maxsize=8)
def _barycentric(grid: Points, query: Grid) -> tuple[Tensor, Tensor]:
    """Corners of the simplex around every query point and their weights: ``(query points, d + 1)`` each."""
    x, owner = grid.points().numpy(), np.arange(grid.size)
    for k, interval in enumerate(grid.domain):
        if interval.periodic:
            shift = np.eye(grid.ndim)[k] * interval.length
            x, owner = np.concatenate([x - shift, x, x + shift]), np.concatenate([owner] * 3)
    wanted = query.points().reshape(-1, query.ndim).numpy()
    if grid.ndim == 1:
        order = np.argsort(x[:, 0])
        nodes, owner = x[order, 0], owner[order]
        right = np.clip(np.searchsorted(nodes, wanted[:, 0]), 1, len(nodes) - 1)
        t = np.clip((wanted[:, 0] - nodes[right - 1]) / (nodes[right] - nodes[right - 1]), 0, 1)
        return _kept(owner[np.stack([right - 1, right], 1)], np.stack([1 - t, t], 1))
    mesh = Delaunay(x)
    # Asked of points outside the hull, find_simplex would look at every simplex, for each of them.
    within, simplex = np.ones(len(wanted), dtype=bool), np.full(len(wanted), -1)
    rounding = 1e-12 * float(np.abs(x).max())  # points on the hull itself are inside
    for *normal, offset in ConvexHull(x).equations:
        within &= wanted @ normal <= rounding - offset
    simplex[within] = mesh.find_simplex(wanted[within])
    inside = simplex >= 0
    affine = mesh.transform[simplex[inside]]
    first = np.einsum("pij,pj->pi", affine[:, :-1], wanted[inside] - affine[:, -1])
    index = np.zeros((len(wanted), grid.ndim + 1), dtype=np.int64)
    weight = np.zeros(index.shape)
    index[inside], weight[inside] = mesh.simplices[simplex[inside]], np.column_stack([first, 1 - first.sum(1)])
    index[~inside, 0], weight[~inside, 0] = cKDTree(x).query(wanted[~inside])[1], 1.0
    return _kept(owner[index], weight)


def _kept(index: NDArray[np.int64], weight: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """As tensors that training may use even if they were made under inference_mode."""
    with torch.inference_mode(False):
        return torch.from_numpy(index), torch.from_numpy(weight)
