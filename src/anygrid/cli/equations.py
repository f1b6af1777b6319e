"""An equation in a TOML file becomes a problem.

::

    [equation]
    equations = "u_t = -u*u_x + nu*u_xx"
    domain = { x = "periodic(0, 1)" }
    parameters = { nu = "loguniform(0.005, 0.05)" }
"""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from anygrid.errors import FileError, UsageError, did_you_mean

if TYPE_CHECKING:
    from anygrid.problems.equation import EquationProblem

__all__ = ["equation_text", "make_equation"]

_TABLES = ("domain", "parameters", "inputs", "initial", "units")


def equation_text(path: Path) -> str:
    """The table ``[equation]`` of a TOML file, as TOML text of its own; empty when the file has none.

    Raises
    ------
    FileError
        When the file is missing or no TOML.
    """
    from anygrid.training import read_run

    if not path.is_file():
        raise FileError(str(path), "a TOML file with an [equation]", "no such file", "check the path; `anygrid problems` has examples")
    table = read_run(path).get("equation")
    if table is None:
        return ""
    if not isinstance(table, dict):
        raise FileError(f"{path} [equation]", "a table", repr(table), "write [equation] on a line of its own")
    return tomli_w.dumps(table)


def make_equation(text: str) -> EquationProblem:
    """Problem of the TOML text of an equation's table.

    Raises
    ------
    UsageError
        For entries that an equation does not have, or of another kind; and whatever is wrong with the equation.
    """
    from anygrid.problems.distributions import read_interval, read_quantity
    from anygrid.problems.from_text import Equation

    table: dict[str, Any] = tomllib.loads(text)
    known = list(inspect.signature(Equation).parameters)
    for name in table:
        if name not in known:
            raise UsageError("[equation]", "an entry of an equation", repr(name), did_you_mean(name, known))
    for name in ("equations", "domain"):
        if name not in table:
            raise UsageError("[equation]", f"an entry {name!r}", "none", 'for example domain = { x = "periodic(0, 1)" }')
    for name in _TABLES:
        if not isinstance(table.get(name, {}), dict):
            raise UsageError(f"[equation] {name}", "a table", repr(table[name]), f'for example {name} = {{ x = "..." }}')
    domain = {name: read_interval(_word(value, f"domain {name!r}"), f"domain {name!r}") for name, value in table["domain"].items()}
    quantities: dict[str, Any] = {
        part: {name: read_quantity(_word(value, f"{part} {name!r}")) for name, value in table[part].items()}
        for part in ("parameters", "inputs", "initial")
        if part in table
    }
    rest = {name: value for name, value in table.items() if name not in (*_TABLES, "equations", "boundary") or name == "units"}
    for name, (kind, expected) in _KINDS.items():
        if name in rest and (isinstance(rest[name], bool) or not isinstance(rest[name], kind)):
            raise UsageError(f"[equation] {name}", expected, repr(rest[name]), f"for example {_EXAMPLES[name]}")
    if not all(isinstance(name, str) for name in rest.get("state", [])):
        raise UsageError("[equation] state", "a list of names", repr(rest["state"]), f"for example {_EXAMPLES['state']}")
    for name, unit in rest.get("units", {}).items():
        if not isinstance(unit, str):
            raise UsageError("[equation] units", "units as text", f"{name} = {unit!r}", f'for example units = {{ {name} = "m" }}')
    equations = table["equations"]
    if not (isinstance(equations, str) or (isinstance(equations, list) and all(isinstance(text, str) for text in equations))):
        raise UsageError(
            "[equation] equations", "text, or a list of texts", repr(equations)[:100], 'for example equations = "u_t = lap(u)"'
        )
    return Equation(equations, domain, boundary=_boundary(table.get("boundary", "")), **quantities, **rest)


_KINDS: dict[str, tuple[Any, str]] = {
    "dt": (int | float, "a number"),
    "steps": (int, "a whole number"),
    "tolerance": (int | float, "a number"),
    "unknown": (str, "a name"),
    "state": (list, "a list of names"),
}
_EXAMPLES = {"dt": "dt = 0.1", "steps": "steps = 20", "tolerance": "tolerance = 1e-6", "unknown": 'unknown = "u"', "state": 'state = ["u"]'}


def _boundary(given: object) -> str | dict[str, str | tuple[str, str]]:
    """Conditions: one text or a list of them for all sides, or one text or pair of texts for each axis."""
    if isinstance(given, str):
        return given
    if isinstance(given, list) and all(isinstance(text, str) for text in given):
        return "; ".join(given)
    if isinstance(given, dict):
        sides = {axis: (text,) if isinstance(text, str) else text for axis, text in given.items()}
        if all(isinstance(pair, tuple | list) and len(pair) <= 2 and all(isinstance(t, str) for t in pair) for pair in sides.values()):
            return {axis: (pair[0], pair[-1]) if pair else ("", "") for axis, pair in sides.items()}
    hint = 'for example boundary = "u = 0", ["u = 0", "v_n = 0"] or { x = ["u = 1", "u_n = 0"], y = "u_n = 0" }'
    raise UsageError("[equation] boundary", "text, or for each axis a text or a pair for its lower and upper side", repr(given)[:100], hint)


def _word(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(where, "a number or text", repr(value), 'for example "uniform(0, 1)"')
    return str(value)
