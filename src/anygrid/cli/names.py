"""Words of the command line become objects: problems with their parameters, operators, resolutions, variables."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrid.cli.equations import equation_text, make_equation
from anygrid.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from anygrid.grid import Grid
    from anygrid.problems.base import Problem
    from anygrid.problems.equation import EquationProblem
    from anygrid.training import Build

__all__ = [
    "catalogue",
    "equation_texts",
    "flags",
    "is_problem",
    "make_problem",
    "operator_named",
    "problem_classes",
    "resolution",
    "resolutions",
    "variable_names",
]


def problem_classes() -> dict[str, type[Problem]]:
    """Every problem by the name the command line uses."""
    from anygrid.problems.burgers import Burgers
    from anygrid.problems.darcy import Darcy
    from anygrid.problems.helmholtz import Helmholtz
    from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
    from anygrid.problems.navier_stokes import NavierStokes
    from anygrid.problems.shallow_water_sphere import ShallowWaterSphere

    return {
        "darcy": Darcy,
        "burgers": Burgers,
        "navier-stokes": NavierStokes,
        "kuramoto-sivashinsky": KuramotoSivashinsky,
        "helmholtz": Helmholtz,
        "shallow-water-sphere": ShallowWaterSphere,
    }


def catalogue() -> dict[str, Callable[[], EquationProblem]]:
    """Equations given as text, by the name the command line uses."""
    from anygrid.problems.catalogue import CATALOGUE

    return CATALOGUE


def equation_texts() -> dict[str, tuple[str, ...]]:
    """What these equations are, without making the problems, which takes seconds."""
    from anygrid.problems.catalogue import TEXTS

    return TEXTS


def is_problem(word: str) -> bool:
    """Whether a word stands for a problem: a TOML file, or a name that no file has."""
    known = word.strip().lower().replace("_", "-") in {*problem_classes(), *catalogue()}
    return word.endswith(".toml") or (known and not Path(word).exists())


def make_problem(name: str, settings: Sequence[str] = ()) -> Problem:
    """Problem ``name`` with parameters from ``NAME=VALUE`` words, each typed by the field it sets.

    Raises
    ------
    UsageError
        For an unknown problem or parameter, and a value of another type.
    """
    if name.endswith(".toml"):
        if settings:
            raise UsageError("--set", "a built-in problem", "an equation of your own", "change its TOML file")
        text = equation_text(Path(name))
        if not text:
            raise UsageError(name, "a table [equation]", "none", "write [equation] with equations and domain")
        return make_equation(text)
    classes = problem_classes()
    key, equations = name.strip().lower().replace("_", "-"), catalogue()
    if key in equations:
        if settings:
            raise UsageError("--set", f"a problem with parameters, which {key} is not", settings[0], "write its equation into a TOML file")
        return equations[key]()
    if key not in classes:
        raise UsageError("problem", "the name of a problem", repr(name), did_you_mean(key, [*classes, *equations]))
    kind = classes[key]
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values = {}
    for word in settings:
        parameter, equals, text = word.partition("=")
        parameter = parameter.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--set {word}", "NAME=VALUE", "no equals sign", f"for example --set {min(fields)}=...")
        if parameter not in fields:
            raise UsageError(f"--set {word}", f"a parameter of {key}", repr(parameter), did_you_mean(parameter, fields))
        values[parameter] = _typed(text.strip(), hints[parameter], f"--set {parameter}")
    return kind(**values)


def _typed(text: str, hint: Any, where: str) -> Any:
    """``text`` as a value of the annotated type of a dataclass field: number, word, switch, choice or optional one of these."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        return _typed(text, next(a for a in arguments if a is not type(None)), where)
    if origin is typing.Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
        raise UsageError(where, "a known choice", repr(text), did_you_mean(text, map(str, arguments)))
    if hint is bool:
        if text.lower() in ("true", "yes", "1", "on"):
            return True
        if text.lower() in ("false", "no", "0", "off"):
            return False
        raise UsageError(where, "true or false", repr(text))
    if hint is str:
        return text
    try:
        if hint is int:
            number = float(text)
            if number != int(number):
                raise ValueError(text)
            return int(number)
        return float(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(where, "a whole number" if hint is int else "a number", repr(text)) from error


def operator_named(
    name: str, *, width: int | None = None, modes: int | None = None, depth: int | None = None, stride: int | None = None
) -> Build | None:
    """A function that builds the named operator for a grid; ``None`` leaves the choice to ``fit``.

    Raises
    ------
    UsageError
        For an unknown name, for options the operator does not have, and for sizes below 1.
    """
    sizes = {"width": width, "modes": modes, "depth": depth, "stride": stride}
    given = {key: value for key, value in sizes.items() if value is not None}
    for key, value in given.items():
        if value < 1:
            raise UsageError(f"--{key}", "a number of 1 or more", str(value))
    takes: dict[str, tuple[str, ...]] = {
        "default": ("width", "modes", "depth", "stride"),
        "fno": ("width", "modes", "depth"),
        "unet": ("width", "depth"),
        "sfno": ("width", "modes", "depth"),
        "sunet": ("width", "modes", "depth"),
    }
    key = name.strip().lower()
    if key not in takes:
        raise UsageError("--operator", "the name of an operator", repr(name), did_you_mean(key, takes))
    for option in given:
        if option not in takes[key]:
            raise UsageError(f"--{option}", f"an operator that takes it ({key} does not)", str(given[option]), "leave it out")
    if key == "default":
        return _default_sized(given) if given else None

    def fno(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        from anygrid.operators import FNO

        kept = [min(24, n) if modes is None else modes for n in _lattice(grid)]
        _carried(kept, _lattice(grid))
        sizes: dict[str, Any] = {k: v for k, v in given.items() if k != "modes"}
        return FNO(inputs, outputs, [i.periodic for i in grid.domain], kept, **sizes)

    def unet(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        from anygrid.operators import UNet

        sizes = {{"depth": "levels"}.get(k, k): v for k, v in given.items()}
        return UNet(inputs, outputs, [i.periodic for i in grid.domain], **sizes)

    def sfno(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        from anygrid.operators import SphericalFNO

        sizes: dict[str, Any] = {k: v for k, v in given.items() if k != "modes"}
        return SphericalFNO(inputs, outputs, _degree(grid, modes, key), **sizes)

    def sunet(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        from anygrid.operators import SphericalUNet

        degree = _degree(grid, modes, key)
        most = max(1, degree.bit_length())
        if depth is not None and depth > most:
            raise UsageError(
                "--depth", f"at most the {most} levels that {degree + 1} degrees allow", str(depth), f"--depth {most} or fewer"
            )
        sizes: dict[str, Any] = {"levels": min(3, most)} | {{"depth": "levels"}.get(k, k): v for k, v in given.items() if k != "modes"}
        return SphericalUNet(inputs, outputs, degree, **sizes)

    return {"fno": fno, "unet": unet, "sfno": sfno, "sunet": sunet}[key]


def _degree(grid: Grid, modes: int | None, name: str) -> int:
    """Highest degree of a spherical operator: what was asked for, or what the grid carries exactly, up to 63."""
    from anygrid.grid import Sphere
    from anygrid.numerics.spherical_harmonics import exact_degree, highest_degree

    if not isinstance(grid, Sphere):
        raise UsageError(f"--operator {name}", "data on latitudes and longitudes", f"a {type(grid).__name__}", "leave --operator out")
    kept, most = min(64, exact_degree(grid) + 1) if modes is None else modes, highest_degree(grid) + 1
    if kept > most:
        points = f"{grid.shape[0]}x{grid.shape[1]}"
        raise UsageError("--modes", f"at most the {most} degrees that {points} points tell apart", str(kept), f"--modes {most} or fewer")
    return kept - 1


def _default_sized(given: dict[str, int]) -> Build:
    """The default operator with some of its sizes changed."""

    def build(inputs: int, outputs: int, grid: Grid) -> nn.Module:
        from anygrid.operators import default_operator

        made: Any = default_operator(inputs, outputs, grid, **given)
        if "modes" in given and "stride" in made.arguments:
            # Fewer along shorter axes, but none where no axis has so many.
            coarse = [n // int(made.arguments["stride"]) for n in made.arguments["shape"]]
            _carried([given["modes"]], [max(coarse)])
        operator: nn.Module = made
        return operator

    return build


def _carried(modes: Sequence[int], points: Sequence[int]) -> None:
    """Refuse more functions along an axis than its points tell apart."""
    for m, n in zip(modes, points, strict=True):
        if m > n:
            raise UsageError(
                "--modes", f"at most the {n} functions that {n} points along an axis carry", str(m), f"--modes {min(points)} or fewer"
            )


def _lattice(grid: Grid) -> tuple[int, ...]:
    """Points along each coordinate; for scattered points those of a lattice of as many."""
    return grid.shape if len(grid.shape) == grid.ndim else (max(1, round(grid.size ** (1 / grid.ndim))),) * grid.ndim


def resolution(text: str, where: str = "--resolution") -> int | tuple[int, ...]:
    """``"85"`` as 85, ``"180x360"`` as (180, 360).

    Raises
    ------
    UsageError
        For anything else, and for sizes that are no grid.
    """
    parts = [p.strip() for p in text.lower().split("x")]
    if not all(re.fullmatch(r"[0-9]{1,6}", p) and int(p) > 0 for p in parts):
        raise UsageError(where, "sizes such as 85 or 180x360", repr(text), "write the points along each axis, joined by x")
    sizes = tuple(int(p) for p in parts)
    return sizes[0] if len(sizes) == 1 else sizes


def resolutions(words: Sequence[str], where: str = "--resolutions") -> tuple[int | tuple[int, ...], ...]:
    """Resolutions separated by commas or given one by one, without repeats."""
    return tuple(dict.fromkeys(resolution(piece, where) for word in words for piece in word.split(",") if piece.strip()))


def variable_names(words: Sequence[str], where: str) -> tuple[str, ...]:
    """Variables separated by commas; the commas inside ``u@level=500,number=0`` belong to that one variable.

    Raises
    ------
    UsageError
        When nothing is named, or something twice.
    """
    names: list[str] = []
    for word in words:
        for piece in word.split(","):
            if "=" in piece and "@" not in piece and names and "@" in names[-1]:
                names[-1] += f",{piece.strip()}"
            elif piece.strip():
                names.append(piece.strip())
    if not names:
        raise UsageError(where, "the names of variables", "none", f"for example {where} temperature,wind; `anygrid info FILE` lists them")
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise UsageError(where, "each variable once", f"{twice[0]!r} {names.count(twice[0])} times", "name it once")
    return tuple(names)


def flags(periodic: Sequence[str], bounded: Sequence[str]) -> dict[str, bool] | None:
    """Axes named with ``--periodic`` and ``--bounded``.

    Raises
    ------
    UsageError
        For an axis named as both.
    """
    around = [piece.strip() for word in periodic for piece in word.split(",") if piece.strip()]
    ends = [piece.strip() for word in bounded for piece in word.split(",") if piece.strip()]
    both = set(around) & set(ends)
    if both:
        raise UsageError("--periodic and --bounded", "an axis to be one of them", f"{min(both)!r} as both", "name it once")
    return {**dict.fromkeys(around, True), **dict.fromkeys(ends, False)} or None
