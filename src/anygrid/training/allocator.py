"""Keep large blocks of memory in the process between the steps of a training."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_large_blocks"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc malloc.h
_BLOCK, _TRIM = 1 << 30, (1 << 31) - 1


def keep_large_blocks() -> bool:
    """Raise glibc's thresholds for giving memory back; returns whether that was possible.

    By default glibc maps every block above 32 MiB anew and returns it when freed, so each step of a training pays a page
    fault for every 4 KiB of its activations: a training step of the FNO at 85 x 85
    took 1.4 to 1.7 times as long in two runs on a busy machine (not kept). The price
    is that the process keeps its peak memory until it ends. Other C libraries, and allocators put in glibc's place, are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _BLOCK)) and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM))
