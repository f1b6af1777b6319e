"""Backward passes that recompute the activation instead of keeping it.

Plain autograd keeps, for each layer, its input, what the activation sees and what it gives: at 85 x 85 points and 48 channels 1.4 MB
each and for each sample. The functions here keep one of the three. They serve first-order reverse mode, which is what training
is; compilation, export, mixed precision, forward mode and ``torch.func`` see the plain operations (:func:`recomputing`), and a
second derivative differentiates those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["activated_linear", "gelu_backward", "linear_backward", "perceptron", "plain_backward", "recomputing"]

_CHUNK = 1 << 12  # points that the perceptron widens at once: a hidden layer of 128 channels is then 2 MB
_LARGE = 1 << 28  # bytes of a hidden layer from which on memory is worth more than the 15 % of a training step to recompute it

Gradients = tuple[Tensor | None, ...]


def recomputing(x: Tensor) -> bool:
    """Whether a gradient may be asked for and nothing but ordinary reverse mode looks at the operations."""
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def plain_backward(plain: Callable[..., Tensor], inputs: tuple[Tensor | None, ...], g: Tensor) -> Gradients:
    """Gradients that can be differentiated again: those of the plain operations."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(plain(*inputs), wanted, g, create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)


def gelu_backward(g: Tensor, x: Tensor) -> Tensor:
    """Gradient of the exact GELU at ``x``."""
    return torch.ops.aten.gelu_backward(g, x)


def linear_backward(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x @ weight.T + bias`` with respect to ``x``, ``weight`` and ``bias``."""
    rows = g.flatten(0, -2)
    return torch.matmul(g, weight), rows.T @ x.flatten(0, -2), rows.sum(0)


def activated_linear(x: Tensor, linear: nn.Linear) -> Tensor:
    r"""``W gelu(x) + b`` over the last dimension; the backward pass keeps ``x`` only."""
    if recomputing(x):
        return _ActivatedLinear.apply(x, linear.weight, linear.bias)
    return _activated_linear(x, linear.weight, linear.bias)


def _activated_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return nn.functional.linear(nn.functional.gelu(x), weight, bias)


class _ActivatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return _activated_linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Gradients:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return plain_backward(_activated_linear, (x, weight, bias), g)
        ds, dweight, dbias = linear_backward(g, nn.functional.gelu(x), weight)
        return gelu_backward(ds, x), dweight, None if bias is None else dbias


def perceptron(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """``second(gelu(first(x)))`` over the last dimension.

    Without gradients the points pass in chunks, so that the wide hidden layer is never held for a whole field; with gradients
    they do when that layer is large, and the backward pass keeps ``x`` only.
    """
    weights = (first.weight, first.bias, second.weight, second.bias)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _perceptron(x, *weights) if torch.compiler.is_compiling() else _in_chunks(x, *weights)
    hidden = x.numel() // x.shape[-1] * first.out_features * x.element_size()
    if hidden > _LARGE and recomputing(x):
        return _Perceptron.apply(x, *weights)
    return _perceptron(x, *weights)


def _perceptron(x: Tensor, a: Tensor, a0: Tensor, b: Tensor, b0: Tensor) -> Tensor:
    return _activated_linear(nn.functional.linear(x, a, a0), b, b0)


def _in_chunks(x: Tensor, a: Tensor, a0: Tensor, b: Tensor, b0: Tensor) -> Tensor:
    parts = [_perceptron(part, a, a0, b, b0) for part in x.flatten(0, -2).split(_CHUNK)]
    return torch.cat(parts).reshape(*x.shape[:-1], -1)


class _Perceptron(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, a0: Tensor, b: Tensor, b0: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, a0, b, b0)
        return _in_chunks(x, a, a0, b, b0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Gradients:
        x, a, a0, b, b0 = ctx.saved_tensors
        if torch.is_grad_enabled():
            return plain_backward(_perceptron, (x, a, a0, b, b0), g)
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        da, da0, db, db0 = (torch.zeros_like(t) for t in (a, a0, b, b0))
        chunks = (t.flatten(0, -2).split(_CHUNK) for t in (x, g, dx))
        for part, dpart, out in zip(*chunks, strict=True):
            hidden = nn.functional.linear(part, a, a0)
            dhidden = gelu_backward(dpart @ b, hidden)
            db.addmm_(dpart.T, nn.functional.gelu(hidden))
            db0 += dpart.sum(0)
            da.addmm_(dhidden.T, part)
            da0 += dhidden.sum(0)
            torch.mm(dhidden, a, out=out)
        return dx, da, da0, db, db0
