"""Periodic solver against closed forms: linear equations, solitons, constraints, parameters by sample, failures, gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import anygrid as ag
from anygrid.equations.periodic import advance
from anygrid.equations.spectral import linear_symbol
from anygrid.equations.system import make_system
from anygrid.errors import AnygridError, DataError, GridError, UsageError
from anygrid.grid import Bounded, Box, Periodic, Sphere

TAU = 2 * math.pi
LINE = Box.uniform({"x": Periodic(0, TAU)}, 24)
PLANE = Box.uniform({"x": Periodic(0, TAU), "y": Periodic(0, TAU)}, (15, 12))


def double(value) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def coordinates(box: Box) -> tuple[torch.Tensor, ...]:
    return box.points().unbind(-1)


def close(u: torch.Tensor, v: torch.Tensor, bound: float = 1e-12) -> None:
    torch.testing.assert_close(u, v, rtol=0, atol=bound)


def test_heat_and_advection_with_parameters_by_sample_in_two_dimensions():
    system = make_system("u_t = -c*u_x + nu*lap(u) - r*u", ["x", "y"], parameters=["c", "nu", "r"])
    x, y = coordinates(PLANE)
    c, nu, r, t = double([0.3, -1.1]), double([0.05, 0.2]), double(0.4), 1.7
    start = (torch.cos(2 * x) * torch.sin(3 * y)).expand(2, 1, *PLANE.shape)
    shifted = torch.cos(2 * (x - c[:, None, None] * t)) * torch.sin(3 * y)
    exact = torch.exp(-(13 * nu + r) * t)[:, None, None] * shifted
    close(advance(system, PLANE, start, {"c": c, "nu": nu, "r": r}, t).u, exact[:, None])


def test_three_dimensions():
    box = Box.uniform({name: Periodic(0, TAU) for name in "xyz"}, (8, 7, 6))
    x, y, z = coordinates(box)
    u = (torch.cos(x) * torch.sin(2 * y) * torch.cos(z))[None, None]
    close(advance(make_system("u_t = 0.1*lap(u) + u_xyz", ["x", "y", "z"]), box, u, {}, 0.0 + 1e-9).u, u, 1e-7)
    close(advance(make_system("u_t = 0.1*lap(u)", ["x", "y", "z"]), box, u, {}, 1.0).u, math.exp(-0.6) * u)


def test_forced_diffusion_reaches_its_known_state():
    system = make_system("u_t = u_xx + f + cos(x)", ["x"], fields=["f"])
    (x,) = coordinates(LINE)
    f = torch.stack((torch.sin(2 * x), 3 * torch.sin(2 * x)))
    t = 0.8
    forced = f * (1 - math.exp(-4 * t)) / 4 + torch.cos(x) * (1 - math.exp(-t))
    close(advance(system, LINE, torch.zeros(2, 1, 24, dtype=torch.float64), {"f": f}, t).u, forced[:, None])


def test_wave_equation_including_its_mean():
    """u_tt = c^2 u_xx - m u; at m = 0 the mean drifts with its rate (a matrix that cannot be diagonalised)."""
    system = make_system("u_tt = c**2*u_xx - m*u", ["x"], parameters=["c", "m"])
    (x,) = coordinates(LINE)
    c, m, t = 1.3, double([0.7, 0.0]), 20.0
    start = torch.stack((torch.cos(3 * x) + 2, torch.full_like(x, 0.5))).expand(2, 2, 24)
    omega, slow = (9 * c**2 + m).sqrt(), m[0].sqrt()
    means = torch.stack((2 * torch.cos(slow * t) + 0.5 * torch.sin(slow * t) / slow, double(2 + 0.5 * t)))
    exact = torch.cos(omega * t)[:, None] * torch.cos(3 * x) + means[:, None]
    solution = advance(system, LINE, start, {"c": double(c), "m": m}, t)
    close(solution.u[:, 0], exact, 1e-10)
    close(solution.u[:, 1].mean(-1)[1], double(0.5), 1e-10)


def test_schroedinger_as_two_components():
    system = make_system(["u_t = -v_xx + 0.5*v", "v_t = u_xx - 0.5*u"], ["x"])
    (x,) = coordinates(LINE)
    t = 3.0
    phase = 4 * x - (16 + 0.5) * t
    start = torch.stack((torch.cos(4 * x), torch.sin(4 * x)))[None]
    close(advance(system, LINE, start, {}, t).u, torch.stack((phase.cos(), phase.sin()))[None], 1e-11)


@pytest.mark.parametrize("text", ["u_t = -6*u*u_x - u_xxx", "u_t + 3*(u**2)_x_ + u_xxx = 0", "u_t = -div(vec(3*u**2)) - u_xxx"])
def test_soliton_of_korteweg_and_de_vries(text):
    text = text.replace("(u**2)_x_", "div(vec(u**2))")
    box, speed = Box.uniform({"x": Periodic(-20, 20)}, 192), 4.0
    (x,) = coordinates(box)

    def wave(t: float) -> torch.Tensor:
        y = (x - speed * t + 20) % 40 - 20
        return (speed / 2 / torch.cosh(math.sqrt(speed) / 2 * y) ** 2)[None, None]

    solution = advance(make_system(text, ["x"]), box, wave(0), {}, 0.25)
    assert float((solution.u - wave(0.25)).norm() / wave(0.25).norm()) < 1e-5
    assert "u*u_x" not in solution.scheme.reason or "u*u_x" in text


def test_auxiliary_unknowns_and_the_mean_they_do_not_fix():
    """Linear drift of vorticity on a beta plane: w_t = -b psi_x, lap(psi) = w: waves of frequency -b k / (k^2 + l^2)."""
    system = make_system(["w_t = -b*psi_x", "lap(psi) = w"], ["x", "y"], parameters=["b"])
    x, y = coordinates(PLANE)
    b, t = 1.5, 2.0
    start = (torch.cos(2 * x + 3 * y) + 0.7)[None, None]
    exact = torch.cos(2 * x + 3 * y + 2 * b / 13 * t) + 0.7
    close(advance(system, PLANE, start, {"b": double(b)}, t).u, exact[None, None])


def test_two_auxiliary_unknowns_with_forcing():
    """p_xx - p = q, q = u + sin x: p = -(u_hat + sin x) / (1 + k^2) for each wave."""
    system = make_system(["u_t = p", "p_xx - p = q", "q = u + sin(x)"], ["x"])
    (x,) = coordinates(LINE)
    start, t = torch.zeros(1, 1, 24, dtype=torch.float64), 0.9
    exact = torch.sin(x) * (math.exp(-t / 2) - 1)  # u_t = -(u + sin x) / 2
    close(advance(system, LINE, start, {}, t).u, exact[None, None])


def test_taylor_green_vortex_through_products():
    """Advection of w = cos x cos y by itself vanishes; half the equations' work must cancel exactly."""
    system = make_system(["w_t = -dot(perp(psi), grad(w)) + nu*lap(w)", "lap(psi) = -w"], ["x", "y"], parameters=["nu"])
    x, y = coordinates(PLANE)
    w = (torch.cos(x) * torch.cos(y))[None, None]
    solution = advance(system, PLANE, w, {"nu": double(0.1)}, 1.0)
    close(solution.u, math.exp(-0.2) * w, 1e-12)
    assert "Basdevant" in solution.scheme.reason


@pytest.mark.parametrize("shape", [16, (15, 18)])
def test_rewritten_products_equal_the_plain_ones(shape):
    """Vorticity advection as written, against the same with a second, equal stream function that no rule recognises."""
    box = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 1)}, shape)
    plain = make_system(["w_t = -dot(perp(psi), grad(w)) + 0.01*lap(w)", "lap(psi) = -w + 0*psi + s"], ["x", "y"], fields=["s"])
    rule = make_system(["w_t = -dot(perp(psi), grad(w)) + 0.01*lap(w)", "lap(psi) = -w"], ["x", "y"])
    w = torch.randn(2, 1, *box.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = advance(plain, box, w, {"s": torch.zeros(*box.shape, dtype=torch.float64)}, 0.1, dt=0.01)
    assert "Basdevant" not in other.scheme.reason
    close(advance(rule, box, w, {}, 0.1, dt=0.01).u, other.u, 1e-11)


def test_the_compact_layout_changes_nothing():
    system = make_system(["u_t = 1e-3*lap(u) - u*v**2 + 0.04*(1-u)", "v_t = 5e-4*lap(v) + u*v**2 - 0.1*v"], ["x", "y"])
    box = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 1)}, (48, 45))
    a = torch.rand(8, 2, *box.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = advance(system, box, a, {}, 2.0, dt=0.25).u
    close(together, torch.cat([advance(system, box, row[None], {}, 2.0, dt=0.25).u for row in a]), 1e-11)


def test_parameters_by_sample_equal_one_at_a_time():
    system = make_system("u_t = -a*u*u_x + nu*u_xx + b*f*u", ["x"], parameters=["a", "nu", "b"], fields=["f"])
    (x,) = coordinates(LINE)
    start = torch.stack((x.sin(), x.cos(), (2 * x).sin()))[:, None]
    values = {"a": double([1.0, 0.5, -1.0]), "nu": double([0.1, 0.3, 0.2]), "b": double(0.3)}
    f = torch.stack((x.cos(), 2 * x.sin(), 1 + 0 * x))
    together = advance(system, LINE, start, {**values, "f": f}, 0.5, dt=0.02).u
    for k in range(3):
        one = {"a": values["a"][k], "nu": values["nu"][k], "b": values["b"], "f": f[k]}
        close(together[k : k + 1], advance(system, LINE, start[k : k + 1], one, 0.5, dt=0.02).u)


def test_gray_scott_agrees_with_fine_steps():
    texts = ["u_t = Du*lap(u) - u*v**2 + F*(1-u)", "v_t = Dv*lap(v) + u*v**2 - (F+k)*v"]
    system = make_system(texts, ["x", "y"], parameters=["Du", "Dv", "F", "k"])
    box = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 1)}, 32)
    x, y = coordinates(box)
    spot = torch.exp(-50 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    start = torch.stack((1 - 0.5 * spot, 0.25 * spot))[None]
    known = {"Du": double(2e-4), "Dv": double(1e-4), "F": double(0.04), "k": double(0.06)}
    coarse, fine = advance(system, box, start, known, 20.0), advance(system, box, start, known, 20.0, dt=0.25)
    error = float((coarse.u - fine.u).norm() / fine.u.norm())
    assert error < 1e-5
    assert error < 10 * float(coarse.error)


def test_terms_that_are_no_polynomials():
    """u_t = -u / (1 + u) on a constant: u + log u = u0 + log u0 - t."""
    solution = advance(
        make_system("u_t = 0.1*u_xx - u/(1 + u)", ["x"]), LINE, torch.ones(1, 1, 24, dtype=torch.float64), {}, 2.0, tolerance=1e-8
    )
    u = float(solution.u[0, 0, 3])
    assert u + math.log(u) == pytest.approx(1 - 2.0, abs=1e-6)
    assert "no polynomials" in solution.scheme.reason


def test_variable_coefficients_and_coordinates():
    """u_t = (a u_x)_x + g with g made for u = exp(-t) sin x, a = 2 + cos x: two samples of a, one of them constant."""
    system = make_system("u_t = div(a*grad(u)) - u - div(a*grad(sin(x)))*s", ["x"], fields=["a"], parameters=["s"])
    (x,) = coordinates(LINE)
    a = torch.stack((2 + x.cos(), torch.full_like(x, 2)))
    start = x.sin().expand(2, 1, 24)
    steady = advance(system, LINE, start, {"a": a, "s": double(1.0)}, 1e-3)
    rate = (steady.u - start) / 1e-3
    close(rate, -start, 1e-2)  # the operator cancels at t = 0, -u remains
    close(advance(system, LINE, start, {"a": a, "s": double(0.0)}, 1.0).u[1, 0], math.exp(-3) * x.sin(), 1e-5)


def test_single_precision():
    box = Box.uniform({"x": Periodic(0, 22)}, 48)
    (x,) = coordinates(box)
    system = make_system("u_t = -u*u_x - u_xx - u_xxxx", ["x"])
    start = torch.cos(TAU * x / 22)[None, None]
    exact, single = advance(system, box, start, {}, 2.0, dt=0.02).u, advance(system, box, start.float(), {}, 2.0)
    assert single.u.dtype == single.error.dtype == torch.float32
    error = float((single.u - exact).norm() / exact.norm())
    assert error < 1e-4
    assert error < 10 * float(single.error)


@pytest.mark.parametrize("options", [{"dt": 0.05}, {"tolerance": 1e-5}])
def test_gradients_against_finite_differences(options):
    system = make_system("u_t = -a*u*u_x + nu*u_xx", ["x"], parameters=["a", "nu"])
    box = Box.uniform({"x": Periodic(0, TAU)}, 16)
    (x,) = coordinates(box)
    start = (x.sin() + 0.3 * (2 * x).cos())[None, None].requires_grad_()
    a, nu = double(1.0).requires_grad_(), double(0.2).requires_grad_()
    weight = torch.randn(1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return (weight * advance(system, box, u, {"a": values[0], "nu": values[1]}, 0.4, **options).u).sum()

    gradients = torch.autograd.grad(loss(start, a, nu), (start, a, nu))
    bump = torch.zeros_like(start)
    bump[0, 0, 5] = h = 1e-5
    with torch.no_grad():
        differences = [
            (loss(start + bump, a, nu) - loss(start - bump, a, nu)) / (2 * h),
            (loss(start, a + h, nu) - loss(start, a - h, nu)) / (2 * h),
            (loss(start, a, nu + h) - loss(start, a, nu - h)) / (2 * h),
        ]
    found = [gradients[0][0, 0, 5], gradients[1], gradients[2]]
    torch.testing.assert_close(torch.stack(found), torch.stack(differences), rtol=1e-6, atol=1e-7)


def test_blow_up_is_reported_with_sample_time_and_place():
    """u_t = u^2 from u0 becomes infinite at 1 / max(u0): sample 1, at x = pi / 2, at time 1 / 1.5."""
    box = Box.uniform({"x": Periodic(0, TAU)}, 16)
    (x,) = coordinates(box)
    start = torch.stack((0.2 + 0 * x, 1 + 0.5 * x.sin()))[:, None]
    with pytest.raises(AnygridError, match="sample 1") as caught:
        advance(make_system("u_t = u**2", ["x"]), box, start, {}, 1.0, tolerance=1e-3)
    time = float(str(caught.value).split("at time ")[1].split()[0])
    assert time == pytest.approx(1 / 1.5, rel=1e-2)
    assert "x = 1.571" in str(caught.value)


def test_blow_up_with_fixed_steps_and_of_the_backward_heat_equation():
    start = (2 + LINE.points()[..., 0].sin())[None, None]
    with pytest.raises(AnygridError, match="sample 0 without bound at time"):
        advance(make_system("u_t = u**2", ["x"]), LINE, start, {}, 4.0, dt=0.05)
    with pytest.raises(AnygridError, match="highest derivatives"):
        advance(make_system("u_t = -u_xx", ["x"]), LINE, start, {}, 100.0)


def test_linear_symbol_eliminates_constraints():
    known = {"nu": double([0.1, 0.2])}
    system = make_system(["u_t = nu*u_xx + p_x", "p_xx = u_x", "v_t = 2*u"], ["x"], parameters=["nu"])
    symbol = linear_symbol(system, LINE, known)
    k = torch.arange(13, dtype=torch.float64)
    inside = torch.ones(13, dtype=torch.bool)
    inside[[0, 12]] = False  # the mean and the Nyquist mode have no first derivative
    close(symbol[:, 0, 0].real[:, inside], (1 - known["nu"][:, None] * k**2)[:, inside])
    close(symbol[:, 1, 0].real[:, inside], torch.full((2, 11), 2.0, dtype=torch.float64))


def test_refusals():
    u = torch.zeros(1, 1, 24, dtype=torch.float64)
    heat = make_system("u_t = u_xx", ["x"])
    with pytest.raises(UsageError, match="linear in the unknowns, with constant coefficients"):
        advance(make_system(["u_t = p", "p_xx = u**2"], ["x"]), LINE, u, {}, 1.0)
    with pytest.raises(UsageError, match="determines 'p'"):
        advance(make_system(["u_t = p", "u_x = 0"], ["x"]), LINE, u, {}, 1.0)
    with pytest.raises(UsageError, match="a rate"):
        advance(make_system("u_xx = 1", ["x"]), LINE, u, {}, 1.0)
    with pytest.raises(UsageError, match="'nu'"):
        advance(make_system("u_t = nu*u_xx", ["x"], parameters=["nu"]), LINE, u, {}, 1.0)
    with pytest.raises(UsageError, match="duration"):
        advance(heat, LINE, u, {}, -1.0)
    with pytest.raises(DataError, match="shape"):
        advance(heat, LINE, u[..., :-1], {}, 1.0)
    with pytest.raises(DataError, match="finite"):
        advance(heat, LINE, u * math.nan, {}, 1.0)
    with pytest.raises(DataError, match="'nu' of shape"):
        advance(make_system("u_t = nu*u_xx", ["x"], parameters=["nu"]), LINE, u, {"nu": torch.ones(3)}, 1.0)
    for grid in (Box.uniform({"x": Bounded(0, 1)}, 24), Box.uniform({"y": Periodic(0, 1)}, 24), Sphere.equiangular(4, 6)):
        with pytest.raises(GridError):
            advance(heat, grid, u, {}, 1.0)


def test_error_estimate_of_an_explicit_stiff_term():
    """A thin film: the fourth derivative is all in the nonlinear part, and whole steps are unstable where their halves are not."""
    film = ag.Equation(
        "h_t = -d(h**3*h_xxx, x) - d(h_x/h, x)",
        {"x": ag.Periodic(0, 20)},
        initial={"h": ag.RandomField(length=3, mean=1, std=0.1)},
        dt=0.5,
    )
    grid = film.grid(64)
    a = film.sample(2, grid, torch.Generator().manual_seed(0))
    rough, fine = (dataclasses.replace(film, tolerance=t).solution(a, grid) for t in (1e-4, 1e-8))
    wrong = (rough.u - fine.u).flatten(1).square().mean(1).sqrt()
    assert (rough.error >= 0.5 * wrong).all()
    assert (rough.error < 100 * wrong.clamp(min=1e-7)).all()
