"""Bred perturbations turn into the mode that grows fastest, and have the size that was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

from anygrid.errors import DataError, UsageError
from anygrid.fields import ConvertedWarning, Variable
from anygrid.forecast import breed, ensemble

U = (Variable("u", "K"),)


def growing(a: torch.Tensor, grid: object, /) -> torch.Tensor:
    """Wave 3 grows by 1.3 a step and moves by a quarter of its length, all other waves shrink."""
    spectrum = torch.fft.rfft(a.double())
    factor = torch.full((spectrum.shape[-1],), 0.7, dtype=torch.complex128)
    factor[3] = 1.3 * 1j
    return torch.fft.irfft(spectrum * factor, n=a.shape[-1]).float()


def history(times: int, points: int = 32, descending: bool = False) -> xr.Dataset:
    x = np.arange(points) / points
    state = torch.from_numpy(np.cos(2 * np.pi * x) + 0.3 * np.sin(6 * np.pi * x)).float()[None, None]
    rows = []
    for _ in range(times):
        rows.append(state[0, 0].numpy())
        state = growing(state, None)
    ds = xr.Dataset(
        {"u": (("time", "x"), np.stack(rows), {"units": "K"})},
        {"time": ("time", np.arange(times, dtype=float), {"units": "s"}), "x": ("x", x, {"units": "m", "periodic": 1})},
    )
    return ds.isel(x=slice(None, None, -1)) if descending else ds


@pytest.mark.parametrize("descending", [False, True])
def test_perturbations_become_the_growing_mode(descending: bool) -> None:
    ds = history(25, descending=descending)
    found = breed(growing, ds, 6, inputs=U, outputs=U, deviation=[2.0], amplitude=0.1)
    assert dict(found.sizes) == {"member": 6, "time": 1, "x": 32}
    d = (found.u - ds.u.isel(time=[-1])).isel(time=0).values
    np.testing.assert_allclose(np.sqrt((d**2).mean(1)), 0.2, rtol=1e-4)
    np.testing.assert_allclose(d[::2], -d[1::2], atol=1e-6)
    power = np.abs(np.fft.rfft(d)) ** 2
    assert (power[:, 3] > 0.9999 * power.sum(1)).all()
    assert found.time.values[0] == ds.time.values[-1]
    assert found.u.attrs["units"] == "K"


def test_units_and_the_order_of_dimensions_are_those_of_the_data() -> None:
    plain = history(6)
    words = {"inputs": U, "outputs": U, "deviation": [2.0], "amplitude": 0.1}
    milli = (1000 * plain).transpose("x", "time")
    milli["u"].attrs["units"] = "mK"
    with pytest.warns(ConvertedWarning, match="mK"):
        found = breed(growing, milli, 2, **words)
    wanted = breed(growing, plain, 2, **words)
    assert found.u.dims == ("member", "x", "time")
    np.testing.assert_allclose(found.u.transpose(*wanted.u.dims).values, wanted.u.values, rtol=1e-5, atol=1e-5)


def test_one_cycle_leaves_what_they_began_as() -> None:
    found = breed(growing, history(2), 2, inputs=U, outputs=U, deviation=[2.0], amplitude=0.1)
    power = np.abs(np.fft.rfft((found.u - history(2).u.isel(time=[-1])).isel(time=0).values)) ** 2
    assert (power[:, 3] < 0.99 * power.sum(1)).all()


def test_an_ensemble_goes_on_from_them() -> None:
    start = breed(growing, history(25), 4, inputs=U, outputs=U, deviation=[2.0], amplitude=0.1)
    found = ensemble(growing, start, 3, inputs=U, outputs=U, member_dim="member", dt=1.0, workers=0)
    spread = np.sqrt((found.u_std.values**2).mean(1))
    np.testing.assert_allclose(spread[1:] / spread[:-1], 1.3, rtol=1e-3)
    assert math.isclose(spread[0], 1.3 * 0.2 * math.sqrt(4 / 3), rel_tol=1e-3)


def test_what_cannot_be_bred_is_refused() -> None:
    words = {"inputs": U, "outputs": U, "deviation": [1.0]}
    with pytest.raises(UsageError, match="even number"):
        breed(growing, history(3), 3, amplitude=0.1, **words)
    with pytest.raises(UsageError, match="above 0"):
        breed(growing, history(3), 2, amplitude=0.0, **words)
    with pytest.raises(DataError, match="two or more states"):
        breed(growing, history(1), 2, amplitude=0.1, **words)
    with pytest.raises(DataError, match="uneven times"):
        breed(growing, history(5).isel(time=[0, 1, 3]), 2, amplitude=0.1, **words)
    with pytest.raises(DataError, match="do not vanish"):
        breed(lambda a, grid: torch.zeros_like(a), history(3), 2, amplitude=0.1, **words)
