r"""The spectral layer: integrate against a few basis functions, mix the coefficients, sum them up anywhere.

.. math:: (\mathcal S u)(y) = \sum_k \phi_k(y)\, \big( R_k\, \hat u_k \big), \qquad \hat u_k = \sum_j w_j\, \phi_k(x_j)\, u(x_j)

The transforms are those of :mod:`anygrid.operators.transforms`; fields are channels-last. :func:`spectral_sum` adds the pointwise path
that operators put beside the layer, and keeps little for its backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.numerics.bases import Basis
from anygrid.operators.lean import Gradients, gelu, gelu_backward, linear, linear_backward, plain_backward, recomputing
from anygrid.operators.transforms import Plan, analyse, analyse_transposed, coefficient_shape, plan, synthesise, synthesise_transposed

__all__ = ["SpectralConv", "mix", "spectral_sum"]


class SpectralConv(nn.Module):
    """Mode-by-mode linear map of the coefficients: complex weights on Fourier axes, real ones otherwise, stored real.

    Parameters
    ----------
    inputs, outputs
        Channels.
    bases
        One basis for each coordinate of the grid.
    """

    def __init__(self, inputs: int, outputs: int, bases: Sequence[Basis]) -> None:
        super().__init__()
        if inputs < 1 or outputs < 1 or not 1 <= len(bases) <= 4:
            raise UsageError("SpectralConv", "at least one channel and one to four axes", f"{inputs} -> {outputs}, {len(bases)} axes")
        self.bases = tuple(bases)
        # As in the published FNO: uniform on [0, 1) / (inputs * outputs), which keeps the layer small beside its pointwise path.
        self.weight = nn.Parameter(torch.rand(*coefficient_shape(self.bases), inputs, outputs) / (inputs * outputs))

    def forward(
        self, x: Float[Tensor, "batch *space inputs"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch *query outputs"]:
        """Apply the layer to a channels-last field on ``grid``; evaluate the result on ``query`` (default: ``grid``)."""
        p = self.plan(x, grid, grid if query is None else query)
        return synthesise(mix(analyse(x, p), self.weight, p), p)

    def plan(self, x: Tensor, grid: Grid, query: Grid) -> Plan:
        """The layer's matrices between two grids, in the precision and on the device of ``x``."""
        return plan(self.bases, grid, query, x.dtype, x.device)


def spectral_sum(
    x: Float[Tensor, "batch *space inputs"], layer: SpectralConv, pointwise: nn.Linear, grid: Grid, *, activations: int
) -> Tensor:
    r"""Sum of a spectral layer and a pointwise map, channels-last on one grid, after so many activations.

    .. math:: y = \mathcal S s + P s + b, \qquad s = \sigma(\cdots\sigma(x))

    The backward pass keeps ``x`` and the few coefficients of ``s``; :math:`s` is computed again.
    """
    p = layer.plan(x, grid, grid)
    run = _SpectralSum.apply if recomputing(x) else _plain_sum
    return run(x, layer.weight, pointwise.weight, pointwise.bias, p, activations)


def _plain_sum(x: Tensor, weight: Tensor, pointwise: Tensor, bias: Tensor, plan: Plan, activations: int) -> Tensor:
    s = x
    for _ in range(activations):
        s = nn.functional.gelu(s)
    return synthesise(mix(analyse(s, plan), weight, plan), plan) + nn.functional.linear(s, pointwise, bias)


class _SpectralSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pointwise: Tensor, bias: Tensor, plan: Plan, activations: int) -> Tensor:
        s = x
        for k in range(activations):
            s = torch.ops.aten.gelu_(s) if k else nn.functional.gelu(s)
        c = analyse(s, plan)
        ctx.save_for_backward(x, c, weight, pointwise, bias)
        ctx.plan, ctx.activations = plan, activations
        return synthesise(mix(c, weight, plan), plan, onto=linear(s, pointwise, bias))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Gradients:
        x, c, weight, pointwise, bias = ctx.saved_tensors
        plan, activations = ctx.plan, ctx.activations
        if torch.is_grad_enabled():
            inputs = (x, weight, pointwise, bias)
            return *plain_backward(partial(_plain_sum, plan=plan, activations=activations), inputs, g), None, None
        *before, s = gelu(x, activations)
        ds, dpointwise, dbias = linear_backward(g, s, pointwise)
        dc, dweight = _mix_backward(synthesise_transposed(g, plan), c, weight, plan)
        ds = analyse_transposed(dc, plan, onto=ds)
        return gelu_backward(ds, before), dweight, dpointwise, dbias, None, None


def _rows(c: Tensor, plan: Plan) -> Tensor:
    """``(batch, *coefficients, channel)`` as one matrix for each mode, ``(mode, batch [x 2], channel)``, without a copy."""
    pairs = 2 if plan.complex else 1
    return c.reshape(pairs * c.shape[0], -1, c.shape[-1]).transpose(0, 1)


def _complex(left: Tensor, right: Tensor, sign: int, plan: Plan) -> Tensor:
    """Rows times ``R`` and rows times ``I`` to coefficients multiplied with ``R + i I`` (or ``R - i I`` for sign -1)."""
    real, imag = (t.unflatten(1, (-1, 2)).transpose(0, 1) for t in (left, right))  # (batch, mode, 2, channel)
    re = torch.sub(real[:, :, 0], imag[:, :, 1], alpha=sign)
    im = torch.add(real[:, :, 1], imag[:, :, 0], alpha=sign)
    return torch.stack([re, im], 1).unflatten(2, plan.coefficients[1:])


def mix(c: Tensor, weight: Tensor, plan: Plan) -> Tensor:
    """Multiply the coefficients of each mode with its matrix."""
    rows = _rows(c, plan)
    if not plan.complex:
        return torch.bmm(rows, weight.flatten(0, -3)).transpose(0, 1).unflatten(1, plan.coefficients)
    # Both parts through each real matrix at once: no block matrix to build, and products twice as tall.
    real, imag = (torch.bmm(rows, w.flatten(0, -3)) for w in weight.unbind())
    return _complex(real, imag, 1, plan)


def _mix_backward(g: Tensor, c: Tensor, weight: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`mix` with respect to the coefficients and to the weights."""
    rows, out = _rows(g, plan), _rows(c, plan).mT
    if not plan.complex:
        back = torch.bmm(rows, weight.flatten(0, -3).mT).transpose(0, 1).unflatten(1, plan.coefficients)
        return back, torch.bmm(out, rows).view_as(weight)
    real, imag = (torch.bmm(rows, w.flatten(0, -3).mT) for w in weight.unbind())
    turned = _rows(torch.stack([g[:, 1], -g[:, 0]], 1), plan)
    dweight = torch.empty_like(weight)
    for part, against in zip(dweight, (rows, turned), strict=True):
        torch.bmm(out, against, out=part.flatten(0, -3))
    return _complex(real, imag, -1, plan), dweight
