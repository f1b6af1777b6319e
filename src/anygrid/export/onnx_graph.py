"""A surrogate as one ONNX graph with symbolic batch and resolution, checked in onnxruntime before it is put in place."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.export.check import check
from anygrid.export.describe import metadata
from anygrid.export.traceable import Traceable, smallest
from anygrid.surrogate import Surrogate
from anygrid.surrogate.file import write_atomically

__all__ = ["dynamic_shapes", "example", "export_onnx", "onnx_bytes", "quiet"]


def export_onnx(surrogate: Surrogate, path: str | Path) -> float:
    """Write ``surrogate`` as ONNX (opset 18): input ``a`` (batch, inputs, *space), output ``u`` (batch, outputs, *space), both float32.

    Returns the largest relative difference that the check found; see :mod:`anygrid.export.check`.

    Raises
    ------
    UsageError
        For a surrogate that has no graph (the message names why), or when onnx, onnxscript or onnxruntime is missing.
    FileError
        When onnxruntime computes something else at one of three resolutions, or the file cannot be written. There is no file then.
    """
    contents, difference = onnx_bytes(surrogate, str(path))
    write_atomically(Path(path), contents)
    return difference


def onnx_bytes(surrogate: Surrogate, where: str = "export") -> tuple[bytes, float]:
    """Contents of the checked ONNX file, and the largest difference found.

    Raises
    ------
    UsageError, FileError
        As for :func:`export_onnx`.
    """
    model = Traceable(copy.deepcopy(surrogate).cpu().eval()).eval()
    onnxruntime = _runtime()
    with quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            model,
            (example(surrogate),),
            dynamo=True,
            dynamic_shapes=dynamic_shapes(surrogate),
            input_names=["a"],
            output_names=["u"],
            opset_version=18,
            verbose=False,
        )
    proto = program.model_proto
    del proto.metadata_props[:]
    for key, value in metadata(surrogate).items():
        proto.metadata_props.add(key=key, value=value)
    proto.producer_name = "anygrid"
    contents = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, torch.get_num_threads())
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])

    def run(a: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"a": a.numpy()})[0])

    return contents, check(copy.deepcopy(surrogate).cpu(), run, where)


def example(surrogate: Surrogate) -> Tensor:
    """Two samples at about the resolution of training; sizes that differ, so that no tracer takes two of them for one."""
    shape = [max(low, n) for low, n in zip(smallest(surrogate), surrogate.grid.shape, strict=True)]
    shape = [n + 3 + 2 * k for k, n in enumerate(shape)]
    return torch.zeros(2, len(surrogate.inputs), *shape)


def dynamic_shapes(surrogate: Surrogate) -> tuple[dict[int, Any]]:
    """Batch and every space dimension as symbols, from the smallest resolution upwards."""
    space = {
        k + 2: torch.export.Dim(f"n_{name}" if name.isidentifier() else f"n_{k}", min=low)
        for k, (name, low) in enumerate(zip(surrogate.grid.dims, smallest(surrogate), strict=True))
    }
    return ({0: torch.export.Dim("batch", min=1), **space},)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of the exporters about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.filterwarnings("ignore", category=category, module=r"(torch|onnx|onnxscript|onnx_ir|copyreg|copy)\b")
            warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


def _runtime() -> Any:
    # Official builds report their use to Microsoft from the moment they are imported; who wants that sets the variable to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        hint = "pip install 'anygrid[export]'"
        raise UsageError("export to ONNX", "the packages onnx, onnxscript and onnxruntime", f"no {error.name}", hint) from error
    return onnxruntime
