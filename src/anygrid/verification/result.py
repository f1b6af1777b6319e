"""What a verification found: scores by variable and lead with their intervals, and what its figures are drawn from."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Calibrated",
    "Comparison",
    "Curve",
    "EventResult",
    "FieldMap",
    "Plume",
    "RankResult",
    "SpectrumResult",
    "VariableResult",
    "Verification",
]

Floats = tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """One score by lead: value and interval; ``name`` is its label."""

    name: str
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class RankResult:
    """Rank histogram at one lead, and the test of its flatness (None with too few cases)."""

    lead: float
    share: Floats
    statistic: float | None
    effective: float | None
    p_value: float | None


@dataclass(frozen=True)
class SpectrumResult:
    """Mean square by total wavenumber at one lead; ``mean`` is of the ensemble mean, empty for one forecast."""

    lead: float
    truth: Floats
    forecast: Floats
    mean: Floats


@dataclass(frozen=True)
class EventResult:
    """An event at every lead: Brier score and its parts, ROC; and the points of its diagrams over the leads together or one by one."""

    event: str
    frequency: Floats
    curves: tuple[Curve, ...]
    said: tuple[Floats, ...]
    observed: tuple[Floats, ...]
    observed_low: tuple[Floats, ...]
    observed_high: tuple[Floats, ...]
    share: tuple[Floats, ...]
    roc: tuple[tuple[Floats, Floats], ...]


@dataclass(frozen=True)
class Comparison:
    """Relative difference of a score to the reference's, (forecast - reference) / reference, with its interval and chance of none."""

    score: str
    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats


@dataclass(frozen=True)
class Calibrated:
    """What calibration on the first ``fitted`` starts did to the ``judged`` ones that follow.

    Attributes
    ----------
    coefficients
        EMOS's a, b, c, d by lead.
    curves
        CRPS of the normal distribution before and after, and their relative difference.
    coverage, covered
        Guaranteed chance that a whole field lies in its conformal band, and the part of the judged fields that did; empty with too few
        starts, which ``note`` says.
    events
        Relative difference of the Brier score by isotonic probabilities.
    """

    fitted: int
    judged: int
    coefficients: tuple[Floats, ...]
    curves: tuple[Curve, ...]
    coverage: float
    covered: Floats
    note: str
    events: tuple[Curve, ...]


@dataclass(frozen=True)
class VariableResult:
    """All scores of one channel."""

    name: str
    units: str
    starts: tuple[int, ...]
    crps_kind: str
    curves: tuple[Curve, ...]
    quantiles: tuple[tuple[float, Floats], ...] = ()
    coverage: tuple[tuple[float, float, Floats], ...] = ()
    ranks: tuple[RankResult, ...] = ()
    spectra: tuple[SpectrumResult, ...] = ()
    events: tuple[EventResult, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    left_out: float = 0.0
    calibrated: Calibrated | None = None

    def curve(self, name: str) -> Curve | None:
        """The curve of that name, if there is one."""
        return next((c for c in self.curves if c.name == name), None)


@dataclass(frozen=True, eq=False)
class FieldMap:
    """Truth, forecast (or mean of the members) and spread of one channel at one valid time, on ascending coordinates."""

    name: str
    units: str
    when: str
    lead: float
    coordinates: tuple[NDArray[np.float64], NDArray[np.float64]]
    sphere: bool
    truth: NDArray[np.float64]
    forecast: NDArray[np.float64]
    spread: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class Plume:
    """Forecasts at a station by lead: members ``(member, lead)``, or quantiles with their levels; and the truth."""

    name: str
    units: str
    start: str
    place: tuple[float, float]
    leads: Floats
    truth: NDArray[np.float64]
    members: NDArray[np.float64]
    levels: Floats


@dataclass(frozen=True)
class Verification:
    """The whole of it. ``kind`` is ``single``, ``members`` or ``statistics``; ``cannot`` says what could not be computed, and why."""

    forecast: str
    truth: str
    reference: str
    kind: str
    members: int
    held: int
    grid: str
    leads: Floats
    lead_units: str
    first: str
    last: str
    cases: int
    block: int
    draws: int
    level: float
    climatology: str
    variables: tuple[VariableResult, ...]
    notes: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    maps: tuple[FieldMap, ...] = field(default=(), repr=False)
    plumes: tuple[Plume, ...] = field(default=(), repr=False)

    def to_json(self) -> str:
        """Everything but the fields, as JSON; what is not finite becomes null."""
        shown = dataclasses.replace(self, maps=(), plumes=())
        facts = {k: v for k, v in dataclasses.asdict(shown).items() if k not in ("maps", "plumes")}
        return json.dumps(_plain(facts), indent=1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
