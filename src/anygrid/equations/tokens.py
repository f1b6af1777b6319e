"""The tokens of an equation text, read one after another, and errors that show the place in it."""

from __future__ import annotations

import re

from anygrid.errors import AnygridError, UsageError

__all__ = ["Tokens"]

_LENGTH, _NAME, _SHOWN = 4000, 40, 40
_TOKEN = re.compile(r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<op>\*\*|[-+*/(),=]))", re.ASCII)
_HINTS = {"=": "an equation reads left = right", ")": "a parenthesis is not closed", ",": "d takes an expression and an axis: d(u, x)"}


class Tokens:
    """Numbers, names and operators of a text, each with its place; the last is the end.

    Raises
    ------
    UsageError
        For a text that is too long, or a character that belongs to no token.
    """

    def __init__(self, text: str) -> None:
        self.text, self.length = text, len(text)
        if len(text) > _LENGTH:
            raise UsageError("equation", f"at most {_LENGTH} characters", f"{len(text)}", "split it into several equations")
        self._tokens: list[tuple[str, str, int]] = []
        self._at = position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                place = position + len(text[position:]) - len(text[position:].lstrip())
                hint = "write powers as **" if text[place] == "^" else "use names, numbers, + - * / ** ( ) , ="
                raise self.error(place, "a name, a number or an operator", repr(text[place]), hint)
            kind = match.lastgroup
            if kind == "name" and len(match[kind]) > _NAME:
                raise self.error(match.start(kind), f"names of at most {_NAME} characters", f"{len(match[kind])}", "shorten it")
            self._tokens.append((kind, match[kind], match.start(kind)))
            position = match.end()
        self._tokens.append(("end", "", len(text)))

    @property
    def current(self) -> tuple[str, str, int]:
        """Kind (``number``, ``name``, ``op`` or ``end``), text and place of the next token."""
        return self._tokens[self._at]

    @property
    def place(self) -> int:
        """Where the next token begins."""
        return self.current[2]

    @property
    def found(self) -> str:
        """The next token, as an error says it."""
        kind, text, _ = self.current
        return "the end of the text" if kind == "end" else repr(text[:_SHOWN])

    def advance(self) -> None:
        """Go to the token after the next."""
        self._at += 1

    def next(self, *texts: str) -> str | None:
        """Take the token if it is one of these operators."""
        kind, text, _ = self.current
        if kind == "op" and text in texts:
            self.advance()
            return text
        return None

    def expect(self, text: str) -> None:
        """Take this operator, which must come now."""
        if self.next(text) is None:
            raise self.error(self.place, f"{text!r}", self.found, _HINTS.get(text, ""))

    def end(self) -> None:
        """Nothing may follow."""
        if self.current[0] != "end":
            raise self.error(self.place, "an operator or the end of the text", self.found, "products are written with *")

    def error(self, place: int, expected: str, got: str, hint: str = "") -> AnygridError:
        """An error with a picture of the place."""
        start = max(0, place - _SHOWN)
        shown = "".join(c if c.isprintable() else " " for c in self.text[start : place + _SHOWN])
        picture = f"    {shown}\n    {' ' * (place - start)}^"
        return UsageError(f"equation, column {place + 1}", expected, got, f"{hint or 'look at the place marked'}\n{picture}")
