"""Units as CF strings: which are the same, which measure the same kind of thing, and by which numbers they differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

__all__ = ["DIMENSIONLESS", "Unit", "conversion_hint", "find_unit", "plain_units", "same_units", "unit_text", "zero_point"]

DIMENSIONLESS = {"", "1", "-", "none", "dimensionless", "unitless", "(0 - 1)", "0-1", "fraction"}
_ALIASES = {
    "celsius": "degC",
    "degrees_c": "degC",
    "degree_celsius": "degC",
    "degrees_celsius": "degC",
    "deg_c": "degC",
    "°c": "degC",
    "c": "degC",
    "kelvin": "K",
    "degk": "K",
    "deg k": "K",
    "%": "percent",
    "mb": "millibar",
    "millibars": "millibar",
    "mbar": "millibar",
    "gpm": "m",
    "degrees_north": "degree",
    "degrees_east": "degree",
    "degree_north": "degree",
    "degree_east": "degree",
}


@dataclass(frozen=True)
class Unit:
    """A unit as ``scale`` times a product of powers of base units; the default is the pure number.

    Differences count, not zero points: ``degC`` is ``K``.
    """

    scale: float = 1.0
    powers: tuple[tuple[str, Fraction], ...] = ()

    def __mul__(self, other: Unit) -> Unit:
        exponents = dict(self.powers)
        for name, power in other.powers:
            exponents[name] = exponents.get(name, Fraction(0)) + power
        return Unit(self.scale * other.scale, tuple(sorted((name, power) for name, power in exponents.items() if power)))

    def __pow__(self, exponent: Fraction) -> Unit:
        raised = tuple((name, power * exponent) for name, power in self.powers if exponent)
        return Unit(self.scale ** float(exponent), raised)

    def __truediv__(self, other: Unit) -> Unit:
        return self * other ** Fraction(-1)

    def alike(self, other: Unit) -> bool:
        """Whether both measure the same kind of quantity."""
        return self.powers == other.powers

    def same(self, other: Unit) -> bool:
        """Whether a number means the same in both."""
        return self.alike(other) and abs(self.scale / other.scale - 1) < 1e-9


def find_unit(text: str) -> Unit | None:
    """Unit of a CF string such as ``m s-1``, ``K`` or ``1``; ``None`` when no such unit is known."""
    found = _parse(text.strip())
    if found is None:
        return None
    base = (_registry().Quantity(1.0, found) - _registry().Quantity(0.0, found)).to_base_units()
    powers = sorted((str(name), Fraction(power).limit_denominator(1000)) for name, power in base.unit_items())
    return Unit(float(base.magnitude), tuple((name.removeprefix("delta_"), power) for name, power in powers if name != "radian"))


def zero_point(text: str) -> float:
    """Where the zero of a unit lies in base units: 273.15 (K) for ``degC``, 0 for ``K`` and for what is not known."""
    found = _parse(text.strip())
    return 0.0 if found is None else float(_registry().Quantity(0.0, found).to_base_units().magnitude)


def unit_text(unit: Unit) -> str:
    """CF string of a unit: ``m2 s-1``."""
    parts = [f"{_registry().get_symbol(name)}{'' if power == 1 else power}" for name, power in unit.powers]
    scale = [] if abs(unit.scale - 1) < 1e-12 and parts else [f"{unit.scale:g}"]
    return " ".join([*scale, *parts])


def plain_units(text: str) -> str:
    """A unit for people: ``m**2 s**-2`` as ``m2 s-2``."""
    return text.replace("**", "")


@cache
def _registry() -> Any:  # pint's registry type is built at run time
    import pint  # costs 0.3 s, and most runs compare equal strings

    return pint.UnitRegistry()


@cache
def _parse(text: str) -> Any | None:
    """Unit of a CF string, or None when no such unit is known."""
    if text.lower() in DIMENSIONLESS:
        return _registry().Unit("")
    text = _ALIASES.get(text.lower(), text).replace("^", "**").replace("·", " ").replace("µ", "u")
    text = re.sub(r"(?<=[A-Za-z])(-?\d+)", r"**\1", text)  # CF: m s-1
    text = re.sub(r"(?<=[\w)])[ .](?=[A-Za-z(])", "*", re.sub(r"\s+", " ", text))
    try:
        return _registry().Unit(text)
    except Exception:
        return None


def same_units(wanted: str, found: str) -> bool:
    """Whether a number means the same in both; strings that no unit system knows are compared as they stand."""
    a, b = _parse(wanted), _parse(found)
    if a is None or b is None:
        return wanted.lower() == found.lower()
    if a.dimensionality != b.dimensionality:
        return False
    scale, offset = _affine(b, a)
    return abs(scale - 1) < 1e-9 and abs(offset) < 1e-9


def _affine(source: Any, target: Any) -> tuple[float, float]:
    """Numbers ``(scale, offset)`` with ``target = scale * source + offset``."""
    quantity = _registry().Quantity
    zero, one = (float(quantity(x, source).to(target).magnitude) for x in (0.0, 1.0))
    return one - zero, zero


def conversion_hint(name: str, found: str, wanted: str) -> str:
    """The line of code that converts a variable."""
    a, b = _parse(found), _parse(wanted)
    if a is None or b is None or a.dimensionality != b.dimensionality:
        return f"convert the data to {wanted!r}, or use data of the quantity the surrogate was trained on"
    scale, offset = _affine(a, b)
    term = f"ds[{name!r}]" + (f" * {scale:.10g}" if abs(scale - 1) > 1e-12 else "") + (f" + {offset:.10g}" if abs(offset) > 1e-12 else "")
    return f"convert with ds[{name!r}] = ({term}).assign_attrs(units={wanted!r})"
