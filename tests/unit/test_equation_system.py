"""Standard form: first order in time, rates solved for, every name accounted for."""

import pytest
import sympy as sp

from anygrid.equations.system import make_system
from anygrid.errors import UsageError

x = sp.Symbol("x", real=True)
u, v = sp.Function("u")(x), sp.Function("v")(x)
c, m = sp.symbols("c m", real=True)


def test_second_order_in_time_becomes_first() -> None:
    system = make_system("u_tt + c*u_t = u_xx", "x", parameters=["c"])
    rate = sp.Function("u_t")(x)
    assert system.state == ("u", "u_t")
    assert system.rates == (rate, sp.Derivative(u, (x, 2)) - c * rate)


def test_states_come_in_the_order_of_first_mention_and_rates_with_them() -> None:
    system = make_system(["v_t = u", "u_t = lap(u) + v"], "x")
    assert system.state == ("v", "u")
    assert system.rates == (u, sp.Derivative(u, (x, 2)) + v)


def test_rates_are_solved_for_by_their_constant_matrix() -> None:
    system = make_system(["2*u_t + v_t = u", "u_t - m*v_t = v"], "x", parameters=["m"])
    solved = dict(zip(system.state, system.rates, strict=True))
    assert sp.simplify(2 * solved["u"] + solved["v"] - u) == 0
    assert sp.simplify(solved["u"] - m * solved["v"] - v) == 0


def test_auxiliary_unknowns_have_constraints() -> None:
    system = make_system(["w_t = dot(perp(psi), grad(w))", "lap(psi) = -w"], ("x", "y"))
    assert (system.state, system.auxiliary, len(system.constraints)) == (("w",), ("psi",), 1)
    assert not system.steady
    steady = make_system("-lap(u) = f", ("x", "y"), fields=["f"])
    assert steady.steady
    assert steady.state == ("u",)


def test_systems_made_twice_are_equal() -> None:
    text = "u_t = c*u_xx + abs(u)**1.5"
    first, second = make_system(text, "x", parameters=["c"]), make_system(text, "x", parameters=["c"])
    assert first == second
    assert hash(first) == hash(second)
    assert first.rates[0].has(first.function("u"))
    assert first.rates[0].has(sp.Symbol("c", real=True))


def test_numbers_for_parameters() -> None:
    system = make_system("u_t = c*u**m + u/c", "x", parameters=["c", "m"])
    assert system.with_values({"m": 2.0}).rates == (c * u**2 + u / c,)
    assert system.with_values({"m": 2.0}).parameters == ("c",)
    with pytest.raises(UsageError, match=r"c = 0[\s\S]*division by 0"):
        system.with_values({"c": 0.0})
    with pytest.raises(UsageError, match="did you mean 'm'"):
        system.with_values({"M": 1.0})


@pytest.mark.parametrize(
    ("equations", "declared", "words"),
    [
        ("u_t = u + v", {}, "1 equations for the unknowns u, v"),
        ("u_t = nuu*u_xx", {"parameters": ["nu"]}, "'nuu' is declared nowhere, and 'nu' used nowhere"),
        ("theta_t = tehta_xx", {}, "did you mean 'theta'"),
        ("u_t = u_xx", {"parameters": ["nu"]}, "an equation in which 'nu' occurs"),
        ("u_t = u_xx", {"fields": ["f"]}, "an equation in which 'f' occurs"),
        ("u_t = u_xx", {"state": ["w"]}, "an equation in which 'w' occurs"),
        ("u - u = 0", {}, "terms that cancel"),
        (["u_t = v", "u_t = -v"], {}, "one equation for each of the rates u_t"),
        (["u_t + v_t = u", "2*u_t + 2*v_t = v"], {}, "dependent ones"),
        ("u*u_t = u_xx", {}, "rates times constants"),
        ("x*u_t = u_xx", {}, "rates times constants"),
        ("u_t**2 = u_xx", {}, "rates times constants"),
        ("d(u_t, x) = u", {}, "rates outside of derivatives"),
        ("u_t = x*u", {"parameters": ["x"]}, "'x' twice"),
        ("u_t = sin*u", {"parameters": ["sin"]}, "names that mean nothing else"),
        ("u_t = t*u", {"parameters": ["t"]}, "names that mean nothing else"),
        ("u_t = k*u", {"parameters": ["k", "k"]}, "'k' twice"),
        ("u_t = k*u", {"parameters": ["k m"]}, "letters, digits and _"),
        ([], {}, "one to 20 equations"),
    ],
)
def test_what_cannot_be_a_system_is_refused(equations: str | list[str], declared: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_system(equations, ("x",), **declared)
    assert words in str(caught.value)


def test_many_rates_coupled_by_parameters_do_not_hang() -> None:
    names = [f"u{k}" for k in range(8)]
    letters = [f"a{k}" for k in range(64)]
    texts = [" + ".join(f"a{8 * i + j}*u{j}_t" for j in range(8)) + f" = {names[i]}" for i in range(8)]
    with pytest.raises(UsageError, match="at most 4 rates"):
        make_system(texts, ("x",), parameters=letters)
