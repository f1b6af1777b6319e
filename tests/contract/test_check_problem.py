"""Every problem keeps the contract, and the check notices each way of breaking it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from anygrid.problems.base import Card, Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.check import check_problem
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.problems.shallow_water_sphere import ShallowWaterSphere

PROBLEMS = [
    (NavierStokes(), 64),
    (NavierStokes(viscosity=1e-4), (48, 63)),
    (NavierStokes(dt=0.01, scheme="published"), 32),
    (Burgers(dt=0.25), 128),
    (Burgers(scheme="cole-hopf"), 101),
    (Burgers(viscosity=0.01, dt=0.1), 256),
    (KuramotoSivashinsky(spin_up=20.0), 64),
    (ShallowWaterSphere(modes=4, dt=3600.0), 18),
    (KuramotoSivashinsky(length=40.0, dt=0.5, spin_up=10.0), 97),
    (Darcy(), 33),
    (Helmholtz(), 32),
]


@pytest.mark.parametrize(("problem", "resolution"), PROBLEMS, ids=lambda value: str(value)[:40])
def test_every_problem_keeps_the_contract(problem, resolution):
    check_problem(problem, resolution)


@dataclass(frozen=True)
class _Broken(Problem):
    """A Navier-Stokes problem with one promise broken, named by ``fault``."""

    fault: str = ""
    dt: float = 0.1

    good: ClassVar[NavierStokes] = NavierStokes(dt=0.1)
    inputs: ClassVar = good.inputs
    outputs: ClassVar = good.outputs
    steps: ClassVar[int] = 10

    @property
    def card(self) -> Card:
        return dataclasses.replace(self.good.card, cost=" ") if self.fault == "card" else self.good.card

    def grid(self, resolution):
        return self.good.grid(resolution)

    def sample(self, n, grid, generator):
        a = self.good.sample(n, grid, generator)
        if self.fault == "seed":
            return a + torch.rand(())
        if self.fault == "grid":
            return a * (1 + 1 / grid.shape[0])
        if self.fault == "generator":
            torch.rand(grid.shape, generator=generator)
        return a

    def solve(self, a, grid):
        if self.fault == "nan":
            a = torch.nan_to_num(a)
        u = self.good.solve(a, grid)
        if self.fault == "batch":
            u = u + 0.01 * a.mean(0, keepdim=True)
        if self.fault == "dtype":
            u = u.double()
        if self.fault == "input":
            a += 1
        return u

    def residual(self, a, u, grid):
        if self.fault == "residual":
            return u - a
        return self.good.residual(a, u, grid)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("card", "card says nothing about cost"),
        ("seed", "same seed differ"),
        ("grid", "different functions"),
        ("generator", "depends on the grid"),
        ("nan", "accepts NaN"),
        ("batch", "differs by"),
        ("dtype", "float64 for torch.float32"),
        ("input", "changes its input"),
        ("residual", "residual of its own solution"),
    ],
)
def test_each_broken_promise_is_named(fault, says):
    with pytest.raises(AssertionError, match=says):
        check_problem(_Broken(fault), 32)


def test_the_broken_problem_without_fault_passes():
    check_problem(_Broken(), 32)


def test_a_class_that_is_not_frozen_is_named():
    @dataclass
    class Thawed(Darcy.__mro__[1]):  # type: ignore[misc]
        speed: float = 1.0
        inputs: ClassVar = Darcy.inputs
        outputs: ClassVar = Darcy.outputs
        card: ClassVar = Darcy.card
        grid = sample = solve = residual = lambda self, *arguments: None

    with pytest.raises(AssertionError, match="not frozen"):
        check_problem(Thawed(), 8)
