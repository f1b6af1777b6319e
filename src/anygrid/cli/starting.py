"""The initial state of `anygrid forecast`: under the surrogate's names and units, and beside what the surrogate has seen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import xarray as xr

from anygrid.fields.names import has_field

if TYPE_CHECKING:
    from anygrid.surrogate import Surrogate

__all__ = ["prepared"]


def prepared(
    model: Surrogate, data: xr.Dataset, start: str, forcings: xr.Dataset | None, member_dim: str | None
) -> tuple[xr.Dataset, xr.Dataset | None]:
    """Initial data and forcings with the surrogate's inputs in its names and units; says where the states to start from are far from it.

    Raises
    ------
    AnygridError
        As :func:`anygrid.surrogate.magnitudes.known_inputs` and :func:`anygrid.forecast.forecast`.
    """
    from anygrid.fields import adopt
    from anygrid.surrogate.magnitudes import known_inputs

    state = {v.name for v in model.outputs}
    given = [] if forcings is None else [v for v in model.inputs if v.name not in state and has_field(forcings, v.name)]
    if forcings is not None and given:
        forcings = adopt(forcings, given, "forcings")
    elsewhere = {v.name for v in given}
    # What is neither here nor there may be computed from the clock; the forecast says so if it cannot be.
    here = [v for v in model.inputs if v.name not in elsewhere and (v.name in state or has_field(data, v.name))]
    data = known_inputs(model, data, "forecast", here)
    _judge(model, data if member_dim not in data.dims else data.isel({member_dim: 0}), start, {v.name for v in here})
    return data, forcings


def _judge(model: Surrogate, data: xr.Dataset, start: str, here: set[str]) -> None:
    """One line on stderr for initial states outside what the surrogate was trained on."""
    from anygrid.forecast.start import find_start

    places = [k for k, v in enumerate(model.inputs) if v.name in here]
    if model.seen is None or not places:
        return
    elsewhere = [v.name for v in model.inputs if v.name not in here]
    begin = find_start(data, model.inputs, model.outputs, elsewhere, model.grid, start)  # type: ignore[arg-type]
    chosen = tuple(model.inputs[k] for k in places)
    a = begin.tensor(chosen)
    whole = [k for k in range(len(chosen)) if bool(a[:, k].isfinite().all())]
    seen = model.seen.only([places[k] for k in whole])
    reasons = seen.outside(a[:, whole], begin.grid, tuple(chosen[k].name for k in whole))
    flagged = [k for k, found in enumerate(reasons) if found]
    if flagged:
        count = f"{len(flagged)} of {len(reasons)} initial states lie" if len(reasons) > 1 else "the initial state lies"
        print(f"warning: {count} outside the training climate: {'; '.join(reasons[flagged[0]])}", file=sys.stderr)
