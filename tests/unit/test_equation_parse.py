"""Grammar of equation text: precedence is Python's, derivatives and vectors mean what they say, errors point at the place."""

import pytest
import sympy as sp

from anygrid.equations.parse import Scope, parse_equation, parse_expression
from anygrid.errors import AnygridError

x, y = sp.symbols("x y", real=True)
u, v = sp.Function("u")(x, y), sp.Function("v")(x, y)
a, b, c = sp.symbols("a b c", real=True)
PLANE = Scope(("x", "y"), ("a", "b", "c"))


def read(text: str, scope: Scope = PLANE) -> sp.Expr:
    return parse_expression(text, scope)


@pytest.mark.parametrize(
    "text",
    [
        "a + b*c",
        "a - b - c",
        "a / b / c",
        "a / b * c",
        "a * -b",
        "-a**2",
        "(-a)**2",
        "-a**-2",
        "a**b**c",
        "(a**b)**c",
        "2**-1",
        "2**3**2 / 100",
        "a--b",
        "+a - +b",
        "-a*b**2/c",
        "1 - (2 - (3 - a))",
        "1.5e-3*a + .5*b - 2.*c",
    ],
)
def test_precedence_is_that_of_python(text: str) -> None:
    # Trusted text: Python itself is the reference.
    expected = sp.sympify(eval(text, {}, {"a": a, "b": b, "c": c}))
    ours = read(text)
    values = {a: sp.Rational(7, 5), b: sp.Rational(3, 2), c: sp.Rational(5, 4)}
    assert float(ours.subs(values)) == pytest.approx(float(expected.subs(values)), rel=1e-14)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u_x", sp.Derivative(u, x)),
        ("u_xx", sp.Derivative(u, (x, 2))),
        ("u_xxy", sp.Derivative(u, (x, 2), y)),
        ("u_yx - u_xy", sp.Integer(0)),
        ("d(u, x)", sp.Derivative(u, x)),
        ("d(u, x, 2)", sp.Derivative(u, (x, 2))),
        ("d(u_x, x, 2)", sp.Derivative(u, (x, 3))),
        ("d(u*v, y)", sp.Derivative(u * v, y)),
        ("d(2*u + 3, x)", 2 * sp.Derivative(u, x)),
        ("d(x**2*y, x)", 2 * x * y),
        ("d(a, x)", sp.Integer(0)),
        ("lap(u)", sp.Derivative(u, (x, 2)) + sp.Derivative(u, (y, 2))),
        ("div(a*grad(u))", sp.Derivative(a * sp.Derivative(u, x), x) + sp.Derivative(a * sp.Derivative(u, y), y)),
        ("dot(perp(u), grad(v))", sp.Derivative(u, y) * sp.Derivative(v, x) - sp.Derivative(u, x) * sp.Derivative(v, y)),
        ("curl(perp(u))", -sp.Derivative(u, (x, 2)) - sp.Derivative(u, (y, 2))),
        ("curl(vec(u, v))", sp.Derivative(v, x) - sp.Derivative(u, y)),
        ("div(curl(perp(u))*vec(1, 0) + vec(0, u)/2)", -sp.Derivative(u, (x, 3)) - sp.Derivative(u, x, (y, 2)) + sp.Derivative(u, y) / 2),
        ("u**2.0", u**2),
        ("u**0.5", sp.sqrt(u)),
        ("u**-0.5", 1 / sp.sqrt(u)),
        ("pi*u", sp.pi * u),
    ],
)
def test_derivatives_vectors_and_powers(text: str, expected: sp.Expr) -> None:
    assert read(text) == expected


def test_curl_and_lap_of_vectors_in_three_dimensions() -> None:
    space = Scope(("x", "y", "z"))
    identity = "dot(vec(1,1,1), curl(curl(vec(u,v,w))) - grad(div(vec(u,v,w))) + lap(vec(u,v,w)))"
    assert sp.expand(parse_expression(identity, space).doit()) == 0
    assert parse_expression("div(curl(vec(u*v, v*w, u)))", space).doit() == 0


def test_suffixes_with_axis_names_of_several_letters() -> None:
    scope = Scope(("theta", "th"))
    f = sp.Function("u")(*scope.coordinates)
    crossed = sp.Derivative(f, scope.coordinates[1], scope.coordinates[0])  # derivatives stand in the order of the names
    assert parse_expression("u_thetath", scope) == crossed
    assert parse_expression("u_ththeta", scope) == crossed
    parsed = parse_equation("u_t = u_thetatheta + u_the", scope)  # u_the is no suffix of these axes: another unknown
    assert parsed.unknowns == ["u", "u_the"]


def test_declared_names_come_before_derivatives() -> None:
    scope = Scope(("x",), ("u_x", "d"), ("k_x",))
    place = scope.coordinates
    assert parse_expression("u_x", scope) == sp.Symbol("u_x", real=True)
    assert parse_expression("k_x", scope) == sp.Function("k_x")(*place)
    assert parse_expression("d*d(u, x)", scope) == sp.Symbol("d", real=True) * sp.Derivative(sp.Function("u")(*place), place[0])


@pytest.mark.parametrize("name", ["I", "E", "S", "N", "O", "Q", "beta", "gamma", "zeta", "Symbol", "oo", "nan", "lambda", "import", "None"])
def test_names_of_sympy_and_python_are_plain_symbols(name: str) -> None:
    scope = Scope(("x",), (name,))
    assert parse_expression(f"2*{name}", scope) == 2 * sp.Symbol(name, real=True)
    assert parse_equation(f"{name}_t = {name}", Scope(("x",))).unknowns == [name]


def test_rates() -> None:
    parsed = parse_equation("u_tt + d(v, t) = w", Scope(("x",)))
    assert parsed.rates == {"u_tt": ("u", 2), "v_t": ("v", 1)}
    assert parsed.unknowns == ["u", "v", "w"]


ERRORS = [
    # text, column, words of the message
    ("u + ", 5, "the end of the text"),
    ("u + * v", 5, "'*'"),
    ("2u", 2, "products are written with *"),
    ("(u + v", 7, "a parenthesis is not closed"),
    ("u + v)", 6, "')'"),
    ("u ^ 2", 3, "write powers as **"),
    ("u + $", 5, "'$'"),
    ("u + v.real", 6, "'.'"),
    ("u + __class__", 5, "'_'"),
    ("u + u²", 6, "'²'"),
    ("1 + sim(u)", 5, "did you mean 'sin'"),
    ("1 + sin", 5, "sin is a function"),
    ("1 + u(x)", 5, "a product is written u*(...)"),
    ("1 + grad(u)", 5, "a scalar and a vector"),
    ("grad(u)*grad(v)", 9, "write dot(v, w)"),
    ("grad(u)", 1, "a vector"),
    ("1 + div(u)", 5, "a vector in div"),
    ("1 + lap(u, v)", 5, "lap of 1 arguments"),
    ("1 + vec(u)", 5, "vec of 2 arguments"),
    ("1 + sin(u, v)", 5, "sin of 1 argument"),
    ("1 + u**v", 8, "write exp(v*log(u))"),
    ("1 + u**13", 8, "-12 to 12"),
    ("1 + 9**9**9", 8, "-12 to 12"),
    ("u / 0", 5, "a divisor other than 0"),
    ("u / (v - v)", 5, "a divisor other than 0"),
    ("0**-1 * u", 4, "a base other than 0"),
    ("u * (-8)**(1/3)", 11, "the sign and the size of the base"),
    ("u * log(0)", 5, "log of a number where it has no such value"),
    ("u * exp(exp(9))", 5, "exp of a number"),
    ("u * 1e999", 5, "numbers up to 1e+300"),
    ("1 + u * 1e200 * 1e200", 5, "an overflow"),
    ("u_xxxxxxxxx", 1, "up to order 8"),
    ("u_ttt", 1, "2 in time"),
    ("u_xt", 1, "both in one"),
    ("a_x", 1, "parameters are constants"),
    ("1 + d(u, z)", 10, "an axis as second argument"),
    ("1 + d(u)", 8, "d(u, x)"),
    ("1 + d(u, x, 9)", 13, "from 1 to 8"),
    ("1 + d(u*v, t)", 5, "the rate of an unknown"),
    ("1 + t", 5, "a map has no clock"),
    ("lap(lap(lap(lap(lap(u)))))", 1, "derivatives up to order 8"),
]


@pytest.mark.parametrize(("text", "column", "words"), ERRORS)
def test_errors_point_at_the_place(text: str, column: int, words: str) -> None:
    with pytest.raises(AnygridError) as caught:
        read(text)
    message = str(caught.value)
    assert f"column {column}:" in message, message
    assert words in message
    *_, shown, marker = message.split("\n")
    assert shown.strip() == text.strip()
    assert marker.index("^") - 4 == column - 1  # the picture is indented by 4


def test_an_equation_has_two_sides() -> None:
    with pytest.raises(AnygridError, match="left = right"):
        parse_equation("u_t + u", PLANE)
    with pytest.raises(AnygridError, match="column 7"):
        parse_equation("u = v = a", PLANE)


def test_a_forcing_has_no_unknowns() -> None:
    with pytest.raises(AnygridError, match="did you mean 'alpha'"):
        parse_expression("alhpa*x", Scope(("x",), ("alpha",), unknowns=False))
