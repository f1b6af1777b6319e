"""What an evaluation found: plain frozen records that turn into JSON and back without loss."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from anygrid.errors import FileError
from anygrid.fields import Variable
from anygrid.metrics.errors import Estimate
from anygrid.metrics.invariants import AgainstNoise

__all__ = ["Comparison", "FieldExample", "LeadCurve", "LongCurve", "LongTerm", "LongTime", "Report", "Score", "SpectrumCurve", "Timing"]

_FORMAT = 1


@dataclass(frozen=True)
class Score:
    """Errors of one map at one resolution against the truth.

    ``role`` is ``map`` (given by the caller), ``solver`` or ``baseline``; ``computed_at`` is the resolution at which a solver
    ran before its result was brought to ``resolution``. ``errors`` holds dimensionless errors averaged over the output
    variables; ``variables`` holds every error of each variable; ``label_l2`` is the relative L2 error against the labels
    instead of the truth, the number that published tables quote; ``bands`` are relative errors by band of wave numbers.
    """

    name: str
    role: str
    resolution: tuple[int, ...]
    computed_at: tuple[int, ...]
    errors: dict[str, Estimate]
    variables: dict[str, dict[str, Estimate]]
    bands: dict[str, float | None]
    label_l2: Estimate | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds per sample: median and quartiles over interleaved repeats.

    ``batch`` is the number of samples in one call; seconds are already divided by it.
    """

    name: str
    role: str
    resolution: tuple[int, ...]
    batch: int
    threads: int
    repeats: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One map against the solver at one resolution: cost at equal error, error at equal time, break-even.

    ``relation`` says how ``solver_seconds`` is to be read: ``=`` interpolated on the measured curve, ``<=`` the cheapest
    measured solve was already more accurate than the map, ``>=`` no measured solve was as accurate. ``speedup`` is
    ``solver_seconds / seconds`` under the same relation. ``break_even`` is the number of solves that repay data and training;
    None with ``never`` set means that it is never repaid, None without means that the cost of data or training is unknown.
    """

    name: str
    resolution: tuple[int, ...]
    mode: str
    error: float
    seconds: float
    solver_seconds: float
    relation: str
    speedup: float
    solver_error_at_equal_time: float | None
    break_even: float | None
    never: bool
    sentence: str


@dataclass(frozen=True)
class LeadCurve:
    """Roll-out errors of one map by lead: the mean over starts and output variables, except ``rmse`` (each variable)."""

    name: str
    role: str
    resolution: tuple[int, ...]
    lead: list[float]
    lead_units: str
    relative_l2: list[float | None]
    rmse: dict[str, list[float | None]]
    anomaly_correlation: list[float | None]
    skill_over_persistence: list[float | None]


@dataclass(frozen=True)
class SpectrumCurve:
    """Mean power of one output variable by wave number, and the power of its error (empty for the truth)."""

    name: str
    variable: str
    resolution: tuple[int, ...]
    k: list[int]
    power: list[float]
    error: list[float]


@dataclass(frozen=True)
class LongTerm:
    """Long run of one map: ``steps`` is how many stayed finite in every run, ``exponent`` its own leading Lyapunov exponent.

    ``valid_time`` is in Lyapunov times of the solver, ``to_the_end`` counts forecasts that were still valid when the comparison
    ended. ``distances`` are those of its invariant statistics from the solver's, beside the solver's own noise; empty for a baseline
    and for a run that did not stay finite.
    """

    name: str
    role: str
    steps: int
    valid_time: Estimate
    to_the_end: int
    exponent: Estimate | None
    distances: dict[str, AgainstNoise]


@dataclass(frozen=True)
class LongCurve:
    """One statistic (``spectrum, values, slopes, autocorrelation``) of one variable, of the solver or of a map."""

    name: str
    statistic: str
    variable: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class LongTime:
    """Chaos of the solver and long runs of the maps: ``exponent`` per unit of time, ``starts`` runs of ``steps`` steps of ``dt``.

    Forecasts were followed for ``horizon`` steps; they are valid while their relative error is at most ``threshold``.
    """

    exponent: Estimate
    dt: float
    steps: int
    starts: int
    horizon: int
    threshold: float
    terms: tuple[LongTerm, ...]
    curves: tuple[LongCurve, ...]


@dataclass(frozen=True)
class FieldExample:
    """One test sample for the figures; arrays are ``(channel, *space)``, float32, thinned to what a figure can show."""

    title: str
    resolution: tuple[int, ...]
    dims: tuple[str, ...]
    periodic: tuple[bool, ...]
    geometry: str
    coordinates: tuple[NDArray[np.float32], ...]
    input: NDArray[np.float32]
    truth: NDArray[np.float32]
    predictions: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Report:
    """Everything an evaluation measured, with the settings and the machine that produced it."""

    subject: str
    kind: str
    inputs: list[dict[str, str]]
    outputs: list[dict[str, str]]
    settings: dict[str, Any]
    environment: dict[str, str]
    headline: tuple[int, ...]
    scores: tuple[Score, ...]
    timings: tuple[Timing, ...]
    comparisons: tuple[Comparison, ...]
    leads: tuple[LeadCurve, ...]
    spectra: tuple[SpectrumCurve, ...]
    examples: tuple[FieldExample, ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]
    format: int = _FORMAT
    long_time: LongTime | None = None

    def to_json(self, *, indent: int | None = 1) -> str:
        """Strict JSON; numbers that are not finite become null, arrays base64 of little-endian float32."""
        return json.dumps(_encode(self), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | Path) -> Report:
        """Read what :meth:`to_json` wrote, from a string or from a file.

        Raises
        ------
        FileError
            For text that is not such a report, or one from a newer version.
        """
        where = str(text) if isinstance(text, Path) else "Report.from_json"
        try:
            data = json.loads(text.read_text() if isinstance(text, Path) else text)
        except json.JSONDecodeError as error:
            raise FileError(where, "a report in JSON", f"text that is cut or not JSON ({error})", "run the evaluation again") from error
        if not isinstance(data, dict) or not isinstance(data.get("format"), int):
            raise FileError(where, "a report written by anygrid", "other JSON", "give the metrics.json of a report folder")
        if data["format"] > _FORMAT:
            raise FileError(where, f"format {_FORMAT} or older", f"format {data['format']}", "update anygrid to read this report")
        try:
            return _decode(cls, data)
        except (KeyError, TypeError) as error:
            raise FileError(where, "a complete report", f"one without {error}", "run the evaluation again") from error

    def table(self) -> Table:
        """Table for a terminal: every map, solver and baseline at the headline resolution, then the maps elsewhere."""
        heading = f"{self.subject}: error against the truth (mean over {self.settings.get('n', '?')} test samples, 95 % interval)"
        table = Table(title=heading, title_justify="left")
        for column in ("", "grid", "relative L2", "relative H1", "VRMSE", "time/sample"):
            table.add_column(column, justify="left" if column in ("", "grid") else "right")
        for score in self.rows():
            seconds = self.seconds(score.name, score.computed_at)
            ran = "" if score.computed_at == score.resolution else f" (solved at {grid_name(score.computed_at)})"
            others = [score.errors.get(name) for name in ("relative_h1", "vrmse")]
            shown = [str(score.errors["relative_l2"]), *("" if e is None else f"{e.mean:.4g}" for e in others)]
            table.add_row(score.name, grid_name(score.resolution) + ran, *shown, "" if seconds is None else duration(seconds))
        return table

    def rows(self) -> list[Score]:
        """Scores in the order of a table: maps at every resolution, then baselines and the solver as it is, at the headline."""
        rank = {"map": 0, "baseline": 1, "solver": 2}
        plain = next((s.name for s in self.scores if s.role == "solver"), "")
        shown = [s for s in self.scores if s.role == "map" or (s.resolution == self.headline and (s.role != "solver" or s.name == plain))]
        order = list(dict.fromkeys(s.name for s in self.scores))
        return sorted(shown, key=lambda s: (rank[s.role], order.index(s.name), s.resolution != self.headline, math.prod(s.computed_at)))

    def seconds(self, name: str, resolution: tuple[int, ...]) -> float | None:
        """Smallest median time for one sample alone, over the thread counts tried; None if it was not timed."""
        found = [t.median for t in self.timings if t.name == name and t.resolution == resolution and t.batch == 1]
        return min(found, default=None)


def data_title(inputs: Sequence[Variable], outputs: Sequence[Variable], dt: str | None) -> str:
    """What a data set is about, such as ``temperature, 1month ahead``."""
    given, wanted = (", ".join(v.long_name or v.name for v in part) for part in (inputs, outputs))
    ahead = f", {dt} ahead" if dt else ""
    return wanted + ahead if given == wanted else f"{wanted} from {given}{ahead}"


def grid_name(shape: tuple[int, ...]) -> str:
    """``(85, 85)`` as ``85x85``."""
    return "x".join(map(str, shape))


def duration(seconds: float) -> str:
    """Seconds with a unit that suits them and three significant digits."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def _encode(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "float32": base64.b64encode(value.astype("<f4").tobytes()).decode()}
    if isinstance(value, dict):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _decode(kind: Any, value: Any) -> Any:
    """Inverse of :func:`_encode`, led by the declared types."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        # A field with a default may be newer than the file.
        given = [f.name for f in fields(kind) if f.name in value or f.default is MISSING]
        return kind(**{name: _decode(hints[name], value[name]) for name in given})  # type: ignore[operator]
    if origin is np.ndarray or kind is np.ndarray:
        return np.frombuffer(base64.b64decode(value["float32"]), dtype="<f4").reshape(value["shape"])
    if origin in (Union, UnionType):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None else _decode(inner[0], value)
    if origin in (tuple, list):
        return origin(_decode(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _decode(arguments[1], item) for key, item in value.items()}
    if kind is float:
        return math.nan if value is None else float(value)
    return value
