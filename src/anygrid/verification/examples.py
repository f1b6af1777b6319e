"""Fields and station series that a report shows, of one start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import UsageError
from anygrid.fields.units import plain_units
from anygrid.grid import Box, Sphere
from anygrid.verification.known import Known, stamp, time_keys
from anygrid.verification.product import Channel, Product
from anygrid.verification.result import FieldMap, Plume

__all__ = ["field_maps", "plumes"]

_MAPS = 3  # channels that are drawn


def _shown(product: Product, known: Known, order: NDArray[np.int64]) -> int:
    """The last start with the most truths."""
    have = (known.rows(product.valid[order]) >= 0).sum(1)
    return int(order[np.flatnonzero(have == have.max())[-1]])


def _array(channel: Channel, statistic: str) -> bool:
    return statistic in channel.arrays


def field_maps(
    product: Product, channels: Sequence[Channel], known: Known, order: NDArray[np.int64], leads: Sequence[int]
) -> tuple[FieldMap, ...]:
    """Truth and forecast of up to three channels, at the middle one of some leads."""
    if len(product.grid.shape) != 2 or not isinstance(product.grid, Box | Sphere):
        return ()
    case = _shown(product, known, order)
    wanted = [k for k in leads if known.rows(product.valid[case, k : k + 1])[0] >= 0]
    if not wanted:
        return ()
    lead = wanted[min(len(wanted) // 2, len(wanted) - 1)]
    at, when = (slice(case, case + 1), slice(lead, lead + 1)), stamp(time_keys(product.valid[case, lead : lead + 1], False)[0])
    found = []
    for c in channels[:_MAPS]:
        truth = known.at(c.label, known.rows(product.valid[case : case + 1, lead]))[0]
        members = product.read(c.arrays[""], *at, product.member_dim)[:, 0, 0] if _array(c, "") and product.member_dim else None
        if members is None and not {"", "mean"} & set(c.arrays):
            continue
        mean = members.mean(0) if members is not None else product.read(c.arrays.get("", c.arrays.get("mean")), *at)[0, 0]  # type: ignore[arg-type]
        spread = members.std(0, ddof=1) if members is not None and len(members) > 1 else None
        spread = product.read(c.arrays["std"], *at)[0, 0] if spread is None and _array(c, "std") else spread
        x, y = (axis.coordinates() for axis in product.grid.axes)
        sphere = isinstance(product.grid, Sphere)
        found.append(FieldMap(c.label, plain_units(c.units), when, float(product.leads[lead]), (x, y), sphere, truth, mean, spread))
    return tuple(found)


def plumes(
    product: Product, channels: Sequence[Channel], known: Known, order: NDArray[np.int64], station: tuple[float, float]
) -> tuple[Plume, ...]:
    """Series at the grid point nearest to a station.

    Raises
    ------
    UsageError
        For a place outside the grid.
    """
    grid = product.grid
    if not isinstance(grid, Box | Sphere) or len(grid.shape) != 2:
        return ()
    index = []
    for k, (axis, wanted) in enumerate(zip(grid.axes, station, strict=True)):
        apart = axis.coordinates() - wanted
        apart = (apart + 180) % 360 - 180 if isinstance(grid, Sphere) and k == 1 else apart
        best = int(np.abs(apart).argmin())
        spacing = float(np.diff(axis.coordinates()).max()) if axis.size > 1 else np.inf
        if abs(apart[best]) > spacing:
            ends = f"{axis.coordinates()[0]:g} to {axis.coordinates()[-1]:g}"
            raise UsageError("--station", f"{axis.name} within {ends}", f"{wanted:g}", "give LAT,LON, for example --station 52.1,5.2")
        index.append(best)
    case = _shown(product, known, order)
    start = product.valid[case, :1] if product.starts is None else product.starts[case : case + 1]
    at = slice(case, case + 1), slice(0, len(product.leads))
    place = tuple(float(a.coordinates()[i]) for a, i in zip(grid.axes, index, strict=True))
    out = []
    for c in channels[:4]:
        levels: tuple[float, ...] = ()
        if _array(c, ""):
            values = product.read(c.arrays[""], *at, product.member_dim) if product.member_dim else product.read(c.arrays[""], *at)[None]
        elif _array(c, "quantile"):
            levels = tuple(float(v) for v in c.arrays["quantile"]["quantile"].values)
            values = product.read(c.arrays["quantile"], *at, "quantile")
        elif _array(c, "mean"):
            values = product.read(c.arrays["mean"], *at)[None]
        else:
            continue
        truth = known.at(c.label, known.rows(product.valid[case]))[:, index[0], index[1]]
        series = values[:, 0, :, index[0], index[1]]
        out.append(
            Plume(
                c.label,
                plain_units(c.units),
                stamp(time_keys(start, False)[0]),
                (place[0], place[1]),
                tuple(product.leads.tolist()),
                truth,
                series,
                levels,
            )
        )
    return tuple(out)
