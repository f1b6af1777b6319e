"""Scores of members that are not kept: those of the stacked members, and what `verify` reads out of them."""

import numpy as np
import pytest
import torch
import xarray as xr
from ensemble_support import CIRCLE, STATE, Turn, wave

from anygrid.errors import DataError, UsageError
from anygrid.forecast import Keep, Perturbation, ensemble
from anygrid.forecast.summary import finish, first, merge, summarise
from anygrid.metrics.probabilistic import pointwise_crps
from anygrid.verification import verify

START, STEPS = 10, 4


def initial(starts=1, begin=START):
    ds = wave(time=begin + starts).isel(time=slice(begin, begin + starts))
    return ds.assign_coords(time=("time", np.arange(starts, dtype=float) * 3, {"units": "days"}))


def truth(times=40):
    """Another wave, at every time that may be asked for, and a variable that no forecast has."""
    ds = wave(time=times).assign_coords(time=("time", np.arange(times, dtype=float), {"units": "days"}))
    ds["u"] = 0.8 * ds.u.roll(x=1, roll_coords=False)
    return ds.assign(v=ds.u)


TRUTH = truth()


def run(members, starts=1, *, keep, truth_=TRUTH, **options):
    settings = {"perturbation": Perturbation((0.2,), 0.1), "workers": 0, "domain": CIRCLE, "dt": "1 day", "start": "each"} | options
    return ensemble(Turn(), initial(starts), STEPS, members, **STATE, keep=keep, truth=truth_, **settings)


def right_at(starts):
    """Truth ``(start, lead, x)``."""
    return np.stack([truth().u.values[3 * s + 1 : 3 * s + 1 + STEPS] for s in range(starts)])


@pytest.mark.parametrize("members", [2, 80, 700])
def test_scores_are_those_of_the_stacked_members(members):
    starts = 3
    found = run(members, starts, keep=Keep(crps=True, rank=True, members=range(members)))
    u = found.u.transpose("member", "init_time", "lead_time", "x").values if "init_time" in found.dims else found.u.values
    y = right_at(starts)
    exact = pointwise_crps(torch.from_numpy(u).double(), torch.from_numpy(y).double()).numpy()
    # Beyond 256 members their distances come from a histogram.
    np.testing.assert_allclose(found.u_crps.values.reshape(exact.shape), exact, rtol=2e-6, atol=5e-4 if members > 256 else 1e-7)
    np.testing.assert_array_equal(found.u_rank.values.reshape(exact.shape), (u < y).sum(0))
    assert len(np.unique(found.u_rank)) > 2


def test_distances_in_a_histogram_with_outer_bins():
    rng = np.random.default_rng(0)
    x = rng.gumbel(size=(2000, 5)).astype(np.float32)  # a long tail: some lie outside the range of the first
    x[:, 4] = 3.0  # never varies
    y, keep = rng.normal(size=5).astype(np.float32), Keep(crps=True)
    state, n = first(summarise(x[:64], keep, (), y)), 64
    for begin in range(64, 2000, 64):
        part = x[begin : begin + 64]
        state, n = merge(state, n, summarise(part, keep, (), y), len(part)), n + len(part)
    exact = pointwise_crps(torch.from_numpy(x).double(), torch.from_numpy(y).double()).numpy()
    np.testing.assert_allclose(finish(state, n, keep)["crps"], exact, rtol=3e-3)
    assert int(state["counts"][[0, -1]].sum()) > 0
    assert finish(state, n, keep)["crps"][4] == pytest.approx(abs(3.0 - y[4]), rel=1e-6)


def test_verify_reads_what_was_kept_and_finds_what_members_give(tmp_path):
    members, starts = 40, 6
    keep = {"keep": Keep(crps=True, rank=True), "out": tmp_path / "few.zarr", "starts": starts}
    few, all_ = run(members, **keep), run(members, starts, keep=Keep(members=range(members)), truth_=None)
    one, two = (verify(ds, truth()).variables[0] for ds in (few, all_))
    assert one.crps_kind == two.crps_kind == "fair"
    for name in ("rmse", "crps", "spread-skill ratio"):
        np.testing.assert_allclose(one.curve(name).value, two.curve(name).value, rtol=1e-5)
    for a, b in zip(one.ranks, two.ranks, strict=True):
        np.testing.assert_allclose(a.share, b.share, atol=1e-9)
    said = " ".join(verify(few, truth()).cannot)
    assert "spectra of members: only statistics were kept" in said
    assert "CRPS" not in said


def test_scores_and_spread_alone_are_no_fields():
    alone = verify(run(6, 3, keep=Keep(mean=False, std=False, crps=True, rank=True)), TRUTH, draws=5).variables[0]
    whole = verify(run(6, 3, keep=Keep(members=range(6)), truth_=None), TRUTH, draws=5).variables[0]
    np.testing.assert_allclose(alone.curve("crps").value, whole.curve("crps").value, rtol=1e-5)
    assert [c.name for c in alone.curves] == ["crps", "persistence crps"]
    spread = verify(run(6, 3, keep=Keep(mean=False, std=True), truth_=None), TRUTH, draws=5).variables[0]
    assert [c.name for c in spread.curves] == ["spread"]


def test_what_is_refused():
    for members, ds in ((5, None), (1, TRUTH)):
        with pytest.raises(UsageError, match="2 members or more, and the truth, for crps and rank"):
            run(members, keep=Keep(std=False, crps=True), truth_=ds)
    with pytest.raises(UsageError, match="scores among what is kept, got none"):
        run(5, keep=Keep())
    with pytest.raises(DataError, match=r"truth: expected values at 3.0, got none there.\nhint: they run from 0.0 to 2.0; give the truth"):
        run(5, keep=Keep(rank=True), truth_=truth(3))
    with pytest.raises(DataError, match="truth: expected one of the variables u, got v"):
        run(5, keep=Keep(rank=True), truth_=truth()[["v"]])
    with pytest.raises(DataError, match="fields at the valid times of the forecast"):
        run(5, keep=Keep(rank=True), truth_=truth().isel(time=0))


def test_another_truth_is_another_ensemble(tmp_path):
    path, keep = tmp_path / "e.zarr", Keep(crps=True)
    run(5, keep=keep, out=path)
    before = xr.open_zarr(path).u_crps.values
    run(5, keep=keep, out=path)
    with pytest.raises(Exception, match=r"truth|another"):
        run(5, keep=keep, out=path, truth_=truth() + 1)
    np.testing.assert_array_equal(xr.open_zarr(path).u_crps.values, before)
