"""A problem of your own: a frozen dataclass with grid, sample, solve, residual and a card; then proved, stored and learned."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import xarray as xr

import anygrid
from anygrid.numerics.pseudospectral import from_spectrum, laplacian, periodic_box, to_spectrum
from anygrid.numerics.random_fields import periodic_field
from anygrid.problems.base import Card
from anygrid.problems.check import check_problem

SAMPLES, RESOLUTION, STEPS = 48, 64, 40


@dataclass(frozen=True)
class Screened(anygrid.Problem):
    """``screening^2 u - u'' = f`` on a circle of circumference 1, by Fourier series: exact for the modes that the grid carries."""

    screening: float = 10.0
    modes: int = 20

    inputs: ClassVar[tuple[anygrid.Variable, ...]] = (anygrid.Variable("source", "1", "source"),)
    outputs: ClassVar[tuple[anygrid.Variable, ...]] = (anygrid.Variable("potential", "1", "potential"),)
    card: ClassVar[Card] = Card(
        title="Screened Poisson 1D",
        equation="screening^2 u - u'' = f",
        boundary="periodic on [0, 1)",
        sampler="Gaussian field of covariance (-lap + 100)^(-1), 20 modes",
        solver="division in Fourier space",
        order="exact to rounding on grids of more than twice as many points as modes",
        cost="below a millisecond",
        source="textbook",
    )

    def grid(self, resolution):
        return anygrid.Box.uniform({"x": anygrid.Periodic()}, resolution)

    def sample(self, n, grid, generator):
        return periodic_field(n, grid, scale=10.0, shift=100.0, power=1.0, modes=self.modes, generator=generator)[:, None]

    def solve(self, a, grid):
        box = periodic_box(grid, "Screened.solve", lengths=(1.0,))
        if not torch.isfinite(a).all():
            raise anygrid.AnygridError("Screened.solve", "a finite source", "values that are not")
        return from_spectrum(to_spectrum(a.double(), 1) / (self.screening**2 - laplacian(box)), box.shape).to(a.dtype)

    def residual(self, a, u, grid):
        box = periodic_box(grid, "Screened.residual", lengths=(1.0,))
        return from_spectrum(to_spectrum(u.double(), 1) * (self.screening**2 - laplacian(box)), box.shape).to(u.dtype) - a


problem = Screened()
check_problem(problem, RESOLUTION)
ds = xr.open_zarr(anygrid.generate(problem, SAMPLES, RESOLUTION, "screened.zarr", workers=0))
surrogate = anygrid.fit(ds, "source", "potential", steps=STEPS)
print(f"error of the labels {ds.attrs['label_error']:.1g}, of the surrogate {surrogate.record['validation_error']:.3f}")
