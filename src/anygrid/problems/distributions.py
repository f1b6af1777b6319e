"""What a quantity of an equation may be: a number, a distribution, a random field, an expression; each is a line of text as well.

Text survives JSON and TOML, so a problem built from such quantities can be stored, sent to other processes and written by hand:
``0.055``, ``uniform(0.02, 0.06)``, ``random(length=0.1, low=3, high=12)``, ``0.1*sin(2*pi*x)``.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import MISSING, dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.expressions import FUNCTIONS, OPERATORS
from anygrid.errors import UsageError, did_you_mean
from anygrid.grid import Bounded, Grid, Interval, Periodic
from anygrid.numerics.random_fields import Family, smooth_field

__all__ = ["LogUniform", "Normal", "Quantity", "RandomField", "Uniform", "interval_text", "read_interval", "read_quantity", "text_of"]


@dataclass(frozen=True)
class Uniform:
    """A number drawn evenly between ``low`` and ``high``, one for each sample."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(-math.inf < self.low < self.high < math.inf, "Uniform", "finite low below high", f"{self.low:g}, {self.high:g}")

    def draw(self, generator: torch.Generator) -> float:
        """One number."""
        return self.low + (self.high - self.low) * _unit(generator)


@dataclass(frozen=True)
class LogUniform:
    """A number whose logarithm is drawn evenly between those of ``low`` and ``high``: for coefficients known to an order of magnitude."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(0 < self.low < self.high < math.inf, "LogUniform", "finite 0 < low < high", f"{self.low:g}, {self.high:g}")

    def draw(self, generator: torch.Generator) -> float:
        """One number."""
        return self.low * (self.high / self.low) ** _unit(generator)


@dataclass(frozen=True)
class Normal:
    """A normally distributed number, one for each sample."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check(math.isfinite(self.mean), "Normal", "a finite mean", f"{self.mean:g}")
        _check(0 < self.std < math.inf, "Normal", "a finite standard deviation above 0", f"{self.std:g}")

    def draw(self, generator: torch.Generator) -> float:
        """One number."""
        return self.mean + self.std * float(torch.randn((), generator=generator, dtype=torch.float64))


@dataclass(frozen=True)
class RandomField:
    """A smooth Gaussian random function of position, one for each sample and the same on every grid.

    Parameters
    ----------
    length
        Correlation length in units of the coordinates; 0 means a tenth of the shortest axis.
    mean, std
        Of the values; ``std`` is an average over the domain.
    positive
        Take the exponential: a log-normal field with these moments of the logarithm.
    low, high
        Two values instead, ``high`` where the field is above its mean: a composite of two materials.
    """

    length: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    positive: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check(0 <= self.length < math.inf, "RandomField", "a finite correlation length of 0 or more", f"{self.length:g}")
        _check(0 < self.std < math.inf, "RandomField", "a finite standard deviation above 0", f"{self.std:g}")
        _check(all(math.isfinite(v or 0.0) for v in (self.mean, self.low, self.high)), "RandomField", "finite values", f"{self.mean:g}")
        _check((self.low is None) == (self.high is None), "RandomField", "both low and high, or neither", "one of them")

    def draw(self, n: int, grid: Grid, families: tuple[Family, ...], generator: torch.Generator) -> Float[Tensor, "{n} *space"]:
        """Draw ``n`` fields in float64."""
        length = self.length or 0.1 * min(interval.length for interval in grid.domain)
        u = smooth_field(n, grid, families, length=length, generator=generator)
        if self.low is not None and self.high is not None:
            return torch.where(u >= 0, self.high, self.low).to(u.dtype)
        u = self.mean + self.std * u
        return u.exp() if self.positive else u


Quantity = float | Uniform | LogUniform | Normal | RandomField | str
_KINDS: dict[str, type] = {"uniform": Uniform, "loguniform": LogUniform, "normal": Normal, "random": RandomField}
_NAMES = {**_KINDS, "randomfield": RandomField}  # as in Python, where case does not matter
_CALL = re.compile(r"\s*([A-Za-z]+)\s*\(([^()]*)\)\s*$")


def text_of(quantity: Quantity) -> str:
    """The line of text that :func:`read_quantity` turns back into the quantity."""
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | str | Uniform | LogUniform | Normal | RandomField):
        raise UsageError("quantity", "a number, an expression or a distribution", repr(quantity), "for example Uniform(0, 1) or 'sin(x)'")
    if isinstance(quantity, str):
        meant = read_quantity(quantity)
        return quantity if isinstance(meant, str) else text_of(meant)
    if isinstance(quantity, int | float):
        _check(math.isfinite(quantity), "quantity", "a finite number", repr(quantity))
        return repr(float(quantity))
    word = next(word for word, kind in _KINDS.items() if kind is type(quantity))
    values = {f.name: getattr(quantity, f.name) for f in fields(quantity) if getattr(quantity, f.name) != f.default}
    return f"{word}({', '.join(f'{k}={_word(v)}' for k, v in values.items())})"


def read_quantity(text: str) -> Quantity:
    """A quantity from its text; text of no other form is an expression and returned as it is.

    Raises
    ------
    UsageError
        For arguments that a distribution does not have, or that are no numbers.
    """
    try:
        return float(text)
    except ValueError:
        pass
    match = _CALL.match(text)
    word = "" if match is None else match[1].lower()
    if match is None or word not in _NAMES:
        near = difflib.get_close_matches(word, _NAMES, n=1, cutoff=0.7)
        if near and word not in FUNCTIONS and word not in OPERATORS:
            raise UsageError(text, "an expression or a distribution", repr(word), f"did you mean {near[0]!r}?")
        return text
    kind = _NAMES[word]
    names = [f.name for f in fields(kind)]
    values = _arguments(text, match[2], names)
    missing = [f.name for f in fields(kind) if f.name not in values and f.default is MISSING]
    if missing:
        raise UsageError(text, f"arguments {', '.join(names)}", f"no {missing[0]}", f"for example {word}(0, 1)")
    return kind(**values)


def interval_text(interval: Interval) -> str:
    """``periodic(0, 20)`` or ``bounded(0, 1)``."""
    return f"{'periodic' if interval.periodic else 'bounded'}({interval.lower!r}, {interval.upper!r})"


def read_interval(text: str, where: str) -> Interval:
    """Inverse of :func:`interval_text`.

    Raises
    ------
    UsageError
        For other text.
    """
    match = _CALL.match(text)
    if match is None or match[1].lower() not in ("periodic", "bounded"):
        raise UsageError(where, "periodic(lower, upper) or bounded(lower, upper)", repr(text), "for example periodic(0, 1)")
    values = {"lower": 0.0, "upper": 1.0} | _arguments(text, match[2], ["lower", "upper"])
    finite = math.isfinite(values["upper"] - values["lower"])
    _check(finite and values["lower"] < values["upper"], where, "finite lower below upper", text)
    return (Periodic if match[1].lower() == "periodic" else Bounded)(values["lower"], values["upper"])


def _arguments(where: str, text: str, names: list[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for k, part in enumerate(part.strip() for part in text.split(",") if part.strip()):
        name, equals, value = part.partition("=")
        name, value = (name.strip(), value.strip()) if equals else (names[k] if k < len(names) else f"argument {k + 1}", part)
        if name not in names or name in values:
            raise UsageError(where, f"arguments {', '.join(names)}, each once", repr(name), did_you_mean(name, names))
        try:
            values[name] = value == "true" if value in ("true", "false") else float(value)
        except ValueError as error:
            raise UsageError(where, f"a number for {name}", repr(value)) from error
    return values


def _word(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(float(value))


def _unit(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _check(holds: bool, where: str, expected: str, got: str) -> None:
    if not holds:
        raise UsageError(where, expected, got, f"change the arguments of {where}")
