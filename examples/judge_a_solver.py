"""A solver is a Map like a surrogate is: evaluate the Darcy solver run on half the points, and one with another face mean."""

from rich import print

from anygrid import Darcy, evaluate
from anygrid.numerics.interpolation import interpolate

RESOLUTION, TESTS, TIMING = 33, 4, 1.0

problem = Darcy(modes=64)


def on_half_the_points(a, grid):
    """Solve on every second vertex and bring the result back by cubic splines."""
    coarse = grid.at(tuple((n + 1) // 2 for n in grid.shape))
    # The vertices nest, so the coefficient is sampled, not averaged: it keeps its two values.
    return interpolate(problem.solve(interpolate(a, grid, coarse), coarse), coarse, grid, smooth=True)


report = evaluate(
    {"half the points": on_half_the_points, "harmonic mean": Darcy(modes=64, mean="harmonic").solve},
    problem,
    resolutions=[RESOLUTION],
    n=TESTS,
    timing_seconds=TIMING,
)
print(report.table())
print(*report.verdict, sep="\n")
