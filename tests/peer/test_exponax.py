"""Agreement of the pseudo-spectral problems with exponax 0.2.0 (JAX), and of the published scheme with a transcription of its code."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from anygrid.numerics.pseudospectral import resample
from anygrid.problems.burgers import Burgers
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    jax = pytest.importorskip("jax")
    jax.config.update("jax_platforms", "cpu")
    exponax = pytest.importorskip("exponax")


def advance(stepper, a: torch.Tensor, steps: int) -> torch.Tensor:
    """Roll an exponax stepper over every sample of ``(batch, 1, *space)`` in float64."""
    repeated = jax.jit(jax.vmap(exponax.RepeatedStepper(stepper, steps)))
    return torch.from_numpy(np.array(repeated(jax.numpy.asarray(a.numpy()))))


@pytest.fixture(autouse=True)
def _double():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def relative(u: torch.Tensor, v: torch.Tensor) -> float:
    return float((u - v).norm() / v.norm())


@pytest.mark.parametrize("n", [48, 81])
def test_kuramoto_sivashinsky(n):
    problem = KuramotoSivashinsky(spin_up=5)
    grid = problem.grid(n)
    a = problem.sample(2, grid, torch.Generator().manual_seed(0)).double()
    other = exponax.stepper.KuramotoSivashinskyConservative(1, 22.0, n, 0.05, order=4)
    assert relative(problem.solve(a, grid), advance(other, a, 20)) < 1e-7


def test_burgers():
    problem = Burgers(viscosity=0.01, modes=8, dt=0.5)
    grid = problem.grid(256)
    a = problem.sample(2, grid, torch.Generator().manual_seed(1)).double()
    other = exponax.stepper.Burgers(1, 1.0, 256, 1 / 1024, diffusivity=0.01, convection_scale=1.0, conservative=True, order=4)
    assert relative(problem.solve(a, grid), advance(other, a, 512)) < 1e-7


@pytest.mark.parametrize(("n", "bound"), [(48, 1e-8), (63, 1e-6)])  # at 48 both keep the same modes; else exponax keeps one less
def test_navier_stokes_vorticity(n, bound):
    problem = NavierStokes(viscosity=1e-3, forcing=0.0, modes=6, courant=0.25, dt=0.5)
    grid = problem.grid(n)
    a = 3 * problem.sample(2, grid, torch.Generator().manual_seed(2)).double()
    other = exponax.stepper.NavierStokesVorticity(2, 1.0, n, 1 / 100, diffusivity=1e-3, order=4)
    u = problem.solve(a, grid)
    assert relative(u, a) > 0.1
    # exponax takes the velocity from psi = inverse-Laplacian(w): its w is minus the curl of its velocity.
    assert relative(u, -advance(other, -a, 50)) < bound


def published_code(w0: np.ndarray, viscosity: float, steps: int, dt: float = 1e-4) -> np.ndarray:
    """Transcription in numpy, with full complex transforms, of the update in the published ns_2d.py (MIT licence)."""
    n = w0.shape[-1]
    k = np.fft.fftfreq(n, 1 / n)
    kx, ky = k[:, None], k[None, :]
    lap = 4 * math.pi**2 * (kx**2 + ky**2)
    safe = lap.copy()
    safe[0, 0] = 1.0
    mask = (np.abs(kx) <= 2 / 3 * (n // 2)) & (np.abs(ky) <= 2 / 3 * (n // 2))
    x = np.arange(n) / n
    phase = 2 * math.pi * (x[:, None] + x)
    f_h = np.fft.fft2(0.1 * (np.sin(phase) + np.cos(phase)))
    w_h = np.fft.fft2(w0)
    for _ in range(steps):
        psi_h = w_h / safe
        q, v = (np.fft.ifft2(s * 2j * math.pi * m * psi_h).real for s, m in ((1, ky), (-1, kx)))
        w_x, w_y = (np.fft.ifft2(2j * math.pi * m * w_h).real for m in (kx, ky))
        advection = mask * np.fft.fft2(q * w_x + v * w_y)
        w_h = (-dt * advection + dt * f_h + (1 - 0.5 * dt * viscosity * lap) * w_h) / (1 + 0.5 * dt * viscosity * lap)
    return np.fft.ifft2(w_h).real


def test_published_scheme_equals_the_published_code():
    """Band-limited starts, where the code's undealiased factors alias nothing: equal to rounding."""
    problem = NavierStokes(modes=10, dt=0.02, scheme="published")
    grid = problem.grid(32)
    a = 5 * problem.sample(1, grid, torch.Generator().manual_seed(3)).double()
    a = resample(resample(a, (21, 21)), (32, 32))  # the sampler's float32 rounding fills every mode
    torch.testing.assert_close(problem.solve(a, grid)[0, 0].numpy(), published_code(a[0, 0].numpy(), 1e-3, 200), rtol=0, atol=1e-11)


def test_fourth_order_steps_agree_with_the_published_code():
    problem = NavierStokes(modes=10, dt=0.05)
    grid = problem.grid(32)
    a = 3 * problem.sample(1, grid, torch.Generator().manual_seed(4)).double()
    published = torch.from_numpy(published_code(a[0, 0].numpy(), 1e-3, 500))
    assert relative(problem.solve(a, grid)[0, 0], published) < 1e-5
