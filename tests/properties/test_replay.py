"""A recorded step gives what the step itself gives, leaves the differentiable path alone, and refuses what it cannot repeat."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch.autograd import forward_ad

from anygrid.equations.propagator import propagator
from anygrid.equations.system import make_system
from anygrid.grid import Box, Periodic
from anygrid.numerics.replay import Replay, Replayed
from anygrid.numerics.stepping import ETDRK2, ETDRK4

CASES = {
    "forced, not a polynomial": ("u_t = -u*u_x - u_xxx + sin(u)*cos(x)", (63,), {}),
    "two diagonal unknowns": (
        ["u_t = Du*lap(u) - u*v**2 + F*(1-u)", "v_t = Dv*lap(v) + u*v**2 - (F+k)*v"],
        (24, 21),
        {"parameters": ["Du", "Dv", "F", "k"]},
    ),
    "constraint and field": (["w_t = -dot(perp(psi), grad(w)) + 0.01*lap(w) + f", "lap(psi) = -w"], (24, 20), {"fields": ["f"]}),
    "coupled": (["u_t = -v_xx - 2*(u**2 + v**2)*v", "v_t = u_xx + 2*(u**2 + v**2)*u"], (32,), {}),
    "derivative of a composite": ("u_t = div((1 + u**2)*grad(u)) - exp(-u**2)*u/(1 + abs(u))", (8, 9, 10), {}),
    "waves in the plane": (["u_t = v", "v_t = lap(u) - sin(u)"], (32, 32), {}),
    "real factor": ("u_t = -lap(lap(u)) + lap(u**3 - u)", (16, 15), {}),
}


def made(name: str, dtype: torch.dtype, batch: int):
    text, shape, options = CASES[name]
    axes = ["x", "y", "z"][: len(shape)]
    system = make_system(text, axes, **options)
    box = Box.uniform({axis: Periodic(0, 6.28) for axis in axes}, shape)
    g = torch.Generator().manual_seed(0)
    known = {each: 0.1 + 0.1 * torch.rand(batch, generator=g) for each in options.get("parameters", [])}
    known |= {each: torch.rand(batch, *shape, generator=g) for each in options.get("fields", [])}
    states = torch.rand(2, batch, len(system.state), *shape, generator=g, dtype=torch.float64).to(dtype)
    return propagator(system, box, states[0], known), states


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "batch"), [(torch.float32, 3), (torch.float64, 1)])
def test_the_replay_of_a_step_equals_the_step(name, dtype, batch):
    solver, states = made(name, dtype, batch)
    step = solver.step(1e-3)
    assert isinstance(step, Replayed)
    first, second = (solver.forward(u) for u in states)
    replay = Replay.record(step.function, first)
    assert replay is not None
    for u in (second, first, second):  # another state than was recorded, and nothing left behind by one in between
        torch.testing.assert_close(replay(u), step.function(u), rtol=0, atol=8 * torch.finfo(dtype).eps * float(u.abs().max()))
    assert float((step.function(second) - second).abs().max()) > 1e4 * torch.finfo(dtype).eps  # the step does something


@pytest.mark.parametrize("method", [ETDRK2, ETDRK4])
@pytest.mark.parametrize("size", [40, 3000, 30_000])  # on each side of the sizes at which other kernels take over
def test_both_methods_and_all_kernels(method, size):
    g = torch.Generator().manual_seed(1)
    rates, factor = -torch.rand(size, generator=g, dtype=torch.float64), torch.rand(size, generator=g, dtype=torch.float64)
    u, v = torch.randn(2, 2, size, generator=g, dtype=torch.complex128)
    step = method(rates, lambda w: torch.fft.fft(torch.fft.ifft(w, dim=-1).square(), dim=-1) / size, 0.1, factor=factor)
    replay = Replay.record(step, u)
    assert replay is not None
    torch.testing.assert_close(replay(v), step(v), rtol=1e-12, atol=1e-12)


def test_a_factor_is_the_factor_of_the_tendency():
    g = torch.Generator().manual_seed(2)
    rates = -torch.rand(9, generator=g, dtype=torch.float64)
    factor = torch.randn(9, generator=g, dtype=torch.complex128)
    u = torch.randn(2, 9, generator=g, dtype=torch.complex128)
    for method in (ETDRK2, ETDRK4):
        inside = method(rates, lambda w: factor * w * w.roll(1, -1), 0.1)(u)
        torch.testing.assert_close(method(rates, lambda w: w * w.roll(1, -1), 0.1, factor=factor)(u), inside, rtol=1e-13, atol=1e-14)


def test_results_are_the_callers_own():
    step = Replayed(lambda u: u * u + 1)
    u = torch.arange(4.0)
    results = [step(u + k) for k in range(8)]
    assert results[-1].tolist() == [50.0, 65.0, 82.0, 101.0]
    results[-1].zero_()
    assert all(r.tolist() == ((u + k) ** 2 + 1).tolist() for k, r in enumerate(results[:-1]))
    assert u.tolist() == [0.0, 1.0, 2.0, 3.0]


def counted(function):
    calls = []

    def wrapped(u):
        calls.append(u)
        return function(u)

    return Replayed(wrapped), calls


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, when forward mode is first used
def test_gradients_tangents_transforms_and_recordings_see_the_function_itself():
    step, calls = counted(lambda u: u.sin() * u)
    u = torch.linspace(0, 1, 5, dtype=torch.float64)
    for _ in range(9):
        step(u)
    assert len(calls) < 9  # it is played by now
    slope = u.cos() * u + u.sin()
    v = u.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(step(v).sum(), v)[0], slope)
    with torch.no_grad():
        torch.testing.assert_close(step(v), u.sin() * u)
    with forward_ad.dual_level():
        torch.testing.assert_close(forward_ad.unpack_dual(step(forward_ad.make_dual(u, torch.ones_like(u)))).tangent, slope)
    torch.testing.assert_close(torch.func.jvp(step, (u,), (torch.ones_like(u),))[1], slope)
    torch.testing.assert_close(torch.func.vmap(step)(u[:, None])[:, 0], u.sin() * u)
    outer = Replay.record(lambda w: step(w) + 1, u)
    assert outer is not None
    torch.testing.assert_close(outer(2 * u), (2 * u).sin() * 2 * u + 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda u: u * 2 if float(u.sum()) > 0 else u * 3,
        lambda u: u.clone().add_(1),
        lambda u: torch.add(u, 1, out=torch.empty_like(u)),
        lambda u: u.max(0).values * u,
    ],
    ids=["branch on values", "in place", "out", "two results"],
)
def test_what_cannot_be_repeated_is_computed_plainly(function):
    u = torch.tensor([1.0, 2.0])
    assert Replay.record(function, u) is None
    step = Replayed(function)
    for k in range(8):
        torch.testing.assert_close(step(u - k), function(u - k))


def test_overflow_is_silent_as_in_torch():
    replay = Replay.record(lambda u: u * u - u * u, torch.ones(3))
    assert replay is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(replay(torch.full((3,), 1e30)).isnan().all())


def test_threads_share_a_step():
    g = torch.Generator().manual_seed(3)
    step = Replayed(lambda u: torch.fft.irfft(torch.fft.rfft(u * u + u), n=256))
    states = torch.randn(4, 16, 256, generator=g, dtype=torch.float64)
    wanted = [step.function(u) for u in states]
    wrong = []

    def work(k):
        for _ in range(60):
            if not torch.allclose(step(states[k]), wanted[k], rtol=1e-12, atol=1e-12):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_shapes_do_not_pile_up():
    step = Replayed(lambda u: u * u)
    for n in range(1, 40):
        for _ in range(6):
            assert step(torch.full((n,), 3.0)).tolist() == [9.0] * n
    assert len(step._calls) < 12


@pytest.mark.parametrize("n", [8, 64, 128])
def test_memory_is_used_again_only_where_elements_fall_on_themselves(n):
    def function(u):
        return torch.addcmul(torch.sin(u).mT, torch.exp(u).mT, u + 1)

    u = torch.rand(n, n, dtype=torch.float64)
    replay = Replay.record(function, u)
    torch.testing.assert_close(replay(u + 1), function(u + 1), atol=1e-12, rtol=1e-12)
