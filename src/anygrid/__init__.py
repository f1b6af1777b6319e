"""anygrid: learned operators that run on any grid.

Everything a script needs, loaded when first used, so that ``import anygrid`` takes no time::

    import anygrid

    ds = anygrid.read("sst.nc")
    surrogate = anygrid.fit(ds, inputs="ssta", outputs="ssta", lead="1month", budget="5m")
    surrogate.save("sst.anygrid")
    out = surrogate.predict(anygrid.read("new.nc"))
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anygrid.errors import AnygridError
    from anygrid.evaluate import Report, evaluate
    from anygrid.fields import Variable
    from anygrid.forecast import forecast
    from anygrid.grid import Axis, Bounded, Box, Grid, Interval, Periodic, Points, Sphere
    from anygrid.io import read
    from anygrid.io.pairs import Pairs
    from anygrid.io.store import generate
    from anygrid.maps import Map
    from anygrid.problems.base import Problem
    from anygrid.problems.burgers import Burgers
    from anygrid.problems.darcy import Darcy
    from anygrid.problems.distributions import LogUniform, Normal, RandomField, Uniform
    from anygrid.problems.equation import EquationProblem
    from anygrid.problems.from_text import Equation
    from anygrid.problems.helmholtz import Helmholtz
    from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
    from anygrid.problems.navier_stokes import NavierStokes
    from anygrid.problems.shallow_water_sphere import ShallowWaterSphere
    from anygrid.problems.speedy import Speedy
    from anygrid.report import write_report
    from anygrid.surrogate import Surrogate
    from anygrid.training import Physics, fine_tune, fit

__all__ = [
    "AnygridError",
    "Axis",
    "Bounded",
    "Box",
    "Burgers",
    "Darcy",
    "Equation",
    "EquationProblem",
    "Grid",
    "Helmholtz",
    "Interval",
    "KuramotoSivashinsky",
    "LogUniform",
    "Map",
    "NavierStokes",
    "Normal",
    "Pairs",
    "Periodic",
    "Physics",
    "Points",
    "Problem",
    "RandomField",
    "Report",
    "ShallowWaterSphere",
    "Speedy",
    "Sphere",
    "Surrogate",
    "Uniform",
    "Variable",
    "evaluate",
    "fine_tune",
    "fit",
    "forecast",
    "generate",
    "read",
    "write_report",
]

_HOME = {
    "AnygridError": "errors",
    **dict.fromkeys(("Axis", "Bounded", "Box", "Grid", "Interval", "Periodic", "Points", "Sphere"), "grid"),
    "Map": "maps",
    "Variable": "fields",
    "read": "io",
    "Pairs": "io.pairs",
    "generate": "io.store",
    "Problem": "problems.base",
    "Burgers": "problems.burgers",
    "Darcy": "problems.darcy",
    **dict.fromkeys(("LogUniform", "Normal", "RandomField", "Uniform"), "problems.distributions"),
    "Equation": "problems.from_text",
    "EquationProblem": "problems.equation",
    "Helmholtz": "problems.helmholtz",
    "KuramotoSivashinsky": "problems.kuramoto_sivashinsky",
    "NavierStokes": "problems.navier_stokes",
    "ShallowWaterSphere": "problems.shallow_water_sphere",
    "Speedy": "problems.speedy",
    "Surrogate": "surrogate",
    **dict.fromkeys(("Physics", "fine_tune", "fit"), "training"),
    "Report": "evaluate",
    "evaluate": "evaluate",
    "forecast": "forecast",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("anygrid")
    if name not in _HOME:
        raise AttributeError(f"module 'anygrid' has no attribute {name!r}")
    value = getattr(import_module(f"anygrid.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


class _Package(ModuleType):
    """Keeps ``anygrid.evaluate`` and ``anygrid.forecast`` the functions: importing the modules of those names would rebind them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
