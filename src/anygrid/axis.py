"""One coordinate: its interval, and the points along it with their quadrature weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anygrid.errors import GridError

__all__ = ["Axis", "Bounded", "Interval", "Periodic", "Placement"]

Placement = Literal["vertices", "cells", "nodes"]
_UNIFORM = 1e-4  # spacing may vary by this fraction and still count as even: float32 coordinates do


@dataclass(frozen=True)
class Interval:
    """Extent ``[lower, upper]`` of one coordinate; on a periodic one the two ends are the same place."""

    lower: float = 0.0
    upper: float = 1.0
    periodic: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower < self.upper):
            raise GridError("Interval", "finite lower < upper", f"[{self.lower}, {self.upper}]", "give the ends in ascending order")

    @property
    def length(self) -> float:
        """``upper - lower``."""
        return self.upper - self.lower


def Periodic(lower: float = 0.0, upper: float = 1.0) -> Interval:  # noqa: N802 - reads as a noun in a domain
    """Periodic interval of period ``upper - lower``."""
    return Interval(float(lower), float(upper), periodic=True)


def Bounded(lower: float = 0.0, upper: float = 1.0) -> Interval:  # noqa: N802 - reads as a noun in a domain
    """Bounded interval."""
    return Interval(float(lower), float(upper), periodic=False)


@dataclass(frozen=True)
class Axis:
    """Points along one coordinate, ascending.

    Parameters
    ----------
    placement
        ``vertices``: evenly spaced from ``lower``; a bounded axis includes ``upper``, a periodic one does not.
        ``cells``: centres of ``size`` equal cells. ``nodes``: the coordinates in ``nodes``.
    """

    name: str
    interval: Interval
    size: int
    placement: Placement = "vertices"
    nodes: tuple[float, ...] = ()
    units: str = ""

    def __post_init__(self) -> None:
        where = f"Axis {self.name!r}"
        least = 2 if self.placement == "vertices" and not self.interval.periodic else 1
        if self.size < least:
            raise GridError(where, f"at least {least} points", str(self.size), "use a finer resolution")
        if (self.placement == "nodes") != bool(self.nodes) or (self.nodes and len(self.nodes) != self.size):
            raise GridError(where, f"{self.size} nodes with placement 'nodes'", f"{len(self.nodes)} with {self.placement!r}")
        if self.nodes:
            steps = np.diff(self.nodes)
            if not (steps > 0).all():
                raise GridError(where, "strictly ascending coordinates", "values that repeat or descend", "sort the data along this axis")
            inside = self.interval.lower <= self.nodes[0] and self.nodes[-1] <= self.interval.upper
            if not inside:
                raise GridError(
                    where, f"nodes inside [{self.interval.lower}, {self.interval.upper}]", f"{self.nodes[0]} to {self.nodes[-1]}"
                )

    @classmethod
    def from_coordinates(
        cls, name: str, values: ArrayLike, *, interval: Interval | None = None, periodic: bool = False, units: str = ""
    ) -> Axis:
        """Axis through the given ascending coordinates.

        Even spacing is recognised to a relative tolerance of 1e-4. Without ``interval``: a periodic axis has the period
        ``n * spacing``; a bounded one reaches from the first to the last coordinate, or, if the first coordinate is half
        a spacing above zero (the usual cell-centred file), from 0 to half a spacing beyond the last.

        Raises
        ------
        GridError
            For coordinates that do not ascend, are not finite, or are uneven on an axis declared periodic without ``interval``.
        """
        x = np.asarray(values, dtype=np.float64).ravel()
        where = f"coordinate {name!r}"
        if x.size < 2 or not np.isfinite(x).all():
            raise GridError(where, "two or more finite values", f"{x.size} values, {int((~np.isfinite(x)).sum())} not finite")
        steps = np.diff(x)
        if not (steps > 0).all():
            raise GridError(
                where,
                "strictly ascending values",
                f"a step of {steps.min():.6g}",
                f"sort the data with ds.sortby({name!r}) and drop duplicates",
            )
        h = (x[-1] - x[0]) / (x.size - 1)
        even = bool(np.abs(steps - h).max() <= _UNIFORM * h + 1e-6 * np.abs(x).max())
        if interval is None:
            if periodic and not even:
                raise GridError(
                    where,
                    "even spacing on a periodic axis",
                    f"spacings from {steps.min():.6g} to {steps.max():.6g}",
                    "give its period with an Interval, or declare the axis bounded",
                )
            if periodic:
                interval = Interval(float(x[0]), float(x[0] + h * x.size), periodic=True)
            elif even and abs(x[0] - h / 2) <= _UNIFORM * h:
                interval = Interval(0.0, float(x[-1] + h / 2))
            else:
                interval = Interval(float(x[0]), float(x[-1]))
        for placement in ("vertices", "cells"):
            if x.size < 2:
                break
            candidate = cls(name, interval, x.size, placement, units=units)
            if np.abs(candidate.coordinates() - x).max() <= _UNIFORM * h:
                return candidate
        x = np.clip(x, interval.lower, interval.upper)
        return cls(name, interval, x.size, "nodes", tuple(x.tolist()), units)

    @property
    def periodic(self) -> bool:
        """Whether the two ends of the interval are the same place."""
        return self.interval.periodic

    @property
    def uniform(self) -> bool:
        """Whether the points are evenly spaced."""
        return self.placement != "nodes"

    def coordinates(self) -> NDArray[np.float64]:
        """Coordinates, ascending, shape ``(size,)``."""
        if self.placement == "nodes":
            return np.asarray(self.nodes)
        index = np.arange(self.size, dtype=np.float64)
        low, length = self.interval.lower, self.interval.length
        if self.placement == "cells":
            return low + length * (index + 0.5) / self.size
        return low + length * index / (self.size if self.periodic else self.size - 1)

    def weights(self) -> NDArray[np.float64]:
        """Quadrature weights, shape ``(size,)``; they sum to the length of the interval.

        Each point stands for the part of the interval nearer to it than to its neighbours: the trapezoid rule on
        vertices, the midpoint rule on cells, spectrally accurate on evenly spaced periodic points, second order otherwise.
        """
        x = self.coordinates()
        if self.periodic:
            gaps = np.diff(np.append(x, x[0] + self.interval.length))
            return 0.5 * (gaps + np.roll(gaps, 1))
        edges = np.concatenate([[self.interval.lower], 0.5 * (x[1:] + x[:-1]), [self.interval.upper]])
        return np.diff(edges)

    def at(self, size: int) -> Axis:
        """Same interval and placement with ``size`` points; uneven nodes follow their own spacing by linear interpolation."""
        if size == self.size:
            return self
        if self.placement != "nodes":
            return replace(self, size=size)
        old, new = np.linspace(0, 1, self.size), np.linspace(0, 1, size)
        nodes = np.interp(new, old, np.asarray(self.nodes))
        return replace(self, size=size, nodes=tuple(nodes.tolist()))
