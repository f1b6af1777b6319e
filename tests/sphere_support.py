"""Grids and coefficients that several tests of the sphere share."""

import torch

from anygrid.grid import Axis, Bounded, Periodic, Sphere
from anygrid.numerics.spherical_harmonics import evaluate_at


def with_poles(nlat: int, nlon: int, west: float = 0.0) -> Sphere:
    return Sphere(Axis("lat", Bounded(-90, 90), nlat, "vertices"), Axis("lon", Periodic(west, west + 360), nlon))


def random_coefficients(degree: int, batch: int = 2, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Standard normal where there is a function, zero elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(batch, channels, degree + 1, degree + 1, 2, generator=generator, dtype=torch.float64)
    c = c * torch.ones(degree + 1, degree + 1, dtype=torch.float64).tril()[..., None]
    c[..., 0, 1] = 0
    return c


def rotation() -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    return q * torch.det(q).sign()


def rotated(c: torch.Tensor, grid: Sphere, turn: torch.Tensor) -> torch.Tensor:
    """Values on ``grid`` of the rotated function: those of the function at the points turned back."""
    lat, lon = torch.deg2rad(grid.points()).unbind(-1)
    x, y, z = (torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1) @ turn).unbind(-1)
    there = torch.rad2deg(torch.asin(z.clamp(-1, 1))).flatten(), torch.rad2deg(torch.atan2(y, x)).flatten()
    return evaluate_at(c, *there).unflatten(2, grid.shape)
