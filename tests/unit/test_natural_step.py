"""The step that an evolution gets when nobody chooses it."""

import math

import pytest

from anygrid.errors import UsageError
from anygrid.grid import Bounded, Periodic
from anygrid.problems.from_text import Equation


def step(text, domain=None, **words):
    return Equation(text, domain or {"x": Periodic()}, **words).dt


def test_decay_to_two_thirds():
    """``exp(-k t) = 2/3`` at ``k t = 0.405``: of 1, 2, 5, 10 the nearest."""
    assert step("u_t = -u", initial={"u": "sin(2*pi*x)"}) == 0.5
    assert step("u_t = -1e7*u", initial={"u": "sin(2*pi*x)"}) == 5e-8
    assert step("u_t = -1e-7*u", initial={"u": "sin(2*pi*x)"}) == 5e6


def test_a_large_mean_hides_no_change():
    assert step("u_t = -(u - 1000)", initial={"u": "1000 + sin(2*pi*x)"}) == 0.5


def test_a_rate_that_starts_from_rest_does_not_count():
    """``cos(w t)`` has changed by a third at ``w t = 0.84``, its rate ``w sin(w t)`` from zero at once."""
    assert step("u_tt = u_xx", initial={"u": "sin(2*pi*x)"}) == pytest.approx(0.84 / (2 * math.pi), rel=0.6)


def test_from_zero_towards_a_state_of_rest():
    """``u = f (1 - exp(-t))``: a third of the way at 0.4."""
    assert step("u_t = 1 - u", initial={"u": 0.0}) == 0.5


def test_values_at_the_boundary_are_no_change_in_time():
    assert step("u_t = u_xx", {"x": Bounded()}, initial={"u": "0.1*cos(pi*x)"}, boundary={"x": ("u = 5", "u = 0")}) > 1e-5


@pytest.mark.parametrize(
    ("text", "start", "match"), [("u_t = u_xx", 1.0, "stays as it starts"), ("u_t = u**3", "1e12 + 0*x", "ends at once")]
)
def test_no_step(text, start, match):
    with pytest.raises(UsageError, match=match):
        step(text, initial={"u": start})


def test_what_is_wrong_with_the_equation_is_said():
    with pytest.raises(UsageError, match=r"u_x\*\*2"):
        step(["u_t = -q_x", "q_xx = u_x**2"])
