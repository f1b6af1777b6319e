"""What the steppers do beside their order: layouts, dtypes, failures."""

from __future__ import annotations

import pytest
import torch

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.numerics.stepping import ETDRK2, ETDRK4, CrankNicolsonEuler, finite_input, hermite_defect, march

METHODS = [ETDRK4, ETDRK2, CrankNicolsonEuler]


@pytest.mark.parametrize("method", METHODS)
def test_complex_state_with_real_rates_equals_the_plain_complex_arithmetic(method):
    g = torch.Generator().manual_seed(0)
    rates = -torch.rand(4, 3, generator=g, dtype=torch.float64) * 9
    state = torch.randn(2, 4, 3, generator=g, dtype=torch.complex128)

    def nonlinear(u):
        return u * u.roll(1, -1) + (0.2 - 0.1j)

    fast = method(rates, nonlinear, 0.1)(state)
    plain = method(rates.to(torch.complex128), nonlinear, 0.1)(state)
    torch.testing.assert_close(fast, plain, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float64, torch.complex128])
def test_the_dtype_of_the_state_is_kept(method, dtype):
    real = torch.float32 if dtype in (torch.float32, torch.complex64) else torch.float64
    step = method(torch.tensor([-1.0, -2.0], dtype=torch.float64), lambda u: -u, 0.1, real)
    out = step(torch.ones(3, 2, dtype=dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.real, torch.tensor([[0.8187, 0.7408]] * 3, dtype=real), rtol=3e-2, atol=0)


def test_a_step_that_is_not_positive_is_refused():
    for dt in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="a step above 0"):
            ETDRK4(torch.zeros(1), lambda u: u, dt)


def test_march_names_sample_and_time_of_a_blow_up():
    """The solution of u' = u^2 from 50 is infinite at t = 0.02; the other sample stays finite."""
    step = CrankNicolsonEuler(torch.zeros(1, dtype=torch.float64), lambda u: u**2, 0.5)
    start = torch.tensor([[-0.1], [50.0]], dtype=torch.float64)
    with pytest.raises(AnygridError, match=r"finite solution, got NaN or inf in sample 7 at time ([3-9]|1[0-9])(\.5)? ") as caught:
        march(step, start, 100, "Somewhere.solve", [3, 7])
    assert caught.value.where == "Somewhere.solve"
    assert "step" in caught.value.hint


def test_march_takes_the_number_of_steps_asked_for():
    step = ETDRK2(torch.tensor([-1.0], dtype=torch.float64), torch.zeros_like, 0.25)
    out = march(step, torch.ones(1, 1, dtype=torch.float64), 8, "here", [0])
    assert float(out) == pytest.approx(float(torch.exp(torch.tensor(-2.0, dtype=torch.float64))), rel=1e-12)


def test_finite_input_names_the_first_bad_sample():
    a = torch.zeros(4, 1, 3)
    finite_input(a, "here")
    a[2, 0, 1] = float("inf")
    a[3, 0, 0] = float("nan")
    with pytest.raises(DataError, match="2 of 4 samples, the first at index 2"):
        finite_input(a, "here")


def test_hermite_defect_is_differentiable_and_keeps_dtype():
    u = torch.full((2, 3), 0.5, requires_grad=True)
    r = hermite_defect(-torch.ones(3), lambda v: -(v**2), torch.ones(2, 3), u, 0.1)
    assert r.dtype == torch.float32
    (slope,) = torch.autograd.grad(r.sum(), u)
    assert bool((slope > 5).all())  # about 1 / dt
