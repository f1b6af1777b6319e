"""Processes of one training on this machine, as torchrun starts them.

They are forked from a server that has imported what they need and runs no threads: a fork of the test's own process inherits the locks and
pools of threads that it does not have, and then one in some hundreds waits for ever.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import cloudpickle
import torch
import torch.distributed as dist

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["anygrid.operators", "anygrid.training", "training_support", "pytest"])
_STORES: list[dist.TCPStore] = []  # as torchrun: they outlive the first rank


def start(count: int, work: Callable[[], object], folder: Path) -> list[BaseProcess]:
    """Start ``work`` on ``count`` ranks; what each says goes to ``folder/RANK.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    _STORES.append(store)
    told = cloudpickle.dumps(work)  # a function inside of a test, which pickle cannot name
    ranks: list[BaseProcess] = []
    for rank in range(count):
        ranks.append(_SERVER.Process(target=_rank, args=(rank, count, store.port, told, folder / f"{rank}.txt")))
        ranks[-1].start()
    return ranks


def end(ranks: list[BaseProcess], seconds: float = 180) -> list[int | None]:
    """Exit codes, once all have ended; those that have not by then say where they are, and have none."""
    until = time.monotonic() + seconds
    try:
        for rank in ranks:
            rank.join(max(0.0, until - time.monotonic()))
        for rank in ranks:
            if rank.is_alive():
                os.kill(rank.pid or 0, signal.SIGUSR1)
                rank.join(1.0)
        return [rank.exitcode for rank in ranks]
    finally:
        for rank in ranks:
            if rank.is_alive():
                rank.kill()


def on_ranks(count: int, work: Callable[[], object], folder: Path) -> None:
    """Run ``work`` on ``count`` ranks; fails with what they said unless all succeed."""
    codes = end(start(count, work, folder))
    assert codes == [0] * count, "\n".join(f"rank {k}: {code}\n{said(folder, k)}" for k, code in enumerate(codes))


def said(folder: Path, rank: int) -> str:
    """What a rank wrote."""
    return (folder / f"{rank}.txt").read_text()


def _rank(rank: int, count: int, port: int, told: bytes, path: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    with path.open("w", buffering=1) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        sys.stdout = sys.stderr = stream
        faulthandler.register(signal.SIGUSR1, stream)
        torch.set_num_threads(1)
        code = 0
        try:
            cloudpickle.loads(told)()
        except BaseException:
            traceback.print_exc()
            code = 2
        if dist.is_initialized() and not code:
            dist.destroy_process_group()
        stream.flush()
        os._exit(code)  # nothing that the test's process would do at its end
