"""What an animation of a forecast shows: its channel, start and members, and the fields of each frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, GridError, UsageError, did_you_mean
from anygrid.fields.conversions import check_magnitudes
from anygrid.grid import Points, Sphere
from anygrid.verification.known import Known, know, stamp, time_keys
from anygrid.verification.product import Channel, Product, channels_of, choose, understand

__all__ = ["Member", "Panel", "Scenes", "caption", "check_truth", "find_scenes", "read_scene"]

Array = NDArray[np.float64]
Member = int | Literal["mean", "spread"] | None
_BYTES = 256 << 20  # of the members read at a time


@dataclass(frozen=True)
class Panel:
    """One map of each frame; those of one role share a colour scale."""

    title: str
    role: Literal["value", "difference", "spread"]


@dataclass(frozen=True, eq=False)
class Scenes:
    """Frames of one channel.

    Attributes
    ----------
    value, spread
        Arrays that are drawn as they stand, or None.
    members
        The array whose mean and standard deviation over its members are drawn, where the file does not hold them.
    frames
        Case and lead of each.
    notes
        What was chosen or converted.
    """

    product: Product
    channel: Channel
    value: xr.DataArray | None
    spread: xr.DataArray | None
    members: xr.DataArray | None
    known: Known | None
    frames: tuple[tuple[int, int], ...]
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]


def find_scenes(
    forecast: xr.Dataset,
    truth: xr.Dataset | None,
    variable: str | None,
    start: str | float | None,
    member: Member,
    every: int,
    names: tuple[str, str],
) -> Scenes:
    """Choose what is drawn; see :func:`~anygrid.report.animation.animate`.

    Raises
    ------
    UsageError, DataError, GridError
        For what the files do not hold.
    """
    if every < 1:
        raise UsageError("--every", "1 or more", str(every))
    if member == "spread" and truth is not None:
        raise UsageError("--member spread", "no truth beside it", "one", "leave --member out: mean, truth, difference and spread are drawn")
    product, notes = _understood(forecast, variable, names[0])
    channel = product.channels[0]
    known = None if truth is None else know(truth, product, names[1])
    have = np.zeros(product.valid.shape, bool) if known is None else known.rows(product.valid) >= 0
    if known is not None and not have.any():
        _no_truth(product, known, names[1])
    frames = _frames(product, start, have)[::every]
    if product.starts is not None and product.lead_dim is not None and start is None and product.cases > 1:
        at = stamp(time_keys(product.starts[frames[0][0]][None], False)[0])
        notes.append(f"the start {at}, one of {product.cases}; --start takes another")
    if known is not None:
        notes += known.notes
        missing = sum(not have[frame] for frame in frames)
        if missing == len(frames):
            _no_truth(product, known, names[1], frames[0][0])
        if missing:
            notes.append(f"{missing} of {len(frames)} frames have no truth: it stays grey there")
    value, spread, members, panels = _chosen(product, channel, member)
    if known is not None:
        panels = [panels[0], Panel("truth", "value"), Panel(f"{panels[0].title} minus truth", "difference"), *panels[1:]]
    return Scenes(product, channel, value, spread, members, known, tuple(frames), tuple(panels), tuple(notes))


def _understood(forecast: xr.Dataset, variable: str | None, where: str) -> tuple[Product, list[str]]:
    """The forecast of one channel on latitudes and longitudes."""
    notes = []
    offered = channels_of(forecast, where)
    if variable is None:
        # Fields that never change, such as the orography of an analysis, have fewer dimensions.
        channels: tuple[Channel, ...] = (max(offered, key=lambda c: c.field.ndim),)
        if len(offered) > 1:
            notes.append(f"{channels[0].label}, one of {len(offered)} variables; --variable takes another")
    else:
        channels = choose(offered, [variable], "--variable")
        if len(channels) > 1:
            labels = ", ".join(c.label for c in channels[:12])
            raise UsageError("--variable", "one level", f"{variable!r} on {len(channels)} levels", f"choose from: {labels}")
    product = understand(forecast, where, [channels[0].label])
    if not isinstance(product.grid, Sphere):
        got = "scattered points" if isinstance(product.grid, Points) else f"a box of {', '.join(product.grid.dims)}"
        raise GridError(f"animate {where}", "fields on latitudes and longitudes", got, "interpolate it to such a grid first")
    return product, notes


def _frames(product: Product, start: str | float | None, have: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """All leads of one start; of data without leads all times in their order."""
    leads = range(len(product.leads))
    if product.starts is not None and product.lead_dim is not None:
        return [(_case(product, start, have), k) for k in leads]
    if start is not None:
        raise UsageError("--start", "a forecast with starts", "data without", "leave it out, or choose times with --select")
    if len(product.case_dims) > 1:
        hint = f"take one entry of one: --select {product.case_dims[1]}=0"
        raise DataError("animate", "one dimension of times", ", ".join(product.case_dims), hint)
    order = np.argsort(np.asarray(time_keys(product.valid[:, 0], False)), kind="stable")
    return [(int(case), k) for case in order for k in leads]


def _case(product: Product, start: str | float | None, have: NDArray[np.bool_]) -> int:
    """Which case starts then: by date, the beginning of one, a number from 0, or the words first and last."""
    assert product.starts is not None
    keys: list[Any] = time_keys(product.starts, False)
    if start is None:
        known = have.sum(1)
        return int(np.argmax(known))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    word = str(start).strip()
    if word.lower() in ("first", "last"):
        return order[0 if word.lower() == "first" else -1]
    written = word.replace(" ", "T")[:19]
    found = [k for k in order if _begins(keys[k], written)]
    if not found and re.fullmatch(r"-?\d+", word) and -len(order) <= int(word) < len(order):
        return order[int(word)]
    ends = f"they run from {stamp(keys[order[0]])} to {stamp(keys[order[-1]])}"
    if not found:
        raise UsageError("--start", f"one of {len(keys)} starts, by date or number", repr(word), ends)
    if len(found) > 1:
        shown = ", ".join(stamp(keys[k]) for k in found[:4])
        raise UsageError("--start", "one start", f"{len(found)} that begin with {word!r}", f"say more: {shown}")
    return found[0]


def _begins(key: Any, word: str) -> bool:
    if isinstance(key, str):
        # A short number counts starts: 20 is no beginning of 2010-01-01.
        return len(word) >= 4 and key.startswith(word)
    try:
        return bool(np.isclose(key, float(word)))
    except ValueError:
        return False


def _no_truth(product: Product, known: Known, where: str, case: int | None = None) -> NoReturn:
    valid = product.valid if case is None else product.valid[case]
    wanted = sorted(time_keys(np.ravel(valid), known.monthly))
    held = time_keys(np.array([min(known.times), max(known.times)]), known.monthly)
    span = f"{stamp(held[0])} to {stamp(held[1])}"
    raise DataError(where, f"truth at valid times {stamp(wanted[0])} to {stamp(wanted[-1])}", span, "give the truth of that period")


_Arrays = tuple[xr.DataArray | None, xr.DataArray | None, xr.DataArray | None, list[Panel]]


def _chosen(product: Product, channel: Channel, member: Member) -> _Arrays:
    """Value, spread, members and the panels before a truth is put between them."""
    arrays, dim = channel.arrays, product.member_dim
    whole = arrays.get("")
    held = 0 if whole is None else whole.sizes.get(dim, 0) if dim else 0
    if isinstance(member, int):
        if whole is None or dim is None or not held:
            raise UsageError("--member", "a forecast that holds members", "one that does not", "leave --member out")
        return whole.isel({dim: _place(whole, dim, member)}), None, None, [Panel(f"member {member}", "value")]
    stored = {"mean", "std"} & set(arrays)
    if held < 2 and not stored:
        if member is not None:
            raise UsageError(f"--member {member}", "an ensemble", "a single forecast", "leave --member out")
        if whole is None:
            raise DataError(f"animate {channel.label}", "fields, or the mean of members", ", ".join(arrays), "choose another variable")
        return (
            whole.isel({dim: 0}) if dim and held else whole,
            None,
            None,
            [Panel("data" if product.lead_dim is None else "forecast", "value")],
        )
    mean, std = arrays.get("mean"), arrays.get("std")
    if member is None and held < 2 and std is None:
        member = "mean"
    wanted = ["mean", "spread"] if member is None else [member]
    members = whole if held > 1 and (("mean" in wanted and mean is None) or ("spread" in wanted and std is None)) else None
    for word, array in (("mean", mean), ("spread", std)):
        if word in wanted and array is None and members is None:
            raise UsageError(f"--member {word}", "a file that holds it", ", ".join(sorted(stored)), "leave --member out")
    count = held if members is not None else max(product.members, held)
    many = f" of {count} members" if count > 1 else " of the members"
    names = {"mean": Panel(f"mean{many}", "value"), "spread": Panel(f"spread{many}", "spread")}
    picked = [names[word] for word in wanted]
    if members is not None:
        return None, None, members, picked
    return mean if "mean" in wanted else None, std if "spread" in wanted else None, None, picked


def _place(array: xr.DataArray, dim: str, member: int) -> int:
    """Place of a member, by its label where members have some."""
    labels = [int(v) for v in array[dim].values] if dim in array.coords and array[dim].dtype.kind in "iu" else list(range(array.sizes[dim]))
    if member not in labels:
        raise UsageError("--member", f"one of {len(labels)} members", str(member), did_you_mean(str(member), map(str, labels)))
    return labels.index(member)


def read_scene(scenes: Scenes, place: int) -> list[Array]:
    """Fields of one frame, in the order of its panels and in ascending coordinates."""
    case, lead = scenes.frames[place]
    at = slice(case, case + 1), slice(lead, lead + 1)
    wanted = {p.role for p in scenes.panels}
    value, spread = (None if a is None else scenes.product.read(a, *at)[0, 0] for a in (scenes.value, scenes.spread))
    if scenes.members is not None:
        value, spread = _moments(scenes.product, scenes.members, at)
    out = []
    if value is not None and "value" in wanted:
        out.append(value)
        if scenes.known is not None:
            rows = scenes.known.rows(scenes.product.valid[case : case + 1, lead])
            truth = scenes.known.at(scenes.channel.label, rows)[0]
            out += [truth, value - truth]
    if spread is not None and "spread" in wanted:
        out.append(spread)
    return out


def _moments(product: Product, members: xr.DataArray, at: tuple[slice, slice]) -> tuple[Array, Array]:
    """Mean and standard deviation over the members, some of which are read at a time."""
    dim = str(product.member_dim)
    count = members.sizes[dim]
    several = max(1, _BYTES // (8 * product.grid.size))
    # Sums of departures from the first member lose no digits, however large the mean.
    first = product.read(members.isel({dim: 0}), *at)[0, 0]
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for k in range(1, count, several):
        apart = product.read(members.isel({dim: slice(k, k + several)}), *at, dim)[:, 0, 0] - first
        total += apart.sum(0)
        squares += (apart**2).sum(0)
    variance = (squares - total**2 / count) / (count - 1)
    return first + total / count, np.sqrt(np.maximum(variance, 0.0))


def caption(scenes: Scenes, place: int) -> str:
    """Valid time, lead and start of one frame."""
    case, lead = scenes.frames[place]
    product = scenes.product
    valid = stamp(time_keys(product.valid[case, lead : lead + 1], False)[0])
    if product.lead_dim is None:
        return f"valid {valid}"
    length, units = float(product.leads[lead]), product.lead_units
    said = f"valid {valid}, lead {length:g} {units.rstrip('s') if length == 1 else units}"
    return said if product.starts is None else f"{said}, from {stamp(time_keys(product.starts[case : case + 1], False)[0])}"


def check_truth(scenes: Scenes, fields: Sequence[Array]) -> None:
    """Refuse a forecast and a truth whose sizes betray a slip of units.

    Raises
    ------
    DataError
        Naming the slip.
    """
    if scenes.known is not None:
        check_magnitudes(scenes.channel.label, fields[0].ravel(), fields[1].ravel())
