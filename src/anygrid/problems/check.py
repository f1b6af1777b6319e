"""Proof that a problem keeps the contract of :class:`~anygrid.problems.base.Problem`; run it on every new one."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import torch
from torch import Tensor

from anygrid.errors import AnygridError
from anygrid.grid import Box, Grid, Sphere
from anygrid.problems.base import Problem

__all__ = ["check_problem"]

_SEED = 20
_BATCH_TOLERANCE = 1e-5  # batched transforms may round differently from single ones
_RESIDUAL = 0.1  # of the residual that a wrong solution leaves


def check_problem(problem: Problem, resolution: int | tuple[int, ...]) -> None:
    """Check everything the contract of a problem says that can be checked at one resolution.

    The dataclass is frozen, hashable, pickles and has parameters that JSON can hold; the card is complete; variables have names and
    units; samples depend on the generator alone and are the same functions on a finer grid; ``solve`` keeps shape and dtype, leaves
    its input alone, is finite, deterministic, independent of the batch and refuses NaN; ``residual`` on the solver's own solution is at
    most a tenth of that on the solution of another sample and, for an evolution, on the unchanged input.

    Raises
    ------
    AssertionError
        With a sentence that says which promise is broken.
    """
    _check_class(problem)
    grid = problem.grid(resolution)
    a = _check_sample(problem, grid)
    u = _check_solve(problem, a, grid)
    _check_residual(problem, a, u, grid)


def _require(promise: bool, problem: Problem, message: str) -> None:
    if not promise:
        raise AssertionError(f"{type(problem).__name__}: {message}")


def _check_class(problem: Problem) -> None:
    _require(dataclasses.is_dataclass(problem), problem, "is not a dataclass")
    parameters = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}  # type: ignore[arg-type]
    for name in parameters:
        try:
            setattr(problem, name, parameters[name])
        except dataclasses.FrozenInstanceError:
            continue
        _require(False, problem, f"is not frozen: {name} can be set")
    _require(type(problem)(**json.loads(json.dumps(parameters))) == problem, problem, "parameters do not survive JSON")
    _require(pickle.loads(pickle.dumps(problem)) == problem, problem, "does not survive pickling")
    _require(hash(problem) == hash(dataclasses.replace(problem)), problem, "is not hashable by value")  # type: ignore[type-var]
    empty = [f.name for f in dataclasses.fields(problem.card) if not str(getattr(problem.card, f.name)).strip()]
    _require(not empty, problem, f"card says nothing about {', '.join(empty)}")
    for role in ("inputs", "outputs"):
        variables = getattr(problem, role)
        names = [v.name for v in variables]
        _require(
            bool(names) and len(set(names)) == len(names), problem, f"{role} must be one or more variables of different names, not {names}"
        )
        unnamed = [v.name for v in variables if not (v.name.isidentifier() and v.units and v.long_name)]
        _require(not unnamed, problem, f"{role} {unnamed} need a name, units ('1' if none) and a long_name")
    _require(problem.dt is None or problem.dt > 0, problem, f"dt must be None or above 0, not {problem.dt}")
    _require(problem.steps >= 1, problem, f"steps must be at least 1, not {problem.steps}")
    if problem.steps > 1:
        missing = {v.name for v in problem.outputs} - {v.name for v in problem.inputs}
        _require(problem.dt is not None, problem, "takes several steps but has no dt")
        _require(not missing, problem, f"cannot be rolled out: outputs {sorted(missing)} are not among its inputs")


def _check_sample(problem: Problem, grid: Grid) -> Tensor:
    a, end = _draw(problem, grid, _SEED)
    _require(
        tuple(a.shape) == (3, len(problem.inputs), *grid.shape), problem, f"sample(3) has shape {tuple(a.shape)} on a grid of {grid.shape}"
    )
    _require(a.is_floating_point() and bool(torch.isfinite(a).all()), problem, f"samples are not finite floats ({a.dtype})")
    _require(torch.equal(a, _draw(problem, grid, _SEED)[0]), problem, "two draws with the same seed differ")
    _require(not torch.equal(a, _draw(problem, grid, _SEED + 1)[0]), problem, "draws with different seeds are equal")
    _require(not torch.equal(a[0], a[1]), problem, "two samples of one draw are equal")
    finer, here, there = _shared(problem, grid)
    coarse, (fine, other_end) = a, _draw(problem, finer, _SEED)
    _require(torch.equal(end, other_end), problem, "the generator advances by an amount that depends on the grid")
    for axis, (rows, columns) in enumerate(zip(here, there, strict=True), start=2):
        coarse, fine = coarse.index_select(axis, torch.tensor(rows)), fine.index_select(axis, torch.tensor(columns))
    gap = float((coarse - fine).abs().max() / coarse.abs().max())
    _require(
        gap < 1e-5,
        problem,
        f"one seed gives different functions on {grid.shape} and {finer.shape}: relative gap {gap:.2g} at shared points",
    )
    return a


def _draw(problem: Problem, grid: Grid, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return problem.sample(3, grid, generator), generator.get_state()


def _shared(problem: Problem, grid: Grid) -> tuple[Grid, list[list[int]], list[list[int]]]:
    """Find a finer grid of the problem and, axis by axis, the indices of the points that both grids have."""
    if not isinstance(grid, Box | Sphere):
        return grid, [list(range(grid.size))], [list(range(grid.size))]
    for finer in (problem.grid(tuple(factor * n - less for n in grid.shape)) for factor, less in ((2, 0), (2, 1), (3, 0))):
        assert isinstance(finer, Box | Sphere)
        here, there = [], []
        for one, two in zip(grid.axes, finer.axes, strict=True):
            gaps = np.abs(one.coordinates()[:, None] - two.coordinates())
            rows, columns = np.nonzero(gaps < 1e-9 * one.interval.length)
            here.append(rows.tolist())
            there.append(columns.tolist())
        if all(len(rows) >= n // 2 for rows, n in zip(here, grid.shape, strict=True)):
            return finer, here, there
    raise AssertionError(f"{type(problem).__name__}: no grid of about twice or three times {grid.shape} shares its points")


def _check_solve(problem: Problem, a: Tensor, grid: Grid) -> Tensor:
    before = a.clone()
    u = problem.solve(a, grid)
    _require(torch.equal(a, before), problem, "solve changes its input")
    _require(tuple(u.shape) == (len(a), len(problem.outputs), *grid.shape), problem, f"solve returns shape {tuple(u.shape)}")
    _require(u.dtype == a.dtype, problem, f"solve returns {u.dtype} for {a.dtype}")
    _require(bool(torch.isfinite(u).all()), problem, "solve returns values that are not finite")
    _require(torch.equal(u, problem.solve(a, grid)), problem, "solve gives another answer the second time")
    for i in range(len(a)):
        gap = float((problem.solve(a[i : i + 1], grid)[0] - u[i]).abs().max() / u[i].abs().max())
        _require(gap < _BATCH_TOLERANCE, problem, f"sample {i} solved alone differs by {gap:.2g} from itself in a batch")
    low = problem.solve(a.float(), grid)
    gap = float((low - u).abs().max() / u.abs().max())
    _require(low.dtype == torch.float32 and gap < 1e-3, problem, f"float32 input: {low.dtype}, relative gap {gap:.2g} to {a.dtype}")
    spoiled = a.clone()
    spoiled[1, 0].view(-1)[0] = float("nan")
    try:
        problem.solve(spoiled, grid)
    except AnygridError:
        return u
    raise AssertionError(f"{type(problem).__name__}: solve accepts NaN instead of raising an AnygridError")


def _check_residual(problem: Problem, a: Tensor, u: Tensor, grid: Grid) -> None:
    own = problem.residual(a, u, grid)
    _require(own.shape == u.shape and own.dtype == u.dtype, problem, f"residual has shape {tuple(own.shape)} and dtype {own.dtype}")
    _require(bool(torch.isfinite(own).all()), problem, "residual is not finite on the solver's own solution")
    others = {"another sample's solution": u.roll(1, 0)}
    if problem.dt is not None and problem.inputs == problem.outputs:
        others["the unchanged input"] = a
    for name, other in others.items():
        ratio = float(own.norm() / problem.residual(a, other, grid).norm().clamp(min=1e-30))
        _require(ratio < _RESIDUAL, problem, f"the residual of its own solution is {ratio:.2g} of that of {name}")
