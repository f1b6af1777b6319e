"""A system on one periodic grid: its matrix for each mode, its forcing, and its tendency as a function of Fourier coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

import sympy as sp
import torch
from torch import Tensor

from anygrid.equations.symbol import Multiplier, SpectralForm, Term, spectral_form
from anygrid.equations.system import System
from anygrid.equations.tape import Leaf, record
from anygrid.errors import UsageError
from anygrid.grid import Box
from anygrid.numerics.pseudospectral import derivative, from_spectrum, to_spectrum
from anygrid.numerics.truncation import Truncation

__all__ = ["SpectralSystem", "linear_symbol"]


def linear_symbol(system: System, grid: Box, known: Mapping[str, Tensor]) -> Tensor:
    r"""Matrix ``A(k)`` of the constant-coefficient linear part, :math:`\partial_t \hat u = A \hat u + \dots`, constraints eliminated.

    Its eigenvalues say which waves grow: an unbounded positive real part towards large ``k`` is an ill-posed equation.

    Returns
    -------
    Tensor
        ``(batch or 1, m, m, *modes)`` for ``m`` states, modes as in ``torch.fft.rfftn``, float64, or complex128 where waves travel.
    """
    device = next(iter(known.values())).device if known else torch.device("cpu")
    return _Symbols(spectral_form(system), system, grid, known, device).matrix()


class _Symbols:
    """Multipliers and forcing in double precision on the full modes of a grid."""

    def __init__(self, form: SpectralForm, system: System, grid: Box, known: Mapping[str, Tensor], device: torch.device) -> None:
        self.form, self.system, self.grid, self.device = form, system, grid, device
        self.known = {name: value.to(device, torch.float64) for name, value in known.items()}
        self._axes: dict[tuple[int, int], Tensor] = {}
        self.solved = self._solve_constraints()

    def derivative(self, orders: Sequence[int]) -> Tensor:
        """Multiplier of ``D^orders``."""
        total = torch.ones((1,) * len(orders), dtype=torch.complex128, device=self.device)
        for axis, order in enumerate(orders):
            if order:
                if (axis, order) not in self._axes:
                    self._axes[axis, order] = derivative(self.grid, axis, order).to(self.device)
                total = total * self._axes[axis, order]
        return total

    def constant(self, factor: sp.Expr) -> Tensor:
        """Value of an expression in parameters, ``(batch or 1, 1, ...)``."""
        tape = record([factor], self.system.coordinates)
        values = [self.known[leaf.name] for leaf in tape.leaves]
        value = tape(values, _never)[0].to(self.device)
        return value.reshape(-1, *[1] * len(self.grid.shape))

    def multiplier(self, parts: Multiplier) -> Tensor:
        """Sum of ``factor * D^orders``, ``(batch or 1, *modes)`` or broadcastable."""
        total = torch.zeros((1,) * (1 + len(self.grid.shape)), dtype=torch.complex128, device=self.device)
        for orders, factor in parts:
            total = total + self.constant(factor) * self.derivative(orders)
        return total

    def table(self, rows: Sequence[Mapping[str, Multiplier]], names: Sequence[str]) -> Tensor:
        """Multipliers as ``(batch or 1, rows, names, *modes)``."""
        modes = (*self.grid.shape[:-1], self.grid.shape[-1] // 2 + 1)
        entries = [[self.multiplier(row.get(name, ())) for name in names] for row in rows]
        batch = max((len(e) for row in entries for e in row), default=1)
        stacked = [torch.stack([e.expand(batch, *modes) for e in row], 1) for row in entries]
        return torch.stack(stacked, 1)

    def _solve_constraints(self) -> tuple[Tensor, Tensor | None] | None:
        """Auxiliary unknowns as ``S u + s``: ``(batch or 1, a, m, *modes)``, and ``(batch or 1, a, *modes)`` where they are forced.

        By the pseudo-inverse of each mode's matrix: what a mode does not determine, such as the mean of a stream function, is 0.
        """
        auxiliary = self.system.auxiliary
        if not auxiliary:
            return None
        table = self.table(self.form.constraint, auxiliary)
        if len(auxiliary) == 1:
            zero = table == 0
            inverse = torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, table))
        else:
            inverse = torch.linalg.pinv(table.movedim((1, 2), (-2, -1))).movedim((-2, -1), (1, 2))
        for k, name in enumerate(auxiliary):
            if not bool((inverse[:, k] != 0).any()):
                hint = f"write an elliptic equation for it, such as lap({name}) = ..., that does not rest on the rates"
                raise UsageError("periodic solver", f"a constraint that determines {name!r}", "one that leaves it free in every mode", hint)
        by_state = -_matmul(inverse, self.table(self.form.constraint, self.system.state))
        forced = self.forcing(self.form.constraint_forcing)
        return by_state, None if forced is None else -_matmul(inverse, forced[:, :, None])[:, :, 0]

    def matrix(self) -> Tensor:
        """Linear part, constraints eliminated."""
        total = self.table(self.form.linear, self.system.state)
        if self.solved is not None:
            total = total + _matmul(self.table(self.form.linear, self.system.auxiliary), self.solved[0])
        return total.real.contiguous() if not bool((total.imag != 0).any()) else total

    def source(self) -> Tensor | None:
        """Forcing of the rates, ``(batch or 1, m, *modes)``."""
        total = self.forcing(self.form.forcing)
        if self.solved is not None and self.solved[1] is not None:
            extra = _matmul(self.table(self.form.linear, self.system.auxiliary), self.solved[1][:, :, None])[:, :, 0]
            total = extra if total is None else total + extra
        return total

    def forcing(self, rows: Sequence[Sequence[Term]]) -> Tensor | None:
        """Spectra of terms without unknowns; ``None`` where there are none."""
        if not any(rows):
            return None
        out = []
        for terms in rows:
            total = torch.zeros(1, *self.grid.shape[:-1], self.grid.shape[-1] // 2 + 1, dtype=torch.complex128, device=self.device)
            for term in terms:
                total = total + self.constant(term.factor) * self.derivative(term.orders) * to_spectrum(
                    self.body(term.body), len(self.grid.shape)
                )
            out.append(total)
        batch = max(len(each) for each in out)
        return torch.stack([each.expand(batch, *each.shape[1:]) for each in out], 1)

    def body(self, body: sp.Expr) -> Tensor:
        """Values of an expression without unknowns, ``(batch or 1, *space)``."""
        tape = record([body], self.system.coordinates)
        value = tape([self.leaf(leaf) for leaf in tape.leaves], self.differentiate)[0]
        return value.expand(*torch.broadcast_shapes(value.shape, (1, *self.grid.shape)))

    def leaf(self, leaf: Leaf) -> Tensor:
        """A coordinate, a parameter, or a field or its derivative, ``(batch or 1, *space or ones)``."""
        ndim = len(self.grid.shape)
        if leaf.name in self.system.axes:
            return self.grid.points()[..., self.system.axes.index(leaf.name)][None].to(self.device)
        if leaf.name in self.system.parameters:
            return self.known[leaf.name].reshape(-1, *[1] * ndim)
        value = self.known[leaf.name].reshape(-1, *self.grid.shape)
        return self.differentiate(value, leaf.orders) if any(leaf.orders) else value

    def differentiate(self, value: Tensor, orders: tuple[int, ...]) -> Tensor:
        """Derivative of a field by its full spectrum."""
        return from_spectrum(self.derivative(orders) * to_spectrum(value, len(orders)), self.grid.shape)


class SpectralSystem:
    """Right side ``A u + f + N(u)`` of a system on a grid, on the coefficients that dealiasing keeps.

    Attributes
    ----------
    matrix, source
        ``(batch or 1, m, m, *modes)`` and ``(batch or 1, m, *modes)`` or ``None``, double precision, full modes.
    truncation
        Modes that products are computed on.
    factor
        ``(batch or 1, m, *modes)`` where ``N = factor * products``, otherwise ``None``.
    """

    def __init__(self, system: System, grid: Box, known: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> None:
        self.system, self.grid, self.dtype = system, grid, dtype
        self.form = spectral_form(system)
        symbols = _Symbols(self.form, system, grid, known, device)
        self.matrix, self.source = symbols.matrix(), symbols.source()
        self.truncation = Truncation.for_degree(grid.shape, max(2, self.form.degree))
        self._pair = torch.complex64 if dtype == torch.float32 else torch.complex128
        self._symbols = symbols
        if self.form.bodies:
            self._prepare()

    @property
    def coupled(self) -> bool:
        """Whether the linear part joins different unknowns."""
        m = self.matrix.shape[1]
        return any(bool((self.matrix[:, i, j] != 0).any()) for i in range(m) for j in range(m) if i != j)

    def compact(self, full: Tensor) -> Tensor:
        """Part of full coefficients on which products act."""
        return self.truncation.gather(full)

    def _prepare(self) -> None:
        system, form, symbols = self.system, self.form, self._symbols
        self._tape = record(form.bodies, system.coordinates)
        # Leaves of the tape: a place among the fields that are computed each time, or a value.
        self._leaves: list[int | Tensor] = [
            form.leaves.index(leaf) if leaf in form.leaves else symbols.leaf(leaf).to(self.dtype) for leaf in self._tape.leaves
        ]
        table, offset = self._leaf_table()
        kept = self.compact(self.truncation.mask())
        self._into = _Passes(table, kept, self.dtype)
        self._offset = None if offset is None else offset.to(self._pair)
        names = [str(b) for b in range(len(form.bodies))]
        rows = [{names[b]: column[i] for b, column in enumerate(form.columns) if i in column} for i in range(len(system.state))]
        out = self.compact(symbols.table(rows, names))
        self._out = _Passes(out, kept, self.dtype)
        source = None if self.source is None else self.compact(self.source)
        self._source = None if source is None else source.to(self._pair)
        # Where each rate has one body of its own, and no forcing, what the body is multiplied with can join the coefficients of a step.
        one = out.shape[1] == out.shape[2] and not any(bool((out[:, i, j] != 0).any()) for i, j in permutations(range(out.shape[1]), 2))
        self.factor = None if source is not None or not one else torch.diagonal(out, dim1=1, dim2=2).movedim(-1, 1)
        if self.factor is not None and not bool((self.factor.imag != 0).any()):
            self.factor = self.factor.real.contiguous()

    def _leaf_table(self) -> tuple[Tensor, Tensor | None]:
        """How leaves come from the state: ``(batch or 1, leaves, m, *modes)``, and what forcing adds to auxiliary ones."""
        state, auxiliary = self.system.state, self.system.auxiliary
        solved = self._symbols.solved
        rows, offsets = [], []
        modes = self.matrix.shape[3:]
        for leaf in self.form.leaves:
            d = self._symbols.derivative(leaf.orders)
            if leaf.name in state:
                row = torch.zeros(1, len(state), *modes, dtype=torch.complex128, device=d.device)
                row[:, state.index(leaf.name)] = d
                offset = None
            else:
                assert solved is not None
                row = d * solved[0][:, auxiliary.index(leaf.name)]
                offset = None if solved[1] is None else d * solved[1][:, auxiliary.index(leaf.name)]
            rows.append(self.compact(row))
            offsets.append(self.compact(torch.zeros(1, *modes, dtype=torch.complex128, device=d.device) if offset is None else offset))
        batch, more = max(len(row) for row in rows), max(len(o) for o in offsets)
        table = torch.stack([row.expand(batch, *row.shape[1:]) for row in rows], 1)
        extra = torch.stack([o.expand(more, *o.shape[1:]) for o in offsets], 1)
        return table, extra if bool((extra != 0).any()) else None

    def _differentiate(self, value: Tensor, orders: tuple[int, ...]) -> Tensor:
        modes = self.matrix.shape[3:]
        multiplier = self.compact(self._symbols.derivative(orders).expand(modes)).to(self._pair)
        return self.truncation.to_field(self.truncation.to_modes(value) * multiplier)

    def tendency(self, u_hat: Tensor) -> Tensor:
        """``N(u) + f`` on compact coefficients ``(batch, m, *modes)``."""
        return self._out(self.products(u_hat), self._source)

    def products(self, u_hat: Tensor) -> Tensor:
        """Modes of the bodies ``(batch, bodies, *modes)``, without the factors and derivatives that stand before them."""
        fields = self.truncation.to_field(self._into(u_hat, self._offset)).unbind(1)
        values = self._tape([fields[leaf] if isinstance(leaf, int) else leaf for leaf in self._leaves], self._differentiate)
        bodies = values[0].unsqueeze(1) if len(values) == 1 else torch.stack(values, 1)
        return self.truncation.to_modes(bodies)


class _Passes:
    """Sparse matrix of multipliers ``(batch or 1, rows, columns, *modes)`` times ``(batch, columns, *modes)``, few elementwise products."""

    def __init__(self, table: Tensor, kept: Tensor, dtype: torch.dtype) -> None:
        pair = torch.complex64 if dtype == torch.float32 else torch.complex128
        rows, columns = table.shape[1:3]
        used = [[j for j in range(columns) if bool((table[:, i, j] != 0).any())] or [0] for i in range(rows)]
        self.real = not bool((table.imag != 0).any())
        self.steps: list[tuple[Callable[[Tensor], Tensor] | None, Tensor]] = []
        for k in range(max(len(each) for each in used)):
            index = [each[k] if k < len(each) else each[0] for each in used]
            factor = torch.stack([table[:, i, j] if k < len(used[i]) else torch.zeros_like(table[:, i, j]) for i, j in enumerate(index)], 1)
            same = index == list(range(columns)) or columns == 1  # one column broadcasts to every row
            place = None if same else _chooser(index, table.device)
            self.steps.append((place, _pairs(factor.real.to(dtype)) if self.real else factor.to(pair)))
        first = table[:, range(rows), [each[0] for each in used]]
        plain = len(self.steps) == 1 and rows == columns and self.steps[0][0] is None
        self.identity = plain and bool(((first == 1) | ~kept).all())  # states are 0 where they are not kept

    def __call__(self, u: Tensor, offset: Tensor | None) -> Tensor:
        if self.identity:
            return u if offset is None else u + offset
        if self.real:  # on (re, im) pairs, see numerics/stepping.py
            out = self._sum(torch.view_as_real(u), None if offset is None else torch.view_as_real(offset))
            return torch.view_as_complex(out)
        return self._sum(u, offset)

    def _sum(self, u: Tensor, offset: Tensor | None) -> Tensor:
        out = offset
        for place, factor in self.steps:
            chosen = u if place is None else place(u)
            out = chosen * factor if out is None else torch.addcmul(out, chosen, factor)
        assert out is not None
        return out


def _chooser(index: list[int], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Entries of axis 1, without a copy where they are neighbours."""
    if index == list(range(index[0], index[0] + len(index))):
        return lambda u: u.narrow(1, index[0], len(index))
    places = torch.tensor(index, device=device)
    return lambda u: u.index_select(1, places)


def _pairs(real: Tensor) -> Tensor:
    return real[..., None].expand(*real.shape, 2).contiguous()


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices in axes 1 and 2, mode by mode."""
    return (a[:, :, :, None] * b[:, None]).sum(2) if math.prod(a.shape) and math.prod(b.shape) else a[:, :, :1] * 0


def _never(value: Tensor, orders: tuple[int, ...]) -> Tensor:
    raise AssertionError("constants are not differentiated")
