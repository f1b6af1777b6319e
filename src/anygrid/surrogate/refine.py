"""Predictions brought to the solver's accuracy: the solver as referee and corrector of a surrogate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.metrics.errors import relative_l2
from anygrid.problems.base import Problem
from anygrid.surrogate.geometry import snap
from anygrid.surrogate.model import Surrogate, equation_of
from anygrid.surrogate.predict import open_inputs

__all__ = ["refine"]

_COMPARED = 4
_ROWS = 16  # samples between two calls of the surrogate
Found = list[tuple[Tensor, Tensor, Tensor, Sequence[int]]]


def refine(surrogate: Surrogate, ds: xr.Dataset, tolerance: float = 1e-6, *, compare: int = _COMPARED) -> xr.Dataset:
    r"""The solver's solution for every sample of ``ds``, from the surrogate's prediction as a guess, as a data set.

    The result carries the solver's guarantee, not the surrogate's error: the equations and the tolerance are those of a solve without
    a guess, and only the iterations are fewer (see :meth:`anygrid.problems.base.Problem.refine` for which solvers have any). It is float64.

    Beside the solutions stand, along the samples: ``surrogate_error``, the relative L2 distance of the prediction from the solution (of the
    worst variable); ``solver_error``, the solver's own estimate, where it makes one; ``iterations``, where it iterates. What the error
    of the grid itself is, only a finer grid can say.

    Parameters
    ----------
    tolerance
        Of the solver: relative residual of an iterative linear solve, relative last correction of Newton's method, relative error in
        time of an evolution.
    compare
        How many samples, from the first, are also solved without the guess, to count what it saves. 0 counts nothing.

    Returns
    -------
    xarray.Dataset
        Attributes ``tolerance``, ``scheme``, ``solver_error`` and ``surrogate_error`` (the largest), and for solvers that iterate
        ``iterations`` (mean), ``iterations_with_guess`` and ``iterations_without_guess`` (means over the samples compared).

    Raises
    ------
    UsageError
        When the surrogate does not know its equation, and for numbers out of range.
    DataError, GridError
        For data that :func:`~anygrid.surrogate.predict.predict` refuses, or that lie on another domain than the equation.
    AnygridError
        Whatever the solver raises.
    """
    if compare < 0:
        raise UsageError("refine compare", "0 or more samples", str(compare))
    problem = equation_of(surrogate, "refine")
    given = open_inputs(surrogate, ds, "refine")
    # The solver wants its own domain, to the last digit.
    grid = snap(given.grid, problem.grid(given.grid.shape), "refine: grid of the data")
    parts: Found = []
    cold: list[int] = []
    scheme = ""
    for block in given.blocks(_ROWS):
        for a in block.split(_ROWS):
            u = surrogate_guess(surrogate, a, grid)
            found = problem.refine(a.double(), u, grid, tolerance)
            scheme = f"{found.scheme.name}: {found.scheme.reason}"
            parts.append((found.u, found.error, relative_l2(u, found.u, grid).amax(1), found.iterations))
            rest = min(len(a), compare - len(cold))
            if found.iterations and rest > 0:
                cold += _without_guess(problem, a[:rest], grid, tolerance)
    out = given.named(torch.cat([u for u, *_ in parts]))
    out = out if surrogate.dt is None else out.assign_attrs(lead_time=surrogate.dt)
    return _told(out, parts, cold, tuple(given.leading), tolerance, scheme)


def surrogate_guess(surrogate: Surrogate, a: Float[Tensor, "batch inputs *space"], grid: Grid) -> Float[Tensor, "batch outputs *space"]:
    """Prediction in float64 on the CPU, where the solvers compute."""
    training = surrogate.training
    surrogate.eval()
    with torch.inference_mode():
        u = surrogate(a.to(surrogate.in_mean), grid)
    surrogate.train(training)
    return u.double().cpu().clone()


def _without_guess(problem: Problem, a: Tensor, grid: Grid, tolerance: float) -> Sequence[int]:
    nothing = torch.zeros(len(a), len(problem.outputs), *grid.shape, dtype=torch.float64)
    return problem.refine(a.double(), nothing, grid, tolerance).iterations


def _told(out: xr.Dataset, parts: Found, cold: list[int], leading: tuple[str, ...], tolerance: float, scheme: str) -> xr.Dataset:
    """The data set with what is known of its accuracy and its cost, by sample and in all."""
    counts = [n for *_, each in parts for n in each]
    columns = {
        "surrogate_error": (torch.cat([e for *_, e, _ in parts]), "relative L2 distance of the surrogate's prediction from the solution"),
        "solver_error": (torch.cat([e for _, e, *_ in parts]).double(), "relative error as the solver estimates it"),
        "iterations": (torch.tensor(counts, dtype=torch.float64), "iterations of the solver from the surrogate's prediction"),
    }
    attributes: dict[str, Any] = {"source": "anygrid: the solver of the equation, from the prediction of a surrogate"}
    attributes |= {"scheme": scheme, "tolerance": tolerance}
    sizes = [out.sizes[d] for d in leading]
    for name, (values, about) in columns.items():
        if len(values) != math.prod(sizes) or bool(values.isnan().all()):
            continue
        # As variables, not as coordinates: arithmetic between two results shall not drop or compare them.
        out = out.assign({name: (leading, values.numpy().reshape(sizes), {"units": "1", "long_name": about})})
        attributes[name] = float(values.mean() if name == "iterations" else values.max())
    if cold:
        attributes |= {"iterations_with_guess": sum(counts[: len(cold)]) / len(cold), "iterations_without_guess": sum(cold) / len(cold)}
    return out.assign_attrs(attributes)
