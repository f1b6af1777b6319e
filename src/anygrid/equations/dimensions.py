r"""Whether the terms of an equation have the same unit.

Terms of a sum have one unit, that of a product is the product, :math:`\partial_x` divides by the unit of :math:`x`, and ``sin``, ``exp``
and the other functions take pure numbers. Units count with their scale: equations are computed with the numbers as they stand,
so a length in km beside one in m is as wrong as one in s. A number in the text is a pure number, but for 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TypeAlias

import sympy as sp

from anygrid.equations.limits import real_number
from anygrid.equations.system import System
from anygrid.errors import UsageError, did_you_mean
from anygrid.fields.units import Unit, find_unit, unit_text

__all__ = ["check_dimensions", "rate_unit"]

_Found: TypeAlias = Unit | None  # None: not known, and then it agrees with everything
_TIME = "t"
_NUMBER = Unit()


def check_dimensions(system: System, units: Mapping[str, str]) -> None:
    """Refuse an equation whose terms have different units; terms with a quantity of unknown unit are left out.

    Parameters
    ----------
    system
        With its parameters as symbols, not as numbers.
    units
        Unit by name: unknowns, parameters, fields, coordinates, and ``t`` for the time.

    Raises
    ------
    UsageError
        For a name that the equation does not have, a unit that is none, and terms of different units, which are named.
    """
    names = (*system.axes, *system.state, *system.auxiliary, *system.parameters, *system.fields, *(() if system.steady else (_TIME,)))
    known: dict[str, Unit] = {}
    for name, text in units.items():
        if name not in names:
            raise UsageError("Equation units", "names of the equation", repr(name), did_you_mean(name, names))
        found = find_unit(text)
        if found is None:
            raise UsageError(f"Equation units of {name!r}", "a unit such as 'm s-1', or '1'", repr(text), "write '1' for a count")
        known[name] = found
    for name in system.state:  # the rate of an unknown of second order in time
        if name not in known and name.removesuffix("_t") in known and _TIME in known:
            known[name] = known[name.removesuffix("_t")] / known[_TIME]
    walk = _Walk(known)
    for name, rate in zip(system.state, system.rates, strict=False):
        wanted = walk.function(f"{name}_t") if f"{name}_t" in system.state else _over(known.get(name), known.get(_TIME))
        label = f"{name}t" if name.endswith("_t") else f"{name}_t"
        walk.agree([(label, wanted), *((_text(term), walk.unit(term)) for term in sp.Add.make_args(rate))])
    for constraint in system.constraints:
        walk.unit(constraint)


def rate_unit(unit: str | None, time: str | None) -> str:
    """Unit of ``u_t`` in CF form, for those of ``u`` and of the time; ``"1"`` where either is unknown."""
    quotient = None if unit is None or time is None else _over(find_unit(unit), find_unit(time))
    return "1" if quotient is None else unit_text(quotient)


class _Walk:
    """Units of expressions, from the leaves up."""

    def __init__(self, known: Mapping[str, Unit]) -> None:
        self.known = known

    def unit(self, e: sp.Basic) -> _Found:
        if e.is_number:
            return None if e == 0 else _NUMBER
        if e.is_Symbol:
            return self.known.get(str(e))
        if isinstance(e, sp.core.function.AppliedUndef):
            return self.function(str(e.func))
        if isinstance(e, sp.Derivative):
            found = self.unit(e.expr)
            for axis, order in e.variable_count:
                by = self.known.get(str(axis))
                found = None if found is None or by is None else found / by ** Fraction(int(order))
            return found
        if e.is_Add:
            return self.agree([(_text(term), self.unit(term)) for term in e.args])
        if e.is_Mul:
            product: _Found = _NUMBER
            for factor in e.args:
                found = self.unit(factor)
                product = None if product is None or found is None else product * found
            return product
        if e.is_Pow:
            return self.power(e)
        found = self.unit(e.args[0])
        if isinstance(e, sp.Abs):
            return found
        if not isinstance(e, sp.sign):
            self.pure(e.args[0], found, f"in {_text(e)}")
        return _NUMBER

    def function(self, name: str) -> _Found:
        if name not in self.known and name.endswith("_t"):
            return _over(self.known.get(name[:-2]), self.known.get(_TIME))
        return self.known.get(name)

    def power(self, e: sp.Pow) -> _Found:
        base, exponent = self.unit(e.base), real_number(e.exp) if e.exp.is_number else None
        if exponent is None:
            self.pure(e.exp, self.unit(e.exp), f"as the exponent of {_text(e)}")
            self.pure(e.base, base, f"in {_text(e)}, whose exponent is no number")
            return _NUMBER
        return None if base is None else base ** Fraction(exponent).limit_denominator(1000)

    def pure(self, e: sp.Basic, found: _Found, where: str) -> None:
        if found is not None and not found.same(_NUMBER):
            hint = f"divide {_text(e)} by a scale of the same unit, given in parameters="
            raise UsageError("Equation units", f"a pure number {where}", f"{_text(e)} in {unit_text(found)!r}", hint)

    def agree(self, terms: list[tuple[str, _Found]]) -> _Found:
        """The unit that the terms of a sum have in common."""
        stated = [(label, found) for label, found in terms if found is not None]
        for label, found in stated[1:]:
            first, unit = stated[0]
            if not unit.same(found):
                if unit.alike(found):
                    hint = f"their numbers differ by a factor of {found.scale / unit.scale:g}: give all quantities in units of one system"
                else:
                    hint = "look at the exponents and the derivatives; a number with a unit belongs into parameters= and units="
                expected = f"terms of one unit, {first!r} in {unit_text(unit)!r}"
                raise UsageError("Equation units", expected, f"{label!r} in {unit_text(found)!r}", hint)
        return stated[0][1] if stated else None


def _over(unit: _Found, by: _Found) -> _Found:
    return None if unit is None or by is None else unit / by


def _text(e: sp.Basic) -> str:
    """An expression as a user writes it, derivatives as suffixes."""

    def plain(part: sp.Basic) -> sp.Basic:
        if isinstance(part, sp.core.function.AppliedUndef):
            return sp.Symbol(str(part.func))
        if isinstance(part, sp.Derivative):
            letters = "".join(str(axis) * int(order) for axis, order in part.variable_count)
            inner = plain(part.expr)
            return sp.Symbol(f"{inner}_{letters}" if inner.is_Symbol else f"d({inner}, {letters})")
        return (
            part.func(*[plain(a) for a in part.args], evaluate=False)
            if part.args and (part.is_Add or part.is_Mul)
            else (part.func(*[plain(a) for a in part.args]) if part.args else part)
        )

    return str(sp.sstr(plain(e), order="none"))
