"""What the command line says while it works: to stderr, as live lines on a terminal, as plain lines now and then elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from anygrid.training import Progress

__all__ = ["Talk", "clock", "processes", "speaks"]

_PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal; longer as the work goes on


class Talk:
    """Progress of generation, training and evaluation.

    Parameters
    ----------
    live
        Whether to redraw one line; by default when stderr is a terminal.
    log
        File that the kept lines are added to as well.
    """

    def __init__(self, *, live: bool | None = None, log: Path | None = None) -> None:
        self.live = sys.stderr.isatty() if live is None else live
        self.log = log
        self._bar: Bar | None = None
        self._task: int | None = None
        self._began = self._last = time.monotonic()

    def say(self, text: str) -> None:
        """One line, kept."""
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text.strip()}\n")
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._began

    def solved(self, done: int, total: int, seconds: float) -> None:
        """Progress of a generation: samples solved."""
        rate = done / seconds if seconds > 0 else 0.0
        left = (total - done) / rate if rate > 0 else math.nan
        self._show("solving", done, total, f"{done}/{total} samples, {rate:.3g}/s, {clock(left)} left", done == total)

    def simulated(self, done: int, total: int, seconds: float, since: int) -> None:
        """Progress of a long run: days simulated, ``since`` of them before this call."""
        rate = (done - since) / seconds if seconds > 0 else 0.0
        left = (total - done) / rate if rate > 0 else math.nan
        self._show("simulating", done, total, f"day {done}/{total}, {3600 * rate:.3g} an hour, {clock(left)} left", done == total)

    def trained(self, progress: Progress) -> None:
        """Progress of a training: steps, loss, error, throughput and time left."""
        if progress.message:
            self.say(f"  {progress.message}")
            return
        parts = [f"step {progress.step}/{progress.steps}", f"loss {progress.loss:.4f}"]
        if math.isfinite(progress.validation):
            parts.append(f"validation error {progress.validation:.4f}")
        parts += [f"{progress.samples_per_second:.3g} samples/s", f"{clock(progress.seconds_left)} left"]
        used, left = progress.seconds, progress.seconds_left
        total = used + left if math.isfinite(left) else used
        self._show("training", used, max(total, 1e-9), ", ".join(parts), progress.step == progress.steps)

    def rolled(self, done: int, total: int, seconds: float) -> None:
        """Progress of a forecast: leads done."""
        left = (total - done) * seconds / done if done else math.nan
        self._show("forecasting", done, total, f"step {done}/{total}, {clock(left)} left", done == total)

    def members(self, done: int, total: int, seconds: float) -> None:
        """Progress of an ensemble: members done, each from every start."""
        rate = done / seconds if seconds > 0 else 0.0
        left = (total - done) / rate if rate > 0 else math.nan
        self._show("forecasting", done, total, f"{done}/{total} members, {rate:.3g}/s, {clock(left)} left", done == total)

    def tracked(self, done: int, total: int) -> None:
        """Progress of a search for storms: states done."""
        left = (total - done) * self.seconds / done if done else math.nan
        self._show("finding storms", done, total, f"{done}/{total} states, {clock(left)} left", done == total)

    def drawn(self, done: int, total: int) -> None:
        """Progress of an animation: fields read for its scale, then drawn."""
        left = (total - done) * self.seconds / done if done else math.nan
        self._show("drawing", done, total, f"{done}/{total} fields, {clock(left)} left", done == total)

    def streamed(self, done: int, total: int) -> None:
        """Progress of work on fields larger than memory: slabs done."""
        left = (total - done) * self.seconds / done if done else math.nan
        self._show("slab by slab", done, total, f"{done}/{total} slabs, {clock(left)} left", done == total)

    def stage(self, text: str) -> None:
        """One step of a longer job, such as an evaluation: replaces the line before on a terminal."""
        self._show("evaluating", 0, 0, text, False)

    def _show(self, title: str, done: float, total: float, text: str, last: bool) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=title, completed=done, total=total or None, text=text)  # type: ignore[arg-type]
            return
        now = time.monotonic()
        if last or now - self._last >= max(_PLAIN_EVERY, 0.05 * (now - self._began)):
            self._last = now
            print(f"  {title}: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def work(self) -> Iterator[None]:
        """A stretch of work whose progress is shown."""
        self._began = self._last = time.monotonic()
        if not self.live or self._bar is not None:
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            self._bar, self._task = bar, bar.add_task("", total=None, text="")
            try:
                yield
            finally:
                self._bar, self._task = None, None


def processes() -> int:
    """How many processes torchrun started for this command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Whether this process is the one among them that speaks and writes."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"


def clock(seconds: float) -> str:
    """Seconds as ``12 s``, ``3 min 05 s`` or ``1 h 20 min``."""
    if not math.isfinite(seconds):
        return "? s"
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
