"""Surrogates whose error is known: the solver of a problem, made wrong by a smooth field of a given relative size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anygrid.fields import Variable
from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate
from anygrid.problems.base import Problem
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate


class Near(nn.Module):
    """The exact solution times ``1 + error s``, ``s`` a field of size one that follows the solution."""

    def __init__(self, problem: Problem | None = None, error: float = 0.01) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.problem, self.error = problem, error
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, a: Tensor, grid: Grid, query: Grid | None = None) -> Tensor:
        assert self.problem is not None
        u = self.problem.solve(a.detach().double(), grid)
        shape = torch.sin(3 * u / u.flatten(2).abs().amax(-1)[(...,) + (None,) * (u.ndim - 2)])
        wrong = (u * (1 + self.error * shape)).float()
        return wrong if query is None or query == grid else interpolate(wrong, grid, query)


def near(problem: Problem, resolution: int, error: float = 0.01, dt: str | None = None, operator: nn.Module | None = None) -> Surrogate:
    """A surrogate of ``problem`` with that relative error, its scaling left out."""
    plain = [Moments(2, (0.0,) * n, (2.0,) * n, (-9.0,) * n, (9.0,) * n) for n in (len(problem.inputs), len(problem.outputs))]
    names: list[list[Variable]] = [list(problem.inputs), list(problem.outputs)]
    return Surrogate(
        Near(problem, error) if operator is None else operator,
        *names,
        Statistics(plain[0], plain[1], None),
        problem.grid(resolution),
        dt,
        problem=problem,
    )
