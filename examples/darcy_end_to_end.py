"""Darcy flow from the equation to the report: sample, solve, store, fit, evaluate against the solver, write the page.

The sizes are small so that it ends in seconds. ``anygrid run darcy`` does the same at a useful size.
"""

import xarray as xr
from rich import print

import anygrid
from anygrid.evaluate import Costs
from anygrid.training import Flip, Transpose

SAMPLES, SOLVED, KEPT, STEPS, TESTS, TIMING = 32, 33, 17, 25, 6, 1.0

problem = anygrid.Darcy(modes=64)
# workers=0 solves in this process; more of them need the usual `if __name__ == "__main__":` around a script.
path = anygrid.generate(problem, SAMPLES, SOLVED, "darcy.zarr", store_resolution=KEPT, workers=0)
ds = xr.open_zarr(path)
print(f"error of the labels: {ds.attrs['label_error']:.3g} ({ds.attrs['label_error_how']})")

surrogate = anygrid.fit(
    ds,
    inputs="permeability",
    outputs="pressure",
    steps=STEPS,
    augment=[Flip("x"), Flip("y"), Transpose("x", "y")],  # the symmetries of the square, the equation and the sampler
)

# Fresh samples of another seed; the truth is solved on a grid finer than any of these.
report = anygrid.evaluate(
    {"surrogate": surrogate},
    problem,
    resolutions=[KEPT, SOLVED],
    n=TESTS,
    training=anygrid.Pairs(ds, ["permeability"], ["pressure"]),
    costs=Costs(training_seconds=surrogate.record["seconds"]),
    timing_seconds=TIMING,
)
print(report.table())
print(*report.verdict, sep="\n")
print(anygrid.write_report(report, "report", training_record=surrogate.record["history"]))
