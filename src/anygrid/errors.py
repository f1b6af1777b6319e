"""Named errors and the one form their messages take.

Every error says where it happened, what was expected, what was found, and how to mend it:

    Where: expected X, got Y.
    hint: the fix
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["AnygridError", "ClusterError", "DataError", "FileError", "GridError", "TrainingError", "UsageError", "did_you_mean"]


class AnygridError(ValueError):
    """Base of every error a user can cause; the command line prints it without a traceback and exits with 2.

    Parameters
    ----------
    where
        The function, file or option at fault, as the user knows it.
    expected, got
        Noun phrases that complete "expected X, got Y".
    hint
        One sentence that says what to type or change.
    """

    def __init__(self, where: str, expected: str, got: str, hint: str = "") -> None:
        self.where, self.expected, self.got, self.hint = where, expected, got, hint
        message = f"{where}: expected {expected}, got {got}."
        super().__init__(f"{message}\nhint: {hint}" if hint else message)

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        # Errors cross process boundaries during parallel generation; the default would replay only the message.
        return type(self), (self.where, self.expected, self.got, self.hint)


class UsageError(AnygridError):
    """An argument or option has a value that cannot be used."""


class DataError(AnygridError):
    """Data do not have the variables, units, values or samples that are needed."""


class GridError(AnygridError):
    """Coordinates do not form the grid that is needed."""


class FileError(AnygridError):
    """A file is missing, truncated, of another kind or from a newer version."""


class TrainingError(AnygridError):
    """Training cannot go on (a loss that is not finite, for example)."""


class ClusterError(AnygridError):
    """A cluster does not answer, or lost what was asked of it."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Hint that names the nearest of ``choices``, or lists them when none is near."""
    known = sorted(str(choice) for choice in choices)
    lower = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lower[near[0]]!r}?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"choose from: {shown}" if known else "there is nothing to choose from here"
