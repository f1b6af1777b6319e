"""What a browser page knows of its surrogate: names, units, statistics, the resolutions of its slider, real samples of inputs."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from anygrid.errors import UsageError
from anygrid.export.describe import facts
from anygrid.export.traceable import smallest
from anygrid.grid import Box, Sphere
from anygrid.numerics.interpolation import interpolate
from anygrid.surrogate import Surrogate
from anygrid.surrogate.predict import open_inputs

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FORMAT", "MOST_POINTS", "own_samples", "page_facts", "resolutions", "samples_of"]

FORMAT = "anygrid page"
MOST_POINTS = 1 << 18  # 512 x 512: about a second, and a few hundred MB of memory, in a browser
_LONGEST = 4096
_SIZES = [m << k for k in range(2, 12) for m in (2, 3)]  # 8, 12, 16, 24, ... 4096, 6144
_SAMPLES = 4
_MOST_VALUES = 1 << 22  # of the samples together: 16 MB
_LEVELS = 8  # values that an input may take and still be one of levels, such as the two permeabilities of a rock
_CONSTANT = 2e-3  # typical deviation within a sample, as part of the deviation over all, below which an input is a number, not a field

Array = NDArray[np.float32]


def resolutions(surrogate: Surrogate) -> list[tuple[int, ...]]:
    """Resolutions of the slider, all in about the proportions of the training grid, which is among them.

    The longest axis runs from 16 points (8 in three dimensions) to 4096, with at most :data:`MOST_POINTS` points together.

    Raises
    ------
    UsageError
        For more than three dimensions, and when even the smallest grid of the operator has too many points.
    """
    trained, least = surrogate.grid.shape, smallest(surrogate)
    if len(trained) > 3:
        raise UsageError("export of a page", "one to three space dimensions", str(len(trained)), "write -o NAME.onnx for other programs")
    longest, shortest = max(trained), 8 if len(trained) == 3 else 16
    shapes = {tuple(max(1, round(n * k / longest)) for k in trained) for n in _SIZES if shortest <= n <= _LONGEST}
    shapes = {shape for shape in (*shapes, trained) if all(n >= low for n, low in zip(shape, least, strict=True))}
    shapes = {shape for shape in shapes if math.prod(shape) <= MOST_POINTS}
    if not shapes:
        got = "x".join(map(str, tuple(max(n, low) for n, low in zip(trained, least, strict=True))))
        raise UsageError("export of a page", f"a surrogate that runs on at most {MOST_POINTS} points", got, "train one on a coarser grid")
    return sorted(shapes, key=math.prod)


def own_samples(surrogate: Surrogate) -> Array | None:
    """Inputs ``(sample, input, *space)`` drawn from the surrogate's own problem on the training grid; ``None`` where it knows none."""
    problem, grid = surrogate.problem, surrogate.grid
    if problem is None or not _fits(len(surrogate.inputs) * grid.size):
        return None
    generator = torch.Generator().manual_seed(0)
    return problem.sample(_SAMPLES, grid, generator).float().numpy()[: _fits(len(surrogate.inputs) * grid.size)]


def samples_of(surrogate: Surrogate, data: xr.Dataset) -> Array:
    """The first inputs ``(sample, input, *space)`` of ``data``, on an even grid of their own resolution.

    Raises
    ------
    DataError, GridError
        As in :func:`anygrid.surrogate.predict.predict`: a missing variable, other units, missing values, another domain.
    UsageError
        When one sample alone is too large for a page.
    """
    given = open_inputs(surrogate, data, "export --sample")
    count = _fits(len(surrogate.inputs) * given.grid.size)
    if count == 0:
        got = "x".join(map(str, given.grid.shape))
        raise UsageError("export --sample", f"at most {_MOST_VALUES} values in a sample", f"a grid of {got}", "coarsen it first")
    a = next(given.blocks(count))[:count]
    even = surrogate.grid.at(given.grid.shape)
    return (a if given.grid == even else interpolate(a, given.grid, even)).float().numpy()


def _fits(values: int) -> int:
    return min(_SAMPLES, _MOST_VALUES // max(values, 1))


def page_facts(surrogate: Surrogate, title: str, samples: Array | None, source: str) -> dict[str, Any]:
    """Facts of an exported file, and what the page needs besides; JSON-able.

    Parameters
    ----------
    samples, source
        Inputs that the page offers, and where they are from.
    """
    grid = surrogate.grid
    assert isinstance(grid, Box | Sphere)
    said = facts(surrogate)
    names = [v["name"] for v in said["outputs"]]
    inputs = [
        {
            **variable,
            **_input_statistics(surrogate, k),
            "levels": None if samples is None else _levels(samples[:, k]),
            "from_output": names.index(variable["name"]) if surrogate.dt is not None and variable["name"] in names else None,
        }
        for k, variable in enumerate(said["inputs"])
    ]
    record = surrogate.record
    sphere = isinstance(grid, Sphere)
    return {
        **said,
        "format": FORMAT,
        "axes": [{**axis, "units": axis["units"] or ("degrees" if sphere else "")} for axis in said["axes"]],
        "title": title,
        "inputs": inputs,
        "sphere": sphere,
        "horizontal": _horizontal(grid),
        "resolutions": [list(shape) for shape in resolutions(surrogate)],
        "samples": None if samples is None else {"count": len(samples), "shape": list(samples.shape[2:]), "source": source},
        "parameters": sum(p.numel() for p in surrogate.operator.parameters()),
        "validation_error": _finite(record.get("validation_error")),
        "training_samples": surrogate.statistics.inputs.count // grid.size,
        "equation": None if surrogate.problem is None else repr(surrogate.problem),
    }


def _finite(value: object) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _input_statistics(surrogate: Surrogate, k: int) -> dict[str, Any]:
    moments = surrogate.statistics.inputs
    constant = moments.minimum[k] == moments.maximum[k]
    std = 0.0 if constant else moments.std[k]
    within, seen = std, surrogate.seen
    if seen is not None and seen.mean and not constant:
        # The second group of its statistics: logarithms of the deviation within a sample, in units of the spread.
        within = min(std, max(math.exp(seen.mean[len(surrogate.inputs) + k]) - 1e-3, 0.0) * seen.spread[k])
    number = constant or within < _CONSTANT * std
    return {
        "mean": moments.mean[k],
        "deviation": within,
        "minimum": moments.minimum[k],
        "maximum": moments.maximum[k],
        "number": number,
    }


def _levels(values: Array) -> dict[str, list[float]] | None:
    """Values of an input that takes few, and the quantiles of a normal distribution that divide them in their proportions."""
    found, counts = np.unique(values, return_counts=True)
    if not 2 <= len(found) <= _LEVELS:
        return None
    shares = np.cumsum(counts)[:-1] / counts.sum()
    return {"values": found.tolist(), "quantiles": [NormalDist().inv_cdf(float(share)) for share in shares]}


def _horizontal(grid: Box | Sphere) -> int:
    """Which of the last two dimensions runs to the right: longitude, one named x; otherwise the first, as in the reports."""
    if grid.ndim == 1:
        return 0
    last = grid.dims[-1].lower()
    return grid.ndim - 1 if isinstance(grid, Sphere) or last in ("x", "lon", "longitude") else grid.ndim - 2
