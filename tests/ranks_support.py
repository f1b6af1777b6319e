"""Processes of one training on this machine, as torchrun starts them, forked from the test so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist


def start(count: int, work: Callable[[], object], folder: Path) -> list[BaseProcess]:
    """Start ``work`` on ``count`` ranks; what each says goes to ``folder/RANK.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks: list[BaseProcess] = []
    for rank in range(count):
        ranks.append(context.Process(target=_rank, args=(rank, count, port, work, folder / f"{rank}.txt")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: those of pytest hold no locks here
            ranks[-1].start()
    return ranks


def end(ranks: list[BaseProcess], seconds: float = 60) -> list[int | None]:
    """Exit codes, once all have ended."""
    try:
        for rank in ranks:
            rank.join(seconds)
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


def _rank(rank: int, count: int, port: int, work: Callable[[], object], path: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with path.open("w", buffering=1) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        sys.stdout = sys.stderr = stream
        torch.set_num_threads(1)
        code = 0
        try:
            work()
        except BaseException:
            traceback.print_exc()
            code = 2
        if dist.is_initialized() and not code:
            dist.destroy_process_group()
        stream.flush()
        os._exit(code)  # nothing that the test's process would do at its end
