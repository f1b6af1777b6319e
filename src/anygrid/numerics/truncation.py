"""Fourier transforms between even periodic grids and their lowest modes alone: what a dealiased product can hold, and no more.

Coefficients are those of ``torch.fft.rfftn`` (unnormalised), of whose halved last axis the modes ``0..K`` alone are stored. This axis comes
first, ``(..., K + 1, *others)``, so that each transform runs over memory in order. Other axes keep all their modes, with zeros beyond the
highest: to leave these out as well would save a third of the numbers and cost as much in copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anygrid.numerics.pseudospectral import mode_numbers

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
    """

    shape: tuple[int, ...]
    highest: tuple[int, ...]

    @classmethod
    def for_degree(cls, shape: tuple[int, ...], degree: int) -> Truncation:
        """Modes ``|m| < n / (degree + 1)``: products of ``degree`` factors are free of aliasing among them (2/3 rule at degree 2).

        Source: Orszag, J. Atmos. Sci. 28 (1971) 1074; the bound is strict because ``degree`` times the mode ``n / (degree + 1)``
        falls on its own negative.
        """
        return cls(shape, tuple((n - 1) // (degree + 1) for n in shape))

    def mask(self) -> Tensor:
        """Kept modes in the layout of ``rfftn`` (bool)."""
        inside = torch.ones((), dtype=torch.bool)
        for m, k in zip(mode_numbers(self.shape), self.highest, strict=True):
            inside = inside & (m.abs() <= k)
        return inside

    def gather(self, full: Tensor) -> Tensor:
        """Kept part ``(..., K + 1, *others)`` of coefficients ``(..., *rfftn modes)``."""
        low = full[..., : self.highest[-1] + 1]
        if self._ndim == 1:
            return low
        inside = self.mask()[..., : self.highest[-1] + 1].to(full.device)
        return (low * inside).movedim(-1, -self._ndim).contiguous()

    def scatter(self, kept: Tensor, full: Tensor) -> Tensor:
        """``full`` with its lowest modes replaced."""
        return torch.where(self.mask().to(full.device), self._padded(kept), full)

    def to_field(self, kept: Tensor) -> Tensor:
        """Field ``(..., *shape)`` of kept coefficients."""
        if self._ndim > 1:
            kept = torch.fft.ifftn(kept, dim=tuple(range(1 - self._ndim, 0)))
        return torch.fft.irfft(self._padded(kept), n=self.shape[-1])

    def to_modes(self, field: Tensor) -> Tensor:
        """Coefficients of fields ``(..., *shape)``; above ``highest`` on axes before the last, a multiplier of the caller drops them."""
        low = torch.fft.rfft(field)[..., : self.highest[-1] + 1]
        return low if self._ndim == 1 else torch.fft.fftn(low.movedim(-1, -self._ndim), dim=tuple(range(1 - self._ndim, 0)))

    def weights(self) -> Tensor:
        """Weights (float64) that turn ``|coefficient|**2`` into the mean of the squared field, broadcastable."""
        weights = torch.full((self.highest[-1] + 1,), 2.0 / math.prod(self.shape) ** 2, dtype=torch.float64)
        weights[0] /= 2
        return weights.reshape(-1, *[1] * (self._ndim - 1))

    @property
    def _ndim(self) -> int:
        return len(self.shape)

    def _padded(self, kept: Tensor) -> Tensor:
        kept = kept.movedim(-self._ndim, -1)
        missing = self.shape[-1] // 2 + 1 - kept.shape[-1]
        return torch.cat((kept, kept.new_zeros((*kept.shape[:-1], missing))), -1)
