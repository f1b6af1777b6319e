r"""Operators on grids that do not fit into memory: the field comes and goes in slabs, ranges of its first space axis.

What crosses slabs in these operators is small and linear in what comes in, so a pass over the slabs can sum it up:

.. math:: I a = \sum_s M_{:, s}\, (I' a_s), \qquad \hat v_k = \sum_s \sum_{j \in s} w_j\, \phi_k(x_j)\, v(x_j)

the input interpolated to the latent grid of a :class:`LatentFNO` (:math:`M` along the first axis, :math:`I'` along the others; one pass),
and the few coefficients of every layer of an :class:`FNO` (one pass a layer: its field on a slab follows from the slab of the input
and the coefficients of the layers before). The output on any slab then follows from these alone. Values are those of the operator on
the whole grid to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import GridError, UsageError
from anygrid.grid import Axis, Box, Sphere
from anygrid.numerics.interpolation import interpolate, matrix_between, matrix_columns
from anygrid.operators.fno import FNO
from anygrid.operators.latent_fno import LatentFNO
from anygrid.operators.layers import check_input, coordinate_features
from anygrid.operators.spectral import SpectralConv, mix
from anygrid.operators.transforms import analyse, from_rows, onto_rows, synthesise

__all__ = ["Slabs", "bytes_per_row", "emit", "gather", "interpolate_slab", "passes", "slab"]


@dataclass(frozen=True, eq=False)
class Slabs:
    """A field on ``grid`` that is read in parts.

    Parameters
    ----------
    read
        Values ``(batch, channel, stop - start, *rest)`` of the points ``start`` to ``stop`` of the first axis.
    rows
        Points of the first axis that are read at once.

    Raises
    ------
    UsageError
        For slabs without rows.
    """

    grid: Box | Sphere
    read: Callable[[int, int], Tensor]
    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError("streaming", "at least one row in a slab", str(self.rows))

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        size = self.grid.shape[0]
        for start in range(0, size, self.rows):
            stop = min(start + self.rows, size)
            yield start, stop, self.read(start, stop)


def slab(grid: Box | Sphere, start: int, stop: int) -> Box | Sphere:
    """Points ``start`` to ``stop`` of the first axis of ``grid``, in the domain of the whole."""
    axis = grid.axes[0]
    nodes = np.clip(axis.coordinates()[start:stop], axis.interval.lower, axis.interval.upper)  # the last vertex may round beyond
    part = Axis(axis.name, axis.interval, stop - start, "nodes", tuple(nodes.tolist()), axis.units)
    return _with_first(grid, part)


def _with_first(grid: Box | Sphere, axis: Axis) -> Box | Sphere:
    return Box((axis, *grid.axes[1:])) if isinstance(grid, Box) else replace(grid, lat=axis, gaussian=False)


def gather(operator: nn.Module, field: Slabs) -> tuple[Tensor, ...]:
    """What the output needs to know of the whole input; one pass over it for a LatentFNO, one for each layer of an FNO.

    Raises
    ------
    UsageError
        For other operators: their output at a point needs more of the field than a few numbers.
    GridError
        As the operator raises it.
    """
    if isinstance(operator, LatentFNO):
        return (_latent(operator, field),)
    if isinstance(operator, FNO):
        found: tuple[Tensor, ...] = ()
        for layer in _layers(operator):
            found = (*found, _coefficients(operator, layer, found, field))
        return found
    raise _refused(operator)


def passes(operator: nn.Module) -> int:
    """How often :func:`gather` reads the whole input.

    Raises
    ------
    UsageError
        As :func:`gather`.
    """
    if isinstance(operator, LatentFNO):
        return 1
    if isinstance(operator, FNO):
        return len(_layers(operator))
    raise _refused(operator)


def _refused(operator: nn.Module) -> UsageError:
    name = type(operator).__name__
    return UsageError("streaming", "a LatentFNO or an FNO", name, "predict in memory, or train one of these two")


def emit(
    operator: nn.Module, gathered: tuple[Tensor, ...], field: Slabs, query: Box | Sphere, start: int, stop: int
) -> Float[Tensor, "batch outputs rows *rest"]:
    """The output on rows ``start`` to ``stop`` of ``query``, from what :func:`gather` found.

    Raises
    ------
    GridError
        For an FNO asked on another grid than its input's when the first axis is periodic: its pointwise path interpolates there
        with all points of the axis.
    """
    if isinstance(operator, LatentFNO):
        fine, _ = operator.latent_grids(field.grid)
        assert isinstance(fine, Box | Sphere)
        part = slab(query, start, stop)
        # Past the cache, which would keep the matrices of the last slabs.
        matrix = matrix_between.__wrapped__(fine.axes[0], part.axes[0], True).to(gathered[0])
        z = torch.einsum("qx,bcx...->bcq...", matrix, gathered[0])
        return interpolate(z, _with_first(fine, part.axes[0]), part, smooth=True)
    assert isinstance(operator, FNO)
    last = len(gathered) - 1
    plan = onto_rows(_layers(operator)[last].plan(gathered[last], field.grid, query), start, stop)
    pointwise = operator.pointwise[last]

    def beside(first: int, end: int) -> Tensor:
        s = _state(operator, gathered[:last], field.grid, first, end, field.read(first, end))
        return torch.movedim(pointwise(_activated(operator, s, last)), -1, 1)

    onto = torch.movedim(interpolate_slab(beside, field.grid, query, start, stop), 1, -1).contiguous()
    x = synthesise(gathered[last], plan, onto=onto)
    return torch.movedim(operator.project(x), -1, 1)


def interpolate_slab(
    read: Callable[[int, int], Tensor], grid: Box | Sphere, query: Box | Sphere, start: int, stop: int
) -> Float[Tensor, "batch channel rows *rest"]:
    """Rows ``start`` to ``stop`` of :func:`~anygrid.numerics.interpolation.interpolate` from ``grid`` to ``query``, reading few rows.

    Raises
    ------
    GridError
        When the first axes differ and are periodic, where interpolation takes all points.
    """
    if grid.axes[0] == query.axes[0]:
        part = slab(query, start, stop)
        return interpolate(read(start, stop), _with_first(grid, part.axes[0]), part)
    if grid.axes[0].periodic:
        got = f"{grid.shape[0]} and {query.shape[0]} points"
        hint = f"ask for the points of the data along {grid.dims[0]!r}, or predict in memory"
        raise GridError("streaming", f"the same points along the periodic axis {grid.dims[0]!r} in and out", got, hint)
    nodes, wanted = grid.axes[0].coordinates(), query.axes[0].coordinates()[start:stop]
    reach = float(np.diff(nodes).max()) * 0.51 if nodes.size > 1 else np.inf
    if wanted[0] < nodes[0] - reach or wanted[-1] > nodes[-1] + reach:
        expected, got = f"{nodes[0]:g} to {nodes[-1]:g}", f"{wanted[0]:g} to {wanted[-1]:g}"
        raise GridError("streaming", f"{grid.dims[0]} inside {expected}", got, "stay inside the domain of the data")
    first = int(np.clip(np.searchsorted(nodes, wanted[0], side="right") - 1, 0, max(0, nodes.size - 2)))
    end = int(np.clip(np.searchsorted(nodes, wanted[-1], side="left") + 1, first + min(2, nodes.size), nodes.size))
    near = slab(grid, first, end)
    u = interpolate(read(first, end), near, _with_first(query, near.axes[0]))
    if nodes.size == 1:
        return u.expand(-1, -1, stop - start, *u.shape[3:])
    # Along the first axis from the two neighbours of a point: a matrix between two slabs may be larger than both.
    left = np.clip(np.searchsorted(nodes, wanted, side="right") - 1, first, end - 2)
    t = torch.from_numpy(np.clip((wanted - nodes[left]) / (nodes[left + 1] - nodes[left]), 0, 1)).to(u)
    index = torch.from_numpy(left - first).to(u.device)
    return torch.lerp(u.index_select(2, index), u.index_select(2, index + 1), t.view(-1, *(1,) * (u.ndim - 3)))


def bytes_per_row(operator: nn.Module, grid: Box | Sphere, query: Box | Sphere, item: int) -> int:
    """About how many bytes a row of a slab takes at the peak, with ``item`` bytes a number; generous."""
    points = max(grid.size // grid.shape[0], query.size // query.shape[0])
    if isinstance(operator, FNO):
        return points * item * (6 * operator.lift.out_features + 4 * operator.lift.in_features)
    inputs, outputs = int(getattr(operator, "inputs", 1)), len(getattr(operator, "bias", "1"))
    matrix = 8 * 6 * operator.shape[0] if isinstance(operator, LatentFNO) else 0  # between the first axes, and what it takes to make it
    return matrix + points * item * 20 * max(inputs, outputs)  # what a reader holds, copies in and out, transforms along the other axes


def _latent(operator: LatentFNO, field: Slabs) -> Tensor:
    """Field on the fine latent grid, which the output interpolates."""
    grid = field.grid
    fine, _ = operator.latent_grids(grid)
    assert isinstance(fine, Box | Sphere)
    total: Tensor | None = None
    like: Tensor | None = None
    for start, stop, a in field:
        part = slab(grid, start, stop)
        check_input(a, part, operator.inputs, operator.periodic, "LatentFNO")
        a = interpolate(a, part, _with_first(fine, part.axes[0]))
        if total is None:
            # Double: a trigonometric sum over a long axis cancels, and there are few numbers here.
            total, like = a.new_zeros(*a.shape[:2], *fine.shape, dtype=torch.float64), a
        if fine.axes[0] == grid.axes[0]:
            total[:, :, start:stop] = a
        else:
            matrix = matrix_columns(grid.axes[0], fine.axes[0], start, stop).to(total)
            total += torch.einsum("qx,bcx...->bcq...", matrix, a.double())
    assert total is not None
    assert like is not None
    return operator.latent(total.to(like), grid)


def _layers(operator: FNO) -> list[SpectralConv]:
    return [layer for layer in operator.spectral if isinstance(layer, SpectralConv)]


def _coefficients(operator: FNO, layer: SpectralConv, before: tuple[Tensor, ...], field: Slabs) -> Tensor:
    """Mixed coefficients of the layer after those ``before``."""
    total: Tensor | None = None
    for start, stop, a in field:
        x = _activated(operator, _state(operator, before, field.grid, start, stop, a), len(before))
        plan = from_rows(layer.plan(x, field.grid, field.grid), start, stop)
        c = analyse(x, plan).double()
        total = c if total is None else total + c
        dtype = x.dtype
    assert total is not None
    return mix(total.to(dtype), layer.weight, plan)


def _state(operator: FNO, before: tuple[Tensor, ...], grid: Box | Sphere, start: int, stop: int, a: Tensor) -> Tensor:
    """Field of the layer after those ``before`` on a slab, channels-last, from the input there."""
    part = slab(grid, start, stop)
    check_input(a, part, operator.inputs, operator.periodic, "FNO")
    x = torch.movedim(a, 1, -1)
    if operator.coordinates:
        # Past the cache, which would keep the last slabs of every pass.
        position = coordinate_features.__wrapped__(part, a.dtype, a.device)
        x = torch.cat([x, position.expand(a.shape[0], *position.shape)], dim=-1)
    x = operator.lift(x)
    for k, (c, layer) in enumerate(zip(before, _layers(operator), strict=False)):
        s = _activated(operator, x, k)
        plan = onto_rows(layer.plan(x, grid, grid), start, stop)
        x = synthesise(c, plan, onto=operator.pointwise[k](s).contiguous())
    return x


def _activated(operator: FNO, x: Tensor, layer: int) -> Tensor:
    for _ in range(operator.activations if layer else 0):
        x = nn.functional.gelu(x)
    return x
