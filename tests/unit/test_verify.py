"""Forecasts meet their truth: kinds of stores, orders of grids, units, baselines, comparisons, the page and the command."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import xarray as xr
from cli_support import call
from ensemble_support import CIRCLE, STATE, Turn, wave
from verification_support import LEADS, past, statistics, weather

from anygrid.coastlines import coastlines
from anygrid.forecast import Keep, Perturbation, ensemble
from anygrid.grid import Sphere
from anygrid.metrics.probabilistic import crps
from anygrid.report.verification_page import verification_page
from anygrid.verification import Event, verify

GRID = Sphere.equiangular(12, 24)


@pytest.fixture(scope="module")
def case():
    return weather()


@pytest.fixture(scope="module")
def scored(case):
    return verify(*case, climatology=past(), events=[Event("t2m", True, 290.0)], station=(52.0, -5.0), draws=100)


def same(a, b, name="rmse", rel=1e-5):
    return a.curve(name).value == pytest.approx(b.curve(name).value, rel=rel)


def test_scores_are_those_of_the_fields_by_hand(case, scored):
    ds, truth = case
    x = ds.t2m.sel(lead_time=72).values.astype(float)
    y = truth.t2m.sel(time=ds.init_time.values + np.timedelta64(72, "h")).values.astype(float)
    area = GRID.mean_weights().numpy()
    found = scored.variables[0]
    at = LEADS.index(72)
    assert found.curve("rmse").value[at] == pytest.approx(math.sqrt((((x.mean(0) - y) ** 2) * area).sum((-1, -2)).mean()), rel=1e-9)
    start = truth.t2m.sel(time=ds.init_time.values).values.astype(float)
    assert found.curve("persistence rmse").value[at] == pytest.approx(math.sqrt((((start - y) ** 2) * area).sum((-1, -2)).mean()), rel=1e-9)
    fair = crps(torch.from_numpy(x)[:, :, None, None], torch.from_numpy(y)[:, None, None], GRID).mean()
    assert found.curve("crps").value[at] == pytest.approx(fair.item(), rel=1e-9)
    brier = (((x > 290).mean(0) - (y > 290)) ** 2 * area).sum((-1, -2)).mean()
    assert found.events[0].curves[0].value[at] == pytest.approx(brier, rel=1e-9)
    assert found.starts == (20, 20, 20)
    assert (scored.leads, scored.lead_units) == ((1.0, 3.0, 5.0), "days")


def test_a_perfect_ensemble_is_found_perfect(scored):
    for v in scored.variables:
        ratio = v.curve("spread-skill ratio")
        assert all(low < 1 < high for low, high in zip(ratio.low, ratio.high, strict=True))
        assert all(r.p_value > 0.01 for r in v.ranks)
        assert v.curve("crps").value < v.curve("climatology crps").value
        # signal 8 and noise 2 about a mean of 288: the ensemble mean's error is that of the truth's noise and of its own
        assert v.curve("member rmse").value[0] / v.curve("rmse").value[0] == pytest.approx(math.sqrt(2 / (1 + 1 / 8)), rel=0.05)


def test_too_little_spread_and_a_bias_are_found():
    ds, truth = weather(spread=0.4, bias=1.5)
    found = verify(ds, truth, draws=100).variables[0]
    assert found.curve("spread-skill ratio").high[0] < 0.8
    assert found.curve("bias").value[0] == pytest.approx(1.5, abs=0.5)
    assert found.ranks[0].p_value < 0.05


def turned(truth):
    """The same truth north to south, from -180 to 180 degrees, under other names."""
    out = truth.isel(lat=slice(None, None, -1)).assign_coords(lon=(truth.lon + 180) % 360 - 180).sortby("lon")
    return out.rename(lat="latitude", lon="longitude", t2m="2m_temperature")


def test_orders_of_latitude_and_longitude_and_names_do_not_matter(case, scored):
    ds, truth = case
    found = verify(ds, turned(truth), draws=10)
    assert [v.name for v in found.variables] == ["t2m", "z500"]
    assert all(same(a, b) for a, b in zip(found.variables, scored.variables, strict=True))
    assert "t2m is compared with 2m_temperature" in found.notes
    back = verify(turned(ds), truth, draws=10)
    assert same(back.variables[0], scored.variables[0])
    assert same(back.variables[0], scored.variables[0], "crps")


def test_units_are_converted_and_it_is_said(case, scored):
    ds, truth = case
    other = xr.Dataset(
        {
            "t2m": (truth.t2m - 273.15).assign_attrs(units="degC"),
            "gh": (truth.z500 / 9.80665).expand_dims(level=[500.0], axis=1).assign_attrs(units="m"),
        }
    )
    found = verify(ds, other, draws=10)
    assert all(same(a, b, rel=1e-4) for a, b in zip(found.variables, scored.variables, strict=True))
    said = " ".join(found.notes)
    assert "degC" in said
    assert "geopotential height" in said


def test_statistics_give_what_they_can_and_say_the_rest(case, scored):
    ds, truth = case
    found = verify(statistics(ds), truth, events=[Event("t2m", True, 290.0), Event("t2m", True, 300.0)], draws=10)
    a, b = found.variables[0], scored.variables[0]
    assert found.kind == "statistics"
    assert same(a, b)
    assert same(a, b, "spread-skill ratio", rel=1e-4)
    assert [e.event for e in a.events] == ["t2m > 290"]
    assert a.events[0].curves[0].value == pytest.approx(b.events[0].curves[0].value, rel=1e-6)
    assert a.crps_kind == "normal"
    assert a.curve("crps").value == pytest.approx(b.curve("crps").value, rel=0.1)  # plugged-in spread of 8 members
    assert a.coverage[0][2] == pytest.approx(b.coverage[2][2], rel=1e-4)
    assert not a.ranks
    assert any("rank histograms" in line for line in found.cannot)
    assert any("above(t2m=300)" in line for line in found.cannot)


def test_a_single_forecast_and_a_truth_with_gaps(case):
    ds, truth = case
    one = ds.isel(member=0, drop=True)
    found = verify(one, truth.isel(time=slice(0, 10)), draws=10)
    # starts 1 to 20; days 1 to 10 are known
    assert found.variables[0].starts == (9, 7, 5)
    assert found.kind == "single"
    assert any("no truth" in note for note in found.notes)
    assert found.variables[0].curve("crps") is None


def test_land_that_has_no_truth_is_left_out(case):
    ds, truth = case
    sea = xr.DataArray(np.arange(24) < 12, dims="lon")
    found = verify(ds, truth.where(sea), draws=10).variables[0]
    assert found.left_out == pytest.approx(0.5)
    x = ds.t2m.sel(lead_time=24).values.astype(float).mean(0)[..., :12]
    y = truth.t2m.sel(time=ds.init_time.values + np.timedelta64(24, "h")).values.astype(float)[..., :12]
    area = GRID.mean_weights().numpy()[:, :12]
    assert found.curve("rmse").value[0] == pytest.approx(math.sqrt((((x - y) ** 2) * area / area.sum()).sum((-1, -2)).mean()), rel=1e-9)


def test_a_reference_is_compared_start_by_start(case):
    ds, truth = case
    worse, _ = weather(bias=3.0)
    shuffled = worse.isel(init_time=slice(None, None, -1))
    found = verify(ds, truth, reference=shuffled, draws=200).variables[0]
    score = found.comparisons[0]
    mine, theirs = (verify(d, truth, draws=10).variables[0].curve("rmse").value for d in (ds, worse))
    assert score.difference == pytest.approx([a / b - 1 for a, b in zip(mine, theirs, strict=True)], rel=1e-9)
    assert max(score.high) < 0
    partial = verify(ds, truth, reference=ds.drop_vars("z500"), draws=50)
    assert [bool(v.comparisons) for v in partial.variables] == [v.name == "t2m" for v in partial.variables]
    assert any("reference of z500" in line for line in partial.cannot)
    itself = verify(ds, truth, reference=ds, draws=50).variables[0].comparisons
    assert all(d == 0 for c in itself for d in c.difference)


def test_calibration_is_fitted_on_early_starts_and_judged_on_later_ones():
    ds, truth = weather(starts=40, members=10, spread=0.4, bias=2.0)
    found = verify(ds, truth, variables=["t2m"], events=[Event("t2m", True, 290.0)], calibrate_until="2001-03-26", draws=50)
    c = found.variables[0].calibrated
    # starts of 1 to 20 March end before the 26th; those from the 26th to 9 April are judged
    assert (c.fitted, c.judged) == (20, 15)
    a, b, *_ = (row[0] for row in c.coefficients)
    assert a + b * 290 == pytest.approx(288.0, abs=0.6)
    before, after, change = c.curves
    assert max(change.high) < -0.15
    assert after.value[0] == pytest.approx(before.value[0] * (1 + change.value[0]), rel=1e-9)
    # the law of the truth has a deviation of 2 about a mean known to 0.8 / sqrt(10): CRPS 1.15
    assert after.value[0] == pytest.approx(math.sqrt(4 + 0.064) / math.sqrt(math.pi), rel=0.15)
    assert all(part >= 0.6 for part in c.covered)
    assert max(c.events[0].value) < 0
    few = verify(ds, truth, variables=["t2m"], calibrate_until="2001-03-12", draws=5).variables[0].calibrated
    assert "needs 9 starts" in few.note


@pytest.mark.slow  # draws seven figures
def test_the_page_shows_everything_and_runs_nothing(scored):
    one = dataclasses.replace(scored, variables=scored.variables[:1], maps=scored.maps[:1], plumes=scored.plumes[:1])
    text = verification_page(one, "anygrid verify <a> b")
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    for title in ("Scores by lead", "Maps", "At a station", "Calibration", "t2m &gt; 290", "Spectra", "&lt;a&gt;"):
        assert title in text
    assert text.count("<svg") == 7  # leads, maps, plume, ranks, coverage, event, spectra
    empty = dataclasses.replace(scored, variables=(), maps=(), plumes=())
    assert "Maps" not in verification_page(empty)


def test_coastlines_lie_on_the_globe_and_start_where_asked():
    lines = coastlines(-180.0)
    known = lines[~np.isnan(lines[:, 0])]
    assert known[:, 0].min() >= -180
    assert known[:, 0].max() <= 180
    # Cape Agulhas, the southern end of Africa, at 34.8 S 20 E, and nothing drawn across the map
    assert np.hypot(known[:, 0] - 20.0, known[:, 1] + 34.8).min() < 1.0
    assert np.nanmax(np.abs(np.diff(coastlines(0.0)[:, 0]))) < 180


def test_the_command_prints_a_table_json_and_a_page(tmp_path, case, capsys):
    ds, truth = case
    ds.isel(init_time=slice(0, 6)).to_zarr(tmp_path / "ens.zarr", zarr_format=2)
    truth.to_netcdf(tmp_path / "truth.nc", engine="h5netcdf")
    words = ("verify", tmp_path / "ens.zarr", tmp_path / "truth.nc", "--variables", "t2m", "--event", "t2m>290", "--draws", "20")
    code, out, err = call(capsys, *words, "--report", tmp_path / "r.html")
    assert code == 0
    assert "spread/skill" in out
    assert "not computed: anomaly correlation" in err
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    code, out, _ = call(capsys, *words, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["variables"][0]["name"] == "t2m"
    assert told["variables"][0]["starts"] == [6, 6, 6]
    code, _, err = call(capsys, *words, "--report", tmp_path / "r.html")
    assert code == 2
    assert "--overwrite" in err


@pytest.mark.parametrize(("start", "starts"), [("each", 5), ("last", 1)])
def test_stores_that_ensemble_writes_are_understood(start, starts):
    truth = wave(time=12)
    truth.time.attrs["units"] = "days"
    kept = {"quantiles": (0.05, 0.95), "above": (("u", 0.2),)}
    found = []
    for members in (range(6), range(0)):
        made = ensemble(
            Turn(),
            truth.isel(time=slice(0, 5)),
            4,
            6,
            **STATE,
            perturbation=Perturbation((0.1,), 0.2),
            keep=Keep(members=members, **kept),
            dt="1 day",
            domain=CIRCLE,
            start=start,
            workers=0,
        )
        found.append(verify(made, truth, events=[Event("u", True, 0.2)], draws=5))
    whole, told = (f.variables[0] for f in found)
    assert [f.kind for f in found] == ["members", "statistics"]
    assert whole.starts == (starts,) * 4
    assert found[0].lead_units == "days"
    assert same(whole, told)
    assert whole.events[0].curves[0].value == pytest.approx(told.events[0].curves[0].value, abs=1e-12)
    right = truth.u.values[slice(0, 5) if start == "each" else slice(4, 5)]
    after = truth.u.values[slice(1, 6) if start == "each" else slice(5, 6)]
    assert whole.curve("persistence rmse").value[0] == pytest.approx(math.sqrt(((right - after) ** 2).mean()), rel=1e-5)
