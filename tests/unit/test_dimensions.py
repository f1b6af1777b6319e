"""Units in the text of an equation: terms that do not agree are named, and data carry the units."""

from fractions import Fraction

import pytest

from anygrid.equations.dimensions import check_dimensions, rate_unit
from anygrid.equations.system import make_system
from anygrid.errors import UsageError
from anygrid.fields.units import find_unit, unit_text
from anygrid.grid import Bounded, Periodic
from anygrid.problems.distributions import RandomField, Uniform
from anygrid.problems.equation import EquationProblem
from anygrid.problems.from_text import Equation

BURGERS = {"u": "m s-1", "nu": "m2 s-1", "f": "m s-2", "x": "m", "t": "s"}


def burgers():
    return make_system("u_t = -u*u_x + nu*u_xx + f", ["x"], parameters=["nu"], fields=["f"])


def test_agreeing_units_pass_in_other_spellings_too() -> None:
    check_dimensions(burgers(), BURGERS)
    check_dimensions(burgers(), {**BURGERS, "u": "m/s", "nu": "m**2 s**-1", "f": "N kg-1"})
    check_dimensions(burgers(), {"u": "km h-1", "nu": "km2 h-1", "f": "km h-2", "x": "km", "t": "h"})


@pytest.mark.parametrize(
    ("wrong", "first", "second"),
    [
        ({"nu": "m s-1"}, "'u_t' in 'm s-2'", "'nu*u_xx' in 's-2'"),
        ({"f": "m s-1"}, "'u_t' in 'm s-2'", "'f' in 'm s-1'"),
        ({"u": "m"}, "'u_t' in 'm s-1'", "'f' in 'm s-2'"),
        ({"x": "km"}, "'u_t' in 'm s-2'", "in '1e-06 m s-2'"),
    ],
)
def test_terms_that_differ_are_named(wrong: dict[str, str], first: str, second: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_dimensions(burgers(), {**BURGERS, **wrong})
    assert first in str(caught.value) or second in str(caught.value)
    assert caught.value.got.count("'") == 4
    assert "in '" in caught.value.expected


def test_a_length_in_other_units_than_the_rest_says_the_factor() -> None:
    with pytest.raises(UsageError, match="differ by a factor of"):
        check_dimensions(burgers(), {**BURGERS, "x": "km"})


@pytest.mark.parametrize("missing", BURGERS)
def test_what_has_no_unit_agrees_with_everything(missing: str) -> None:
    check_dimensions(burgers(), {name: unit for name, unit in BURGERS.items() if name != missing})


@pytest.mark.parametrize(
    ("text", "known", "units", "said"),
    [
        ("u_t = k*u*(1 - u)", ["k"], {"u": "m-3", "k": "s-1", "t": "s"}, "'-u' in 'm-3'"),
        ("u_t = k*exp(u)", ["k"], {"u": "K", "k": "K s-1", "t": "s"}, "pure number in exp(u), got u in 'K'"),
        ("u_t = k*sin(x)*u", ["k"], {"u": "K", "k": "s-1", "x": "m", "t": "s"}, "pure number in sin(x), got x in 'm'"),
        ("u_t = k*u**p", ["k", "p"], {"u": "m", "k": "s-1", "p": "1", "t": "s"}, "whose exponent is no number, got u in 'm'"),
        ("u_t = k*2**(u)", ["k"], {"u": "m", "k": "m s-1", "t": "s"}, None),
        ("u_t = 3*u", [], {"u": "m", "t": "s"}, "'3*u' in 'm'"),
        ("u_tt = c**2*u_xx", ["c"], {"u": "m", "c": "m", "x": "m", "t": "s"}, "'u_tt' in 'm s-2', got 'c**2*u_xx' in 'm'"),
        ("-div(k*grad(u)) = 0", ["k"], {"q": "m"}, "'q'"),
        ("u_t = k*u", ["k"], {"u": "m", "k": "per second"}, "'per second'"),
    ],
)
def test_each_rule(text: str, known: list[str], units: dict[str, str], said: str | None) -> None:
    if said is None:
        with pytest.raises(UsageError):
            check_dimensions(make_system(text, ["x"], parameters=known), units)
        return
    system = make_system(text, ["x"], parameters=known)
    with pytest.raises(UsageError) as caught:
        check_dimensions(system, units)
    assert said in str(caught.value)


def test_powers_roots_and_systems_that_agree() -> None:
    system = make_system("u_t = sqrt(g/h)*u + abs(u)**1.5*k + sign(u)*c", ["x"], parameters=["g", "h", "k", "c"])
    check_dimensions(system, {"u": "m", "g": "m s-2", "h": "m", "k": "m-0.5 s-1", "c": "m s-1", "t": "s"})
    flow = make_system(["w_t = -dot(perp(psi), grad(w)) + nu*lap(w)", "lap(psi) = -w"], ["x", "y"], parameters=["nu"])
    good = {"w": "s-1", "psi": "m2 s-1", "nu": "m2 s-1", "x": "m", "y": "m", "t": "s"}
    check_dimensions(flow, good)
    with pytest.raises(UsageError):
        check_dimensions(flow, {**good, "psi": "m s-1"})
    wave = make_system("u_tt = c**2*u_xx - b*u_t", ["x"], parameters=["c", "b"])
    check_dimensions(wave, {"u": "m", "c": "m s-1", "b": "s-1", "x": "m", "t": "s"})
    with pytest.raises(UsageError):
        check_dimensions(wave, {"u": "m", "c": "m s-1", "b": "s-1", "x": "m", "t": "s", "u_t": "m"})


@pytest.mark.parametrize("text", ["m s-1", "kg m-1 s-2", "K", "1", "m2 s-1"])
def test_units_to_text_and_back(text: str) -> None:
    unit = find_unit(text)
    assert unit is not None
    assert unit_text(unit) == text


def test_unit_arithmetic() -> None:
    speed, hour = find_unit("km h-1"), find_unit("h")
    assert speed is not None
    assert hour is not None
    assert (speed * hour).same(find_unit("km"))
    assert (speed ** Fraction(2) / speed).same(speed)
    assert find_unit("degC").same(find_unit("K"))
    assert not find_unit("percent").same(find_unit("1"))
    assert find_unit("nothing like it") is None
    assert rate_unit("K", "day") == "1.15741e-05 K s-1"
    assert rate_unit(None, "s") == "1"


def _problem(**more) -> EquationProblem:
    return Equation("u_t = -u*u_x + nu*u_xx", {"x": Periodic(0, 1)}, parameters={"nu": Uniform(0.01, 0.02)}, dt=0.1, **more)


def test_a_problem_carries_its_units() -> None:
    problem = _problem(units={"u": "m s-1", "nu": "m2 s-1", "x": "m", "t": "s"})
    assert [v.units for v in problem.inputs] == ["m s-1", "m2 s-1"]
    assert problem.grid(8).axes[0].units == "m"
    assert problem.grid(8).at(16) == problem.grid(16)
    assert problem.time_unit == "s"
    bare = _problem()
    assert [v.units for v in bare.inputs] == ["1", "1"]
    assert bare.grid(8).axes[0].units == ""
    assert bare.time_unit == "1"


def test_numbers_of_parameters_keep_their_units() -> None:
    """A fixed parameter is a number in the solver, and still has its unit in the check."""
    known = {"c": 3.0}
    problem = Equation("u_tt = c**2*u_xx", {"x": Periodic()}, parameters=known, dt=0.1, units={"u": "m", "c": "m s-1", "x": "m", "t": "s"})
    assert [v.units for v in problem.outputs] == ["m", "m s-1"]
    with pytest.raises(UsageError, match="'u_tt' in 'm s-2'"):
        Equation("u_tt = c**2*u_xx", {"x": Periodic()}, parameters=known, dt=0.1, units={"u": "m", "c": "m2 s-1", "x": "m", "t": "s"})


def test_quantities_of_initial_states_may_have_units() -> None:
    problem = Equation(
        "u_t = u_xx",
        {"x": Bounded()},
        parameters={"h": Uniform(1, 2)},
        initial={"u": "h*sin(pi*x)"},
        boundary="u = 0",
        dt=0.1,
        units={"h": "K", "u": "K"},
    )
    assert problem.outputs[0].units == "K"


def test_in_toml() -> None:
    from anygrid.cli.equations import make_equation

    text = 'equations = "-div(k*grad(u)) = f"\ndomain = { x = "bounded(0, 1)" }\nboundary = "u = 0"\nunknown = "u"\n'
    text += 'inputs = { k = "uniform(1, 2)", f = "random()" }\n'
    good = make_equation(text + 'units = { u = "K", k = "W m-1 K-1", f = "W m-3", x = "m" }\n')
    assert {v.name: v.units for v in (*good.inputs, *good.outputs)} == {"k": "W m-1 K-1", "f": "W m-3", "u": "K"}
    with pytest.raises(UsageError, match="terms of one unit"):
        make_equation(text + 'units = { u = "K", k = "W m-1 K-1", f = "W m-2", x = "m" }\n')
    assert isinstance(good.known["f"], RandomField)
