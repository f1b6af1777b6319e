"""How the place, the depth and the vorticity of a storm converge with the spacing of the grid."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from storm_support import DEGREE, low

from anygrid.grid import Axis, Bounded, Periodic, Sphere
from anygrid.numerics.great_circle import EARTH_RADIUS, destination, distance
from anygrid.numerics.sphere_calculus import wind
from anygrid.numerics.spherical_harmonics import synthesise
from anygrid.storms.detect import refine
from anygrid.storms.mesh import mesh_of
from anygrid.storms.vorticity import by_differences, relative_vorticity

SIZES = (30, 60, 120, 180)


def fitted(n, lat, lon, lopsided=False):
    """Place and value of the minimum of one low on ``n`` latitudes, with a second, wider low beside it if ``lopsided``."""
    grid = Sphere.equiangular(n, 2 * n)
    p = -low(grid, lat, lon, radius=8 * DEGREE)
    if lopsided:
        p = p - low(grid, lat + 6, lon + 9, depth=1500, radius=12 * DEGREE)
    mesh = mesh_of(grid)
    values = mesh.values(p)
    lows = mesh.least(values)
    return refine(int(lows[np.argmin(values[lows])]), values, mesh)


@pytest.mark.parametrize(("lat", "lon"), [(11.3, 47.9), (-52.7, 181.3), (84.1, -20.6)])
def test_place_and_depth_of_a_symmetric_low(lat, lon):
    # Averages over shifts of the centre relative to the grid, because a centre on a grid point has no error at all.
    place, depth = [], []
    for n in SIZES[:3]:
        shifts = [destination(lat, lon, c, r * DEGREE) for c, r in ((10, 0.0), (100, 0.7), (190, 1.3), (280, 1.9), (330, 2.6))]
        fits = [(fitted(n, float(a), float(o)), float(a), float(o)) for a, o in shifts]
        place.append(np.mean([float(distance(f[0], f[1], a, o)) for f, a, o in fits]))
        depth.append(np.mean([abs(f[2] + 3000) for f, _, _ in fits]))
    orders = np.log2(np.array(place[:-1]) / place[1:])
    assert orders.mean() > 2.5
    assert orders.min() > 2.0
    assert place[0] < 0.05 * 6 * DEGREE
    assert np.log2(np.array(depth[:-1]) / depth[1:]).min() > 2.5


def test_place_of_a_low_that_is_not_symmetric():
    def pressure(x):
        near, wide = (distance(*x, 33 + a, 12 + b) / DEGREE for a, b in ((0, 0), (6, 9)))
        return float(-3000 * np.exp(-(near**2) / 128) - 1500 * np.exp(-(wide**2) / 288))

    true = minimize(pressure, (33.5, 12.5), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
    errors = []
    for n in SIZES:
        shifts = (0.0, 0.37, 0.9, 1.6)
        places = [fitted(n, 33.0, 12.0 + s, lopsided=True)[:2] for s in shifts]
        errors.append(np.mean([float(distance(lat, lon - s, *true)) for (lat, lon), s in zip(places, shifts, strict=True)]))
    # Second order: a third of the spacing, a ninth of the error. On the coarsest grid errors cancel.
    assert errors[1] / errors[-1] > 6
    assert errors[-1] < 1e3


def given_wind(grid):
    """Wind and vorticity of a stream function of degrees up to 7, which every grid here resolves."""
    generator = torch.Generator().manual_seed(1)
    c = torch.randn(1, 1, 8, 8, 2, generator=generator, dtype=torch.float64) * torch.ones(8, 8).tril()[..., None] * 1e-5
    c[..., 0, 1] = 0
    c[:, :, 0] = 0
    u, v = wind(c, torch.zeros_like(c), grid, EARTH_RADIUS)
    return u[0, 0].numpy(), v[0, 0].numpy(), synthesise(c, grid)[0, 0].numpy()


@pytest.mark.parametrize("poles", [False, True], ids=["cells", "poles"])
def test_vorticity_by_differences_is_of_second_order(poles):
    errors = []
    for n in (31, 61, 121):
        grid = (
            Sphere(Axis("lat", Bounded(-90, 90), n, "vertices"), Axis("lon", Periodic(0, 360), 2 * n))
            if poles
            else Sphere.equiangular(n, 2 * n)
        )
        u, v, zeta = given_wind(grid)
        weights = grid.mean_weights().numpy()
        errors.append(np.sqrt((weights * (by_differences(u, v, grid) - zeta) ** 2).sum() / (weights * zeta**2).sum()))
    # At cell centres the rows beside the poles have one-sided differences, which matters less the finer the grid.
    assert np.log2(np.array(errors[:-1]) / errors[1:]).min() > 1.7
    assert np.log2(errors[1] / errors[2]) > 1.85
    assert errors[-1] < 1e-2


def test_vorticity_by_harmonics_is_exact_and_cut_where_asked():
    grid = Sphere.gauss(24, 48)
    u, v, zeta = given_wind(grid)
    assert np.abs(relative_vorticity(u, v, grid) - zeta).max() < 1e-11 * np.abs(zeta).max()
    assert np.abs(relative_vorticity(u, v, grid, (8, 20))).max() < 1e-11 * np.abs(zeta).max()


def test_vorticity_of_solid_rotation_is_twice_the_rate_times_the_sine_also_at_the_poles():
    grid = Sphere(Axis("lat", Bounded(-90, 90), 91, "vertices"), Axis("lon", Periodic(0, 360), 180))
    sine = np.sin(np.deg2rad(grid.lat.coordinates()))[:, None] * np.ones((1, 180))
    u = 20 * np.sqrt(1 - sine**2)
    found = by_differences(u, 0 * u, grid)
    np.testing.assert_allclose(found, 2 * 20 / EARTH_RADIUS * sine, atol=2e-8 * 1.5)
    part = Sphere(Axis("lat", Bounded(20, 60), 41, "vertices"), Axis("lon", Bounded(10, 50), 41, "vertices"))
    sine = np.sin(np.deg2rad(part.lat.coordinates()))[:, None] * np.ones((1, 41))
    np.testing.assert_allclose(by_differences(20 * np.sqrt(1 - sine**2), 0 * sine, part), 2 * 20 / EARTH_RADIUS * sine, rtol=1e-3)
