"""Fourier multipliers on evenly spaced periodic boxes of any size, in the layout of ``torch.fft.rfftn``.

Coefficients are ``(..., *modes)`` where the last axis holds the non-negative half of its wave numbers. All multipliers are
float64 or complex128 and broadcast against the coefficients; callers round them once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from anygrid.errors import GridError
from anygrid.grid import Box, Grid

__all__ = [
    "dealias",
    "derivative",
    "from_spectrum",
    "inverse_laplacian",
    "laplacian",
    "low_waves",
    "mode_numbers",
    "periodic_box",
    "resample",
    "spectral_energy",
    "square_flux",
    "to_spectrum",
    "wave_numbers",
]


def periodic_box(grid: Grid, where: str, lengths: tuple[float, ...]) -> Box:
    """Return ``grid`` when it is a :class:`Box` of evenly spaced periodic axes with these periods.

    Raises
    ------
    GridError
        For any other grid, naming the axis at fault.
    """
    hint = "build it with the problem's own grid(resolution)"
    if not isinstance(grid, Box) or grid.ndim != len(lengths):
        got = f"a {type(grid).__name__} with {grid.ndim} coordinates"
        raise GridError(where, f"a periodic Box with {len(lengths)} axes", got, hint)
    for axis, length in zip(grid.axes, lengths, strict=True):
        if not (axis.periodic and axis.uniform):
            kind = "uneven" if axis.periodic else "bounded"
            raise GridError(
                where, "evenly spaced periodic axes", f"a {kind} axis {axis.name!r}", "interpolate to an even periodic grid first"
            )
        if not math.isclose(axis.interval.length, length, rel_tol=1e-6):
            raise GridError(where, f"period {length:g} along {axis.name!r}", f"{axis.interval.length:g}", hint)
    return grid


def to_spectrum(u: Tensor, ndim: int) -> Tensor:
    """Fourier coefficients of the last ``ndim`` axes (``rfftn``, unnormalised)."""
    return torch.fft.rfftn(u, dim=tuple(range(-ndim, 0)))


def from_spectrum(u_hat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Field on ``shape`` points from coefficients of :func:`to_spectrum`."""
    return torch.fft.irfftn(u_hat, s=shape, dim=tuple(range(-len(shape), 0)))


def mode_numbers(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Integer mode numbers along each axis (float64), each shaped to broadcast in the layout of ``rfftn``.

    The Nyquist mode of an even axis is ``-n/2`` on full axes and ``n/2`` on the halved last one.
    """
    modes = []
    for k, n in enumerate(shape):
        last = k == len(shape) - 1
        m = torch.fft.rfftfreq(n, 1 / n, dtype=torch.float64) if last else torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
        modes.append(m.reshape([-1 if j == k else 1 for j in range(len(shape))]))
    return tuple(modes)


def wave_numbers(grid: Box) -> tuple[Tensor, ...]:
    """Angular wave numbers ``2 pi m / length`` along each axis, broadcastable."""
    return tuple(m * (2 * math.pi / axis.interval.length) for m, axis in zip(mode_numbers(grid.shape), grid.axes, strict=True))


def derivative(grid: Box, axis: int, order: int = 1) -> Tensor:
    """Multiplier ``(i k)**order`` along one axis (complex128).

    For odd orders the Nyquist mode of an even axis is set to 0: its derivative vanishes at the grid points, and any other value
    would make the result complex. Exact for every other mode.
    """
    k = wave_numbers(grid)[axis]
    multiplier = (1, 1j, -1, -1j)[order % 4] * (k**order).to(torch.complex128)  # a complex power would leave rounding in the other part
    n = grid.shape[axis]
    if order % 2 and n % 2 == 0:
        multiplier = torch.where(mode_numbers(grid.shape)[axis].abs() == n // 2, 0, multiplier)
    return multiplier


def laplacian(grid: Box) -> Tensor:
    """Multiplier ``-|k|**2`` of the Laplacian (float64), Nyquist modes included."""
    return -sum((k**2 for k in wave_numbers(grid)), torch.zeros(()))


def inverse_laplacian(grid: Box) -> Tensor:
    """Multiplier ``-1/|k|**2`` (float64); the mean, which the Laplacian does not determine, is set to 0."""
    lap = laplacian(grid)
    return torch.where(lap == 0, 0.0, 1 / torch.where(lap == 0, 1.0, lap))


def dealias(shape: tuple[int, ...]) -> Tensor:
    """Mask (bool) of the modes ``|m| < n/3`` on every axis: the 2/3 rule.

    Products of two fields within the mask are free of aliasing inside it (Orszag 1971). The bound is strict, since for ``n``
    divisible by 3 the mode ``n/3`` squared would fall back on ``-n/3``.
    """
    mask = torch.ones((), dtype=torch.bool)
    for m, n in zip(mode_numbers(shape), shape, strict=True):
        mask = mask & (3 * m.abs() < n)
    return mask


def square_flux(grid: Box, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Tendency ``-d/dx (u^2 / 2)`` in one dimension, dealiased by the 2/3 rule: a function of coefficients ``(batch, modes)``.

    Conserves the sum of ``u`` and, in exact time, of ``u^2`` over the masked modes.
    """
    pair = torch.complex64 if dtype == torch.float32 else torch.complex128
    mask = dealias(grid.shape).to(device, dtype)
    flux = (-0.5 * derivative(grid, 0) * dealias(grid.shape)).to(device, pair)

    def tendency(u_hat: Tensor) -> Tensor:
        u = from_spectrum(u_hat * mask, grid.shape)
        return flux * to_spectrum(u * u, 1)

    return tendency


def resample(u: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Band-limited interpolation of periodic fields to ``shape`` points, axis by axis from the last ``len(shape)``.

    Exact for every mode both grids carry; modes the new grid lacks are dropped. The Nyquist mode of an even axis stands for
    a cosine, so that half of it belongs to each sign on a finer grid and it is doubled (real part) as a new Nyquist mode.
    First points must coincide (placement ``vertices``).
    """
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        old = u.shape[axis]
        if n == old:
            continue
        u_hat = torch.fft.rfft(u, dim=axis).movedim(axis, -1)
        low = min(old, n)
        keep = u_hat[..., : low // 2 + 1].clone()
        if low % 2 == 0:
            # rfft counts +-Nyquist once, any lower mode twice.
            keep[..., -1] = keep[..., -1] * 0.5 if low == old else 2 * keep[..., -1].real
        u = torch.fft.irfft(keep.movedim(-1, axis), n=n, dim=axis) * (n / old)
    return u


def low_waves(u: Tensor, grid: Grid, highest: int) -> Tensor:
    """Fields ``(..., *space)`` on a Box without the modes above ``highest`` along each evenly spaced periodic axis."""
    assert isinstance(grid, Box)
    for dim, axis in zip(range(-grid.ndim, 0), grid.axes, strict=True):
        if axis.periodic and axis.uniform and axis.size // 2 > highest:
            kept = torch.fft.rfft(u, dim=dim).narrow(dim, 0, highest + 1)
            u = torch.fft.irfft(kept, n=axis.size, dim=dim)  # pads with zeros
    return u


def spectral_energy(u: Tensor, grid: Box) -> Tensor:
    """Energy (float64) by mode number: entry ``m`` holds the modes whose largest ``|k|`` along an evenly spaced periodic axis is ``m``.

    Sums to the sum of squares of ``u (..., *space)`` over all points.
    """
    dims = [k - grid.ndim for k, axis in enumerate(grid.axes) if axis.periodic and axis.uniform]
    power = torch.fft.fftn(u.double(), dim=dims, norm="ortho").abs().square()
    power = power.reshape(-1, *grid.shape).sum(0)
    number = torch.zeros((), dtype=torch.float64)
    for dim in dims:
        size = grid.shape[dim]
        m = (torch.fft.fftfreq(size, dtype=torch.float64) * size).abs()
        number = torch.maximum(number, m.view(*(-1 if k - grid.ndim == dim else 1 for k in range(grid.ndim))))
    number = number.expand(grid.shape).round().long().flatten()
    return torch.zeros(int(number.max()) + 1, dtype=torch.float64).index_add(0, number, power.flatten())
