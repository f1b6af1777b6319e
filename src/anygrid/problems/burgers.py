"""Viscous Burgers equation in one dimension, at the published recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import AnygridError, UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.grid import Box, Grid, Periodic
from anygrid.numerics.pseudospectral import (
    derivative,
    from_spectrum,
    laplacian,
    periodic_box,
    resample,
    square_flux,
    to_spectrum,
    wave_numbers,
)
from anygrid.numerics.random_fields import periodic_field
from anygrid.numerics.stepping import ETDRK4, Stepper, finite_input, march
from anygrid.problems.base import Card, Problem

__all__ = ["Burgers", "cole_hopf"]

_SCHEMES = ("etdrk4", "cole-hopf")
_LADDER = torch.tensor(sorted(q * 2**e for e in range(3, 16) for q in (2, 3)))  # few distinct sizes keep batches whole
_LEAST_POINTS, _POINTS_PER_LAYER = 128, 1.5  # a layer is viscosity / speed wide
_LEAST_STEPS, _STEPS_PER_CROSSING = 32, 512  # a crossing takes 1 / speed
_CHUNK_BYTES = 1 << 20  # of velocity advanced together


@dataclass(frozen=True)
class Burgers(Problem):
    r"""Velocity at time ``dt`` from the velocity at time 0.

    .. math:: \partial_t u + u \, \partial_x u = \nu \, \partial_x^2 u

    on ``[0, 1)``, periodic, non-dimensional. The mean is conserved (0 for the sampler).

    Parameters
    ----------
    viscosity
        Kinematic viscosity.
    dt
        Time from input to output; the published map takes the initial state to time 1.
    scheme
        ``etdrk4``: Fourier pseudo-spectral. ``cole-hopf``: the closed-form solution by two transforms, in float64; faster and exact, but
        limited to viscosities at which ``exp(-integral(u) / 2 nu)`` is within the range of float64.
    modes
        Largest wave number of sampled initial conditions (4096: all that the published 8192 points carry).

    Notes
    -----
    ``etdrk4`` solves on its own number of points, whatever the grid: 128 or what resolves a layer of width ``viscosity / max|u|``
    and all that does not decay within ``dt``; so a coarse grid pays for what it does not know of the input only (most of it the mean,
    which sampling aliases and diffusion never removes), and a fine one is not slower. Steps: 512 for the time in which the
    fastest point crosses the domain, or ``viscosity / max|u|**2`` each if that is shorter. At the published viscosity the error of
    ``u(1)`` against Cole and Hopf is about 1e-7. Both numbers follow from each sample alone: no result depends on the batch.

    Source: Li et al., Fourier Neural Operator for Parametric PDEs, ICLR 2021, section 5.1 and the data generation code beside it.
    """

    viscosity: float = 0.1
    dt: float = 1.0
    scheme: str = "etdrk4"
    modes: int = 4096

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("velocity", "1", "velocity"),)
    outputs: ClassVar[tuple[Variable, ...]] = inputs
    card: ClassVar[Card] = Card(
        title="Burgers 1D (viscous)",
        equation="u_t + u u_x = nu u_xx",
        boundary="periodic on [0, 1)",
        sampler="Gaussian field of covariance 625 (-lap + 25)^(-2), zero mean, wave numbers up to `modes`",
        solver="Fourier pseudo-spectral with the 2/3 rule and ETDRK4, on its own internal grid; or the closed form of Cole and Hopf",
        order="spectral in space, 4 in time",
        cost="one core: 20 ms a sample at any resolution (cole-hopf: 2 ms at 8192 points)",
        source="Li et al., ICLR 2021 (arXiv:2010.08895), section 5.1; exact solution: Cole 1951, Hopf 1950",
    )

    def __post_init__(self) -> None:
        for name in ("viscosity", "dt", "modes"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"Burgers({name}=...)", "a finite number above 0", f"{value}")
        if self.scheme not in _SCHEMES:
            raise UsageError("Burgers(scheme=...)", "a known scheme", repr(self.scheme), did_you_mean(str(self.scheme), _SCHEMES))

    @property
    def conserved(self) -> tuple[str, ...]:
        """The equation is a conservation law."""
        return ("velocity",)

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Evenly spaced points ``j / resolution``; 8192 is the published size."""
        return Box.uniform({"x": Periodic()}, resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch 1 *space"]:
        """Initial velocity of the published sampler (float32): standard deviation about 0.6."""
        return periodic_field(n, grid, scale=25.0, shift=25.0, power=2.0, modes=self.modes, generator=generator)[:, None].float()

    def solve(self, a: Float[Tensor, "batch 1 *space"], grid: Grid) -> Float[Tensor, "batch 1 *space"]:
        """Velocity at time ``dt``, in the dtype of ``a``; the arithmetic is float64.

        Raises
        ------
        GridError
            Unless the grid is even and periodic with period 1.
        DataError
            If ``a`` is not finite.
        AnygridError
            If the layers are too thin for the largest internal grid, the closed form is out of range or the solution stops being finite.
        """
        box = periodic_box(grid, "Burgers.solve", (1.0,))
        finite_input(a, "Burgers.solve")
        u = a[:, 0].double()
        if self.scheme == "cole-hopf":
            return cole_hopf(u, box, self.viscosity, self.dt)[:, None].to(a.dtype)
        sizes, counts = self._plan(u)
        out = torch.empty_like(u)
        for size, count in sorted({*zip(sizes.tolist(), counts.tolist(), strict=True)}):
            index = torch.nonzero((sizes == size) & (counts == count))[:, 0]
            step = _stepper(self.grid(size), self.viscosity, self.dt / count, u.device)
            for rows in index.split(max(1, _CHUNK_BYTES // (8 * size))):
                u_hat = march(step, to_spectrum(resample(u[rows], (size,)), 1), count, "Burgers.solve", rows.tolist())
                out[rows] = resample(from_spectrum(u_hat, (size,)), box.shape)
        return out[:, None].to(a.dtype)

    def residual(
        self, a: Float[Tensor, "batch 1 *space"], u: Float[Tensor, "batch 1 *space"], grid: Grid
    ) -> Float[Tensor, "batch 1 *space"]:
        r"""``u + 2 nu phi_x / phi`` with ``phi(dt)`` the heat flow of ``phi(0) = exp(-integral(a) / 2 nu)``.

        The Cole-Hopf form of the equation, where time needs no discretisation: in velocity units, it is 0 to the spectral accuracy of
        the grid at any ``dt``.
        """
        box = periodic_box(grid, "Burgers.residual", (1.0,))
        return u - cole_hopf(a[:, 0].double(), box, self.viscosity, self.dt)[:, None].to(u.dtype)

    def correction(
        self, a: Float[Tensor, "batch 1 *space"], u: Float[Tensor, "batch 1 *space"], grid: Grid
    ) -> Float[Tensor, "batch 1 *space"]:
        """The error itself: the residual in Cole-Hopf form is in units of the velocity."""
        return -self.residual(a, u, grid)

    def _plan(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Internal points and steps of each sample, each of shape ``(batch,)``."""
        speed = u.abs().amax(-1).cpu()
        alive = min(u.shape[-1], 4 / math.sqrt(self.viscosity * self.dt))  # modes beyond decay by 1e-16 or more within dt
        points = (_POINTS_PER_LAYER * speed / self.viscosity).clamp(min=max(_LEAST_POINTS, alive))
        steps = (self.dt * torch.maximum(_STEPS_PER_CROSSING * speed, speed**2 / self.viscosity)).clamp(min=_LEAST_STEPS)
        if max(points.max(), steps.max()) > _LADDER[-1]:
            got = f"sample {int(points.argmax())} with speed {speed.max():.3g} at viscosity {self.viscosity:g}"
            expected = f"a solution within {_LADDER[-1]} internal points and steps"
            raise AnygridError("Burgers.solve", expected, got, "raise the viscosity or lower the amplitude")
        return _LADDER[torch.searchsorted(_LADDER, points)], _LADDER[torch.searchsorted(_LADDER, steps)]


def cole_hopf(u: Float[Tensor, "batch n"], grid: Box, viscosity: float, time: float) -> Float[Tensor, "batch n"]:
    r"""Exact solution of the periodic Burgers equation at ``time`` from ``u`` at 0, by two Fourier transforms (float64).

    .. math:: u(x, t) = c - 2\nu \frac{\partial_x \varphi}{\varphi}(x - c t, t), \quad \varphi_t = \nu \varphi_{xx}, \quad
        \varphi(x, 0) = \exp\Big(-\frac{1}{2\nu} \int_0^x (u - c)\Big), \quad c = \text{mean of } u

    Exact but for the sampling of ``phi(., 0)``, which is spectrally accurate. Source: Hopf, Comm. Pure Appl. Math. 3 (1950) 201.

    Raises
    ------
    AnygridError
        If the smallest ``phi`` is below 1e-9 of the largest, where rounding would show: small viscosity or large velocity.
    """
    k = wave_numbers(grid)[0].to(u.device)
    slope = derivative(grid, 0).to(u.device)
    mean = u.mean(-1, keepdim=True)
    u_hat = to_spectrum(u - mean, 1)
    potential = from_spectrum(torch.where(k > 0, u_hat / torch.where(k > 0, 1j * k, 1), 0), grid.shape)
    exponent = -potential / (2 * viscosity)
    phi_hat = to_spectrum(torch.exp(exponent - exponent.amax(-1, keepdim=True)), 1) * torch.exp(
        -viscosity * k**2 * time - 1j * k * mean * time
    )
    phi = from_spectrum(phi_hat, grid.shape)
    if (phi.amin(-1) < 1e-9 * phi.amax(-1)).any():
        got = f"viscosity {viscosity:g} and speeds to {u.abs().max():.3g}"
        raise AnygridError("cole_hopf", "a solution within the range of float64", got, "use scheme='etdrk4', or a larger viscosity")
    return mean - 2 * viscosity * from_spectrum(slope * phi_hat, grid.shape) / phi


@lru_cache(maxsize=16)
def _stepper(box: Box, viscosity: float, h: float, device: torch.device) -> Stepper:
    return ETDRK4(viscosity * laplacian(box), square_flux(box, torch.float64, device), h, torch.float64, device)
