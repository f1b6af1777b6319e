"""A system of equations on a box as algebra: its residual and the entries of its Jacobian matrix, batched and differentiable."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sparse
import sympy as sp
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.equations.boundary import Boundary, Condition, derivative_orders
from anygrid.equations.nodes import Argument, Builder, Node, Stage
from anygrid.equations.system import System
from anygrid.equations.tape import record
from anygrid.errors import UsageError
from anygrid.grid import Box
from anygrid.numerics.lines import check_even, face_coordinates
from anygrid.numerics.sparse_lu import Pattern

__all__ = ["Bound", "Discrete", "discretised", "paired", "wide_known"]

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Entries:
    """Entries of the Jacobian: constants times products of partial derivatives (node, which, at which places)."""

    rows: Places
    cols: Places
    constants: NDArray[np.float64]
    factors: tuple[tuple[Node, int, Places], ...]


@dataclass(frozen=True, eq=False)
class Bound:
    """Known values brought to where the equations need them: by node and argument, by boundary condition."""

    arguments: Mapping[tuple[int, str], Tensor]
    data: Mapping[Condition, Tensor]
    values: Float[Tensor, "some unknown *space"]


class Discrete:
    """Expressions of unknowns on the points of a box.

    Rows of the residual belong to unknowns: row ``j`` is expression ``j``, but ``value - unknown`` where a value is prescribed.

    Parameters
    ----------
    system
        Gives the names.
    expressions
        One for each unknown, in their order.
    unknowns
        Names of the unknowns; every other function is a known field.
    box, boundary
        The grid, vertices included, and the conditions.
    order
        Of the differences, see :class:`~anygrid.equations.nodes.Builder`.

    Attributes
    ----------
    linear
        Whether the Jacobian is the same for all states.
    pattern
        Places of the entries of :meth:`jacobian`.
    fixed
        Mask ``(unknown, *space)`` of the prescribed values.
    """

    def __init__(
        self, system: System, expressions: Sequence[sp.Expr], unknowns: tuple[str, ...], box: Box, boundary: Boundary, order: int
    ) -> None:
        self.system, self.unknowns, self.box, self.boundary = system, unknowns, box, boundary
        for axis in box.axes:
            check_even(axis, "Equation")
        builder = Builder(system, unknowns, box, boundary, order)
        self.nodes = [builder.node(expression) for expression in expressions]
        self.linear = all(node.linear for node in self.nodes)
        self._all = list(builder.made.values())
        self.fixed = torch.zeros((len(unknowns), *box.shape), dtype=torch.bool)
        for condition in self._conditions("value"):
            self.fixed[unknowns.index(condition.unknown)][self._side(condition)] = True
        self._entries = self._assemble()
        rows, cols = (np.concatenate([getattr(e, name) for e in self._entries]) for name in ("rows", "cols"))
        self.pattern = Pattern(rows, cols, len(unknowns) * box.size)

    def _conditions(self, kind: str) -> list[Condition]:
        return [c for c in self.boundary.conditions if c.kind == kind and c.unknown in self.unknowns]

    def _side(self, condition: Condition) -> tuple[slice, ...]:
        n = self.box.axes[self.box.dims.index(condition.axis)].size
        end = slice(0, 1) if condition.side == "lower" else slice(n - 1, n)
        return tuple(end if name == condition.axis else slice(None) for name in self.box.dims)

    # Known values

    def bind(self, known: Mapping[str, Tensor], device: torch.device | None = None) -> Bound:
        """Bring known values, ``(batch or 1, *space)`` in float64, to all places (on the device of the first of them). Differentiable."""
        device = device or next((value.device for value in known.values()), torch.device("cpu"))
        spread: dict[tuple[int, str], Tensor] = {}
        for k, node in enumerate(self._all):
            for name, argument in node.arguments.items():
                if isinstance(argument.source, str):
                    spread[k, name] = self._known(node, argument, known, device)
        data: dict[Condition, Tensor] = {}
        coordinates = [c.to(device) for c in self._coordinates(None)]
        for condition in (c for c in self.boundary.conditions if c.known):
            tape = record([condition.value], self.system.coordinates)
            here = {name: c[(slice(None), *self._side(condition))] for name, c in zip(self.box.dims, coordinates, strict=True)}
            value = tape([here[leaf.name] if leaf.name in here else known[leaf.name] for leaf in tape.leaves], _no_derivatives)[0]
            shape = tuple(1 if name == condition.axis else axis.size for name, axis in zip(self.box.dims, self.box.axes, strict=True))
            value = value.to(device)
            data[condition] = value.expand(value.shape[0] if value.ndim else 1, *shape)
        batch = max((len(value) for value in data.values()), default=1)
        values = torch.zeros((batch, *self.fixed.shape), dtype=torch.float64, device=device)
        for condition in self._conditions("value"):
            place = torch.zeros(self.fixed.shape, dtype=torch.bool)
            place[self.unknowns.index(condition.unknown)][self._side(condition)] = True
            values = torch.where(place.to(device), data[condition][:, None], values)
        return Bound(spread, data, values)

    def _known(self, node: Node, argument: Argument, known: Mapping[str, Tensor], device: torch.device) -> Tensor:
        name = str(argument.source)
        if name in self.box.dims:
            return self._coordinates(node.faces)[self.box.dims.index(name)].to(device)
        if name not in known:
            raise UsageError("Equation", f"values for {name!r}", "none", "give it among the known quantities")
        value = known[name]
        for stage in argument.stages:
            value = stage.operator(value, 1 + stage.dim)
        return value

    def _coordinates(self, faces: int | None) -> list[Tensor]:
        lines = [face_coordinates(axis) if k == faces else axis.coordinates() for k, axis in enumerate(self.box.axes)]
        shape = tuple(len(line) for line in lines)
        mesh = torch.meshgrid(*[torch.from_numpy(np.array(line)) for line in lines], indexing="ij")
        return [c.expand(shape)[None] for c in mesh]

    # Residual and Jacobian

    def residual(self, u: Float[Tensor, "batch unknown *space"], bound: Bound) -> Float[Tensor, "batch unknown *space"]:
        """Expressions at the vertices, and ``value - unknown`` where a value is prescribed."""
        values = self._values(u, bound)
        rows = torch.stack([values[self._all.index(node)].expand(u.shape[0], *self.box.shape) for node in self.nodes], dim=1)
        return torch.where(self.fixed.to(u.device), bound.values - u, rows)

    def jacobian(self, u: Float[Tensor, "batch unknown *space"], bound: Bound) -> Float[Tensor, "batch entries"]:
        """Entries of the derivative of :meth:`residual` by ``u``, at the places of ``pattern``."""
        arguments = self._arguments(u, bound)
        partials = {}
        for k, node in enumerate(self._all):
            shape = self._shape(node.faces)
            given = [arguments[k, leaf.name] for leaf in node.partials.leaves]
            results = node.partials(given, _no_derivatives)
            partials[k] = [p.expand(u.shape[0], *shape).reshape(u.shape[0], -1) for p in results]
        parts = []
        for entry in self._entries:
            part = torch.from_numpy(entry.constants).to(u)[None].expand(u.shape[0], -1)
            for node, which, places in entry.factors:
                part = part * partials[self._all.index(node)][which][:, torch.from_numpy(places).to(u.device)]
            parts.append(part)
        return torch.cat(parts, dim=1)

    def _values(self, u: Tensor, bound: Bound) -> list[Tensor]:
        return self._walk(u, bound)[1]

    def _arguments(self, u: Tensor, bound: Bound) -> dict[tuple[int, str], Tensor]:
        return self._walk(u, bound)[0]

    def _walk(self, u: Tensor, bound: Bound) -> tuple[dict[tuple[int, str], Tensor], list[Tensor]]:
        """Values of all arguments and nodes; inner nodes were made, and come, first."""
        arguments = dict(bound.arguments)
        values: list[Tensor] = []
        for k, node in enumerate(self._all):
            for name, argument in node.arguments.items():
                if not isinstance(argument.source, str):
                    arguments[k, name] = self._carried(u, argument, values, bound)
            value = node.value([arguments[k, leaf.name] for leaf in node.value.leaves], _no_derivatives)[0]
            values.append(value.to(u).expand(u.shape[0], *self._shape(node.faces)))
        return arguments, values

    def _carried(self, u: Tensor, argument: Argument, values: list[Tensor], bound: Bound) -> Tensor:
        source = argument.source
        value = u[:, source] if isinstance(source, int) else values[self._all.index(source)]  # type: ignore[arg-type]
        for stage in argument.stages:
            out = stage.operator(value, 1 + stage.dim)
            if stage.data and isinstance(source, int):
                sides = self.boundary.both(self.unknowns[source], self.box.dims[stage.dim])
                data = [bound.data[c] if c is not None and c.kind == "normal" and c.known else None for c in sides]
                for end, node in enumerate(argument.slopes):
                    if node is not None:
                        there = values[self._all.index(node)]
                        data[end] = there.narrow(1 + stage.dim, end * (there.shape[1 + stage.dim] - 1), 1)
                offset = stage.operator.offset(data[0], data[1], 1 + stage.dim)
                out = out if offset is None else out + offset
            value = out
        return value

    def _shape(self, faces: int | None) -> tuple[int, ...]:
        return tuple(axis.size + (k == faces and not axis.periodic) for k, axis in enumerate(self.box.axes))

    # Places of the entries

    def _assemble(self) -> list[_Entries]:
        fixed = self.fixed.reshape(-1).numpy()
        prescribed = np.flatnonzero(fixed)
        found = [_Entries(prescribed, prescribed, -np.ones(len(prescribed)), ())]
        for j, node in enumerate(self.nodes):
            for entry in self._entries_of(node):
                keep = ~fixed[entry.rows + j * self.box.size]
                factors = tuple((node, which, places[keep]) for node, which, places in entry.factors)
                found.append(_Entries(entry.rows[keep] + j * self.box.size, entry.cols[keep], entry.constants[keep], factors))
        return found

    def _entries_of(self, node: Node) -> list[_Entries]:
        """Derivative of a node, rows counting its places, by all unknowns."""
        found: list[_Entries] = []
        for name in (*node.varying, *node.constants):
            argument = node.arguments[name]
            matrix = self._matrix(node, argument)
            rows, constants = matrix.row.astype(np.int64), matrix.data * node.constants.get(name, 1.0)
            own = ((node, node.varying.index(name), rows),) if name in node.varying else ()
            if isinstance(argument.source, int):
                cols = matrix.col.astype(np.int64) + argument.source * self.box.size
                found.append(_Entries(rows, cols, constants, own))
            elif isinstance(argument.source, Node):
                found += self._through(node, name, matrix, argument.source)
            for end, slope in enumerate(argument.slopes):
                if slope is not None:
                    found += self._through(node, name, self._end_matrix(node, argument, end), slope)
        return found

    def _through(self, node: Node, name: str, matrix: sparse.coo_array, source: Node) -> list[_Entries]:
        """Chain rule: ``matrix`` brings the values of ``source`` to the argument ``name`` of the node."""
        rows, constants = matrix.row.astype(np.int64), matrix.data * node.constants.get(name, 1.0)
        own = ((node, node.varying.index(name), rows),) if name in node.varying else ()
        found = []
        for inner in self._entries_of(source):
            left, right = _joined(matrix.col.astype(np.int64), inner.rows)
            factors = tuple((n, which, places[right]) for n, which, places in inner.factors)
            outer = tuple((n, which, places[left]) for n, which, places in own)
            found.append(_Entries(rows[left], inner.cols[right], constants[left] * inner.constants[right], outer + factors))
        return found

    def _matrix(self, node: Node, argument: Argument) -> sparse.coo_array:
        """The operators of an argument as one matrix."""
        shape = list(self._shape(argument.source.faces if isinstance(argument.source, Node) else None))
        total = sparse.eye_array(math.prod(shape), format="csr")
        return self._carry(total, shape, node, argument.stages)

    def _end_matrix(self, node: Node, argument: Argument, end: int) -> sparse.coo_array:
        """How the slope at one end, a value at every vertex of which that end's count, enters an argument."""
        first = next(k for k, stage in enumerate(argument.stages) if stage.data)
        stage, shape = argument.stages[first], list(self._shape(None))
        n = shape[stage.dim]
        line = sparse.coo_array(
            (stage.operator.ends[:, end], (np.arange(stage.operator.places), np.full(stage.operator.places, end * (n - 1)))),
            shape=(stage.operator.places, n),
        )
        before, after = (sparse.eye_array(math.prod(part)) for part in (shape[: stage.dim], shape[stage.dim + 1 :]))
        shape[stage.dim] = stage.operator.places
        return self._carry(sparse.kron(sparse.kron(before, line), after, format="csr"), shape, node, argument.stages[first + 1 :])

    def _carry(self, total: sparse.csr_array, shape: list[int], node: Node, stages: Sequence[Stage]) -> sparse.coo_array:
        for stage in stages:
            before, after = (sparse.eye_array(math.prod(part)) for part in (shape[: stage.dim], shape[stage.dim + 1 :]))
            total = sparse.kron(sparse.kron(before, stage.operator.matrix()), after, format="csr") @ total
            shape[stage.dim] = stage.operator.places
        assert tuple(shape) == self._shape(node.faces)
        out = total.tocoo()
        out.eliminate_zeros()
        return out


@lru_cache(maxsize=16)  # a map is called many times
def discretised(
    system: System, expressions: tuple[sp.Expr, ...], unknowns: tuple[str, ...], box: Box, boundary: Boundary, order: int
) -> Discrete:
    """A :class:`Discrete`, the last few of which are kept."""
    return Discrete(system, expressions, unknowns, box, boundary, order)


def _joined(left: Places, right: Places) -> tuple[Places, Places]:
    """All pairs of positions with ``left[i] == right[j]``."""
    order = np.argsort(right, kind="stable")
    first, last = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
    counts = last - first
    i = np.repeat(np.arange(len(left)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return i, order[np.repeat(first, counts) + within]


def _no_derivatives(value: Tensor, orders: tuple[int, ...]) -> Tensor:
    raise AssertionError("every derivative is an argument of its own")


def wide_known(system: System, known: Mapping[str, Tensor], box: Box) -> dict[str, Tensor]:
    """Parameters and fields as float64 tensors ``(batch or 1, *space or ones)``.

    Raises
    ------
    UsageError
        For a missing quantity or one of another shape.
    """
    wide = {}
    for name in (*system.parameters, *system.fields):
        if name not in known:
            raise UsageError("Equation", f"a value for {name!r}", "none", "give every parameter and field a value")
        value = known[name].double()
        shape = box.shape if name in system.fields else (1,) * len(box.shape)
        if name in system.parameters:
            value = value.reshape(-1, *shape) if value.ndim <= 1 else value
        elif value.ndim == len(shape):
            value = value[None]
        if tuple(value.shape[1:]) != shape:
            wanted = (
                f"{name!r} of shape (batch, {', '.join(map(str, shape))})" if name in system.fields else f"one number a sample for {name!r}"
            )
            raise UsageError("Equation", wanted, str(tuple(known[name].shape)), "sample it on the grid that is passed")
        wide[name] = value
    return wide


def paired(system: System, constraints: Sequence[sp.Expr], unknowns: Sequence[str]) -> tuple[sp.Expr, ...]:
    """The constraints in the order of the unknowns whose values they give up on the boundary: those with the highest derivatives there."""

    def order(expression: sp.Expr, name: str) -> int:
        alone = System(system.axes, (name,), (), (), (), (), (expression,), ())
        return max(derivative_orders(alone, axis).get(name, -9) for axis in system.axes)

    scores = [[order(expression, name) for name in unknowns] for expression in constraints]
    best = max(itertools.permutations(range(len(unknowns))), key=lambda p: sum(scores[row][j] for j, row in enumerate(p)))
    return tuple(constraints[row] for row in best)
