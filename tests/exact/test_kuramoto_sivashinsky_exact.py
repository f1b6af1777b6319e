"""Kuramoto-Sivashinsky: linear growth, symmetries, statistics of the attractor, failures."""

from __future__ import annotations

import math

import pytest
import torch

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky


def start(problem: KuramotoSivashinsky, n: int) -> torch.Tensor:
    return problem.sample(2, problem.grid(n), torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize("mode", [1, 2, 5])
def test_small_waves_grow_and_decay_at_the_linear_rate(n, mode):
    problem = KuramotoSivashinsky(dt=2.0)
    grid = problem.grid(n)
    k = 2 * math.pi * mode / 22
    wave = 1e-7 * torch.cos(k * grid.points()[..., 0])[None, None]
    torch.testing.assert_close(problem.solve(wave, grid), wave * math.exp(2 * (k**2 - k**4)), rtol=0, atol=1e-12)


def test_galilean_invariance():
    """u(x, t) + c moves with speed c: choose c so that one dt moves by 6 grid points."""
    problem = KuramotoSivashinsky(spin_up=5, step=0.01)
    grid, a = problem.grid(64), start(KuramotoSivashinsky(spin_up=5), 64)
    c = 6 * 22 / 64
    torch.testing.assert_close(problem.solve(a + c, grid), problem.solve(a, grid).roll(6, -1) + c, rtol=0, atol=1e-6)


def test_mirror_shift_and_mean():
    problem = KuramotoSivashinsky(spin_up=5)
    grid, a = problem.grid(48), start(problem, 48)
    u = problem.solve(a, grid)
    torch.testing.assert_close(problem.solve(a.roll(7, -1), grid), u.roll(7, -1), rtol=0, atol=1e-11)
    torch.testing.assert_close(problem.solve(-a.flip(-1), grid), -u.flip(-1), rtol=0, atol=1e-11)
    torch.testing.assert_close(u.mean(-1), a.mean(-1), rtol=0, atol=1e-13)


def test_samples_lie_on_the_attractor():
    """Spun up: standard deviation near 1.25 (length 22) and a spectrum that falls exponentially beyond the unstable band."""
    problem = KuramotoSivashinsky(spin_up=60, step=0.2)
    a = problem.sample(64, problem.grid(64), torch.Generator().manual_seed(1))
    assert 1.0 < float(a.std()) < 1.5
    power = torch.fft.rfft(a[:, 0]).abs().mean(0)
    assert float(power[12] / power[2]) < 1e-2
    assert float(power[18] / power[2]) < 1e-5
    assert float(a.mean(-1).abs().max()) < 1e-6


def test_coarse_grids_converge_faster_than_any_order():
    problem = KuramotoSivashinsky(spin_up=5)
    finest = problem.solve(start(problem, 192), problem.grid(192))[..., ::12]
    errors = [float((problem.solve(start(problem, n), problem.grid(n))[..., :: n // 16] - finest).norm()) for n in (32, 48, 64)]
    assert errors[1] < 0.05 * errors[0]
    assert errors[2] < 1e-4 * errors[0]


def test_errors_are_named():
    problem = KuramotoSivashinsky(step=0.5, dt=50)
    grid = problem.grid(32)
    wave = torch.sin(2 * math.pi * grid.points()[..., 0] / 22)[None, None]
    with pytest.raises(AnygridError, match=r"NaN or inf in sample 1 at time \d"):
        problem.solve(torch.cat((wave, 1e6 * wave)), grid)
    with pytest.raises(DataError, match="1 of 1 samples"):
        problem.solve(wave * math.inf, grid)
    for bad in ({"length": 0.0}, {"dt": -1.0}, {"step": math.nan}, {"spin_up": -1.0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            KuramotoSivashinsky(**bad)
