"""The words of `anygrid fit` as arguments of ``fit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrid.cli import names
from anygrid.cli.requests import FitRequest
from anygrid.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from anygrid.training import Symmetry

__all__ = ["arguments", "number"]


def arguments(request: FitRequest) -> dict[str, Any]:
    """Arguments of ``fit`` that were said; what was not is left to its defaults."""
    from anygrid.surrogate import Imposed, read_surrogate

    plain = (
        "budget",
        "steps",
        "epochs",
        "batch",
        "learning_rate",
        "weight_decay",
        "seed",
        "device",
        "precision",
        "unroll",
        "increment",
        "gradient",
        "optimizer",
        "noise",
        "replay",
        "persistence",
        "parallel",
    )
    said = {key: getattr(request, key) for key in plain if getattr(request, key) is not None}
    for option, word, known in (
        ("--precision", request.precision, ["float32", "bfloat16"]),
        ("--optimizer", request.optimizer, ["adamw", "soap"]),
    ):
        if word not in (None, *known):
            raise UsageError(option, " or ".join(known), repr(word), did_you_mean(str(word), known))
    if request.micro_batch is not None:
        said["micro_batch"] = _micro_batch(request.micro_batch)
    if request.device is not None:
        said["device"] = _device(request.device)
    if request.parent is not None:
        if (request.operator, request.width, request.modes, request.depth, request.stride) != ("default", *4 * (None,)):
            raise UsageError(
                "--parent", "no --operator, --width, --modes, --depth and --stride", "one of them", "a parent has its own operator"
            )
        said["parent"] = read_surrogate(Path(request.parent))
    if request.waves is not None:
        if request.physics is not None or request.confine:
            raise UsageError("--waves", "neither --physics nor --confine", "one of them", "these find the highest wave themselves")
        said["imposed"] = Imposed(waves=request.waves)
    build = names.operator_named(request.operator, width=request.width, modes=request.modes, depth=request.depth, stride=request.stride)
    said["resolutions"] = tuple(_stage(word) for word in request.coarse_first)
    said["augment"] = tuple(_symmetry(word) for word in request.augment)
    return {
        **said,
        "operator": None if request.parent is not None else build,
        "search": request.search,
        "confine": request.confine,
        "keep_best": request.keep_best,
        "periodic": names.flags(request.periodic, request.bounded),
    }


def _device(word: str) -> str:
    """A device that is there."""
    import torch

    kind, _, number = word.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError("--device", "cpu, cuda or cuda:NUMBER", repr(word), did_you_mean(kind, ["cpu", "cuda"]))
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(
            "--device", "a device that is there", f"{word}, of {torch.cuda.device_count()} found", "leave it out to take the best one"
        )
    return word


def _micro_batch(word: str) -> int | str:
    if word != "auto" and not word.isdigit():
        raise UsageError("--micro-batch", "a number of samples, or auto", repr(word))
    return word if word == "auto" else int(word)


def _stage(word: str) -> tuple[float, int]:
    fraction, _, stride = word.partition(":")
    part = number(fraction)
    if part is None or not stride.isdigit():
        raise UsageError("--coarse-first", "FRACTION:STRIDE", repr(word), "for example 0.4:2")
    return part, int(stride)


def _symmetry(word: str) -> Symmetry:
    from anygrid.training import Flip, Shift, Transpose

    kind, *axes = word.split(":")
    if kind == "transpose" and len(axes) == 2:
        return Transpose(*axes)
    if kind in ("flip", "shift") and len(axes) == 1:
        return Flip(axes[0]) if kind == "flip" else Shift(axes[0])
    raise UsageError(
        "--augment", "flip:AXIS, shift:AXIS or transpose:AXIS:AXIS", repr(word), did_you_mean(kind, ["flip", "shift", "transpose"])
    )


def number(text: str) -> float | None:
    """The number that a word is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None
