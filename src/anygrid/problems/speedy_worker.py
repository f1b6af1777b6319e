"""The process that holds `jcm`: ``python -m anygrid.problems.speedy_worker``, driven by :class:`anygrid.problems.speedy_engine.Engine`.

It reads requests from its standard input and writes answers to what was its standard output; whatever libraries print goes to the
standard error. It imports neither torch nor xarray's part of anygrid. The clock of a state is its time alone: the number of the model's
step and its own counter of elapsed time are derived from it, so that a run in pieces is the run in one.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from anygrid.problems.engine_messages import Arrays, receive, send

__all__ = ["main"]

STEP = 1800  # seconds of the model's own step
_BOUNDARY = {30: "data/bc/t30/clim", 63: "data/bc/t63"}
_TRIANGLE = {30: 31, 63: 63}  # jcm's own names
_DYNAMICS = ("vorticity", "divergence", "temperature_variation", "log_surface_pressure")
_LEVELS = {"u_wind": "u", "v_wind": "v", "temperature": "t", "specific_humidity": "q", "geopotential": "z"}


class _Jcm:
    """`jcm` at T30 or T63 with eight levels and its own climatological boundary data; ``unit`` seconds in one compiled call."""

    def __init__(self, unit: int, truncation: int) -> None:
        import jax
        from dinosaur.scales import units
        from jcm.forcing import ForcingData
        from jcm.model import Model
        from jcm.physics.speedy.speedy_coords import get_speedy_coords
        from jcm.physics_interface import verify_state
        from jcm.terrain import TerrainData

        cache = os.environ.get("ANYGRID_JAX_CACHE", "")
        if cache:
            jax.config.update("jax_compilation_cache_dir", cache)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)
        folder = importlib.resources.files("jcm") / _BOUNDARY[truncation]
        coords = get_speedy_coords(spectral_truncation=_TRIANGLE[truncation])
        self.unit, self.coords = unit, coords
        self.terrain = TerrainData.from_file(str(folder / "terrain.nc"), coords=coords)
        self.forcing = ForcingData.from_file(str(folder / "forcing.nc"), coords=coords)
        self.model = Model(coords=coords, terrain=self.terrain, start_time="2000-01-01")
        self.fields = jax.jit(lambda state: verify_state(self.model.dycore.to_physics_state(state)))
        self.carry = self.model.initial_physics_carry()
        primitive = self.model.dycore.primitive
        self.reference = np.asarray(primitive.reference_temperature, dtype=np.float32)[:, None, None]
        self.rate = np.float32(primitive.physics_specs.dimensionalize(1.0, 1 / units.second).magnitude)

    def about(self, words: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """What does not change: levels, mountains, the mask, and the boundary data of every day of a year without leap day."""
        constant = {"land_sea_mask": self.terrain.fmask, "orography": self.terrain.orog}
        daily = {"sst": self.forcing.sea_surface_temperature.values, "siconc": self.forcing.sice_am.values}
        boundaries = np.asarray(self.coords.vertical.boundaries, dtype=np.float64)
        fields = {name: _latlon(value) for name, value in (constant | daily).items()}
        return {}, fields | {"sigma": 0.5 * (boundaries[1:] + boundaries[:-1])}

    def rest(self, words: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """Isothermal air at rest, with a little noise in the surface pressure that ``seed`` decides."""
        state = self.model.dycore.initial_state(None, random_seed=int(words["seed"]))
        return {}, self._arrays(state, _flux(self.carry))

    def spread(self, words: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """The spectral fields of a state on the grid, none of them lost: vorticity and divergence rather than wind, humidity as it is."""
        state, _ = self._state(arrays)
        grid = self.coords.horizontal.to_nodal
        found = {
            "vo": grid(state.vorticity) * self.rate,
            "d": grid(state.divergence) * self.rate,
            "t": grid(state.temperature_variation) + self.reference,
            "q": grid(state.tracers["specific_humidity"]),
            "ps": np.exp(np.asarray(grid(state.log_surface_pressure))[0]) * 1e5,
        }
        return {}, {name: _latlon(values) for name, values in found.items()} | {"flux": _latlon(arrays["longwave_flux"])}

    def compose(self, words: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """Inverse of :meth:`spread`."""
        vo, d, t, q, ps, flux = (_latlon(arrays[name]) for name in ("vo", "d", "t", "q", "ps", "flux"))
        modal = self.coords.horizontal.to_modal
        found = {
            "vorticity": modal(vo / self.rate),
            "divergence": modal(d / self.rate),
            "temperature_variation": modal(t - self.reference),
            "specific_humidity": modal(q),
            "log_surface_pressure": modal(np.log(ps / 1e5)[None]),
        }
        return {}, {name: np.asarray(values, dtype=np.float32) for name, values in found.items()} | {"longwave_flux": flux}

    def project(self, words: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """Fields of a state on its levels."""
        state, _ = self._state(arrays)
        return {}, _frame(self.fields(state))

    def advance(self, words: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """``calls`` times ``unit`` seconds on: the fields after each call, and the last state."""
        import jax
        import jax.numpy as jnp
        import jax_datetime as jdt

        state, carry = self._state(arrays)
        seconds, frames = int(words["time"]), []
        for _ in range(int(words["calls"])):
            days, rest = divmod(seconds, 86400)
            time = jdt.Datetime(jdt.Timedelta(days=jnp.asarray(days, jnp.int32), seconds=jnp.asarray(rest, jnp.int32)))
            state = self.model.dycore.with_sim_time(state, jnp.zeros_like(state.sim_time))
            run, predictions = self.model.run_from_state_with_carry(
                initial_state=state,
                forcing=self.forcing,
                save_interval=f"{self.unit} seconds",
                total_time=f"{self.unit} seconds",
                initial_physics_state=carry,
                initial_time=time,
                initial_step=jnp.asarray(rest // STEP, jnp.int32),
            )
            state, carry = run.dynamics, run.physics
            frames.append(jax.tree_util.tree_map(lambda x: x[0], predictions.dynamics))
            seconds += self.unit
        shown = [_frame(frame) for frame in frames] if words["keep"] == "all" else [_frame(frames[-1])]
        stacked = {name: np.stack([one[name] for one in shown]) for name in shown[0]}
        return {}, stacked | {f"state.{name}": values for name, values in self._arrays(state, _flux(carry)).items()}

    def _arrays(self, state: Any, flux: Any) -> Arrays:
        found = {name: np.asarray(getattr(state, name)) for name in _DYNAMICS}
        return found | {"specific_humidity": np.asarray(state.tracers["specific_humidity"]), "longwave_flux": np.asarray(flux)}

    def _state(self, arrays: Arrays) -> tuple[Any, Any]:
        import jax.numpy as jnp

        humidity = {"specific_humidity": jnp.asarray(arrays["specific_humidity"])}
        state = self.model.dycore.initial_state(None)
        state = state.replace(**{name: jnp.asarray(arrays[name]) for name in _DYNAMICS}, tracers=humidity)
        radiation = self.carry["_mod_radcon"].copy(flux=jnp.moveaxis(jnp.asarray(arrays["longwave_flux"]), 0, -1))
        return state, {**self.carry, "_mod_radcon": radiation}


def _flux(carry: Any) -> NDArray[np.float32]:
    """Long-wave flux by spectral band.

    Of all that the physics carries from step to step this alone is read before it is made anew, when a call begins on a multiple of three
    steps, the interval of its short-wave radiation.
    """
    return np.ascontiguousarray(np.moveaxis(np.asarray(carry["_mod_radcon"].flux), -1, 0))


def _latlon(values: Any) -> NDArray[np.float32]:
    """The last two axes, longitude and latitude, the other way round."""
    return np.ascontiguousarray(np.swapaxes(np.asarray(values, dtype=np.float32), -1, -2))


def _frame(state: Any) -> Arrays:
    fields = {short: _latlon(getattr(state, name)) for name, short in _LEVELS.items()}
    fields["ps"] = _latlon(np.asarray(state.normalized_surface_pressure) * np.float32(1e5))
    return fields


def _serve(requests: BufferedIOBase, answers: BufferedIOBase) -> None:
    engine: _Jcm | None = None
    while True:
        try:
            words, arrays = receive(requests)
        except EOFError:
            return
        try:
            engine = engine or _Jcm(int(words["unit"]), int(words["truncation"]))
            call: dict[str, Callable[..., Any]] = {
                "about": engine.about,
                "rest": engine.rest,
                "spread": engine.spread,
                "compose": engine.compose,
                "project": engine.project,
                "advance": engine.advance,
            }
            said, results = call[words["ask"]](words, arrays)
        except Exception as error:  # told to the other side, which raises it
            traceback.print_exc()
            said, results = {"error": f"{type(error).__name__}: {error}"[:500]}, {}
        send(answers, said, results)


def main() -> None:
    """Serve until the standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(cast(BufferedIOBase, sys.stdin.buffer), answers)


if __name__ == "__main__":
    main()
