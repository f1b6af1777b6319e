"""`anygrid export`: a surrogate as a file for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from anygrid.cli.output import check_new, disk_errors
from anygrid.errors import UsageError, did_you_mean

__all__ = ["export"]

_FORMATS = ("onnx", "program", "compiled")


def export(
    surrogate: Annotated[Path, typer.Argument(help="A surrogate that `anygrid fit` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="NAME.onnx, NAME.pt2 or NAME.aoti.pt2.")],
    kind: Annotated[str | None, typer.Option("--format", help="onnx, program or compiled; by default from the name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Write a surrogate for other programs: one graph for every batch and resolution, scaling inside, checked before it is kept.

    \b
    anygrid export sst.anygrid -o sst.onnx          # onnxruntime, any language
    anygrid export sst.anygrid -o sst.pt2           # torch.export.load
    anygrid export sst.anygrid -o sst.aoti.pt2      # compiled for this machine
    """
    from anygrid.surrogate import read_surrogate

    form = _form(output, kind)
    check_new(output, overwrite)
    model = read_surrogate(surrogate)
    with disk_errors(output):
        if form == "onnx":
            from anygrid.export import export_onnx

            difference = export_onnx(model, output)
        else:
            from anygrid.export import export_compiled, export_program

            difference = (export_program if form == "program" else export_compiled)(model, output)
    print(f"agrees with the surrogate to {difference:.1e} at three resolutions", file=sys.stderr)
    print(output)


def _form(output: Path, kind: str | None) -> str:
    if kind is not None:
        if kind not in _FORMATS:
            raise UsageError("export --format", f"one of {', '.join(_FORMATS)}", repr(kind), did_you_mean(kind, _FORMATS))
        return kind
    name = output.name.lower()
    if name.endswith(".onnx"):
        return "onnx"
    if name.endswith(".pt2"):
        return "compiled" if name.endswith(".aoti.pt2") else "program"
    hint = "for example -o model.onnx"
    raise UsageError(f"-o {output}", "a file name that ends in .onnx, .pt2 or .aoti.pt2, or a --format", repr(output.name), hint)
