"""Keep an evolution to what its training data know: the ball and the waves of :mod:`anygrid.surrogate.imposed`, found in the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from anygrid.errors import DataError
from anygrid.grid import Box, Grid
from anygrid.numerics.pseudospectral import spectral_energy
from anygrid.statistics import Moments
from anygrid.surrogate.impose import centre_of, norm
from anygrid.surrogate.imposed import Imposed

__all__ = ["BEYOND", "MARGIN", "confined"]

MARGIN = 1.05  # radius of the ball over the largest norm of a training state
BEYOND = 1e-7  # of the energy of the training states: amplitudes of 3e-4, the error of a good operator


def confined(
    imposed: Imposed, states: Iterable[tuple[Tensor, Grid]], names: Sequence[str], moments: Moments, margin: float = MARGIN
) -> Imposed:
    r"""``imposed`` with a ball ``margin`` times as large as the largest state, and without waves that the states do not have.

    The highest wave is the smallest :math:`m` with

    .. math:: \sum_{\max_i |k_i| > m} E(k) < 10^{-7} \sum_k E(k),

    mean squares summed over states, each channel in units of its variance. What lies beyond is smaller than an operator's own error:
    a flow damps it, and in a roll-out it piles up. Data that resolve no such wave, and grids without periodic axes, get the ball alone.

    Parameters
    ----------
    states
        Batches ``(batch, channel, *space)`` of the evolving variables, and their grids.
    names
        Of these variables.
    moments
        Of these variables over the training data.
    margin
        Radius of the ball over the norm of the largest state.

    Raises
    ------
    DataError
        Without states.
    """
    mean, own = torch.tensor(moments.mean, dtype=torch.float64), torch.tensor([name in imposed.conserved for name in names])
    std = torch.tensor(moments.std, dtype=torch.float64)
    largest, energies, resolved = 0.0, torch.zeros(0, dtype=torch.float64), []
    for u, grid in states:
        column = (1, -1, *(1,) * (u.ndim - 2))
        z = (u.double() - centre_of(u.double(), grid, mean, own)) / std.view(column)
        largest = max(largest, float(norm(z, grid).max()))
        if isinstance(grid, Box) and any(axis.periodic and axis.uniform for axis in grid.axes):
            found = spectral_energy(z, grid) / grid.size
            size = max(len(found), len(energies))
            energies = sum((torch.nn.functional.pad(e, (0, size - len(e))) for e in (energies, found)), torch.zeros(size))
            resolved.append(len(found) - 1)
    if not largest > 0:
        raise DataError("confine", "states that vary", "none")
    waves = None
    if resolved and energies.sum() > 0:
        beyond = energies.flip(0).cumsum(0).flip(0)  # at m: energy of m and above
        first = int((beyond >= BEYOND * beyond[0]).sum()) - 1  # highest wave that counts
        waves = first if 0 < first < max(resolved) else None
    return replace(imposed, radius=float(f"{margin * largest:.4g}"), waves=waves)
