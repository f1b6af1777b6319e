"""What a run was asked for, as the table ``[request]`` of its ``run.toml``: written before the work, repeated by `anygrid run`."""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from anygrid.errors import FileError, UsageError, did_you_mean

__all__ = ["FitRequest", "ProblemRequest", "open_run", "read_request"]


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """The words of `anygrid fit`; those not given stay ``None`` or empty and are left to the defaults of ``fit``."""

    data: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    physics: str | None = None
    lead: str | None = None
    select: tuple[str, ...] = ()
    validation: str | None = None
    budget: str | None = None
    steps: int | None = None
    epochs: float | None = None
    operator: str = "default"
    width: int | None = None
    modes: int | None = None
    stride: int | None = None
    depth: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    device: str | None = None
    precision: str | None = None
    unroll: int | None = None
    increment: bool | None = None
    gradient: float | None = None
    optimizer: str | None = None
    noise: int | None = None
    replay: int | None = None
    persistence: bool | None = None
    parent: str | None = None
    waves: int | None = None
    search: bool = False
    confine: bool = False
    coarse_first: tuple[str, ...] = ()
    augment: tuple[str, ...] = ()
    keep_best: bool = False
    periodic: tuple[str, ...] = ()
    bounded: tuple[str, ...] = ()
    space: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    time: str | None = None
    parallel: str | None = None
    micro_batch: str | None = None


@dataclasses.dataclass(frozen=True)
class ProblemRequest:
    """The words of `anygrid run PROBLEM`; those not given stay ``None`` and are left to the recipe of the problem.

    ``equation`` is the TOML text of an equation, when ``problem`` is the name of its file.
    """

    problem: str
    equation: str | None = None
    settings: tuple[str, ...] = ()
    n: int | None = None
    resolution: str | None = None
    store_resolution: str | None = None
    trajectory: int | None = None
    test: int | None = None
    resolutions: tuple[str, ...] = ()
    budget: str | None = None
    steps: int | None = None
    seed: int | None = None
    operator: str = "default"
    width: int | None = None
    modes: int | None = None
    depth: int | None = None
    timing: float | None = None
    physics: bool = False
    confine: bool = False
    long_steps: int | None = None


Request = FitRequest | ProblemRequest
_KINDS: dict[str, type[FitRequest] | type[ProblemRequest]] = {"fit": FitRequest, "run": ProblemRequest}


def table(request: Request) -> dict[str, Any]:
    """Table for ``run.toml``: what was said, and nothing else."""
    command = next(word for word, kind in _KINDS.items() if isinstance(request, kind))
    said = {f.name: value for f in dataclasses.fields(request) if (value := getattr(request, f.name)) is not None and value != f.default}
    return {"command": command, **{k: list(v) if isinstance(v, tuple) else v for k, v in said.items()}}


def read_request(path: Path) -> Request:
    """The request of a ``run.toml``.

    Raises
    ------
    FileError
        For a file that is missing or no TOML, has no ``[request]``, or has entries that no command takes.
    """
    from anygrid.training import read_run

    stored = read_run(path).get("request")
    where = f"{path} [request]"
    if not isinstance(stored, dict):
        hint = "give the run.toml of a run folder, or write one: [request] with command = 'run' and problem = 'darcy'"
        raise FileError(where, "a table that says what to run", "none", hint)
    command = stored.get("command")
    if command not in _KINDS:
        raise FileError(where, "command = 'fit' or 'run'", repr(command), did_you_mean(str(command), _KINDS))
    kind = _KINDS[command]
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in stored.items():
        if key == "command":
            continue
        if key not in hints:
            raise FileError(where, f"an entry of `anygrid {command}`", repr(key), did_you_mean(key, hints))
        values[key] = _checked(value, hints[key], f"{where} {key}")
    missing = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values]
    if missing:
        raise FileError(where, f"an entry {missing[0]!r}", "none", "add it")
    return kind(**values)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """A value of a TOML file as the annotated type; a list of words for a tuple, a whole number for a float."""
    if typing.get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise FileError(where, "a list of words", repr(value), 'for example ["a", "b"]')
    wanted = [a for a in typing.get_args(hint) if a is not type(None)] if typing.get_origin(hint) is types.UnionType else [hint]
    if wanted[0] is float and type(value) is int:
        return float(value)
    if type(value) is not wanted[0]:
        raise FileError(where, f"a value of type {wanted[0].__name__}", repr(value), "write it as TOML: words in quotes, numbers without")
    return value


def open_run(folder: Path, request: Request, overwrite: bool) -> bool:
    """Make the folder of a run, or go on with one that was asked for in the same words; returns whether it had begun before.

    With ``overwrite`` a run of other words, or a finished one, is removed first; an unfinished run of the same words goes on
    all the same, so that a killed command continues.

    Raises
    ------
    UsageError
        When the folder holds a run of another request, or something that is no run.
    FileError
        When it cannot be written, or is an address.
    """
    from anygrid.cli.output import disk_errors, refuse_address
    from anygrid.training import read_run, write_run

    refuse_address(folder)
    described = folder / "run.toml"
    wanted = tomllib.loads(_toml(table(request)))
    if described.exists():
        found = read_run(described).get("request", {})
        same = _what(found) == _what(wanted)
        if overwrite and "command" in found and (not same or (folder / "surrogate.anygrid").exists()):
            shutil.rmtree(folder)
        elif not same:
            raise UsageError(
                f"run folder {folder}", "a run of the same request", _difference(found, wanted), "choose another folder, or add --overwrite"
            )
        else:
            return True
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"run folder {folder}", "a new folder, or one that holds a run", "something else", "choose another folder")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_run(described, {"request": wanted})
    return False


def _what(words: dict[str, Any]) -> dict[str, Any]:
    """A request without what only says how it is computed: a run may go on on other processes, or in other parts."""
    return {k: v for k, v in words.items() if k not in ("parallel", "micro_batch")}


def _toml(values: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(values)


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
    listed = [f"{k} = {found.get(k, 'not given')!r} there, {wanted.get(k, 'not given')!r} now" for k in keys[:4]]
    return "one with " + "; ".join(listed) + ("; ..." if len(keys) > 4 else "")
