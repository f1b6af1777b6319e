"""Well-known equations, a line of text each: coefficients, domains and times are usual ones, to be changed with ``Equation`` itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from anygrid.grid import Bounded, Periodic
from anygrid.problems.distributions import LogUniform, Quantity, RandomField, Uniform
from anygrid.problems.equation import EquationProblem
from anygrid.problems.from_text import Equation

__all__ = ["CATALOGUE", "TEXTS"]


TEXTS: dict[str, tuple[str, ...]] = {
    "heat": ("u_t = nu*lap(u)",),
    "heat-bounded": ("u_t = nu*lap(u)",),
    "advection-diffusion": ("u_t = -c*u_x + nu*u_xx",),
    "wave": ("u_tt = c**2*lap(u)",),
    "kdv": ("u_t = -6*u*u_x - u_xxx",),
    "allen-cahn": ("u_t = eps**2*lap(u) + u - u**3",),
    "cahn-hilliard": ("u_t = lap(u**3 - u - eps**2*lap(u))",),
    "gray-scott": ("u_t = Du*lap(u) - u*v**2 + F*(1 - u)", "v_t = Dv*lap(v) + u*v**2 - (F + k)*v"),
    "swift-hohenberg": ("u_t = r*u - u - 2*lap(u) - lap(lap(u)) + g*u**2 - u**3",),
    "fisher-kpp": ("u_t = D*u_xx + r*u*(1 - u)",),
    "ginzburg-landau": (
        "u_t = lap(u) - b*lap(v) + u - (u**2 + v**2)*(u - c*v)",
        "v_t = lap(v) + b*lap(u) + v - (u**2 + v**2)*(v + c*u)",
    ),
    "viscous-burgers": ("u_t = -u*u_x + nu*u_xx",),
    "inviscid-burgers": ("u_t = -u*u_x",),
    "shallow-water": (
        "h_t = -div(vec(hu, hv))",
        "hu_t = -div(vec(hu**2/h + 0.5*g*h**2, hu*hv/h))",
        "hv_t = -div(vec(hu*hv/h, hv**2/h + 0.5*g*h**2))",
    ),
    "kuramoto-sivashinsky-2d": ("u_t = -lap(u) - lap(lap(u)) - 0.5*dot(grad(u), grad(u))",),
    "kolmogorov": ("w_t = -dot(perp(psi), grad(w)) + lap(w)/Re - 4*cos(4*y) - 0.1*w", "lap(psi) = -w"),
    "poisson": ("-lap(u) = f",),
    "nonlinear-poisson": ("-lap(u) + k*u**3 = f",),
    "composite": ("-div(a*grad(u)) = 1",),
}
"""Equations of each, to be read without making the problem."""


def _heat() -> EquationProblem:
    return Equation(TEXTS["heat"], {"x": Periodic(), "y": Periodic()}, parameters={"nu": LogUniform(1e-3, 1e-2)}, dt=0.1, steps=10)


def _heat_bounded() -> EquationProblem:
    return Equation(TEXTS["heat-bounded"], {"x": Bounded(), "y": Bounded()}, parameters={"nu": 0.01}, boundary="u = 0", dt=0.1, steps=10)


def _advection_diffusion() -> EquationProblem:
    return Equation(TEXTS["advection-diffusion"], {"x": Periodic()}, parameters={"c": Uniform(0.5, 1.5), "nu": 1e-3}, dt=0.1, steps=10)


def _wave() -> EquationProblem:
    return Equation(TEXTS["wave"], {"x": Periodic(), "y": Periodic()}, parameters={"c": 1.0}, dt=0.05, steps=20)


def _kdv() -> EquationProblem:
    return Equation(TEXTS["kdv"], {"x": Periodic(0, 20)}, initial={"u": RandomField(length=2.0, std=0.5)}, dt=0.1, steps=20)


def _allen_cahn() -> EquationProblem:
    return Equation(TEXTS["allen-cahn"], {"x": Periodic(), "y": Periodic()}, parameters={"eps": 0.02}, dt=0.2, steps=20)


def _cahn_hilliard() -> EquationProblem:
    start = {"u": RandomField(length=0.1, std=0.3)}
    return Equation(TEXTS["cahn-hilliard"], {"x": Periodic(), "y": Periodic()}, parameters={"eps": 0.03}, initial=start, dt=2e-5, steps=50)


def _gray_scott() -> EquationProblem:
    known: dict[str, Quantity] = {"Du": 2e-5, "Dv": 1e-5, "F": Uniform(0.02, 0.06), "k": 0.055}
    start = {"u": RandomField(mean=0.6, std=0.1), "v": RandomField(mean=0.25, std=0.1)}
    return Equation(TEXTS["gray-scott"], {"x": Periodic(), "y": Periodic()}, parameters=known, initial=start, dt=5.0, steps=50)


def _swift_hohenberg() -> EquationProblem:
    length = 12 * math.pi
    start = {"u": RandomField(length=1.0, std=0.3)}
    domain = {"x": Periodic(0, length), "y": Periodic(0, length)}
    return Equation(TEXTS["swift-hohenberg"], domain, parameters={"r": 0.3, "g": 0.5}, initial=start, dt=0.5, steps=40)


def _fisher_kpp() -> EquationProblem:
    start = {"u": RandomField(length=2.0, mean=-1.5, positive=True)}
    return Equation(TEXTS["fisher-kpp"], {"x": Periodic(0, 50)}, parameters={"D": 1.0, "r": 1.0}, initial=start, dt=0.5, steps=10)


def _ginzburg_landau() -> EquationProblem:
    """Complex amplitude ``u + i v``."""
    start = {"u": RandomField(length=3.0, std=0.5), "v": RandomField(length=3.0, std=0.5)}
    domain = {"x": Periodic(0, 40), "y": Periodic(0, 40)}
    return Equation(TEXTS["ginzburg-landau"], domain, parameters={"b": 0.5, "c": -1.5}, initial=start, dt=0.25, steps=40)


def _viscous_burgers() -> EquationProblem:
    return Equation(TEXTS["viscous-burgers"], {"x": Periodic()}, parameters={"nu": LogUniform(3e-3, 3e-2)}, dt=0.1, steps=10)


def _inviscid_burgers() -> EquationProblem:
    start = {"u": RandomField(length=0.15, std=0.5)}
    return Equation(TEXTS["inviscid-burgers"], {"x": Periodic()}, initial=start, dt=0.05, steps=20)


def _shallow_water() -> EquationProblem:
    start: dict[str, Quantity] = {"h": RandomField(mean=0.0, std=0.1, positive=True), "hu": 0.0, "hv": 0.0}
    return Equation(TEXTS["shallow-water"], {"x": Periodic(), "y": Periodic()}, parameters={"g": 1.0}, initial=start, dt=0.05, steps=20)


def _kuramoto_sivashinsky_2d() -> EquationProblem:
    """Integral form, without its growing mean."""
    domain = {"x": Periodic(0, 30), "y": Periodic(0, 30)}
    return Equation(TEXTS["kuramoto-sivashinsky-2d"], domain, initial={"u": RandomField(length=2.0)}, dt=0.5, steps=20)


def _kolmogorov() -> EquationProblem:
    """Incompressible flow on the square of side 2 pi, driven by four waves of shear."""
    length = 2 * math.pi
    start = {"w": RandomField(length=0.5, std=2.0)}
    domain = {"x": Periodic(0, length), "y": Periodic(0, length)}
    return Equation(TEXTS["kolmogorov"], domain, state=["w"], parameters={"Re": 100.0}, initial=start, dt=0.25, steps=20)


def _poisson() -> EquationProblem:
    return Equation(TEXTS["poisson"], {"x": Bounded(), "y": Bounded()}, inputs={"f": RandomField()}, boundary="u = 0", unknown="u")


def _reaction_diffusion_steady() -> EquationProblem:
    return Equation(
        TEXTS["nonlinear-poisson"],
        {"x": Bounded(), "y": Bounded()},
        parameters={"k": 10.0},
        inputs={"f": RandomField(std=10.0)},
        boundary="u = 0",
        unknown="u",
    )


def _composite() -> EquationProblem:
    known = {"a": RandomField(low=3.0, high=12.0)}
    return Equation(TEXTS["composite"], {"x": Bounded(), "y": Bounded()}, inputs=known, boundary="u = 0", unknown="u")


CATALOGUE: dict[str, Callable[[], EquationProblem]] = {
    "heat": _heat,
    "heat-bounded": _heat_bounded,
    "advection-diffusion": _advection_diffusion,
    "wave": _wave,
    "kdv": _kdv,
    "allen-cahn": _allen_cahn,
    "cahn-hilliard": _cahn_hilliard,
    "gray-scott": _gray_scott,
    "swift-hohenberg": _swift_hohenberg,
    "fisher-kpp": _fisher_kpp,
    "ginzburg-landau": _ginzburg_landau,
    "viscous-burgers": _viscous_burgers,
    "inviscid-burgers": _inviscid_burgers,
    "shallow-water": _shallow_water,
    "kuramoto-sivashinsky-2d": _kuramoto_sivashinsky_2d,
    "kolmogorov": _kolmogorov,
    "poisson": _poisson,
    "nonlinear-poisson": _reaction_diffusion_steady,
    "composite": _composite,
}
"""Equations by the name the command line uses."""
