"""The `anygrid` command: its subcommands, and how every failure ends (a line, a hint, an exit code, no traceback)."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from anygrid.cli import animating, exporting, fitting, measuring, regions, running, solving, tracking, using, verifying, weather
from anygrid.cli.talk import speaks
from anygrid.cli.words import gathered
from anygrid.errors import AnygridError, did_you_mean

__all__ = ["app", "main"]

_HELP = """Learned operators that run on any grid: from a PDE, or from your own files, to a surrogate you can trust.

\b
Your own data, in five minutes (NetCDF, Zarr, HDF5, GRIB, .mat, .npz, .pt;
a file, a folder or a glob in quotes):

\b
  anygrid info sst.nc          # the variables, how the data are understood
  anygrid fit sst.nc --inputs ssta --outputs ssta --lead 1month \\
                     --budget 5m -o sst.anygrid
  anygrid predict sst.anygrid new.nc -o out.nc --resolution 180x360
  anygrid evaluate sst.anygrid test.nc --report report
  anygrid forecast sst.anygrid new.nc --steps 12 -o forecast.zarr

\b
Leave --lead out where input and output belong to the same sample, such as a
coefficient and its solution.

\b
A PDE, solved, learned, and judged against its own solver:

\b
  anygrid problems             # the built-in equations
  anygrid run darcy            # sample, solve, train, evaluate, report: 6 min

Every command has --help.
"""

_MOMENT = 3.0  # seconds


class _TwoWords(TyperGroup):
    """Commands of two words, which stand beside one of the first word alone: `generate weather` beside `generate`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, [" ".join(args[:2]), *args[2:]] if " ".join(args[:2]) in self.commands else args)


app = typer.Typer(
    name="anygrid",
    cls=_TwoWords,
    help=_HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit", short_help="Train a surrogate on your own data.")(fitting.fit)
app.command("predict", short_help="Apply a surrogate to new inputs, on any grid.")(using.predict)
app.command("evaluate", short_help="Measure its error beside baselines and solver.")(measuring.evaluate)
app.command("refine", short_help="Bring predictions to the solver's accuracy.")(using.refine)
app.command("forecast", short_help="Apply it again and again; score it by lead.")(using.forecast)
app.command("downscale", short_help="Learn a region's fine fields from coarse ones.")(regions.downscale)
app.command("track", short_help="Find storms in fields, and follow them.")(tracking.track)
app.command("verify", short_help="Score a forecast or an ensemble by lead.")(verifying.verify)
app.command("animate", short_help="Draw a forecast as animated maps.")(animating.animate)
app.command("export", short_help="Write it for other programs, or as a web page.")(exporting.export)
app.command("info", short_help="What a surrogate, or a data file, is.")(using.info)
app.command("problems", short_help="List the built-in problems, or show one.")(solving.problems)
app.command("generate", short_help="Solve a problem many times into a Zarr store.")(solving.generate)
app.command("generate weather", short_help="Years of a weather model into a Zarr store.")(weather.generate_weather)
app.command("report", short_help="Write the web page of a run again.")(measuring.report)
app.command("run", short_help="A problem from sampling to report, in one go.")(running.run)


def _version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        print(f"anygrid {version('anygrid')}")
        raise typer.Exit
    return asked


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (may stand anywhere).")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Options of every command; ``main`` reads ``--debug`` itself."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2 for what the user can mend, 130 after Ctrl-C, 1 for a bug."""
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(words: list[str]) -> int:
    debug = "--debug" in words
    words = gathered([w for w in words if w != "--debug"]) or ["--help"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = _warn
        return _guarded(words, debug)


def _guarded(words: list[str], debug: bool) -> int:
    command = typer.main.get_command(app)
    try:
        # Not app(...): typer would answer Ctrl-C, usage errors and exceptions in its own way.
        with command.make_context("anygrid", words) as context:
            command.invoke(context)
            sys.stdout.flush()
        return 0
    except typer.Exit as leave:
        return leave.exit_code
    except KeyboardInterrupt as interrupt:
        said = str(interrupt)
        _complain(said or "stopped", "" if said else "what was finished is kept; the same command continues it", title="interrupted")
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone (`anygrid problems | head`); nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if debug:
            raise
        return _explain(error, words, command)


def _explain(error: Exception, words: list[str], command: object) -> int:
    if isinstance(error, AnygridError):
        told = str(error).removesuffix(f"\nhint: {error.hint}") if error.hint else str(error)
        _complain(told, error.hint or f"anygrid {words[0]} --help shows what it takes")
        return 2
    if isinstance(error, typer.TyperException):
        _complain(*_usage(error, words, command))
        return 2
    if isinstance(error, MemoryError):
        _complain("there is not enough memory for this.", "use a smaller --batch, a coarser resolution or fewer samples")
        return 2
    text = str(error).strip().splitlines()
    _complain(
        f"{type(error).__name__}: {text[0] if text else 'no details'}", "this is a bug in anygrid; add --debug to the command to see where"
    )
    return 1


def _usage(error: Exception, words: list[str], command: object) -> tuple[str, str]:
    """What was wrong with the words of the command, and the nearest right ones."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    known: list[str] = []
    wrong = getattr(error, "option_name", "")
    if message.startswith("No such command"):
        wrong, known = message.split("'")[1], list(getattr(command, "commands", {}))
        message = f"No such command: {wrong}"
    elif message.startswith("No such option"):
        known = [o for p in context.command.params for o in p.opts] if context is not None else []
        message = f"No such option: {wrong}"
    path = context.command_path if context is not None else "anygrid"
    hint = did_you_mean(wrong, known) if known else ""
    if not hint.startswith("did you mean"):
        hint = f"{path} --help shows what it takes"
    return message[0].lower() + message[1:], hint


def _complain(text: str, hint: str = "", *, title: str = "error") -> None:
    if not speaks():
        # Where all processes fail alike, the first says so, and torchrun ends the others meanwhile.
        time.sleep(_MOMENT)
        title = f"process {os.environ['RANK']}: {title}"
    print(f"{title}: {text}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None
) -> None:
    """One line for a warning of ours; where in the code it arose says nothing to a user. Others concern developers."""
    ours = category.__module__.partition(".")[0] == "anygrid" or (
        issubclass(category, UserWarning) and Path(filename).parent.name == "anygrid"
    )
    if ours and speaks():
        print(f"warning: {message}", file=sys.stderr)
