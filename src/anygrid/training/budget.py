"""Durations as a person writes them, and the clock that counts training time."""

from __future__ import annotations

import math
import re
import time

from anygrid.errors import UsageError

__all__ = ["Clock", "parse_duration"]

_UNITS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(min|sec|s|m|h|d)?\s*")


def parse_duration(text: float | int | str, where: str = "budget") -> float:
    """Seconds in ``90``, ``"90s"``, ``"10m"``, ``"1.5h"`` or ``"1h30m"``; a bare number is in seconds.

    Raises
    ------
    UsageError
        For anything else, and for a duration that is not positive and finite.
    """
    hint = "write seconds, or for example 90s, 10m, 1h30m"
    seconds = math.nan
    if isinstance(text, str):
        parts = _PART.findall(text.strip().lower())
        if parts and "".join(_PART.split(text.strip().lower())[::3]) == "":
            seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
    else:
        seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(where, "a duration above 0", repr(text), hint)
    return seconds


class Clock:
    """Seconds of training, counted over interruptions: ``start`` with what earlier sittings used, then read ``seconds``."""

    def __init__(self, used: float = 0.0) -> None:
        self._origin = time.perf_counter() - used

    @property
    def seconds(self) -> float:
        """Seconds used so far."""
        return time.perf_counter() - self._origin
