"""An operator of your own: any module with forward(a, grid, query=None) and its arguments; nothing to inherit, nothing to register."""

import torch
from torch import nn

import anygrid
from anygrid.fields import to_dataset
from anygrid.numerics.bases import Basis
from anygrid.numerics.interpolation import interpolate
from anygrid.operators import check_operator
from anygrid.operators.spectral import SpectralConv

SAMPLES, RESOLUTION, STEPS = 64, 25, 80


class Sines(nn.Module):
    """``u = V sum_k R_k a_k phi_k + W a``: lift to a few channels, one spectral layer of sine functions, project."""

    def __init__(self, inputs: int, outputs: int, ndim: int, modes: int = 12, width: int = 8) -> None:
        super().__init__()
        # What rebuilds the network from a surrogate file: the constructor's arguments, JSON-able.
        self.arguments = {"inputs": inputs, "outputs": outputs, "ndim": ndim, "modes": modes, "width": width}
        self.lift = nn.Linear(inputs, width, bias=False)
        self.layer = SpectralConv(width, width, [Basis("sine", modes)] * ndim)
        self.project = nn.Linear(width, outputs)
        self.local = nn.Linear(inputs, outputs, bias=False)

    def forward(self, a, grid, query=None):
        z = self.project(self.layer(self.lift(torch.movedim(a, 1, -1)), grid, query))  # channels last inside the layer
        here = a if query is None else interpolate(a, grid, query, smooth=True)
        return torch.movedim(z + self.local(torch.movedim(here, 1, -1)), -1, 1)


problem = anygrid.Helmholtz(wavenumber=0.0, modes=12)  # Poisson's equation
grid = problem.grid(RESOLUTION)
torch.manual_seed(0)
check_operator(Sines(1, 1, grid.ndim), grid, 1, 1)

a = problem.sample(SAMPLES, grid, torch.Generator().manual_seed(0))
ds = to_dataset(a, problem.inputs, grid, {"sample": None})
ds = ds.merge(to_dataset(problem.solve(a, grid), problem.outputs, grid, {"sample": None}))
surrogate = anygrid.fit(
    ds, "source", "amplitude", operator=lambda inputs, outputs, grid: Sines(inputs, outputs, grid.ndim), steps=STEPS, learning_rate=1e-2
)
print(f"validation error {surrogate.record['validation_error']:.3f}")

# A file names its operator but holds no code: to load it, give the class.
surrogate.save("sines.anygrid")
again = anygrid.Surrogate.load("sines.anygrid", operators=[Sines])
finer = problem.grid(49)
b = problem.sample(4, finer, torch.Generator().manual_seed(1))
with torch.inference_mode():
    error = (again(b.float(), finer) - problem.solve(b, finer)).norm() / problem.solve(b, finer).norm()
print(f"on fresh samples at 49 x 49: {float(error):.3f}")
