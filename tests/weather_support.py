"""A stand-in for the weather model: small states, plausible fields, and every answer a function of the state and the clock alone."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from anygrid.grid import gaussian_latitudes
from anygrid.io import weather_ensemble, weather_store
from anygrid.problems.speedy_engine import Engine, SpeedyState

JCM = pytest.mark.skipif(find_spec("jcm") is None, reason="jcm is not installed: pip install 'anygrid[weather]'")
SIGMA = np.array([0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95])


class StandIn(Engine):
    """Without `jcm` and without a process."""

    def __init__(self, unit: int = 21600) -> None:
        self.unit = unit

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def constants(self):
        sst = 273 + 25 * np.cos(np.deg2rad(gaussian_latitudes(48)[0]))[None, :, None] * np.ones((365, 1, 96))
        flat = np.zeros((48, 96), np.float32)
        day = np.arange(365)[:, None, None] / 365
        return {"sigma": SIGMA, "land_sea_mask": flat, "orography": flat, "sst": (sst + day).astype(np.float32)}

    def rest(self, time, seed=0):
        return SpeedyState(time, {"vorticity": np.random.default_rng(seed).standard_normal((8, 3, 4)).astype(np.float32)})

    def fields(self, state):
        x = float(state.arrays["vorticity"].sum())
        lat, lon = np.deg2rad(gaussian_latitudes(48)[0])[:, None], np.deg2rad(np.arange(96) * 3.75)
        wave = np.cos(lat) * np.cos(2 * lon + x)
        ps = 1e5 + 1000 * wave
        t = 250 + 40 * (SIGMA[:, None, None] - 0.5) + wave
        z = -287.04 * 260 * np.log(SIGMA)[:, None, None] + 0 * wave
        found = {"u": 10 * wave + 0 * t, "v": -5 * wave + 0 * t, "t": t, "q": 1e-3 + 0 * t, "z": z, "ps": ps}
        return {name: np.asarray(values, np.float32) for name, values in found.items()}

    def advance(self, state, calls, keep="all"):
        frames = []
        for _ in range(calls):
            new = (1.01 * state.arrays["vorticity"] + 0.1).astype(np.float32)
            state = SpeedyState(state.time + np.timedelta64(self.unit, "s"), {"vorticity": np.sin(new)})
            frames.append(self.fields(state))
        shown = frames if keep == "all" else frames[-1:]
        return {name: np.stack([frame[name] for frame in shown]) for name in shown[0]}, state


def without_process(monkeypatch):
    """Let the functions that run the model use the stand-in."""
    monkeypatch.setattr(weather_store, "Engine", StandIn)
    monkeypatch.setattr(weather_store, "jcm_version", lambda: "stand-in")
    monkeypatch.setattr(weather_ensemble, "shared_engine", StandIn)
