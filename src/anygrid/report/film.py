"""Bytes of an animated GIF or PNG, made of one frame at a time.

Pillow's own writers hold every frame until the last is there, and merge frames that are alike; these hold two frames and keep them all.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Frame", "animated_png", "gif"]

Frame = NDArray[np.uint8]  # (height, width, 3)
_SLOTS = 256


def gif(frames: Iterable[Frame], colours: NDArray[np.uint8], seconds: float) -> bytes:
    """An animated GIF without end, each frame shown for ``seconds`` (whole hundredths, two at least).

    Pixels take the nearest of up to 256 ``colours`` ``(n, 3)``, the same in all frames, so that a colour has one meaning throughout.
    Of a frame only the rectangle is written that differs from the one before.
    Source: CompuServe, Graphics Interchange Format, version 89a, sections 18 to 26.
    """
    table = Image.new("P", (1, 1))
    table.putpalette(np.resize(colours, (_SLOTS, 3)).tobytes())
    delay = max(2, round(100 * seconds))
    out = io.BytesIO()
    before: Frame | None = None
    for frame in frames:
        shown = np.asarray(Image.fromarray(frame).quantize(palette=table, dither=Image.Dither.NONE))
        if before is None:
            height, width = shown.shape
            out.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + np.resize(colours, (_SLOTS, 3)).tobytes())
            out.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
        top, left, part = _changed(shown, before)
        out.write(b"!\xf9\x04" + struct.pack("<BHB", 1 << 2, delay, 0) + b"\x00")
        out.write(b"," + struct.pack("<HHHHB", left, top, part.shape[1], part.shape[0], 0) + _compressed(part))
        before = shown
    out.write(b";")
    return out.getvalue()


def animated_png(frames: Iterable[Frame], count: int, seconds: float) -> bytes:
    """An animated PNG of ``count`` frames without end, in all their colours; its first frame is what other programs show.

    Source: W3C, Portable Network Graphics, third edition, sections 11.3.6 and 4.9.
    """
    out = io.BytesIO()
    out.write(b"\x89PNG\r\n\x1a\n")
    before: Frame | None = None
    number = 0
    for frame in frames:
        top, left, part = _changed(frame, before)
        size = struct.pack(">II", part.shape[1], part.shape[0])
        if before is None:
            out.write(_chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + _chunk(b"acTL", struct.pack(">II", count, 0)))
        control = size + struct.pack(">IIHHBB", left, top, round(1000 * seconds), 1000, 0, 0)
        out.write(_chunk(b"fcTL", struct.pack(">I", number) + control))
        number += 1
        data = _deflated(part)
        if before is None:
            out.write(_chunk(b"IDAT", data))
        else:
            out.write(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
        before = frame
    out.write(_chunk(b"IEND", b""))
    return out.getvalue()


def _changed(now: Frame, before: Frame | None) -> tuple[int, int, Frame]:
    """Top, left and contents of the smallest rectangle outside which nothing changed; one pixel where nothing did at all."""
    if before is None:
        return 0, 0, now
    other = now != before
    other = other.any(2) if other.ndim == 3 else other
    rows, columns = np.flatnonzero(other.any(1)), np.flatnonzero(other.any(0))
    if rows.size == 0:
        return 0, 0, now[:1, :1]
    return int(rows[0]), int(columns[0]), now[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _compressed(part: NDArray[np.uint8]) -> bytes:
    """Image data of a GIF: Pillow's, taken out of a file of one frame. As grey levels, of which it leaves the numbers as they are."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(part)).save(stream, "GIF", optimize=False, interlace=0)
    data = stream.getvalue()
    at = 13 + _table_bytes(data[10])
    while data[at] == 0x21:  # extensions: a label, then blocks up to an empty one
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    return data[at + 10 + _table_bytes(data[at + 9]) : -1]


def _table_bytes(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _deflated(part: Frame) -> bytes:
    """Rows of a PNG, each as the difference from the row above, which maps of cells make zero."""
    rows = part.reshape(len(part), -1)
    filtered = np.full((len(rows), rows.shape[1] + 1), 2, dtype=np.uint8)
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    return zlib.compress(filtered.tobytes(), 9)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
