"""fit_downscaling: from coarse global fields and fine regional ones of the same times to a map between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from anygrid.errors import DataError, UsageError, did_you_mean
from anygrid.fields import Layout, check_units, find_grid, find_layout, grid_coordinates, select, to_tensor, variables_of
from anygrid.grid import Box, Grid, Sphere
from anygrid.surrogate.downscaling import Downscaling, onto
from anygrid.training.arguments import Build
from anygrid.training.fit import fit
from anygrid.training.progress import Listener
from anygrid.training.settings import DEFAULTS

__all__ = ["fit_downscaling"]

_ROWS = 64  # fields interpolated at once
_LEAST = 4  # times from which something can be learned and something held out
_VALID, _ROW = "valid_time", "row"
_ADDED, _COARSE = "added_", "coarse_"


def fit_downscaling(
    fine: xr.Dataset,
    coarse: xr.Dataset,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    static: Sequence[str] = (),
    validation: float = DEFAULTS.validation,
    budget: float | str | None = None,
    steps: int | None = None,
    operator: nn.Module | Build | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    keep_best: bool = False,
    run: str | Path | None = None,
    listener: Listener | None = None,
) -> Downscaling:
    r"""Learn what fine data of a region add to coarse fields of the whole, at the same valid times.

    .. math:: u = I a + m + G_\theta(I a, s), \qquad m(x) = \frac{1}{N} \sum_{t \in \text{training}} \big(u - I a\big)(t, x)

    The mean departure :math:`m` is taken of the times that are not held out, and :math:`G_\theta` learns the rest; an operator of
    anygrid begins with :math:`G_\theta = 0`. The validation error in ``correction.record`` is relative to the departure from
    :math:`I a + m`: 1 is that, 0.7 has 30 % less error.

    Parameters
    ----------
    fine
        Fields of the region on its own grid, with a time coordinate. Anything that varies with the sample only in time.
    coarse
        Global fields at some of these times: analyses, or forecasts of the global model, by ``time`` or by start and lead with a
        coordinate ``valid_time``, as ``forecast(..., start="each")`` gives. What is learned belongs to them: trained on analyses it
        corrects no errors of forecasts, and trained on forecasts it corrects those of the leads that are there.
    inputs, outputs
        Names in ``coarse`` and in ``fine``. An output of an input's name is predicted as a departure from it; others from their own mean.
    static
        Names in ``fine`` of fields without time: mountains, coasts.
    validation
        Part of the times held out, the last.
    budget, steps, operator, batch, learning_rate, seed, keep_best, run, listener
        As for :func:`~anygrid.training.fit.fit`.

    Raises
    ------
    DataError
        For missing variables or times, NaN, other units, and no time in common.
    GridError
        When the region leaves the coarse fields.
    UsageError
        For an empty list of names.
    """
    for option, named in (("inputs", inputs), ("outputs", outputs)):
        if isinstance(named, str) or not named:
            raise UsageError(f"fit_downscaling({option})", "a list of variable names", repr(named), f"{option}=('t2m',)")
    given, wanted = variables_of(coarse, inputs), variables_of(fine, outputs)
    shared = [v for v in wanted if v.name in inputs]
    if shared:
        check_units(coarse, shared, "fit_downscaling: coarse data")
    rows, times = _by_time(coarse, inputs)
    layout, region = _region(fine, outputs)
    here, there = _matched(times, fine, layout)
    truth = to_tensor(select(fine, outputs).isel({str(layout.time): there}), wanted, layout, region)
    roles = find_layout(rows, inputs, samples=[_ROW])
    source, _ = find_grid(rows, inputs, roles)
    found = to_tensor(rows.isel({_ROW: here}), given, roles, source)
    base = torch.cat([onto(part, source, region) for part in found.split(_ROWS)])
    fixed = _static(fine, static, layout, region)
    for k, v in enumerate(wanted):
        if v.name in inputs:
            truth[:, k] -= base[:, list(inputs).index(v.name)]
    mean = truth[: _known(len(truth), validation)].double().mean(0).float()
    truth -= mean
    dims = ("time", *region.dims)
    fields: dict[str, Any] = {f"{_COARSE}{v.name}": (dims, base[:, k].numpy(), {"units": v.units}) for k, v in enumerate(given)}
    fields |= {name: (region.dims, values.numpy()) for name, values in zip(static, fixed, strict=True)}
    fields |= {f"{_ADDED}{v.name}": (dims, truth[:, k].numpy(), {"units": v.units}) for k, v in enumerate(wanted)}
    data = xr.Dataset(fields, {**grid_coordinates(region), "time": times[here]})
    correction = fit(
        data,
        [*(f"{_COARSE}{v.name}" for v in given), *static],
        [f"{_ADDED}{v.name}" for v in wanted],
        layout=Layout((), "time", region.dims),
        validation=validation,
        budget=budget,
        steps=steps,
        operator=operator if isinstance(operator, nn.Module) else _from_zero(operator),
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        keep_best=keep_best,
        run=run,
        listener=listener,
    )
    facts = {"times": len(here), "first": str(times[here].min()), "last": str(times[here].max())}
    facts |= {"coarse": str(coarse.encoding.get("source", "")), "fine": str(fine.encoding.get("source", ""))}
    facts |= {"coarse grid": "x".join(map(str, source.shape)), "leads": "valid_time" in coarse.coords}
    return Downscaling(correction, given, wanted, fixed, mean, facts)


def _known(rows: int, validation: float) -> int:
    """Rows that ``fit`` does not hold out of ``rows`` in order of time: what it refuses is left to it."""
    return rows - max(1, round(validation * rows)) if 0 < validation < 1 else rows


def _from_zero(build: Build | None) -> Build:
    """A function that builds the same operator, whose last linear map is zero: before training it adds nothing."""

    def silent(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        from anygrid.operators import OPERATORS, default_operator  # late, as in fit

        operator = (build or default_operator)(inputs, outputs, grid)
        if isinstance(operator, tuple(OPERATORS)):  # of others it is not known which map is the last
            last = [m for m in operator.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)][-1]
            with torch.no_grad():
                for parameter in last.parameters():
                    parameter.zero_()
        return operator

    return silent


def _by_time(coarse: xr.Dataset, names: Sequence[str]) -> tuple[xr.Dataset, NDArray[Any]]:
    """The named fields with one dimension of rows, and the valid time of each row."""
    data = select(coarse, names)
    if _VALID in coarse.coords and coarse[_VALID].ndim == 2:
        dims = tuple(map(str, coarse[_VALID].dims))
        rows = data.drop_vars([c for c in data.coords if set(data[c].dims) & set(dims)]).stack({_ROW: dims}, create_index=False)
        return rows.transpose(_ROW, ...), _clock(coarse[_VALID].values.ravel())
    time = find_layout(data, names).time
    if time is None or time not in coarse.coords:
        hint = "give fields with a time coordinate, or forecasts with start and lead and a coordinate valid_time"
        raise DataError("fit_downscaling: coarse data", "a time for every field", "none", hint)
    return data.rename_dims({time: _ROW}).drop_vars(time), _clock(coarse[time].values)


def _region(fine: xr.Dataset, names: Sequence[str]) -> tuple[Layout, Grid]:
    """Roles of the dimensions of the fine data, and their grid."""
    layout = find_layout(fine, names)
    if layout.samples or layout.time is None or layout.time not in fine.coords:
        found = f"samples {', '.join(layout.samples)}" if layout.samples else "no time coordinate"
        raise DataError("fit_downscaling: fine data", "fields by time alone", found, "take one member, and give the times as a coordinate")
    region, _ = find_grid(fine, names, layout)
    if not isinstance(region, Box | Sphere):
        raise DataError("fit_downscaling: fine data", "fields on a grid", "scattered points", "a downscaling to stations is not there yet")
    return layout, region


def _matched(times: NDArray[Any], fine: xr.Dataset, layout: Layout) -> tuple[list[int], list[int]]:
    """Rows of the coarse data and times of the fine ones that belong together, in order of time."""
    place = {t: k for k, t in enumerate(_clock(fine[str(layout.time)].values).tolist())}
    pairs = sorted((place[t], k) for k, t in enumerate(times.tolist()) if t in place)
    if len(pairs) < _LEAST:
        ends = [f"{t[0]} to {t[-1]}" for t in (times, np.asarray(fine[str(layout.time)].values)) if len(t)]
        hint = "the coarse fields must be valid at times of the fine ones"
        raise DataError("fit_downscaling", f"{_LEAST} or more times in common", f"{len(pairs)} (coarse and fine: {'; '.join(ends)})", hint)
    return [k for _, k in pairs], [k for k, _ in pairs]


def _static(fine: xr.Dataset, names: Sequence[str], layout: Layout, region: Grid) -> Tensor:
    """Fields without time, ``(fields, *region)``."""
    if not names:
        return torch.zeros(0, *region.shape)
    data = select(fine, names)
    moving = [str(n) for n in names if set(data[n].dims) != set(layout.space)]
    if moving:
        still = [str(n) for n, v in fine.data_vars.items() if set(v.dims) == set(layout.space)]
        raise DataError("fit_downscaling: static", "fields of space alone", moving[0], did_you_mean(moving[0], still))
    return to_tensor(data, variables_of(fine, names), Layout((), None, layout.space), region)[0]


def _clock(values: NDArray[Any]) -> NDArray[Any]:
    """Times that compare: dates in one unit."""
    return values.astype("datetime64[ns]") if values.dtype.kind == "M" else values
