r"""Sunlight at the top of the atmosphere as an input of a forecast: computed at every valid time, never stored.

.. math:: f(t, x) = \frac{S}{h} \int_{t - h}^{t} \frac{Q(t', x)}{S_0}\, dt'

with the insolation :math:`Q` of :func:`anygrid.numerics.insolation.insolation`. Which mean over how many hours a data set holds, and with
which solar constant (or, for energies, constant times seconds), is recognised from the values it has at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.fields import Variable
from anygrid.grid import Grid, Sphere
from anygrid.numerics.insolation import daily_insolation, insolation

__all__ = ["Sunlight", "is_sunlight", "recognise"]

_NAMES = ("toa_radiation", "tisr", "toa_incident_solar_radiation")
_WINDOWS = (24.0, 1.0, 6.0, 0.0, 3.0, 12.0)  # hours; the mean of the day first, which the poles alone tell from that of 24 hours
_AGREES = 0.02  # of the field's size: reanalyses vary their solar constant by 0.1 %, and round
_EACH = 4  # moments an hour; the error of the midpoint rule is below 0.3 % of the field


@dataclass(frozen=True)
class Sunlight:
    """Mean over the last ``hours`` (0: the moment; 24: of the day, by the declination of its moment) times ``scale``.

    ``scale`` is the field where the sun stands overhead at its mean distance: the solar constant in W m-2, or an energy in J m-2.
    """

    hours: float
    scale: float

    def at(self, times: NDArray[Any], grid: Grid) -> Float[Tensor, "time *space"]:
        """The field at each of ``times``, float64, in the units of the data it was recognised in."""
        latitude, longitude = grid.points().unbind(-1)
        if self.hours == 24:
            return daily_insolation(times, latitude, self.scale)
        if self.hours == 0:
            return insolation(times, latitude, longitude, self.scale)
        count = round(_EACH * self.hours)
        back = -self.hours * 3600 * (np.arange(count) + 0.5) / count
        moments = times.astype("datetime64[s]")[:, None] + back.astype("timedelta64[s]")
        return insolation(moments.ravel(), latitude, longitude, self.scale).unflatten(0, (len(times), count)).mean(1)

    def __str__(self) -> str:
        window = {0.0: "of the moment", 24.0: "mean of the day"}.get(self.hours, f"mean of the last {self.hours:g} h")
        return f"{window}, {self.scale:.5g} overhead"


def is_sunlight(variable: Variable) -> bool:
    """Whether a variable is called like sunlight at the top of the atmosphere: by CF, ECMWF or WeatherBench."""
    base = variable.name.split("@")[0]
    return variable.standard_name == "toa_incoming_shortwave_flux" or base in _NAMES or base.startswith(_NAMES[2])


def recognise(values: Float[Tensor, "start *space"], times: NDArray[Any], grid: Grid) -> Sunlight | None:
    """The sunlight that agrees to 2 % (root mean square) with ``values`` at ``times``; None where none does, and off the sphere."""
    if not isinstance(grid, Sphere) or times.dtype.kind != "M":
        return None
    # Some starts tell as much as all of them.
    some = np.unique(np.linspace(0, len(times) - 1, 8).astype(int))
    truth = values[torch.from_numpy(some)].double()
    for hours in _WINDOWS:
        unit = Sunlight(hours, 1.0).at(times[some], grid)
        scale = float((unit * truth).sum() / unit.square().sum().clamp_min(1e-30))
        if scale > 0 and float((scale * unit - truth).norm()) <= _AGREES * float(truth.norm()):
            return Sunlight(hours, scale)
    return None
