"""A surrogate as a program of `torch.export`, and as a compiled AOTInductor package; both checked before they are put in place."""

from __future__ import annotations

import copy
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.export.check import check
from anygrid.export.describe import facts
from anygrid.export.onnx_graph import dynamic_shapes, example, quiet
from anygrid.export.traceable import Traceable
from anygrid.surrogate import Surrogate
from anygrid.surrogate.file import write_atomically

__all__ = ["export_compiled", "export_program", "trace"]

_FACTS = "anygrid.json"


def trace(surrogate: Surrogate) -> Any:
    """The `torch.export` program of a surrogate, with symbolic batch and resolution.

    Raises
    ------
    UsageError
        For a surrogate that has no graph; the message names why.
    """
    model = Traceable(copy.deepcopy(surrogate).cpu().eval()).eval()
    with quiet(), torch.no_grad():
        return torch.export.export(model, (example(surrogate),), dynamic_shapes=dynamic_shapes(surrogate), strict=False)


def export_program(surrogate: Surrogate, path: str | Path) -> float:
    """Write a ``.pt2`` for ``torch.export.load(path).module()(a)``; variables and units are its extra file ``anygrid.json``.

    Returns the largest relative difference that the check found.

    Raises
    ------
    UsageError
        For a surrogate that has no graph.
    FileError
        When the program read back computes something else at one of three resolutions, or the file cannot be written.
    """
    program = trace(surrogate)
    stream = io.BytesIO()
    with quiet():
        torch.export.save(program, stream, extra_files={_FACTS: json.dumps(facts(surrogate))})
        contents = stream.getvalue()
        module = torch.export.load(io.BytesIO(contents)).module()
    difference = check(copy.deepcopy(surrogate).cpu(), _without_gradients(module), str(path))
    write_atomically(Path(path), contents)
    return difference


def export_compiled(surrogate: Surrogate, path: str | Path) -> float:
    """Write an AOTInductor package for ``torch._inductor.aoti_load_package(path)(a)``: machine code for this kind of CPU.

    Returns the largest relative difference that the check found.

    Raises
    ------
    UsageError
        For a surrogate that has no graph, or a machine without a C++ compiler.
    FileError
        As for :func:`export_program`.
    """
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    program = trace(surrogate)
    with tempfile.TemporaryDirectory() as folder, quiet():
        package = os.path.join(folder, "model.pt2")  # noqa: PTH118 - torch takes a text
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=package)
        except (InvalidCxxCompiler, InductorError) as error:
            hint = "install g++ or set CXX, or write --format program"
            raise UsageError("export to AOTInductor", "a C++ compiler that works", str(error).splitlines()[0], hint) from error
        module = torch._inductor.aoti_load_package(package)
        difference = check(copy.deepcopy(surrogate).cpu(), _without_gradients(module), str(path))
        write_atomically(Path(path), Path(package).read_bytes())
    return difference


def _without_gradients(module: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(a: Tensor) -> Tensor:
        with torch.no_grad():
            return module(a)

    return run
