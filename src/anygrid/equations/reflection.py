r"""Bounded problems that are periodic ones on twice the interval, by reflection.

An unknown that vanishes at both ends is continued as an odd function, one with zero normal derivative as an even one. If the
equations turn into themselves under :math:`x \to -x` with these signs, the continued solution solves them on the periodic interval
of twice the length: sine and cosine series, with every product in its place. Burgers' equation with ``u = 0`` is of this kind, and
any reaction with ``u_n = 0``; ``u**2`` or a constant forcing with ``u = 0`` is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import sympy as sp
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.boundary import Boundary, derivative_orders
from anygrid.equations.system import System
from anygrid.grid import Box, Periodic

__all__ = ["Reflection", "find_reflection"]

Undefined = sp.core.function.AppliedUndef
_ODD = (sp.sin, sp.tan, sp.sinh, sp.tanh, sp.sign)
_EVEN = (sp.cos, sp.cosh, sp.Abs)


@dataclass(frozen=True)
class Reflection:
    """Signs of the unknowns of the state under reflection along each bounded axis of a box."""

    box: Box
    signs: Mapping[str, tuple[int, ...]]

    @property
    def doubled(self) -> Box:
        """The periodic box, whose first points along each axis are those of the bounded one."""
        axes = []
        for axis in self.box.axes:
            if axis.name in self.signs:
                low, length = axis.interval.lower, axis.interval.length
                axis = replace(axis, interval=Periodic(low, low + 2 * length), size=2 * (axis.size - 1))
            axes.append(axis)
        return Box(tuple(axes))

    def continued(self, state: Float[Tensor, "batch unknown *space"]) -> Tensor:
        """State on the doubled box; odd unknowns lose what they have at the ends."""
        for dim, name in enumerate(self.box.dims, start=2):
            if name not in self.signs:
                continue
            shape = [1] * state.ndim
            shape[1] = -1
            sign = torch.tensor(self.signs[name], dtype=state.dtype, device=state.device).reshape(shape)
            n = state.shape[dim]
            inside = state.narrow(dim, 1, n - 2)
            ends = [state.narrow(dim, k, 1) * (sign > 0) for k in (0, n - 1)]
            state = torch.cat([ends[0], inside, ends[1], sign * inside.flip(dim)], dim=dim)
        return state

    def restricted(self, state: Tensor) -> Float[Tensor, "batch unknown *space"]:
        """State on the bounded box, zero at the ends where it is odd."""
        for dim, axis in enumerate(self.box.axes, start=2):
            if axis.name in self.signs:
                state = state.narrow(dim, 0, axis.size)
        keep = torch.ones((len(state[0]), *self.box.shape), dtype=torch.bool)
        for k, name in enumerate(self.box.dims):
            for j, sign in enumerate(self.signs.get(name, ())):
                if sign < 0:
                    keep[j].narrow(k, 0, 1).fill_(False)
                    keep[j].narrow(k, self.box.shape[k] - 1, 1).fill_(False)
        return torch.where(keep.to(state.device), state, 0.0)


@lru_cache(maxsize=64)
def find_reflection(system: System, boundary: Boundary, box: Box) -> Reflection | None:
    """The reflection under which an evolution turns into itself, if there is one and its stiff part is linear.

    There is none for equations with known fields or explicit coordinates, or inhomogeneous or mixed conditions. Where finite differences
    could do it too, terms with second derivatives must be linear with constant coefficients, or of lower order than one that is.
    """
    expressions = (*system.rates, *system.constraints)
    if system.fields or any(_explicit(e) & set(system.coordinates) for e in expressions):
        return None
    bounded = [axis.name for axis in box.axes if not axis.periodic]
    # Beyond second derivatives nothing else is there, however short the steps must be.
    possible = all(order <= 2 for axis in bounded for order in derivative_orders(system, axis).values())
    if possible and not all(_mild(e) for e in expressions):
        return None
    unknowns = (*system.state, *system.auxiliary)
    signs: dict[str, tuple[int, ...]] = {}
    for axis in box.axes:
        if axis.periodic:
            continue
        if axis.placement != "vertices" or axis.size < 4:
            return None
        found = _signs(system, boundary, axis.name, unknowns, expressions)
        if found is None:
            return None
        signs[axis.name] = found[: len(system.state)]
    return Reflection(box, signs)


def _explicit(e: sp.Basic) -> set[sp.Basic]:
    """Symbols that stand for themselves, not as arguments of unknowns or axes of derivatives."""
    if isinstance(e, Undefined):
        return set()
    if isinstance(e, sp.Derivative):
        return _explicit(e.expr)
    return {e} if e.is_Symbol else set().union(*[_explicit(part) for part in e.args])


def _mild(e: sp.Expr) -> bool:
    """Whether the highest derivatives are linear with constant coefficients, so that no term of second order limits the steps."""
    linear, other = 0, 0
    for term in sp.Add.make_args(sp.expand(e)):
        order = max([_order(part) for part in term.atoms(sp.Derivative)], default=0)
        rest = term.as_independent(*term.atoms(Undefined), as_Add=False)[1]
        if isinstance(rest, sp.Derivative) and isinstance(rest.expr, Undefined):
            linear = max(linear, order)
        else:
            other = max(other, order)
    return other < 2 or other < linear


def _order(e: sp.Derivative) -> int:
    inner = max([_order(part) for part in e.expr.atoms(sp.Derivative)], default=0)
    return inner + sum(int(count) for _, count in e.variable_count)


def _signs(
    system: System, boundary: Boundary, axis: str, unknowns: Sequence[str], expressions: Sequence[sp.Expr]
) -> tuple[int, ...] | None:
    """Sign of each unknown under reflection of ``axis`` that its conditions ask for and all equations allow."""
    choices: list[tuple[int, ...]] = []
    for name in unknowns:
        lower, upper = boundary.both(name, axis)
        if lower is None and upper is None:
            choices.append((1, -1))
        elif lower is None or upper is None or lower.kind != upper.kind or not (lower.homogeneous and upper.homogeneous):
            return None
        else:
            choices.append((1,) if lower.kind == "normal" else (-1,))
    symbol = sp.Symbol(axis, real=True)
    for signs in itertools.product(*choices):
        known = dict(zip(unknowns, signs, strict=True))
        wanted = [known[name] for name in system.state]
        parities = [_parity(e, symbol, known) for e in expressions]
        rates = parities[: len(wanted)]
        if None not in parities and all(p in (0, w) for p, w in zip(rates, wanted, strict=True)):
            return signs
    return None


def _parity(e: sp.Basic, axis: sp.Symbol, known: Mapping[str, int]) -> int | None:
    """Sign of an expression under reflection: 1, -1, 0 for zero, ``None`` where it has neither."""
    if e == 0:
        return 0
    if isinstance(e, Undefined):
        return known[str(e.func)]
    if e.is_Symbol or e.is_number:
        return 1
    if isinstance(e, sp.Derivative):
        inner = _parity(e.expr, axis, known)
        count = sum(int(count) for symbol, count in e.variable_count if symbol == axis)
        return None if inner is None else inner * (-1) ** count
    parts = [_parity(part, axis, known) for part in e.args]
    if any(part is None for part in parts):
        return None
    signs = [part for part in parts if part]
    if e.is_Add:
        return signs[0] if len(set(signs)) == 1 else None
    if e.is_Mul:
        return int(sp.prod(signs))
    if e.is_Pow and e.exp.is_Integer:
        return 1 if signs[0] == 1 or e.exp % 2 == 0 else -1
    if signs and signs[0] == -1:
        return -1 if isinstance(e, _ODD) else (1 if isinstance(e, _EVEN) else None)
    return 1
