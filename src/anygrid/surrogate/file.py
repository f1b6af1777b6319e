"""The file of a surrogate: safetensors with a JSON header, written in one piece and read without running anything in it.

Layout: a safetensors file whose ``__metadata__`` holds ``format`` ("anygrid surrogate"), ``version`` (an integer), ``header``
(JSON: operator and its arguments, variables, statistics, grid, dt, inputs seen, equation, provenance, record) and ``sha256`` of header
and weights, so that a damaged file is told from a good one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from anygrid.errors import AnygridError, FileError, did_you_mean
from anygrid.fields import Variable
from anygrid.problems.base import Problem
from anygrid.statistics import Statistics
from anygrid.surrogate.geometry import grid_from_json, grid_to_json
from anygrid.surrogate.imposed import Imposed
from anygrid.surrogate.model import Surrogate
from anygrid.surrogate.noise import Noise
from anygrid.surrogate.persistence import Persistence
from anygrid.surrogate.seen import Seen

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "FORMAT_VERSION",
    "kind_of",
    "read_surrogate",
    "read_tensors",
    "surrogate_bytes",
    "surrogate_of_bytes",
    "surrogate_of_file_bytes",
    "write_atomically",
    "write_surrogate",
    "write_tensors",
]

FORMAT_VERSION = 1
_FORMAT = "anygrid surrogate"
_CLIMATE = "persistence."  # what the maps of a climate are called beside the operator's weights
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def write_surrogate(surrogate: Surrogate, path: str | Path) -> None:
    """Write ``surrogate`` to ``path``; the file appears complete or not at all.

    Its equation is stored if it is one of :data:`anygrid.problems.stored.PROBLEMS`; one of your own class is to be set again after reading.

    Raises
    ------
    FileError
        When the folder is missing or the disk is full; a file that was there before is kept.
    """
    operator: Any = surrogate.operator
    header = {
        "operator": {"name": type(operator).__name__, "arguments": operator.arguments},
        "inputs": [asdict(v) for v in surrogate.inputs],
        "outputs": [asdict(v) for v in surrogate.outputs],
        "statistics": surrogate.statistics.to_json(),
        "grid": grid_to_json(surrogate.grid),
        "dt": surrogate.dt,
        "increment": surrogate.increment,
        "seen": None if surrogate.seen is None else surrogate.seen.to_json(),
        "imposed": surrogate.imposed.to_json(),
        "problem": _stored(surrogate.problem),
        "noise": list(surrogate.noise.lengths),
        **({"noise_amplitude": surrogate.noise.amplitude} if surrogate.noise else {}),
        "provenance": _plain(surrogate.provenance),
        "record": _plain(surrogate.record),
    }
    tensors = dict(operator.state_dict())
    if surrogate.persistence is not None:
        header["persistence"] = surrogate.persistence.to_json()
        tensors |= {_CLIMATE + name: f for name, f in surrogate.persistence.tensors().items()}
    write_tensors(Path(path), tensors, _FORMAT, FORMAT_VERSION, header)


def read_surrogate(path: str | Path, operators: Sequence[type[nn.Module]] | None = None) -> Surrogate:
    """Read a surrogate from ``path``, on the CPU and in evaluation mode; no code in the file is run.

    Parameters
    ----------
    operators
        Classes that the file may name; by default those of :data:`anygrid.operators.OPERATORS`. Give your own class here.

    Raises
    ------
    FileError
        For a file that is missing, truncated, damaged, of another kind or from a newer version, that names an unknown
        operator or equation, or whose weights do not fit the operator.
    """
    if operators is None:
        from anygrid.operators import OPERATORS  # late, so that a surrogate of one's own operator needs none of ours

        operators = OPERATORS
    where = Path(path)
    header, tensors = read_tensors(where, _FORMAT, FORMAT_VERSION)
    try:
        maps = {name: tensors.pop(_CLIMATE + name) for name in ("climate", "lower", "upper") if "persistence" in header}
        operator = _build(header["operator"], tensors, operators, where)
        seen = None if header["seen"] is None else Seen.from_json(header["seen"])
        surrogate = Surrogate(
            operator,
            [Variable(**v) for v in header["inputs"]],
            [Variable(**v) for v in header["outputs"]],
            Statistics.from_json(header["statistics"]),
            grid_from_json(header["grid"]),
            None if header["dt"] is None else str(header["dt"]),
            bool(header["increment"]),
            dict(header["provenance"]),
            dict(header["record"]),
            seen,
            imposed=Imposed.from_json(header["imposed"]) if "imposed" in header else Imposed(),  # absent in older files
            problem=_problem(header.get("problem"), where),  # likewise
            noise=Noise(tuple(map(float, header.get("noise", ()))), float(header.get("noise_amplitude", 1.0))),  # likewise
            persistence=Persistence.from_json(header["persistence"], maps) if maps else None,
        )
    except FileError:
        raise
    except (AnygridError, *_MALFORMED) as error:
        _refuse(
            where, "a header that describes a surrogate", f"{type(error).__name__}: {error}", "the file was not written by anygrid", error
        )
    return surrogate.eval()


def surrogate_bytes(surrogate: Surrogate) -> bytes:
    """What :func:`write_surrogate` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write_surrogate(surrogate, Path(folder) / "s.anygrid")
        return (Path(folder) / "s.anygrid").read_bytes()


def surrogate_of_file_bytes(contents: bytes) -> Surrogate:
    """The surrogate whose file has these contents; errors as in :func:`read_surrogate`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.anygrid"
        path.write_bytes(contents)
        return read_surrogate(path)


def kind_of(path: str | Path) -> str:
    """What a file of ours holds, such as ``"anygrid surrogate"``; empty for others, which their reader refuses with reasons."""
    try:
        with safe_open(path, framework="pt") as stored:
            return str((stored.metadata() or {}).get("format", ""))
    except (SafetensorError, OSError):
        return ""


def surrogate_of_bytes(contents: bytes, operator: type[nn.Module], problem: Problem | None) -> Surrogate:
    """Inverse of :func:`surrogate_bytes`, in evaluation mode; the equation is given beside them, for the file knows only built-in ones."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.anygrid"
        path.write_bytes(contents)
        surrogate = read_surrogate(path, [operator])
    surrogate.problem = problem
    return surrogate


def write_tensors(path: Path, tensors: Mapping[str, Tensor], kind: str, version: int, header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header in the layout of this module; the file appears complete or not at all."""
    text = json.dumps(header, allow_nan=False)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {"format": kind, "version": str(version), "header": text, "sha256": _digest(text, plain)}
    # A copy each: safetensors refuses tensors that share memory.
    write_atomically(path, to_bytes({name: t.clone() for name, t in plain.items()}, metadata))


def read_tensors(path: Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_tensors` wrote.

    Raises
    ------
    FileError
        For a file that is missing, truncated, damaged, of another kind, or from a newer version.
    """
    if not path.is_file():
        hint = "name the file, not its folder" if path.is_dir() else "check the path"
        _refuse(path, f"an {kind} file" if kind[0] in "aeiou" else f"a {kind} file", "a folder" if path.is_dir() else "no such file", hint)
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("format") != kind:
                found = metadata.get("format", "a safetensors file of another program")
                _refuse(path, f"a file of format {kind!r}", str(found), "give the file that anygrid wrote")
            written = int(metadata["version"])
            if written > version:
                _refuse(path, f"format version {version} or older", str(written), "upgrade with pip install -U anygrid")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - the handle is no mapping
        text = metadata["header"]
        intact = metadata["sha256"] == _digest(text, tensors)
        header = json.loads(text) if intact else {}
    except SafetensorError as error:
        _refuse(path, f"a file of format {kind!r}", f"a truncated or foreign file ({error})", "copy it again, or train again", error)
    except OSError as error:
        _refuse(path, "a readable file", str(error), "check its permissions", error)
    except (RecursionError, RuntimeError, *_MALFORMED) as error:
        if isinstance(error, AnygridError):
            raise
        _refuse(path, f"a file of format {kind!r}", f"a damaged header ({error})", "copy it again, or train again", error)
    if not intact or not isinstance(header, dict):
        _refuse(path, "contents that match their checksum", "contents that do not", "the file was damaged; copy it again, or train again")
    return header, tensors


def write_atomically(path: Path, contents: bytes) -> None:
    """Write ``contents`` so that ``path`` holds either its old contents or all of the new, also after a power cut."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # a parent that is no folder has no such file either
            part.unlink()
        hint = "free some space, or choose another folder"
        raise FileError(str(path), f"a folder with room for {len(contents)} bytes", str(error), hint) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _plain(value: Any) -> Any:
    """Facts as JSON can hold them: a NaN in a data set's attributes must not cost a trained surrogate."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    return str(value)


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        t = tensors[name].contiguous()
        digest.update(f"\0{name}\0{t.dtype}\0{tuple(t.shape)}\0".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")
    return digest.hexdigest()


def _build(stored: dict[str, Any], tensors: dict[str, Tensor], operators: Sequence[type[nn.Module]], path: Path) -> nn.Module:
    """The operator with its weights, made only after its shapes are known to be those of the file."""
    known = {cls.__name__: cls for cls in operators}
    name, arguments = str(stored["name"]), dict(stored["arguments"])
    if name not in known:
        hint = f"{did_you_mean(name, known)}; an operator of your own goes in operators="
        _refuse(path, "an operator this version knows", repr(name), hint)
    cls = known[name]
    size = path.stat().st_size
    if any(number > size for number in _integers(arguments)):
        _refuse(path, f"arguments of {name} that fit a file of {size} bytes", "a larger number", "the header was tampered with")
    inspect.signature(cls).bind(**arguments)
    with torch.device("meta"):  # shapes without memory
        wanted = {key: (tuple(t.shape), t.dtype) for key, t in cls(**arguments).state_dict().items()}
    for key, shape in wanted.items():
        if key not in tensors:
            _refuse(
                path,
                f"the weight {key!r}",
                "a file without it",
                "the operator has changed since the file was written, or the file is damaged",
            )
        if (tuple(tensors[key].shape), tensors[key].dtype) != shape:
            _refuse(path, f"{key!r} of shape {shape[0]} and type {shape[1]}", f"{tuple(tensors[key].shape)} of {tensors[key].dtype}")
    if extra := sorted(set(tensors) - set(wanted)):
        _refuse(
            path,
            f"the weights of {name}",
            f"{len(extra)} more, such as {extra[0]!r}",
            "the operator has changed since the file was written",
        )
    # Random initial weights are overwritten at once; the caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]):
        operator = cls(**arguments)
    operator.load_state_dict(tensors)
    return operator


def _stored(problem: Problem | None) -> dict[str, Any] | None:
    if problem is None:
        return None
    from anygrid.problems.stored import problem_to_json  # late: it reads in every problem, and a surrogate of data alone needs none

    return problem_to_json(problem)


def _problem(stored: Any, path: Path) -> Problem | None:
    if stored is None:
        return None
    from anygrid.problems.stored import problem_from_json

    try:
        return problem_from_json(stored)
    except FileError as error:
        _refuse(path, error.expected, error.got, error.hint, error)


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [n for item in value.values() for n in _integers(item)]
    if isinstance(value, list):
        return [n for item in value for n in _integers(item)]
    return [value] if isinstance(value, int) else []


def _refuse(path: Path, expected: str, got: str, hint: str = "", cause: BaseException | None = None) -> NoReturn:
    raise FileError(str(path), expected, got, hint) from cause
