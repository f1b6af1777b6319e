"""Where functions are sampled: the three grids (Box, Sphere, Points) made of axes.

A grid is immutable and hashable, so that everything that depends on one (matrices, quadrature) can be cached by it.
Coordinates and weights are computed in float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from anygrid.axis import Axis, Bounded, Interval, Periodic, Placement
from anygrid.errors import GridError

__all__ = ["Axis", "Bounded", "Box", "Grid", "Interval", "Periodic", "Points", "Sphere", "gaussian_latitudes", "outer"]


class Grid(ABC):
    """Sample points of a domain with their quadrature weights. Concrete grids are frozen and hashable."""

    @property
    @abstractmethod
    def dims(self) -> tuple[str, ...]:
        """Names of the array dimensions, in order."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Points along each array dimension."""

    @property
    @abstractmethod
    def domain(self) -> tuple[Interval, ...]:
        """Extent of each coordinate."""

    @abstractmethod
    def points(self) -> Float[Tensor, "*space d"]:
        """Coordinates of every point (float64)."""

    @abstractmethod
    def weights(self) -> Float[Tensor, "*space"]:
        """Quadrature weights (float64): ``sum(weights * f)`` approximates the integral of ``f`` over the domain."""

    @abstractmethod
    def at(self, shape: tuple[int, ...] | int) -> Grid:
        """Same domain at another resolution."""

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of coordinates."""
        return len(self.domain)

    def mean_weights(self) -> Float[Tensor, "*space"]:
        """Weights that sum to 1 over the domain: ``sum(mean_weights * f)`` is the mean of ``f``."""
        weights = self.weights()
        return weights / weights.sum()


def _shape(where: str, shape: tuple[int, ...] | int, ndim: int) -> tuple[int, ...]:
    wanted = (shape,) * ndim if isinstance(shape, int) else tuple(int(n) for n in shape)
    if len(wanted) != ndim:
        raise GridError(where, f"a resolution with {ndim} numbers", "x".join(map(str, wanted)), "give one number for each space dimension")
    return wanted


@dataclass(frozen=True)
class Box(Grid):
    """Tensor-product grid on a box of one to four axes, each periodic or bounded, even or uneven."""

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        names = self.dims
        if not 1 <= len(names) <= 4 or len(set(names)) != len(names):
            raise GridError("Box", "one to four axes with different names", repr(names))

    @classmethod
    def uniform(cls, domain: dict[str, Interval], shape: tuple[int, ...] | int, *, placement: Placement = "vertices") -> Box:
        """Evenly spaced grid: ``Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 2)}, (64, 33))``."""
        sizes = _shape("Box.uniform", shape, len(domain))
        return cls(tuple(Axis(name, interval, n, placement) for (name, interval), n in zip(domain.items(), sizes, strict=True)))

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def domain(self) -> tuple[Interval, ...]:
        return tuple(axis.interval for axis in self.axes)

    def points(self) -> Float[Tensor, "*space d"]:
        return _mesh([axis.coordinates() for axis in self.axes])

    def factors(self) -> list[NDArray[np.float64]]:
        """One factor of the weights for each axis."""
        return [axis.weights() for axis in self.axes]

    def weights(self) -> Float[Tensor, "*space"]:
        return outer(self.factors())

    def at(self, shape: tuple[int, ...] | int) -> Box:
        sizes = _shape("Box.at", shape, len(self.axes))
        return replace(self, axes=tuple(axis.at(n) for axis, n in zip(self.axes, sizes, strict=True)))


@dataclass(frozen=True)
class Sphere(Grid):
    """Latitude-longitude grid in degrees, global or a window, on the unit sphere.

    Longitude is periodic when the grid goes once round. ``gaussian`` marks Gauss-Legendre latitudes, whose weights
    integrate spherical polynomials of degree below ``2 * nlat`` exactly; other latitudes carry the exact area of their bands.
    """

    lat: Axis
    lon: Axis
    gaussian: bool = False

    def __post_init__(self) -> None:
        low, high = self.lat.interval.lower, self.lat.interval.upper
        if low < -90 - 1e-6 or high > 90 + 1e-6 or self.lat.periodic:
            raise GridError(
                "Sphere", "latitudes between -90 and 90 degrees", f"{low:g} to {high:g}", "check the latitude coordinate and its units"
            )
        if self.lon.interval.length > 360 + 1e-6:
            raise GridError("Sphere", "at most 360 degrees of longitude", f"{self.lon.interval.length:g}", "drop the repeated meridians")

    @classmethod
    def equiangular(cls, nlat: int, nlon: int) -> Sphere:
        """Global grid of cell-centred latitudes and longitudes that start at 0."""
        return cls(Axis("lat", Bounded(-90, 90), nlat, "cells"), Axis("lon", Periodic(0, 360), nlon))

    @classmethod
    def gauss(cls, nlat: int, nlon: int) -> Sphere:
        """Global grid with Gauss-Legendre latitudes."""
        nodes = tuple(gaussian_latitudes(nlat)[0].tolist())
        return cls(Axis("lat", Bounded(-90, 90), nlat, "nodes", nodes), Axis("lon", Periodic(0, 360), nlon), gaussian=True)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Latitude, longitude."""
        return self.lat, self.lon

    @property
    def dims(self) -> tuple[str, ...]:
        return self.lat.name, self.lon.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lat.size, self.lon.size

    @property
    def domain(self) -> tuple[Interval, ...]:
        return self.lat.interval, self.lon.interval

    def points(self) -> Float[Tensor, "*space d"]:
        return _mesh([self.lat.coordinates(), self.lon.coordinates()])

    def factors(self) -> list[NDArray[np.float64]]:
        """Factors of the weights: of latitude, of longitude."""
        if self.gaussian:
            bands = gaussian_latitudes(self.lat.size)[1]
        else:
            x, ends = self.lat.coordinates(), self.lat.interval
            edges = np.concatenate([[ends.lower], 0.5 * (x[1:] + x[:-1]), [ends.upper]])
            bands = np.diff(np.sin(np.deg2rad(edges)))
        return [bands, np.deg2rad(self.lon.weights())]

    def weights(self) -> Float[Tensor, "*space"]:
        """Areas on the unit sphere; a global grid sums to ``4 pi``."""
        return outer(self.factors())

    def at(self, shape: tuple[int, ...] | int) -> Sphere:
        nlat, nlon = _shape("Sphere.at", shape, 2)
        lat = self.lat.at(nlat)
        if self.gaussian:
            lat = replace(self.lat, size=nlat, nodes=tuple(gaussian_latitudes(nlat)[0].tolist()))
        return replace(self, lat=lat, lon=self.lon.at(nlon))


@dataclass(frozen=True, eq=False)
class Points(Grid):
    """Scattered points of a box-shaped domain.

    Parameters
    ----------
    coordinates
        Array ``(points, d)``.
    names
        Names of the ``d`` coordinates.
    extent
        Interval of each coordinate. It must be the domain of the functions, not only of these points.
    quadrature
        Weight of each point. Without it each point gets the volume of the region nearest to it (measured on a lattice).
    """

    coordinates: NDArray[np.float64]
    names: tuple[str, ...]
    extent: tuple[Interval, ...]
    quadrature: NDArray[np.float64] | None = None
    dim: str = "point"
    _key: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        x = np.array(self.coordinates, dtype=np.float64)
        d = len(self.extent)
        if x.ndim != 2 or x.shape[1] != d or len(self.names) != d or x.shape[0] == 0:
            raise GridError("Points", f"coordinates of shape (points, {d}) with {d} names", f"shape {x.shape} with names {self.names}")
        if not np.isfinite(x).all():
            raise GridError(
                "Points", "finite coordinates", f"{int((~np.isfinite(x)).any(1).sum())} points that are not", "drop those points"
            )
        for k, interval in enumerate(self.extent):
            slack = 1e-6 * interval.length
            outside = (x[:, k] < interval.lower - slack) | (x[:, k] > interval.upper + slack)
            if interval.periodic:
                x[:, k] = interval.lower + np.mod(x[:, k] - interval.lower, interval.length)
            elif outside.any():
                raise GridError(
                    "Points",
                    f"{self.names[k]} inside [{interval.lower:g}, {interval.upper:g}]",
                    f"{int(outside.sum())} points outside, the first at {x[outside.argmax(), k]:g}",
                    "drop the points outside the domain",
                )
        x.setflags(write=False)
        object.__setattr__(self, "coordinates", x)
        given = b"" if self.quadrature is None else np.ascontiguousarray(self.quadrature, dtype=np.float64).tobytes()
        object.__setattr__(self, "_key", (x.tobytes(), given, self.names, self.extent, self.dim))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Points) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def dims(self) -> tuple[str, ...]:
        return (self.dim,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.coordinates),)

    @property
    def domain(self) -> tuple[Interval, ...]:
        return self.extent

    def points(self) -> Float[Tensor, "*space d"]:
        return torch.from_numpy(self.coordinates.copy())

    def weights(self) -> Float[Tensor, "*space"]:
        if self.quadrature is not None:
            return torch.tensor(self.quadrature, dtype=torch.float64)
        return torch.from_numpy(_nearest_volumes(self.coordinates, self.extent))

    def at(self, shape: tuple[int, ...] | int) -> Points:
        if _shape("Points.at", shape, 1) == self.shape:
            return self
        raise GridError(
            "Points.at", "the same number of points", str(shape), "scattered points have no other resolution; name a Box or other Points"
        )


def gaussian_latitudes(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre latitudes in degrees, ascending, and their weights in sin(latitude), which sum to 2."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return np.rad2deg(np.arcsin(nodes)), weights


def _mesh(coordinates: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1))


def outer(factors: list[NDArray[np.float64]]) -> Tensor:
    """Product of one factor for each axis."""
    product = torch.from_numpy(factors[0].copy())
    for w in factors[1:]:
        product = product[..., None] * torch.from_numpy(w.copy())
    return product


def _nearest_volumes(x: NDArray[np.float64], extent: tuple[Interval, ...]) -> NDArray[np.float64]:
    """Volume nearest to each point, by counting the cells of a lattice of about 32 cells a point."""
    n, d = x.shape
    side = max(2, math.ceil(min(32 * n, 4_000_000) ** (1 / d)))
    lattice = _mesh([np.array([e.lower + e.length * (i + 0.5) / side for i in range(side)]) for e in extent]).reshape(-1, d).numpy()
    scale = np.array([e.length for e in extent])
    low = np.array([e.lower for e in extent])
    box = [1.0 if e.periodic else 0.0 for e in extent]  # cKDTree: 0 means not periodic
    unit = np.where(np.array(box) > 0, np.mod((x - low) / scale, 1.0), (x - low) / scale)
    _, owner = cKDTree(unit, boxsize=box).query((lattice - low) / scale)
    volume = math.prod(e.length for e in extent)
    return np.bincount(owner, minlength=n) * (volume / side**d)
