"""Rows of the honest-speed table: the equations of the catalogue, the built-in problems, and equations on which an operator should win."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anygrid.grid import Bounded, Periodic
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.catalogue import CATALOGUE
from anygrid.problems.darcy import Darcy
from anygrid.problems.distributions import LogUniform, RandomField, Uniform
from anygrid.problems.equation import EquationProblem
from anygrid.problems.from_text import Equation
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.training import Flip, Shift, Symmetry, Transpose

__all__ = ["Row", "rows"]

Shape = int | tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One problem and how it is learned and judged.

    Attributes
    ----------
    resolution, store
        Grid on which training samples are solved, and the one that is kept, trained on and judged on.
    reference
        Grid of the truth.
    most
        Samples (trajectories of an evolution) at most; fewer where they take longer than the budget for data.
    steps
        Steps of a trajectory, in training and test; 1 for a map that is never iterated.
    test
        Test samples.
    stronger
        The same equation as text, whose solver with equal steps is cheaper at low accuracy than the built-in one.
    trained
        Name of a run of ``run.py`` whose operator is judged, where there is one, instead of one trained for this table.
    inverse
        Whether the cost of a gradient with respect to the input is measured too, as an inversion asks for it.
    """

    problem: Problem
    group: str
    resolution: Shape
    store: Shape
    reference: Shape
    most: int
    steps: int = 1
    test: int = 16
    augment: tuple[Symmetry, ...] = ()
    stronger: EquationProblem | None = None
    trained: str = ""
    inverse: bool = False


_SQUARE = (Flip("x"), Flip("y"), Transpose("x", "y"))


def _of_catalogue(name: str) -> Row:
    problem = CATALOGUE[name]()
    axes = len(problem.domain)
    ends = 0 if all(interval.periodic for interval in problem.intervals.values()) else 1
    shifts = tuple(Shift(axis) for axis, interval in problem.intervals.items() if interval.periodic and problem.homogeneous)
    size = {1: 256, 2: 64}[axes]
    finer = 2 if axes > 1 and problem.dt is not None else 4
    steps = 1 if problem.dt is None else 10 if axes == 1 else 8
    points = size + ends
    most = 600 if problem.dt is None else 128
    test = 16 if finer == 4 else 8
    return Row(problem, "catalogue", points, points, finer * size + ends, most, steps, test, shifts, inverse=name == "composite")


def _built_in() -> dict[str, Callable[[], Row]]:
    ring = Periodic(0, 22)
    flow = ["w_t = -dot(perp(psi), grad(w)) + 1e-3*lap(w) + 0.1*(sin(2*pi*(x+y)) + cos(2*pi*(x+y)))", "lap(psi) = -w"]
    return {
        "darcy": lambda: Row(Darcy(), "built-in", 169, 85, 337, 600, augment=_SQUARE, trained="darcy"),
        "helmholtz": lambda: Row(Helmholtz(), "built-in", 65, 65, 257, 600, augment=_SQUARE),
        "burgers": lambda: Row(
            Burgers(),
            "built-in",
            1024,
            1024,
            4096,
            1000,
            augment=(Shift("x"),),
            trained="burgers",
            stronger=Equation("u_t = -u*u_x + 0.1*u_xx", {"x": Periodic()}, dt=1.0),
        ),
        "navier-stokes": lambda: Row(
            NavierStokes(),
            "built-in",
            64,
            64,
            128,
            64,
            20,
            8,
            trained="navier_stokes",
            stronger=Equation(flow, {"x": Periodic(), "y": Periodic()}, state=["w"], dt=1.0),
        ),
        "kuramoto-sivashinsky": lambda: Row(
            KuramotoSivashinsky(),
            "built-in",
            128,
            128,
            256,
            24,
            50,
            8,
            (Shift("x"),),
            stronger=Equation("u_t = -u*u_x - u_xx - u_xxxx", {"x": ring}, dt=1.0),
        ),
    }


def _enzyme() -> Row:
    """Substrate ``s``, complex ``c``, enzyme ``e``: binding a thousand times faster than diffusion."""
    text = ["s_t = 0.05*s_xx - k*(e - c)*s + 0.2*k*c", "c_t = 0.001*c_xx + k*(e - c)*s - (0.2*k + 5)*c"]
    problem = Equation(
        text,
        {"x": Bounded()},
        parameters={"k": 1e4, "e": RandomField(length=0.2, std=0.3, positive=True)},
        initial={"s": RandomField(length=0.2, std=0.4, positive=True), "c": 0.0},
        boundary={"x": ("s = 1; c_n = 0", "s_n = 0; c_n = 0")},
        dt=0.2,
        steps=1,
        tolerance=1e-4,
    )
    return Row(problem, "stiff", 129, 129, 257, 600, test=8)


def _late_heat() -> Row:
    """Variable conductivity of a hundredfold range; one step to a late time, for which the solver factorises and refactorises."""
    problem = Equation(
        "u_t = div(a*grad(u)) + f",
        {"x": Bounded(), "y": Bounded()},
        parameters={"a": RandomField(length=0.15, mean=-2.5, std=1.0, positive=True), "f": 1.0},
        initial={"u": RandomField(length=0.2)},
        boundary="u = 0",
        dt=1.0,
        steps=1,
        tolerance=1e-4,
    )
    return Row(problem, "long time", 33, 33, 65, 500, test=8)


def _cubic_flux() -> Row:
    """Thin layers at a late time; a flux for which there is no closed form as for Burgers' equation."""
    problem = Equation(
        "u_t = -u**2*u_x + nu*u_xx",
        {"x": Periodic()},
        parameters={"nu": 4e-3},
        initial={"u": RandomField(length=0.2, std=0.7)},
        dt=1.0,
        steps=1,
        tolerance=1e-4,
    )
    return Row(problem, "long time", 256, 256, 1024, 1000, augment=(Shift("x"),))


def _late_allen_cahn() -> Row:
    problem = Equation(
        "u_t = eps**2*lap(u) + u - u**3", {"x": Periodic(), "y": Periodic()}, parameters={"eps": 0.03}, dt=10.0, steps=1, tolerance=1e-4
    )
    return Row(problem, "long time", 64, 64, 128, 500, augment=(Shift("x"), Shift("y"), *_SQUARE), test=8)


def _composite_3d() -> Row:
    problem = Equation(
        "-div(a*grad(u)) = 1",
        {"x": Bounded(), "y": Bounded(), "z": Bounded()},
        inputs={"a": RandomField(length=0.2, low=1.0, high=20.0)},
        boundary="u = 0",
        unknown="u",
    )
    return Row(problem, "3D, steady", 33, 17, 65, 400, test=8, augment=(Flip("x"), Flip("y"), Flip("z")), inverse=True)


def _nonlinear_composite() -> Row:
    problem = Equation(
        "-div(a*grad(u)) + 2000*u**3 = 10",
        {"x": Bounded(), "y": Bounded()},
        inputs={"a": RandomField(length=0.1, low=0.2, high=10.0)},
        boundary="u = 0",
        unknown="u",
    )
    return Row(problem, "steady, nonlinear", 65, 33, 129, 500, test=8, augment=_SQUARE, inverse=True)


def _transport() -> Row:
    """Three numbers in, a small field with boundary layers out."""
    problem = Equation(
        "-nu*lap(u) + c*u_x + d*u_y = 1",
        {"x": Bounded(), "y": Bounded()},
        inputs={"nu": LogUniform(0.01, 0.1), "c": Uniform(-1, 1), "d": Uniform(-1, 1)},
        boundary="u = 0",
        unknown="u",
    )
    return Row(problem, "many queries, small output", 129, 33, 257, 300, test=8)


def rows() -> dict[str, Callable[[], Row]]:
    """Every row by name, those made for an operator to win first."""
    made: dict[str, Callable[[], Row]] = {
        "enzyme": _enzyme,
        "late-heat": _late_heat,
        "nonlinear-composite": _nonlinear_composite,
        "cubic-flux": _cubic_flux,
        "transport": _transport,
        "composite-3d": _composite_3d,
        "late-allen-cahn": _late_allen_cahn,
    }
    listed: dict[str, Callable[[], Row]] = {name: (lambda name=name: _of_catalogue(name)) for name in CATALOGUE}  # type: ignore[misc]
    return {**made, **_built_in(), **listed}
