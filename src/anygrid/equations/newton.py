"""Newton's method for a discrete system, with derivatives of the solution by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anygrid.equations.discrete import Bound, Discrete
from anygrid.errors import AnygridError
from anygrid.numerics.sparse_lu import Factors, Pattern, solve

__all__ = ["Newton", "detached", "one_sample"]

_MOST, _HALVINGS = 50, 12


@dataclass(frozen=True, eq=False)
class _Linear:
    """A factorised matrix, its entries, the unknowns it is bordered for, and what brings its rows to one size."""

    factors: Factors
    entries: Tensor
    free: tuple[int, ...]
    scale: Tensor


class Newton:
    """Newton's method for the residual of a :class:`Discrete`, one sample at a time.

    Unknowns that the matrix leaves free up to a constant are bordered: the column of ones takes up an imbalance, and the row
    of quadrature weights asks for a mean of zero.
    """

    def __init__(self, discrete: Discrete, tolerance: float, where: str = "solve_steady") -> None:
        self.discrete, self.tolerance, self.where = discrete, tolerance, where
        box = discrete.box
        self.weights = (box.weights() / box.weights().sum()).reshape(-1)
        self.rows, self.cols = discrete.pattern.rows, discrete.pattern.cols
        self._bordered: dict[tuple[int, ...], tuple[Pattern, Tensor]] = {}
        self._taken = 0  # iterations of all starts of the sample at hand, failed ones included

    def __call__(self, start: Tensor | None, bound: Bound) -> tuple[Tensor, float, int]:
        """Solution ``(1, unknown, *space)`` differentiable in ``bound``, relative size of the last correction, iterations.

        Starts from ``start``, and where that fails (or without it) from zero, then from one; iterations that failed are counted.
        """
        fixed = detached(bound)
        failures = []
        self._taken = 0
        for guess in (0.0, 1.0) if start is None else (start, 0.0, 1.0):
            u = torch.zeros((1, *self.discrete.fixed.shape), dtype=torch.float64, device=bound.values.device) + guess
            try:
                with torch.no_grad():
                    u, system = self._iterate(u, fixed)
            except AnygridError as error:
                if self.discrete.linear:
                    raise
                failures.append(error)
                continue
            u, size = self._polished(u, bound, system)
            return u, size, self._taken
        raise failures[-2]

    def linearised(self, u: Tensor, bound: Bound) -> Callable[[Tensor], Tensor]:
        """Newton's step with the matrix at ``u`` for any residuals ``(batch, unknown, *space)``, differentiable in them."""
        system = self._factors(self.discrete.jacobian(u, bound))

        def step(residual: Tensor) -> Tensor:
            right = torch.cat([-residual.flatten(1), residual.new_zeros(len(residual), len(system.free))], dim=1)
            return solve(system.entries, right, system.factors)[:, : self.discrete.pattern.size].reshape(residual.shape)

        return step

    @property
    def undetermined(self) -> tuple[int, ...]:
        """Unknowns that any matrix so far left free up to a constant."""
        return tuple(sorted({j for free in self._bordered for j in free}))

    def _iterate(self, u: Tensor, bound: Bound) -> tuple[Tensor, _Linear]:
        size = 0.0
        for _ in range(_MOST):
            self._taken += 1
            residual = self.discrete.residual(u, bound)
            system = self._factors(self.discrete.jacobian(u, bound))
            step = self._correction(u, residual, system)
            if self.discrete.linear:
                return u + step, system
            norm = float((residual.reshape(-1) * system.scale).norm())
            damping = 1.0
            for _ in range(_HALVINGS):
                after = self.discrete.residual(u + damping * step, bound).reshape(-1)
                if float((after * system.scale).norm()) <= (1 - 1e-4 * damping) * norm or norm == 0.0:
                    break
                damping *= 0.5
            size = float(step.norm() / (u + step).norm().clamp(min=1e-300))
            u = u + damping * step
            # A full step that small is followed by one of its square; near rounding the line search can no longer see a decrease.
            if (damping == 1.0 and size <= self.tolerance) or size <= 1e-13:
                return u, system
            if not bool(torch.isfinite(u).all()):
                break
        hint = "perhaps there is no solution for these data; try smaller ones, or add a time derivative and advance to the steady state"
        raise AnygridError(self.where, f"Newton's method to converge in {_MOST} steps", f"a relative correction of {size:.3g}", hint)

    def _correction(self, u: Tensor, residual: Tensor, system: _Linear) -> Tensor:
        """Newton step; unknowns that are free up to a constant get a mean of zero."""
        zero = residual.new_zeros(1, len(system.free))
        step = system.factors.apply(torch.cat([-residual.reshape(1, -1), zero], dim=1))
        self._balanced(step[0, self.discrete.pattern.size :], residual, system.free)
        step = step[:, : self.discrete.pattern.size].reshape(u.shape)
        for j in system.free:
            step[:, j] -= (self.weights.to(u) * u[0, j].reshape(-1)).sum()
        return step

    def _polished(self, u: Tensor, bound: Bound, system: _Linear) -> tuple[Tensor, float]:
        """One more correction, through which derivatives by the known values flow; ``u`` counts as a constant.

        With ``R(u, known) = 0`` the correction is ``-J^-1 R(u, known)``, whose derivative by ``known`` is that of the solution.
        """
        u = u.detach()
        residual = self.discrete.residual(u, bound)
        if residual.requires_grad and not self.discrete.linear:
            with torch.no_grad():
                system = self._factors(self.discrete.jacobian(u, detached(bound)))
        right = torch.cat([-residual.reshape(1, -1), residual.new_zeros(1, len(system.free))], dim=1)
        step = solve(system.entries, right, system.factors)[:, : self.discrete.pattern.size].reshape(u.shape)
        return u + step, float(step.detach().norm() / u.norm().clamp(min=1e-12))

    def _factors(self, values: Tensor) -> _Linear:
        """Factors of the matrix, bordered for each unknown whose constants it maps to zero."""
        count, n = len(self.discrete.unknowns), self.discrete.box.size
        free = tuple(j for j in range(count) if not bool(self.discrete.fixed[j].any()) and self._annihilates(values[0], j))
        if free not in self._bordered:
            rows, cols, extra = [self.rows], [self.cols], [self.weights[:0]]
            for i, j in enumerate(free):
                block, last = np.arange(j * n, (j + 1) * n), np.full(n, count * n + i)
                rows += [block, last]
                cols += [last, block]
                extra += [torch.ones_like(self.weights), self.weights]
            self._bordered[free] = Pattern(np.concatenate(rows), np.concatenate(cols), count * n + len(free)), torch.cat(extra)
        pattern, border = self._bordered[free]
        entries = torch.cat([values, border.to(values)[None]], dim=1)
        largest = torch.zeros(count * n, dtype=values.dtype, device=values.device)
        largest.scatter_reduce_(0, torch.from_numpy(self.rows).to(values.device), values[0].abs(), "amax")
        return _Linear(pattern.factorize(entries, self.where), entries, free, 1 / largest.clamp(min=1e-300))

    def _annihilates(self, values: Tensor, j: int) -> bool:
        n = self.discrete.box.size
        entries = values.detach().cpu().numpy()
        mine = (self.cols >= j * n) & (self.cols < (j + 1) * n)
        size = self.discrete.pattern.size
        total = np.bincount(self.rows[mine], weights=entries[mine], minlength=size)
        absolute = np.bincount(self.rows[mine], weights=np.abs(entries[mine]), minlength=size)
        return bool(np.abs(total).max() <= 1e-10 * max(absolute.max(), 1e-300))

    def _balanced(self, imbalances: Tensor, residual: Tensor, free: tuple[int, ...]) -> None:
        """Refuse data whose imbalance is more than an error of the grid."""
        spacing = max(1 / axis.size for axis in self.discrete.box.axes)
        size = float(residual.square().mean().sqrt())
        for j, imbalance in zip(free, imbalances.abs().tolist(), strict=True):
            if imbalance > min(0.1, 10 * spacing**2) * size + 1e-12:
                name = self.discrete.unknowns[j]
                hint = (
                    f"subtract the mean from the right side, match it to the fluxes at the boundary, or give {name!r} a value on one side"
                )
                expected = f"data that balance, since only derivatives of {name!r} occur"
                raise AnygridError(self.where, expected, f"an imbalance of {imbalance:.3g}", hint)


def detached(bound: Bound) -> Bound:
    """Known values as constants."""
    arguments = {key: value.detach() for key, value in bound.arguments.items()}
    return Bound(arguments, {c: value.detach() for c, value in bound.data.items()}, bound.values.detach())


def one_sample(bound: Bound, k: int) -> Bound:
    """Known values of sample ``k``, those shared by all samples as they are."""

    def one(value: Tensor) -> Tensor:
        return value[k : k + 1] if len(value) > 1 else value

    arguments = {key: one(value) for key, value in bound.arguments.items()}
    return Bound(arguments, {c: one(value) for c, value in bound.data.items()}, one(bound.values))
