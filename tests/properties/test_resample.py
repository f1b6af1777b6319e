import math
from itertools import pairwise

import pytest
import torch

from anygrid.errors import GridError
from anygrid.evaluate.resample import coarsen, how_coarsened, nested, refine, restrict
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.metrics.errors import area_mean


def noise(grid, seed=0):
    return torch.randn(2, 3, *grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_restriction_to_nested_grids_picks_points_exactly():
    fine = Box.uniform({"x": Bounded(), "y": Periodic()}, (421, 60))
    u = noise(fine)
    coarse = fine.at((85, 20))
    assert nested(fine, coarse)
    assert torch.equal(restrict(u, fine, coarse), u[:, :, ::5, ::3])


@pytest.mark.parametrize(
    ("fine", "shape"),
    [
        (Sphere.gauss(48, 96), (24, 48)),
        (Sphere.gauss(48, 96), (17, 35)),
        (Sphere.equiangular(30, 36), (10, 12)),
        (Box.uniform({"x": Bounded(), "y": Periodic(0, 2)}, (30, 24), placement="cells"), (10, 7)),
        (Box.uniform({"x": Bounded(), "y": Periodic(0, 2)}, (31, 24)), (12, 9)),
        (Sphere(Axis("lat", Bounded(30, 60), 31), Axis("lon", Bounded(0, 20), 21)), (11, 6)),
    ],
)
def test_area_averages_keep_integrals_and_constants(fine, shape):
    coarse = fine.at(shape)
    u = noise(fine)
    v = coarsen(u, fine, coarse)
    exact_areas = not fine.gaussian if isinstance(fine, Sphere) else True
    # Gauss weights differ from the areas of the bands by some 1e-3
    assert torch.allclose(area_mean(v, coarse), area_mean(u, fine), atol=1e-12 if exact_areas else 3e-3)
    ones = torch.ones(1, 1, *fine.shape)
    assert torch.allclose(coarsen(ones, fine, coarse), torch.ones(1, 1, *shape), atol=1e-6)
    assert "averages" in how_coarsened(fine, coarse)


def test_coarsening_a_box_of_vertices_takes_every_nth_point():
    fine = Box.uniform({"x": Bounded()}, 41)
    u = noise(fine)
    assert torch.equal(coarsen(u, fine, fine.at(11)), u[..., ::4])
    assert "every n-th" in how_coarsened(fine, fine.at(11))


def test_there_is_no_truth_on_finer_grids():
    grid = Sphere.gauss(8, 16)
    with pytest.raises(GridError, match="no truth on finer grids"):
        coarsen(noise(grid), grid, grid.at((16, 32)))
    scattered = Points(torch.rand(5, 1, dtype=torch.float64).numpy(), ("x",), (Bounded(),))
    with pytest.raises(GridError):
        coarsen(noise(scattered), scattered, Box.uniform({"x": Bounded()}, 3))


def test_refinement_is_of_order_four_on_bounded_axes():
    errors = []
    target = Box.uniform({"x": Bounded()}, 401)
    for n in (11, 21, 41):
        grid = target.at(n)
        found = refine(torch.sin(3 * grid.points()[:, 0] + 0.2)[None, None], grid, target)
        errors.append((found - torch.sin(3 * target.points()[:, 0] + 0.2)).abs().max().item())
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert min(rates) > 3.5


@pytest.mark.parametrize(("n", "m"), [(16, 48), (17, 40), (12, 9)])
def test_refinement_is_exact_for_resolved_waves_on_periodic_axes(n, m):
    coarse, target = (Box.uniform({"x": Periodic(0, 2)}, k) for k in (n, m))
    f = [torch.cos(3 * math.pi * g.points()[:, 0] + 1)[None, None] for g in (coarse, target)]
    assert torch.allclose(refine(f[0], coarse, target), f[1], atol=1e-12)


def test_refinement_closes_the_circle_of_an_uneven_periodic_axis():
    x = tuple((2 * math.pi * (i + 0.3 * math.sin(i)) / 60) for i in range(60))
    grid = Box((Axis("x", Periodic(0, 2 * math.pi), 60, "nodes", x),))
    target = Box.uniform({"x": Periodic(0, 2 * math.pi)}, 97)
    found = refine(torch.sin(grid.points()[:, 0])[None, None], grid, target)
    assert torch.allclose(found, torch.sin(target.points()[:, 0])[None, None], atol=1e-5)
