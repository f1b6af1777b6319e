"""The seam statistic never decides wrongly on random fields of known topology; where it cannot tell, it asks."""

import numpy as np
import pytest
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields.periodicity import infer_periodic


def periodic(rng, n, s, slope=2.5, scale=7.0):
    k = np.fft.fftfreq(s, 1 / s)
    amplitude = (k[:, None] ** 2 + k[None] ** 2 + scale**2) ** (-slope / 2)
    noise = rng.standard_normal((n, s, s)) + 1j * rng.standard_normal((n, s, s))
    return np.fft.ifft2(noise * amplitude).real * s * s


def modes(rng, n, x, wave):
    y = np.linspace(0, 1, len(x))
    total = 0
    for p in range(1, 8):
        for q in range(1, 8):
            total = (
                total + rng.standard_normal((n, 1, 1)) / (p * p + q * q) * wave(p * x)[None, :, None] * np.cos(np.pi * q * y)[None, None]
            )
    return total


CASES = {
    "periodic": (True, lambda r, n, s: periodic(r, n, s)),
    "periodic smooth": (True, lambda r, n, s: periodic(r, n, s, 4, 3)),
    "window": (False, lambda r, n, s: periodic(r, n, 4 * s)[:, :s, :s]),
    "half": (False, lambda r, n, s: periodic(r, n, 2 * s, 4, 3)[:, :s, :s]),
    "zero at both ends": (False, lambda r, n, s: modes(r, n, np.linspace(0, 1, s), lambda z: np.sin(np.pi * z))),
    "zero at both walls, cells": (False, lambda r, n, s: modes(r, n, (np.arange(s) + 0.5) / s, lambda z: np.sin(np.pi * z))),
    "no slope at the ends": (False, lambda r, n, s: modes(r, n, np.linspace(0, 1, s), lambda z: np.cos(np.pi * z))),
    "two materials": (False, lambda r, n, s: np.where(modes(r, n, np.linspace(0, 1, s), lambda z: np.cos(np.pi * z)) > 0, 12.0, 3.0)),
}
MUST_DECIDE = {"periodic smooth", "half", "zero at both ends", "no slope at the ends"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_the_answer_is_right_or_none(name, size):
    truth, make = CASES[name]
    for seed in range(3):
        for n in (1, 4, 32):
            u = make(np.random.default_rng([seed, n, size]), n, size)
            ds = xr.Dataset({"u": (("sample", "x", "y"), u)})
            try:
                answer, _ = infer_periodic(ds, "x", ("sample",))
            except DataError:
                assert not (name in MUST_DECIDE and size >= 32 and n >= 4), "clear case not decided"
                continue
            assert answer is truth


def test_a_repeated_end_is_found():
    u = periodic(np.random.default_rng(0), 8, 32)
    closed = np.concatenate([u, u[:, :1]], axis=1)
    with pytest.raises(DataError, match=r"repeated end: drop it with ds.isel\(x=slice\(None, -1\)\)"):
        infer_periodic(xr.Dataset({"u": (("sample", "x", "y"), closed)}), "x", ("sample",))


def test_one_bounded_variable_decides():
    rng = np.random.default_rng(0)
    ds = xr.Dataset(
        {
            "noise": (("sample", "x", "y"), rng.standard_normal((8, 32, 32))),
            "v": (("sample", "x", "y"), modes(rng, 8, np.linspace(0, 1, 32), lambda z: np.sin(np.pi * z))),
        }
    )
    answer, why = infer_periodic(ds, "x", ("sample",))
    assert answer is False
    assert "v is fixed at both ends" in why


def test_noise_and_constants_are_asked_about():
    rng = np.random.default_rng(0)
    for u in (rng.standard_normal((8, 32, 32)), np.ones((8, 32, 32)), np.full((8, 32, 32), np.nan)):
        with pytest.raises(DataError, match="--periodic x or --bounded x"):
            infer_periodic(xr.Dataset({"u": (("sample", "x", "y"), u)}), "x", ("sample",))
