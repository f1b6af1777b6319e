"""A replay buffer: forecasts that run beside a training, what they are judged by, and when they begin anew."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from training_support import affine, heat, pointwise

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.io.pairs import Pairs
from anygrid.surrogate import Noise, Surrogate
from anygrid.training import RelativeNorm, fit
from anygrid.training.replay import Replay

SAMPLES, TIMES, POINTS = 6, 9, 16
DATA = heat(samples=SAMPLES, points=POINTS, times=TIMES)


class Times(nn.Module):
    """``factor`` times the first channel, and the second, which may be noise."""

    arguments: dict[str, Any] = {}  # noqa: RUF012 - operators have them

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, a: Tensor, grid: Grid, query: Grid | None = None) -> Tensor:
        return self.factor * a[:, :1] + a[:, 1:2].sum(1, keepdim=True)


def _replay(leads: int, factor: float = 0.9, count: int = 5, noise: bool = False) -> tuple[Replay, Surrogate, Pairs, RelativeNorm]:
    pairs = Pairs(DATA, ("u",), ("u",), lead=1)
    statistics = pairs.statistics()
    channels = Noise((0.2,)) if noise else Noise()
    # In its own units the mean is near 0 and the deviation s: a factor on u.
    model = Surrogate(Times(factor), pairs.inputs, pairs.outputs, statistics, pairs.grid, increment=False, noise=channels)
    loss = RelativeNorm(torch.ones(1), torch.ones(1))
    return Replay(pairs, leads, count, model, loss, 0), model, pairs, loss


def test_a_forecast_goes_on_beside_its_own_truth_until_its_trajectory_ends() -> None:
    replay, model, pairs, loss = _replay(10**9)
    before: dict[str, Tensor] = {}
    for step in range(2 * TIMES):
        at = {k: v.clone() for k, v in replay.tensors().items()}
        u = torch.as_tensor(pairs.batch(at["rows"].numpy())[1])[:, 0]
        with torch.no_grad():
            reached = model(at["states"][0], pairs.grid)
        assert float(replay.error(model, False).detach()) == pytest.approx(float(loss(reached, u, pairs.grid)), rel=1e-5)
        replay.advance(step)
        now = replay.tensors()
        ended = at["rows"] % (TIMES - 1) == TIMES - 2
        torch.testing.assert_close(now["states"][0][~ended], reached[~ended])
        assert torch.equal(now["rows"][~ended], at["rows"][~ended] + 1)
        assert torch.equal(now["ages"][~ended], at["ages"][~ended] + 1)
        fresh = torch.as_tensor(pairs.batch(now["rows"].numpy())[0])[:, 0]
        assert torch.equal(now["states"][0][ended], fresh[ended])
        assert not now["ages"][ended].any()
        before = at
    assert int(before["ages"].max()) > 2


def test_the_slope_is_that_of_the_last_lead() -> None:
    replay, model, pairs, loss = _replay(10**9)
    replay.error(model, False)
    replay.advance(0)
    states, u = replay.tensors()["states"][0], torch.as_tensor(pairs.batch(replay.tensors()["rows"].numpy())[1])[:, 0]
    found = torch.autograd.grad(replay.error(model, False), model.operator.factor)[0]
    wanted = torch.autograd.grad(loss(model(states, pairs.grid), u, pairs.grid), model.operator.factor)[0]
    assert float(found) == pytest.approx(float(wanted))
    assert abs(float(found)) > 0


def test_the_mean_length_is_as_asked_and_what_goes_astray_begins_anew() -> None:
    replay, model, *_ = _replay(3, count=400)
    ages = []
    for step in range(12):
        replay.error(model, False)
        replay.advance(step)
        ages.append(replay.tensors()["ages"].double().mean())
    # Begun anew one time in three, or at the end of what is left of eight leads from where it began.
    age = np.arange(TIMES - 1)
    left = (2 / 3) ** age * (1 - age / len(age))
    assert float(ages[-1]) == pytest.approx((age * left).sum() / left.sum(), rel=0.2)
    # Astray is what is farther from the mean than twice the largest anomaly of the data, and what is no number.
    for factor, gone in ((1e4, True), (float("nan"), True), (1.2, False)):
        replay, model, *_ = _replay(10**9, factor=factor, count=40)
        replay.error(model, False)
        replay.advance(0)
        ages = replay.tensors()["ages"]
        assert bool(ages.any()) is not gone


def test_draws_of_a_start_go_apart_and_are_scored_together() -> None:
    replay, model, pairs, loss = _replay(10**9, noise=True)
    torch.manual_seed(5)
    first = replay.error(model, False)
    replay.advance(0)
    states = replay.tensors()["states"]
    assert states.shape == (2, 5, 1, POINTS)
    assert float((states[0] - states[1]).abs().min(0).values.max()) > 1e-3
    torch.manual_seed(5)
    again, *_ = _replay(10**9, noise=True)
    assert torch.equal(again.error(model, False), first)
    u = torch.as_tensor(pairs.batch(replay.tensors()["rows"].numpy())[1])[:, 0]
    torch.manual_seed(6)
    error = replay.error(model, False)
    reached = replay._reached
    assert reached is not None
    assert float(error.detach()) == pytest.approx(float(loss.crps(reached, u, pairs.grid, 0.99).mean()), rel=1e-6)


def test_rows_one_lead_later_stay_in_their_trajectory_and_cross_no_gap() -> None:
    ds = DATA.isel(time=[0, 1, 2, 3, 5, 6, 7])  # after 3 nothing for two steps
    pairs = Pairs(ds, ("u",), ("u",), lead="60")
    rows = np.arange(len(pairs))
    a, u = (torch.as_tensor(x)[:, 0] for x in pairs.batch(rows))
    after = pairs.following(rows)
    there = after >= 0
    assert there.sum() == SAMPLES * 3  # 0-1-2 and 5-6 have one that follows
    assert torch.equal(a[after[there]], u[there])


@pytest.mark.parametrize(("calendar", "year"), [("standard", 365.2425), ("noleap", 365), ("360_day", 360)])
def test_where_dates_end_the_season_comes_again(calendar: str, year: float) -> None:
    days = xr.date_range("2001-01-01", periods=4 * 800, freq="6h", calendar=calendar, use_cftime=calendar != "standard")
    time = (np.arange(len(days)) / 4).astype(np.float32)
    ds = xr.Dataset({"u": (("time", "x"), np.tile(time[:, None], (1, 8)))}, {"time": days, "x": np.arange(8) / 8})
    pairs = Pairs(ds, ("u",), ("u",), lead="1d", periodic={"x": True}).split(100)[0]
    rows = np.arange(len(pairs))
    after = pairs.following(rows)
    assert np.array_equal(after[:-4], rows[:-4] + 4)
    begun = torch.as_tensor(pairs.batch(rows)[0])[:, 0, 0, 0].numpy()
    went = begun[-4:] + 1 - begun[after[-4:]]
    np.testing.assert_allclose(went, round(2 * year), atol=0.01)  # two whole years, and the same hour
    short = Pairs(ds.isel(time=slice(0, 40)), ("u",), ("u",), lead="1d", periodic={"x": True})
    assert (short.following(rows[:36])[-4:] == -1).all()


def test_what_is_refused_and_what_is_said() -> None:
    operator = pointwise
    found = fit(DATA, "u", "u", lead=1, operator=operator, steps=8, replay=4, batch=4)
    assert any("forecasts of its own, begun anew after 4 leads" in text for text in found.record["inferred"])
    plain = fit(DATA, "u", "u", lead=1, operator=operator, steps=8, batch=4)
    assert "replay" not in plain.record["settings"]
    assert not torch.equal(*(next(m.operator.parameters()) for m in (found, plain)))
    with pytest.raises(UsageError, match="number of leads from 0 on"):
        fit(DATA, "u", "u", lead=1, operator=operator, steps=1, replay=-1)
    with pytest.raises(UsageError, match="evolution, whose outputs are all inputs"):
        fit(affine(), "p", "q", operator=operator, steps=1, replay=4)
    with pytest.raises(UsageError, match="data alone, in one process"):
        fit(DATA, "u", "u", lead=1, operator=operator, steps=500, replay=4, search=True)
    other = xr.Dataset({"u": DATA.u, "v": 2 * DATA.u})
    with pytest.raises(UsageError, match="evolution, whose outputs are all inputs"):
        fit(other, "u", "v", lead=1, operator=operator, steps=1, replay=4)
