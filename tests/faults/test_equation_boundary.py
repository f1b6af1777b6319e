"""Boundary conditions as text: what they mean, and the errors that name what is wrong with them."""

import pytest
import sympy as sp

from anygrid.equations.boundary import Boundary, make_boundary
from anygrid.equations.system import make_system
from anygrid.errors import AnygridError, UsageError
from anygrid.grid import Bounded, Periodic

BOX = {"x": Bounded(0, 1), "y": Bounded(0, 2)}
STRIP = {"x": Periodic(0, 1), "y": Bounded(0, 2)}
POISSON = make_system("-lap(u) = f", ("x", "y"), fields=("f",))
HEATED = make_system("-k*lap(u) = 1", ("x", "y"), parameters=("k",))
PAIR = make_system(["u_t = lap(u) - u*v", "v_t = lap(v) + u*v"], ("x", "y"))


def test_one_text_speaks_for_every_bounded_side():
    boundary = make_boundary("u = 0", POISSON, STRIP)
    assert [(c.axis, c.side, c.kind, c.value) for c in boundary.conditions] == [("y", "lower", "value", 0), ("y", "upper", "value", 0)]
    assert boundary.get("u", "x", "lower") is None
    assert len(make_boundary("u = 0", POISSON, BOX).conditions) == 4


def test_sides_and_unknowns_have_conditions_of_their_own():
    boundary = make_boundary({"x": "u = 0; v_n = 1", "y": ("u = 1; v = 0", "u_n = 0; v = 2")}, PAIR, BOX)
    found = {(c.unknown, c.axis, c.side): (c.kind, c.value) for c in boundary.conditions}
    assert len(found) == 8
    assert found["v", "x", "upper"] == ("normal", 1)
    assert found["u", "y", "lower"] == ("value", 1)
    assert found["u", "y", "upper"] == ("normal", 0)
    assert found["v", "y", "upper"] == ("value", 2)


def test_values_are_expressions_of_coordinates_and_parameters():
    condition = make_boundary("u = k*sin(pi*x)", HEATED, BOX).get("u", "y", "upper")
    x, k = sp.Symbol("x", real=True), sp.Symbol("k", real=True)
    assert condition.value == k * sp.sin(sp.pi * x)
    assert not condition.homogeneous
    assert str(condition) == "u = k*sin(pi*x)"


def test_boundaries_can_be_compared_and_cached():
    assert make_boundary("u = 0", POISSON, BOX) == make_boundary({"x": "u = 0", "y": ("u = 0", "u=0")}, POISSON, BOX)
    assert hash(make_boundary("u = 0", POISSON, BOX)) == hash(make_boundary("u = 0", POISSON, BOX))


def test_nothing_is_asked_for_where_nothing_is_differentiated():
    torus = {"x": Periodic(), "y": Periodic()}
    assert make_boundary(None, POISSON, torus) == make_boundary("", POISSON, torus) == Boundary()
    assert make_boundary({"x": ("", "")}, POISSON, torus) == Boundary()
    nerve = make_system(["u_t = u_xx + u - u**3 - v", "v_t = u - v"], ("x",))
    assert len(make_boundary("u_n = 0", nerve, {"x": Bounded()}).conditions) == 2
    inflow = make_system("u_t = -u_x", ("x",))
    assert len(make_boundary({"x": ("u = 1", "")}, inflow, {"x": Bounded()}).conditions) == 1


def test_the_rate_of_an_unknown_inherits_its_kind():
    wave = make_system("u_tt = u_xx", ("x",))
    boundary = make_boundary({"x": ("u = 3", "u_n = 2")}, wave, {"x": Bounded()})
    rates = [boundary.get("u_t", "x", side) for side in ("lower", "upper")]
    assert [(c.kind, c.value) for c in rates] == [("value", 0), ("normal", 0)]


@pytest.mark.parametrize(
    ("text", "system", "domain", "message"),
    [
        (None, POISSON, BOX, r"lower side of x: expected a condition for 'u', got none.*\n.*'u_n = 0' \(no flux\)"),
        ({"x": "u = 0"}, POISSON, BOX, "lower side of y: expected a condition for 'u'"),
        ({"x": "u = 0", "y": ("u = 0", "")}, POISSON, BOX, "upper side of y: expected a condition for 'u'"),
        ("u = 0", PAIR, BOX, "expected a condition for 'v', got none"),
        (None, make_system("u_t = -u_x", ("x",)), {"x": Bounded()}, "boundary of x: expected a condition for 'u'"),
        ({"x": "u = 0", "y": "u = 0"}, POISSON, STRIP, r"no condition on a periodic axis, got 'u = 0'.*\n.*Bounded"),
        ("u = 0", POISSON, {"x": Periodic(), "y": Periodic()}, "every axis is periodic"),
        ({"z": "u = 0"}, POISSON, BOX, "the name of an axis, got 'z'"),
        ({"x": ("u = 0", "u = 0", "u = 0")}, POISSON, BOX, "a pair for the lower and the upper side"),
        ("w = 0", PAIR, BOX, r"an unknown of the equation, got 'w'.*\n.*choose from: u, v"),
        ("vv_n = 0; u = 0", PAIR, BOX, r"got 'vv_n'.*\n.*did you mean 'v'"),
        ("u = 0; u_n = 0", POISSON, BOX, "one condition for 'u', got u = 0 and u_n = 0"),
        ("u = 0; u = 1", POISSON, BOX, "one condition for 'u', got u = 0 and u = 1"),
        ("u", POISSON, BOX, "a condition 'left = right', got 'u'"),
        ("u = 0 = 1", POISSON, BOX, "a condition 'left = right'"),
        ("u =", POISSON, BOX, "a condition 'left = right'"),
        ("2*u = 0", POISSON, BOX, "or an unknown alone on the left, got '2\\*u = 0'"),
        ("u_x = 0", POISSON, BOX, r"a value or a normal derivative, got 'u_x'.*\n.*u_n"),
        ("u = sin(q)", HEATED, BOX, "a coordinate or a parameter, got 'q'"),
        ("u = 2*(x", HEATED, BOX, r"expected '\)'"),
        ("u_n = -w", HEATED, BOX, "got 'w'"),
        ("u = __import__('os')", HEATED, BOX, "a name, a number or an operator"),
    ],
)
def test_what_is_wrong_is_named(text, system, domain, message):
    with pytest.raises(UsageError, match=f"(?s){message}") as caught:
        make_boundary(text, system, domain)
    assert isinstance(caught.value, AnygridError)
