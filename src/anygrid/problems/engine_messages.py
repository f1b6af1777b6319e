"""Messages between two processes: arrays and a few words, as safetensors behind their length. Reading one runs no code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from io import BufferedIOBase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

__all__ = ["Arrays", "receive", "send"]

Arrays = dict[str, NDArray[Any]]

_LENGTH = struct.Struct("<Q")
_MOST = 8 << 30  # bytes; a larger length is not one of ours


def send(stream: BufferedIOBase, words: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one message; ``words`` must be JSON."""
    data = save({name: np.asarray(value, order="C") for name, value in arrays.items()}, {"words": json.dumps(words)})
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: BufferedIOBase) -> tuple[dict[str, Any], Arrays]:
    """Read one message.

    Raises
    ------
    EOFError
        When the other process has gone.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > _MOST:
        raise EOFError(f"a message of {length} bytes")
    data = _exactly(stream, length)
    (header,) = _LENGTH.unpack(data[: _LENGTH.size])
    words = json.loads(json.loads(data[_LENGTH.size : _LENGTH.size + header])["__metadata__"]["words"])
    return words, load(data)


def _exactly(stream: BufferedIOBase, n: int) -> bytes:
    data = stream.read(n)
    if len(data) < n:
        raise EOFError(f"{len(data)} bytes of {n}")
    return data
