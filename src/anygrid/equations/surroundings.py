"""What a conservation law needs beside its state: known quantities on the grid, and what lies beyond the ends of its axes."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp
import torch
from torch import Tensor

from anygrid.equations.boundary import Boundary, Condition, Side
from anygrid.equations.fluxes import ConservationLaw
from anygrid.equations.tape import Leaf, Tape, record
from anygrid.errors import UsageError
from anygrid.grid import Box
from anygrid.numerics.conservation_laws import End, Ends
from anygrid.numerics.differentiation import differentiate

__all__ = ["known_values", "run", "surroundings"]


def surroundings(law: ConservationLaw, grid: Box, boundary: Boundary, known: Mapping[str, Tensor], like: Tensor) -> tuple[Ends, ...]:
    """What lies beyond the two ends of each axis, ``None`` for a periodic one.

    Raises
    ------
    UsageError
        For a gradient that is given and not zero.
    """
    return tuple(
        None if axis.periodic else (_end(law, grid, k, "lower", boundary, known, like), _end(law, grid, k, "upper", boundary, known, like))
        for k, axis in enumerate(grid.axes)
    )


def run(tape: Tape, u: Tensor, names: tuple[str, ...], extra: Mapping[Leaf, Tensor]) -> Tensor:
    """Values of a tape at states ``(batch, unknown, *space)``, in the same layout."""
    leaves = [extra[leaf] if leaf in extra else u[:, names.index(leaf.name)] for leaf in tape.leaves]
    return torch.stack([value.to(u).expand(u[:, 0].shape) for value in tape(leaves, _no_derivative)], 1)


def _no_derivative(value: Tensor, orders: tuple[int, ...]) -> Tensor:
    raise UsageError("Equation.solve", "fluxes and sources without derivatives of composites", f"orders {orders}")


def known_values(leaf: Leaf, law: ConservationLaw, grid: Box, known: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """A coordinate, parameter, field or derivative of a field, in a shape that broadcasts against ``(batch, *space)``."""
    if leaf.name in grid.dims:
        k = grid.dims.index(leaf.name)
        return torch.from_numpy(grid.axes[k].coordinates()).to(like).reshape(1, *(-1 if i == k else 1 for i in range(grid.ndim)))
    value = known[leaf.name].to(like)
    if leaf.name not in law.fields:
        return value.reshape(-1, *[1] * grid.ndim)
    value = value.reshape(-1, *grid.shape)
    for k, order in enumerate(leaf.orders):
        if order:
            value = differentiate(value[:, None], grid, k, order)[:, 0]
    return value


def _end(law: ConservationLaw, grid: Box, k: int, side: Side, boundary: Boundary, known: Mapping[str, Tensor], state: Tensor) -> End:
    """What lies beyond one side: a wall, or values and zero gradients."""
    axis = grid.axes[k]
    conditions = [boundary.get(name, axis.name, side) for name in law.state]
    for condition in conditions:
        if condition is not None and condition.kind == "normal" and not condition.homogeneous:
            hint = f"write {condition.unknown}_n = 0, or the value that flows in"
            raise UsageError(
                f"boundary, {side} side of {axis.name}", "a value or a zero gradient in a conservation law", str(condition), hint
            )
    fixed = [c is not None and c.kind == "value" for c in conditions]
    if any(fixed) and all(c is None or c.homogeneous for c in conditions):
        signs = tuple(-1 if held else 1 for held in fixed)
        if _reflects(law.flux[k], law, signs):
            return End(signs=signs, on_point=axis.placement == "vertices")
    return End(
        given=tuple(_given(c, law, grid, k, side, known, state) if held else None for c, held in zip(conditions, fixed, strict=True))
    )


def _given(
    condition: Condition | None, law: ConservationLaw, grid: Box, k: int, side: Side, known: Mapping[str, Tensor], state: Tensor
) -> Tensor:
    assert condition is not None
    tape = record((condition.value,), [sp.Symbol(name, real=True) for name in grid.dims])
    leaves = [known_values(leaf, law, grid, known, state) for leaf in tape.leaves]
    value = tape(leaves, _no_derivative)[0].to(state)
    value = value.reshape(*[1] * (grid.ndim + 1 - value.ndim), *value.shape)
    return value if value.shape[k + 1] == 1 else value.narrow(k + 1, 0 if side == "lower" else value.shape[k + 1] - 1, 1)


def _reflects(flux: Tape, law: ConservationLaw, signs: tuple[int, ...]) -> bool:
    """Whether the mirror image of a solution is a solution, ``F(S u) = -S F(u)``, tried at random states."""
    generator = torch.Generator().manual_seed(0)
    mirror = torch.tensor(signs, dtype=torch.float64)[:, None]
    u = 0.5 + torch.rand(1, len(signs), 16, dtype=torch.float64, generator=generator)
    extra = {leaf: 0.5 + torch.rand(1, 16, dtype=torch.float64, generator=generator) for leaf in flux.leaves if leaf.name not in law.state}
    there, here = run(flux, u * mirror, law.state, extra), run(flux, u, law.state, extra)
    return bool(torch.allclose(there, -mirror * here, rtol=1e-9, atol=1e-9))
