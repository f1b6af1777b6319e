"""A Dask scheduler and workers as processes of their own, which end with the test."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


class Site:
    """One scheduler and some workers with one thread each."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, []
        self.file = folder / "scheduler.json"
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")])}
        # No limit on workers lost: the tests kill them.
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)
        )
        for _ in range(400):
            if self.file.exists() and self.file.stat().st_size:
                break
            time.sleep(0.05)
        self.address = json.loads(self.file.read_text())["address"]
        for _ in range(workers):
            self.add()

    def add(self) -> None:
        self.workers.append(
            self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder))
        )

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        with (self.folder / f"{kind}-{len(self.workers)}.log").open("w") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.folder)

    def kill(self, number: int) -> None:
        """As if its machine were gone."""
        self.workers[number].send_signal(signal.SIGKILL)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
