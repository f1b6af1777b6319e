"""The weather model itself. Its compilation takes a minute the first time on a machine; all tests share one engine."""

import numpy as np
import pytest
import torch
from weather_support import JCM, SIGMA

from anygrid.errors import DataError, GridError
from anygrid.grid import Sphere
from anygrid.io.weather_ensemble import run_ensemble
from anygrid.io.weather_store import generate_weather, restart_from
from anygrid.numerics.spherical_harmonics import analyse, synthesise
from anygrid.problems.speedy import GRID, Speedy, perturbed
from anygrid.problems.speedy_engine import SpeedyState, shared_engine

UNIT = 21600
START = np.datetime64("2000-01-01", "s")
pytestmark = JCM


@pytest.fixture(scope="session")
def engine():
    return shared_engine(UNIT)


@pytest.fixture(scope="session")
def young(engine):
    """Weather five days after rest."""
    return engine.advance(engine.rest(START, 0), 20, "last")[1]


def test_a_run_in_pieces_is_the_run_in_one_bit_for_bit(engine, young):
    """The state that is kept is enough: between calls the engine forgets everything else that its physics carries."""
    whole, end = engine.advance(young, 6)
    first, middle = engine.advance(young, 2)
    second, other = engine.advance(SpeedyState(middle.time, {n: a.copy() for n, a in middle.arrays.items()}), 4)
    for name in whole:
        np.testing.assert_array_equal(whole[name], np.concatenate([first[name], second[name]]))
    assert end.time == other.time == young.time + np.timedelta64(36, "h")
    for name, values in end.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[name])
        if name != "longwave_flux":
            assert not np.array_equal(values, middle.arrays[name])
    # It is no more than needed, either: without the flux the weather is another.
    bare = {**middle.arrays, "longwave_flux": 0 * middle.arrays["longwave_flux"]}
    assert abs(engine.advance(SpeedyState(middle.time, bare), 1)[0]["t"][-1] - second["t"][0]).max() > 1e-3


@pytest.mark.slow
def test_solve_is_the_model_to_the_rounding_of_a_transform(engine, young):
    problem = Speedy()
    a = problem.tensor(young, engine)[None]
    assert a.shape == (1, 38, 48, 96)
    back = problem.state(a[0], engine)
    for name, values in young.arrays.items():
        assert abs(back.arrays[name] - values).max() <= 1e-6 * abs(values).max(), name
    u = problem.solve(a, GRID)
    _, end = engine.advance(young, 1)
    exact = problem.tensor(end, engine)[:-1]
    # Rounding moves where convection sets in, so that six hours later it is seen, a thousandth of what six hours do.
    for part in (slice(0, 8), slice(16, 24), slice(24, 32), slice(32, 33)):
        assert float((u[0, part] - exact[part]).square().mean() / (a[0, :-1][part] - exact[part]).square().mean()) < 1e-4
    assert torch.equal(u, problem.solve(a, GRID))
    assert problem.solve(a.double(), GRID).dtype == torch.float64
    assert float(problem.residual(a, u, GRID).abs().max()) == 0
    assert float(problem.residual(a, a[:, :-1], GRID)[0, 32].abs().max()) > 1e-3
    with pytest.raises(DataError):
        problem.solve(torch.where(a > 300, torch.nan, a), GRID)
    with pytest.raises(GridError, match="48x96"):
        problem.solve(a, Sphere.equiangular(48, 96))


@pytest.mark.slow
def test_fields_are_an_atmosphere_in_balance(engine, young):
    """Hydrostatic: geopotential, temperature and humidity agree between levels to the error of the model's own coarse sum."""
    fields = engine.fields(young)
    virtual = fields["t"] * (1 + 0.608 * fields["q"])
    thickness = fields["z"][:-1] - fields["z"][1:]
    expected = 287.0 * 0.5 * (virtual[:-1] + virtual[1:]) * np.log(SIGMA[1:] / SIGMA[:-1])[:, None, None]
    assert abs(thickness / expected - 1)[1:].max() < 0.06
    assert 97000 < float((torch.from_numpy(fields["ps"]) * GRID.mean_weights()).sum()) < 101500
    assert fields["q"].min() >= 0
    np.testing.assert_allclose(engine.constants()["sigma"], SIGMA, atol=1e-6)
    # The fields have no waves beyond the truncation: our own transform to degree 30 gives them back.
    zonal = torch.from_numpy(fields["t"][5:6]).double()
    again = synthesise(analyse(zonal[None], GRID, 32), GRID)[0]
    assert float((again - zonal).abs().max()) < 1e-2


@pytest.mark.slow
def test_a_store_of_the_model_and_its_ensemble(tmp_path, engine):
    import xarray as xr

    problem = Speedy(variables=("z500", "t850", "msl", "sst"), spin_up=1)
    path = generate_weather(problem, 3, tmp_path / "a.zarr", chunk_days=2)
    truth = xr.open_zarr(path).load()
    state = restart_from(path, "2000-01-02")
    ensemble = run_ensemble(problem, state, 2, 2, amplitude=0.02, control=True)
    same = ensemble.isel(member=0).sel(time=truth.time[4:])
    for name in ("z500", "t850", "msl"):
        # One frame a day is made from the state by another compiled function, the same to rounding.
        np.testing.assert_allclose(same[name].values, truth[name].values[4:], rtol=1e-5)
    gap = abs(ensemble.z500[1] - ensemble.z500[0]).mean(("lat", "lon")).values
    assert gap[0] > 0
    assert np.isfinite(ensemble.z500.values).all()
    assert perturbed(state, 0.0, 0).arrays["vorticity"].tobytes() == state.arrays["vorticity"].tobytes()


@pytest.mark.slow
def test_samples_depend_on_the_generator_alone(engine):
    problem = Speedy(spin_up=1)
    a = problem.sample(2, GRID, torch.Generator().manual_seed(3))
    assert a.shape == (2, 38, 48, 96)
    assert torch.equal(a, problem.sample(2, GRID, torch.Generator().manual_seed(3)))
    assert not torch.equal(a[0], a[1])
    assert bool(((a[:, -1] >= 0) & (a[:, -1] < 1)).all())
