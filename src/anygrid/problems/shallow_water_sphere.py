"""Shallow water on the rotating sphere: the dynamics of one layer of atmosphere, by spherical harmonics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import AnygridError, GridError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Grid, Sphere
from anygrid.numerics.longitude_waves import is_smooth
from anygrid.numerics.sphere_calculus import inverse_laplacian, laplacian, vorticity_divergence, wind
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise, truncate
from anygrid.numerics.stepping import ETDRK4, Nonlinear, Stepper, finite_input, march
from anygrid.problems.base import Card, Problem

__all__ = ["ShallowWaterSphere"]

_MOST = 20_000  # internal steps
_POWER = 4  # of the Laplacian in the hyperdiffusion


@dataclass(frozen=True)
class ShallowWaterSphere(Problem):
    r"""Wind and depth of a layer of fluid ``dt`` seconds later.

    .. math::
        \partial_t \zeta &= -\nabla \cdot \big((\zeta + f) \mathbf{v}\big) - D \zeta, \qquad f = 2 \Omega \sin\varphi \\
        \partial_t \delta &= \mathbf{k} \cdot \nabla \times \big((\zeta + f) \mathbf{v}\big)
            - \nabla^2 \big(g (h + b) + \tfrac12 |\mathbf{v}|^2\big) - D \delta \\
        \partial_t h &= -\nabla \cdot (h \mathbf{v}) - D h, \qquad
        D = \frac1\tau \Big(\frac{-a^2 \nabla^2}{L (L + 1)}\Big)^4

    on a sphere of radius ``a``, with a bottom of height ``b``. The volume of fluid is conserved to rounding.

    Parameters
    ----------
    dt
        Seconds from input to output.
    radius, rotation, gravity
        Metres, radians a second, metres a second squared: those of the Earth in Williamson et al. (1992).
    depth
        Mean depth of sampled states, metres.
    speed
        Root mean square wind of sampled states, metres a second.
    modes
        Highest degree of the stream function of sampled states.
    mountain
        Height of the mountain of case 5 in Williamson et al. (1992), metres: a cone of 20 degrees around 30 N, 90 W, which the truncation
        smoothes. 0 leaves the bottom flat.
    damping
        Time scale ``tau`` of the hyperdiffusion at the highest degree ``L``, seconds.
    courant
        Largest product of an internal step with the frequency of the fastest wave, ``(sqrt(g h) + |v|) L / a``; the method is stable
        to about 2.8.

    Notes
    -----
    Space: spherical harmonics with triangular truncation at ``L``, the exact degree of the grid; products on a Gaussian grid of at least
    ``3 L + 3`` longitudes, on which they do not alias. Time: fourth order (:class:`~anygrid.numerics.stepping.ETDRK4`), the hyperdiffusion
    exact. Each sample takes its own number of internal steps.

    Source: Williamson et al., J. Comput. Phys. 102 (1992) 211, section 2; Hack and Jakob, NCAR/TN-343+STR (1992),
    for the spectral form.
    """

    dt: float = 21600.0
    radius: float = 6.37122e6
    rotation: float = 7.292e-5
    gravity: float = 9.80616
    depth: float = 8000.0
    speed: float = 20.0
    modes: int = 8
    damping: float = 10800.0
    courant: float = 1.5
    mountain: float = 0.0

    steps: ClassVar[int] = 20  # type: ignore[misc]
    inputs: ClassVar[tuple[Variable, ...]] = (
        Variable("u", "m s-1", "eastward wind"),
        Variable("v", "m s-1", "northward wind"),
        Variable("h", "m", "depth of the fluid"),
    )
    outputs: ClassVar[tuple[Variable, ...]] = inputs
    card: ClassVar[Card] = Card(
        title="Shallow water on the rotating sphere",
        equation="v_t + (zeta + f) k x v + grad(g (h + b) + |v|^2 / 2) = 0,  h_t + div(h v) = 0,  in vorticity-divergence form",
        boundary="none: the whole sphere; a flat bottom, or one mountain (`mountain`)",
        sampler="random stream function of degrees 1 to `modes`, power l^-2 in the wind, no divergence, depth in nonlinear balance",
        solver="spherical harmonics, products without aliasing; ETDRK4, hyperdiffusion exact; steps limited by the fastest gravity wave",
        order="spectral in space, 4 in time",
        cost="about 0.12 s of processor time a sample and 6 hours at 64x128 (degree 31), one core of a shared machine",
        source="Williamson et al. 1992; tests: its cases 1, 2, 5 and 6, Galewsky et al. 2004",
    )

    def __post_init__(self) -> None:
        for name in ("dt", "radius", "gravity", "depth", "speed", "modes", "damping", "courant"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"ShallowWaterSphere({name}=...)", "a finite number above 0", f"{value}")
        if not (0 <= self.mountain < self.depth):
            wanted = f"a height from 0 to below the mean depth of {self.depth:g} m"
            raise UsageError("ShallowWaterSphere(mountain=...)", wanted, f"{self.mountain}")
        if self.courant > 2.8:
            raise UsageError("ShallowWaterSphere(courant=...)", "at most 2.8, the stability limit", f"{self.courant}", "leave it at 1.5")

    @property
    def time_unit(self) -> str:
        return "s"

    def grid(self, resolution: int | tuple[int, ...]) -> Sphere:
        """``resolution`` cell-centred latitudes and twice as many longitudes; the solver takes every global grid."""
        nlat, nlon = (resolution, 2 * resolution) if isinstance(resolution, int) else resolution
        return Sphere.equiangular(nlat, nlon)

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch 3 *space"]:
        """Balanced random flow (float32): winds without divergence, and the depth at which none arises at once."""
        sphere, size = self._sphere(grid, "ShallowWaterSphere.sample"), self.modes + 1
        c = torch.randn(n, 1, size, size, 2, generator=generator, dtype=torch.float64)
        degree = torch.arange(size, dtype=torch.float64)
        there = degree[:, None] >= degree
        # Real and imaginary part of order m > 0 share the variance that the real part of order 0 has alone.
        share = torch.where(degree > 0, math.sqrt(0.5), 1.0)[:, None].expand(size, 2).clone()
        share[0, 1] = 0
        # Kinetic energy of a vorticity of degree l: its power over 2 l (l + 1) / a^2; every degree has 2 l + 1 functions.
        power = torch.where(degree > 0, degree**-2 * degree * (degree + 1) / (2 * degree + 1), 0.0)
        total = torch.where(degree > 0, degree**-2, 0.0).sum() / (4 * math.pi)
        scale = self.speed / self.radius / total.sqrt()
        vorticity = scale * c * power.sqrt()[:, None, None] * (there[..., None] * share)
        state = torch.cat([truncate(vorticity, 2 * self.modes), torch.zeros(n, 2, 2 * self.modes + 1, 2 * self.modes + 1, 2)], 1)
        _, divergence, _ = _tendency(self, 2 * self.modes, torch.float64, torch.device("cpu"))(state).split(1, 1)
        # With g h = 0 the divergence would grow at this rate; its inverse Laplacian is the geopotential that stops it.
        geopotential = inverse_laplacian(divergence, self.radius)
        geopotential[:, :, 0, 0, 0] = self.gravity * self.depth * math.sqrt(4 * math.pi)
        return self._fields(torch.cat([state[:, :2], geopotential], 1), sphere).float()

    def solve(self, a: Float[Tensor, "batch 3 *space"], grid: Grid) -> Float[Tensor, "batch 3 *space"]:
        """Wind and depth ``dt`` later, in the dtype of ``a``.

        Raises
        ------
        GridError
            Unless the grid is a global sphere with an exact latitude quadrature.
        DataError
            If ``a`` is not finite.
        AnygridError
            If the depth is not positive, the solution stops being finite, or would need more than 20,000 internal steps.
        """
        sphere = self._sphere(grid, "ShallowWaterSphere.solve")
        finite_input(a, "ShallowWaterSphere.solve")
        counts, state, out = self._substeps(a, sphere), self._state(a, sphere), torch.empty_like(a)
        for count in counts.unique().tolist():
            step = _stepper(self, state.shape[2] - 1, self.dt / count, a.dtype, a.device)
            index = torch.nonzero(counts == count)[:, 0]
            out[index] = self._fields(march(step, state[index], count, "ShallowWaterSphere.solve", index.tolist()), sphere)
        return out

    def residual(
        self, a: Float[Tensor, "batch 3 *space"], u: Float[Tensor, "batch 3 *space"], grid: Grid
    ) -> Float[Tensor, "batch 3 *space"]:
        r"""Defect of the discrete flow over one step, :math:`(u - \Psi_{\Delta t}(a)) / \Delta t`.

        Gravity waves turn many times in ``dt``, so that no formula from the two ends alone can hold; this one costs a solve.
        """
        return (u - self.solve(a, grid)) / self.dt

    def _sphere(self, grid: Grid, where: str) -> Sphere:
        if not isinstance(grid, Sphere):
            raise GridError(where, "a Sphere", type(grid).__name__, "use latitudes and longitudes in degrees")
        exact_degree(grid)  # refuses windows and uneven latitudes
        return grid

    def _state(self, a: Tensor, grid: Sphere) -> Tensor:
        """Coefficients ``(batch, 3, degree, order, 2)`` of vorticity, divergence and geopotential."""
        u, v, h = a.split(1, 1)
        vorticity, divergence = vorticity_divergence(u, v, grid, radius=self.radius)
        return torch.cat([vorticity, divergence, self.gravity * analyse(h, grid)], 1)

    def _fields(self, state: Tensor, grid: Sphere) -> Tensor:
        vorticity, divergence, geopotential = state.split(1, 1)
        return torch.cat([*wind(vorticity, divergence, grid, self.radius), synthesise(geopotential, grid) / self.gravity], 1)

    def _substeps(self, a: Tensor, grid: Sphere) -> Tensor:
        """Internal steps of each sample, shape ``(batch,)``."""
        lowest = a[:, 2].amin((-2, -1))
        if lowest.min() <= 0:
            got = f"{float(lowest.min()):.3g} in sample {int(lowest.argmin())}"
            raise AnygridError("ShallowWaterSphere.solve", "a depth above 0 everywhere", got, "give the depth of the fluid in metres")
        fastest = ((self.gravity * a[:, 2]).sqrt() + torch.hypot(a[:, 0], a[:, 1])).amax((-2, -1)).double().cpu()
        wanted = (self.dt * fastest * max(exact_degree(grid), 1) / self.radius / self.courant).ceil().clamp(min=1)
        if wanted.max() > _MOST:
            got = f"{float(wanted.max()):.3g} for sample {int(wanted.argmax())} with waves of {float(fastest.max()):.3g} m/s"
            raise AnygridError("ShallowWaterSphere.solve", f"at most {_MOST} internal steps", got, "check the units of wind and depth")
        # Few distinct counts keep batches whole; at most an eighth more steps than needed.
        grain = 2.0 ** (wanted.log2().floor() - 3).clamp(min=0)
        return ((wanted / grain).ceil() * grain).long()


@lru_cache(maxsize=32)
def _stepper(problem: ShallowWaterSphere, degree: int, h: float, dtype: torch.dtype, device: torch.device) -> Stepper:
    at = torch.arange(degree + 1, dtype=torch.float64)
    values = at * (at + 1)
    damping = -((values / values[-1].clamp(min=1.0)) ** _POWER) / problem.damping
    return ETDRK4(damping[:, None, None], _tendency(problem, degree, dtype, device), h, dtype, device)


@lru_cache(maxsize=8)
def _tendency(problem: ShallowWaterSphere, degree: int, dtype: torch.dtype, device: torch.device) -> Nonlinear:
    """Everything but the hyperdiffusion: a function of coefficients ``(batch, 3, degree, order, 2)``."""
    nlat = next(n for n in range((3 * degree + 4) // 2, 4 * degree + 8) if is_smooth(n))
    grid, radius = Sphere.gauss(nlat, 2 * nlat), problem.radius
    coriolis = (2 * problem.rotation * torch.deg2rad(grid.points()[..., 0]).sin()).to(device, dtype)

    bottom = _bottom(problem, degree, dtype, device)

    def tendency(state: Tensor) -> Tensor:
        vorticity, divergence, geopotential = state.split(1, 1)
        u, v = wind(vorticity, divergence, grid, radius)
        carried = synthesise(state[:, ::2], grid)  # absolute vorticity and geopotential, carried by the same wind
        carried[:, 0] += coriolis
        curl, inflow = vorticity_divergence(carried * u, carried * v, grid, degree, radius)
        head = geopotential + bottom + analyse(0.5 * (u.square() + v.square()), grid, degree)
        return torch.cat([-inflow[:, :1], curl[:, :1] - laplacian(head, radius), -inflow[:, 1:]], 1)

    return tendency


@lru_cache(maxsize=8)
def _bottom(problem: ShallowWaterSphere, degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    r"""Coefficients of the geopotential of the bottom, always of the same cone (Williamson et al. 1992, section 3, case 5).

    .. math:: b = b_0 (1 - r / R), \qquad r^2 = \min\big(R^2, (\lambda - 3\pi/2)^2 + (\varphi - \pi/6)^2\big), \qquad R = \pi / 9
    """
    nlat = max(180, degree + 1)
    grid = Sphere.gauss(nlat, 2 * nlat)
    lat, lon = torch.deg2rad(grid.points()).unbind(-1)
    away = torch.hypot(lon - 1.5 * math.pi, lat - math.pi / 6).clamp(max=math.pi / 9)
    cone = problem.gravity * problem.mountain * (1 - away / (math.pi / 9))
    return analyse(cone[None, None], grid, degree).to(device, dtype)
