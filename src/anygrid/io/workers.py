"""Worker processes with one thread each: a job is sent to every worker once, tasks go to whichever is free.

The workers are fresh interpreters rather than forks (torch's thread pools do not survive a fork) and do not import the
caller's script again, so a flat script needs no ``if __name__ == "__main__"``. They end with the process that started
them, also when that is killed: each one watches its standard input, which closes with the parent.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch

from anygrid.errors import AnygridError

__all__ = ["Workers", "available_cpus", "one_thread", "run"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
# Ctrl-C reaches the whole terminal group; the parent alone answers it, and this line runs before the slow imports.
_BOOT = (
    "import signal, sys, json; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = json.loads(sys.argv[1]); "
    "from anygrid.io.workers import _serve; _serve()"
)


def available_cpus() -> int:
    """Processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(job: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Generator[tuple[Task, Result], None, None]:
    """Yield ``(task, job(task))`` in the order of completion, from ``workers`` processes of one thread each.

    With 0 workers, and for a job whose classes are defined in the running script (no other process can import them), the
    tasks are done here, one after another, with one thread. Closing the iterator ends the workers.

    Raises
    ------
    AnygridError
        When a worker dies. Errors of the job itself are raised as they are, with the worker's traceback as a note.
    """
    with Workers(workers) as team:
        yield from team.run(job, tasks)


class Workers:
    """Processes of one thread each that do one job after another; they start with the first job and end with :meth:`end`.

    Parameters
    ----------
    count
        How many at most; 0 does the work in this process, with one thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.team: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, job: Callable[[Task], Result], tasks: Iterable[Task]) -> Generator[tuple[Task, Result], None, None]:
        """As :func:`run`; the processes stay when all tasks are done, and end when the iterator is closed before that."""
        if self.count == 0 or not _portable(job):
            with one_thread():
                for task in tasks:
                    yield task, job(task)
            return
        pending = deque(tasks)
        replies: queue.SimpleQueue[tuple[Any, bool, Any]] = queue.SimpleQueue()
        count, left = len(pending), len(pending)
        try:
            # Started inside the try: Ctrl-C between two starts must not leave the first one behind.
            while len(self.team) < min(self.count, count):
                self.team.append(_Worker())
            for worker in self.team[:count]:
                worker.follow(job, pending, replies)
            while left:
                task, good, value = replies.get()
                left -= 1
                if not good:
                    left = -1
                    raise value
                yield task, value
        finally:
            pending.clear()
            if left:
                self.end()
            for worker in self.team:
                worker.wait()

    def end(self) -> None:
        """Kill the processes, which keep no state that is not on disk."""
        for worker in self.team:
            worker.end()
        self.team = []


class _Worker:
    """One process and the thread that talks to it."""

    def __init__(self) -> None:
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.commands, self.answers = self.process.stdin, self.process.stdout
        self.thread: threading.Thread | None = None

    def follow(self, job: Callable[[Any], Any], pending: deque[Any], replies: queue.SimpleQueue[tuple[Any, bool, Any]]) -> None:
        """Take the job, and start to take tasks from ``pending`` until it is empty."""
        self._send("job", job)
        self.thread = threading.Thread(target=self._follow, args=(pending, replies), daemon=True)
        self.thread.start()

    def _follow(self, pending: deque[Any], replies: queue.SimpleQueue[tuple[Any, bool, Any]]) -> None:
        while True:
            try:
                task = pending.popleft()
            except IndexError:
                return
            try:
                self._send("task", task)
                good, value, trace = pickle.load(self.answers)
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                replies.put((task, False, self._death()))
                return
            if not good and not isinstance(value, AnygridError | OSError):
                value.add_note(f"in a worker process:\n{trace}")
            replies.put((task, good, value))

    def wait(self) -> None:
        """Until it takes no more tasks."""
        if self.thread is not None:
            self.thread.join()

    def _send(self, kind: str, item: Any) -> None:
        with suppress(BrokenPipeError):  # a dead worker is reported where its answer is awaited
            self.commands.write(pickle.dumps((kind, pickle.dumps(item))))  # twice: what cannot be loaded must not break the stream
            self.commands.flush()

    def _death(self) -> AnygridError:
        code = self.process.wait()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        hint = "if memory ran out, use fewer workers; run the same command again to continue where it stopped"
        return AnygridError("worker process", "an answer", f"its end by {how}", hint)

    def end(self) -> None:
        """Kill the process, which keeps no state that is not on disk, and close its pipes."""
        self.process.kill()
        self.process.wait()
        self.wait()
        with suppress(BrokenPipeError):
            self.commands.close()
        self.answers.close()


def _portable(job: object) -> bool:
    """Whether another process can load the job: it pickles, and nothing in it belongs to the running script."""
    try:
        return b"__main__" not in pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, as workers do: sums are rounded in the order of the threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _serve() -> None:
    """Body of a worker: a job, then its tasks, then another job, as pickles on standard input; answers on what was standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a solver prints goes to stderr, not into the answers
    torch.set_num_threads(1)
    inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(inbox,), daemon=True).start()
    job: Any = None
    while True:
        kind, task = inbox.get()
        if kind == "job":
            job = task
            continue
        try:
            for item in (job, task):
                if isinstance(item, _Unreadable):
                    raise item.error
            answer = True, job(task), ""
        except Exception as error:
            answer = False, _picklable(error), traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


class _Unreadable:
    """What arrives instead of an item that could not be unpickled."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _receive(inbox: queue.SimpleQueue[tuple[str, Any]]) -> None:
    while True:
        try:
            kind, item = pickle.load(sys.stdin.buffer)
        except (EOFError, pickle.UnpicklingError):
            os._exit(1)  # the parent is gone; a solver in the main thread must not hold this process back
        try:
            inbox.put((kind, pickle.loads(item)))
        except Exception as error:
            inbox.put((kind, _Unreadable(error)))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
