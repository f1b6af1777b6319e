"""Kuramoto-Sivashinsky equation in one dimension: the smallest PDE with sustained chaos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.fields import Variable
from anygrid.grid import Box, Grid, Periodic
from anygrid.numerics.pseudospectral import from_spectrum, periodic_box, square_flux, to_spectrum, wave_numbers
from anygrid.numerics.random_fields import periodic_field
from anygrid.numerics.stepping import ETDRK4, Stepper, finite_input, hermite_defect, march
from anygrid.problems.base import Card, Problem

__all__ = ["KuramotoSivashinsky"]


@dataclass(frozen=True)
class KuramotoSivashinsky(Problem):
    r"""State one output step later.

    .. math:: \partial_t u = -u \, \partial_x u - \partial_x^2 u - \partial_x^4 u

    on ``[0, length)``, periodic, non-dimensional. The mean is conserved (0 for the sampler). Long waves grow, the linear rate
    being largest, 1/4, at wave number :math:`1/\sqrt2`; the leading Lyapunov exponent is about 0.05 at ``length = 22`` and
    0.09 on long domains, so that errors double every 8 to 14 units of time whatever the solver.

    Parameters
    ----------
    length
        Period. 22 is the smallest usual chaotic case (Cvitanovic, Davidchack and Siminos 2010).
    dt
        Time from input to output.
    steps
        Output steps of a trajectory.
    spin_up
        Time by which the sampler advances its random start, so that samples lie on the attractor.
    step
        Largest internal step of the solver.

    Notes
    -----
    Fourier pseudo-spectral, 2/3 rule, ETDRK4. A grid should resolve wave numbers to about 4 (``length * 2`` points): states decay
    exponentially beyond, and 64 points carry ``length = 22`` to 1e-6.

    Source: Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214, section 4 (equation and method).
    """

    length: float = 22.0
    dt: float = 1.0
    steps: int = 100
    spin_up: float = 100.0
    step: float = 0.05

    inputs: ClassVar[tuple[Variable, ...]] = (Variable("u", "1", "velocity"),)
    outputs: ClassVar[tuple[Variable, ...]] = (Variable("u", "1", "velocity"),)
    card: ClassVar[Card] = Card(
        title="Kuramoto-Sivashinsky 1D",
        equation="u_t = -u u_x - u_xx - u_xxxx",
        boundary="periodic on [0, length), length = 22",
        sampler="Gaussian field of the six longest waves, standard deviation 1, zero mean, advanced by spin_up = 100 on its own fine grid",
        solver="Fourier pseudo-spectral with the 2/3 rule; ETDRK4 with internal steps of at most 0.05",
        order="spectral in space, 4 in time",
        cost="one core, batch of 16: 4 ms a sample and unit of time at 64 points; a draw with its spin-up takes about 2 s, for one or many",
        source="Kassam and Trefethen 2005, section 4; length 22: Cvitanovic, Davidchack and Siminos, SIAM J. Appl. Dyn. Syst. 9 (2010) 1",
    )

    def __post_init__(self) -> None:
        for name in ("length", "dt", "steps", "step"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"KuramotoSivashinsky({name}=...)", "a finite number above 0", f"{value}")
        if not 0 <= self.spin_up < math.inf:
            raise UsageError("KuramotoSivashinsky(spin_up=...)", "a finite time of at least 0", f"{self.spin_up}")

    @property
    def conserved(self) -> tuple[str, ...]:
        """The equation is a conservation law."""
        return ("u",)

    def grid(self, resolution: int | tuple[int, ...]) -> Box:
        """Evenly spaced points ``j * length / resolution``."""
        return Box.uniform({"x": Periodic(0, self.length)}, resolution)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch 1 *space"]:
        """States on the attractor (float32): a random start, advanced by ``spin_up`` in float64 on a grid of its own."""
        box = periodic_box(grid, "KuramotoSivashinsky.sample", (self.length,))
        fine = self.grid(2 * math.ceil(max(64.0, 3 * self.length) / 2))
        start = periodic_field(n, fine, scale=1 / math.sqrt(12), shift=1.0, power=0.0, modes=6, generator=generator)
        if self.spin_up > 0:
            start = self._advance(start, fine, self.spin_up, "KuramotoSivashinsky.sample")
        return _at_points(start, box)[:, None].float()

    def solve(self, a: Float[Tensor, "batch 1 *space"], grid: Grid) -> Float[Tensor, "batch 1 *space"]:
        """State ``dt`` later, in the dtype of ``a``.

        Raises
        ------
        GridError
            Unless the grid is even and periodic with period ``length``.
        DataError
            If ``a`` is not finite.
        AnygridError
            If the solution stops being finite, with the sample and time.
        """
        box = periodic_box(grid, "KuramotoSivashinsky.solve", (self.length,))
        finite_input(a, "KuramotoSivashinsky.solve")
        return self._advance(a[:, 0], box, self.dt, "KuramotoSivashinsky.solve")[:, None]

    def residual(
        self, a: Float[Tensor, "batch 1 *space"], u: Float[Tensor, "batch 1 *space"], grid: Grid
    ) -> Float[Tensor, "batch 1 *space"]:
        """Defect of the equation over one ``dt`` (state per time), from the two ends alone; order 4 in ``dt``.

        See :func:`~anygrid.numerics.stepping.hermite_defect`.
        """
        box = periodic_box(grid, "KuramotoSivashinsky.residual", (self.length,))
        tendency = square_flux(box, a.dtype, a.device)
        r_hat = hermite_defect(_linear(box).to(a.device, a.dtype), tendency, to_spectrum(a[:, 0], 1), to_spectrum(u[:, 0], 1), self.dt)
        return from_spectrum(r_hat, box.shape)[:, None]

    def correction(
        self, a: Float[Tensor, "batch 1 *space"], u: Float[Tensor, "batch 1 *space"], grid: Grid
    ) -> Float[Tensor, "batch 1 *space"]:
        """Estimate of ``truth - u``: ``-dt`` times the defect, in which the linear part is exact."""
        return -self.dt * self.residual(a, u, grid)

    def _advance(self, u: Tensor, box: Box, time: float, where: str) -> Tensor:
        count = math.ceil(time / self.step - 1e-9)
        step = _stepper(box, time / count, u.dtype, u.device)
        return from_spectrum(march(step, to_spectrum(u, 1), count, where, list(range(len(u)))), box.shape)


def _linear(box: Box) -> Tensor:
    k = wave_numbers(box)[0]
    return k**2 - k**4


@lru_cache(maxsize=16)
def _stepper(box: Box, h: float, dtype: torch.dtype, device: torch.device) -> Stepper:
    return ETDRK4(_linear(box), square_flux(box, dtype, device), h, dtype, device)


def _at_points(u: Tensor, box: Box) -> Tensor:
    """Values at the points of ``box`` of fields on an even grid that starts at 0, all modes kept: the same function on every grid."""
    n = u.shape[-1]
    u_hat = torch.fft.rfft(u) / n
    modes = torch.arange(u_hat.shape[-1], dtype=torch.float64)
    angle = 2 * math.pi * modes[:, None] * (box.points()[..., 0] / box.axes[0].interval.length)
    twice = torch.full_like(modes, 2.0)
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    return (u_hat.real * twice) @ angle.cos() - (u_hat.imag * twice) @ angle.sin()
