"""What the spherical operators share: position, pointwise maps, one matrix for each degree, values elsewhere, and what they refuse."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import GridError
from anygrid.grid import Grid, Points, Sphere
from anygrid.numerics.interpolation import interpolate
from anygrid.numerics.spherical_harmonics import analyse, evaluate_at, synthesise

__all__ = ["check_sphere", "evaluate", "linear_map", "moved", "unit_vectors", "with_position"]


def check_sphere(a: Tensor, grid: Grid, inputs: int, where: str) -> Sphere:
    """The grid, if it is a sphere on which the input lies.

    Raises
    ------
    GridError
        Otherwise.
    """
    if not isinstance(grid, Sphere):
        raise GridError(where, "a Sphere", type(grid).__name__, "use --operator default, or latitudes and longitudes in degrees")
    if tuple(a.shape[1:]) != (inputs, *grid.shape):
        expected = ", ".join(map(str, (inputs, *grid.shape)))
        raise GridError(where, f"input of shape (batch, {expected})", str(tuple(a.shape)))
    return grid


@lru_cache(maxsize=32)
def unit_vectors(grid: Sphere, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "3 lat lon"]:
    """Components of the unit vector to each point."""
    with torch.inference_mode(False):
        lat, lon = torch.deg2rad(grid.points()).unbind(-1)
        return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]).to(device, dtype)


def with_position(a: Float[Tensor, "batch channel lat lon"], grid: Sphere) -> Float[Tensor, "batch more lat lon"]:
    """The fields and the three components of position."""
    return torch.cat([a, unit_vectors(grid, a.dtype, a.device).expand(len(a), -1, -1, -1)], 1)


def linear_map(x: Float[Tensor, "batch channel lat lon"], linear: nn.Linear) -> Float[Tensor, "batch outputs lat lon"]:
    """Pointwise map of the channels where they lie: transforms want latitude and longitude last."""
    weight = linear.weight.expand(len(x), -1, -1)
    return torch.baddbmm(linear.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


def evaluate(c: Float[Tensor, "batch channel degree order 2"], query: Grid, where: str) -> Float[Tensor, "batch channel *query"]:
    """Values of harmonics on a sphere, or at points of latitude and longitude.

    Raises
    ------
    GridError
        For any other grid.
    """
    if isinstance(query, Sphere):
        return synthesise(c, query)
    if isinstance(query, Points) and query.ndim == 2:
        latitude, longitude = query.points().unbind(-1)
        return evaluate_at(c, latitude, longitude)
    raise GridError(where, "a Sphere, or Points of latitude and longitude, as query", type(query).__name__)


def moved(x: Float[Tensor, "batch channel lat lon"], grid: Sphere, query: Grid, where: str) -> Float[Tensor, "batch channel *query"]:
    """Values elsewhere of what is only known at the points: by harmonics on Gaussian latitudes, by a cubic spline on even ones."""
    return evaluate(analyse(x, grid), query, where) if grid.gaussian else interpolate(x, grid, query, smooth=True)
