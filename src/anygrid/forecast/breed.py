r"""Bred initial states: perturbations that have grown on the way to the start, as errors of an analysis have.

.. math:: d_{k+1} = \epsilon \frac{M(u_k + d_k) - M(u_k)}{\lVert M(u_k + d_k) - M(u_k) \rVert}, \qquad
          \lVert d \rVert^2 = \frac1C \sum_c \frac{\langle d_c^2 \rangle}{s_c^2},

along known states :math:`u_0, \dots, u_n`, from a smooth random :math:`d_0`. Members start from :math:`u_n \pm d_n`, in pairs. Source: Toth
and Kalnay, Mon. Wea. Rev. 125 (1997) 3297, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from anygrid.errors import DataError, UsageError
from anygrid.fields import Variable, adopt
from anygrid.forecast.perturb import Perturbation, default_length
from anygrid.forecast.start import find_start
from anygrid.grid import Grid
from anygrid.maps import Map

__all__ = ["breed"]


def breed(
    map_: Map,
    history: xr.Dataset,
    members: int,
    *,
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    deviation: Sequence[float],
    amplitude: float,
    seed: int = 0,
    domain: Grid | None = None,
) -> xr.Dataset:
    """The last state of ``history`` with ``members`` bred perturbations: initial data with a dimension ``member`` for ``ensemble``.

    Variables have the names and units of ``inputs`` in it, whatever the file calls them.

    Parameters
    ----------
    map_
        Advances a state by the distance between the times of ``history``.
    history
        Consecutive states, the last of which is the start; about ten cycles let the perturbations forget what they began as.
    deviation
        :math:`s_c` of each output, in its units; 0 leaves one out of the norm and unperturbed.
    amplitude
        :math:`\\epsilon`: size of the perturbation in units of ``deviation``.

    Raises
    ------
    UsageError
        For an odd number of members, or an amplitude that is not above 0.
    DataError
        For fewer than two times, uneven ones, and perturbations that vanish or do not stay finite.
    """
    if members < 2 or members % 2:
        raise UsageError("breed members", "an even number of 2 or more, because they come in pairs", str(members))
    if not 0 < amplitude < float("inf"):
        raise UsageError("breed amplitude", "a number above 0", f"{amplitude:g}", "for example 0.05 standard deviations")
    history = adopt(history, inputs, "breed")
    start = find_start(history, inputs, outputs, (), domain, "each")
    _check_times(start.times)
    grid, states = start.grid, start.inputs(inputs)
    names = [v.name for v in inputs]
    channels = [names.index(v.name) for v in outputs]
    scale = torch.tensor(deviation, dtype=torch.float32).view(-1, *(1,) * grid.ndim)
    inverse = torch.where(scale > 0, 1 / scale.clamp_min(1e-30), torch.zeros_like(scale))
    weights = grid.mean_weights().float()
    noise = Perturbation(tuple(deviation), default_length(grid))
    d = torch.stack([noise.field(grid, seed, k) for k in range(members // 2)]).float()

    def sized(d: torch.Tensor) -> torch.Tensor:
        squares = ((d * inverse).square() * weights).flatten(2).sum(2).sum(1) / int((scale > 0).sum())
        norm = squares.sqrt().view(-1, *(1,) * (d.ndim - 1))
        if not bool((torch.isfinite(norm) & (norm > 0)).all()):
            raise DataError("breed", "perturbations that stay finite and do not vanish", "others", "take another amplitude or history")
        return d * (amplitude / norm) * (scale > 0)

    d = sized(d)
    with torch.no_grad():
        for state in states[:-1]:
            rows = state.repeat(len(d) + 1, *(1,) * (state.ndim))
            rows[1:, channels] += d
            ahead = torch.cat([map_(row[None], grid) for row in rows])
            d = sized(ahead[1:] - ahead[:1])
    last = history.isel({start.layout.time: [-1]}) if start.layout.time else history
    parts = []
    for k, one in enumerate(x for pair in d for x in (pair, -pair)):
        # In the orientation of the data, whatever the order of the grid.
        frame = start.frame(one[None].expand(start.starts, *one.shape), outputs).isel({start.layout.time: [-1]})
        parts.append(
            last.assign({v.name: last[v.name] + frame[v.name].transpose(*last[v.name].dims).values for v in outputs}).expand_dims(
                member=[k]
            )
        )
    found = xr.concat(parts, "member", data_vars=[v.name for v in outputs], coords="minimal", compat="override")
    for v in outputs:
        found[v.name].attrs = dict(last[v.name].attrs)
    return found.assign_attrs(history.attrs | {"bred_cycles": len(states) - 1, "bred_amplitude": amplitude})


def _check_times(times: Sequence[object] | None) -> None:
    if times is None or len(times) < 2:
        raise DataError("breed history", "two or more states with times", "fewer", "give the states before the start as well")
    steps = np.diff(np.asarray(times))
    if not bool((steps == steps[0]).all()):
        raise DataError("breed history", "states one step of the map apart", "uneven times", "select them from gap-free data")
