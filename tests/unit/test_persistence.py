"""Damped persistence: the climate and its memory found in data, what an evolution makes of them, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from training_support import affine, heat, pointwise

from anygrid.errors import DataError, FileError, UsageError
from anygrid.export.traceable import check_exportable
from anygrid.grid import Grid, Sphere
from anygrid.io.pairs import Pairs
from anygrid.numerics.interpolation import interpolate
from anygrid.operators.streaming import Slabs
from anygrid.surrogate import Persistence, Surrogate
from anygrid.surrogate.file import read_tensors, write_tensors
from anygrid.surrogate.slabs import streamed
from anygrid.training import fit

GRID = Sphere.gauss(8, 16)
RHO = (0.9, 0.4)


class Silent(nn.Module):
    """Says nothing: the operator of an evolution that its climate alone decides."""

    arguments: dict[str, Any] = {}  # noqa: RUF012 - operators have them

    def forward(self, a: Tensor, grid: Grid, query: Grid | None = None) -> Tensor:
        return a.new_zeros(len(a), 2, *(query or grid).shape)


def _weather(times: int = 4000) -> xr.Dataset:
    """Two fields about two maps, each point an autoregressive process of its own."""
    rng, lat = np.random.default_rng(0), GRID.lat.coordinates()
    climate = np.stack([280 + 30 * np.cos(np.deg2rad(lat))[:, None] + 0 * GRID.lon.coordinates(), np.tile(lat[:, None], (1, 16))])
    x = np.zeros((times, 2, *GRID.shape))
    for n in range(1, times):
        rho = np.array(RHO)[:, None, None]
        x[n] = rho * x[n - 1] + np.sqrt(1 - rho**2) * rng.standard_normal(x.shape[1:])
    x += climate
    coords = {"time": np.arange(times), "lat": lat, "lon": GRID.lon.coordinates()}
    fields = {name: (("time", "lat", "lon"), x[:, k].astype(np.float32)) for k, name in enumerate("uv")}
    ds = xr.Dataset(fields, coords)
    ds.lat.attrs["units"], ds.lon.attrs["units"] = "degrees_north", "degrees_east"
    return ds


@pytest.fixture(scope="module")
def weather() -> xr.Dataset:
    return _weather()


def _leads(ds: xr.Dataset) -> tuple[Persistence, Pairs]:
    pairs = Pairs(ds, ("u", "v"), ("u", "v"), lead=1)
    a, u = (torch.as_tensor(x)[:, 0] for x in pairs.batch(np.arange(len(pairs))))
    return Persistence.of(lambda: iter([(a[:1000], u[:1000]), (a[1000:], u[1000:])]), pairs.grid), pairs


def test_climate_and_memory_are_those_of_the_process(weather: xr.Dataset) -> None:
    found, pairs = _leads(weather)
    exact = np.stack([weather[name].isel(time=slice(0, -1)).values.astype(float).mean(0) for name in "uv"])
    np.testing.assert_allclose(found.climate.numpy(), exact, rtol=1e-6)
    np.testing.assert_allclose(found.rho, RHO, atol=0.01)
    # What is left is the noise of one lead, and less than what a lead adds to plain persistence: sqrt(2 (1 - rho)).
    np.testing.assert_allclose(found.std, np.sqrt(1 - np.square(RHO)), rtol=0.01)
    increments = pairs.statistics().increments
    assert increments is not None
    assert all(a < b for a, b in zip(found.std, increments.std, strict=True))


def test_what_the_operator_does_not_say_decays_at_every_point(weather: xr.Dataset) -> None:
    found, pairs = _leads(weather)
    model = Surrogate(Silent(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True, persistence=found)
    start = found.climate[None] + torch.randn(3, 2, *GRID.shape)
    state = start
    for _ in range(7):
        state = model(state, pairs.grid)
    decay = torch.tensor(found.rho)[:, None, None] ** 7
    fed = torch.tensor(found.mean)[:, None, None] * (1 - decay) / (1 - torch.tensor(found.rho)[:, None, None])
    torch.testing.assert_close(state, found.climate + decay * (start - found.climate) + fed, atol=1e-3, rtol=0)


def test_on_another_grid_the_climate_is_interpolated_as_states_are(weather: xr.Dataset) -> None:
    found, pairs = _leads(weather)
    model = Surrogate(Silent(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True, persistence=found)
    fine = Sphere.gauss(16, 32)
    a = found.climate[None] + 0.5 * torch.randn(1, 2, *GRID.shape)
    at_once = model(a, pairs.grid, fine)
    torch.testing.assert_close(at_once, interpolate(model(a, pairs.grid), pairs.grid, fine), atol=1e-3, rtol=0)
    assert not torch.allclose(at_once, interpolate(a, pairs.grid, fine), atol=0.1)


class Growing(Silent):
    """Says ten times the state: an evolution that no damping alone could hold."""

    def forward(self, a: Tensor, grid: Grid, query: Grid | None = None) -> Tensor:
        return 10 * a


def test_an_operator_hears_no_more_than_the_data_hold_and_so_cannot_blow_up(weather: xr.Dataset) -> None:
    found, pairs = _leads(weather)
    a = torch.stack([found.lower - 5, found.lower, found.climate, found.upper, found.upper + 5])
    torch.testing.assert_close(found.heard(a, pairs.grid), torch.stack([found.lower, found.lower, found.climate, found.upper, found.upper]))
    lowest = np.stack([weather[name].isel(time=slice(0, -1)).values.min(0) for name in "uv"])
    np.testing.assert_array_equal(found.lower.numpy(), lowest)
    model = Surrogate(Growing(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True, persistence=found)
    state = found.climate[None] + 1.0
    for _ in range(300):
        state = model(state, pairs.grid)
    with torch.no_grad():
        said = torch.stack([model.operate(f[None], pairs.grid)[0] for f in (found.lower, found.upper)]).abs().amax(0)
    bound = said / (1 - torch.tensor(found.rho)[:, None, None])
    assert ((state[0] - found.climate).abs() <= 1.001 * bound).all()
    free = Surrogate(Growing(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True)
    for _ in range(300):
        state = free(state, pairs.grid)
    assert not torch.isfinite(state).all()


def test_a_field_that_never_varies_is_kept(weather: xr.Dataset) -> None:
    still = weather.assign(v=weather.v * 0 + 7.25)
    found, pairs = _leads(still)
    assert (found.rho[1], found.mean[1], found.std[1]) == (1.0, 0.0, 0.0)
    model = Surrogate(Silent(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True, persistence=found)
    a = torch.as_tensor(pairs.batch(np.arange(2))[0])[:, 0]
    assert torch.equal(model(a, pairs.grid)[:, 1], a[:, 1])


def test_a_training_around_a_climate_from_data_to_file_and_on(weather: xr.Dataset, tmp_path: Path) -> None:
    ds = weather.isel(time=slice(0, 300))
    first = fit(ds, ("u", "v"), ("u", "v"), lead=1, operator=pointwise, steps=30, batch=8, persistence=True, run=tmp_path / "run")
    assert any("increments to damped persistence" in text for text in first.record["inferred"])
    assert first.persistence is not None
    # Noise of one lead is all that there is to miss: the operator must not be worse than damped persistence, which is the best there is.
    a, u = (torch.as_tensor(x)[:, 0] for x in Pairs(ds, ("u", "v"), ("u", "v"), lead=1).batch(np.arange(200)))
    with torch.no_grad():
        left = (first(a, first.grid) - u).std((0, 2, 3))
    assert (left < 1.1 * torch.tensor(first.persistence.std)).all()
    again = Surrogate.load(tmp_path / "run" / "surrogate.anygrid", operators=[type(first.operator)])
    with torch.no_grad():
        assert torch.equal(again(a, again.grid), first(a, first.grid))
    second = fit(ds, ("u", "v"), ("u", "v"), lead=1, steps=4, batch=8, parent=again)
    assert second.persistence is not None
    assert torch.equal(second.persistence.climate, again.persistence.climate)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"damped persistence.*plain persistence"):
        fit(ds, ("u", "v"), ("u", "v"), lead=1, steps=4, parent=again, persistence=False)


def test_what_has_no_climate_is_refused(weather: xr.Dataset) -> None:
    found, pairs = _leads(weather)
    with pytest.raises(UsageError, match="evolution, whose outputs are all inputs"):
        fit(affine(), "p", "q", operator=pointwise, steps=1, increment=True, persistence=True)
    with pytest.raises(UsageError, match="prediction of increments"):
        fit(weather, ("u", "v"), ("u", "v"), lead=1, operator=pointwise, steps=1, increment=False, persistence=True)
    sets = [heat(samples=4, points=n, times=4) for n in (16, 32)]
    with pytest.raises(UsageError, match="data sets on one grid"):
        fit(sets, "u", "u", lead=1, operator=pointwise, steps=1, increment=True, persistence=True)
    with pytest.raises(DataError, match="a climate of 1 outputs"):
        Surrogate(Silent(), pairs.inputs[:1], pairs.outputs[:1], _one(pairs), pairs.grid, "1", True, persistence=found)
    with pytest.raises(DataError, match="parts from 0 to 1"):
        replace(found, rho=(1.5, 0.2))
    with pytest.raises(DataError, match="2 outputs on"):
        replace(found, grid=Sphere.gauss(4, 8))
    model = Surrogate(Silent(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True, persistence=found)
    with pytest.raises(UsageError, match="one around a climate"):
        check_exportable(model)
    with pytest.raises(UsageError, match="one around a climate"):
        streamed(model, Slabs(pairs.grid, lambda start, stop: found.climate[None, :, start:stop], 4), pairs.grid)


def _one(pairs: Pairs) -> Any:
    whole = pairs.statistics()
    assert whole.increments is not None
    return replace(whole, inputs=whole.inputs.pick([0]), outputs=whole.outputs.pick([0]), increments=whole.increments.pick([0]))


def test_a_file_whose_climate_is_damaged_is_refused(weather: xr.Dataset, tmp_path: Path) -> None:
    found, pairs = _leads(weather)
    model = Surrogate(Silent(), pairs.inputs, pairs.outputs, pairs.statistics(), pairs.grid, "1", True, persistence=found)
    path = tmp_path / "s.anygrid"
    model.save(path)
    header, tensors = read_tensors(path, "anygrid surrogate", 1)
    for change in ({"rho": [0.5]}, {"rho": [2.0, 0.5]}, {"rho": None}):
        write_tensors(path, tensors, "anygrid surrogate", 1, {**header, "persistence": {**header["persistence"], **change}})
        with pytest.raises(FileError, match="a header that describes a surrogate"):
            Surrogate.load(path, operators=[Silent])
    write_tensors(path, {}, "anygrid surrogate", 1, header)
    with pytest.raises(FileError, match="climate"):
        Surrogate.load(path, operators=[Silent])
