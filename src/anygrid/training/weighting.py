r"""How much each equation counts beside the data, step by step, so that nobody has to choose weights.

.. math:: L = D(\theta) + \sum_i w_i \, C_i(\theta), \qquad w_i \text{ held fixed within a step}

``D`` is the loss on data and ``C_i`` the estimated relative error that the equation of unknown ``i`` sees, both relative errors of the
same solution. A rule keeps what it must remember in one small tensor ``(row, constraint)``, which belongs to the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError

__all__ = ["AugmentedLagrangian", "Fixed", "GradientNorm", "PrimalDual", "Weighting"]

Values = Float[Tensor, " constraint"]
Memory = Float[Tensor, "row constraint"]
_MEAN = 0.98  # of the running mean that multipliers follow: about 50 steps


@dataclass(frozen=True)
class Weighting(ABC):
    """A rule for the weights of the constraints. Concrete rules are final and hold numbers only.

    Raises
    ------
    UsageError
        For a number below 0.
    """

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not 0 <= value < float("inf"):
                raise UsageError(f"{type(self).__name__}({entry.name}=...)", "a finite number of 0 or more", f"{value}")

    @abstractmethod
    def start(self, count: int) -> Memory:
        """Memory before the first step."""

    @abstractmethod
    def weights(self, memory: Memory, values: Values) -> Values:
        """Weights of the constraints, whose ``values`` these are."""

    @abstractmethod
    def update(self, memory: Memory, values: Values, step: int, slopes: Callable[[], tuple[float, Values]]) -> Memory:
        """Memory after a step; ``slopes`` gives the gradient norms of the data loss and of each constraint, at the price of passes."""


@dataclass(frozen=True)
class Fixed(Weighting):
    """The same weight throughout."""

    weight: float = 1.0

    def start(self, count: int) -> Memory:
        """Nothing to remember."""
        return torch.zeros(0, count)

    def weights(self, memory: Memory, values: Values) -> Values:
        """``w_i = weight``."""
        return torch.full_like(values, self.weight)

    def update(self, memory: Memory, values: Values, step: int, slopes: Callable[[], tuple[float, Values]]) -> Memory:
        """Nothing to remember."""
        return memory


@dataclass(frozen=True)
class AugmentedLagrangian(Weighting):
    r"""Minimise ``D`` subject to ``C_i = 0`` with a multiplier for each constraint.

    .. math:: w_i = \lambda_i + \mu C_i, \qquad \lambda_i \leftarrow \lambda_i + \mu \bar C_i \quad\text{every so many steps}

    the gradient of :math:`D + \lambda C + \mu C^2 / 2` with the running mean :math:`\bar C` in the place of a converged inner problem. The
    constraints are relative errors, so 1 is the natural size of both numbers. Source: Hestenes, J. Optim. Theory Appl. 4 (1969)
    303; multipliers on expectations over batches as in Basir and Senocak, J. Comput. Phys. 463 (2022) 111301.
    """

    penalty: float = 1.0
    multiplier: float = 1.0
    every: int = 50

    def start(self, count: int) -> Memory:
        """Multipliers, and means of the constraints."""
        return torch.stack([torch.full((count,), self.multiplier), torch.zeros(count)])

    def weights(self, memory: Memory, values: Values) -> Values:
        """``w_i = lambda_i + mu C_i``."""
        return memory[0].to(values) + self.penalty * values

    def update(self, memory: Memory, values: Values, step: int, slopes: Callable[[], tuple[float, Values]]) -> Memory:
        """Running means, and now and then the multipliers."""
        mean = values.to(memory) if step == 0 else _MEAN * memory[1] + (1 - _MEAN) * values.to(memory)
        due = step > 0 and step % max(1, int(self.every)) == 0
        return torch.stack([memory[0] + self.penalty * mean if due else memory[0], mean])


@dataclass(frozen=True)
class PrimalDual(Weighting):
    r"""The saddle point of :math:`D + \sum_i \lambda_i C_i` over weights and multipliers, which play against each other.

    .. math:: w_i = \lambda_i, \qquad \lambda_i \leftarrow \max(0, \lambda_i + \rho \, (2 C_i^{t} - C_i^{t-1}))

    Ascent by the extrapolated value, which damps the circling of plain ascent and descent. Source: past extragradient, Popov, Math.
    Notes 28 (1980) 845; Daskalakis et al., ICLR 2018, eq. 4.
    """

    rate: float = 0.01
    multiplier: float = 1.0

    def start(self, count: int) -> Memory:
        """Multipliers, and the constraints of the step before."""
        return torch.stack([torch.full((count,), self.multiplier), torch.zeros(count)])

    def weights(self, memory: Memory, values: Values) -> Values:
        """``w_i = lambda_i``."""
        return memory[0].to(values)

    def update(self, memory: Memory, values: Values, step: int, slopes: Callable[[], tuple[float, Values]]) -> Memory:
        """Ascent of the multipliers."""
        now = values.to(memory)
        before = now if step == 0 else memory[1]
        return torch.stack([(memory[0] + self.rate * (2 * now - before)).clamp(min=0), now])


@dataclass(frozen=True)
class GradientNorm(Weighting):
    r"""Weights that give every constraint the gradient norm of the data loss.

    .. math:: w_i \leftarrow (1 - \alpha) w_i + \alpha \, \frac{\|\nabla_\theta D\|}{\|\nabla_\theta C_i\|}

    every so many steps, at the price of one backward pass a term. Source: Wang, Teng and Perdikaris, SIAM J. Sci. Comput. 43 (2021)
    A3055, algorithm 1 with norms for maxima and means.
    """

    rate: float = 0.1
    every: int = 20

    def start(self, count: int) -> Memory:
        """Weights of 1."""
        return torch.ones(1, count)

    def weights(self, memory: Memory, values: Values) -> Values:
        """The weights."""
        return memory[0].to(values)

    def update(self, memory: Memory, values: Values, step: int, slopes: Callable[[], tuple[float, Values]]) -> Memory:
        """Now and then a part of the way to equal norms."""
        if step % max(1, int(self.every)):
            return memory
        data, constraints = slopes()
        return (1 - self.rate) * memory + self.rate * data / constraints.to(memory).clamp(min=1e-12)
