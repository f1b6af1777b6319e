"""Ill-posed problems are refused before anything is solved, with the term or parameter at fault; well-posed ones pass."""

from __future__ import annotations

import pytest

from anygrid.equations.checks import check_elliptic, check_well_posed
from anygrid.equations.system import System, make_system
from anygrid.errors import UsageError

Ranges = dict[str, tuple[float, float]]


def system(equations: str | list[str], dimension: int, parameters: Ranges, fields: Ranges) -> System:
    return make_system(equations, ("x", "y", "z")[:dimension], parameters=tuple(parameters), fields=tuple(fields))


WELL_POSED: list[tuple[str | list[str], int, Ranges, Ranges]] = [
    ("u_t = lap(u)", 3, {}, {}),
    ("u_t = -u_xx - u_xxxx - u*u_x", 1, {}, {}),  # the highest order decides
    ("u_t = -6*u*u_x - u_xxx", 1, {}, {}),
    ("u_t = u_xxx - u_xxxx - 3*u_xx", 1, {}, {}),
    ("u_t = nu*lap(u) - u*u_x - u*u_y", 2, {"nu": (0, 1)}, {}),
    ("u_t = div(a*grad(u))", 2, {}, {"a": (0.1, 3)}),
    ("u_t = div(u*grad(u))", 1, {}, {}),  # the state decides
    ("u_t = lap(u**3 - u - eps*lap(u))", 2, {"eps": (0.01, 0.02)}, {}),
    ("u_t = r*u - u - 2*u_xx - u_xxxx - u**3", 1, {"r": (-1, 1)}, {}),
    ("u_t = 2*u_xx + sin(x)*u_xx", 1, {}, {}),
    ("u_tt = c**2*lap(u)", 2, {"c": (1, 2)}, {}),
    ("u_tt = -u_xxxx", 1, {}, {}),
    (["a_t = -b_xx", "b_t = a_xx"], 1, {}, {}),
    (
        ["u_t = Du*lap(u) - u*v**2 + F*(1-u)", "v_t = Dv*lap(v) + u*v**2 - F*v"],
        2,
        {"Du": (2e-5, 3e-5), "Dv": (1e-5, 1e-5), "F": (0.02, 1)},
        {},
    ),
    (["w_t = -dot(perp(psi), grad(w)) + nu*lap(w) + f", "lap(psi) = -w"], 2, {"nu": (1e-3, 1e-3)}, {"f": (-1, 1)}),
    (["h_t = -hu_x", "hu_t = -div(vec(hu**2/h + 0.5*g*h**2))"], 1, {"g": (1, 10)}, {}),
    (["r_t = -m_x", "m_t = -div(vec(m**2/r + p))", "E_t = -div(vec((E+p)*m/r))", "p = 0.4*(E - 0.5*m**2/r)"], 1, {}, {}),
    ("lap(u) = f", 2, {}, {"f": (-1, 1)}),  # steady: nothing evolves
]

ILL_POSED: list[tuple[str | list[str], int, Ranges, Ranges, tuple[str, ...]]] = [
    ("u_t = -lap(u)", 1, {}, {}, ("the sign of -u_xx,", "|k|**2", "+lap(u)")),
    ("u_t = u_x - lap(u)", 2, {}, {}, ("-u_xx - u_yy",)),
    ("u_t = u_xx + u_xxxx", 1, {}, {}, ("the sign of u_xxxx,", "|k|**4")),
    ("u_t = -u_xxx - nu*u_xx", 1, {"nu": (1e-3, 1e-3)}, {}, ("-nu*u_xx", "|k|**2")),
    ("u_t = -div((1 + u**2)*grad(u))", 1, {}, {}, ("u_xx", "|k|**2")),  # whatever the state
    ("u_t = nu*lap(u) - u*u_x", 1, {"nu": (-1, 1)}, {}, ("nu*u_xx", "nu = -1", "range of nu [-1, 1]", "narrow the range of nu")),
    ("u_t = k*u_x + nu*u_xx", 1, {"k": (-1, 1), "nu": (-0.5, 2)}, {}, ("nu = -0.5", "range of nu [-0.5, 2]")),
    ("u_t = (a - b)*u_xx", 1, {"a": (1, 2), "b": (0, 1.5)}, {}, ("a [1, 2], b [0, 1.5]",)),
    ("u_t = a*u_xx + u_yy", 2, {}, {"a": (-0.1, 1)}, ("the sign of a*u_xx,", "a = -0.1")),
    ("u_t = sin(x)*u_xx", 1, {"x": (0, 6)}, {}, ("x = 6",)),
    ("u_tt = -c**2*lap(u)", 2, {"c": (1, 2)}, {}, ("-c**2*u_xx - c**2*u_yy", "|k|**1", "u_tt = +lap(u)")),
    ("u_tt = u_xxxx", 1, {}, {}, ("u_xxxx", "|k|**2")),
    (["u_t = -v_x", "v_t = u_x"], 1, {}, {}, ("|k|**1",)),
    (["w_t = -dot(perp(psi), grad(w)) - nu*lap(w)", "lap(psi) = -w"], 2, {"nu": (1e-3, 1e-3)}, {}, ("-nu*w_xx - nu*w_yy",)),
]


@pytest.mark.parametrize(("equations", "dimension", "parameters", "fields"), WELL_POSED)
def test_well_posed_evolutions_pass(equations, dimension, parameters, fields):
    check_well_posed(system(equations, dimension, parameters, fields), {**parameters, **fields, "x": (0.0, 6.0)})


@pytest.mark.parametrize(("equations", "dimension", "parameters", "fields", "words"), ILL_POSED)
def test_ill_posed_evolutions_name_what_is_at_fault(equations, dimension, parameters, fields, words):
    names = {name: span for name, span in parameters.items() if name != "x"}
    with pytest.raises(UsageError) as caught:
        check_well_posed(system(equations, dimension, names, fields), {**parameters, **fields})
    for word in words:
        assert word in str(caught.value)


ELLIPTIC: list[tuple[str | list[str], int, Ranges, Ranges]] = [
    ("-div(a*grad(u)) = f", 2, {}, {"a": (0.1, 1), "f": (-1, 1)}),
    ("-a*lap(u) + u = 1", 3, {"a": (-1, -0.1)}, {}),
    ("lap(u) + k**2*u = f", 2, {"k": (1, 40)}, {"f": (-1, 1)}),
    ("lap(lap(u)) = 1 + x", 2, {}, {}),
    ("-div((1 + u**2)*grad(u)) = 1 + x", 2, {}, {}),
    ("-u_xx + b*u_x = 1", 1, {"b": (-9, 9)}, {}),
    (["u_x + v_y = x", "u_y - v_x = 0"], 2, {}, {}),
    ("u_t = -lap(u)", 2, {}, {}),  # an evolution is another check's business
]

NOT_ELLIPTIC: list[tuple[str, int, Ranges, Ranges, tuple[str, ...]]] = [
    ("-div(a*grad(u)) = f", 2, {}, {"a": (-1, 2), "f": (-1, 1)}, ("a = ", "range of a [-1, 2]", "keep a on one side of zero")),
    ("-u_xx - a*u_yy = b", 2, {"a": (-1, 3), "b": (0, 1)}, {}, ("a = -1",)),
    ("a*u_xx = 1", 1, {"a": (0, 1)}, {}, ("with zeros", "a = 0")),
    ("u_xx - u_yy = f", 2, {}, {"f": (0, 1)}, ("u_xx - u_yy", "hyperbolic")),
    ("u_x - u_yy = 1", 2, {}, {}, ("an elliptic",)),
    ("u_x + u_y = 1", 2, {}, {}, ("an elliptic",)),
]


@pytest.mark.parametrize(("equations", "dimension", "parameters", "fields"), ELLIPTIC)
def test_elliptic_systems_pass(equations, dimension, parameters, fields):
    check_elliptic(system(equations, dimension, parameters, fields), {**parameters, **fields})


@pytest.mark.parametrize(("equations", "dimension", "parameters", "fields", "words"), NOT_ELLIPTIC)
def test_a_change_of_type_is_named(equations, dimension, parameters, fields, words):
    with pytest.raises(UsageError) as caught:
        check_elliptic(system(equations, dimension, parameters, fields), {**parameters, **fields})
    for word in words:
        assert word in str(caught.value)
