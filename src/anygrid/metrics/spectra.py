"""Power by wave number, and the error of a field in each band of wave numbers.

The transform of each axis follows its topology, and its coefficients are scaled so that the powers add up to the mean square
of the field under the quadrature of the grid (Parseval):

* periodic, even: Fourier (FFT);
* bounded, even: cosine, DCT-II at cell centres and DCT-I at vertices; a cosine of ``m`` half waves has wave number ``m / 2``;
* uneven: linear interpolation to as many even points first, then as above;
* sphere: along longitude only, row by row, averaged with the areas of the rows; the wave number is the zonal one.

Wave numbers count waves in the longest side of the box (in 360 degrees or the window's width on a sphere), so shells and bands
mean the same at every resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from anygrid.errors import GridError
from anygrid.grid import Axis, Box, Grid, Sphere

__all__ = ["BANDS", "Spectrum", "band_errors", "describe_transform", "power_spectrum"]

# The wave-number bands of PDEBench (Takamoto et al. 2022, appendix B): 0-3, 4-11, 12 and above.
BANDS: dict[str, tuple[int, int | None]] = {"low": (0, 4), "mid": (4, 12), "high": (12, None)}


@dataclass(frozen=True)
class Spectrum:
    """Power in shells of wave number; shell ``k`` gathers ``k - 1/2 <= |wave number| < k + 1/2``.

    ``resolved`` is the largest shell that lies wholly inside the Nyquist limit of every axis; shells beyond it hold only corners.
    """

    k: NDArray[np.int64]
    power: Float[Tensor, "batch channel k"]
    resolved: int


def power_spectrum(u: Float[Tensor, "batch channel *space"], grid: Grid) -> Spectrum:
    r"""Isotropic power spectrum :math:`E(k) = \sum_{|m| \in \text{shell } k} |\hat u_m|^2`; :math:`\sum_k E(k) = \langle u^2 \rangle`.

    Raises
    ------
    GridError
        On scattered points, where no orthogonal transform exists.
    """
    if not isinstance(grid, Box | Sphere):
        raise GridError("power_spectrum", "a Box or a Sphere", type(grid).__name__, "interpolate scattered points to a Box first")
    energy: NDArray[np.floating] = u.detach().to(torch.float64).numpy()
    waves: list[NDArray[np.float64]] = []
    axes = (grid.lon,) if isinstance(grid, Sphere) else grid.axes
    longest = max(axis.interval.length for axis in axes)
    field: NDArray[Any] = energy
    weight = np.ones((1,) * energy.ndim)
    for offset, axis in enumerate(axes):
        place = energy.ndim - len(axes) + offset
        field, m, w = _transform(field, axis, place)
        waves.append(m * longest / axis.interval.length)
        weight = weight * w.reshape([-1 if d == place else 1 for d in range(energy.ndim)])
    energy = weight * np.abs(field) ** 2
    if isinstance(grid, Sphere):
        area = grid.weights().sum(1)
        energy = np.einsum("bcyk,y->bck", energy, (area / area.sum()).numpy())
    radius = np.sqrt(sum(m**2 for m in np.meshgrid(*waves, indexing="ij")))
    shell = np.floor(radius + 0.5).astype(np.int64).ravel()
    flat = energy.reshape(*energy.shape[:2], -1)
    count = int(shell.max()) + 1
    power = torch.zeros(*flat.shape[:2], count, dtype=torch.float64).index_add_(2, torch.from_numpy(shell), torch.from_numpy(flat))
    resolved = int(np.floor(min(m.max() for m in (np.abs(w) for w in waves)) - 0.5))
    return Spectrum(np.arange(count), power, max(resolved, 0))


def _transform(f: NDArray[Any], axis: Axis, place: int) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients along one array dimension, their wave numbers (waves in the axis' length) and their Parseval weights."""
    n = axis.size
    if not axis.uniform:
        f, axis = _to_even(f, axis, place)
    if axis.periodic:
        return np.fft.fft(f, axis=place, norm="forward"), np.asarray(np.fft.fftfreq(n, 1 / n), dtype=np.float64), np.ones(n)
    m = np.arange(n) / 2
    if axis.placement == "cells" or n == 1:
        return _dct(f, 2, place) / (2 * n), m, np.where(np.arange(n) == 0, 1.0, 2.0)
    ends = (np.arange(n) == 0) | (np.arange(n) == n - 1)
    # DCT-I: coefficients X/(n-1), halved at both ends; cosines have mean square 1/2 but 1 at both ends (trapezoid rule)
    return _dct(f, 1, place) / (n - 1), m, np.where(ends, 0.25, 0.5)


def _dct(f: NDArray[Any], kind: int, place: int) -> NDArray[Any]:
    if np.iscomplexobj(f):
        return fft.dct(f.real, type=kind, axis=place) + 1j * fft.dct(f.imag, type=kind, axis=place)
    return fft.dct(f, type=kind, axis=place)


def _to_even(f: NDArray[Any], axis: Axis, place: int) -> tuple[NDArray[Any], Axis]:
    """Values by linear interpolation at as many even points: cell centres when bounded, points from the lower end when periodic."""
    even = Axis(axis.name, axis.interval, axis.size, "vertices" if axis.periodic else "cells")
    period = axis.interval.length if axis.periodic else None
    rows = np.eye(axis.size)
    matrix = np.stack([np.interp(even.coordinates(), axis.coordinates(), row, period=period) for row in rows], axis=1)
    return np.moveaxis(np.tensordot(matrix, f, axes=(1, place)), 0, place), even


def band_errors(
    u: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> dict[str, Float[Tensor, "batch channel"]]:
    r"""Relative error in each of :data:`BANDS`: :math:`(\sum_{k \in B} E_{u-v}(k) / \sum_{k \in B} E_v(k))^{1/2}`.

    Phase errors count, unlike in a ratio of two spectra. A band that the grid does not carry is nan.
    """
    error = power_spectrum(u.to(torch.float64) - truth.to(torch.float64), grid)
    size = power_spectrum(truth, grid)
    result = {}
    for name, (low, high) in BANDS.items():
        inside = torch.from_numpy((error.k >= low) & (error.k < (high if high is not None else np.inf)))
        result[name] = (error.power[..., inside].sum(-1) / size.power[..., inside].sum(-1)).sqrt()
    return result


def describe_transform(grid: Grid) -> str:
    """Sentence that says how spectra are taken on this grid, for reports."""
    if isinstance(grid, Sphere):
        kind = "Fourier" if grid.lon.periodic else "cosine"
        return f"Spectra are zonal: {kind} transform along longitude on each row, averaged with the area of the rows."
    if not isinstance(grid, Box):
        return "No spectra: scattered points have no orthogonal transform."
    uneven = " after linear interpolation to even points"
    kinds = [("Fourier" if axis.periodic else "cosine") + ("" if axis.uniform else uneven) for axis in grid.axes]
    listed = ", ".join(f"{axis.name}: {kind}" for axis, kind in zip(grid.axes, kinds, strict=True))
    halves = "" if all(axis.periodic for axis in grid.axes) else "; a cosine of m half waves has wave number m/2"
    return f"Spectra by shells of wave number, counted in waves per longest side ({listed}{halves})."
