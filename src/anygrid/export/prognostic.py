r"""A surrogate in the form in which pipelines such as earth2studio call weather models.

.. math:: (x, c) \mapsto (x', c'), \qquad c'_\mathrm{lead\_time} = c_\mathrm{lead\_time} + \Delta t

Their protocol, as of the releases in which a model takes a tensor and an ordered dictionary of coordinates
(``earth2studio.models.px.base.PrognosticModel``): ``input_coords()``, ``output_coords(input_coords)``, ``__call__(x, coords)`` and
``create_iterator(x, coords)``. Nothing of that package is imported. Its later development takes labelled arrays instead; for these,
``Surrogate.predict`` is the nearer form.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from anygrid.errors import DataError, GridError, UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.fields.conversions import Conversion, conversion
from anygrid.fields.names import quantity_of, table_entry
from anygrid.grid import Sphere
from anygrid.surrogate import Surrogate

__all__ = ["Coords", "Prognostic", "lexicon_name"]

Coords = OrderedDict[str, NDArray]
"""Coordinates of a tensor, one array a dimension, in order."""

State = Float[Tensor, "*free variable lat lon"]

_LEXICON = {"u10": "u10m", "v10": "v10m", "u100": "u100m", "v100": "v100m", "land_sea_mask": "lsm"}  # short name: theirs, where another
_ORDER = ("batch", "time", "lead_time", "variable", "lat", "lon")


def lexicon_name(name: str) -> str:
    """Name of a variable in earth2studio's vocabulary: ``z500``, ``u10m``, ``t2m``, ``msl``; others keep theirs."""
    q = quantity_of(name)
    short = {"gh": "z"}.get(q.name, q.name)
    return _LEXICON.get(short, short) if q.level is None else f"{short}{q.level:g}"


class Prognostic(nn.Module):
    """An evolution surrogate on latitudes and longitudes as a prognostic model.

    A field is in the units of the vocabulary: geopotential in m2 s-2, K, Pa, m s-1. Latitudes run from north to south, longitudes from 0
    east. The tensor is ``(batch, time, lead_time, variable, lat, lon)``; there is one input lead.

    Inputs that the surrogate does not predict (orography, forcings) are variables of the input as well. They come out as they went in, so
    that every state of the iterator is a whole input; a forcing that changes with time has to be written into ``x`` between the steps.

    Parameters
    ----------
    surrogate
        Trained with a lead of hours or days; every output must be an input.

    Raises
    ------
    UsageError
        For another surrogate.
    """

    inward: Tensor
    outward: Tensor

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        names = [v.name for v in surrogate.inputs]
        step = _duration(surrogate.dt)
        if step is None:
            raise UsageError("Prognostic", "a surrogate with a lead of hours or days", f"a lead of {surrogate.dt}", "fit it with --lead 6h")
        if not isinstance(surrogate.grid, Sphere):
            raise UsageError("Prognostic", "a surrogate on latitudes and longitudes", f"a {type(surrogate.grid).__name__}", "use predict")
        missing = [v.name for v in surrogate.outputs if v.name not in names]
        if missing:
            raise UsageError("Prognostic", f"outputs that are inputs too ({', '.join(names)})", ", ".join(missing), "use predict")
        self.surrogate = surrogate
        self.step = step
        self.variables = np.array([lexicon_name(name) for name in names])
        self._predicted = [names.index(v.name) for v in surrogate.outputs]
        pairs = [_conversions(v) for v in surrogate.inputs]
        for side, name in enumerate(("inward", "outward")):
            rows = [(pair[side].scale, pair[side].offset) for pair in pairs]
            self.register_buffer(name, torch.tensor(rows, dtype=torch.float32).T[..., None, None], persistent=False)

    def input_coords(self) -> Coords:
        """Coordinates of an input; the free dimensions ``batch`` and ``time`` are empty."""
        grid = cast(Sphere, self.surrogate.grid)
        lon = np.sort(np.round(grid.lon.coordinates() % 360, 9))
        return OrderedDict(
            batch=np.empty(0),
            time=np.empty(0),
            lead_time=np.array([np.timedelta64(0, "s")]),
            variable=self.variables.copy(),
            lat=grid.lat.coordinates()[::-1].copy(),
            lon=lon,
        )

    def output_coords(self, input_coords: Coords) -> Coords:
        """Coordinates of the output for an input: the same, one step later.

        Raises
        ------
        DataError
            For other dimensions, other variables, or more than one lead.
        GridError
            For other latitudes and longitudes; ``anygrid predict`` takes any resolution.
        """
        wanted = self.input_coords()
        if tuple(input_coords)[-4:] != _ORDER[2:] or not set(input_coords) <= set(_ORDER):
            raise DataError("Prognostic", f"dimensions {', '.join(_ORDER)}", ", ".join(input_coords), "transpose the tensor")
        given = [str(v) for v in input_coords["variable"]]
        if given != wanted["variable"].tolist():
            unknown = [v for v in given if v not in wanted["variable"]]
            hint = did_you_mean(unknown[0], wanted["variable"].tolist()) if unknown else "name them in that order"
            raise DataError("Prognostic variables", ", ".join(wanted["variable"]), ", ".join(given), hint)
        if len(input_coords["lead_time"]) != 1:
            raise DataError("Prognostic lead_time", "one input lead", str(len(input_coords["lead_time"])), "give the last one alone")
        for name in ("lat", "lon"):
            x, y = np.asarray(input_coords[name], dtype=np.float64), wanted[name]
            if x.shape != y.shape or np.abs(x - y).max() > 1e-3:
                said = [f"{v.size} from {v[0]:.6g} to {v[-1]:.6g}" for v in (y, x)] if x.size else [str(y.size), "none"]
                raise GridError(f"Prognostic {name}", said[0], said[1], "interpolate to the grid of input_coords() first")
        return OrderedDict({**input_coords, "lead_time": np.asarray(input_coords["lead_time"]) + self.step})

    @torch.inference_mode()
    def __call__(self, x: State, coords: Coords) -> tuple[State, Coords]:
        """One step.

        Raises
        ------
        DataError
            For coordinates that are not those of the tensor, and as :meth:`output_coords`.
        """
        after = self.output_coords(coords)
        sizes = tuple(len(values) for values in coords.values())
        if tuple(x.shape) != sizes:
            raise DataError("Prognostic", f"a tensor of shape {sizes}, as its coordinates say", str(tuple(x.shape)), "give both alike")
        grid = cast(Sphere, self.surrogate.grid)
        roll = int(np.argmin(grid.lon.coordinates() % 360))
        rows = x.flatten(0, x.ndim - 4)
        state = (rows * self.inward[0] + self.inward[1]).flip(-2).roll(roll, -1)
        u = self.surrogate(state, grid)
        state = state.index_copy(1, torch.tensor(self._predicted, device=x.device), u.to(state))
        new = state.roll(-roll, -1).flip(-2) * self.outward[0] + self.outward[1]
        # What is not predicted goes through untouched, to the last bit.
        kept = [k for k in range(rows.shape[1]) if k not in self._predicted]
        new[:, kept] = rows[:, kept]
        return new.reshape(x.shape), after

    def create_iterator(self, x: State, coords: Coords) -> Iterator[tuple[State, Coords]]:
        """The input itself, then one step after another without end."""
        self.output_coords(coords)
        yield x, coords.copy()
        while True:
            x, coords = self(x, coords)
            yield x, coords.copy()


def _conversions(v: Variable) -> tuple[Conversion, Conversion]:
    """From the units of the vocabulary to those of the surrogate, and back."""
    own = quantity_of(v.name, xr.DataArray(attrs={"units": v.units}))
    shared = quantity_of(lexicon_name(v.name))
    entry = table_entry(shared.name)
    if entry is None or not v.units or own.name not in {q.name for q in shared.kin}:
        return Conversion(), Conversion()
    convert = partial(conversion, v.name, where="Prognostic", source="the pipeline", target="the surrogate's")
    return convert(shared, entry.units, own, v.units), convert(own, v.units, shared, entry.units)


def _duration(dt: str | None) -> np.timedelta64 | None:
    """Step of fixed length; None for months, numbers without a unit, and steady maps."""
    if dt is None or not dt.strip()[-1:].isalpha():
        return None
    try:
        return np.timedelta64(round(pd.Timedelta(dt).total_seconds()), "s")
    except ValueError:
        return None
