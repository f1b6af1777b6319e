"""Equations as text against exponax 0.2.0 (JAX) with the same scheme, grid and step, and against our own Navier-Stokes."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from anygrid.equations.periodic import advance
from anygrid.equations.system import make_system
from anygrid.grid import Box, Periodic
from anygrid.numerics.random_fields import periodic_field
from anygrid.problems.navier_stokes import NavierStokes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    jax = pytest.importorskip("jax")
    jax.config.update("jax_platforms", "cpu")
    exponax = pytest.importorskip("exponax")

VORTICITY = ["w_t = -dot(perp(psi), grad(w)) + nu*lap(w) + f", "lap(psi) = -w"]


@pytest.fixture(autouse=True)
def _double():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def peer(stepper, a: torch.Tensor, steps: int) -> torch.Tensor:
    repeated = jax.jit(jax.vmap(exponax.RepeatedStepper(stepper, steps)))
    return torch.from_numpy(np.array(repeated(jax.numpy.asarray(a.numpy()))))


def relative(u: torch.Tensor, v: torch.Tensor) -> float:
    return float((u - v).norm() / v.norm())


def smooth(box: Box, seed: int) -> torch.Tensor:
    a = periodic_field(2, box, scale=1.0, shift=1.0, power=1.0, modes=4, generator=torch.Generator().manual_seed(seed))
    return (a / a.abs().amax(-1, keepdim=True))[:, None].double()


ONE_DIMENSION = {
    "burgers": (
        "u_t = -u*u_x + 0.02*u_xx",
        1.0,
        96,
        1e-3,
        lambda n, dt: exponax.stepper.Burgers(1, 1.0, n, dt, diffusivity=0.02, convection_scale=1.0, conservative=True, order=4),
    ),
    "kuramoto-sivashinsky": (
        "u_t = -u*u_x - u_xx - u_xxxx",
        22.0,
        48,
        0.05,
        lambda n, dt: exponax.stepper.KuramotoSivashinskyConservative(1, 22.0, n, dt, order=4),
    ),
}


@pytest.mark.parametrize("name", ONE_DIMENSION)
def test_one_dimension(name):
    text, length, n, dt, make = ONE_DIMENSION[name]
    box = Box.uniform({"x": Periodic(0, length)}, n)
    a = smooth(box, 0)
    solution = advance(make_system(text, ["x"]), box, a, {}, 100 * dt, dt=dt)
    assert relative(solution.u, a) > 0.05
    assert relative(solution.u, peer(make(n, dt), a, 100)) < 1e-8
    assert solution.steps == 100


def test_korteweg_de_vries_as_the_steps_of_the_peer_shrink():
    """The peer keeps only the real part of its step coefficients, which makes it first order where the linear part is imaginary.

    Its error therefore halves with its step, and two of its solutions together give the limit, which is ours.
    """
    length, n, time = 20.0, 48, 0.1
    box = Box.uniform({"x": Periodic(0, length)}, n)
    a = smooth(box, 0)
    u = advance(make_system("u_t = -6*u*u_x - u_xxx", ["x"]), box, a, {}, time, dt=time / 100).u

    def theirs(steps: int) -> torch.Tensor:
        make = exponax.stepper.KortewegDeVries
        options = {"convection_scale": 6.0, "dispersivity": 1.0, "diffusivity": 0.0, "hyper_diffusivity": 0.0}
        return peer(make(1, length, n, time / steps, conservative=True, order=4, **options), a, steps)

    coarse, middle, fine = (theirs(steps) for steps in (400, 800, 1600))
    assert relative(coarse, u) / relative(fine, u) == pytest.approx(4, rel=0.1)
    assert relative(fine, u) > 1e-6
    assert relative((coarse - 6 * middle + 8 * fine) / 3, u) < 1e-6  # no error of order 1 or 2 left


def test_vorticity_against_exponax():
    box = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 1)}, 48)
    problem = NavierStokes(modes=6)
    a = 3 * problem.sample(2, box, torch.Generator().manual_seed(2)).double()
    known = {"nu": torch.tensor(1e-3, dtype=torch.float64), "f": torch.zeros(48, 48, dtype=torch.float64)}
    system = make_system(VORTICITY, ["x", "y"], parameters=["nu"], fields=["f"])
    u = advance(system, box, a, known, 0.25, dt=0.01).u
    other = exponax.stepper.NavierStokesVorticity(2, 1.0, 48, 0.01, diffusivity=1e-3, order=4)
    assert relative(u, a) > 0.05
    assert relative(u, -peer(other, -a, 25)) < 1e-9  # exponax's w is minus the curl of its velocity


@pytest.mark.parametrize("n", [32, 45])
def test_forced_vorticity_against_the_problem_in_the_catalogue(n):
    problem = NavierStokes(modes=6, courant=0.2, dt=0.5)
    box = problem.grid(n)
    a = 2 * problem.sample(2, box, torch.Generator().manual_seed(3)).double()
    x, y = box.points().unbind(-1)
    phase = 2 * math.pi * (x + y)
    known = {"nu": torch.tensor(1e-3, dtype=torch.float64), "f": 0.1 * (phase.sin() + phase.cos())}
    system = make_system(VORTICITY, ["x", "y"], parameters=["nu"], fields=["f"])
    solution = advance(system, box, a, known, 0.5, tolerance=1e-6)
    assert relative(solution.u, problem.solve(a, box)) < 1e-6
