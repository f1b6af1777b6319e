"""The highest wave of outputs, and the ball and the waves that are found in training states."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

import anygrid as ag
from anygrid.errors import DataError, GridError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Axis, Bounded, Box, Grid, Periodic, Points, Sphere
from anygrid.numerics.pseudospectral import low_waves, spectral_energy
from anygrid.operators import default_operator
from anygrid.problems.base import Wall
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Imposed, Surrogate, confined
from anygrid.surrogate.imposed import check_imposed

LINE = Box.uniform({"x": Periodic(0, 2)}, (48,))
TORUS = Box.uniform({"x": Periodic(0, 2), "y": Periodic()}, (24, 16))
CHANNEL = Box.uniform({"x": Periodic(0, 2), "y": Bounded(-1, 3)}, (24, 13))
UNIT = Moments(100, (0.0,), (100.0,), (-1.0,), (1.0,))


def surrogate(grid: Grid, imposed: Imposed) -> Surrogate:
    torch.manual_seed(0)
    u = (Variable("u"),)
    made = Surrogate(default_operator(1, 1, grid), u, u, Statistics(UNIT, UNIT, UNIT), grid, increment=True, imposed=imposed)
    return made.double().eval()


def random(grid: Grid) -> torch.Tensor:
    return torch.randn(2, 1, *grid.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("grid", [LINE, TORUS])
def test_outputs_have_no_waves_above_the_highest_and_the_others_untouched(grid: Grid) -> None:
    a, dims = random(grid), tuple(range(2, 2 + grid.ndim))
    free, cut = surrogate(grid, Imposed())(a, grid), surrogate(grid, Imposed(waves=5))(a, grid)
    kept = torch.ones(grid.shape)
    for k, n in enumerate(grid.shape):
        kept = kept * (torch.fft.fftfreq(n) * n).abs().le(5).view(*(-1 if j == k else 1 for j in range(grid.ndim)))
    one, two = torch.fft.fftn(free, dim=dims), torch.fft.fftn(cut, dim=dims)
    assert (one * (1 - kept)).abs().max() > 1  # there was something to cut
    torch.testing.assert_close(two, one * kept, atol=1e-10, rtol=0)


def test_a_grid_that_resolves_no_more_is_left_alone() -> None:
    coarse = LINE.at((10,))
    a = random(coarse)
    assert torch.equal(surrogate(LINE, Imposed(waves=5))(a, coarse), surrogate(LINE, Imposed())(a, coarse))


def test_walls_and_conserved_means_hold_beside_it() -> None:
    walled = surrogate(CHANNEL, Imposed((Wall("u", "y", "lower", 2.0),), radius=3.0, waves=4))
    for scale in (1, 100):
        u = walled(scale * random(CHANNEL), CHANNEL)
        torch.testing.assert_close(u[..., 0], torch.full_like(u[..., 0], 2.0), atol=1e-12, rtol=0)
        assert torch.fft.rfft(u, dim=2)[:, :, 5:].abs().max() < 1e-10 * scale
    a = 1 + random(TORUS)
    u = surrogate(TORUS, Imposed(conserved=("u",), waves=4))(a, TORUS)
    torch.testing.assert_close(u.mean((2, 3)), a.mean((2, 3)), atol=1e-13, rtol=0)


def test_scattered_points_take_the_waves_of_the_grid() -> None:
    made, a = surrogate(LINE, Imposed(conserved=("u",), waves=5)), random(LINE)
    x = torch.tensor([0.013, 0.77, 1.9], dtype=torch.float64)
    modes = torch.fft.fft(made(a, LINE), norm="forward")
    k = torch.fft.fftfreq(48, dtype=torch.float64) * 48
    exact = (modes[..., None, :] * torch.exp(1j * math.pi * k * x[:, None])).sum(-1).real
    points = Points(x.numpy()[:, None], ("x",), LINE.domain)
    torch.testing.assert_close(made(a, LINE, points), exact, atol=1e-10, rtol=0)


@pytest.mark.parametrize("conserved", [(), ("u",)])
def test_states_on_scattered_points(conserved: tuple[str, ...]) -> None:
    """Given on points, which happen to be those of the grid: the answer there is that on the grid, cut."""
    made, a = surrogate(LINE, Imposed(conserved=conserved, waves=5)), random(LINE)
    points = Points(LINE.points().numpy(), ("x",), LINE.domain)
    u = made(a.reshape(2, 1, -1), points)
    assert torch.fft.rfft(u)[..., 6:].abs().max() < 1e-10
    torch.testing.assert_close(u, made(a.reshape(2, 1, -1), points, LINE), atol=1e-10, rtol=0)


def test_energy_by_mode_number() -> None:
    x, y = TORUS.points().unbind(-1)
    u = 3 * torch.cos(math.pi * 2 * x) + torch.sin(2 * math.pi * (7 * y) + math.pi * 3 * x) + 0.5
    energy = spectral_energy(u, TORUS) / TORUS.size
    expected = torch.zeros(13, dtype=torch.float64)
    expected[[0, 2, 7]] = torch.tensor([0.25, 4.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(energy, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(low_waves(u, TORUS, 6), 3 * torch.cos(math.pi * 2 * x) + 0.5, atol=1e-12, rtol=0)


def test_ball_and_waves_of_known_states() -> None:
    x = LINE.points()[..., 0]
    states = torch.stack(
        [c * torch.cos(math.pi * 3 * x) + 1e-3 * torch.cos(math.pi * 9 * x) + 1e-5 * torch.cos(math.pi * 14 * x) for c in (1, 2)]
    )
    moments = Moments(96, (0.0,), (96 * 4.0,), (-2.0,), (2.0,))
    found = confined(Imposed(contraction=0.25), [(states[k : k + 1, None].float(), LINE) for k in range(2)], ["u"], moments)
    assert found.waves == 9
    assert found.radius == pytest.approx(1.05 * math.sqrt(2) / 2, rel=1e-3)
    assert found.contraction == 0.25
    # A conserved mean is no part of a state's size; the mean of training is not subtracted there.
    own = confined(Imposed(conserved=("u",)), [(states[:, None] + 40, LINE)], ["u"], moments)
    assert own.radius == found.radius
    assert confined(Imposed(), [(states[:, None] + 40, LINE)], ["u"], moments).radius > 20


def test_white_data_and_bounded_axes_get_the_ball_alone() -> None:
    assert confined(Imposed(), [(random(LINE), LINE)], ["u"], UNIT).waves is None
    line = Box.uniform({"y": Bounded()}, (17,))
    assert confined(Imposed(), [(random(line), line)], ["u"], UNIT).waves is None
    with pytest.raises(DataError, match="vary"):
        confined(Imposed(), [], ["u"], UNIT)


def test_waves_are_refused_where_there_are_none() -> None:
    u = (Variable("u"),)
    for grid in (
        Box.uniform({"y": Bounded()}, (9,)),
        Sphere(Axis("lat", Bounded(10, 50), 8), Axis("lon", Bounded(20, 80), 16)),
        Points(np.random.default_rng(0).random((9, 1)), ("x",), (Periodic(),)),
    ):
        with pytest.raises((DataError, GridError), match=r"waves|longitudes that go once round"):
            check_imposed(Imposed(waves=3), u, u, grid)
    with pytest.raises(UsageError, match="waves"):
        Imposed(waves=0)
    assert Imposed.from_json(Imposed(waves=7).to_json()).waves == 7


def test_fit_finds_them_and_says_so() -> None:
    x, t = np.arange(32) / 16 * np.pi, np.arange(6)
    phase = np.random.default_rng(0).random((8, 1, 1)) * 6
    u = np.sin(x + 0.3 * t[:, None] + phase) + 0.2 * np.sin(4 * x - t[:, None] + 2 * phase)
    ds = xr.Dataset({"u": (("sample", "time", "x"), u.astype("float32"))}, {"time": t.astype(float), "x": x})
    made = ag.fit(ds, "u", "u", lead=1, steps=2, confine=True, periodic={"x": True})
    assert made.imposed.waves == 4
    assert made.imposed.radius == pytest.approx(1.05, rel=0.02)
    assert any("no waves above number 4" in text for text in made.record["inferred"])
    with pytest.raises(UsageError, match="confine"):
        ag.fit(ds.rename(u="v").assign(u=ds.u), "v", "u", lead=1, steps=2, confine=True, periodic={"x": True})
