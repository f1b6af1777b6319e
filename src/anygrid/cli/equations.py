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
    rest = {name: value for name, value in table.items() if name not in (*_TABLES, "equations") or name == "units"}
    if isinstance(rest.get("boundary"), dict):
        rest["boundary"] = {axis: tuple(v) if isinstance(v, list) else v for axis, v in rest["boundary"].items()}
    kinds = {"dt": (int | float, "a number"), "steps": (int, "a whole number"), "tolerance": (int | float, "a number")}
    for name, (kind, expected) in (kinds | {"unknown": (str, "a name"), "state": (list, "a list of names")}).items():
        if name in rest and not isinstance(rest[name], kind):
            raise UsageError(f"[equation] {name}", expected, repr(rest[name]))
    return Equation(table["equations"], domain, **quantities, **rest)


def _word(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(where, "a number or text", repr(value), 'for example "uniform(0, 1)"')
    return str(value)
