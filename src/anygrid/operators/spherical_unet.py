r"""U-shaped spherical operator: filters of small reach where the field is fine, harmonics and most of the network where it is coarse.

.. math::

    x_j &= \sigma\big(W_j v_j + \mathcal C_j v_j\big), \qquad v_{j+1} = \sum_{l \le L_{j+1}} Y_l D_j \hat x_{j,l}, \qquad
        L_j = \lfloor L / 2^j \rfloor \\
    y_j &= W_j' x_j + \mathcal C_j' x_j + \sum_{l \le L_j} Y_l R_{j,l} \hat x_{j,l}
        + \sum_{l \le L_{j+1}} Y_l U_j \widehat{\sigma(y_{j+1})}_l

with local convolutions :math:`\mathcal C` (:mod:`anygrid.numerics.sphere_convolution`), one matrix :math:`R_l` for each degree as in
:class:`~anygrid.operators.spherical_fno.SphericalFNO`, and changes of level by truncation of the harmonics, which loses nothing that
a level carries. Level 0 lies on the caller's grid; the others, each with half the degrees and half as many channels more, on Gaussian
grids of their own, whatever the caller's. Filters and harmonics share one FFT of the rows. Local convolutions beside harmonics are those of
Liu-Schiaffini et al. 2024 (arXiv:2402.16845), spherical networks of this kind in Bonev et al. 2023 (arXiv:2306.03838).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import UsageError
from anygrid.grid import Grid, Sphere
from anygrid.numerics.cap_filters import CapFilters
from anygrid.numerics.longitude_waves import is_smooth
from anygrid.numerics.sphere_convolution import convolve_rows
from anygrid.numerics.sphere_rows import Columns, Rows, analyse_rows, from_rows, standard, synthesise_rows, to_rows
from anygrid.operators.lean import perceptron
from anygrid.operators.sphere_layers import check_sphere, evaluate, linear_map, moved, with_position

__all__ = ["SphericalUNet"]

_RADIAL = 1  # functions of distance in a local filter


class SphericalUNet(nn.Module):
    """U-shaped spherical operator on any global grid with an exact latitude quadrature.

    Parameters
    ----------
    inputs, outputs
        Channels.
    degree
        Highest degree on level 0, with the bounds of :class:`~anygrid.operators.spherical_fno.SphericalFNO`; halved on each level below.
    width
        Channels on level 0; half as many more on each level below.
    levels
        Number of levels.
    blocks
        Layers on the lowest level.
    head
        Hidden channels of the projection.
    coordinates
        Whether position and the directions of the compass enter: the components of the unit vector to the point, and local filters
        that measure derivatives to the north and east beside an average. Without them the operator commutes with every rotation of the
        sphere but for what GELU makes beyond the degrees that the grids tell apart.
    oversampling
        Latitudes of the grids below level 0 over the number of their degrees. The more, the less GELU aliases there.

    Raises
    ------
    UsageError
        For sizes below 1, or more levels than the degree can be halved.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        degree: int,
        width: int = 32,
        levels: int = 3,
        blocks: int = 2,
        head: int = 128,
        coordinates: bool = True,
        oversampling: float = 1.0,
    ) -> None:
        super().__init__()
        if min(inputs, outputs, width, levels, blocks, head) < 1 or degree < 2 ** (levels - 1) or not 1 <= oversampling <= 4:
            found = f"{inputs} -> {outputs} channels, degree {degree}, width {width}, {levels} levels, {blocks} blocks, head {head}"
            wanted = "sizes of 1 or more, a degree that halves at every level, and oversampling from 1 to 4"
            raise UsageError("SphericalUNet", wanted, f"{found}, oversampling {oversampling:g}")
        self.arguments: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "degree": degree,
            "width": width,
            "levels": levels,
            "blocks": blocks,
            "head": head,
            "coordinates": coordinates,
            "oversampling": oversampling,
        }
        self.inputs, self.coordinates = inputs, coordinates
        self.lift = nn.Linear(inputs + (3 if coordinates else 0), width)
        self.encoders, self.decoders, self.grids = nn.ModuleList(), nn.ModuleList(), []
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for _ in range(levels - 1):
            self.encoders.append(_Layer(width, degree, coordinates, spectral=False))
            self.decoders.append(_Layer(width, degree, coordinates))
            more = width + width // 2
            self.down.append(nn.Parameter(torch.randn(width, more) / width**0.5))
            self.up.append(nn.Parameter(torch.randn(more, width) / (6 * more) ** 0.5))
            degree, width = degree // 2, more
            self.grids.append((_coarse(degree, oversampling), degree))
        self.lowest = nn.ModuleList(_Layer(width, degree, coordinates) for _ in range(blocks))
        width = self.arguments["width"]
        self.first, self.second = nn.Linear(width, head), nn.Linear(head, outputs)

    def forward(
        self, a: Float[Tensor, "batch inputs lat lon"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Apply the operator to ``a`` on ``grid``; evaluate the output on ``query`` (default: ``grid``).

        The query may be any :class:`Sphere`, a window too, or :class:`Points` of latitude and longitude: harmonics are evaluated there, and
        what is local on level 0 follows as in :class:`~anygrid.operators.spherical_fno.SphericalFNO`.

        Raises
        ------
        GridError
            For a tensor that does not lie on ``grid``, and a grid that is no global sphere, has uneven latitudes, or too few points.
        """
        sphere = check_sphere(a, grid, self.inputs, "SphericalUNet")
        x = linear_map(with_position(a, sphere) if self.coordinates else a, self.lift)
        x = self._level(0, x, sphere, query if query is not None and query != grid else None)
        return torch.movedim(perceptron(torch.movedim(x, 1, -1), self.first, self.second), -1, 1)

    def _level(self, j: int, x: Tensor, grid: Sphere, query: Grid | None = None) -> Tensor:
        """Level ``j`` with all that is below it, before the activation; on a query elsewhere, if one is given."""
        if j == len(self.encoders):
            for layer in self.lowest[:-1]:
                assert isinstance(layer, _Layer)
                x = nn.functional.gelu(layer(x, grid))
            last = self.lowest[-1]
        else:
            x, last = nn.functional.gelu(self.encoders[j](x, grid)), self.decoders[j]
        assert isinstance(last, _Layer)
        rows = to_rows(x, grid)
        columns = analyse_rows(rows, grid, last.degree)
        mixed = last.mixed(columns)
        if j < len(self.encoders):
            mixed = mixed + self._below(j, columns)
        local, beside = last.local(rows, grid), linear_map(x, last.pointwise)
        if query is None:
            return from_rows(synthesise_rows(mixed, grid) + local, grid) + beside
        there = evaluate(standard(mixed), query, "SphericalUNet")
        return there + moved(from_rows(local, grid) + beside, grid, query, "SphericalUNet")

    def _below(self, j: int, columns: Columns) -> Columns:
        """From harmonics to harmonics of level ``j`` through the levels below it."""
        grid, degree = self.grids[j]
        y = from_rows(synthesise_rows(columns[: degree + 1, : degree + 1] @ self.down[j], grid), grid)
        y = nn.functional.gelu(self._level(j + 1, y, grid))
        raised = analyse_rows(to_rows(y, grid), grid, degree) @ self.up[j]
        more = columns.shape[0] - 1 - degree
        return nn.functional.pad(raised, (0, 0, 0, 0, 0, 0, 0, more, 0, more))


class _Layer(nn.Module):
    """A pointwise map and a convolution of small reach; with one matrix for each degree where ``spectral``."""

    def __init__(self, width: int, degree: int, directions: bool, spectral: bool = True) -> None:
        super().__init__()
        self.degree = degree
        # Two splines a spacing of the highest degree apart reach to the next points but one of a grid that just carries it.
        self.filters = CapFilters(min(90.0, (_RADIAL + 1) * 180 / (degree + 1)), _RADIAL, 1 if directions else 0)
        self.pointwise = nn.Linear(width, width)
        # Half the variance of what passes through the pointwise path, which starts as torch starts it.
        self.taps = nn.Parameter(torch.randn(self.filters.size, width, width) / (6 * self.filters.size * width) ** 0.5)
        self.spectral = nn.Parameter(torch.randn(degree + 1, width, width) / (6 * width) ** 0.5) if spectral else None

    def local(self, rows: Rows, grid: Sphere) -> Rows:
        """Waves of the convolution."""
        return convolve_rows(rows, self.taps, grid, self.filters)

    def mixed(self, columns: Columns) -> Columns:
        """One matrix for each degree, which all its orders share."""
        return torch.einsum("mlpbi,lio->mlpbo", columns, self.spectral)

    def forward(self, x: Float[Tensor, "batch width lat lon"], grid: Sphere) -> Float[Tensor, "batch width lat lon"]:
        """The sum of the paths."""
        rows = to_rows(x, grid)
        total = self.local(rows, grid)
        if self.spectral is not None:
            total = total + synthesise_rows(self.mixed(analyse_rows(rows, grid, self.degree)), grid)
        return from_rows(total, grid) + linear_map(x, self.pointwise)


def _coarse(degree: int, oversampling: float) -> Sphere:
    """Gaussian grid for a level below the first, of a size that the FFT likes."""
    nlat = next(n for n in range(math.ceil(oversampling * (degree + 1)), 8 * (degree + 2)) if is_smooth(n))
    return Sphere.gauss(nlat, 2 * nlat)
