r"""Great circles: distance, bearing, the point ahead, distance along and across a course, mean position.

Positions are latitude and longitude in degrees, distances in metres on a sphere of radius :math:`a` = 6 371 229 m (that of ERA5 and of
GRIB), bearings in degrees clockwise from north. Arrays broadcast. Longitudes come back in [-180, 180). Every formula goes through unit
vectors and ``atan2``, so that small distances, antipodes, the date line and the poles need no special case and lose no digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EARTH_RADIUS",
    "along_across",
    "bearing",
    "destination",
    "distance",
    "distance_to_arc",
    "mean_position",
    "to_degrees",
    "to_vector",
]

EARTH_RADIUS = 6_371_229.0  # metres (ECMWF, GRIB code table 3.2, value 6)

Floats = NDArray[np.float64]


def to_vector(lat: ArrayLike, lon: ArrayLike) -> Floats:
    r"""Unit vectors :math:`(\cos\varphi\cos\lambda, \cos\varphi\sin\lambda, \sin\varphi)`, the components on a new last axis."""
    phi, lam = np.broadcast_arrays(np.deg2rad(np.asarray(lat, np.float64)), np.deg2rad(np.asarray(lon, np.float64)))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def to_degrees(vector: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude of vectors of any length; longitude in [-180, 180), and 0 at a pole."""
    x, y, z = np.moveaxis(vector, -1, 0)
    across = np.hypot(x, y)
    lon = np.where(across > 1e-15, np.rad2deg(np.arctan2(y, x)), 0.0)
    return np.asarray(np.rad2deg(np.arctan2(z, across))), np.asarray((lon + 180) % 360 - 180)


def distance(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Floats:
    r"""Length of the shorter arc, :math:`d = a \operatorname{atan2}(|p \times q|, p \cdot q)`, in metres."""
    return np.asarray(EARTH_RADIUS * _angle(to_vector(lat1, lon1), to_vector(lat2, lon2)))


def bearing(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Floats:
    r"""Course at the first point towards the second, degrees in [0, 360).

    .. math:: \tan\theta = \frac{\sin\Delta\lambda \cos\varphi_2}
                                {\cos\varphi_1 \sin\varphi_2 - \sin\varphi_1 \cos\varphi_2 \cos\Delta\lambda}
    """
    p1, p2 = np.deg2rad(np.asarray(lat1, np.float64)), np.deg2rad(np.asarray(lat2, np.float64))
    turn = np.deg2rad(np.asarray(lon2, np.float64) - np.asarray(lon1, np.float64))
    east = np.sin(turn) * np.cos(p2)
    north = np.cos(p1) * np.sin(p2) - np.sin(p1) * np.cos(p2) * np.cos(turn)
    degrees = np.asarray(np.rad2deg(np.arctan2(east, north)) % 360)
    return np.where(degrees < 360, degrees, 0.0)  # the remainder of -1e-17 rounds up to 360


def destination(lat: ArrayLike, lon: ArrayLike, course: ArrayLike, metres: ArrayLike) -> tuple[Floats, Floats]:
    r"""Where one arrives on the great circle that starts with ``course``: :math:`q = p \cos(d/a) + t \sin(d/a)`, t the tangent."""
    phi, lam = np.deg2rad(np.asarray(lat, np.float64)), np.deg2rad(np.asarray(lon, np.float64))
    theta, arc = np.deg2rad(np.asarray(course, np.float64)), np.asarray(metres, np.float64) / EARTH_RADIUS
    phi, lam, theta, arc = np.broadcast_arrays(phi, lam, theta, arc)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], -1)
    east = np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)], -1)
    tangent = np.cos(theta)[..., None] * north + np.sin(theta)[..., None] * east
    return to_degrees(to_vector(np.rad2deg(phi), np.rad2deg(lam)) * np.cos(arc)[..., None] + tangent * np.sin(arc)[..., None])


def along_across(lat: ArrayLike, lon: ArrayLike, start: tuple[float, float], course: float) -> tuple[Floats, Floats]:
    r"""Distance of points ahead of ``start`` on a course, and to the right of the course, in metres.

    With the angle :math:`\delta` to the point and the difference :math:`\Delta\theta` of its bearing from the course,

    .. math:: \sin\frac{x}{a} = \sin\delta \sin\Delta\theta, \qquad \tan\frac{s}{a} = \tan\delta \cos\Delta\theta

    (Napier's rules for the right-angled spherical triangle).
    """
    delta = distance(*start, lat, lon) / EARTH_RADIUS
    turn = np.deg2rad(bearing(*start, lat, lon) - course)
    across = np.arcsin(np.clip(np.sin(delta) * np.sin(turn), -1, 1))
    along = np.arctan2(np.sin(delta) * np.cos(turn), np.cos(delta))
    return np.asarray(EARTH_RADIUS * along), np.asarray(EARTH_RADIUS * across)


def distance_to_arc(lat: ArrayLike, lon: ArrayLike, start: tuple[float, float], end: tuple[float, float]) -> Floats:
    """Distance of points from the shorter arc between two places, in metres: to the circle beside it, else to the nearer end."""
    point, p, q = to_vector(lat, lon), to_vector(*start), to_vector(*end)
    nearer = np.minimum(_angle(point, p), _angle(point, q))
    normal = np.cross(p, q)
    size = np.linalg.norm(normal)
    if size < 1e-12:  # both ends are the same place
        return np.asarray(EARTH_RADIUS * nearer)
    normal = normal / size
    # Beside the arc: past the start seen from the start, before the end seen from the end.
    beside = (np.cross(normal, p) * point).sum(-1) >= 0
    beside &= (np.cross(normal, q) * point).sum(-1) <= 0
    to_circle = np.abs(np.arcsin(np.clip((point * normal).sum(-1), -1, 1)))
    return np.asarray(EARTH_RADIUS * np.where(beside, np.minimum(to_circle, nearer), nearer))


def mean_position(lat: ArrayLike, lon: ArrayLike) -> tuple[float, float]:
    """Direction of the mean unit vector: it minimises the mean square of the chords, and near enough that of the distances."""
    lat_mean, lon_mean = to_degrees(to_vector(lat, lon).reshape(-1, 3).mean(0))
    return float(lat_mean), float(lon_mean)


def _angle(p: Floats, q: Floats) -> Floats:
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(p, q), axis=-1), (p * q).sum(-1)))
