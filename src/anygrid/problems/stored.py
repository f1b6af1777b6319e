"""Problems as JSON: their class by name and their parameters, read back through a fixed table, so that no file names code to run."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from anygrid.errors import AnygridError, FileError, did_you_mean
from anygrid.problems.base import Problem
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.equation import EquationProblem
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes

__all__ = ["PROBLEMS", "problem_from_json", "problem_of", "problem_to_json"]

PROBLEMS: tuple[type[Problem], ...] = (Burgers, Darcy, EquationProblem, Helmholtz, KuramotoSivashinsky, NavierStokes)
"""Classes that a file may name."""

_STEP = 1e-6  # relative: a time step in a file is written with ten digits


def problem_to_json(problem: Problem) -> dict[str, Any] | None:
    """Name of the class and its parameters; ``None`` for a class that is not in :data:`PROBLEMS`, which no file could name."""
    if type(problem) not in PROBLEMS:
        return None
    return {"name": type(problem).__name__, "parameters": json.loads(json.dumps(_fields(problem)))}


def problem_from_json(stored: Mapping[str, Any]) -> Problem:
    """Inverse of :func:`problem_to_json`.

    Raises
    ------
    FileError
        For another class, parameters that it does not have or of another type, and values that it refuses.
    """
    where = "problem in the file"
    if not (isinstance(stored, Mapping) and set(stored) == {"name", "parameters"} and isinstance(stored["parameters"], Mapping)):
        raise FileError(where, "a name and parameters", str(stored)[:80], "the file was not written by anygrid")
    known, name = {kind.__name__: kind for kind in PROBLEMS}, stored["name"]
    if not isinstance(name, str) or name not in known:
        raise FileError(where, "a problem this version knows", repr(name)[:80], did_you_mean(str(name)[:80], known))
    kind = known[name]
    hints = {key: hint for key, hint in typing.get_type_hints(kind).items() if key in _names(kind)}
    values: dict[str, Any] = {}
    for key, value in stored["parameters"].items():
        if key not in hints:
            raise FileError(where, f"parameters of {name}", repr(key)[:80], did_you_mean(str(key)[:80], hints))
        if not _fits(value, hints[key]):
            raise FileError(where, f"{key} of {name} as the class declares it", repr(value)[:80], "the file was not written by anygrid")
        values[key] = value
    try:
        return kind(**values)
    except (AnygridError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise FileError(where, f"parameters that {name} accepts", str(error)[:300], "the file was not written by anygrid") from error


def problem_of(attributes: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str], dt: str | None) -> Problem | None:
    """The problem whose solution map a surrogate of some data is, by the attributes that :func:`anygrid.io.store.generate` wrote.

    ``None`` where the attributes name none, where the variables are not those of the problem, and where the step ``dt`` is no multiple of
    the problem's; for a multiple, the problem has that step.
    """
    name, parameters = attributes.get("problem"), attributes.get("parameters")
    kind = next((k for k in PROBLEMS if name == f"{k.__module__}.{k.__qualname__}"), None)
    if kind is None or not isinstance(parameters, str):
        return None
    try:
        problem = problem_from_json({"name": kind.__name__, "parameters": json.loads(parameters)})
        named = [v.name for v in problem.inputs] == list(inputs) and [v.name for v in problem.outputs] == list(outputs)
        if not named or (problem.dt is None) != (dt is None):
            return None
        if problem.dt is None or dt is None:
            return problem
        count = round(float(dt) / problem.dt)
        if count < 1 or abs(float(dt) / problem.dt - count) > _STEP * count:
            return None
    except (AnygridError, ValueError, RecursionError):
        return None  # attributes of somebody else's file: the data are good without them
    return problem if count == 1 else _with_step(problem, count * problem.dt)


def _with_step(problem: Problem, dt: float) -> Problem:
    assert dataclasses.is_dataclass(problem)
    assert not isinstance(problem, type)
    return dataclasses.replace(problem, dt=dt)


def _names(kind: type[Problem]) -> set[str]:
    assert dataclasses.is_dataclass(kind)
    return {field.name for field in dataclasses.fields(kind)}


def _fields(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in sorted(_names(type(problem)))}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON is of the annotated type: numbers, text, choices, and lists of lists of text."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint is type(None) or hint is None:
        return value is None
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(_fits(v, arguments[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint
