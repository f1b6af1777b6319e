"""Ctrl-C during training, or a polite request to end (SIGTERM, as schedulers and torchrun send it): finish the step, save, then leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

__all__ = ["Interrupt"]


class Interrupt:
    """Context in which the first signal only sets ``asked``; the second interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        # Only the main thread may set handlers; elsewhere Ctrl-C does not arrive anyway.
        self._mine = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Interrupt:
        if self._mine:
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._mine:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
