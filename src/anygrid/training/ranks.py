"""The processes of one training: who they are, what each computes of a batch, what passes between them, and how they end together.

They are started by ``torchrun``, or share a group of ``torch.distributed`` that the caller made. Small decisions (a clock's reading, a
stop, what a file held) pass over a group of their own, by gloo, beside the one that carries gradients. A training in one process is the
case of one rank: every method is then the identity, and nothing is sent.
"""

from __future__ import annotations

import atexit
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from anygrid.errors import TrainingError, UsageError
from anygrid.training.interrupt import Interrupt

__all__ = ["ALONE", "Ranks", "Share", "join"]

T = TypeVar("T")
PATIENCE = timedelta(minutes=10)  # for one answer of the others: longer than a checkpoint or a validation takes
_WORD = 2.0  # seconds for what another process says before it ends
# Of the libraries that carry messages: torch raises plain RuntimeErrors for a process that is gone.
_LOST = ("gloo/", "nccl", "connection closed", "connection reset", "timed out", "socket", "tcpstore", "broken pipe")


@dataclass(frozen=True)
class Share:
    """What one rank computes of some rows: ``rows``, never empty, and the ``part`` of a mean over all rows that they stand for.

    A rank that has nothing to do computes a row that counts nothing, since it must take part in the sums of gradients.
    """

    rows: slice
    part: float


class Ranks:
    """One process among those of a training.

    Attributes
    ----------
    rank, count
        Number of this process, and how many there are.
    here, place
        How many are on this machine, and the number of this process among them.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: Any = None, store: Any = None) -> None:
        self.rank, self.count, self._group, self._store = rank, count, group, store
        machines = self.gather(socket.gethostname())
        self.here, self.place = machines.count(machines[rank]), machines[:rank].count(machines[rank])

    def __deepcopy__(self, memo: object) -> Ranks:
        return self  # a copy of what uses them runs in the same processes

    @property
    def alone(self) -> bool:
        """Whether this is a training in one process."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def rows(self, count: int) -> Share:
        """Share of ``count`` rows: as even as can be, in order; the first ranks have one more where it does not divide."""
        if self.alone:
            return Share(slice(0, count), 1.0)
        each, more = divmod(count, self.count)
        begin = self.rank * each + min(self.rank, more)
        end = begin + each + (self.rank < more)
        return Share(slice(begin, end), (end - begin) / count) if end > begin else Share(slice(0, 1), 0.0)

    def broadcast(self, value: T) -> T:
        """The value of the first rank."""
        if self.alone:
            return value
        held = [value if self.first else None]
        dist.broadcast_object_list(held, src=dist.get_global_rank(self._group, 0), group=self._group)
        return held[0]  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        if self.alone:
            return [value]
        held: list[Any] = [None] * self.count
        dist.all_gather_object(held, value, group=self._group)
        return held

    def total(self, values: Tensor) -> Tensor:
        """Sum over ranks, on the CPU."""
        if self.alone:
            return values
        whole = values.detach().cpu().clone()
        dist.all_reduce(whole, group=self._group)
        return whole

    def totals(self, *numbers: float) -> tuple[float, ...]:
        """Sums over ranks, in one message."""
        return numbers if self.alone else tuple(self.total(torch.tensor(numbers, dtype=torch.float64)).tolist())

    def agree(self, number: float) -> float:
        """The number of the first rank."""
        return number if self.alone else self.totals(number if self.first else 0.0)[0]

    def joined(self, mine: Tensor, share: Share, count: int) -> Tensor:
        """Rows of all ranks, of which ``mine`` are the ``share``, on the CPU."""
        if self.alone:
            return mine.detach().cpu()
        whole = torch.zeros(count, *mine.shape[1:], dtype=mine.dtype)
        if share.part:
            whole[share.rows] = mine.detach().cpu()
        return self.total(whole)

    @contextmanager
    def watched(self, hint: str) -> Iterator[None]:
        """A stretch of work that ends on all ranks when it fails on one, with the words of that one.

        Raises
        ------
        TrainingError
            When another process failed or is gone; ``hint`` says how to go on.
        """
        if self.alone:
            yield
            return
        try:
            yield
        except Exception as error:
            # torchrun ends the rest politely when one has died, which must wait until its name is told.
            with Interrupt():
                if not _lost(error):
                    self._say(error)
                    raise
                told = self._told()
            raise TrainingError(f"training on {self.count} processes", "all of them to go on", told, hint) from error
        finally:
            if self._group is not None:
                # Closes the connections, so that the others do not wait for this one.
                group, self._group = self._group, None
                _quietly(lambda: dist.destroy_process_group(group))

    def _say(self, error: Exception) -> None:
        """Leave word of an error for the others, and give the first rank the time to read it before this process ends."""
        text = f"{type(error).__name__} in process {self.rank}: {error}".split("\nhint:")[0].rstrip(".")
        _quietly(lambda: self._store.compare_set("failure", "", text))
        if self.first:
            _quietly(lambda: self._store.set("heard", "yes"))
            return
        group, self._group = self._group, None
        _quietly(lambda: dist.destroy_process_group(group))
        _quietly(lambda: self._appears("heard"))

    def _appears(self, key: str) -> bool:
        """Whether somebody leaves this word within a moment. Asked again and again, for a wait that runs out is a warning of torch's."""
        until = time.monotonic() + _WORD
        while not self._store.check([key]):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def _told(self) -> str:
        """What ended the others, as far as it is known."""
        lost = "the loss of the first process, or of its machine"
        try:
            self._store.set(f"here {self.rank}", "yes")
            said = self._appears("failure")
            if self.first:
                self._store.set("heard", "yes")
            if said:
                return str(self._store.get("failure").decode())
            gone = [k for k in range(self.count) if not self._store.check([f"here {k}"])]
            named = f"process{'es' if len(gone) > 1 else ''} {', '.join(map(str, gone))}"
            return f"{named} gone without a word (killed, or out of memory)" if gone else "a message that did not arrive"
        except RuntimeError:
            return lost


ALONE = Ranks()


def join() -> Ranks:
    """The processes that ``torchrun`` or the caller started; one alone where there are no others.

    Raises
    ------
    UsageError
        For more processes on a machine than it has CUDA devices, where it has some.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
            return ALONE
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        atexit.register(_quietly, dist.destroy_process_group)
    if dist.get_world_size() == 1:
        return ALONE
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    # A prefix of its own: several trainings may follow each other in one process.
    store = dist.PrefixStore(f"anygrid {group.group_name}", dist.distributed_c10d._get_default_store())
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), group, store)
    if torch.cuda.is_available():
        if ranks.here > torch.cuda.device_count():
            got = f"{ranks.here} processes and {torch.cuda.device_count()} devices"
            raise UsageError("torchrun", "a CUDA device for each process", got, "lower --nproc-per-node")
        torch.cuda.set_device(ranks.place)
    return ranks


def _lost(error: BaseException) -> bool:
    """Whether an error only says that another process does not answer."""
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _LOST)


def _quietly(call: Any) -> None:
    """Words of farewell, which may find nobody."""
    with suppress(RuntimeError, ValueError, AssertionError):
        call()
