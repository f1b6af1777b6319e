"""No texts, for equations, conditions, quantities and starts together, raise anything but an AnygridError, or take long."""

import time

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from anygrid.errors import AnygridError
from anygrid.grid import Bounded, Periodic
from anygrid.problems.from_text import Equation

SECONDS = 8.0  # type checks under pytest and a busy machine; without them a small part of it
TERMS = ["u", "u_x", "u_xx", "u_xxx", "u*u_x", "v", "v_xx", "lap(u)", "d(a*u_x, x)", "f", "a", "x", "sin(u)", "u**2", "1", "q"]
LEFT = ["u_t", "v_t", "u_tt", "-lap(u)", "v", "q", "u", "0", "u_t + v_t"]
SIDES = [
    "",
    "u = 0",
    "u_n = 0",
    "u = 1; v = 0",
    "u_n + u = a",
    "u_n = -u*v",
    "u_n = -u**2",
    "v_n = u",
    "u = x",
    "u_xx = 0; u = 0",
    "w = 0",
    "u =",
]
GIVEN = [
    "1",
    "-1",
    "0",
    "uniform(1, 2)",
    "loguniform(1, 2)",
    "random()",
    "random(positive=true)",
    "sin(x)",
    "b*x",
    "uniform(2)",
    "nan",
    "u",
    "1/x",
    "",
]
sides = st.sampled_from(SIDES)
quantities = st.dictionaries(st.sampled_from(["a", "f", "b", "u", "x", "t"]), st.sampled_from(GIVEN), max_size=3)


@st.composite
def texts(draw: st.DrawFn) -> str:
    signs = st.sampled_from([" + ", " - ", "*"])
    terms = draw(st.lists(st.sampled_from(TERMS), min_size=1, max_size=4))
    return draw(st.sampled_from(LEFT)) + " = " + terms[0] + "".join(draw(signs) + term for term in terms[1:])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(texts(), min_size=1, max_size=3),
    st.booleans(),
    st.one_of(st.none(), sides, st.fixed_dictionaries({"x": st.tuples(sides, sides)})),
    quantities,
    quantities,
    st.sampled_from([0.01, None]),
)
def test_any_equation(equations, periodic, boundary, parameters, initial, dt):
    started = time.process_time()
    domain = {"x": (Periodic if periodic else Bounded)(0, 1)}
    try:
        problem = Equation(equations, domain, parameters=parameters, initial=initial, boundary=boundary, dt=dt)
        grid = problem.grid(16)
        a = problem.sample(2, grid, torch.Generator().manual_seed(0))
        u = problem.solve(a, grid)
    except AnygridError as error:
        complaint = error
    else:
        complaint = None
        assert u.shape == (2, len(problem.outputs), 16)
        assert torch.isfinite(u).all()
    assert complaint is None or len(str(complaint)) < 1500
    assert time.process_time() - started < SECONDS, (equations, boundary, parameters, initial)
