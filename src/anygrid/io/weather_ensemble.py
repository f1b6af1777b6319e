"""The numerical weather model's own ensemble: one state, perturbed many times, and how far the members are apart after days."""

from __future__ import annotations

import numpy as np
import xarray as xr

from anygrid.errors import UsageError
from anygrid.fields import grid_coordinates
from anygrid.problems.speedy import GRID, Speedy, perturbed
from anygrid.problems.speedy_engine import Engine, SpeedyState, shared_engine
from anygrid.problems.speedy_fields import FORCINGS, STATIC, diagnose, variable

__all__ = ["run_ensemble"]


def run_ensemble(
    problem: Speedy,
    state: SpeedyState,
    members: int,
    days: int,
    *,
    amplitude: float = 0.01,
    seed: int = 0,
    control: bool = False,
    engine: Engine | None = None,
) -> xr.Dataset:
    """Forecasts of the model from perturbed states: ``problem.variables`` as ``(member, time, lat, lon)``, every ``problem.dt``.

    The baseline of a perfect model: where ``state`` is that of a stored run (:func:`anygrid.io.weather_store.restart_from`), the run
    itself is the truth. The first time is that of ``state``; ``lead_time`` stands beside the time. Member k depends on ``seed`` and
    k alone.

    Parameters
    ----------
    amplitude
        Relative size of the noise in vorticity and temperature, see :func:`anygrid.problems.speedy.perturbed`.
    control
        Whether member 0 is the state itself, without noise.
    engine
        Process of the model with steps of ``problem.unit``; by default the one that this process shares.

    Raises
    ------
    UsageError
        For numbers out of range; when `jcm` is not installed.
    DataError
        When a member's fields stop being finite.
    """
    for name, value in (("members", members), ("days", days)):
        if value < 1:
            raise UsageError(f"run_ensemble({name}=...)", "a number of 1 or more", str(value))
    if days * 86400 % problem.dt:
        raise UsageError("run_ensemble", f"whole steps of {problem.dt:g} s", f"{days} days", "take a dt that divides a day")
    names = [name for name in problem.variables if name not in (*FORCINGS, *STATIC)]
    engine, each = engine or shared_engine(problem.unit), round(problem.dt) // problem.unit
    steps = round(days * 86400 / problem.dt)
    values = np.empty((members, steps + 1, len(names), *GRID.shape), dtype=np.float32)
    for k in range(members):
        begin = state if control and k == 0 else perturbed(state, amplitude, int(np.random.SeedSequence([seed, k]).generate_state(1)[0]))
        values[k, 0] = diagnose(names, engine.fields(begin), engine.constants()).numpy()
        found, _ = engine.advance(begin, steps * each)
        values[k, 1:] = diagnose(names, {n: v[each - 1 :: each] for n, v in found.items()}, engine.constants()).numpy()
    lead = np.arange(steps + 1) * np.timedelta64(round(problem.dt), "s")
    data = {}
    for c, name in enumerate(names):
        v = variable(name)
        attrs = {"units": v.units, "long_name": v.long_name, "standard_name": v.standard_name}
        data[name] = (("member", "time", *GRID.dims), values[:, :, c], attrs)
    coordinates = dict(grid_coordinates(GRID)) | {
        "member": ("member", np.arange(members), {"standard_name": "realization"}),
        "time": ("time", (state.time + lead).astype("datetime64[ns]"), {"standard_name": "time", "axis": "T"}),
        "lead_time": ("time", lead.astype("timedelta64[ns]"), {"standard_name": "forecast_period"}),
    }
    title = f"{members} forecasts of SPEEDY (jcm) from {state.time}"
    made = {"title": title, "amplitude": amplitude, "seed": seed, "control": int(control)}
    return xr.Dataset(data, coordinates, {"Conventions": "CF-1.11", **made})
