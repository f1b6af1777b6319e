"""One seed is one function, whatever the grid, the number of samples and the number of modes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrid.grid import Bounded, Box, Periodic, Points
from anygrid.numerics.random_fields import _draw, _waves, cosine_field, periodic_field, sine_field
from anygrid.problems.darcy import Darcy
from anygrid.problems.helmholtz import Helmholtz

LAW = {"scale": 3.0, "shift": 9.0, "power": 2.0, "modes": 7}
FIELDS = [(periodic_field, Periodic(-1, 2)), (cosine_field, Bounded(0.5, 2)), (sine_field, Bounded(0, 3))]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("field", "interval"), FIELDS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_same_function_on_a_grid_twice_as_fine_and_at_points(field, interval, data):
    d = data.draw(st.integers(1, 3))
    sizes = tuple(data.draw(st.integers(3, 9)) for _ in range(d))
    seed = data.draw(st.integers(0, 2**32 - 1))
    coarse = Box.uniform(dict(zip("xyz", [interval] * d, strict=False)), sizes)
    fine = coarse.at(tuple(2 * n if interval.periodic else 2 * n - 1 for n in sizes))
    u = field(2, coarse, **LAW, generator=generator(seed))
    v = field(2, fine, **LAW, generator=generator(seed))
    scale = float(v.abs().max()) + 1e-300
    assert float((v[(slice(None), *[slice(None, None, 2)] * d)] - u).abs().max()) < 1e-12 * scale
    points = Points(coarse.points().reshape(-1, d).numpy(), tuple("xyz"[:d]), (interval,) * d)
    w = field(2, points, **LAW, generator=generator(seed))
    assert float((w.reshape(u.shape) - u).abs().max()) < 1e-12 * scale


def test_points_in_chunks_equal_points_at_once(monkeypatch):
    points = Points(np.random.default_rng(0).random((50, 2)), ("x", "y"), (Bounded(), Bounded()))
    whole = cosine_field(3, points, **LAW, generator=generator(0))
    monkeypatch.setattr("anygrid.numerics.random_fields._CHUNK", 200)
    torch.testing.assert_close(cosine_field(3, points, **LAW, generator=generator(0)), whole, rtol=1e-13, atol=1e-15)


def test_generator_advances_by_the_samples_alone():
    after = []
    for sizes in ((5, 5), (17, 9)):
        g = generator(3)
        cosine_field(4, Box.uniform({"x": Bounded(), "y": Bounded()}, sizes), **LAW, generator=g)
        after.append(torch.rand(3, generator=g))
    assert torch.equal(*after)


@pytest.mark.parametrize("family", ["periodic", "cosine", "sine"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_fewer_samples_and_fewer_modes_are_a_part_of_more(family, d):
    few, many = _draw(2, _waves(family, 3), d, generator(8)), _draw(5, _waves(family, 6), d, generator(8))
    part = (slice(2), *[slice(few.shape[1])] * d)
    np.testing.assert_array_equal(many[part], few)
    assert not np.array_equal(many[0], many[1])


def test_boundary_conditions():
    x = torch.tensor([0.0, 1e-6, 1 - 1e-6, 1.0], dtype=torch.float64)
    points = Points(torch.stack([x, torch.full_like(x, 0.3)], -1).numpy(), ("x", "y"), (Bounded(), Bounded()))
    u = cosine_field(5, points, **LAW, generator=generator(0))
    slope = torch.stack([u[:, 1] - u[:, 0], u[:, 3] - u[:, 2]]) / 1e-6
    assert float(slope.abs().max()) < 1e-3 * float(u.abs().max()) * 7**2
    assert float(sine_field(5, points, **LAW, generator=generator(0))[:, [0, 3]].abs().max()) < 1e-15


@pytest.mark.parametrize("problem", [Darcy(modes=60), Helmholtz()])
def test_problem_samples_are_the_same_functions_at_every_resolution(problem):
    coarse, fine = problem.grid(15), problem.grid((29, 57))
    a, b = (problem.sample(3, g, generator(11)) for g in (coarse, fine))
    assert a.shape == (3, 1, 15, 15)
    assert b.shape == (3, 1, 29, 57)
    torch.testing.assert_close(b[:, :, ::2, ::4], a, rtol=0, atol=1e-13)
    assert a.dtype == torch.float64
    assert not torch.equal(a[0], a[1])


def test_darcy_coefficient_takes_two_values_in_about_equal_parts():
    problem = Darcy(high=7.0, low=2.0, modes=40)
    a = problem.sample(300, problem.grid(17), generator(2))
    assert set(a.unique().tolist()) == {2.0, 7.0}
    assert abs(float((a == 7.0).double().mean()) - 0.5) < 0.03
