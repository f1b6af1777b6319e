"""The contract every operator keeps, as one function a new operator's author runs."""

from __future__ import annotations

import json

import torch
from torch import nn

from anygrid.grid import Grid, Points
from anygrid.numerics.interpolation import interpolate

__all__ = ["check_operator"]

_TOLERANCE = 1e-4  # float32, summed over thousands of points in another order


def check_operator(operator: nn.Module, grid: Grid, inputs: int, outputs: int, *, resolution_free: bool = True) -> None:
    """Raise ``AssertionError`` with a sentence on the first broken promise of the operator contract.

    Checked: output shape, dtype and finiteness; samples of a batch do not influence each other; the same input gives the
    same output twice and under ``inference_mode``; gradients reach the input and every parameter; ``arguments`` is JSON and
    rebuilds a network that takes over the weights; a grid-dependent cache is no part of the state; the output on a query
    grid agrees with the output on the grid itself; and, if ``resolution_free``, a smooth input gives the same function at
    twice the resolution up to 5 %.

    Parameters
    ----------
    operator
        Freshly built module with ``forward(a, grid, query=None)``.
    grid
        A grid it should run on, of at least 16 points along each axis.
    inputs, outputs
        Channels.
    resolution_free
        ``False`` for networks that see pixels, such as a U-Net.
    """
    name = type(operator).__name__
    generator = torch.Generator().manual_seed(0)
    a = _smooth(grid, inputs, generator)
    u = operator(a, grid)
    assert u.shape == (3, outputs, *grid.shape), f"{name}: output shape {tuple(u.shape)}, expected {(3, outputs, *grid.shape)}"
    assert u.dtype == a.dtype, f"{name}: output dtype {u.dtype} for input dtype {a.dtype}"
    assert bool(torch.isfinite(u).all()), f"{name}: output is not finite"
    assert torch.equal(u, operator(a, grid)), f"{name}: two calls differ"
    with torch.inference_mode():
        assert _near(operator(a, grid), u), f"{name}: inference_mode changes the output"
    assert _near(operator(a[1:2], grid), u[1:2]), f"{name}: a sample's output depends on its batch"

    probe = a.clone().requires_grad_()
    operator(probe, grid).square().sum().backward()
    assert probe.grad is not None, f"{name}: no gradient reaches the input"
    assert bool(probe.grad.abs().sum() > 0), f"{name}: no gradient reaches the input"
    dead = [key for key, p in operator.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not dead, f"{name}: no gradient reaches {dead}"

    rebuilt = type(operator)(**json.loads(json.dumps(operator.arguments)))
    rebuilt.load_state_dict(operator.state_dict())
    assert _near(rebuilt(a, grid), u), f"{name}: the network rebuilt from .arguments and the state differs"
    parameters = dict(operator.named_parameters())
    extra = [key for key in operator.state_dict() if key not in parameters]
    assert not extra, f"{name}: state holds buffers {extra}; what depends on a grid is a cache, not state"

    if isinstance(grid, Points):
        return
    finer = grid.at(tuple(2 * n - 1 if not interval.periodic else 2 * n for n, interval in zip(grid.shape, grid.domain, strict=True)))
    on_query = operator(a, grid, finer)
    assert on_query.shape == (3, outputs, *finer.shape), f"{name}: shape {tuple(on_query.shape)} on a query grid {finer.shape}"
    drift = (interpolate(on_query, finer, grid, smooth=True) - u).norm() / u.norm()
    assert drift < (0.05 if resolution_free else 0.5), f"{name}: the function moves by {float(drift):.3f} when the query is finer"
    if resolution_free:
        fine = operator(_smooth(finer, inputs, torch.Generator().manual_seed(0)), finer)
        drift = (interpolate(fine, finer, grid, smooth=True) - u).norm() / u.norm()
        assert drift < 0.05, f"{name}: output moves by {float(drift):.3f} at twice the resolution"


def _smooth(grid: Grid, inputs: int, generator: torch.Generator) -> torch.Tensor:
    """Three smooth random functions, the same on every grid."""
    amplitude = torch.randn(3, inputs, grid.ndim, 2, generator=generator, dtype=torch.float64)
    x = grid.points()
    a = torch.zeros(3, inputs, *grid.shape, dtype=torch.float64)
    for k, interval in enumerate(grid.domain):
        angle = 2 * torch.pi * (x[..., k] - interval.lower) / interval.length
        for j, wave in enumerate((torch.sin(angle), torch.cos(angle))):
            a += amplitude[:, :, k, j].reshape(3, inputs, *[1] * len(grid.shape)) * wave
    return a.float()


def _near(left: torch.Tensor, right: torch.Tensor) -> bool:
    return bool((left - right).norm() <= _TOLERANCE * right.norm())
