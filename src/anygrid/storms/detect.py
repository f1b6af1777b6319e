r"""Centres of storms in one field: a minimum inside a closed contour, placed between the grid points by a quadratic.

A node below its neighbours is a centre when the field rises by at least :math:`\Delta` on every path that leaves it, before the path is
farther than a radius (the closed-contour criterion of Ullrich and Zarzycki 2017, section 2.6): the nodes below
:math:`f_0 + \Delta` that can be reached from the centre all lie within the radius. Where the data end, by an edge or missing values,
the contour is not known to close, and there is no centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anygrid.numerics.great_circle import EARTH_RADIUS, bearing, destination, distance, to_vector
from anygrid.storms.criteria import Criteria
from anygrid.storms.mesh import Floats, Ints, Mesh

__all__ = ["Centres", "State", "closed", "find_centres", "refine"]

_ARC = EARTH_RADIUS * np.pi / 180  # metres of one degree of great circle


@dataclass(frozen=True)
class State:
    """Fields at the nodes of a mesh, at one time of one member.

    Parameters
    ----------
    centre
        What has a minimum at a centre: pressure in Pa, height in m, or minus the cyclonic vorticity in s-1.
    rise
        By how much it must rise around a centre; ``None`` for vorticity, which has a threshold instead.
    vorticity
        Cyclonic vorticity, s-1: positive in both hemispheres where the turning is cyclonic.
    wind
        Speed in m s-1.
    warm
        Thickness in m, or temperature in K, of the upper levels.
    warm_rise
        By how much it must fall around a warm core.
    """

    centre: Floats
    rise: float | None
    vorticity: Floats | None = None
    wind: Floats | None = None
    warm: Floats | None = None
    warm_rise: float = 0.0


@dataclass(frozen=True)
class Centres:
    """Centres at one time: degrees, the value of the field there, cyclonic vorticity (s-1) and the largest wind (m s-1) near by.

    What was not asked for is missing (NaN).
    """

    lat: Floats
    lon: Floats
    value: Floats
    vorticity: Floats
    wind: Floats

    def __len__(self) -> int:
        return self.lat.size


def find_centres(state: State, mesh: Mesh, criteria: Criteria) -> Centres:
    """Centres that meet the criteria, the deepest first.

    Radii are never less than the grid resolves: two spacings for a contour, one and a half for what is sought around a centre.
    """
    found = mesh.least(state.centre)
    found = found[np.argsort(state.centre[found], kind="stable")]
    ends = mesh.edge | mesh.beside_missing(state.centre)
    rows: list[tuple[float, ...]] = []
    places: list[Floats] = []
    for node in found:
        lat, lon = float(mesh.lat[node]), float(mesh.lon[node])
        if not _is_storm(int(node), state, mesh, ends, criteria):
            continue
        place = to_vector(lat, lon)
        # The merge comes after the contour: what is no storm must not remove one.
        if any(np.arccos(np.clip(place @ other, -1, 1)) < np.deg2rad(criteria.merge_radius) for other in places):
            continue
        places.append(place)
        at, on, value = refine(int(node), state.centre, mesh)
        near = mesh.within(at, on, max(criteria.wind_radius, 1.5 * mesh.spacing(lat)))
        rows.append((at, on, value, _largest(state.vorticity, near), _largest(state.wind, near)))
    return Centres(*np.array(rows, dtype=np.float64).reshape(-1, 5).T)


def closed(node: int, values: Floats, rise: float, radius: float, mesh: Mesh, ends: NDArray[np.bool_]) -> bool:
    """Whether every path from a node rises by ``rise`` within ``radius`` degrees; ``ends`` marks nodes at which the data end."""
    limit, origin = values[node] + rise, (float(mesh.lat[node]), float(mesh.lon[node]))
    seen = np.zeros(values.size, dtype=bool)
    front: Ints = np.array([node])
    seen[front] = True
    while front.size:
        if ends[front].any() or (distance(*origin, mesh.lat[front], mesh.lon[front]) > radius * _ARC).any():
            return False
        around = mesh.around(front)
        front = around[~seen[around] & (values[around] < limit)]
        seen[front] = True
    return True


def refine(node: int, values: Floats, mesh: Mesh) -> tuple[float, float, float]:
    r"""Latitude, longitude and value of the minimum of a quadratic through the node, fitted to those around it.

    .. math:: q(x, y) = f_0 + g_1 x + g_2 y + \tfrac12 (h_{11} x^2 + 2 h_{12} x y + h_{22} y^2), \qquad (x, y)^* = -H^{-1} g

    in the plane that keeps distance and bearing from the node. The place is of third order in the spacing where the field is symmetric
    about its centre. Where the quadratic has no minimum within one spacing the node itself is returned.
    """
    lat, lon, value = float(mesh.lat[node]), float(mesh.lon[node]), float(values[node])
    spacing = mesh.spacing(lat)
    near = mesh.within(lat, lon, 1.5 * spacing)
    near = near[(near != node) & ~mesh.made[near] & np.isfinite(values[near])]
    if near.size < 5:
        return lat, lon, value
    r = distance(lat, lon, mesh.lat[near], mesh.lon[near]) / (_ARC * spacing)
    course = np.deg2rad(bearing(lat, lon, mesh.lat[near], mesh.lon[near]))
    x, y = r * np.sin(course), r * np.cos(course)
    system = np.stack([x, y, x * x / 2, x * y, y * y / 2], 1)
    fit, _, rank, _ = np.linalg.lstsq(system, values[near] - value, rcond=None)
    hessian = np.array([[fit[2], fit[3]], [fit[3], fit[4]]])
    if rank < 5 or np.linalg.eigvalsh(hessian)[0] <= 0:
        return lat, lon, value
    shift = -np.linalg.solve(hessian, fit[:2])
    length = float(np.hypot(*shift))
    if length > 1:
        return lat, lon, value
    at, on = destination(lat, lon, np.rad2deg(np.arctan2(shift[0], shift[1])), length * spacing * _ARC)
    return float(at), float(on), value + float(fit[:2] @ shift) / 2


def _is_storm(node: int, state: State, mesh: Mesh, ends: NDArray[np.bool_], criteria: Criteria) -> bool:
    lat, lon = float(mesh.lat[node]), float(mesh.lon[node])
    spacing = mesh.spacing(lat)
    if state.rise is None:
        if -state.centre[node] < criteria.vorticity:
            return False
    elif not closed(node, state.centre, state.rise, max(criteria.contour_radius, 2 * spacing), mesh, ends):
        return False
    if state.rise is not None and state.vorticity is not None:
        near = mesh.within(lat, lon, max(criteria.wind_radius, 1.5 * spacing))
        if not _largest(state.vorticity, near) >= criteria.vorticity:
            return False
    return state.warm is None or _warm(lat, lon, state.warm, state.warm_rise, mesh, criteria)


def _warm(lat: float, lon: float, warm: Floats, rise: float, mesh: Mesh, criteria: Criteria) -> bool:
    spacing = mesh.spacing(lat)
    near = mesh.within(lat, lon, max(criteria.warm_offset, 1.5 * spacing))
    near = near[np.isfinite(warm[near])]
    if not near.size:
        return False
    warmest = int(near[np.argmax(warm[near])])
    ends = mesh.edge | mesh.beside_missing(warm)
    return closed(warmest, -warm, rise, max(criteria.warm_radius, 2 * spacing), mesh, ends)


def _largest(values: Floats | None, nodes: Ints) -> float:
    known = np.array([]) if values is None else values[nodes][np.isfinite(values[nodes])]
    return float(known.max()) if known.size else float("nan")
