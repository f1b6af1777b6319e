"""Processes that work together over gloo: started once, given functions of importable modules to run on every rank."""

import contextlib
import multiprocessing
import os
import tempfile
import traceback
from itertools import count
from pathlib import Path

import torch
import torch.distributed as dist


class Processes:
    """Up to ``most`` ranks; ``run`` calls a function on each of ``ranks`` of them and returns what rank by rank came back."""

    def __init__(self, most):
        self.most, self.folder, self.jobs = most, tempfile.TemporaryDirectory(), count()
        self.start()

    def start(self):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "anygrid.operators", "anygrid.surrogate"])
        self.pipes, self.workers = [], []
        for rank in range(self.most):
            mine, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, rank), daemon=True)
            worker.start()
            self.pipes.append(mine)
            self.workers.append(worker)

    def run(self, ranks, function, *arguments):
        store = Path(self.folder.name, str(next(self.jobs)))
        for pipe in self.pipes[:ranks]:
            pipe.send((ranks, store, function, arguments))
        found = [pipe.recv() if pipe.poll(60) else ("silent for a minute", None) for pipe in self.pipes[:ranks]]
        wrong = [f"rank {rank}: {said}" for rank, (said, _) in enumerate(found) if said]
        if wrong:  # ranks that are out of step would fail the tests that follow too
            for worker in self.workers:
                worker.kill()
            self.start()
        assert not wrong, "\n".join(wrong)
        return [result for _, result in found]

    def close(self):
        for pipe, worker in zip(self.pipes, self.workers, strict=True):
            with contextlib.suppress(OSError):
                pipe.send(None)
            worker.join(5)
            if worker.is_alive():
                worker.kill()
        self.folder.cleanup()


def _serve(pipe, rank):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    while (job := pipe.recv()) is not None:
        ranks, store, function, arguments = job
        try:
            dist.init_process_group("gloo", store=dist.FileStore(str(store), ranks), rank=rank, world_size=ranks)
            try:
                dist.barrier()  # a function that fails at once would close connections that others are still making
                reply = "", function(*arguments)
            finally:
                dist.destroy_process_group()
        except BaseException:
            reply = traceback.format_exc(), None
        pipe.send(reply)  # after the group is gone: a rank that is still at it would be out of step with the next job
