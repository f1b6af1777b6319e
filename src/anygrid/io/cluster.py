"""Tasks on a Dask cluster: the same jobs that local worker processes do, on machines that share a file system.

A task writes its files itself, whole or not at all, and returns a number, so a task that ran twice, because its worker was lost
before it could answer, changes nothing.
"""

from __future__ import annotations

import logging
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

from anygrid.errors import ClusterError, UsageError

__all__ = ["Cluster", "connect"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # tasks in flight for each thread of the cluster: none waits for the client, and a scheduler holds few
_SEEN = 10.0  # seconds until a new file must be visible everywhere; network file systems remember that it was not there


@dataclass(frozen=True, eq=False)
class Cluster:
    """An open connection to a scheduler; made by :func:`connect`."""

    client: Any  # distributed.Client, an optional dependency
    address: str

    def run(self, job: Callable[[Task], Result], tasks: Iterable[Task]) -> Generator[tuple[Task, Result], None, None]:
        """Yield ``(task, job(task))`` in the order of completion; each task computes with one thread.

        When a worker is lost its tasks go to others. Closing the iterator cancels what has not begun.

        Raises
        ------
        ClusterError
            When the scheduler is lost, or a task has taken four workers with it. Errors of the job are raised as they are.
        """
        from distributed import as_completed

        waiting, name = iter(tasks), f"anygrid-{uuid.uuid4().hex}"
        with self._errors(), self.client.as_current(), warnings.catch_warnings():
            # Scattered data would be lost with the workers that hold them.
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            # As a task, not as scattered data: when the workers that hold it are lost it is made again.
            sent = self.client.submit(_same, job, key=f"{name}-job", pure=False)
            running: dict[Any, Task] = {}
            done = as_completed()

            def send() -> None:
                room = _AHEAD * max(1, sum(self.client.nthreads().values())) - len(running)
                for task in islice(waiting, max(0, room)):
                    future = self.client.submit(_do, sent, task, key=f"{name}-{task}", pure=False)
                    running[future] = task
                    done.add(future)

            try:
                send()
                while running:
                    future = next(done)
                    task = running.pop(future)
                    result = self._result(future, task)
                    send()
                    yield task, result
            finally:
                with suppress(Exception):  # a scheduler that is gone has nothing to cancel
                    self.client.cancel([*running, sent], force=True)

    def check_shared(self, folder: Path) -> None:
        """Make sure that every worker sees what is written into ``folder``.

        Raises
        ------
        ClusterError
            When one does not.
        """
        note = folder / f"seen-{uuid.uuid4().hex}"
        note.write_text(note.name)
        try:
            with self._errors():
                found = self.client.run(_reads, str(note), note.name)
        finally:
            note.unlink(missing_ok=True)
        blind = sorted(worker for worker, sees in found.items() if not sees)
        if blind:
            hint = "workers write the data themselves: give a path on a file system that all of them mount, or leave --scheduler out"
            raise ClusterError(f"scheduler {self.address}", f"workers that see {folder}", f"none of it at {', '.join(blind[:3])}", hint)

    def _result(self, future: Any, task: object) -> Any:
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            hint = "memory may have run out: give workers more of it, or a smaller resolution; the same command continues where it stopped"
            raise ClusterError(f"scheduler {self.address}", f"an answer to {task}", "the loss of every worker that took it", hint)
        if error is not None:
            raise error
        if future.status != "finished":
            raise self._lost(str(future.status))
        return future.result()

    def _lost(self, how: str) -> ClusterError:
        hint = "start the scheduler again; the same command continues where it stopped"
        return ClusterError(f"scheduler {self.address}", "an answer", f"the loss of the connection ({how})", hint)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What distributed raises when it loses the scheduler, as one of our errors."""
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        try:
            yield
        except (CommClosedError, FutureCancelledError, TimeoutError) as error:
            raise self._lost(type(error).__name__) from error


@contextmanager
def connect(address: str, wait: float = 20.0) -> Iterator[Cluster]:
    """Connect to a Dask scheduler, such as ``tcp://10.0.0.1:8786``, that has workers with this version of anygrid.

    Parameters
    ----------
    wait
        Seconds to wait for the scheduler and for its first worker.

    Raises
    ------
    UsageError
        When the package ``distributed`` is not installed, or the address is not one.
    ClusterError
        When no scheduler answers, none of its workers does, or they have another version of anygrid or torch.
    """
    where = f"scheduler {address}"
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(where, "the package distributed", "none", "pip install 'anygrid[cluster]'") from error
    if not address.removeprefix("tcp://").removeprefix("tls://").rpartition(":")[2].isdigit():
        raise UsageError(where, "an address with a port", repr(address), "for example tcp://10.0.0.1:8786, as `dask scheduler` prints it")
    with _quiet():
        try:
            client = Client(address, timeout=wait, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            hint = "start one with `dask scheduler`, and give the address that it prints"
            raise ClusterError(where, "a scheduler that answers", f"none within {wait:g} s", hint) from error
        try:
            _check_workers(client, where, wait)
            yield Cluster(client, address)
        finally:
            with suppress(Exception):
                client.close(timeout=5)


def _check_workers(client: Any, where: str, wait: float) -> None:
    try:
        client.wait_for_workers(1, timeout=wait)
    except TimeoutError as error:
        hint = f"start workers with `dask worker {where.removeprefix('scheduler ')} --nthreads 1 --nworkers -1`"
        raise ClusterError(where, "a worker", f"none within {wait:g} s", hint) from error
    mine = _versions()
    hint = "install the same versions everywhere, with `pip freeze` as the list: other versions may round differently"
    try:
        found = client.run(_versions)
    except Exception as error:  # whatever the import of anygrid raised there
        raise ClusterError(where, f"workers with {_said(mine)}", f"{type(error).__name__}: {error}", hint) from error
    other = {worker: theirs for worker, theirs in found.items() if theirs != mine}
    if other:
        worker, theirs = next(iter(sorted(other.items())))
        raise ClusterError(where, f"workers with {_said(mine)}", f"{_said(theirs)} at {worker}", hint)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without distributed's own log: what it says of lost connections is said by our errors."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("anygrid", "torch")}


def _said(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _reads(path: str, content: str) -> bool:
    """Whether a file has that content within some seconds; runs on a worker."""
    end = time.monotonic() + _SEEN
    while True:
        with suppress(OSError):
            if Path(path).read_text() == content:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)


def _same(job: Any) -> Any:
    return job


def _do(job: Callable[[Any], Any], task: Any) -> Any:
    """One task with one thread: sums are rounded in the order of the threads. Runs on a worker."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return job(task)
