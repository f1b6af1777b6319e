"""Ensembles: statistics are those of the stacked members, members are functions of the seed and their number, kills are survived."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from ensemble_support import CIRCLE, STATE, Turn, U, kick, tree, wave

from anygrid.errors import DataError, FileError, UsageError
from anygrid.fields import Variable
from anygrid.forecast import Keep, Perturbation, advance, ensemble, ensemble_block, forecast
from anygrid.forecast.perturb import default_length
from anygrid.forecast.summary import finish, first, merge, summarise
from anygrid.grid import Bounded, Box, Periodic, Points, Sphere
from anygrid.numerics.random_fields import smooth_field
from anygrid.numerics.seeds import sample_generator
from anygrid.numerics.sphere_fields import sphere_field

SPREAD = Perturbation((0.2,), 0.1)
ALL = Keep(minimum=True, maximum=True, quantiles=(0.0, 0.1, 0.5, 0.93, 1.0), above=(("u", 0.5), ("u", 0.0)))


def run(members=None, *, initial=None, map_=Turn(), steps=4, **options):
    settings = {"perturbation": SPREAD, "workers": 0, "domain": CIRCLE} | options
    return ensemble(map_, wave() if initial is None else initial, steps, members, **STATE, **settings)


def kept(members):
    return Keep(ALL.mean, ALL.std, True, True, ALL.quantiles, ALL.above, range(members))


def check_against_numpy(found, members):
    u = found["u"].values.astype(np.float64)
    assert u.shape[0] == members
    exact = {"mean": u.mean(0), "std": u.std(0, ddof=1), "min": u.min(0), "max": u.max(0)}
    for name, values in exact.items():
        np.testing.assert_allclose(found[f"u_{name}"], values, rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(found["u_above"], [(u > t).mean(0) for t in (0.5, 0.0)], atol=1e-7)
    return np.quantile(u, ALL.quantiles, axis=0)


@pytest.mark.parametrize("members", [2, 65])
def test_statistics_are_those_of_the_stacked_members(members):
    found = run(members, keep=kept(members))
    np.testing.assert_allclose(found["u_quantile"], check_against_numpy(found, members), rtol=2e-6, atol=2e-7)
    assert "u_quantile_error" not in found


def test_quantiles_of_many_members_are_as_good_as_they_say():
    found = run(300, keep=kept(300))
    exact = check_against_numpy(found, 300)
    error = np.abs(found["u_quantile"] - exact)
    assert bool((error <= found["u_quantile_error"] + 1e-6).all())
    # In the middle the bound is 1.5 / 254 of the range of 256 members, some 0.04 deviations; at the ends it is that of the outer bins.
    inside = found["u_quantile_error"].sel(quantile=[0.1, 0.5, 0.93]) / found["u_std"]
    assert float(inside.max()) < 0.05
    assert float(error.max()) > 0
    np.testing.assert_allclose(found["u_quantile"].sel(quantile=[0.0, 1.0]), exact[[0, -1]], atol=1.5e-2)


def test_histograms_hold_what_comes_after_the_first_members():
    """Later members far outside the range of the first: the outer bins end at the smallest and largest value."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 5)), 100 + rng.normal(size=(200, 5)), np.zeros((100, 5))]).astype(np.float32)
    x[:, 4] = 3.0  # never varies
    keep = Keep(quantiles=(0.02, 0.25, 0.6, 0.9))
    state, n = first(summarise(x[:64], keep, ())), 64
    for begin in range(64, 600, 64):
        part = x[begin : begin + 64]
        state, n = merge(state, n, summarise(part, keep, ()), len(part)), n + len(part)
    found = finish(state, n, keep)
    exact = np.quantile(x.astype(np.float64), keep.quantiles, axis=0)
    assert (np.abs(found["quantile"] - exact) <= found["quantile_error"] + 1e-6).all()
    assert (found["quantile"][:, 4] == 3).all()
    assert int(state["counts"][-1].max()) == 200
    np.testing.assert_allclose(found["mean"], x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["std"], x.astype(np.float64).std(0, ddof=1), rtol=1e-12)


def test_a_large_mean_loses_no_digits_of_the_spread():
    x = (1e5 + np.random.default_rng(1).normal(size=(640, 3))).astype(np.float32)
    state, n = first(summarise(x[:64], Keep(), ())), 64
    for begin in range(64, 640, 64):
        state, n = merge(state, n, summarise(x[begin : begin + 64], Keep(), ()), 64), n + 64
    np.testing.assert_allclose(finish(state, n, Keep())["std"], x.astype(np.float64).std(0, ddof=1), rtol=1e-12)


def test_a_member_is_the_same_in_any_blocking(monkeypatch):
    many = run(80, keep=Keep(members=range(80)))
    few = run(70, keep=Keep(members=range(60, 70)))
    np.testing.assert_array_equal(few["u"], many["u"][60:70])
    np.testing.assert_array_equal(few["member"], range(60, 70))
    monkeypatch.setattr(advance, "_ROWS", 7)
    other = run(80, keep=Keep(members=range(80)))
    np.testing.assert_array_equal(other["u"], many["u"])
    np.testing.assert_allclose(other["u_std"], many["u_std"], rtol=1e-6)
    assert not np.array_equal(run(2, keep=Keep(members=range(2)), seed=1)["u"], many["u"][:2])
    assert float(np.abs(many["u"][0] - many["u"][1]).max()) > 0.05


def test_perturbations_are_the_stated_fields():
    found = run(3, keep=Keep(members=range(3)), steps=1)
    field = 0.2 * smooth_field(1, CIRCLE, ("periodic",), length=0.1, generator=sample_generator(0, 2))
    start = (torch.from_numpy(wave()["u"].values).double() + field).float()
    np.testing.assert_array_equal(found["u"][2], Turn()(start[None], CIRCLE)[0])


def test_statistics_are_the_same_bytes_in_processes(tmp_path):
    run(150, out=tmp_path / "a.zarr", keep=kept(3), initial=wave(sample=3))
    run(150, out=tmp_path / "b.zarr", keep=kept(3), initial=wave(sample=3), workers=2)
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")


def test_every_start_has_its_own_statistics(monkeypatch):
    initial = wave(sample=2, time=3)
    found = run(6, initial=initial, start="each", keep=kept(6), dt=1.0)
    assert found["u_mean"].dims == ("sample", "init_time", "lead_time", "x")
    assert found["u"].dims == ("member", "sample", "init_time", "lead_time", "x")
    check_against_numpy(found, 6)
    alone = run(6, initial=initial.isel(sample=1, time=[2]), start="each", keep=kept(6), dt=1.0)
    np.testing.assert_array_equal(alone["u"], found["u"].isel(sample=1, init_time=[2]))
    monkeypatch.setattr(advance, "_ROWS", 10)  # one start a block
    again = run(6, initial=initial, start="each", keep=kept(6), dt=1.0)
    xr.testing.assert_equal(again, found)


def test_slices_of_values_are_put_together(monkeypatch):
    whole = run(5, initial=wave(sample=2), keep=kept(2))
    monkeypatch.setattr(ensemble_block, "_SLICE", 5)
    monkeypatch.setattr(ensemble_block, "_SMALL", 100)  # one lead a chunk
    xr.testing.assert_equal(run(5, initial=wave(sample=2), keep=kept(2)), whole)


def test_single_forecasts_in_blocks_are_those_of_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(advance, "_ROWS", 4)
    initial = wave(sample=3, time=5)
    for start in ("each", "last"):
        plain = forecast(Turn(), initial, 6, **STATE, domain=CIRCLE, dt=1.0, start=start, every=2)
        blocks = run(initial=initial, steps=6, perturbation=None, dt=1.0, start=start, every=2, out=tmp_path / f"{start}.zarr")
        xr.testing.assert_equal(blocks, plain)
        assert blocks["u"].attrs == plain["u"].attrs


def test_members_in_the_data():
    initial = wave(perturb=5, sample=2)
    found = run(initial=initial, perturbation=None, member_dim="perturb", keep=kept(4))
    assert found["u"].dims == ("perturb", "sample", "lead_time", "x")
    np.testing.assert_array_equal(found["perturb"], [0, 1, 2, 3])
    plain = forecast(Turn(), initial.rename(perturb="member"), 4, **STATE, domain=CIRCLE)
    np.testing.assert_array_equal(found["u"], plain["u"].transpose("member", "sample", ...)[:4])
    np.testing.assert_allclose(found["u_mean"], plain["u"].mean("member"), atol=1e-6)
    both = run(3, initial=initial, member_dim="perturb", keep=Keep(members=range(3)))
    assert float(np.abs(both["u"] - found["u"][:3]).max()) > 0.05
    with pytest.raises(DataError, match="did you mean 'perturb'"):
        run(initial=initial, member_dim="pertrub")
    with pytest.raises(UsageError, match="at most the 5 along perturb"):
        run(6, initial=initial, member_dim="perturb")


def test_descending_latitudes_and_dates_are_those_of_the_data():
    lat, lon = np.linspace(75, -75, 6), np.arange(12) * 30.0
    values = np.random.default_rng(0).normal(size=(3, 2, 12, 6)).astype("f4")
    coords = {
        "time": np.array(["2006-01", "2006-02"], dtype="datetime64[ns]"),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    initial = xr.Dataset({"u": (("number", "time", "lon", "lat"), values, {"units": "m"})}, coords)
    plain = forecast(Turn(), initial, 3, **STATE, dt="1month")
    found = ensemble(Turn(), initial, 3, **STATE, dt="1month", member_dim="number", keep=Keep(members=range(3)), workers=0)
    assert found["u"].dims == ("number", "time", "lon", "lat")
    np.testing.assert_array_equal(found["u"], plain["u"])
    np.testing.assert_allclose(found["u_mean"], plain["u"].mean("number"), atol=1e-6)
    assert found["u_mean"].attrs["cell_methods"] == "realization: mean"
    xr.testing.assert_equal(found["time"].variable, plain["time"].variable)
    single = ensemble(Turn(), initial, 3, **STATE, dt="1month", start="each", workers=0)
    xr.testing.assert_equal(single, forecast(Turn(), initial, 3, **STATE, dt="1month", start="each"))
    spread = ensemble(Turn(), initial, 1, 4, **STATE, perturbation=Perturbation((0.1,), 30.0), workers=0, keep=Keep(members=range(4)))
    assert 0.02 < float(spread["u_std"].mean()) < 0.3


def test_a_random_map_draws_for_each_member_alone(monkeypatch):
    options = {"map_": kick, "stochastic": True, "perturbation": None}
    found = run(20, keep=kept(20), **options)
    check_against_numpy(found, 20)
    # By hand: one generator for a member, used step after step.
    generator, state = sample_generator(0, 2**31 + 7), torch.from_numpy(wave()["u"].values)[None, None]
    for lead in range(4):
        state = kick(state, CIRCLE, members=1, generator=generator)[0]
        np.testing.assert_array_equal(found["u"][7, lead], state[0, 0])
    monkeypatch.setattr(advance, "_ROWS", 11)
    np.testing.assert_array_equal(run(20, keep=Keep(members=range(20)), initial=wave(sample=2), **options)["u"][:, 0], found["u"][:20])
    deviation = 0.1 * np.sqrt(np.arange(1, 5))
    np.testing.assert_allclose(run(500, **options)["u_std"].mean("x"), deviation, rtol=0.1)


_SCRIPT = """
import sys
from ensemble_support import CIRCLE, STATE, Turn, wave
from anygrid.forecast import Keep, Perturbation, ensemble
keep = Keep(quantiles=(0.1, 0.9), members=range(0, 700, 100))
ensemble(Turn(pause=float(sys.argv[2])), wave(), 5, 700, **STATE, domain=CIRCLE, workers=0, keep=keep,
         perturbation=Perturbation((0.2,), 0.1), out=sys.argv[1], progress=lambda done, *_: print(done, flush=True))
"""


@pytest.mark.parametrize("enough", [64, 640])
def test_a_killed_ensemble_goes_on_and_repeats_nothing(tmp_path, monkeypatch, enough):
    """Killed after the first block, and after the last but one: before and after partial results were merged."""
    here = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent / "src")])}
    path = tmp_path / "e.zarr"
    command = [sys.executable, "-c", _SCRIPT, str(path), "0.02"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= enough:
                break
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    keep = Keep(quantiles=(0.1, 0.9), members=range(0, 700, 100))
    with pytest.raises(FileError, match="seed 1 asked, 0 there"):
        run(700, steps=5, keep=keep, out=path, seed=1)
    told = []
    run(700, steps=5, keep=keep, out=path, progress=lambda done, *_: told.append(done))
    assert enough <= told[0] < 700
    assert told[-1] == 700
    run(700, steps=5, keep=keep, out=tmp_path / "whole.zarr")
    assert tree(path) == tree(tmp_path / "whole.zarr")
    told.clear()
    run(700, steps=5, keep=keep, out=path, progress=lambda done, *_: told.append(done))
    assert told == []  # it is there


def test_what_cannot_be_an_ensemble_is_refused(tmp_path):
    for members, options, said in (
        (0, {}, "a number from 1 to"),
        (3, {"perturbation": None}, "members that differ"),
        (None, {}, "a number of members"),
        (1, {"keep": Keep(std=True)}, "at least 2 members"),
        (3, {"keep": Keep(mean=False, std=False)}, "at least one statistic"),
        (3, {"keep": Keep(members=range(4))}, "members from 0 to 2"),
        (3, {"keep": Keep(above=(("v", 1.0),))}, "choose from: u"),
        (3, {"perturbation": Perturbation((0.1, 0.2), 0.1)}, "a deviation for each of 1"),
        (3, {"perturbation": Perturbation((0.1,), 1e-4)}, "a correlation length from"),
        (3, {"steps": 0}, "steps of 1 or more"),
        (3, {"workers": -1}, "workers from 0 on"),
    ):
        with pytest.raises(UsageError, match=said):
            run(members, **options)
    for arguments in ({"quantiles": (1.2,)}, {"quantiles": (-0.1,)}, {"quantiles": (0.1, 0.1)}, {"above": (("u", float("nan")),)}):
        with pytest.raises(UsageError):
            Keep(**arguments)
    for arguments in (((-1.0,), 0.1), ((float("nan"),), 0.1), ((1.0,), 0.0), ((1.0,), float("inf"))):
        with pytest.raises(UsageError):
            Perturbation(*arguments)
    (tmp_path / "other.zarr").mkdir()
    with pytest.raises(FileError, match="a free path"):
        run(3, out=tmp_path / "other.zarr")
    both = {"inputs": (U, Variable("u_mean")), "outputs": (U, Variable("u_mean")), "member_dim": "sample", "domain": CIRCLE, "workers": 0}
    two = wave(sample=2).assign(u_mean=("x", np.zeros(16, "f4")))
    with pytest.raises(UsageError, match="names that do not meet"):
        ensemble(lambda a, _: a, two, 1, 2, keep=Keep(members=range(1)), **both)


def test_a_member_that_blows_up_is_named(tmp_path):
    largest = run(70, keep=Keep(members=range(70)))["u"].max("x").values  # it grows: the largest value of all is that of the last lead
    member = int(largest[:, 3].argmax())
    limit = np.sort(largest[:, 3])[-2:].mean()
    assert (largest > limit).sum() == 1
    with pytest.raises(DataError, match=f"not finite of member {member} at step 4"):
        run(70, map_=Turn(blow_up=limit), out=tmp_path / "bad.zarr")
    assert not (tmp_path / "bad.zarr").exists()


def test_fields_on_the_sphere_are_isotropic_and_the_same_on_every_grid():
    fine = sphere_field(300, Sphere.equiangular(18, 36), length=20, generator=torch.Generator().manual_seed(3))
    same = sphere_field(2, Sphere(fine_lat(6), Sphere.equiangular(6, 12).lon), length=20, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(same, fine[:2, 1::3, ::3], atol=1e-12)
    variance = fine.var(0)
    for rows in (variance[0], variance[8], variance[17]):  # poles and the equator alike
        assert float(rows.mean()) == pytest.approx(1, abs=0.25)
    # 20 degrees apart along the equator and across it
    along = float((fine[:, 8] * fine[:, 8].roll(2, -1)).mean())
    across = float((fine[:, 8] * fine[:, 10]).mean())
    assert along == pytest.approx(np.exp(-1 / 4), abs=0.06)
    assert across == pytest.approx(along, abs=0.08)
    with pytest.raises(UsageError, match=r"2\.4 degrees"):
        sphere_field(1, Sphere.equiangular(6, 12), length=1, generator=torch.Generator())


def fine_lat(n):
    return Sphere.equiangular(n, 4).lat


def test_harmonics_have_unit_mean_square():
    from anygrid.numerics.sphere_fields import _legendre

    grid = Sphere.gauss(40, 64)
    table = _legendre(tuple(grid.lat.coordinates().tolist()), 30)
    lam = np.deg2rad(grid.lon.coordinates())
    functions = np.stack([table[m, :, k][:, None] * np.cos(m * lam) for k, m in ((0, 0), (1, 0), (1, 1), (7, 3), (30, 30), (30, 2))])
    gram = np.einsum("aij,bij,ij->ab", functions, functions, grid.weights().numpy()) / (4 * np.pi)
    np.testing.assert_allclose(gram, np.eye(6), atol=1e-10)


def test_every_grid_can_be_perturbed():
    box = Box.uniform({"x": Periodic(0, 1), "y": Bounded(0, 2)}, (8, 9))
    points = Points(box.points().reshape(-1, 2).numpy(), ("x", "y"), box.domain)
    field = Perturbation((1.0, 0.0), 0.2).field(box, 0, 5)
    assert field.shape == (2, 8, 9)
    assert bool((field[1] == 0).all())
    np.testing.assert_allclose(Perturbation((1.0, 0.0), 0.2).field(points, 0, 5), field.flatten(1), atol=1e-12)
    assert Perturbation((1.0,), 20).field(Sphere.equiangular(6, 12), 0, 5).shape == (1, 6, 12)
    assert [default_length(g) for g in (box, Sphere.equiangular(6, 12))] == [0.1, 10]
