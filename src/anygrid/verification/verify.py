"""``verify``: a forecast, single or an ensemble, against the truth, with baselines, intervals, and another forecast beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import DataError, UsageError
from anygrid.fields.units import plain_units
from anygrid.grid import Grid, Sphere
from anygrid.metrics.bootstrap import default_block
from anygrid.verification.calibrated import calibrate_channel
from anygrid.verification.cases import Cases, compare_channel
from anygrid.verification.climatology import Climatology, find_climatology
from anygrid.verification.event import Event, kept_threshold
from anygrid.verification.examples import field_maps, plumes
from anygrid.verification.known import Known, know, stamp, time_keys
from anygrid.verification.product import Channel, Product, choose, understand
from anygrid.verification.result import VariableResult, Verification
from anygrid.verification.scores import Sampling, compare, summarise

__all__ = ["verify"]


def verify(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    *,
    climatology: xr.Dataset | None = None,
    reference: xr.Dataset | None = None,
    variables: Sequence[str] = (),
    events: Sequence[Event] = (),
    station: tuple[float, float] | None = None,
    calibrate_until: str | float | None = None,
    block: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    names: tuple[str, str, str] = ("forecast", "truth", "reference"),
    progress: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Scores by variable and lead of all starts whose truth is known.

    The forecast is a single one, an ensemble with its members, or one of which statistics alone were kept; the result says what these do
    not allow. Variables are matched by name, CF standard name and level, units are converted and conversions stated, grids may run
    north to south or from -180 to 180 degrees. Memory is bounded: some cases and leads are read at a time.

    Parameters
    ----------
    climatology
        Past data that hold none of the verified times.
    reference
        Another forecast of the same variables, compared start by start.
    variables
        Those to verify; by default all that the truth has.
    events
        Thresholds in the units of the forecast.
    station
        Latitude and longitude (or the coordinates of a box) of the plume.
    calibrate_until
        Fit a calibration on the starts whose valid times all lie before this time, and judge it on the starts from it on.
    block
        Starts in a block of the bootstrap; by default the cube root of their number.
    names
        What forecast, truth and reference are called.

    Raises
    ------
    DataError, GridError
        When the two do not fit: see :func:`~anygrid.verification.product.understand` and :func:`~anygrid.verification.known.know`.
    UsageError
        For a block that is longer than the starts.
    """
    product = understand(forecast, names[0], variables)
    known = know(truth, product, names[1])
    channels = tuple(c for c in product.channels if c.label in known.sources)
    order, have = _order(product, known, names)
    sampling = Sampling(_block(block, len(order)), draws, seed=seed)
    past = None if climatology is None else find_climatology(know(climatology, product, "--climatology"), product.valid[have])
    kind = (
        "members" if product.member_dim is not None and _held(product) > 1 else "statistics" if "" not in channels[0].arrays else "single"
    )
    picked = _picked(np.asarray(have.any(0)))
    other = None if reference is None else _beside(understand(reference, names[2]), product, channels, order)
    results = []
    for channel in channels:
        progress(channel.label)
        mine = tuple(e for e in events if channel in choose(channels, [e.channel]))
        asked = [Event(channel.label, e.above, e.threshold) for e in mine]
        ours = compare_channel(
            product, channel, order, known, past if past and channel.label in past.known.sources else None, asked, seed, picked
        )
        # What a truncated kept set says of spread is said of all members where their statistics were kept too.
        count = product.members if "std" in channel.arrays else _held(product) if kind == "members" else product.members
        score = "fair" if "crps" in channel.arrays else {"members": "fair", "statistics": "normal", "single": "absolute error"}[kind]
        leads, units = product.leads.tolist(), plain_units(channel.units)
        result = summarise(channel.label, units, ours, leads, max(count, 1), kind, score, sampling, picked)
        if calibrate_until is not None:
            parts, kept = _split_at(product, order, calibrate_until), tuple(e for e in asked if "" in channel.arrays)
            inside = Sampling(default_block(len(parts[1])), draws, seed=seed)
            result = dataclasses.replace(result, calibrated=calibrate_channel(product, channel, known, *parts, kept, inside))
        if other is not None:
            result = _with_comparison(result, ours, other, channel, known, order, sampling, product)
        results.append(result)
    starts = _stamps(product, order)
    return Verification(
        names[0],
        names[1],
        "" if reference is None else names[2],
        kind,
        product.members,
        _held(product),
        _describe(product.grid),
        tuple(product.leads.tolist()),
        product.lead_units,
        starts[0],
        starts[-1],
        len(order),
        sampling.block,
        draws,
        sampling.level,
        "" if past is None else past.said,
        tuple(results),
        _notes(known, product, have, results),
        _cannot(product, kind, channels, events, past, results, other is not None),
        field_maps(product, channels, known, order, picked),
        () if station is None else plumes(product, channels, known, order, station),
    )


def _held(product: Product) -> int:
    dim = product.member_dim
    return 0 if dim is None else max(c.arrays[""].sizes.get(dim, 1) for c in product.channels if "" in c.arrays)


def _order(product: Product, known: Known, names: tuple[str, str, str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cases with any truth, by time; and where there is truth."""
    have = known.rows(product.valid) >= 0
    cases = np.flatnonzero(have.any(1))
    if cases.size == 0:
        keys = sorted(map(str, time_keys(product.valid.ravel(), known.monthly)))
        spans = [str(t) for t in time_keys(np.array([min(known.times), max(known.times)]), known.monthly)]
        raise DataError(
            f"verify {names[0]}",
            f"truth at valid times {keys[0]} to {keys[-1]}",
            f"{spans[0]} to {spans[1]}",
            "give the truth of that period",
        )
    stamps = product.valid[:, 0] if product.starts is None else product.starts
    return cases[np.argsort(np.asarray(time_keys(stamps[cases], False)), kind="stable")], have


def _split_at(product: Product, order: NDArray[np.int64], until: str | float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts whose valid times lie before a time, and starts from it on."""
    where = "--calibrate-until"
    if product.starts is None:
        raise UsageError(where, "a forecast with starts", "one without", "leave it out")
    numeric = product.valid.dtype.kind in "fiu"
    try:
        key: Any = float(until) if numeric else str(np.datetime64(str(until), "s"))
    except ValueError as error:
        raise UsageError(where, "a number, as the times are" if numeric else "a date", repr(until), "for example 2001-03-15") from error
    last = np.array([max(row) for row in (time_keys(r, False) for r in product.valid[order])])
    first = np.array(time_keys(product.starts[order], False))
    fitted, judged = order[last < key], order[first >= key]
    if len(fitted) < 2 or len(judged) < 2:
        got = f"{len(fitted)} starts to fit and {len(judged)} to judge"
        raise UsageError(where, "2 starts or more that end before it, and 2 from it on", got, f"they run from {first[0]} to {first[-1]}")
    return fitted, judged


def _block(asked: int | None, cases: int) -> int:
    if asked is not None and not 1 <= asked <= cases:
        raise UsageError("--block", f"1 to {cases} starts", str(asked))
    return default_block(cases) if asked is None else asked


def _picked(leads: NDArray[np.bool_]) -> list[int]:
    """First, middle and last lead that has a truth, for what is too large to show at all."""
    known = np.flatnonzero(leads)
    return list(dict.fromkeys(int(known[i]) for i in (0, len(known) // 2, len(known) - 1)))


def _beside(
    other: Product, product: Product, channels: Sequence[Channel], order: NDArray[np.int64]
) -> tuple[Product, NDArray[np.int64], NDArray[np.int64]]:
    """The reference, and which of its cases and leads are those of the forecast (-1: none)."""
    factor = {"hours": 1.0, "days": 24.0}
    ours, theirs = (p.leads * factor.get(p.lead_units, 1.0) for p in (product, other))
    leads = np.array([int(np.flatnonzero(np.isclose(theirs, v))[0]) if np.isclose(theirs, v).any() else -1 for v in ours])
    stamps = [p.valid[:, 0] if p.starts is None else p.starts for p in (product, other)]
    places = {k: i for i, k in enumerate(time_keys(stamps[1], False))}
    cases = np.array([places.get(k, -1) for k in time_keys(stamps[0][order], False)])
    if (cases < 0).all() or (leads < 0).all():
        raise DataError("--reference", "starts and leads of the forecast", "none in common", "compare forecasts of the same starts")
    return other, cases, leads


def _with_comparison(
    result: VariableResult,
    ours: Cases,
    other: tuple[Product, NDArray[np.int64], NDArray[np.int64]],
    channel: Channel,
    known: Known,
    order: NDArray[np.int64],
    sampling: Sampling,
    product: Product,
) -> VariableResult:
    theirs, cases, leads = other
    match = next((c for c in theirs.channels if c.quantity == channel.quantity or c.label == channel.label), None)
    if match is None or match.units.strip() != channel.units.strip() or theirs.grid.shape != product.grid.shape:
        return result
    renamed = Channel(channel.label, match.quantity, match.units, match.arrays)
    found = compare_channel(theirs, renamed, cases[cases >= 0], known, None, ())
    wide = Cases()
    for name in ("squared", "crps", "absolute"):
        part = getattr(found, name)
        if part is None:
            continue
        whole = torch.full((len(order), len(leads)), torch.nan, dtype=torch.float64)
        rows = np.flatnonzero(cases >= 0)
        for k, place in enumerate(leads):
            if place >= 0:
                whole[rows, k] = part[:, place]
        setattr(wide, name, whole)
    return dataclasses.replace(result, comparisons=compare(ours, wide, sampling))


def _stamps(product: Product, order: NDArray[np.int64]) -> list[str]:
    stamps = product.valid[:, 0] if product.starts is None else product.starts
    return [stamp(k) for k in time_keys(stamps[order], False)]


def _describe(grid: Grid) -> str:
    kind = "sphere" if isinstance(grid, Sphere) else type(grid).__name__.lower()
    return f"{kind} {'x'.join(map(str, grid.shape))}"


def _notes(known: Known, product: Product, have: NDArray[np.bool_], results: Sequence[VariableResult]) -> tuple[str, ...]:
    notes = list(known.notes)
    missing = int((~have).sum())
    if missing:
        notes.append(f"{missing} of {have.size} pairs of start and lead have no truth and are left out")
    dry = [r for r in results if r.left_out > 0]
    notes += [f"{r.name}: {r.left_out:.0%} of the points have no value (land?) and are left out" for r in dry]
    return tuple(notes)


def _cannot(
    product: Product,
    kind: str,
    channels: tuple[Channel, ...],
    events: Sequence[Event],
    past: Climatology | None,
    results: Sequence[VariableResult],
    compared: bool,
) -> tuple[str, ...]:
    """What could not be computed, and what would allow it."""
    out = []
    if kind == "statistics":
        scored = [all(s in c.arrays for c in channels) for s in ("rank", "crps")]
        missing = [word for word, kept in zip(("rank histograms", "the fair CRPS"), scored, strict=True) if not kept]
        out.append(
            f"{', '.join([*missing, 'spectra of members'])}: only statistics were kept (forecast --keep-members 0:50 keeps members"
            + (")" if all(scored) else ", --keep crps,rank --truth keeps these scores)")
        )
        if not scored[1] and any(v.curve("crps") for v in results):
            out.append("the CRPS shown is that of a normal distribution with the mean and spread that were kept")
    for event in events:
        for c in choose(channels, [event.channel]):
            if "" not in c.arrays and kept_threshold(c, event) is None:
                how = f"forecast --keep 'above({c.label}={event.threshold:g})'"
                out.append(f"the event {event}: no members and no such threshold were kept ({how})")
    if kind == "members" and _held(product) < product.members:
        out.append(
            f"scores over all {product.members} members: {_held(product)} were kept; mean and spread are those of all where they were kept"
        )
    if kind == "single":
        out.append("spread, CRPS and rank histograms: one forecast has no members")
    unmatched = [r.name for r in results if compared and not r.comparisons]
    if unmatched:
        out.append(f"the comparison with the reference of {', '.join(unmatched)}: it has no such variable in these units on this grid")
    if past is None:
        out.append("anomaly correlation, activity and skill over climatology: no --climatology was given")
    if all(r.curve("persistence rmse") is None for r in results):
        out.append("persistence: the truth does not hold the states that the forecasts started from, or the forecast has no starts")
    return tuple(out)
