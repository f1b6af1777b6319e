"""Evolutions on bounded boxes: the error against exact and manufactured solutions falls at the stated orders."""

import math

import numpy as np
import pytest
import sympy as sp
import torch

from anygrid.equations import bounded
from anygrid.equations.boundary import make_boundary
from anygrid.equations.bounded import advance
from anygrid.equations.system import make_system
from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.grid import Bounded, Box, Periodic

UNIT = {"x": Bounded(0, 1)}
LINE = {"x": Bounded(0, 2 * math.pi / 3)}
STRIP = {"x": Periodic(0, 1), "y": Bounded(0, 2 * math.pi / 3)}
DIP = "cos(3*x) - 1"  # value and slope vanish at both ends of LINE


def sampled(expression, grid, **values):
    swap = {sp.Symbol(name, real=True): value for name, value in values.items()}
    symbols = [sp.Symbol(name, real=True) for name in grid.dims]
    found = sp.lambdify(symbols, sp.sympify(expression).xreplace(swap))(*grid.points().numpy().transpose(-1, *range(grid.ndim)))
    return torch.from_numpy(np.broadcast_to(found, grid.shape).copy()).double()


def clocked(right, shape, domain):
    """``u_t = right + source`` with the solution ``u = c shape``, where ``c`` is a state of its own that decays as ``exp(-t)``."""
    names = {name: sp.Symbol(name, real=True) for name in (*domain, "c")}
    c, g = names["c"], sp.sympify(shape, locals=names)
    system = make_system(f"u_t = {right}", tuple(domain), fields=("a",) if "a*" in right else ())
    known = {system.function("u"): c * g, system.function("a"): sp.exp(names["x"])}
    source = -c * g - system.rates[0].subs(known).doit()
    texts = [f"u_t = {right} + {source!s}", "c_t = -c"]
    return make_system(texts, tuple(domain), fields=system.fields), g


def order(errors):
    (coarse, wide), (fine, narrow) = errors
    return math.log(coarse / fine) / math.log(wide / narrow)


@pytest.mark.parametrize(
    ("right", "shape", "domain", "boundary", "stated"),
    [
        ("u_xx", DIP, LINE, {"x": ("u = 0", "u_n = 0")}, 4),
        ("u_xx + u - u**3", DIP, LINE, {"x": "u_n = 0"}, 4),
        ("0.1*u_xx + u*(1 - u)", "sin(3*x)", LINE, {"x": "u = 0"}, 4),
        ("0.1*u_xx - u*u_x", DIP, LINE, {"x": "u = 0"}, 4),
        ("lap(u) + u*(1 - u)", "(2 + cos(2*pi*x))*(cos(3*y) - 1)", STRIP, {"y": ("u_n = 0", "u = 0")}, 4),
        ("div(a*grad(u)) - u**3", DIP, LINE, {"x": ("u = 0", "u_n = 0")}, 2),
        ("div((1 + u**2)*grad(u))", DIP, LINE, {"x": "u_n = 0"}, 4),
    ],
)
def test_stated_order_on_manufactured_solutions(right, shape, domain, boundary, stated):
    system, g = clocked(right, shape, domain)
    errors = []
    for n in (40, 80) if len(domain) == 1 else ((16, 24), (24, 36)):
        grid = Box.uniform(domain, n)
        start = torch.stack([sampled(g, grid), torch.ones(grid.shape, dtype=torch.float64)])[None]
        known = {"a": torch.exp(grid.points()[..., 0])} if system.fields else {}
        found = advance(system, grid, start, known, 0.2, boundary=make_boundary(boundary, system, domain), dt=0.02)
        assert f"{stated} in space" in found.scheme.order
        errors.append((float((found.u[0, 0] - math.exp(-0.2) * start[0, 0]).abs().max()), float(grid.axes[-1].coordinates()[1])))
    assert abs(order(errors) - stated) < 0.25, (order(errors), errors)


@pytest.mark.parametrize(
    ("boundary", "solution"),
    [
        ({"x": ("u = 1", "u_n = 2")}, lambda x, t: 1 + 2 * x + torch.sin(math.pi * x / 2) * math.exp(-(math.pi**2) / 4 * t)),
        ({"x": "u_n = 2*(2*x - 1)"}, lambda x, t: 2 * x + torch.cos(math.pi * x) * math.exp(-(math.pi**2) * t)),
        ({"x": ("u = 0", "u = c")}, lambda x, t: 3 * x + torch.sin(math.pi * x) * math.exp(-(math.pi**2) * t)),
    ],
)
def test_heat_with_inhomogeneous_conditions(boundary, solution):
    system = make_system("u_t = c*u_xx/3", ("x",), parameters=("c",))
    conditions = make_boundary(boundary, system, UNIT)
    errors = []
    for n in (33, 65):
        grid = Box.uniform(UNIT, n)
        x = grid.points()[:, 0]
        found = advance(system, grid, solution(x, 0)[None, None], {"c": torch.tensor(3.0)}, 0.1, boundary=conditions, dt=0.005)
        errors.append((float((found.u[0, 0] - solution(x, 0.1)).abs().max()), float(x[1])))
    assert abs(order(errors) - 4) < 0.2, (order(errors), errors)


def cole_hopf(x, t, nu):
    """Solution of Burgers' equation that vanishes at 0 and 1."""
    decay = math.exp(-nu * math.pi**2 * t)
    return 2 * nu * math.pi * torch.sin(math.pi * x) * decay / (1.2 + torch.cos(math.pi * x) * decay)


def test_burgers_between_walls_is_spectral_and_meets_its_tolerance():
    system = make_system("u_t = -u*u_x + nu*u_xx", ("x",), parameters=("nu",))
    conditions = make_boundary("u = 0", system, UNIT)
    errors = []
    for n in (13, 25, 49):
        grid = Box.uniform(UNIT, n)
        x = grid.points()[:, 0]
        found = advance(system, grid, cole_hopf(x, 0, 0.1)[None, None], {"nu": torch.tensor(0.1)}, 0.3, boundary=conditions, tolerance=1e-6)
        assert "reflection" in found.scheme.name
        errors.append(float((found.u[0, 0] - cole_hopf(x, 0.3, 0.1)).norm() / found.u.norm()))
    assert errors[1] < errors[0] / 100, errors  # faster than sixth order
    assert errors[2] < 1e-6, errors


@pytest.mark.parametrize(
    ("text", "boundary", "start"),
    [
        ("u_t = 0.2*u_xx + u - u**3", "u = 0", lambda x: torch.sin(math.pi * x) + 0.2 * torch.sin(2 * math.pi * x)),
        ("u_t = 0.2*u_xx + 3*u*(1 - u)", "u_n = 0", lambda x: 0.5 + 0.3 * torch.cos(math.pi * x) + 0.1 * torch.cos(2 * math.pi * x)),
    ],
)
def test_series_and_differences_agree(text, boundary, start, monkeypatch):
    system = make_system(text, ("x",))
    conditions = make_boundary(boundary, system, UNIT)
    apart = []
    for n in (21, 41):
        grid = Box.uniform(UNIT, n)
        u = start(grid.points()[:, 0])[None, None]
        series = advance(system, grid, u, {}, 0.2, boundary=conditions, dt=0.005)
        with monkeypatch.context() as patch:
            patch.setattr(bounded, "find_reflection", lambda *_: None)
            differences = advance(system, grid, u, {}, 0.2, boundary=conditions, dt=0.01)
        assert series.scheme.name != differences.scheme.name
        apart.append((float((series.u - differences.u).abs().max()), 1 / (n - 1)))
    assert abs(order(apart) - 4) < 0.3, apart


def test_the_reflection_that_is_not_one_is_not_taken():
    for text, boundary in (
        ("u_t = u_xx + u**2", "u = 0"),
        ("u_t = u_xx + 1", "u = 0"),
        ("u_t = u_xx - u_x", "u_n = 0"),
        ("u_t = u_xx", {"x": ("u = 0", "u_n = 0")}),
        ("u_t = div((1 + u**2)*grad(u))", "u_n = 0"),
        ("u_t = u_xx + sin(pi*x)", "u = 0"),
    ):
        system = make_system(text, ("x",))
        assert bounded.find_reflection(system, make_boundary(boundary, system, UNIT), Box.uniform(UNIT, 9)) is None, text


def test_fourth_order_in_time_with_constraints():
    # w obeys an elliptic equation at every moment; the reaction couples both.
    system = make_system(["u_t = 0.2*u_xx - 3*u*w", "w_xx = w - u"], ("x",))
    conditions = make_boundary({"x": ("u = 1; w = 0", "u_n = 0; w_n = 0.5")}, system, UNIT)
    grid = Box.uniform(UNIT, 17)
    start = 1 + torch.sin(math.pi * grid.points()[:, 0] / 2)[None, None]
    reference = advance(system, grid, start, {}, 0.5, boundary=conditions, dt=0.5 / 50).u
    errors = []
    for count in (6, 12):
        found = advance(system, grid, start, {}, 0.5, boundary=conditions, dt=0.5 / count)
        assert found.steps == count
        errors.append((float((found.u - reference).abs().max()), 0.5 / count))
    assert abs(order(errors) - 4) < 0.3, (order(errors), errors)
    adaptive = advance(system, grid, start, {}, 0.5, boundary=conditions, tolerance=1e-6)
    error = float((adaptive.u - reference).norm() / reference.norm())
    assert error < 1e-6
    assert error < float(adaptive.error) < 3e-6


def test_an_elliptic_unknown_follows_the_state():
    # u = sin(pi x / 2) and p = u / (1 + pi^2 / 4), so that u decays at the rate pi^2 / 4 - 1 / (1 + pi^2 / 4).
    system = make_system(["u_t = u_xx + p", "p_xx = p - u"], ("x",))
    conditions = make_boundary({"x": ("u = 0; p = 0", "u_n = 0; p_n = 0")}, system, UNIT)
    grid = Box.uniform(UNIT, 33)
    start = torch.sin(math.pi * grid.points()[:, 0] / 2)[None, None]
    found = advance(system, grid, start, {}, 0.3, boundary=conditions, tolerance=1e-8)
    rate = math.pi**2 / 4 - 1 / (1 + math.pi**2 / 4)
    assert float((found.u - math.exp(-0.3 * rate) * start).abs().max()) < 1e-7


def test_waves_of_second_order_in_time():
    system = make_system("u_tt = u_xx", ("x",))
    grid = Box.uniform(UNIT, 33)
    x = grid.points()[:, 0]
    for boundary, k, most in (("u = 0", math.pi, 1e-12), ({"x": ("u = 0", "u_n = 0")}, math.pi / 2, 1e-5)):
        start = torch.stack([torch.sin(k * x), torch.zeros_like(x)])[None]
        found = advance(system, grid, start, {}, 0.7, boundary=make_boundary(boundary, system, UNIT), tolerance=1e-6)
        wanted = torch.stack([torch.sin(k * x) * math.cos(0.7 * k), -k * torch.sin(k * x) * math.sin(0.7 * k)])
        assert float((found.u[0] - wanted).abs().max()) < most


def test_derivatives_of_an_evolution_are_those_of_finite_differences():
    system = make_system("u_t = div(a*grad(u)) - c*u*u_x", ("x",), parameters=("c",), fields=("a",))
    conditions = make_boundary({"x": ("u = c", "u_n = 0")}, system, UNIT)
    grid, g = Box.uniform(UNIT, 9), torch.Generator().manual_seed(3)
    known = {
        "u": torch.rand((2, 1, 9), generator=g, dtype=torch.float64).requires_grad_(),
        "a": (0.1 + torch.rand(9, generator=g, dtype=torch.float64)).requires_grad_(),
        "c": torch.tensor([0.5, 1.0], dtype=torch.float64).requires_grad_(),
    }
    weights = torch.rand((2, 1, 9), generator=g, dtype=torch.float64)

    def loss(values):
        found = advance(system, grid, values["u"], {k: values[k] for k in ("a", "c")}, 0.2, boundary=conditions, dt=0.05)
        return (weights * found.u).sum()

    gradients = torch.autograd.grad(loss(known), known.values())
    for (name, value), gradient in zip(known.items(), gradients, strict=True):
        along = torch.rand(value.shape, generator=g, dtype=torch.float64)
        with torch.no_grad():
            ahead, behind = (float(loss({**known, name: value + sign * 1e-5 * along})) for sign in (1, -1))
        assert float((gradient * along).sum()) == pytest.approx((ahead - behind) / 2e-5, rel=1e-6), name


def test_samples_do_not_see_each_other_and_keep_their_dtype():
    system = make_system("u_t = 0.1*u_xx + c*u**2", ("x",), parameters=("c",))
    conditions = make_boundary("u = 0", system, UNIT)
    grid = Box.uniform(UNIT, 17)
    start = torch.sin(math.pi * grid.points()[:, 0]).float() * torch.tensor([0.1, 3.0])[:, None, None]
    known = {"c": torch.tensor([0.3, 1.0])}
    together = advance(system, grid, start, known, 0.2, boundary=conditions)
    assert together.u.dtype == torch.float32
    for k in range(2):
        alone = advance(system, grid, start[k : k + 1], {"c": known["c"][k : k + 1]}, 0.2, boundary=conditions)
        assert torch.equal(alone.u[0], together.u[k])


@pytest.mark.parametrize("dt", [None, 0.01])
def test_blow_up_is_reported_with_time_and_place(dt):
    # u' = u^2 from 10 at the middle: infinite near time 0.1, a little later for the diffusion.
    system = make_system("u_t = 0.01*u_xx + u**2", ("x",))
    grid = Box.uniform(UNIT, 33)
    start = 10 * torch.sin(math.pi * grid.points()[:, 0])[None, None]
    place = r"x = 0\.5 \(u\)" if dt is None else "x = "  # steps of a fixed size may jump over the singularity
    with pytest.raises(AnygridError, match=f"a solution that exists, got .* at {place}.* in sample 0 at time") as caught:
        advance(system, grid, start, {}, 1.0, boundary=make_boundary("u = 0", system, UNIT), tolerance=1e-3, dt=dt)
    if dt is None:
        assert 0.1 < float(str(caught.value).split("at time ")[1].split(",")[0]) < 0.12


def test_bad_input_is_named():
    system = make_system("u_t = u_xx - u**2", ("x",))
    conditions = make_boundary("u = 0", system, UNIT)
    grid = Box.uniform(UNIT, 9)
    with pytest.raises(DataError, match="a state of shape"):
        advance(system, grid, torch.zeros(1, 2, 9), {}, 1.0, boundary=conditions)
    with pytest.raises(DataError, match="finite values"):
        advance(system, grid, torch.full((1, 1, 9), math.nan), {}, 1.0, boundary=conditions)
    with pytest.raises(UsageError, match=r"duration"):
        advance(system, grid, torch.zeros(1, 1, 9), {}, -1.0, boundary=conditions)
    free = make_system(["u_t = u_xx - u*p", "p_xx = u - 0.5"], ("x",))
    undetermined = make_boundary({"x": ("u = 0.4; p_n = 0", "u_n = 0; p_n = 0")}, free, UNIT)
    with pytest.raises(AnygridError, match="'p'"):
        advance(free, grid, 0.5 + torch.linspace(-0.1, 0.1, 9)[None, None], {}, 0.1, boundary=undetermined)
