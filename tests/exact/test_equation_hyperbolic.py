"""Conservation laws from text against closed solutions: Riemann problems, waves, walls, conservation, and what must never happen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
import torch
from scipy.optimize import brentq

from anygrid.equations import hyperbolic
from anygrid.equations.boundary import Boundary, make_boundary
from anygrid.equations.fluxes import find_fluxes
from anygrid.equations.hyperbolic import advance
from anygrid.equations.solution import Solution
from anygrid.equations.system import System, make_system
from anygrid.errors import AnygridError, GridError, UsageError
from anygrid.grid import Axis, Bounded, Box, Periodic
from anygrid.numerics.conservation_laws import MUSCL, UPWIND

SHALLOW = ["h_t = -hu_x", "hu_t = -div(vec(hu**2/h + 0.5*g*h**2))"]
EULER = ["r_t = -m_x", "m_t = -div(vec(m**2/r + p))", "E_t = -div(vec((E + p)*m/r))", "p = 0.4*(E - 0.5*m**2/r)"]
CIRCLE = {"x": Periodic(0, 2 * math.pi)}


def burgers() -> System:
    return make_system("u_t = -u*u_x", ("x",))


def shallow() -> System:
    return make_system(SHALLOW, ("x",), parameters=("g",))


def cells(n: int, lower: float = -1.0, upper: float = 1.0) -> tuple[Box, torch.Tensor]:
    grid = Box.uniform({"x": Bounded(lower, upper)}, n, placement="cells")
    return grid, grid.points()[..., 0]


def jump(x: torch.Tensor, *pairs: tuple[float, float]) -> torch.Tensor:
    return torch.stack([torch.where(x < 0, left, right).double() for left, right in pairs])[None]


def mean_error(solution: Solution, exact: torch.Tensor) -> float:
    return float((solution.u[0] - exact).abs().mean())


# From text to fluxes


@pytest.mark.parametrize(
    ("equation", "flux", "source"),
    [
        ("u_t = -u*u_x", "u**2/2", "0"),
        ("u_t = -c*u_x + u", "c*u", "u"),
        ("u_t = -div(vec(u**2/(1 + u**2)))", "u**2/(1 + u**2)", "0"),
        ("u_t = -sin(x)*u_x", "sin(x)*u", "cos(x)*u"),
        ("u_t = -u_x/u", "log(u)", "0"),
        ("u_t = -cos(u)*u_x*x", "x*sin(u)", "sin(u)"),
    ],
)
def test_scalar_terms_become_a_flux_and_a_source(equation, flux, source):
    law = find_fluxes(make_system(equation, ("x",), parameters=("c",) if "c*" in equation else ()))
    names = {name: sp.Symbol(name, real=True) for name in ("u", "c", "x")}
    assert sp.simplify(law.expressions[0][0] - sp.sympify(flux, locals=names)) == 0
    assert (law.source is None) == (source == "0")
    if law.source:
        u, x = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
        values = {"u": u, "x": x}
        got = law.source([values[leaf.name] for leaf in law.source.leaves], lambda v, o: v)[0]
        assert float(got) == pytest.approx(float(sp.sympify(source, locals=names).subs({"u": 0.7, names["u"]: 0.7, names["x"]: 0.4})))


@pytest.mark.parametrize(
    "equations",
    [
        ["u_t = -u*u_x + 0.1*u_xx"],
        ["u_t = -u_x**2"],
        ["u_t = -u_xxx"],
        ["u_t = u - u**3"],
        ["r_t = -r*u_x - u*r_x", "u_t = -u*u_x - p_x/r", "p_t = -u*p_x - 1.4*p*u_x"],  # primitive form: no flux has these derivatives
        ["u_xx = 1"],
    ],
)
def test_other_equations_are_no_conservation_laws(equations):
    assert find_fluxes(make_system(equations, ("x",))) is None


def test_a_law_that_is_none_is_refused():
    grid, x = cells(16)
    with pytest.raises(UsageError, match="conservation law"):
        advance(make_system("u_t = u_xx", ("x",)), grid, jump(x, (1, 0)), {}, 0.1)


# Riemann problems


def test_a_shock_travels_at_the_mean_speed_and_the_error_is_of_first_order():
    errors = []
    for n in (40, 80):
        grid, x = cells(n)
        solution = advance(burgers(), grid, jump(x, (1, 0)), {}, 1.0)
        exact = torch.where(x < 0.5, 1.0, 0.0).double()
        errors.append(mean_error(solution, exact))
        true = float((solution.u[0, 0] - exact).norm() / exact.norm())
        assert 0.3 < float(solution.error) / true < 10  # of the size of the error, where solutions jump
        # Mass moves at (u^2/2 of the left) whatever the width of the shock: 0.5 in unit time.
        assert float(solution.u.sum()) * 2 / n == pytest.approx(1.5, abs=1e-4)
    assert errors[1] < 0.5 * 1.1 * errors[0]
    assert errors[1] < 0.3 * 2 / 80


def test_a_jump_upwards_opens_into_a_fan_and_not_into_a_shock():
    errors = []
    for n in (50, 100):
        grid, x = cells(n)
        solution = advance(burgers(), grid, jump(x, (-1, 1)), {}, 0.5)
        errors.append(mean_error(solution, (x / 0.5).clamp(-1, 1)))
    assert errors[1] < 0.55 * errors[0]
    assert errors[1] < 0.01


def test_a_flux_that_is_not_convex_gets_shock_and_fan_of_the_right_strength():
    """Buckley-Leverett, f = u^2 / (u^2 + (1 - u)^2 / 2): Welge's tangent gives a shock from u* = 1/sqrt(3), behind it f'(u) = x/t."""
    system = make_system("u_t = -div(vec(u**2/(u**2 + 0.5*(1 - u)**2)))", ("x",))
    assert find_fluxes(system).speeds[0].between  # both states of the jump have speed 0
    grid, x = cells(60)
    solution = advance(system, grid, jump(x, (1, 0)), {}, 0.4)
    u = np.linspace(1 / math.sqrt(3), 1, 2001)
    slope = u * (1 - u) / (u**2 + 0.5 * (1 - u) ** 2) ** 2
    fan = np.interp(x.numpy() / 0.4, slope[::-1], u[::-1])
    exact = torch.from_numpy(np.where(x.numpy() / 0.4 < slope[0], np.where(x.numpy() < 0, 1.0, fan), 0.0))
    assert mean_error(solution, exact) < 0.016


def gas(x: np.ndarray, t: float, left: tuple, right: tuple, gamma: float = 1.4) -> np.ndarray:
    """Exact density, velocity, pressure of a Riemann problem without vacuum (Toro 2009, section 4.3), written for this test alone."""

    def jump_of(p: float, state: tuple) -> float:
        r, _, q = state
        if p > q:
            return (p - q) * math.sqrt(2 / (gamma + 1) / r / (p + (gamma - 1) / (gamma + 1) * q))
        return 2 * math.sqrt(gamma * q / r) / (gamma - 1) * ((p / q) ** ((gamma - 1) / (2 * gamma)) - 1)

    p = brentq(lambda p: jump_of(p, left) + jump_of(p, right) + right[1] - left[1], 1e-8, 100)
    u = 0.5 * (left[1] + right[1]) + 0.5 * (jump_of(p, right) - jump_of(p, left))
    out = np.zeros((3, x.size))
    for sign, (r, v, q) in ((-1, left), (1, right)):
        s, c = sign * x / t, math.sqrt(gamma * q / r)  # seen from the contact outwards
        outward, middle = sign * v, sign * u
        mine = sign * (x / t - u) > 0
        if p > q:
            ratio = (gamma - 1) / (gamma + 1)
            density = r * (p / q + ratio) / (ratio * p / q + 1)
            speed = outward + c * math.sqrt((gamma + 1) / (2 * gamma) * p / q + (gamma - 1) / (2 * gamma))
            inner, outer = s < speed, s >= speed
            fan = np.zeros_like(inner)
        else:
            density = r * (p / q) ** (1 / gamma)
            tail, head = middle + math.sqrt(gamma * p / density), outward + c
            inner, outer, fan = s < tail, s >= head, (s >= tail) & (s < head)
        out[:, mine & inner] = np.array([[density], [u], [p]])
        out[:, mine & outer] = np.array([[r], [v], [q]])
        sound = 2 / (gamma + 1) * (c + 0.5 * (gamma - 1) * (s - outward))
        fanned = np.stack([r * (sound / c) ** (2 / (gamma - 1)), sign * (s - sound), q * (sound / c) ** (2 * gamma / (gamma - 1))])
        out[:, mine & fan] = fanned[:, mine & fan]
    return out


def test_the_shock_tube_of_sod():
    system = make_system(EULER, ("x",))
    errors = []
    for n in (40, 80):
        grid, x = cells(n, -0.5, 0.5)
        solution = advance(system, grid, jump(x, (1, 0.125), (0, 0), (2.5, 0.25)), {}, 0.2)
        r, v, p = gas(x.numpy(), 0.2, (1, 0, 1), (0.125, 0, 0.1))
        exact = torch.from_numpy(np.stack([r, r * v, p / 0.4 + 0.5 * r * v**2]))
        errors.append(mean_error(solution, exact))
        true = float((solution.u[0] - exact).norm() / exact.norm())
        assert 0.5 < float(solution.error) / true < 10
    assert errors[1] < 0.62 * errors[0]  # the contact has order 5/6 in L1, which holds the sum back
    assert errors[1] < 0.012
    assert r[50] == pytest.approx(0.42632, abs=1e-4)  # density between fan and contact, Toro table 4.3


def test_the_dam_break_of_stoker():
    g, left, right, t = 9.81, 1.0, 0.3, 0.1
    c0 = math.sqrt(g * left)

    def mismatch(h: float) -> float:  # the fan from the left against the shock into the right
        return 2 * (c0 - math.sqrt(g * h)) - (h - right) * math.sqrt(0.5 * g * (h + right) / (h * right))

    middle = brentq(mismatch, right, left)
    speed = 2 * (c0 - math.sqrt(g * middle))
    shock = middle * speed / (middle - right)
    errors = []
    for n in (50, 100):
        grid, x = cells(n)
        solution = advance(shallow(), grid, jump(x, (left, right), (0, 0)), {"g": torch.tensor(g)}, t)
        s = x / t
        fan = (2 * c0 - s).clamp(min=0) ** 2 / (9 * g)
        h = torch.where(s < -c0, left, torch.where(s < speed - math.sqrt(g * middle), fan, torch.where(s < shock, middle, right)))
        errors.append(float((solution.u[0, 0] - h).abs().mean()))
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] < 0.005


# Waves and walls


def test_a_coefficient_that_varies_bends_the_characteristics():
    grid = Box.uniform(CIRCLE, 96)
    x = grid.points()[..., 0]
    exact = torch.sin(2 * torch.atan(torch.tan(x / 2) * math.exp(-0.8)))
    system = make_system("u_t = -sin(x)*u_x", ("x",))
    assert float((advance(system, grid, torch.sin(x)[None, None], {}, 0.8).u[0, 0] - exact).abs().max()) < 1e-4
    field = make_system("u_t = -a*u_x", ("x",), fields=("a",))
    found = advance(field, grid, torch.sin(x)[None, None], {"a": torch.sin(x)}, 0.8)
    assert float((found.u[0, 0] - exact).abs().max()) < 1e-4


def test_speeds_found_by_numbers_carry_the_waves_of_a_system_without_closed_eigenvalues():
    system = make_system(["a_t = -a_x - 0.5*b_x - 0.2*c_x", "b_t = -0.5*a_x - 2*b_x - 0.3*c_x", "c_t = -0.2*a_x - 0.3*b_x + c_x"], ("x",))
    assert not find_fluxes(system).speeds[0].closed
    matrix = torch.tensor([[1, 0.5, 0.2], [0.5, 2, 0.3], [0.2, 0.3, -1]], dtype=torch.float64)
    speeds, vectors = torch.linalg.eigh(matrix)
    grid = Box.uniform(CIRCLE, 40)
    x = grid.points()[..., 0]
    start = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    exact = vectors @ ((vectors.T @ start)[:, None] * torch.sin(x - speeds[:, None] * 0.5))
    solution = advance(system, grid, (start[:, None] * torch.sin(x))[None], {}, 0.5)
    assert mean_error(solution, exact) < 1e-4
    assert mean_error(solution, exact) < float(solution.error)


@pytest.mark.parametrize("placement", ["cells", "vertices"])
def test_a_wall_is_the_mirror_image(placement):
    """Water between walls moves as half of the periodic canal that holds it and its image."""
    n = 16
    half = Box.uniform({"x": Bounded(0, 1)}, n if placement == "cells" else n + 1, placement=placement)
    whole = Box.uniform({"x": Periodic(0, 2)}, 2 * n, placement=placement)
    x = whole.points()[..., 0]
    state = torch.stack([1 + 0.3 * torch.cos(math.pi * x), 0.2 * torch.sin(math.pi * x)])[None]
    part = state[..., : half.shape[0]]
    known = {"g": torch.tensor(1.0)}
    walls = make_boundary("hu = 0", shallow(), {"x": Bounded(0, 1)})
    found = advance(shallow(), half, part, known, 0.4, boundary=walls).u
    assert torch.allclose(found, advance(shallow(), whole, state, known, 0.4).u[..., : half.shape[0]], atol=1e-12)
    mass = half.weights().to(part)
    assert float(((found - part)[:, 0] * mass).sum()) == pytest.approx(0, abs=1e-13)


def test_what_is_given_flows_in_and_leaves_at_the_other_end():
    system = make_system("u_t = -c*u_x", ("x",), parameters=("c",))
    grid, x = cells(24, 0, 1)
    ends = make_boundary({"x": ("u = 2*c", "")}, system, {"x": Bounded(0, 1)})
    speeds = torch.tensor([1.0, 0.7], dtype=torch.float64)
    start = torch.zeros(2, 1, 24, dtype=torch.float64)
    u = advance(system, grid, start, {"c": speeds}, 0.5, boundary=ends).u
    for sample, c in enumerate(speeds.tolist()):
        assert float((u[sample, 0] - torch.where(x < 0.5 * c, 2 * c, 0.0)).abs().mean()) < 0.04 * 2 * c
    full = advance(system, grid, u, {"c": speeds}, 2.5, boundary=ends).u
    assert torch.allclose(full, (2 * speeds)[:, None, None].expand_as(full), atol=1e-4)
    with pytest.raises(UsageError, match="zero gradient"):
        advance(system, grid, start, {"c": speeds}, 0.1, boundary=make_boundary("u_n = 1", system, {"x": Bounded(0, 1)}))


# What must always and what must never happen


def rough(batch: int, n: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(batch, 1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_sums_are_conserved_to_rounding():
    grid = Box.uniform({"x": Periodic(0, 1)}, 40)
    state = torch.cat([1 + rough(3, 40), rough(3, 40, 4) - 0.5], 1)
    solution = advance(shallow(), grid, state, {"g": torch.tensor([1.0, 2.0, 9.0])}, 0.3)
    assert solution.steps > 20
    assert float((solution.u.sum(-1) - state.sum(-1)).abs().max()) < 1e-12


@pytest.mark.parametrize("equation", ["u_t = -u*u_x", "u_t = -div(vec(u**2/(u**2 + 0.5*(1 - u)**2)))"])
@pytest.mark.parametrize("scheme", [MUSCL, UPWIND])
def test_limited_schemes_make_no_new_extrema_and_no_variation(monkeypatch, scheme, equation):
    monkeypatch.setattr(hyperbolic, "_LADDER", (scheme,))
    grid = Box.uniform({"x": Periodic(0, 1)}, 48)
    u, system = rough(2, 48), make_system(equation, ("x",))
    low, high = u.amin(-1), u.amax(-1)
    variation = (u - u.roll(1, -1)).abs().sum(-1)
    for _ in range(3):
        u = advance(system, grid, u, {}, 0.02).u
        now = (u - u.roll(1, -1)).abs().sum(-1)
        assert (u.amin(-1) >= low - 1e-13).all()
        assert (u.amax(-1) <= high + 1e-13).all()
        assert (now <= variation + 1e-13).all()
        variation = now


def test_axes_are_treated_alike():
    grid = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 1)}, (20, 16))
    turned = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 1)}, (16, 20))
    u = torch.rand(1, 1, 20, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    system = make_system("u_t = -u*u_x - u**2*u_y", ("x", "y"))
    other = make_system("u_t = -u**2*u_x - u*u_y", ("x", "y"))
    found = advance(system, grid, u, {}, 0.1).u
    assert torch.allclose(found, advance(other, turned, u.mT.contiguous(), {}, 0.1).u.mT, atol=1e-13)
    assert float((found - u).abs().max()) > 0.1


def test_a_sample_does_not_feel_its_batch_and_float32_follows_float64():
    grid = Box.uniform({"x": Periodic(0, 1)}, 32)
    x = grid.points()[..., 0]
    slow, fast = (amplitude * torch.sin(2 * math.pi * x)[None, None] for amplitude in (0.3, 3.0))
    both = advance(burgers(), grid, torch.cat([slow, fast]), {}, 0.2)
    assert torch.allclose(both.u[:1], advance(burgers(), grid, slow, {}, 0.2).u, atol=1e-14)
    single = advance(burgers(), grid, slow.float(), {}, 0.2)
    assert single.u.dtype == torch.float32
    assert torch.allclose(single.u.double(), both.u[:1], atol=1e-5)


def test_derivatives_with_respect_to_state_and_parameters():
    """Exact for fixed steps, but where two points share the largest speed."""
    grid = Box.uniform({"x": Periodic(0, 1)}, 10)
    x = grid.points()[..., 0]
    state = torch.stack([1 + 0.2 * torch.sin(2 * math.pi * x + 0.3), 0.1 * torch.cos(2 * math.pi * x + 0.5)])[None].requires_grad_()
    g = torch.tensor([1.3], dtype=torch.float64, requires_grad=True)
    weights, change = torch.randn(2, 1, 2, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def output(s: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return (weights * advance(shallow(), grid, s, {"g": g}, 0.05, dt=0.025).u).sum()

    output(state, g).backward()
    with torch.no_grad():
        h = 1e-6
        along = (output(state + h * change, g) - output(state - h * change, g)) / (2 * h)
        gravity = (output(state, g + h) - output(state, g - h)) / (2 * h)
    assert float((state.grad * change).sum()) == pytest.approx(float(along), rel=1e-6)
    assert float(g.grad) == pytest.approx(float(gravity), rel=1e-6)


# Failures


def test_an_elliptic_region_is_named():
    system = make_system(["v_t = w_x", "w_t = div(vec(v - v**3/3))"], ("x",))
    grid = Box.uniform(CIRCLE, 32)
    x = grid.points()[..., 0]
    calm = torch.stack([0.5 * torch.sin(x), torch.zeros_like(x)])
    wild = torch.stack([1.2 * torch.sin(x), torch.zeros_like(x)])
    assert torch.isfinite(advance(system, grid, calm[None], {}, 0.5).u).all()
    with pytest.raises(AnygridError, match=r"complex ones at v = .* in sample 1 at time 0, x = 1.178") as caught:
        advance(system, grid, torch.stack([calm, wild]), {}, 0.5)
    assert "elliptic along x" in str(caught.value)


def test_a_dry_bed_and_a_blow_up_are_named():
    grid, x = cells(32)
    with pytest.raises(AnygridError, match=r"h = 0, hu = 0 in sample 0 at time 0, x = 0.03"):
        advance(shallow(), grid, jump(x, (1, 0), (0, 0)), {"g": torch.tensor(1.0)}, 0.1)
    growing = make_system("u_t = -u_x + u**2", ("x",))  # u = 1 / (1 - t) from u = 1
    circle = Box.uniform(CIRCLE, 16)
    with pytest.raises(AnygridError, match=r"values that stay bounded, got u = .* in sample 0 at time 1.0\d+, x = "):
        advance(growing, circle, torch.ones(1, 1, 16, dtype=torch.float64), {}, 2.0)


def test_steps_that_are_too_long_and_grids_that_do_not_serve_are_refused():
    grid = Box.uniform({"x": Periodic(0, 1)}, 32)
    u = torch.ones(1, 1, 32, dtype=torch.float64)
    with pytest.raises(UsageError, match=r"at most 0.0312"):
        advance(burgers(), grid, u, {}, 1.0, dt=0.1)
    uneven = Box((Axis("x", Bounded(0, 1), 5, "nodes", (0.0, 0.1, 0.4, 0.7, 1.0)),))
    with pytest.raises(GridError, match="evenly"):
        advance(burgers(), uneven, u[..., :5], {}, 0.1, boundary=Boundary())


def test_a_stiff_source_shortens_the_steps():
    grid = Box.uniform({"x": Periodic(0, 1)}, 8)
    system = make_system("u_t = -u_x - k*u", ("x",), parameters=("k",))
    solution = advance(system, grid, torch.ones(1, 1, 8, dtype=torch.float64), {"k": torch.tensor(400.0)}, 0.1)
    assert 0 <= float(solution.u.max()) < 1e-10
    assert solution.steps >= 40


def test_water_over_an_almost_dry_bed_falls_back_to_the_limited_scheme_and_says_so():
    grid, x = cells(60)
    solution = advance(shallow(), grid, jump(x, (1, 1e-5), (0, 0)), {"g": torch.tensor(1.0)}, 0.2)
    assert solution.scheme.name.startswith(MUSCL.name)
    assert "lost finite values or real speeds" in solution.scheme.reason
    fan = torch.where(x < -0.2, 1.0, (2 - x / 0.2).clamp(min=0) ** 2 / 9)  # Ritter's dry bed
    assert float((solution.u[0, 0] - fan).abs().mean()) < 0.01
    assert float(solution.u[0, 0].min()) > 0
