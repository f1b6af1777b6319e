"""`anygrid export`: a surrogate as a file for other programs, or as a page for a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anygrid.cli.output import check_new, disk_errors, refuse_address
from anygrid.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from anygrid.surrogate import Surrogate

__all__ = ["export"]

_FORMATS = ("onnx", "program", "compiled", "page")


def export(
    surrogate: Annotated[Path, typer.Argument(help="A surrogate that `anygrid fit` wrote.")],
    output: Annotated[str, typer.Option("-o", "--output", help="NAME.onnx, NAME.pt2, NAME.aoti.pt2, or FOLDER/ for a browser page.")],
    kind: Annotated[str | None, typer.Option("--format", help="onnx, program, compiled or page; by default from the name.")] = None,
    sample: Annotated[list[str] | None, typer.Option(help="Page: data with real inputs to offer, files or a quoted glob.")] = None,
    title: Annotated[str | None, typer.Option(help="Page: its heading; by default from the surrogate's name.")] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="Page, offline: onnxruntime-web as npm's tarball or the unpacked folder; by default fetched once.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Write a surrogate for other programs: one graph for every batch and resolution, scaling inside, checked before it is kept.

    \b
    anygrid export sst.anygrid -o sst.onnx          # onnxruntime, any language
    anygrid export sst.anygrid -o sst.pt2           # torch.export.load
    anygrid export sst.anygrid -o sst.aoti.pt2      # compiled for this machine
    anygrid export sst.anygrid -o page/             # a folder for any web host
    """
    from anygrid.surrogate import read_surrogate

    form, path = _form(output, kind), Path(output)
    refuse_address(path)
    given = [name for name, value in (("--sample", sample), ("--title", title), ("--runtime", runtime)) if value is not None]
    if form != "page" and given:
        raise UsageError(f"export {' '.join(given)}", "a browser page", f"-o {output}", "these belong to -o FOLDER/ or --format page")
    if form == "page":
        from anygrid.export.web_page import check_place

        check_place(path, overwrite)
        with disk_errors(path):
            difference = _page(read_surrogate(surrogate), path, tuple(sample or ()), title or _title(surrogate), runtime, overwrite)
    else:
        check_new(path, overwrite)
        with disk_errors(path):
            difference = _file(read_surrogate(surrogate), path, form)
    print(f"agrees with the surrogate to {difference:.1e} at three resolutions", file=sys.stderr)
    if form == "page":
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        print(f"{size / 1e6:.1f} MB for any web host; here: python -m http.server -d {path}", file=sys.stderr)
    print(path)


def _file(model: Surrogate, path: Path, form: str) -> float:
    from anygrid.export import export_compiled, export_onnx, export_program

    return {"onnx": export_onnx, "program": export_program, "compiled": export_compiled}[form](model, path)


def _page(model: Surrogate, folder: Path, sample: tuple[str, ...], title: str, runtime: Path | None, overwrite: bool) -> float:
    from anygrid.cli.fitting import opened
    from anygrid.export.browser_runtime import RELEASE, registry, runtime_files
    from anygrid.export.page_facts import own_samples, resolutions, samples_of
    from anygrid.export.traceable import check_exportable
    from anygrid.export.web_page import write_page

    check_exportable(model)
    resolutions(model)
    samples = samples_of(model, opened(sample, ())) if sample else own_samples(model)
    source = Path(sample[0].rstrip("/")).name if sample else "drawn as in training" if samples is not None else ""
    if runtime is None:
        print(f"{RELEASE.package} {RELEASE.version}: from the cache, or once from {registry()}", file=sys.stderr)
    return write_page(model, folder, runtime_files(runtime), title=title, samples=samples, source=source, overwrite=overwrite)


def _title(surrogate: Path) -> str:
    """Heading from the name of the file, or from that of its run folder where the file has the name of every run."""
    return surrogate.resolve().parent.name if surrogate.stem == "surrogate" else surrogate.stem


def _form(output: str, kind: str | None) -> str:
    if kind is not None:
        if kind not in _FORMATS:
            raise UsageError("export --format", f"one of {', '.join(_FORMATS)}", repr(kind), did_you_mean(kind, _FORMATS))
        return kind
    name = output.lower()
    if name.endswith(("/", "\\")) or Path(output).is_dir():
        return "page"
    if name.endswith(".onnx"):
        return "onnx"
    if name.endswith(".pt2"):
        return "compiled" if name.endswith(".aoti.pt2") else "program"
    hint = f"for example -o model.onnx; with a slash at its end, -o {output}/, a folder with a browser page"
    raise UsageError(f"-o {output}", "a name that ends in .onnx, .pt2, .aoti.pt2 or /, or a --format", repr(Path(output).name), hint)
