r"""A linearly implicit one-step method for stiff systems with constraints, :math:`M \dot u = f(u)` with a diagonal :math:`M`.

Rows of :math:`M` that are zero make their equations constraints (index 1): prescribed boundary values, elliptic unknowns.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import AnygridError
from anygrid.numerics.sparse_lu import Pattern, solve

__all__ = ["Rodasp"]

# Steinebach (1995), in the form of Hairer and Wanner's code RODAS (meth = 3): no product with the Jacobian is needed.
_GAMMA = 0.25
_A: tuple[tuple[float, ...], ...] = (
    (),
    (3.0,),
    (1.831036793486759, 0.4955183967433795),
    (2.304376582692669, -0.05249275245743001, -1.176798761832782),
    (-7.170454962423024, -4.741636671481785, -16.31002631330971, -1.062004044111401),
    (-7.170454962423024, -4.741636671481785, -16.31002631330971, -1.062004044111401, 1.0),
)
_C: tuple[tuple[float, ...], ...] = (
    (),
    (-12.0,),
    (-8.791795173947035, -2.207865586973518),
    (10.81793056857153, 6.780270611428266, 19.5348594464241),
    (34.19095006749676, 15.49671153725963, 54.7476087596413, 14.16005392148534),
    (34.62605830930532, 15.30084976114473, 56.99955578662667, 18.40807009793095, -5.714285714285717),
)
_WEIGHTS = tuple(torch.tensor(pair, dtype=torch.float64) for pair in zip(_A[1:], _C[1:], strict=True))
_MOST, _SMALLEST = 20_000, 1e-11
_GROWTH, _SHORT = 1e8, 1e-6  # so many times the first scale, in steps of this part of the duration or less, is blow-up
_SHARE = 0.02  # part of the tolerance that any one step may use, however short: an initial layer then costs few steps


class Rodasp:
    r"""RODASP: six stages, one factorisation a step, order 4 with an embedded error estimate of order 3.

    .. math::
        \left(\frac{M}{\gamma h} - f'(u)\right) U_i = f\Bigl(u + \sum_{j<i} a_{ij} U_j\Bigr) + M \sum_{j<i} \frac{c_{ij}}{h} U_j,
        \qquad u' = u + \sum_j a_{6j} U_j + U_6

    with the error estimate :math:`U_6`. L-stable and stiffly accurate, so that constraints hold to the order of the step; no loss of
    order for linear parabolic equations with boundary values that are constant in time. Every sample has its own steps: results do
    not depend on the batch.

    Parameters
    ----------
    tendency
        ``f`` of ``(batch, size)``.
    jacobian
        Entries ``(batch, entries)`` of its derivative at the places of ``pattern``.
    mass
        Diagonal of ``M``.
    groups
        Number of unknowns of equal size one after the other, whose errors are measured each by itself.

    Source: Steinebach, Order-reduction of ROW-methods for DAEs and method of lines applications, Preprint 1741, TH Darmstadt
    (1995); Hairer and Wanner, Solving Ordinary Differential Equations II (1996), sections IV.7 and VI.4.
    """

    order = 4

    def __init__(
        self,
        tendency: Callable[[Tensor], Tensor],
        jacobian: Callable[[Tensor], Tensor],
        pattern: Pattern,
        mass: Float[Tensor, " size"],
        groups: int,
        where: str,
        place: Callable[[int], str],
    ) -> None:
        self.tendency, self.jacobian, self.mass, self.groups, self.where, self.place = tendency, jacobian, mass, groups, where, place
        diagonal = np.arange(pattern.size)
        self.pattern = Pattern(np.concatenate([pattern.rows, diagonal]), np.concatenate([pattern.cols, diagonal]), pattern.size)

    def step(self, u: Float[Tensor, "batch size"], h: Float[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """State one step later and the estimate of its error. Differentiable."""
        over = 1 / h[:, None]
        entries = torch.cat([-self.jacobian(u), self.mass * over / _GAMMA], dim=1)
        factors = self.pattern.factorize(entries, self.where)
        at, inertia = u, self.mass * over
        stages = [solve(entries, self.tendency(u), factors)]
        for weights in _WEIGHTS:
            moved, carried = torch.tensordot(weights.to(u), torch.stack(stages), 1)
            at = u + moved
            stages.append(solve(entries, torch.addcmul(self.tendency(at), inertia, carried), factors))
        return at + stages[-1], stages[-1]

    def fixed(self, u: Tensor, duration: float, dt: float) -> tuple[Tensor, Tensor, int]:
        """State, summed relative error estimates and number of steps, by equal steps of at most ``dt``."""
        count = max(1, math.ceil(duration / dt - 1e-9))
        h = torch.full((len(u),), duration / count, dtype=u.dtype, device=u.device)
        total, good = torch.zeros_like(h), u.detach()
        for k in range(count):
            u, error = self.step(u, h)
            total = total + self._relative(error.detach(), u.detach())
            self._finite(u, good, total.new_full((len(u),), k * duration / count), torch.isfinite(u).all(1))
            good = u.detach()
        return u, total, count

    def adaptive(self, u: Tensor, duration: float, tolerance: float) -> tuple[Tensor, Tensor, int]:
        """State, summed relative error estimates (about ``tolerance`` at most) and the largest number of steps.

        A step may use the part of the tolerance that it is of the duration. Where derivatives are asked for, ``u`` is one sample.
        """
        with torch.no_grad():
            rate = self._size(self.mass * self.tendency(u))
            guess = 0.1 * tolerance**0.25 * (self._size(u) / rate.clamp(min=1e-300)).amin(1)
        h = guess.clamp(min=1e-7 * duration, max=duration).to(u)
        time, total = torch.zeros_like(h), torch.zeros_like(h)
        steps = torch.zeros(len(u), dtype=torch.int64)
        largest = _GROWTH * (1 + u.detach().abs().amax(1))
        for _ in range(_MOST):
            h = torch.minimum(h, (duration - time).clamp(min=_SMALLEST * duration))
            running = time < duration * (1 - 1e-12)
            if not bool(running.any()):
                return u, total, int(steps.max())
            after, estimate = self.step(u, h)
            error = self._relative(estimate.detach(), after.detach())
            allowed = tolerance * (h / duration).clamp(min=_SHARE)
            sound = torch.isfinite(after.detach()).all(1) & torch.isfinite(error)
            taken = running & sound & (error <= allowed)
            steps += taken.cpu()
            total = torch.where(taken, total + error, total)
            time = torch.where(taken, time + h, time)
            if bool(taken.all()):
                u = after
            elif bool(taken.any()):
                u = torch.where(taken[:, None], after, u)
            self._finite(u, u.detach(), time, ~running | (h > _SHORT * duration) | (u.detach().abs().amax(1) < largest))
            factor = torch.where(sound, 0.9 * (allowed / error.clamp(min=1e-300)) ** (1 / 3), 0.2).clamp(0.2, 5.0)
            h = torch.where(running, h * factor, h)
            self._finite(u, u.detach(), time, ~running | taken | (h > _SMALLEST * duration))
        raise AnygridError(self.where, f"at most {_MOST} time steps", "more", "ask for a larger tolerance or a shorter dt")

    def _size(self, u: Tensor) -> Tensor:
        return torch.linalg.vector_norm(u.reshape(len(u), self.groups, -1), dim=2)

    def _relative(self, error: Tensor, u: Tensor) -> Tensor:
        """Largest relative error of a group; one that is a thousand times smaller than the largest is held to the scale of that."""
        size = self._size(u)
        scale = torch.maximum(size, 1e-3 * size.amax(1, keepdim=True)).clamp(min=1e-30)
        return (self._size(error) / scale).amax(1)

    def _finite(self, u: Tensor, good: Tensor, time: Tensor, fine: Tensor) -> None:
        if bool(fine.all()):
            return
        row = int((~fine).nonzero()[0, 0])
        largest = int(good[row].abs().argmax())
        value, when = float(good[row, largest]), float(time[row])
        got = f"{value:.3g} at {self.place(largest)} in sample {row} at time {when:.6g}, growing without bound"
        raise AnygridError(self.where, "a solution that exists", got, "look at the signs and sizes of the terms, or shorten dt")
