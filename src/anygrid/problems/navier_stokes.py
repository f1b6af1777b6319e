"""Two-dimensional incompressible Navier-Stokes on the unit torus, in vorticity form, at the published recipe."""

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
    dealias,
    derivative,
    from_spectrum,
    inverse_laplacian,
    laplacian,
    periodic_box,
    to_spectrum,
    wave_numbers,
)
from anygrid.numerics.random_fields import periodic_field
from anygrid.numerics.stepping import ETDRK4, CrankNicolsonEuler, Nonlinear, Stepper, finite_input, hermite_defect, march
from anygrid.problems.base import Card, Problem

__all__ = ["NavierStokes"]

_SCHEMES = ("etdrk4", "published")
_PUBLISHED_STEP = 1e-4
_LADDER = torch.tensor(sorted([1, 3, *(q * 2**e for e in range(13) for q in (2, 3))]))  # few distinct counts keep batches whole
_CHUNK_BYTES = 1 << 20  # of vorticity advanced together; larger chunks fall out of the cache and run 2 to 4 times slower


@dataclass(frozen=True)
class NavierStokes(Problem):
    r"""Vorticity one output step later.

    .. math::
        \partial_t w + \mathbf{u} \cdot \nabla w = \nu \nabla^2 w + f, \quad
        \mathbf{u} = (\partial_y \psi, -\partial_x \psi), \quad \nabla^2 \psi = -w, \quad
        f = A (\sin 2\pi(x + y) + \cos 2\pi(x + y))

    on the torus ``[0, 1)^2``, non-dimensional. The mean of ``w`` is conserved (0 for the sampler).

    Parameters
    ----------
    viscosity
        Kinematic viscosity; 1e-3, 1e-4 and 1e-5 are the published cases.
    dt
        Time from input to output.
    scheme
        ``etdrk4``: fourth order, internal step from a Courant number. ``published``: Crank-Nicolson and explicit Euler with steps
        of 1e-4, first order, some hundred times slower; there to reproduce the published data.
    forcing
        Amplitude ``A``.
    courant
        Largest ``(|u| + |v|) k h`` of a step ``h`` of ``etdrk4``, ``k`` the largest wave number that is advected (2/3 of the grid's).
        Must stay below 2.8, the stability limit.
    modes
        Largest wave number of sampled initial conditions (127: all that the published 256-point grid carries).

    Notes
    -----
    Space: Fourier pseudo-spectral, products dealiased by the 2/3 rule; the advection is evaluated as
    :math:`(\partial_{yy} - \partial_{xx})(uv) + \partial_{xy}(u^2 - v^2)`, equal to :math:`-\mathbf{u} \cdot \nabla w` for the
    divergence-free velocity and one transform cheaper (Basdevant, J. Comput. Phys. 50 (1983) 209).
    Modes beyond 2/3 feel diffusion and forcing only. Each sample takes its own number of steps, from its own velocity, so
    that no result depends on the batch it is solved in.

    Source: Li et al., Fourier Neural Operator for Parametric PDEs, ICLR 2021, section 5.3 and the data generation code beside it.
    """

    viscosity: float = 1e-3
    dt: float = 1.0
    scheme: str = "etdrk4"
    forcing: float = 0.1
    courant: float = 2.0
    modes: int = 127

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("vorticity", "1", "vorticity"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("vorticity", "1", "vorticity"),)
    card: ClassVar[Card] = Card(
        title="Navier-Stokes 2D (vorticity, forced, periodic)",
        equation="w_t + u.grad w = nu lap w + A (sin 2pi(x+y) + cos 2pi(x+y)),  u = (psi_y, -psi_x),  lap psi = -w",
        boundary="periodic on the unit square",
        sampler="Gaussian field of covariance 2 tau^3 (-lap + tau^2)^(-2.5), tau = 7, zero mean, wave numbers up to `modes` on each axis",
        solver="Fourier pseudo-spectral with the 2/3 rule; ETDRK4 with Courant-limited steps, or the published Crank-Nicolson + Euler",
        order="spectral in space, 4 in time (published scheme: 1)",
        cost="nu=1e-3, one core: about 0.01 s a sample and unit of time at 64x64, 0.05-0.07 s at 128x128",
        source="Li et al., ICLR 2021 (arXiv:2010.08895), section 5.3; ETDRK4: Kassam and Trefethen 2005",
    )

    def __post_init__(self) -> None:
        for name in ("viscosity", "dt", "courant", "modes"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"NavierStokes({name}=...)", "a finite number above 0", f"{value}")
        if self.courant > 2.8:
            raise UsageError(
                "NavierStokes(courant=...)", "at most 2.8, the stability limit of the method", f"{self.courant}", "leave it at 2"
            )
        if self.scheme not in _SCHEMES:
            raise UsageError("NavierStokes(scheme=...)", "a known scheme", repr(self.scheme), did_you_mean(str(self.scheme), _SCHEMES))

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Output steps of a published trajectory: 50, 30 or 20 units of time, for viscosities from 1e-3, 1e-4 or below."""
        length = 50 if self.viscosity >= 1e-3 else 30 if self.viscosity >= 1e-4 else 20
        return max(1, round(length / self.dt))

    @property
    def conserved(self) -> tuple[str, ...]:
        """Transport, diffusion and the waves of the forcing have no mean."""
        return ("vorticity",)

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Evenly spaced points ``j / resolution`` along ``x`` and ``y``."""
        return Box.uniform({"x": Periodic(), "y": Periodic()}, resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch 1 *space"]:
        """Initial vorticity of the published sampler (float32): standard deviation about 0.26."""
        scale = math.sqrt(2) * 7**1.5  # sqrt 2: the published code draws both parts of every coefficient with unit variance
        return periodic_field(n, grid, scale=scale, shift=49.0, power=2.5, modes=self.modes, generator=generator)[:, None].float()

    def solve(self, a: Float[Tensor, "batch 1 *space"], grid: Grid) -> Float[Tensor, "batch 1 *space"]:
        """Vorticity ``dt`` later, in the dtype of ``a``.

        Raises
        ------
        GridError
            Unless the grid is the unit torus with even spacing.
        DataError
            If ``a`` is not finite.
        AnygridError
            If the solution stops being finite or would need more than 12,288 internal steps, with the sample and time.
        """
        box = self._box(grid, "NavierStokes.solve")
        finite_input(a, "NavierStokes.solve")
        w = a[:, 0]
        counts = self._substeps(w, box)
        rows = max(1, _CHUNK_BYTES // (box.size * w.element_size()))
        out = torch.empty_like(w)
        for count in counts.unique().tolist():
            step = _stepper(self, box, self.dt / count, w.dtype, w.device)
            for index in torch.nonzero(counts == count)[:, 0].split(rows):
                w_hat = march(step, to_spectrum(w[index], 2), count, "NavierStokes.solve", index.tolist())
                out[index] = from_spectrum(w_hat, box.shape)
        return out[:, None]

    def residual(
        self, a: Float[Tensor, "batch 1 *space"], u: Float[Tensor, "batch 1 *space"], grid: Grid
    ) -> Float[Tensor, "batch 1 *space"]:
        """Defect of the equation over one ``dt`` (vorticity per time), from the two ends alone; order 4 in ``dt``.

        See :func:`~anygrid.numerics.stepping.hermite_defect`. It is 0 only to that order: at ``dt = 1`` and
        ``viscosity = 1e-3`` about 2e-4 of ``(u - a) / dt`` on the true solution.
        """
        box = self._box(grid, "NavierStokes.residual")
        linear = (self.viscosity * laplacian(box)).to(a.device, a.dtype)
        tendency = _tendency(box, self.forcing, a.dtype, a.device)
        r_hat = hermite_defect(linear, tendency, to_spectrum(a[:, 0], 2), to_spectrum(u[:, 0], 2), self.dt)
        return from_spectrum(r_hat, box.shape)[:, None]

    def correction(
        self, a: Float[Tensor, "batch 1 *space"], u: Float[Tensor, "batch 1 *space"], grid: Grid
    ) -> Float[Tensor, "batch 1 *space"]:
        """Estimate of ``truth - u``: ``-dt`` times the defect, in which the linear part is exact."""
        return -self.dt * self.residual(a, u, grid)

    def _box(self, grid: Grid, where: str) -> Box:
        return periodic_box(grid, where, lengths=(1.0, 1.0))

    def _substeps(self, w: Tensor, box: Box) -> Tensor:
        """Internal steps of each sample, shape ``(batch,)``."""
        if self.scheme == "published":
            return torch.full((len(w),), math.ceil(self.dt / _PUBLISHED_STEP - 1e-6))
        psi = -to_spectrum(w, 2) * inverse_laplacian(box).to(w.device)
        speed = sum(from_spectrum(psi * derivative(box, k).to(w.device), box.shape).abs() for k in (0, 1))
        # The forcing alone can add A sqrt(2) / (2 pi) to |u| + |v| in a unit of time.
        fastest = torch.as_tensor(speed).amax((-2, -1)).double().cpu() + self.dt * abs(self.forcing) * math.sqrt(2) / (2 * math.pi)
        wanted = (self.dt * (2 * math.pi / 3) * max(box.shape) * fastest / self.courant).ceil()
        if wanted.max() > _LADDER[-1]:
            got = f"sample {int(wanted.argmax())} with speed {fastest.max():.3g}"
            raise AnygridError(
                "NavierStokes.solve", f"at most {_LADDER[-1]} internal steps", got, "check the amplitude of the vorticity, or lower dt"
            )
        return _LADDER[torch.searchsorted(_LADDER, wanted)]


@lru_cache(maxsize=32)
def _stepper(problem: NavierStokes, box: Box, h: float, dtype: torch.dtype, device: torch.device) -> Stepper:
    method = CrankNicolsonEuler if problem.scheme == "published" else ETDRK4
    return method(problem.viscosity * laplacian(box), _tendency(box, problem.forcing, dtype, device), h, dtype, device)


@lru_cache(maxsize=8)
def _tendency(box: Box, forcing: float, dtype: torch.dtype, device: torch.device) -> Nonlinear:
    """Advection and forcing: a function of Fourier coefficients ``(batch, kx, ky)``."""
    pair = torch.complex64 if dtype == torch.float32 else torch.complex128
    mask = dealias(box.shape)
    kx, ky = wave_numbers(box)
    psi = -inverse_laplacian(box) * mask
    velocity = torch.stack((psi * derivative(box, 1), -psi * derivative(box, 0))).to(device, pair)
    x, y = box.points().unbind(-1)
    phase = 2 * math.pi * (x + y)
    force = torch.view_as_real(to_spectrum(forcing * (phase.sin() + phase.cos()), 2).to(device, pair))
    # Real factors on (re, im) pairs: a mixed real-complex product would be converted element by element.
    cross, difference = (c[..., None].expand(*c.shape, 2).to(device, dtype).contiguous() for c in ((kx**2 - ky**2) * mask, kx * ky * mask))

    def tendency(w_hat: Tensor) -> Tensor:
        u, v = from_spectrum(w_hat[:, None] * velocity, box.shape).unbind(1)
        product, square = torch.view_as_real(to_spectrum(torch.stack((u * v, (v - u) * (v + u)), 1), 2)).unbind(1)
        return torch.view_as_complex(torch.addcmul(torch.addcmul(force, cross, product), difference, square))

    return tendency
