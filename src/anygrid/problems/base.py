"""What every problem states: its variables, its grids, its sampler, its solver, its residual and its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.solution import Scheme, Solution
from anygrid.errors import UsageError
from anygrid.fields import Variable
from anygrid.grid import Grid

__all__ = ["Card", "Problem", "Wall", "check_tolerance"]


@dataclass(frozen=True)
class Card:
    """Facts about a problem that a user reads before using it (``anygrid problems NAME``)."""

    title: str
    equation: str
    boundary: str
    sampler: str
    solver: str
    order: str
    cost: str
    source: str


@dataclass(frozen=True)
class Wall:
    """Side of a bounded axis on which an output has a constant value (Dirichlet)."""

    output: str
    axis: str
    side: Literal["lower", "upper"]
    value: float = 0.0


class Problem(ABC):
    """A parametrised equation with its own solver. Concrete problems are final frozen dataclasses of physical parameters.

    ``solve`` is a :class:`~anygrid.maps.Map`. A steady problem maps its coefficients to the solution; an evolution maps a
    state to the state ``dt`` later, and ``dt`` is then a field of the dataclass (``None`` marks a steady problem).
    """

    card: ClassVar[Card]
    inputs: ClassVar[tuple[Variable, ...]]
    outputs: ClassVar[tuple[Variable, ...]]
    dt: float | None = None
    steps: int = 1  # output steps of one published trajectory; 1 for a steady problem or a single map

    @property
    def time_unit(self) -> str:
        """Unit of ``dt``; ``"1"`` where time has none."""
        return "1"

    @property
    def walls(self) -> tuple[Wall, ...]:
        """Sides on which every solution has a constant value; none by default."""
        return ()

    @property
    def conserved(self) -> tuple[str, ...]:
        """Outputs whose mean over the domain is that of the input of the same name, in every solution; none by default."""
        return ()

    @abstractmethod
    def grid(self, resolution: int | tuple[int, ...]) -> Grid:
        """Grid of the problem's domain with ``resolution`` points along each axis."""

    @abstractmethod
    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch inputs *space"]:
        """Draw ``n`` input functions; the state of ``generator`` alone decides them, never the grid."""

    @abstractmethod
    def solve(self, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Float[Tensor, "batch outputs *space"]:
        """Solve the equation for each input function."""

    @abstractmethod
    def residual(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        """Left side minus right side of the discrete equation; zero to its order on the solver's own solution."""

    def correction(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid
    ) -> Float[Tensor, "batch outputs *space"]:
        r"""Estimate of ``truth - u``: the residual brought to the size of an error.

        .. math:: \delta = -A_0^{-1} r(a, u) \quad\text{(steady)}, \qquad \delta = -\Delta t \; r(a, u) \quad\text{(evolution)}

        with the equation linearised about a reference, the same for all samples. Its relative norm is an estimate of the relative error;
        it is 0 where the residual is, and differentiable in ``u``. The plain residual is no measure of the error: differentiated
        twice, an error of wave number ``k`` counts ``k**2`` times, so that the smallest scales are all that is seen.

        Raises
        ------
        UsageError
            For a problem that has none.
        """
        name = type(self).__name__
        raise UsageError(f"{name}.correction", "a problem that can estimate an error from its residual", "one that cannot", "train on data")

    def refine(
        self, a: Float[Tensor, "batch inputs *space"], u: Float[Tensor, "batch outputs *space"], grid: Grid, tolerance: float
    ) -> Solution:
        """The solver's solution for ``a``, to the solver's ``tolerance``, from the guess ``u``, which decides the cost, never the result.

        What a guess can save depends on the solver. Iterations for a steady problem (conjugate gradients, Newton's method) start
        from it. A direct solver has no use for it, nor has one that marches in time: a small residual over a whole ``dt`` shows that
        ``u`` satisfies an implicit scheme with that one step, of order 4 in ``dt``, not that the error is below the tolerance
        of a march in small ones. So the default solves, and says so; for the guesses of many steps there is
        :func:`anygrid.forecast.parareal`, which solves all steps at once.

        Returns
        -------
        Solution
            ``error`` is the solver's own estimate, nan where it makes none (the default); ``iterations`` what each sample took.

        Raises
        ------
        UsageError
            For a tolerance outside (0, 1).
        AnygridError
            Whatever the solver raises.
        """
        check_tolerance(tolerance)
        scheme = Scheme(
            "the problem's own solver", "it is direct or marches in time: a guess of the result saves it nothing", self.card.order
        )
        unknown = torch.full((len(a),), torch.nan, dtype=torch.float64, device=a.device)
        return Solution(self.solve(a, grid), unknown, 1, scheme, (1,) * len(a))


def check_tolerance(tolerance: float) -> None:
    """Raise UsageError unless ``0 < tolerance < 1``."""
    if not 0 < tolerance < 1:
        raise UsageError("refine", "a tolerance between 0 and 1", str(tolerance), "for example 1e-6")
