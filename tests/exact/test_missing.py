"""Missing values of an input: the continuation is harmonic, and what comes and goes is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import anygrid
from anygrid.errors import DataError
from anygrid.fields.missing import harmonic_fill
from anygrid.io.pairs import Pairs
from anygrid.operators import default_operator
from anygrid.surrogate import read_surrogate


def test_a_linear_field_is_continued_exactly() -> None:
    y, x = np.mgrid[0:12, 0:15].astype(float)
    truth = np.stack([2 * y - 3 * x + 1, x * y, y**2 - x**2])  # harmonic on the lattice, all three
    holes = truth.copy()
    holes[:, 3:8, 4:11] = np.nan
    holes[:, 9, 2] = np.nan
    np.testing.assert_allclose(harmonic_fill(holes, (False, False)), truth, atol=1e-11)


def test_ends_are_natural_and_periodic_axes_close() -> None:
    row = np.array([[[np.nan, np.nan, 1.0, 5.0, np.nan]]])
    np.testing.assert_allclose(harmonic_fill(row, (False, False))[0, 0], [1, 1, 1, 5, 5])
    # Around the end: from 5 over three missing points to 1 in equal steps.
    np.testing.assert_allclose(harmonic_fill(row, (False, True))[0, 0], [3, 2, 1, 5, 4])


def test_filled_values_lie_between_the_known_ones() -> None:
    generator = np.random.default_rng(0)
    field = generator.normal(size=(3, 20, 30))
    known = field.copy()
    known[:, generator.random((20, 30)) < 0.7] = np.nan
    full = harmonic_fill(known, (False, True))
    assert np.isfinite(full).all()
    np.testing.assert_array_equal(full[~np.isnan(known)], known[~np.isnan(known)])
    assert (full.max((1, 2)) <= np.nanmax(known, (1, 2)) + 1e-12).all()
    assert (full.min((1, 2)) >= np.nanmin(known, (1, 2)) - 1e-12).all()


@pytest.mark.parametrize("what", ["another place", "nothing"])
def test_what_cannot_be_filled_is_refused(what: str) -> None:
    field = np.ones((3, 4, 5))
    field[:, 1, 1] = np.nan
    if what == "nothing":
        field[:] = np.nan
    else:
        field[2, 3, 3] = np.nan
    with pytest.raises(DataError, match="same places at all times"):
        harmonic_fill(field, (False, False))


def sea(times: int = 24) -> xr.Dataset:
    """A state that follows a temperature of the sea, which is missing on land."""
    lat, lon = np.linspace(-82.5, 82.5, 12), np.arange(0, 360, 15.0)
    phase = np.linspace(0, 4, times)[:, None, None]
    sst = 290 + 8 * np.cos(np.deg2rad(lat))[:, None] * np.cos(np.deg2rad(lon) - phase)
    state = np.cumsum(0.1 * (sst - 290), 0)
    land = (np.abs(lat - 30)[:, None] < 25) & (np.abs(lon - 90) < 50)
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    dims = ("time", "lat", "lon")
    return xr.Dataset({"u": (dims, state, {"units": "K"}), "sst": (dims, np.where(land, np.nan, sst), {"units": "K"})}, coords)


def test_a_masked_input_goes_through_training_prediction_and_forecast(tmp_path: Path) -> None:
    ds = sea()
    surrogate = anygrid.fit(
        ds, ["u", "sst"], ["u"], lead="6h", steps=3, operator=lambda i, o, g: default_operator(i, o, g, width=8, depth=1), seed=1
    )
    assert [v.masked for v in surrogate.inputs] == [False, True]
    assert any("sst: missing" in note for note in surrogate.record["inferred"])
    surrogate.save(tmp_path / "s.anygrid")
    surrogate = read_surrogate(tmp_path / "s.anygrid")
    whole = ds.copy()
    whole["sst"] = (ds.sst.dims, harmonic_fill(ds.sst.values, (False, True)), ds.sst.attrs)
    xr.testing.assert_allclose(surrogate.predict(ds), surrogate.predict(whole))
    streamed = Pairs(ds.chunk(time=5), ["u", "sst"], ["u"], lead="6h", memory_limit=1)
    kept = Pairs(ds, ["u", "sst"], ["u"], lead="6h")
    np.testing.assert_array_equal(streamed.batch(np.arange(20))[0], kept.batch(np.arange(20))[0])


def test_a_state_with_missing_values_is_still_refused() -> None:
    ds = sea().rename(u="v", sst="u").rename(v="sst")
    with pytest.raises(DataError, match="the same places are always missing"):
        Pairs(ds, ["u"], ["u"], lead="6h")
