"""The run folder: run.toml, log.jsonl, checkpoint, surrogate. A checkpoint holds all that the next step depends on.

``run.toml`` repeats the run; ``log.jsonl`` has one line for each report; ``checkpoint.safetensors`` is replaced in one piece,
so that a kill at any moment leaves a whole one; ``surrogate.anygrid`` is the result. Nothing is pickled.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from torch import Tensor

from anygrid.errors import FileError, UsageError
from anygrid.surrogate.file import read_tensors, write_atomically, write_tensors
from anygrid.training.schedule import Plan

__all__ = ["Checkpoint", "RunFolder", "State", "read_run", "write_run"]

_FORMAT, _VERSION = "anygrid checkpoint", 1


@dataclass
class State:
    """Where a training stands, beside weights and optimiser.

    The random numbers of a step are seeded with (seed, step), and the order of samples with (seed, epoch), so step and position
    are the whole state of every generator. ``micro_batch`` (0: a batch at once) and the steps ``repeated`` in float32 decide how the next
    ones are computed. The numbers of threads and of ranks belong to it because sums are rounded in their order.
    """

    plan: Plan
    threads: int
    costs: dict[tuple[int, int], float] = field(default_factory=dict)
    step: int = 0
    position: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    waited: float = 0.0
    samples: int = 0
    validation_rows: int = 0
    validations: int = 20
    validation_seconds: float = 0.0
    mark: tuple[int, float] = (0, 0.0)
    validation: float = float("nan")
    best: float = float("inf")
    best_step: int = -1
    history: list[dict[str, float | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ranks: int = 1
    micro_batch: int = 0
    repeated: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers that JSON has no word for are written as text."""
        plain = {k: v for k, v in self.__dict__.items() if k not in ("plan", "costs", "validation", "best")}
        costs = [[stride, unroll, cost] for (stride, unroll), cost in self.costs.items()]
        return {**plain, "plan": self.plan.to_json(), "costs": costs, "validation": repr(self.validation), "best": repr(self.best)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> State:
        """Inverse of :meth:`to_json`."""
        special = {
            "plan": Plan.from_json(stored["plan"]),
            "costs": {(int(s), int(u)): float(c) for s, u, c in stored["costs"]},
            "position": (int(stored["position"][0]), int(stored["position"][1])),
            "mark": (int(stored["mark"][0]), float(stored["mark"][1])),
            "validation": float(stored["validation"]),
            "best": float(stored["best"]),
        }
        return cls(**{**stored, **special})


@dataclass
class Checkpoint:
    """What a checkpoint holds: the state, and tensors by name, each whole whatever the number of ranks that wrote it."""

    state: State
    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    equations: dict[str, Tensor]
    replay: dict[str, Tensor]


class RunFolder:
    """Files of one run in ``path``.

    Raises
    ------
    UsageError
        When the folder already holds a run with other arguments or other data, or holds files but no run.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.checkpoint, self.log = path / "checkpoint.safetensors", path / "log.jsonl"
        self.surrogate = path / "surrogate.anygrid"
        described = path / "run.toml"
        if described.exists():
            before = read_run(described)
            for table in ("fit", "data"):
                if table in before:  # a run.toml of the command line alone is a run that has not begun
                    _same(before[table], run[table], path, table)
            # Tables that others (the command line) added stay.
            run = {**before, **run}
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"run folder {path}", "a new folder, or one that holds a run", "something else", "choose another folder")
        write_run(described, run)
        for leftover in path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; it replaces the last one only when complete."""
        tensors = {f"weights.{k}": v for k, v in checkpoint.weights.items()} | {f"best.{k}": v for k, v in checkpoint.best.items()}
        tensors |= {f"equations.{k}": v for k, v in checkpoint.equations.items()}
        tensors |= {f"replay.{k}": v for k, v in checkpoint.replay.items()}
        for k, entries in checkpoint.optimizer.items():
            tensors |= {f"optimizer.{k}.{name}": value for name, value in entries.items()}
        write_tensors(self.checkpoint, tensors, _FORMAT, _VERSION, checkpoint.state.to_json())

    def load(self) -> Checkpoint | None:
        """The last checkpoint, or ``None`` for a new run; the log is cut to it.

        Raises
        ------
        FileError
            For a damaged file.
        """
        if not self.checkpoint.exists():
            self.log.unlink(missing_ok=True)
            return None
        header, tensors = read_tensors(self.checkpoint, _FORMAT, _VERSION)
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimizer": {}, "equations": {}, "replay": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            groups[kind][rest] = value
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            k, _, key = name.partition(".")
            entries.setdefault(int(k), {})[key] = value
        state = State.from_json(header)
        self._truncate_log(state.step)
        return Checkpoint(state, groups["weights"], groups["best"], entries, groups["equations"], groups["replay"])

    def write_log(self, row: Mapping[str, Any]) -> None:
        """Append one line to the log."""
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _truncate_log(self, step: int) -> None:
        """Drop lines of steps that will be taken again, and a line that was cut off."""
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row.get("step", 0) <= step:
                kept.append(line + "\n")
        write_atomically(self.log, "".join(kept).encode())


def write_run(path: Path, run: Mapping[str, Any]) -> None:
    """Write ``run.toml``: tables of plain values, of which ``fit`` holds the arguments and ``data`` the data's fingerprint."""
    write_atomically(path, tomli_w.dumps(dict(run)).encode())


def read_run(path: Path) -> dict[str, Any]:
    """Tables of a ``run.toml``.

    Raises
    ------
    FileError
        When the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(str(path), "a run.toml", str(error), "name a run folder's run.toml") from error
    except ValueError as error:
        raise FileError(str(path), "valid TOML", str(error), "mend the line it names") from error


def _same(before: Mapping[str, Any], now: Mapping[str, Any], path: Path, table: str) -> None:
    # Through TOML and back, so that tuples and lists, 1 and 1.0 compare as the file holds them.
    now = tomllib.loads(tomli_w.dumps(dict(now)))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            what = f"{table}.{key} = {before.get(key)!r}, with which its run began"
            raise UsageError(
                f"run folder {path}", what, repr(now.get(key)), "give the same arguments and data to resume, or choose another folder"
            )
