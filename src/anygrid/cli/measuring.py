"""`anygrid evaluate` and `anygrid report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anygrid.cli import names
from anygrid.cli.ensembles import hands
from anygrid.cli.fitting import opened
from anygrid.cli.output import disk_errors, refuse_address
from anygrid.cli.talk import Talk
from anygrid.errors import FileError, UsageError

if TYPE_CHECKING:
    from anygrid.evaluate import Report
    from anygrid.io.pairs import Pairs
    from anygrid.surrogate import Surrogate

__all__ = ["evaluate", "print_report", "report"]


def evaluate(
    surrogate: Annotated[Path, typer.Argument(help="A surrogate that `anygrid fit` wrote.")],
    test: Annotated[list[str], typer.Argument(help="Test data (files, folders, globs), or a problem to solve: its name or TOML file.")],
    resolutions: Annotated[list[str] | None, typer.Option(help="Where to evaluate: 48x96,24x48; default: as the data are.")] = None,
    train: Annotated[list[str] | None, typer.Option(help="The training data, for the mean and the nearest training sample.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Use only a part of the test data: time=2006:2013.")] = None,
    train_select: Annotated[list[str] | None, typer.Option(help="The part of --train that was trained on.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write report.html and metrics.json into this folder.")] = None,
    n: Annotated[int, typer.Option("-n", "--samples", help="Number of test samples.")] = 32,
    steps: Annotated[int | None, typer.Option(help="Steps of the roll-outs.")] = None,
    long_steps: Annotated[int, typer.Option(help="Steps of long runs, for the statistics of chaos; 0: none.")] = 0,
    timing: Annotated[float, typer.Option(help="Seconds for timing; 0: none.")] = 10.0,
    memory: Annotated[
        str | None, typer.Option(help="For data larger than memory: work in slabs of about so many bytes (2GB); can be continued.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the problem, such as viscosity=1e-4.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes for all but the timing; default: one a processor.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="All but the timing on a Dask cluster: tcp://HOST:8786.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as JSON.")] = False,
) -> None:
    """Measure the error of a surrogate, at any resolution, beside trivial baselines and, given a problem, its solver.

    \b
    anygrid evaluate sst.anygrid sst.nc --select time=2006:2013 \\
                --train sst.nc --train-select time=1979:2005 --report report
    anygrid evaluate darcy.anygrid darcy --resolutions 43,85,169
    """
    from anygrid.evaluate import evaluate as measure
    from anygrid.io.workers import available_cpus
    from anygrid.surrogate import read_surrogate

    if report is not None:
        refuse_address(report)
    model = read_surrogate(surrogate)
    subject: Any
    if memory is not None:
        left_out = {"--resolutions": resolutions, "--steps": steps, "--long-steps": long_steps, "--set": settings}
        _refuse_with_memory([option for option, value in left_out.items() if value], test)
        data = opened(tuple(test), tuple(select or ()))
        past = opened(tuple(train), tuple(train_select or ())) if train else None
        _show(_slab_by_slab(model, data, past, n, memory), report, model, data.attrs, as_json)
        return
    if len(test) == 1 and names.is_problem(test[0]):
        subject = names.make_problem(test[0], settings or [])
        attributes: dict[str, Any] = {}
    else:
        data = opened(tuple(test), tuple(select or ()))
        attributes, subject = data.attrs, _pairs(model, data)
    training = None if not train else _pairs(model, opened(tuple(train), tuple(train_select or ())))
    wanted = names.resolutions(resolutions or ())
    talk = Talk()
    with talk.work(), hands(workers, scheduler) as cluster:
        found = measure(
            {"surrogate": model},
            subject,
            resolutions=wanted or ((model.grid.shape,) if attributes == {} and not hasattr(subject, "batch") else ()),
            n=n,
            training=training,
            steps=steps,
            long_steps=long_steps,
            timing=timing > 0,
            timing_seconds=timing or 1.0,
            workers=0 if cluster is not None else available_cpus() if workers is None else workers,
            cluster=cluster,
            say=talk.stage,
        )
    _show(found, report, model, attributes, as_json)


def _show(found: Report, report: Path | None, model: Surrogate, attributes: dict[str, Any], as_json: bool) -> None:
    if report is not None:
        from anygrid.pipeline import write_pages

        words = " ".join(_quoted(w) for w in ["anygrid", *sys.argv[1:]])
        with disk_errors(report):
            print(f"report: {write_pages(found, report, model, attributes, words)}", file=sys.stderr)
    if as_json:
        print(found.to_json())
    else:
        print_report(found)


def _refuse_with_memory(options: list[str], test: list[str]) -> None:
    hint = "leave out --memory, or what needs whole fields"
    if options:
        raise UsageError("evaluate --memory", "the data at their own resolution, one step ahead", ", ".join(options), hint)
    if len(test) == 1 and names.is_problem(test[0]):
        raise UsageError("evaluate --memory", "stored inputs and truth", f"the problem {test[0]!r}", hint)


def _slab_by_slab(model: Surrogate, data: Any, past: Any, n: int, memory: str) -> Report:
    """Notes of what was done lie in the user's cache, under a name made of the command's words and the folder it was given in."""
    import hashlib

    from anygrid.evaluate.large_errors import evaluate_large
    from anygrid.export.browser_runtime import cache_folder

    words = "\0".join([str(Path.cwd()), *sys.argv[1:]])
    keep = cache_folder() / f"evaluation-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    talk = Talk()
    with talk.work():
        return evaluate_large(model, data, n=n, training=past, memory=memory, keep=keep, progress=talk.streamed)


def report(
    run: Annotated[Path, typer.Argument(help="A folder with metrics.json: of `anygrid run`, or of `evaluate --report`.")],
) -> None:
    """Write the web page of a run again from its metrics.json, surrogate and data."""
    from anygrid.evaluate import Report
    from anygrid.pipeline import write_pages
    from anygrid.surrogate import read_surrogate

    metrics, saved, store = run / "metrics.json", run / "surrogate.anygrid", run / "data.zarr"
    if not metrics.is_file():
        what = "a folder without it" if run.is_dir() else "nothing of that name" if not run.exists() else "a file"
        raise FileError(str(run), "a folder with metrics.json", what, "an unfinished run is finished by `anygrid run FOLDER/run.toml`")
    found = Report.from_json(metrics)
    attributes = opened((str(store),), ()).attrs if store.exists() else {}
    model = read_surrogate(saved) if saved.exists() else None
    command = f"anygrid run {run / 'run.toml'}" if (run / "run.toml").exists() else ""
    with disk_errors(run):
        print(write_pages(found, run, model, attributes, command))


def print_report(found: Report) -> None:
    """The table and the verdict, to stdout."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else 130)
    console.print(found.table())
    for line in found.verdict:
        console.print(f"- {line}", markup=False)


def _pairs(model: Surrogate, data: Any) -> Pairs:
    """The rows of a data set as the surrogate needs them: its variables, its lead, its periodic axes."""
    from anygrid.fields import adopt, find_layout
    from anygrid.fields.longitudes import longitude_turn
    from anygrid.grid import Box
    from anygrid.io.pairs import Pairs

    inputs, outputs = [v.name for v in model.inputs], [v.name for v in model.outputs]
    data = adopt(data, {v.name: v for v in (*model.inputs, *model.outputs)}.values(), "evaluate")
    data = longitude_turn(data, model.grid).to(data)
    space = model.grid.dims if isinstance(model.grid, Box) else None
    periodic = None if space is None else {d: i.periodic for d, i in zip(space, model.grid.domain, strict=True)}
    layout = None if space is None else find_layout(data, [*inputs, *outputs], space=space)
    lead = model.record.get("settings", {}).get("lead") if model.dt is not None else None
    return Pairs(data, inputs, outputs, lead=lead or model.dt, layout=layout, periodic=periodic)


def _quoted(word: str) -> str:
    return f'"{word}"' if any(c in word for c in " *?[") else word
