"""Lists of variables as people write them: `--inputs z500 t850 u850`, beside commas and repeated options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["gathered"]

_LISTS = {"fit": ("--inputs", "-i", "--outputs", "-u", "--forcing")}
_FILES = (".nc", ".nc4", ".cdf", ".netcdf", ".zarr", ".h5", ".hdf5", ".grib", ".grb", ".grib2", ".mat", ".npz", ".npy", ".pt", ".zip")


def gathered(words: Sequence[str]) -> list[str]:
    """Words in which every further name behind ``--inputs`` has its own ``--inputs``, so that a parser of options takes them.

    A word that begins with a dash ends the list, and so does one that is a file: there on disk, or by its slashes, stars or suffix.
    """
    listed = _LISTS.get(words[0], ()) if words else ()
    out: list[str] = []
    option = ""
    taken = False
    for word in words:
        if word.startswith("-") and len(word) > 1:
            name, equals, _ = word.partition("=")
            option, taken = (name if name in listed else ""), bool(equals)
        elif option and not taken:
            taken = True
        elif option and _names(word):
            out.append(option)
        else:
            option = ""
        out.append(word)
    return out


def _names(word: str) -> bool:
    path_like = any(c in word for c in "/*?[") or word.lower().endswith(_FILES)
    return bool(word.strip()) and not path_like and not Path(word).exists()
