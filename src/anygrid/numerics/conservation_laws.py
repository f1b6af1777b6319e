r"""Shock-capturing schemes for ``u_t + div F(u, x) = S(u, x)`` on even grids in one to three dimensions.

Conservative finite differences on point values (Shu and Osher 1988): along each axis the flux is split into two parts that travel one way,

.. math:: F^\pm = \tfrac12 (F \pm \alpha u), \qquad \alpha \ge \max |\text{characteristic speed}|,

each part is reconstructed at the faces from its upwind side, and the differences of the face fluxes advance the points. The sum over
a periodic grid is conserved to rounding. On cell averages in one dimension the same arithmetic is a finite-volume scheme of second order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["GHOSTS", "MUSCL", "UPWIND", "WENO5", "End", "Ends", "Reconstruction", "divergence", "extend", "ssp_rk3"]

GHOSTS = 3
# Differences whose squares are below this part of the largest square count as smooth: the 1e-6 of Jiang and Shu, made free of units.
# Measured on Burgers before its shock: with 1e-12 the order is 4 at 24 to 96 points, with 1e-6 it is 5; overshoots at a shock are 3e-5.
_FLAT = 1e-6


@dataclass(frozen=True)
class Reconstruction:
    """How face values are made from the points upwind.

    Attributes
    ----------
    name
        As literature calls it.
    order
        Order in space for smooth solutions.
    courant
        Largest sum over the axes of ``dt * alpha / spacing`` with SSP-RK3 that the package uses.
    reach
        Points needed on the upwind side of a face; one fewer is needed on the other.
    face
        From ``2 * reach - 1`` neighbouring values, and what counts as no variation, to the value at the downstream face of the middle one.
    """

    name: str
    order: int
    courant: float
    reach: int
    face: Callable[[Sequence[Tensor], Tensor], Tensor]


def _upwind(f: Sequence[Tensor], scale: Tensor) -> Tensor:
    return f[0]


def _muscl(f: Sequence[Tensor], scale: Tensor) -> Tensor:
    """``f + phi / 2`` with van Leer's harmonic mean of the two slopes, zero at an extremum."""
    left, right = f[1] - f[0], f[2] - f[1]
    product = left * right
    rising = product > 0
    total = torch.where(rising, left + right, 1.0)
    return f[1] + torch.where(rising, product, 0.0) / total


def _weno5(f: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Three quadratics weighted by smoothness; weights of Borges et al., J. Comput. Phys. 227 (2008) 3191, eqs. 25-28 with p = 2."""
    a, b, c, d, e = f
    first = 13 / 12 * (a - 2 * b + c) ** 2 + 0.25 * (a - 4 * b + 3 * c) ** 2
    middle = 13 / 12 * (b - 2 * c + d) ** 2 + 0.25 * (b - d) ** 2
    last = 13 / 12 * (c - 2 * d + e) ** 2 + 0.25 * (3 * c - 4 * d + e) ** 2
    gap = (first - last).abs()
    w0 = 0.1 * (1 + (gap / (first + scale)) ** 2)
    w1 = 0.6 * (1 + (gap / (middle + scale)) ** 2)
    w2 = 0.3 * (1 + (gap / (last + scale)) ** 2)
    q0, q1, q2 = 2 * a - 7 * b + 11 * c, -b + 5 * c + 2 * d, 2 * c + 5 * d - e
    return (w0 * q0 + w1 * q1 + w2 * q2) / (6 * (w0 + w1 + w2))


# The Courant numbers: 1/2 is the bound for which Harten's lemma makes MUSCL total variation diminishing with any split flux.
UPWIND = Reconstruction("first-order upwind", 1, 0.9, 1, _upwind)
MUSCL = Reconstruction("MUSCL with van Leer's limiter", 2, 0.5, 2, _muscl)
WENO5 = Reconstruction("WENO5-Z", 5, 0.5, 3, _weno5)


@dataclass(frozen=True)
class End:
    """What lies beyond one end of a bounded axis: a wall where ``signs`` are given, else zero gradient but for the values in ``given``.

    Attributes
    ----------
    signs
        Of each unknown in the mirror image beyond a wall.
    on_point
        Whether the wall runs through the last point, rather than half a spacing beyond it.
    given
        For each unknown the value beyond the end, in a shape that broadcasts against ``(batch, *space)`` with extent 1 along the axis,
        or ``None``.
    """

    signs: tuple[int, ...] = ()
    on_point: bool = False
    given: tuple[Tensor | None, ...] = ()


Ends = tuple[End, End] | None  # lower and upper; None: periodic


def extend(u: Float[Tensor, "batch unknown *space"], dim: int, ends: Ends) -> Float[Tensor, "batch unknown *longer"]:
    """Values with three ghosts beyond both ends of a dimension."""
    if ends is None:
        index = torch.arange(-GHOSTS, u.shape[dim] + GHOSTS, device=u.device) % u.shape[dim]
        return u.index_select(dim, index)
    return torch.cat([_ghosts(u, dim, ends[0], lower=True), u, _ghosts(u, dim, ends[1], lower=False)], dim)


def _ghosts(u: Tensor, dim: int, end: End, *, lower: bool) -> Tensor:
    n = u.shape[dim]
    if end.signs:
        first = int(end.on_point)
        signs = torch.tensor(end.signs, dtype=u.dtype, device=u.device).reshape(-1, *[1] * (u.ndim - 2))
        return u.narrow(dim, first if lower else n - first - GHOSTS, GHOSTS).flip(dim) * signs
    edge = u.narrow(dim, 0 if lower else n - 1, 1)
    if any(value is not None for value in end.given):
        columns = [edge[:, k] if value is None else value.expand(edge[:, k].shape) for k, value in enumerate(end.given)]
        edge = torch.stack(columns, 1)
    return edge.expand([GHOSTS if k == dim else size for k, size in enumerate(u.shape)])


def divergence(
    u: Float[Tensor, "batch unknown *longer"],
    flux: Float[Tensor, "batch unknown *longer"],
    speed: Float[Tensor, " batch"],
    dim: int,
    spacing: float,
    scheme: Reconstruction,
) -> Float[Tensor, "batch unknown *space"]:
    r"""Derivative of the flux along one dimension, :math:`(\hat F_{i+1/2} - \hat F_{i-1/2}) / h`. Differentiable.

    Parameters
    ----------
    u, flux
        State and its flux along the axis at the points and the ghosts of :func:`extend`, which the result has no more.
    speed
        Bound ``alpha`` on the characteristic speeds of each sample along the axis.
    dim
        Dimension of the tensors.
    spacing
        Distance of the points.
    scheme
        Reconstruction; its order holds where the solution is smooth, order 1 in L1 across shocks.

    Source: Jiang and Shu, J. Comput. Phys. 126 (1996) 202, eqs. 2.5-2.10.
    """
    carried = speed.reshape(-1, *[1] * (u.ndim - 1)) * u
    # The part that travels left sees the same stencils in a mirror: both go through one call.
    parts = torch.cat([0.5 * (flux + carried), 0.5 * (flux - carried).flip(dim)])
    count, reach = u.shape[dim] - 2 * GHOSTS + 1, scheme.reach
    # Face k lies between the extended points k + 2 and k + 3.
    stencil = [parts.narrow(dim, k, count) for k in range(GHOSTS - reach, GHOSTS + reach - 1)]
    right, left = scheme.face(stencil, _scale(parts, scheme)).chunk(2)
    face = right + left.flip(dim)
    return (face.narrow(dim, 1, count - 1) - face.narrow(dim, 0, count - 1)) / spacing


def _scale(f: Tensor, scheme: Reconstruction) -> Tensor:
    """What counts as no variation, for each sample and unknown: the same for both parts, so that mirror images stay mirror images."""
    if scheme.reach < 3:
        return f
    top = f.abs().amax(tuple(range(2, f.ndim)), keepdim=True)
    return _FLAT * torch.maximum(*top.chunk(2)).repeat(2, *[1] * (f.ndim - 1)) ** 2 + 1e-30


def ssp_rk3(u: Tensor, tendency: Callable[[Tensor], Tensor], dt: Tensor) -> Tensor:
    r"""One step of the strong-stability-preserving Runge-Kutta method of order 3.

    .. math::
        u_1 = u + h L(u), \quad u_2 = \tfrac34 u + \tfrac14 (u_1 + h L(u_1)), \quad u' = \tfrac13 u + \tfrac23 (u_2 + h L(u_2))

    Whatever a forward Euler step of size ``h`` does not increase (total variation, a maximum) this step does not increase.
    Source: Shu and Osher, J. Comput. Phys. 77 (1988) 439, eq. 2.18.

    Parameters
    ----------
    u
        State ``(batch, ...)``.
    tendency
        ``L``.
    dt
        Step of each sample, in a shape that broadcasts against ``u``.
    """
    first = u + dt * tendency(u)
    second = 0.75 * u + 0.25 * (first + dt * tendency(first))
    return u / 3 + 2 / 3 * (second + dt * tendency(second))
