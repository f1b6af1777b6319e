"""Random surrogates: the score they are trained on, what a draw is, and that the spread is learned."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from training_support import affine, pointwise

from anygrid.errors import UsageError
from anygrid.export.traceable import check_exportable
from anygrid.forecast import Keep, ensemble
from anygrid.grid import Box, Grid, Periodic, Points, Sphere
from anygrid.io.pairs import Pairs
from anygrid.numerics.gaussian_field import gaussian_field
from anygrid.operators.streaming import Slabs
from anygrid.surrogate import Noise, Surrogate, read_surrogate
from anygrid.surrogate.slabs import streamed
from anygrid.training import RelativeNorm, fit
from anygrid.training.amplitude import fitted_amplitude

LINE = Box.uniform({"x": Periodic()}, 16)


class Linear(nn.Module):
    """One matrix at every point."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
        self.matrix = nn.Linear(inputs, outputs)

    def forward(self, a: Tensor, grid: Grid, query: Grid | None = None) -> Tensor:
        return self.matrix(a.movedim(1, -1)).movedim(-1, 1)


def _autoregressive(samples: int = 256) -> xr.Dataset:
    """``u' = 0.8 u + 0.6 xi`` with smooth noise: stationary with variance 1."""
    generator = torch.Generator().manual_seed(0)
    u = gaussian_field(samples, LINE, length=0.05, generator=generator)
    following = 0.8 * u + 0.6 * gaussian_field(samples, LINE, length=1 / 8, generator=generator)
    values = torch.stack([u, following], 1).numpy().astype(np.float32)
    coords = {"time": ("time", [0.0, 1.0], {"units": "s"}), "x": ("x", np.arange(16) / 16, {"units": "m", "periodic": 1})}
    return xr.Dataset({"u": (("sample", "time", "x"), values, {"units": "K"})}, coords)


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    """Trained, written and read again."""
    path = tmp_path_factory.mktemp("random")
    more: dict[str, Any] = {"steps": 150, "learning_rate": 3e-2, "noise": 1, "unroll": 1, "increment": False}
    fit(_autoregressive(), "u", "u", lead=1, operator=lambda inputs, outputs, grid: Linear(inputs, outputs), run=path, **more)
    return read_surrogate(path / "surrogate.anygrid", [Linear])


def _norm(gradient: float = 0.0) -> RelativeNorm:
    return RelativeNorm(torch.ones(1), torch.ones(1), gradient)


def test_score_of_two_draws_by_hand() -> None:
    x, v = torch.tensor([[1.0], [4.0]]).view(2, 1, 1, 1).expand(2, 1, 1, 16), torch.zeros(1, 1, 16)
    # (1 + 4) / 2 less half the distance of 3, all of it when fair; one part in 2 / (1 - alpha) less when almost fair
    assert float(_norm().crps(x, v, LINE, 1.0)) == pytest.approx(2.5 - 1.5)
    assert float(_norm().crps(x, v, LINE, 0.9)) == pytest.approx(2.5 - 0.95 * 1.5)


@pytest.mark.parametrize("members", [2, 5])
def test_fair_score_of_gaussian_draws_is_that_of_the_law(members: int) -> None:
    # Gneiting et al. 2005, eq. 5: of N(0, 1) at the truth 0 it is 2 phi(0) - 1 / sqrt(pi)
    x = torch.randn(members, 4000, 1, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = _norm().crps(x, torch.zeros(4000, 1, 16, dtype=torch.float64), LINE, 1.0).mean()
    assert float(found) == pytest.approx(2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi), abs=5e-3)


@pytest.mark.parametrize("alpha", [1.0, 0.9])
def test_best_spread_is_that_of_the_truth_and_less_by_what_is_unfair(alpha: float) -> None:
    # E|x - v| - (1 - e) E|x - x'| / 2 of draws N(0, s^2) and truths N(0, 1) is least at s^2 = r / (1 - r), r = (1 - e)^2 / 2
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(*n, 40_000, 1, 16, generator=generator, dtype=torch.float64) for n in ((2,), ()))
    r = (1 - (1 - alpha) / 2) ** 2 / 2
    best = math.sqrt(r / (1 - r))
    score = [float(_norm().crps(s * x, v, LINE, alpha).mean()) for s in (0.9 * best, best, 1.1 * best)]
    assert score[1] < min(score[0], score[2])
    assert best == pytest.approx(alpha, abs=0.01)  # two draws: the spread is too small by 1 - alpha


@pytest.mark.parametrize("grid", [LINE, Box.uniform({"x": Periodic(), "y": Periodic()}, (8, 12)), Sphere.gauss(12, 24)])
def test_score_does_not_depend_on_the_resolution(grid: Grid) -> None:
    finer = grid.at(tuple(4 * n for n in grid.shape))
    values = []
    for each in (grid, finer, finer.at(tuple(2 * n for n in finer.shape))):
        x = torch.stack([gaussian_field(3, each, length=30.0 if isinstance(each, Sphere) else 0.3, generator=_seeded(k)) for k in range(3)])
        values.append(float(_norm(0.1).crps(x[:2, :, None], x[2, :, None], each, 1.0).mean()))
    assert values[1] == pytest.approx(values[2], rel=5e-3)
    assert values[0] == pytest.approx(values[2], rel=0.1)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_spread_is_learned_and_the_ensemble_has_it(surrogate: Surrogate) -> None:
    weight = surrogate.operator.matrix.weight.detach().flatten().abs()
    assert float(weight[0]) == pytest.approx(0.8, abs=0.05)
    assert float(weight[1]) == pytest.approx(0.6, abs=0.06)
    start = _autoregressive(1).isel(time=[0])
    out, alone = (
        ensemble(
            map_,
            start,
            3,
            100,
            inputs=surrogate.inputs,
            outputs=surrogate.outputs,
            stochastic=True,
            keep=Keep(mean=True, std=True, members=range(3)),
            dt=surrogate.dt,
            domain=surrogate.grid,
            workers=0,
        )
        for map_ in (surrogate, surrogate.draw)
    )
    assert float(np.abs(out.u - alone.u).max()) < 1e-5  # computed together or one by one: the same members
    # variance of the k-th state: 0.36 (1 + 0.64 + ... + 0.64^(k - 1))
    wanted = [math.sqrt(0.36 * sum(0.64**j for j in range(k))) for k in (1, 2, 3)]
    found = np.sqrt((out.u_std.squeeze() ** 2).mean("x")).values
    assert found == pytest.approx(wanted, rel=0.15)
    assert float(np.abs(out.u_mean.squeeze().isel(time=0) - 0.8 * start.u.squeeze()).max()) < 0.2
    assert float(np.abs(out.u.isel(member=0) - out.u.isel(member=1)).max()) > 0.1


def test_a_draw_is_a_function_of_the_generator_and_of_no_grid(surrogate: Surrogate) -> None:
    fine = LINE.at(64)
    u = gaussian_field(2, fine, length=0.05, generator=_seeded(3))[:, None].float()
    draws = surrogate.draw(u, fine, members=3, generator=_seeded(1))
    coarse = surrogate.draw(u[..., ::4], LINE, members=3, generator=_seeded(1))
    assert draws.shape == (3, 2, 1, 64)
    torch.testing.assert_close(draws[..., ::4], coarse, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(draws[0], draws[1])
    # as a map it is the one without noise, on data as they are
    zero = torch.cat([u, torch.zeros_like(u)], 1)
    assert torch.equal(surrogate(u, fine), surrogate(zero, fine))


def test_noise_is_in_the_file_and_in_the_record(surrogate: Surrogate) -> None:
    assert surrogate.noise.lengths == (1 / 8,)
    assert surrogate.noise.amplitude == pytest.approx(1, abs=0.2)  # chosen on held-out samples of the same law
    assert any(text.startswith(f"noise times {surrogate.noise.amplitude:.3g}") for text in surrogate.record["inferred"])
    assert any("1 channels of noise" in text for text in surrogate.record["inferred"])
    assert surrogate.record["settings"]["noise"] == 1
    # the mean of eight draws misses the truth by 0.6 sqrt(1 + 1 / 8) of a norm of 1
    assert surrogate.record["validation_error"] == pytest.approx(0.6 * math.sqrt(9 / 8), abs=0.1)


def test_streaming_and_export_refuse_noise(surrogate: Surrogate) -> None:
    with pytest.raises(UsageError, match="export: expected a surrogate without noise"):
        check_exportable(surrogate)
    with pytest.raises(UsageError, match="streaming: expected a surrogate without noise"):
        streamed(surrogate, Slabs(LINE, lambda start, stop: torch.zeros(1, 1, stop - start), 16), LINE)


def test_ladder_of_lengths() -> None:
    assert Noise.ladder(0, LINE) == Noise()
    assert Noise.ladder(2, Box.uniform({"x": Periodic(0, 2), "y": Periodic(0, 4)}, 8)).lengths == pytest.approx((1 / 4, 1 / 32))
    assert Noise.ladder(3, Sphere.gauss(8, 16)).lengths == pytest.approx((30, math.sqrt(120), 4))
    thin = Box.uniform({"x": Periodic(0, 1), "y": Periodic(0, 100)}, 8)
    assert Noise.ladder(2, thin).draw(1, thin, _seeded(0)).isfinite().all()


def test_refusals() -> None:
    plain = fit(affine(), "p", "q", operator=pointwise, steps=1)
    with pytest.raises(UsageError, match="trained with noise"):
        plain.draw(torch.zeros(1, 1, 16), plain.grid, members=2, generator=_seeded(0))
    with pytest.raises(UsageError, match="noise: expected data alone"):
        fit(affine(), "p", "q", operator=pointwise, steps=300, noise=1, search=True)
    with pytest.raises(UsageError, match="number of channels"):
        fit(affine(), "p", "q", operator=pointwise, steps=1, noise=-1)
    with pytest.raises(UsageError, match="finite lengths above 0"):
        Noise((0.0,))
    with pytest.raises(UsageError, match="finite amplitude above 0"):
        Noise((0.1,), 0.0)
    assert Noise((0.2,)).draw(2, Points(np.zeros((3, 1)), ("x",), (Periodic(0, 1),)), _seeded(0)).shape == (2, 1, 3)


def test_amplitude_makes_up_for_a_spread_that_is_too_small(surrogate: Surrogate) -> None:
    # u' = 0.8 u + 0.6 xi, once learned as 0.8 u + 0.3 xi; and once without any noise.
    held_out = Pairs(_autoregressive(64), ("u",), ("u",), lead=1)
    twin = copy.deepcopy(surrogate)
    weight = twin.operator.matrix.weight
    assert fitted_amplitude(twin, [held_out], 0, 10_000)[0] == pytest.approx(1, abs=0.2)
    with torch.no_grad():
        weight[0, 0], weight[0, 1] = 0.8, 0.3
        learned = fitted_amplitude(twin, [held_out], 0, 10_000)
        assert learned[0] == pytest.approx(2, rel=0.2)
        assert learned[1].startswith(f"noise times {learned[0]:.3g}: spread over error of held-out forecasts")
        weight[0, 1] = 0.01  # beyond four times the noise is not what is wrong
        assert fitted_amplitude(twin, [held_out], 0, 10_000)[0] == pytest.approx(4)
        weight[0, 1] = 0.0
        assert fitted_amplitude(twin, [held_out], 0, 10_000)[0] == 1.0


def test_it_costs_a_short_training_little(surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    forward = surrogate.operator.forward
    monkeypatch.setattr(surrogate.operator, "forward", lambda a, grid, query=None: passes.append(len(a)) or forward(a, grid, query))
    for samples in (10, 200, 10_000):
        passes.clear()
        fitted_amplitude(surrogate, [Pairs(_autoregressive(64), ("u",), ("u",), lead=1)], 0, samples)
        assert sum(passes) <= max(8, 0.15 * samples) * 6


def test_amplitude_is_in_the_draws_and_in_the_file(surrogate: Surrogate, tmp_path: Path) -> None:
    twin = copy.deepcopy(surrogate)
    u = gaussian_field(1, LINE, length=0.05, generator=_seeded(3))[:, None].float()
    for amplitude in (1.0, 3.0):
        twin.noise = replace(twin.noise, amplitude=amplitude)
        twin.save(tmp_path / "twin.anygrid")
        again = read_surrogate(tmp_path / "twin.anygrid", [Linear])
        assert again.noise.amplitude == amplitude
        spread = again.draw(u, LINE, members=2, generator=_seeded(1)).diff(dim=0)
        if amplitude == 1.0:
            one = spread
    torch.testing.assert_close(spread, 3 * one)
