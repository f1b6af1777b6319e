"""The solver that suits an equation: chosen from its form and its domain, and said."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from anygrid.equations import bounded, hyperbolic, periodic, steady
from anygrid.equations.boundary import Boundary
from anygrid.equations.solution import Solution
from anygrid.equations.symbol import spectral_form
from anygrid.equations.system import System
from anygrid.errors import GridError
from anygrid.grid import Box, Grid

__all__ = ["advance", "find_box", "solve_steady", "steady_residual"]


def advance(
    system: System,
    grid: Grid,
    state: Float[Tensor, "batch state *space"],
    known: Mapping[str, Tensor],
    duration: float,
    boundary: Boundary,
    *,
    tolerance: float = 1e-5,
    dt: float | None = None,
) -> Solution:
    """State ``duration`` later, within ``tolerance`` or by equal steps of at most ``dt``.

    Nonlinear conservation laws without second or higher derivatives go to finite volumes, because their solutions may jump;
    everything else to the Fourier pseudo-spectral solver where all axes are periodic, and to the solver for bounded domains otherwise.

    Raises
    ------
    GridError
        Unless the grid is a Box with the coordinates of the system.
    AnygridError
        When the solution blows up, with the sample, the time and the place.
    """
    box = find_box(system, grid)
    everywhere = all(axis.periodic for axis in box.axes)
    if hyperbolic.find_fluxes(system) is not None and not (everywhere and not spectral_form(system).bodies):
        return hyperbolic.advance(system, box, state, known, duration, boundary=boundary, dt=dt)
    if everywhere:
        return periodic.advance(system, box, state, known, duration, tolerance=tolerance, dt=dt)
    return bounded.advance(system, box, state, known, duration, boundary=boundary, tolerance=tolerance, dt=dt)


def solve_steady(
    system: System, grid: Grid, known: Mapping[str, Tensor], boundary: Boundary, *, tolerance: float = 1e-8, start: Tensor | None = None
) -> Solution:
    """Solve a steady system, from the guess ``start`` if there is one; errors as in :func:`advance`."""
    return steady.solve_steady(system, find_box(system, grid), known, boundary, tolerance=tolerance, start=start)


def steady_residual(system: System, grid: Grid, u: Tensor, known: Mapping[str, Tensor], boundary: Boundary) -> Tensor:
    """Left minus right side of the discrete equations that :func:`solve_steady` solves."""
    return steady.steady_residual(system, find_box(system, grid), u, known, boundary)


def find_box(system: System, grid: Grid) -> Box:
    """The grid, if it is a Box with the coordinates of the system.

    Raises
    ------
    GridError
        If it is not.
    """
    if not isinstance(grid, Box) or grid.dims != system.axes:
        raise GridError(
            "Equation",
            f"a Box with the coordinates {', '.join(system.axes)}",
            f"a {type(grid).__name__} with {', '.join(grid.dims)}",
            "build the grid with the equation's own grid(resolution)",
        )
    return grid
