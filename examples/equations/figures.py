"""Figure of a finished `anygrid run` of one of these equations: input, truth, prediction and error of one test sample.

python examples/equations/figures.py examples/equations/nerve.toml runs/nerve docs/figures/nerve.png
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from anygrid.cli.equations import equation_text, make_equation
from anygrid.surrogate import Surrogate, read_surrogate

LEADS = 10


def panels(problem, surrogate: Surrogate, resolution: int):
    """Titles and fields ``(time or x, x or y)`` of one sample that no training set holds."""
    grid = problem.grid(resolution)
    a = problem.sample(1, grid, torch.Generator().manual_seed(20261123))
    states = len(problem.outputs)
    if problem.dt is None:
        truth, found = problem.solve(a, grid), surrogate(a, grid)
        return [(problem.inputs[0].name, a[0, 0]), ("truth", truth[0, 0]), ("operator", found[0, 0])]
    rows = {"truth": [a], "operator": [a]}
    for name, step in (("truth", problem.solve), ("operator", surrogate)):
        for _ in range(LEADS):
            now = rows[name][-1]
            rows[name].append(torch.cat([step(now, grid), now[:, states:]], dim=1))
    truth, found = (torch.stack([row[0, 0] for row in rows[name]]) for name in ("truth", "operator"))
    return [("start", truth[:1]), ("truth", truth), ("operator", found)]


def _extent(problem, lower: float, upper: float):
    """Edges and names of the two axes of a panel: time and the first axis, or two axes of space."""
    names = [name for name, _ in problem.domain]
    if problem.dt is not None:
        return (0, LEADS * problem.dt, lower, upper), ("t", names[0])
    second = problem.intervals[names[1]]
    return (lower, upper, second.lower, second.upper), (names[0], names[1])


def main(equation: str, run: str, output: str) -> None:
    """Draw the panels side by side, in one colour scale for truth and operator."""
    problem = make_equation(equation_text(Path(equation)))
    with torch.no_grad():
        fields = panels(problem, read_surrogate(Path(run) / "surrogate.anygrid"), 129 if len(problem.domain) == 1 else 65)
    fields.append(("operator - truth", fields[2][1] - fields[1][1]))
    low, high = float(fields[1][1].min()), float(fields[1][1].max())
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.4), constrained_layout=True)
    for axis, (title, field) in zip(axes, fields, strict=True):
        first = next(iter(problem.domain))[0]
        lower, upper = problem.intervals[first].lower, problem.intervals[first].upper
        if len(field) == 1:
            axis.plot(torch.linspace(lower, upper, field.shape[1]), field[0])
            axis.set_xlabel(first, fontsize=8)
        else:
            bound = float(field.abs().max())
            limits = (low, high) if title in ("truth", "operator") else (-bound, bound) if "-" in title else (None, None)
            colours = "RdBu_r" if "-" in title else "viridis"
            extent, names = _extent(problem, lower, upper)
            image = axis.imshow(field.T, origin="lower", aspect="auto", vmin=limits[0], vmax=limits[1], cmap=colours, extent=extent)
            axis.set_xlabel(names[0], fontsize=8)
            axis.set_ylabel(names[1], fontsize=8)
            figure.colorbar(image, ax=axis)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=6)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
