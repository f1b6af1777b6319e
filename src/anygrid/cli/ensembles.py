"""What `anygrid forecast --members` asks for: words become an ensemble."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrid.errors import DataError, UsageError, did_you_mean
from anygrid.fields.names import quantity_of
from anygrid.fields.units import find_unit, zero_point

if TYPE_CHECKING:
    import xarray as xr

    from anygrid.fields import Variable
    from anygrid.forecast import Keep, Perturbation
    from anygrid.io.cluster import Cluster
    from anygrid.surrogate import Surrogate

__all__ = ["Asked", "carry_out", "hands", "kept"]

_PLAIN = {"mean": "mean", "std": "std", "min": "minimum", "max": "maximum", "crps": "crps", "rank": "rank"}
_WITH_VALUES = ("quantiles", "above", "exceedance")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of `quantiles` without numbers
_LIMIT = re.compile(r"(?P<name>.+?)\s*(?P<sign>[=<>])\s*(?P<value>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(?P<units>[^<>=]*)")


def kept(words: str, members: str | None, outputs: Sequence[Variable]) -> Keep:
    """``mean,std,min,max,crps,rank,quantiles(0.1,0.9),exceedance(t2m>300K)`` and members such as ``0:10`` or ``3``.

    ``above(NAME=VALUE)`` is another way to write an exceedance. A unit behind the value is converted to that of the output.

    Raises
    ------
    UsageError
        For a word that is none of these, and values that are no numbers.
    """
    from anygrid.forecast import Keep

    found: dict[str, Any] = dict.fromkeys(_PLAIN.values(), False) | {"quantiles": (), "above": ()}
    pieces = re.findall(r"[^,()]+(?:\([^()]*\))?|[()]", words)
    for piece in (p.strip() for p in pieces):
        name, bracket, inside = piece.partition("(")
        name = name.strip().lower()
        values = [v.strip() for v in inside.removesuffix(")").split(",")] if bracket else []
        if not piece:
            continue
        if name not in (*_PLAIN, *_WITH_VALUES):
            raise UsageError("--keep", "the name of a statistic", repr(name), did_you_mean(name, (*_PLAIN, *_WITH_VALUES)))
        if name == "quantiles" and not values:
            values = [str(q) for q in _QUANTILES]
        if (name in _PLAIN) == bool(values) or values == [""]:
            example = {"quantiles": "quantiles(0.1,0.9)", "above": "above(NAME=VALUE)", "exceedance": "exceedance(t2m>300K)"}.get(
                name, name
            )
            raise UsageError("--keep", example, repr(piece), f"write --keep '{example}'")
        if name in _PLAIN:
            found[_PLAIN[name]] = True
        elif name == "quantiles":
            found["quantiles"] += tuple(_number(v, "--keep quantiles") for v in values)
        else:
            found["above"] += tuple(_threshold(v, name, outputs) for v in values)
    return Keep(**found, members=range(0) if members is None else _range(members))


def _threshold(text: str, word: str, outputs: Sequence[Variable]) -> tuple[str, float]:
    """Output and value of ``t2m>300K``; the output may be named otherwise, as long as it is the same quantity."""
    found, where = _LIMIT.fullmatch(text), f"--keep {word}"
    if found is None:
        raise UsageError(where, "NAME>VALUE, with or without a unit", repr(text), "for example --keep 'exceedance(t2m>300K)'")
    if found["sign"] == "<":
        raise UsageError(where, "NAME>VALUE", repr(text), f"the part below is 1 less that above: {found['name']}>{found['value']}")
    value, units = _number(found["value"], where), found["units"].strip()
    name = found["name"].strip()
    output = next((v for v in outputs if v.name == name), None) or next(
        (v for v in outputs if quantity_of(v.name) == quantity_of(name)), None
    )
    if output is None:
        raise UsageError(where, "a variable that is predicted", repr(name), did_you_mean(name, [v.name for v in outputs]))
    if not units:
        return output.name, value
    a, b = find_unit(units), find_unit(output.units)
    if a is None or b is None or not a.alike(b):
        got = f"{units!r} for {output.name} in {output.units!r}"
        raise UsageError(where, "a unit of the same kind as the variable's", got, f"write the value in {output.units}")
    return output.name, float(f"{(value * a.scale + zero_point(units) - zero_point(output.units)) / b.scale:.12g}")


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(where, "a number", repr(text.strip())) from error


def _range(text: str) -> range:
    begin, colon, end = text.partition(":")
    if not begin.strip().isdigit() or (colon and not end.strip().isdigit()) or (colon and int(end) <= int(begin)):
        raise UsageError("--keep-members", "a range of members", repr(text), "for example 0:10, which are the first ten")
    return range(int(begin), int(end) if colon else int(begin) + 1)


def _spread(model: Surrogate, amplitude: float | None, length: float | None) -> Perturbation | None:
    """Perturbations relative to the standard deviation of each variable in training; what was constant there stays."""
    from anygrid.forecast import Perturbation
    from anygrid.forecast.perturb import default_length

    if amplitude is None:
        if length is not None:
            raise UsageError("--length", "perturbations", "none", "add --perturb 0.01")
        return None
    seen = model.statistics.outputs
    deviation = tuple(0.0 if constant else amplitude * s for s, constant in zip(seen.std, seen.constant, strict=True))
    if amplitude > 0 and not any(deviation):
        raise DataError("--perturb", "a variable that varied in training", "none", "give members in the data with --member-dim")
    return Perturbation(deviation, default_length(model.grid) if length is None else length)


@contextmanager
def hands(workers: int | None, scheduler: str | None) -> Iterator[Cluster | None]:
    """The cluster at an address, or none.

    Raises
    ------
    UsageError
        For workers of one's own beside those of a cluster.
    ClusterError
        When it does not answer.
    """
    from anygrid.io.cluster import connect

    if scheduler is not None and workers is not None:
        raise UsageError("--scheduler", "the workers of the cluster", f"--workers {workers} as well", "leave --workers out")
    with nullcontext() if scheduler is None else connect(scheduler) as cluster:
        yield cluster


@dataclass(frozen=True)
class Asked:
    """What was said of members, and of who computes."""

    members: int | None
    member_dim: str | None
    perturb: float | None
    length: float | None
    seed: int
    keep: str
    keep_members: str | None
    workers: int | None
    scheduler: str | None

    @property
    def many(self) -> bool:
        """Whether an ensemble is asked for."""
        return self.members is not None or self.member_dim is not None

    @property
    def anything(self) -> bool:
        """Whether anything was said: then :func:`carry_out` does the work, also of single forecasts."""
        words = (self.perturb, self.length, self.keep_members, self.workers, self.scheduler)
        return self.many or any(word is not None for word in words)


def carry_out(
    model: Surrogate,
    data: xr.Dataset,
    steps: int,
    asked: Asked,
    *,
    start: str,
    every: int,
    forcings: xr.Dataset | None,
    truth: xr.Dataset | None,
    known_times: xr.DataArray | None,
    out: Path | None,
    overwrite: bool,
    progress: Callable[[int, int, float], None],
) -> xr.Dataset:
    """The ensemble, or without members the forecasts from every start, spread over processes or a cluster."""
    from anygrid.forecast import ensemble

    if asked.scheduler is not None and out is None:
        hint = "write -o NAME.zarr, on a file system that the workers share"
        raise UsageError("--scheduler", "an output that workers write into", "NetCDF, which one process writes", hint)
    if asked.keep_members is not None and not asked.many:
        raise UsageError("--keep-members", "an ensemble", "one forecast", "add --members 100 --perturb 0.01")
    with hands(asked.workers, asked.scheduler) as cluster:
        return ensemble(
            model,
            data,
            steps,
            asked.members,
            inputs=model.inputs,
            outputs=model.outputs,
            perturbation=_spread(model, asked.perturb, asked.length),
            member_dim=asked.member_dim,
            stochastic=bool(model.noise) and asked.many,
            seed=asked.seed,
            keep=kept(asked.keep, asked.keep_members, model.outputs),
            dt=model.dt,
            domain=model.grid,
            start=start,  # type: ignore[arg-type]
            every=every,
            forcings=forcings,
            truth=truth,
            known_times=known_times,
            out=out,
            workers=asked.workers,
            cluster=cluster,
            overwrite=overwrite,
            progress=progress,
        )
