"""The user story of the weather at the command line, on files that name and measure otherwise."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cli_support import call
from interchange_support import WB2, as_cmip, renamed, weather

from anygrid.cli.ensembles import kept
from anygrid.cli.leads import steps_of
from anygrid.cli.words import gathered
from anygrid.errors import UsageError
from anygrid.fields import Variable

SMALL = ("--operator", "sfno", "--modes", "5", "--width", "4", "--depth", "1", "--steps", "4", "--validation", "0", "--unroll", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("story")
    renamed(weather(24), WB2).to_netcdf(path / "era5.nc", engine="h5netcdf")
    as_cmip(weather(24)).to_netcdf(path / "cmip.nc", engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def surrogate(folder):
    """Trained as the issue writes it."""
    from anygrid.cli.app import _run

    words = ["fit", folder / "era5.nc", "--inputs", "z500", "t850", "t2m", "msl", "--lead", "6h", "--forcing", "orography"]
    assert _run([str(w) for w in (*words, "--noise", "2", *SMALL, "--out", folder / "w.anygrid", "--run", folder / "run")]) == 0
    return folder / "w.anygrid"


def test_names_in_a_row_become_inputs_forcings_and_outputs(surrogate):
    from anygrid.surrogate import read_surrogate

    model = read_surrogate(surrogate)
    assert [v.name for v in model.inputs] == ["z500", "t850", "t2m", "msl", "orography"]
    assert [v.name for v in model.outputs] == ["z500", "t850", "t2m", "msl"]
    assert model.inputs[0] == Variable("z500", "m**2 s**-2", "Geopotential", "geopotential")
    assert model.dt == "6h"


def test_the_story_runs_as_it_is_written(surrogate, folder, capsys):
    ens = folder / "ens.zarr"
    keep = "mean,std,quantiles,exceedance(t2m>300K)"
    words = ["forecast", surrogate, folder / "cmip.nc", "--select", "time=:2001-01-03", "--days", "2", "--members", "8", "--out", ens]
    code, out, err = call(capsys, *words, "--keep", keep, "--workers", "0", "--keep-members", "0:3")
    assert code == 0, err
    assert out == f"{ens}\n"
    assert "z500: the file in m was brought to the surrogate's m**2 s**-2: times 9.80665" in err
    ds = xr.open_zarr(ens)
    assert ds.sizes["time"] == 8
    assert ds.t2m_threshold.values == 300
    assert ds["quantile"].values.tolist() == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert ds.lat.values[0] > ds.lat.values[-1]  # the file's own order
    assert ds.lon.values[0] == -180
    assert ds.z500_mean.attrs["units"] == "m**2 s**-2"
    page = folder / "report.html"
    code, out, err = call(capsys, "verify", ens, folder / "era5.nc", "--variables", "z500,t2m", "--draws", "10", "--report", page)
    assert code == 0, err
    assert "z500 is compared with geopotential@level=500" in err
    assert "z500 (m2 s-2)" in out
    assert page.stat().st_size > 10000
    code, out, err = call(capsys, "track", ens, "--out", folder / "tracks.csv")
    assert code == 0, err
    assert (folder / "tracks.csv").exists()


def test_a_store_of_statistics_is_tracked_by_its_mean_and_says_so(surrogate, folder, capsys):
    ens = folder / "stats.zarr"
    words = [
        "forecast",
        surrogate,
        folder / "era5.nc",
        "--days",
        "1",
        "--members",
        "3",
        "--out",
        ens,
        "--keep",
        "mean,std",
        "--workers",
        "0",
    ]
    assert call(capsys, *words)[0] == 0
    code, _, err = call(capsys, "track", ens, "--out", folder / "mean.csv")
    assert code == 0, err
    assert "only statistics were kept: the tracks are those of the ensemble mean" in err


def test_the_forecast_is_that_of_the_other_file(surrogate, folder, capsys):
    for name in ("era5", "cmip"):
        out = folder / f"{name}_forecast.nc"
        code, _, err = call(capsys, "forecast", surrogate, folder / f"{name}.nc", "--days", "0.5", "--out", out)
        assert code == 0, err
    a, b = xr.load_dataset(folder / "era5_forecast.nc"), xr.load_dataset(folder / "cmip_forecast.nc")
    b = b.rename(lat="latitude", lon="longitude").sortby("latitude")
    b = b.assign_coords(longitude=b.longitude % 360).sortby("longitude")
    for name, tolerance in (("z500", 0.02), ("t850", 1e-4), ("t2m", 1e-4), ("msl", 0.05)):
        np.testing.assert_allclose(a[name].values, b[name].values, atol=tolerance, rtol=0)


def test_evaluate_reads_the_other_file(surrogate, folder, capsys):
    code, _, err = call(capsys, "evaluate", surrogate, folder / "cmip.nc", "--no-timing")
    if "No such option" in err or "no such option" in err.lower():
        code, _, err = call(capsys, "evaluate", surrogate, folder / "cmip.nc")
    assert code == 0, err


def test_an_initial_state_far_from_the_training_is_named_with_its_distance(surrogate, folder, capsys):
    hot = weather(2)
    hot["t850"] = (hot.t.sel(level=850, drop=True) + 60).assign_attrs(units="K")
    hot.to_netcdf(folder / "hot.nc", engine="h5netcdf")
    code, _, err = call(capsys, "forecast", surrogate, folder / "hot.nc", "--steps", "1", "--out", folder / "hot_forecast.nc")
    assert code == 0
    line = next(text for text in err.splitlines() if text.startswith("warning"))
    assert "the initial state lies outside the training climate: t850 reaches" in line
    assert "alone t850" in line


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("--days", "0.3"), "a multiple of the surrogate's step, 6h, got 0.3 days", "--days 0.25"),
        (("--days", "0"), "a multiple", "--days 0.25"),
        (("--days", "1", "--steps", "4"), "one of them, got both", "--days 10"),
        ((), "one of them, got neither", "--days 10"),
        (("--days", "1", "--members", "0"), "members", "leave it out"),
        (("--days", "1", "--members", "4", "--keep", "exceedance(t3m>300K)"), "a variable that is predicted", "'t2m'"),
        (("--days", "1", "--members", "4", "--keep", "exceedance(t2m>300Pa)"), "'Pa' for t2m in 'K'", "K"),
        (("--days", "1", "--members", "4", "--keep", "exceedance(t2m<300K)"), "NAME>VALUE", "1 less that above"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(surrogate, folder, capsys, words, said, hint):
    code, _, err = call(capsys, "forecast", surrogate, folder / "era5.nc", "--out", folder / "no.zarr", *words)
    assert code == 2
    lines = [text for text in err.splitlines() if text.strip()]
    assert said in lines[0]
    assert hint in lines[1]
    assert "Traceback" not in err


def test_thresholds_are_converted_and_named_as_the_output():
    outputs = (Variable("2m_temperature", "K"), Variable("msl", "Pa"))
    found = kept("exceedance(t2m>27degC,msl>1010hPa),above(2m_temperature=250)", None, outputs).above
    assert found == (("2m_temperature", 300.15), ("msl", 101000.0), ("2m_temperature", 250.0))


def test_days_in_steps():
    assert steps_of(None, 10, "6h") == 40
    assert steps_of(None, 10, "24h") == 10
    assert steps_of(7, None, "1month") == 7
    with pytest.raises(UsageError, match="steps of 1month"):
        steps_of(None, 30, "1month")


def test_only_names_are_gathered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    rest = ["--lead", "6h", "x"]
    assert gathered(["fit", "a.nc", "-i", "u", "v", *rest]) == ["fit", "a.nc", "-i", "u", "-i", "v", *rest]
    assert gathered(["fit", "--inputs", "u", "a.nc", "--outputs=u", "b"]) == [
        "fit",
        "--inputs",
        "u",
        "a.nc",
        "--outputs=u",
        "--outputs",
        "b",
    ]
    for path in ("a.nc", "d/a", "*.nc", "there", "store.zarr"):
        assert gathered(["fit", "-i", "u", path]) == ["fit", "-i", "u", path]
    assert gathered(["predict", "--inputs", "u", "v"]) == ["predict", "--inputs", "u", "v"]
    assert gathered([]) == []


def test_windows_across_the_seam(folder, capsys):
    from anygrid.cli.fitting import opened

    got = opened((str(folder / "era5.nc"),), ("longitude=-45:30",))
    assert got.longitude.values.tolist() == [-45, -30, -15, 0, 15, 30]
    whole = xr.open_dataset(folder / "era5.nc")
    np.testing.assert_array_equal(got["2m_temperature"].sel(longitude=-45), whole["2m_temperature"].sel(longitude=315))
    whole.isel(longitude=[22, 23, 0, 1, 2]).to_netcdf(folder / "seam.nc", engine="h5netcdf")
    assert opened((str(folder / "seam.nc"),), ()).longitude.values.tolist() == [-30, -15, 0, 15, 30]


def test_calendars_without_leap_days(tmp_path, capsys):
    ds = weather(12).isel(time=slice(0, 12))
    times = xr.date_range("2004-02-27", periods=12, freq="6h", calendar="noleap", use_cftime=True)
    ds.assign_coords(time=times).to_netcdf(tmp_path / "noleap.nc", engine="h5netcdf")
    rest = ("--inputs", "t2m", "--lead", "6h", *SMALL)
    words = ["fit", tmp_path / "noleap.nc", *rest, "--out", tmp_path / "n.anygrid", "--run", tmp_path / "r"]
    code, _, err = call(capsys, *words)
    assert code == 0, err
    assert "gaps" not in err
    out = tmp_path / "f.zarr"
    code, _, err = call(
        capsys, "forecast", tmp_path / "n.anygrid", tmp_path / "noleap.nc", "--select", "time=2004-02-28T18", "--days", "0.5", "--out", out
    )
    assert code == 0, err
    got = xr.open_zarr(out)
    assert [str(t) for t in got.time.values] == ["2004-03-01 00:00:00", "2004-03-01 06:00:00"]
    # On a standard calendar the same file lacks 29 February: a gap, and it is said.
    real = pd.DatetimeIndex([t for t in pd.date_range("2004-02-27", periods=16, freq="6h") if (t.month, t.day) != (2, 29)])
    ds.assign_coords(time=real).to_netcdf(tmp_path / "gap.nc", engine="h5netcdf")
    words = ["fit", tmp_path / "gap.nc", *rest, "--out", tmp_path / "g.anygrid", "--run", tmp_path / "s"]
    code, _, err = call(capsys, *words)
    assert code == 0, err
    assert "1 gaps in time, which no pair crosses" in err
