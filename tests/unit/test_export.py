"""Operators are plain real operations at a fixed grid: `torch.export` takes them, and the program computes the same."""

import pytest
import torch
from torch import nn

from anygrid.grid import Bounded, Box, Grid, Periodic
from anygrid.operators import FNO, LatentFNO


class _OnGrid(nn.Module):
    """An operator with its grid fixed, so that the only argument is a tensor."""

    def __init__(self, operator: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.operator, self.grid = operator, grid

    def forward(self, a):
        return self.operator(a, self.grid)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["fno", "latent"])
def test_exported_program_computes_the_same(kind):
    torch.manual_seed(0)
    grid = Box.uniform({"x": Periodic(), "y": Bounded()}, (16, 17))
    periodic = [True, False]
    operator = FNO(1, 1, periodic, [5, 5], width=8, depth=2) if kind == "fno" else LatentFNO(1, 1, periodic, (16, 17), [5, 5], width=8)
    model = _OnGrid(operator, grid).eval()
    a = torch.randn(2, 1, 16, 17)
    expected = model(a)  # also fills the caches of matrices, which become constants of the program
    program = torch.export.export(model, (a,), strict=False)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("fft" in name or "complex" in name for name in names)
    b = torch.randn(2, 1, 16, 17)
    assert torch.allclose(program.module()(a), expected, atol=1e-6)
    assert torch.allclose(program.module()(b), model(b), atol=1e-6)
