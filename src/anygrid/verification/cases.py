"""Numbers of every case and lead of one channel, from which all scores are means: the one place where fields are read and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import GridError
from anygrid.fields.conversions import check_magnitudes
from anygrid.grid import Bounded, Grid, Points, Sphere
from anygrid.metrics.errors import area_mean
from anygrid.metrics.events import event_table
from anygrid.metrics.probabilistic import crps, gaussian_crps
from anygrid.metrics.quantiles import coverage, member_quantiles, pinball
from anygrid.metrics.ranks import rank_histogram, rank_shares
from anygrid.metrics.skill import activity, bias_by_lead, energy_by_wavenumber
from anygrid.numerics.spherical_harmonics import exact_degree
from anygrid.verification.climatology import Climatology
from anygrid.verification.event import Event, kept_threshold
from anygrid.verification.known import Known
from anygrid.verification.product import Channel, Product

__all__ = ["INTERVALS", "LEVELS", "Cases", "compare_channel"]

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
INTERVALS = (0.5, 0.8, 0.9)
_BYTES = 256 << 20
_RANKS, _BINS = 50, 20
_SPECTRA = 10  # members whose spectra are taken


@dataclass(eq=False)
class Cases:
    """Area means of one channel ``(case, lead, ...)``, nan where a case has no truth; None where the data do not allow them.

    ``error, squared, absolute`` are of the forecast, or of the mean of the members; ``member_squared`` is the mean over members;
    ``variance`` that over members; ``crps`` is fair with members or where it was kept, of a normal distribution with other statistics
    alone, the absolute error of a single forecast. ``tables`` has one entry an event of this channel.
    """

    error: Float[Tensor, "case lead"] | None = None
    squared: Float[Tensor, "case lead"] | None = None
    absolute: Float[Tensor, "case lead"] | None = None
    correlation: Float[Tensor, "case lead"] | None = None
    activity: Float[Tensor, "case lead"] | None = None
    truth_activity: Float[Tensor, "case lead"] | None = None
    persistence_squared: Float[Tensor, "case lead"] | None = None
    persistence_absolute: Float[Tensor, "case lead"] | None = None
    climatology_squared: Float[Tensor, "case lead"] | None = None
    climatology_crps: Float[Tensor, "case lead"] | None = None
    variance: Float[Tensor, "case lead"] | None = None
    member_squared: Float[Tensor, "case lead"] | None = None
    crps: Float[Tensor, "case lead"] | None = None
    rank: Float[Tensor, "case lead rank"] | None = None
    pinball: Float[Tensor, "case lead level"] | None = None
    covered: Float[Tensor, "case lead interval"] | None = None
    power: Float[Tensor, "case lead degree"] | None = None
    mean_power: Float[Tensor, "case lead degree"] | None = None
    truth_power: Float[Tensor, "case lead degree"] | None = None
    tables: dict[Event, Float[Tensor, "case lead count 2"]] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    intervals: tuple[float, ...] = ()
    left_out: float = 0.0


def compare_channel(
    product: Product,
    channel: Channel,
    order: NDArray[np.int64],
    truth: Known,
    climatology: Climatology | None,
    events: Sequence[Event],
    seed: int = 0,
    spectra_at: Sequence[int] = (),
) -> Cases:
    """Compare all cases, taken in ``order``, and leads of one channel with the truth, some at a time so that memory stays bounded.

    Raises
    ------
    DataError
        When a unit was mistaken.
    """
    reader = _Reader(product, channel, truth, climatology)
    out = Cases()
    generator = torch.Generator().manual_seed(seed)
    for cases, leads in reader.blocks(order):
        part = reader.compare(order[cases], leads, events, generator, spectra_at)
        for f in fields(Cases):
            value = getattr(part, f.name)
            if isinstance(value, Tensor):
                if getattr(out, f.name) is None:
                    shape = (len(order), len(product.leads), *value.shape[2:])
                    setattr(out, f.name, torch.full(shape, torch.nan, dtype=torch.float64))
                getattr(out, f.name)[cases, leads] = value
        for event, table in part.tables.items():
            whole = out.tables.setdefault(
                event, torch.full((len(order), len(product.leads), *table.shape[2:]), torch.nan, dtype=torch.float64)
            )
            whole[cases, leads] = table
        out.levels, out.intervals, out.left_out = part.levels, part.intervals, part.left_out
    return out


class _Reader:
    """Fields of one channel beside their truth, on the points where both are known."""

    def __init__(self, product: Product, channel: Channel, truth: Known, climatology: Climatology | None) -> None:
        self.product, self.channel, self.truth, self.climatology = product, channel, truth, climatology
        self.rows = truth.rows(product.valid)
        self.start_rows = None if product.starts is None else truth.rows(product.starts)
        self.grid: Grid = product.grid
        self.mask: Tensor | None = None
        known = np.argwhere(self.rows >= 0)
        case, lead = (int(i) for i in known[0])
        first = truth.at(channel.label, self.rows[case : case + 1, lead : lead + 1])[0, 0]
        shown = self._field(slice(case, case + 1), slice(lead, lead + 1))[0, 0, 0]
        if self.centred:
            check_magnitudes(channel.label, shown.ravel(), first.ravel())
        inside = np.isfinite(first) & np.isfinite(shown)
        if not inside.all() and inside.any():
            self.mask = torch.from_numpy(inside)
            self.grid = _scattered(product.grid, inside)

    @property
    def centred(self) -> bool:
        """Whether something of the forecast is a value of the field itself, not a spread or a score."""
        return bool({"", "mean", "quantile"} & set(self.channel.arrays))

    @property
    def member_arrays(self) -> bool:
        return self.product.member_dim is not None and "" in self.channel.arrays

    def blocks(self, order: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
        p = self.product
        held = self.channel.arrays[""].sizes[p.member_dim] if self.member_arrays else 1
        one = (6 * held + 80) * p.grid.size * 8
        leads = max(1, min(len(p.leads), _BYTES // one))
        cases = max(1, _BYTES // (one * leads))
        for c in range(0, len(order), cases):
            for k in range(0, len(p.leads), leads):
                yield slice(c, min(c + cases, len(order))), slice(k, min(k + leads, len(p.leads)))

    def _field(self, cases: slice, leads: slice) -> NDArray[np.float64]:
        """Members ``(member, case, lead, *space)``, or what stands for them: the single forecast, or the mean."""
        p, arrays = self.product, self.channel.arrays
        if self.member_arrays:
            return p.read(arrays[""], cases, leads, p.member_dim)
        array = arrays.get("", arrays.get("mean"))
        if array is None:
            quantile = arrays.get("quantile")
            if quantile is not None:
                middle = int(np.abs(quantile["quantile"].values - 0.5).argmin())
                array = quantile.isel(quantile=middle)
            else:
                array = self.channel.field
                if "above" in arrays and array is arrays["above"]:
                    array = array.isel({array.dims[0]: 0})
        return p.read(array, cases, leads)[None]

    def _each(self, cases: NDArray[np.int64], read: Any) -> NDArray[np.float64]:
        """Blocks of cases in any order."""
        return np.concatenate([read(slice(int(c), int(c) + 1)) for c in cases], axis=1)

    def _kept(self, statistic: str, cases: NDArray[np.int64], leads: slice) -> Tensor:
        """A statistic that was kept, ``(case, lead, 1, *space)``."""
        array = self.channel.arrays[statistic]
        return self.points(self._each(cases, lambda c: self.product.read(array, c, leads)[None])[0])

    def points(self, values: NDArray[np.float64]) -> Tensor:
        """Tensor with a channel before space, on the points that are compared."""
        t = torch.from_numpy(np.ascontiguousarray(values))
        t = t if self.mask is None else t[..., self.mask]
        return t.unsqueeze(t.ndim - len(self.grid.shape))

    def compare(
        self, cases: NDArray[np.int64], leads: slice, events: Sequence[Event], generator: torch.Generator, spectra_at: Sequence[int]
    ) -> Cases:
        """All numbers of some cases and leads."""
        arrays = self.channel.arrays
        y = self.points(self.truth.at(self.channel.label, self.rows[cases, leads]))
        x = self.points(self._each(cases, lambda c: self._field(c, leads)))
        ok = torch.isfinite(y).flatten(2).all(2) & torch.isfinite(x).flatten(3).all(3).all(0)
        out = Cases(left_out=0.0 if self.mask is None else 1 - float(self.mask.double().mean()))
        mean = self._kept("mean", cases, leads) if "mean" in arrays else x.mean(0)
        self._single(out, mean, y, x)
        self._baselines(out, cases, leads, y)
        self._spread(out, cases, leads, x, y, mean, generator)
        self._events(out, cases, leads, x, y, [e for e in events if e.channel == self.channel.label])
        at = [k - leads.start for k in range(leads.start, leads.stop) if k in spectra_at]
        if at and self.mask is None and isinstance(self.grid, Sphere) and _exact(self.grid):
            _spectra(out, x, mean, y, self.grid, at)
        for f in fields(Cases):
            value = getattr(out, f.name)
            if isinstance(value, Tensor):
                value = value[:, :, 0]
                setattr(out, f.name, torch.where(ok.reshape(*ok.shape, *[1] * (value.ndim - 2)), value, torch.nan))
        out.tables = {e: torch.where(ok[..., None, None], t[:, :, 0], torch.nan) for e, t in out.tables.items()}
        return out

    def _single(self, out: Cases, mean: Tensor, y: Tensor, x: Tensor) -> None:
        if not {"", "mean"} & set(self.channel.arrays):
            return
        out.error, out.squared = bias_by_lead(mean, y, self.grid), area_mean((mean - y) ** 2, self.grid)
        out.absolute = area_mean((mean - y).abs(), self.grid)
        if len(x) > 1:
            out.member_squared = area_mean(((x - y) ** 2).mean(0), self.grid)

    def _baselines(self, out: Cases, cases: NDArray[np.int64], leads: slice, y: Tensor) -> None:
        if self.start_rows is not None and (self.start_rows >= 0).any():
            p = self.points(self.truth.at(self.channel.label, self.start_rows[cases][:, None])).expand(y.shape)
            out.persistence_squared, out.persistence_absolute = area_mean((p - y) ** 2, self.grid), area_mean((p - y).abs(), self.grid)

    def climate(self, cases: NDArray[np.int64], leads: slice) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Case and lead in the block, climatological mean ``(*space)`` and states ``(member, *space)``; each time is read once."""
        assert self.climatology is not None
        valid, last = self.product.valid[cases, leads], (-1, -1)
        places = sorted(np.ndindex(valid.shape), key=lambda i: str(valid[i]))
        found: tuple[Tensor, Tensor] | None = None
        for case, lead in places:
            if found is None or valid[case, lead] != valid[last]:
                mean, states = self.climatology.states(self.channel.label, valid[case, lead])
                found = self.points(mean[None, None])[0, 0], self.points(states[:, None, None])[:, 0, 0]
                last = (case, lead)
            yield case, lead, *found

    def _spread(
        self, out: Cases, cases: NDArray[np.int64], leads: slice, x: Tensor, y: Tensor, mean: Tensor, generator: torch.Generator
    ) -> None:
        arrays, p, grid = self.channel.arrays, self.product, self.grid
        std = self._kept("std", cases, leads) if "std" in arrays else None
        if std is not None:
            out.variance = area_mean(std**2, grid)
        elif len(x) > 1:
            out.variance = area_mean(x.var(0), grid)
        if len(x) > 1:
            out.crps = crps(x, y, grid)
            out.rank = rank_histogram(x, y, grid, generator, bins=_BINS if len(x) > _RANKS else None)
            self._quantiles(out, member_quantiles(x, LEVELS), LEVELS, y)
            bounds = {c: member_quantiles(x, ((1 - c) / 2, (1 + c) / 2)) for c in INTERVALS}
            out.covered = torch.stack([coverage(low, high, y, grid) for low, high in bounds.values()], -1)
            out.intervals = INTERVALS
        elif std is not None and self.centred:
            out.crps = area_mean(gaussian_crps(mean, std, y), grid)
        elif "" in arrays:
            out.crps = out.absolute
        # What was kept is of all members, where some of them at most were kept themselves.
        if "crps" in arrays:
            out.crps = area_mean(self._kept("crps", cases, leads), grid)
        if "rank" in arrays:
            found, bins = self._kept("rank", cases, leads).nan_to_num().long(), _BINS if p.members > _RANKS else None
            out.rank = rank_shares(found, p.members, grid, generator, bins=bins)
        if len(x) == 1 and "quantile" in arrays:
            said = tuple(float(v) for v in arrays["quantile"]["quantile"].values)
            q = self.points(self._each(cases, lambda c: p.read(arrays["quantile"], c, leads, "quantile")))
            self._quantiles(out, q, said, y)
            pairs = [(i, said.index(o)) for i, v in enumerate(said) for o in said if v < 0.5 and abs(v + o - 1) < 1e-9]
            if pairs:
                out.covered = torch.stack([coverage(q[i], q[j], y, grid) for i, j in pairs], -1)
                out.intervals = tuple(round(said[j] - said[i], 9) for i, j in pairs)
        if self.climatology is not None and out.squared is not None:
            self._climatology(out, cases, leads, mean, y)

    def _quantiles(self, out: Cases, quantile: Tensor, levels: tuple[float, ...], y: Tensor) -> None:
        out.pinball, out.levels = pinball(quantile, y, levels, self.grid), levels

    def _climatology(self, out: Cases, cases: NDArray[np.int64], leads: slice, mean: Tensor, y: Tensor) -> None:
        shape, grid = y.shape[:3], self.grid
        rows = torch.full((5, *shape), torch.nan, dtype=torch.float64)
        for case, lead, c, states in self.climate(cases, leads):
            u, v = mean[case, lead][None, None], y[case, lead][None, None]
            p, q, c = u - c, v - c, c[None, None]
            product = area_mean(p * q, grid) / (area_mean(p**2, grid) * area_mean(q**2, grid)).sqrt()
            rows[0, case, lead], rows[1, case, lead] = area_mean(q**2, grid)[0, 0], product[0, 0]
            rows[2, case, lead], rows[3, case, lead] = activity(u, c, grid)[0, 0], activity(v, c, grid)[0, 0]
            if len(states) > 1:
                rows[4, case, lead] = crps(states[:, None, None], v, grid)[0, 0]
        out.climatology_squared, out.correlation, out.activity, out.truth_activity, out.climatology_crps = rows

    def _events(self, out: Cases, cases: NDArray[np.int64], leads: slice, x: Tensor, y: Tensor, events: Sequence[Event]) -> None:
        for event in events:
            happened = y > event.threshold if event.above else y < event.threshold
            if "" in self.channel.arrays:
                count = (x > event.threshold if event.above else x < event.threshold).sum(0)
                out.tables[event] = event_table(count, happened, len(x), self.grid)
            elif (dim := kept_threshold(self.channel, event)) is not None:
                array, k = self.channel.arrays["above"], dim[1]
                share = self.points(self._each(cases, lambda c, a=array.isel({dim[0]: k}): self.product.read(a, c, leads)[None])[0])
                above = (share * self.product.members).round().long()
                count = above if event.above else self.product.members - above
                out.tables[event] = event_table(count, happened, self.product.members, self.grid)


def _spectra(out: Cases, x: Tensor, mean: Tensor, y: Tensor, grid: Sphere, at: list[int]) -> None:
    """Spectra at some of the leads; nan at the others."""

    def power(u: Tensor) -> Tensor:
        found = energy_by_wavenumber(u[:, at], grid)
        whole = torch.full((*u.shape[:3], found.shape[-1]), torch.nan, dtype=torch.float64)
        whole[:, at] = found
        return whole

    out.power = torch.stack([power(u) for u in x[:_SPECTRA]]).mean(0)
    out.truth_power = power(y)
    if len(x) > 1:
        out.mean_power = power(mean)


def _exact(grid: Sphere) -> bool:
    try:
        return exact_degree(grid) > 1
    except GridError:
        return False


def _scattered(grid: Grid, inside: NDArray[np.bool_]) -> Points:
    """The points of a grid where something is known, with their weights."""
    x = grid.points().numpy()[inside]
    # Seams do not matter to sums: every interval may be taken as bounded.
    extent = tuple(Bounded(float(x[:, k].min()) - 1, float(x[:, k].max()) + 1) for k in range(x.shape[1]))
    return Points(x, grid.dims, extent, quadrature=grid.weights().numpy()[inside])
