"""Gaussian random fields that are functions of the generator alone: one seed is the same function on every grid.

A field is a finite sum over the eigenfunctions of the Laplacian of a box,

    f(x) = sum_k  scale * (lambda_k + shift)^(-power/2) * xi_k * phi_k(x),      xi_k ~ N(0, 1) independent,

a draw from the Gaussian measure with covariance operator ``scale^2 (-Laplacian + shift)^(-power)`` when the domain has unit
volume (on other boxes ``phi_k`` has unit mean square, so the pointwise variance keeps the form below). ``phi_k`` is a product of
one-dimensional functions and ``lambda_k = sum_i lambda_(k_i)``:

    periodic   1, sqrt2 cos(2 pi j s), sqrt2 sin(2 pi j s)   with lambda_j = (2 pi j / L)^2,   j = 0 ... modes
    cosine     1, sqrt2 cos(pi j s)                          with lambda_j = (pi j / L)^2,     j = 0 ... modes  (zero normal derivative)
    sine       sqrt2 sin(pi j s)                             with lambda_j = (pi j / L)^2,     j = 1 ... modes  (zero on the boundary)

with ``s = (x - lower) / L``. The coefficients ``xi_k`` are drawn in shells of growing ``max_i k_i``, each sample from its own stream, so

* the number and the values of the coefficients depend on ``modes`` and never on the grid;
* sample ``i`` of a draw of ``n`` does not depend on ``n``;
* a draw with fewer ``modes`` has the same leading coefficients as one with more.

Fields are then evaluated at the grid's own coordinates by matrix products, so a coarse grid holds exactly the values a finer one has at
the shared points. No truncation to what the grid resolves takes place: that would be another function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import GridError, UsageError
from anygrid.grid import Box, Grid, Interval, Points

__all__ = ["Family", "cosine_field", "periodic_field", "sine_field", "smooth_field"]

Family = Literal["periodic", "cosine", "sine"]
_CHUNK = 1 << 22  # float64 values held at once while a field is evaluated at scattered points


def periodic_field(
    n: int,
    grid: Grid,
    *,
    scale: float,
    shift: float,
    power: float,
    modes: int,
    generator: torch.Generator,
    zero_mean: bool = True,
) -> Float[Tensor, "{n} *space"]:
    """Draw ``n`` periodic Gaussian fields with covariance ``scale^2 (-Laplacian + shift)^(-power)``.

    The Fourier mode ``k`` (an integer vector) has variance ``scale^2 * (4 pi^2 |k|^2 / L^2 + shift)^(-power)`` along each unit
    mean-square function, so that ``E f(x)^2 = scale^2 * sum_k (4 pi^2 |k|^2 / L^2 + shift)^(-power)`` over all integer vectors
    with ``|k_i| <= modes``, without ``k = 0`` if ``zero_mean``.

    Published cases: Burgers ``scale=25, shift=25, power=2`` (625 (-Laplacian + 25 I)^-2); Navier-Stokes ``shift=49, power=2.5`` with
    ``scale=sqrt(2) * 7**1.5`` (the published code draws both parts of every complex coefficient with unit variance, hence sqrt 2).

    Parameters
    ----------
    n
        Number of fields.
    grid
        Box with periodic axes, or Points in a periodic domain.
    modes
        Largest wave number kept along each axis; ``(2 modes + 1)^d`` coefficients are drawn for each field.
    generator
        Source of randomness; it advances by the same amount whatever the grid.
    zero_mean
        Drop the constant mode.

    Returns
    -------
    Tensor
        float64 values.

    Raises
    ------
    GridError
        If an axis is not periodic or the grid is a sphere.
    UsageError
        If a parameter is out of range.
    """
    return _field("periodic", n, grid, scale, shift, power, modes, generator, zero_mean)


def cosine_field(
    n: int,
    grid: Grid,
    *,
    scale: float,
    shift: float,
    power: float,
    modes: int,
    generator: torch.Generator,
    zero_mean: bool = True,
) -> Float[Tensor, "{n} *space"]:
    """Draw ``n`` Gaussian fields with zero normal derivative, covariance ``scale^2 (-Laplacian + shift)^(-power)``.

    The mode ``k`` (non-negative integers up to ``modes``) has variance ``scale^2 * (pi^2 |k|^2 / L^2 + shift)^(-power)``.
    With ``scale = tau^(alpha-1)``, ``shift = tau^2``, ``power = alpha`` and ``modes = s - 1`` this is the law of the published Darcy
    sampler at ``s`` points: its orthonormal inverse DCT forms the same sum at the cell centres, without the constant mode. For
    ``tau = 3, alpha = 2`` the field has a root mean square of 0.292 over the square, from 0.15 in the middle to 0.5 in the corners.

    Parameters, return value and errors are those of :func:`periodic_field`; the axes must be bounded.
    """
    return _field("cosine", n, grid, scale, shift, power, modes, generator, zero_mean)


def sine_field(
    n: int, grid: Grid, *, scale: float, shift: float, power: float, modes: int, generator: torch.Generator
) -> Float[Tensor, "{n} *space"]:
    """Draw ``n`` Gaussian fields that vanish on the boundary, covariance ``scale^2 (-Laplacian + shift)^(-power)``.

    The mode ``k`` (positive integers up to ``modes``) has variance ``scale^2 * (pi^2 |k|^2 / L^2 + shift)^(-power)``.
    Parameters, return value and errors are those of :func:`periodic_field`; the axes must be bounded.
    """
    return _field("sine", n, grid, scale, shift, power, modes, generator, zero_mean=False)


def smooth_field(
    n: int, grid: Grid, families: Sequence[Family], *, length: float, generator: torch.Generator, zero_mean: bool = False
) -> Float[Tensor, "{n} *space"]:
    r"""Draw ``n`` analytic Gaussian fields with a family of functions for each axis.

    The mode with Laplacian eigenvalue :math:`\lambda` has a variance proportional to :math:`e^{-\lambda \ell^2}`, so that away from
    boundaries the correlation at distance ``r`` is :math:`e^{-r^2 / (4 \ell^2)}`; the mean over the domain of the variance is 1.

    Parameters
    ----------
    families
        ``periodic`` on periodic axes; on bounded ones ``cosine`` (zero normal derivative) or ``sine`` (zero at both ends).
    length
        :math:`\ell`, in units of the coordinates.

    Raises
    ------
    GridError
        If a family does not fit its axis.
    UsageError
        If the length is not above 0, or so small that more than 128 modes an axis were needed.
    """
    d, fits = grid.ndim, [(family == "periodic") == interval.periodic for family, interval in zip(families, grid.domain, strict=False)]
    if len(families) != d or not all(fits):
        kinds = ", ".join("periodic" if interval.periodic else "bounded" for interval in grid.domain)
        hint = "use periodic, or cosine and sine on bounded axes"
        raise GridError("smooth_field", f"a family for each of the axes ({kinds})", ", ".join(families), hint)
    # Beyond exp(-lambda l^2 / 2) = 1e-6 nothing is left of a mode's amplitude.
    modes = max(math.ceil(5.3 * interval.length / (2 * math.pi * length)) for interval in grid.domain) if length > 0 else 0
    if not 1 <= modes <= 128:
        least = max(interval.length for interval in grid.domain) / 150
        raise UsageError("smooth_field", f"a correlation length from {least:.3g} on", f"{length:g}", "give it in units of the coordinates")
    count = 2 * modes + 1
    c = _draw(n, (np.arange(count) + 1) // 2, d, generator)
    total = np.zeros((count,) * d)
    for i, (family, interval) in enumerate(zip(families, grid.domain, strict=True)):
        waves = _waves(family, modes if family == "periodic" else count - (family == "cosine"))
        unit = 2 * math.pi if family == "periodic" else math.pi
        total += ((unit * waves / interval.length) ** 2).reshape((-1,) + (1,) * (d - 1 - i))
    amplitude = np.exp(-total * length**2 / 2)
    if zero_mean and "sine" not in families:
        amplitude[(0,) * d] = 0.0
    c *= amplitude / np.sqrt((amplitude**2).sum())
    sizes = [modes if family == "periodic" else count - (family == "cosine") for family in families]
    return torch.from_numpy(_evaluate(c, grid, lambda x, i: _basis(families[i], x, grid.domain[i], sizes[i])))


def _draw(n: int, waves: NDArray[np.int64], d: int, generator: torch.Generator) -> NDArray[np.float64]:
    """Standard normal coefficients ``(n, len(waves), ...)``, filled in the order of growing ``max_i waves[k_i]``."""
    order = _shell_order(tuple(waves.tolist()), d)
    # One seed a sample, and a sequential generator for it: a short torch.randn is not the beginning of a longer one.
    seeds = [int(torch.randint(0, 2**62, (), generator=generator, dtype=torch.int64, device=generator.device)) for _ in range(n)]
    out = np.empty((n, len(order)))
    for row, seed in zip(out, seeds, strict=True):
        row[order] = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(order))
    return out.reshape((n,) + (len(waves),) * d)


def _evaluate(c: NDArray[np.float64], grid: Grid, basis: Callable[[NDArray[np.float64], int], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum ``c[n, k1, ..., kd] * prod_i basis(x_i, i)[..., k_i]`` at every point; on a box, one axis after the other."""
    if isinstance(grid, Box):
        for i, axis in enumerate(grid.axes):
            # Contract the oldest mode axis and append the space axis: after d products the space axes stand in order.
            if axis.periodic and axis.placement == "vertices":
                c = _sum_by_fft(np.moveaxis(c, 1, -1), axis.size)
            else:
                c = np.tensordot(c, basis(axis.coordinates(), i), axes=([1], [1]))
        return np.ascontiguousarray(c)
    x = grid.points().numpy()
    n, d = len(c), grid.ndim
    step = max(1, _CHUNK // max(1, n * math.prod(c.shape[1:-1])))  # values a point needs once the last mode axis is summed
    out = np.empty((n, len(x)))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        value = np.tensordot(basis(x[part, d - 1], d - 1), c, axes=([1], [d]))  # (points, n, k1 ... k_{d-1})
        for i in range(d - 2, -1, -1):
            value = np.einsum("p...k,pk->p...", value, basis(x[part, i], i))
        out[:, part] = value.T
    return out


def _sum_by_fft(c: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Sum the periodic family over the last axis of ``c`` at ``size`` even points: a matrix of 8192 x 8192 is too slow to form.

    Waves that the points do not resolve are added to those they look like, so the values are those of the whole function.
    """
    cosine, sine = c[..., 1::2], c[..., 2::2]
    wave = np.arange(1, cosine.shape[-1] + 1) % size
    half = (cosine - 1j * sine) / math.sqrt(2)
    spectrum = np.zeros((size, *c.shape[:-1]), dtype=np.complex128)
    np.add.at(spectrum, wave, np.moveaxis(half, -1, 0))
    spectrum[0] += c[..., 0] / 2
    # f = 2 Re sum_k half_k exp(i k x), with the constant counted once
    return np.ascontiguousarray(np.moveaxis(2 * size * np.fft.ifft(spectrum, axis=0).real, 0, -1))


def _field(
    family: Family,
    n: int,
    grid: Grid,
    scale: float,
    shift: float,
    power: float,
    modes: int,
    generator: torch.Generator,
    zero_mean: bool,
) -> Tensor:
    where = f"{family}_field"
    _check(where, family, n, grid, scale, shift, modes)
    intervals = grid.domain
    waves = _waves(family, modes)
    unit = 2 * math.pi if family == "periodic" else math.pi
    counts = (len(waves),) * len(intervals)
    c = _draw(n, waves, len(intervals), generator)
    total = np.full(counts, float(shift))
    for i, interval in enumerate(intervals):
        total += ((unit * waves / interval.length) ** 2).reshape((-1,) + (1,) * (len(intervals) - 1 - i))
    constant = (0,) * len(intervals)
    keep_constant = family == "sine" or not zero_mean
    if keep_constant and total[constant] <= 0:
        raise UsageError(where, "shift > 0 when the constant mode is kept", f"shift={shift:g}", "set zero_mean=True or a positive shift")
    if not keep_constant:
        total[constant] = 1.0
    amplitude = scale * total ** (-power / 2)
    if not keep_constant:
        amplitude[constant] = 0.0
    c *= amplitude
    return torch.from_numpy(_evaluate(c, grid, lambda x, i: _basis(family, x, intervals[i], modes)))


def _check(where: str, family: Family, n: int, grid: Grid, scale: float, shift: float, modes: int) -> None:
    if not isinstance(grid, Box | Points):
        raise GridError(where, "a Box or Points", type(grid).__name__, "fields on the sphere need spherical harmonics")
    wanted = family == "periodic"
    for i, interval in enumerate(grid.domain):
        if interval.periodic != wanted:
            kind = "periodic" if wanted else "bounded"
            raise GridError(where, f"{kind} axes", f"axis {i} that is not", f"build the grid with {kind.capitalize()} intervals")
    if n < 0 or modes < 1:
        raise UsageError(where, "n >= 0 and modes >= 1", f"n={n}, modes={modes}")
    if not (math.isfinite(scale) and math.isfinite(shift) and shift >= 0):
        raise UsageError(where, "a finite scale and shift >= 0", f"scale={scale}, shift={shift}")


def _waves(family: Family, modes: int) -> NDArray[np.int64]:
    """Wave number of each one-dimensional function, in the order of the basis."""
    if family == "periodic":
        return (np.arange(2 * modes + 1) + 1) // 2
    return np.arange(1, modes + 1) if family == "sine" else np.arange(modes + 1)


def _basis(family: Family, x: NDArray[np.float64], interval: Interval, modes: int) -> NDArray[np.float64]:
    """Matrix ``(points, functions)`` of unit mean-square functions; angles are reduced before the trigonometric call."""
    s = (x - interval.lower) / interval.length
    waves = _waves(family, modes)
    # Reducing the phase modulo its period keeps high modes exact at s = 0, 1/2 and 1.
    period = 1.0 if family == "periodic" else 2.0
    angle = math.pi * (2.0 / period) * np.mod(s[:, None] * waves, period)
    if family == "sine":
        return math.sqrt(2) * np.sin(angle)
    if family == "cosine":
        return np.where(waves == 0, 1.0, math.sqrt(2) * np.cos(angle))
    out = math.sqrt(2) * np.where(np.arange(len(waves)) % 2 == 1, np.cos(angle), np.sin(angle))
    out[:, 0] = 1.0
    return out


@lru_cache(maxsize=16)
def _shell_order(waves: tuple[int, ...], d: int) -> NDArray[np.int64]:
    index = np.indices((len(waves),) * d).reshape(d, -1)
    shell = np.asarray(waves)[index].max(axis=0)
    # Ties are broken by the multi-index itself, which does not depend on the number of modes.
    return np.lexsort((*index[::-1], shell))
