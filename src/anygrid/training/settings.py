"""The arguments of a training, complete: with them and the data a run is repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from anygrid.errors import UsageError
from anygrid.training.symmetries import Flip, Shift, Symmetry, Transpose

__all__ = ["DEFAULTS", "Defaults", "Optimizer", "Precision", "Settings"]

Optimizer = Literal["adamw", "soap"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Defaults:
    """What :func:`~anygrid.training.fit` uses where the caller says nothing, and where each value comes from."""

    budget: float = 300.0  # seconds: the five minutes of the quick start
    validation: float = 0.1
    validation_draws: int = 8  # of a random surrogate, whose mean is validated
    # Batch and learning rate are those that won on Darcy, Navier-Stokes and Burgers together (benchmarks/accuracy/ablation.json).
    batch: int = 8
    batch_points: int = 1 << 15  # points of a batch: 4 samples at 85^2, 8 at 64^2 and in one dimension
    # Short trainings want 4e-3, long ones 2e-3: held-out errors after 40 to 90 s there, after 15 minutes in darcy-15.json.
    learning_rates: tuple[float, float] = (4e-3, 2e-3)
    short_budget: float = 300.0  # seconds
    short_steps: int = 5000
    betas: tuple[float, float] = (0.9, 0.98)
    # SOAP with a gradient term of 0.1 wins over AdamW on four problems after 48 s of one core and from there on (333 to 3852 steps), and
    # loses on three of them after 12 s (benchmarks/accuracy/peers.json); neither of the two does alone (seeds.json).
    soap_budget: float = 60.0  # seconds
    soap_steps: int = 500
    soap_gradient: float = 0.1
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    clip: float = 1.0
    # A random surrogate: draws of each sample in a step, and how fair their score is. With two draws the spread that minimises it is
    # too small by (1 - alpha), so this is nearer to 1 than the 0.95 that Lang et al. 2024 use with four.
    members: int = 2
    alpha: float = 0.99
    unroll: int = 3
    unroll_fraction: float = 0.25
    # A replay buffer: the weight of its loss beside that of the data (1 cost weather 6 % at day 1, 0.2 nothing), and its part of a batch.
    replay_weight: float = 0.25
    replay_part: float = 0.5
    stored_leads: int = 4  # a longer roll-out computes its applications twice rather than keep them


DEFAULTS = Defaults()


@dataclass(frozen=True)
class Settings:
    """Every argument of a training after defaults and inference; all JSON-able but the symmetries.

    Exactly one of ``budget`` (seconds), ``steps`` and ``epochs`` is given. See :func:`~anygrid.training.fit` for the meaning.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lead: int | str | None
    validation: float | None
    budget: float | None
    steps: int | None
    epochs: float | None
    operator: str
    operator_arguments: Mapping[str, Any]
    batch: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    seed: int
    device: str
    precision: Precision
    unroll: int
    increment: bool
    gradient: float
    resolutions: tuple[tuple[float, int], ...]
    augment: tuple[Symmetry, ...]
    keep_best: bool
    checkpoint_seconds: float
    physics: Mapping[str, Any] | None
    labels: bool
    search: bool
    optimizer: Optimizer
    imposed: Mapping[str, Any] | None
    noise: int
    parent: str | None = None
    replay: int = 0
    persistence: bool = False

    def to_table(self) -> dict[str, Any]:
        """Table for ``run.toml``; TOML has no null, so what is not set is left out."""
        table = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if self.imposed is not None:
            table["imposed"] = {k: list(v) if isinstance(v, tuple) else v for k, v in self.imposed.items() if v is not None}
        table["operator_arguments"] = {k: v for k, v in self.operator_arguments.items() if v is not None}
        table["resolutions"] = [list(pair) for pair in self.resolutions]
        table["augment"] = [{"kind": type(s).__name__.lower(), **asdict(s)} for s in self.augment]
        if self.labels:
            del table["labels"]  # as in runs from before there was a choice
        if not self.search:
            del table["search"]  # likewise
        if self.optimizer == "adamw":
            del table["optimizer"]
        if not self.noise:
            del table["noise"]
        for name in ("replay", "persistence"):
            if not table[name]:
                del table[name]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in table.items()}

    @staticmethod
    def symmetries(stored: list[dict[str, str]]) -> tuple[Symmetry, ...]:
        """Symmetries as ``run.toml`` holds them.

        Raises
        ------
        UsageError
            For a kind other than flip, shift and transpose.
        """
        kinds = {"flip": Flip, "shift": Shift, "transpose": Transpose}
        out = []
        for entry in stored:
            rest = {k: v for k, v in entry.items() if k != "kind"}
            if entry.get("kind") not in kinds:
                raise UsageError("augment", "a kind flip, shift or transpose", repr(entry.get("kind")))
            out.append(kinds[entry["kind"]](**rest))
        return tuple(out)
