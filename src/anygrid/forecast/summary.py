r"""Statistics over the members of an ensemble, from blocks of members, one block after another, in bounded memory.

Mean and sum of squared deviations of two parts merge as in :class:`anygrid.statistics.Moments` (Chan, Golub, LeVeque 1979, eq. 2.1),
here at every point. Extremes and counts above a threshold merge without rounding.

Quantiles are exact (numpy's linear interpolation between order statistics) up to :data:`EXACT` members. With more, the members so
far become a histogram at every point: 254 equal bins over their range widened by a quarter on each side, and one bin below and one
above, which end at the smallest and largest value of all. An order statistic is then known to lie in one bin, and is placed in it as
if its values stood evenly there, so its error is below the width of that bin, which is returned beside the quantile:
1.5 / 254 of the range of the first 256 members, some 0.033 standard deviations of a Gaussian, unless it lies in one of the outer bins.

Where the truth is known, its rank (how many members lie below it) and its mean distance from the members merge without rounding too. The
fair CRPS takes besides the mean distance between two members, from the members or from the histogram:

.. math:: \frac{1}{n (n - 1)} \sum_b w_b \Big( k_b l_b + \frac{c_b (k_b + l_b)}{2} + \frac{c_b (c_b - 1)}{6} \Big)

with the bins' widths :math:`w`, their members :math:`c`, taken as spread evenly, and those below, :math:`k`, and above, :math:`l`. For
members that come in no order the score is then right to some thousandths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anygrid.errors import UsageError

__all__ = ["EXACT", "Keep", "Part", "fields", "finish", "first", "merge", "of_variable", "summarise"]

EXACT = 256  # members whose values take as much room as the histogram that replaces them

Part = dict[str, NDArray]  # the arrays of :func:`fields`


@dataclass(frozen=True)
class Keep:
    """What is kept of an ensemble, at every lead.

    Parameters
    ----------
    mean, std, minimum, maximum
        Whether to keep them; the standard deviation divides by the number of members less one.
    quantiles
        Probabilities from 0 to 1.
    above
        Pairs of a variable and a threshold: the part of the members whose value is larger.
    members
        Members that are kept themselves.
    crps, rank
        Fair CRPS at every point, and the number of members below the truth: both need the truth.

    Raises
    ------
    UsageError
        For a quantile outside 0 to 1, a threshold that is not finite, the same one twice.
    """

    mean: bool = True
    std: bool = True
    minimum: bool = False
    maximum: bool = False
    quantiles: tuple[float, ...] = ()
    above: tuple[tuple[str, float], ...] = ()
    members: range = range(0)
    crps: bool = False
    rank: bool = False

    def __post_init__(self) -> None:
        for q in self.quantiles:
            if not 0 <= q <= 1:
                raise UsageError("Keep quantiles", "probabilities from 0 to 1", f"{q:g}", "write 90 per cent as 0.9")
        if not all(math.isfinite(value) for _, value in self.above):
            raise UsageError("Keep above", "finite thresholds", "nan or infinity")
        if len(set(self.quantiles)) < len(self.quantiles) or len(set(self.above)) < len(self.above):
            raise UsageError("Keep", "each quantile and each threshold once", "one of them twice", "name it once")

    @property
    def statistics(self) -> bool:
        """Whether anything but members is kept."""
        plain = self.mean or self.std or self.minimum or self.maximum
        return plain or bool(self.quantiles) or bool(self.above) or self.scores

    @property
    def scores(self) -> bool:
        """Whether anything is kept that needs the truth."""
        return self.crps or self.rank

    def thresholds(self, name: str) -> tuple[float, ...]:
        """Thresholds of one variable."""
        return tuple(value for variable, value in self.above if variable == name)


def of_variable(keep: Keep, *, judged: bool) -> Keep:
    """What is kept of a variable whose truth is known, or is not."""
    return keep if judged else replace(keep, crps=False, rank=False)


def fields(keep: Keep, thresholds: int, count: int, values: int, *, merged: bool) -> list[tuple[str, type, tuple[int, ...]]]:
    """Name, type and shape of the arrays that stand for ``count`` members at ``values`` points, of one block or ``merged``."""
    ordered = bool(keep.quantiles) or keep.crps
    found: list[tuple[str, type, tuple[int, ...]]] = []
    if keep.mean or keep.std:
        found += [("mean", np.float64, (values,)), ("deviation", np.float64, (values,))]
    if keep.minimum or keep.maximum or ordered:
        found += [("low", np.float32, (values,)), ("high", np.float32, (values,))]
    if thresholds:
        found.append(("above", np.uint32, (thresholds, values)))
    if keep.rank:
        found.append(("rank", np.uint32, (values,)))
    if keep.crps:
        found.append(("distance", np.float64, (values,)))
    if ordered and (not merged or count <= EXACT):
        found.append(("members", np.float32, (count, values)))
    elif ordered:
        found += [("edges", np.float64, (2, values)), ("counts", np.uint32, (EXACT, values))]
    return found


def summarise(x: NDArray[np.float32], keep: Keep, thresholds: tuple[float, ...], truth: NDArray[np.float32] | None = None) -> Part:
    """The arrays of a block of members ``(member, value)``; ``truth`` is needed for scores."""
    found: Part = {}
    if keep.mean or keep.std:
        wide = x.astype(np.float64)
        mean = wide.mean(0)
        found |= {"mean": mean, "deviation": np.square(wide - mean).sum(0)}
    if keep.minimum or keep.maximum or keep.quantiles or keep.crps:
        found |= {"low": x.min(0), "high": x.max(0)}
    if thresholds:
        found["above"] = np.stack([(x > t).sum(0, dtype=np.uint32) for t in thresholds])
    if keep.scores:
        assert truth is not None
        if keep.rank:
            found["rank"] = (x < truth).sum(0, dtype=np.uint32)
        if keep.crps:
            found["distance"] = np.abs(x.astype(np.float64) - truth).sum(0)
    if keep.quantiles or keep.crps:
        found["members"] = x
    return found


def merge(one: Part, n: int, other: Part, m: int) -> Part:
    """The arrays of ``n`` members merged so far and the ``m`` of the next block."""
    found: Part = {}
    if "mean" in one:
        step = other["mean"] - one["mean"]
        found["mean"] = one["mean"] + step * (m / (n + m))
        found["deviation"] = one["deviation"] + other["deviation"] + np.square(step) * (n * m / (n + m))
    if "low" in one:
        found |= {"low": np.minimum(one["low"], other["low"]), "high": np.maximum(one["high"], other["high"])}
    found |= {name: one[name] + other[name] for name in ("above", "rank", "distance") if name in one}
    if "counts" in one:
        found |= {"edges": one["edges"], "counts": one["counts"] + _count(other["members"], one["edges"])}
    elif "members" in one:
        found |= _members(np.concatenate((one["members"], other["members"])))
    return found


def first(part: Part) -> Part:
    """The arrays of the first block as merged ones."""
    return part if "members" not in part else {k: v for k, v in part.items() if k != "members"} | _members(part["members"])


def _members(x: NDArray[np.float32]) -> Part:
    """Members as they are while they are few, then as a histogram whose range is that of the first."""
    if len(x) <= EXACT:
        return {"members": x}
    low, high = (f(x[:EXACT].astype(np.float64), axis=0) for f in (np.min, np.max))
    edges = np.stack((low - (high - low) / 4, high + (high - low) / 4))
    return {"edges": edges, "counts": _count(x, edges)}


def _count(x: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.uint32]:
    """How many members fall into each bin: 0 is below the range, the last above it."""
    width = (edges[1] - edges[0]) / (EXACT - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.where(width > 0, (x - edges[0]) / width, 0.0)
    inside = np.clip(place, 0, EXACT - 3).astype(np.int64) + 1
    bins = np.where(x < edges[0], 0, np.where(x > edges[1], EXACT - 1, inside))
    values = x.shape[1]
    found = np.bincount((bins * values + np.arange(values)).ravel(), minlength=EXACT * values)
    return found.reshape(EXACT, values).astype(np.uint32)


def finish(part: Part, n: int, keep: Keep) -> dict[str, NDArray[np.float64]]:
    """Statistics by name, of shape ``(value,)``; ``quantile, quantile_error, above`` have one row each."""
    found: dict[str, NDArray[np.float64]] = {}
    if keep.mean:
        found["mean"] = part["mean"]
    if keep.std:
        found["std"] = np.sqrt(part["deviation"] / (n - 1))
    if keep.minimum:
        found["min"] = part["low"].astype(np.float64)
    if keep.maximum:
        found["max"] = part["high"].astype(np.float64)
    if "above" in part:
        found["above"] = part["above"] / n
    if "rank" in part:
        found["rank"] = part["rank"].astype(np.float64)
    if "distance" in part:
        found["crps"] = part["distance"] / n - (_apart(part["members"]) if "members" in part else _apart_in_bins(part)) / 2
    if not keep.quantiles:
        return found
    if "members" in part:
        found["quantile"] = np.quantile(part["members"].astype(np.float64), keep.quantiles, axis=0)
    elif "counts" in part:
        pairs = [_quantile(part, n, q) for q in keep.quantiles]
        found |= {"quantile": np.stack([p[0] for p in pairs]), "quantile_error": np.stack([p[1] for p in pairs])}
    return found


def _quantile(part: Part, n: int, q: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quantile and the bound of its error: between the two order statistics around rank ``q (n - 1)``."""
    rank = q * (n - 1)
    below, above = math.floor(rank), math.ceil(rank)
    (x, e), (y, f) = _ordered(part, below), _ordered(part, above)
    return x + (rank - below) * (y - x), np.maximum(e, f)


def _apart(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean distance of two members, without those from themselves."""
    n = len(x)
    weight = 2.0 * np.arange(1, n + 1) - n - 1
    return 2 * np.tensordot(weight, np.sort(x, axis=0).astype(np.float64), 1) / (n * (n - 1))


def _apart_in_bins(part: Part) -> NDArray[np.float64]:
    """The same of a histogram."""
    counts = part["counts"].astype(np.float64)
    n, up_to = counts.sum(0), counts.cumsum(0)
    below, above = up_to - counts, n - up_to
    pairs = below * above + counts * (below + above) / 2 + counts * (counts - 1) / 6
    left, right = _bounds(part, np.arange(EXACT)[:, None])
    return 2 * ((right - left) * pairs).sum(0) / (n * (n - 1))


def _bounds(part: Part, place: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of bins, one number of a bin or one row of them at every point."""
    start, end = part["edges"]
    low, high = part["low"].astype(np.float64), part["high"].astype(np.float64)
    width = (end - start) / (EXACT - 2)
    left = np.where(place == 0, low, np.where(place == EXACT - 1, end, start + (place - 1) * width))
    right = np.where(place == 0, start, np.where(place == EXACT - 1, high, start + place * width))
    return np.clip(left, low, high), np.clip(right, low, high)  # no value lies outside


def _ordered(part: Part, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value of rank ``k`` (from 0), and the width of the bin it lies in."""
    counts = part["counts"].astype(np.int64)
    total = counts.cumsum(0)
    place = (total <= k).sum(0)
    here = np.take_along_axis(counts, place[None], 0)[0]
    before = np.take_along_axis(total, place[None], 0)[0] - here
    left, right = _bounds(part, place)
    return left + (right - left) * ((k - before + 0.5) / here), right - left
