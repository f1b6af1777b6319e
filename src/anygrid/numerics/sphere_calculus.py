r"""Vector calculus on the sphere by spherical harmonics: wind, vorticity, divergence, gradient, Laplacian, filters, spectra.

With radius :math:`a`, wind :math:`(u, v)` to the east and north, stream function :math:`\psi` and velocity potential :math:`\chi`:

.. math::

    \zeta = \frac{1}{a\cos\varphi} \Big( \frac{\partial v}{\partial\lambda} - \frac{\partial (u \cos\varphi)}{\partial\varphi} \Big), \quad
    \delta = \frac{1}{a\cos\varphi} \Big( \frac{\partial u}{\partial\lambda} + \frac{\partial (v \cos\varphi)}{\partial\varphi} \Big), \quad
    \zeta = \nabla^2 \psi, \quad \delta = \nabla^2 \chi

Derivatives fall on the functions, never on the data: analysis integrates by parts, which has no boundary term on the sphere, and poles need
no special case. Exact, like the scalar transforms, up to :func:`~anygrid.numerics.spherical_harmonics.exact_degree`. Fields are
``(batch, channel, lat, lon)``, coefficients ``(batch, channel, degree, order, 2)``.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import GridError, UsageError
from anygrid.grid import Sphere
from anygrid.numerics.legendre_products import project, sum_up
from anygrid.numerics.longitude_waves import from_waves, to_waves
from anygrid.numerics.spherical_harmonics import Coefficients, check_degree, exact_degree, merge, split

__all__ = [
    "exponential_filter",
    "gradient",
    "hyperdiffusion",
    "inverse_laplacian",
    "laplacian",
    "power_by_degree",
    "scale_degrees",
    "vorticity_divergence",
    "wind",
]

Field = Float[Tensor, "batch channel lat lon"]


def vorticity_divergence(u: Field, v: Field, grid: Sphere, degree: int | None = None, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Coefficients of vorticity and divergence of a wind.

    .. math::

        \zeta_l^m = \frac1a \int \Big( \frac{i m \bar P_l^m}{\cos\varphi}\, v_m + \frac{d\bar P_l^m}{d\varphi}\, u_m \Big) d\mu, \qquad
        \delta_l^m = \frac1a \int \Big( \frac{i m \bar P_l^m}{\cos\varphi}\, u_m - \frac{d\bar P_l^m}{d\varphi}\, v_m \Big) d\mu

    (Temperton 1991, Mon. Wea. Rev. 119, with the wind itself instead of its product with the cosine.)

    Raises
    ------
    GridError
        For latitudes without an exact quadrature, a degree that the grid cannot tell apart, or a wind that does not lie on the grid.
    """
    if u.shape != v.shape or tuple(u.shape[2:]) != grid.shape:
        raise GridError("vorticity_divergence", f"u and v on {grid.shape[0]}x{grid.shape[1]} points", f"{tuple(u.shape)}, {tuple(v.shape)}")
    degree = exact_degree(grid) if degree is None else degree
    check_degree(degree, grid)
    waves = to_waves(torch.cat([u, v]).flatten(0, 1), grid, degree)
    zonal_u, zonal_v = _complex(project(waves, grid, degree, "zonal")).chunk(2, -1)
    meridional_u, meridional_v = _complex(project(waves, grid, degree, "meridional")).chunk(2, -1)
    vorticity, divergence = (meridional_u + 1j * zonal_v) / radius, (1j * zonal_u - meridional_v) / radius
    return merge(_real(vorticity), len(u)), merge(_real(divergence), len(u))


def wind(vorticity: Coefficients, divergence: Coefficients, grid: Sphere, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    """Wind to the east and north of a vorticity and a divergence; their means (degree 0), which no wind has, are left out."""
    stream, potential = (_complex(split(inverse_laplacian(c, radius))) / radius for c in (vorticity, divergence))
    zonal, meridional = torch.cat([1j * potential, 1j * stream], -1), torch.cat([-stream, potential], -1)
    waves = sum_up(_real(zonal), grid, "zonal") + sum_up(_real(meridional), grid, "meridional")
    return _pair(waves, vorticity, grid)


def gradient(c: Coefficients, grid: Sphere, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Derivatives to the east and north: :math:`(\partial_\lambda / \cos\varphi, \partial_\varphi)\, c / a` on the grid."""
    flat = split(c) / radius
    waves = torch.cat([sum_up(_real(1j * _complex(flat)), grid, "zonal"), sum_up(flat, grid, "meridional")], 3)
    return _pair(waves, c, grid)


def _pair(waves: Tensor, c: Tensor, grid: Sphere) -> tuple[Tensor, Tensor]:
    """Two fields of the shape of ``c`` from their waves."""
    first, second = from_waves(waves, grid, c.shape[2] - 1).view(2, c.shape[0], c.shape[1], *grid.shape)
    return first, second


def _complex(c: Float[Tensor, "order degree wide"]) -> Tensor:
    return torch.view_as_complex(c.unflatten(-1, (-1, 2)))


def _real(c: Tensor) -> Float[Tensor, "order degree wide"]:
    return torch.view_as_real(c).flatten(-2)


def scale_degrees(c: Coefficients, factor: Float[Tensor, " degree"]) -> Coefficients:
    """Every coefficient times the factor of its degree."""
    return c * factor.to(c)[:, None, None]


def _eigenvalues(degree: int, radius: float) -> Tensor:
    at = torch.arange(degree + 1, dtype=torch.float64)
    return at * (at + 1) / radius**2


def laplacian(c: Coefficients, radius: float = 1.0) -> Coefficients:
    r"""Coefficients of :math:`\nabla^2 u`: each degree times :math:`-l (l + 1) / a^2`."""
    return scale_degrees(c, -_eigenvalues(c.shape[2] - 1, radius))


def inverse_laplacian(c: Coefficients, radius: float = 1.0) -> Coefficients:
    """Solution of mean 0 of the Poisson equation; the mean of the right side, for which there is none, is left out."""
    values = _eigenvalues(c.shape[2] - 1, radius)
    return scale_degrees(c, torch.where(values > 0, -1 / values.clamp(min=torch.finfo(torch.float64).tiny), 0.0))


def hyperdiffusion(degree: int, duration: float, timescale: float, power: int = 4) -> Float[Tensor, " degree"]:
    r"""Exact decay by :math:`\partial_t u = -\nu (-\nabla^2)^p u` over ``duration``, for :func:`scale_degrees`.

    .. math:: \exp\Big(-\frac{t}{\tau} \Big(\frac{l(l+1)}{L(L+1)}\Big)^p\Big)

    ``timescale`` is that of the highest degree ``L``, which says more than a coefficient in units of length to the power ``2 p``.

    Raises
    ------
    UsageError
        For a timescale that is not positive, a negative duration, or a power below 1.
    """
    if timescale <= 0 or duration < 0 or power < 1:
        found = f"{timescale:g}, {duration:g}, {power}"
        raise UsageError("hyperdiffusion", "timescale > 0, duration >= 0 and power >= 1", found)
    values = _eigenvalues(degree, 1.0)
    return torch.exp(-duration / timescale * (values / values[-1].clamp(min=1.0)) ** power)


def exponential_filter(degree: int, strength: float = 36.0, power: int = 16) -> Float[Tensor, " degree"]:
    r"""Factors :math:`\exp(-\alpha (l / L)^p)` for :func:`scale_degrees`; the default leaves the highest degree at rounding of float64.

    Raises
    ------
    UsageError
        For a negative strength or a power below 1.
    """
    if strength < 0 or power < 1:
        raise UsageError("exponential_filter", "strength >= 0 and power >= 1", f"{strength:g}, {power}")
    at = torch.arange(degree + 1, dtype=torch.float64)
    return torch.exp(-strength * (at / max(degree, 1)) ** power)


def power_by_degree(c: Coefficients) -> Float[Tensor, "batch channel degree"]:
    r"""Mean square of a field by degree, :math:`E_l = \frac{1}{4\pi} \sum_{m=-l}^{l} |\hat u_l^m|^2`.

    The sum over ``l`` is the mean of the square over the sphere (Parseval).

    For the kinetic energy of a wind divide the power of vorticity and divergence by :math:`2\, l (l + 1) / a^2`.
    """
    square = c.square().sum(-1)
    return (2 * square.sum(-1) - square[..., 0]) / (4 * math.pi)
