"""Frames as an animated GIF or PNG, by Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Frame", "animated_png", "gif"]

Frame = NDArray[np.uint8]  # (height, width, 3)


def gif(frames: Iterable[Frame], colours: NDArray[np.uint8], seconds: float) -> bytes:
    """An animated GIF without end, each frame shown for ``seconds`` (whole hundredths); frames that are alike become one, shown longer.

    Pixels take the nearest of up to 256 ``colours`` ``(n, 3)``, the same in all frames: a palette fitted to each would give a value other
    colours from frame to frame.
    """
    table = Image.new("P", (1, 1))
    table.putpalette(np.resize(colours, (256, 3)).tobytes())
    return _written("GIF", (Image.fromarray(f).quantize(palette=table, dither=Image.Dither.NONE) for f in frames), seconds)


def animated_png(frames: Iterable[Frame], seconds: float) -> bytes:
    """An animated PNG without end, in all colours; its first frame is what other programs show."""
    return _written("PNG", map(Image.fromarray, frames), seconds)


def _written(kind: str, pictures: Iterator[Image.Image], seconds: float) -> bytes:
    stream = io.BytesIO()
    # In memory at once: Pillow's writers look at each frame twice. A byte a pixel in GIF, three in PNG.
    first, *others = pictures
    first.save(stream, kind, save_all=True, append_images=others, duration=max(20, round(1000 * seconds)), loop=0)
    return stream.getvalue()
