"""Fourier transforms between even periodic grids and their lowest modes alone: what a dealiased product can hold, and no more.

Coefficients are those of ``torch.fft.rfftn`` (unnormalised), in one of two layouts. The compact one keeps the modes ``0..K`` of the
halved last axis and ``0..K, -K..-1`` of every other one, so that time steps touch no mode that dealiasing sets to zero, and transforms
along the first axes run over the kept columns only. The other is that of ``rfftn`` with zeros, quicker where calls cost more than numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anygrid.numerics.pseudospectral import from_spectrum, mode_numbers, to_spectrum

__all__ = ["Truncation"]


@dataclass(frozen=True)
class Truncation:
    """Modes with ``|m| <= highest`` along each axis of a grid of ``shape`` points.

    Attributes
    ----------
    shape
        Points along each axis.
    highest
        Largest mode number kept along each axis, below ``n / 2``: no Nyquist mode.
    compact
        Whether coefficients hold the kept modes alone.
    """

    shape: tuple[int, ...]
    highest: tuple[int, ...]
    compact: bool = True

    @classmethod
    def for_degree(cls, shape: tuple[int, ...], degree: int, *, compact: bool = True) -> Truncation:
        """Modes ``|m| < n / (degree + 1)``: products of ``degree`` factors are free of aliasing among them (2/3 rule at degree 2).

        Source: Orszag, J. Atmos. Sci. 28 (1971) 1074; the bound is strict because ``degree`` times the mode ``n / (degree + 1)``
        falls on its own negative.
        """
        return cls(shape, tuple((n - 1) // (degree + 1) for n in shape), compact)

    def mask(self) -> Tensor:
        """Kept modes in the layout of ``rfftn`` (bool)."""
        inside = torch.ones((), dtype=torch.bool)
        for m, k in zip(mode_numbers(self.shape), self.highest, strict=True):
            inside = inside & (m.abs() <= k)
        return inside

    def gather(self, full: Tensor) -> Tensor:
        """Kept part of coefficients ``(..., *rfftn modes)``."""
        if not self.compact:
            return full * self.mask().to(full.device)
        out = full
        for axis in range(-len(self.shape), -1):
            out = self._fold(out, axis)
        return out[..., : self.highest[-1] + 1]

    def scatter(self, kept: Tensor, full: Tensor) -> Tensor:
        """``full`` with its lowest modes replaced."""
        return torch.where(self.mask().to(full.device), self._spread(kept) if self.compact else kept, full)

    def to_field(self, kept: Tensor) -> Tensor:
        """Field ``(..., *shape)`` of kept coefficients."""
        if not self.compact:
            return from_spectrum(kept, self.shape)
        out = kept
        for axis in range(-len(self.shape), -1):
            out = torch.fft.ifft(self._unfold(out, axis), dim=axis)
        return torch.fft.irfft(out, n=self.shape[-1])

    def to_modes(self, field: Tensor) -> Tensor:
        """Coefficients of fields ``(..., *shape)``; outside the compact layout the caller's multiplier must drop the other modes."""
        if not self.compact:
            return to_spectrum(field, len(self.shape))
        out = torch.fft.rfft(field)[..., : self.highest[-1] + 1]
        for axis in range(-2, -len(self.shape) - 1, -1):
            out = self._fold(torch.fft.fft(out, dim=axis), axis)
        return out

    def weights(self) -> Tensor:
        """Weights (float64) that turn ``|coefficient|**2`` into the mean of the squared field, broadcastable."""
        n = 1
        for size in self.shape:
            n *= size
        weights = torch.full((self.highest[-1] + 1 if self.compact else self.shape[-1] // 2 + 1,), 2.0 / n**2, dtype=torch.float64)
        weights[0] /= 2
        return weights

    def _fold(self, full: Tensor, axis: int) -> Tensor:
        k, n = self.highest[axis], full.shape[axis]
        return full if n == 2 * k + 1 else torch.cat((full.narrow(axis, 0, k + 1), full.narrow(axis, n - k, k)), axis)

    def _unfold(self, compact: Tensor, axis: int) -> Tensor:
        k, n = self.highest[axis], self.shape[axis]
        if n == 2 * k + 1:
            return compact
        size = list(compact.shape)
        size[axis] = n - 2 * k - 1
        return torch.cat((compact.narrow(axis, 0, k + 1), compact.new_zeros(size), compact.narrow(axis, k + 1, k)), axis)

    def _spread(self, compact: Tensor) -> Tensor:
        out = compact
        for axis in range(-len(self.shape), -1):
            out = self._unfold(out, axis)
        missing = self.shape[-1] // 2 + 1 - out.shape[-1]
        return torch.cat((out, out.new_zeros((*out.shape[:-1], missing))), -1)
