"""Readers of other people's formats, training pairs out of data sets, and our own store."""

from anygrid.io.pairs import Pairs
from anygrid.io.readers import read

__all__ = ["Pairs", "read"]
