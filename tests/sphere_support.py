"""Grids and coefficients that several tests of the sphere share."""

import torch

from anygrid.grid import Axis, Bounded, Periodic, Sphere


def with_poles(nlat: int, nlon: int, west: float = 0.0) -> Sphere:
    return Sphere(Axis("lat", Bounded(-90, 90), nlat, "vertices"), Axis("lon", Periodic(west, west + 360), nlon))


def random_coefficients(degree: int, batch: int = 2, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Standard normal where there is a function, zero elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(batch, channels, degree + 1, degree + 1, 2, generator=generator, dtype=torch.float64)
    c = c * torch.ones(degree + 1, degree + 1, dtype=torch.float64).tril()[..., None]
    c[..., 0, 1] = 0
    return c
