"""The command line: the only place where names become objects."""

from anygrid.cli.app import main

__all__ = ["main"]
